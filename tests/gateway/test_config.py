"""The configuration: what is read, what is filled in, and what each mistake is told with."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from erlmcp.gateway.config import Credential, GatewayConfig, Override, UpstreamConfig, shown
from erlmcp.gateway.load import load
from erlmcp.gateway.problem import ConfigError, Problem

Write = Callable[..., Path]
PYTHON = sys.executable


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """``write(servers, gateway=..., name="mcp.json")``: a file with them; a text is written as it is."""

    def made(servers: Any, name: str = "mcp.json", **top: Any) -> Path:
        path = tmp_path / name
        text = servers if isinstance(servers, str) else json.dumps({"mcpServers": servers, **top}, indent=2)
        path.write_text(text, encoding="utf-8")
        return path

    return made


def problems_of(path: Path, environ: dict[str, str] | None = None) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        load([path], environ or {})
    return list(caught.value.problems)


def test_the_file_that_people_have_is_read_as_it_is(write: Write) -> None:
    path = write(
        {
            "files": {"command": PYTHON, "args": ["-m", "files", "${ROOT}"], "env": {"A": "b"}, "autoApprove": ["x"]},
            "web": {
                "type": "streamable-http",
                "url": "http://127.0.0.1:1/mcp",
                "headers": {"Authorization": "Bearer x"},
            },
            "old": {"type": "sse", "url": "https://example.org/sse"},
            "off": {"command": "no-such-program", "disabled": True},
        }
    )
    config = load([path], {"ROOT": "/srv"})
    files, web, old = config.upstreams
    assert (files.name, files.kind, files.command, files.env) == (
        "files", "stdio", (PYTHON, "-m", "files", "/srv"), {"A": "b"},
    )  # fmt: skip
    assert (web.kind, web.url, web.headers) == ("http", "http://127.0.0.1:1/mcp", {"Authorization": "Bearer x"})
    assert (old.kind, old.prefix) == ("http", "old_")
    assert config.notes == (f"{path}: mcpServers.files: passed over: autoApprove",)
    assert (config.host, config.port, config.path, config.anonymous) == ("127.0.0.1", 8080, "/mcp", True)


def test_a_toml_file_beside_it_adds_to_its_servers_key_by_key(write: Write) -> None:
    path = write({"a": {"command": PYTHON, "env": {"X": "1"}}, "b": {"url": "http://h/mcp"}})
    write(
        '[gateway]\nport = 9000\nseparator = "."\n[gateway.keys.alice]\nkey = "${ALICE}"\nallow = ["a.*"]\n'
        '[gateway.keys.alice.credentials.b.headers]\nX-User = "alice"\n[gateway.limits]\nbody_bytes_max = 1000\n'
        '[servers.a]\ninstances = 3\nallow = ["one", "t*"]\n[servers.a.rename]\none = "first"\n'
        '[servers.a.override.two]\ndescription = "Better"\nannotations = { readOnlyHint = true }\n'
        '[servers.c]\ntcp = "localhost:99"\nprefix = false\nlazy = true\nmode = "legacy"\n',
        name="erlmcp.toml",
    )
    config = load([path], {"ALICE": "k" * 20})
    a, b, c = config.upstreams
    assert (a.instances, a.allow, a.rename, a.prefix, a.env) == (3, ("one", "t*"), {"one": "first"}, "a.", {"X": "1"})
    assert a.override == {"two": Override(None, "Better", {"readOnlyHint": True})}
    assert (c.kind, c.address, c.prefix, c.lazy, c.mode) == ("tcp", "localhost:99", "", True, "legacy")
    (alice,) = config.keys
    assert alice.digest == hashlib.sha256(b"k" * 20).digest()
    assert (alice.allow, alice.credentials) == (("a.*",), {"b": Credential({"X-User": "alice"})})
    assert (config.port, config.anonymous, config.limits) == (9000, False, {"body_bytes_max": 1000})
    assert b.prefix == "b."


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("${A}", "one"),
        ("${env:A}-${A}", "one-one"),
        ("${NONE:-two}", "two"),
        ("${EMPTY:-two}", "two"),
        ("x${EMPTY}y", "xy"),
        ("$${A}", "${A}"),
        ("${NONE:-}", ""),
        ("$A ${TRICK}", "$A ${A}"),
    ],
)
def test_variables_are_filled_in_once_and_have_defaults(write: Write, text: str, found: str) -> None:
    path = write({"a": {"command": PYTHON, "args": [text]}})
    config = load([path], {"A": "one", "EMPTY": "", "TRICK": "${A}"})
    assert config.upstreams[0].command == (PYTHON, found)


MISTAKES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("unknown key", {"comand": "x", "url": "http://h/"}, "comand", "is no key that is known", "did you mean command"),
    ("wrong type", {"command": PYTHON, "args": "-x"}, "args", "is a text", "write an array of texts"),
    ("number for text", {"command": PYTHON, "args": [8080]}, "args[0]", "is the number 8080", 'write "8080"'),
    ("neither", {"args": []}, "", "neither what to start nor where to go", "give 'command'"),
    ("both", {"command": PYTHON, "url": "http://h/"}, "url", "stands beside command", "not both"),
    ("unset", {"url": "http://h/", "headers": {"A": "${TOKEN}"}}, "headers.A", "TOKEN is not set", "export TOKEN"),
    ("input variable", {"command": PYTHON, "args": ["${input:key}"]}, "args[0]", "cannot be filled in", "${NAME}"),
    ("bad url", {"url": "example.org/mcp"}, "url", "no http:// or https://", "for instance http://"),
    ("credentials in url", {"url": "http://a:b@h/mcp"}, "url", "holds credentials", "headers"),
    ("bad kind", {"url": "http://h/", "type": "htpp"}, "type", "'htpp' is unknown", "did you mean http"),
    ("kind against way", {"url": "http://h/", "type": "stdio"}, "type", "is stdio, and the entry has url", "'http'"),
    ("bad mode", {"url": "http://h/", "mode": "modern"}, "mode", "'modern' is unknown", "expected one of 2024-11-05"),
    ("no program", {"command": "no-such-program-here"}, "command", "no program", "install it"),
    ("whole line", {"command": "npx -y thing"}, "command", "is a whole line", '"args"'),
    ("no folder", {"command": PYTHON, "cwd": "/no/such/folder"}, "cwd", "is no folder", "make it"),
    ("bad number", {"command": PYTHON, "timeout_s": -1}, "timeout_s", "is -1", "a number above 0"),
    ("bad count", {"command": PYTHON, "instances": 0}, "instances", "is 0", "from 1 on"),
    ("too many", {"command": PYTHON, "instances": 65}, "instances", "is 65", "up to 64"),
    ("header name", {"url": "http://h/", "headers": {"A B": "c"}}, "headers.A B", "no name of a header", "dashes"),
    ("header value", {"url": "http://h/", "headers": {"A": "b\nc"}}, "headers.A", "what no header can", "line breaks"),
    ("headers for a program", {"command": PYTHON, "headers": {}}, "headers", "means nothing for command", "remove it"),
    ("times", {"command": PYTHON, "restart_s": 9, "restart_max_s": 3}, "restart_max_s", "below restart_s=9", "larger"),
    ("bad replica", {"urls": ["http://h/", "i"]}, "urls[1]", "'i' is no http://", "for instance"),
    ("no replica", {"urls": []}, "urls", "is empty", "of each replica"),
    ("both ways", {"url": "http://h/", "urls": ["http://h/"]}, "urls", "stands beside url", "not both"),
    ("replicas twice", {"urls": ["http://h/"], "instances": 2}, "instances", "means nothing beside urls", "remove it"),
    ("bad address", {"tcp": "localhost"}, "tcp", "is no HOST:PORT", "for instance"),
    ("no file", {"server": "nope.py"}, "server", "no Python file", "server.py"),
    ("null in args", {"command": PYTHON, "args": [None]}, "args[0]", "is null", "a text in quotes"),
    ("override", {"command": PYTHON, "override": {"t": {"desc": "x"}}}, "override.t.desc", "no key", "description"),
]  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES, ids=[each[0] for each in MISTAKES])
def test_a_mistake_in_an_entry_is_told_with_its_key_and_the_mend(write: Write, mistake: Any) -> None:
    _, entry, key, text, mend = mistake
    path = write({"it": entry})
    first = problems_of(path)[0]
    assert first.file == str(path)
    assert first.key == f"mcpServers.it{'.' + key if key else ''}"
    assert text in first.text
    assert mend in first.mend
    assert str(first).startswith(f"{path}:{first.line}: {first.key}: ")


@pytest.mark.parametrize(
    ("name", "text", "line", "wrong", "mend"),
    [
        ("mcp.json", '{"mcpServers": {\n  "a": {"command": "x",}\n}}', 2, "is no JSON", "a comma too many"),
        ("mcp.json", "[]", 0, "holds an array", '{"mcpServers"'),
        ("mcp.json", "{}", 0, "has no servers", '{"mcpServers"'),
        ("mcp.json", '{"mcpServers": {\n"a": {"url": "http://h/"},\n"a": {}}}', 2, "stands twice", "rename or remove"),
        ("erlmcp.toml", "[servers.a]\nurl = http\n", 2, "is no TOML", "mend the line"),
        ("mcp.json", '{"mcpServers": []}', 1, "is an array", "write a table"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_with_the_line(
    write: Write, name: str, text: str, line: int, wrong: str, mend: str
) -> None:
    problem = problems_of(write(text, name=name))[0]
    assert (problem.line, wrong in problem.text, mend in problem.mend) == (line, True, True), problem


def test_a_file_that_is_not_there_or_no_text_is_told(tmp_path: Path) -> None:
    (missing,) = problems_of(tmp_path / "none.json")
    assert "no such file" in missing.text
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    (other,) = problems_of(tmp_path / "bytes.json")
    assert "no UTF-8" in other.text


def test_all_mistakes_are_told_at_once_each_with_its_line(write: Write) -> None:
    path = write({"a": {"command": PYTHON, "argz": []}, "b": {"url": "nope"}, "c": {"command": "no-such-program"}})
    found = problems_of(path)
    assert [problem.key.rpartition(".")[2] for problem in found] == ["argz", "url", "command"]
    lines = path.read_text().splitlines()
    assert all(problem.key.rpartition(".")[2] in lines[problem.line - 1] for problem in found)


GATEWAY: list[tuple[str, str, str, str]] = [
    ("[gateway]\nprot = 1", "gateway.prot", "is no key that is known", "did you mean port"),
    ("[gateway]\nport = 70000", "gateway.port", "is 70000", "up to 65535"),
    ('[gateway]\nport = "80"', "gateway.port", "is a text", "a whole number"),
    ('[gateway]\ncollision = "frist"', "gateway.collision", "is unknown", "did you mean first"),
    ("[gateway.limits]\nbody_max = 1", "gateway.limits.body_max", "is no limit", "body_bytes_max"),
    ("[gateway.limits]\nbody_bytes_max = 0", "gateway.limits.body_bytes_max", "is 0", "from 1 on"),
    ("[gateway.keys.a]\nallow = []", "gateway.keys.a", "needs either key or sha256", "${NAME}"),
    ('[gateway.keys.a]\nkey = "short"', "gateway.keys.a.key", "has 5 characters", "16 or more"),
    ('[gateway.keys.a]\nsha256 = "xyz"', "gateway.keys.a.sha256", "is no SHA-256", "sha256sum"),
    (
        '[gateway.keys.a]\nkey = "kkkkkkkkkkkkkkkk"\n[gateway.keys.a.credentials.its.headers]\nA = "b"',
        "gateway.keys.a.credentials.its", "names no server", "did you mean it",
    ),
    (
        '[gateway.keys.a]\nkey = "kkkkkkkkkkkkkkkk"\n[gateway.keys.a.credentials.it.env]\nA = "b"',
        "gateway.keys.a.credentials.it.env", "is for a program", "use headers",
    ),
    (
        '[gateway.keys.a]\nkey = "kkkkkkkkkkkkkkkk"\n[gateway.keys.b]\nkey = "kkkkkkkkkkkkkkkk"',
        "gateway.keys.b.key", "is that of a", "of its own",
    ),
    (
        '[servers."i t"]\nurl = "http://h/"\n[servers.i_t]\nurl = "http://i/"',
        "servers.i_t.prefix", "as that of i t", "another",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "key", "wrong", "mend"), GATEWAY, ids=[each[1] for each in GATEWAY])
def test_a_mistake_of_the_gateways_own_is_told(write: Write, text: str, key: str, wrong: str, mend: str) -> None:
    path = write({"it": {"url": "http://h/mcp"}})
    write(text, name="erlmcp.toml")
    (problem,) = problems_of(path)
    assert problem.file.endswith("erlmcp.toml")
    assert problem.key == key
    assert wrong in problem.text
    assert mend in problem.mend


def test_what_is_shown_holds_no_secret(write: Write) -> None:
    secret = "hunter2hunter2hunter2"
    path = write(
        {
            "a": {"command": PYTHON, "args": ["--api-key", secret, f"--token={secret}", "plain"], "env": {"T": secret}},
            "b": {"url": f"https://h/mcp?key={secret}", "headers": {"Authorization": secret}},
        },
        gateway={"keys": {"k": {"key": secret, "credentials": {"b": {"headers": {"X": secret}}}}}},
    )
    config = load([path], {})
    text = json.dumps(shown(config))
    assert secret not in text
    assert hashlib.sha256(secret.encode()).hexdigest() not in text
    assert shown(config)["upstreams"][0]["command"] == [PYTHON, "--api-key", "***", "--token=***", "plain"]
    assert shown(config)["upstreams"][1]["url"] == "https://h/mcp?key=***"
    assert json.loads(text)["keys"][0]["name"] == "k"


@pytest.mark.parametrize(("name", "before"), [("mcp.json", ""), ("erlmcp.toml", "a = ")])
def test_a_file_that_is_nested_without_end_is_a_mistake_like_others(tmp_path: Path, name: str, before: str) -> None:
    path = tmp_path / name
    path.write_text(before + "[" * 100_000 + "]" * 100_000)
    with pytest.raises(ConfigError, match="is nested too deep to be read; a bracket too many"):
        load([str(path)], {})


def test_without_a_file_the_one_beside_is_read_or_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"erlmcp\.toml: is not there; name a file"):
        load([], {})
    (tmp_path / "erlmcp.toml").write_text('[servers.a]\nurl = "http://h/mcp"\n')
    config = load([], {})
    assert isinstance(config, GatewayConfig)
    assert config.upstreams[0].url == "http://h/mcp"


def test_the_page_shows_a_file_that_can_be_read_and_names_every_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs/gateway.md").read_text(encoding="utf-8")
    (tmp_path / "erlmcp.toml").write_text(page.partition("```toml\n")[2].partition("```")[0])
    monkeypatch.setattr("shutil.which", lambda program, path=None: program)
    config = load([tmp_path / "erlmcp.toml"], {"ALICE_KEY": "k" * 16, "SEARCH_TOKEN": "t"})
    assert [each.prefix for each in config.upstreams] == ["files.", "search."]
    assert (config.port, config.upstreams[0].deny) == (9000, ("write_*",))
    own = {field.name for field in fields(UpstreamConfig)} - {"name", "kind", "address", "target"}
    gateway = {field.name for field in fields(GatewayConfig)} - {"upstreams", "files", "notes", "marks"}
    for name in own | gateway | {"args", "tcp", "unix", "server", "disabled", "separator", "lazy", "guards"}:
        assert f"`{name}`" in page, name
