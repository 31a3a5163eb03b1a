"""What is in the file of a journal (journal.py), and what a reader makes of it.

    header   b"erlmcp journal 1\n", 4 random bytes (the mark of this file), CRC-32 of the mark
    record   mark, length of the body, CRC-32 of the body (begun with the length), body
    body     b"O", flags, serial, time, lengths, id, method, payload      a call was opened
             b"C", serial                                                 it was closed

Integers are little-endian. Serials never repeat in a file, so a close names its open however ids are used again, and a
record that is there twice says nothing new. The mark before each record lets a reader find its way after damage, and as
each file has its own, bytes of an older file that a disk left in place are not taken for records.

What a reader meets: a last record that is cut off, or whose checksum is wrong, is a *torn tail*, what a crash leaves;
it is dropped and counted. The same before other good records is *damage*: it is reported with its place, and calls
that were open at that point are no longer certain to be in flight, as it may have held their end.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from zlib import crc32

from erlmcp.errors import JournalError

MAGIC = b"erlmcp journal 1\n"
MARK_BYTES = 4
HEADER_BYTES = len(MAGIC) + MARK_BYTES + 4
TEXT_BYTES_MAX = 0xFFFF  # of an id, and of a method
OPEN, CLOSE = b"O", b"C"
IDEMPOTENT, INT_ID = 1, 2

FRAME = struct.Struct("<II")  # length and checksum of the body; the mark comes before
OPENED = struct.Struct("<cBQqHH")  # kind, flags, serial, time, bytes of the id, bytes of the method
CLOSED = struct.Struct("<cQ")


@dataclass(frozen=True, slots=True)
class InFlight:
    """A call that was opened and not closed.

    ``opened_ns`` is the wall clock at ``open_call``. ``is_certain`` is False where a damaged part of the file may have
    held its close: it was in flight at some time, and perhaps not at the end.
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

    @property
    def repeatable(self) -> list[InFlight]:
        """The calls that may be sent again without being asked about: those that were opened as idempotent."""
        return [call for call in self.calls if call.idempotent]


def frame(mark: bytes, body: bytes) -> bytes:
    size = len(body)
    return mark + FRAME.pack(size, crc32(body, size)) + body


def header(mark: bytes) -> bytes:
    return MAGIC + mark + crc32(mark).to_bytes(4, "little")


def new_mark() -> bytes:
    return os.urandom(MARK_BYTES)


def body_at(data: bytes, at: int, mark: bytes) -> bytes | None:
    """The body of the record at an offset, or None where there is no good one."""
    start = at + MARK_BYTES + FRAME.size
    if start > len(data) or not data.startswith(mark, at):
        return None
    size, checksum = FRAME.unpack_from(data, at + MARK_BYTES)
    if size > len(data) - start:
        return None
    body = data[start : start + size]
    return body if crc32(body, size) == checksum else None


def record_at(data: bytes, at: int, mark: bytes) -> tuple[InFlight | int, bytes] | None:
    """The call that a record opens, or the serial that it closes, and its body; None where there is no good one."""
    body = body_at(data, at, mark)
    if body is None:
        return None
    try:
        if body.startswith(OPEN):
            return read_open(body), body
        kind, serial = CLOSED.unpack(body)
    except (struct.error, ValueError):
        return None  # its checksum is right all the same: nothing of ours wrote it
    return (serial, body) if kind == CLOSE else None


def read_open(body: bytes) -> InFlight:
    _, flags, serial, opened_ns, id_bytes, method_bytes = OPENED.unpack_from(body)
    id_end = OPENED.size + id_bytes
    if id_end + method_bytes > len(body):
        raise ValueError("the id and the method do not end in their record")
    text = body[OPENED.size : id_end].decode()
    return InFlight(
        id=int(text) if flags & INT_ID else text,
        method=body[id_end : id_end + method_bytes].decode(),
        idempotent=bool(flags & IDEMPOTENT),
        payload=body[id_end + method_bytes :],
        opened_ns=opened_ns,
        serial=serial,
    )


def next_record(data: bytes, at: int, mark: bytes) -> int:
    """The offset of the next good record, or -1."""
    at = data.find(mark, at)
    while at >= 0 and record_at(data, at, mark) is None:
        at = data.find(mark, at + 1)
    return at


def read_records(data: bytes, path: object) -> tuple[Recovery, dict[int, bytes], int]:
    """What a file says, the bodies of its open calls by serial, and the first serial that it did not use."""
    if not MAGIC.startswith(data[: len(MAGIC)]):
        raise JournalError(f"{path} is not a journal of erlmcp")
    if len(data) < HEADER_BYTES:
        return Recovery(torn_bytes=len(data)), {}, 1
    mark = data[len(MAGIC) : len(MAGIC) + MARK_BYTES]
    if data[:HEADER_BYTES] != header(mark):
        return Recovery(damage=[(0, len(data))]), {}, 1
    calls: dict[int, InFlight] = {}
    bodies: dict[int, bytes] = {}
    damage: list[tuple[int, int]] = []
    at, torn, last = HEADER_BYTES, 0, 0
    while at < len(data):
        record = record_at(data, at, mark)
        if record is None:
            good = next_record(data, at + 1, mark)
            if good < 0:
                torn = len(data) - at
                break
            damage.append((at, good - at))
            calls = {serial: replace(call, is_certain=False) for serial, call in calls.items()}
            at = good
            continue
        what, body = record
        at += MARK_BYTES + FRAME.size + len(body)
        if isinstance(what, InFlight):
            last = max(last, what.serial)
            calls[what.serial], bodies[what.serial] = what, body
        else:
            calls.pop(what, None)
            bodies.pop(what, None)
    return Recovery(list(calls.values()), torn, damage), bodies, last + 1
