"""One server of a configuration: the entry that people have, and what a gateway wants to know besides."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

from erlmcp.gateway.config import CanaryConfig, Credential, Override, UpstreamConfig
from erlmcp.gateway.document import Table
from erlmcp.gateway.rule import read_balance, read_guards
from erlmcp.policy.rollout import Rules
from erlmcp.spec.version import KNOWN_VERSIONS, LEGACY, MODERN

# What an entry may call its transport; "" is told from its other keys.
KINDS: Final = {
    "stdio": "stdio", "http": "http", "streamable-http": "http", "streamableHttp": "http", "streamable_http": "http",
    "sse": "http", "tcp": "tcp", "unix": "unix", "server": "server",
}  # fmt: skip
MODES: Final = {mode: mode for mode in ("auto", LEGACY, *KNOWN_VERSIONS)}
ERAS: Final = {era: era for era in (MODERN, LEGACY)}
SESSIONS: Final = {mode: mode for mode in ("auto", "shared", "own")}
WAYS: Final = {"command": "stdio", "url": "http", "urls": "http", "tcp": "tcp", "unix": "unix", "server": "server"}
ONLY_FOR: Final = {"args": "stdio", "env": "stdio", "cwd": "stdio", "inherit_env": "stdio", "headers": "http"}
# Keys of other programs, which mean nothing here.
FOREIGN: Final = (
    "alwaysAllow", "autoApprove", "autoApproval", "description", "gallery", "icon", "dev", "trust", "timeout", "oauth",
    "scopes", "note", "notes", "name", "version", "enabledTools", "excludeTools", "includeTools",
)  # fmt: skip
INSTANCE_COUNT_MAX: Final = 64
LINE_COUNT_MAX: Final = 10_000
COUNTS: Final = {"instances": INSTANCE_COUNT_MAX, "line_count_max": LINE_COUNT_MAX, "start_queue_max": 100_000}
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9.-]*")
_UNFIT = re.compile(r"[^A-Za-z0-9_.-]")

Fields = dict[str, Any]


def read_entry(table: Table, notes: list[str]) -> Fields:
    """The fields that one entry gives, each checked by itself; what they are together is ``judge_entry``'s."""
    found: Fields = {}
    _read_way(table, found)
    if (cwd := table.text("cwd")) is not None:
        found["cwd"] = os.path.expanduser(cwd)
    for name in ("inherit_env", "lazy", "cache"):
        if name in table:
            found[name] = table.flag(name, False)
    for name, known in (("mode", MODES), ("session", SESSIONS)):
        if name in table:
            found[name] = table.choice(name, known, "auto")
    for name, most in COUNTS.items():
        if name in table:
            count = int(table.number(name, 1, is_whole=True, least=1))
            if count > most:
                table.report(name, f"is {count}", f"write a whole number up to {most}")
            found[name] = min(count, most)
    for name in ("start_timeout_s", "timeout_s", "health_s", "restart_s", "restart_max_s"):
        if name in table:
            found[name] = float(table.number(name, 1.0))
    _read_names(table, found)
    for name in ("guards", "tool_guards"):
        if (guards := read_guards(table, name)) is not None:
            found[name] = guards
    if (balance := read_balance(table)) is not None:
        found["balance"] = balance
    if (inner := table.table("canary")) is not None and (canary := read_canary(inner)) is not None:
        found["canary"] = canary
    if foreign := table.pass_over(*FOREIGN):
        notes.append(f"{table.document.path}: {table.key}: passed over: {', '.join(foreign)}")
    table.finish()
    return found


def _read_way(table: Table, found: Fields) -> None:
    """What to start or where to go, and with what."""
    if table.flag("disabled", False) or not table.flag("enabled", True):
        found["disabled"] = True
    for name in WAYS:
        if name != "urls" and (text := table.text(name)) is not None:
            found[name] = text
    if (urls := table.texts("urls")) is not None:
        found["urls"] = urls
        if not urls:
            table.report("urls", "is empty", "name the address of each replica")
    for name in ("type", "transport", "transportType"):
        if (kind := table.choice(name, KINDS, "")) != "":
            found["kind"] = kind
    if (args := table.texts("args")) is not None:
        found["args"] = args
    for name in ("env", "headers"):
        if name in table:
            found[name] = table.map_of_texts(name)
    check_headers(table, found.get("headers", {}))


def _read_names(table: Table, found: Fields) -> None:
    prefix = table.raw("prefix")
    if isinstance(prefix, bool):
        found["prefix"] = prefix
    elif "prefix" in table:
        found["prefix"] = table.text("prefix", "") or ""
    if (separator := table.text("separator")) is not None:
        found["separator"] = separator
    _read_uri_prefix(table, found)
    if "rename" in table:
        found["rename"] = table.map_of_texts("rename")
    if (allow := table.texts("allow")) is not None:
        found["allow"] = allow
    denied = (*(table.texts("deny") or ()), *(table.texts("disabledTools") or ()))
    if denied:
        found["deny"] = denied
    overrides = {}
    for name, each in table.tables("override").items():
        annotations = each.table("annotations")
        given = {} if annotations is None else {key: annotations.raw(key) for key in annotations.names}
        overrides[name] = Override(each.text("title"), each.text("description"), given)
        each.finish()
    if overrides:
        found["override"] = overrides


def _read_uri_prefix(table: Table, found: Fields) -> None:
    given = table.raw("uri_prefix")
    if isinstance(given, bool):
        found["uri_prefix"] = given
    elif "uri_prefix" in table:
        text = table.text("uri_prefix", "") or ""
        if text and not _SCHEME.fullmatch(text.rstrip("+")):
            table.report("uri_prefix", f"{text!r} is no beginning of a URI", "letters and digits, a letter first")
        found["uri_prefix"] = text


def check_headers(table: Table, headers: Mapping[str, str]) -> None:
    told = {problem.key for problem in table.document.problems}
    for name, value in headers.items():
        if table.path(f"headers.{name}") in told:
            continue  # what it holds is not what was meant
        if not _HEADER_NAME.fullmatch(name):
            table.report(f"headers.{name}", "is no name of a header", "letters, digits and dashes make one")
        elif not value.isprintable() or value != value.strip():
            table.report(f"headers.{name}", "holds what no header can", "remove line breaks and blanks around it")


def judge_entry(name: str, table: Table, found: Fields, defaults: Mapping[str, Any]) -> UpstreamConfig | None:
    """The upstream that an entry's fields make together; None where they make none, which is reported."""
    ways = [way for way in WAYS if found.get(way)]
    if not ways:
        table.report(
            "", "says neither what to start nor where to go", "give 'command', 'url', 'tcp', 'unix' or 'server'"
        )
        return None
    if len(ways) > 1:
        table.report(ways[1], f"stands beside {ways[0]}", f"keep {ways[0]} or {ways[1]}, not both")
        return None
    kind = WAYS[ways[0]]
    if found.get("kind", kind) != kind:
        table.report("type", f"is {found['kind']}, and the entry has {ways[0]}", f"write {kind!r} or leave it out")
    for key, wanted in ONLY_FOR.items():
        if key in found and wanted != kind:
            table.report(key, f"means nothing for {ways[0]}", "remove it")
    given: Fields = {**defaults, **{key: found[key] for key in _KEPT if key in found}}
    given["prefix"] = _prefix_of(name, found, defaults)
    given["uri_prefix"] = _uri_prefix_of(name, found)
    del given["separator"]
    made = UpstreamConfig(name, kind, **{**given, **_JUDGES[kind](table, found)})
    if made.restart_max_s < made.restart_s:
        table.report("restart_max_s", f"is below restart_s={made.restart_s:g}", "make it the larger one")
    return made


_KEPT: Final = (
    "env", "headers", "cwd", "inherit_env", "lazy", "cache", "mode", "session", "instances", "balance",
    "line_count_max", "start_queue_max", "start_timeout_s", "timeout_s", "health_s", "restart_s", "restart_max_s",
    "rename", "allow", "deny", "override", "guards", "tool_guards", "canary",
)  # fmt: skip


def _prefix_of(name: str, found: Fields, defaults: Mapping[str, Any]) -> str:
    prefix = found.get("prefix", defaults["prefix"])
    separator: str = found.get("separator", defaults["separator"])
    if prefix is False or prefix == "":
        return ""
    return (_UNFIT.sub("_", name) if prefix is True else prefix) + separator


def _uri_prefix_of(name: str, found: Fields) -> str:
    """What makes another scheme of every URI: the name, and a plus sign."""
    prefix = found.get("uri_prefix", False)
    if prefix is False or prefix == "":
        return ""
    text = _UNFIT.sub("-", name).replace("_", "-") if prefix is True else prefix.rstrip("+")
    return (text if text[0].isalpha() else f"x-{text}") + "+"


def _judge_command(table: Table, found: Fields) -> Fields:
    command = os.path.expanduser(found["command"])
    folder = found.get("cwd")
    if folder is not None and not os.path.isdir(folder):
        table.report("cwd", f"{folder} is no folder", "make it, or name another")
    elif " " in command.strip() and shutil.which(command) is None:
        table.report("command", f"{command!r} is a whole line", 'the program alone; its words go into "args"')
    elif shutil.which(command, path=found.get("env", {}).get("PATH")) is None:
        is_there = folder is not None and os.access(os.path.join(folder, command), os.X_OK)
        if not is_there:
            table.report("command", f"no program {command!r} is found", "install it, or give its whole path")
    return {"command": (command, *found.get("args", ()))}


def _judge_urls(table: Table, found: Fields) -> Fields:
    if "url" in found:
        _judge_url(table, "url", found["url"])
        return {"url": found["url"]}
    urls = found["urls"]
    for index, url in enumerate(urls):
        _judge_url(table, f"urls[{index}]", url)
    if "instances" in found:
        table.report("instances", "means nothing beside urls", "each of them is an instance; remove it")
    return {"url": urls[0], "urls": urls, "instances": len(urls)}


def _judge_url(table: Table, key: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        wrong = parts.scheme not in ("http", "https") or not parts.hostname or (parts.port or 1) < 1
    except ValueError:
        parts, wrong = urlsplit(""), True
    if wrong:
        table.report(key, f"{url!r} is no http:// or https:// address", "for instance http://127.0.0.1:8080/mcp")
    elif parts.username is not None:
        table.report(key, "holds credentials, which are not sent", 'give "headers": {"Authorization": ...}')


def _judge_tcp(table: Table, found: Fields) -> Fields:
    address = found["tcp"].removeprefix("tcp://")
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        table.report("tcp", f"{address!r} is no HOST:PORT", "for instance 127.0.0.1:8081")
    return {"address": address}


def _judge_unix(table: Table, found: Fields) -> Fields:
    return {"address": os.path.expanduser(found["unix"].removeprefix("unix:"))}


def _judge_server(table: Table, found: Fields) -> Fields:
    target = found["server"]
    file = target.rpartition(":")[0] if ":" in target and not os.path.exists(target) else target
    if not file.endswith(".py") or not os.path.exists(file):
        table.report("server", f"no Python file {file!r}", "for instance server.py, or server.py:app")
    return {"target": target}


_JUDGES: Final = {
    "stdio": _judge_command, "http": _judge_urls, "tcp": _judge_tcp, "unix": _judge_unix, "server": _judge_server,
}  # fmt: skip


def read_canary(table: Table) -> CanaryConfig | None:
    """Another version of the server, and who takes part; None where there is none, which is reported."""
    found: Fields = {}
    _read_way(table, found)
    tools, era = table.texts("tools"), table.choice("era", ERAS, "")
    stage_s = float(table.number("stage_s_min", 60.0))
    shares = table.raw("shares")
    table.finish()
    made = CanaryConfig({}, tools, era or None, stage_s_min=stage_s)
    if shares is not None:
        try:
            made = replace(made, shares=tuple(shares))
            Rules(shares=made.shares)
        except (TypeError, ValueError) as error:
            table.report("shares", f"cannot be: {error}", "for instance [0.1, 0.5, 1.0]")
            return None
    ways = [way for way in WAYS if found.get(way)]
    if len(ways) != 1:
        table.report("", "says neither what to start nor where to go", "give one of 'command', 'url', 'tcp' or 'unix'")
        return None
    kind = WAYS[ways[0]]
    kept: Fields = {name: found[name] for name in ("env", "headers") if name in found}
    return replace(made, way={"kind": kind, "urls": (), "instances": 1, **kept, **_JUDGES[kind](table, found)})


def read_credentials(table: Table) -> dict[str, Credential]:
    """By upstream: ``headers`` and ``env`` of one caller."""
    found = {}
    for name, each in table.tables("credentials").items():
        headers, env = each.map_of_texts("headers"), each.map_of_texts("env")
        check_headers(each, headers)
        each.finish()
        found[name] = Credential(headers, env)
    return found
