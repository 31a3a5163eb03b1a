"""The corridor's way in: one crossing per read (bytes -> calls).

Nothing here calls user code: an ``Inbound`` says what arrived, its owner decides what to do. The same for HTTP/1.1 is
in ``corridor_http``, the way out in ``corridor_out``.
"""

from typing import Final, final

from erlmcp._core.correlation import Correlation

# Call.kind
REQUEST: Final = 1
NOTIFICATION: Final = 2
RESULT: Final = 3
ERROR: Final = 4
BATCH: Final = 5
INVALID: Final = 6

@final
class Routes:
    """What is served: per method a route (any object), and per (method, name) an entry (any object).

    ``name_key`` is the key of ``params`` that names the entry: "name" for tools/call and prompts/get, "uri" for
    resources/read; any other key works too, and is slower. Shared by all connections of a server; looked up by
    borrowed bytes, changed at any time: a Call keeps what it found.
    """

    def set_method(self, method: str, route: object, name_key: str | None = None, *, is_critical: bool = False) -> None:
        """Replaces the route of a method that is there; its entries stay unless ``name_key`` changes.

        ``is_critical`` is what its calls say of themselves: that they should not wait behind others.
        """
    def drop_method(self, method: str) -> None:
        """Takes its entries away too. KeyError where it is not there."""
    def method(self, method: str) -> object | None: ...
    def set_entry(self, method: str, name: str, entry: object, *, is_critical: bool = False) -> None:
        """Raises KeyError where the method has no route with a name key. ``is_critical`` makes the calls of this name
        critical where those of the method are not."""
    def drop_entry(self, method: str, name: str) -> None:
        """Dropping what is not there raises KeyError."""
    def entry(self, method: str, name: str) -> object | None: ...

@final
class Meta:
    """A ``params._meta`` object.

    A peer that sends the same bytes again gets the same Meta, so a verdict on it can be kept in ``tag``. A connection
    remembers the last four, and a Routes 64 more for all its connections, so a verdict must not depend on the
    connection. One that has a progress token, or is longer than 4096 bytes, is not remembered.
    """

    tag: object  # for the owner of the connections; starts as None
    @property
    def raw(self) -> bytes: ...
    @property
    def values(self) -> dict[str, object]:
        """Decoded once; not to be changed."""
    @property
    def protocol_version(self) -> str | None:
        """``io.modelcontextprotocol/protocolVersion`` where it is a string, else None."""

@final
class Call:
    """One JSON-RPC message, scanned and not yet decoded.

    Valid for as long as it is held: it owns, or shares, the bytes it was cut from. The whole message was checked
    against RFC 8259 and the limits when it was scanned, so the lazy properties cannot fail on its grammar.
    """

    @property
    def kind(self) -> int: ...
    @property
    def id(self) -> str | int | None:
        """None for a notification, and for INVALID where no id could be read."""
    @property
    def id_raw(self) -> bytes:
        """The token as it is to be echoed: b'1', b'"1"', or b'null'."""
    @property
    def method(self) -> str | None:
        """The same str object each time where Routes knows the method."""
    @property
    def route(self) -> object | None:
        """What Routes held for the method."""
    @property
    def name(self) -> str | None:
        """``params[name_key]``, where the route has a name key and the value is a string."""
    @property
    def entry(self) -> object | None:
        """What Routes held for (method, name)."""
    @property
    def is_critical(self) -> bool:
        """Whether Routes says so, of the method or of the entry."""
    @property
    def meta(self) -> Meta | None:
        """``params._meta`` where it is an object."""
    @property
    def code(self) -> int:
        """INVALID: the JSON-RPC error code of the answer (-32700 or -32600); else 0."""
    @property
    def message(self) -> str | None:
        """INVALID: the text of the answer."""
    @property
    def is_response(self) -> bool:
        """INVALID: it looked like an answer (a result or an error, and no method), so it is not to be answered."""
    @property
    def items(self) -> list[Call]:
        """BATCH: its messages in order (each may be INVALID); else empty."""
    @property
    def pending(self) -> object | None:
        """RESULT and ERROR: what Correlation held for the id (taken out), else None."""
    @property
    def params(self) -> object | None:
        """The decoded params (dict or list); None where there are none. Kept after the first call."""
    @property
    def arguments(self) -> object | None:
        """``params["arguments"]`` decoded alone, without the rest of params; None where absent. Kept after the first
        call."""
    @property
    def has_params(self) -> bool: ...
    @property
    def result(self) -> object:
        """RESULT: the decoded result."""
    @property
    def error(self) -> object:
        """ERROR: the decoded error."""
    @property
    def raw(self) -> bytes:
        """The whole message, without its frame; empty where it was dropped for its size."""

@final
class Inbound:
    """Bytes of one stream (stdio, TCP, Unix socket) -> calls.

    ``framing`` is "newline" (MCP's stdio framing; blank lines are passed over, "\\r\\n" is accepted) or
    "content_length" (LSP's). A bad message is an INVALID call in its place and harms no neighbour; a message over
    ``message_bytes_max`` is dropped as it comes and reported where it ends as INVALID with -32600 naming the limit.
    With "content_length" a broken header is fatal: one INVALID call, ``closed`` becomes true and all later input is
    ignored. Limits out of range raise ValueError.
    """

    @property
    def closed(self) -> bool: ...
    def __init__(
        self,
        routes: Routes | None = None,
        correlation: Correlation | None = None,
        *,
        framing: str = "newline",
        message_bytes_max: int = 4194304,
        depth_max: int = 128,
        string_bytes_max: int = 4194304,
        number_bytes_max: int = 1024,
        batch_count_max: int = 100,
    ) -> None: ...
    def feed(self, data: bytes) -> list[Call]:
        """All messages that are complete with this read, in order. A MemoryError loses the message it hit and no
        other: those before it come out of the next call, which goes on after it."""
    @property
    def critical_count(self) -> int:
        """How many of the messages of the last read, and of their items, are critical."""
    @property
    def buffered(self) -> int:
        """Bytes of an incomplete message held now."""
