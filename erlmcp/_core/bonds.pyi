"""What ties names to each other: bindings, groups, watches.

``Registry`` has all of this for its own names; here it stands alone, for names that something else keeps.
"""

from typing import Any

class Bonds:
    """Bindings, memberships and watches, ``count_max`` of them altogether. Names are str, or bytes in UTF-8."""

    def __init__(self, count_max: int = 1_000_000, event_count_max: int = 65_536) -> None:
        """ValueError where one of them is less than 1."""
    @property
    def count_max(self) -> int: ...
    @property
    def event_count_max(self) -> int: ...
    @property
    def lost_event_count(self) -> int:
        """Events that found ``event_count_max`` waiting, and were dropped; and those that there was no memory for."""
    def __len__(self) -> int:
        """Bindings, memberships and watches."""
    def bind(self, key: str | bytes, name: str | bytes) -> None:
        """Binds a key to a name, and no longer to the one before. LimitError naming ``bond_count_max``."""
    def binding(self, key: str | bytes) -> str | None:
        """The name that a key is bound to."""
    def bindings(self, name: str | bytes) -> list[str]:
        """The keys that are bound to a name, in the order in which they were."""
    def unbind(self, key: str | bytes) -> bool:
        """Whether the key was bound."""
    def join(self, group: str | bytes, name: str | bytes) -> bool:
        """False where the name is a member already. LimitError naming ``bond_count_max``."""
    def leave(self, group: str | bytes, name: str | bytes) -> bool:
        """Whether the name was a member."""
    def members(self, group: str | bytes) -> list[str]:
        """In the order in which they joined."""
    def groups(self, name: str | bytes | None = None) -> list[str]:
        """The groups of a name, in the order in which it joined; all that have members (in no order) for None."""
    def watch(self, name: str | bytes, callback: Any, is_prefix: bool = False) -> int:
        """Queues an event with ``callback`` (any object) whenever ``tell`` tells of this name, or of one that begins
        with it; the number to ``unwatch`` it by. LimitError naming ``bond_count_max``.
        """
    def unwatch(self, number: int) -> bool:
        """Whether there was such a watch. Its events that wait already stay."""
    def tell(self, kind: str | bytes, name: str | bytes, entry: Any = None) -> None:
        """Queues an event for each watch that the name meets, in the order of the watches."""
    def take_events(self) -> list[tuple[Any, str, str, Any]]:
        """The events since the last call, as (callback, kind, name, entry)."""
    def forget(self, name: str | bytes) -> None:
        """Drops what ties the name: where it is a key, where keys are bound to it, where it is a member."""
    def clear(self) -> None:
        """Drops all bindings and memberships. Watches and events stay."""
    def check(self) -> None:
        """AssertionError where an invariant is broken. O(n)."""
