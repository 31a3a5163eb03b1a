"""An MCP server and an authorization server of this process, over HTTP, with faults that a test switches on."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import hashlib
import inspect
import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit

from erlmcp import Client
from erlmcp.client.oauth import OAuth

WAIT_S = 10.0
REDIRECT_URI = "http://127.0.0.1:3000/callback"
RESOURCE, SERVER = "/.well-known/oauth-protected-resource", "/.well-known/oauth-authorization-server"
MODERN, LATEST = "2026-07-28", "2025-11-25"


@dataclass
class Asked:
    """One HTTP request as it came."""

    verb: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode()))

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Said:
    status: int = 200
    value: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    kind: str = "application/json"


Answering = Callable[[Asked], "Said | Awaitable[Said]"]


class House:
    """An HTTP server. What is not under ``doors`` by its path is not there."""

    def __init__(self) -> None:
        self.doors: dict[str, Answering] = {}
        self.asked: list[Asked] = []
        self.url = ""
        self._server: asyncio.Server | None = None
        self._lines: dict[asyncio.Task[Any] | None, asyncio.StreamWriter] = {}

    @property
    def paths(self) -> list[str]:
        return [each.path for each in self.asked]

    def forms(self) -> list[dict[str, str]]:
        """What the token endpoint was sent."""
        return [each.form for each in self.asked if each.path == "/token"]

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._lines.values():
            writer.close()
        if tasks := [task for task in self._lines if task is not None]:
            await asyncio.wait(tasks, timeout=WAIT_S)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._lines[asyncio.current_task()] = writer
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.split("\r\n")[:-2]
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                verb, target, _ = first.split(" ")
                asked = Asked(verb, target, headers, body)
                self.asked.append(asked)
                door = self.doors.get(target.partition("?")[0])
                found = Said(404) if door is None else door(asked)
                said = found if isinstance(found, Said) else await found
                data = b"" if said.value is None else said.value
                data = data if isinstance(data, bytes) else json.dumps(data).encode()
                more = "".join(f"{name}: {value}\r\n" for name, value in said.headers.items())
                top = f"HTTP/1.1 {said.status} Said\r\nContent-Type: {said.kind}\r\n{more}"
                writer.write(f"{top}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        del self._lines[asyncio.current_task()]
        writer.close()


class Realm:
    """``server`` is what is called, ``issuer`` makes the tokens."""

    def __init__(self) -> None:
        self.server, self.issuer = House(), House()
        self.resource_more: dict[str, Any] = {}  # of the documents; None leaves a field out
        self.issuer_more: dict[str, Any] = {}
        self.registration_more: dict[str, Any] = {}
        self.token_more: dict[str, Any] = {}
        self.callback_more: dict[str, str] = {}
        self.challenge_more: dict[str, str] = {}
        self.needs: dict[str, str] = {}  # the scopes of tools
        self.refuses: dict[str, str] = {}  # by grant: the error of the token endpoint
        self.tokens: dict[str, set[str]] = {}
        self.refreshes: set[str] = set()
        self.grants: set[str] | None = None  # whatever is asked for
        self.user: list[dict[str, str]] = []  # what the user was sent to the authorization server with
        self.calls: Counter[str] = Counter()  # that were acted on
        self.codes: dict[str, dict[str, str]] = {}
        self.words: list[str] = []  # that were taken
        self.session = ""
        self.before_user: Callable[[], Awaitable[None]] | None = None

    async def __aenter__(self) -> Self:
        await self.server.open()
        await self.issuer.open()
        self.server.doors = {"/mcp": self._mcp, RESOURCE + "/mcp": lambda asked: Said(value=self.resource())}
        self.issuer.doors = {
            SERVER: lambda asked: Said(value=self.metadata()),
            "/register": self._register,
            "/token": self._token,
        }
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.server.close()
        await self.issuer.close()

    @property
    def url(self) -> str:
        return self.server.url + "/mcp"

    # ---- the documents

    def resource(self) -> dict[str, Any]:
        found = {"resource": self.url, "authorization_servers": [self.issuer.url], **self.resource_more}
        return {name: value for name, value in found.items() if value is not None}

    def metadata(self) -> dict[str, Any]:
        at = self.issuer.url
        found = {
            "issuer": at,
            "authorization_endpoint": at + "/authorize",
            "token_endpoint": at + "/token",
            "registration_endpoint": at + "/register",
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none"],
            **self.issuer_more,
        }
        return {name: value for name, value in found.items() if value is not None}

    # ---- the MCP server

    def _challenge(self, **more: str) -> dict[str, str]:
        parts = {"resource_metadata": f"{self.server.url}{RESOURCE}/mcp", **more, **self.challenge_more}
        told = ", ".join(f'{name}="{value}"' for name, value in parts.items() if value)
        return {"WWW-Authenticate": f"Bearer {told}"}

    def _mcp(self, asked: Asked) -> Said:
        if asked.verb != "POST":
            return Said(405)
        scopes = self.tokens.get(asked.headers.get("authorization", "").removeprefix("Bearer "))
        if scopes is None:
            return Said(401, {"error": "invalid_token"}, self._challenge())
        message = asked.json
        if "id" not in message:
            self.words.append(message["method"])
            return Said(202)
        name = message.get("params", {}).get("name", message["method"])
        if not {*self.needs.get(name, "").split()} <= scopes:
            return Said(403, {}, self._challenge(error="insufficient_scope", scope=self.needs[name]))
        self.calls[name] += 1
        headers = {"Mcp-Session-Id": self.session} if self.session else {}
        return Said(value={"jsonrpc": "2.0", "id": message["id"], "result": self._result(name)}, headers=headers)

    def _result(self, method: str) -> dict[str, Any]:
        about = {"capabilities": {"tools": {}}, "serverInfo": {"name": "realm", "version": "1"}}
        if method == "server/discover":
            return {
                "resultType": "complete",
                "supportedVersions": [MODERN],
                "ttlMs": 0,
                "cacheScope": "private",
                **about,
            }
        if method == "initialize":
            return {"protocolVersion": LATEST, **about}
        return {"resultType": "complete", "content": [{"type": "text", "text": "done"}]}

    def revoke(self) -> None:
        """No access token is good any more; refresh tokens are."""
        self.tokens.clear()

    # ---- the authorization server

    async def agree(self, url: str) -> str:
        """A user who says yes."""
        if self.before_user is not None:
            await self.before_user()
        query = dict(parse_qsl(urlsplit(url).query))
        self.user.append({**query, "endpoint": url.partition("?")[0]})
        code = secrets.token_urlsafe(8)
        self.codes[code] = query
        found = {"code": code, "state": query["state"], **self.callback_more}
        return query["redirect_uri"] + "?" + urlencode({name: value for name, value in found.items() if value})

    def _register(self, asked: Asked) -> Said:
        return Said(201, {"client_id": f"client-{secrets.token_hex(8)}", **self.registration_more})

    def _token(self, asked: Asked) -> Said:
        form = asked.form
        grant = form["grant_type"]
        if error := self.refuses.get(grant, ""):
            return Said(400, {"error": error, "error_description": f"no {form}"})
        scope = form.get("scope", "")
        if grant == "authorization_code":
            code = self.codes.pop(form["code"])
            digest = hashlib.sha256(form["code_verifier"].encode()).digest()
            assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == code["code_challenge"]
            scope = code.get("scope", "")
        elif grant == "refresh_token":
            if form["refresh_token"] not in self.refreshes:
                return Said(400, {"error": "invalid_grant"})
            self.refreshes.discard(form["refresh_token"])
        token, refresh = f"access-{secrets.token_urlsafe(8)}", f"refresh-{secrets.token_urlsafe(8)}"
        self.tokens[token] = {*scope.split()} if self.grants is None else self.grants
        self.refreshes.add(refresh)
        found = {"access_token": token, "token_type": "Bearer", "refresh_token": refresh, **self.token_more}
        return Said(value={name: value for name, value in found.items() if value is not None})

    # ---- who calls

    def oauth(self, **options: Any) -> OAuth:
        return OAuth(self.agree, redirect_uri=REDIRECT_URI, trust_env=False, **options)

    @contextlib.asynccontextmanager
    async def client(self, auth: Any, **options: Any) -> AsyncIterator[Client]:
        async with asyncio.timeout(WAIT_S), Client(self.url, auth=auth, trust_env=False, **options) as client:
            yield client


def basic_of(asked: Asked) -> tuple[str, str]:
    """(id, secret) that a client showed itself by."""
    kind, _, pair = asked.headers["authorization"].partition(" ")
    assert kind == "Basic"
    id, _, secret = base64.b64decode(pair).decode().partition(":")
    return unquote_plus(id), unquote_plus(secret)


def in_realm(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """A test whose first argument is a realm of its own."""

    @functools.wraps(test)
    async def run(**given: Any) -> None:
        async with Realm() as realm:
            await test(realm, **given)

    known = inspect.signature(test)
    run.__signature__ = known.replace(parameters=[*known.parameters.values()][1:])  # type: ignore[attr-defined]
    return run
