"""The metrics as Prometheus reads them: text format 0.0.4, and OpenMetrics 1.0.0 where Accept asks for it."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final

from erlmcp.metrics import family as f
from erlmcp.metrics.recorder import Recorder
from erlmcp.metrics.series import Gauge, Labels, Series

TEXT: Final = "text/plain; version=0.0.4"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0"


def wants_openmetrics(accept: str | None) -> bool:
    """Whether an Accept header prefers OpenMetrics to the text format (RFC 9110, section 12.5.1)."""
    best_text, best_open = 0.0, 0.0
    for part in (accept or "").split(","):
        kind, *parameters = (word.strip().lower() for word in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name == "q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = 0.0
        if kind == "application/openmetrics-text":
            best_open = max(best_open, quality)
        elif kind in ("text/plain", "text/*", "*/*"):
            best_text = max(best_text, quality)
    return best_open > 0 and best_open >= best_text


def expose(recorder: Recorder, *, openmetrics: bool = False) -> bytes:
    """All metrics of a recorder."""
    lines: list[str] = []
    for family, series in recorder.families():
        texts = [_histograms(family.forms, each, openmetrics) for each in series]
        for form, found in zip(family.forms, zip(*texts, strict=True), strict=True):
            lines += _head(form.name, family.help, "histogram", form.unit if openmetrics else "")
            lines += found
    for gauge, values in recorder.read_gauges():
        if values:
            lines += _gauge(gauge, values, openmetrics)
    if openmetrics:
        lines.append("# EOF\n")
    return "".join(lines).encode()


def _head(name: str, help: str, kind: str, unit: str = "") -> list[str]:
    lines = [f"# HELP {name} {_escape_help(help)}\n", f"# TYPE {name} {kind}\n"]
    return [*lines, f"# UNIT {name} {unit}\n"] if unit else lines


def _histograms(forms: Sequence[f.Form], series: Series, openmetrics: bool) -> list[str]:
    """The lines of one series in each form; in OpenMetrics with examples of requests that belong to a trace."""
    whole = series.whole()
    total, sum_ns = whole.count, whole.sum
    found = []
    for form in forms:
        text = series.texts.get(form.name)
        if text is None:
            text = series.texts[form.name] = _text(form, series.labels)
        lines = text % (*whole.counts_upto(form.bounds_ns), total, number(sum_ns / form.unit_ns), total)
        found.append(_with_exemplars(lines, form, series) if openmetrics and series.exemplars else lines)
    return found


def _with_exemplars(text: str, form: f.Form, series: Series) -> str:
    """The latest example of each bucket behind its line."""
    lines = text.splitlines()
    latest: dict[int, tuple[float, str]] = {}
    for trace, ns, at_s in series.exemplars.values():
        value = ns / form.unit_ns
        shown = f' # {{trace_id="{trace}"}} {number(value)} {at_s:.3f}'
        bucket = bisect_left(form.bounds, value)
        latest[bucket] = max(latest.get(bucket, (0.0, "")), (at_s, shown))
    for bucket, (_, shown) in latest.items():
        lines[bucket] += shown
    return "".join(f"{line}\n" for line in lines)


def _text(form: f.Form, labels: Labels) -> str:
    """The lines of one series, with holes for its values."""
    shown = label_text(labels).replace("%", "%%")
    start = f"{form.name}_bucket{{{shown}{',' if shown else ''}le="
    bounds = [*(str(float(bound)) for bound in form.bounds), "+Inf"]
    tail = f"{{{shown}}}" if shown else ""
    lines = [f'{start}"{bound}"}} %d\n' for bound in bounds]
    return "".join([*lines, f"{form.name}_sum{tail} %s\n", f"{form.name}_count{tail} %d\n"])


def _gauge(gauge: Gauge, values: Iterable[tuple[Labels, float]], openmetrics: bool) -> list[str]:
    name = gauge.name
    base = name.removesuffix("_total") if openmetrics and gauge.kind == "counter" else name
    lines = _head(base, gauge.help, gauge.kind)
    for labels, value in values:
        text = label_text(labels)
        lines.append(f"{name}{{{text}}} {number(value)}\n" if text else f"{name} {number(value)}\n")
    return lines


def label_text(labels: Labels) -> str:
    """``a="b",c="d"``; what is empty is left out, which means the same to Prometheus."""
    return ",".join(f'{key.replace(".", "_")}="{escape(value)}"' for key, value in labels if value)


def escape(value: str) -> str:
    """A label's value, between its quotes. Surrogates, which UTF-8 does not have, are spelled out."""
    clean = value.encode("utf-8", "backslashreplace").decode()
    return clean.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def number(value: float) -> str:
    """A value as both formats write it: without an exponent where it is whole."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    whole = int(value)
    return str(whole) if whole == value and abs(whole) < 1 << 53 else repr(float(value))
