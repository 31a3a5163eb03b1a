"""The batch: frames on their way out, gathered until one write is worth it."""

class Batch:
    """Frames in order; due by count, by bytes or by age, whichever comes first.

    With ``lone`` true a frame that is alone is due at once: the owner sets it while nothing else is waiting, so that
    a single request pays nothing for batching. The clock is an argument: nanoseconds of any clock that does not go
    back. Being due is a word to the owner, who may go on putting up to ``held_bytes_max``.
    """

    lone: bool
    def __init__(
        self,
        count_max: int = 64,
        bytes_max: int = 65536,
        age_ns: int = 1_000_000,
        *,
        lone: bool = False,
        held_bytes_max: int = 67_108_864,
    ) -> None:
        """Due with ``count_max`` frames, ``bytes_max`` bytes, or a first frame of ``age_ns``. ValueError where one of
        them or ``held_bytes_max`` is under 1 (``age_ns``: under 0).
        """
    @property
    def count_max(self) -> int: ...
    @property
    def bytes_max(self) -> int: ...
    @property
    def age_ns(self) -> int: ...
    @property
    def held_bytes_max(self) -> int: ...
    @property
    def byte_count(self) -> int:
        """Bytes gathered."""
    def __len__(self) -> int:
        """Frames gathered."""
    def put(self, frame: bytes, now_ns: int) -> bool:
        """Adds a frame; says whether the batch is due now. LimitError where ``held_bytes_max`` would be passed,
        TypeError where the frame is not bytes; the batch is unchanged then.
        """
    def is_due(self, now_ns: int) -> bool: ...
    def due_ns(self) -> int | None:
        """When the batch is due by age; None where it is empty. What is due by count, bytes or as a lone frame is due
        since its first frame came.
        """
    def take(self) -> bytes:
        """All frames joined in order, which are then gone; b"" where there are none. A single frame comes back as it
        is.
        """
    def check(self) -> None:
        """AssertionError where the counts contradict the frames."""
