"""The component benchmarks for pytest-benchmark: ``pytest --benchmark-only``. The ordinary run skips them.

Left to ``erlmcp bench components`` are the rows that a plain loop in this process does not time: those of two threads
(starting them would be timed too), of the whole way (a worker process for each variant), and of a million entries.
"""

from __future__ import annotations

from typing import Any

import pytest

from erlmcp.bench import components
from erlmcp.bench.room import MissingError

WAYS = [
    pytest.param(way, id=f"{row.key}-{way.column}-{way.who}")
    for row in components.ROWS
    if not row.is_slow and row.family != "network" and row.threads == 1
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
