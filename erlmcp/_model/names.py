"""The table of names in plain Python: the specification of ``erlmcp._core.names``."""

from __future__ import annotations

import operator
import sys
from collections.abc import Sequence
from typing import Any

from erlmcp.errors import LimitError

COUNT_LIMIT = 2**30
NUMBER_LIMIT = 2**64


def name_bytes(name: str | bytes) -> bytes | None:
    """The UTF-8 bytes of a name; None for a str that has none."""
    if isinstance(name, bytes):
        return name
    if not isinstance(name, str):
        raise TypeError(f"a name is a str or bytes, not {type(name).__name__}")
    try:
        return str.encode(name)
    except UnicodeEncodeError:
        return None


def name_hash(name: bytes, seed: int) -> int:
    """Never 0, which is the hash of what is no name."""
    return hash((seed, name)) % (NUMBER_LIMIT - 1) + 1


def words(array: Any, is_signed: bool, is_written: bool = False) -> memoryview:
    """The elements of a contiguous array of 64-bit integers in the machine's order."""
    view = memoryview(array)
    orders = "@=<" if sys.byteorder == "little" else "@=>"
    kind = view.format[1:] if view.format[:1] in [*orders] else view.format
    if view.itemsize != 8 or kind not in [*("qln" if is_signed else "QLN")]:
        wanted = "int64" if is_signed else "uint64"
        raise TypeError(f"expected an array of {wanted}, got elements of {view.itemsize} bytes: {view.format!r}")
    if not view.c_contiguous:
        raise ValueError("the array does not lie in one piece")
    if is_written and view.readonly:
        raise BufferError("the array cannot be written")
    return view.cast("B").cast("q" if is_signed else "Q") if view.nbytes else memoryview(b"")


def listed(names: Sequence[str | bytes], verb: str) -> Sequence[str | bytes]:
    if not isinstance(names, list | tuple):
        raise TypeError(f"{verb} takes a list or a tuple, not {type(names).__name__}")
    return names


def hashes_of(names: Sequence[str | bytes], seed: int) -> Any:
    import numpy

    texts = [name_bytes(name) for name in listed(names, "hashes")]
    return numpy.array([0 if text is None else name_hash(text, seed) for text in texts], "uint64")


def find_in(numbers: dict[int, int], hashes: Any, out: Any) -> Any:
    """The number of each hash in ``out``, -1 for each that is not there."""
    import numpy

    asked = words(hashes, False)
    if out is None:
        out = numpy.empty(len(asked), "int64")
    found = words(out, True, is_written=True)
    if len(found) != len(asked):
        raise ValueError(f"out has room for {len(found)} numbers, {len(asked)} are wanted")
    for i, one in enumerate(list(asked)):
        number = numbers.get(one, -1)
        found[i] = number if number < NUMBER_LIMIT // 2 else number - NUMBER_LIMIT
    return out


class Names:
    """A dict of the names' bytes."""

    def __init__(self, *, count_max: int = COUNT_LIMIT, seed: int | None = None) -> None:
        if not 1 <= count_max <= COUNT_LIMIT:
            raise ValueError(f"count_max must be 1 to {COUNT_LIMIT}, got {count_max}")
        self._count_max = count_max
        self._seed = 0 if seed is None else seed
        self._number_of: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._number_of)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str | bytes) and name_bytes(name) in self._number_of

    def __getitem__(self, name: str | bytes) -> int:
        text = name_bytes(name)
        if text is None or text not in self._number_of:
            raise KeyError(name)
        return self._number_of[text]

    def __setitem__(self, name: str | bytes, number: int) -> None:
        self.put(name, number)

    def __delitem__(self, name: str | bytes) -> None:
        if not self.remove(name):
            raise KeyError(name)

    @property
    def count_max(self) -> int:
        return self._count_max

    @property
    def memory_bytes(self) -> int:
        return 64 * len(self._number_of)

    def get(self, name: str | bytes, default: object = None, /) -> object:
        text = name_bytes(name)
        return default if text is None else self._number_of.get(text, default)

    def get_many(self, names: Sequence[str | bytes], default: object = None, /) -> list[object]:
        return [self.get(name, default) for name in listed(names, "get_many")]

    def put(self, name: str | bytes, number: int) -> bool:
        number = operator.index(number)
        if not 0 <= number < NUMBER_LIMIT:
            raise OverflowError(f"a number is from 0 to {NUMBER_LIMIT - 1}, got {number}")
        text = name_bytes(name)
        if text is None:
            assert isinstance(name, str)
            text = str.encode(name)
        is_new = text not in self._number_of
        if is_new and len(self) >= self._count_max:
            raise LimitError("count_max", self._count_max, "the table is full")
        self._number_of[text] = number
        return is_new

    def remove(self, name: str | bytes) -> bool:
        text = name_bytes(name)
        return text is not None and self._number_of.pop(text, None) is not None

    def names(self) -> list[bytes]:
        return list(self._number_of)

    def hashes(self, names: Sequence[str | bytes]) -> Any:
        return hashes_of(names, self._seed)

    def find_hashes(self, hashes: Any, out: Any = None) -> Any:
        numbers = {name_hash(name, self._seed): number for name, number in self._number_of.items()}
        return find_in(numbers, hashes, out)

    def clear(self) -> None:
        self._number_of.clear()

    def probe_max(self) -> int:
        return min(1, len(self._number_of))

    def check(self) -> None:
        assert len(self._number_of) <= self._count_max, "more names than count_max"
