"""The registry: names to entries, owners, scans, arrays."""

from __future__ import annotations

import gc
import importlib
import itertools
import sys
import threading
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

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
    for name in ("bond_count_max", "event_count_max"):
        with pytest.raises(ValueError, match=name):
            new(**{name: 0})


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


@pytest.mark.parametrize("count", [100, 20_000])
def test_an_error_in_a_batch_gives_back_what_it_took(registry: Any, count: int) -> None:
    entries = [[number] for number in range(count)]
    for number in range(count):
        registry[f"name-{number}"] = entries[number]
    before = [sys.getrefcount(entry) for entry in entries]
    for good in (0, 1, 31, 32, 33, 64, 65, 99):
        with pytest.raises(TypeError, match="not int"):
            registry.get_many([f"name-{number}" for number in range(good)] + [1])
    assert [sys.getrefcount(entry) for entry in entries] == before


@pytest.mark.parametrize("count", [100, 20_000])
def test_an_error_in_a_batch_may_run_code_that_clears_the_registry(registry: Any, count: int) -> None:
    class Foreign(type):
        @property
        def __name__(cls) -> str:  # type: ignore[override]
            registry.clear()
            gc.collect()
            return "Foreign"

    class Odd(metaclass=Foreign):
        """Once for what is no name, and as what entries are, which no free list keeps."""

    for number in range(count):
        registry[f"name-{number}"] = Odd()
    with pytest.raises(TypeError, match="not Foreign"):
        registry.get_many([*[f"name-{number}" for number in range(99)], Odd()])
    assert registry.get_many(["name-1"]) == [None]


def test_arrays_of_hashes_give_indices_that_names_keep(new: Any) -> None:
    registry = new()
    names = [f"name-{number}" for number in range(1000)]
    for number, name in enumerate(names):
        registry[name] = number
    hashes = registry.hashes([*names, b"name-7", "absent", "\ud800"])
    indices = registry.find_hashes(hashes)
    assert (hashes.dtype, indices.dtype) == (np.uint64, np.int64)
    assert len(set(indices[:1000].tolist())) == 1000
    assert max(indices) < 1024
    assert indices.tolist()[1000:] == [indices[7], -1, -1]
    assert registry.entries_at(indices, "none") == [*range(1000), 7, "none", "none"]
    assert registry.names_at(indices) == [*names, "name-7", None, None]
    for number in range(0, 1000, 2):
        del registry[names[number]]
    for number in range(2000):
        registry[f"other-{number}"] = -number
    again = registry.find_hashes(hashes, np.zeros(1003, np.int64))
    assert again[1:1000:2].tolist() == indices[1:1000:2].tolist()
    assert set(again[0:1000:2]) == {-1}
    assert registry.names_at(again)[:4] == [None, "name-1", None, "name-3"]
    assert new().find_hashes(hashes).tolist() == [-1] * 1003


def test_indices_that_are_not_in_use_have_the_default(registry: Any) -> None:
    registry["a"] = 1
    wild = np.array([0, 1, 7, 100, -1, 2**62, -(2**63)], np.int64)
    assert registry.entries_at(wild, "x") == [1, *["x"] * 6]
    assert registry.names_at(wild) == ["a", *[None] * 6]
    assert registry.entries_at(np.empty(0, np.int64)) == []
    for bad in (wild.astype(np.int32), wild.view(np.uint64), wild.astype(float)):
        with pytest.raises(TypeError, match="expected an array of int64"):
            registry.entries_at(bad)
    with pytest.raises(TypeError):
        registry.names_at([0])


def test_memory_grows_with_the_names(registry: Any) -> None:
    for number in range(1000):
        registry[str(number)] = number
    full = registry.memory_bytes
    assert 64 * 1000 <= full < 500 * 1000
    registry.clear()
    assert registry.memory_bytes < full


class Owner:
    """All have one hash, those of a kind are equal, and comparing does what ``act`` says, ``count`` times."""

    act: Callable[[], object] | None = None
    count = 0

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        if Owner.act is not None and Owner.count:
            Owner.count -= 1
            Owner.act()
        return isinstance(other, Owner) and self.kind == other.kind


@pytest.mark.parametrize("count", [1, 2, 3, 20])
@pytest.mark.parametrize("then", ["put", "remove", "pop", "drop_owner", "owner", "clear"])
@pytest.mark.parametrize("meanwhile", ["clear", "drop", "put", "drop and put", "many"])
def test_owners_whose_comparison_comes_back_do_no_harm(new: Any, then: str, meanwhile: str, count: int) -> None:
    registry = new()
    registry.put("decoy", 0, Owner("decoy"))  # compared with the others, as it has their hash
    registry.put("a", 1, Owner("real"))
    more = iter(range(10_000))
    acts: dict[str, Callable[[], object]] = {
        "clear": registry.clear,
        "drop": lambda: registry.drop_owner(Owner("real")),
        "put": lambda: registry.put(f"more-{next(more)}", 4, Owner("real")),
        "drop and put": lambda: (acts["drop"](), acts["put"]()),
        "many": lambda: [acts["put"]() for _ in range(30)],
    }
    Owner.act, Owner.count = acts[meanwhile], count
    try:
        if then == "put":
            registry.put("c", 3, Owner("real"))
        elif then == "drop_owner":
            registry.drop_owner(Owner("real"))
        elif then == "clear":
            registry.clear()
        elif "a" in registry:
            getattr(registry, then)("a")
    finally:
        Owner.act = None
    registry.check()
    held = [name for name in registry.names() if registry.owner(name) == Owner("real")]
    assert registry.drop_owner(Owner("real")) == len(held)
    assert registry.names() in ([], ["decoy"])
    registry.check()


def test_an_owner_that_cannot_be_compared_is_an_error_and_no_harm() -> None:
    registry = importlib.import_module("erlmcp._core.registry").Registry()

    class Broken(Owner):
        __hash__ = Owner.__hash__

        def __eq__(self, other: object) -> bool:
            raise ZeroDivisionError

    registry.put("a", 1, Broken("a"))
    with pytest.raises(ZeroDivisionError):
        registry.put("b", 2, Broken("b"))
    assert registry.names() == ["a"]
    registry.check()


def test_names_are_looked_up_by_threads_while_others_change_them() -> None:
    registry = importlib.import_module("erlmcp._core.registry").Registry()
    kept = [f"kept-{number}" for number in range(2000)]
    for number, name in enumerate(kept):
        registry.put(name, number, "keeper")
    hashes = np.tile(registry.hashes(kept), 200)  # some milliseconds without the GIL
    expected = registry.find_hashes(hashes)
    rounds = 40
    gate, failed, changing = threading.Barrier(5), [], [1, 2]

    def read() -> None:
        while changing:
            assert np.array_equal(registry.find_hashes(hashes), expected)
            assert registry.get_many(kept) == list(range(2000))

    def change(who: int) -> None:
        try:
            for turn in range(rounds):
                for number in range(100):
                    registry.put(f"{who}-{turn}-{number}", number, who)
                registry.bind(f"key-{who}", f"{who}-{turn}-5")
                for number in range(50):
                    registry.pop(f"{who}-{turn}-{number}")
                assert registry.drop_owner(who) == 50
        finally:
            changing.remove(who)

    def run(act: Callable[[], None]) -> None:
        try:
            gate.wait(60)
            act()
        except BaseException as error:
            failed.append(error)

    acts = [read, read, read, lambda: change(1), lambda: change(2)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=run, args=(act,)) for act in acts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(100)
            assert not thread.is_alive()
    finally:
        sys.setswitchinterval(interval)
    assert not failed, failed
    assert len(registry) == 2000
    registry.check()


def test_every_allocation_can_fail_and_nothing_is_lost() -> None:
    memory = importlib.import_module("erlmcp._core.memory")
    if not memory.IS_CHECKED:
        pytest.skip("needs ERLMCP_BUILD=checked")
    core = importlib.import_module("erlmcp._core.registry")

    def work(registry: Any) -> None:
        registry.watch("", "callback", True)
        for number in range(20):
            registry.put(f"name-{number}", number, number % 3)
            registry.put(f"a name too long for its slot, number {number}".encode(), number)
            registry.bind(f"key-{number}", f"name-{number}")
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
        assert len([event for event in registry.take_events() if event[1] == "added"]) >= len(registry)
        if not finished:
            registry.clear()
            work(registry)
            registry.check()
        del registry
        assert memory.live_blocks() == before
        if finished:
            break
    assert failed > 40


def test_every_allocation_of_python_can_fail_and_nothing_is_half_done() -> None:
    testing = pytest.importorskip("_testcapi")
    core = importlib.import_module("erlmcp._core.registry")
    acts: list[Callable[[Any], object]] = [
        lambda registry: registry.put("new", 1, "new owner"),
        lambda registry: registry.put(b"new in bytes", 1),
        lambda registry: registry.put("a", 2, "owner"),
        lambda registry: registry.put("a", 2, "another"),
        lambda registry: registry.remove("a"),
        lambda registry: registry.pop("b"),
        lambda registry: registry.drop_owner("owner"),
        lambda registry: registry.bind("key", "a"),
        lambda registry: registry.get_many(["a", "é" * 3, "b"]),
        lambda registry: registry.scan(),
        lambda registry: registry.names(),
        lambda registry: registry.clear(),
    ]
    failed = 0
    for act, nth in itertools.product(acts, range(30)):
        registry = core.Registry()
        registry.watch("", "callback", True)
        for name in "abcde":
            registry.put(name, name, "owner")
            registry.join("group", name)
        registry.take_events()
        try:
            testing.set_nomemory(nth, nth + 1)
            act(registry)
        except (MemoryError, ConfigurationError):
            failed += 1
        finally:
            testing.remove_mem_hooks()
        registry.check()
        registry.put("z", 1, "owner")
        assert registry.drop_owner("owner") >= 1
        registry.check()
    assert failed > 20
