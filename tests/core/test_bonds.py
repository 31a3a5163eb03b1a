"""Bindings, groups and watches by themselves."""

from __future__ import annotations

import gc
import importlib
import itertools
import sys
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from erlmcp.errors import LimitError

Impl = Callable[[str], ModuleType]


@pytest.fixture
def new(impl: Impl) -> Any:
    return impl("bonds").Bonds


def test_a_key_is_bound_to_one_name_at_a_time(new: Any) -> None:
    bonds = new()
    assert bonds.binding("key") is None
    bonds.bind("key", "name")
    bonds.bind(b"key", "name")
    assert bonds.binding("key") == bonds.binding(b"key") == "name"
    assert len(bonds) == 1
    bonds.bind("key", "other")
    assert (bonds.bindings("name"), bonds.bindings("other")) == ([], ["key"])
    assert len(bonds) == 1
    assert bonds.unbind("key")
    assert not bonds.unbind("key")
    assert bonds.binding("key") is None
    assert len(bonds) == 0
    bonds.check()


def test_the_keys_of_a_name_come_in_the_order_of_their_binding(new: Any) -> None:
    bonds = new()
    for key in "cab":
        bonds.bind(key, "name")
    bonds.bind("c", "name")
    assert bonds.bindings(b"name") == ["c", "a", "b"]
    bonds.bind("c", "other")
    bonds.bind("c", "name")
    assert bonds.bindings("name") == ["a", "b", "c"]


def test_a_binding_goes_with_either_end(new: Any) -> None:
    bonds = new()
    bonds.bind("transport", "server")
    bonds.bind("other transport", "server")
    bonds.bind("server", "cluster")
    bonds.bind("itself", "itself")
    bonds.forget("transport")
    assert bonds.bindings("server") == ["other transport"]
    bonds.forget("server")
    assert bonds.binding("other transport") is bonds.binding("server") is None
    assert bonds.bindings("cluster") == []
    bonds.forget("itself")
    bonds.forget("nothing")
    assert len(bonds) == 0
    bonds.check()


def test_a_name_is_a_member_of_groups_until_it_leaves_or_goes(new: Any) -> None:
    bonds = new()
    assert bonds.join("group", "b")
    assert bonds.join("group", "a")
    assert bonds.join(b"another", b"a")
    assert not bonds.join("group", "a")
    assert bonds.members("group") == ["b", "a"]
    assert bonds.groups("a") == ["group", "another"]
    assert sorted(bonds.groups()) == ["another", "group"]
    assert bonds.leave("group", "b")
    assert not bonds.leave("group", "b")
    assert not bonds.leave("absent", "b")
    bonds.forget("a")
    assert bonds.groups() == bonds.members("group") == bonds.groups("a") == []
    assert len(bonds) == 0
    bonds.check()


def test_a_watch_learns_of_its_name_or_of_all_that_begin_with_it(new: Any) -> None:
    bonds = new()
    bonds.tell("added", "nobody watches yet")
    numbers = [
        bonds.watch("tool/a", "exact"),
        bonds.watch("tool/", "prefix", is_prefix=True),
        bonds.watch("", "all", True),
        bonds.watch(b"tool/a", "exact too"),
        bonds.watch("tool/a", "as a prefix", True),
    ]
    assert len(set(numbers)) == len(bonds) == 5
    bonds.tell("added", "tool/a", 1)
    bonds.tell("changed", b"tool/ab", 2)
    bonds.tell("removed", "tool", 3)
    assert bonds.take_events() == [
        ("exact", "added", "tool/a", 1),
        ("prefix", "added", "tool/a", 1),
        ("all", "added", "tool/a", 1),
        ("exact too", "added", "tool/a", 1),
        ("as a prefix", "added", "tool/a", 1),
        ("prefix", "changed", "tool/ab", 2),
        ("all", "changed", "tool/ab", 2),
        ("as a prefix", "changed", "tool/ab", 2),
        ("all", "removed", "tool", 3),
    ]
    assert bonds.take_events() == []
    for number in numbers[1:]:
        assert bonds.unwatch(number)
        assert not bonds.unwatch(number)
    bonds.check()
    bonds.tell("added", "tool/a", 4)
    assert bonds.unwatch(numbers[0])
    bonds.tell("removed", "tool/a", 4)
    assert bonds.take_events() == [("exact", "added", "tool/a", 4)]
    assert len(bonds) == 0
    bonds.check()


def test_two_watches_of_one_prefix_are_two(new: Any) -> None:
    bonds = new()
    first, second = bonds.watch("a", 1, True), bonds.watch("a", 2, True)
    bonds.unwatch(first)
    bonds.check()
    bonds.tell("added", "ab")
    assert bonds.take_events() == [(2, "added", "ab", None)]
    bonds.unwatch(second)
    bonds.tell("added", "ab")
    assert bonds.take_events() == []
    bonds.check()


def test_prefixes_are_measured_in_characters(new: Any) -> None:
    bonds = new()
    bonds.watch("日本", 1, True)
    bonds.watch("日本語".encode(), 2, True)
    bonds.tell("added", "日本語で")
    bonds.tell("added", "日本")
    assert [event[0] for event in bonds.take_events()] == [1, 2, 1]


def test_events_that_find_no_room_are_counted_as_lost(new: Any) -> None:
    bonds = new(10, 3)
    assert (bonds.count_max, bonds.event_count_max, bonds.lost_event_count) == (10, 3, 0)
    bonds.watch("", "a", True)
    bonds.watch("", "b", True)
    for number in range(3):
        bonds.tell("added", str(number))
    assert bonds.lost_event_count == 3
    assert [(event[0], event[2]) for event in bonds.take_events()] == [("a", "0"), ("b", "0"), ("a", "1")]
    bonds.tell("added", "3")
    assert len(bonds.take_events()) == 2
    assert bonds.lost_event_count == 3
    bonds.check()


def test_count_max_bounds_bindings_memberships_and_watches_together(new: Any) -> None:
    bonds = new(3)
    bonds.bind("key", "name")
    bonds.join("group", "name")
    number = bonds.watch("name", print)
    for more in (
        lambda: bonds.bind("other", "name"),
        lambda: bonds.join("other", "name"),
        lambda: bonds.watch("other", print),
    ):
        with pytest.raises(LimitError, match="bond_count_max=3") as caught:
            more()
        assert caught.value.limit == "bond_count_max"
    bonds.bind("key", "other")
    assert not bonds.join("group", "name")
    bonds.unwatch(number)
    bonds.bind("other", "name")
    bonds.check()
    for counts in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="1 or more"):
            new(*counts)


def test_clearing_leaves_the_watches(new: Any) -> None:
    bonds = new()
    bonds.bind("key", "name")
    bonds.join("group", "name")
    bonds.watch("name", "callback")
    bonds.clear()
    assert (bonds.binding("key"), bonds.members("group"), len(bonds)) == (None, [], 1)
    bonds.tell("added", "name")
    assert len(bonds.take_events()) == 1
    bonds.check()


def test_other_types_are_refused(new: Any) -> None:
    bonds = new()
    for use in (
        lambda: bonds.bind(1, "name"),
        lambda: bonds.bind("key", None),
        lambda: bonds.join(bytearray(b"a"), "name"),
        lambda: bonds.members(1),
        lambda: bonds.watch(1, print),
        lambda: bonds.tell("added", 1),
        lambda: bonds.forget(None),
        lambda: bonds.unwatch("1"),
        lambda: bonds.unwatch(1.0),
    ):
        with pytest.raises(TypeError):
            use()
    with pytest.raises(UnicodeDecodeError):
        bonds.bind(b"\xff", "name")
    assert len(bonds) == 0


def test_a_subclass_of_str_is_the_text_it_spells(new: Any) -> None:
    class Loud(str):
        __slots__ = ()

        def __hash__(self) -> int:
            raise AssertionError("not to be called")

        def __eq__(self, other: object) -> bool:
            raise AssertionError("not to be called")

    bonds = new()
    bonds.bind(Loud("key"), Loud("name"))
    bonds.join(Loud("group"), Loud("name"))
    assert bonds.binding("key") == "name"
    assert [type(text) for text in (bonds.binding("key"), *bonds.bindings("name"), *bonds.members("group"))] == [
        str
    ] * 3


def test_a_callback_that_refers_to_its_bonds_is_collected(new: Any) -> None:
    class Callback:
        def __init__(self, bonds: Any) -> None:
            self.bonds = bonds

    bonds = new()
    callback, entry = Callback(bonds), Callback(bonds)
    alive = [weakref.ref(callback), weakref.ref(entry)]
    bonds.watch("name", callback)
    bonds.tell("added", "name", entry)
    del bonds, callback, entry
    gc.collect()
    assert [ref() for ref in alive] == [None, None]


def test_references_are_given_back(new: Any) -> None:
    bonds = new(100, 2)
    things = [object(), object(), "a name that nobody has", "a key that nobody has", "a group that nobody has"]
    callback, entry, name, key, group = things
    before = [sys.getrefcount(thing) for thing in things]
    for _ in range(10):
        bonds.bind(key, name), bonds.bind(key, group), bonds.bind(key, name), bonds.join(group, name)
        number = bonds.watch(name, callback)
        for _ in range(4):
            bonds.tell("added", name, entry)
        bonds.take_events(), bonds.groups(), bonds.bindings(name), bonds.members(group)
        bonds.unwatch(number)
        bonds.forget(name)
        bonds.bind(key, name)
        bonds.clear()
    assert [sys.getrefcount(thing) for thing in things] == before


def setdefault_tells(testing: Any) -> bool:
    """Whether dict.setdefault raises where memory runs out; that of CPython 3.13.0 gives the value, and no entry."""
    for count in range(40):
        found, put = dict.fromkeys(map(str, range(count))), None
        try:
            testing.set_nomemory(0, 1)
            put = found.setdefault("another", found)
            testing.remove_mem_hooks()
        except MemoryError:
            testing.remove_mem_hooks()
        except SystemError:  # the call after it finds the exception
            return False
        if put is not None and "another" not in found:
            return False
    return True


def test_every_allocation_of_python_can_fail_and_nothing_is_half_done() -> None:
    testing = pytest.importorskip("_testcapi")
    if not setdefault_tells(testing):
        pytest.skip("this interpreter's dict.setdefault hides that memory ran out")
    kind = importlib.import_module("erlmcp._core.bonds").Bonds
    acts: list[Callable[[Any], object]] = [
        lambda bonds: bonds.bind("key", "name"),
        lambda bonds: bonds.bind("old key", "other"),
        lambda bonds: bonds.join("group", "name"),
        lambda bonds: bonds.join("old group", "name"),
        lambda bonds: bonds.watch("a longer prefix", print, True),
        lambda bonds: bonds.watch("name", print),
        lambda bonds: bonds.tell("added", "old name", 1),
        lambda bonds: bonds.forget("old name"),
        lambda bonds: bonds.take_events(),
    ]
    failed = 0
    for act, filled, nth in itertools.product(acts, range(3, 12), range(12)):
        bonds = kind()
        for number in range(filled):  # at some of the sizes one more makes a dict grow
            bonds.bind(f"key-{number}", "name" if number % 2 else "old name")
            bonds.join(f"group-{number}", "name")
            bonds.watch(f"name-{number}", print, number % 2)
        bonds.bind("old key", "old name")
        bonds.join("old group", "old name")
        bonds.watch("old name", print)
        bonds.watch("old", print, True)
        bonds.tell("added", "old name")
        before = len(bonds)
        try:
            testing.set_nomemory(nth, nth + 1)
            act(bonds)
        except MemoryError:
            failed += 1
            assert len(bonds) == before
        finally:
            testing.remove_mem_hooks()
        bonds.check()
        bonds.tell("removed", "old name")
        assert len(bonds.take_events()) >= 2
        bonds.check()
    assert failed > 20


TEXTS = st.sampled_from(["", "a", "ab", "abc", "b", "é", "日本", "日"])


class BondsMachine(RuleBasedStateMachine):
    """Core and model in step: the same answers, the same errors."""

    @initialize(count_max=st.sampled_from([1, 5, 100]), event_count_max=st.sampled_from([1, 7, 1000]))
    def start(self, count_max: int, event_count_max: int) -> None:
        rooms = [importlib.import_module(f"erlmcp.{side}.bonds") for side in ("_core", "_model")]
        self.both = [room.Bonds(count_max, event_count_max) for room in rooms]
        self.next = 0

    def same(self, act: Callable[[Any], Any]) -> Any:
        answers = []
        for bonds in self.both:
            try:
                answers.append(act(bonds))
            except (TypeError, ValueError, LimitError) as error:
                answers.append((type(error), str(error)))
        assert answers[0] == answers[1]
        return answers[0]

    @rule(method=st.sampled_from(["bind", "join", "leave"]), one=TEXTS, other=TEXTS)
    def tie(self, method: str, one: str, other: str) -> None:
        self.same(lambda bonds: getattr(bonds, method)(one, other.encode()))

    @rule(method=st.sampled_from(["unbind", "binding", "bindings", "members", "groups", "forget"]), text=TEXTS)
    def use(self, method: str, text: str) -> None:
        self.same(lambda bonds: getattr(bonds, method)(text))

    @rule(text=TEXTS, is_prefix=st.booleans())
    def watch(self, text: str, is_prefix: bool) -> None:
        self.next += 1
        self.same(lambda bonds: bonds.watch(text, self.next, is_prefix))

    @rule(number=st.integers(0, 20))
    def unwatch(self, number: int) -> None:
        self.same(lambda bonds: bonds.unwatch(number))

    @rule(text=TEXTS, kind=st.sampled_from(["added", "changed", "removed"]))
    def tell(self, text: str, kind: str) -> None:
        self.same(lambda bonds: bonds.tell(kind, text, text))

    @rule()
    def take_events(self) -> None:
        self.same(lambda bonds: bonds.take_events())

    @rule(is_sure=st.integers(0, 5))
    def clear(self, is_sure: int) -> None:
        if is_sure == 0:
            self.same(lambda bonds: bonds.clear())

    @invariant()
    def is_whole(self) -> None:
        for bonds in getattr(self, "both", []):
            bonds.check()
        if hasattr(self, "both"):
            self.same(lambda bonds: (len(bonds), bonds.lost_event_count, sorted(bonds.groups())))


TestBondsMachine = BondsMachine.TestCase


@pytest.mark.deep
class TestBondsMachineDeep(BondsMachine.TestCase):  # type: ignore[misc,valid-type]
    settings = settings(max_examples=250, stateful_step_count=100, deadline=None)
