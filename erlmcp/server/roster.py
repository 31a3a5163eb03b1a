"""Who is here: the sessions, connections and open questions of a running server, walked or page by page."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from erlmcp.errors import ConfigurationError
from erlmcp.runtime.link import Link
from erlmcp.runtime.roll import Roll, Rolls, read_cursor, write_cursor

if TYPE_CHECKING:
    from erlmcp.flags import Flags
    from erlmcp.runtime.scheduler import Scheduler
    from erlmcp.runtime.session import Session

ID_CHARS = 8  # of a session's id, which is a secret
_SALT = secrets.randbits(64)


@dataclass(frozen=True, slots=True)
class Pending:
    """A question that the client of a session has not answered yet."""

    session: Session
    id: str | int
    future: Any


class LinkSessions:
    """The sessions of the links of a roll, which is what a byte stream is."""

    __slots__ = ("_links",)

    def __init__(self, links: Roll[Link]) -> None:
        self._links = links

    def scan(self, cursor: int = 0, count: int = 100) -> tuple[int, list[Session]]:
        cursor, found = self._links.scan(cursor, count)
        return cursor, [link.session for link in found]


class Roster:
    """What is walked here may come and go meanwhile: what is there throughout comes exactly once. With the flag
    ``iterators`` a walk needs the memory of one page, however many there are; without it, a list is made first.

    For the loop's thread. Values are the live objects; ``page`` gives descriptions, for tools and dashboards.
    """

    flags: Flags
    scheduler: Scheduler

    def _make_rolls(self) -> None:
        self.links: Roll[Link] = Roll()
        self.connection_rolls = Rolls()
        self.connection_rolls.put(self.links)
        self.session_rolls = Rolls()
        self.session_rolls.put(LinkSessions(self.links))

    def sessions(self) -> Iterator[Session]:
        """The conversations: one for each byte stream, and those of handshake clients over HTTP."""
        return self._walk(iter(self.session_rolls))

    def connections(self) -> Iterator[Any]:
        """The byte streams, and the connections of the HTTP listeners."""
        return self._walk(iter(self.connection_rolls))

    def pending(self) -> Iterator[Pending]:
        """The questions that clients were asked and have not answered."""
        return self._walk(self._pending())

    def page(self, what: str, cursor: str | None = None, count: int = 100) -> tuple[str | None, list[dict[str, Any]]]:
        """Descriptions of up to ``count`` "sessions", "connections", "pending" questions or "jobs", as JSON values, and
        the cursor to go on with, None at the end.

        ValueError for a cursor that is none, or a ``count`` below 1; ConfigurationError for another word.
        """
        if count < 1:
            raise ValueError(f"count is 1 or more, got {count}")
        if what == "sessions":
            after, sessions = self.session_rolls.page(cursor, count)
            return after, [describe_session(each) for each in sessions]
        if what == "connections":
            after, connections = self.connection_rolls.page(cursor, count)
            return after, [describe_connection(each) for each in connections]
        if what == "pending":
            after, questions = self._pending_page(cursor, count)
            return after, [{"id": each.id, "session": describe_session(each.session)} for each in questions]
        if what == "jobs":
            place, jobs = self.scheduler.page(read_cursor(cursor, 1)[0] if cursor is not None else 0, count)
            return write_cursor(place) if place else None, [job.describe() for job in jobs]
        raise ConfigurationError(f"expected sessions, connections, pending or jobs, got {what!r}")

    def _walk(self, things: Iterator[Any]) -> Iterator[Any]:
        return things if self.flags.iterators else iter(list(things))

    def _pending(self) -> Iterator[Pending]:
        cursor, found = self._pending_page(None, 100)
        yield from found
        while cursor is not None:
            cursor, found = self._pending_page(cursor, 100)
            yield from found

    def _pending_page(self, cursor: str | None, count: int) -> tuple[str | None, list[Pending]]:
        """The cursor names the roll, the place of the session in it, the session, and the place in its correlation."""
        found: list[Pending] = []
        at, mark, inner = None, 0, 0
        if cursor is not None:
            handle, place, mark, inner = read_cursor(cursor, 4)
            at = write_cursor(handle, place)
        while True:
            after, sessions = self.session_rolls.page(at, 1)
            for session in sessions:  # one, or none
                if _mark(session) != mark:
                    mark, inner = _mark(session), 0
                inner, some = session.scan_pending(inner, count - len(found))
                found += [Pending(session, id, future) for id, future in some]
            if not inner:
                if after is None:
                    return None, found
                at, mark = after, 0
            if len(found) >= count:
                return f"{at or write_cursor(0, 0)}.{write_cursor(mark, inner)}", found


def _mark(session: Session) -> int:
    """Tells a session from one that has its place later, and says nothing of it."""
    return hash((session.serial, _SALT)) & 0xFFFFFFFF


def describe_session(session: Session) -> dict[str, Any]:
    return {
        "id": session.id[:ID_CHARS] if session.id is not None else None,
        "era": session.connection.era,
        "version": session.connection.version,
        "inflight": len(session.inflight),
    }


def describe_connection(connection: Any) -> dict[str, Any]:
    if isinstance(connection, Link):
        return {"kind": "stream", "session": describe_session(connection.session)}
    return {"kind": "http", "requests": getattr(connection, "served", None)}
