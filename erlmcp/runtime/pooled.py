"""What the pools of threads that programs make for themselves have in common, awaited or not."""

from __future__ import annotations

import os
from typing import Literal

from erlmcp.runtime.threads import ThreadPool as Core

Priority = Literal["critical", "normal", "bulk"]


class Pooled:
    """A pool of its own, with the bounds that its maker gives or those of ThreadPoolExecutor."""

    def __init__(
        self,
        thread_count_max: int | None = None,
        *,
        job_count_max: int = 8192,
        idle_s: float = 30.0,
        name: str = "erlmcp-pool",
    ) -> None:
        count = min(32, (os.cpu_count() or 1) + 4) if thread_count_max is None else thread_count_max
        self.core = Core(count, job_count_max, idle_s=idle_s, name=name)

    def __len__(self) -> int:
        """How many calls wait or run."""
        return len(self.core.live)
