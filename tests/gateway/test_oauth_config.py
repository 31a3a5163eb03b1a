"""The section of access tokens in a configuration: what is read, and what each mistake is told with."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "auth"))

from issuer import SECRET, jwk, key_set, pem

from erlmcp.cli import main
from erlmcp.gateway.config import GatewayConfig, GrantConfig, shown
from erlmcp.gateway.load import load
from erlmcp.gateway.problem import ConfigError

GOOD = 'audience = "https://mcp.test/mcp"\nissuer = "https://login.test"\njwks_url = "https://login.test/keys"\n'
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """``write(text)``: a server, and a section of the gateway with this text; the file."""
    (tmp_path / "keys.json").write_text(json.dumps(key_set("r1", "o1")))
    (tmp_path / "key.pem").write_text(pem("r1"))
    (tmp_path / "junk.json").write_text("{")

    def made(text: str) -> Path:
        path = tmp_path / "erlmcp.toml"
        path.write_text(f'[servers.s]\nurl = "http://h/mcp"\n[gateway.oauth]\n{text}')
        return path

    return made


def read(path: Path, **environ: str) -> GatewayConfig:
    return load([path], environ)


def test_a_section_with_one_issuer_is_read(write: Write) -> None:
    config = read(
        write(
            GOOD + 'algorithms = ["ES256"]\nscopes = ["mcp"]\ncaller = "client_id"\nleeway_s = 0\nallow = ["s_*"]\n'
            'jwks_refresh_s = 60\njwks_stale_s = 600\n[gateway.oauth.grants."files:read"]\nallow = ["s_read*"]\n'
        )
    )
    oauth = config.oauth
    assert oauth is not None
    (issuer,) = oauth.auth.issuers
    assert (issuer.issuer, issuer.jwks_url, issuer.algorithms) == (
        "https://login.test", "https://login.test/keys", ("ES256",),
    )  # fmt: skip
    assert (oauth.auth.audience, oauth.auth.resource) == (("https://mcp.test/mcp",), "https://mcp.test/mcp")
    assert (oauth.auth.scopes, oauth.auth.scopes_supported) == (("mcp",), ("files:read",))
    assert (oauth.auth.caller, oauth.auth.leeway_s) == ("client_id", 0)
    assert (oauth.auth.jwks_refresh_s, oauth.auth.jwks_refetch_s, oauth.auth.jwks_stale_s) == (60, 10, 600)
    assert oauth.grant == GrantConfig(allow=("s_*",))
    assert oauth.grants == {"files:read": GrantConfig(allow=("s_read*",))}
    assert config.anonymous is False


def test_keys_are_taken_from_files_beside_the_configuration_and_from_the_environment(write: Write) -> None:
    rest = 'audience = "https://mcp.test/mcp"\nissuer = "i"\n'
    for text, name, environ in (
        ('jwks = "keys.json"', "jwks", {}),
        ('jwks = "${KEYS}"', "jwks", {"KEYS": json.dumps(key_set("r1", "o1"))}),
        ('key = "key.pem"', "key", {}),
        ('key = "${PEM}"', "key", {"PEM": pem("r1")}),
        ('secret = "${SECRET}"', "secret", {"SECRET": SECRET}),
    ):
        config = read(write(rest + text), **environ)
        assert config.oauth is not None
        wanted = {"jwks": key_set("r1", "o1"), "key": pem("r1"), "secret": SECRET}[name]
        assert getattr(config.oauth.auth.issuers[0], name) == wanted


def test_several_issuers_have_each_a_table(write: Write) -> None:
    config = read(
        write(
            'audience = ["https://mcp.test/mcp", "api://mcp"]\n'
            '[gateway.oauth.issuers.staff]\nissuer = "https://staff.test"\njwks = "keys.json"\n'
            '[gateway.oauth.issuers.robots]\nissuer = "robots"\nsecret = "${SECRET}"\n'
        ),
        SECRET=SECRET,
    )
    assert config.oauth is not None
    assert [each.issuer for each in config.oauth.auth.issuers] == ["https://staff.test", "robots"]
    assert config.oauth.auth.audience == ("https://mcp.test/mcp", "api://mcp")


def test_what_is_shown_holds_no_secret(write: Write) -> None:
    config = read(write('audience = "https://mcp.test/mcp"\nissuer = "i"\nsecret = "${SECRET}"'), SECRET=SECRET)
    text = json.dumps(shown(config))
    assert SECRET not in text
    assert shown(config)["oauth"]["auth"]["issuers"] == [{"issuer": "i", "secret": "***"}]
    config = read(write('audience = "https://mcp.test/mcp"\nissuer = "i"\njwks = "keys.json"'))
    assert shown(config)["oauth"]["auth"]["issuers"] == [{"issuer": "i", "jwks": {"keys": ["r1", "o1"]}}]


AUDIENCE = 'audience = "https://mcp.test/mcp"\n'
ISSUER = 'issuer = "https://login.test"\n'
MISTAKES: list[tuple[str, str, str, str]] = [
    # text, the key below gateway.oauth, what is wrong, the mend
    (GOOD + "isuer = 1", "isuer", "is no key that is known", "did you mean issuer"),
    (AUDIENCE + 'jwks_url = "https://l/k"', "issuer", "is missing", "what tokens say in iss"),
    (ISSUER + 'jwks_url = "https://l/k"', "audience", "is missing", "the URL of this endpoint"),
    (ISSUER + 'jwks_url = "https://l/k"\naudience = "api://mcp"', "resource", "is no URL", "the URL of this endpoint"),
    (GOOD + 'resource = "mcp.test"', "resource", "'mcp.test' is no URL", "without #"),
    (AUDIENCE + ISSUER, "", "says nowhere how tokens are checked", "jwks_url, jwks, key or secret"),
    (GOOD + 'key = "key.pem"', "key", "stands beside jwks_url", "not both"),
    (AUDIENCE + ISSUER + 'jwks_url = "http://login.test/keys"', "jwks_url", "is no https://", "for instance"),
    (AUDIENCE + ISSUER + 'jwks = "none.json"', "jwks", "cannot be read: No such file", "name a file"),
    (AUDIENCE + ISSUER + 'jwks = "junk.json"', "jwks", "is no JSON", '{"keys": [...]}'),
    (AUDIENCE + ISSUER + 'jwks = "{}"', "jwks", "cannot be used: it is no key set", "public key of the issuer"),
    (AUDIENCE + ISSUER + 'key = "-----BEGIN x"', "key", "cannot be used: it is no public key as PEM", "public key"),
    (AUDIENCE + ISSUER + 'secret = "short"', "secret", "has 5 bytes", "32 or more"),
    (AUDIENCE + ISSUER + 'secret = "${NONE}"', "secret", "NONE is not set", "export NONE"),
    (GOOD + 'algorithms = ["none"]', "algorithms", "lists none", "remove it"),
    (GOOD + 'algorithms = ["HS256"]', "algorithms", "HS256 is for a secret", "expected some of RS256"),
    (GOOD + 'algorithms = ["RSA256"]', "algorithms", "'RSA256' is unknown", "expected some of RS256"),
    (GOOD + 'algorithms = "RS256 ES256"', "algorithms", "is unknown", "expected some of"),
    (GOOD + 'scopes = ["a b"]', "scopes", "'a b' is no scope", "no blanks"),
    (GOOD + "leeway_s = -1", "leeway_s", "is -1", "from 0 on"),
    (GOOD + "jwks_stale_s = 60", "jwks_stale_s", "is below jwks_refresh_s=300", "the larger one"),
    (GOOD + 'caller = ""', "caller", "is empty", "for instance sub"),
    (GOOD + '[gateway.oauth.grants."a b"]\nallow = []', "grants.a b", "is no scope", "no blanks"),
    (GOOD + "[gateway.oauth.grants.read]\nalow = []", "grants.read.alow", "is no key", "did you mean allow"),
    (GOOD + "[gateway.oauth.grants.read]\nallow = 7", "grants.read.allow", "is a number", "an array of texts"),
    (
        AUDIENCE + '[gateway.oauth.issuers.a]\nissuer = "x"', "issuers.a", "says nowhere how", "jwks_url",
    ),
    (
        GOOD + '[gateway.oauth.issuers.a]\nissuer = "https://login.test"\njwks = "keys.json"',
        "issuers", "https://login.test is there twice", "one entry",
    ),
    (
        AUDIENCE + '[gateway.oauth.issuers.a]\nissuer = "x"\njwks = "keys.json"\naudience = "y"',
        "issuers.a.audience", "is no key", "expected one of",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "key", "wrong", "mend"), MISTAKES, ids=[f"{m[1]} {m[2]}" for m in MISTAKES])
def test_a_mistake_is_told_with_its_file_line_key_and_mend(
    write: Write, text: str, key: str, wrong: str, mend: str
) -> None:
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        read(path)
    (problem,) = caught.value.problems
    assert problem.file == str(path)
    assert problem.key == f"gateway.oauth{'.' + key if key else ''}"
    assert wrong in problem.text
    assert mend in problem.mend
    assert problem.line > 2


def test_a_key_set_of_other_kinds_of_keys_is_told(write: Write) -> None:
    path = write(AUDIENCE + ISSUER + 'jwks = "odd.json"')
    (path.parent / "odd.json").write_text(json.dumps({"keys": [{"kty": "oct", "k": "AAAA"}, jwk("r1", use="enc")]}))
    with pytest.raises(ConfigError, match="no key to check signatures with"):
        read(path)


def test_without_the_library_the_mend_is_told(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("erlmcp.auth.keeper.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"gateway\.oauth: needs libraries .* pip install 'erlmcp\[oauth\]'"):
        read(write(GOOD))


def test_a_file_with_fifteen_kinds_of_mistakes_is_told_all_of_them_by_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each with its file, its line, its key and the mend, in one run; nothing is started, and the code is 3."""
    lines: list[tuple[str, str]] = [
        ("[gateway]", ""),
        ("prot = 1", "gateway.prot: is no key that is known here; did you mean port"),
        ("port = 70000", "gateway.port: is 70000; write a number up to 65535"),
        ('collision = "frist"', "gateway.collision: 'frist' is unknown; did you mean first?"),
        ('separator = "."', ""),
        ("[gateway.limits]", ""),
        ("body_bytes_max = 0", "gateway.limits.body_bytes_max: is 0; write a whole number from 1 on"),
        ("body_max = 1", "gateway.limits.body_max: is no limit; did you mean"),
        ("[gateway.keys.alice]", ""),
        ('key = "short"', "gateway.keys.alice.key: has 5 characters; take 16 or more, at random"),
        ("[gateway.oauth]", ""),
        ('issuer = "https://login.test"', ""),
        ('jwks_url = "http://login.test/keys"', "gateway.oauth.jwks_url: 'http://login.test/keys' is no https://"),
        ('audience = "https://mcp.test/mcp"', ""),
        ('scopes = ["a b"]', "gateway.oauth.scopes: 'a b' is no scope"),
        ("[servers.one]", ""),
        ('comand = "npx"', "servers.one.comand: is no key that is known here; did you mean command"),
        ('url = "example.org/mcp"', "servers.one.url: 'example.org/mcp' is no http:// or https:// address"),
        ('headers = { Authorization = "Bearer ${NO_SUCH_TOKEN}" }', "servers.one.headers.Authorization: "),
        ('mode = "modrn"', "servers.one.mode: 'modrn' is unknown"),
        ("timeout_s = -1", "servers.one.timeout_s: is -1; write a number above 0"),
        ("[servers.two]", ""),
        ('command = "no-such-program-here"', "servers.two.command: no program 'no-such-program-here' is found"),
        ("args = [8080]", 'servers.two.args[0]: is the number 8080; write "8080", in quotes'),
        ("instances = 65", "servers.two.instances: is 65; write a whole number up to 64"),
        ("[servers.three]", ""),
        ('tcp = "localhost"', "servers.three.tcp: 'localhost' is no HOST:PORT; for instance 127.0.0.1:8081"),
        ("guards = { breaker = 7 }", "servers.three.guards.breaker: "),
    ]  # fmt: skip
    path = tmp_path / "erlmcp.toml"
    path.write_text("\n".join(text for text, _ in lines))
    assert main(["gateway", "check", str(path)]) == 3
    told = capsys.readouterr().err.splitlines()
    wanted = [(f"{path}:{number}: ", said) for number, (_, said) in enumerate(lines, 1) if said]
    assert len(wanted) >= 15
    assert told[0].endswith(f"{len(wanted)} mistakes in the configuration")
    for line, (place, said) in zip(told[1:], wanted, strict=True):
        assert line.strip().startswith(place + said)
        assert "; " in line  # the mend


def test_a_file_without_mistakes_is_counted_by_check(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gateway", "check", str(write(GOOD))]) == 0
    assert "1 servers, 0 keys, tokens of 1 issuer, no mistakes" in capsys.readouterr().out


def test_what_check_is_told_holds_no_secret(write: Write, capsys: Any) -> None:
    path = write(AUDIENCE + ISSUER + f'secret = "{SECRET}"\nalgorithms = ["RS256"]')
    assert main(["gateway", "check", str(path)]) == 3
    told = capsys.readouterr()
    assert SECRET not in told.err + told.out
