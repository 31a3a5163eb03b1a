"""How a user gets to the authorization server, and what that says back."""

from __future__ import annotations

import asyncio
import inspect
import webbrowser
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Protocol, runtime_checkable
from urllib.parse import urlsplit

from erlmcp.client.oauth.rule import query_of
from erlmcp.errors import AuthorizationError, ConfigurationError

Handler = Callable[[str], "str | Awaitable[str]"]
HEAD_BYTES_MAX: Final = 16 * 1024
HEAD_TIMEOUT_S: Final = 5.0
PAGE: Final = (
    b"<!doctype html><meta charset=utf-8><title>erlmcp</title>"
    b"<body style='font:1.1rem sans-serif;margin:20vh auto;max-width:30rem'>%b</body>"
)

HEAD: Final = (
    b"HTTP/1.1 %b\r\nContent-Type: text/html\r\nContent-Length: %d\r\nCache-Control: no-store\r\n"
    b"Referrer-Policy: no-referrer\r\nConnection: close\r\n\r\n"
)


@runtime_checkable
class Redirect(Protocol):
    """A way for the user. ``begin``, ``ask`` and ``end`` follow each other; one user is asked at a time."""

    async def begin(self, before: str) -> str:
        """The redirect URI; ``before`` is the one of last time, or ""."""

    async def ask(self, url: str) -> str:
        """Take the user to the URL; the URL that the user came back to."""

    async def end(self) -> None:
        """Whatever happened."""


class Asked:
    """A function of the program's is given the URL, and gives the one that the user was sent back to."""

    def __init__(self, handler: Handler, redirect_uri: str) -> None:
        if not redirect_uri:
            raise ConfigurationError("a redirect handler needs redirect_uri=, the URI that users are sent back to")
        self._handler = handler
        self._redirect_uri = redirect_uri

    async def begin(self, before: str) -> str:
        return self._redirect_uri

    async def ask(self, url: str) -> str:
        found = self._handler(url)
        return await found if inspect.isawaitable(found) else found

    async def end(self) -> None:
        """There is nothing to end."""


class Browser:
    """Opens the user's browser, and listens on this machine for where it comes back (RFC 8252, section 7.3).

    ``port`` 0 is the one of last time, or any. ``show(url)`` is called with the URL, for a user whose browser does not
    open; ``open_browser(url)`` opens it in place of
    Python's ``webbrowser``.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        path: str = "/callback",
        show: Callable[[str], object] | None = None,
        open_browser: Callable[[str], object] | None = None,
    ) -> None:
        self._port = port
        self._path = path
        self._show = show
        self._open = open_browser or webbrowser.open
        self._server: asyncio.Server | None = None
        self._came: asyncio.Future[str] | None = None
        self._base = self._state = ""

    async def begin(self, before: str) -> str:
        self._came = asyncio.get_running_loop().create_future()
        known = urlsplit(before).port if before.startswith("http://127.0.0.1:") else None
        try:
            self._server = await asyncio.start_server(self._take, "127.0.0.1", self._port or known or 0)
        except OSError as error:
            if self._port:
                raise AuthorizationError(f"port {self._port} is not free for the user to come back to") from error
            self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self._base = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self._base + self._path

    async def ask(self, url: str) -> str:
        came = self._came
        assert came is not None
        self._state = query_of(url).get("state", "")
        if self._show is not None:
            self._show(url)
        await asyncio.to_thread(self._open, url)
        return await came

    async def end(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._came is not None:
            self._came.cancel()
            self._came = None

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request. Anything but the callback is told that there is nothing."""
        target = ""
        with suppress(TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            async with asyncio.timeout(HEAD_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
            verb, target, _ = head[:HEAD_BYTES_MAX].split(b"\r\n", 1)[0].decode("ascii").split(" ")
            target = target if verb == "GET" else ""
        is_callback = self._is_callback(target)
        status, said = (b"200 OK", b"Done. Close this page.") if is_callback else (b"404 Not Found", b"Nothing.")
        page = PAGE % said
        with suppress(OSError):
            writer.write(HEAD % (status, len(page)) + page)
            await writer.drain()
            writer.close()
        if is_callback and self._came is not None and not self._came.done():
            self._came.set_result(self._base + target)

    def _is_callback(self, target: str) -> bool:
        """Any page may make the browser ask here: what does not know the state of this time is nothing."""
        if urlsplit(target).path != self._path or not self._state:
            return False
        try:
            return query_of(target).get("state") == self._state
        except (AuthorizationError, ValueError):
            return False
