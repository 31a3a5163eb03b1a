"""The Grafana dashboard and the alert rules ask for metrics, labels and values that a server gives."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from erlmcp import Server
from erlmcp.gateway.app import gateway_of
from erlmcp.gateway.upstream import Upstream
from erlmcp.metrics.family import POINTS
from erlmcp.metrics.prometheus import expose

FOLDER = Path(__file__).resolve().parents[2] / "examples/observe"
ADDED = {"job", "instance"}  # by Prometheus
OWN = ("mcp_", "erlmcp_", "process_")


def given() -> str:
    """What a server exposes that served a call of each kind."""
    server = Server("x")
    for name, error, status in (("add", "", ""), ("add", "tool_error", ""), ("add", "-32000", "-32000")):
        server.metrics.operation("tools/call", name, error, status, "http", "2026-07-28").hot.record(1000)
    for point in POINTS:
        server.metrics.point(point).record(1000)
    server.board.show("http", type("Listener", (), {"connections": ()})())
    # Not running: what asks the executor is not given, and named here.
    gateway = gateway_of({"shop": Server("shop")})
    gateway.upstreams = {each.name: Upstream(each, gateway) for each in gateway.config.upstreams}
    text = expose(server.metrics) + expose(gateway.metrics)
    return text.decode() + "erlmcp_inflight_requests\nerlmcp_thread_calls\n"


def expressions() -> list[str]:
    board = json.loads((FOLDER / "grafana.json").read_text(encoding="utf-8"))
    found = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    rules = (FOLDER / "alerts.yml").read_text(encoding="utf-8")
    found += re.findall(r"expr: >\n((?: {10}.*\n)+)", rules)
    found += [each for each in re.findall(r"expr: (.*)", rules) if each != ">"]
    return found


def test_there_are_expressions_in_both_files() -> None:
    assert len(expressions()) > 20


@pytest.mark.parametrize("expression", expressions())
def test_what_is_asked_for_is_given(expression: str) -> None:
    text = given()
    bare = re.sub(r'"[^"]*"', '""', expression)
    names = {name for name in re.findall(r"[a-z_]+", bare) if name.startswith(OWN)}
    labels = set(re.findall(r"([a-z_]+)(?:!=|=~|=)\"", bare)) - ADDED
    labels |= {name for group in re.findall(r"by \(([^)]*)\)", bare) for name in group.split(", ")} - ADDED
    samples = set(re.findall(r"^([a-z_]+)", text, re.M))
    assert names - labels <= samples
    assert labels <= set(re.findall(r'[{,]([a-z_]+)="', text))


def test_the_dashboard_of_grafana_has_what_it_needs_to_be_imported() -> None:
    board = json.loads((FOLDER / "grafana.json").read_text(encoding="utf-8"))
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert panel["targets"]
        assert panel["title"]
    assert {variable["name"] for variable in board["templating"]["list"]} == {"datasource", "job", "instance"}
