"""Growable bytes with a read mark and a write mark, in plain Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from erlmcp.errors import LimitError

if TYPE_CHECKING:
    from typing_extensions import Buffer as BytesLike


class Buffer:
    def __init__(self, bytes_max: int = 1 << 26, *, capacity: int = 0) -> None:
        if bytes_max < 1:
            raise ValueError(f"bytes_max must be at least 1, got {bytes_max}")
        if capacity < 0:
            raise OverflowError("can't convert negative value to size_t")
        if capacity > bytes_max:
            raise LimitError("bytes_max", bytes_max, f"{capacity} bytes")
        self.bytes_max = bytes_max
        self._data = bytearray()

    def __len__(self) -> int:
        return len(self._data)

    @property
    def capacity(self) -> int:
        return len(self._data)

    def put(self, data: BytesLike) -> None:
        size = memoryview(data).nbytes
        if len(self._data) + size > self.bytes_max:
            raise LimitError("bytes_max", self.bytes_max, f"{len(self._data) + size} bytes")
        self._data += memoryview(data)

    def peek(self, size: int | None = None) -> bytes:
        if size is not None and size < 0:
            raise ValueError(f"size must be at least 0, got {size}")
        return bytes(self._data[:size])

    def take(self, size: int | None = None) -> bytes:
        taken = self.peek(size)
        del self._data[: len(taken)]
        return taken

    def consume(self, size: int) -> None:
        if not 0 <= size <= len(self._data):
            raise ValueError(f"cannot consume {size} of {len(self._data)} bytes")
        del self._data[:size]

    def truncate(self, size: int) -> None:
        if not 0 <= size <= len(self._data):
            raise ValueError(f"cannot keep {size} of {len(self._data)} bytes")
        del self._data[size:]

    def compact(self) -> None:
        pass

    def clear(self) -> None:
        self._data.clear()

    def trim(self, keep: int = 0) -> None:
        if keep < 0:
            raise OverflowError("can't convert negative value to size_t")

    def check(self) -> None:
        if len(self._data) > self.bytes_max:
            raise AssertionError("buffer: more bytes than bytes_max")
