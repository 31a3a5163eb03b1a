"""The pool: core and model do the same, whatever the order of calls."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule


def scan_all(pool: Any, count: int) -> list[Any]:
    cursor, found = pool.scan(0, count)
    while cursor:
        cursor, more = pool.scan(cursor, count)
        found += more
    return list(found)


class PoolMachine(RuleBasedStateMachine):
    """Core and model in step: the same answers, the same errors, the same handles."""

    @initialize(
        count_max=st.sampled_from([1, 3, 20, 50]),
        count_min=st.sampled_from([0, 1]),
        idle_ns=st.sampled_from([0, 5, 20]),
        age_ns=st.sampled_from([0, 8, 30]),
    )
    def start(self, count_max: int, **options: int) -> None:
        rooms = [importlib.import_module(f"erlmcp.{side}.pool") for side in ("_core", "_model")]
        self.both = [room.Pool(count_max, **options) for room in rooms]
        self.leases: list[tuple[Any, Any]] = []
        self.next = 0

    def same(self, act: Callable[[Any, int], Any]) -> list[Any]:
        """The answers of both, which must agree; a Lease is compared by its handle."""
        answers = []
        for side, pool in enumerate(self.both):
            try:
                answers.append(act(pool, side))
            except (ValueError, LookupError, OverflowError) as error:
                answers.append((type(error), str(error)))
        assert self.flat(answers[0]) == self.flat(answers[1])
        return answers

    def flat(self, answer: Any) -> Any:
        if isinstance(answer, list):
            return [self.flat(each) for each in answer]
        return getattr(answer, "handle", answer)

    def keep(self, answers: list[Any]) -> None:
        if hasattr(answers[0], "handle"):
            self.leases.append((answers[0], answers[1]))

    def pick(self, number: int) -> tuple[Any, Any]:
        return self.leases[number % len(self.leases)]

    @rule(count=st.integers(1, 9))
    def add(self, count: int) -> None:
        for _ in range(count):
            self.next += 1
            self.same(lambda pool, _: pool.add(self.next))

    @rule(number=st.integers(0, 9))
    def reserve(self, number: int) -> None:
        self.same(lambda pool, _: pool.reserve())
        self.next += 1
        if number < 4:
            self.keep(self.same(lambda pool, _: pool.lend_new(self.next, number)))
        elif number < 7:
            self.same(lambda pool, _: pool.add(self.next, is_reserved=True))
        elif number < 9:
            self.same(lambda pool, _: pool.unreserve())

    @rule(who=st.sampled_from([None, "a", "b"]))
    def lend(self, who: Any) -> None:
        self.keep(self.same(lambda pool, _: pool.lend_to(who) if who else pool.lend()))

    @rule(count=st.integers(-1, 60), who=st.sampled_from([None, None, "c"]))
    def lend_many(self, count: int, who: Any) -> None:
        answers = self.same(lambda pool, _: pool.lend_many(count, who))
        if count >= 0:
            self.leases += zip(*answers, strict=True)

    @rule(
        number=st.integers(0, 1 << 20), how=st.sampled_from(["take_back", "take_back", "take_back", "retire", "with"])
    )
    def end(self, number: int, how: str) -> None:
        if self.leases:
            pair = self.pick(number)
            if how == "with":
                self.same(lambda _, side: pair[side].__exit__(None, None, None))
            else:
                self.same(lambda pool, side: getattr(pool, how)(pair[side]))

    @rule(numbers=st.lists(st.integers(0, 1 << 20), max_size=30))
    def take_back_many(self, numbers: list[int]) -> None:
        if self.leases:
            pairs = [self.pick(number) for number in numbers]
            self.same(lambda pool, side: pool.take_back_many([pair[side] for pair in pairs]))

    @rule(index=st.integers(0, 40), generation=st.integers(0, 9))
    def reclaim(self, index: int, generation: int) -> None:
        self.same(lambda pool, _: pool.reclaim(generation << 32 | index))

    @rule(number=st.integers(0, 1 << 20), is_dropped=st.booleans())
    def forget_a_lease(self, number: int, is_dropped: bool) -> None:
        if self.leases:
            pair = self.leases.pop(number % len(self.leases))
            if not is_dropped:
                self.same(lambda pool, side: pool.reclaim(pair[side]))

    @rule(later=st.integers(0, 12), is_pushed=st.booleans())
    def expire(self, later: int, is_pushed: bool) -> None:
        now_ns = self.both[0].now_ns + later
        if is_pushed:
            for pool in self.both:
                pool.now_ns = now_ns
        else:
            self.same(lambda pool, _: pool.expire(now_ns))

    @rule()
    def retire_all(self) -> None:
        self.same(lambda pool, _: pool.retire_all())

    @rule(older_than_ns=st.integers(0, 9))
    def leaks(self, older_than_ns: int) -> None:
        def read(pool: Any, _: int) -> Any:
            found = pool.leaks(older_than_ns)
            return [(leak.handle, leak.member, leak.who, leak.age_ns, leak.is_lost) for leak in found]

        self.same(read)

    @rule(count=st.integers(1, 9))
    def scan(self, count: int) -> None:
        self.same(lambda pool, _: scan_all(pool, count))

    @invariant()
    def is_whole(self) -> None:
        for pool in getattr(self, "both", []):
            pool.check()
        if hasattr(self, "both"):
            self.same(lambda pool, _: (len(pool), pool.room, pool.shortage, pool.lent_count, pool.stats()))


TestPoolMachine = PoolMachine.TestCase


@pytest.mark.deep
class TestPoolMachineDeep(PoolMachine.TestCase):  # type: ignore[misc,valid-type]
    settings = settings(max_examples=250, stateful_step_count=100, deadline=None)
