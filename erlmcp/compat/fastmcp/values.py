"""What functions return -> content blocks, structured values and texts, by FastMCP's rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from erlmcp.client.result import typed
from erlmcp.server.content import block_like, block_of, dump_model, is_protocol_model, text_block, write_json
from erlmcp.server.jsonable import to_jsonable

Json = dict[str, Any]


def json_text(value: Any) -> str:
    """Compact JSON; ``str()`` of what has no JSON form."""
    return write_json(to_jsonable(value, fallback=str))


def text_of(value: Any) -> str:
    """The text that stands for a value: a string is itself, bytes are UTF-8, all else is JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode()
    return json_text(value)


def blocks_of(value: Any) -> list[Json]:
    """Content blocks: none for None, one for each entry of a list that holds a block, else one text."""
    if value is None:
        return []
    if isinstance(value, list | tuple):
        if not value:
            return []
        if any(block_like(each) for each in value):
            return [_block(each) for each in value]
    return [_block(value)]


def _block(value: Any) -> Json:
    found = block_of(value)
    return text_block(text_of(value)) if found is None else found


def is_content(value: Any) -> bool:
    """Whether a value is a block, or a list with one in it."""
    return block_like(value) or (isinstance(value, list | tuple) and any(block_like(each) for each in value))


def typed_blocks(blocks: Sequence[Json]) -> list[Any]:
    """Blocks as objects of ``mcp_types``."""
    found: list[Any] = typed("list[ContentBlock]", list(blocks))
    return found


def dumped(value: Any) -> Any:
    """A block, or whatever is given in its place, as JSON."""
    if isinstance(value, dict):
        return value
    return dump_model(value) if is_protocol_model(value) else _block(value)
