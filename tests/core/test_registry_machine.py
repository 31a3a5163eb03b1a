"""The registry: core and model do the same, whatever the order of calls."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from erlmcp.errors import ConfigurationError, LimitError

NAMES = st.sampled_from(["", "a", "b", "c", "ab", "é", "name-1", "name-2", "x" * 40, "\ud800"])
TEXTS = st.sampled_from(["", "a", "b", "ab", "é", "name-"])
OWNERS = st.sampled_from([None, 1, 2, "one"])


def scan_all(registry: Any, count: int) -> list[tuple[str, Any]]:
    cursor, found = registry.scan(0, count)
    while cursor:
        cursor, more = registry.scan(cursor, count)
        found += more
    return list(found)


class RegistryMachine(RuleBasedStateMachine):
    """Core and model in step: the same answers, the same errors, the same indices."""

    @initialize(
        count_max=st.sampled_from([1, 3, 5, 100]),
        bond_count_max=st.sampled_from([1, 4, 100]),
        event_count_max=st.sampled_from([1, 5, 1000]),
    )
    def start(self, count_max: int, **limits: int) -> None:
        rooms = [importlib.import_module(f"erlmcp.{side}.registry") for side in ("_core", "_model")]
        self.both = [room.Registry(count_max, **limits) for room in rooms]
        self.next = 0

    def same(self, method: str, *args: Any) -> None:
        answers = []
        for registry in self.both:
            try:
                answers.append(getattr(registry, method)(*args))
            except (KeyError, TypeError, ValueError, ConfigurationError, LimitError) as error:
                answers.append((type(error), str(error)))
        if method == "names" or (method == "groups" and not args):
            assert sorted(answers[0]) == sorted(answers[1])
        else:
            assert answers[0] == answers[1]

    @rule(name=NAMES, owner=OWNERS, as_bytes=st.booleans())
    def put(self, name: str, owner: Any, as_bytes: bool) -> None:
        self.next += 1
        self.same("put", name.encode("utf-8", "surrogatepass") if as_bytes else name, self.next, owner)

    @rule(prefix=TEXTS, count=st.integers(1, 30), owner=OWNERS)
    def put_many(self, prefix: str, count: int, owner: Any) -> None:
        for number in range(count):
            self.same("put", f"{prefix}{number}", number, owner)

    @rule(name=NAMES, method=st.sampled_from(["remove", "pop", "__delitem__", "get", "__getitem__", "owner"]))
    def use(self, name: str, method: str) -> None:
        self.same(method, name)

    @rule(names=st.lists(NAMES, max_size=70))
    def find(self, names: list[str]) -> None:
        self.same("get_many", names)
        indices = [registry.find_hashes(registry.hashes(names)) for registry in self.both]
        assert indices[0].tolist() == indices[1].tolist()
        self.same("entries_at", indices[0], -1)
        self.same("names_at", indices[0])

    @rule(owner=OWNERS)
    def drop_owner(self, owner: Any) -> None:
        self.same("drop_owner", owner)

    @rule(prefix=st.one_of(NAMES, st.sampled_from([b"\xc3", b"\xff"])))
    def list_names(self, prefix: Any) -> None:
        self.same("names", prefix)

    @rule(method=st.sampled_from(["bind", "join", "leave"]), one=TEXTS, name=NAMES)
    def tie(self, method: str, one: str, name: str) -> None:
        self.same(method, one, name)

    @rule(method=st.sampled_from(["unbind", "binding", "bindings", "members", "groups"]), text=NAMES)
    def use_ties(self, method: str, text: str) -> None:
        self.same(method, text)

    @rule(text=TEXTS, is_prefix=st.booleans())
    def watch(self, text: str, is_prefix: bool) -> None:
        self.next += 1
        self.same("watch", text, self.next, is_prefix)

    @rule(number=st.integers(0, 20))
    def unwatch(self, number: int) -> None:
        self.same("unwatch", number)

    @rule()
    def take_events(self) -> None:
        self.same("take_events")

    @rule(count=st.integers(1, 4))
    def scan(self, count: int) -> None:
        found = [scan_all(registry, count) for registry in self.both]
        assert found[0] == found[1]

    @rule(is_sure=st.integers(0, 5))
    def clear(self, is_sure: int) -> None:
        if is_sure == 0:
            self.same("clear")

    @invariant()
    def is_whole(self) -> None:
        for registry in getattr(self, "both", []):
            registry.check()
        if hasattr(self, "both"):
            self.same("__len__")
            self.same("groups")
            lost = [registry.lost_event_count for registry in self.both]
            assert lost[0] == lost[1]


TestRegistryMachine = RegistryMachine.TestCase


@pytest.mark.deep
class TestRegistryMachineDeep(RegistryMachine.TestCase):  # type: ignore[misc,valid-type]
    settings = settings(max_examples=250, stateful_step_count=100, deadline=None)
