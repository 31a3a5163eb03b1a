"""The batch in plain Python: the specification of ``erlmcp._core.batch``."""

from __future__ import annotations

from erlmcp.errors import LimitError


class Batch:
    """Frames on their way out; due by count, by bytes, by age, or because one is alone and ``lone`` is true."""

    def __init__(
        self,
        count_max: int = 64,
        bytes_max: int = 65536,
        age_ns: int = 1_000_000,
        *,
        lone: bool = False,
        held_bytes_max: int = 67_108_864,
    ) -> None:
        if count_max < 1 or bytes_max < 1 or age_ns < 0 or held_bytes_max < 1:
            raise ValueError(
                "count_max, bytes_max and held_bytes_max are at least 1 and age_ns is at least 0, "
                f"got {count_max}, {bytes_max}, {held_bytes_max} and {age_ns}"
            )
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._age_ns = age_ns
        self._held_bytes_max = held_bytes_max
        self.lone = lone
        self._frames: list[bytes] = []
        self._byte_count = 0
        self._first_ns = 0

    @property
    def count_max(self) -> int:
        return self._count_max

    @property
    def bytes_max(self) -> int:
        return self._bytes_max

    @property
    def age_ns(self) -> int:
        return self._age_ns

    @property
    def held_bytes_max(self) -> int:
        return self._held_bytes_max

    @property
    def byte_count(self) -> int:
        return self._byte_count

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame: bytes, now_ns: int) -> bool:
        if not isinstance(frame, bytes):
            raise TypeError(f"a frame is bytes, not {type(frame).__name__}")
        if self.byte_count + len(frame) > self._held_bytes_max:
            raise LimitError("held_bytes_max", self._held_bytes_max)
        if not self._frames:
            self._first_ns = now_ns
        self._frames.append(frame)
        self._byte_count += len(frame)
        return self.is_due(now_ns)

    def is_due(self, now_ns: int) -> bool:
        if not self._frames:
            return False
        return (
            len(self._frames) >= self._count_max
            or self.byte_count >= self._bytes_max
            or now_ns - self._first_ns >= self._age_ns
            or (self.lone and len(self._frames) == 1)
        )

    def due_ns(self) -> int | None:
        if not self._frames:
            return None
        return self._first_ns if self.is_due(self._first_ns) else self._first_ns + self._age_ns

    def take(self) -> bytes:
        frames, self._frames, self._byte_count = self._frames, [], 0
        return b"".join(frames)

    def check(self) -> None:
        assert self._byte_count == sum(map(len, self._frames)), "the byte count differs from the frames"
        assert self.byte_count <= self._held_bytes_max, "more bytes than held_bytes_max"
