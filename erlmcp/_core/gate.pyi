"""The numbers that policies act through: token buckets, an in-flight limit, and a breaker's window with its states.

Time is pushed, or an argument: nanoseconds of any clock that does not go back, from 0 to 2**62 - 1 (ValueError above).
Buckets and breakers may be used by several Python threads, as each call is one step under the GIL; an ``InflightLimit``
may be used by any thread, with or without it.
"""

from collections.abc import Sequence
from typing import Final, final

@final
class Clock:
    """A time that several gates go by: pushed once per turn of a loop, read by all of them."""

    now_ns: int
    """Setting it to less than it is changes nothing."""
    def __init__(self, now_ns: int = 0) -> None: ...

class Gate:
    """What is common to the gates that know the time."""

    now_ns: int
    """That of ``clock``."""
    @property
    def clock(self) -> Clock:
        """The one it was made with, or its own."""

@final
class TokenBucket(Gate):
    """Lets through ``burst`` at once and ``rate_per_s`` a second in the long run: in any span of time at most ``burst``
    plus what comes in at the rate. Counted in whole numbers, so that no rate drifts (GCRA, ITU-T I.371). Full at first.

    ``rate_per_s`` is an int, or a float that counts in millionths of a token a second.
    """

    allowed_count: Final[int]
    refused_count: Final[int]
    def __init__(self, rate_per_s: float, burst: int, *, clock: Clock | None = None) -> None:
        """ValueError for what is not positive, and for a ``burst`` too large to be counted exactly (4.6e9 with any
        whole rate).
        """
    @property
    def rate_per_s(self) -> float: ...
    @property
    def burst(self) -> int: ...
    def allow(self) -> bool:
        """Takes one token if there is one, at the time pushed last."""
    def allow_at(self, now_ns: int, /) -> bool:
        """Pushes the time and takes one token if there is one."""
    def take(self, count: int = 1, now_ns: int | None = None) -> bool:
        """Takes so many tokens, or none. ValueError where ``count`` is not from 1 to ``burst``."""
    def wait_ns(self, count: int = 1, now_ns: int | None = None) -> int:
        """How long until ``take`` succeeds if nobody else takes: 0 where it would now, and never a nanosecond more than
        needed. ValueError as for ``take``.
        """
    @property
    def tokens(self) -> int:
        """Whole tokens there now."""
    def change(self, rate_per_s: float, burst: int) -> None:
        """Another rate and burst from now on. The tokens there stay, up to the new burst."""
    def check(self) -> None:
        """AssertionError where an invariant is broken."""

@final
class TokenBuckets(Gate):
    """A ``TokenBucket`` for each key, at most ``count_max`` of them.

    A full bucket needs no memory: in need of a place, up to 8 of the buckets unasked for longest are looked at, and one
    that is full again makes room. Where none is, the key is served from one shared bucket, until there is a place; so a
    flood of made-up keys shares one limit, and takes nothing from the keys that have a bucket. No key ever gets more
    than its limit.

    A key is a str or bytes, and the same in both. Keys of more than 256 bytes, or without a UTF-8 form, go to the
    shared bucket. Keys are hashed with a seed of the process, so that nobody can choose keys that collide.
    """

    allowed_count: Final[int]
    refused_count: Final[int]
    evicted_count: Final[int]
    """Full buckets that made room."""
    shared_count: Final[int]
    """Decisions by the shared bucket."""
    count_max: Final[int]
    def __init__(self, rate_per_s: float, burst: int, count_max: int = 10_000, *, clock: Clock | None = None) -> None:
        """ValueError as for ``TokenBucket``, and where ``count_max`` is not from 1 to 2**31 - 1."""
    def __len__(self) -> int:
        """Keys with a bucket of their own."""
    @property
    def rate_per_s(self) -> float: ...
    @property
    def burst(self) -> int: ...
    def allow(self, key: str | bytes, /) -> bool:
        """Takes one of the key's tokens if there is one. TypeError for a key that is neither str nor bytes."""
    def allow_many(self, keys: Sequence[str | bytes]) -> list[bool]:
        """``allow`` for each key of a list or a tuple."""
    def take(self, key: str | bytes, count: int = 1, now_ns: int | None = None) -> bool:
        """Takes so many of the key's tokens, or none. ValueError where ``count`` is not from 1 to ``burst``."""
    def wait_ns(self, key: str | bytes, count: int = 1, now_ns: int | None = None) -> int:
        """As for ``TokenBucket``; gives the key no bucket."""
    def tokens(self, key: str | bytes) -> int:
        """Whole tokens that the key has now; gives it no bucket."""
    def change(self, rate_per_s: float, burst: int) -> None:
        """Another rate and burst for all, from now on. O(n)."""
    def clear(self) -> None:
        """Forgets all keys: everybody's bucket is full."""
    def check(self) -> None:
        """AssertionError where an invariant is broken. O(n)."""

@final
class InflightLimit:
    """At most ``limit`` at a time between ``enter`` and ``leave``. 0 lets nobody in."""

    limit: int
    """May be set at any time: who is in stays in. ValueError where it is not from 0 to 2**31 - 1."""
    def __init__(self, limit: int) -> None: ...
    @property
    def count(self) -> int:
        """How many are in."""
    @property
    def refused_count(self) -> int: ...
    def enter(self) -> bool:
        """Whether there was room; whoever got in leaves once."""
    def leave(self) -> None:
        """ValueError where nobody is in."""

@final
class BreakerWindow(Gate):
    """The outcomes of recent calls, and whether the next one should be made.

    ``allow`` gives a ticket from 1 to 255, or 0 where the call must not be made; ``record`` takes the outcome, or
    ``cancel`` where there was none. Nothing is called and no time is read: it goes by the time pushed last.

    The window holds the outcomes of the last ``window_ns`` and, unless that is 0, at most the last ``outcomes_max``, in
    ``bucket_count`` buckets: the oldest outcomes leave a bucket at a time.

    closed: all calls are allowed. Opens when the last ``open_failures_in_row`` calls failed (0: not by that), or when
    of at least ``outcomes_min`` outcomes in the window a share of ``open_failure_rate`` failed or of ``open_slow_rate``
    took ``slow_ns`` or longer (0: not by that).
    open: no call is allowed until ``open_ns`` have passed, or until ``open_until_ns`` where that was set.
    half-open: up to ``probe_max`` calls at a time are allowed as probes. ``probe_successes`` successes close the
    breaker and clear its window, one failure (or a slow success, if slow calls open it) opens it again. If no probe
    came back for ``open_ns``, the probes count as lost and their places are given anew.

    An outcome whose ticket is of a state that is over is late, and changes nothing.
    """

    window_ns: Final[int]
    bucket_count: Final[int]
    outcomes_max: Final[int]
    outcomes_min: Final[int]
    open_failure_rate: Final[float]
    open_slow_rate: Final[float]
    open_failures_in_row: Final[int]
    slow_ns: Final[int]
    open_ns: Final[int]
    probe_max: Final[int]
    probe_successes: Final[int]
    failures_in_row: Final[int]
    probe_count: Final[int]
    """Probes on their way."""
    allowed_count: Final[int]
    refused_count: Final[int]
    late_count: Final[int]
    opened_count: Final[int]
    open_until_ns: int
    """The time from which on an open breaker lets a probe through; may be set while it is open (else ValueError), 0 in
    the other states.
    """
    def __init__(
        self,
        window_ns: int = 10_000_000_000,
        bucket_count: int = 10,
        outcomes_max: int = 0,
        *,
        outcomes_min: int = 10,
        open_failure_rate: float = 0.5,
        open_slow_rate: float = 0.0,
        open_failures_in_row: int = 0,
        slow_ns: int = 0,
        open_ns: int = 5_000_000_000,
        probe_max: int = 1,
        probe_successes: int = 1,
        clock: Clock | None = None,
    ) -> None:
        """ValueError for what is out of range: ``bucket_count`` is from 1 to 1,000, ``window_ns`` and ``outcomes_max``
        at least that.
        """
    def change(
        self,
        *,
        outcomes_min: int = ...,
        open_failure_rate: float = ...,
        open_slow_rate: float = ...,
        open_failures_in_row: int = ...,
        slow_ns: int = ...,
        open_ns: int = ...,
        probe_max: int = ...,
        probe_successes: int = ...,
    ) -> None:
        """Sets what is given; what is not stays. ValueError, and nothing is changed."""
    @property
    def state(self) -> str:
        """ "closed", "open" or "half-open". An open breaker becomes half-open when a call asks for leave."""
    @property
    def ticket(self) -> int:
        """What ``allow`` gives in this state."""
    @property
    def outcome_count(self) -> int: ...
    @property
    def success_count(self) -> int: ...
    @property
    def failure_count(self) -> int: ...
    @property
    def slow_count(self) -> int: ...
    @property
    def failure_rate(self) -> float:
        """0.0 where the window is empty."""
    @property
    def slow_rate(self) -> float: ...
    def allow(self) -> int: ...
    def record(self, is_ok: bool, duration_ns: int = 0, ticket: int = 0) -> bool:
        """Whether the state changed by this outcome. Ticket 0 is for who did not keep it: the outcome counts for the
        state that is.
        """
    def cancel(self, ticket: int = 0) -> None:
        """Gives back what ``allow`` gave to a call that had no outcome."""
    def trip(self) -> None:
        """Opens it now, for ``open_ns``."""
    def reset(self) -> None:
        """Closes it now, with an empty window."""
    def check(self) -> None:
        """AssertionError where an invariant is broken."""
