"""From files to a configuration: ``mcp.json``, ``erlmcp.toml``, or both in one.

Each file may hold ``mcpServers`` (or ``servers``) and ``gateway``. An entry of the same name in a later file adds to
that of an earlier one, key by key. An ``erlmcp.toml`` beside the last file that was named is read too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

from erlmcp.gateway.config import GatewayConfig, KeyConfig, UpstreamConfig
from erlmcp.gateway.document import Document, Table
from erlmcp.gateway.entry import Fields, judge_entry, read_credentials, read_entry
from erlmcp.gateway.oauth import read_oauth
from erlmcp.gateway.problem import ConfigError, Problem, nearest
from erlmcp.gateway.rule import read_guards
from erlmcp.limits import Limits

BESIDE: Final = "erlmcp.toml"
SERVERS: Final = ("mcpServers", "servers")
COLLISIONS: Final = {"first": "first", "error": "error"}
KEY_CHARS_MIN: Final = 16
PORT_MAX: Final = 65535


def load(files: Sequence[str | os.PathLike[str]], environ: Mapping[str, str] | None = None) -> GatewayConfig:
    """The configuration that the files make together. Raises ConfigError with all that is wrong."""
    problems: list[Problem] = []
    paths = [os.fspath(file) for file in files]
    beside = os.path.join(os.path.dirname(paths[-1]), BESIDE) if paths else BESIDE
    if beside not in paths and os.path.exists(beside):
        paths.append(beside)
    if not paths:
        raise ConfigError([Problem(BESIDE, 0, "", "is not there", "name a file, for instance mcp.json")])
    documents = [Document(path, problems, os.environ if environ is None else environ) for path in paths]
    reader = Reader(documents, problems)
    config = reader.read() if all(document.tree is not None for document in documents) else None
    if problems or config is None:
        raise ConfigError(problems)
    return config


class Reader:
    """Reads documents that hold a tree each."""

    def __init__(self, documents: Sequence[Document], problems: list[Problem]) -> None:
        self.documents = documents
        self.problems = problems
        self.notes: list[str] = []
        self.defaults: dict[str, Any] = {"prefix": True, "separator": "_"}

    def read(self) -> GatewayConfig:
        given: Fields = {}
        entries: dict[str, list[Table]] = {}
        keys: dict[str, tuple[Table, KeyConfig]] = {}
        for document in self.documents:
            top = Table(document, "", document.tree or {})
            for name in SERVERS:
                for each, table in top.tables(name).items():
                    entries.setdefault(each, []).append(table)
            gateway = top.table("gateway")
            if gateway is not None:
                given.update(self._gateway(gateway, keys))
            top.pass_over("$schema", "inputs", "globalShortcut")
            if gateway is not None or document.path.suffix == ".toml":
                top.finish()  # A file of another program's may hold what it likes beside its servers.
        upstreams = self._upstreams(entries)
        if not entries:
            mend = 'write {"mcpServers": {"NAME": {"command": ...}}}'
            self.documents[0].report("", "has no servers", mend)
        self._judge_keys(keys, upstreams)
        return GatewayConfig(
            tuple(upstreams.values()),
            keys=tuple(key for _, key in keys.values()),
            files=tuple(str(document.path) for document in self.documents),
            notes=tuple(self.notes),
            marks=tuple(document.mark for document in self.documents),
            **given,
        )

    # -- servers -------------------------------------------------------------------------------------------------------

    def _upstreams(self, entries: dict[str, list[Table]]) -> dict[str, UpstreamConfig]:
        made: dict[str, UpstreamConfig] = {}
        prefixes: dict[str, str] = {}
        for name, tables in entries.items():
            found: Fields = {}
            for table in tables:
                found.update(read_entry(table, self.notes))
            if found.pop("disabled", False):
                continue
            upstream = judge_entry(name, tables[0], found, self.defaults)
            if upstream is None:
                continue
            made[name] = upstream
            other = prefixes.setdefault(upstream.prefix or name, name)
            if upstream.prefix and other != name:
                tables[0].report("prefix", f"is {upstream.prefix!r}, as that of {other}", "give one of them another")
        return made

    # -- the gateway itself --------------------------------------------------------------------------------------------

    def _gateway(self, table: Table, keys: dict[str, tuple[Table, KeyConfig]]) -> Fields:
        found: Fields = {}
        for name in ("name", "host", "path", "instructions", "audit"):
            if (text := table.text(name)) is not None:
                found[name] = text
        if "port" in table:
            port = int(table.number("port", 8080, is_whole=True))
            if port > PORT_MAX:
                table.report("port", f"is {port}", f"write a number up to {PORT_MAX}")
            found["port"] = port
        for name in ("anonymous", "audit_arguments"):
            if name in table:
                found[name] = table.flag(name, False)
        if "collision" in table:
            found["collision"] = table.choice("collision", COLLISIONS, "first")
        for name in ("allowed_hosts", "allowed_origins"):
            if (texts := table.texts(name)) is not None:
                found[name] = texts
        self._read_defaults(table, found)
        if (limits := table.table("limits")) is not None:
            found["limits"] = self._limits(limits)
        if (oauth := table.table("oauth")) is not None:
            found["oauth"] = read_oauth(oauth)
            found.setdefault("anonymous", False)
        for name, each in table.tables("keys").items():
            if (key := self._key(name, each)) is not None:
                keys[name] = each, key
        if keys:
            found.setdefault("anonymous", False)
        table.finish()
        return found

    def _read_defaults(self, table: Table, found: Fields) -> None:
        """What holds for each upstream that does not say otherwise."""
        prefix = table.raw("prefix")
        if isinstance(prefix, bool):
            self.defaults["prefix"] = prefix
        elif "prefix" in table:
            table.report("prefix", "is no true or false", "false leaves names as they are; a text is for one server")
        if (separator := table.text("separator")) is not None:
            self.defaults["separator"] = separator
        if "lazy" in table:
            self.defaults["lazy"] = table.flag("lazy", False)
        for name in ("guards", "tool_guards"):
            if (guards := read_guards(table, name)) is not None:
                self.defaults[name] = guards
        for name in ("start_timeout_s", "timeout_s", "health_s"):
            if name in table:
                self.defaults[name] = float(table.number(name, 1.0))
        if "start_timeout_s" in self.defaults:
            found["start_timeout_s"] = self.defaults["start_timeout_s"]

    def _limits(self, table: Table) -> dict[str, float]:
        known = {field.name: isinstance(field.default, int) for field in fields(Limits)}
        found = {}
        for name in table.names:
            if name not in known:
                table.report(name, "is no limit", nearest(name, known))
                table.pass_over(name)
            else:
                found[name] = table.number(name, 1, is_whole=known[name], least=1 if known[name] else 0)
        return found

    # -- keys ----------------------------------------------------------------------------------------------------------

    @staticmethod
    def _key(name: str, table: Table) -> KeyConfig | None:
        text, digest = table.text("key"), table.text("sha256")
        allow, deny, credentials = table.texts("allow"), table.texts("deny") or (), read_credentials(table)
        table.finish()
        if (text is None) == (digest is None):
            table.report("", "needs either key or sha256", 'key = "${NAME}" takes it from the environment')
            return None
        if text is not None:
            if len(text) < KEY_CHARS_MIN:
                table.report("key", f"has {len(text)} characters", f"take {KEY_CHARS_MIN} or more, at random")
            found = hashlib.sha256(text.encode()).digest()
        else:
            try:
                found = bytes.fromhex(digest or "")
            except ValueError:
                found = b""
            if len(found) != hashlib.sha256().digest_size:
                table.report("sha256", "is no SHA-256 in hexadecimal", "printf %s KEY | sha256sum gives it")
        return KeyConfig(name, found, allow, deny, credentials)

    @staticmethod
    def _judge_keys(keys: dict[str, tuple[Table, KeyConfig]], upstreams: dict[str, UpstreamConfig]) -> None:
        seen: dict[bytes, str] = {}
        for name, (table, key) in keys.items():
            for each, credential in key.credentials.items():
                if each not in upstreams:
                    table.report(f"credentials.{each}", "names no server", nearest(each, upstreams))
                elif credential.headers and upstreams[each].kind != "http":
                    table.report(f"credentials.{each}.headers", "is for a URL, which this server has not", "use env")
                elif credential.env and upstreams[each].kind != "stdio":
                    table.report(f"credentials.{each}.env", "is for a program, which this server is not", "use headers")
            other = seen.setdefault(key.digest, name)
            if other != name:
                table.report("key", f"is that of {other}, too", "give each caller a key of its own")
