"""The numbers that policies act through, in plain Python: the specification of ``erlmcp._core.gate``."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Sequence
from fractions import Fraction

TIME_MAX = UNITS_MAX = (1 << 62) - 1
COUNT_LIMIT = (1 << 31) - 1
KEY_BYTES_MAX = 256
SWEEP_MAX = 8
BUCKETS_MAX = 1000


class Clock:
    """The time that gates go by. It does not go back."""

    def __init__(self, now_ns: int = 0) -> None:
        if not 0 <= now_ns <= TIME_MAX:
            raise ValueError(f"now_ns is from 0 to {TIME_MAX}, got {now_ns}")
        self._now_ns = now_ns

    @property
    def now_ns(self) -> int:
        return self._now_ns

    @now_ns.setter
    def now_ns(self, now_ns: int) -> None:
        if now_ns > TIME_MAX:
            raise ValueError(f"now_ns is from 0 to {TIME_MAX}, got {now_ns}")
        self._now_ns = max(self._now_ns, now_ns)


class _Gate:
    def __init__(self, clock: Clock | None) -> None:
        if clock is not None and not isinstance(clock, Clock):
            raise TypeError(f"clock is a Clock or None, not {type(clock).__name__}")
        self._clock = Clock() if clock is None else clock

    @property
    def clock(self) -> Clock:
        return self._clock

    @property
    def now_ns(self) -> int:
        return self._clock.now_ns

    @now_ns.setter
    def now_ns(self, now_ns: int) -> None:
        self._clock.now_ns = now_ns

    def _now(self, now_ns: int | None) -> int:
        if now_ns is not None:
            self._clock.now_ns = now_ns
        return self._clock.now_ns


class _Rule:
    """How fast tokens come, exactly, and how many there can be."""

    def __init__(self, rate_per_s: float, burst: int) -> None:
        if isinstance(rate_per_s, float) and not math.isfinite(rate_per_s * 1e6):
            raise ValueError(f"rate_per_s must be finite, got {rate_per_s}")
        rate = Fraction(rate_per_s) if isinstance(rate_per_s, int) else Fraction(round(rate_per_s * 1e6), 10**6)
        if rate <= 0 or burst < 1:
            raise ValueError(f"rate_per_s and burst must be positive, got {rate_per_s} and {burst}")
        self.rate_per_s, self.burst = rate_per_s, burst
        self.per_ns = rate / 10**9
        if burst * self.per_ns.denominator > UNITS_MAX or self.per_ns.numerator > UNITS_MAX:
            most = UNITS_MAX // self.per_ns.denominator
            raise ValueError(
                f"burst is at most {most} with rate_per_s={rate_per_s}, to be counted exactly; got {burst}"
            )

    def check_count(self, count: int) -> int:
        if not 1 <= count <= self.burst:
            raise ValueError(f"count is from 1 to burst={self.burst}, got {count}")
        return count


class _Level:
    """The tokens of one bucket, at a time."""

    def __init__(self, tokens: Fraction, at_ns: int) -> None:
        self.tokens, self.at_ns = tokens, at_ns

    def fill(self, rule: _Rule, now_ns: int) -> Fraction:
        self.tokens = min(Fraction(rule.burst), self.tokens + (now_ns - self.at_ns) * rule.per_ns)
        self.at_ns = now_ns
        return self.tokens

    def take(self, rule: _Rule, count: int, now_ns: int) -> bool:
        if self.fill(rule, now_ns) < count:
            return False
        self.tokens -= count
        return True

    def wait_ns(self, rule: _Rule, count: int, now_ns: int) -> int:
        return max(0, math.ceil((count - self.fill(rule, now_ns)) / rule.per_ns))

    def change(self, old: _Rule, new: _Rule, now_ns: int) -> None:
        """Keeps the tokens, cut to what the new rule can count."""
        units = new.per_ns.denominator
        self.tokens = min(Fraction(new.burst), Fraction(math.floor(self.fill(old, now_ns) * units), units))

    def check(self, rule: _Rule, now_ns: int) -> None:
        assert 0 <= self.tokens <= rule.burst, "more tokens than burst"
        assert self.at_ns <= now_ns, "filled in the future"


class TokenBucket(_Gate):
    def __init__(self, rate_per_s: float, burst: int, *, clock: Clock | None = None) -> None:
        super().__init__(clock)
        self._rule = _Rule(rate_per_s, burst)
        self._level = _Level(Fraction(burst), self.now_ns)
        self.allowed_count = self.refused_count = 0

    @property
    def rate_per_s(self) -> float:
        return self._rule.rate_per_s

    @property
    def burst(self) -> int:
        return self._rule.burst

    def allow(self) -> bool:
        return self.take(1)

    def allow_at(self, now_ns: int) -> bool:
        return self.take(1, now_ns)

    def take(self, count: int = 1, now_ns: int | None = None) -> bool:
        is_allowed = self._level.take(self._rule, self._rule.check_count(count), self._now(now_ns))
        self.allowed_count += is_allowed
        self.refused_count += not is_allowed
        return is_allowed

    def wait_ns(self, count: int = 1, now_ns: int | None = None) -> int:
        return self._level.wait_ns(self._rule, self._rule.check_count(count), self._now(now_ns))

    @property
    def tokens(self) -> int:
        return math.floor(self._level.fill(self._rule, self.now_ns))

    def change(self, rate_per_s: float, burst: int) -> None:
        rule = _Rule(rate_per_s, burst)
        self._level.change(self._rule, rule, self.now_ns)
        self._rule = rule

    def check(self) -> None:
        self._level.check(self._rule, self.now_ns)


class TokenBuckets(_Gate):
    """A bucket for each key, the longest unasked first; those that are full need not be kept."""

    def __init__(self, rate_per_s: float, burst: int, count_max: int = 10_000, *, clock: Clock | None = None) -> None:
        super().__init__(clock)
        self._rule = _Rule(rate_per_s, burst)
        if not 1 <= count_max <= COUNT_LIMIT:
            raise ValueError(f"count_max is from 1 to {COUNT_LIMIT}, got {count_max}")
        self._count_max = count_max
        self._levels: OrderedDict[bytes, _Level] = OrderedDict()
        self._shared = _Level(Fraction(burst), self.now_ns)
        self.allowed_count = self.refused_count = self.evicted_count = self.shared_count = 0

    rate_per_s = TokenBucket.rate_per_s
    burst = TokenBucket.burst

    @property
    def count_max(self) -> int:
        return self._count_max

    def __len__(self) -> int:
        return len(self._levels)

    @staticmethod
    def _key(key: str | bytes) -> bytes | None:
        """None for what shares one bucket: too long, or without a UTF-8 form."""
        if not isinstance(key, str | bytes):
            raise TypeError(f"a key is a str or bytes, not {type(key).__name__}")
        try:
            data = key.encode() if isinstance(key, str) else bytes(key)
        except UnicodeError:
            return None
        return data if len(data) <= KEY_BYTES_MAX else None

    def _evict(self, now_ns: int) -> None:
        for _ in range(min(SWEEP_MAX, len(self._levels))):
            key = next(iter(self._levels))
            if self._levels[key].fill(self._rule, now_ns) == self._rule.burst:
                del self._levels[key]
                self.evicted_count += 1
                return
            self._levels.move_to_end(key)

    def _level(self, key: str | bytes, now_ns: int) -> _Level:
        data = self._key(key)
        if data is not None and data not in self._levels:
            if len(self._levels) >= self._count_max:
                self._evict(now_ns)
            if len(self._levels) < self._count_max:
                # Who has no bucket may have been served from the shared one: it has not more than that.
                self._levels[data] = _Level(self._shared.fill(self._rule, now_ns), now_ns)
        if data is None or data not in self._levels:
            self.shared_count += 1
            return self._shared
        self._levels.move_to_end(data)
        return self._levels[data]

    def _peek(self, key: str | bytes) -> _Level:
        data = self._key(key)
        return self._shared if data is None else self._levels.get(data, self._shared)

    def allow(self, key: str | bytes) -> bool:
        return self.take(key)

    def allow_many(self, keys: Sequence[str | bytes]) -> list[bool]:
        if not isinstance(keys, list | tuple):
            raise TypeError(f"allow_many takes a list or a tuple, not {type(keys).__name__}")
        return [self.take(key) for key in keys]

    def take(self, key: str | bytes, count: int = 1, now_ns: int | None = None) -> bool:
        self._rule.check_count(count)
        now = self._now(now_ns)
        is_allowed = self._level(key, now).take(self._rule, count, now)
        self.allowed_count += is_allowed
        self.refused_count += not is_allowed
        return is_allowed

    def wait_ns(self, key: str | bytes, count: int = 1, now_ns: int | None = None) -> int:
        return self._peek(key).wait_ns(self._rule, self._rule.check_count(count), self._now(now_ns))

    def tokens(self, key: str | bytes) -> int:
        return math.floor(self._peek(key).fill(self._rule, self.now_ns))

    def change(self, rate_per_s: float, burst: int) -> None:
        rule = _Rule(rate_per_s, burst)
        for level in [self._shared, *self._levels.values()]:
            level.change(self._rule, rule, self.now_ns)
        self._rule = rule

    def clear(self) -> None:
        self._levels.clear()
        self._shared = _Level(Fraction(self._rule.burst), self.now_ns)

    def check(self) -> None:
        assert len(self._levels) <= self._count_max, "more buckets than count_max"
        for level in [self._shared, *self._levels.values()]:
            level.check(self._rule, self.now_ns)


class InflightLimit:
    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = self.refused_count = 0

    @property
    def limit(self) -> int:
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        if not 0 <= limit <= COUNT_LIMIT:
            raise ValueError(f"limit is from 0 to {COUNT_LIMIT}, got {limit}")
        self._limit = limit

    def enter(self) -> bool:
        if self.count >= self._limit:
            self.refused_count += 1
            return False
        self.count += 1
        return True

    def leave(self) -> None:
        if self.count == 0:
            raise ValueError("leave without enter: nobody is in")
        self.count -= 1


class _Bucket:
    def __init__(self, start_ns: int) -> None:
        self.start_ns = start_ns
        self.outcomes = self.failures = self.slow = 0


# Each setting of a breaker with what it may be.
SETTINGS: dict[str, tuple[float, float]] = {
    "outcomes_min": (1, COUNT_LIMIT),
    "open_failure_rate": (0.0, 1.0),
    "open_slow_rate": (0.0, 1.0),
    "open_failures_in_row": (0, COUNT_LIMIT),
    "slow_ns": (0, TIME_MAX),
    "open_ns": (1, TIME_MAX),
    "probe_max": (1, COUNT_LIMIT),
    "probe_successes": (1, COUNT_LIMIT),
}


class BreakerWindow(_Gate):
    outcomes_min: int
    open_failure_rate: float
    open_slow_rate: float
    open_failures_in_row: int
    slow_ns: int
    open_ns: int
    probe_max: int
    probe_successes: int

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
        super().__init__(clock)
        if not 1 <= bucket_count <= BUCKETS_MAX:
            raise ValueError(f"bucket_count is from 1 to {BUCKETS_MAX}, got {bucket_count}")
        if not bucket_count <= window_ns <= TIME_MAX:
            raise ValueError(f"window_ns is from bucket_count to {TIME_MAX}, got {window_ns}")
        if outcomes_max and not bucket_count <= outcomes_max <= COUNT_LIMIT:
            raise ValueError(f"outcomes_max is 0, or from bucket_count to {COUNT_LIMIT}, got {outcomes_max}")
        self.change(
            outcomes_min=outcomes_min,
            open_failure_rate=open_failure_rate,
            open_slow_rate=open_slow_rate,
            open_failures_in_row=open_failures_in_row,
            slow_ns=slow_ns,
            open_ns=open_ns,
            probe_max=probe_max,
            probe_successes=probe_successes,
        )
        self.window_ns, self.bucket_count, self.outcomes_max = window_ns, bucket_count, outcomes_max
        self._buckets: deque[_Bucket] = deque(maxlen=bucket_count)
        self.state, self.failures_in_row, self.probe_count = "closed", 0, 0
        self.allowed_count = self.refused_count = self.late_count = self.opened_count = 0
        self._open_until_ns = self._probe_ns = self._successes = self._changes = 0

    def change(self, **settings: float) -> None:
        for name, value in settings.items():
            if name not in SETTINGS:
                raise TypeError(f"a breaker has no setting {name!r}")
            least, most = SETTINGS[name]
            if not least <= value <= most or not isinstance(value, int | type(least)):
                raise ValueError(f"{name} is from {least} to {most}, got {value}")
        vars(self).update(settings)

    def _expire(self) -> None:
        while self._buckets and self._buckets[0].start_ns + self.window_ns <= self.now_ns:
            self._buckets.popleft()

    def _add(self, is_failure: bool, is_slow: bool) -> None:
        self._expire()
        bucket_ns = -(-self.window_ns // self.bucket_count)
        outcomes_max = self.outcomes_max // self.bucket_count
        last = self._buckets[-1] if self._buckets else None
        is_full = last is not None and outcomes_max and last.outcomes >= outcomes_max
        if last is None or is_full or last.start_ns + bucket_ns <= self.now_ns:
            last = _Bucket(self.now_ns)
            self._buckets.append(last)
        last.outcomes += 1
        last.failures += is_failure
        last.slow += is_slow

    def _total(self, what: str) -> int:
        self._expire()
        return sum(int(getattr(bucket, what)) for bucket in self._buckets)

    @property
    def outcome_count(self) -> int:
        return self._total("outcomes")

    @property
    def failure_count(self) -> int:
        return self._total("failures")

    @property
    def slow_count(self) -> int:
        return self._total("slow")

    @property
    def success_count(self) -> int:
        return self.outcome_count - self.failure_count

    @property
    def failure_rate(self) -> float:
        return self.failure_count / self.outcome_count if self.outcome_count else 0.0

    @property
    def slow_rate(self) -> float:
        return self.slow_count / self.outcome_count if self.outcome_count else 0.0

    @property
    def ticket(self) -> int:
        return 1 + self._changes % 255

    @property
    def open_until_ns(self) -> int:
        return self._open_until_ns if self.state == "open" else 0

    @open_until_ns.setter
    def open_until_ns(self, time_ns: int) -> None:
        if self.state != "open":
            raise ValueError(f"the breaker is {self.state}: open_until_ns is set while it is open")
        if not 0 <= time_ns <= TIME_MAX:
            raise ValueError(f"open_until_ns is from 0 to {TIME_MAX}, got {time_ns}")
        self._open_until_ns = time_ns

    def _enter(self, state: str) -> None:
        self.state, self.probe_count, self._successes = state, 0, 0
        self._changes += 1
        if state == "open":
            self._open_until_ns = min(self.now_ns + self.open_ns, TIME_MAX)
            self.opened_count += 1
        if state == "closed":
            self._buckets.clear()
            self.failures_in_row = 0

    def trip(self) -> None:
        self._enter("open")

    def reset(self) -> None:
        self._enter("closed")

    def allow(self) -> int:
        if self.state == "open" and self.now_ns >= self._open_until_ns:
            self._enter("half-open")
        if self.state == "half-open":
            if self.probe_count >= self.probe_max and self.now_ns - self._probe_ns >= self.open_ns:
                self.probe_count = 0  # they were lost; should they still come, they are late
                self._changes += 1
            if self.probe_count < self.probe_max:
                self.probe_count += 1
                self._probe_ns = self.now_ns
                self.allowed_count += 1
                return self.ticket
        if self.state != "closed":
            self.refused_count += 1
            return 0
        self.allowed_count += 1
        return self.ticket

    def _is_late(self, ticket: int) -> bool:
        is_late = ticket not in (0, self.ticket) or self.state == "open"
        is_late = is_late or (self.state == "half-open" and self.probe_count == 0)
        self.late_count += is_late
        return is_late

    def cancel(self, ticket: int = 0) -> None:
        if not self._is_late(ticket) and self.state == "half-open":
            self.probe_count -= 1

    def record(self, is_ok: bool, duration_ns: int = 0, ticket: int = 0) -> bool:
        if self._is_late(ticket):
            return False
        is_slow = self.slow_ns > 0 and duration_ns >= self.slow_ns
        if self.state == "half-open":
            return self._judge_probe(is_ok and not (is_slow and self.open_slow_rate > 0))
        self._add(not is_ok, is_slow)
        self.failures_in_row = 0 if is_ok else self.failures_in_row + 1
        if self._must_open():
            self._enter("open")
            return True
        return False

    def _must_open(self) -> bool:
        if self.open_failures_in_row and self.failures_in_row >= self.open_failures_in_row:
            return True
        count = self.outcome_count
        if count < self.outcomes_min:
            return False
        by_failures = self.open_failure_rate > 0 and self.failure_count >= self.open_failure_rate * count
        return by_failures or (self.open_slow_rate > 0 and self.slow_count >= self.open_slow_rate * count)

    def _judge_probe(self, is_fine: bool) -> bool:
        self.probe_count -= 1
        self._successes += is_fine
        if is_fine and self._successes < self.probe_successes:
            return False
        self._enter("closed" if is_fine else "open")
        return True

    def check(self) -> None:
        assert len(self._buckets) <= self.bucket_count, "more buckets than bucket_count"
        assert self.state in ("closed", "open", "half-open"), "an unknown state"
        assert self.state == "half-open" or self.probe_count == 0, "a probe in flight, and no half-open state"
        assert self.failure_count <= self.outcome_count, "more failures than outcomes"
