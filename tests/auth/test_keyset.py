"""Keys that are fetched: when, how often, and what serves while they cannot be."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from issuer import AUDIENCE, NAME, jwk, key_server, key_set, rule, token

from erlmcp.auth.admission import Admission
from erlmcp.auth.challenge import Refusal
from erlmcp.auth.fetch import fetch_json
from erlmcp.auth.keyset import FetchedKeys
from erlmcp.auth.token import Verifier

URL = "https://login.test/keys"


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Source:
    """What is fetched, and how often it was."""

    def __init__(self, *kids: str) -> None:
        self.kids = kids
        self.count = 0
        self.error: Exception | None = None

    def __call__(self, url: str, timeout_s: float, bytes_max: int) -> Any:
        self.count += 1
        if self.error is not None:
            raise self.error
        return key_set(*self.kids)


def keys_from(source: Source, clock: Clock, **options: Any) -> FetchedKeys:
    changed = options.pop("changed", lambda: None)
    return FetchedKeys(URL, rule(URL, **options), changed, fetch=source, clock=clock)


def kids(found: Any) -> list[str] | None:
    return None if found is None else [key.kid for key in found]


async def test_keys_are_fetched_once_for_all_who_wait() -> None:
    source = Source("o1")
    keys = keys_from(source, Clock())
    assert keys.look("o1", "EdDSA") is None
    await asyncio.gather(*(keys.refresh() for _ in range(50)))
    assert kids(keys.look("o1", "EdDSA")) == ["o1"]
    assert source.count == 1


async def test_made_up_key_names_make_no_storm() -> None:
    source, clock = Source("o1"), Clock()
    keys = keys_from(source, clock, jwks_refetch_s=10)
    await keys.refresh()
    for number in range(1000):
        clock.now_s += 0.01
        if keys.look(f"made-up-{number}", "EdDSA") is None:
            await keys.refresh()
    assert source.count == 1
    clock.now_s += 10
    assert keys.look("made-up", "EdDSA") is None
    await keys.refresh()
    assert kids(keys.look("made-up", "EdDSA")) == []
    assert source.count == 2


async def test_a_new_key_is_found_by_the_first_token_that_names_it() -> None:
    source, clock = Source("o1"), Clock()
    keys = keys_from(source, clock)
    await keys.refresh()
    source.kids = ("o1", "o2")
    clock.now_s += 60
    assert keys.look("o2", "EdDSA") is None
    await keys.refresh()
    assert kids(keys.look("o2", "EdDSA")) == ["o2"]


async def test_keys_that_are_old_are_fetched_again_beside_the_work() -> None:
    source, clock = Source("o1"), Clock()
    keys = keys_from(source, clock, jwks_refresh_s=300)
    await keys.refresh()
    clock.now_s += 301
    assert kids(keys.look("o1", "EdDSA")) == ["o1"]  # without waiting
    await keys.refresh()
    assert source.count == 2


async def test_while_the_issuer_is_down_old_keys_serve_for_a_bounded_time(caplog: Any) -> None:
    source, clock = Source("o1"), Clock()
    keys = keys_from(source, clock, jwks_refresh_s=300, jwks_stale_s=3600)
    await keys.refresh()
    source.error = OSError("refused")
    for _ in range(11):
        clock.now_s += 300
        assert kids(keys.look("o1", "EdDSA")) == ["o1"]
        await keys.refresh()
    assert keys.why == "refused"
    clock.now_s += 301
    assert keys.is_missing
    assert keys.look("o1", "EdDSA") is None
    await keys.refresh()
    assert kids(keys.look("o1", "EdDSA")) == []
    source.error = None
    clock.now_s += 10
    await keys.refresh()
    assert kids(keys.look("o1", "EdDSA")) == ["o1"]
    assert "the keys at https://login.test/keys cannot be had: refused" in caplog.text


async def test_what_was_signed_with_a_key_that_is_gone_is_checked_again() -> None:
    source = Source("o1", "o2")
    verifier = Verifier(rule(URL))
    issuer, _ = verifier._issuers[NAME]
    keys = FetchedKeys(URL, rule(URL), lambda: verifier._forget(NAME), fetch=source)
    verifier._issuers[NAME] = issuer, keys
    await keys.refresh()
    found = verifier.look(token("o2", alg="EdDSA"))
    assert isinstance(found, Admission)
    source.kids = ("o1",)
    await keys.refresh()
    assert len(verifier) == 0
    verifier.close()


async def test_who_stops_waiting_stops_nobody_elses_wait() -> None:
    source = Source("o1")
    keys = keys_from(source, Clock())
    first, second = asyncio.create_task(keys.refresh()), asyncio.create_task(keys.refresh())
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert first.cancelled()
    assert kids(keys.look("o1", "EdDSA")) == ["o1"]


async def test_a_fetch_ends_with_those_who_wait_when_all_is_closed() -> None:
    async with key_server("o1") as server:
        server.is_open.clear()
        keys = FetchedKeys(server.url, rule(server.url))
        waits = asyncio.create_task(keys.refresh())
        await server.came.wait()
        keys.close()
        await waits
        assert keys.look("o1", "EdDSA", may_ask=False) == ()
        server.is_open.set()
        await server.answered.wait()  # for the thread that waits for it


@pytest.mark.parametrize(
    "document",
    [[], {}, {"keys": {}}, {"keys": []}, {"keys": [{"kty": "oct", "k": "AAAA"}]}, {"keys": [{**jwk("o1"), "x": "AA"}]}],
)
async def test_what_is_no_key_set_changes_nothing(document: Any, caplog: Any) -> None:
    caplog.set_level(logging.WARNING)
    source = Source("o1")
    keys = keys_from(source, Clock())
    await keys.refresh()
    keys._fetch = lambda *_: document
    await keys.refresh()
    assert kids(keys.look("o1", "EdDSA")) == ["o1"]
    assert "cannot be had" in caplog.text


# -- over HTTP ---------------------------------------------------------------------------------------------------------


async def fetched(url: str, bytes_max: int = 10_000) -> Any:
    return await asyncio.to_thread(fetch_json, url, 5.0, bytes_max)


async def test_a_key_set_is_fetched_over_http() -> None:
    async with key_server("r1", "o1") as server:
        assert await fetched(server.url) == key_set("r1", "o1")


async def test_an_answer_that_is_no_key_set_is_told(caplog: Any) -> None:
    async with key_server() as server:
        server.body = b"<html>"
        with pytest.raises(ValueError):
            await fetched(server.url)
        server.body = b" " * 20_000
        with pytest.raises(ValueError, match="more than 10000 bytes"):
            await fetched(server.url)
        server.body = b"[" * 5_000
        with pytest.raises(ValueError):
            await fetched(server.url)
        server.body, server.status = b"no", 500
        with pytest.raises(OSError, match="the answer is 500"):
            await fetched(server.url)


async def test_what_speaks_no_http_is_told() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        with pytest.raises(OSError, match="no HTTP: BadStatusLine"):
            await fetched(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")


async def test_an_answer_that_drips_is_given_up_when_its_time_is_over() -> None:
    """Each byte comes in time, and all of them would not."""
    is_over, is_done = asyncio.Event(), asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while not is_over.is_set():
            writer.write(b" ")
            await asyncio.sleep(0.01)
        writer.close()
        is_done.set()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(TimeoutError, match=r"within 0\.2 s"):
            await asyncio.to_thread(fetch_json, url, 0.2, 10_000)
        is_over.set()
        await is_done.wait()


async def test_a_redirect_is_not_followed() -> None:
    async with key_server("o1") as other, key_server("o1") as server:
        server.status, server.headers = 302, f"Location: {other.url}\r\n"
        with pytest.raises(OSError, match="302"):
            await fetched(server.url)
        assert other.count == 0


async def test_the_loop_goes_on_while_an_issuer_takes_its_time() -> None:
    async with key_server("o1") as server:
        server.is_open.clear()
        verifier = Verifier(rule(server.url))
        text = token("o1", alg="EdDSA")
        assert verifier.look(text) is None
        waits = asyncio.create_task(verifier.wait(text))
        await server.came.wait()  # ... which this loop itself serves
        assert not waits.done()
        server.is_open.set()
        await waits
        assert isinstance(verifier.look(text), Admission)
        verifier.close()


async def test_without_keys_the_token_is_not_what_is_wrong(caplog: Any) -> None:
    async with key_server() as server:
        server.status = 500
        verifier = Verifier(rule(server.url))
        text = token("o1", alg="EdDSA")
        assert verifier.look(text) is None
        await verifier.wait(text)
        found = verifier.look(text)
        assert isinstance(found, Refusal)
        assert (found.status, found.is_guess, found.retry_s > 0) == (503, False, True)
        verifier.close()
    assert AUDIENCE not in caplog.text
    assert json.dumps(text) not in caplog.text


async def test_who_waits_for_keys_that_came_meanwhile_asks_for_none() -> None:
    source = Source("o1")
    verifier = Verifier(rule(URL))
    issuer, _ = verifier._issuers[NAME]
    verifier._issuers[NAME] = issuer, (keys := FetchedKeys(URL, rule(URL), fetch=source))
    text = token("o1", alg="EdDSA")
    assert verifier.look(text) is None
    await keys.refresh()
    await verifier.wait(text)
    assert isinstance(verifier.look(text), Admission)
    assert source.count == 1
    verifier.close()
