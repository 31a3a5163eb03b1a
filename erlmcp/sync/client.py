"""The blocking face of the client, for scripts and for programs without an event loop.

The connection lives on an event loop in a thread of its own, which begins with ``connect`` and ends with ``close``. A
caller waits on a future that this loop completes; any number of threads may call. A Ctrl-C while one waits takes its
call back.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from erlmcp.client.client import Client as AsyncClient
from erlmcp.client.subscription import Event, Subscription
from erlmcp.errors import ConnectionClosedError

if TYPE_CHECKING:
    import mcp_types as types

    from erlmcp.client.conversation import Progress
    from erlmcp.client.result import CallResult
    from erlmcp.flags import Flags

T = TypeVar("T")


class Client:
    """``erlmcp.Client``, blocking: the same arguments, the same methods, the same exceptions.

    ``with Client(...) as client``, or ``connect`` and ``close``. Callbacks and handlers (plain or coroutine functions)
    run in the loop's thread and must not call the client; what blocks there blocks the connection.
    """

    def __init__(self, target: Any, **options: Any) -> None:
        self._client = AsyncClient(target, **options)
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def flags(self) -> Flags:
        return self._client.flags

    def set_flags(self, **given: bool | None) -> Flags:
        """As the asynchronous client's, from any thread."""
        if self._loop is None:
            return self._client.set_flags(**given)
        return self._run(self._set_flags(given))

    async def _set_flags(self, given: dict[str, bool | None]) -> Flags:
        return self._client.set_flags(**given)

    # -- the thread ----------------------------------------------------------------------------------------------------

    def connect(self) -> Self:
        """Connect, where that is not done already. Raises as the asynchronous client's."""
        with self._lock:
            if self._loop is None:
                self._start()
            try:
                self._run(self._client.connect())
            except BaseException:
                if not self._client.is_connected:
                    self._stop()
                raise
        return self

    def close(self) -> None:
        """Close the connection and end the thread. Calls in flight fail."""
        with self._lock:
            if self._loop is not None:
                try:
                    self._run(self._client.aclose())
                finally:
                    self._stop()

    def _start(self) -> None:
        loop = _new_loop()
        started = threading.Event()

        def live() -> None:
            asyncio.set_event_loop(loop)
            loop.call_soon(started.set)
            try:
                loop.run_forever()
            finally:
                loop.run_until_complete(loop.shutdown_asyncgens())
                asyncio.set_event_loop(None)
                loop.close()

        self._thread = threading.Thread(target=live, name="erlmcp-client", daemon=True)
        self._thread.start()
        started.wait()
        self._loop = loop

    def _stop(self) -> None:
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    def _run(self, coro: Coroutine[Any, Any, T]) -> T:
        loop = self._loop
        if loop is None:
            coro.close()
            raise ConnectionClosedError(f"{self._client.name}: not connected; use 'with', or connect()")
        if threading.current_thread() is self._thread:
            coro.close()
            raise RuntimeError("a callback of the client cannot wait for the client; use erlmcp.Client there")
        future = asyncio.run_coroutine_threadsafe(coro, loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise ConnectionClosedError(f"{self._client.name}: the client was closed") from None
        except BaseException:
            future.cancel()  # Ctrl-C in the thread that waits; nothing where the call itself failed.
            raise

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- who the server is ---------------------------------------------------------------------------------------------

    @property
    def is_connected(self) -> bool:
        return self._client.is_connected

    @property
    def era(self) -> str:
        """ "modern" (2026-07-28) or "legacy" (the handshake revisions)."""
        return self._client.era

    @property
    def protocol_version(self) -> str:
        return self._client.protocol_version

    @property
    def server_info(self) -> dict[str, Any]:
        return self._client.server_info

    @property
    def server_capabilities(self) -> dict[str, Any]:
        return self._client.server_capabilities

    @property
    def instructions(self) -> str | None:
        return self._client.instructions

    # -- what can be asked ---------------------------------------------------------------------------------------------

    def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        on_progress: Progress | None = None,
        meta: dict[str, Any] | None = None,
        raise_on_error: bool = True,
    ) -> CallResult:
        """Raises ToolError where the tool failed, unless ``raise_on_error`` is false."""
        call = self._client.call_tool
        return self._run(
            call(
                name,
                arguments,
                timeout_s=timeout_s,
                on_progress=on_progress,
                meta=meta,
                raise_on_error=raise_on_error,
            )
        )

    def call_many(
        self,
        calls: Iterable[tuple[str, Mapping[str, Any] | None]],
        *,
        timeout_s: float | None = None,
        raise_on_error: bool = True,
    ) -> list[CallResult]:
        """Many calls at once, in flight together; the results in the order of the calls."""
        many = self._client.call_many
        return self._run(many(list(calls), timeout_s=timeout_s, raise_on_error=raise_on_error))

    def list_tools(self) -> list[types.Tool]:
        return self._run(self._client.list_tools())

    def list_resources(self) -> list[types.Resource]:
        return self._run(self._client.list_resources())

    def list_resource_templates(self) -> list[types.ResourceTemplate]:
        return self._run(self._client.list_resource_templates())

    def list_prompts(self) -> list[types.Prompt]:
        return self._run(self._client.list_prompts())

    def read_resource(self, uri: str, *, timeout_s: float | None = None) -> types.ReadResourceResult:
        return self._run(self._client.read_resource(uri, timeout_s=timeout_s))

    def get_prompt(
        self, name: str, arguments: Mapping[str, str] | None = None, *, timeout_s: float | None = None
    ) -> types.GetPromptResult:
        return self._run(self._client.get_prompt(name, arguments, timeout_s=timeout_s))

    def complete(self, argument: str, value: str, **options: Any) -> types.Completion:
        return self._run(self._client.complete(argument, value, **options))

    def subscribe(self, uri: str) -> None:
        self._run(self._client.subscribe(uri))

    def unsubscribe(self, uri: str) -> None:
        self._run(self._client.unsubscribe(uri))

    def set_log_level(self, level: str) -> None:
        self._run(self._client.set_log_level(level))

    def ping(self, *, timeout_s: float | None = None) -> None:
        self._run(self._client.ping(timeout_s=timeout_s))

    def request(self, method: str, params: Mapping[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        """Any request, and its result object as it came."""
        return self._run(self._client.request(method, params, **options))

    def listen(
        self, *, tools: bool = False, prompts: bool = False, resources: bool = False, uris: Sequence[str] = ()
    ) -> Listening:
        """``with client.listen(tools=True) as events: for event in events: ...``; the loop waits for the next event."""
        made = self._client.listen(tools=tools, prompts=prompts, resources=resources, uris=uris)
        return Listening(self._run, made)


class Listening:
    """A subscription, blocking: an iterator of ``Event``."""

    def __init__(self, run: Callable[[Coroutine[Any, Any, Any]], Any], subscription: Subscription) -> None:
        self._wait = run
        self._subscription = subscription

    @property
    def granted(self) -> dict[str, Any]:
        """What the server agreed to tell."""
        return self._subscription.granted

    def close(self) -> None:
        self._wait(self._subscription.aclose())

    def __enter__(self) -> Self:
        self._wait(self._subscription.open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        found: Event | None = self._wait(self._next())
        if found is None:
            raise StopIteration
        return found

    async def _next(self) -> Event | None:
        try:
            return await anext(self._subscription)
        except StopAsyncIteration:
            return None  # A future takes no StopIteration.


def _new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's, where it is installed: half the time a call."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
