"""Three bounded priority lanes, with ageing."""

from typing import Final, Generic, TypeVar

T = TypeVar("T")
D = TypeVar("D")

CRITICAL: Final = 0
NORMAL: Final = 1
BULK: Final = 2

class Lanes(Generic[T]):
    """Three queues of which the higher goes first, and the lower moves all the same.

    A pop takes from the highest lane that holds something, and passes over those below it. A lane that was passed over
    ``age_pops`` times since its last turn has the next one (of two, the higher first); such a turn passes over nobody.
    So a critical item waits for at most two items of other lanes once those critical before it are gone, and of
    ``age_pops + 2`` pops in a row at least one is a normal and one a bulk item, as long as there are any. Within a lane
    items keep their order.

    Thread rule: Python threads may share it, as the GIL makes each method one step. Its C face is for one thread, or
    for several under one lock.
    """

    def __init__(self, capacity: int, *, age_pops: int = 64) -> None:
        """``capacity`` places for each lane, rounded up to a power of two, at least 2. ValueError below 1 and for
        ``age_pops`` out of 1 to 2**32 - 1, LimitError above 2**30 places."""
    def __len__(self) -> int: ...
    @property
    def capacity(self) -> int:
        """Places of each lane."""
    @property
    def age_pops(self) -> int: ...
    @property
    def counts(self) -> tuple[int, int, int]:
        """Items held, critical, normal and bulk."""
    def count(self, lane: int) -> int:
        """Items held in one lane. ValueError for a lane that is none."""
    def push(self, item: T, lane: int = 1) -> bool:
        """False where the lane is full. ValueError for a lane that is none."""
    def push_many(self, items: list[T] | tuple[T, ...], lane: int = 1) -> int:
        """Pushes from the front of ``items`` as many as the lane has places for, and says how many. TypeError for
        anything but a list or a tuple; ValueError as ``push``."""
    def pop(self) -> T | None:
        """The next item; None where all lanes are empty (``pop_or`` tells that from an item None)."""
    def pop_or(self, default: D) -> T | D:
        """The next item; the default where all lanes are empty."""
    def pop_many(self, count: int) -> list[T]:
        """Up to ``count`` items, those that so many pops would give. ValueError below 0."""
    def clear(self) -> None:
        """Drops what is there now."""
    def check(self) -> None:
        """AssertionError where an invariant is broken."""
