"""From what a program names to the way there."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from erlmcp.client.bound import ClientLimits
from erlmcp.client.channel import Channel
from erlmcp.errors import ConfigurationError
from erlmcp.flags import Flags

if TYPE_CHECKING:
    import ssl

    from erlmcp.client.tls import Tls

Make = Callable[[], Channel]
Pipe = dict[str, Any]  # what the channels of byte streams are told
_EXPECTED = (
    "expected http(s)://..., unix:/path, tcp://host:port, a command line, a list of words, an mcpServers entry, "
    "a Server, or a channel"
)


@dataclass(frozen=True)
class HttpOptions:
    """What a client says of its HTTP connections."""

    headers: Mapping[str, str] = field(default_factory=dict)
    tls: Tls | ssl.SSLContext | None = None
    http2: bool | None = None
    trust_env: bool = True
    auth: Any = None


def make_channel(
    target: Any,
    limits: ClientLimits,
    http: HttpOptions | None = None,
    flags: Flags | None = None,
    *,
    json_rpc_batch: bool = False,
) -> tuple[Make, str]:
    """(a function that gives a new channel, what the target is called). Raises ConfigurationError, and opens nothing.

    A channel that is given ready-made is given out each time: whether it can be opened again is its own affair.
    """
    pipe = {"limits": limits, "flags": flags, "json_rpc_batch": json_rpc_batch}
    made, name, is_http = _make(target, pipe, http or HttpOptions())
    if http is not None and not is_http and http != HttpOptions():
        raise ConfigurationError(f"headers, tls, http2, auth and trust_env are for a URL, and {name} is none")
    if json_rpc_batch and hasattr(target, "is_http"):
        raise ConfigurationError(f"json_rpc_batch is for a connection that the client opens itself, not for {name}")
    return made, name


def _make(target: Any, pipe: Pipe, http: HttpOptions) -> tuple[Make, str, bool]:
    if isinstance(target, str):
        return _from_text(target, pipe, http)
    if isinstance(target, os.PathLike):
        return *_from_path(os.fspath(target), pipe), False
    if isinstance(target, Mapping):
        return _from_entry(target, pipe, http)
    if isinstance(target, Sequence) and target and all(isinstance(word, str) for word in target):
        return *_process(target, pipe), False
    if hasattr(target, "link") and hasattr(target, "start"):
        from erlmcp.client.memory import MemoryChannel

        return lambda: MemoryChannel(target, **pipe), f"server {getattr(target, 'name', '')!r}", False
    if hasattr(target, "send") and hasattr(target, "is_http"):
        return lambda: cast(Channel, target), getattr(target, "address", type(target).__name__), False
    raise ConfigurationError(f"{target!r} is nothing a client can connect to; {_EXPECTED}")


def _from_text(text: str, pipe: Pipe, http: HttpOptions) -> tuple[Make, str, bool]:
    if text.startswith(("http://", "https://")):
        return *_http(text, http, pipe), True
    if text.startswith("unix:"):
        return *_unix(text.removeprefix("unix:").removeprefix("//"), pipe), False
    if text.startswith("tcp://"):
        host, colon, port = text.removeprefix("tcp://").rstrip("/").rpartition(":")
        if not colon or not host or not port.isdigit() or int(port) > 65535:
            raise ConfigurationError(f"{text}: expected tcp://host:port")
        from erlmcp.client.stream import StreamChannel

        return lambda: StreamChannel(host.strip("[]"), int(port), **pipe), text, False
    if _is_socket(text):
        return *_unix(text, pipe), False
    words = shlex.split(text)
    if len(words) > 1 or (words and shutil.which(words[0])):
        return *_process(words, pipe), False
    raise ConfigurationError(f"{text!r} is nothing a client can connect to; {_EXPECTED}")


def _from_path(path: str, pipe: Pipe) -> tuple[Make, str]:
    if not _is_socket(path):
        raise ConfigurationError(f"{path} is no socket; to start a program give a list of its words")
    return _unix(path, pipe)


def _from_entry(entry: Mapping[str, Any], pipe: Pipe, http: HttpOptions) -> tuple[Make, str, bool]:
    servers = entry.get("mcpServers")
    if isinstance(servers, Mapping):
        if len(servers) != 1:
            raise ConfigurationError(f"mcpServers has {len(servers)} entries; give one of them: {', '.join(servers)}")
        return _from_entry(next(iter(servers.values())), pipe, http)
    if isinstance(entry.get("url"), str):
        http = replace(http, headers={**entry.get("headers", {}), **http.headers})
        return *_http(entry["url"], http, pipe), True
    if isinstance(entry.get("command"), str):
        words = [entry["command"], *entry.get("args", [])]
        return *_process(words, pipe, env=entry.get("env"), cwd=entry.get("cwd")), False
    raise ConfigurationError(f"an mcpServers entry has 'command' or 'url', got {sorted(entry)}")


def _process(words: Sequence[str], pipe: Pipe, **options: Any) -> tuple[Make, str]:
    from erlmcp.client.process import ProcessChannel

    return lambda: ProcessChannel(words, **pipe, **options), shlex.join(words)


def _unix(path: str, pipe: Pipe) -> tuple[Make, str]:
    from erlmcp.client.stream import StreamChannel

    if not path:
        raise ConfigurationError("unix: needs a path, for instance unix:/run/server.sock")
    return lambda: StreamChannel(path=path, **pipe), f"unix:{path}"


def _http(url: str, http: HttpOptions, pipe: Pipe) -> tuple[Make, str]:
    from erlmcp.client.http import HttpChannel

    options = {"flags": pipe["flags"], "json_rpc_batch": pipe["json_rpc_batch"], "trust_env": http.trust_env}
    given = {"headers": dict(http.headers), "tls": http.tls, "http2": http.http2, "auth": http.auth}
    return lambda: HttpChannel(url, **given, **options), url


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False
