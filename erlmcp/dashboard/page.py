"""The page at /metrics/dashboard: one document with its style and its script within, nothing from anywhere else."""

from __future__ import annotations

import base64
import hashlib
from functools import cache, partial
from pathlib import Path
from typing import Final

from erlmcp.dashboard import feed
from erlmcp.dashboard.feed import Board
from erlmcp.metrics.desk import COOKIE, Ask, Desk, Page

PATH: Final = "/metrics/dashboard"
FOLDER: Final = Path(__file__).parent


def pages(board: Board) -> dict[str, Page]:
    """The paths of the dashboard."""
    return {
        PATH: show,
        PATH + "/feed": partial(feed.stream, board),
        PATH + "/sessions": partial(feed.sessions, board),
    }


@cache
def document() -> tuple[bytes, bytes]:
    """The page, and the header line with the policy that lets in nothing but what is in it."""
    style, script = ((FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    html = (FOLDER / "page.html").read_text(encoding="utf-8")
    whole = html.replace("/*STYLE*/", style).replace("/*SCRIPT*/", script)
    policy = (
        f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return whole.encode(), f"Content-Security-Policy: {policy}\r\nReferrer-Policy: no-referrer\r\n".encode()


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def show(desk: Desk, ask: Ask) -> None:
    """The page. A token that came in the query is kept in a cookie, so that the feed has it."""
    body, policy = document()
    if desk.token is not None and ask.query.get("token"):
        policy += b"Set-Cookie: " + f"{COOKIE}={desk.token}".encode()
        policy += b"; Path=/metrics; HttpOnly; SameSite=Strict\r\n"
    ask.answer(body, b"text/html", extra=policy)
