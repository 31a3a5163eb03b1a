"""The registry: name -> entry, looked up by ``str``, ``bytes`` or borrowed bytes.

A name is a sequence of Unicode characters: the str ``"a"`` and its UTF-8 bytes ``b"a"`` are the same name. Not for
use from several threads at once without a lock of the caller's (the GIL is one).
"""

from collections.abc import Hashable, Sequence
from typing import TypeVar

_T = TypeVar("_T")

class Registry:
    """Names and what they stand for; at most ``count_max`` of them.

    Every entry has an owner (any hashable, ``None`` for nobody): the same owner may put a name again, another may
    not, and ``drop_owner`` takes away all that an owner put.
    """

    def __init__(self, count_max: int = 1_000_000) -> None:
        """``count_max`` is from 1 to 2**31 - 1, else ValueError."""
    @property
    def count_max(self) -> int: ...
    def __len__(self) -> int: ...
    def __contains__(self, name: object, /) -> bool:
        """False too for what cannot be a name."""
    def __getitem__(self, name: str | bytes, /) -> object:
        """KeyError where the name is not there, TypeError where it is neither str nor bytes."""
    def __setitem__(self, name: str | bytes, entry: object, /) -> None:
        """``put(name, entry)``: an entry without an owner."""
    def __delitem__(self, name: str | bytes, /) -> None:
        """KeyError where the name is not there."""
    def get(self, name: str | bytes, default: object = None) -> object: ...
    def get_many(self, names: Sequence[str | bytes], default: object = None) -> list[object]:
        """The entries of a list or tuple of names, in order, ``default`` for each that is not there."""
    def put(self, name: str | bytes, entry: object, owner: Hashable = None) -> None:
        """Sets the entry of a name that is free or has the same owner.

        Raises ConfigurationError where another owner has the name, LimitError where ``count_max`` names are there,
        UnicodeError (a ValueError) where the name cannot be written in UTF-8 or read from it.
        """
    def owner(self, name: str | bytes) -> Hashable:
        """The owner of a name; KeyError where it is not there."""
    def remove(self, name: str | bytes) -> bool:
        """Takes a name away, whoever owns it; says whether it was there."""
    def pop(self, name: str | bytes, default: _T = ...) -> object | _T:
        """Takes a name away and gives its entry; where it is not there the default, or KeyError without one."""
    def drop_owner(self, owner: Hashable) -> int:
        """Takes away every name that this owner put; how many there were. ValueError for ``None``, which owns
        nothing.
        """
    def names(self, prefix: str | bytes = "") -> list[str]:
        """All names that begin with ``prefix``, in no order that could be relied on."""
    def scan(self, cursor: int = 0, count: int = 100) -> tuple[int, list[tuple[str, object]]]:
        """Up to ``count`` names and entries, and the cursor to go on with, 0 at the end.

        A name that is there from the first call to the last is returned exactly once, whatever is put and removed
        between the calls; one that comes or goes meanwhile at most once for each time it was put. Keeps nothing in
        between.
        """
    def clear(self) -> None: ...
    def check(self) -> None:
        """Walks the whole structure; AssertionError where it contradicts itself."""
