"""The room ``table``: an open-addressing hash table from byte strings to objects."""

from __future__ import annotations

import gc
import random
import sys
import weakref

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from erlmcp._core import memory
from erlmcp._core import table as core
from erlmcp._model import table as model
from erlmcp.errors import LimitError


class Thing:
    pass


def test_what_was_put_is_found_again(impl):
    table = impl("table").Table()
    table["tools/call"] = 1
    table[b"tools/list"] = 2
    assert table["tools/call"] == 1
    assert table.get(b"tools/list") == 2
    assert table.get("absent") is None
    assert table.get("absent", 7) == 7
    assert "tools/call" in table
    assert "absent" not in table
    assert len(table) == 2


def test_a_str_and_its_utf8_bytes_are_one_key(impl):
    table = impl("table").Table()
    assert table.put("größe", 1) is True
    assert table.put("größe".encode(), 2) is False
    assert table["größe"] == 2
    assert list(table) == ["größe"]


@pytest.mark.parametrize("key", ["", b"", "x" * 1000, b"\0", b"\0\0", "\U0001f600", "a\0b"])
def test_odd_keys_are_keys(impl, key):
    table = impl("table").Table()
    table[key] = "found"
    assert table[key] == "found"
    assert table.pop(key) == "found"
    assert len(table) == 0


def test_keys_of_every_length_are_told_apart(impl):
    table = impl("table").Table()
    keys = [b"a" * size for size in range(200)] + [b"a" * size + b"b" for size in range(200)]
    for number, key in enumerate(keys):
        table[key] = number
    table.check()
    assert [table[key] for key in keys] == list(range(400))


@pytest.mark.parametrize("key", [1, None, bytearray(b"a"), ("a",)])
def test_other_keys_are_refused(impl, key):
    table = impl("table").Table()
    with pytest.raises(TypeError, match="bytes or str"):
        table[key] = 1
    with pytest.raises(TypeError, match="bytes or str"):
        table.get(key)


def test_a_lone_surrogate_is_refused(impl):
    with pytest.raises(UnicodeEncodeError):
        impl("table").Table().put("\ud800", 1)


def test_an_absent_key_raises_key_error_naming_it(impl):
    table = impl("table").Table()
    for act in (lambda: table["x"], lambda: table.__delitem__("x"), lambda: table.pop("x")):
        with pytest.raises(KeyError) as caught:
            act()
        assert caught.value.args == ("x",)
    assert table.pop("x", None) is None
    assert table.remove("x") is False


def test_the_limit_is_exact_and_names_itself(impl):
    table = impl("table").Table(count_max=3)
    for key in "abc":
        table[key] = key
    with pytest.raises(LimitError) as caught:
        table["d"] = 1
    assert (caught.value.limit, caught.value.maximum) == ("count_max", 3)
    table["a"] = "replaced"
    del table["b"]
    table["d"] = 1
    assert sorted(table.items(), key=str) == [("a", "replaced"), ("c", "c"), ("d", 1)]


@pytest.mark.parametrize("count_max", [0, -1, 1 << 31])
def test_a_limit_out_of_range_is_refused(impl, count_max):
    with pytest.raises(ValueError, match="count_max must be"):
        impl("table").Table(count_max=count_max)


def test_iterating_gives_every_entry_once(impl):
    table = impl("table").Table()
    for i in range(1000):
        table[f"k{i}"] = i
    assert sorted(table) == sorted(f"k{i}" for i in range(1000))
    assert sorted(table.values()) == list(range(1000))
    assert dict(table.items()) == {f"k{i}": i for i in range(1000)}


def test_entries_may_be_removed_while_iterating(impl):
    table = impl("table").Table()
    for i in range(500):
        table[f"k{i}"] = i
    seen = []
    for key in table:
        seen.append(key)
        assert table.remove(key)
        table.check()
    assert len(table) == 0
    assert len(set(seen)) == 500


def test_adding_while_iterating_raises(impl):
    table = impl("table").Table()
    table["a"] = 1
    table["b"] = 2
    walk = iter(table)
    next(walk)
    table["a"] = 3
    table["c"] = 4
    with pytest.raises(RuntimeError, match="added"):
        next(walk)


def test_many_removals_leave_no_probe_behind(impl):
    table = impl("table").Table()
    for i in range(20_000):
        table[f"key{i}"] = i
        if i >= 50:
            assert table.pop(f"key{i - 50}") == i - 50
    table.check()
    assert len(table) == 50
    assert table.probe_max() <= 32


def test_keys_chosen_to_collide_in_a_weak_hash_stay_near_their_slots():
    table = core.Table(seed=1)
    for i in range(4096):
        table[(i << 40).to_bytes(8, "little")] = i
        table[i.to_bytes(8, "big") + bytes(8)] = i
        table[b"\xff" * 16 + i.to_bytes(4, "little")] = i
    table.check()
    assert table.probe_max() < 64


def test_the_seed_decides_the_order():
    orders = set()
    for seed in range(5):
        table = core.Table(seed=seed)
        for i in range(50):
            table[f"k{i}"] = i
        orders.add(tuple(table))
    assert len(orders) == 5


def test_references_are_given_back(impl):
    thing, key = Thing(), "".join(["fresh ", "key"])
    before = sys.getrefcount(thing), sys.getrefcount(key)
    table = impl("table").Table()
    table[key] = thing
    table[key] = thing
    table["other"] = thing
    assert table.pop("other") is thing
    assert table.get(key) is thing
    table["third"] = thing
    assert list(table.items())
    table.clear()
    table[key] = thing
    del table
    assert (sys.getrefcount(thing), sys.getrefcount(key)) == before


def test_a_cycle_through_the_table_is_collected(impl):
    table = impl("table").Table()
    thing = Thing()
    thing.table = table
    table["self"] = table
    table["thing"] = thing
    gone = weakref.ref(thing)
    del table, thing
    gc.collect()
    assert gone() is None


def test_a_destructor_may_call_back_into_the_table(impl):
    table = impl("table").Table()

    class Nosy:
        def __del__(self):
            seen.append(len(table))
            table["from destructor"] = 1
            table.remove("x")

    seen: list[int] = []
    table["x"] = Nosy()
    table["x"] = 1
    table["y"] = Nosy()
    del table["y"]
    for i in range(20):
        table[f"z{i}"] = Nosy()
    table.clear()
    table.check()
    assert seen[:2] == [1, 1]
    assert list(table) == ["from destructor"]


class TableMachine(RuleBasedStateMachine):
    keys = st.integers(0, 60).map(lambda i: f"key {i}" if i % 2 else b"key %d" % i)

    def __init__(self):
        super().__init__()
        self.pair = [room.Table(count_max=40) for room in (core, model)]

    def both(self, act):
        outcomes = []
        for table in self.pair:
            try:
                outcomes.append(act(table))
            except (KeyError, LimitError) as error:
                outcomes.append((type(error), str(error)))
        assert outcomes[0] == outcomes[1]

    @rule(key=keys, value=st.integers())
    def put(self, key, value):
        self.both(lambda table: table.put(key, value))

    @rule(start=st.integers(0, 60), count=st.integers(1, 30))
    def put_many(self, start, count):
        for i in range(start, min(start + count, 61)):
            self.both(lambda table, i=i: table.put(f"key {i}", i))

    @rule(key=keys)
    def get(self, key):
        self.both(lambda table: table[key])
        self.both(lambda table: key in table)

    @rule(key=keys)
    def pop(self, key):
        self.both(lambda table: table.pop(key))

    @rule(start=st.integers(0, 60), count=st.integers(1, 30))
    def remove_many(self, start, count):
        for i in range(start, start + count):
            self.both(lambda table, i=i: table.remove(f"key {i}"))

    @rule()
    def clear(self):
        self.both(lambda table: table.clear())

    @invariant()
    def agree(self):
        for table in self.pair:
            table.check()
        assert len(self.pair[0]) == len(self.pair[1])
        assert dict(self.pair[0].items()) == dict(self.pair[1].items())


TestTableMachine = TableMachine.TestCase
TestTableMachine.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)


@pytest.mark.deep
def test_ten_thousand_steps_keep_core_and_model_together():
    run_state_machine_as_test(TableMachine, settings=settings(max_examples=50, stateful_step_count=200, deadline=None))


@pytest.mark.deep
def test_a_hundred_thousand_random_steps_agree_with_a_dict():
    chance = random.Random(5)
    table, plain = core.Table(), {}
    for step in range(100_000):
        key = f"{chance.randrange(3000)}"
        if chance.random() < 0.5:
            table[key] = plain[key] = step
        else:
            assert table.pop(key, None) == plain.pop(key, None)
        if step % 5000 == 0:
            table.check()
    assert dict(table.items()) == plain


@pytest.mark.skipif(not memory.IS_CHECKED, reason="needs ERLMCP_BUILD=checked")
def test_whichever_allocation_fails_the_table_is_as_it_was():
    before = memory.live_blocks()
    thing = Thing()
    references = sys.getrefcount(thing)
    for count in range(1, 60):
        table, held = core.Table(), set()
        memory.fail_after(count)
        try:
            for i in range(50):
                try:
                    table[f"k{i}"] = thing
                    held.add(f"k{i}")
                except MemoryError:
                    assert i < count
                table.check()
        finally:
            memory.fail_never()
        assert set(table) == held
        # 50 entries and five sizes of the slots take 55 allocations.
        assert len(held) == (49 if count <= 55 else 50)
        del table
        assert memory.live_blocks() == before
        assert sys.getrefcount(thing) == references
