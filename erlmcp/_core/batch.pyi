"""The batch: items on their way out, gathered until one write or one call is worth it."""

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

class Batch(Generic[T]):
    """Items in order; due by count, by bytes or by age, whichever comes first.

    Items are any objects, and come out as they went in. The clock is pushed: nanoseconds of any clock that does not
    go back, by ``batch.now_ns = ...`` once per round of work or by an argument; a smaller time than the last is taken
    as the last. Being due is a word to the owner, given as the answer of ``add`` and ``put``, who may go on putting up
    to ``held_count_max`` and ``held_bytes_max``.

    *Alone.* The owner sets ``batch.lone = True`` while nothing of its is in flight (and False when it sends): then an
    item that is the only one here is due at once, which it learns from ``add`` answering True, so that a single
    request pays nothing for batching. Items that come while the first is in flight gather as usual.

    *Adaptive.* With ``latency_goal_ns`` the count that makes a batch due, ``count_due``, moves between ``count_min``,
    where it starts, and ``count_max``: each ``observe`` of a latency up to the goal adds ``max(count_max // 64, 1)``,
    each one above it takes off a quarter (additive increase, multiplicative decrease: Chiu and Jain, 1989). Integers
    only: the same observations give the same counts.

    Under the global interpreter lock each call is one step, so threads may share a batch; who takes, takes all.
    """

    lone: bool
    now_ns: int
    def __init__(
        self,
        count_max: int = 64,
        bytes_max: int = 65536,
        age_ns: int = 1_000_000,
        *,
        lone: bool = False,
        count_min: int = 1,
        latency_goal_ns: int = 0,
        held_count_max: int = 1_048_576,
        held_bytes_max: int = 67_108_864,
        now_ns: int = 0,
    ) -> None:
        """Due with ``count_max`` items, ``bytes_max`` bytes, or a first item of ``age_ns``; 0 for ``latency_goal_ns``
        is without one. ValueError where one is out of its range: counts and bytes are at least 1, times at least 0,
        ``count_min`` is at most ``count_max``.
        """
    @property
    def count_max(self) -> int: ...
    @property
    def bytes_max(self) -> int: ...
    @property
    def age_ns(self) -> int: ...
    @property
    def count_min(self) -> int: ...
    @property
    def latency_goal_ns(self) -> int: ...
    @property
    def held_count_max(self) -> int: ...
    @property
    def held_bytes_max(self) -> int: ...
    @property
    def count_due(self) -> int:
        """How many items make the batch due now; ``count_max`` where there is no latency goal."""
    @property
    def byte_count(self) -> int:
        """Bytes gathered, by the sizes that ``put`` was told."""
    def __len__(self) -> int:
        """Items gathered."""
    def add(self, item: T, /) -> bool:
        """``put`` at the time last told, with the item's own size; the quickest way in."""
    def put(self, item: T, now_ns: int | None = None, size: int | None = None) -> bool:
        """Adds an item; says whether the batch is due now. ``size`` is what it counts for in bytes: without it the
        length of a ``bytes``, and 0 for anything else.

        LimitError where ``held_count_max`` or ``held_bytes_max`` would be passed, ValueError for a negative size; the
        batch is unchanged then.
        """
    def add_many(self, items: Iterable[T], /) -> bool:
        """Adds all items of an iterable at the time last told, or none where that raises LimitError; says whether the
        batch is due now."""
    def is_due(self, now_ns: int | None = None) -> bool: ...
    def due_ns(self) -> int | None:
        """When the batch is due by age; None where it is empty. What is due by count, bytes or as a lone item is due
        since its first item came.
        """
    def take(self) -> list[T]:
        """All items in order, which are then gone from the batch."""
    def take_bytes(self) -> bytes:
        """All items joined in order, which are then gone; b"" where there are none. A single one comes back as it is.
        TypeError where an item is not ``bytes``; the batch is unchanged then.
        """
    def observe(self, latency_ns: int, count: int | None = None) -> int:
        """Tells how long a batch took; gives the new ``count_due``. ``count`` is how many items it had: where that is
        less than ``count_due``, it was quick because it was small, and nothing grows. ValueError below 0.
        """
    @staticmethod
    def split(
        items: Iterable[T], results: Iterable[Any] | BaseException
    ) -> tuple[list[tuple[T, Any]], list[tuple[T, BaseException]]]:
        """What became of each item of a batch: ``(done, failed)``, pairs of the item itself and its result, in order.

        ``results`` has one entry for each item (ValueError otherwise); an entry that is an exception is the failure of
        that item and of no other. One exception in place of all entries is the failure of each.
        """
    def check(self) -> None:
        """AssertionError where the counts contradict the items."""
