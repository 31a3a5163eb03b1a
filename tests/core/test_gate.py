"""The room ``gate``: token buckets, one and many, and the in-flight limit."""

from __future__ import annotations

import math
import threading
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from erlmcp._core import gate as core
from erlmcp._core import memory
from erlmcp._model import gate as model

SECOND = 1_000_000_000
RATES = st.sampled_from([1, 3, 7, 60, 1000, 999_983, 0.1, 0.333333, 2.5, 10**9, 3 * 10**9, 10**12])


def together(*acts: Any) -> None:
    """Runs each in a thread of its own, all released at once."""
    gate = threading.Barrier(len(acts))
    threads = [threading.Thread(target=lambda act=act: (gate.wait(), act())) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


# --------------------------------------------------------------------------------------------------------- clock
def test_time_does_not_go_back(impl):
    clock = impl("gate").Clock(5)
    clock.now_ns = 7
    clock.now_ns = 6
    clock.now_ns = -(1 << 70)
    assert clock.now_ns == 7
    for wrong in (1 << 62, 1 << 70):
        with pytest.raises(ValueError, match="now_ns is from 0 to"):
            clock.now_ns = wrong
    for wrong in (-1, 1 << 62):
        with pytest.raises(ValueError, match="now_ns is from 0 to"):
            impl("gate").Clock(wrong)


def test_gates_may_share_a_clock(impl):
    room = impl("gate")
    clock = room.Clock(3 * SECOND)
    one, other = room.TokenBucket(1, 1, clock=clock), room.TokenBuckets(1, 1, clock=clock)
    breaker = room.BreakerWindow(clock=clock)
    assert one.clock is other.clock is breaker.clock is clock
    assert one.allow()
    assert not one.allow()
    clock.now_ns += SECOND
    assert one.allow()
    assert one.now_ns == breaker.now_ns == 4 * SECOND
    breaker.now_ns = 5 * SECOND
    assert one.allow()
    with pytest.raises(TypeError, match="clock is a Clock or None"):
        room.TokenBucket(1, 1, clock=5)


# -------------------------------------------------------------------------------------------------- token bucket
def test_a_bucket_lets_through_its_burst_and_then_its_rate(impl):
    bucket = impl("gate").TokenBucket(10, 5)
    assert [bucket.allow() for _ in range(7)] == [True] * 5 + [False] * 2
    assert not bucket.allow_at(SECOND // 10 - 1)
    assert bucket.allow_at(SECOND // 10)
    assert not bucket.allow()
    assert not bucket.take(3, SECOND // 10 * 4 - 1)
    assert bucket.take(3, SECOND // 10 * 4)
    assert (bucket.allowed_count, bucket.refused_count) == (7, 5)
    bucket.now_ns = 1000 * SECOND
    assert bucket.tokens == 5
    bucket.check()


@pytest.mark.parametrize("rate", [1, 3, 7, 999_983, 0.1, 0.333333, 1e-6, 123.456789])
def test_no_rate_drifts_over_many_tokens(impl, rate):
    bucket = impl("gate").TokenBucket(rate, 2)
    per_ns = Fraction(round(rate * 10**6), 10**15)
    assert bucket.take(2)
    for number in range(1, 300):
        due = math.ceil(number / per_ns)
        assert not bucket.allow_at(due - 1)
        assert bucket.allow_at(due)


@given(
    rate=RATES,
    burst=st.integers(1, 50),
    steps=st.lists(st.tuples(st.integers(0, 3 * SECOND) | st.integers(0, 100), st.integers(1, 50)), max_size=60),
)
@settings(max_examples=60)
def test_in_any_span_of_time_no_more_than_burst_and_rate_is_let_through(rate, burst, steps):
    per_ns = Fraction(round(rate * 10**6), 10**15)
    for room in (core, model):
        bucket, now, let_through = room.TokenBucket(rate, burst), 0, []
        for wait, count in steps:
            now += wait
            if bucket.take(min(count, burst), now):
                let_through.append((now, min(count, burst)))
        for first in range(len(let_through)):
            total = 0
            for at, count in let_through[first:]:
                total += count
                assert total <= burst + (at - let_through[first][0]) * per_ns


@given(
    rate=RATES,
    burst=st.integers(1, 50),
    gone=st.integers(0, 2 * SECOND),
    taken=st.integers(1, 50),
    count=st.integers(1, 50),
)
def test_the_wait_is_exact_to_the_nanosecond(rate, burst, gone, taken, count):
    for room in (core, model):
        bucket = room.TokenBucket(rate, burst)
        bucket.take(min(taken, burst))
        bucket.now_ns = gone
        wait = bucket.wait_ns(min(count, burst))
        if wait:
            assert not bucket.take(min(count, burst), gone + wait - 1)
        assert bucket.take(min(count, burst), gone + wait)


def test_another_rate_holds_from_now_on_and_keeps_the_tokens(impl):
    bucket = impl("gate").TokenBucket(1, 10)
    bucket.take(6)
    bucket.change(1000, 100)
    assert (bucket.rate_per_s, bucket.burst, bucket.tokens) == (1000, 100, 4)
    assert bucket.wait_ns(5) == SECOND // 1000
    bucket.change(7, 2)
    assert bucket.tokens == 2
    bucket.change(1000, 100)
    assert bucket.tokens == 2
    with pytest.raises(ValueError):
        bucket.change(0, 5)
    assert bucket.rate_per_s == 1000
    bucket.check()


@pytest.mark.parametrize(
    ("rate", "burst"),
    [(0, 1), (-1, 1), (1, 0), (1, -5), (1e-9, 1), (float("nan"), 1), (float("inf"), 1), (1e308, 1), (1, 1 << 62)],
)
def test_a_rate_or_burst_that_makes_no_sense_is_refused(impl, rate, burst):
    for kind in (impl("gate").TokenBucket, impl("gate").TokenBuckets):
        with pytest.raises(ValueError, match=r"rate_per_s|burst"):
            kind(rate, burst)


def test_the_largest_burst_is_counted_exactly(impl):
    most = ((1 << 62) - 1) // 10**9
    bucket = impl("gate").TokenBucket(1, most)
    assert bucket.take(most)
    assert not bucket.allow()
    assert bucket.wait_ns(most) == most * SECOND
    assert bucket.take(most, most * SECOND)
    with pytest.raises(ValueError, match=f"burst is at most {most}"):
        impl("gate").TokenBucket(1, most + 1)


@pytest.mark.parametrize("count", [0, -1, 6, 1 << 80])
def test_a_count_that_can_never_be_had_is_refused(impl, count):
    bucket, buckets = impl("gate").TokenBucket(1, 5), impl("gate").TokenBuckets(1, 5)
    acts = [bucket.take, bucket.wait_ns, lambda n: buckets.take("a", n), lambda n: buckets.wait_ns("a", n)]
    for act in acts:
        with pytest.raises(ValueError, match="count is from 1 to burst=5"):
            act(count)
    assert bucket.tokens == 5


# --------------------------------------------------------------------------------------------------- many buckets
def test_each_key_has_a_limit_of_its_own(impl):
    buckets = impl("gate").TokenBuckets(1, 2)
    assert [buckets.allow(key) for key in ("a", b"a", "a", "b", "é", "é".encode(), b"\xc3\xa9")] == [
        *(True, True, False, True),
        *(True, True, False),
    ]
    assert (len(buckets), buckets.tokens("a"), buckets.tokens("b"), buckets.tokens("never seen")) == (3, 0, 1, 2)
    assert buckets.wait_ns("a") == SECOND
    assert buckets.wait_ns("never seen", 2) == 0
    assert buckets.take("a", 2, 2 * SECOND)
    assert buckets.allow_many(["a", "b", "b", "b"]) == [False, True, True, False]
    assert (buckets.allowed_count, buckets.refused_count, len(buckets)) == (8, 4, 3)
    buckets.clear()
    assert (len(buckets), buckets.tokens("a")) == (0, 2)
    buckets.check()


def test_buckets_that_are_full_again_make_room(impl):
    buckets = impl("gate").TokenBuckets(10, 2, count_max=3)
    for key in "abc":
        assert buckets.allow(key)
    buckets.now_ns = SECOND // 10
    assert buckets.allow("d")
    assert (len(buckets), buckets.evicted_count, buckets.shared_count) == (3, 1, 0)
    assert buckets.tokens("a") == 2
    assert buckets.tokens("b") == 2
    assert buckets.allow_many(["d", "d"]) == [True, False]
    buckets.check()


def test_made_up_keys_share_one_limit_and_take_nothing_from_others(impl):
    buckets = impl("gate").TokenBuckets(1, 5, count_max=100)
    for number in range(100):
        buckets.take(f"known {number}", 3)
    allowed = [buckets.allow(f"made up {number}") for number in range(1000)]
    assert sum(allowed) == 5
    assert (len(buckets), buckets.shared_count, buckets.evicted_count) == (100, 1000, 0)
    assert all(buckets.take(f"known {number}", 2) for number in range(100))
    buckets.check()


def test_a_key_that_gets_a_place_late_has_not_more_than_its_limit(impl):
    buckets = impl("gate").TokenBuckets(1, 3, count_max=1)
    buckets.allow("first")
    assert [buckets.allow("late") for _ in range(4)] == [True, True, True, False]
    buckets.now_ns = SECOND
    assert [buckets.allow("late") for _ in range(2)] == [True, False]
    assert buckets.evicted_count == 1
    assert buckets.tokens("late") == 0
    assert buckets.tokens("another") == 1


def test_keys_that_are_too_long_or_no_text_share_a_limit(impl):
    buckets = impl("gate").TokenBuckets(1, 3)
    assert buckets.allow("x" * 256)
    assert len(buckets) == 1
    assert [buckets.allow(key) for key in ("x" * 257, b"x" * 257, "\ud800", "é" * 129)] == [True, True, True, False]
    assert (len(buckets), buckets.shared_count) == (1, 4)
    for wrong in (None, 5, bytearray(b"a")):
        with pytest.raises(TypeError, match="a key is a str or bytes"):
            buckets.allow(wrong)
        with pytest.raises(TypeError, match="a key is a str or bytes"):
            buckets.tokens(wrong)
    with pytest.raises(TypeError, match="a list or a tuple"):
        buckets.allow_many("abc")
    for wrong in (0, 1 << 31):
        with pytest.raises(ValueError, match="count_max is from 1 to"):
            impl("gate").TokenBuckets(1, 1, wrong)


def test_another_rate_holds_for_all_keys(impl):
    buckets = impl("gate").TokenBuckets(1, 10)
    buckets.take("a", 6)
    buckets.take("b", 10)
    buckets.change(10, 5)
    assert [buckets.tokens(key) for key in "abc"] == [4, 0, 5]
    assert buckets.wait_ns("b") == SECOND // 10
    assert (buckets.rate_per_s, buckets.burst) == (10, 5)
    buckets.check()


def test_a_rate_that_calls_back_finds_the_buckets_whole(impl):
    buckets = impl("gate").TokenBuckets(1, 10)
    buckets.allow_many(["a", "b", "c"])

    class Nosy(Fraction):
        def __mul__(self, other):
            buckets.clear()
            return super().__mul__(other)

    buckets.change(Nosy(5), 20)
    buckets.check()
    assert buckets.rate_per_s == 5


def test_a_flood_of_keys_stays_bounded_while_time_passes():
    buckets = core.TokenBuckets(100, 10, count_max=1000)
    for number in range(50_000):
        buckets.take(f"key {number}", 1 + number % 10, number * SECOND // 10_000)
    assert len(buckets) == 1000
    assert buckets.evicted_count + buckets.shared_count == 49_000
    assert buckets.evicted_count > 30_000
    buckets.check()


# ----------------------------------------------------------------------------------------------------- in flight
def test_a_limit_lets_in_so_many_at_a_time(impl):
    limit = impl("gate").InflightLimit(2)
    assert [limit.enter() for _ in range(3)] == [True, True, False]
    assert (limit.count, limit.refused_count) == (2, 1)
    limit.leave()
    assert limit.enter()
    limit.limit = 1
    limit.leave()
    assert not limit.enter()
    limit.leave()
    assert limit.enter()
    limit.limit = 3
    assert limit.enter()
    assert (limit.count, limit.refused_count, limit.limit) == (2, 2, 3)
    limit.limit = 0
    assert not limit.enter()


def test_leaving_without_having_entered_is_an_error(impl):
    limit = impl("gate").InflightLimit(2)
    with pytest.raises(ValueError, match="leave without enter"):
        limit.leave()
    assert limit.enter()
    limit.leave()
    with pytest.raises(ValueError, match="leave without enter"):
        limit.leave()
    assert limit.count == 0


@pytest.mark.parametrize("wrong", [-1, 1 << 31, 1 << 80])
def test_a_limit_out_of_range_is_refused(impl, wrong):
    with pytest.raises(ValueError, match="limit is from 0 to"):
        impl("gate").InflightLimit(wrong)
    limit = impl("gate").InflightLimit(1)
    with pytest.raises(ValueError, match="limit is from 0 to"):
        limit.limit = wrong
    assert limit.limit == 1


# ------------------------------------------------------------------------------------------------------- threads
def test_threads_never_pass_an_inflight_limit(impl):
    limit, most, entered = impl("gate").InflightLimit(3), [], []

    def work():
        for _ in range(2000):
            if limit.enter():
                most.append(limit.count)
                entered.append(1)
                limit.leave()

    together(*[work] * 4)
    assert max(most) <= 3
    assert limit.count == 0
    assert len(entered) + limit.refused_count == 8000


def test_threads_together_get_no_more_than_the_burst():
    bucket, buckets, keys = core.TokenBucket(1, 1000), core.TokenBuckets(1, 100), [f"key {n}" for n in range(20)]

    def work():
        for number in range(2000):
            bucket.allow()
            buckets.allow(keys[number % 20])

    together(*[work] * 4)
    assert (bucket.allowed_count, bucket.refused_count) == (1000, 7000)
    assert (buckets.allowed_count, buckets.refused_count) == (2000, 6000)
    buckets.check()


# ------------------------------------------------------------------------------------------------ state machines
class Pair(RuleBasedStateMachine):
    """A gate of core and one of model in step: the same answers, the same errors."""

    pair: tuple[Any, ...] = ()

    def both(self, act):
        outcomes = []
        for gate in self.pair:
            try:
                outcomes.append(act(gate))
            except (ValueError, TypeError) as error:
                outcomes.append((type(error), str(error)))
        assert outcomes[0] == outcomes[1]
        return outcomes[0]

    @invariant()
    def whole(self):
        for gate in self.pair:
            gate.check()


class BucketMachine(Pair):
    @initialize(rate=RATES, burst=st.integers(1, 20))
    def start(self, rate, burst):
        self.pair = (core.TokenBucket(rate, burst), model.TokenBucket(rate, burst))

    @rule(count=st.integers(-1, 25), wait=st.none() | st.integers(-5, 2 * SECOND))
    def take(self, count, wait):
        now = None if wait is None else self.pair[0].now_ns + wait
        self.both(lambda gate: gate.take(count, now))
        self.both(lambda gate: gate.wait_ns(max(count, 1)))

    @rule()
    def allow(self):
        self.both(lambda gate: gate.allow())

    @rule(wait=st.integers(0, 100) | st.integers(0, 10 * SECOND))
    def allow_at(self, wait):
        now = self.pair[0].now_ns + wait
        self.both(lambda gate: gate.allow_at(now))

    @rule(rate=RATES | st.floats(), burst=st.integers(0, 30))
    def change(self, rate, burst):
        self.both(lambda gate: gate.change(rate, burst))

    @invariant()
    def agree(self):
        if self.pair:
            self.both(lambda gate: (gate.tokens, gate.burst, gate.now_ns, gate.allowed_count, gate.refused_count))


class BucketsMachine(Pair):
    keys = st.sampled_from(["a", b"a", "b", "c", "d", "e", "é", "\ud800", "x" * 300, "", b"\xff"])

    @initialize(rate=RATES, burst=st.integers(1, 5), count_max=st.integers(1, 5))
    def start(self, rate, burst, count_max):
        self.pair = (core.TokenBuckets(rate, burst, count_max), model.TokenBuckets(rate, burst, count_max))

    @rule(keys=st.lists(keys, max_size=8))
    def allow_many(self, keys):
        self.both(lambda gate: gate.allow_many(keys))

    @rule(key=keys, count=st.integers(0, 6), wait=st.integers(0, 100) | st.integers(0, 2 * SECOND))
    def take(self, key, count, wait):
        now = self.pair[0].now_ns + wait
        self.both(lambda gate: gate.take(key, count, now))
        self.both(lambda gate: (gate.wait_ns(key, 1), gate.tokens(key)))

    @rule(rate=RATES, burst=st.integers(0, 8))
    def change(self, rate, burst):
        self.both(lambda gate: gate.change(rate, burst))

    @rule()
    def clear(self):
        self.both(lambda gate: gate.clear())

    @invariant()
    def agree(self):
        if self.pair:
            self.both(lambda gate: (len(gate), gate.allowed_count, gate.refused_count))
            self.both(lambda gate: (gate.evicted_count, gate.shared_count, [gate.tokens(key) for key in "abcde"]))


class InflightMachine(Pair):
    @initialize(limit=st.integers(0, 4))
    def start(self, limit):
        self.pair = (core.InflightLimit(limit), model.InflightLimit(limit))

    @rule(act=st.sampled_from(["enter", "enter", "leave"]))
    def act(self, act):
        self.both(lambda gate: getattr(gate, act)())

    @rule(limit=st.integers(-1, 6))
    def change(self, limit):
        self.both(lambda gate: setattr(gate, "limit", limit))

    @invariant()
    def whole(self):
        if self.pair:
            self.both(lambda gate: (gate.count, gate.limit, gate.refused_count))


TestBucketMachine = BucketMachine.TestCase
TestBucketMachine.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
TestBucketsMachine = BucketsMachine.TestCase
TestBucketsMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestInflightMachine = InflightMachine.TestCase
TestInflightMachine.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)


@pytest.mark.deep
@pytest.mark.parametrize("machine", [BucketMachine, BucketsMachine, InflightMachine])
def test_ten_thousand_steps_keep_core_and_model_together(machine):
    run_state_machine_as_test(machine, settings=settings(max_examples=100, stateful_step_count=120, deadline=None))


@pytest.mark.skipif(not memory.IS_CHECKED, reason="needs ERLMCP_BUILD=checked")
def test_whichever_allocation_fails_the_buckets_are_as_they_were():
    before = memory.live_blocks()
    failed = 0
    for nth in range(1, 60):
        buckets = core.TokenBuckets(1, 2, count_max=20)
        keys = [f"key {number}" for number in range(30)]
        decided: dict[str, bool] = {}
        memory.fail_after(nth)
        try:
            for key in keys:
                decided[key] = buckets.allow(key)
            finished = True
        except MemoryError:
            finished = False
            failed += 1
        finally:
            memory.fail_never()
        buckets.check()
        assert len(buckets) == min(len(decided), 20)
        assert all(buckets.tokens(key) == 1 for key in keys[: len(buckets)])
        assert buckets.allow_many(keys)[:20] == [True] * 20
        buckets.check()
        del buckets
        assert memory.live_blocks() == before
        if finished:
            break
    assert failed > 20
