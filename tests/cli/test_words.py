"""What is typed and what is printed: arguments, addresses, headers, targets, columns, content."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from erlmcp.cli import main
from erlmcp.cli.call import read_arguments, show, show_block
from erlmcp.cli.dial import show_log, show_noise, show_progress, show_stderr
from erlmcp.cli.fault import CommandError, describe, nearest
from erlmcp.cli.inspect import signature, type_name
from erlmcp.cli.load import split_target
from erlmcp.cli.paint import columns, paint
from erlmcp.cli.serve import read_address
from erlmcp.cli.setting import apply_limits
from erlmcp.cli.target import read_headers


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("a=1", 1),
        ("a=1.5", 1.5),
        ("a=true", True),
        ("a=null", None),
        ('a=["x",2]', ["x", 2]),
        ('a="1"', "1"),
        ("a=Lund", "Lund"),
        ("a=x=y", "x=y"),
        ("a=", ""),
        ("a={not json}", "{not json}"),
    ],
)
def test_values_are_json_where_they_are_json_and_text_otherwise(word: str, value: object) -> None:
    assert read_arguments([word]) == {"a": value}


@pytest.mark.parametrize("words", [["lonely"], ["=1"], ["a=1", "a=2"]])
def test_words_that_are_no_pairs_are_refused_with_an_example(words: list[str]) -> None:
    with pytest.raises(CommandError):
        read_arguments(words)


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("server.py", ("server.py", "")),
        ("server.py:mcp", ("server.py", "mcp")),
        ("a/server.py:box.mcp", ("a/server.py", "box.mcp")),
        ("server.py:not a name", ("server.py:not a name", "")),
    ],
)
def test_a_target_is_a_place_and_perhaps_a_name(target: str, parts: tuple[str, str]) -> None:
    assert split_target(target) == parts


def test_a_colon_in_the_name_of_a_file_is_left_alone(tmp_path: Path) -> None:
    odd = tmp_path / "odd:name"
    odd.write_text("")
    assert split_target(str(odd)) == (str(odd), "")


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:9000", ("127.0.0.1", 9000)), ("[::1]:9", ("::1", 9)), (":9000", ("127.0.0.1", 9000))],
)
def test_an_address_is_a_host_and_a_port(text: str, address: tuple[str, int]) -> None:
    assert read_address(text) == address


@pytest.mark.parametrize("text", ["9000", "host:", "host:port", "host:70000"])
def test_an_address_without_a_port_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match="expected HOST:PORT"):
        read_address(text)


def test_headers_are_read_with_their_blanks_trimmed() -> None:
    assert read_headers(["Authorization: Bearer a:b", "X:1"]) == {"Authorization": "Bearer a:b", "X": "1"}
    with pytest.raises(CommandError, match="expected NAME:VALUE"):
        read_headers(["no colon"])


def test_a_limit_goes_into_the_environment_and_a_wrong_one_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {})
    apply_limits(["depth_max=7"])
    assert __import__("os").environ == {"ERLMCP_DEPTH_MAX": "7"}
    with pytest.raises(CommandError, match="did you mean depth_max"):
        apply_limits(["depth_maxx=7"])
    with pytest.raises(CommandError, match="expected NAME=VALUE"):
        apply_limits(["depth_max"])
    with pytest.raises(CommandError, match="is not a number"):
        apply_limits(["depth_max=many"])


def test_colours_are_for_terminals_that_did_not_refuse_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert paint("x", "red", Terminal()) == "\x1b[31mx\x1b[0m"
    assert paint("x", "red", io.StringIO()) == "x"
    monkeypatch.setenv("TERM", "dumb")
    assert paint("x", "red", Terminal()) == "x"
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert paint("x", "red", Terminal()) == "x"


def test_columns_are_aligned_and_long_ends_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    lines = columns([("a", "short"), ("longer", "x" * 100)])
    assert lines[0] == "  a       short"
    assert lines[1].startswith("  longer  xxx")
    assert lines[1].endswith("...")
    assert len(lines[1]) <= 40
    assert columns([]) == []


def test_a_very_long_first_cell_has_a_line_to_itself() -> None:
    lines = columns([("f" * 60, "about f"), ("g", "about g")])
    assert lines[0] == "  " + "f" * 60
    assert lines[1].strip() == "about f"
    assert lines[1].index("about") == lines[2].index("about")


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "integer"}, "integer"),
        ({"type": ["string", "null"]}, "string|null"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "string|null"),
        ({"type": "array", "items": {"type": "number"}}, "number[]"),
        ({"enum": ["a", 1]}, '"a"|1'),
        ({"const": True}, "true"),
        ({"$ref": "#/$defs/Order"}, "Order"),
        ({}, "any"),
        (True, "any"),
    ],
)
def test_a_schema_is_told_in_a_few_words(schema: object, text: str) -> None:
    assert type_name(schema) == text


def test_a_signature_marks_what_may_be_left_out() -> None:
    schema = {"properties": {"a": {"type": "integer"}, "b": {}}, "required": ["a"]}
    assert signature({"inputSchema": schema}) == "(a: integer, b?: any)"
    assert signature({"arguments": [{"name": "x", "required": True}, {"name": "y"}]}) == "(x, y?)"
    assert signature({"inputSchema": {"type": "object"}}) == "()"
    assert signature({"uri": "a://b"}) == ""


@pytest.mark.parametrize(
    ("block", "text"),
    [
        ({"type": "text", "text": "hi"}, "hi"),
        ({"type": "image", "mimeType": "image/png", "data": "AAAA"}, "[image image/png, 3 bytes]"),
        ({"type": "resource_link", "uri": "a://b"}, "[resource a://b]"),
        ({"type": "resource", "resource": {"uri": "a://b", "text": "inside"}}, "inside"),
        ({"type": "resource", "resource": {"uri": "a://b", "mimeType": "x/y", "blob": ""}}, "[resource a://b, x/y]"),
        ({"type": "new", "x": 1}, '{"type": "new", "x": 1}'),
    ],
)
def test_content_is_shown_as_text(block: dict[str, Any], text: str) -> None:
    assert show_block(block) == text


def test_an_error_result_goes_to_stderr_and_gives_exit_code_one(capsys: pytest.CaptureFixture[str]) -> None:
    result = {"isError": True, "content": [{"type": "text", "text": "broken"}]}
    assert show(result, as_json=False) == 1
    assert capsys.readouterr() == ("", "broken\n")
    assert show(result, as_json=True) == 1
    assert '"isError": true' in capsys.readouterr().out


def test_a_result_without_content_shows_its_structure(capsys: pytest.CaptureFixture[str]) -> None:
    assert show({"content": [], "structuredContent": {"a": "å"}}, as_json=False) == 0
    assert json.loads(capsys.readouterr().out) == {"a": "å"}


def test_what_a_server_says_beside_the_answer_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    show_progress(1, 2, "half")
    show_progress(2, None, None)
    show_log({"level": "info", "data": {"a": "å"}})
    show_log({"level": "error", "data": "plain"})
    show_noise("Listening...")
    show_stderr("one\ntwo\n")
    show_stderr("")
    wanted = [
        "1/2 half",
        "2",
        'info: {"a": "å"}',
        "error: plain",
        "no message: Listening...",
        "server: one",
        "server: two",
    ]
    assert capsys.readouterr() == ("", "\n".join([*wanted, ""]))


def test_of_a_long_standard_error_the_end_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    show_stderr("\n".join(f"line {number}" for number in range(100)))
    lines = capsys.readouterr().err.splitlines()
    assert (len(lines), lines[0], lines[-1]) == (20, "server: line 80", "server: line 99")


def test_the_nearest_names_are_offered_or_all_of_them() -> None:
    assert nearest("ad", ["add", "sub"]) == "did you mean add?"
    assert nearest("zzz", ["add", "sub"]) == "there is add, sub"
    assert nearest("zzz", []) == "there is none"
    assert nearest("zzz", [f"n{number:02}" for number in range(20)]).endswith("n11, ...")


def test_an_exception_is_described_in_one_line() -> None:
    assert describe(ValueError("two\nlines")) == "ValueError: two lines"
    assert describe(ValueError()) == "ValueError"


@pytest.mark.parametrize("command", ["run", "serve", "inspect", "call", "list", "ping", "version", "bench"])
def test_each_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: erlmcp {command}" in capsys.readouterr().out


def test_no_command_and_an_unknown_one_are_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["dance"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
    assert "usage: erlmcp" in capsys.readouterr().err
