"""Strict RFC 8259 text to Python values and back."""

from typing import Any, Final, final

DEPTH_CEILING: Final = 512

def decode(
    data: bytes | bytearray | memoryview | str,
    *,
    depth_max: int = 128,
    string_bytes_max: int = 4194304,
    number_bytes_max: int = 1024,
) -> Any:
    """The value of a whole JSON text: dict, list, str, int, float, bool or None.

    Strict where RFC 8259 is: UTF-8 without a byte order mark, no comments, no trailing commas, no NaN. Of equal keys
    the last value counts (section 4 leaves it open). Integers are exact at any size, "-0" is the integer 0; floats
    are rounded correctly, and one beyond the range of a double becomes an infinity. An escaped surrogate without its
    other half is refused (section 8.2 leaves it open), as a str that holds one cannot be written back.

    ``depth_max`` (1 to 512) counts containers within containers, ``string_bytes_max`` the bytes between the quotes of
    one string or key as they stand in the text, ``number_bytes_max`` those of one number. Raises JsonError with the
    position of the first byte that cannot be, LimitError with the limit's name, ValueError for limits out of range,
    and TypeError for data that is neither bytes-like nor str. A str is taken as its UTF-8.
    """

def encode(value: object, *, depth_max: int = 128) -> bytes:
    """The JSON text of a value, in UTF-8 and without blanks.

    Takes dict (keys must be str), list, tuple, str, int, float, bool, None, their subclasses (so an IntEnum or a
    StrEnum is written as what it is; methods that a subclass overrides are not called), and Raw. Escapes only the
    quote, the backslash and control characters. Floats are written in the shortest form that reads back as the same
    double. Raises JsonError for anything else: another type (named), a key that is not str, an infinity or NaN, a str
    with a lone surrogate, an int with more digits than ``sys.get_int_max_str_digits()`` allows; LimitError where
    containers nest deeper than ``depth_max`` (1 to 512).
    """

def limit_vectors(level: int) -> None:
    """For tests: the widest vectors to use of those that the processor has. 0 is what every x86-64 has (SSE2), 1 AVX2,
    2 AVX-512, 3 its byte compression (VBMI2), which is the default. Only the compiled room has any. ValueError where
    there is no such level."""

@final
class Raw:
    """JSON text that was encoded before: ``encode`` puts its bytes in as they are. Raises JsonError where they are
    not JSON."""

    def __init__(self, data: bytes) -> None: ...
    @staticmethod
    def trusted(data: bytes) -> Raw:
        """Without the check: for bytes that are known to be JSON."""
    @property
    def data(self) -> bytes: ...
