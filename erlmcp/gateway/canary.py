"""Two versions of one upstream: the new one gets a share of the calls, and more of them for as long as it is no worse.

What is decided is ``erlmcp.policy.rollout``'s: 10 %, 50 %, all, by the hash of the caller, and back to nobody where the
new side makes more errors or takes longer. Here is who takes part (which tools, which era), and what counts: the time
of an answer, and whether it speaks against the upstream. What is listed is the old version's; a call whose client has a
line of its own takes no part, as its conversation cannot move.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from erlmcp.gateway.mount import matches
from erlmcp.gateway.upstream import DOWN, Upstream
from erlmcp.policy.rollout import BACK, Rollout, Rules

if TYPE_CHECKING:
    from erlmcp.gateway.app import Gateway
    from erlmcp.gateway.config import CanaryConfig
    from erlmcp.gateway.forward import Forward
    from erlmcp.gateway.mount import Mount
    from erlmcp.runtime.exchange import Exchange

log = logging.getLogger("erlmcp.gateway")


class Canary:
    """The trial of one upstream. ``new`` is the version on trial."""

    def __init__(self, old: Upstream, config: CanaryConfig, gateway: Gateway) -> None:
        self.config = config
        self.old = old
        self.new = Upstream(replace(old.config, **config.way, name=f"{old.name}~new", canary=None), gateway)
        self.rollout = Rollout(
            Rules(shares=config.shares, stage_s_min=config.stage_s_min), name=old.name, now_ns=monotonic_ns()
        )
        self._last: Any = None  # of its events that was told
        old.trial = self.new.trial = self

    def takes(self, exchange: Exchange, mount: Mount) -> bool:
        """Whether a call is one of those that are on trial."""
        config = self.config
        if config.era is not None and exchange.peer.modern != (config.era == "modern"):
            return False
        return config.tools is None or matches(mount.name, config.tools)

    def pick(self, exchange: Exchange, mount: Mount, whose: str) -> Upstream:
        """The version that answers a call; ``whose`` is its caller, "" where nothing tells callers apart."""
        if not self.takes(exchange, mount) or not self.rollout.is_new(whose.encode() or None):
            return self.old
        if self.new.quick() is not None:
            return self.new
        if self.new.state == DOWN:
            self._record(True, 0, True)
        return self.old

    def record(self, forward: Forward, is_error: bool) -> None:
        """A call has ended."""
        exchange = forward.exchange
        if exchange is not None and forward.is_shared and self.takes(exchange, forward.mount):
            self._record(forward.line.upstream is self.new, monotonic_ns() - forward.began_ns, is_error)

    def _record(self, is_new: bool, time_ns: int, is_error: bool) -> None:
        rollout = self.rollout
        rollout.record(is_new, time_ns, is_error, monotonic_ns())
        if rollout.events and rollout.events[-1] is not self._last:
            self._last = rollout.events[-1]
            level = logging.WARNING if rollout.state == BACK else logging.INFO
            log.log(level, "canary of %s: %s", self.old.name, self._last)
