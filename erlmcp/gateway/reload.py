"""A configuration that changes while the gateway runs: the files are looked at once a second, and at SIGHUP."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from erlmcp.gateway.document import mark_of
from erlmcp.gateway.problem import ConfigError

if TYPE_CHECKING:
    from erlmcp.gateway.app import Gateway
    from erlmcp.gateway.config import GatewayConfig, Mark

log = logging.getLogger("erlmcp.gateway")
POLL_S: Final = 1.0


class Watcher:
    """``load`` reads the files again. A configuration with mistakes changes nothing: they are logged."""

    def __init__(self, load: Callable[[], GatewayConfig], *, poll_s: float = POLL_S) -> None:
        self._load = load
        self._poll_s = poll_s
        self._gateway: Gateway | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._seen: dict[str, Mark] = {}
        self.refusal: ConfigError | None = None  # of the latest reading, if it was no good

    def start(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._seen = seen_of(gateway.config)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._poll_s, self._look)
        if threading.current_thread() is threading.main_thread():
            loop.add_signal_handler(signal.SIGHUP, self.reload)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._gateway = None
            if threading.current_thread() is threading.main_thread():
                asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)

    def _look(self) -> None:
        gateway = self._gateway
        if gateway is None:
            return
        self._timer = asyncio.get_running_loop().call_later(self._poll_s, self._look)
        if marks_of(gateway.config.files) != self._seen:
            self.reload()

    def reload(self) -> None:
        """Read the files and become what they say."""
        gateway = self._gateway
        if gateway is None:
            return
        self._seen = marks_of(gateway.config.files)
        if gateway.audit is not None:
            try:
                gateway.audit.reopen()
            except OSError as error:
                log.error("the audit log goes on where it was: %s", error)
        try:
            config = self._load()
        except ConfigError as error:
            self.refusal = error
            log.error("the configuration was not reloaded:\n%s", error)
            return
        self.refusal = None
        touched = gateway.reload(config)
        self._seen = seen_of(config)
        log.info(
            "the configuration was reloaded; %s", ", ".join(touched) + " changed" if touched else "no server changed"
        )


def marks_of(files: tuple[str, ...]) -> dict[str, Mark]:
    return {file: mark_of(file) for file in files}


def seen_of(config: GatewayConfig) -> dict[str, Mark]:
    """The files of a configuration as they were when it was read; as they are where that is not known."""
    return marks_of(config.files) | dict(zip(config.files, config.marks, strict=False))
