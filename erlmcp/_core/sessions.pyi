"""The session store: id -> record, kept while it is used."""

from collections.abc import Hashable, Sequence

class SessionStore:
    """Records by id, each gone when it was idle for ``idle_ns`` or is older than ``age_ns``.

    The clock is pushed: nanoseconds of any clock that does not go back, by ``store.now_ns = ...`` once per batch of
    work or by an argument; a smaller time than the last is taken as the last. A record whose time has passed is not
    found any more, and stays in the store until ``expire`` (or the ``put`` that needs its place) hands it over. Ids
    are opaque and compared in full.

    The longest idle is the one whose last touch was first; of those touched at one time, the one born first. A touch
    is one write: the order is brought up to date by those who ask for it (``expire``, ``next_deadline_ns``, ``drain``,
    a ``put`` into a full store), for each record at most once per question.

    Threads may share a store: each method is one step under the GIL, except where owners compare equal or a record
    dies by code in Python, which may let another thread in; the store is whole at these points. The plain twin wants
    a lock of the caller's.
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
    @property
    def memory_bytes(self) -> int:
        """Bytes that the store holds in C memory, without the ids, the records and the owners: 190 to 400 for each
        session of a large store, by how full its tables are. 0 in the plain twin.
        """
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
    def touch(self, id: str, /) -> bool:
        """Starts the idle time anew; False where the id is not there or has expired."""
    def put(
        self, id: str, record: object, owner: Hashable = None, now_ns: int | None = None
    ) -> Sequence[tuple[str, object]]:
        """Sets the record of an id, touched now; a record that is there and has not expired is replaced and keeps its
        age.

        Returns the (id, record) pairs that left the store unasked: the longest idle, where ``count_max`` records were
        there, or a record of the same id that had expired and was not handed over. Mostly empty.

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
        """The time at which the next record expires if nothing touches it, exactly; None where none will."""
    def scan(self, cursor: int = 0, count: int = 100) -> tuple[int, list[tuple[str, object]]]:
        """Up to ``count`` live ids and records, untouched, and the cursor to go on with, 0 at the end.

        An id that is there and live from the first call to the last is returned exactly once, whatever changes in
        between.
        """
    def dump(self, cursor: int = 0, count: int = 100) -> tuple[int, list[tuple[str, object, Hashable, int, int]]]:
        """As ``scan``, each with all that ``load`` needs: (id, record, owner, born_ns, touched_ns)."""
    def load(self, items: Sequence[tuple[str, object, Hashable, int, int]], shift_ns: int = 0) -> int:
        """Puts in what ``dump`` gave, with its age and its idle time: all of a list or tuple, or nothing.

        ``shift_ns`` is added to the times, for a store whose clock is another one; a time may be negative then, down
        to -2**62. Those that are due are not found, and are handed over by ``expire``. Of equal times, the one that
        was loaded first counts as born first. Returns how many there were.

        Raises ValueError where an id is there already or not ``born_ns <= touched_ns <= now_ns`` after the shift,
        LimitError where ``count_max`` or ``owner_count_max`` is met, and TypeError for what is no such tuple.
        """
    def drain(self) -> list[tuple[str, object]]:
        """Takes out all, the longest idle first."""
    def check(self) -> None:
        """Walks the whole structure; AssertionError where it contradicts itself."""
