"""The corridor's way in over HTTP/1.1: one crossing per read (bytes -> requests, their JSON-RPC bodies scanned)."""

from typing import Final, final

from erlmcp._core.correlation import Correlation
from erlmcp._core.corridor import Call, Routes

# HttpRequest.match: which routing headers are there, once, and equal to what the body says (Streamable HTTP of
# 2026-07-28).
MATCH_METHOD: Final = 1  # Mcp-Method == method
MATCH_NAME: Final = 2  # Mcp-Name (base64 sentinel decoded) == params[name_key]
MATCH_VERSION: Final = 4  # MCP-Protocol-Version == params._meta["io.modelcontextprotocol/protocolVersion"]

@final
class Head:
    """A request head.

    A connection that sends the same head again (but for the value of Content-Length) gets the same Head, so a verdict
    on it can be kept in ``tag``. A connection remembers the last four, and a Routes four more for all its
    connections, so a verdict must not depend on the connection. One longer than 4096 bytes is not remembered.
    """

    tag: object  # for the owner of the connections; starts as None
    @property
    def verb(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def version(self) -> int:
        """10 or 11."""
    @property
    def keep_alive(self) -> bool: ...
    @property
    def expect_continue(self) -> bool: ...
    @property
    def headers(self) -> dict[str, str]:
        """Lower-case names -> values, outer blanks trimmed, latin-1 decoded; repeated fields joined with ", ". Without
        content-length, which may differ between requests that share a Head. Not to be changed."""
    def count(self, name: str) -> int:
        """How many header lines have this (lower-case) name."""

@final
class HttpRequest:
    """One HTTP/1.1 request, its JSON-RPC body already scanned."""

    @property
    def head(self) -> Head | None:
        """None where the head could not be read."""
    @property
    def status(self) -> int:
        """0, or the status of the answer to a request that broke the rules: 400, 413, 414, 417, 431, 501, 505."""
    @property
    def message(self) -> str | None:
        """With a status: what was wrong, naming the limit if one was met."""
    @property
    def call(self) -> Call | None:
        """The scanned body of a POST whose Content-Type is application/json, else None."""
    @property
    def match(self) -> int:
        """MATCH_* bits; 0 for a batch, an answer and a body that is INVALID."""
    @property
    def body(self) -> bytes: ...

@final
class HttpInbound:
    """Bytes of one HTTP/1.1 server connection -> requests.

    A request that breaks the rules comes out with its ``status``; after that, and after a request whose connection is
    not kept alive, ``closed`` is true and all later input is ignored: the owner answers and closes. A Content-Length
    over ``body_bytes_max`` is refused before the body is read. Transfer-Encoding with Content-Length, repeated
    lengths, obsolete line folding, a bare CR or LF within the head, a missing Host on 1.1, and blanks before a colon
    are refused (RFC 9112). Limits out of range raise ValueError.
    """

    wants_continue: bool  # set when a head with "Expect: 100-continue" came alone; cleared by the owner, or by the body
    @property
    def closed(self) -> bool: ...
    @property
    def phase(self) -> int:
        """0 between requests, 1 within a head, 2 within a body."""
    def __init__(
        self,
        routes: Routes | None = None,
        correlation: Correlation | None = None,
        *,
        head_bytes_max: int = 32768,
        header_count_max: int = 100,
        body_bytes_max: int = 4194304,
        depth_max: int = 128,
        string_bytes_max: int = 4194304,
        number_bytes_max: int = 1024,
        batch_count_max: int = 100,
    ) -> None: ...
    def feed(self, data: bytes) -> list[HttpRequest]:
        """All requests that are complete with this read, in order. After a MemoryError the next call goes on where it
        happened, with the requests before it; within a chunked body it closes the connection."""
    @property
    def buffered(self) -> int:
        """Bytes of an incomplete request held now."""
