"""The envelope of a JSON-RPC 2.0 message, with the parts of params that MCP routes by, found without building
objects."""

from typing import Final, final

# Envelope.kind
REQUEST: Final = 1
NOTIFICATION: Final = 2
RESULT: Final = 3
ERROR: Final = 4
BATCH: Final = 5
INVALID: Final = 6

# Envelope.id_kind
ID_NONE: Final = 0
ID_INT: Final = 1
ID_STRING: Final = 2
ID_NULL: Final = 3
ID_BAD: Final = 4

@final
class Envelope:
    """What ``scan`` found. bytes are JSON text as it stands in the message, str are strings with their escapes
    resolved; None is what is absent (or, for a str, not a string), and everything but ``id`` where the message is
    INVALID."""

    @property
    def kind(self) -> int: ...
    @property
    def id(self) -> bytes | None:
        """The token: ``b'1'``, ``b'"a"'``, ``b'null'`` (of an ERROR only). INVALID: where it could be read anyway,
        though never with -32700."""
    @property
    def id_kind(self) -> int: ...
    @property
    def code(self) -> int:
        """INVALID: -32700 (not JSON) or -32600 (a limit, or no JSON-RPC message); else 0."""
    @property
    def message(self) -> str | None:
        """INVALID: what was wrong, naming the limit if one was met."""
    @property
    def position(self) -> int:
        """INVALID: the byte where the grammar or a limit was left; 0 for a wrong shape."""
    @property
    def is_response(self) -> bool:
        """INVALID: it has a result or an error and no method, so it is not to be answered."""
    @property
    def method(self) -> str | None: ...
    @property
    def params(self) -> bytes | None:
        """An object or an array."""
    @property
    def result(self) -> bytes | None: ...
    @property
    def error(self) -> bytes | None:
        """An object."""
    @property
    def name(self) -> str | None:
        """params.name"""
    @property
    def uri(self) -> str | None:
        """params.uri"""
    @property
    def arguments(self) -> bytes | None:
        """params.arguments: any value"""
    @property
    def meta(self) -> bytes | None:
        """params._meta: any value"""
    @property
    def protocol_version(self) -> str | None:
        """params._meta["io.modelcontextprotocol/protocolVersion"]"""
    @property
    def progress_token(self) -> bytes | None:
        """params._meta.progressToken: any value"""
    @property
    def meta_hit(self) -> bool:
        """_meta was the same as that of the envelope given as ``like``, so it was compared and not scanned again."""
    @property
    def items(self) -> list[bytes]:
        """BATCH: its items, each to be scanned by itself (one that is a BATCH again is invalid); else empty."""

def scan(
    data: bytes | bytearray | memoryview,
    *,
    depth_max: int = 128,
    string_bytes_max: int = 4194304,
    number_bytes_max: int = 1024,
    like: Envelope | None = None,
) -> Envelope:
    """Scans and validates one whole message; never raises for what is in it.

    Rules (JSON-RPC 2.0 sections 4 to 6, MCP's RequestId): jsonrpc is "2.0"; an id is a string or an integer of at
    most 1024 bytes as written (an error answer may have null, or none); a method is a string and excludes result and
    error, which exclude each other; params is an object or an array; an error is an object; unknown members are
    passed over. Refused beyond that: a key that stands twice among those of the message, among name, uri, arguments
    and _meta in params, and among protocolVersion and progressToken in _meta (keys are compared with their escapes
    resolved). A broken text is told before a wrong shape.

    The limits are those of ``json.decode``; the message itself counts as the first container. ``like`` is an earlier
    envelope, scanned with the same limits: where _meta holds the same bytes, it is not scanned again. Raises
    ValueError for limits out of range, TypeError for data that is not bytes-like.
    """
