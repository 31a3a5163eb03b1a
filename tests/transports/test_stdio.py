"""stdio, with a process at the other end of the pipe: eras, bad lines, end of input, stray prints, odd descriptors."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from rawpeer import (
    INITIALIZED,
    KEY,
    LATEST,
    LEGACY,
    MODERN,
    initialize,
    legacy,
    meta,
    modern,
    note,
    stdio,
    text_of,
    tool,
)


def echo(text: str, id: Any = 1) -> dict[str, Any]:
    return modern(id, "tools/call", tool("echo", text=text))


# ---- eras ------------------------------------------------------------------------------------------------------------


def test_a_modern_conversation_needs_no_handshake(tmp_path: Path) -> None:
    with stdio(tmp_path) as server:
        found = server.call(modern(1, "server/discover"))["result"]
        assert found["supportedVersions"] == [MODERN]
        assert text_of(server.call(echo("hello"))) == "hello"
        assert server.end() == ([], "", 0)


@pytest.mark.parametrize("version", LEGACY)
def test_a_legacy_conversation_begins_with_initialize(version: str, tmp_path: Path) -> None:
    with stdio(tmp_path) as server:
        assert server.call(legacy("early", "tools/list"))["error"]["code"] == -32602
        assert server.call(legacy("p", "ping"))["result"] == {}
        assert server.call(initialize(version))["result"]["protocolVersion"] == version
        server.send(INITIALIZED)
        found = server.call(legacy(1, "tools/call", tool("echo", text="hello")))
        assert text_of(found) == "hello"
        assert "resultType" not in found["result"]
        assert server.call(initialize(version))["error"]["code"] == -32600
        assert server.end()[1:] == ("", 0)


def test_initialize_with_a_version_that_nobody_speaks_is_answered_with_the_newest_one(tmp_path: Path) -> None:
    with stdio(tmp_path) as server:
        assert server.call(initialize("1999-01-01"))["result"]["protocolVersion"] == LATEST


def test_the_first_request_pins_the_modern_era(tmp_path: Path) -> None:
    with stdio(tmp_path) as server:
        server.call(echo("modern"))
        error = server.call(initialize())["error"]
        assert (error["code"], error["data"]) == (-32022, {"supported": [MODERN], "requested": LATEST})
        assert server.call(legacy(2, "tools/list"))["error"]["code"] == -32602
        assert server.call(modern(3, "ping"))["error"]["code"] == -32601
        assert text_of(server.call(echo("still"))) == "still"


def test_the_first_request_pins_the_legacy_era(tmp_path: Path) -> None:
    with stdio(tmp_path) as server:
        server.call(initialize())
        assert server.call(echo("modern"))["error"]["code"] == -32600
        assert server.call(modern(3, "server/discover"))["error"]["code"] == -32600
        assert server.call(legacy(4, "server/discover"))["error"]["code"] == -32601
        assert server.call(legacy(5, "ping"))["result"] == {}


def test_a_probe_with_a_version_that_is_not_spoken_does_not_pin_the_era(tmp_path: Path) -> None:
    with stdio(tmp_path) as server:
        probe = modern(1, "server/discover", version="2099-01-01")
        assert server.call(probe)["error"]["code"] == -32022
        assert server.call(initialize())["result"]["protocolVersion"] == LATEST


WRONG = (
    [
        (legacy(1, "tools/list", {"_meta": {KEY + "protocolVersion": 1}}), -32602),
        (legacy(1, "tools/list", {"_meta": {**meta(), KEY + "clientCapabilities": 1}}), -32602),
        (modern(1, "tools/call", {"name": "nobody"}), -32602),
        (modern(1, "tools/call", {"name": 7}), -32602),
        (modern(1, "no/such"), -32601),
        ({"jsonrpc": "2.0", "id": None, "method": "tools/list"}, -32600),
        ({"jsonrpc": "2.0", "id": 1.5, "method": "tools/list"}, -32600),
        ({"jsonrpc": "1.0", "id": 1, "method": "tools/list"}, -32600),
        ([modern(1, "tools/list")], -32600),
        ([], -32600),
        (7, -32600),
    ]
)  # fmt: skip


def test_a_request_that_breaks_the_rules_is_answered_with_its_code(tmp_path: Path) -> None:
    with stdio(tmp_path) as server:
        for message, code in WRONG:
            assert server.call(message)["error"]["code"] == code, message
            assert text_of(server.call(echo("after"))) == "after"


# ---- lines -----------------------------------------------------------------------------------------------------------


def test_bad_lines_are_answered_and_their_neighbours_undisturbed(tmp_path: Path) -> None:
    before, after = (json.dumps(echo(text, text)).encode() for text in ("before", "after"))
    bad = [b"hello", b"{", b'{"a":1}}', b"\xff\xfe", b'"' + b"x" * 10, b"\x00"]
    with stdio(tmp_path) as server:
        for line in bad:
            server.send(before + b"\n" + line + b"\n" + after + b"\n")
            answers = [server.read() for _ in range(3)]
            assert [found["id"] for found in answers] == ["before", None, "after"]
            assert answers[1]["error"]["code"] == -32700
        assert server.end() == ([], "", 0)


def test_blank_lines_and_carriage_returns_are_passed_over(tmp_path: Path) -> None:
    with stdio(tmp_path) as server:
        server.send(
            b"\n\r\n  \n"
            + json.dumps(echo("one", 1)).encode()
            + b"\r\n\r\n"
            + json.dumps(echo("two", 2)).encode()
            + b"\n"
        )
        assert [server.read()["id"], server.read()["id"]] == [1, 2]
        assert server.end() == ([], "", 0)


def test_a_line_that_is_too_long_is_refused_and_the_next_one_read(tmp_path: Path) -> None:
    with stdio(tmp_path, "--limit", "message_bytes_max=10000") as server:
        long = json.dumps(echo("x" * 50_000)).encode() + b"\n"
        server.send(long + json.dumps(echo("after")).encode() + b"\n")
        found = server.read()
        assert (found["id"], found["error"]["code"]) == (None, -32600)
        assert "message_bytes_max" in found["error"]["message"]
        assert text_of(server.read()) == "after"


def test_a_message_may_come_in_pieces_and_many_in_one(tmp_path: Path) -> None:
    with stdio(tmp_path) as server:
        line = json.dumps(echo("å" * 100)).encode() + b"\n"
        for start in range(0, len(line), 17):
            server.send(line[start : start + 17])
        assert text_of(server.read()) == "å" * 100
        server.send(*[echo(str(n), n) for n in range(500)])
        assert [server.read()["id"] for _ in range(500)] == list(range(500))


def test_ids_come_back_as_they_were_sent(tmp_path: Path) -> None:
    ids = [0, -1, 1, "1", "", "a b", "å", 2**53, "x" * 300]
    with stdio(tmp_path) as server:
        for id in ids:
            found = server.call(echo("x", id))["id"]
            assert (found, type(found)) == (id, type(id))


# ---- cancelling ------------------------------------------------------------------------------------------------------


def test_a_cancelled_request_gets_no_answer(tmp_path: Path) -> None:
    with stdio(tmp_path) as server:
        server.send(modern("slow", "tools/call", tool("sleep", seconds=60), progressToken=1))
        assert server.read()["method"] == "notifications/progress"
        server.send(note("notifications/cancelled", {"requestId": "slow", "reason": "no longer wanted"}))
        server.send(note("notifications/cancelled", {"requestId": "unknown"}), note("notifications/cancelled"))
        assert text_of(server.call(echo("next"))) == "next"
        assert server.end() == ([], "", 0)


def test_an_id_in_use_is_refused_and_free_after_the_cancellation(tmp_path: Path) -> None:
    with stdio(tmp_path) as server:
        server.send(modern(1, "tools/call", tool("sleep", seconds=60), progressToken=1))
        server.read()
        assert server.call(echo("x", 1))["error"]["code"] == -32600
        server.send(note("notifications/cancelled", {"requestId": 1}))
        assert text_of(server.call(echo("x", 1))) == "x"


# ---- the end ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sleep", "block"], ids=["in a coroutine", "in a thread"])
def test_the_end_of_input_ends_the_process_at_once_though_a_call_runs(name: str, tmp_path: Path) -> None:
    with stdio(tmp_path) as server:
        server.send(modern(1, "tools/call", tool(name, seconds=25)))
        server.send(*[echo(str(n), n) for n in range(10, 20)])
        assert [server.read()["id"] for _ in range(10)] == list(range(10, 20))
        assert server.end() == ([], "", 0)


def test_all_answers_that_are_ready_are_written_before_the_process_ends(tmp_path: Path) -> None:
    with stdio(tmp_path) as server:
        answers, err, code = server.end(*[echo("x" * 1000, n) for n in range(1000)])
        assert [found["id"] for found in answers] == list(range(1000))
        assert (err, code) == ("", 0)


def test_a_client_that_does_not_read_after_the_end_of_its_input_holds_the_process_for_the_drain_time_only(
    tmp_path: Path,
) -> None:
    file = tmp_path / "input"
    file.write_bytes(json.dumps(modern(1, "tools/call", tool("late", size=3_000_000))).encode() + b"\n")
    program = """
from erlmcp import Server
server = Server("late")

@server.tool
async def late(size: int) -> str:
    return "x" * size
"""
    words = ("--limit", "drain_timeout_s=0.2")
    with file.open("rb") as stream:
        options: dict[str, Any] = {"stdin": stream, "env": {"ERLMCP_FLAGS": "-async_execution"}}
        with stdio(tmp_path, *words, program=program, **options) as server:
            assert server.process.wait(10) == 0


def test_a_last_line_without_its_newline_is_not_answered(tmp_path: Path) -> None:
    with stdio(tmp_path) as server:
        server.send(json.dumps(echo("whole")).encode() + b"\n" + json.dumps(echo("half")).encode())
        answers, err, code = server.end()
        assert [text_of(found) for found in answers] == ["whole"]
        assert (err, code) == ("", 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process(number: int, tmp_path: Path) -> None:
    with stdio(tmp_path) as server:
        assert text_of(server.call(echo("x"))) == "x"
        server.signal(number)
        assert server.process.wait(10) == 0
        assert server.end()[1] == ""


def test_a_client_that_closes_the_output_ends_the_process(tmp_path: Path) -> None:
    with stdio(tmp_path) as server:
        server.call(echo("x"))
        assert server.process.stdout is not None
        server.process.stdout.close()
        server.send(echo("nobody reads this"))
        assert server.process.wait(10) == 0


def test_a_client_that_does_not_read_is_not_read_from_and_memory_stays_bounded(tmp_path: Path) -> None:
    with stdio(tmp_path) as server:
        server.call(echo("x"))
        rss = psutil.Process(server.process.pid).memory_info().rss
        line = json.dumps(modern(1, "tools/call", tool("big", size=200_000))).encode() + b"\n"
        assert server.process.stdin is not None
        fd = server.process.stdin.fileno()
        os.set_blocking(fd, False)
        sent = 0
        # Until the pipe takes no more for half a second: the server has stopped reading.
        while select.select([], [fd], [], 0.5)[1] and sent < 50_000_000:
            try:
                sent += os.write(fd, line * 100)
            except BlockingIOError:
                time.sleep(0.01)
        assert sent < 5_000_000
        assert psutil.Process(server.process.pid).memory_info().rss - rss < 250_000_000
        server.process.kill()


# ---- what stdout and stdin are ---------------------------------------------------------------------------------------


def test_stray_prints_go_to_stderr_and_the_wire_stays_clean(tmp_path: Path) -> None:
    with stdio(tmp_path) as server:
        assert text_of(server.call(modern(1, "tools/call", tool("shout", text="hello")))) == "hello"
        assert server.end() == ([], "a stray print of hello\nand a stray write\n", 0)


def test_prints_of_the_file_while_it_is_loaded_and_of_child_processes_stay_off_the_wire(tmp_path: Path) -> None:
    program = """
import os, subprocess, sys
from erlmcp import Server
print("loading")
server = Server("noisy")

@server.tool
async def noise() -> str:
    subprocess.run(["echo", "from a child"], check=True)
    os.write(1, b"from the descriptor\\n")
    return repr(sys.stdin.read())
"""
    with stdio(tmp_path, program=program) as server:
        assert text_of(server.call(modern(1, "tools/call", tool("noise")))) == "''"
        answers, err, code = server.end()
        assert (answers, code) == ([], 0)
        assert sorted(err.splitlines()) == ["from a child", "from the descriptor", "loading"]


@pytest.mark.parametrize("flag", ["+async_execution", "-async_execution"], ids=["at once", "in tasks"])
def test_input_may_be_a_file_and_all_of_it_is_answered(flag: str, tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_bytes(b"".join(json.dumps(echo("x" * 1000, n)).encode() + b"\n" for n in range(1000)))
    with file.open("rb") as stream, stdio(tmp_path, stdin=stream, env={"ERLMCP_FLAGS": flag}) as server:
        answers, err, code = server.end()
        assert [found["id"] for found in answers] == list(range(1000))
        assert (err, code) == ("", 0)


def test_output_may_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "output"
    with file.open("wb") as stream, stdio(tmp_path, stdout=stream) as server:
        server.send(*[echo("x" * 1000, n) for n in range(1000)])
        assert server.end()[2] == 0
    assert [json.loads(line)["id"] for line in file.read_bytes().splitlines()] == list(range(1000))


def test_no_input_at_all_ends_the_process(tmp_path: Path) -> None:
    with stdio(tmp_path, stdin=subprocess.DEVNULL) as server:
        assert server.end() == ([], "", 0)


def test_the_process_gives_its_descriptors_back_as_they_were(tmp_path: Path) -> None:
    read_fd, write_fd = os.pipe()
    out_read, out_write = os.pipe()
    with stdio(tmp_path, stdin=read_fd, stdout=out_write) as server:
        os.write(write_fd, json.dumps(echo("x")).encode() + b"\n")
        assert os.read(out_read, 100_000)
        os.close(write_fd)
        server.process.wait(10)
        assert os.get_blocking(read_fd)
        assert os.get_blocking(out_write)
    for fd in (read_fd, out_read, out_write):
        os.close(fd)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_it_runs_on_either_event_loop(loop: str, tmp_path: Path) -> None:
    with stdio(tmp_path, env={"ERLMCP_LOOP": loop}) as server:
        assert text_of(server.call(echo("x"))) == "x"
        assert text_of(server.call(modern(1, "tools/call", tool("threaded", text="y")))) == "y"
        assert server.end() == ([], "", 0)
