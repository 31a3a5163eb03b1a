"""The dashboard in a real Chromium, under load: what it shows is what /metrics says, and it comes back with its server.

Skipped where Playwright or a Chromium is not there; ``bash .ci/run browser`` installs both. With ERLMCP_SCREENSHOTS
set to a folder, pictures are left there.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from erlmcp.bench import message
from erlmcp.bench.load import http_load
from erlmcp.bench.process import free_port

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
parser = pytest.importorskip("prometheus_client.parser")
pytestmark = pytest.mark.browser

HOSTILE = '<img src=x onerror="document.title=1">'
SERVER = f"""
import asyncio, logging, time
from erlmcp import McpError, Server, ToolError

server = Server("shop <b>bold</b>", version="1.2")
logging.getLogger("erlmcp").disabled = True

@server.tool
async def add(a: int, b: int) -> int: return a + b

@server.tool
async def wait(ms: int) -> str:
    await asyncio.sleep(ms / 1000)
    return "ok"

@server.tool
def thread(ms: int) -> str:
    time.sleep(ms / 1000)
    return "ok"

@server.tool
async def fails() -> str: raise ToolError("no such order")

@server.tool(name={HOSTILE!r})
async def hostile() -> str: raise ToolError("x")

for number in range(500):
    @server.tool(name=f"tool-{{number:03}}")
    async def one() -> str: return "x"

weak = Server("weak")

@weak.tool
async def breaks() -> str: raise McpError(-32603, "no")
"""


FRONT = """
[servers.shop]
server = "FILE:server"

[servers.weak]
server = "FILE:weak"
guards = { breaker = true, bulkhead = 4 }

[servers.gone]
tcp = "127.0.0.1:9"
"""


def chromium() -> str | None:
    """Debian's binary (its launcher script adds flags that differ by machine), or any that is on the path."""
    places = ["/usr/lib/chromium/chromium", *(shutil.which(name) or "" for name in ("chromium", "google-chrome"))]
    return next((place for place in places if place and os.path.exists(place)), None)


class Shop:
    """A server in a process of its own that can be stopped and started again at its port."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.file = folder / "shop.py"
        self.file.write_text(SERVER)
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def words(self) -> list[str]:
        """How it is served."""
        return ["serve", str(self.file)]

    def start(self) -> None:
        command = [sys.executable, "-m", "erlmcp", *self.words, "--port", str(self.port)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if "serving" in line:
                return
        raise AssertionError(f"the server ended with code {self.process.wait()}")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0
        assert self.process.stderr is not None
        self.process.stderr.close()

    def call(self, tool: str, count: int, connections: int = 2, rate: float | None = None, **arguments: Any) -> None:
        request = message.http(self.port, message.call(tool, arguments))
        http_load("127.0.0.1", self.port, request, connections=connections, count=count, rate=rate)

    def sample(self, name: str, **labels: str) -> float:
        body = urllib.request.urlopen(f"{self.url}/metrics", timeout=10).read().decode()
        return sum(
            sample.value
            for family in parser.text_string_to_metric_families(body)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


class Front(Shop):
    """A gateway before the shop, a server that is down, and one whose breaker opens."""

    @property
    def words(self) -> list[str]:
        config = self.file.with_name("erlmcp.toml")
        config.write_text(FRONT.replace("FILE", str(self.file)))
        return ["gateway", str(config)]


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    made = Front(tmp_path_factory.mktemp("front"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    made = Shop(tmp_path_factory.mktemp("shop"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        binary = chromium() or driver.chromium.executable_path
        if not os.path.exists(binary):
            pytest.skip("there is no Chromium on this machine")
        made = driver.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def page(browser: Any, shop: Shop) -> Iterator[Any]:
    """The dashboard, live; what the browser complains of fails the test."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    made = context.new_page()
    complaints: list[str] = []
    made.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    made.on("pageerror", lambda error: complaints.append(str(error)))
    made.complaints = complaints
    made.goto(f"{shop.url}/metrics/dashboard")
    made.wait_for_selector(".state.live")
    yield made
    context.close()
    assert not [each for each in complaints if "ERR_CONNECTION_REFUSED" not in each and "ERR_INCOMPLETE" not in each]


def shown(page: Any, tool: str, field: str) -> float:
    cell = page.locator(f'#tools-table tr[data-name="{tool}"] td[data-field="{field}"]')
    return float(cell.get_attribute("data-value"))


def tile(page: Any, name: str) -> str:
    return page.locator(f"#tile-{name}").inner_text()  # type: ignore[no-any-return]


def until(page: Any, expression: str) -> None:
    page.wait_for_function(f"() => {expression}", timeout=20_000)


def settle(page: Any, seconds: int = 2) -> None:
    """Let so many ticks of the server reach the page."""
    second = int(page.evaluate("document.body.dataset.second"))
    until(page, f"Number(document.body.dataset.second) >= {second + seconds}")


def test_under_load_the_page_shows_what_metrics_says(page: Any, shop: Shop) -> None:
    work = [
        threading.Thread(target=shop.call, args=("add", 30_000, 16), kwargs={"a": 1, "b": 2}),
        threading.Thread(target=shop.call, args=("wait", 200, 8, 80.0), kwargs={"ms": 20}),
        threading.Thread(target=shop.call, args=("thread", 200, 8, 80.0), kwargs={"ms": 5}),
        threading.Thread(target=shop.call, args=("fails", 20, 2, 8.0)),
    ]
    for each in work:
        each.start()
    until(page, "document.querySelector('#tools-table tr[data-name=\"fails\"]') !== null")
    while any(each.is_alive() for each in work):
        settle(page, 1)
        assert re.fullmatch(r"[\d.,]+( [kM])?", tile(page, "rate"))
    settle(page)
    count = "mcp_server_operation_duration_seconds_count"
    for tool, wanted in (("add", 30_000), ("wait", 200), ("thread", 200), ("fails", 20)):
        assert shop.sample(count, gen_ai_tool_name=tool) == wanted
        assert shown(page, tool, "total") == wanted
        assert shown(page, tool, "calls") == wanted  # all of it was within the last minute
    assert shown(page, "fails", "failed") == shop.sample(count, error_type="tool_error", gen_ai_tool_name="fails") == 20
    total = shop.sample("erlmcp_operation_duration_microseconds_count")
    assert f"20 of {total:,.0f}" in tile(page, "errors")
    below = shop.sample("erlmcp_operation_duration_microseconds_bucket", gen_ai_tool_name="wait", le="50000.0")
    above = shop.sample("erlmcp_operation_duration_microseconds_bucket", gen_ai_tool_name="wait", le="10000.0")
    assert above < 100 <= below  # so the median is between
    assert 10_000 < shown(page, "wait", "p50") < 50_000
    assert float(tile(page, "memory").split()[0]) > 10
    assert tile(page, "connections").isdigit()
    pictures(page)


def pictures(page: Any) -> None:
    folder = os.environ.get("ERLMCP_SCREENSHOTS")
    if folder:
        page.screenshot(path=f"{folder}/dashboard-light.png")
        page.select_option("#look", "dark")
        page.screenshot(path=f"{folder}/dashboard-dark.png")
        page.select_option("#look", "light")
        page.set_viewport_size({"width": 390, "height": 1000})
        settle(page, 1)
        page.screenshot(path=f"{folder}/dashboard-phone.png")


def test_a_gateway_shows_its_upstreams(browser: Any, front: Front) -> None:
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    page = context.new_page()
    page.goto(f"{front.url}/metrics/dashboard")
    page.wait_for_selector("#section-upstreams")
    front.call("shop_add", 400, a=1, b=2)
    front.call("shop_fails", 20)
    front.call("weak_breaks", 60)
    settle(page)

    def cell(section: str, name: str, field: str) -> str:
        found = page.locator(f'#section-{section} tr[data-name="{name}"] td[data-field="{field}"]')
        return str(found.get_attribute("data-value"))

    assert [cell("upstreams", name, "state") for name in ("shop", "weak")] == ["up", "up"]
    assert cell("upstreams", "gone", "state") in ("down", "starting")
    page.wait_for_selector('#section-upstreams tr[data-name="gone"] .roomtext')  # why it is down
    count = "erlmcp_upstream_duration_microseconds_count"
    assert front.sample(count, upstream="shop") == 420
    assert float(cell("upstreams", "shop", "errors")) == front.sample(count, error_type="tool_error") == 20
    assert float(cell("upstreams", "shop", "p99")) > 0
    assert cell("upstreams", "weak", "breaker") == "open"
    refused = front.sample("erlmcp_upstream_refusals_total", upstream="weak", reason="breaker")
    assert float(cell("upstreams", "weak", "refused")) == refused > 0
    assert float(cell("pools", "requests in flight", "most")) == front.sample("erlmcp_inflight_max")
    assert page.locator('#tools-table tr[data-name="shop_fails"] td[data-field="failed"]').inner_text() == "20"
    page.evaluate("scrollTo(0, document.querySelector('#traces-title').offsetTop)")
    folder = os.environ.get("ERLMCP_SCREENSHOTS")
    if folder:
        page.screenshot(path=f"{folder}/dashboard-gateway.png")
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_names_of_tools_stay_text(page: Any, shop: Shop) -> None:
    shop.call(HOSTILE, 1)
    page.fill("#filter", "onerror")
    settle(page)
    assert page.locator("#tools-table tbody tr").count() == 1
    assert page.locator("#tools-table tbody td.name").inner_text() == HOSTILE
    assert page.locator("img").count() == 0
    assert page.locator("#name").inner_text() == "shop <b>bold</b>"
    assert page.title() == "shop <b>bold</b> - erlmcp"


def test_five_hundred_tools_are_filtered_sorted_and_shown_in_parts(page: Any, shop: Shop) -> None:
    shop.call("tool-017", 3)
    until(
        page, 'document.querySelector(\'#tools-table tr[data-name="tool-017"] [data-field="total"][data-value="3"]\')'
    )
    rows = page.locator("#tools-table tbody tr")
    assert (rows.count(), page.locator("#tools-count").inner_text()) == (100, "505")
    page.click("#tools-more")
    assert rows.count() == 300
    page.fill("#filter", "tool-01")
    assert (rows.count(), page.locator("#tools-count").inner_text()) == (10, "10 of 505")
    page.click('#tools-table th button[data-key="name"]')
    assert rows.first.get_attribute("data-name") == "tool-010"
    assert page.locator('th[aria-sort="ascending"]').inner_text().startswith("Tool")
    page.click('#tools-table th button[data-key="name"]')
    assert rows.first.get_attribute("data-name") == "tool-019"
    page.click('#tools-table th button[data-key="total"]')
    assert rows.first.get_attribute("data-name") == "tool-017"


def test_it_is_worked_by_the_keyboard(page: Any, shop: Shop) -> None:
    page.keyboard.press("4")
    assert page.input_value("#span") == "1h"
    page.wait_for_selector(".state.live")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "filter"
    page.keyboard.type("4")  # in a field it is a letter like others
    assert page.input_value("#filter") == "4"
    page.focus("#throughput svg")
    settle(page)
    page.keyboard.press("ArrowLeft")
    assert "1 s ago" in page.locator("#throughput p").inner_text()
    page.keyboard.press("Escape")
    assert "last second" in page.locator("#throughput p").inner_text()


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (1400, "dark")])
def test_it_fits_a_phone_and_goes_by_the_systems_look(browser: Any, shop: Shop, width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.goto(f"{shop.url}/metrics/dashboard")
    page.wait_for_selector(".state.live")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", back)[:3])) < 200) is (scheme == "dark")
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_contrast_enough(browser: Any, shop: Shop, scheme: str) -> None:
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto(f"{shop.url}/metrics/dashboard")
    page.wait_for_selector(".state.live")
    names = ("ink", "quiet", "mark", "good", "bad", "a", "b", "c")
    colours = page.evaluate(
        "names => names.map(name => getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim())",
        ["card", *names],
    )

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    back = luminance(colours[0])
    for name, colour in zip(names, colours[1:], strict=True):
        light, dark = sorted((luminance(colour), back), reverse=True)
        wanted = 3.0 if name in ("a", "b", "c") else 4.5  # WCAG 2.2: graphics, texts
        assert (light + 0.05) / (dark + 0.05) >= wanted, f"{scheme} {name} {colour}"
    context.close()


def test_nothing_is_asked_of_anybody_else(browser: Any, shop: Shop) -> None:
    context = browser.new_context()
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{shop.url}/metrics/dashboard")
    page.wait_for_selector(".state.live")
    settle(page, 1)
    assert {url.removeprefix(shop.url).partition("?")[0] for url in asked} <= {
        "/metrics/dashboard",
        "/metrics/dashboard/feed",
        "/metrics/dashboard/sessions",
        "/favicon.ico",
    }
    context.close()


def test_it_comes_back_after_a_restart_of_the_server(page: Any, shop: Shop) -> None:
    shop.call("add", 5, a=1, b=2)
    settle(page)
    shop.stop()
    page.wait_for_selector(".state.lost")
    shop.start()
    page.wait_for_selector(".state.live", timeout=20_000)
    settle(page, 1)
    assert f"pid {shop.process.pid}" in page.locator("#facts").inner_text()
    assert page.locator('#tools-table tr[data-name="add"] td[data-field="total"]').get_attribute("data-value") == "0"
    started = time.monotonic()
    shop.call("add", 7, a=1, b=2)
    until(page, 'document.querySelector(\'#tools-table tr[data-name="add"] [data-field="total"][data-value="7"]\')')
    assert time.monotonic() - started < 20
