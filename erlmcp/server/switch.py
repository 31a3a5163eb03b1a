"""What of a server can be switched while it serves: its flags.

What a flag decides per call changes with the next call, what it decides per connection with the next connection; calls
in flight end as they would have. The tables of routes are rebuilt in one go on the loop, and a call keeps the route
that it was read with.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from erlmcp import core
from erlmcp.flags import Flags, Traced, given_as
from erlmcp.runtime.codec import Codec

if TYPE_CHECKING:
    from erlmcp.server.service import Service


class Switched:
    """The flags of a server. To be changed on its loop, or before it runs."""

    service: Service
    codec: Codec | None
    control_path: str | None = None  # of the socket that an operator may speak to while it serves

    def _begin_flags(self, flags: Flags | None) -> None:
        self._use(given_as(flags))

    @property
    def flags(self) -> Flags:
        """What is switched on."""
        return self._traced.flags

    @flags.setter
    def flags(self, flags: Flags) -> None:
        self._use(self._traced.changed({name: getattr(flags, name) for name in self._differing(flags)}, "run time"))

    def set_flags(self, **given: bool | None) -> Flags:
        """Switch single flags; the record from now on. Raises ConfigurationError for an unknown one."""
        self._use(self._traced.changed(given, "run time"))
        return self.flags

    @property
    def flag_table(self) -> list[dict[str, Any]]:
        """Each flag with its phase, default, value, and where the value comes from."""
        return self._traced.table()

    @asynccontextmanager
    async def _controlled(self: Any) -> AsyncIterator[None]:
        """The control socket, where one was asked for."""
        if self.control_path is None:
            yield
            return
        from erlmcp.server.control import control

        async with control(self, self.control_path):
            yield

    def _differing(self, flags: Flags) -> list[str]:
        return [row["name"] for row in self._traced.table() if row["value"] is not getattr(flags, row["name"])]

    def _use(self, traced: Traced) -> None:
        self._traced = traced
        self.codec = None if traced.flags.native_json else Codec(core)
        self.service.install()
