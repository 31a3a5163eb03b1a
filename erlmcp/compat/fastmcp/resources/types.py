"""Resources that are no functions: text, bytes, files and folders."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, NoReturn

from erlmcp.compat.fastmcp.exceptions import unsupported
from erlmcp.compat.fastmcp.resources.base import JSON, Resource, ResourceContent, ResourceResult


class TextResource(Resource):
    """A text that does not change."""

    def __init__(self, *, text: str, **options: Any) -> None:
        super().__init__(**options)
        self.text = text

    async def read(self) -> ResourceResult:
        return ResourceResult([ResourceContent(self.text, self.mime_type, self.meta)])


class BinaryResource(Resource):
    """Bytes that do not change."""

    def __init__(self, *, data: bytes, **options: Any) -> None:
        super().__init__(**options)
        self.data = data

    async def read(self) -> ResourceResult:
        return ResourceResult([ResourceContent(self.data, self.mime_type, self.meta)])


class FileResource(Resource):
    """A file, read anew each time."""

    def __init__(self, *, path: Any, is_binary: bool | None = None, encoding: str = "utf-8", **options: Any) -> None:
        super().__init__(**options)
        self.path = absolute(path)
        self.is_binary = not self.mime_type.startswith("text/") if is_binary is None else is_binary
        self.encoding = encoding

    async def read(self) -> ResourceResult:
        if self.is_binary:
            data: str | bytes = await asyncio.to_thread(self.path.read_bytes)
        else:
            data = await asyncio.to_thread(self.path.read_text, self.encoding)
        return ResourceResult([ResourceContent(data, self.mime_type, self.meta)])


class DirectoryResource(Resource):
    """The names of the files in a folder, as JSON."""

    def __init__(self, *, path: Any, recursive: bool = False, pattern: str | None = None, **options: Any) -> None:
        super().__init__(**{"mime_type": JSON, **options})
        self.path = absolute(path)
        self.recursive = recursive
        self.pattern = pattern

    async def list_files(self) -> list[Path]:
        """The files, in the folder's order. Raises NotADirectoryError and FileNotFoundError."""
        return await asyncio.to_thread(self._list)

    def _list(self) -> list[Path]:
        if not self.path.exists():
            raise FileNotFoundError(f"Directory not found: {self.path}")
        if not self.path.is_dir():
            raise NotADirectoryError(f"Not a directory: {self.path}")
        wanted = self.pattern or "*"
        return [
            each for each in (self.path.rglob(wanted) if self.recursive else self.path.glob(wanted)) if each.is_file()
        ]

    async def read(self) -> ResourceResult:
        names = [str(each.relative_to(self.path)) for each in await self.list_files()]
        return ResourceResult([ResourceContent({"files": names}, self.mime_type, self.meta)])


def absolute(path: Any) -> Path:
    """The path; ValueError for one that depends on where the process runs."""
    found = Path(path)
    if not found.is_absolute():
        raise ValueError(f"Path must be absolute, got {found}")
    return found


class HttpResource(Resource):
    """Not in this façade."""

    def __init__(self, **options: Any) -> None:
        _no_http(str(options.get("uri")))


def _no_http(uri: str) -> NoReturn:
    unsupported(
        f"HttpResource({uri!r})", "it needs an HTTP library beside the server", "a function that fetches the URL"
    )
