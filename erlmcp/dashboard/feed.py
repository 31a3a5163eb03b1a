"""What the dashboard shows, as JSON: everything at the beginning, then once a second what changed.

The tools' rows are sent whole once; afterwards those whose numbers moved. Of very many tools in use some are looked at
each second: a reader must not hold the loop up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from erlmcp.metrics import family as f
from erlmcp.metrics.desk import Ask, Desk
from erlmcp.metrics.recorder import EVERYTHING, Recorder
from erlmcp.metrics.series import NO_GROUP, Group, Labels, Row, Series
from erlmcp.metrics.window import MINUTE, SECOND, SPANS, percentiles

SESSIONS_A_PAGE: Final = 50
TOOLS_A_TURN: Final = 80
SECTION_ROWS_MAX: Final = 200
# What has a place of its own on the page.
SHOWN: Final = ("erlmcp_info", "erlmcp_flag", "erlmcp_connections", "erlmcp_thread_queue")
SHOWN_STARTS: Final = (
    "erlmcp_upstream_",
    "erlmcp_guard_",
    "erlmcp_breaker_",
    "erlmcp_rollout_",
    "erlmcp_cache_",
    "erlmcp_pool_",
)
NOTHING: Final = dict.fromkeys(("total", "failed", "calls", "errors", "rate", "p50", "p95", "p99", "p999"), 0)


class Board(Protocol):
    """The server's side: what it is, and the numbers of now."""

    recorder: Recorder

    def facts(self) -> dict[str, Any]: ...
    def flags(self) -> Mapping[str, bool]: ...
    def numbers(self) -> dict[str, float]: ...
    def connections(self) -> dict[str, int]: ...
    def tools(self) -> list[str]: ...
    def sessions(self, cursor: str | None, count: int) -> dict[str, Any]: ...
    @property
    def sections(self) -> Mapping[str, tuple[str, list[tuple[str, str, str]], Callable[[Any], list[Row]]]]: ...


class Feed:
    """The state of one reader: the span it looks at, and what it was sent."""

    def __init__(self, board: Board, span: str = MINUTE) -> None:
        self.board = board
        self.recorder = board.recorder
        self.span = span if span in SPANS else MINUTE
        self._rows: dict[str, Row] = {}
        self._trace = 0
        self._history = 0
        self._place = 0  # among the tools that are looked at by turns

    def first(self) -> dict[str, Any]:
        """Everything."""
        return {"facts": self.board.facts(), **self.following()}

    def following(self) -> dict[str, Any]:
        """What is new since the last time."""
        recorder = self.recorder
        history = [entry for entry in recorder.history if entry[0] > self._history]
        if history:
            self._history = history[-1][0]
        traces = recorder.traces.since(self._trace)
        if traces:
            self._trace = traces[-1].number
        rows, gone = self._tools()
        return {
            "second": recorder.second,
            "span": self.span,
            "spans": {span: self._group(recorder.groups.get(EVERYTHING, NO_GROUP), span) for span in SPANS},
            "history": [
                [second, calls, errors, *(round(value / 1000, 1) for value in times)]
                for second, calls, errors, *times in history
            ],
            "numbers": self.board.numbers(),
            "connections": self.board.connections(),
            "transports": self._groups("transport"),
            "versions": self._groups("version"),
            "methods": self._groups("method"),
            "points": self._points(),
            "flags": dict(self.board.flags()),
            "sections": self._sections(),
            "more": self._more(),
            "tools": rows,
            "gone": gone,
            "traces": [trace.as_json() for trace in traces],
            "skipped": recorder.traces.skipped_count,
        }

    # -- rows ----------------------------------------------------------------------------------------------------------

    def _row(self, counts: Mapping[int, int], errors: int, span: str) -> Row:
        """Calls, errors and percentiles within a span."""
        total = sum(counts.values())
        p50, p95, p99, p999 = (round(value / 1000, 1) for value in percentiles(counts))
        return {
            "calls": total,
            "errors": errors,
            "rate": round(total / self.recorder.seconds_of(span), 2),
            "p50": p50,
            "p95": p95,
            "p99": p99,
            "p999": p999,
        }

    def _sum(self, series: Sequence[Series], span: str) -> Row:
        """Of some series."""
        recorder = self.recorder
        windows = [each.window for each in series if each.window is not None]
        if not windows:
            return self._row({}, 0, span)
        counts = windows[0].counts(span, recorder.second) if len(windows) == 1 else recorder.span_counts(series, span)
        failed = sum(recorder.span_counts([each for each in series if each.label(f.ERROR)], span).values())
        return self._row(counts, failed, span)

    def _group(self, group: Group, span: str) -> Row:
        second = self.recorder.second
        return self._row(group.window.counts(span, second), sum(group.errors.counts(span, second).values()), span)

    def _groups(self, kind: str) -> list[Row]:
        groups = self.recorder.groups
        return [{"name": key[1], **self._group(groups[key], self.span)} for key in sorted(groups) if key[0] == kind]

    def _tools(self) -> tuple[list[Row], list[str]]:
        """The rows of tools that changed, and the names of those that are gone. Of very many tools in use some are
        looked at each time: those with the most calls of late, and the others by turns."""
        found = self.recorder.tools()
        names = {*self.board.tools(), *found}
        changed = [self._rows.setdefault(name, {"name": name, **NOTHING}) for name in names if name not in self._rows]
        for name in self._turn(found):
            series = found[name]
            row = {
                "name": name,
                "total": sum(each.total.count for each in series),
                "failed": sum(each.total.count for each in series if each.label(f.ERROR)),
                **self._sum(series, self.span),
            }
            if self._rows.get(name) != row:
                self._rows[name] = row
                changed.append(row)
        gone = [name for name in self._rows if name not in names]
        for name in gone:
            del self._rows[name]
        return changed, gone

    def _turn(self, found: Mapping[str, list[Series]]) -> list[str]:
        """Which tools are looked at now."""
        if len(found) <= TOOLS_A_TURN:
            return list(found)
        second = self.recorder.second

        def lately(name: str) -> int:
            return sum(sum(each.window.counts(SECOND, second).values()) for each in found[name] if each.window)

        first = sorted(found, key=lately, reverse=True)[: TOOLS_A_TURN // 2]
        rest = sorted(found.keys() - set(first))
        self._place %= max(1, len(rest))
        ring = rest[self._place :] + rest[: self._place]
        self._place += TOOLS_A_TURN // 2
        return first + ring[: TOOLS_A_TURN // 2]

    def _points(self) -> list[Row]:
        """The rooms on the way, in the order of the way; then those that others record."""
        found = {}
        for family, series in self.recorder.families():
            if family is f.POINT:
                found = {each.label("point"): self._sum([each], self.span) for each in series if each.whole().count}
        names = sorted(found, key=lambda name: (f.POINTS.index(name) if name in f.POINTS else len(f.POINTS), name))
        return [{"name": name, **found[name]} for name in names]

    def _sections(self) -> list[Row]:
        """Tables that the server gives: pools, caches, guards, roll-outs, upstreams; without those that are empty."""
        found = []
        for id, (title, columns, rows) in self.board.sections.items():
            shown = rows(lambda series: self._sum(series, self.span))
            if shown:
                left_out = max(0, len(shown) - SECTION_ROWS_MAX)
                section = {"id": id, "title": title, "columns": columns, "rows": shown[:SECTION_ROWS_MAX]}
                found.append({**section, "left_out": left_out})
        return found

    def _more(self) -> list[Row]:
        """The gauges with labels that have no place of their own: those that a program gives."""
        return [
            {"name": gauge.name, "help": gauge.help, "values": [[_shown(labels), value] for labels, value in values]}
            for gauge, values in self.recorder.read_gauges()
            if gauge.name not in SHOWN
            and not gauge.name.startswith(SHOWN_STARTS)
            and any(labels for labels, _ in values)
        ]


def _shown(labels: Labels) -> str:
    return ", ".join(value for _, value in labels if value)


def stream(board: Board, desk: Desk, ask: Ask) -> None:
    """Everything, then what changes, for as long as the reader stays."""
    feed = Feed(board, ask.query.get("span", MINUTE))
    stream = desk.stream(ask)
    if stream is None:
        return
    stream.send(feed.first(), event="first")

    def tick() -> None:
        stream.send(feed.following(), event="tick")

    board.recorder.after_tick.append(tick)
    stream.after_close = lambda: board.recorder.after_tick.remove(tick)


def sessions(board: Board, desk: Desk, ask: Ask) -> None:
    """A page of the sessions."""
    try:
        page = board.sessions(ask.query.get("cursor"), SESSIONS_A_PAGE)
    except ValueError as error:
        ask.answer_json({"error": str(error)}, 400)
    else:
        ask.answer_json(page)
