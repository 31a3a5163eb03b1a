"""The short way of a tool call, compiled: bytes to answers, with only the author's function in Python."""

from typing import Any

from erlmcp.core import HttpInbound, HttpRequest, Inbound, Outbound, Template
from erlmcp.runtime.session import Host

class Entry:
    """What a tool that may be called the short way shows of itself: ``is_simple`` says whether it may."""

    invoke: Any
    result_class: type | None
    modern: Template | None
    structured: Template | None
    plain: Template | None
    is_simple: bool

class Stride:
    """The short way for all connections of a running host; over HTTP for those that one ``gate`` judges."""

    date: bytes
    def __init__(self, host: Host, peer_class: type, gate: object = None) -> None: ...
    @property
    def host(self) -> Host: ...
    def lines(self, inbound: Inbound, data: bytes, link: Any, session: Any, out: Outbound) -> None:
        """Handle a read of a byte stream: simple calls into ``out``, everything else through ``session.receive``."""
    def http(self, inbound: HttpInbound, data: bytes, connection: Any, out: Outbound) -> list[HttpRequest] | None:
        """Handle a read of an idle HTTP connection: simple calls into ``out``; the value are the requests
        from the first that is not simple on, None where there is none."""
