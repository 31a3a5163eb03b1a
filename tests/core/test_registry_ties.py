"""The registry: what ties names (bindings, groups), and watches."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from erlmcp.errors import ConfigurationError, LimitError

Impl = Callable[[str], ModuleType]


@pytest.fixture
def new(impl: Impl) -> Any:
    return impl("registry").Registry


@pytest.fixture
def registry(new: Any) -> Any:
    return new()


def changes(registry: Any) -> list[tuple[str, str]]:
    return [(kind, name) for _, kind, name, _ in registry.take_events()]


def test_a_key_is_bound_to_a_name_that_is_there(registry: Any) -> None:
    with pytest.raises(KeyError) as caught:
        registry.bind("transport", "server")
    assert caught.value.args == ("server",)
    registry["server"] = 1
    registry.bind("transport", b"server")
    registry.bind(b"transport 2", "server")
    assert registry.binding("transport") == "server"
    assert registry.bindings("server") == ["transport", "transport 2"]
    registry["other"] = 2
    registry.bind("transport", "other")
    assert (registry.bindings("server"), registry.bindings("other")) == (["transport 2"], ["transport"])
    assert registry.unbind("transport")
    assert not registry.unbind("transport")
    assert registry.binding("transport") is None
    registry.check()


@pytest.mark.parametrize("goes", ["server", "transport"])
@pytest.mark.parametrize("how", ["remove", "pop", "__delitem__", "drop_owner", "clear"])
def test_a_binding_is_dropped_when_either_end_goes(registry: Any, goes: str, how: str) -> None:
    registry.put("server", 1, "owner" if goes == "server" else None)
    registry.put("transport", 2, "owner" if goes == "transport" else None)
    registry.bind("transport", "server")
    registry.join("group", goes)
    registry.join("group", "server")
    {"drop_owner": lambda: registry.drop_owner("owner"), "clear": registry.clear}.get(
        how, lambda: getattr(registry, how)(goes)
    )()
    assert registry.binding("transport") is None
    assert registry.bindings("server") == []
    assert registry.members("group") == (["server"] if goes == "transport" and how != "clear" else [])
    registry.put(goes, 3)
    assert registry.binding("transport") is None
    assert registry.groups(goes) == []
    registry.check()


def test_a_name_keeps_its_ties_while_it_is_put_again(registry: Any) -> None:
    registry.put("server", 1, "owner")
    registry.bind("transport", "server")
    registry.join("group", "server")
    registry.put("server", 2, "owner")
    with pytest.raises(ConfigurationError):
        registry.put("server", 3, "another")
    assert registry.binding("transport") == "server"
    assert registry.members("group") == ["server"]


def test_names_join_groups_and_leave_them(registry: Any) -> None:
    with pytest.raises(KeyError):
        registry.join("group", "a")
    for name in "abc":
        registry[name] = name
        assert registry.join("group", name)
        assert not registry.join(b"group", name.encode())
    registry.join("another", "b")
    assert registry.members("group") == ["a", "b", "c"]
    assert registry.groups("b") == ["group", "another"]
    assert sorted(registry.groups()) == ["another", "group"]
    assert registry.leave("group", "b")
    assert not registry.leave("group", "b")
    del registry["a"]
    assert registry.members("group") == ["c"]
    assert registry.members("absent") == registry.groups("absent") == []
    registry.check()


def test_ties_of_what_is_no_name_are_a_key_error_or_a_type_error(registry: Any) -> None:
    registry["a"] = 1
    for name in ("\ud800", b"\xff"):
        with pytest.raises(KeyError):
            registry.bind("key", name)
        with pytest.raises(KeyError):
            registry.join("group", name)
    for use in (
        lambda: registry.bind(1, "a"),
        lambda: registry.bind("key", 1),
        lambda: registry.join(None, "a"),
        lambda: registry.watch(1, print),
        lambda: registry.binding(1),
    ):
        with pytest.raises(TypeError):
            use()
    registry.check()


def test_callbacks_are_taken_and_called_by_whoever_wants_to(registry: Any) -> None:
    seen = []

    def on_tool(kind: str, name: str, entry: object) -> None:
        seen.append((kind, name, entry))

    assert registry.take_events() == []
    registry["tools/early"] = 0
    number = registry.watch("tools/", on_tool, is_prefix=True)
    registry.put("tools/echo", 1, "owner")
    registry.put(b"tools/echo", 2, "owner")
    registry["prompts/a"] = 3
    registry.pop("tools/early")
    registry.drop_owner("owner")
    assert seen == []
    for callback, kind, name, entry in registry.take_events():
        callback(kind, name, entry)
    assert seen == [
        ("added", "tools/echo", 1),
        ("changed", "tools/echo", 2),
        ("removed", "tools/early", 0),
        ("removed", "tools/echo", 2),
    ]
    assert registry.unwatch(number)
    registry["tools/echo"] = 4
    assert registry.take_events() == []


def test_a_watch_of_a_name_waits_for_it(registry: Any) -> None:
    registry.watch("a", print)
    registry["b"] = registry["a"] = registry["ab"] = 1
    registry.remove("a")
    registry.remove("a")
    assert changes(registry) == [("added", "a"), ("removed", "a")]


def test_what_fails_queues_no_event(new: Any) -> None:
    registry = new(1)
    registry.put("a", 1, "owner")
    registry.watch("", print, True)
    for owner in (None, "another"):
        with pytest.raises(ConfigurationError):
            registry.put("a", 2, owner)
    with pytest.raises(LimitError):
        registry["b"] = 1
    with pytest.raises(UnicodeError):
        registry["\ud800"] = 1
    assert not registry.remove("b")
    assert registry.take_events() == []


def test_clearing_is_told_and_watches_stay(registry: Any) -> None:
    registry.watch("", print, True)
    for name in "abc":
        registry[name] = name
    registry.take_events()
    registry.clear()
    assert sorted(changes(registry)) == [("removed", name) for name in "abc"]
    registry["a"] = 1
    assert changes(registry) == [("added", "a")]
    registry.check()


def test_events_are_queued_in_the_order_of_the_changes_whatever_dies_meanwhile(registry: Any) -> None:
    class Entry:
        def __del__(self) -> None:
            registry.pop("a", None)
            registry["b"] = 1

    registry.watch("", print, True)
    registry["a"] = Entry()
    registry.take_events()  # an event holds its entry
    registry["a"] = None
    assert changes(registry) == [("changed", "a"), ("removed", "a"), ("added", "b")]
    registry["a"] = Entry()
    registry.take_events()
    registry.remove("a")
    assert changes(registry) == [("removed", "a")]
    assert changes(registry) == [("changed", "b")]
    registry.check()


def test_limits_of_ties_and_events_are_the_registrys(new: Any) -> None:
    registry = new(100, bond_count_max=2, event_count_max=3)
    registry["a"] = 1
    registry.bind("key", "a")
    registry.watch("", print, True)
    for more in (lambda: registry.join("group", "a"), lambda: registry.bind("other", "a")):
        with pytest.raises(LimitError, match="bond_count_max=2"):
            more()
    assert registry.lost_event_count == 0
    for number in range(5):
        registry[str(number)] = number
    assert registry.lost_event_count == 2
    assert [name for _, name in changes(registry)] == ["0", "1", "2"]
    registry.check()


def test_a_callback_that_refers_to_its_registry_is_collected(new: Any) -> None:
    class Callback:
        def __init__(self, registry: Any) -> None:
            self.registry = registry

    registry = new()
    callback, entry = Callback(registry), Callback(registry)
    alive = [weakref.ref(callback), weakref.ref(entry)]
    registry.watch("a", callback)
    registry["a"] = entry
    registry["a"] = None
    del registry, callback, entry
    gc.collect()
    assert [ref() for ref in alive] == [None, None]


def test_references_of_ties_are_given_back(registry: Any) -> None:
    things = [object(), object(), object(), "a name that nobody has", "a key that nobody has"]
    callback, entry, other, name, key = things
    before = [sys.getrefcount(thing) for thing in things]
    for _ in range(10):
        number = registry.watch(name, callback)
        registry.put(name, entry, "owner")
        registry.put(name, other, "owner")
        registry.bind(key, name)
        registry.join(key, name)
        registry.drop_owner("owner")
        registry.put(name, entry)
        registry.bind(key, name)
        registry.clear()
        registry.unwatch(number)
        registry.take_events()
    assert [sys.getrefcount(thing) for thing in things] == before
