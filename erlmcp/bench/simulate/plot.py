"""A scenario as a picture: SVG by hand, a few kilobytes, legible on light and on dark ground."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from erlmcp.bench.simulate.house import House
from erlmcp.bench.simulate.scenario import Result
from erlmcp.bench.simulate.world import World

WIDTH, HEIGHT = 720, 260
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 46, 34
GREY, RED, GREEN, BLUE = "#8a8a8a", "#c8453c", "#2f8f4e", "#3b6fc4"
FONT: Final = 'font-family="sans-serif" font-size="11"'


class Frame:
    """Seconds and counts to places."""

    def __init__(self, seconds: int, highest: float) -> None:
        self.seconds, self.highest = seconds, highest

    def x(self, second: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * second / self.seconds

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(value / self.highest, 1.0)

    def line(self, values: Sequence[float], colour: str, width: float = 1.6, dash: str = "") -> str:
        points = " ".join(f"{self.x(second + 0.5):.0f},{self.y(value):.0f}" for second, value in enumerate(values))
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        return f'<polyline fill="none" stroke="{colour}" stroke-width="{width}"{dashed} points="{points}"/>'


def text(x: float, y: float, words: str, colour: str = GREY, anchor: str = "start") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" fill="{colour}" text-anchor="{anchor}" {FONT}>{escape(words)}</text>'


def _step(highest: float) -> int:
    """A round distance between the marks of an axis."""
    for step in (10, 20, 50, 100, 200, 500):
        if highest / step <= 6:
            return step
    return 1000


def plot(result: Result) -> str:
    """The SVG: what was offered (grey), and what was good without protection (red) and with it (green), per second;
    the trouble is shaded, and what adapts drawn in blue."""
    scenario, guarded, bare = result.scenario, result.guarded, result.bare
    count = scenario.load.seconds
    offered = [each.offered for each in guarded.seconds[:count]]
    usual = sorted(offered)[len(offered) // 2]
    frame = Frame(count, min(max(offered), 3.2 * usual) * 1.08)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(scenario.title)}</title>",
    ]
    for first, last in scenario.trouble:
        wide = frame.x(last) - frame.x(first)
        parts.append(
            f'<rect x="{frame.x(first):.0f}" y="{TOP}" width="{wide:.0f}" height="{HEIGHT - TOP - BOTTOM}" '
            f'fill="{RED}" opacity="0.12"/>'
        )
    step = _step(frame.highest)
    for value in range(0, int(frame.highest) + 1, step):
        y = frame.y(value)
        parts.append(f'<path d="M{LEFT} {y:.0f}H{WIDTH - RIGHT}" stroke="{GREY}" stroke-width="0.4" opacity="0.6"/>')
        parts.append(text(LEFT - 6, y + 4, str(value), anchor="end"))
    for second in range(0, count + 1, _step(count)):
        anchor = "end" if second == count else "middle"
        parts.append(text(frame.x(second), HEIGHT - BOTTOM + 16, f"{second} s", anchor=anchor))
    parts.append(frame.line(offered, GREY, 1.0, "3 3"))
    parts.append(frame.line([each.good for each in bare.seconds[:count]], RED))
    parts.append(frame.line([each.good for each in guarded.seconds[:count]], GREEN, 2.0))
    adapting = _adapting(result, frame.highest)
    if adapting:
        parts.append(frame.line(adapting[1], BLUE, 1.2, "6 3"))
    parts.append(text(LEFT, 16, scenario.title))
    x = LEFT
    for words, colour in (
        ("offered", GREY),
        ("good, without", RED),
        ("good, with", GREEN),
        *([(adapting[0], BLUE)] if adapting else []),
    ):
        parts.append(text(x, 34, f"\u2014 {words}", colour))
        x += 34 + 6 * len(words)
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _adapting(result: Result, highest: float) -> tuple[str, list[float]] | None:
    """What of the policies moves, once a second, on the scale of the picture."""
    guarded = result.guarded
    if isinstance(guarded, House):
        if guarded.is_on_loop:
            return "the level (full height: 3)", [each / 3 * highest / 1.08 for each in guarded.levels[::4]]
        most = max(guarded.limits)
        return f"the limit (full height: {most:g})", [each / most * highest / 1.08 for each in guarded.limits[::4]]
    if guarded.rates:
        return "the rate", guarded.rates[::4]
    if guarded.timeouts:
        most = max(guarded.timeouts)
        return f"the timeout (full height: {most:.2g} s)", [
            each / most * highest / 1.08 for each in guarded.timeouts[::4]
        ]
    if guarded.events:
        return "the breaker (high: closed)", _states(guarded, highest / 1.08)
    return None


def _states(guarded: World, closed: float) -> list[float]:
    """The breaker's state each second: at the top closed, at the bottom open, between them half-open."""
    height = {"closed": closed, "half-open": closed / 2, "open": 0.0}
    events = list(guarded.events)
    found, now = [], "closed"
    for second in range(guarded.load.seconds):
        while events and events[0].now_ns <= (second + 0.5) * 1e9:
            now = events.pop(0).after
        found.append(height[now])
    return found
