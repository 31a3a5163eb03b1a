"""Where tokens are kept."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest
from realm import Realm, in_realm

from erlmcp.client.oauth import FileStore
from erlmcp.errors import ConfigurationError


async def test_a_file_keeps_records_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "tokens.json"
    store = FileStore(path)
    assert await store.load("x") is None
    await store.save("x", {"value": "a"})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) & 0o077 == 0
    assert await FileStore(path).load("x") == {"value": "a"}
    await store.drop("x")
    await store.drop("x")
    assert await store.load("x") is None
    assert [each.name for each in path.parent.iterdir()] == ["tokens.json"]


async def test_a_file_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    path.write_text("{}")
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        await FileStore(path).load("x")
    with pytest.raises(ConfigurationError, match="chmod 600"):
        await FileStore(path).save("x", {})


@pytest.mark.parametrize("text", ["", "[]", "{", "\xff"])
async def test_a_file_of_something_else_is_not_overwritten(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokens.json"
    path.write_text(text, encoding="latin-1")
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="no file of tokens"):
        await FileStore(path).save("x", {})
    assert path.read_text(encoding="latin-1") == text


async def test_what_is_written_at_the_same_time_is_all_there(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "tokens.json")
    await asyncio.gather(*(store.save(f"n{number}", {"number": number}) for number in range(20)))
    assert [(await store.load(f"n{number}"))["number"] for number in range(20)] == [*range(20)]  # type: ignore[index]


async def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "tokens.json")
    await store.save("x", {"value": "a"})
    with pytest.raises(TypeError):
        await store.save("x", {"value": object()})
    assert await store.load("x") == {"value": "a"}
    assert [each.name for each in tmp_path.iterdir()] == ["tokens.json"]


def test_another_program_finds_tokens_and_the_registered_client(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"

    @in_realm
    async def run(realm: Realm) -> None:
        for _ in range(2):
            async with realm.client(realm.oauth(store=FileStore(path))) as client:
                await client.call_tool("echo")
        assert len(realm.user) == 1
        realm.revoke()
        async with realm.client(realm.oauth(store=FileStore(path))) as client:
            await client.call_tool("echo")
        assert len(realm.user) == 1
        assert realm.issuer.paths.count("/register") == 1

    asyncio.run(run())  # type: ignore[arg-type]
