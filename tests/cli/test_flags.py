"""``erlmcp flags``: of this environment, of a phase, of a running server."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from erlmcp.cli import main
from erlmcp.flags import PHASE_OF


def rows_of(out: str) -> dict[str, list[str]]:
    """Flag -> phase, default, value and origin of the table that was printed."""
    found = re.findall(r"^(\w+) +(\d) +(on|off) +(on|off) +(\S.*)$", out, re.MULTILINE)
    return {name: [*cells] for name, *cells in found}


def test_every_flag_is_shown_with_phase_default_value_and_origin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ERLMCP_FLAGS", "-zero_copy")
    assert main(["flags"]) == 0
    out = capsys.readouterr().out
    found = rows_of(out)
    assert list(found) == list(PHASE_OF)
    assert found["batching"] == ["1", "on", "on", "default"]
    assert found["zero_copy"] == ["4", "on", "off", "environment"]
    assert re.search("^zero_copy is off. what does not change is kept as ready bytes", out, re.MULTILINE)


def test_a_phase_is_shown_as_it_would_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["flags", "--phase", "3", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["value"] for row in rows] == [row["phase"] <= 3 for row in rows]
    assert {row["origin"] for row in rows} == {"phase 3"}
    assert main(["flags", "--phase", "baseline", "--json"]) == 0
    assert not any(row["value"] for row in json.loads(capsys.readouterr().out))


def test_a_running_server_tells_its_flags_and_takes_others(
    serving: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "control")
    url = serving("--port", "0", "--control", path)
    assert main(["flags", "--control", path]) == 0
    assert rows_of(capsys.readouterr().out)["native_json"] == ["4", "on", "on", "default"]
    assert main(["flags", "--control", path, "--set=-native_json,-batching"]) == 0
    found = rows_of(capsys.readouterr().out)
    assert found["native_json"] == ["4", "on", "off", "run time"]
    assert found["batching"][2:] == ["off", "run time"]
    assert found["zero_copy"][2] == "on"
    assert main(["ping", url]) == 0
    assert main(["flags", "--control", path, "--set=+native_json"]) == 0
    assert rows_of(capsys.readouterr().out)["native_json"][2:] == ["on", "run time"]


def test_the_socket_of_auto_is_where_only_this_user_looks(
    serving: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    serving("--port", "0", "--control", "auto")
    (path,) = tmp_path.iterdir()
    assert re.fullmatch(r"erlmcp-\d+\.sock", path.name)
    assert main(["flags", "--control", str(path)]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set=-batching"], "--set needs --control"),
        (["--phase", "3", "--control", "x"], "--phase is for this environment"),
        (["--control", "x", "--set=batching"], "--set: 'batching' is unknown"),
        (["--control", "/nowhere/x"], "no control socket answers at /nowhere/x"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["flags", *words]) == (4 if "nowhere" in said else 2)
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_an_environment_that_cannot_be_is_said_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ERLMCP_PHASE", "6")
    assert main(["flags"]) == 2
    assert "ERLMCP_PHASE='6' is unknown" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "broke off, or is no control socket"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "broke off, or is no control socket"),
        (b"[]\n", "is no control socket"),
        (b'{"error": 7}\n', "is no control socket"),
        (b'{"error": {"message": "not today"}}\n', "not today"),
    ],
)
def test_what_is_no_control_socket_is_said_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], answer: bytes, said: str
) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(1)

        def serve() -> None:
            made, _ = listener.accept()
            with made:
                made.recv(65536)
                made.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        assert main(["flags", "--control", path]) in (1, 4)
        thread.join()
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_auto_without_a_folder_of_this_user_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    quickstart = str(Path(__file__).resolve().parents[2] / "examples/quickstart.py")
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    assert main(["serve", quickstart, "--control", "auto"]) == 2
    assert "XDG_RUNTIME_DIR" in capsys.readouterr().err
