"""The corridor's way through, in plain Python: a message that came in as the bytes that go out."""

from __future__ import annotations

from json import JSONDecoder

from erlmcp._model.corridor import Call
from erlmcp._model.jsonrpc import INVALID, NOTIFICATION

BLANKS = " \t\r\n"


def member(text: bytes, key: str) -> tuple[int, int]:
    """Where the value of a key of a JSON object stands in its text, which was validated before."""
    whole = text.decode()
    reader = JSONDecoder(strict=False)
    at = whole.index("{") + 1
    while True:
        name, at = reader.raw_decode(whole, after_blanks(whole, at))
        at = after_blanks(whole, whole.index(":", at) + 1)
        _, end = reader.raw_decode(whole, at)
        if name == key:
            return len(whole[:at].encode()), len(whole[:end].encode())
        at = whole.index(",", end) + 1


def after_blanks(text: str, at: int) -> int:
    while text[at] in BLANKS:
        at += 1
    return at


def replaced(text: bytes, key: str, value: bytes) -> bytes:
    start, end = member(text, key)
    return text[:start] + value + text[end:]


def relay_params(call: Call, name: bytes | None = None, meta: bytes | None = None) -> bytes | None:
    text = None if call.envelope is None else call.envelope.params
    if call.kind > NOTIFICATION:
        return None
    if text is None:
        if name is not None:
            raise ValueError("there are no params that name anything")
        return None if meta is None else b'{"_meta":' + meta + b"}"
    if meta is not None and not text.startswith(b"{"):
        raise ValueError("params are an array, which has no _meta")
    if name is not None:
        if call.name is None or call.name_key not in ("name", "uri"):
            raise ValueError("params name nothing by the key of their method")
        text = replaced(text, call.name_key, name)
    if meta is None:
        return text
    if "_meta" in call.params:
        return replaced(text, "_meta", meta)
    return b'{"_meta":' + meta + (b"," if call.params else b"") + text[1:]


def relay_answer(call: Call, id_raw: bytes) -> bytes:
    if call.envelope is None or call.envelope.id is None or call.kind == INVALID:
        raise ValueError("the message has no id")
    return replaced(call.raw, "id", id_raw)


def result_text(call: Call) -> bytes | None:
    return None if call.envelope is None else call.envelope.result


def error_text(call: Call) -> bytes | None:
    return None if call.envelope is None else call.envelope.error
