"""The twin has no allocations of its own to count or to fail."""

from __future__ import annotations

IS_CHECKED = False


def live_blocks() -> int:
    return 0


def live_bytes() -> int:
    return 0


def fail_after(count: int, forever: bool = False) -> None:
    if count < 1:
        raise ValueError(f"count must be at least 1 (the next allocation), got {count}")


def fail_never() -> None:
    pass
