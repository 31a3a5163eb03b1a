"""Apps of both SDKs that ask who their clients are, and have routes of their own: each new when it is asked for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2 as httpx
import pytest

pytest.importorskip("fastmcp", reason="fastmcp is not installed; .ci/run compat installs it")

import fastmcp
from fastmcp.server.auth import MultiAuth, OAuthProxy, RemoteAuthProvider, require_scopes
from fastmcp.server.auth.providers.in_memory import InMemoryOAuthProvider
from fastmcp.server.auth.providers.jwt import JWTVerifier, RSAKeyPair, StaticTokenVerifier
from fastmcp.server.dependencies import get_access_token as fast_access_token
from key_value.aio.stores.memory import MemoryStore
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings, ClientRegistrationOptions, RevocationOptions
from mcp.server.mcpserver import Context, MCPServer
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse

from erlmcp import accelerate
from erlmcp.server.serve import http

BASE = "http://127.0.0.1:8000"  # where both servers are told that they are
RESOURCE = f"{BASE}/mcp"
SCOPES = ["use"]
KEYS = RSAKeyPair.generate()
OTHER_KEYS = RSAKeyPair.generate()
TOKENS: dict[str, dict[str, Any]] = {
    "good": {"client_id": "me", "scopes": ["use", "more"], "sub": "ann", "iss": "https://issuer.example"},
    "again": {"client_id": "me", "scopes": ["use"], "sub": "ann", "iss": "https://issuer.example"},
    "other": {"client_id": "me", "scopes": ["use"], "sub": "bob", "iss": "https://issuer.example"},
    "poor": {"client_id": "me", "scopes": ["more"], "sub": "ann"},
    "old": {"client_id": "me", "scopes": ["use"], "expires_at": 1_000_000_000},
}


class Verifier:
    """Of the official SDK: some tokens, one that breaks it, and one that has to wait."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def verify_token(self, token: str) -> AccessToken | None:
        self.asked.append(token)
        if token == "broken":
            raise ValueError("the keys are lost")
        if token == "slow":
            await asyncio.sleep(0)
            token = "good"
        found = TOKENS.get(token)
        if found is None:
            return None
        return AccessToken(
            token=token,
            client_id=found["client_id"],
            scopes=found["scopes"],
            expires_at=found.get("expires_at"),
            resource="http://elsewhere.example/mcp" if token == "again" else RESOURCE,
            subject=found.get("sub"),
            claims=found,
        )


class FastVerifier(StaticTokenVerifier):
    """The same of FastMCP, which leaves the scopes to who asks."""

    def __init__(self, **options: Any) -> None:
        super().__init__(TOKENS, **options)
        self.known = Verifier()

    async def verify_token(self, token: str) -> Any:
        return await self.known.verify_token(token)


def sdk_app(**options: Any) -> Any:
    app = MCPServer("guarded", **options)

    @app.tool()
    async def echo(text: str) -> str:
        return text

    @app.tool()
    async def does(what: str) -> str:
        if what == "fail":
            raise ValueError("no")
        if what == "wait":
            await asyncio.sleep(0)
        return 3 if what == "number" else what  # type: ignore[return-value]

    @app.tool()
    async def who() -> str:
        token = get_access_token()
        await asyncio.sleep(0)
        return "nobody" if token is None else f"{token.client_id}/{token.subject}/{' '.join(token.scopes)}"

    @app.tool()
    async def seen(context: Context) -> str:
        request: Any = context.request_context.request
        return f"{request.user.display_name} {request.user.is_authenticated} {sorted(request.auth.scopes)}"

    @app.resource("who://am-i")
    async def am_i() -> str:
        token = get_access_token()
        return "nobody" if token is None else str(token.subject)

    with_routes(app)
    return app


def fast_app(**options: Any) -> Any:
    app = fastmcp.FastMCP("guarded", **options)

    @app.tool
    async def echo(text: str) -> str:
        return text

    @app.tool
    async def who() -> str:
        token = fast_access_token()
        await asyncio.sleep(0)
        return "nobody" if token is None else f"{token.client_id}/{token.subject}/{' '.join(token.scopes)}"

    @app.tool
    async def seen(context: fastmcp.Context) -> str:
        assert context.request_context is not None
        request: Any = context.request_context.request
        return f"{request.user.display_name} {request.user.is_authenticated} {sorted(request.auth.scopes)}"

    @app.tool(auth=require_scopes("more"))
    async def special(text: str) -> str:
        return text

    @app.resource("who://am-i")
    async def am_i() -> str:
        token = fast_access_token()
        return "nobody" if token is None else str(token.subject)

    with_routes(app)
    return app


def with_routes(app: Any) -> None:
    """Routes that take bodies and parameters, give streams, and ask who asks."""

    @app.custom_route("/items/{name}", methods=["GET", "POST"])
    async def item(request: Any) -> Any:
        said = {
            "name": request.path_params["name"],
            "query": dict(request.query_params),
            "body": (await request.body()).decode("latin-1"),
            "verb": request.method,
            "user": request.user.is_authenticated if "user" in request.scope else None,
            "kind": request.headers.get("content-type"),
            "length": request.headers.get("content-length"),
            "url": str(request.url),
        }
        return JSONResponse(said, status_code=207, headers={"X-Own": "yes"})

    @app.custom_route("/form", methods=["POST"])
    async def form(request: Any) -> Any:
        return JSONResponse(sorted((await request.form()).items()))

    @app.custom_route("/files/{path:path}", methods=["GET", "PUT", "DELETE"])
    async def file(request: Any) -> Any:
        if request.method == "DELETE":
            return PlainTextResponse(status_code=204)
        if request.method == "PUT":
            return JSONResponse((await request.json())["a"], status_code=201)

        async def parts() -> AsyncIterator[bytes]:
            for part in request.path_params["path"].split("/"):
                yield part.encode()

        return StreamingResponse(parts(), status_code=203, media_type="application/octet-stream")

    @app.custom_route("/breaks", methods=["GET"])
    async def breaks(request: Any) -> Any:
        raise ValueError("a secret")


def sdk_verifier() -> Any:
    settings = AuthSettings(
        issuer_url="https://issuer.example",
        resource_server_url=RESOURCE,
        required_scopes=SCOPES,
        validate_token_resource=False,
    )
    return sdk_app(auth=settings, token_verifier=Verifier())


def sdk_resource() -> Any:
    """Which takes the tokens that are for it alone, and says nowhere where it is."""
    settings = AuthSettings(
        issuer_url="https://issuer.example", resource_server_url=RESOURCE, validate_token_resource=True
    )
    return sdk_app(auth=settings, token_verifier=Verifier())


def _provider() -> Any:
    return InMemoryOAuthProvider(
        base_url=BASE,
        client_registration_options=ClientRegistrationOptions(enabled=True, valid_scopes=[*SCOPES, "more"]),
        revocation_options=RevocationOptions(enabled=True),
        required_scopes=SCOPES,
    )


def sdk_provider() -> Any:
    settings = AuthSettings(
        issuer_url=BASE,
        resource_server_url=RESOURCE,
        required_scopes=SCOPES,
        validate_token_resource=False,
        client_registration_options=ClientRegistrationOptions(enabled=True, valid_scopes=[*SCOPES, "more"]),
        revocation_options=RevocationOptions(enabled=True),
    )
    return sdk_app(auth=settings, auth_server_provider=_provider())


def fast_static() -> Any:
    return fast_app(auth=FastVerifier(required_scopes=SCOPES))


def fast_jwt() -> Any:
    verifier = JWTVerifier(public_key=KEYS.public_key, issuer="https://issuer.example", audience=RESOURCE)
    return fast_app(auth=verifier)


def fast_remote() -> Any:
    return fast_app(
        auth=RemoteAuthProvider(
            token_verifier=FastVerifier(required_scopes=SCOPES),
            authorization_servers=["https://issuer.example"],  # type: ignore[list-item]
            base_url=BASE,
        )
    )


def fast_oauth() -> Any:
    return fast_app(auth=_provider())


def fast_proxy() -> Any:
    """Whose tokens are made elsewhere, and registered and given out here."""
    return fast_app(
        auth=OAuthProxy(
            upstream_authorization_endpoint="https://issuer.example/authorize",
            upstream_token_endpoint="https://issuer.example/token",
            upstream_client_id="upstream",
            upstream_client_secret="a secret of some length",
            token_verifier=FastVerifier(required_scopes=SCOPES),
            base_url=BASE,
            client_storage=MemoryStore(),
            jwt_signing_key="another secret of some length",
        )
    )


def fast_multi() -> Any:
    return fast_app(
        auth=MultiAuth(
            server=_provider(), verifiers={"static": FastVerifier(required_scopes=SCOPES)}, required_scopes=SCOPES
        )
    )


APPS: dict[str, Callable[[], Any]] = {
    each.__name__: each
    for each in (
        sdk_verifier,
        sdk_resource,
        sdk_provider,
        fast_static,
        fast_jwt,
        fast_remote,
        fast_oauth,
        fast_proxy,
        fast_multi,
    )
}


def jwt_of(subject: str, *, keys: RSAKeyPair = KEYS, age_s: int = 0, audience: str = RESOURCE) -> str:
    return keys.create_token(
        subject=subject,
        issuer="https://issuer.example",
        audience=audience,
        scopes=["use", "more"],
        additional_claims={"iat": int(time.time()) - age_s},
        expires_in_seconds=3600 - age_s,
    )


def stock_asgi(app: Any) -> Any:
    if hasattr(app, "streamable_http_app"):
        return app.streamable_http_app(host="127.0.0.1")
    return app.http_app(path="/mcp", host_origin_protection=False)


@contextlib.asynccontextmanager
async def stock_client(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Of the SDK's own server."""
    asgi = stock_asgi(app)
    transport = httpx.ASGITransport(asgi, raise_app_exceptions=False)
    async with asgi.router.lifespan_context(asgi), httpx.AsyncClient(transport=transport, base_url=BASE) as client:
        yield client


@contextlib.asynccontextmanager
async def our_client(app: Any, level: str = "auto", **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Of our listener; its address is told as the one that the app was told of."""
    async with (
        http(accelerate(app, level, **options), port=0) as listener,
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{listener.port}", headers={"host": BASE.partition("://")[2]}, timeout=20
        ) as client,
    ):
        yield client


SHOWN = ("www-authenticate", "content-type", "content-length", "allow", "location", "cache-control", "pragma", "x-own")


def shown(answer: httpx.Response) -> tuple[int, dict[str, str], str]:
    """What of an answer has to be the same."""
    names = [name for name in answer.headers if name in SHOWN or name.startswith("access-control-")]
    headers = {name: answer.headers[name] for name in names}
    if "allow" in headers:
        headers["allow"] = ", ".join(sorted(headers["allow"].split(", ")))
    return answer.status_code, headers, answer.text


def messages(answer: httpx.Response) -> list[Any]:
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        lines = [line[5:].strip() for line in answer.text.split("\n") if line.startswith("data:")]
        return [json.loads(line) for line in lines if line]
    return [answer.json()] if answer.content else []
