"""The room ``meter``: counters, log-linear histograms, and a bounded set of them."""

from __future__ import annotations

import array
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from erlmcp._core import memory
from erlmcp._core import meter as core
from erlmcp._model import meter as model
from erlmcp.errors import ConfigurationError

PERCENTS = (0, 0.1, 1, 25, 50, 90, 95, 99, 99.9, 99.99, 100)
VALUES = st.integers(0, 2**44 - 1)
draw = np.random.default_rng(7)
DISTRIBUTIONS = {
    "uniform": draw.uniform(0, 1e9, 100_000),
    "narrow": draw.uniform(1_000_000, 1_010_000, 100_000),
    "normal": np.abs(draw.normal(5e6, 1e6, 100_000)),
    "lognormal": draw.lognormal(11, 1.5, 100_000),
    "exponential": draw.exponential(1e6, 100_000),
    "pareto": 1e4 * (1 + draw.pareto(1.2, 100_000)),
    "two humps": np.concatenate([draw.normal(2e4, 1e3, 90_000), draw.normal(4e7, 1e6, 10_000)]),
    "constant": np.full(100_000, 123_456_789.0),
    "small": draw.integers(0, 300, 100_000).astype(float),
    "log-uniform": np.exp(draw.uniform(0, 30, 100_000)),
}


def together(*acts: Any) -> None:
    """Runs each in a thread of its own, all released at once."""
    gate = threading.Barrier(len(acts))
    threads = [threading.Thread(target=lambda act=act: (gate.wait(), act())) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


def filled(room, values, **shape):
    made = room.Histogram(**shape)
    made.record_many(values)
    return made


# ------------------------------------------------------------------------------------------------------ counters
def test_a_counter_counts(impl):
    counter = impl("meter").Counter()
    counter.inc()
    counter.add(41)
    counter.add(0)
    counter.inc_many(10)
    assert counter.value == 52
    assert counter.take() == 52
    assert counter.value == 0


def test_a_counter_only_grows(impl):
    counter = impl("meter").Counter()
    for wrong in (-1, 1 << 63, 1 << 100):
        with pytest.raises(ValueError, match="grows by 0 to"):
            counter.add(wrong)
    with pytest.raises(TypeError):
        counter.add(1.5)
    assert counter.value == 0


def test_a_counter_goes_round_at_64_bits(impl):
    counter = impl("meter").Counter()
    counter.add((1 << 63) - 1)
    counter.add((1 << 63) - 1)
    counter.add(3)
    assert counter.value == 1


# ---------------------------------------------------------------------------------------------------- histograms
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_percentiles_agree_with_numpy(impl, name):
    values = DISTRIBUTIONS[name]
    values = values if impl("meter") is core else values[::20].copy()
    made = filled(impl("meter"), values)
    exact = np.percentile(values.astype(np.int64), PERCENTS, method="inverted_cdf")
    assert made.percentiles(PERCENTS) == [pytest.approx(wanted, rel=0.004) for wanted in exact]
    assert made.percentile(95) == made.percentiles([95])[0]
    assert made.percentile(50) == pytest.approx(np.percentile(values, 50), rel=0.01, abs=1)
    assert made.mean == pytest.approx(values.astype(np.int64).mean())


@given(st.lists(VALUES, min_size=1, max_size=200), st.floats(0, 100))
def test_a_percentile_of_any_values_is_within_half_a_percent(values, percent):
    for room in (core, model):
        made = filled(room, values)
        exact = float(np.percentile(values, percent, method="inverted_cdf"))
        assert made.percentile(percent) == pytest.approx(exact, rel=0.004, abs=0)
        assert (made.count, made.min, made.max, made.sum) == (len(values), min(values), max(values), sum(values))


@pytest.mark.parametrize("sub_bits", [1, 3, 6, 7, 14])
@given(value=st.integers(0, 2**61 - 1))
@settings(max_examples=30)
def test_a_value_lies_in_its_bucket_and_its_error_is_bounded(sub_bits, value):
    for room in (core, model):
        made = filled(room, [value], value_max=2**61 - 1, sub_bits=sub_bits)
        ((first, last, count),) = made.buckets()
        assert count == 1
        assert first <= value <= last
        assert last - first + 1 <= max(1, first / 2**sub_bits)


def test_the_buckets_join_without_a_gap(impl):
    made = impl("meter").Histogram(value_max=10**6, sub_bits=4)
    edges = made.bounds()
    assert edges[0] == 0
    assert (np.diff(edges) >= 1).all()
    assert edges[-2] <= 10**6 < edges[-1]
    assert len(edges) == made.bucket_count + 1
    values = np.arange(10**6 + 1 if impl("meter") is core else 20_000)
    made.record_many(values)
    assert made.snapshot().dtype == np.uint64
    assert (made.snapshot() == np.histogram(values, edges)[0]).all()


def test_values_out_of_range_are_clamped_and_counted(impl):
    made = filled(impl("meter"), [-5, -(1 << 80), 1000, 1001, 1 << 63, 1 << 80, 500], value_max=1000)
    assert (made.count, made.clamped, made.min, made.max) == (7, 5, 0, 1000)
    assert made.sum == 4500
    assert made.percentile(100) == 1000
    made.check()


def test_an_empty_histogram_says_zero(impl):
    made = impl("meter").Histogram()
    assert (made.count, made.min, made.max, made.sum, made.mean, made.clamped) == (0, 0, 0, 0, 0.0, 0)
    assert made.percentiles([0, 50, 100]) == [0.0, 0.0, 0.0]
    assert made.percentiles([]) == []
    assert made.buckets() == []
    assert made.take().count == 0
    assert (made.value_max, made.sub_bits) == (2**44 - 1, 7)


@pytest.mark.parametrize("shape", [{"value_max": 0}, {"value_max": 1 << 61}, {"sub_bits": 0}, {"sub_bits": 15}])
def test_a_shape_out_of_range_is_refused(impl, shape):
    with pytest.raises(ValueError, match="is from 1 to"):
        impl("meter").Histogram(**shape)


@pytest.mark.parametrize("percent", [-0.1, 100.1, float("nan")])
def test_a_percent_out_of_range_is_refused(impl, percent):
    made = impl("meter").Histogram()
    with pytest.raises(ValueError, match="percent is from 0 to 100"):
        made.percentile(percent)
    with pytest.raises(ValueError, match="percent is from 0 to 100"):
        made.percentiles([50, percent])


@pytest.mark.parametrize("wrong", [1.5, "5", None])
def test_what_is_no_int_is_not_recorded(impl, wrong):
    made = impl("meter").Histogram()
    with pytest.raises(TypeError):
        made.record(wrong)
    with pytest.raises(TypeError):
        made.record_many([7, wrong, 8])
    assert made.count == 1


def test_every_kind_of_sequence_records_the_same(impl):
    room, values = impl("meter"), [0, 1, 5, 999, 12345678, 3] * 100
    wanted = filled(room, values).buckets()
    kinds = [tuple(values), array.array("q", values), array.array("d", values), np.array(values), np.array(values, "d")]
    for kind in [*kinds, np.array(values).reshape(20, 30), memoryview(np.array(values))]:
        assert filled(room, kind).buckets() == wanted
    assert filled(room, np.array([], "d")).count == 0


def test_a_buffer_of_another_kind_is_refused(impl):
    made = impl("meter").Histogram()
    for wrong in (b"12345678", np.zeros(4, np.int32), np.zeros(4, np.uint64), np.zeros(4, np.complex64), 5, iter([1])):
        with pytest.raises(TypeError):
            made.record_many(wrong)
    with pytest.raises(BufferError, match="contiguous"):
        made.record_many(np.zeros(10, np.int64)[::2])
    assert made.count == 0


def test_floats_are_cut_and_nothing_is_recorded_of_what_holds_a_nan(impl):
    made = impl("meter").Histogram(value_max=10)
    made.record_many(np.array([0.9, -0.9, 1.99, 10.9, -1.0, 11.0, float("inf"), float("-inf"), 1e300]))
    assert made.buckets() == [(0, 0, 4), (1, 1, 1), (10, 10, 4)]
    assert made.clamped == 5
    with pytest.raises(ValueError, match="not a number"):
        made.record_many(np.array([1.0, float("nan")]))
    assert made.count == 9


@given(st.lists(VALUES), st.lists(VALUES))
def test_merged_histograms_are_the_histogram_of_both(one, other):
    for room in (core, model):
        merged, whole = filled(room, one), filled(room, one + other)
        merged.merge(filled(room, other))
        assert merged.buckets() == whole.buckets()
        assert (merged.count, merged.min, merged.max, merged.sum) == (whole.count, whole.min, whole.max, whole.sum)
        merged.merge(merged)
        assert merged.count == 2 * whole.count


@given(st.lists(VALUES), st.lists(VALUES, min_size=1))
def test_what_is_left_after_an_earlier_copy_is_what_came_since(before, since):
    for room in (core, model):
        made = filled(room, before)
        earlier = made.copy()
        made.record_many(since)
        made.subtract(earlier)
        alone = filled(room, since)
        assert made.buckets() == alone.buckets()
        assert (made.sum, made.count) == (alone.sum, alone.count)
        assert made.min == pytest.approx(alone.min, rel=0.008)
        assert made.max == pytest.approx(alone.max, rel=0.008)
        made.subtract(made)
        assert (made.count, made.min, made.max, made.sum) == (0, 0, 0, 0)


def test_only_what_a_histogram_holds_can_be_taken_away(impl):
    made = filled(impl("meter"), [1, 2, 3])
    with pytest.raises(ValueError, match="does not"):
        made.subtract(filled(impl("meter"), [4]))
    clamped = filled(impl("meter"), [0, 0, -1])
    with pytest.raises(ValueError, match="does not"):
        clamped.subtract(filled(impl("meter"), [0, 0, 0]))
    assert (clamped.count, clamped.clamped) == (3, 1)
    assert made.count == 3
    top = filled(impl("meter"), [2**44 - 1])
    with pytest.raises(ValueError, match="does not"):
        top.subtract(filled(impl("meter"), [2**50]))


def test_histograms_of_different_shapes_do_not_mix(impl):
    made, other = impl("meter").Histogram(), impl("meter").Histogram(sub_bits=6)
    for act in (made.merge, made.subtract):
        with pytest.raises(ValueError, match="the same value_max and sub_bits"):
            act(other)
        with pytest.raises(TypeError, match="a Histogram is wanted, not int"):
            act(5)


def test_taking_moves_everything_out(impl):
    made = filled(impl("meter"), [5, 7, -1, 10**6])
    taken = made.take()
    assert (taken.count, taken.min, taken.max, taken.sum, taken.clamped) == (4, 0, 10**6, 10**6 + 12, 1)
    assert (made.count, made.min, made.max, made.sum, made.clamped) == (0, 0, 0, 0, 0)
    made.record(9)
    assert (made.min, made.max) == (9, 9)
    made.reset()
    assert (made.count, made.sum) == (0, 0)
    assert taken.count == 4


def test_counts_up_to_bounds_are_what_an_exporter_wants(impl):
    made = filled(impl("meter"), [1, 10, 10, 100, 200, 10**6])
    assert made.counts_upto([0, 9, 10, 150, 200, 10**9, 1 << 90]) == [0, 1, 3, 4, 5, 6, 6]
    assert made.counts_upto([-5]) == [0]
    assert made.counts_upto([]) == []
    with pytest.raises(ValueError, match="must ascend"):
        made.counts_upto([5, 4])


# ------------------------------------------------------------------------------------------------------- threads
@pytest.mark.parametrize("writers", [2, 4])
def test_writers_without_the_gil_lose_nothing(writers):
    made, counter, count = core.Histogram(), core.Counter(), 50_000
    one_by_one = [lambda first=n: made.record_range(first * 1000, count) for n in range(writers // 2)]
    in_bulk = [lambda first=n: made.record_many(np.arange(first, first + count)) for n in range(writers - writers // 2)]
    together(*one_by_one, *in_bulk, *[lambda: counter.inc_many(count) for _ in range(writers)])
    whole = core.Histogram()
    for n in range(writers // 2):
        whole.record_many(np.arange(n * 1000, n * 1000 + count))
    for n in range(writers - writers // 2):
        whole.record_many(np.arange(n, n + count))
    assert counter.value == made.count == writers * count
    assert made.buckets() == whole.buckets()
    assert (made.sum, made.min, made.max) == (whole.sum, whole.min, whole.max)


def test_what_is_taken_from_under_the_writers_and_what_is_left_make_the_whole():
    made, count = core.Histogram(), 100_000
    taken, done = core.Histogram(), threading.Event()

    def write(first):
        made.record_range(first, count)
        done.set()

    def take():
        while not done.is_set():
            part = made.take()
            assert part.count == 0 or 1 <= part.min <= part.max <= (count + 2) * 1.01
            assert made.percentile(50) <= (count + 2) * 1.01
            taken.merge(part)

    together(lambda: write(1), lambda: write(2), take)
    taken.merge(made)
    assert taken.count == 2 * count
    assert taken.sum == count * (count + 1) + count
    assert (taken.min, taken.max) == (1, count + 1)


def test_python_threads_lose_nothing(impl):
    made, counter, meter = impl("meter").Histogram(), impl("meter").Counter(), impl("meter").Meter()
    count = 3000 if impl("meter") is core else 300

    def work():
        for value in range(count):
            made.record(value)
            counter.inc()
            meter.counter("calls", {"tool": str(value % 50)}).inc()

    together(*[work] * 4)
    assert made.count == counter.value == 4 * count
    assert sum(value for _, _, value in meter.snapshot()) == 4 * count
    assert len(meter) == 50


# --------------------------------------------------------------------------------------------------------- meter
def test_the_same_name_and_labels_are_the_same_series(impl):
    meter = impl("meter").Meter()
    calls = meter.counter("calls", {"tool": "echo", "era": "new"})
    assert meter.counter("calls", {"era": "new", "tool": "echo"}) is calls
    assert meter.counter("calls", {"era": "new", "tool": "add"}) is not calls
    times = meter.histogram("times")
    assert meter.histogram("times", {}) is times
    calls.add(3)
    times.record(1000)
    (first, second, third) = meter.snapshot()
    assert first == ("calls", (("era", "new"), ("tool", "echo")), 3)
    assert second == ("calls", (("era", "new"), ("tool", "add")), 0)
    assert third[:2] == ("times", ())
    times.record(2000)
    assert third[2].count == 1
    assert meter.series()[0][2] is calls
    assert len(meter) == 3
    meter.check()


def test_label_sets_beyond_the_bound_share_one_series(impl):
    meter = impl("meter").Meter(series_max=3)
    for n in range(10_000 if impl("meter") is core else 500):
        meter.counter("calls", {"tool": f"made-up-{n}", "era": "new"}).inc()
    assert len(meter) == 4
    assert meter.snapshot()[-1] == ("calls", (("era", "other"), ("tool", "other")), meter.collapsed)
    assert meter.collapsed == (9_997 if impl("meter") is core else 497)
    assert meter.counter("calls", {"tool": "made-up-1", "era": "new"}).value == 1
    assert meter.counter("calls", {"tool": "x" * 201, "era": "new"}).value == meter.collapsed - 1
    meter.counter("another").inc()
    assert len(meter) == 5
    meter.check()


def test_names_beyond_the_bound_share_one_series_a_kind(impl):
    meter = impl("meter").Meter(names_max=2)
    meter.counter("a")
    meter.histogram("b")
    others = [meter.counter(f"made-up-{n}", {"tool": "echo"}) for n in range(5)]
    assert all(other is others[0] for other in others)
    assert meter.histogram("made-up") is meter.histogram("other_histogram")
    assert meter.counter("other_counter") is others[0]
    assert meter.collapsed == 6
    assert [name for name, _, _ in meter.series()] == ["a", "b", "other_counter", "other_histogram"]
    assert meter.counter("a", {}) is meter.series()[0][2]
    meter.check()


def test_a_name_has_one_kind_and_one_set_of_labels(impl):
    meter = impl("meter").Meter()
    meter.counter("calls", {"tool": "echo"})
    for wrong in ({}, None, {"era": "new"}, {"tool": "echo", "era": "new"}):
        with pytest.raises(ConfigurationError, match=r"'calls' has the labels \['tool'\]"):
            meter.counter("calls", wrong)
    with pytest.raises(ConfigurationError, match="'calls' is not the name of a histogram"):
        meter.histogram("calls", {"tool": "echo"})
    with pytest.raises(ConfigurationError):
        meter.histogram("other_counter")
    assert len(meter) == 1
    meter.check()


def test_names_and_labels_that_are_none_are_refused(impl):
    meter = impl("meter").Meter()
    for wrong in ("", "x" * 201):
        with pytest.raises(ValueError, match="1 to 200 characters"):
            meter.counter(wrong)
        with pytest.raises(ValueError, match="1 to 200 characters"):
            meter.counter("a", {wrong: "b"})
    for name, labels in ((b"a", None), (type("Str", (str,), {})("a"), None), ("a", [("k", "v")]), ("a", {"k": 1})):
        with pytest.raises(TypeError):
            meter.counter(name, labels)
    with pytest.raises(ValueError, match="at most 16 labels"):
        meter.counter("a", {f"label{n}": "" for n in range(17)})
    for bounds in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            impl("meter").Meter(*bounds)
    with pytest.raises(ValueError):
        impl("meter").Meter(sub_bits=99)
    assert len(meter) == 0


# ------------------------------------------------------------------------------------------------ state machines
class HistogramMachine(RuleBasedStateMachine):
    """Three histograms in core and in model: the same answers, the same errors."""

    @initialize(value_max=st.sampled_from([1, 100, 5000, 2**44 - 1, 2**61 - 1]), sub_bits=st.sampled_from([1, 4, 7]))
    def start(self, value_max, sub_bits):
        self.pair = [[room.Histogram(value_max, sub_bits) for _ in range(3)] for room in (core, model)]

    def both(self, act):
        outcomes = []
        for trio in self.pair:
            try:
                outcomes.append(act(trio))
            except ValueError as error:
                outcomes.append(str(error))
        assert outcomes[0] == outcomes[1]

    which = st.integers(0, 2)

    @rule(i=which, values=st.lists(st.integers(-(2**65), 2**65) | st.integers(0, 6000)))
    def record(self, i, values):
        self.both(lambda trio: trio[i].record_many(values))

    @rule(i=which, values=st.lists(st.floats() | st.floats(-2, 6000)))
    def record_floats(self, i, values):
        self.both(lambda trio: trio[i].record_many(np.array(values, "d")))

    @rule(i=which, first=st.integers(-5, 10**9), count=st.integers(0, 50))
    def record_range(self, i, first, count):
        self.both(lambda trio: trio[i].record_range(first, count))

    @rule(i=which, j=which, act=st.sampled_from(["merge", "subtract"]))
    def combine(self, i, j, act):
        self.both(lambda trio: getattr(trio[i], act)(trio[j]))

    @rule(i=which, j=which, act=st.sampled_from(["take", "copy"]))
    def move(self, i, j, act):
        for trio in self.pair:
            trio[j] = getattr(trio[i], act)()

    @rule(i=which, percent=st.floats(-1, 101), bounds=st.lists(st.integers(-5, 10**13)).map(sorted))
    def ask(self, i, percent, bounds):
        self.both(lambda trio: trio[i].percentile(percent))
        self.both(lambda trio: trio[i].counts_upto(bounds))

    @invariant()
    def agree(self):
        for trio in getattr(self, "pair", []):
            for made in trio:
                made.check()
        if hasattr(self, "pair"):
            self.both(lambda trio: [(h.count, h.min, h.max, h.sum, h.mean, h.clamped) for h in trio])
            self.both(lambda trio: [(h.buckets(), h.percentiles([0, 50, 99, 100])) for h in trio])


class MeterMachine(RuleBasedStateMachine):
    @initialize(names_max=st.integers(1, 4), series_max=st.integers(1, 4))
    def start(self, names_max, series_max):
        self.pair = [room.Meter(names_max, series_max, value_max=1000, sub_bits=2) for room in (core, model)]

    @rule(
        kind=st.sampled_from(["counter", "histogram"]),
        name=st.sampled_from(["a", "b", "c", "d", "e", "other_counter", "other_histogram", ""]),
        labels=st.none() | st.dictionaries(st.just("k"), st.sampled_from([*"12345", "other", "x" * 201])),
    )
    def count(self, kind, name, labels):
        outcomes = []
        for meter in self.pair:
            try:
                made = getattr(meter, kind)(name, labels)
                made.add(1) if kind == "counter" else made.record(5)
                outcomes.append(None)
            except (ConfigurationError, ValueError) as error:
                outcomes.append(str(error))
        assert outcomes[0] == outcomes[1]

    @invariant()
    def agree(self):
        seen = []
        for meter in getattr(self, "pair", []):
            meter.check()
            held = [(n, key, kept if isinstance(kept, int) else kept.count) for n, key, kept in meter.snapshot()]
            seen.append((held, len(meter), meter.collapsed))
        assert seen[:1] == seen[1:]


TestHistogramMachine = HistogramMachine.TestCase
TestHistogramMachine.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
TestMeterMachine = MeterMachine.TestCase
TestMeterMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


@pytest.mark.deep
@pytest.mark.parametrize("machine", [HistogramMachine, MeterMachine])
def test_ten_thousand_steps_keep_core_and_model_together(machine):
    run_state_machine_as_test(machine, settings=settings(max_examples=100, stateful_step_count=120, deadline=None))


@pytest.mark.skipif(not memory.IS_CHECKED, reason="needs ERLMCP_BUILD=checked")
def test_whichever_allocation_fails_nothing_is_lost_or_leaked():
    before = memory.live_blocks()
    every_act_fails_once()
    assert memory.live_blocks() == before


def every_act_fails_once():
    meter = core.Meter(value_max=1000)
    whole = filled(core, [1, 2, 3], value_max=1000)
    acts = [
        lambda: core.Histogram(value_max=1000),
        lambda: whole.copy(),
        lambda: whole.take(),
        lambda: whole.percentiles([50, 99]),
        lambda: meter.histogram("times"),
        lambda: meter.snapshot(),
    ]
    for act in acts:
        failures = 0
        for count in range(1, 4):
            memory.fail_after(count)
            try:
                act()
            except MemoryError:
                failures += 1
            finally:
                memory.fail_never()
            whole.check()
            meter.check()
            if failures == count:
                assert whole.count == 3
        assert failures == 1
        whole.reset()
        whole.record_many([1, 2, 3])
    assert len(meter) == 1
