"""The room ``chain``: keys in an order that can be changed in O(1)."""

from __future__ import annotations

import gc
import sys
import weakref

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from erlmcp._core import chain as core
from erlmcp._model import chain as model


class Thing:
    pass


def test_keys_stand_in_the_order_of_adding(impl):
    chain = impl("chain").Chain()
    assert [chain.add(key) for key in ("a", b"b", 3, ("d",))] == [True] * 4
    assert list(chain) == ["a", b"b", 3, ("d",)]
    assert chain.oldest() == "a"
    assert chain.newest() == ("d",)
    assert b"b" in chain
    assert "b" not in chain
    assert len(chain) == 4


def test_adding_a_present_key_moves_nothing(impl):
    chain = impl("chain").Chain()
    chain.add("a")
    chain.add("b")
    assert chain.add("a") is False
    assert list(chain) == ["a", "b"]


def test_a_key_moves_to_either_end(impl):
    chain = impl("chain").Chain()
    for key in "abc":
        chain.add(key)
    chain.move_to_end("a")
    assert list(chain) == ["b", "c", "a"]
    chain.move_to_end("c", last=False)
    assert list(chain) == ["c", "b", "a"]
    with pytest.raises(KeyError):
        chain.move_to_end("x")


def test_keys_are_popped_from_both_ends(impl):
    chain = impl("chain").Chain()
    for key in "abcd":
        chain.add(key)
    assert chain.pop_oldest() == "a"
    assert chain.pop_newest() == "d"
    assert chain.remove("c") is True
    assert chain.remove("c") is False
    assert chain.pop_oldest() == "b"
    assert chain.pop_oldest() is None
    assert chain.pop_newest("nothing") == "nothing"
    assert chain.oldest("nothing") == "nothing"
    assert chain.newest() is None
    chain.check()


def test_changing_the_chain_while_iterating_raises(impl):
    chain = impl("chain").Chain()
    for key in "abc":
        chain.add(key)
    for act in (
        lambda: chain.remove("a"),
        lambda: chain.add("z"),
        lambda: chain.move_to_end("b"),
        lambda: chain.pop_oldest(),
        lambda: chain.clear(),
    ):
        walk = iter(chain)
        next(walk)
        act()
        with pytest.raises(RuntimeError, match="changed"):
            next(walk)
        chain.add("a")


def test_an_unhashable_key_is_refused(impl):
    chain = impl("chain").Chain()
    with pytest.raises(TypeError, match="unhashable"):
        chain.add([])
    assert len(chain) == 0


def test_references_are_given_back(impl):
    key = Thing()
    before = sys.getrefcount(key)
    chain = impl("chain").Chain()
    chain.add(key)
    chain.add(key)
    chain.move_to_end(key)
    assert chain.pop_oldest() is key
    chain.add(key)
    chain.remove(key)
    chain.add(key)
    chain.clear()
    chain.add(key)
    walk = iter(chain)
    next(walk)
    del walk, chain
    gc.collect()
    assert sys.getrefcount(key) == before


def test_a_cycle_through_the_chain_is_collected(impl):
    chain = impl("chain").Chain()
    key = Thing()
    key.chain = chain
    chain.add(key)
    chain.add("other")
    gone = weakref.ref(key)
    del chain, key
    gc.collect()
    assert gone() is None


def test_a_destructor_may_call_back_into_the_chain(impl):
    chain = impl("chain").Chain()

    class Nosy:
        def __del__(self):
            chain.add("from destructor")
            chain.remove("x")

    chain.add("x")
    chain.add(Nosy())
    chain.pop_newest()
    chain.add(Nosy())
    chain.clear()
    chain.check()
    assert list(chain) == ["from destructor"]


def test_a_comparison_may_remove_the_key_that_is_looked_up():
    chain = core.Chain()

    class Sly:
        def __hash__(self):
            return 1

        def __eq__(self, other):
            chain.clear()
            return True

    chain.add(Sly())
    with pytest.raises(KeyError):
        chain.move_to_end(Sly())
    chain.check()
    chain.add(Sly())
    chain.remove(Sly())
    chain.check()
    assert len(chain) == 0


class ChainMachine(RuleBasedStateMachine):
    keys = st.integers(0, 12)

    def __init__(self):
        super().__init__()
        self.pair = [room.Chain() for room in (core, model)]

    def both(self, act):
        outcomes = []
        for chain in self.pair:
            try:
                outcomes.append(act(chain))
            except KeyError as error:
                outcomes.append((type(error), str(error)))
        assert outcomes[0] == outcomes[1]

    @rule(key=keys)
    def add(self, key):
        self.both(lambda chain: chain.add(key))

    @rule(key=keys, last=st.booleans())
    def move_to_end(self, key, last):
        self.both(lambda chain: chain.move_to_end(key, last))

    @rule(key=keys)
    def remove(self, key):
        self.both(lambda chain: chain.remove(key))

    @rule(verb=st.sampled_from(["pop_oldest", "pop_newest", "oldest", "newest"]))
    def end(self, verb):
        self.both(lambda chain: getattr(chain, verb)("empty"))

    @rule()
    def clear(self):
        self.both(lambda chain: chain.clear())

    @invariant()
    def agree(self):
        for chain in self.pair:
            chain.check()
        self.both(lambda chain: (len(chain), list(chain), 5 in chain))


TestChainMachine = ChainMachine.TestCase
TestChainMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.deep
def test_ten_thousand_steps_keep_core_and_model_together():
    run_state_machine_as_test(ChainMachine, settings=settings(max_examples=50, stateful_step_count=200, deadline=None))
