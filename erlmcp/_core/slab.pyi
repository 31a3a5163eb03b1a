"""Fixed slots with handles that notice their own age."""

from typing import Generic, TypeVar

T = TypeVar("T")

class Slab(Generic[T]):
    """Lends a slot to an object and gives a handle for it: an int of 64 bits, never 0, good until the object is taken.

    A handle is ``generation << 32 | index``, and the generation grows each time the slot is given back, so a stale
    handle raises StaleHandleError and never finds the slot's next owner (until the generation wraps, after 2**32 - 1
    owners).

    Thread rule: Python threads may share a slab, as each method is one step under the GIL. The C face is for one thread
    at a time.
    """

    def __init__(self, capacity_max: int = 65536) -> None:
        """ValueError out of 1 to 2**32 - 2."""
    def __len__(self) -> int: ...
    def __contains__(self, handle: int) -> bool: ...
    @property
    def capacity_max(self) -> int: ...
    def put(self, item: T) -> int:
        """LimitError naming ``capacity_max`` where all slots are taken."""
    def get(self, handle: int) -> T:
        """StaleHandleError where the handle is not, or no longer, given out."""
    def take(self, handle: int) -> T:
        """Removes and gives the object. StaleHandleError as in ``get``."""
    def scan(self, cursor: int = 0, count: int = 100) -> tuple[int, list[tuple[int, T]]]:
        """Up to ``count`` handles and objects, and the cursor to go on with, 0 at the end. What is there from the first
        call to the last is given exactly once, whatever changes in between. ValueError for a negative cursor, and for a
        ``count`` below 1."""
    def clear(self) -> None:
        """Takes everything: all handles become stale."""
    def check(self) -> None:
        """AssertionError where an invariant is broken. O(n)."""
