"""Run handlers: the first step inline, a task only for those that wait.

Operations wanted: start a coroutine and, where it never really waits, have its value before the call returns, at the
price of a ``send`` and not of a task (200 ns against 2,000-7,000 on CPython 3.11). A handler must not be able to
tell: within it ``asyncio.current_task()`` is a real task, the same one before and after its first wait
(``asyncio.timeout``, ``TaskGroup`` and anyio's scopes remember it), and its context variables are its own.

Plan: a *carrier* is a real ``asyncio.Task`` that is parked on a future and lends its identity and its context to the
first step of a handler (``_enter_task``, the documented hook for this). A handler that ends in that step leaves the
carrier as it was, to be used again. One that waits is handed over to the carrier, which wakes, waits in its stead and
drives it to its end; the next handler gets a new carrier. A context that the handler changed is not used again: a
variable that one request set is never seen by another (``Context.__eq__`` is a pointer compare where nothing changed).

Invariant: a parked carrier's future is pending, its task is not cancelled, and its context equals its pristine copy.
"""

from __future__ import annotations

import asyncio
import contextvars
import types
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any

from erlmcp import core

if TYPE_CHECKING or core.IMPLEMENTATION == "core":
    from erlmcp.runtime.berth import Berth
else:

    class Berth:
        """The places of an executor's carriers."""

        __slots__ = ("carrier", "spare")


Done = Callable[[Any, BaseException | None], None]
Outer = tuple["Carrier | None", "asyncio.Task[Any] | None"]


class Carrier:
    """A parked task that lends its identity to handlers."""

    __slots__ = ("context", "coro", "done", "first", "pristine", "run", "task", "wake")

    def __init__(self, loop: asyncio.AbstractEventLoop, base: contextvars.Context) -> None:
        self.context = base.copy()
        self.pristine = base
        self.run = self.context.run
        self.wake: asyncio.Future[None] = loop.create_future()
        self.coro: Any = None
        self.first: Any = None
        self.done: Done | None = None
        life = _live(self)
        life.send(None)  # A task cancelled before its first turn throws into what has begun, not past it.
        self.task: asyncio.Task[None] = asyncio.Task(life, loop=loop, context=self.context)

    def adopt(self, coro: Any, first: Any, done: Done) -> None:
        """Take over a coroutine that yielded ``first``."""
        self.coro = coro
        self.first = first
        self.done = done
        if not self.wake.done():  # The handler may have cancelled itself before its first wait.
            self.wake.set_result(None)

    @property
    def is_clean(self) -> bool:
        """Whether the handlers that ran left no mark: no changed variable, no cancellation."""
        return self.context == self.pristine and not self.wake.done() and not self.task.cancelling()

    def retire(self) -> None:
        """End a carrier that never carried anything."""
        if not self.wake.done():
            self.wake.set_result(None)


async def _live(carrier: Carrier) -> None:
    await _carry(carrier)


@types.coroutine
def _carry(carrier: Carrier) -> Generator[Any, Any, None]:
    error: BaseException | None = None
    try:
        yield  # Carrier's own send
        yield from carrier.wake
    except asyncio.CancelledError as exc:
        # Meant for what the handler waits for: asked for again, it strikes that future, as in any other task.
        carrier.task.uncancel()
        carrier.task.cancel(*exc.args)
    coro, done = carrier.coro, carrier.done
    if coro is None or done is None:
        return
    pending = carrier.first
    carrier.coro = carrier.first = carrier.done = None
    value = None
    try:
        while True:
            if error is None:
                try:
                    sent = yield pending
                except BaseException as exc:
                    error = exc
            if error is None:
                pending = coro.send(sent)
            else:
                thrown, error = error, None
                try:
                    pending = coro.throw(thrown)
                finally:
                    del thrown  # Its traceback holds this frame.
    except StopIteration as stop:
        value = stop.value
    except BaseException as exc:
        done(None, exc)
        if isinstance(exc, KeyboardInterrupt | SystemExit):
            raise
        return
    done(value, None)


class Executor(Berth):
    """Drives handler coroutines on one event loop.

    Between ``enter`` and ``leave`` the task of ``carrier`` is the current one; who reads many messages at once enters
    once for all of them. The price of a handler that ends in its first step is then that of ``carrier.run(coro.send,
    None)``.
    """

    __slots__ = ("_base", "loop", "running")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.running: set[asyncio.Task[None]] = set()
        self._base = contextvars.copy_context()
        self.carrier = None  # the one that is entered
        self.spare = Carrier(loop, self._base)

    def enter(self) -> Outer:
        """Make a carrier's task the current one; the value is to be given to ``leave``. May be nested: a handler may
        feed another connection."""
        loop = self.loop
        outer = (self.carrier, asyncio.current_task(loop))
        carrier, self.spare = self.spare, None
        if carrier is None or not carrier.is_clean:  # A handler that kept its task may have cancelled it since.
            if carrier is not None:
                carrier.retire()
            carrier = Carrier(loop, self._base)
        self.carrier = carrier
        if outer[1] is not None:
            _leave_task(loop, outer[1])
        _enter_task(loop, carrier.task)
        return outer

    def leave(self, outer: Outer) -> None:
        """Undo ``enter``; the carrier is kept for the next time if no handler left a mark on it."""
        carrier = self.carrier
        assert carrier is not None
        _leave_task(self.loop, carrier.task)
        self.carrier, before = outer
        if before is not None:
            _enter_task(self.loop, before)
        if self.spare is None and carrier.is_clean:
            self.spare = carrier
        else:
            carrier.retire()

    def replace(self) -> Carrier:
        """A handler changed the carrier's context, or took the carrier with it: go on with another one."""
        old = self.carrier
        assert old is not None
        _leave_task(self.loop, old.task)
        old.retire()
        self.carrier = carrier = Carrier(self.loop, self._base)
        _enter_task(self.loop, carrier.task)
        return carrier

    def adopt(self, coro: Any, first: Any, done: Done) -> asyncio.Task[None]:
        """Hand a coroutine that yielded ``first`` in the entered carrier over to that carrier's task."""
        carrier = self.carrier
        assert carrier is not None
        if carrier.task.done():  # Somebody cancelled it while it was parked.
            carrier = self.replace()
        task = carrier.task
        self.running.add(task)
        task.add_done_callback(self.running.discard)
        carrier.adopt(coro, first, done)
        self.replace()
        return task

    def start(self, coro: Coroutine[Any, Any, Any], done: Done) -> asyncio.Task[None] | None:
        """Run ``coro`` to its first wait.

        ``done(value, error)`` is called exactly once: before this returns (and None is returned), or later from the
        task that is returned.
        """
        if self.carrier is None:
            outer = self.enter()
            try:
                return self._start(coro, done)
            finally:
                self.leave(outer)
        return self._start(coro, done)

    def _start(self, coro: Coroutine[Any, Any, Any], done: Done) -> asyncio.Task[None] | None:
        carrier = self.carrier
        assert carrier is not None
        value, error = None, None
        try:
            first = carrier.run(coro.send, None)
        except StopIteration as stop:
            value = stop.value
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            error = exc
        else:
            return self.adopt(coro, first, done)
        if not carrier.is_clean:
            self.replace()
        try:
            done(value, error)
        finally:
            del error  # Its traceback holds this frame.
        return None

    def spawn(self, coro: Coroutine[Any, Any, Any], done: Done) -> asyncio.Task[None]:
        """Run ``coro`` in a task of its own, from its first step on: what ``start`` saves."""

        async def run() -> None:
            try:
                value = await coro
            except BaseException as exc:
                done(None, exc)
                if isinstance(exc, KeyboardInterrupt | SystemExit):
                    raise
            else:
                done(value, None)

        task = asyncio.Task(run(), loop=self.loop, context=self._base.copy())
        self.running.add(task)
        task.add_done_callback(self.running.discard)
        return task

    def close(self) -> None:
        """Let the parked carrier end. Handlers still running are the owner's to cancel."""
        if self.spare is not None:
            self.spare.retire()
            self.spare = None


async def outcome(value: Any) -> Any:
    """The value of what a handler returned: awaited where it can be."""
    return await value if hasattr(value.__class__, "__await__") else value


def cancel_soon(task: asyncio.Task[Any]) -> None:
    """Cancel a handler's task; by way of the loop, so that a carrier made in this very turn has begun to run."""
    task.get_loop().call_soon(task.cancel)
