"""The pool: things that are expensive to make, lent and taken back."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, final

@final
class Lease:
    """One loan of a member: good until it is taken back, retired or reclaimed, and stale from then on for ever.

    ``with pool.lend() as member`` takes the member back at the end, whatever happened. A Lease does not keep its pool
    alive; when the pool goes, it is stale.
    """

    @property
    def handle(self) -> int:
        """The number of the loan: 64 bits, never 0, another one for each loan (of a place, for 2**31 loans)."""
    @property
    def member(self) -> Any:
        """What is lent. StaleHandleError after the end of the loan."""
    def __enter__(self) -> Any:
        """The member. StaleHandleError after the end of the loan."""
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        """As ``take_back``, of the pool that it is from. StaleHandleError where the loan ended before."""

@final
class Leak:
    """A loan that goes on, as ``Pool.leaks`` reports it. ``is_lost``: nobody refers to its Lease any more, so that
    nobody can take it back by it (never known for a loan through the C face).
    """

    handle: int
    member: Any
    who: Any
    age_ns: int
    is_lost: bool

class Pool:
    """Lends members, the one that came back last first, and writes down who has them, and since when.

    A member is any object. The pool makes none, closes none and waits for none: it says what to do. Where ``lend``
    gives None, ``reserve`` says whether one may be made (it then keeps a place, until ``add``, ``lend_new`` or
    ``unreserve``) or whether to wait for one to come back. A member that has to go (it is older than ``age_ns``, or
    was idle for ``idle_ns`` while there are more than ``count_min``) is not lent any more and comes out of
    ``expire``, for the caller to close; until then it counts.

    The clock is pushed: nanoseconds of any clock that does not go back, by ``pool.now_ns = ...`` once per batch of
    work; a smaller time than the last is taken as the last. Times are from 0 to 2**62 - 1.

    Threads: every method is one step for the threads of Python, and those that change the pool take its lock against
    threads of C that use the C face at the same time.
    """

    now_ns: int
    def __init__(
        self, count_max: int = 64, *, count_min: int = 0, idle_ns: int = 0, age_ns: int = 0, now_ns: int = 0
    ) -> None:
        """0 for ``idle_ns`` or ``age_ns`` means without that bound.

        ValueError where ``count_max`` is not from 1 to 2**31 - 1, ``count_min`` not from 0 to ``count_max``, or a time
        out of range.
        """
    @property
    def count_max(self) -> int: ...
    @property
    def count_min(self) -> int: ...
    @property
    def idle_ns(self) -> int: ...
    @property
    def age_ns(self) -> int: ...
    def __len__(self) -> int:
        """Members: idle, lent, and leaving."""
    @property
    def idle_count(self) -> int: ...
    @property
    def lent_count(self) -> int: ...
    @property
    def room(self) -> int:
        """How many more may be made, reserved places counted as taken."""
    @property
    def shortage(self) -> int:
        """How many should be made to have ``count_min``, those that are reserved counted and those leaving not; at
        most ``room``.
        """
    def stats(self) -> dict[str, int]:
        """count, idle_count, lent_count, leaving_count, opening_count (reserved); and since the beginning:
        added_total, lent_total, retired_total (closed because of age, idleness or ``retire``), reclaimed_total.
        """
    def reserve(self) -> bool:
        """True: make a member, a place is kept for it. False: there are ``count_max``."""
    def unreserve(self) -> None:
        """Gives a reserved place up. ValueError where none is reserved."""
    def add(self, member: object, *, is_reserved: bool = False) -> None:
        """A new member, idle; in a reserved place where ``is_reserved``, which is reserved no more.

        LimitError naming ``count_max`` where the pool is full, ValueError where nothing is reserved.
        """
    def lend_new(self, member: object, who: object = None) -> Lease:
        """A new member in a reserved place, lent at once. ValueError where nothing is reserved."""
    def lend(self) -> Lease | None:
        """The member that came back last; None where none is idle."""
    def lend_to(self, who: object, /) -> Lease | None:
        """As ``lend``, and writes down ``who`` (any object, for ``leaks``; None for nobody) until it comes back."""
    def lend_many(self, count: int, who: object = None) -> list[Lease]:
        """Up to ``count``, as many as are idle. ValueError where ``count`` is negative."""
    def take_back(self, lease: Lease, /) -> bool:
        """Ends a loan. True: the member is idle again. False: it was too old; ``expire`` has it.

        StaleHandleError where the loan ended before, or is another pool's.
        """
    def take_back_many(self, leases: Sequence[Lease], /) -> int:
        """Ends the loans of a list or a tuple in its order; how many are idle again.

        At the first that cannot be taken back it raises as ``take_back``; those before it are back then.
        """
    def retire(self, lease: Lease, /) -> Any:
        """Ends a loan and takes the member out, which is returned, to be closed. StaleHandleError as ``take_back``."""
    def reclaim(self, handle: Lease | int, /) -> Any:
        """As ``retire``, for what nobody brings back: by its Lease, or by the handle that ``leaks`` gives.

        The borrower may still have the member, so it does not go to another one; its place is free.
        """
    def retire_all(self) -> None:
        """Every member of now is too old: the idle ones come out of ``expire``, the lent ones once they are back."""
    def expire(self, now_ns: int | None = None) -> list[Any]:
        """Takes out, to be closed, all that have to go: those noticed before, then those too old, then those idle too
        long while there are more than ``count_min``, the longest first.
        """
    def leaks(self, older_than_ns: int = 0) -> list[Leak]:
        """The loans that go on for at least so long, the longest first. O(members)."""
    def scan(self, cursor: int = 0, count: int = 100) -> tuple[int, list[tuple[Any, str, Any, int]]]:
        """Up to ``count`` of (member, "idle" | "lent" | "leaving", who, nanoseconds in this state), and the cursor to
        go on with, 0 at the end. A member that is there from the first call to the last is given exactly once.
        """
    def check(self) -> None:
        """Walks the whole structure; AssertionError where it contradicts itself."""
