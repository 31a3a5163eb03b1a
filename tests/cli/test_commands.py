"""The commands as they are typed: what they print, and how they fail."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from erlmcp.cli import main

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = str(ROOT / "examples/quickstart.py")
EVERYTHING = str(ROOT / "examples/everything.py")
COMMAND = [sys.executable, "-m", "erlmcp"]


@pytest.fixture(autouse=True)
def _as_in_a_fresh_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Loading a file changes sys.path and sys.modules; both are put back."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        if (
            str(getattr(sys.modules[name], "__file__", "")).endswith(("/quickstart.py", "/everything.py"))
            or "app" in name
        ):
            del sys.modules[name]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What went to stderr: it must be one line."""
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    return err


# ---- inspect and call of a file ----------------------------------------------------------------------------------


def test_inspect_shows_the_tools_of_the_quickstart(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", QUICKSTART]) == 0
    out = capsys.readouterr().out
    assert re.search(r"add\(a: integer, b: integer\) +Add two numbers\.", out)
    assert "\x1b" not in out


def test_inspect_prints_descriptors_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", EVERYTHING, "--json"]) == 0
    offered = json.loads(capsys.readouterr().out)
    assert offered["tools"][0]["name"] == "test_simple_text"
    assert all(item["description"] for kind in offered.values() for item in kind)


def test_call_prints_what_a_tool_of_a_file_returns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["call", QUICKSTART, "add", "a=1", "b=2"]) == 0
    assert capsys.readouterr() == ("3\n", "")


def test_call_as_json_prints_the_whole_result(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["call", EVERYTHING + ":server", "weather", "city=Lund", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["structuredContent"]["city"] == "Lund"


def test_call_takes_a_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT / "examples")
    assert main(["call", "-m", "quickstart:server", "add", "a=1", "b=1"]) == 0
    assert capsys.readouterr().out == "2\n"


def test_call_shows_progress_while_the_tool_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["call", EVERYTHING, "slow", "seconds=0.01", "steps=2"]) == 0
    out, err = capsys.readouterr()
    assert out == "Done after 0.01 s\n"
    assert err == "0/2 step 0 of 2\n1/2 step 1 of 2\n"


def test_a_tool_that_fails_gives_exit_code_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["call", EVERYTHING, "test_error_handling"]) == 1
    assert said(capsys) == "This tool intentionally returns an error for testing\n"


def test_an_unknown_tool_is_answered_with_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["call", QUICKSTART, "ad"]) == 2
    assert said(capsys) == "erlmcp: no tool ad; did you mean add?\n"


def test_a_call_without_a_tool_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["call", QUICKSTART]) == 2
    assert "which tool?" in said(capsys)


# ---- files that cannot be served ----------------------------------------------------------------------------------


def test_a_missing_file_is_answered_with_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", QUICKSTART.replace("quick", "quik")]) == 3
    assert said(capsys) == f"erlmcp: no file {QUICKSTART.replace('quick', 'quik')}; did you mean quickstart.py?\n"


def test_a_folder_is_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(ROOT / "examples")]) == 3
    assert "is a folder" in said(capsys)


def test_neither_file_nor_module_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect"]) == 2
    assert "give either FILE[:OBJECT] or -m" in said(capsys)


@pytest.mark.parametrize(
    ("text", "name", "wanted"),
    [
        ("x = 1\n", "", "app_a.py has no server: looked for server, mcp, app or one erlmcp.Server"),
        (
            "import no_such_package\n",
            "",
            "app_a.py line 1: ModuleNotFoundError: No module named 'no_such_package'; install",
        ),
        ("x = 1\nraise ValueError('two\\nlines')\n", "", "app_a.py line 2: ValueError: two lines; --traceback shows"),
        ("def f(:\n", "", "app_a.py line 1: SyntaxError"),
        ("import sys\nsys.exit(1)\n", "", "app_a.py line 2: SystemExit"),
        ("from erlmcp import Server\na, b = Server('a'), Server('b')\n", "", "has several servers; say which: "),
        ("from erlmcp import Server\nserver = Server('a')\n", ":sever", "has no object sever; did you mean server?"),
        ("x = 1\n", ":x", "app_a.py:x is a int, expected an erlmcp.Server"),
    ],
)
def test_a_file_that_cannot_be_served_is_explained_in_one_line(
    tmp_path: Path, text: str, name: str, wanted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "app_a.py").write_text(text)
    assert main(["inspect", f"{tmp_path}/app_a.py{name}"]) == 3
    assert wanted in said(capsys)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("mcp = Server('found')\nother = Server('other')\n", ""),
        ("whatever = Server('found')\nagain = whatever\n", ""),
        ("class Box:\n    inner = Server('found')\n", ":Box.inner"),
        ("def make():\n    return Server('found')\n", ":make"),
    ],
)
def test_the_server_is_found_by_its_usual_name_or_where_it_is_pointed_at(
    tmp_path: Path, text: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "app_b.py").write_text("from erlmcp import Server\n" + text)
    assert main(["inspect", f"{tmp_path}/app_b.py{name}"]) == 0
    assert "found" in capsys.readouterr().out


def test_a_file_named_like_a_standard_module_does_not_hide_it(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("from erlmcp import Server\nserver = Server('odd name')\n")
    done = subprocess.run([*COMMAND, "inspect", str(tmp_path / "json.py")], capture_output=True, text=True, timeout=60)
    assert "odd name" in done.stdout, done.stderr


def test_the_whole_traceback_can_be_asked_for(tmp_path: Path) -> None:
    (tmp_path / "app_c.py").write_text("raise ValueError('deep')\n")
    with pytest.raises(ValueError, match="deep"):
        main(["inspect", str(tmp_path / "app_c.py"), "--traceback"])


# ---- the others ---------------------------------------------------------------------------------------------------


def test_version_tells_what_is_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["core"].startswith(("compiled", "plain Python"))
    assert "2026-07-28" in found["protocol"]
    assert main(["version"]) == 0
    assert "pydantic" in capsys.readouterr().out


def test_serving_on_tcp_and_on_a_unix_socket_at_once_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", QUICKSTART, "--tcp", "127.0.0.1:1", "--unix", "/x"]) == 2
    assert "exclude each other" in said(capsys)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--tcp", "127.0.0.1:1"], "--tcp and --stdio exclude each other"),
        (["--tls-cert", "a.pem"], "for HTTP alone, not for --stdio"),
        (["--reload"], "never met it"),
    ],
)
def test_what_stdin_and_stdout_cannot_do_is_refused(
    words: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", QUICKSTART, "--stdio", *words]) == 2
    assert why in said(capsys)


def test_a_port_in_use_is_named_with_the_option_to_change_it(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["serve", QUICKSTART, "--port", str(port)]) == 4
        assert said(capsys) == f"erlmcp: 127.0.0.1:{port} is in use by another process; choose another with --port\n"
        assert main(["serve", QUICKSTART, "--tcp", f"127.0.0.1:{port}"]) == 4
        assert "choose another with --tcp" in said(capsys)


def test_a_server_that_is_not_there_gives_exit_code_four(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        assert main(["call", f"http://127.0.0.1:{port}/mcp", "add"]) == 4
    assert said(capsys).endswith("; start the server, or mend the address\n")


# ---- whole processes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["run"], ["serve", "--stdio"]])
def test_stdout_has_answers_alone_and_stray_prints_go_elsewhere(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "app_d.py").write_text(
        "from erlmcp import Server\nprint('stray at import')\nserver = Server('loud')\n"
        "@server.tool\ndef shout() -> str:\n    'Shout.'\n    print('stray in a call')\n    return 'done'\n"
    )
    requests = [
        {
            "id": 1,
            "method": "initialize",
            "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {}},
        },
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": {"name": "shout", "arguments": {}}},
    ]
    requests[0]["params"]["clientInfo"] = {"name": "t", "version": "1"}
    with subprocess.Popen(
        [*COMMAND, *words, str(tmp_path / "app_d.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write("".join(json.dumps({"jsonrpc": "2.0", **request}) + "\n" for request in requests))
        server.stdin.flush()
        answers = [json.loads(server.stdout.readline()) for _ in range(2)]
        rest, err = server.communicate(timeout=30)
    assert [answer["id"] for answer in answers] == [1, 2]
    assert answers[1]["result"]["content"][0]["text"] == "done"
    assert rest == ""
    assert "stray at import" in err
    assert "stray in a call" in err
    assert server.returncode == 0


def start_serving(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    """A serving process, and the line in which it says where it listens."""
    server = subprocess.Popen([*COMMAND, "serve", *arguments], stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    for line in server.stderr:
        if "://" in line or "unix:" in line:
            return server, line
    server.communicate(timeout=30)
    raise AssertionError(f"the server ended with code {server.returncode}")


def finish(server: subprocess.Popen[str]) -> int:
    server.send_signal(signal.SIGTERM)
    server.communicate(timeout=30)
    return server.returncode


def test_serve_on_a_free_port_can_be_called_and_ends_on_sigterm(capsys: pytest.CaptureFixture[str]) -> None:
    server, line = start_serving(QUICKSTART, "--port", "0")
    url = re.search(r"http://\S+/mcp", line)
    assert url is not None, line
    try:
        assert main(["call", url[0], "add", "a=20", "b=22"]) == 0
        assert capsys.readouterr().out == "42\n"
        assert main(["call", url[0], "ad"]) == 2
        assert "did you mean add?" in said(capsys)
    finally:
        assert finish(server) == 0


def test_serve_on_a_unix_socket_speaks_lines(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    server, _ = start_serving(QUICKSTART, "--unix", path)
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.sendall(b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n')
            assert json.loads(client.makefile().readline())["id"] == 1
    finally:
        assert finish(server) == 0
    assert not os.path.exists(path)
