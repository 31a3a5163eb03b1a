"""An issuer of tokens for tests: keys, tokens, and an HTTP server on 127.0.0.1 that gives the keys."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from erlmcp.auth import Auth, Issuer

NAME = "https://login.test"
AUDIENCE = "http://127.0.0.1/mcp"
SECRET = "not much of a secret, but long enough"
ALGORITHMS = {"r1": "RS256", "r2": "RS256", "e1": "ES256", "e2": "ES256", "o1": "EdDSA", "o2": "EdDSA"}


@functools.cache
def private(kid: str) -> Any:
    """A key of this name, made once; ``weak`` is one that is too short."""
    if kid.startswith("e"):
        return ec.generate_private_key(ec.SECP256R1())
    if kid.startswith("o"):
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(public_exponent=65537, key_size=1024 if kid == "weak" else 2048)


def pem(kid: str) -> str:
    return str(private(kid).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def jwk(kid: str, **more: Any) -> dict[str, Any]:
    algorithm: Any = jwt.algorithms.get_default_algorithms()[ALGORITHMS.get(kid, "RS256")]
    return {**json.loads(algorithm.to_jwk(private(kid).public_key())), "kid": kid, "use": "sig", **more}


def key_set(*kids: str) -> dict[str, Any]:
    return {"keys": [jwk(kid) for kid in kids]}


def token(
    kid: str = "r1", *, headers: dict[str, Any] | None = None, alg: str = "", key: Any = None, **claims: Any
) -> str:
    """A good token of alice, but for what is said here; a claim of None is left out."""
    now = int(time.time())
    given = {"iss": NAME, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 600, "scope": "mcp", **claims}
    given = {name: value for name, value in given.items() if value is not None}
    head = {"kid": kid, "typ": "at+jwt", **(headers or {})}
    head = {name: value for name, value in head.items() if value is not None}
    return jwt.encode(given, key or private(kid), alg or ALGORITHMS.get(kid, "RS256"), headers=head)


class KeyServer:
    """What it answers is changed while it runs: the ``kids`` whose keys it gives, or ``body``, with ``status``.
    ``count`` are the requests so far, of which none is answered while ``is_open`` is not set."""

    def __init__(self, *kids: str) -> None:
        self.kids = kids
        self.status = 200
        self.headers = ""
        self.body: bytes | None = None
        self.count = 0
        self.url = ""
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.came = asyncio.Event()
        self.answered = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.count += 1
        self.came.set()
        await self.is_open.wait()
        body = json.dumps(key_set(*self.kids)).encode() if self.body is None else self.body
        head = f"HTTP/1.1 {self.status} X\r\nContent-Length: {len(body)}\r\n{self.headers}Connection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()
        self.answered.set()


@asynccontextmanager
async def key_server(*kids: str) -> AsyncIterator[KeyServer]:
    found = KeyServer(*kids)
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"
    try:
        yield found
    finally:
        found.is_open.set()
        server.close()
        await server.wait_closed()


def rule(jwks_url: str = "", *, kids: tuple[str, ...] = ("r1", "e1", "o1"), **options: Any) -> Auth:
    """What lets in the tokens above: by a key set of ``kids``, or by one to be fetched."""
    own = {name: options.pop(name) for name in ("key", "secret", "algorithms") if name in options}
    if jwks_url:
        own["jwks_url"] = jwks_url
    elif not own.keys() & {"key", "secret"}:
        own["jwks"] = key_set(*kids)
    return Auth(**{"issuers": Issuer(NAME, **own), "audience": AUDIENCE, **options})
