"""What is recorded, shown and logged where names, numbers and readers are not what one would wish."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from erlmcp import Server
from erlmcp.metrics import family as f
from erlmcp.metrics import log, prometheus
from erlmcp.metrics.desk import Ask, Desk
from erlmcp.metrics.recorder import Recorder
from erlmcp.server.observe import tell_requests
from erlmcp.wire.header import Gate


def test_a_number_that_cannot_be_read_is_left_out_and_the_others_are_shown() -> None:
    recorder = Recorder()
    recorder.gauge("mine", "A gauge of the program's.", lambda: {(("of", "it"),): None})  # type: ignore[dict-item]
    recorder.gauge("other", "Another one.", lambda: 2)
    assert b"\nother 2\n" in prometheus.expose(recorder)


class Reader:
    """The transport's side of an event stream."""

    def __init__(self) -> None:
        self.gone: Any = None
        self.sent: list[bytes] = []

    def plain(self, status: int, body: bytes, extra: bytes = b"", content_type: bytes = b"") -> None:
        raise AssertionError(f"{status}: {body!r}")

    def open(self, extra: bytes) -> None:
        """The stream begins."""

    def send(self, data: bytes) -> None:
        self.sent.append(data)

    def finish(self) -> None:
        """The stream ends."""


async def test_the_dashboard_is_fed_json_whatever_a_gauge_gives() -> None:
    from erlmcp.dashboard import feed

    server = Server("s")
    assert server.board is not None
    gauge = server.board.recorder.gauge
    for value in ("nan", "inf"):
        gauge(f"one_{value}", "x", lambda value=value: float(value))  # type: ignore[misc]
        gauge(f"more_{value}", "x", lambda value=value: {(("a", "b"),): float(value)})  # type: ignore[misc]

    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    async with server.running():
        desk, reader = Desk(Gate("/mcp", True), server.board.recorder), Reader()
        feed.stream(server.board, desk, Ask("GET", {}, {}, reader))
        desk.end_streams()
    (event,) = reader.sent
    data = b"".join(line[6:] for line in event.split(b"\n") if line.startswith(b"data: "))
    assert json.loads(data, parse_constant=refuse)["numbers"]["one_nan"] is None


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    root = logging.getLogger()
    before = root.handlers[:], root.level
    log.setup("info", log.TEXT, stream)
    yield stream
    root.handlers[:] = before[0]
    root.setLevel(before[1])


def test_a_log_call_whose_arguments_do_not_fit_is_no_error_of_who_made_it(
    logged: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logging.getLogger("elsewhere").error("%d things", "three")
    logging.getLogger("elsewhere").error("told")
    assert "told" in logged.getvalue()


async def test_the_id_of_a_request_forges_no_line_of_the_log(
    logged: io.StringIO, talk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "request_of", log.request_of)
    tell_requests()
    server = Server("s")

    @server.tool
    def note() -> str:
        logging.getLogger("author").error("noted")
        return ""

    async with talk(server, "2026-07-28", {}) as client:
        await client.call("note", id="1\nforged\x1b[2J")
    (line,) = [line for line in logged.getvalue().split("\n") if "noted" in line or "forged" in line]
    assert line.isprintable()


async def test_methods_that_callers_make_up_are_one_method_in_what_is_exported(talk: Any) -> None:
    sdk = pytest.importorskip("opentelemetry.sdk.metrics")
    reader = pytest.importorskip("opentelemetry.sdk.metrics.export").InMemoryMetricReader()
    from erlmcp.metrics.opentelemetry import instrument

    server = Server("s")
    instrument(server, meter_provider=sdk.MeterProvider([reader]))
    async with talk(server, "2026-07-28", {}) as client:
        for number in range(5):
            await client.error(f"made/up{number}")
    (resource,) = reader.get_metrics_data().resource_metrics
    points = [each for metric in resource.scope_metrics[0].metrics for each in metric.data.data_points]
    assert [(each.attributes[f.METHOD], each.count) for each in points] == [(f.OTHER_METHOD, 5)]
