"""What a handler may return besides plain values: pictures, sound, files, whole results, chat messages. No pydantic."""

from __future__ import annotations

import base64
import mimetypes
import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from erlmcp import core
from erlmcp.errors import ConfigurationError
from erlmcp.server.jsonable import to_jsonable
from erlmcp.server.param import MISSING

Json = dict[str, Any]
OCTETS = "application/octet-stream"


def write_json(value: object) -> str:
    """JSON text as it goes into a text block: compact, UTF-8 kept. Raises JsonError for NaN and infinities."""
    return core.encode(value).decode("utf-8")


class _Media:
    """Bytes, or the path of a file that is read when the content is made."""

    kind = ""
    default_type = OCTETS

    def __init__(
        self,
        data: bytes | None = None,
        *,
        path: str | os.PathLike[str] | None = None,
        format: str | None = None,
        mime_type: str | None = None,
        annotations: Mapping[str, Any] | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        """``format`` ("png", "wav") is short for a ``mime_type`` of this kind. Raises ConfigurationError unless exactly
        one of ``data`` and ``path`` is given."""
        if (data is None) == (path is None):
            raise ConfigurationError(f"{type(self).__name__} takes either data or path")
        self.data = data
        self.path = None if path is None else pathlib.Path(path)
        self.mime_type = mime_type or self._guess(format)
        self.annotations = annotations
        self.meta = meta

    def _guess(self, format: str | None) -> str:
        if format is not None:
            return format if "/" in format else f"{self.kind}/{format.lower()}"
        found = mimetypes.guess_type(self.path.name)[0] if self.path is not None else None
        return found or self.default_type

    def read(self) -> bytes:
        """The bytes. Raises OSError where the file cannot be read."""
        return self.data if self.data is not None else self.path.read_bytes()  # type: ignore[union-attr]

    def _dressed(self, block: Json) -> Json:
        if self.annotations is not None:
            block["annotations"] = dump_model(self.annotations)
        if self.meta is not None:
            block["_meta"] = dict(self.meta)
        return block

    def to_content(self) -> Json:
        """The content block."""
        data = base64.b64encode(self.read()).decode("ascii")
        return self._dressed({"type": self.kind, "data": data, "mimeType": self.mime_type})

    def __repr__(self) -> str:
        source = self.path if self.data is None else f"{len(self.data)} bytes"
        return f"{type(self).__name__}({source}, {self.mime_type!r})"


class Image(_Media):
    """A picture: ``Image(data=png)``, ``Image(path="plot.png")``. Without a better hint its type is image/png."""

    kind = "image"
    default_type = "image/png"


class Audio(_Media):
    """A sound: ``Audio(data=wav, format="wav")``. Without a better hint its type is audio/wav."""

    kind = "audio"
    default_type = "audio/wav"


class File(_Media):
    """A file, sent as an embedded resource: as text where its type is textual and it is UTF-8, else base64."""

    kind = "application"

    def __init__(
        self, data: bytes | None = None, *, name: str | None = None, uri: str | None = None, **options: Any
    ) -> None:
        super().__init__(data, **options)
        self.name = name or (self.path.name if self.path is not None else "file")
        if uri is None:
            uri = self.path.resolve().as_uri() if self.path is not None else f"file:///{self.name}"
        self.uri = uri
        if "mime_type" not in options and "format" not in options and self.path is None:
            self.mime_type = mimetypes.guess_type(self.name)[0] or OCTETS

    def to_content(self) -> Json:
        """The content block."""
        resource = resource_contents(self.uri, self.read(), self.mime_type)
        return self._dressed({"type": "resource", "resource": resource})


def is_textual(mime_type: str) -> bool:
    """Is what has this media type text?"""
    bare = mime_type.partition(";")[0].strip().lower()
    return bare.startswith("text/") or bare.endswith(("+json", "+xml", "/json", "/xml", "/javascript", "/yaml"))


def resource_contents(uri: str, data: bytes, mime_type: str) -> Json:
    """One entry of ``contents``: text where that is possible and right, else a blob."""
    if is_textual(mime_type):
        try:
            return {"uri": uri, "mimeType": mime_type, "text": data.decode("utf-8")}
        except UnicodeDecodeError:
            pass
    return {"uri": uri, "mimeType": mime_type, "blob": base64.b64encode(data).decode("ascii")}


@dataclass(slots=True)
class ToolResult:
    """A tool's whole result. ``content`` is what a handler may return; ``structured`` becomes ``structuredContent``."""

    content: Any = None
    structured: Any = MISSING
    is_error: bool = False
    meta: Mapping[str, Any] | None = None


@dataclass(slots=True)
class Message:
    """One message of a prompt. ``content`` is a string, a content object, or any value (sent as JSON text)."""

    content: Any
    role: str = "user"


@dataclass(slots=True)
class UserMessage(Message):
    """What the user says."""


@dataclass(slots=True)
class AssistantMessage(Message):
    """What the assistant says."""

    role: str = field(default="assistant")


@dataclass(slots=True)
class ResourceContents:
    """One entry of a resource's contents, where type, URI or meta differ from the resource's own."""

    data: Any
    mime_type: str | None = None
    uri: str | None = None
    meta: Mapping[str, Any] | None = None


def text_block(text: str) -> Json:
    """A text content block."""
    return {"type": "text", "text": text}


def is_protocol_model(value: object) -> bool:
    """Is this an instance of a class of ``mcp_types`` (which is not imported to find out)?"""
    return is_protocol_class(type(value))


def is_protocol_class(cls: object) -> bool:
    """Is this a class of the protocol's types package, or derived from one?"""
    return isinstance(cls, type) and _descends_from_protocol(cls)


@lru_cache(maxsize=512)
def _descends_from_protocol(cls: type) -> bool:
    homes = [base.__module__.split(".") for base in cls.__mro__]
    return any(home[0] == "mcp_types" or home[:2] == ["mcp", "types"] for home in homes)


def dump_model(value: Any) -> Any:
    """A protocol model, a mapping or a sequence of them -> JSON-native, absent fields left out."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(value, Mapping):
        return {key: dump_model(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [dump_model(each) for each in value]
    return to_jsonable(value)


_BLOCK_TYPES = frozenset({"text", "image", "audio", "resource", "resource_link"})


def block_of(value: Any) -> Json | None:
    """The content block that ``value`` stands for, or None where it is a plain value.

    Our classes, those of ``mcp_types``, and anything with ``to_content()``. A dict stays a plain value.
    """
    if hasattr(value, "to_content"):
        block: Json = value.to_content()
        return block
    if is_protocol_model(value) and getattr(value, "type", None) in _BLOCK_TYPES:
        dumped: Json = dump_model(value)
        return dumped
    return None


def blocks_of(value: Any) -> list[Json]:
    """Any returned value -> content blocks.

    None gives none; a string one text block; bytes one embedded blob; a content object itself; a list or tuple that
    holds a content object one block per entry; everything else its JSON as one text block (``str()`` of what has no
    JSON form).
    """
    if value is None:
        return []
    if isinstance(value, str):
        return [text_block(value)]
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        return [{"type": "resource", "resource": resource_contents("data:" + OCTETS, data, OCTETS)}]
    block = block_of(value)
    if block is not None:
        return [block]
    if isinstance(value, list | tuple) and any(block_like(each) for each in value):
        return [block for each in value for block in blocks_of(each)]
    made = to_jsonable(value, fallback=str)
    return [text_block(made if isinstance(made, str) else write_json(made))]


def block_like(value: Any) -> bool:
    """Would ``block_of`` give a block?"""
    return hasattr(value, "to_content") or (is_protocol_model(value) and getattr(value, "type", None) in _BLOCK_TYPES)
