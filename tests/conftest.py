"""Async tests without a plugin, a client's end of an in-memory connection, and certificates for tests of TLS.

An ``async def test_...`` runs on a fresh event loop; with the fixture ``loop_kind`` once on asyncio's and once on
uvloop's. What the loop reports to its exception handler (a task's error that nobody looked at) fails the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import json
import logging
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# No example fails for how long it took: that is the machine's, which has other work.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
for _name in [name for name in os.environ if name.lower().endswith("_proxy")]:
    del os.environ[_name]  # Servers on this machine are not to be looked for through a proxy.

MODERN = "2026-07-28"
VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES_KEY = "io.modelcontextprotocol/clientCapabilities"
EVERYTHING = {"elicitation": {}, "sampling": {}, "roots": {}}


def loop_factory(kind: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if kind == "asyncio":
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = pytest.importorskip("uvloop").new_event_loop
    return factory


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    loop_factory(kind)
    return kind


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine function on a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    given = {name: pyfuncitem.funcargs[name] for name in names}
    run_async(lambda: pyfuncitem.obj(**given), given.get("loop_kind", "asyncio"))
    return True


def run_async(make: Callable[[], Any], kind: str = "asyncio") -> Any:
    """The value of the coroutine that ``make`` gives; AssertionError where the loop had to report something."""
    reports: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=loop_factory(kind)) as runner:
        runner.get_loop().set_exception_handler(lambda _loop, context: reports.append(context))
        value = runner.run(make())
        gc.collect(1)
    assert not reports, reports
    return value


@pytest.fixture
def run() -> Callable[..., Any]:
    """``run_async``, for tests that cannot be async themselves."""
    return run_async


class Client:
    """The client's end of an in-memory connection: JSON objects instead of bytes.

    ``version`` is the revision that is spoken; requests of 2026-07-28 get their ``_meta`` by themselves. ``notes`` are
    the notifications that came while an answer was waited for.
    """

    def __init__(self, wire: Any, version: str = MODERN, capabilities: dict[str, Any] | None = None) -> None:
        self.wire = wire
        self.version = version
        self.capabilities = capabilities or {}
        self.notes: list[dict[str, Any]] = []
        self.hello: dict[str, Any] = {}
        self._next = 0

    @property
    def modern(self) -> bool:
        return self.version == MODERN

    def send(self, message: Any) -> None:
        """Any JSON value; bytes as they are (the line's end is added)."""
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        self.wire.send(data + b"\n")

    def message(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        id: Any = None,
        meta: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The request, ready to be sent."""
        self._next += 1
        params = dict(params or {})
        if self.modern:
            params["_meta"] = {VERSION_KEY: MODERN, CAPABILITIES_KEY: self.capabilities, **(meta or {})}
        elif meta is not None:
            params["_meta"] = meta
        return {"jsonrpc": "2.0", "id": self._next if id is None else id, "method": method, "params": params}

    def post(self, method: str, params: dict[str, Any] | None = None, **options: Any) -> Any:
        """Send a request; gives its id."""
        message = self.message(method, params, **options)
        self.send(message)
        return message["id"]

    def notify(self, method: str, params: dict[str, Any] | None = None) -> None:
        self.send({"jsonrpc": "2.0", "method": method, **({} if params is None else {"params": params})})

    async def receive(self) -> Any:
        return json.loads(await self.wire.receive())

    async def answer(self, id: Any) -> dict[str, Any]:
        """The answer to a request; what comes before it goes to ``notes``."""
        while True:
            found = await self.receive()
            if isinstance(found, dict) and "method" not in found and found.get("id") == id:
                assert type(found["id"]) is type(id)
                return found
            self.notes.append(found)

    async def ask(self, method: str, params: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        """The whole answer to a request."""
        return await self.answer(self.post(method, params, **options))

    async def result(self, method: str, params: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        found = await self.ask(method, params, **options)
        assert "result" in found, found
        return found["result"]  # type: ignore[no-any-return]

    async def error(self, method: str, params: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        found = await self.ask(method, params, **options)
        assert "error" in found, found
        return found["error"]  # type: ignore[no-any-return]

    async def call(self, tool: str, arguments: Any = None, **options: Any) -> dict[str, Any]:
        """The result of a tool call."""
        return await self.result("tools/call", {"name": tool, "arguments": arguments or {}}, **options)

    async def text(self, tool: str, arguments: Any = None, **options: Any) -> str:
        """The text of a tool call's first block."""
        found = await self.call(tool, arguments, **options)
        return found["content"][0]["text"]  # type: ignore[no-any-return]

    async def settle(self) -> list[dict[str, Any]]:
        """All that is on the way, after a turn of the loop or a few: what has not come then was not sent."""
        for _ in range(6):
            await asyncio.sleep(0)
        found = [await self.receive() for _ in range(self.wire.pending())]
        self.notes.extend(found)
        return found

    def expire(self, id: str | int) -> None:
        """The time of a call that is in flight is over, whatever the clock says."""
        exchange = self.wire._link.session.inflight[id]
        assert exchange._timers.extend(exchange._deadline, 0)

    async def handshake(self) -> None:
        params = {
            "protocolVersion": self.version,
            "capabilities": self.capabilities,
            "clientInfo": {"name": "test", "version": "1"},
        }
        self.hello = await self.result("initialize", params)
        self.notify("notifications/initialized")


@contextlib.asynccontextmanager
async def open_client(
    server: Any, version: str = MODERN, capabilities: dict[str, Any] | None = None, *, handshake: bool = True
) -> AsyncIterator[Client]:
    """A client of the server, its handshake done where its revision has one."""
    async with server.memory() as wire:
        client = Client(wire, version, capabilities)
        if handshake and not client.modern:
            await client.handshake()
        yield client
        assert not wire._link.session.correlation or wire._link.session.inflight
    session = wire._link.session
    for _ in range(3):
        await asyncio.sleep(0)
    assert not session.inflight, session.inflight
    assert not len(session.correlation)
    assert not len(server.hub)


@pytest.fixture
def talk() -> Callable[..., contextlib.AbstractAsyncContextManager[Client]]:
    """``async with talk(server, version, capabilities) as client``."""
    return open_client


@pytest.fixture
def everything() -> dict[str, Any]:
    """The capabilities of a client that answers every kind of question."""
    return dict(EVERYTHING)


@pytest.fixture
def quiet() -> Iterator[None]:
    """Keep errors that a test provokes out of its captured log."""
    logger = logging.getLogger("erlmcp")
    before, logger.disabled = logger.disabled, True
    children = [logging.getLogger(f"erlmcp.{name}") for name in ("server", "http")]
    for each in children:
        each.disabled = True
    yield
    logger.disabled = before
    for each in children:
        each.disabled = False


@pytest.fixture(scope="session")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a server's certificate for 127.0.0.1, a client's one, and an authority that knows neither."""
    if shutil.which("openssl") is None:
        pytest.skip("the certificates are made by openssl")
    folder = tmp_path_factory.mktemp("certs")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "other"):
        openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),  # asked for since CPython 3.13
            *("-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem"),
        )
    for name in ("server", "client"):
        (folder / f"{name}.ext").write_text(
            "subjectAltName=IP:127.0.0.1,DNS:mcp.example\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
        )
        openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}"),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr"),
        )
        openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.pem"),
        )
    return folder
