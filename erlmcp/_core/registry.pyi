"""The registry: name -> entry, looked up by ``str``, ``bytes`` or borrowed bytes.

A name is a sequence of Unicode characters: the str ``"a"`` and its UTF-8 bytes ``b"a"`` are the same name.
"""

from collections.abc import Hashable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

_T = TypeVar("_T")

class Registry:
    """Names and what they stand for; at most ``count_max`` of them.

    Every name has an owner (any hashable, ``None`` for nobody): the same owner may put a name again, another may not,
    and ``drop_owner`` takes away all that an owner put. The registry keeps owners alive; where an owner's death should
    take its names away, put them for its id, and say ``weakref.finalize(owner, registry.drop_owner, its_id)``.

    Names can be tied: a key (a transport) is bound to a name (a server) until either goes, and a name is a member of
    groups as long as it is there. Whoever wants to know of changes sets a watch. The registry calls nobody: it queues
    an event for each watch, and who changes the registry, or a loop beside, takes them and calls::

        registry.watch("tools/", on_tool, is_prefix=True)
        registry.put("tools/echo", echo)
        for callback, kind, name, entry in registry.take_events():
            callback(kind, name, entry)  # on_tool("added", "tools/echo", echo)

    Threads: every method is one step for the threads of Python (but for the code of owners' ``__eq__`` and
    ``__hash__``, and that of objects that die). ``find_hashes`` lets go of the GIL for large arrays; whoever changes
    the registry waits until it is through.
    """

    def __init__(
        self, count_max: int = 1_000_000, *, bond_count_max: int = 1_000_000, event_count_max: int = 65_536
    ) -> None:
        """``count_max`` is from 1 to 2**31 - 1, else ValueError. ``bond_count_max`` bounds bindings, memberships and
        watches together, ``event_count_max`` the events that wait to be taken; both 1 or more, else ValueError.
        """
    @property
    def count_max(self) -> int: ...
    @property
    def memory_bytes(self) -> int:
        """Bytes that the registry holds in C memory, without names, entries, owners and what ties names: 215 to 360
        for each name of a large one, by how full its tables are. A guess in the plain twin.
        """
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
        """The entries of a list or tuple of names, in order, ``default`` for each that is not there. Asks for the
        memory of many at a time: with 100,000 names and more, several times as fast as one by one.
        """
    def hashes(self, names: Sequence[str | bytes]) -> NDArray[np.uint64]:
        """The hashes of a list or tuple of names, for ``find_hashes`` of registries of this process; 0 for a str
        without a UTF-8 form.
        """
    def find_hashes(self, hashes: Any, out: Any = None) -> NDArray[np.int64]:
        """The indices of names by their hashes, -1 for each that is not there. From 512 on without the GIL.

        ``hashes`` is a contiguous array of uint64 (numpy, ``array.array``, a memoryview); ``out`` one of int64 of the
        same size to write into, which is then what is given, or None for a new numpy array. They may share their
        memory if they begin at the same place. An index is a name's own as long as it is there; it lies below the
        greatest number of names that there ever was at a time (rounded up to a power of two), so a numpy array
        can have a column for every name. Names are told apart by 64 keyed bits, of which 56 are random.

        TypeError where the elements are others, ValueError or BufferError where an array does not lie in one piece,
        cannot be written, or has another size.
        """
    def entries_at(self, indices: Any, default: object = None) -> list[object]:
        """The entries of the names with these indices (a contiguous array of int64), ``default`` for each that is not
        in use.
        """
    def names_at(self, indices: Any, default: object = None) -> list[object]:
        """The names with these indices, as ``entries_at``."""
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
    def bind(self, key: str | bytes, name: str | bytes) -> None:
        """Binds a key, which may be a name too, to a name that is there: ``binding(key)`` gives it until ``unbind``,
        until the key is bound to another, or until a name goes that is either of them.

        KeyError where the name is not there, LimitError naming ``bond_count_max``.
        """
    def binding(self, key: str | bytes) -> str | None:
        """The name that a key is bound to."""
    def bindings(self, name: str | bytes) -> list[str]:
        """The keys that are bound to a name, in the order in which they were."""
    def unbind(self, key: str | bytes) -> bool:
        """Whether the key was bound."""
    def join(self, group: str | bytes, name: str | bytes) -> bool:
        """Makes a name that is there a member of a group, until it leaves or goes; False where it is one already.

        KeyError where the name is not there, LimitError naming ``bond_count_max``.
        """
    def leave(self, group: str | bytes, name: str | bytes) -> bool:
        """Whether the name was a member."""
    def members(self, group: str | bytes) -> list[str]:
        """The names in a group, in the order in which they joined."""
    def groups(self, name: str | bytes | None = None) -> list[str]:
        """The groups of a name, in the order in which it joined; all that have members (in no order) for None."""
    def watch(self, name: str | bytes, callback: Any, is_prefix: bool = False) -> int:
        """From now on, each change of this name, there yet or not, or of each name that begins with it, queues an
        event with ``callback`` (any object; it is not called). The number to ``unwatch`` it by.

        LimitError naming ``bond_count_max``.
        """
    def unwatch(self, number: int) -> bool:
        """Whether there was such a watch. Its events that wait already stay."""
    def take_events(self) -> list[tuple[Any, str, str, Any]]:
        """The events since the last call, as (callback, kind, name, entry), in the order of the changes.

        ``kind`` is "added", "changed" (put again, by the same owner) or "removed"; ``entry`` is the new one, or the one
        that is gone. Where ``event_count_max`` events wait, further ones are lost, and ``lost_event_count`` grows: look
        at the names themselves then.
        """
    @property
    def lost_event_count(self) -> int:
        """Events that were lost since the beginning."""
    def names(self, prefix: str | bytes = "") -> list[str]:
        """All names that begin with ``prefix``, in no order that could be relied on. O(n)."""
    def scan(self, cursor: int = 0, count: int = 100) -> tuple[int, list[tuple[str, object]]]:
        """Up to ``count`` names and entries, and the cursor to go on with, 0 at the end.

        A name that is there from the first call to the last is returned exactly once, whatever is put and removed
        between the calls; one that comes or goes meanwhile at most once for each time it was put. Keeps nothing in
        between.
        """
    def clear(self) -> None:
        """Takes all names away, with what ties them. Watches stay, and learn of it."""
    def check(self) -> None:
        """Walks the whole structure; AssertionError where it contradicts itself."""
