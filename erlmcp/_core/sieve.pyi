"""The sieve: a map that forgets."""

from collections.abc import Sequence
from typing import Any

class Sieve:
    """key -> value under two budgets, each value gone when its time to live has passed.

    A key is a str or bytes; it is compared by its UTF-8 bytes, so ``"a"`` and ``b"a"`` are the same key, and hashed
    with a secret seed, so a stranger cannot choose keys that collide. What is to go first is chosen by SIEVE (Zhang
    and others, NSDI 2024): as good as LRU or better on skewed traffic, and a hit moves nothing. At most 256 entries
    get a second chance in one search, so a ``put`` stays short.

    The clock is pushed: nanoseconds of any clock that does not go back, by ``sieve.now_ns = ...`` once per batch of
    work; a smaller time than the last is taken as the last. An entry is found until its deadline, not from it on. It
    keeps its place until ``expire``, or until a ``put`` needs the place: what has expired goes before what is live.

    Each call is one step under the GIL, so threads may share a sieve. Values that are dropped are dropped at the end
    of a step.
    """

    now_ns: int
    def __init__(
        self,
        count_max: int = 10_000,
        *,
        bytes_max: int = 0,
        ttl_ns: int = 5_000_000_000,
        stale_ns: int = 0,
        now_ns: int = 0,
    ) -> None:
        """0 for ``bytes_max`` or ``ttl_ns`` means without that bound.

        ValueError where ``count_max`` is not from 1 to 2**28, or another one is negative.
        """
    @property
    def count_max(self) -> int: ...
    @property
    def bytes_max(self) -> int: ...
    @property
    def ttl_ns(self) -> int: ...
    @property
    def stale_ns(self) -> int:
        """For how long after its deadline an entry is kept for ``get_stale``."""
    @property
    def hit_count(self) -> int: ...
    @property
    def miss_count(self) -> int: ...
    @property
    def eviction_count(self) -> int:
        """Live entries that left to make room."""
    @property
    def expired_count(self) -> int:
        """Entries that left as their time had passed."""
    @property
    def hit_rate(self) -> float:
        """0.0 to 1.0, over all that was asked so far."""
    @property
    def bytes_held(self) -> int:
        """The sum of the sizes that were given to ``put``."""
    @property
    def memory_bytes(self) -> int:
        """Of the sieve's own arrays; keys and values are not among it."""
    def __len__(self) -> int:
        """Entries held, those among them that have expired and did not leave yet."""
    def __contains__(self, key: object, /) -> bool:
        """Neither counted nor marked as used; False too for what cannot be a key."""
    def __getitem__(self, key: str | bytes, /) -> Any:
        """KeyError where it is not there or has expired; TypeError where the key is neither str nor bytes."""
    def get(self, key: str | bytes, default: Any = None) -> Any: ...
    def get_many(self, keys: Sequence[str | bytes], default: Any = None) -> list[Any]:
        """The values of a list or tuple of keys, in order, ``default`` for each that is not there."""
    def peek(self, key: str | bytes, default: Any = None) -> Any:
        """As ``get``, neither counted nor marked as used."""
    def get_stale(self, key: str | bytes, default: Any = None) -> Any:
        """As ``peek``, until ``stale_ns`` after the deadline."""
    def __setitem__(self, key: str | bytes, value: Any, /) -> None:
        """The quick ``put``: the size is 0."""
    def put(self, key: str | bytes, value: Any, size_bytes: int = 0) -> int:
        """Sets a value, whose time to live starts now. Returns how many other entries left to make room, or -1 where
        ``size_bytes`` is more than ``bytes_max``: then it is not stored, and nothing is under the key any more.

        ValueError where the size is negative, UnicodeEncodeError (a ValueError too) where the key cannot be written in
        UTF-8.
        """
    def remove(self, key: str | bytes) -> bool:
        """Whether something was there, expired or not."""
    def __delitem__(self, key: str | bytes, /) -> None:
        """KeyError where nothing was there."""
    def clear(self) -> None:
        """Takes out all; the counters stay."""
    def expire(self, now_ns: int | None = None) -> int:
        """Takes out all that expired ``stale_ns`` ago or earlier; how many that were."""
    def scan(self, cursor: int = 0, count: int = 100) -> tuple[int, list[tuple[str | bytes, Any]]]:
        """Up to ``count`` live keys and values, and the cursor to go on with, 0 at the end.

        A key that is there and live from the first call to the last is returned exactly once, whatever changes in
        between.
        """
    def check(self) -> None:
        """Walks the whole structure; AssertionError where it contradicts itself."""
