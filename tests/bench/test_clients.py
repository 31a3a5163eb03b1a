"""The comparison of clients: its server answers right, and a client that is missing, fails or lies has a row that
says so."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from erlmcp import Client
from erlmcp.bench import clients
from erlmcp.bench.clients import OURS, Caller, PeerError, Row, measure, report, target_of
from erlmcp.bench.fixed import RESULTS

SAYS = "import json, sys\nprint('{}', flush=True)\nfor line in sys.stdin:\n    print(json.dumps(%s), flush=True)\n"
GOOD = {"count": 10, "seconds": 0.5, "cpu_s": 0.001, "p50_us": 5.0, "p99_us": 9.0}


def options(*words: str) -> argparse.Namespace:
    return clients.parser().parse_args(["--seconds", "0.05", "--rounds", "2", *words])


def caller(folder: Path, name: str, text: str) -> Caller:
    """A client that is this program."""
    (folder / f"{name}.py").write_text(text)
    return Caller(name, "json", str(folder / f"{name}.py"))


@pytest.mark.parametrize("kind", ["http", "stdio"])
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_its_server_answers_what_a_client_asks(kind: str, mode: str) -> None:
    with target_of(kind) as words:
        target: Any = words[1] if kind == "http" else words[1:]
        async with asyncio.timeout(20), Client(target, mode=mode) as client:
            assert client.protocol_version == ("2026-07-28" if mode == "auto" else "2025-11-25")
            assert [tool.name for tool in await client.list_tools()] == ["echo"]
            found = await client.call_many([("echo", {"text": "x"})] * 40)
            assert [result.raw for result in found] == [RESULTS["tools/call"]] * 40
            with pytest.raises(Exception, match="Method not found"):
                await client.request("no/method")
            await client.ping()


def test_its_server_takes_heads_and_ids_as_they_come() -> None:
    import http.client

    with target_of("http") as (_kind, url):
        connection = http.client.HTTPConnection(url.removeprefix("http://").removesuffix("/mcp"), timeout=10)
        body = b'{"method":"ping","id":"a\\"b","jsonrpc":"2.0"}'
        connection.request("POST", "/mcp", body, {"content-LENGTH": str(len(body))})
        assert json.loads(connection.getresponse().read()) == {"jsonrpc": "2.0", "id": 'a"b', "result": {}}
        connection.request("GET", "/mcp")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (405, b"")
        connection.request("POST", "/mcp", b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (202, b"")
        connection.close()


def test_our_client_is_measured_over_both_ways() -> None:
    for suite in ("http", "stdio"):
        rows = measure(suite, [OURS], [1, 4], options(), io.StringIO())
        assert [row.error for row in rows] == ["", ""]
        assert all(row.rate and row.p50_us and row.p99_us and len(row.rounds) == 2 for row in rows)
        if suite == "stdio":
            assert [round(row.calls_per_write or 0) for row in rows] == [1, 4]
        else:
            assert all((row.reuse or 0) >= 0.95 for row in rows)


def test_a_connection_of_http2_is_measured_beside_many_of_http1() -> None:
    pytest.importorskip("h2")
    rows = measure("http2", clients.TWO, [20], options("--rounds", "1"), io.StringIO())
    assert [row.error for row in rows] == ["", ""]
    assert [row.client for row in rows] == ["100 connections of HTTP/1.1", "one connection of HTTP/2"]


def test_each_failure_has_a_row_with_its_reason(tmp_path: Path) -> None:
    given = [
        caller(tmp_path, "good", SAYS % GOOD),
        caller(tmp_path, "dead", "import sys; sys.stderr.write('no such luck\\n'); sys.exit(3)"),
        caller(tmp_path, "late", SAYS % "1 / 0"),
        caller(tmp_path, "idle", SAYS % {**GOOD, "count": 0}),
        Caller("missing", "no_such_package", "call_mcp.py"),
        Caller("nodeless", "@modelcontextprotocol/sdk", "call_typescript.mjs", ("sdk",)),
    ]
    rows = measure("stdio", given, [1], options("--node", str(tmp_path)), io.StringIO())
    errors = {row.client: row.error for row in rows}
    assert errors["good"] == ""
    assert rows[0].rate == 20
    assert errors["dead"] == "ended with status 3: no such luck"
    assert "ZeroDivisionError" in errors["late"]
    assert errors["idle"] == "no answer within the run"
    assert errors["missing"] == errors["nodeless"] == "not installed"
    out = io.StringIO()
    report(rows, out)
    assert "dead: ended with status 3" in out.getvalue()


def test_what_a_round_says_becomes_figures_per_call() -> None:
    row = Row("case", "erlmcp", "1")
    for writes in (5, 2):
        row.add({**GOOD, "writes": writes, "sent": 100, "opened": 2})
    row.settle()
    assert (row.rate, row.cpu_us, row.calls_per_write, row.reuse) == (20, 100, 3.5, 0.98)
    with pytest.raises(PeerError):
        row.add({**GOOD, "count": 0})


def test_the_command_prints_tables_and_writes_a_file(tmp_path: Path) -> None:
    file = tmp_path / "clients.json"
    words = ["--suite", "stdio", "--only", "erlmcp", "--inflight", "1", "--seconds", "0.05", "--rounds", "1"]
    command = [sys.executable, "-m", "erlmcp", "bench", "clients", *words, "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    assert "stdio, the C server, 1 in flight" in done.stdout
    found = json.loads(file.read_text())
    assert (found["kind"], [row["client"] for row in found["rows"]]) == ("clients", ["erlmcp"])


def test_a_client_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown client nobody"):
        clients.chosen("erlmcp,nobody")
