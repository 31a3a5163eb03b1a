"""The blocking face: the same client, on a loop in a thread of its own."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import shop
from ways import nothing_left, rude, stdio_entry

from erlmcp import ToolError
from erlmcp.errors import ConnectionClosedError, ServerExitedError
from erlmcp.sync import Client

pytestmark = pytest.mark.usefixtures(nothing_left.__name__)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "erlmcp-client"]


@pytest.fixture(params=["memory", "stdio"])
def target(request: pytest.FixtureRequest) -> Any:
    if request.param == "memory":
        return shop.build()
    return stdio_entry("-m", "erlmcp", "run", shop.__file__)


def test_everything_can_be_asked_without_a_loop(target: Any) -> None:
    logs: list[Any] = []
    with Client(target, on_log=logs.append, elicitation=lambda params: {"count": 2}) as client:
        assert (client.era, client.protocol_version) == ("modern", "2026-07-28")
        assert client.server_info["name"] == "shop"
        assert client.instructions == "Ask before you buy."
        assert "tools" in client.server_capabilities
        assert client.call_tool("echo", {"text": "häj"}).data == "häj"
        assert client.call_tool("order", {"item": "figs"}).data == "2 figs"
        steps: list[Any] = []
        client.call_tool("steps", {"count": 2}, on_progress=lambda *args: steps.append(args))
        assert [step[0] for step in steps] == [1, 2]
        assert [each["level"] for each in logs] == ["info"]
        assert [each.data for each in client.call_many([("add", {"a": n}) for n in range(3)])] == [1, 2, 3]
        assert len(client.list_tools()) == 14
        assert len(client.list_resources()) == len(client.list_prompts()) == len(client.list_resource_templates()) == 1
        assert client.read_resource("shop://opening").contents[0].text == "9 to 5"
        assert client.get_prompt("greet", {"name": "Ada"}).messages
        assert client.complete("name", "G", prompt="greet").values == ["Grace"]
        assert client.request("tools/list")["tools"]
        client.subscribe("shop://stock/pear")
        client.unsubscribe("shop://stock/pear")
        client.set_log_level("error")
        client.ping()
        with pytest.raises(ToolError, match="oh"):
            client.call_tool("fail", {"text": "oh"})
        with client.listen(tools=True) as events:
            assert events.granted == {"toolsListChanged": True}
            client.call_tool("grow")
            assert next(iter(events)).method == "notifications/tools/list_changed"
    assert threads() == []


def test_threads_may_share_it() -> None:
    with Client(shop.build()) as client:
        found: list[int] = []

        def work(start: int) -> None:
            found.extend(client.call_tool("add", {"a": start + n, "b": 0}).data for n in range(50))

        workers = [threading.Thread(target=work, args=(100 * n,)) for n in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert sorted(found) == [100 * n + m for n in range(4) for m in range(50)]


def test_a_connect_that_fails_leaves_no_thread() -> None:
    client = Client(rude("dies-at-start"))
    with pytest.raises(ServerExitedError, match="no licence"):
        client.connect()
    assert threads() == []
    client.close()
    with pytest.raises(ConnectionClosedError, match="not connected"):
        client.ping()


def test_it_can_be_opened_and_closed_again_and_again() -> None:
    client = Client(shop.build())
    for _ in range(3):
        client.connect()
        client.connect()
        client.ping()
        client.close()
        client.close()
    assert not client.is_connected
    assert threads() == []


def test_a_callback_that_calls_the_client_is_told_so_and_nothing_hangs() -> None:
    refused: list[BaseException] = []

    def on_progress(*args: Any) -> None:
        try:
            client.ping()
        except RuntimeError as error:
            refused.append(error)

    with Client(shop.build()) as client:
        assert client.call_tool("steps", {"count": 1}, on_progress=on_progress).data == "done"
    assert "cannot wait" in str(refused[0])


def test_closing_fails_the_calls_of_other_threads() -> None:
    client = Client(shop.build()).connect()
    errors: list[BaseException] = []
    begun = threading.Event()

    def work() -> None:
        begun.set()
        try:
            client.call_tool("wait")
        except ConnectionClosedError as error:
            errors.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    begun.wait(10)
    client.ping()
    client.close()
    worker.join(10)
    assert not worker.is_alive()
    assert len(errors) == 1
