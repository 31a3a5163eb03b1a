"""The one way a command fails: a line that says what is wrong and how to mend it, and an exit code."""

from __future__ import annotations

from typing import Final

TOOL_FAILED: Final = 1
WRONG_USE: Final = 2
CANNOT_LOAD: Final = 3
CANNOT_REACH: Final = 4


class CommandError(Exception):
    """Ends a command. The message is one line; ``code`` is the exit code."""

    def __init__(self, message: str, code: int = WRONG_USE) -> None:
        super().__init__(message)
        self.code = code


def describe(error: BaseException) -> str:
    """An exception as one line."""
    text = " ".join(str(error).split())
    kind = type(error).__name__
    return f"{kind}: {text}" if text else kind


def nearest(wanted: str, names: list[str]) -> str:
    """The end of an error line: what may have been meant, or what there is."""
    from difflib import get_close_matches

    close = get_close_matches(wanted, names, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    if not names:
        return "there is none"
    shown = ", ".join(sorted(names)[:12])
    return f"there is {shown}{', ...' if len(names) > 12 else ''}"
