"""The session store: id -> record, kept while it is used."""

from collections.abc import Hashable, Sequence

class SessionStore:
    """Records by id, each gone when it was idle for ``idle_ns`` or is older than ``age_ns``.

    The clock is pushed: nanoseconds of any clock that does not go back, by ``store.now_ns = ...`` once per batch of
    work or by an argument; a smaller time than the last is taken as the last. A record whose time has passed is not
    found any more, and stays in the store until ``expire`` (or the ``put`` that needs its place) hands it over. Ids
    are opaque and compared in full. Not for use from several threads at once without a lock of the caller's.
    """

    now_ns: int
    def __init__(
        self,
        count_max: int = 10_000,
        *,
        idle_ns: int = 1_800_000_000_000,
        age_ns: int = 0,
        owner_count_max: int = 0,
        now_ns: int = 0,
    ) -> None:
        """0 for ``idle_ns``, ``age_ns`` or ``owner_count_max`` means without that bound.

        ValueError where ``count_max`` is not from 1 to 2**31 - 1, or another one is negative.
        """
    @property
    def count_max(self) -> int: ...
    @property
    def idle_ns(self) -> int: ...
    @property
    def age_ns(self) -> int: ...
    @property
    def owner_count_max(self) -> int: ...
    def __len__(self) -> int:
        """Records held, those among them that have expired and were not handed over yet."""
    def __contains__(self, id: object, /) -> bool:
        """Does not touch; False too for what cannot be an id."""
    def __getitem__(self, id: str, /) -> object:
        """Touches the record; KeyError where it is not there or has expired, TypeError where the id is not a str."""
    def get(self, id: str, default: object = None) -> object:
        """Touches the record: its idle time starts anew."""
    def get_many(self, ids: Sequence[str], default: object = None) -> list[object]:
        """The records of a list or tuple of ids, in order, each touched, ``default`` for each that is not there."""
    def peek(self, id: str, default: object = None) -> object:
        """As ``get``, without a touch."""
    def put(
        self, id: str, record: object, owner: Hashable = None, now_ns: int | None = None
    ) -> Sequence[tuple[str, object]]:
        """Sets the record of an id, touched now; a record that is there and has not expired is replaced and keeps its
        age.

        Returns the (id, record) pairs that left the store unasked: the longest idle, where ``count_max`` records were
        there, and a record of the same id that had expired and was not handed over. Mostly empty.

        Raises LimitError where ``owner`` (any hashable, ``None`` for nobody) holds ``owner_count_max`` records
        already, and UnicodeError (a ValueError) where the id cannot be written in UTF-8.
        """
    def pop(self, id: str, default: object = None) -> object:
        """Takes the record out."""
    def owner_count(self, owner: Hashable) -> int:
        """How many records this owner holds; 0 for ``None``, which owns nothing."""
    def expire(self, now_ns: int | None = None) -> list[tuple[str, object]]:
        """Takes out all that have expired: first those idle too long, the longest first, then those too old, oldest
        first.
        """
    def next_deadline_ns(self) -> int | None:
        """The time at which the next record expires if nothing touches it; None where none will."""
    def scan(self, cursor: int = 0, count: int = 100) -> tuple[int, list[tuple[str, object]]]:
        """Up to ``count`` live ids and records, untouched, and the cursor to go on with, 0 at the end.

        An id that is there and live from the first call to the last is returned exactly once, whatever changes in
        between.
        """
    def drain(self) -> list[tuple[str, object]]:
        """Takes out all, the longest idle first."""
    def check(self) -> None:
        """Walks the whole structure; AssertionError where it contradicts itself."""
