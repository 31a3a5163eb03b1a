"""The corridor's way out: one crossing per write (answers -> bytes)."""

from collections.abc import Sequence
from typing import Final, final

# Template slots
TEXT: Final = 0  # the value is a str, written as a JSON string
VALUE: Final = 1  # any JSON value
VALUE_AS_TEXT: Final = 2  # any JSON value, encoded and then written as a JSON string holding that text

@final
class Template:
    """A message's result with holes: bytes pieces (JSON text) and slots (TEXT, VALUE, VALUE_AS_TEXT), made once per
    tool.

    ``Template([b'{"content":[{"type":"text","text":', (TEXT, 0), b'}],"structuredContent":', (VALUE, 1), b'}'])``: a
    slot is (kind, index into the values given to ``fill``). The pieces are not checked to be JSON. TypeError for a
    piece of another shape, ValueError for a kind or an index out of range.
    """

    def __init__(self, pieces: Sequence[bytes | tuple[int, int]]) -> None: ...
    @property
    def slot_count(self) -> int: ...

@final
class Outbound:
    """Answers and requests -> bytes, gathered until ``take``.

    ``framing``: "newline" (JSON, "\\n"), "content_length" (LSP), "none" (bare JSON, one after another), "http"
    (``prefix``, the body's length in decimal, ``\\r\\n\\r\\n``, JSON: ``prefix`` is a head that ends with
    ``Content-Length: ``), "sse" (``data: JSON\\n\\n``). With "newline" and "sse", line ends within a message (JSON's
    own blanks, from ``Raw``, ``message`` or a Template) are written as spaces.

    Strings and ready pieces of a Template of at least ``split_bytes`` are not copied where their bytes are JSON as they
    are (ASCII without escapes): ``take_parts`` gives them as they lie in their object. 0: everything is copied.

    A call that raises leaves what was gathered before it untouched. ``JsonError`` is raised for a value that JSON
    cannot hold, ``LimitError`` where ``bytes_max`` would be passed or a value nests deeper than ``depth_max``.
    """

    prefix: bytes
    split_bytes: int
    def __init__(
        self, *, framing: str = "newline", bytes_max: int = 67108864, depth_max: int = 128, split_bytes: int = 0
    ) -> None: ...
    @property
    def is_large(self) -> bool:
        """Whether 64 KiB or more are gathered: what ``take_parts`` is for."""
    def fill(self, id_raw: bytes, template: Template, values: tuple[object, ...]) -> None:
        """A response whose result is the template with its slots filled. IndexError for too few values."""
    def result(self, id_raw: bytes, value: object) -> None:
        """A response with this result, encoded; ``Raw`` values within are spliced as they are."""
    def error(self, id_raw: bytes, code: int, message: str, data: object = None) -> None:
        """An error response; ``data`` is left out where it is None."""
    def request(self, id: str | int, method: str, params: object = None) -> None: ...
    def notification(self, method: str, params: object = None) -> None: ...
    def message(self, raw: bytes) -> None:
        """A whole JSON message, framed as the others are."""
    def raw(self, data: bytes) -> None:
        """Bytes as they are, without a frame."""
    def take(self) -> bytes:
        """All that was gathered, which is then empty; b"" where nothing was."""
    def take_parts(self) -> list[bytes | memoryview]:
        """What ``take`` gives, in pieces to be written one after the other. What is large is not copied."""
    def __len__(self) -> int:
        """Bytes gathered, those among them that were not copied."""
