"""The comparison's own honesty: a server that is missing, dies or answers wrong has a row that says so."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from erlmcp.bench import message, peers, table
from erlmcp.bench.process import PEERS, Peer, PeerError, Running, free_port, version_of

ANSWERING = """
import re, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
left = {left}
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        global left
        body = self.rfile.read(int(self.headers["Content-Length"]))
        left -= 1
        if left < 0: sys.stderr.write("out of answers\\n"); sys.stderr.flush(); __import__("os")._exit(4)
        id = re.search(rb'"id":(\\d+)', body)[1]
        answer = b'{{"jsonrpc":"2.0","id":' + id + b',"result":{{"content":[{{"type":"text","text":"{text}"}}]}}}}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
    def log_message(self, *rest): pass
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
SILENT = "import sys; sys.stderr.write('no such luck\\n'); sys.exit(3)"
LINES = """
import json, sys
for line in sys.stdin:
    id = json.loads(line)["id"]
    answer = {"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": "the quick brown fox"}]}}
    print('{"jsonrpc":"2.0","method":"notifications/message","params":{}}')
    print(json.dumps(answer, separators=(",", ":")), flush=True)
"""


def peer(name: str, code: str, package: str = "json") -> Peer:
    return Peer(name, package, ("stateless", "stdio"), lambda mode, port: ["-c", code, str(port)])


def rows_of(given: list[Peer], *arguments: str) -> dict[str, peers.Row]:
    options = peers.parser().parse_args(["--seconds", "0.1", "--rounds", "1", "--connections", "1", *arguments])
    rows = peers.echo_or_large(options, given, io.StringIO(), suite="echo")
    return {row.server: row for row in rows}


def test_each_failure_has_a_row_with_its_reason() -> None:
    given = [
        peer("good", ANSWERING.format(left=10**9, text=message.TEXT)),
        peer("missing", SILENT, package="no_such_package"),
        peer("dead", SILENT),
        peer("wrong", ANSWERING.format(left=10**9, text="something else")),
        peer("mortal", ANSWERING.format(left=5, text=message.TEXT)),
    ]
    rows = rows_of(given, "--transport", "http")
    assert list(rows) == ["good", "missing", "dead", "wrong", "mortal"]
    assert rows["missing"].error == "not installed"
    assert "died with status 3" in rows["dead"].error
    assert "no such luck" in rows["dead"].error
    assert "something else" in rows["wrong"].error
    assert "died with status 4" in rows["mortal"].error
    assert "out of answers" in rows["mortal"].error
    assert [name for name, row in rows.items() if row.rate is not None] == ["good"]
    good = rows["good"]
    assert not good.error
    assert good.rate
    assert good.p50_us
    assert good.rss_mb
    assert good.first_answer_s


def test_a_server_on_stdio_is_measured_past_its_notifications() -> None:
    rows = rows_of([peer("lines", LINES)], "--transport", "stdio", "--inflight", "4")
    assert not rows["lines"].error
    assert rows["lines"].rate


def test_the_limit_in_c_answers_over_both_transports() -> None:
    given = [one for one in PEERS if one.name == "limit-c"]
    for transport in ("http", "stdio"):
        row = rows_of(given, "--transport", transport, "--inflight", "8")["limit-c"]
        assert not row.error
        assert row.rate


@pytest.mark.parametrize("transport", ["http", "stdio"])
def test_the_limits_send_a_result_of_a_mebibyte_too_and_no_list(transport: str) -> None:
    given = [one for one in PEERS if one.is_limit]
    options = peers.parser().parse_args(["--seconds", "0.1", "--rounds", "1", "--transport", transport])
    rows = peers.echo_or_large(options, given, io.StringIO(), suite="large")
    assert [(row.server, row.error, bool(row.rate)) for row in rows] == [
        ("limit-uvloop", "", True),
        ("limit-c", "", True),
    ]
    assert all("1 MiB" in row.case for row in rows)


def test_reports_show_every_server_and_every_reason() -> None:
    rows = [
        peers.Row("case", "erlmcp", "1", False, rate=200.0, server_cpu_us=5.0),
        peers.Row("case", "other", "2", False, rate=20.0, server_cpu_us=50.0),
        peers.Row("case", "gone", "-", False, error="not installed"),
    ]
    out = io.StringIO()
    peers.report(rows, out)
    lines = out.getvalue().splitlines()
    assert lines[1] == "case"
    assert "10.0x" in next(line for line in lines if line.startswith("other"))
    assert "gone: not installed" in lines
    assert "\x1b" not in out.getvalue()


def test_the_medians_of_the_rounds_are_reported() -> None:
    row = peers.Row("case", "one", "1", False, rounds=[{"rate": 1.0}, {"rate": 9.0}, {"rate": 2.0}])
    row.settle()
    assert row.rate == 2.0


def test_results_are_written_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "out.json"
    arguments = ["--only", "limit-c", "--transport", "stdio", "--inflight", "1", "--seconds", "0.1", "--rounds", "1"]
    assert peers.main([*arguments, "--json", str(file)]) == 0
    read = json.loads(file.read_text())
    assert [row["server"] for row in read["rows"]] == ["limit-c"]
    assert read["machine"]["python"]
    assert "limit-c" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--only", "nobody"], ["--connections", "0"], ["--connections", "1,x"]])
def test_arguments_that_make_no_sense_end_with_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        peers.main(arguments)
    assert ended.value.code == 2


def test_a_version_is_read_from_the_interpreter_that_will_run_the_server() -> None:
    assert version_of(peer("one", "", package="numpy"), sys.executable)[0].isdigit()
    with pytest.raises(PeerError, match="not installed"):
        version_of(peer("one", "", package="no_such_package"), sys.executable)


def test_the_cost_of_a_process_counts_its_children() -> None:
    busy = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'sum(range(5_000_000))'])"
    started = Running(peer("lines", f"{busy}\n{LINES}"), "stdio", sys.executable)
    started.start()
    try:
        assert started.cpu_s() > 0.05
        assert started.rss_mb() > 1
    finally:
        started.stop()
    assert started.process.returncode == 0


def test_a_free_port_can_be_listened_on() -> None:
    assert 1024 <= free_port() < 65536


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (1234567.8, "1,234,568"),
        (123.4, "123"),
        (12.345, "12.3"),
        (1.2345, "1.23"),
        (0.01234, "0.012"),
    ],
)
def test_numbers_show_three_digits_or_all_of_the_whole(value: float | None, text: str) -> None:
    assert table.number(value) == text
