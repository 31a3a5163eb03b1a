"""Compiled loops without the GIL: the structures as an embedder's ``cimport`` sees them. Each runs ``rounds`` times."""

from collections.abc import Sequence

from erlmcp.core import Cache, InflightLimit, Pool, Registry, SessionStore

class Keys:
    """The UTF-8 bytes of names, one after another, as they lie in a read buffer."""

    def __init__(self, names: Sequence[str]) -> None: ...
    def __len__(self) -> int: ...

def registry_find(registry: Registry, keys: Keys, rounds: int) -> int:
    """``registry_find`` of each key; how many were there."""

def registry_find_many(registry: Registry, keys: Keys, rounds: int) -> int:
    """The same, 64 keys at a time, whose memory is asked for ahead."""

def session_find(store: SessionStore, keys: Keys, rounds: int) -> int:
    """``session_find`` of each key, which touches its record; how many were there."""

def session_find_many(store: SessionStore, keys: Keys, rounds: int) -> int:
    """The same, 64 keys at a time, whose memory is asked for ahead."""

def ring_local(count: int, rounds: int) -> int:
    """One thread: ``count`` pointers pushed and popped again, one by one; their sum."""

def ring_local_many(count: int, rounds: int) -> int:
    """One thread: ``count`` pointers pushed and popped again, 64 at a time."""

def ring_spsc(count: int, rounds: int) -> int: ...
def ring_mpmc(count: int, rounds: int) -> int: ...
def lanes_cycle(count: int, rounds: int) -> int:
    """``count`` pointers pushed, 1 critical, 3 normal and 12 bulk of 16, then all of them popped; their sum."""

def deque_cycle(count: int, rounds: int) -> int:
    """``count`` pointers pushed and popped again by the owner, one by one; their sum."""

def deque_steal(count: int, rounds: int) -> int:
    """The same, each of them stolen, by the same thread."""

def slab_cycle(count: int, rounds: int) -> int:
    """put, get, take of ``count`` pointers, one after the other."""

def wheel_cycle(count: int, rounds: int) -> int:
    """``count`` deadlines up to 60 s away added in a row, then cancelled."""

def batch_cycle(frame: bytes, count: int, rounds: int) -> int:
    """``count`` frames put, then taken as one (holding the GIL: they are objects); bytes taken."""

def pool_cycle(members: int, count: int, rounds: int) -> int:
    """``count`` members lent and returned, one after the other."""

def pool_share(pool: Pool, loans: bytearray, count: int) -> None:
    """``count`` members lent and returned; other threads may do so at the same time. ``loans`` has 8 bytes for each
    member there may be, which a borrower counts up without any lock but the pool's. ValueError where it is shorter."""

def inflight_share(limit: InflightLimit, count: int) -> tuple[int, int]:
    """``count`` attempts to enter, each followed by a leave; other threads may do so at the same time. How many got in,
    and the most that were seen in at a time."""

def histogram_record(count: int, rounds: int) -> int:
    """``count`` values between 1,000 and 51,000 recorded; their sum."""

def cache_find(cache: Cache, keys: Keys, rounds: int) -> int:
    """``sieve_ask`` of each key; how many were there."""

def bucket_take(count: int, rounds: int) -> int:
    """``count`` tokens taken, 10 ns apart; how many were allowed."""

def breaker_cycle(count: int, rounds: int) -> int:
    """``count`` calls allowed by a closed breaker and recorded as fine."""

def envelope_scan(message: bytes, rounds: int) -> int:
    """``jsonrpc_scan`` of the message, within the default limits; how often it was a request."""
