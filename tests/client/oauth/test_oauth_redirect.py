"""The browser that is opened, and the port where it comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from realm import WAIT_S, Realm, in_realm

from erlmcp.client.oauth import Browser, OAuth
from erlmcp.errors import AuthorizationError


async def get(url: str, verb: str = "GET") -> bytes:
    """What is answered there."""
    _, _, rest = url.partition("//")
    place, _, path = rest.partition("/")
    host, _, port = place.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{verb} /{path} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
    said = await reader.read()
    writer.close()
    return said


class Visit:
    """A user in a browser, who does what ``act`` does with the URL that they are sent to."""

    def __init__(self, act: Callable[[str], Awaitable[None]]) -> None:
        self._act = act
        self._loop = asyncio.get_running_loop()
        self.visit: asyncio.Future[None] | None = None

    def __call__(self, url: str) -> None:
        self.visit = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._act(url), self._loop), loop=self._loop)


@in_realm
async def test_the_user_comes_back_to_a_port_of_this_machine(realm: Realm) -> None:
    pages: list[bytes] = []
    shown: list[str] = []

    async def act(url: str) -> None:
        pages.append(await get(await realm.agree(url)))

    visit = Visit(act)
    async with realm.client(OAuth(Browser(show=shown.append, open_browser=visit), trust_env=False)) as client:
        await client.call_tool("echo")
        assert visit.visit is not None
        await visit.visit
    assert b"200 OK" in pages[0]
    assert b"no-referrer" in pages[0]
    assert shown[0].startswith(realm.issuer.url + "/authorize?")
    assert realm.user[0]["redirect_uri"].startswith("http://127.0.0.1:")


@in_realm
async def test_what_is_not_the_callback_is_told_nothing_and_ends_nothing(realm: Realm) -> None:
    pages: list[bytes] = []

    async def act(url: str) -> None:
        back = await realm.agree(url)
        base = back.partition("?")[0]
        for wrong in (
            base,
            base + "?state=other&code=x",
            base + "/more?" + back.partition("?")[2],
            base + "?state=a&state=b",
        ):
            pages.append(await get(wrong))
        pages.append(await get(back, "POST"))
        pages.append(await get(back))

    visit = Visit(act)
    async with realm.client(OAuth(Browser(open_browser=visit), trust_env=False)):
        assert visit.visit is not None
        await visit.visit
    assert [page.split(b" ")[1] for page in pages] == [b"404"] * 5 + [b"200"]


@in_realm
async def test_the_port_of_last_time_is_used_again_so_that_the_registered_client_is(realm: Realm) -> None:
    async def act(url: str) -> None:
        await get(await realm.agree(url))

    visit = Visit(act)
    auth = OAuth(Browser(open_browser=visit), trust_env=False)
    for _ in range(2):
        async with realm.client(auth):
            assert visit.visit is not None
            await visit.visit
        await auth.forget(realm.url)
    assert len({wanted["redirect_uri"] for wanted in realm.user}) == 1
    assert realm.issuer.paths.count("/register") == 1


async def test_a_port_that_is_taken_is_told_of_where_it_was_asked_for() -> None:
    first = Browser()
    try:
        uri = await first.begin("")
        port = int(uri.rpartition(":")[2].partition("/")[0])
        with pytest.raises(AuthorizationError, match=f"port {port} is not free"):
            await Browser(port).begin("")
        other = Browser()
        assert await other.begin(uri) != uri
        await other.end()
    finally:
        await first.end()


async def test_nothing_listens_after_the_end() -> None:
    browser = Browser(open_browser=lambda url: None)
    uri = await browser.begin("")
    asking = asyncio.ensure_future(browser.ask("https://i.example/?state=x"))
    await asyncio.sleep(0)
    await browser.end()
    async with asyncio.timeout(WAIT_S):
        with pytest.raises(ConnectionError):
            await get(uri)
        with pytest.raises(asyncio.CancelledError):
            await asking
