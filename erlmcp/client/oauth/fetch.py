"""Single requests for documents and tokens, to wherever those are: small answers, in time, and no secret goes anywhere
but where it was sent."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any, Final
from urllib.parse import urlencode, urljoin

from erlmcp.client.http_connection import Answer, Exchange, RequestHead
from erlmcp.client.http_endpoint import make_endpoint
from erlmcp.client.http_head import JSON, target_of
from erlmcp.client.http_limit import HttpLimits
from erlmcp.client.http_pool import HttpPool
from erlmcp.client.oauth.rule import origin_of, shown
from erlmcp.client.tls import Tls
from erlmcp.errors import AuthorizationError, ErlmcpError

FORM: Final = "application/x-www-form-urlencoded"
TIMEOUT_S: Final = 15.0  # of a request
REDIRECT_COUNT_MAX: Final = 3
DEPTH_MAX: Final = 64
LIMITS: Final = HttpLimits(body_bytes_max=256 * 1024, connect_timeout_s=10.0, close_timeout_s=1.0)


class _Once(Exchange):
    """An exchange whose answer a future gets."""

    __slots__ = ("_future",)

    def __init__(self, head: RequestHead, body: bytes | None, future: asyncio.Future[Answer]) -> None:
        super().__init__(head, body)
        self._future = future

    def answered(self, answer: Answer) -> None:
        self.is_over = True
        if answer.body is None and self.connection is not None:
            self.connection.abandon(self)
        if not self._future.done():
            self._future.set_result(answer)

    def lost(self, error: ErlmcpError, *, is_unsent: bool = False, is_stale: bool = False) -> None:
        self.is_over = True
        if not self._future.done():
            self._future.set_exception(error)


class Fetcher:
    """``tls`` and ``trust_env`` as of ``HttpChannel``. Raises AuthorizationError alone."""

    def __init__(self, tls: Tls | ssl.SSLContext | None = None, *, trust_env: bool = True) -> None:
        self._tls = tls
        self._trust_env = trust_env

    async def document(self, url: str, headers: dict[str, str] | None = None) -> Any:
        """The JSON at a URL; None where there is nothing (a status of 4xx). Followed within its origin."""
        at = url
        for _ in range(REDIRECT_COUNT_MAX + 1):
            answer = await self._ask("GET", at, {"Accept": JSON, **(headers or {})}, None)
            if answer.status not in (301, 302, 307, 308):
                break
            to = urljoin(at, answer.headers.get("location", ""))
            if origin_of(to) != origin_of(url):
                raise AuthorizationError(f"{at} leads to another place, {shown(to)}, which is not followed")
            at = to
        if 400 <= answer.status < 500:
            return None
        if answer.status != 200:
            raise AuthorizationError(f"{at} answered {answer.status} {shown(answer.reason)}")
        return _decoded(answer, at)

    async def form(self, url: str, fields: dict[str, str], headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """(the status, the JSON object) that a form is answered with. No redirect is followed."""
        body = urlencode(fields).encode("ascii")
        return await self._post(url, body, {"Content-Type": FORM, "Accept": JSON, **headers})

    async def json(self, url: str, value: Any) -> tuple[int, dict[str, Any]]:
        """As ``form``."""
        return await self._post(url, json.dumps(value).encode(), {"Content-Type": JSON, "Accept": JSON})

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        answer = await self._ask("POST", url, headers, body)
        if 300 <= answer.status < 400:
            raise AuthorizationError(f"{url} answered {answer.status}; what is secret is not sent elsewhere")
        try:
            found = _decoded(answer, url)
        except AuthorizationError:
            if answer.status < 400:
                raise
            found = None
        return answer.status, found if isinstance(found, dict) else {}

    async def _ask(self, verb: str, url: str, headers: dict[str, str], body: bytes | None) -> Answer:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        pool = None
        try:
            tls = self._tls if url.startswith("https:") else None
            endpoint = make_endpoint(url, tls=tls, http2=False, trust_env=self._trust_env)
            fields = [("User-Agent", "erlmcp"), *headers.items()]
            proxy = None if endpoint.is_tunnelled else endpoint.proxy
            head = RequestHead(verb, target_of(url), endpoint.authority, fields, is_last=True, proxy=proxy)
            pool = HttpPool(endpoint, LIMITS)
            async with asyncio.timeout(TIMEOUT_S):
                pool.send(_Once(head, body, future))
                return await future
        except TimeoutError:
            raise AuthorizationError(f"{url} did not answer within {TIMEOUT_S:g} s") from None
        except (ErlmcpError, ValueError) as error:
            raise AuthorizationError(f"{url} could not be asked: {error}") from error
        finally:
            future.cancel()
            if pool is not None:
                await pool.aclose()


def _decoded(answer: Answer, url: str) -> Any:
    from erlmcp import core

    if answer.body is None:
        raise AuthorizationError(f"{url} answered with a stream")
    try:
        return core.decode(answer.body, depth_max=DEPTH_MAX, string_bytes_max=LIMITS.body_bytes_max)
    except (ErlmcpError, ValueError):
        raise AuthorizationError(f"{url} answered {answer.status} with what is no JSON") from None
