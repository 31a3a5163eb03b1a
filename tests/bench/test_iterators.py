"""``erlmcp bench iterators``: the extra memory of a walk is that of a page."""

from __future__ import annotations

import pytest

from erlmcp.bench import iterators


@pytest.mark.parametrize("kind", sorted(iterators.KINDS))
def test_the_extra_memory_of_a_walk_does_not_grow_with_what_is_walked(kind: str) -> None:
    few, many = iterators.measure(kind, 1_000), iterators.measure(kind, 20_000)
    assert iterators.drain(iterators.KINDS[kind](500)()) == 500
    assert many.paged_bytes <= few.paged_bytes + 4_096
    assert many.listed_bytes > 10 * few.listed_bytes


def test_the_table_has_a_row_for_each_structure_and_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert iterators.main(["--quick"]) == 0
    said = capsys.readouterr().out
    for kind in iterators.KINDS:
        assert said.count(kind) == 2
