"""Keys in an order that can be changed in O(1): recency, expiry."""

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar, overload

K = TypeVar("K", bound=Hashable)
D = TypeVar("D")

class Chain(Generic[K]):
    """Hashable keys, each once, from the oldest to the newest. Every verb but ``clear`` and ``check`` is O(1).

    Iterating goes from the oldest to the newest and raises RuntimeError where the chain changed meanwhile.

    Thread rule: Python threads may share a chain, as each method is one step under the GIL. Where keys compare by code
    in Python another thread may come in; the chain is whole then. The C face is for one thread at a time.
    """

    def __init__(self) -> None: ...
    def __len__(self) -> int: ...
    def __contains__(self, key: Hashable) -> bool: ...
    def __iter__(self) -> Iterator[K]: ...
    def add(self, key: K) -> bool:
        """Puts a key at the newest end; False, and nothing moves, where it is in the chain already."""
    def move_to_end(self, key: K, last: bool = True) -> None:
        """To the newest end, or with ``last=False`` to the oldest. KeyError where it is not there."""
    def remove(self, key: Hashable) -> bool:
        """False where it was not there."""
    @overload
    def oldest(self) -> K | None: ...
    @overload
    def oldest(self, default: D) -> K | D:
        """The default where the chain is empty; so with the three that follow."""
    @overload
    def newest(self) -> K | None: ...
    @overload
    def newest(self, default: D) -> K | D: ...
    @overload
    def pop_oldest(self) -> K | None: ...
    @overload
    def pop_oldest(self, default: D) -> K | D: ...
    @overload
    def pop_newest(self) -> K | None: ...
    @overload
    def pop_newest(self, default: D) -> K | D: ...
    def clear(self) -> None: ...
    def check(self) -> None:
        """AssertionError where an invariant is broken. O(n)."""
