"""The text formats, read by prometheus-client's own parsers: names, labels, buckets, and hostile names."""

from __future__ import annotations

import math
from typing import Any

import pytest

from erlmcp.metrics import family as f
from erlmcp.metrics.prometheus import expose, number, wants_openmetrics
from erlmcp.metrics.recorder import Recorder

parser = pytest.importorskip("prometheus_client.parser")
openmetrics = pytest.importorskip("prometheus_client.openmetrics.parser")

HOSTILE = [
    'a"b',
    "a\\b",
    "a\\",
    "line\nfeed",
    "carriage\rreturn",
    "\u2028 separator",
    "nul\0",
    "} 1\nevil_metric 1",
    '"} 9\n# TYPE evil counter\nevil 1 #',
    "\ud800 half a pair",
    "\U0001f600",
    "{",
    "le",
    " ",
    "# EOF",
    "\\n",
    "100 %s %d %",
]


def read(recorder: Recorder, kind: str) -> dict[str, Any]:
    data = expose(recorder, openmetrics=kind == "openmetrics").decode()
    reader = openmetrics if kind == "openmetrics" else parser
    return {family.name: family for family in reader.text_string_to_metric_families(data)}


@pytest.fixture(params=["text", "openmetrics"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_names_and_the_buckets_are_those_of_the_conventions(kind: str) -> None:
    recorder = Recorder()
    recorder.operation("tools/call", "add", "", "", "http", "2026-07-28").hot.record(15_000_000)
    found = read(recorder, kind)
    family = found["mcp_server_operation_duration_seconds"]
    assert family.type == "histogram"
    samples = {
        (sample.name.removeprefix(family.name), sample.labels.get("le")): sample.value for sample in family.samples
    }
    bounds = [key[1] for key in samples if key[1]]
    assert [float(bound) for bound in bounds] == [*f.SECONDS_BOUNDS, math.inf]
    assert samples["_bucket", "0.01"] == 0
    assert samples["_bucket", "0.02"] == 1
    assert samples["_count", None] == 1
    assert samples["_sum", None] == pytest.approx(0.015)
    labels = family.samples[0].labels
    assert {key: value for key, value in labels.items() if key != "le"} == {
        "mcp_method_name": "tools/call",
        "gen_ai_tool_name": "add",
        "network_transport": "tcp",
        "network_protocol_name": "http",
        "network_protocol_version": "1.1",
        "mcp_protocol_version": "2026-07-28",
    }


def test_the_same_durations_are_given_in_microseconds(kind: str) -> None:
    recorder = Recorder()
    recorder.operation("ping", None, "", "", "stdio", "2025-11-25").hot.record(1_500)
    family = read(recorder, kind)["erlmcp_operation_duration_microseconds"]
    below = {sample.labels["le"]: sample.value for sample in family.samples if "le" in sample.labels}
    assert (below["1.0"], below["2.0"], below["+Inf"]) == (0, 1, 1)


def test_the_parsers_accept_every_line_with_hostile_tool_names_and_give_the_names_back(kind: str) -> None:
    recorder = Recorder()
    for name in HOSTILE:
        recorder.operation("tools/call", name, "", "", "tcp", "2025-11-25").hot.record(1000)
        recorder.record_server_operation(name, name, 1000, {"any": name})
        recorder.record_registry_operation(name, 5, {"any": name})
        recorder.record_transport_operation(name, name, name, 5)
    recorder.gauge("erlmcp_test", "A \\ help\nof two lines", lambda: {(("tool", name),): 1.0 for name in HOSTILE})
    found = read(recorder, kind)
    assert not [name for name in found if "evil" in name]
    spelled = {name.encode("utf-8", "backslashreplace").decode() for name in HOSTILE}
    for name in ("mcp_server_operation_duration_seconds", "erlmcp_test"):
        family = found[name]
        seen = {sample.labels.get("gen_ai_tool_name") or sample.labels.get("tool") for sample in family.samples}
        assert seen == spelled
    data = expose(recorder, openmetrics=kind == "openmetrics").decode()
    lines = data.splitlines() if "\u2028" not in data else data.split("\n")
    assert all(line.startswith(("# ", "mcp_", "erlmcp_")) for line in lines if line)


def test_ten_thousand_made_up_names_are_one_series() -> None:
    recorder = Recorder()
    for index in range(10_000):
        recorder.operation("tools/call", None, "", "-32602", "http", "2026-07-28").hot.record(10)
        recorder.operation(f"method/{index}", None, "", "", "http", "2026-07-28").hot.record(10)
        recorder.operation("ping", None, "", "", "http", f"19{index}").hot.record(10)
    recorder.operation("tools/call", "add", "", "", "http", "2026-07-28").hot.record(10)
    (_, series), *more = recorder.families()
    assert not more
    assert len(series) == 4
    assert {each.label(f.TOOL) for each in series} == {"", "add", f.UNKNOWN}
    assert sorted(each.whole().count for each in series) == [1, 10_000, 10_000, 10_000]
    assert len(recorder._known) < 10


def test_label_sets_of_known_names_are_bounded_and_nothing_is_lost() -> None:
    recorder = Recorder(series_max=50)
    for index in range(10_000):
        recorder.operation("tools/call", f"tool-{index}", "", "", "http", "2026-07-28").hot.record(10)
    ((_, series),) = recorder.families()
    assert len(series) == 51
    assert sum(each.whole().count for each in series) == 10_000
    assert {each.label(f.TOOL) for each in series if each.whole().count > 1} == {"other"}
    assert len(recorder._known) <= 100


def test_a_counter_has_the_suffix_that_openmetrics_wants() -> None:
    recorder = Recorder()
    recorder.gauge("erlmcp_bytes_total", "Bytes.", lambda: 5, "counter")
    recorder.gauge("erlmcp_gone", "Raises.", lambda: 1 / 0)
    assert b"# TYPE erlmcp_bytes_total counter\nerlmcp_bytes_total 5\n" in expose(recorder)
    said = expose(recorder, openmetrics=True)
    assert b"# TYPE erlmcp_bytes counter\nerlmcp_bytes_total 5\n" in said
    assert said.endswith(b"# EOF\n")
    assert b"gone" not in said


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (None, False),
        ("*/*", False),
        ("text/plain", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1", True),
        ("application/openmetrics-text;q=0.2,text/plain;q=0.5", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=x, text/plain", False),
        ("APPLICATION/OpenMetrics-Text ; Q=1", True),
    ],
)
def test_the_format_goes_by_accept(accept: str | None, wanted: bool) -> None:
    assert wants_openmetrics(accept) is wanted


@pytest.mark.parametrize(
    ("value", "text"),
    [(3, "3"), (0.5, "0.5"), (math.inf, "+Inf"), (-math.inf, "-Inf"), (math.nan, "NaN"), (1e300, "1e+300")],
)
def test_numbers_are_written_as_the_formats_want_them(value: float, text: str) -> None:
    assert number(value) == text
