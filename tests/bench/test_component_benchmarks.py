"""The component benchmarks for pytest-benchmark: ``pytest --benchmark-only``. The ordinary run skips them."""

from __future__ import annotations

from typing import Any

import pytest

from erlmcp.bench import components
from erlmcp.bench.room import MissingError

WAYS = [
    pytest.param(way, id=f"{row.key}-{way.column}-{way.who}")
    for row in components.ROWS
    if row.entries < components.MEMORY_FROM and row.family != "network" and row.threads == 1
    for way in row.ways()
    if way.who in ("core", "model")
]


@pytest.mark.parametrize("way", WAYS)
def test_component(benchmark: Any, way: Any) -> None:
    try:
        made = way.make()
    except MissingError as error:
        pytest.skip(str(error))
    benchmark.extra_info["operations"] = made.count
    benchmark(made.elapsed, 1)
