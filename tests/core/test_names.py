"""The table of names: long and short names, probes that wrap, arrays of hashes, readers without the GIL."""

from __future__ import annotations

import array
import gc
import importlib
import random
import sys
import threading
from collections.abc import Callable
from operator import methodcaller
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from erlmcp.errors import LimitError

Impl = Callable[[str], ModuleType]


@pytest.fixture
def new(impl: Impl) -> Any:
    return impl("names").Names


@pytest.mark.parametrize("size", [0, 1, 3, 4, 7, 8, 16, 17, 31, 32, 33, 64, 254, 255, 256, 1000])
def test_names_of_every_size_are_compared_whole(new: Any, size: int) -> None:
    names = new()
    known = {"a" * size, "b" + "a" * size, "a" * size + "b", "a" * (size // 2) + "b" + "a" * (size - size // 2)}
    for number, name in enumerate(sorted(known)):
        assert names.put(name, number)
        assert not names.put(name.encode(), number + 10)
    for number, name in enumerate(sorted(known)):
        assert names[name] == names[name.encode()] == names.get(name) == number + 10
    assert sorted(names.names()) == sorted(name.encode() for name in known)
    assert "c" * (size + 1) not in names
    names.check()


def test_what_is_not_there_is_a_key_error_a_default_or_false(new: Any) -> None:
    names = new()
    for name in ("absent", b"absent", "\ud800", "é\udfff", b"\xff"):
        assert name not in names
        assert names.get(name) is None
        assert names.get(name, 7) == 7
        assert not names.remove(name)
        with pytest.raises(KeyError):
            names[name]
        with pytest.raises(KeyError):
            del names[name]
    names["there"] = 1
    assert names.get_many(["absent", "there", "\ud800", b"there"], 7) == [7, 1, 7, 1]
    with pytest.raises(UnicodeEncodeError):
        names.put("\ud800", 1)
    assert len(names) == 1


@pytest.mark.parametrize("name", [None, 1, ("a",), bytearray(b"a")])
def test_other_types_are_no_names(new: Any, name: Any) -> None:
    names = new()
    assert name not in names
    for use in (names.get, names.__getitem__, names.remove, lambda name: names.put(name, 1)):
        with pytest.raises(TypeError, match="a name is a str or bytes"):
            use(name)
    for use in (names.get_many, names.hashes):
        with pytest.raises(TypeError, match="a name is a str or bytes"):
            use([name])
        with pytest.raises(TypeError, match="a list or a tuple"):
            use("abc")
    names.check()


def test_numbers_are_64_bits(new: Any) -> None:
    names = new()
    names["most"] = 2**64 - 1
    assert names["most"] == 2**64 - 1
    for number in (-1, 2**64):
        with pytest.raises(OverflowError):
            names.put("a", number)
    with pytest.raises(TypeError):
        names.put("a", "1")
    assert names.names() == [b"most"]


def test_count_max_bounds_the_names(new: Any) -> None:
    names = new(count_max=3)
    assert names.count_max == 3
    for name in "abc":
        names[name] = 1
    with pytest.raises(LimitError, match="count_max=3"):
        names["d"] = 1
    names["a"] = 2
    del names["b"]
    names["d"] = 1
    assert sorted(names.names()) == [b"a", b"c", b"d"]
    for count_max in (0, 2**30 + 1):
        with pytest.raises(ValueError, match="count_max"):
            new(count_max=count_max)


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_names_come_and_go_and_leave_nothing_behind(new: Any, seed: int) -> None:
    names, held, draw = new(seed=seed), {}, random.Random(seed)
    for step in range(6000):
        name = f"{'long' * 9 if step % 3 else ''}name-{draw.randrange(300)}"
        if draw.random() < 0.45:
            assert names.remove(name) == (held.pop(name, None) is not None)
        else:
            assert names.put(name, step) == (name not in held)
            held[name] = step
        if step % 500 == 0:
            names.check()
    assert {name.decode(): names[name] for name in names.names()} == held
    for name in list(held):
        del names[name]
    names.check()
    assert len(names) == names.probe_max() == 0
    names.clear()
    names["again"] = 1
    assert names.names() == [b"again"]


def test_a_slot_is_a_cache_line_and_half_of_them_are_free() -> None:
    names = importlib.import_module("erlmcp._core.names").Names()
    assert names.memory_bytes == 0
    for number in range(1024):
        names[f"name-{number}"] = number
    assert names.memory_bytes == 2048 * 64
    assert 1 < names.probe_max() < 100
    names["x" * 100] = 1
    assert names.memory_bytes == 4096 * 64 + 100


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 511, 512, 5000])
def test_arrays_of_hashes_give_arrays_of_numbers(new: Any, count: int) -> None:
    names = new()
    known = [f"name-{number}" for number in range(count)]
    for number, name in enumerate(known):
        names[name] = number
    hashes = names.hashes([*known, "absent", "\ud800", *[name.encode() for name in known]])
    assert (hashes.dtype, len(hashes)) == (np.uint64, 2 * count + 2)
    expected = [*range(count), -1, -1, *range(count)]
    found = names.find_hashes(hashes)
    assert found.dtype == np.int64
    assert found.tolist() == expected
    assert names.find_hashes(array.array("Q", hashes.tolist())).tolist() == expected
    out = np.empty(len(hashes), np.int64)
    assert names.find_hashes(hashes, out) is out
    assert out.tolist() == expected
    assert names.find_hashes(hashes, hashes.view(np.int64)).tolist() == expected
    assert hashes.view(np.int64).tolist() == expected


def test_an_empty_table_finds_no_hash_and_a_number_is_given_signed(new: Any) -> None:
    names = new()
    assert names.find_hashes(np.array([0, 1, 2**63, 2**64 - 1], np.uint64)).tolist() == [-1] * 4
    names["most"] = 2**64 - 2
    assert names.find_hashes(names.hashes(["most"])).tolist() == [-2]


def test_other_arrays_are_refused(new: Any) -> None:
    names = new()
    good = np.zeros(4, np.uint64)
    for bad in (np.zeros(4, np.int64), np.zeros(4, np.uint32), np.zeros(4), b"12345678", np.zeros(4, ">u8")):
        with pytest.raises(TypeError, match="expected an array of uint64"):
            names.find_hashes(bad)
        with pytest.raises(TypeError, match="expected an array of int64"):
            names.find_hashes(good, np.zeros(4, np.uint64))
    with pytest.raises(TypeError):
        names.find_hashes([1, 2])
    with pytest.raises((ValueError, BufferError)):
        names.find_hashes(np.zeros(8, np.uint64)[::2])
    readonly = np.zeros(4, np.int64)
    readonly.flags.writeable = False
    with pytest.raises((ValueError, BufferError)):
        names.find_hashes(good, readonly)
    with pytest.raises(ValueError, match="out has room for 3 numbers, 4 are wanted"):
        names.find_hashes(good, np.zeros(3, np.int64))


def test_get_many_agrees_with_get_in_a_large_table(new: Any) -> None:
    names = new()
    known = [f"some/{'longer/' * (number % 7)}name/{number}" for number in range(3000)]
    for number, name in enumerate(known):
        names[name] = number
    asked: list[Any] = [*known[::3], "absent", *[name.encode() for name in known[::7]]]
    assert names.get_many(asked, -1) == names.get_many(tuple(asked), -1) == [names.get(name, -1) for name in asked]
    assert names.get_many([]) == []


def test_a_list_that_is_none_is_read_by_its_own_iteration(new: Any) -> None:
    names = new()
    names["a"] = 1

    class Odd(list[str]):
        def __iter__(self) -> Any:
            for number in range(100):
                names[f"put while it is read {number}"] = number
            return iter(["a"])

    assert names.get_many(Odd()) == [1]
    names.check()


def test_a_name_without_a_utf8_form_starts_no_collection(new: Any) -> None:
    """The encoder's complaint would be an object of the collector, which runs foreign code in the midst of a lookup."""
    if new.__module__.startswith("erlmcp._model"):
        pytest.skip("the twin has no memory of its own to lose")
    names, seen, before = new(), [], gc.get_threshold()
    names["a"] = 1
    get, bad = names.get, "\ud800" + "é" * 20
    gc.callbacks.append(lambda phase, info: seen.append(phase))
    try:
        gc.set_threshold(1)
        for _ in range(100):
            get(bad)
    finally:
        gc.set_threshold(*before)
        gc.callbacks.pop()
    assert seen == []


def in_threads(*acts: Callable[[], object]) -> None:
    """Runs each in a thread of its own, all released at once."""
    gate = threading.Barrier(len(acts))
    failed: list[BaseException] = []

    def run(act: Callable[[], object]) -> None:
        try:
            gate.wait(60)
            act()
        except BaseException as error:
            failed.append(error)

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


def test_changes_wait_at_the_door_until_readers_are_out() -> None:
    names = importlib.import_module("erlmcp._core.names").Names()
    kept = [f"kept-{number}" for number in range(2000)]
    for number, name in enumerate(kept):
        names[name] = number
    hashes = np.tile(names.hashes(kept), 200)  # some milliseconds without the GIL
    expected = np.tile(np.arange(2000), 200)
    rounds = 60
    changing = [1, 2]

    def read() -> None:
        while changing:
            assert np.array_equal(names.find_hashes(hashes), expected)

    def change(who: int) -> None:
        try:
            for turn in range(rounds):
                for number in range(200):  # the slots move, and the table grows
                    names[f"other-{who}-{turn}-{number}"] = number
                for number in range(0, 200, 2):
                    del names[f"other-{who}-{turn}-{number}"]
        finally:
            changing.remove(who)

    in_threads(read, read, lambda: change(1), lambda: change(2))
    assert len(names) == 2000 + 2 * rounds * 100
    names.check()


def test_every_allocation_can_fail_and_nothing_is_lost() -> None:
    memory = importlib.import_module("erlmcp._core.memory")
    if not memory.IS_CHECKED:
        pytest.skip("needs ERLMCP_BUILD=checked")
    before = memory.live_blocks()
    failed = 0
    for nth in range(1, 200):
        names = importlib.import_module("erlmcp._core.names").Names()
        memory.fail_after(nth)
        put = 0
        try:
            for number in range(40):
                put += names.put(f"{'x' * (number % 2 * 40)}{number}", number)
        except MemoryError:
            failed += 1
        finally:
            memory.fail_never()
        names.check()
        assert len(names) == put
        assert sorted(names.get_many(names.names())) == list(range(put))
        del names
        assert memory.live_blocks() == before
        if put == 40:
            break
    assert failed > 20


NAMES = st.sampled_from(
    ["", "a", "b", "ab", "é", "name-1", "x" * 32, "x" * 33, "x" * 40, "y" * 255, "y" * 300, "\ud800"]
)


class NamesMachine(RuleBasedStateMachine):
    """Core and model in step: the same answers, the same errors."""

    @initialize(count_max=st.sampled_from([1, 3, 8, 100]), seed=st.sampled_from([None, 0, 12345]))
    def start(self, count_max: int, seed: int | None) -> None:
        rooms = [importlib.import_module(f"erlmcp.{side}.names") for side in ("_core", "_model")]
        self.both = [room.Names(count_max=count_max, seed=seed) for room in rooms]
        self.next = 0

    def same(self, act: Callable[[Any], Any]) -> None:
        answers = []
        for names in self.both:
            try:
                answers.append(act(names))
            except (KeyError, TypeError, ValueError, OverflowError, LimitError) as error:
                answers.append((type(error), str(error)))
        assert answers[0] == answers[1]

    @rule(name=NAMES, as_bytes=st.booleans())
    def put(self, name: str, as_bytes: bool) -> None:
        self.next += 1
        self.same(lambda names: names.put(name.encode("utf-8", "replace") if as_bytes else name, self.next))

    @rule(prefix=NAMES, count=st.integers(1, 40))
    def put_many(self, prefix: str, count: int) -> None:
        for number in range(count):
            self.same(methodcaller("put", f"{prefix}{number}", number))

    @rule(prefix=NAMES, count=st.integers(1, 40), step=st.integers(1, 3))
    def remove_many(self, prefix: str, count: int, step: int) -> None:
        for number in range(0, count, step):
            self.same(methodcaller("remove", f"{prefix}{number}"))

    @rule(name=NAMES, method=st.sampled_from(["remove", "__delitem__", "get", "__getitem__", "__contains__"]))
    def use(self, name: str, method: str) -> None:
        self.same(lambda names: getattr(names, method)(name))

    @rule(asked=st.lists(NAMES, max_size=70))
    def find(self, asked: list[str]) -> None:
        self.same(lambda names: names.get_many(asked, -1))
        self.same(lambda names: names.find_hashes(names.hashes(asked)).tolist())

    @rule()
    def clear(self) -> None:
        self.same(lambda names: names.clear())

    @invariant()
    def is_whole(self) -> None:
        for names in getattr(self, "both", []):
            names.check()
        if hasattr(self, "both"):
            self.same(lambda names: (len(names), sorted(names.names())))


TestNamesMachine = NamesMachine.TestCase


@pytest.mark.deep
class TestNamesMachineDeep(NamesMachine.TestCase):  # type: ignore[misc,valid-type]
    settings = settings(max_examples=250, stateful_step_count=100, deadline=None)
