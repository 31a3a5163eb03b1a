"""The benchmark of components: every row can be measured, what is missing is told, and verdicts follow the figures."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

from erlmcp.bench import components, room, screen, table, timing
from erlmcp.bench.components import command
from erlmcp.bench.components.row import COLUMNS, OURS, Mark, Row, Way, Ways, asked, names
from erlmcp.bench.room import MissingError
from erlmcp.bench.timing import Timed, timed

TINY = ["--rounds", "2", "--time-s", "0.0002", "--quick"]
SMALL = [row for row in components.ROWS if row.entries < components.MEMORY_FROM and row.family != "network"]


def spin(count: int) -> None:
    for _ in range(count):
        pass


def fixed(ns: float, count: int = 10) -> Timed:
    """A candidate whose operation takes exactly so long."""
    return Timed(count, lambda repeats: int(ns * count * repeats))


def made_or_missing(way: Way) -> Timed | None:
    """None for a library that is not installed; what is ours must be there."""
    if way.who.split()[0] in OURS:
        return way.make()
    with contextlib.suppress(MissingError):
        return way.make()
    return None


def row_of(ways: dict[tuple[str, str], Any], **given: Any) -> Row:
    def collect(into: Ways) -> None:
        for (column, who), make in ways.items():
            into.own(column, who, make)

    return Row("made-up", "fancy", "an operation", collect, **given)


def cell_of(row: Row, column: str = "call") -> dict[str, Any]:
    options = command.parser().parse_args(TINY)
    return command.measure(row, column, [way for way in row.ways() if way.column == column], options)


# ---------------------------------------------------------------------------------------------------- rows
def test_keys_are_unique_and_marks_stand_in_columns_that_a_row_has() -> None:
    keys = [row.key for row in components.ROWS]
    assert len(keys) == len(set(keys))
    for row in components.ROWS:
        if row.entries < components.MEMORY_FROM:
            columns = {way.column for way in row.ways()}
            assert columns <= set(COLUMNS)
            assert set(row.marks) <= columns, row.key


def test_every_mark_of_the_plan_has_its_row() -> None:
    wanted = {
        "registry-1k": {"call", "batch", "core"},
        "registry-100k": {"call", "batch", "core"},
        "registry-1m": {"call", "batch", "core"},
        "queue": {"call", "batch", "core"},
        "queue-2-threads": {"call", "batch"},
        "pool": {"call", "batch", "core"},
        "session-1k": {"call", "batch", "core"},
        "session-100k": {"call", "batch", "core"},
        "lanes-overtake": {"call"},
        "threads-burst": {"call", "batch"},
        "threads-trip": {"call"},
        "threads-loop-trip": {"call"},
        "threads-skew": {"call"},
        "network-ping": {"batch"},
        "network-echo": {"batch"},
        "network-tcp-ping": {"batch"},
        "network-tcp-echo": {"batch"},
        "client-objects": {"call"},
        "client-bytes": {"call"},
        "client-stdio-1": {"call"},
        "client-stdio-16": {"call"},
        "json-request": {"call", "core"},
    }
    found = {row.key: set(row.marks) for row in components.ROWS}
    assert {key: found[key] for key in wanted} == wanted


@pytest.mark.parametrize("key", [row.key for row in SMALL])
def test_both_implementations_and_every_installed_library_run_their_row(key: str) -> None:
    row = next(row for row in SMALL if row.key == key)
    for way in row.ways():
        made = made_or_missing(way)
        if made is None:
            continue
        if made.count <= 100_000:
            assert made.elapsed(1) > 0
        if made.single is not None:
            made.single()


def test_names_are_equal_and_not_identical_and_the_same_each_time() -> None:
    known = names(100)
    drawn = asked(known, 50)
    assert set(drawn) <= set(known)
    assert not {id(name) for name in drawn} & {id(name) for name in known}
    assert drawn == asked(names(100), 50)


# ---------------------------------------------------------------------------------------------------- cells
def test_a_cell_holds_the_ratios_to_the_twin_and_to_the_best_library() -> None:
    row = row_of(
        {
            ("call", "core"): lambda: fixed(100),
            ("call", "model"): lambda: fixed(1000),
            ("call", "slow library"): lambda: fixed(400),
            ("call", "quick library"): lambda: fixed(50),
        },
        marks={"call": Mark(rate=9e6)},
    )
    cell = cell_of(row)
    assert cell["model"]["ratio"] == pytest.approx(10, rel=0.01)
    assert (cell["best_peer"], cell["met"]) == ("quick library", True)
    assert cell["peer_ratio"] == pytest.approx(0.5, rel=0.01)
    assert cell["rate"] == pytest.approx(1e7, rel=0.01)


@pytest.mark.parametrize(
    ("mark", "is_met"),
    [
        (Mark(rate=11e6), False),
        (Mark(peer="rival"), False),
        (Mark(peer="rival", factor=1.3), True),
        (Mark(peer="nobody"), None),
        (None, None),
    ],
    ids=str,
)
def test_a_mark_is_a_rate_or_a_multiple_of_a_library(mark: Mark | None, is_met: bool | None) -> None:
    ways = {("call", "core"): lambda: fixed(100), ("call", "rival"): lambda: fixed(80)}
    assert cell_of(row_of(ways, marks={"call": mark} if mark else {}))["met"] is is_met


@pytest.mark.parametrize(("p99_ns", "is_met"), [(1e9, True), (1, False)])
def test_a_mark_may_be_of_the_slowest_single_calls(p99_ns: float, is_met: bool) -> None:
    def single() -> Timed:
        return timed(100, spin, 100, single=lambda: spin(1))

    mark = Mark(p99_ns=p99_ns)
    cell = cell_of(row_of({("call", "core"): single}, marks={"call": mark}))
    assert (cell["met"], cell["mark"]) == (is_met, str(mark))
    assert str(Mark(p99_ns=1e6)) == "p99 <= 1 ms"


def test_what_is_not_built_or_broken_is_told_and_measures_nothing() -> None:
    def missing() -> Timed:
        raise MissingError("not built")

    def broken() -> Timed:
        return Timed(1, lambda repeats: 1 // 0)

    cell = cell_of(row_of({("call", "core"): missing, ("call", "library"): broken}))
    assert cell["status"] == "not built"
    assert "ns" not in cell
    assert "ZeroDivisionError" in cell["peers"]["library"]["error"]
    out = io.StringIO()
    command.report([cell], out)
    assert "made-up call: not built" in out.getvalue()
    assert "library: ZeroDivisionError" in out.getvalue()


def test_a_limit_is_told_and_is_no_peer() -> None:
    def collect(into: Ways) -> None:
        into.own("call", "core", lambda: fixed(100))
        into.own("call", "library", lambda: fixed(200))
        into.limit("call", "bare metal", lambda: fixed(10))

    cell = cell_of(Row("made-up", "fancy", "an operation", collect))
    assert (cell["best_peer"], set(cell["peers"])) == ("library", {"library"})
    assert cell["limits"]["bare metal"]["ratio"] == pytest.approx(0.1, rel=0.01)
    out = io.StringIO()
    command.report([cell], out)
    assert "the limit, bare metal, takes 0.10x our time" in out.getvalue()
    assert "behind the best peer in 0" in command.summary([cell])


def test_a_whole_server_is_measured_over_tcp() -> None:
    from erlmcp.bench.components import network

    for kind in ("ping", "echo"):
        assert network.over_tcp(kind, "core").elapsed(1) > 0
    assert network.over_tcp("echo", "C").elapsed(1) > 0


def test_an_interrupted_run_keeps_what_it_has() -> None:
    def interrupt() -> Timed:
        raise KeyboardInterrupt

    rows = [row_of({("call", "core"): lambda: fixed(5)}), row_of({("call", "core"): interrupt})]
    cells, was_interrupted = command.measure_all(rows, command.parser().parse_args(TINY), io.StringIO())
    assert was_interrupted
    assert [cell["status"] for cell in cells] == ["measured"]


def test_rooms_and_libraries_that_are_not_there_are_missing() -> None:
    for ask in (lambda: room.load("core", "attic"), lambda: room.part("core", "slab", "Attic"), lambda: room.loop("x")):
        with pytest.raises(MissingError, match="not built"):
            ask()
    with pytest.raises(MissingError, match="not installed"):
        room.library("no_such_library")


# ---------------------------------------------------------------------------------------------------- command
def test_the_command_prints_and_writes_what_it_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "out.json"
    assert components.main([*TINY, "--only", "slab,queue", "--json", str(file)]) == 0
    read = json.loads(file.read_text())
    assert read["kind"] == "components"
    assert read["machine"]["cpu"]
    assert read["settings"]["rounds"] == 2
    assert read["versions"]["erlmcp"]
    slab = next(row for row in read["rows"] if row["row"] == "slab" and row["column"] == "call")
    assert {"operation", "n", "threads", "ns", "best_ns", "spread", "model", "peers", "p50_ns", "p99_ns"} <= set(slab)
    shown = capsys.readouterr()
    assert "dict and counter" in shown.out
    assert "single calls" in shown.out
    assert "\x1b" not in shown.out


def test_libraries_have_a_table_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    from erlmcp.bench import peers

    assert peers.main(["--libraries", *TINY, "--only", "slab"]) == 0
    assert "library" in capsys.readouterr().out


def test_without_peers_only_ours_are_measured(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    assert components.main([*TINY, "--only", "slab", "--no-peers", "--json", str(file)]) == 0
    assert all(not row["peers"] for row in json.loads(file.read_text())["rows"])


@pytest.mark.parametrize("arguments", [["--only", "attic"], ["--rounds", "0"], ["--rounds", "many"]])
def test_arguments_that_make_no_sense_end_with_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        components.main(arguments)
    assert ended.value.code == 2


# ---------------------------------------------------------------------------------------------------- timing
def test_rounds_are_alternate_and_each_begins_with_another_candidate() -> None:
    order: list[str] = []

    def candidate(name: str) -> Timed:
        def elapsed(repeats: int) -> int:
            order.append(name)
            return 10**6 * repeats

        return Timed(1, elapsed)

    timing.go_round([candidate("a"), candidate("b")], 3, 0.001)
    assert order[-6:] == ["a", "b", "b", "a", "a", "b"]


def test_calibration_fills_the_slice() -> None:
    one = fixed(1000, count=1)
    one.calibrate(0.001)
    assert one.repeats == pytest.approx(1000, rel=0.01)
    slow = fixed(10**7, count=1)
    slow.calibrate(0.001)
    assert slow.repeats == 1


def test_the_noise_is_the_distance_of_the_quartiles() -> None:
    one = Timed(1, int, rounds=[90, 100, 110, 100, 1000])
    assert one.ns == 100
    assert one.best_ns == 90
    assert one.spread == pytest.approx(0.1)
    assert Timed(1, int, rounds=[5]).spread == 0


def test_candidates_do_not_share_the_code_of_their_loop() -> None:
    first, second = timing.fresh(spin), timing.fresh(spin)
    assert first.__code__ is not second.__code__
    assert timed(100, spin, 100).elapsed(3) > 0


def test_percentiles_are_of_single_calls() -> None:
    found = timing.percentiles(lambda: None, 200)
    assert 0 < found["p50_ns"] <= found["p95_ns"] <= found["p99_ns"]
    assert timing.clock_ns(200) > 0


# ---------------------------------------------------------------------------------------------------- screen
class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_drawn_tables_and_a_bar_and_others_plain_lines() -> None:
    drawn, plain = Terminal(), io.StringIO()
    for out in (drawn, plain):
        table.write(out, "title", ["row", "is"], [["[one]", "met"]], ["a note"])
        with screen.progress(1, out) as tell:
            tell("a step")
        assert "[one]" in out.getvalue()
        assert "a note" in out.getvalue()
    assert "[1/1] a step" in plain.getvalue()
    assert "\x1b" not in plain.getvalue()
    assert "\x1b" in drawn.getvalue()


@pytest.mark.parametrize(("kind", "inflight"), [("objects", 1), ("bytes", 1), ("mcp", 1), ("stdio", 16)])
def test_a_clients_calls_are_measured_whatever_leads_to_the_server(kind: str, inflight: int) -> None:
    from erlmcp.bench import calling

    made = calling.made(kind, inflight)
    assert made.count == calling.CALLS
    assert made.elapsed(1) > 0
