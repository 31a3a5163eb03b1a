"""What a call came to. The types of ``mcp_types`` are built when they are asked for: most callers want the data."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from erlmcp.errors import (
    INVALID_PARAMS,
    RESOURCE_NOT_FOUND_LEGACY,
    InvalidAnswerError,
    McpError,
    ResourceNotFoundError,
    ToolError,
)

if TYPE_CHECKING:
    import mcp_types as types

    from erlmcp.core import Call

ERROR = 4


class CallResult:
    """The result of a tool call.

    ``data`` is what a program wants: the structured content, without the ``{"result": value}`` that servers wrap
    around values that are no objects; the text where there is none. ``raw`` is the result object as it came.
    """

    __slots__ = ("_content", "raw")
    _content: list[Any]

    def __init__(self, raw: dict[str, Any]) -> None:
        self.raw = raw

    @property
    def data(self) -> Any:
        structured = self.raw.get("structuredContent")
        if structured is None:
            return self.text
        if isinstance(structured, dict) and len(structured) == 1 and "result" in structured:
            return structured["result"]
        return structured

    @property
    def structured_content(self) -> Any:
        """As it came; None where there is none."""
        return self.raw.get("structuredContent")

    @property
    def text(self) -> str:
        """The text of all text blocks, a line break between them."""
        return "\n".join(
            block["text"]
            for block in self.raw.get("content") or ()
            if isinstance(block, dict) and block.get("type") == "text" and isinstance(block.get("text"), str)
        )

    @property
    def content(self) -> list[types.ContentBlock]:
        """The blocks as objects of ``mcp_types``. InvalidAnswerError where they are none."""
        if not hasattr(self, "_content"):
            self._content = typed("list[ContentBlock]", self.raw.get("content") or [])
        return self._content

    @property
    def is_error(self) -> bool:
        return self.raw.get("isError") is True

    @property
    def meta(self) -> dict[str, Any]:
        found = self.raw.get("_meta")
        return found if isinstance(found, dict) else {}

    def __repr__(self) -> str:
        return f"CallResult(data={self.data!r}{', is_error=True' if self.is_error else ''})"


class AnswerResult(CallResult):
    """A final result without an error, which is decoded where somebody looks at it. ``Ask`` makes it, by its slot; the
    answer is let go with its read then."""

    __slots__ = ("_call", "_made")
    _call: Call | None
    _made: dict[str, Any]

    @property
    def raw(self) -> dict[str, Any]:  # type: ignore[override]
        call = self._call
        if call is not None:
            found: Any = call.result
            self._made, self._call = found, None
        return self._made

    @property
    def is_error(self) -> bool:
        return False


def tool_error(result: CallResult) -> ToolError:
    """The exception for a result with ``isError``."""
    error = ToolError(result.text or "the tool failed and did not say why")
    error.result = result
    return error


@cache
def _adapter(name: str) -> Any:
    import mcp_types
    from pydantic import TypeAdapter

    inner = name.removeprefix("list[").removesuffix("]")
    kind: Any = getattr(mcp_types, inner)
    return TypeAdapter(list[kind] if name != inner else kind)


def typed(name: str, value: Any) -> Any:
    """``value`` as a type of ``mcp_types``, or ``list[...]`` of one; InvalidAnswerError where it does not fit."""
    adapter = _adapter(name)
    try:
        return adapter.validate_python(value)
    except ValueError as error:  # pydantic's ValidationError is one
        first = error.errors()[0] if hasattr(error, "errors") else {"loc": (), "msg": str(error)}
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidAnswerError(f"the server's answer is no {name}: {where}: {first['msg']}") from error


def result_of(call: Call, method: str) -> dict[str, Any]:
    """The result object of an answer; raises McpError for an error answer, InvalidAnswerError for what is neither."""
    if call.kind == ERROR:
        raise error_of(call)
    result = call.result
    if not isinstance(result, dict):
        raise InvalidAnswerError(f"the result of {method} is not an object")
    return result


def error_of(call: Call) -> McpError:
    """A JSON-RPC error answer as an exception."""
    error = call.error
    if not isinstance(error, dict):
        return McpError(0, "the server answered with an error")
    code = error.get("code")
    return McpError(
        code if isinstance(code, int) else 0, str(error.get("message") or "an error without words"), error.get("data")
    )


def resource_error(error: McpError, uri: str) -> McpError:
    """ResourceNotFoundError where that is what the server's revision means by this error."""
    names_uri = isinstance(error.data, dict) and "uri" in error.data
    if error.code == RESOURCE_NOT_FOUND_LEGACY or (error.code == INVALID_PARAMS and names_uri):
        return ResourceNotFoundError(uri, error.message)
    return error
