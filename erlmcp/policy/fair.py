"""Whose turn it is: owners that want more than there is get it by their weights, the urgent first, all in the end.

Three levels (critical, normal, bulk). A take goes to the highest level that has something, and passes over those below
it; a level that was passed over ``age_takes`` times since its last turn has the next one, as in ``core.Lanes``. Within
a level the owners take turns by deficit round robin (Shreedhar and Varghese, 1996): an owner's turn begins with
``weight * cost_max`` added to what it has left, and lasts while the next of its items costs no more than that. An
owner whose items are gone loses what it had left, so nobody saves up for a burst.

What follows: as no item costs more than ``cost_max``, each turn gives at least one item, and a take looks at two owners
at most, however many there are. While two owners of one level both have items, the costs taken for each differ from
the ratio of their weights by less than a turn and an item of each. An item waits for at most the turns of the others
for each of those before it of its owner.

What is not known: how long an item will take. A cost is a guess given beforehand, and shares are shares of these.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

T = TypeVar("T", bound=Hashable)

CRITICAL: Final = 0
NORMAL: Final = 1
BULK: Final = 2
LEVELS: Final = (CRITICAL, NORMAL, BULK)
WEIGHT_MAX: Final = 1_000


@dataclass(slots=True)
class _Line(Generic[T]):
    """The items of one owner on one level, with their costs."""

    items: OrderedDict[T, int] = field(default_factory=OrderedDict)
    left: int = 0  # what the owner may still take in this turn
    has_turn: bool = False


class FairShare(Generic[T]):
    """Items of owners, each item at most once on a level of an owner. One step under the GIL, O(1) each but ``drop``.

    An owner weighs 1 where ``weigh`` said nothing else of it.
    """

    __slots__ = ("_count", "_levels", "_passed", "_weights", "age_takes", "cost_max")

    def __init__(self, *, cost_max: int = 1, age_takes: int = 64) -> None:
        """ValueError where one of them is below 1."""
        if cost_max < 1 or age_takes < 1:
            raise ValueError(f"cost_max and age_takes are at least 1, got {cost_max} and {age_takes}")
        self.cost_max = cost_max
        self.age_takes = age_takes
        self._levels: tuple[OrderedDict[Hashable, _Line[T]], ...] = (OrderedDict(), OrderedDict(), OrderedDict())
        self._passed = [0, 0, 0]
        self._weights: dict[Hashable, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def weigh(self, owner: Hashable, weight: int) -> None:
        """From its next turn on. ValueError for a weight out of 1 to 1,000."""
        if not 1 <= weight <= WEIGHT_MAX:
            raise ValueError(f"a weight is from 1 to {WEIGHT_MAX}, got {weight}")
        if weight == 1:
            self._weights.pop(owner, None)
        else:
            self._weights[owner] = weight

    def push(self, owner: Hashable, item: T, *, level: int = NORMAL, cost: int = 1) -> bool:
        """False where the owner has it there already. ValueError for a level or a cost out of range."""
        if level not in LEVELS or not 1 <= cost <= self.cost_max:
            raise ValueError(f"a level is 0 to 2 and a cost 1 to {self.cost_max}, got {level} and {cost}")
        line = self._levels[level].setdefault(owner, _Line())
        if item in line.items:
            return False
        line.items[item] = cost
        self._count += 1
        return True

    def take(self) -> T | None:
        """The item whose turn it is; None where there is none."""
        level = self._next_level()
        if level is None:
            return None
        ring = self._levels[level]
        while True:
            owner, line = next(iter(ring.items()))
            if not line.has_turn:
                line.has_turn = True
                line.left += self._weights.get(owner, 1) * self.cost_max
            item, cost = next(iter(line.items.items()))
            if cost <= line.left:
                break
            line.has_turn = False
            ring.move_to_end(owner)
        line.left -= cost
        self._remove(level, owner, line, item)
        return item

    def discard(self, owner: Hashable, item: T, *, level: int = NORMAL) -> bool:
        """Take back an item that was not taken yet; False where it is not there."""
        line = self._levels[level].get(owner)
        if line is None or item not in line.items:
            return False
        self._remove(level, owner, line, item)
        return True

    def drop(self, owner: Hashable) -> list[T]:
        """Forget an owner and its weight; the items that it leaves behind."""
        self._weights.pop(owner, None)
        lines = [ring.pop(owner) for ring in self._levels if owner in ring]
        left = [item for line in lines for item in line.items]
        self._count -= len(left)
        return left

    def _next_level(self) -> int | None:
        chosen = None
        for level in LEVELS:
            if not self._levels[level]:
                self._passed[level] = 0
            elif chosen is None:
                chosen = level
            elif self._passed[level] >= self.age_takes:
                self._passed[level] = 0
                return level
        if chosen is not None:
            self._passed[chosen] = 0
            for level in range(chosen + 1, len(LEVELS)):
                self._passed[level] += 1
        return chosen

    def _remove(self, level: int, owner: Hashable, line: _Line[T], item: T) -> None:
        del line.items[item]
        self._count -= 1
        if not line.items:
            del self._levels[level][owner]
