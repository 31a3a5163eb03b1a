"""Connections on trial: each is of one side, from its first byte on, and tells the trial how its messages fare."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from erlmcp.runtime.link import Link
from erlmcp.runtime.session import Session
from erlmcp.spec import method as m
from erlmcp.wire.peer import is_enveloped

if TYPE_CHECKING:
    from erlmcp.core import Template
    from erlmcp.server.trial import Trial


def is_failure(value: Any) -> bool:
    """Whether a result says that its tool failed."""
    if isinstance(value, dict):
        return value.get("isError") is True
    return b'"isError":true' in getattr(value, "data", b"")


class WatchedLink(Link):
    """A connection of one side. Messages that are answered within the read that brought them are timed together; those
    that wait, each by itself."""

    __slots__ = ("_error_count", "_is_new", "_starts", "_trial")

    def __init__(self, trial: Trial, is_new: bool, write: Callable[[bytes], None], kind: str) -> None:
        super().__init__(trial.arms[is_new].side, write, kind=kind)  # type: ignore[attr-defined]
        self._trial = trial
        self._is_new = is_new
        self._error_count = 0
        self._starts: dict[bytes, int] = {}

    def feed(self, data: bytes) -> None:
        began_ns, before = self._begin()
        super().feed(data)
        # What has to wait for its turn is counted when it had it.
        count = data.count(b"\n") - (len(self.backlog) - before)
        self._count(count, began_ns, is_whole=not (before or self.backlog))

    def work(self) -> None:
        began_ns, before = self._begin()
        super().work()
        self._count(before - len(self.backlog), began_ns, is_whole=False)

    def finish(self) -> None:
        began_ns, before = self._begin()
        super().finish()
        self._count(before - len(self.backlog), began_ns, is_whole=False)

    def _begin(self) -> tuple[int, int]:
        self._error_count = 0
        return self._trial.clock_ns(), len(self.backlog)

    def _count(self, count: int, began_ns: int, *, is_whole: bool) -> None:
        """So many messages were handled; ``is_whole``: all of one read, so that their time is theirs."""
        trial = self._trial
        waiting = self._note_waiting(began_ns)
        done = count - waiting
        if done > 0:
            now_ns = trial.clock_ns()
            time_ns = (now_ns - began_ns) // count if is_whole and not waiting else None
            trial.policy.record_many(self._is_new, done, min(self._error_count, done), time_ns, now_ns)
            trial.notice()

    def _note_waiting(self, began_ns: int) -> int:
        """How many calls of this read wait; the newest are last."""
        starts, waiting = self._starts, 0
        for exchange in reversed(self.session.inflight.values()):
            id_raw = exchange.call.id_raw
            if id_raw in starts:
                break
            if exchange.ended is None:  # not a stream that stays
                starts[id_raw] = began_ns
                waiting += 1
        return waiting

    def _answered(self, id_raw: bytes, *, is_error: bool) -> None:
        began_ns = self._starts.pop(id_raw, None) if self._starts else None
        if began_ns is None:
            self._error_count += is_error
        else:
            self._trial.record(self._is_new, self._trial.clock_ns() - began_ns, is_error)

    def fill(self, id_raw: bytes, template: Template, values: tuple[object, ...]) -> None:
        super().fill(id_raw, template, values)
        self._answered(id_raw, is_error=False)

    def result(self, id_raw: bytes, value: object) -> None:
        super().result(id_raw, value)
        self._answered(id_raw, is_error=is_failure(value))

    def error(self, id_raw: bytes, code: int, message: str, data: object) -> None:
        super().error(id_raw, code, message, data)
        self._answered(id_raw, is_error=True)

    def close(self, reason: str = "the connection was closed") -> None:
        super().close(reason)
        self._starts.clear()


class FirstLink:
    """A connection whose side depends on its era: chosen with its first message."""

    __slots__ = ("_held", "_kind", "_link", "_pacer", "_trial", "_write", "closed_early", "write_parts")

    def __init__(self, trial: Trial, write: Callable[[bytes], None], kind: str) -> None:
        self._kind = kind
        self._trial = trial
        self._write = write
        self._held = b""
        self._link: Link | None = None
        self._pacer: Any = None
        self.write_parts: Any = None
        self.closed_early = False

    @property
    def closed(self) -> bool:
        return self._link.closed if self._link is not None else self.closed_early

    @property
    def session(self) -> Session:
        return self._chosen(b"").session

    def feed(self, data: bytes) -> None:
        if self._link is None:
            self._held += data
            line, newline, _ = self._held.lstrip().partition(b"\n")
            if not newline and len(self._held) <= self._trial._host.limits.message_bytes_max:
                return
            data, self._held = self._held, b""
            self._chosen(line)
        assert self._link is not None
        self._link.feed(data)

    def _chosen(self, line: bytes) -> Link:
        if self._link is None:
            trial = self._trial
            if line and self._era_of(line) == trial.era:
                self._link = trial.deal(self._write, self._kind)
            else:
                self._link = Link(trial.arms[0].side, self._write, kind=self._kind)  # type: ignore[attr-defined]
            self._link.write_parts = self.write_parts
            if self._pacer is not None:
                self._link.pace(self._pacer)
        return self._link

    def _era_of(self, line: bytes) -> str:
        call = self._trial.arms[0].side.read(line)  # type: ignore[attr-defined]
        if call.method == m.INITIALIZE:
            return "legacy"
        return "modern" if call.meta is not None and is_enveloped(call.meta.values) else ""

    @property
    def patience_s(self) -> float | None:
        return None if self._link is None else self._link.patience_s

    def pace(self, pacer: Any) -> None:
        """Before anything was read: the transport's first word."""
        self._pacer = pacer

    def hold(self, held: bool) -> None:
        if self._link is not None:
            self._link.hold(held)

    def finish(self) -> None:
        if self._link is not None:
            self._link.finish()

    def close(self, reason: str = "the connection was closed") -> None:
        self.closed_early = True
        if self._link is not None:
            self._link.close(reason)
