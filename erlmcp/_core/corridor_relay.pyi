"""The corridor's way through: a message that came in as the bytes that go out, with nothing decoded.

Everything stays as it was written, unknown fields and the writing of numbers included, but for what is named here.
"""

from erlmcp._core.corridor import Call

def relay_params(call: Call, name: bytes | None = None, meta: bytes | None = None) -> bytes | None:
    """The JSON text of the params of a request or a notification; None where there are none, and for other kinds.

    ``name`` takes the place of the value that names the entry (``Routes.set_method``'s name key), ``meta`` that of
    ``_meta``, which is put first where there is none: JSON texts, which are not checked. ValueError where params name
    nothing by one of the scanner's keys, or are an array, which has no ``_meta``.
    """

def relay_answer(call: Call, id_raw: bytes) -> bytes:
    """The whole message with ``id_raw`` for its id. ValueError where it has no id."""

def result_text(call: Call) -> bytes | None:
    """The JSON text of the result; None where the message has none."""

def error_text(call: Call) -> bytes | None:
    """The JSON text of the error; None where the message has none."""
