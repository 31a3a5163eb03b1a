"""The corridor's way in over HTTP/1.1: one crossing per read (bytes -> requests, their JSON-RPC bodies scanned)."""

from typing import Final

from erlmcp._core.correlation import Correlation
from erlmcp._core.corridor import Call, Routes

# HttpRequest.match: which routing headers are there and equal to what the body says (2026-07-28, Streamable HTTP).
MATCH_METHOD: Final = 1  # Mcp-Method == method
MATCH_NAME: Final = 2  # Mcp-Name (base64 sentinel decoded) == params[name_key]
MATCH_VERSION: Final = 4  # MCP-Protocol-Version == params._meta["io.modelcontextprotocol/protocolVersion"]

class Head:
    """A request head. A connection that sends the same head again (but for Content-Length) gets the same Head, so a verdict
    on it can be kept in ``tag``."""

    tag: object  # for the owner of the connection; starts as None
    verb: str
    target: str
    version: int  # 10 or 11
    keep_alive: bool
    expect_continue: bool
    @property
    def headers(self) -> dict[str, str]:
        """Lower-case names -> values, outer blanks trimmed, latin-1 decoded; repeated fields joined with ", "."""
    def count(self, name: str) -> int:
        """How many header lines have this (lower-case) name."""

class HttpRequest:
    """One HTTP/1.1 request, its JSON-RPC body already scanned."""

    head: Head | None  # None where the head could not be read
    status: int  # 0, or the status of the answer to a request that broke the rules: 400, 408, 413, 414, 417, 431, 501, 505
    message: str | None  # with a status: what was wrong, naming the limit if one was met
    call: Call | None  # the scanned body of a POST whose Content-Type is application/json, else None
    match: int  # MATCH_* bits
    @property
    def body(self) -> bytes: ...

class HttpInbound:
    """Bytes of one HTTP/1.1 server connection -> requests.

    A request that breaks the rules comes out with its ``status``; after that ``closed`` is true and all later input is
    ignored: the owner answers and closes. A Content-Length over ``body_bytes_max`` is refused before the body is read.
    Transfer-Encoding with Content-Length, repeated differing lengths, obsolete line folding, a bare CR or LF within the head, a
    missing Host on 1.1, and blanks before a colon are refused (RFC 9112).
    """

    closed: bool
    wants_continue: bool  # set when a head with "Expect: 100-continue" was read and its body is awaited; owner clears it
    phase: int  # 0 between requests, 1 within a head, 2 within a body
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
    def feed(self, data: bytes) -> list[HttpRequest]: ...
    @property
    def buffered(self) -> int: ...
