"""What of a client can be switched while it is open: its flags, and the guard of its requests."""

from __future__ import annotations

from typing import Any

from erlmcp.client.asking import Asking
from erlmcp.client.kept import Kept
from erlmcp.flags import Flags, Traced, names
from erlmcp.runtime.guard import Guard


class Switched(Asking):
    """The flags of a client."""

    _traced: Traced
    _target_options: tuple[Any, ...]
    _is_caching: bool
    _kept: Kept | None

    @property
    def flags(self) -> Flags:
        """What is switched on."""
        return self._traced.flags

    @flags.setter
    def flags(self, flags: Flags) -> None:
        self.set_flags(**{name: getattr(flags, name) for name in names()})

    def set_flags(self, **given: bool | None) -> Flags:
        """Switch single flags; the record from now on. On its loop, or before it is connected; calls in flight end as
        they would have. ``prewarm`` and ``http2`` count from the next connection of the client, the others from its
        next request. Raises ConfigurationError for an unknown one."""
        self._traced = self._traced.changed(given, "run time")
        self._make_target(self.flags, *self._target_options)
        if self._kept is None or not self.flags.caching:
            self._kept = self._make_kept()
        channel: Any = self.channel
        if hasattr(channel, "use_flags"):
            channel.use_flags(self.flags)
        return self.flags

    def _make_kept(self) -> Kept | None:
        limits = self.limits
        return Kept(limits.cache_count_max, limits.cache_bytes_max) if self._is_caching and self.flags.caching else None

    @property
    def guard(self) -> Guard | None:
        """What all requests pass, where ``guards`` were given: its state, and ``guard.breaker.force_open(...)``."""
        return None if self._guarded is None else self._guarded.guard
