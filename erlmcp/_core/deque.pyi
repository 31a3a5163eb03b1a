"""A work-stealing deque."""

from typing import Generic, TypeVar

T = TypeVar("T")
D = TypeVar("D")

class WorkStealingDeque(Generic[T]):
    """A deque whose owner works at one end, and all others take from the other (Chase and Lev, SPAA 2005).

    The owner pushes and pops at the bottom, last in, first out: what it just made is at hand and its memory is warm.
    Thieves steal at the top, the oldest first, which is the work that has waited longest. Full and empty are answers,
    not errors.

    Thread rule: the owner is the thread that made the deque, or the last one that called ``own()``. In any other thread
    ``push``, ``push_many``, ``pop`` and ``pop_or`` raise WrongThreadError; all else is for any thread. Each method is
    one step under the GIL. Threads without the GIL share the C face (deque.pxd), whose items are pointers of theirs.

    The places grow by doubling up to the capacity; outgrown ones are kept until the deque dies.
    """

    def __init__(self, capacity: int = 65536) -> None:
        """``capacity`` is rounded up to a power of two, at least 2. ValueError below 1, LimitError above 2**30."""
    def own(self) -> None:
        """The calling thread is the owner from now on: for a deque that is made in one thread and worked in another."""
    @property
    def is_owner(self) -> bool:
        """Whether the calling thread is."""
    def __len__(self) -> int: ...
    @property
    def capacity(self) -> int:
        """Items that it holds at most."""
    def push(self, item: T) -> bool:
        """False where the deque is full. WrongThreadError for all but the owner; MemoryError where it could not grow,
        and it is as it was."""
    def push_many(self, items: list[T] | tuple[T, ...]) -> int:
        """Pushes from the front of ``items`` as many as there are places for, and says how many. Thieves see none of
        them or all. TypeError for anything but a list or a tuple; else as ``push``."""
    def pop(self) -> T | None:
        """The item that was pushed last; None where the deque is empty (``pop_or`` tells that from an item None).
        WrongThreadError for all but the owner."""
    def pop_or(self, default: D) -> T | D:
        """The item that was pushed last; the default where the deque is empty. WrongThreadError for all but the
        owner."""
    def steal(self) -> T | None:
        """The item that was pushed first; None where the deque is empty. For any thread, the owner too."""
    def steal_or(self, default: D) -> T | D:
        """The item that was pushed first; the default where the deque is empty."""
    def steal_many(self, count: int = 1073741824) -> list[T]:
        """Half of what there is, rounded up, and at most ``count``, the oldest first. ValueError below 0."""
    def clear(self) -> None:
        """Drops what is there now, the oldest first. For any thread."""
    def check(self) -> None:
        """AssertionError where an invariant is broken."""

class WordDeque:
    """Whole numbers through a deque between threads that do not hold the GIL: the measure of the C face.

    A tally is what a thread got: how many, their sum, and the sum of their squares, both modulo 2**64. Tallies of all
    threads together show a number that was lost, or given twice. For one owner, once, and any number of thieves.
    """

    def __init__(self, capacity: int = 65536) -> None:
        """As for ``WorkStealingDeque``."""
    def work(self, first: int, count: int, pop_every: int = 0) -> tuple[int, int, int]:
        """The owner: pushes ``first`` (at least 1), ``first + 1`` ..., and pops one whenever the deque is full, and
        after each number that ``pop_every`` divides; in the end, all that are left. Its tally. MemoryError where the
        deque could not grow; the thieves end then too."""
    def steal(self, half: bool = False) -> tuple[int, int, int]:
        """A thief: steals one at a time, or half of what there is, until the owner is done and nothing is left. Its
        tally."""
    def check(self) -> None:
        """AssertionError where an invariant is broken; while no thread is in the deque."""
