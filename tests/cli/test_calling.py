"""``call``, ``list`` and ``ping`` over everything that leads to a server, and how they fail."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from erlmcp.cli import main

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FILE, QUICK = str(EXAMPLES / "everything.py"), str(EXAMPLES / "quickstart.py")
COMMAND = [sys.executable, "-m", "erlmcp"]
Line = Callable[..., str]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What went to stderr: it must be one line."""
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    return err


# ---- over every kind of target ------------------------------------------------------------------------------------


def test_a_tool_is_called(place: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["call", *place, "weather", "city=Lund", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["structuredContent"]["city"] == "Lund"


def test_lists_are_shown(place: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", *place]) == 0
    out = capsys.readouterr().out
    for title in ("tools (", "resources (", "resource templates (", "prompts ("):
        assert title in out
    assert main(["list", *place, "prompts", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["prompts"]
    assert "test_simple_prompt" in [item["name"] for item in found["prompts"]]


def test_a_ping_tells_who_answers(place: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ping", *place]) == 0
    assert capsys.readouterr().out.startswith("everything ")
    assert main(["ping", *place, "--json", "--mode", "2025-06-18"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["server"]["name"], found["protocol"]) == ("everything", "2025-06-18")
    assert found["connect_ms"] > 0 < found["ping_ms"]


def test_many_calls_at_a_time_are_measured(place: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words = [*place, "test_simple_text", "--repeat", "50", "--concurrency", "8", "--json"]
    assert main(["call", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["calls"], found["concurrency"], found["errors"]) == (50, 8, {})
    assert sum(row["count"] for row in found["histogram"]) == 50
    latency = found["latency_ms"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["max"]


# ---- a load test ----------------------------------------------------------------------------------------------------


def test_a_load_test_tells_rates_percentiles_and_draws_a_histogram(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ping", FILE, "--repeat", "20"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("ping: ")
    assert "20 calls in" in out
    assert "p99" in out
    assert "█" in out or "#" in out
    assert err == ""


def test_failed_calls_are_counted_by_kind_and_give_exit_code_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["call", FILE, "test_error_handling", "--repeat", "5"]) == 1
    assert "5  the tool failed, such as: This tool intentionally returns an error" in capsys.readouterr().out
    assert main(["call", FILE, "no_such_tool", "--repeat", "3", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["errors"] == {"the server refused (-32602)": 3}
    assert "no_such_tool" in found["error_examples"]["the server refused (-32602)"]


def test_concurrency_alone_is_a_load_test_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ping", FILE, "--concurrency", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["calls"], found["concurrency"]) == (1000, 3)


def test_an_interrupted_load_test_tells_what_it_measured(tmp_path: Path) -> None:
    file = tmp_path / "app.py"
    file.write_text(
        "import asyncio, sys\nfrom erlmcp import Server\nserver = Server('slow')\n"
        "@server.tool\nasync def nap() -> str:\n    print('napping', file=sys.stderr, flush=True)\n"
        "    await asyncio.sleep(0.001)\n    return 'rested'\n"
    )
    words = [*COMMAND, "call", str(file), "nap", "--repeat", "1000000", "--json"]
    kept = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background may inherit "ignored"
    try:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, kept)
    with process:
        assert process.stderr is not None
        for _ in range(5):
            process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(out)["calls"] >= 1


# ---- what a server says beside its answers -----------------------------------------------------------------------


def test_logs_and_progress_of_a_remote_tool_go_to_stderr(
    places: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["call", *places["url"], "test_tool_with_logging"]) == 0
    assert "info: " in capsys.readouterr().err
    assert main(["call", *places["tcp"], "slow", "seconds=0.01", "steps=2"]) == 0
    assert capsys.readouterr().err == "0/2 step 0 of 2\n1/2 step 1 of 2\n"


def test_noise_and_standard_error_of_a_process_are_told_apart(
    tmp_path: Path, command_line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "loud.py"
    file.write_text(
        "import os, runpy, sys\nos.write(1, b'Listening...\\n')\nprint('ready', file=sys.stderr)\n"
        f"sys.argv = ['erlmcp', 'run', {QUICK!r}]\nrunpy.run_module('erlmcp', run_name='__main__')\n"
    )
    assert main(["call", "--command", command_line(sys.executable, str(file)), "add", "a=1", "b=2"]) == 0
    assert capsys.readouterr() == ("3\n", "no message: Listening...\nserver: ready\n")


# ---- how it fails ---------------------------------------------------------------------------------------------------


def test_a_process_that_ends_at_its_start_shows_what_it_wrote(
    command_line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line = command_line(sys.executable, "-c", "import sys; print('no key', file=sys.stderr); sys.exit(7)")
    assert main(["ping", "--command", line]) == 4
    shown, error = capsys.readouterr().err.splitlines()
    assert shown == "server: no key"
    assert error.endswith("exited with status 7; what it wrote is above")


def test_a_program_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ping", "--command", "no-such-program --x"]) == 4
    assert said(capsys).startswith("erlmcp: cannot start no-such-program --x: No such file or directory; is the path")


def test_a_silent_server_costs_the_timeout_that_the_error_names(
    command_line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    line = command_line(sys.executable, "-c", "import sys; sys.stdin.read()")
    assert main(["ping", "--command", line, "--timeout", "0.2"]) == 4
    assert "--timeout SECONDS waits longer" in said(capsys)


def test_a_slow_tool_costs_the_timeout_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["call", FILE, "slow", "seconds=30", "steps=1", "--timeout", "0.3"]) == 4
    assert "no answer to tools/call within 0.3 s; --timeout SECONDS" in capsys.readouterr().err


@pytest.fixture
def refusing() -> Iterator[str]:
    """A server that wants to know who asks."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200 if self.headers.get("X-Key") == "a:b" else 401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/mcp"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_server_that_wants_credentials_is_met_with_the_option_for_them(
    refusing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ping", refusing]) == 4
    assert " 401 " in (error := said(capsys))
    assert "--header 'Authorization: Bearer TOKEN'" in error
    assert main(["ping", refusing, "--header", "X-Key: a:b"]) == 4
    assert " 401 " not in said(capsys)


def test_a_revision_that_the_server_does_not_speak_leads_back_to_auto(
    command_line: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    old = (
        "import json, sys\nfor line in sys.stdin:\n    asked = json.loads(line)\n"
        "    error = {'code': -32601, 'message': 'Method not found'}\n"
        "    if 'id' in asked: print(json.dumps({'jsonrpc': '2.0', 'id': asked['id'], 'error': error}), flush=True)\n"
    )
    assert main(["ping", "--command", command_line(sys.executable, "-c", old), "--mode", "2026-07-28"]) == 4
    assert said(capsys).endswith("; --mode auto finds out what the server speaks\n")


def test_a_tool_that_asks_the_user_is_explained(place: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["call", *place, "test_elicitation", "message=x"]) == 1
    assert "asks for elicitation, which this command cannot answer" in said(capsys)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["call"], "which server? FILE[:OBJECT], a URL, unix:PATH"),
        (["call", QUICK], "which tool?"),
        (["ping", QUICK, "more"], "ping takes a server and nothing else, got more"),
        (["list", QUICK, "tool"], "no list tool; did you mean tools?"),
        (["list", QUICK, "tools", "prompts"], "one list at a time"),
        (["ping", "-m", "a", "--command", "b"], "exclude each other"),
        (["ping", "--command", " "], "--command is empty"),
        (["ping", "--command", "'open"], "no closing quotation"),
        (["ping", "--config", "x.json"], "--config FILE needs the NAME"),
        (["ping", "python server.py"], "to start a program write --command 'python server.py'"),
        (["ping", "tcp://nowhere"], "expected tcp://host:port"),
        (["ping", "unix:"], "unix: needs a path"),
        (["ping", QUICK, "--mode", "2020-01-01"], "expected one of auto, legacy"),
        (["ping", QUICK, "--header", "x"], "expected NAME:VALUE"),
    ],
)
def test_wrong_words_are_answered_with_the_right_ones(
    words: list[str], wanted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert wanted in said(capsys)


@pytest.mark.parametrize(
    ("text", "name", "wanted"),
    [
        ("{", "#a", "is not JSON"),
        ("[]", "#a", "has no servers"),
        ('{"mcpServers": {}}', "#a", "has no servers"),
        ('{"mcpServers": {"abc": {}}}', "#abd", "has no server abd; did you mean abc?"),
        ('{"mcpServers": {"abc": 5}}', "#abc", "is no object with 'command' or 'url'"),
        (None, "#a", "no such file or directory"),
    ],
)
def test_a_configuration_that_does_not_lead_anywhere_is_explained(
    tmp_path: Path, text: str | None, name: str, wanted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        (tmp_path / "mcp.json").write_text(text)
    assert main(["ping", f"{tmp_path}/mcp.json{name}"]) == 3
    assert wanted in said(capsys)


def test_several_entries_need_a_name_and_an_entry_needs_a_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mcp.json").write_text('{"mcpServers": {"a": {}, "b": {}}}')
    assert main(["ping", f"{tmp_path}/mcp.json"]) == 2
    assert f"say which: {tmp_path}/mcp.json#a or {tmp_path}/mcp.json#b" in said(capsys)
    assert main(["ping", f"{tmp_path}/mcp.json#a"]) == 2
    assert "has 'command' or 'url'" in said(capsys)


def test_options_may_stand_between_the_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["call", QUICK, "--timeout", "9", "add", "a=1", "--mode", "legacy", "b=2"]) == 0
    assert capsys.readouterr().out == "3\n"


@pytest.mark.parametrize("words", [["ping", "x", "--nonsense"], ["version", "more"], ["ping", "x", "--repeat", "0"]])
def test_words_that_nobody_knows_are_wrong_use(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_the_whole_traceback_of_a_lost_server_can_be_asked_for() -> None:
    with pytest.raises(ConnectionError):
        main(["ping", f"unix:{os.devnull}/nothing", "--traceback"])
