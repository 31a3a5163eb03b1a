"""The benchmark of gateways: what it measures is there, what is not installed says so, and what was added is told."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from erlmcp.bench import gateway
from erlmcp.bench.peers import Row
from erlmcp.bench.process import PEERS, Running


def test_our_gateways_are_measured_beside_the_upstream_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gateway.json"
    words = ["--only", "direct,erlmcp,erlmcp-guarded", "--connections", "2", "--seconds", "0.2", "--rounds", "1"]
    assert gateway.main([*words, "--ways", "stdio", "--json", str(file)]) == 0
    out = capsys.readouterr().out
    for era in ("2026-07-28", "2025-11-25"):
        assert f"echo through a gateway to stdio, {era}, 2 at once" in out
    rows = json.loads(file.read_text())["rows"]
    assert [row["server"] for row in rows] == ["direct", "erlmcp", "erlmcp-guarded"] * 2
    assert all(row["rate"] > 0 and row["error"] == "" for row in rows)


def test_a_gateway_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = gateway.Gate("none", "no_such_package", ("stateful",), lambda mode, port: [])
    with pytest.raises(gateway.PeerError, match="not installed"):
        gateway.version_of_gate(absent, "python3")
    program = gateway.Gate("none", "", ("stateful",), lambda mode, port: [], program="no-such-program")
    with pytest.raises(gateway.PeerError, match="not installed"):
        gateway.version_of_gate(program, "python3")


def test_a_gateway_runs_under_the_first_interpreter_that_has_it() -> None:
    def gate(package: str) -> gateway.Gate:
        return gateway.Gate("peer", package, ("stateful",), lambda mode, port: [])

    pythons = ["/no/such/python", sys.executable, "/another/python"]
    assert gateway.interpreter_of(gate("erlmcp"), pythons) == sys.executable
    assert gateway.interpreter_of(gate("no_such_package"), pythons) == "/another/python"


def test_the_report_tells_what_each_gateway_adds() -> None:
    rows = [
        Row("case", name, "1", name == "direct", rate=rate, p50_us=p50)
        for name, rate, p50 in (("direct", 100.0, 20.0), ("erlmcp", 50.0, 50.0), ("other", 10.0, 520.0))
    ]
    out = io.StringIO()
    gateway.report([*rows, Row("case", "absent", "-", False, "not installed")], out)
    lines = out.getvalue().splitlines()
    ours, other = (next(line for line in lines if line.startswith(name)) for name in ("erlmcp", "other"))
    assert ours.split()[2:6] == ["50.0", "1.00x", "50.0", "30.0"]
    assert other.split()[2:6] == ["10.0", "5.00x", "520", "500"]
    assert "absent: not installed" in lines


def test_each_peer_is_started_as_it_wants_to_be(tmp_path: Path) -> None:
    both = [gateway.gates(way, "http://127.0.0.1:1/mcp", tmp_path) for way in gateway.WAYS]
    assert [[gate.name for gate in gates] for gates in both] == [
        ["direct", "erlmcp", "erlmcp-guarded", "fastmcp"],
        ["direct", "erlmcp", "erlmcp-guarded", "fastmcp", "mcp-proxy", "mcp-proxy-npm", "supergateway"],
    ]
    for gate in both[1]:
        words = gate.command(gate.modes[-1], 4711)
        assert "4711" in words
    config = json.loads((tmp_path / "stdio-True-stateful.json").read_text())
    assert config["mcpServers"]["bench"]["guards"]["breaker"] is True


def test_a_thousand_idle_sessions_cost_a_gateway_four_mib_at_most(tmp_path: Path) -> None:
    """The mark for idle downstream sessions; they are opened on top of some, so that what is made once is there."""
    upstream = Running(PEERS[0], "stateless", sys.executable)
    upstream.start()
    try:
        gate = next(each for each in gateway.gates("http", upstream.url, tmp_path) if each.name == "erlmcp")
        running = Running(gate, "stateful", sys.executable)
        running.start()
        try:
            for _ in range(200):
                running.open_session()
            before_mb = running.rss_mb()
            for _ in range(1000):
                running.open_session()
            assert (running.rss_mb() - before_mb) * 1e6 <= 4 * (1 << 20)
            running.check()
        finally:
            running.stop()
    finally:
        upstream.stop()
