"""Open-addressing hash table from byte strings to objects."""

from collections.abc import Iterator
from typing import Generic, TypeVar, overload

K = TypeVar("K", str, bytes, str | bytes)
V = TypeVar("V")
D = TypeVar("D")

class Table(Generic[K, V]):
    """A mapping whose keys are bytes or str; a str stands for its UTF-8 bytes, so ``"a"`` and ``b"a"`` are one key.

    The order of iteration is the table's own. Iterating takes O(1) memory; entries may be removed meanwhile, and
    RuntimeError is raised where one was added. Keys of other types raise TypeError, a str with a lone surrogate
    UnicodeEncodeError.

    Thread rule: Python threads may share a table, as each method is one step under the GIL. The C face is for one
    thread at a time.
    """

    def __init__(self, *, count_max: int = 1073741824, seed: int | None = None) -> None:
        """At most ``count_max`` entries (ValueError out of 1 to 2**30). ``seed`` keys the hash; without it, it
        differs from process to process, so that a peer cannot choose keys that collide."""
    def __len__(self) -> int: ...
    def __contains__(self, key: str | bytes) -> bool: ...
    def __getitem__(self, key: str | bytes) -> V:
        """KeyError where it is not there."""
    def __setitem__(self, key: K, value: V) -> None:
        """LimitError naming ``count_max`` for a new key in a full table."""
    def __delitem__(self, key: str | bytes) -> None:
        """KeyError where it is not there."""
    def __iter__(self) -> Iterator[K]: ...
    def keys(self) -> Iterator[K]: ...
    def values(self) -> Iterator[V]: ...
    def items(self) -> Iterator[tuple[K, V]]: ...
    @property
    def count_max(self) -> int: ...
    @overload
    def get(self, key: str | bytes, /) -> V | None: ...
    @overload
    def get(self, key: str | bytes, default: D, /) -> V | D: ...
    def put(self, key: K, value: V) -> bool:
        """As ``table[key] = value``. True where the key is new; a present key keeps the object it was first put
        with."""
    def remove(self, key: str | bytes) -> bool:
        """False where it was not there."""
    @overload
    def pop(self, key: str | bytes, /) -> V: ...
    @overload
    def pop(self, key: str | bytes, default: D, /) -> V | D:
        """Removes and gives the value; the default, or KeyError without one, where the key is not there."""
    def clear(self) -> None: ...
    def probe_max(self) -> int:
        """The most slots that finding a present key looks at; 0 for an empty table. O(n)."""
    def check(self) -> None:
        """AssertionError where an invariant is broken. O(n)."""
