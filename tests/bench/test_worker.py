"""Processes that measure on demand, and the way of a message that is measured in them."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from erlmcp.bench import journey, server, worker
from erlmcp.bench.components.network import remote
from erlmcp.bench.timing import Timed
from erlmcp.bench.worker import Worker, WorkerError, answer, main


def made(count: int) -> Timed:
    return Timed(count, lambda repeats: repeats * count * 10, lambda: None)


def request(**given: Any) -> dict[str, Any]:
    return {"make": f"{__name__}:made", "given": [5], **given}


def test_what_was_made_is_kept_for_the_next_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, __name__, sys.modules[made.__module__])
    kept: dict[str, Timed] = {}
    assert answer(request(repeats=3), kept) == {"ns": 150, "count": 5}
    (first,) = kept.values()
    answer(request(repeats=1), kept)
    assert list(kept.values()) == [first]
    assert set(answer(request(repeats=0), kept)) == {"p50_ns", "p95_ns", "p99_ns"}
    assert answer({"tell": "math:sqrt", "given": [9]}, kept) == {"value": 3}


def test_a_request_that_fails_is_answered_with_its_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = '{"make": "no.such:thing", "given": [], "repeats": 1}\n{"tell": "math:sqrt", "given": [4]}\n'
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    main()
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert "ModuleNotFoundError" in first["error"]
    assert second == {"value": 2}


def test_a_worker_measures_tells_and_reports_what_went_wrong() -> None:
    one = Worker()
    try:
        timed = one.timed("erlmcp.bench.components:made", "slab", "call")
        assert timed.count > 1
        assert timed.elapsed(2) > 0
        assert one.tell_afresh("os:getpid") != one.process.pid
        with pytest.raises(WorkerError, match="not built"):
            one.ask(tell="erlmcp.bench.room:loop", given=["attic"])
    finally:
        one.close()


def test_a_worker_that_died_says_why(tmp_path: Path) -> None:
    (tmp_path / "erlmcp").mkdir()
    (tmp_path / "erlmcp/__init__.py").write_text("raise ImportError('a build that is broken')")
    one = Worker(path=tmp_path)
    try:
        with pytest.raises(WorkerError, match="process ended: ImportError: a build that is broken"):
            one.ask(tell="os:getpid", given=[])
    finally:
        one.close()


@pytest.mark.parametrize("kind", ["ping", "echo"])
@pytest.mark.parametrize("variant", [{}, {"ERLMCP_CORE": "model", "ERLMCP_PHASE": "baseline"}], ids=["core", "model"])
def test_messages_are_answered_on_the_whole_way(kind: str, variant: dict[str, str]) -> None:
    timed = remote(kind, 8, is_plain_json=bool(variant), **variant)()
    assert timed.count == 8
    assert timed.elapsed(1) > 0


def test_requests_have_ids_of_their_own() -> None:
    for kind in ("ping", "echo"):
        lines = journey.lines(kind, 50)
        assert len({json.loads(line)["id"] for line in lines}) == 50


def test_the_json_module_takes_the_place_of_ujson(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ujson", sys.modules["json"])
    journey.use_json_module()
    ujson = sys.modules["ujson"]
    assert ujson.loads('{"a": [1]}') == {"a": [1]}
    assert ujson.dumps({"ä": 1}, ensure_ascii=False, escape_forward_slashes=False, reject_bytes=True) == '{"ä":1}'


def test_our_server_is_measured_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "out.json"
    arguments = ["--seconds", "0.1", "--rounds", "1", "--connections", "1", "--inflight", "4", "--json", str(file)]
    assert server.main(arguments) == 0
    rows = json.loads(file.read_text())["rows"]
    assert [row["server"] for row in rows] == ["erlmcp", "erlmcp"]
    assert all(row["rate"] > 0 and row["rounds"][0]["server_cpu_us"] >= 0 for row in rows)
    assert "HTTP" in capsys.readouterr().out
    assert worker.ROOT == server.result.ROOT
