"""The recorder: series, ticks, gauges, the calls for anybody, and many threads that record."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from erlmcp.errors import ConfigurationError
from erlmcp.metrics import family as f
from erlmcp.metrics.recorder import (
    SAMPLE_EVERY,
    SERIES_A_TURN,
    SHOWN_MAX,
    SLOT_COUNT,
    SLOT_OF_KIND,
    SLOT_OF_VERSION,
    Recorder,
)
from erlmcp.metrics.trace import FOLLOWED_A_SECOND_MAX, Trace, Traces
from erlmcp.metrics.window import FIVE_MINUTES, HOUR, MINUTE, SECOND, percentiles


class Loop:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], object]]] = []
        self.soon: list[Callable[[], object]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], object]) -> Loop:
        self.timers.append((when, callback))
        return self

    def call_soon(self, callback: Callable[[], object]) -> None:
        self.soon.append(callback)

    def cancel(self) -> None:
        self.timers.clear()

    def go(self, seconds: float) -> None:
        self.now += seconds
        while self.timers and self.timers[0][0] <= self.now:
            self.timers.pop(0)[1]()


def call(recorder: Recorder, tool: str = "add", error: str = "", kind: str = "http") -> None:
    recorder.operation("tools/call", tool, error, "", kind, "2026-07-28").hot.record(50_000)


def test_what_is_recorded_is_read_at_once_and_after_any_tick() -> None:
    recorder = Recorder()
    series = recorder.operation("tools/call", "add", "", "", "http", "2026-07-28")
    for count in range(1, 4):
        series.hot.record(1000)
        assert series.whole().count == count
        recorder.tick()
        assert series.whole().count == count
    assert series.total.count == 3
    assert series.hot.count == 0


def test_spans_slide_with_the_ticks() -> None:
    recorder = Recorder()
    call(recorder)
    recorder.tick()
    found = {span: sum(recorder.span_counts(recorder.operations(), span).values()) for span in (SECOND, MINUTE, HOUR)}
    assert found == {SECOND: 1, MINUTE: 1, HOUR: 1}
    for _ in range(60):
        recorder.tick()
    found = {
        span: sum(recorder.span_counts(recorder.operations(), span).values())
        for span in (SECOND, MINUTE, FIVE_MINUTES, HOUR)
    }
    assert found == {SECOND: 0, MINUTE: 0, FIVE_MINUTES: 1, HOUR: 1}
    assert recorder.seconds_of(MINUTE) == 60
    assert len(recorder.history) == 61


def test_the_history_has_calls_errors_and_percentiles_of_each_second() -> None:
    recorder = Recorder()
    call(recorder)
    call(recorder, error="tool_error")
    recorder.tick()
    recorder.tick()
    (first, calls, errors, p50, p95, p99), (second, *nothing) = recorder.history
    assert (first, calls, errors) == (1, 2, 1)
    assert p50 == p95 == p99 == pytest.approx(50_000, rel=0.01)
    assert (second, nothing) == (2, [0, 0, 0.0, 0.0, 0.0])


def test_series_are_put_together_by_tool_transport_revision_and_method() -> None:
    recorder = Recorder()
    call(recorder, "a", kind="http")
    call(recorder, "a", kind="stdio", error="tool_error")
    call(recorder, "b", kind="stdio")
    recorder.operation("ping", None, "", "", "stdio", "2025-11-25").hot.record(50_000)
    recorder.tick()
    by_tool = recorder.tools()
    assert {name: len(series) for name, series in by_tool.items()} == {"a": 2, "b": 1}
    assert percentiles(recorder.span_counts(by_tool["a"]))[0] == pytest.approx(50_000, rel=0.01)
    found = {
        key: (sum(group.window.counts(MINUTE, 1).values()), sum(group.errors.counts(MINUTE, 1).values()))
        for key, group in recorder.groups.items()
    }
    assert found == {
        ("all", ""): (4, 1),
        ("transport", "tcp http 1.1"): (1, 0),
        ("transport", "pipe"): (3, 1),
        ("version", "2026-07-28"): (3, 1),
        ("version", "2025-11-25"): (1, 0),
        ("method", "tools/call"): (3, 1),
        ("method", "ping"): (1, 0),
    }
    for _ in range(60):
        recorder.tick()
    assert not recorder.groups["all", ""].window.counts(MINUTE, 61)


def test_a_slot_is_the_series_of_its_transport_and_revision() -> None:
    recorder = Recorder()
    slot = SLOT_OF_KIND["unix"] + SLOT_OF_VERSION["2025-06-18"]
    assert slot < SLOT_COUNT
    assert (
        recorder.slot("tools/call", "add", slot)
        is recorder.operation("tools/call", "add", "", "", "unix", "2025-06-18").hot
    )


def test_a_loop_ticks_once_a_second_and_makes_up_for_a_stall() -> None:
    recorder, loop = Recorder(), Loop()
    recorder.start(loop)
    loop.go(0.9)
    assert recorder.second == 0
    loop.go(0.1)
    assert recorder.second == 1
    loop.go(3.5)
    assert recorder.second == 4
    recorder.stop()
    loop.go(10)
    assert recorder.second == 4


def test_a_tick_over_many_series_lets_the_loop_go_on_in_between() -> None:
    recorder, loop = Recorder(), Loop()
    for number in range(3 * SERIES_A_TURN):
        call(recorder, f"tool-{number}")
    told: list[int] = []
    recorder.after_tick.append(lambda: told.append(recorder.history[-1][1]))
    recorder.start(loop)
    loop.go(1)
    turns = 0
    while loop.soon:
        assert not told
        loop.soon.pop(0)()
        turns += 1
    assert turns == 3
    assert told == [3 * SERIES_A_TURN]


def test_records_of_anybody_keep_their_labels_and_refuse_others() -> None:
    recorder = Recorder()
    recorder.record_transport_operation("up", "tcp", "send", 1500)
    recorder.record_server_operation("shop", "reload", 0, {"why": "signal"})
    recorder.record_registry_operation("find", 90)
    found = {family.name: [each.labels for each in series] for family, series in recorder.families()}
    assert found == {
        "transport": [(("kind", "tcp"), ("operation", "send"), ("transport", "up"))],
        "server": [(("operation", "reload"), ("server", "shop"), ("why", "signal"))],
        "registry": [(("operation", "find"),)],
    }
    with pytest.raises(ConfigurationError, match="has the labels"):
        recorder.record_server_operation("shop", "reload", 5, {"who": "me"})
    with pytest.raises(TypeError):
        recorder.record_registry_operation(5, 5)  # type: ignore[arg-type]


def test_many_threads_record_and_no_record_is_lost_while_the_loop_ticks() -> None:
    recorder = Recorder()
    done = threading.Event()

    def work() -> None:
        for _ in range(5000):
            recorder.record_server_operation("s", "o", 1000)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    while any(each.is_alive() for each in threads):
        recorder.tick()
    done.set()
    ((_, (series,)),) = recorder.families()
    assert series.whole().count == 20_000


def test_of_a_flood_of_errors_a_hundred_a_second_leave_a_trace_and_then_a_sample_and_all_are_counted() -> None:
    recorder = Recorder(trace_max=10_000, slow_s=1000.0)
    call = SimpleNamespace(method="tools/call", name="add", entry=object(), id=1, meta=None)
    peer, channel = SimpleNamespace(version="2026-07-28"), SimpleNamespace(kind="http")

    def refuse(count: int) -> int:
        before = len(recorder.traces.rings["error"])
        for _ in range(count):
            now_ns = time.perf_counter_ns()
            exchange = SimpleNamespace(
                call=call, peer=peer, channel=channel, began_ns=now_ns, handler_ns=0, handled_ns=0, upstream_ns=0
            )
            recorder.finish(exchange, "", "-32000", "Server busy")
        return len(recorder.traces.rings["error"]) - before

    assert refuse(SHOWN_MAX) == SHOWN_MAX
    assert refuse(10 * SAMPLE_EVERY) == 10
    recorder.tick()
    assert refuse(SHOWN_MAX) == SHOWN_MAX
    counted = sum(series.whole().count for _, group in recorder.families() for series in group if series.label(f.ERROR))
    assert counted == 2 * SHOWN_MAX + 10 * SAMPLE_EVERY


def test_a_trace_is_kept_for_an_error_or_for_being_slow_and_others_go_to_followers_only() -> None:
    traces = Traces(3, 1_000_000)
    assert traces.reason_of(5, "tool_error") == "error"
    assert traces.reason_of(1_000_000, "") == "slow"
    assert traces.reason_of(5, "") == ""
    told: list[Trace] = []
    traces.follow(told.append)
    assert traces.floor_ns == 0
    assert traces.reason_of(5, "") == "followed"
    traces.put("followed", 5, method="ping")
    assert not traces.since(0)
    assert told[0].method == "ping"
    traces.leave(told.append)
    assert traces.floor_ns == 1_000_000
    for number in range(5):
        traces.put("error", 10, method="tools/call", name="x" * 999, id=number, error="tool_error", rooms={"read": 15})
    traces.put("slow", 2_000_000, method="tools/call")
    assert [trace.number for trace in traces.since(4)] == [4 + 1, 6, 7]
    shown = traces.since(5)[0].as_json()
    assert (len(shown["name"]), shown["rooms"], shown["us"], shown["id"]) == (200, {"read": 0.01}, 0.0, "4")


def test_followers_are_told_of_a_bounded_number_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    traces = Traces(3, 1000)
    told: list[Trace] = []
    traces.follow(told.append)
    monkeypatch.setattr("erlmcp.metrics.trace.time.time", lambda: 5.0)
    for _ in range(FOLLOWED_A_SECOND_MAX + 7):
        traces.put("followed", 5)
    assert (len(told), traces.skipped_count) == (FOLLOWED_A_SECOND_MAX, 7)
    monkeypatch.setattr("erlmcp.metrics.trace.time.time", lambda: 6.0)
    traces.put("followed", 5)
    assert len(told) == FOLLOWED_A_SECOND_MAX + 1


def test_of_samples_one_a_second_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    traces = Traces(3, 1000)
    for second in (5.0, 5.5, 6.0):
        monkeypatch.setattr("erlmcp.metrics.trace.time.time", lambda second=second: second)
        traces.put("sample", 7)
    assert [trace.at_s for trace in traces.since(0)] == [5.0, 6.0]
