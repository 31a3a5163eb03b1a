"""Where tokens and the clients that were registered for us are kept."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

from erlmcp.errors import ConfigurationError

BYTES_MAX: Final = 4 * 1024 * 1024


class Store(Protocol):
    """Records by name; both are ours. What it holds is secret."""

    async def load(self, name: str) -> dict[str, Any] | None: ...
    async def save(self, name: str, record: dict[str, Any]) -> None: ...
    async def drop(self, name: str) -> None:
        """Nothing happens where there is none."""


class MemoryStore:
    """For as long as the program runs."""

    def __init__(self) -> None:
        self._records: dict[str, dict[str, Any]] = {}

    async def load(self, name: str) -> dict[str, Any] | None:
        return self._records.get(name)

    async def save(self, name: str, record: dict[str, Any]) -> None:
        self._records[name] = record

    async def drop(self, name: str) -> None:
        self._records.pop(name, None)


class FileStore:
    """A file of JSON that its owner alone may read (0600), replaced whole on each change. It is read each time, so that
    programs may share it; of two that write at the same moment the later one counts.

    ConfigurationError for a file that others may read, or that is none of ours.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path).expanduser()
        self._lock: asyncio.Lock | None = None

    async def load(self, name: str) -> dict[str, Any] | None:
        found = (await asyncio.to_thread(self._read)).get(name)
        return found if isinstance(found, dict) else None

    async def save(self, name: str, record: dict[str, Any]) -> None:
        await self._change(name, record)

    async def drop(self, name: str) -> None:
        await self._change(name, None)

    async def _change(self, name: str, record: dict[str, Any] | None) -> None:
        self._lock = self._lock or asyncio.Lock()
        async with self._lock:
            await asyncio.to_thread(self._write, name, record)

    def _read(self) -> dict[str, Any]:
        try:
            with self._path.open("rb") as file:
                if os.fstat(file.fileno()).st_mode & 0o077:
                    raise ConfigurationError(f"{self._path} holds tokens and may be read by others; chmod 600 it")
                data = file.read(BYTES_MAX + 1)
        except FileNotFoundError:
            return {}
        try:
            found = json.loads(data) if len(data) <= BYTES_MAX else None
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ConfigurationError(f"{self._path} is no file of tokens")
        return found

    def _write(self, name: str, record: dict[str, Any] | None) -> None:
        records = self._read()
        if record is None:
            if records.pop(name, None) is None:
                return
        else:
            records[name] = record
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with suppress(FileNotFoundError):
            beside.unlink()
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(json.dumps(records, indent=1).encode())
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
