"""Sessions in a file: ``save`` writes those of a ``SessionStore``, ``restore`` brings them back after a restart.

Wanted: the file at ``path`` is at any moment the last whole snapshot, whatever fails in between; damage is told, never
loaded; memory that does not grow with the number of sessions; no code in the file (never pickle); sessions that go on
ageing while the process is down.

The snapshot is written to a file beside ``path``, which is flushed to the disk, renamed over it, and the folder flushed
too. It begins with a header, goes on with blocks of sessions, and ends with their number and a digest of all bytes
before. Integers are little-endian:

    header  8 bytes ``ERLMCPSS``; version (16 bits, 1), 16 bits 0; now_ns, wall_ns (64 bits each: the store's clock and
            the wall clock when it was saved); CRC-32 of the header up to here
    block   bytes of the payload (32 bits, not 0), its sessions (32), CRC-32 of these 8 bytes and the payload; payload
    session bytes of the id, of the owner, of the record (32 bits each), kind of the owner (8); born_ns, touched_ns
            (64); id in UTF-8, owner, record as ``encode`` wrote it
    end     a block of 0 bytes and 0 sessions; all sessions (64 bits); BLAKE2b of everything before, 32 bytes

``restore`` reads the file twice: for the digest first, and nothing is loaded before that agrees; then the blocks. The
digest finds damage. It is no signature: who may write the file may write a valid one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import tempfile
import time
import zlib
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from erlmcp import core
from erlmcp.errors import ConfigurationError, LimitError, SnapshotError

MAGIC = b"ERLMCPSS"
VERSION = 1
HEADER = struct.Struct("<8sHHqq")
CRC = struct.Struct("<I")
BLOCK = struct.Struct("<II")
SESSION = struct.Struct("<IIIBqq")
TOTAL = struct.Struct("<Q")
DIGEST_BYTES = 32
END_BYTES = BLOCK.size + CRC.size + TOTAL.size + DIGEST_BYTES
WHOLE_BYTES_MIN = HEADER.size + CRC.size + END_BYTES
BLOCK_BYTES = 256 * 1024  # a block is written when it has reached this
READ_BYTES = 64 * 1024
DUMP_COUNT = 100
SESSION_BYTES_MAX = 2**31 - 1

Item = tuple[str, object, Hashable, int, int]
Encode = Callable[[Any], bytes]
Decode = Callable[[bytes], object]


class _Saved(NamedTuple):
    now_ns: int
    wall_ns: int
    total: int


def save(
    store: core.SessionStore,
    path: str | os.PathLike[str],
    encode: Encode = core.encode,
    *,
    now_ns: int | None = None,
) -> int:
    """Writes the live sessions of ``store`` to the file ``path``, readable by its owner alone; how many there were.

    ``encode`` makes bytes of a record; by default records are what JSON can hold. An owner is None or a str, int or
    bytes. ``now_ns`` is the time of the store's clock; without it, the last one that the store was told.

    The file at ``path`` is replaced as a whole or stays as it was. A crash may leave a ``.tmp`` file beside it. Raises
    OSError where the file cannot be written, TypeError for an owner of another type, LimitError for a session of 2 GiB,
    and what ``encode`` raises.
    """
    path = Path(path)
    if now_ns is not None:
        store.now_ns = now_ns
    number, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(number, "wb", buffering=0) as file:
            count = _write(file, store, encode)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _flush_folder(path.parent)
    return count


def restore(
    store: core.SessionStore,
    path: str | os.PathLike[str],
    decode: Decode = core.decode,
    *,
    now_ns: int | None = None,
    down_ns: int | None = None,
) -> int:
    """Loads the sessions of the file ``path`` into ``store``, which must be empty; how many there were.

    Ages and idle times go on from where they were. The time since the snapshot counts too, by the wall clock (a wall
    clock that went back counts as none), or as ``down_ns`` says: 0 lets everybody go on as if nothing had happened.
    Sessions that are due by then are handed over by the next ``store.expire()``. ``now_ns`` as for ``save``.

    Raises SnapshotError where the file is foreign, cut, altered, or of a version that is not known, LimitError where
    the store has too few places (for one owner, or in all), ConfigurationError where it is not empty, OSError where the
    file cannot be read, and what ``decode`` raises. The store is as it was then, and the file too.
    """
    if len(store):
        raise ConfigurationError("a snapshot is restored into an empty store; this one holds sessions")
    if down_ns is not None and down_ns < 0:
        raise ValueError(f"down_ns is 0 or more, got {down_ns}")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        saved = _verify(file, size)
        if saved.total > store.count_max:
            raise LimitError("count_max", store.count_max, f"the snapshot has {saved.total} sessions")
        if now_ns is not None:
            store.now_ns = now_ns
        if down_ns is None:
            down_ns = max(0, time.time_ns() - saved.wall_ns)
        shift_ns = store.now_ns - saved.now_ns - down_ns
        try:
            count = 0
            for items in _read(file, size - END_BYTES, decode):
                if any(item[4] > saved.now_ns for item in items):
                    raise SnapshotError("a session was touched after the snapshot was made")
                count += _load(store, items, shift_ns)
            if count != saved.total:
                raise SnapshotError(f"the file tells of {saved.total} sessions and has {count}")
        except BaseException:
            store.drain()
            raise
    return count


# -- writing -----------------------------------------------------------------------------------------------------------


def _write(file: BinaryIO, store: core.SessionStore, encode: Encode) -> int:
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)

    def put(*parts: bytes) -> None:
        data = b"".join(parts)
        digest.update(data)
        _write_all(file, data)

    header = HEADER.pack(MAGIC, VERSION, 0, store.now_ns, time.time_ns())
    put(header, CRC.pack(zlib.crc32(header)))
    total = cursor = 0
    block: list[bytes] = []
    block_bytes = 0
    while True:
        cursor, items = store.dump(cursor, DUMP_COUNT)
        for item in items:
            block.append(_pack(item, encode))
            block_bytes += len(block[-1])
            total += 1
            if block_bytes >= BLOCK_BYTES:
                put(*_pack_block(block))
                block, block_bytes = [], 0
        if not cursor:
            break
    if block:
        put(*_pack_block(block))
    put(*_pack_block([]), TOTAL.pack(total))
    _write_all(file, digest.digest())
    return total


def _write_all(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _pack(item: Item, encode: Encode) -> bytes:
    id, record, owner, born_ns, touched_ns = item
    id_bytes = id.encode()
    kind, owner_bytes = _pack_owner(owner)
    record_bytes = encode(record)
    if not isinstance(record_bytes, bytes):
        raise TypeError(f"encode gives bytes, not {type(record_bytes).__name__}")
    lengths = len(id_bytes), len(owner_bytes), len(record_bytes)
    if sum(lengths) > SESSION_BYTES_MAX:
        raise LimitError("session_bytes_max", SESSION_BYTES_MAX, f"the session {id[:64]!r} is too large for a snapshot")
    return b"".join((SESSION.pack(*lengths, kind, born_ns, touched_ns), id_bytes, owner_bytes, record_bytes))


def _pack_owner(owner: Hashable) -> tuple[int, bytes]:
    if owner is None:
        return 0, b""
    if isinstance(owner, str):
        return 1, owner.encode()
    if isinstance(owner, bytes):
        return 2, owner
    if isinstance(owner, int):
        return 3, b"%d" % owner
    raise TypeError(f"an owner in a snapshot is None or a str, bytes or int, not {type(owner).__name__}")


def _pack_block(sessions: list[bytes]) -> tuple[bytes, bytes, bytes]:
    payload = b"".join(sessions)
    head = BLOCK.pack(len(payload), len(sessions))
    return head, CRC.pack(zlib.crc32(payload, zlib.crc32(head))), payload


def _flush_folder(folder: Path) -> None:
    """The rename is on the disk after that. Systems without folders as files have no need of it."""
    if hasattr(os, "O_DIRECTORY"):
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


# -- reading -----------------------------------------------------------------------------------------------------------


def _verify(file: BinaryIO, size: int) -> _Saved:
    """Reads the whole file once; SnapshotError where it is not, to the last byte, what was written."""
    start = file.read(HEADER.size + CRC.size)
    if start[: len(MAGIC)] != MAGIC[: len(start)] or not start:
        raise SnapshotError("the file is no snapshot of sessions: it does not begin as one")
    if size < WHOLE_BYTES_MIN or len(start) < HEADER.size + CRC.size:
        raise SnapshotError(f"the file was cut: it has {size} bytes, at least {WHOLE_BYTES_MIN} wanted")
    if CRC.unpack_from(start, HEADER.size)[0] != zlib.crc32(start[: HEADER.size]):
        raise SnapshotError("the header of the snapshot was altered")
    _magic, version, _zero, now_ns, wall_ns = HEADER.unpack_from(start)
    if version != VERSION:
        raise SnapshotError(f"the snapshot is of version {version}; this release reads version {VERSION}")
    digest = hashlib.blake2b(start, digest_size=DIGEST_BYTES)
    left = size - len(start) - DIGEST_BYTES
    end = b""
    while left:
        data = file.read(min(left, READ_BYTES))
        if not data:
            raise SnapshotError("the file was cut while it was read")
        digest.update(data)
        left -= len(data)
        end = (end + data)[-TOTAL.size :]
    if file.read(DIGEST_BYTES) != digest.digest():
        raise SnapshotError("the snapshot was cut or altered: its digest does not agree")
    return _Saved(now_ns, wall_ns, TOTAL.unpack(end)[0])


def _read(file: BinaryIO, end: int, decode: Decode) -> Iterator[list[Item]]:
    """The sessions, block by block, of a file that was verified; it may have been written by somebody else for all
    that, so every length is checked."""
    at = HEADER.size + CRC.size
    file.seek(at)
    while at < end:
        head = _take(file, BLOCK.size + CRC.size, end - at)
        size, count = BLOCK.unpack_from(head)
        at += len(head)
        payload = _take(file, size, end - at)
        at += size
        if CRC.unpack_from(head, BLOCK.size)[0] != zlib.crc32(payload, zlib.crc32(head[: BLOCK.size])):
            raise SnapshotError(f"the block before byte {at} was altered while it was read")
        if not size or not count:
            raise SnapshotError(f"the block before byte {at} is empty")
        yield _unpack_block(payload, count, decode)
    if (head := _take(file, BLOCK.size + CRC.size, END_BYTES)) != b"".join(_pack_block([])):
        raise SnapshotError("the blocks do not end where the file ends")


def _take(file: BinaryIO, size: int, left: int) -> bytes:
    data = file.read(size) if size <= left else b""
    if len(data) != size:
        raise SnapshotError(f"a block of {size} bytes is announced where {max(left, 0)} are left")
    return data


def _unpack_block(payload: bytes, count: int, decode: Decode) -> list[Item]:
    items: list[Item] = []
    at = 0
    while at < len(payload):
        if len(payload) - at < SESSION.size:
            raise SnapshotError("a session does not end where its block ends")
        id_bytes, owner_bytes, record_bytes, kind, born_ns, touched_ns = SESSION.unpack_from(payload, at)
        at += SESSION.size
        fields = []
        for size in (id_bytes, owner_bytes, record_bytes):
            fields.append(payload[at : at + size])
            at += size
        if at > len(payload):
            raise SnapshotError("a session does not end where its block ends")
        try:
            id = fields[0].decode()
            owner = _unpack_owner(kind, fields[1])
        except ValueError as error:
            raise SnapshotError(f"a session has an id or an owner that cannot be read: {error}") from None
        items.append((id, decode(fields[2]), owner, born_ns, touched_ns))
    if len(items) != count:
        raise SnapshotError(f"a block tells of {count} sessions and has {len(items)}")
    return items


def _unpack_owner(kind: int, data: bytes) -> Hashable:
    if kind == 0 and not data:
        return None
    if kind == 1:
        return data.decode()
    if kind == 2:
        return data
    if kind == 3:
        return int(data)
    raise ValueError(f"no owner is of kind {kind} with {len(data)} bytes")


def _load(store: core.SessionStore, items: list[Item], shift_ns: int) -> int:
    try:
        return store.load(items, shift_ns)
    except LimitError:
        raise
    except ValueError as error:
        raise SnapshotError(f"a session cannot be loaded: {error}") from error
