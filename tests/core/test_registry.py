"""The registry: names to entries, owners, scans."""

from __future__ import annotations

import gc
import importlib
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from erlmcp.errors import ConfigurationError, LimitError

Impl = Callable[[str], ModuleType]


@pytest.fixture
def registry(impl: Impl) -> Any:
    return impl("registry").Registry()


@pytest.fixture
def new(impl: Impl) -> Any:
    return impl("registry").Registry


def fresh(name: str) -> str:
    """An equal str that is another object."""
    return "".join([name[:1], name[1:]])


def scan_all(registry: Any, count: int) -> list[tuple[str, Any]]:
    cursor, found = registry.scan(0, count)
    while cursor:
        cursor, more = registry.scan(cursor, count)
        assert 0 < len(more) <= count
        found += more
    return list(found)


@pytest.mark.parametrize("name", ["", "a", "echo", "name/with.dots", "é", "日本語", "\U0001f600", "a\0b", "x" * 500])
def test_a_str_and_its_utf8_bytes_are_the_same_name(registry: Any, name: str) -> None:
    registry[name] = 1
    assert registry[fresh(name)] == registry[name.encode()] == registry.get(name.encode()) == 1
    assert name in registry
    assert name.encode() in registry
    registry[name.encode()] = 2
    assert len(registry) == 1
    assert registry[name] == 2
    assert registry.names() == [name]
    assert registry.remove(name.encode())
    assert len(registry) == 0


def test_names_that_differ_late_early_or_in_length_are_different(registry: Any) -> None:
    names = ["a" * length + last for length in range(70) for last in "xy"] + [
        "b" + "a" * length for length in range(70)
    ]
    for number, name in enumerate(names):
        registry[name] = number
    assert len(registry) == len(names)
    assert registry.get_many(names) == list(range(len(names)))
    registry.check()


def test_a_subclass_of_str_is_the_name_it_spells(registry: Any) -> None:
    class Loud(str):
        __slots__ = ()

        def __hash__(self) -> int:
            raise AssertionError("not to be called")

        def __eq__(self, other: object) -> bool:
            raise AssertionError("not to be called")

    registry[Loud("a")] = 1
    assert registry["a"] == registry[Loud("a")] == 1
    assert type(registry.names()[0]) is str


def test_absent_names_are_a_key_error_a_default_or_false(registry: Any) -> None:
    registry["there"] = 1
    for name in ("absent", b"absent", "\ud800", b"\xff", b"\xed\xa0\x80"):
        assert name not in registry
        assert registry.get(name) is None
        assert registry.get(name, 7) == 7
        assert registry.pop(name, 7) == 7
        assert not registry.remove(name)
        for read in (registry.__getitem__, registry.__delitem__, registry.pop, registry.owner):
            with pytest.raises(KeyError) as caught:
                read(name)
            assert caught.value.args == (name,)
    assert registry.get_many(["absent", "there", "\ud800", b"\xff"], 7) == [7, 1, 7, 7]


def test_what_has_no_utf8_form_cannot_be_put(registry: Any) -> None:
    with pytest.raises(UnicodeEncodeError):
        registry["\ud800"] = 1
    with pytest.raises(UnicodeDecodeError):
        registry.put(b"\xff", 1, "owner")
    assert len(registry) == 0
    registry.check()


@pytest.mark.parametrize("name", [None, 1, 1.5, ("a",), bytearray(b"a"), memoryview(b"a")])
def test_other_types_are_no_names(registry: Any, name: Any) -> None:
    assert name not in registry
    for use in (registry.get, registry.__getitem__, registry.remove, registry.pop, registry.owner, registry.names):
        with pytest.raises(TypeError):
            use(name)
    with pytest.raises(TypeError):
        registry.put(name, 1, "owner")
    with pytest.raises(TypeError):
        registry.get_many([name])
    with pytest.raises(TypeError):
        registry.get_many({"a": 1})
    registry.check()


def test_entries_can_be_anything_none_included(registry: Any) -> None:
    registry["none"] = None
    assert "none" in registry
    assert registry["none"] is None
    assert registry.get("none", 7) is None
    assert registry.get_many(["none"], 7) == [None]
    assert registry.pop("none", 7) is None


def test_the_same_owner_may_put_again_and_another_may_not(registry: Any) -> None:
    registry.put("a", 1, ("an", "owner"))
    registry.put("a", 2, ("an", "own" + "er"))
    for owner in (None, "other"):
        with pytest.raises(ConfigurationError, match="'a' belongs to"):
            registry.put("a", 3, owner)
    with pytest.raises(ConfigurationError):
        registry["a"] = 3
    assert registry["a"] == 2
    assert registry.owner("a") == ("an", "owner")
    registry["free"] = 1
    assert registry.owner("free") is None
    with pytest.raises(ConfigurationError):
        registry.put("free", 2, "other")
    with pytest.raises(TypeError, match="unhashable"):
        registry.put("b", 1, [])
    assert len(registry) == 2
    registry.check()


def test_dropping_an_owner_takes_away_its_names_only(registry: Any) -> None:
    for number in range(100):
        registry.put(f"name-{number}", number, f"owner-{number % 3}" if number % 4 else None)
    expected = [f"name-{number}" for number in range(100) if not (number % 4 and number % 3 == 1)]
    assert registry.drop_owner("owner-1") == 100 - len(expected)
    assert sorted(registry.names()) == sorted(expected)
    assert registry.drop_owner("owner-1") == registry.drop_owner("nobody") == 0
    with pytest.raises(ValueError, match="no owner"):
        registry.drop_owner(None)
    with pytest.raises(TypeError, match="unhashable"):
        registry.drop_owner([])
    registry.put("name-1", "again", "other")
    registry.check()


def test_an_owner_whose_last_name_went_is_forgotten(new: Any) -> None:
    class Owner:
        pass

    for take_away in ("remove", "pop", "__delitem__"):
        registry, owner = new(), Owner()
        registry.put("a", 1, owner)
        alive = weakref.ref(owner)
        del owner
        getattr(registry, take_away)("a")
        assert alive() is None
    registry, owner = new(), Owner()
    alive = weakref.ref(owner)
    with pytest.raises(TypeError):
        registry.put(None, 1, owner)
    del owner
    gc.collect()
    assert alive() is None


def test_count_max_bounds_the_names(new: Any) -> None:
    registry = new(3)
    assert registry.count_max == 3
    for name in "abc":
        registry[name] = name
    with pytest.raises(LimitError, match="count_max=3") as caught:
        registry.put("d", 1, "owner")
    assert (caught.value.limit, caught.value.maximum) == ("count_max", 3)
    registry["a"] = "again"
    del registry["b"]
    registry["d"] = 1
    assert sorted(registry.names()) == ["a", "c", "d"]
    registry.check()
    for count_max in (0, -1, 2**31):
        with pytest.raises(ValueError, match="count_max"):
            new(count_max)


def test_names_can_be_asked_for_by_prefix(registry: Any) -> None:
    for name in ("", "a", "ab", "abc", "b", "é", "éa"):
        registry[name] = 1
    assert sorted(registry.names("ab")) == ["ab", "abc"]
    assert sorted(registry.names("é")) == sorted(registry.names(b"\xc3")) == ["é", "éa"]
    assert len(registry.names()) == 7
    assert registry.names("abcd") == registry.names("\ud800") == registry.names(b"\xff") == []


def test_a_scan_returns_every_name_once(registry: Any) -> None:
    assert registry.scan() == (0, [])
    for number in range(257):
        registry[f"name-{number}"] = number
    for count in (1, 7, 256, 257, 1000):
        assert sorted(number for _, number in scan_all(registry, count)) == list(range(257))
    for cursor, count in ((-1, 1), (0, 0), (0, -1)):
        with pytest.raises(ValueError):
            registry.scan(cursor, count)
    assert registry.scan(10**9, 5) == (0, [])


@pytest.mark.parametrize("count", [1, 3, 64])
def test_a_scan_misses_nothing_while_names_come_and_go(registry: Any, count: int) -> None:
    for number in range(200):
        registry[f"name-{number}"] = number
    seen: list[str] = []
    cursor, turn = 0, 0
    while True:
        cursor, part = registry.scan(cursor, count)
        seen += [name for name, _ in part]
        if not cursor:
            break
        registry.pop(f"name-{turn * 2 + 1}", None)
        for more in range(5):
            registry[f"new-{turn}-{more}"] = 0
        if turn > 4:
            registry.pop(f"new-{turn - 4}-2", None)
        turn += 1
        if turn > 300:
            break
    held = {f"name-{number}" for number in range(0, 200, 2)}
    if cursor == 0:
        assert held <= set(seen)
    assert len([name for name in seen if name in held]) == len(held & set(seen))


def test_clearing_leaves_a_registry_that_works(registry: Any) -> None:
    for number in range(50):
        registry.put(str(number), number, "owner")
    registry.clear()
    assert len(registry) == 0
    assert registry.names() == []
    assert registry.drop_owner("owner") == 0
    registry.put("0", 1, "other")
    assert registry["0"] == 1
    registry.check()


def test_an_entry_that_refers_to_its_registry_is_collected(new: Any) -> None:
    class Entry:
        def __init__(self, registry: Any) -> None:
            self.registry = registry

    registry = new()
    entry = Entry(registry)
    owner = Entry(registry)
    alive = [weakref.ref(entry), weakref.ref(owner)]
    registry.put("a", entry, owner)
    registry["b"] = entry
    del registry, entry, owner
    gc.collect()
    assert [ref() for ref in alive] == [None, None]


def test_an_entry_that_comes_back_when_it_dies_does_no_harm(registry: Any) -> None:
    class Echo:
        def __init__(self, depth: int) -> None:
            self.depth = depth

        def __del__(self) -> None:
            registry.check()
            if self.depth:
                registry.put(f"from-{self.depth}", Echo(self.depth - 1), "owner")
                registry.pop("victim", None)

    registry["victim"] = 1
    registry.put("a", Echo(3), "owner")
    registry.put("a", 1, "owner")
    registry.check()
    assert registry.drop_owner("owner") >= 2
    registry.check()
    registry["b"] = Echo(5)
    registry.clear()
    registry.check()
    registry.clear()


def test_references_are_given_back(registry: Any) -> None:
    sys = importlib.import_module("sys")
    entry, owner, name = object(), object(), "a name that nobody else has"
    before = [sys.getrefcount(thing) for thing in (entry, owner, name)]
    for _ in range(10):
        registry.put(name, entry, owner)
        registry.put(name, entry, owner)
        registry.get(name), registry.get_many([name, "absent"], entry), registry.scan(), registry.names()
        registry.pop(name)
        registry.put(name, entry, owner)
        registry.drop_owner(owner)
        registry.put(name, entry, owner)
        registry.clear()
    assert [sys.getrefcount(thing) for thing in (entry, owner, name)] == before


def test_get_many_agrees_with_get_in_a_large_registry(registry: Any) -> None:
    names = [f"some/longer/name/{number}" for number in range(10_000)]
    for number, name in enumerate(names):
        registry[name] = number
    asked: list[Any] = [fresh(name) for name in names[::7]]
    asked += ["absent", b"absent", b"some/longer/name/9", "\ud800", "é"]
    assert registry.get_many(asked, -1) == registry.get_many(tuple(asked), -1) == [registry.get(n, -1) for n in asked]
    with pytest.raises(TypeError):
        registry.get_many([*asked, None])
    assert registry.get_many([]) == []
    registry.check()


def test_every_allocation_can_fail_and_nothing_is_lost() -> None:
    memory = importlib.import_module("erlmcp._core.memory")
    if not memory.IS_CHECKED:
        pytest.skip("needs ERLMCP_BUILD=checked")
    core = importlib.import_module("erlmcp._core.registry")

    def work(registry: Any) -> None:
        for number in range(20):
            registry.put(f"name-{number}", number, number % 3)
        registry.drop_owner(1)

    before = memory.live_blocks()
    failed = 0
    for nth in range(1, 200):
        registry = core.Registry()
        memory.fail_after(nth)
        try:
            work(registry)
            finished = True
        except MemoryError:
            finished = False
            failed += 1
        finally:
            memory.fail_never()
        registry.check()
        if not finished:
            registry.clear()
            work(registry)
            registry.check()
        del registry
        assert memory.live_blocks() == before
        if finished:
            break
    assert failed > 20


NAMES = st.sampled_from(["", "a", "b", "c", "ab", "é", "name-1", "name-2", "x" * 40])
OWNERS = st.sampled_from([None, 1, 2, "one"])


class RegistryMachine(RuleBasedStateMachine):
    """Core and model in step: the same answers, the same errors."""

    @initialize(count_max=st.sampled_from([1, 3, 5, 100]))
    def start(self, count_max: int) -> None:
        rooms = [importlib.import_module(f"erlmcp.{side}.registry") for side in ("_core", "_model")]
        self.both = [room.Registry(count_max) for room in rooms]
        self.next = 0

    def same(self, method: str, *args: Any) -> Any:
        answers = []
        for registry in self.both:
            try:
                answers.append(getattr(registry, method)(*args))
            except (KeyError, TypeError, ValueError, ConfigurationError, LimitError) as error:
                answers.append((type(error), str(error)))
        if isinstance(answers[0], tuple) and answers[0][0] is LimitError:
            assert answers[1][0] is LimitError
        elif method == "names":
            assert sorted(answers[0]) == sorted(answers[1])
        else:
            assert answers[0] == answers[1]
        return answers[0]

    @rule(name=NAMES, owner=OWNERS, as_bytes=st.booleans())
    def put(self, name: str, owner: Any, as_bytes: bool) -> None:
        self.next += 1
        self.same("put", name.encode() if as_bytes else name, self.next, owner)

    @rule(name=NAMES, method=st.sampled_from(["remove", "pop", "__delitem__", "get", "__getitem__", "owner"]))
    def use(self, name: str, method: str) -> None:
        self.same(method, name)

    @rule(names=st.lists(NAMES))
    def get_many(self, names: list[str]) -> None:
        self.same("get_many", names)

    @rule(owner=OWNERS)
    def drop_owner(self, owner: Any) -> None:
        self.same("drop_owner", owner)

    @rule(prefix=NAMES)
    def list_names(self, prefix: str) -> None:
        self.same("names", prefix)

    @rule(count=st.integers(1, 4))
    def scan(self, count: int) -> None:
        found = [sorted(scan_all(registry, count), key=str) for registry in self.both]
        assert found[0] == found[1]

    @rule()
    def clear(self) -> None:
        self.same("clear")

    @invariant()
    def is_whole(self) -> None:
        for registry in getattr(self, "both", []):
            registry.check()
        if hasattr(self, "both"):
            self.same("__len__")


TestRegistryMachine = RegistryMachine.TestCase


@pytest.mark.deep
class TestRegistryMachineDeep(RegistryMachine.TestCase):  # type: ignore[misc,valid-type]
    settings = settings(max_examples=250, stateful_step_count=100, deadline=None)
