"""A table of names: name -> number, with the name in its slot.

The class shows the structure that the registry and the session store are built on; ``Registry`` is what an embedder
wants. The C face (``names.pxd``) has more.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

_T = TypeVar("_T")

class Names:
    """Numbers of 64 bits by name. The str ``"a"`` and its UTF-8 bytes ``b"a"`` are the same name.

    A slot is one cache line and has a name of up to 32 bytes in it; at most half of the slots are in use. Hashing is
    keyed with ``seed``, a secret of the process where none is given.

    Threads: every method is one step for the threads of Python. ``find_hashes`` lets go of the GIL for large arrays;
    whoever changes the table waits until it is through.
    """

    def __init__(self, *, count_max: int = ..., seed: int | None = None) -> None:
        """``count_max`` is from 1 to 2**30 (the default), else ValueError."""
    def __len__(self) -> int: ...
    def __contains__(self, name: object, /) -> bool:
        """False too for what cannot be a name."""
    def __getitem__(self, name: str | bytes, /) -> int:
        """KeyError where the name is not there, TypeError where it is neither str nor bytes."""
    def __setitem__(self, name: str | bytes, number: int, /) -> None:
        """As ``put``."""
    def __delitem__(self, name: str | bytes, /) -> None:
        """KeyError where the name is not there."""
    @property
    def count_max(self) -> int: ...
    @property
    def memory_bytes(self) -> int:
        """Bytes of the slots and of the names that are longer than 32 bytes. A guess in the plain twin."""
    def get(self, name: str | bytes, default: _T = ..., /) -> int | _T:
        """The default is None."""
    def get_many(self, names: Sequence[str | bytes], default: _T = ..., /) -> list[int | _T]:
        """The numbers of a list or tuple of names, in order; asks for the memory of 32 at a time."""
    def put(self, name: str | bytes, number: int) -> bool:
        """Sets the number (0 to 2**64 - 1, else OverflowError) of a name; whether the name is new.

        LimitError naming ``count_max`` where the table is full, UnicodeEncodeError for a str without a UTF-8 form.
        """
    def remove(self, name: str | bytes) -> bool:
        """Whether the name was there."""
    def names(self) -> list[bytes]:
        """All names in UTF-8, in no order that could be relied on."""
    def hashes(self, names: Sequence[str | bytes]) -> NDArray[np.uint64]:
        """The hashes of a list or tuple of names, for ``find_hashes`` of this table; 0 for a str without a UTF-8
        form.
        """
    def find_hashes(self, hashes: Any, out: Any = None) -> NDArray[np.int64]:
        """The numbers of names by their hashes, as signed numbers, -1 for each that is not there.

        ``hashes`` is a contiguous array of uint64 (numpy, ``array.array``, a memoryview); ``out`` one of int64 of the
        same size to write into, which is then what is given, or None for a new numpy array. They may share their
        memory if they begin at the same place. Names are told apart by 64 keyed bits, of which 56 are random.

        TypeError where the elements are others, ValueError or BufferError where an array does not lie in one piece,
        cannot be written, or has another size.
        """
    def clear(self) -> None: ...
    def probe_max(self) -> int:
        """The most slots that finding a name looks at. O(n)."""
    def check(self) -> None:
        """AssertionError where an invariant is broken. O(n)."""
