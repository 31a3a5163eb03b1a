"""The texts of several processes as one: what adds up, what stays apart, and hostile labels."""

from __future__ import annotations

from typing import Any

import pytest

from erlmcp.metrics.merge import GONE, merged
from erlmcp.metrics.prometheus import expose
from erlmcp.metrics.recorder import Recorder
from tests.metrics.test_prometheus import HOSTILE

parser = pytest.importorskip("prometheus_client.parser")
openmetrics = pytest.importorskip("prometheus_client.openmetrics.parser")


def made(count: int, name: str = "add") -> Recorder:
    recorder = Recorder()
    series = recorder.operation("tools/call", name, "", "", "http", "2026-07-28")
    for _ in range(count):
        series.hot.record(15_000)
    recorder.gauge("shop_orders_open", "Orders.", lambda: count)
    recorder.gauge("shop_orders_by", "Orders.", lambda: {(("kind", "a} 1 # b"),): count})
    recorder.gauge("shop_orders_total", "Orders ever.", lambda: 10 * count, "counter")
    series.keep(f"{count:032x}", 15_000)
    return recorder


def samples(text: str, reader: Any = parser) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))): sample.value
        for family in reader.text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.parametrize("is_open", [False, True])
def test_histograms_and_counters_add_up_and_gauges_have_the_worker(is_open: bool) -> None:
    texts = [(str(count), expose(made(count), openmetrics=is_open).decode()) for count in (2, 3)]
    found = samples(merged(texts), openmetrics if is_open else parser)
    name = "erlmcp_operation_duration_microseconds"
    assert [value for key, value in found.items() if key[0] == f"{name}_count"] == [5]
    assert [value for key, value in found.items() if key[0] == f"{name}_bucket" and "le=20.0" in key] == [5]
    assert [value for key, value in found.items() if key[0] == f"{name}_sum"] == [75]
    assert found["shop_orders_total",] == 50
    assert (found["shop_orders_open", "worker=2"], found["shop_orders_open", "worker=3"]) == (2, 3)
    assert found["shop_orders_by", "kind=a} 1 # b", "worker=3"] == 3


def test_of_a_process_that_is_gone_only_what_adds_up_is_left() -> None:
    texts = [(GONE, expose(made(2)).decode()), ("1", expose(made(3)).decode())]
    found = samples(merged(texts))
    assert found["shop_orders_total",] == 50
    assert [key for key in found if key[0] == "shop_orders_open"] == [("shop_orders_open", "worker=1")]


def test_what_was_merged_may_be_merged_again() -> None:
    one, two, three = (expose(made(count)).decode() for count in (1, 2, 3))
    twice = merged([(GONE, merged([(GONE, one), (GONE, two)])), ("3", three)])
    assert samples(twice) == samples(merged([(GONE, one), (GONE, two), ("3", three)]))


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_go_through(name: str) -> None:
    alone = samples(expose(made(2, name)).decode())
    found = samples(merged([("0", expose(made(1, name)).decode()), ("1", expose(made(1, name)).decode())]))
    operations = {key: value for key, value in alone.items() if "operation_duration" in key[0]}
    assert operations.items() <= found.items()


def test_an_example_of_each_bucket_is_kept() -> None:
    text = merged([(str(count), expose(made(count), openmetrics=True).decode()) for count in (2, 3)])
    assert f'trace_id="{3:032x}"' in text
    assert text.endswith("# EOF\n")
    assert text.count("# EOF") == 1
