"""The event streams of a running server: what ``erlmcp top`` and ``erlmcp trace`` look at."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import ssl
import time
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from erlmcp.cli.fault import CANNOT_REACH, WRONG_USE, CommandError

SILENCE_S_MAX: Final = 20.0
AGAIN_S: Final = 1.0
LINE_BYTES_MAX: Final = 16 * 1024 * 1024
MENDS: Final = {
    401: "; --token TOKEN (or ERLMCP_METRICS_TOKEN) brings what the server asks for",
    403: "; --token TOKEN (or ERLMCP_METRICS_TOKEN) brings it, once the server has one",
    404: "; is it an erlmcp server, and are its metrics on?",
    421: "; use a name that the server knows itself by, for instance 127.0.0.1",
}


def events(options: argparse.Namespace, path: str, query: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """(event, data) for as long as the server is there; ("lost", seconds) while it is not, after it was there once."""
    was_there = False
    lost_s = 0.0
    last_id = ""
    while True:
        try:
            for event, id, data in _read(options, path, query, last_id):
                was_there, lost_s = True, 0.0
                last_id = id or last_id
                yield event, data
        except (OSError, http.client.HTTPException) as error:
            if not was_there:
                raise CommandError(
                    f"cannot reach {options.url}: {error or type(error).__name__}", CANNOT_REACH
                ) from None
        if options.once:
            return
        yield "lost", lost_s
        time.sleep(AGAIN_S)
        lost_s += AGAIN_S


def _read(
    options: argparse.Namespace, path: str, query: dict[str, str], last_id: str
) -> Iterator[tuple[str, str, Any]]:
    connection = _connect(options.url)
    headers = {"Accept": "text/event-stream"}
    token = options.token or os.environ.get("ERLMCP_METRICS_TOKEN")
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if last_id:
        headers["Last-Event-ID"] = last_id
    try:
        connection.request("GET", f"{path}?{urlencode(query)}" if query else path, headers=headers)
        answer = connection.getresponse()
        if answer.status != 200:
            said = answer.read(500).decode("utf-8", "replace").strip()
            raise CommandError(
                f"{options.url} answered {answer.status}: {said}{MENDS.get(answer.status, '')}", CANNOT_REACH
            )
        yield from _parse(answer)
    finally:
        connection.close()


def _connect(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise CommandError(f"{url}: expected http://HOST:PORT", WRONG_USE)
    if parts.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=SILENCE_S_MAX, context=context)
    return http.client.HTTPConnection(parts.hostname, parts.port or 8080, timeout=SILENCE_S_MAX)


def _parse(answer: http.client.HTTPResponse) -> Iterator[tuple[str, str, Any]]:
    """The events of a stream, each with its id and its JSON."""
    event = id = ""
    while line := answer.readline(LINE_BYTES_MAX):
        name, _, value = line.decode("utf-8").rstrip("\n").partition(": ")
        if name == "event":
            event = value
        elif name == "id":
            id = value
        elif name == "data":
            yield event, id, json.loads(value)
            event = id = ""


def duration(us: float) -> str:
    """Microseconds as people read them."""
    if us < 1000:
        return f"{us:.0f} us"
    return f"{us / 1000:.2f} ms" if us < 1e6 else f"{us / 1e6:.2f} s"
