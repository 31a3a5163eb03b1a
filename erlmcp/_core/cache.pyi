"""The cache: a sieve with tags, negative entries and single-flight loading."""

from collections.abc import Sequence
from typing import Any, ClassVar, final

from erlmcp._core.sieve import Sieve

@final
class Ticket:
    """A load under way, given out by ``Cache.claim``."""

    @property
    def key(self) -> str | bytes: ...
    @property
    def is_stale(self) -> bool:
        """The key was put, removed or invalidated since: what the load brings is not stored any more."""
    @property
    def is_done(self) -> bool:
        """``finish`` or ``fail`` was called."""
    @property
    def is_stored(self) -> bool:
        """What the load brought is in the cache, or was."""
    @property
    def waiter_count(self) -> int: ...

class Cache(Sieve):
    """A sieve that knows who loads what.

    ``claim`` says in one step what to do: take the value, load it, or wait for the one who loads it. Whoever loads
    calls ``finish`` or ``fail`` with the ticket in the end, and wakes the waiters that these return. The cache itself
    calls nobody.

    A negative entry says that there is no value: ``claim`` answers with the error that was kept; for all other lookups
    nothing is there. An entry may have a time to live of its own, and up to 64 tags by which it is taken out with
    others. Keys, clock, budgets and threads: as in ``Sieve``.
    """

    HIT: ClassVar[int]
    NEGATIVE: ClassVar[int]
    LOAD: ClassVar[int]
    WAIT: ClassVar[int]

    def __init__(
        self,
        count_max: int = 10_000,
        *,
        bytes_max: int = 0,
        ttl_ns: int = 5_000_000_000,
        negative_ttl_ns: int = 0,
        stale_ns: int = 0,
        load_count_max: int = 65_536,
        now_ns: int = 0,
    ) -> None:
        """0 for ``bytes_max`` or ``ttl_ns`` means without that bound, 0 for ``negative_ttl_ns`` without such entries.

        ValueError where ``count_max`` is not from 1 to 2**28, ``load_count_max`` is below 1, or another one negative.
        """
    @property
    def negative_ttl_ns(self) -> int: ...
    @property
    def load_count_max(self) -> int: ...
    @property
    def load_count(self) -> int:
        """Loads under way whose result may still be stored."""
    def put(
        self,
        key: str | bytes,
        value: Any,
        size_bytes: int = 0,
        ttl_ns: int | None = None,
        tags: Sequence[str] = (),
    ) -> int:
        """As ``Sieve.put``. ``ttl_ns``: None for the cache's own, 0 for no end. A load of this key that is under way is
        stale from now on.

        LimitError for more than 64 tags; TypeError where they are not a list or tuple of str.
        """
    def put_negative(
        self, key: str | bytes, error: Any = None, ttl_ns: int | None = None, tags: Sequence[str] = ()
    ) -> int:
        """Sets a negative entry, for ``negative_ttl_ns`` where ``ttl_ns`` is None. Where that is 0 nothing is stored,
        and nothing is under the key any more."""
    def invalidate_tag(self, tag: str) -> int:
        """Takes out all entries with this tag, in time proportional to their number, which is returned. A load that
        began before, and ends with this tag, is not stored."""
    def invalidate_prefix(self, prefix: str | bytes) -> int:
        """The same for all keys that start so. Looks at every entry: for what is often invalidated, use a tag."""
    def claim(self, key: str | bytes, waiter: object = None) -> tuple[int, Any]:
        """What to do for a value, and with what:

        - ``HIT`` and the value,
        - ``NEGATIVE`` and the error that was kept,
        - ``LOAD`` and a Ticket: load it, and call ``finish`` or ``fail``,
        - ``WAIT`` and the Ticket of the load that is under way.

        With the last two ``waiter`` (any object; None for none) is among those whom the load's end will wake.
        LimitError where ``load_count_max`` loads are under way.
        """
    def join(self, ticket: Ticket, waiter: object) -> int:
        """Adds a waiter; how many there are then. The same object counts once. StaleHandleError after the end."""
    def leave(self, ticket: Ticket, waiter: object) -> int:
        """Takes a waiter back; how many are left. At 0 the load may be given up: ``fail(ticket)``."""
    def finish(
        self, ticket: Ticket, value: Any, size_bytes: int = 0, ttl_ns: int | None = None, tags: Sequence[str] = ()
    ) -> list[Any]:
        """Ends a load with its value, which is stored as by ``put`` unless it is stale; the waiters to wake.

        StaleHandleError where the load has ended already. After any other error the load is still under way.
        """
    def fail(self, ticket: Ticket, error: Any = None, ttl_ns: int | None = None, tags: Sequence[str] = ()) -> list[Any]:
        """Ends a load without a value; the waiters to wake.

        With an ``error`` and a time to live (None: ``negative_ttl_ns``) that is not 0, a negative entry is stored,
        unless the load is stale or a value is held that ``get_stale`` still gives out.
        """
