"""A journal on disk of the calls that are in flight, so that a program that died can say which they were.

Wanted: after a crash, the calls that were opened and not closed, each with what is needed to send it again, and whether
that may be done (``idempotent``); the price in operation a microsecond or two, and one write for many records.

A journal is one file that is only ever appended to, or replaced as a whole:

    header   b"erlmcp journal 1\\n", 4 random bytes (the mark of this file), CRC-32 of the mark
    record   mark, length of the body, CRC-32 of the body (begun with the length), body
    body     b"O", flags, serial, time, lengths, id, method, payload      a call was opened
             b"C", serial                                                 it was closed

Serials never repeat in a file, so a close names its open however ids are used again, and a record that is there twice
says nothing new. The mark before each record lets a reader find its way after damage, and as each file has its own,
bytes of an older file that a disk left in place are not taken for records.

What a reader meets: a last record that is cut off, or whose checksum is wrong, is a *torn tail*, what a crash leaves;
it is dropped and counted. The same before other good records is *damage*: it is reported with its place, and calls
that were open at that point are no longer certain to be in flight, as it may have held their end.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import struct
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from zlib import crc32

from erlmcp.errors import ErlmcpError, LimitError

__all__ = ["InFlight", "Journal", "JournalError", "Recovery"]

MAGIC = b"erlmcp journal 1\n"
MARK_BYTES = 4
HEADER_BYTES = len(MAGIC) + MARK_BYTES + 4
TEXT_BYTES_MAX = 0xFFFF  # of an id, and of a method
SYNCS = ("none", "batch", "always")
OPEN, CLOSE = b"O", b"C"
IDEMPOTENT, INT_ID = 1, 2

_FRAME = struct.Struct("<II")  # length and checksum of the body; the mark comes before
_OPENED = struct.Struct("<cBQqHH")  # kind, flags, serial, time, bytes of the id, bytes of the method
_CLOSED = struct.Struct("<cQ")


class JournalError(ErlmcpError):
    """A journal cannot be used: another one writes it, it is no journal, or a write failed half way."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """A call that was opened and not closed.

    ``opened_ns`` is the wall clock at ``open``. ``is_certain`` is False where a damaged part of the file may have held
    its close: it was in flight at some time, and perhaps not at the end.
    """

    id: str | int
    method: str
    idempotent: bool
    payload: bytes
    opened_ns: int
    serial: int
    is_certain: bool = True


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a journal says after the end of its writer. Iterating it gives the calls, in the order of opening.

    ``torn_bytes`` is the length of a record at the end that was not written whole: no harm, it was never flushed.
    ``damage`` lists (offset, bytes) of what cannot be read before good records; calls may be missing then.
    """

    calls: list[InFlight] = field(default_factory=list)
    torn_bytes: int = 0
    damage: list[tuple[int, int]] = field(default_factory=list)

    def __iter__(self) -> Iterator[InFlight]:
        return iter(self.calls)

    def __len__(self) -> int:
        return len(self.calls)

    @property
    def is_whole(self) -> bool:
        """Whether nothing but a torn tail is missing."""
        return not self.damage


def _frame(mark: bytes, body: bytes) -> bytes:
    size = len(body)
    return mark + _FRAME.pack(size, crc32(body, size)) + body


def _header(mark: bytes) -> bytes:
    return MAGIC + mark + crc32(mark).to_bytes(4, "little")


def _body_at(data: bytes, at: int, mark: bytes) -> bytes | None:
    """The body of the record at an offset, or None where there is no good one."""
    start = at + MARK_BYTES + _FRAME.size
    if start > len(data) or not data.startswith(mark, at):
        return None
    size, checksum = _FRAME.unpack_from(data, at + MARK_BYTES)
    body = data[start : start + size]
    return body if len(body) == size and crc32(body, size) == checksum else None


def _next_record(data: bytes, at: int, mark: bytes) -> int:
    """The offset of the next good record, or -1."""
    at = data.find(mark, at)
    while at >= 0 and _body_at(data, at, mark) is None:
        at = data.find(mark, at + 1)
    return at


def _read_open(body: bytes) -> InFlight:
    _, flags, serial, opened_ns, id_bytes, method_bytes = _OPENED.unpack_from(body)
    id_end = _OPENED.size + id_bytes
    text = body[_OPENED.size : id_end].decode()
    return InFlight(
        id=int(text) if flags & INT_ID else text,
        method=body[id_end : id_end + method_bytes].decode(),
        idempotent=bool(flags & IDEMPOTENT),
        payload=body[id_end + method_bytes :],
        opened_ns=opened_ns,
        serial=serial,
    )


def _read(path: Path) -> tuple[Recovery, dict[int, bytes], int]:
    """What a file says, the bodies of its open calls by serial, and the first serial that it did not use."""
    data = path.read_bytes()
    if not MAGIC.startswith(data[: len(MAGIC)]):
        raise JournalError(f"{path} is not a journal of erlmcp")
    if len(data) < HEADER_BYTES:
        return Recovery(torn_bytes=len(data)), {}, 1
    mark = data[len(MAGIC) : len(MAGIC) + MARK_BYTES]
    if data[:HEADER_BYTES] != _header(mark):
        return Recovery(damage=[(0, len(data))]), {}, 1
    calls: dict[int, InFlight] = {}
    bodies: dict[int, bytes] = {}
    damage: list[tuple[int, int]] = []
    at, torn, serial = HEADER_BYTES, 0, 0
    while at < len(data):
        body = _body_at(data, at, mark)
        if body is None:
            good = _next_record(data, at + 1, mark)
            if good < 0:
                torn = len(data) - at
                break
            damage.append((at, good - at))
            calls = {number: replace(call, is_certain=False) for number, call in calls.items()}
            at = good
            continue
        at += MARK_BYTES + _FRAME.size + len(body)
        if body.startswith(OPEN):
            call = _read_open(body)
            serial = call.serial
            calls[serial], bodies[serial] = call, body
        else:
            closed = _CLOSED.unpack(body)[1]
            calls.pop(closed, None)
            bodies.pop(closed, None)
        serial = max(serial, 0)
    return Recovery(list(calls.values()), torn, damage), bodies, max([serial, *bodies], default=0) + 1
