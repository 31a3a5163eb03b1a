"""How often somebody failed to show a good credential, by the address that it came from.

A failure counts for ``span_s``: each address has a bucket that ``count_max`` failures fill, and that runs empty in that
time. While it is full, credentials that are not known yet are not even looked at.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from typing import Any, Final

PEER_COUNT_MAX: Final = 4096
V6_PREFIX_BYTES: Final = 8  # what one customer has of an IPv6 network, at least


class Failures:
    """Seconds are those of any steady clock."""

    def __init__(self, count_max: int, span_s: float) -> None:
        self.count_max = count_max
        self.span_s = span_s
        self._peers: OrderedDict[str, tuple[float, float]] = OrderedDict()  # address -> how full, and when

    def __len__(self) -> int:
        return len(self._peers)

    def _level(self, peer: str, now_s: float) -> float:
        level, then_s = self._peers.get(peer, (0.0, now_s))
        return max(0.0, level - (now_s - then_s) * self.count_max / self.span_s)

    def wait_s(self, peer: str, now_s: float) -> float:
        """How long until a credential from there is looked at again; 0: it is now. "" is nobody in particular."""
        if peer not in self._peers:
            return 0.0
        over = self._level(peer, now_s) - (self.count_max - 1)
        return max(0.0, over * self.span_s / self.count_max)

    def note(self, peer: str, now_s: float) -> bool:
        """One more failure; whether it is the one that fills the bucket."""
        if not peer:
            return False
        level = self._level(peer, now_s) + 1
        self._peers[peer] = min(level, self.count_max), now_s
        self._peers.move_to_end(peer)
        if len(self._peers) > PEER_COUNT_MAX:
            self._peers.popitem(last=False)
        return level > self.count_max - 1


def peer_of(client: Any) -> str:
    """What an address is counted as: IPv6 by its network, "" for a socket that has none."""
    if not isinstance(client, tuple | list) or not client or not isinstance(client[0], str):
        return ""
    host = client[0].partition("%")[0]
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        return host
    return str(address.ipv4_mapped or address.packed[:V6_PREFIX_BYTES].hex())
