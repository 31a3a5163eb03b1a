"""Correlation: the id of a request that was sent -> what waits for its answer."""

from collections.abc import Iterable

class Correlation:
    """Ids (int or str, never mixed up: 1 is not "1") and their pending objects, each with an optional deadline.

    The clock is an argument: nanoseconds of any clock that does not go back, at most 2**63 - 1 (OverflowError). An int
    id is from -2**63 to 2**63 - 1, more than the 53 bits that every JSON reader agrees on (RFC 8259, section 6); a
    ``bool`` or a ``float`` is no id, though ``True == 1 == 1.0``. At most ``count_max`` ids wait at a time.

    Nothing is read or written outside of memory. Who wants to know after a crash which calls were in flight keeps a
    journal beside it: ``erlmcp.stores.journal.JournaledCorrelation``.

    Under the global interpreter lock each call is one step, so threads may share a correlation: what was put is taken
    by one of them.
    """

    def __init__(self, count_max: int = 1_000_000) -> None:
        """``count_max`` is from 1 to 2**31 - 1, else ValueError."""
    @property
    def count_max(self) -> int: ...
    def __len__(self) -> int: ...
    def __contains__(self, id: object, /) -> bool:
        """False too for what cannot be an id."""
    def next_id(self) -> int:
        """1, 2, 3 ...: an int that was not given out before and is not waiting now."""
    def put(self, id: str | int, pending: object, deadline_ns: int | None = None) -> None:
        """Keeps ``pending`` until it is taken, expires or is drained.

        Raises KeyError where the id is waiting already, LimitError where ``count_max`` are, TypeError for an id that
        is neither str nor int (``True`` and ``1.0`` are neither), OverflowError for an int of more than 64 bits,
        ValueError for a negative deadline, UnicodeError (a ValueError) for a str that cannot be written in UTF-8.
        """
    def put_next(self, pending: object, deadline_ns: int | None = None) -> int:
        """``put`` under ``next_id()``, which it gives: the quickest way in."""
    def put_many(self, ids: Iterable[str | int], pendings: Iterable[object], deadline_ns: int | None = None) -> None:
        """``put`` of each pair, all with the same deadline. Where one of them raises, none is put. ValueError too where
        there are not as many pendings as ids.
        """
    def take(self, id: object) -> object | None:
        """Takes out what waits under the id; None where nothing does, whatever the id is."""
    def take_many(self, ids: Iterable[object]) -> list[object | None]:
        """``take`` of each id, in order. All are tried, so an id that is there twice is taken once, then None."""
    def take_token(self, token: bytes) -> object | None:
        """``take`` by the id's JSON text: digits, or a string in its quotes. None for what is no such text."""
    def expire(self, now_ns: int) -> list[tuple[str | int, object]]:
        """Takes out all whose deadline is at or before ``now_ns``, the earliest deadline first, then in the order of
        put.
        """
    def drain(self) -> list[tuple[str | int, object]]:
        """Takes out all, in the order of put."""
    def scan(self, cursor: int = 0, count: int = 100) -> tuple[int, list[tuple[str | int, object]]]:
        """Up to ``count`` of the ids that wait and their objects, in no order, and the cursor to go on with, 0 at the
        end: a page may be the last one and empty. What waits from the first call to the last is given exactly once,
        whatever changes in between. ValueError for a negative cursor, and for a ``count`` below 1.
        """
    def next_deadline_ns(self) -> int | None:
        """When ``expire`` is to be called next: not later than the earliest deadline; None where there is none."""
    def check(self) -> None:
        """Walks the whole structure; AssertionError where it contradicts itself."""
