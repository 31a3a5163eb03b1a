"""Pictures, sounds and files."""

from __future__ import annotations

import mimetypes
from typing import Any

from erlmcp.server.content import OCTETS, Json, is_textual, resource_contents
from erlmcp.server.content import Audio as _Audio
from erlmcp.server.content import File as _File
from erlmcp.server.content import Image as _Image


def _either(path: Any, data: bytes | None) -> dict[str, Any]:
    if (path is None) == (data is None):
        raise ValueError("Either path or data must be provided" if path is None else "path or data, not both")
    return {"path": path} if data is None else {"data": data}


class Image(_Image):
    """``Image("plot.png")`` or ``Image(data=png, format="png")``."""

    def __init__(
        self, path: Any = None, data: bytes | None = None, format: str | None = None, annotations: Any = None
    ) -> None:
        super().__init__(**_either(path, data), format=format, annotations=annotations)

    def to_image_content(self) -> Any:
        """The ImageContent of ``mcp_types``."""
        from erlmcp.client.result import typed

        return typed("ImageContent", self.to_content())


class Audio(_Audio):
    """``Audio("voice.wav")`` or ``Audio(data=wav, format="wav")``."""

    def __init__(
        self, path: Any = None, data: bytes | None = None, format: str | None = None, annotations: Any = None
    ) -> None:
        super().__init__(**_either(path, data), format=format, annotations=annotations)

    def to_audio_content(self) -> Any:
        """The AudioContent of ``mcp_types``."""
        from erlmcp.client.result import typed

        return typed("AudioContent", self.to_content())


class File(_File):
    """``File("report.pdf")`` or ``File(data=..., format="pdf", name="report")``."""

    def __init__(
        self,
        path: Any = None,
        data: bytes | None = None,
        format: str | None = None,
        name: str | None = None,
        annotations: Any = None,
    ) -> None:
        kind = None if format is None else _type_of(format)
        super().__init__(**_either(path, data), mime_type=kind, name=name, annotations=annotations)
        self.format = format
        if self.path is None:
            self.mime_type = kind or OCTETS
            ending = f".{format.lower()}" if format and name and "." not in name else ""
            self.uri = f"file:///{name or 'resource'}{ending}"

    def to_content(self) -> Json:
        resource = resource_contents(self.uri, self.read(), self.mime_type)
        return self._dressed({"type": "resource", "resource": resource})

    def to_resource_content(self) -> Any:
        """The EmbeddedResource of ``mcp_types``."""
        from erlmcp.client.result import typed

        return typed("EmbeddedResource", self.to_content())


def _type_of(format: str) -> str:
    """The media type of a file's ending."""
    lower = format.lower()
    if lower in ("plain", "txt", "text"):
        return "text/plain"
    found = mimetypes.guess_type(f"file.{lower}")[0] or f"application/{lower}"
    return found if is_textual(found) or "/" in found else f"application/{lower}"
