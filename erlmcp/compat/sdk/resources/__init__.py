"""Resource objects, and the policy for what is in the URI of a template."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any

from erlmcp.errors import ConfigurationError

_TEXTUAL = frozenset({"application/json", "application/xml"})
_BY_MIME_TYPE = object()


@dataclass(kw_only=True)
class Resource:
    """What ``add_resource`` takes; ``read`` gives text or bytes."""

    uri: Any
    name: str | None = None
    title: str | None = None
    description: str | None = None
    mime_type: str = "text/plain"
    icons: Any = None
    annotations: Any = None
    meta: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        self.uri = str(self.uri)
        self.name = self.name or self.uri

    async def read(self) -> str | bytes:
        """The contents."""
        raise NotImplementedError(f"{type(self).__name__} has no read()")


@dataclass(kw_only=True)
class TextResource(Resource):
    """A string."""

    text: str

    async def read(self) -> str:
        return self.text


@dataclass(kw_only=True)
class BinaryResource(Resource):
    """Bytes."""

    data: bytes

    async def read(self) -> bytes:
        return self.data


@dataclass(kw_only=True)
class FunctionResource(Resource):
    """What a function gives each time that it is read."""

    fn: Callable[[], Any]

    @classmethod
    def from_function(cls, fn: Callable[..., Any], uri: str, name: str | None = None, **options: Any) -> Any:
        """By the function's own name and docstring where there are no others."""
        options["description"] = options.get("description") or fn.__doc__ or ""
        options["mime_type"] = options.get("mime_type") or "text/plain"
        return cls(fn=fn, uri=uri, name=name or fn.__name__, **options)

    async def read(self) -> Any:
        found = self.fn()
        return await found if inspect.isawaitable(found) else found


@dataclass(kw_only=True)
class FileResource(Resource):
    """A file: decoded with ``encoding``, or its bytes where that is None. Without it, what the MIME type says."""

    path: Path
    encoding: Any = _BY_MIME_TYPE
    is_binary: bool | None = None  # mcp 1.x

    def __post_init__(self) -> None:
        super().__post_init__()
        self.path = Path(self.path)
        if not self.path.is_absolute():
            raise ValueError("Path must be absolute")
        if self.is_binary is not None:
            self.encoding = None if self.is_binary else "utf-8"
        elif self.encoding is _BY_MIME_TYPE:
            self.encoding = encoding_of(self.mime_type)
        if self.encoding is not None:
            _check_encoding(self.encoding)
        self.read = self._read  # type: ignore[method-assign]  # an ordinary function: it is run in a thread

    def _read(self) -> Any:
        return self.path.read_bytes() if self.encoding is None else self.path.read_text(encoding=self.encoding)


@dataclass(kw_only=True)
class DirectoryResource(Resource):
    """The names of the files in a directory, as JSON."""

    path: Path
    recursive: bool = False
    pattern: str | None = None
    mime_type: str = "application/json"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.path = Path(self.path)
        if not self.path.is_absolute():
            raise ValueError("Path must be absolute")
        self.read = self._read  # type: ignore[method-assign, assignment]

    def list_files(self) -> list[Path]:
        """Raises FileNotFoundError, or NotADirectoryError."""
        if not self.path.exists():
            raise FileNotFoundError(f"Directory not found: {self.path}")
        if not self.path.is_dir():
            raise NotADirectoryError(f"Not a directory: {self.path}")
        glob = self.path.rglob if self.recursive else self.path.glob
        return list(glob(self.pattern or "*"))

    def _read(self) -> str:
        names = [str(each.relative_to(self.path)) for each in self.list_files() if each.is_file()]
        return json.dumps({"files": names}, indent=2)


class HttpResource:
    """Not served: its reads belong to an HTTP client of the app's own choice."""

    def __init__(self, **_fields: Any) -> None:
        raise ConfigurationError("HttpResource: fetch the page in a function with @mcp.resource(uri)")


def encoding_of(mime_type: str) -> str | None:
    """The encoding that a file of this MIME type has; None: it is no text."""
    essence, *parameters = (part.strip() for part in mime_type.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value:
            return value.strip().strip('"')
    essence = essence.lower()
    is_text = essence.startswith("text/") or essence.endswith(("+json", "+xml")) or essence in _TEXTUAL
    return "utf-8-sig" if is_text else None


def _check_encoding(encoding: str) -> None:
    try:
        b"x".decode(encoding)
    except LookupError as error:
        raise ValueError(str(error)) from error
    except UnicodeError:
        return


@dataclass(frozen=True)
class ResourceSecurity:
    """What a variable of a template may not hold, after decoding; ``exempt_params`` are not looked at."""

    reject_path_traversal: bool = True
    reject_absolute_paths: bool = True
    reject_null_bytes: bool = True
    exempt_params: AbstractSet[str] = field(default_factory=frozenset)

    def validate(self, params: Mapping[str, Any]) -> str | None:
        """The first variable that breaks it."""
        for name, value in params.items():
            if name not in self.exempt_params and any(self._breaks(each) for each in _texts(value)):
                return name
        return None

    def _breaks(self, value: str) -> bool:
        if self.reject_null_bytes and "\0" in value:
            return True
        if self.reject_path_traversal and ".." in value.replace("\\", "/").split("/"):
            return True
        return self.reject_absolute_paths and (value[:1] in ("/", "\\") or bool(PureWindowsPath(value).drive))


def _texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [str(each) for each in value.values()]
    return [str(each) for each in value] if isinstance(value, list | tuple) else [str(value)]


DEFAULT_RESOURCE_SECURITY = ResourceSecurity()
