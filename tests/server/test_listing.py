"""Lists: in the order of registration, in pages, and ready again after every change."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmcp import Server
from erlmcp.errors import InvalidParamsError
from erlmcp.server.listing import KEPT_MAX, Listing
from erlmcp.spec.descriptor import fit_other

MODERN = "2026-07-28"
METHODS = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
}


def make_server(count: int, page_size: int | None = None, middleware: bool = False) -> Server:
    server = Server("s", page_size=page_size, middleware=[lambda ctx, call_next: call_next(ctx)] if middleware else [])
    for number in reversed(range(count)):
        name = f"n{number}é"
        server.add_tool(lambda: 1, name=name)
        server.add_prompt(lambda: "x", name=name)
        server.add_resource(lambda: "x", f"data://{number}", name=name)
        server.add_resource(lambda v: v, f"data://{number}/{{v}}", name=name)
    return server


async def walk(client: Any, method: str) -> list[list[str]]:
    pages, params = [], {}
    while True:
        found = await client.result(method, params)
        pages.append([each["name"] for each in found[METHODS[method]]])
        if "nextCursor" not in found:
            return pages
        params = {"cursor": found["nextCursor"]}


@pytest.mark.parametrize("version", ["2024-11-05", MODERN])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("middleware", [False, True])
async def test_all_pages_together_are_the_list_in_order(talk: Any, version: str, method: str, middleware: bool) -> None:
    whole = [f"n{number}é" for number in reversed(range(7))]
    for size, lengths in [(None, [7]), (3, [3, 3, 1]), (7, [7]), (1, [1] * 7), (100, [7])]:
        async with talk(make_server(7, size, middleware), version) as client:
            for _ in range(2):
                pages = await walk(client, method)
                assert [len(page) for page in pages] == lengths
                assert [name for page in pages for name in page] == whole


async def test_an_empty_list_is_one_empty_page(talk: Any) -> None:
    async with talk(Server("s", page_size=2)) as client:
        for method, field in METHODS.items():
            found = await client.result(method)
            assert found[field] == []
            assert "nextCursor" not in found


@pytest.mark.parametrize(
    "cursor",
    [
        "nonsense",
        "",
        "%%%",
        "bm9ib2R5",
        "ü",
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
        0,
        7,
        1.5,
        True,
        [],
        {},
        ["a"],
    ],
)
@pytest.mark.parametrize("middleware", [False, True])
async def test_a_cursor_that_was_not_given_out_is_an_invalid_params_error(
    talk: Any, cursor: Any, middleware: bool
) -> None:
    async with talk(make_server(3, 2, middleware), "2025-11-25") as client:
        for method in METHODS:
            assert (await client.error(method, {"cursor": cursor}))["code"] == -32602
            assert (await client.result(method, {"cursor": None}))["nextCursor"]


async def test_a_list_is_fresh_after_every_change(talk: Any) -> None:
    server = make_server(2)

    async def names(client: Any) -> list[str]:
        return (await walk(client, "tools/list"))[0]

    async with talk(server) as client:
        assert await names(client) == ["n1é", "n0é"]
        server.add_tool(lambda: 1, name="new")
        assert await names(client) == ["n1é", "n0é", "new"]
        server.remove_tool("n1é")
        assert await names(client) == ["n0é", "new"]
        server.add_tool(lambda: 1, name="n1é")
        assert await names(client) == ["n0é", "new", "n1é"]


async def test_a_cursor_whose_last_name_was_removed_is_out_of_date(talk: Any) -> None:
    server = make_server(4, 2)
    async with talk(server) as client:
        cursor = (await client.result("tools/list"))["nextCursor"]
        server.remove_tool("n2é")
        assert (await client.error("tools/list", {"cursor": cursor}))["code"] == -32602
        assert (await walk(client, "tools/list")) == [["n3é", "n1é"], ["n0é"]]


async def test_an_addition_between_two_pages_repeats_and_loses_nothing(talk: Any) -> None:
    server = make_server(4, 2)
    async with talk(server) as client:
        first = await client.result("tools/list")
        server.add_tool(lambda: 1, name="new")
        second = await client.result("tools/list", {"cursor": first["nextCursor"]})
        assert [tool["name"] for tool in second["tools"]] == ["n1é", "n0é"]
        third = await client.result("tools/list", {"cursor": second["nextCursor"]})
        assert [tool["name"] for tool in third["tools"]] == ["new"]


@given(st.lists(st.text(min_size=1), unique=True, max_size=20), st.integers(1, 8))
def test_pages_of_any_size_cover_any_names_once(names: list[str], size: int) -> None:
    names = [name for name in names if not any("\ud800" <= c <= "\udfff" for c in name)]
    listing = Listing("things", fit_other, size)
    for name in names:
        listing.put(name, {"name": name})
    found, cursor = [], None
    while True:
        page = listing.page(MODERN, cursor)
        assert len(page["things"]) <= size
        found += [each["name"] for each in page["things"]]
        cursor = page.get("nextCursor")
        if cursor is None:
            break
    assert found == names


def test_ready_pages_are_kept_and_bounded() -> None:
    listing = Listing("things", fit_other, 1)
    for number in range(KEPT_MAX + 5):
        listing.put(str(number), {"name": str(number)})
    made = 0

    def finish(page: dict[str, Any]) -> dict[str, Any]:
        nonlocal made
        made += 1
        return page

    first = listing.template(MODERN, None, finish)
    assert listing.template(MODERN, None, finish) is first
    assert made == 1
    assert listing.template("2025-11-25", None, finish) is not first
    cursor = listing.page(MODERN, None)["nextCursor"]
    for _ in range(KEPT_MAX + 3):
        listing.template(MODERN, cursor, finish)
        cursor = listing.page(MODERN, cursor)["nextCursor"]
    assert len(listing._kept) <= KEPT_MAX
    with pytest.raises(InvalidParamsError):
        listing.template(MODERN, "bm9ib2R5", finish)
    with pytest.raises(KeyError):
        listing.remove("nobody")
