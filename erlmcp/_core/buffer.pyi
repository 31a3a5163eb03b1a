"""Growable bytes with a read mark and a write mark."""

from typing_extensions import Buffer as BytesLike

class Buffer:
    """Bytes put at the end and taken from the front, never more than ``bytes_max`` of them at a time.

    Growing doubles the memory; what was consumed is reused. The C face is in buffer.pxd.

    Thread rule: Python threads may share a buffer, as each method is one step under the GIL. The C face is for one
    thread at a time.
    """

    def __init__(self, bytes_max: int = 67108864, *, capacity: int = 0) -> None:
        """``capacity`` bytes are allocated at once. ValueError for ``bytes_max`` below 1, LimitError for a larger
        capacity."""
    def __len__(self) -> int:
        """Bytes put and not yet consumed."""
    @property
    def capacity(self) -> int:
        """Bytes of memory held."""
    @property
    def bytes_max(self) -> int: ...
    def put(self, data: BytesLike) -> None:
        """Appends a copy. LimitError naming ``bytes_max`` where it does not fit; the buffer is then as it was."""
    def peek(self, size: int | None = None) -> bytes:
        """A copy of the first ``size`` bytes, of all without it; fewer where there are fewer. ValueError below 0."""
    def take(self, size: int | None = None) -> bytes:
        """``peek`` and ``consume`` in one."""
    def consume(self, size: int) -> None:
        """Drops the first ``size`` bytes. ValueError where there are fewer, or below 0."""
    def truncate(self, size: int) -> None:
        """Keeps only the first ``size`` bytes. ValueError where there are fewer, or below 0."""
    def compact(self) -> None:
        """Moves the bytes to the front of the memory."""
    def clear(self) -> None:
        """Drops all bytes; keeps the memory."""
    def trim(self, keep: int = 0) -> None:
        """Gives the memory back where the buffer is empty and holds more than ``keep`` bytes of it."""
    def check(self) -> None:
        """AssertionError where the marks are out of order."""
