"""The json room: strict decoding, exact encoding, limits, and the compiled room in step with its twin."""

from __future__ import annotations

import enum
import importlib
import importlib.util
import json
import math
import random
import struct
import sys
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import ujson
from hypothesis import example, given, settings
from hypothesis import strategies as st

from erlmcp.errors import JsonError, LimitError

_SPEC = importlib.util.spec_from_file_location("json_vectors", Path(__file__).with_name("json_vectors.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
vectors = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(vectors)

Impl = Callable[[str], ModuleType]
CORE = importlib.import_module("erlmcp._core.json")
MODEL = importlib.import_module("erlmcp._model.json")

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=30,
)
FINITE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=30,
)


@pytest.fixture
def room(impl: Impl) -> ModuleType:
    return impl("json")


def exact(value: object) -> str:
    """repr tells 1 from 1.0 and from True, and 0.0 from -0.0."""
    return repr(value)


def verdict(call: Callable[[], object]) -> str:
    try:
        return exact(call())
    except JsonError as error:
        return f"JsonError {error}"
    except LimitError as error:
        return f"LimitError {error}"


# --- decoding ---


@pytest.mark.parametrize(("text", "value"), vectors.ACCEPT, ids=lambda item: repr(item)[:40])
def test_a_text_of_the_grammar_is_read_as_its_value(room: ModuleType, text: bytes, value: object) -> None:
    assert exact(room.decode(text)) == exact(value)


@pytest.mark.parametrize(("text", "position"), vectors.REJECT, ids=lambda item: repr(item)[:40])
def test_a_text_outside_the_grammar_is_refused_where_it_leaves_it(room: ModuleType, text: bytes, position: int) -> None:
    with pytest.raises(JsonError) as caught:
        room.decode(text)
    assert caught.value.position == position


# In the place of a value within containers: all but those that are several values or none, or close the containers.
NESTED = [text for text, _ in vectors.REJECT if text.strip() and not text.startswith((b"]", b"[] []", b"[]]", b"1,"))]


@pytest.mark.parametrize("text", NESTED, ids=lambda item: repr(item)[:40])
def test_a_text_outside_the_grammar_is_refused_within_containers_too(room: ModuleType, text: bytes) -> None:
    with pytest.raises(JsonError):
        room.decode(b'[{"a":' + text + b"}]")


def test_every_vector_stands_there_once() -> None:
    texts = [text for text, _ in vectors.ACCEPT + vectors.REJECT]
    assert len(texts) == len(set(texts)) >= 150


def test_another_parser_agrees_on_the_vectors() -> None:
    for text, value in vectors.ACCEPT:
        if text not in vectors.UJSON_DIFFERS:
            assert exact(ujson.loads(text)) == exact(value), text
    for text, _ in vectors.REJECT:
        if text not in vectors.UJSON_DIFFERS:
            with pytest.raises(ValueError):
                ujson.loads(text)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_bytes_are_taken(room: ModuleType, kind: Callable[[bytes], Any]) -> None:
    assert room.decode(kind(b'{"a":"\xc3\xa9"}')) == {"a": "é"}


def test_a_str_is_taken_as_its_utf8(room: ModuleType) -> None:
    assert room.decode('{"a":[1,"é€😀"]}') == {"a": [1, "é€😀"]}
    assert room.decode('["plain"]') == ["plain"]
    with pytest.raises(JsonError) as caught:
        room.decode('"é\ud800"')
    assert caught.value.position == 3


def test_data_of_another_type_is_refused(room: ModuleType) -> None:
    with pytest.raises(TypeError):
        room.decode(12)
    with pytest.raises(TypeError):
        room.decode(None)


def test_a_slice_is_read_without_a_look_beyond_its_end(room: ModuleType) -> None:
    text = b'["0123456789abcdef0123456789abcdef","tail"]'
    for size in range(len(text)):
        with pytest.raises(JsonError) as caught:
            room.decode(memoryview(text)[:size])
        assert caught.value.position <= size
    assert room.decode(memoryview(b"123456789")[:3]) == 123


@given(FINITE)
def test_no_beginning_of_a_text_in_brackets_is_a_text(value: object) -> None:
    text = json.dumps([value], ensure_ascii=False).encode()
    for size in range(len(text)):
        for room in (CORE, MODEL):
            with pytest.raises(JsonError):
                room.decode(text[:size])


# --- limits ---


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
def test_ten_thousand_containers_meet_the_limit_and_not_the_stack(room: ModuleType, opening: bytes) -> None:
    for depth_max in (1, 128, 512):
        with pytest.raises(LimitError) as caught:
            room.decode(opening * 10_000, depth_max=depth_max)
        assert (caught.value.limit, caught.value.maximum) == ("depth_max", depth_max)


def test_the_depth_limit_is_exact(room: ModuleType) -> None:
    for depth in (1, 2, 128, 512):
        value = room.decode(b"[" * depth + b"]" * depth, depth_max=depth)
        assert room.encode(value, depth_max=depth) == b"[" * depth + b"]" * depth
        if depth > 1:
            with pytest.raises(LimitError):
                room.decode(b"[" * depth + b"]" * depth, depth_max=depth - 1)
            with pytest.raises(LimitError):
                room.encode(value, depth_max=depth - 1)
    assert room.decode(b"[[],[],{},[{}]]", depth_max=3) == [[], [], {}, [{}]]


@pytest.mark.parametrize("body", [b"aaaa", b"\\n\\n", b"\xc3\xa9\xc3\xa9"])
def test_the_string_limit_counts_the_bytes_between_the_quotes(room: ModuleType, body: bytes) -> None:
    for text in (b'["' + body + b'"]', b'{"' + body + b'":1}'):
        room.decode(text, string_bytes_max=4)
        with pytest.raises(LimitError) as caught:
            room.decode(text, string_bytes_max=3)
        assert (caught.value.limit, caught.value.maximum) == ("string_bytes_max", 3)
        assert "byte 1" in str(caught.value)


@pytest.mark.parametrize("text", [b"12345", b"-1234", b"1.234", b"1e+22"])
def test_the_number_limit_counts_the_bytes_of_the_number(room: ModuleType, text: bytes) -> None:
    room.decode(text, number_bytes_max=5)
    with pytest.raises(LimitError) as caught:
        room.decode(text, number_bytes_max=4)
    assert (caught.value.limit, caught.value.maximum) == ("number_bytes_max", 4)


def test_a_limit_out_of_range_is_refused(room: ModuleType) -> None:
    for given_ in ({"depth_max": 0}, {"depth_max": 513}, {"string_bytes_max": 0}, {"number_bytes_max": -1}):
        with pytest.raises(ValueError):
            room.decode(b"1", **given_)
    for depth_max in (0, 513):
        with pytest.raises(ValueError):
            room.encode(1, depth_max=depth_max)


def test_an_integer_beyond_the_interpreters_own_limit_names_that_limit(room: ModuleType) -> None:
    with pytest.raises(LimitError) as caught:
        room.decode(b"1" * 5000, number_bytes_max=5000)
    assert caught.value.limit == "int_max_str_digits"
    with pytest.raises(JsonError, match="digits"):
        room.encode(10**5000)


# --- encoding ---


class Word(enum.StrEnum):
    ONE = "öne"


class Number(enum.IntEnum):
    TWO = 2


class LoudStr(str):
    def __str__(self) -> str:
        raise AssertionError("called")


class LoudInt(int):
    def __repr__(self) -> str:
        raise AssertionError("called")

    __str__ = __repr__


class LoudFloat(float):
    def __repr__(self) -> str:
        raise AssertionError("called")


class LoudDict(dict[str, object]):
    def items(self) -> Any:
        raise AssertionError("called")

    __iter__ = keys = items


class LoudList(list[object]):
    def __iter__(self) -> Iterator[object]:
        raise AssertionError("called")


Pair = namedtuple("Pair", "a b")

WRITTEN: list[tuple[object, bytes]] = [
    *vectors.WRITTEN,
    (Word.ONE, b'"\xc3\xb6ne"'),
    ({Word.ONE: Number.TWO}, b'{"\xc3\xb6ne":2}'),
    (LoudStr("a"), b'"a"'),
    (LoudInt(7), b"7"),
    (LoudInt(2**80), b"1208925819614629174706176"),
    (LoudFloat(0.5), b"0.5"),
    (LoudDict(a=1), b'{"a":1}'),
    (LoudList([1]), b"[1]"),
    (OrderedDict(a=1, b=2), b'{"a":1,"b":2}'),
    (Pair(1, "x"), b'[1,"x"]'),
]


@pytest.mark.parametrize(("value", "text"), WRITTEN, ids=lambda item: ascii(type(item).__name__))
def test_a_value_is_written_without_blanks_and_with_the_fewest_escapes(
    room: ModuleType, value: object, text: bytes
) -> None:
    assert room.encode(value) == text


REFUSED: list[object] = [math.nan, math.inf, -math.inf, "\ud800", "a\udfff", "\ud83d\ude00", {"\ud800": 1}]
REFUSED += [{1: 2}, {None: 1}, {True: 1}, {1.5: 1}, {b"a": 1}, b"bytes", {1, 2}, 1j, [1, {2}], {"a": [{"b": {1}}]}]
REFUSED += [range(3), int, bytearray(b"x"), memoryview(b"x"), ...]


@pytest.mark.parametrize(
    "value",
    REFUSED,
    ids=ascii,
)
def test_what_json_cannot_hold_is_refused(room: ModuleType, value: object) -> None:
    with pytest.raises(JsonError) as caught:
        room.encode(value)
    assert caught.value.position == -1


def test_the_refusal_names_the_type(room: ModuleType) -> None:
    with pytest.raises(JsonError, match="type bytes"):
        room.encode([b"x"])
    with pytest.raises(JsonError, match="type int"):
        room.encode({1: 2})


def test_a_value_that_holds_itself_meets_the_depth_limit(room: ModuleType) -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(LimitError) as caught:
        room.encode(value)
    assert (caught.value.limit, caught.value.maximum) == ("depth_max", 128)
    assert room.encode([1]) == b"[1]"


def test_raw_text_is_spliced_as_it_is(room: ModuleType) -> None:
    raw = room.Raw(b' {"a" : 1.0e2 } ')
    assert raw.data == b' {"a" : 1.0e2 } '
    assert room.encode({"x": [raw, raw]}) == b'{"x":[ {"a" : 1.0e2 } , {"a" : 1.0e2 } ]}'
    assert room.encode(room.Raw.trusted(b"not checked")) == b"not checked"
    assert "1.0e2" in repr(raw)


@pytest.mark.parametrize("data", [b"", b"{", b"1 2", b"\xff", b'"\\ud800"', b"nul"])
def test_raw_text_that_is_not_json_is_refused(room: ModuleType, data: bytes) -> None:
    with pytest.raises(JsonError):
        room.Raw(data)
    with pytest.raises(TypeError):
        room.Raw(data.decode("latin-1"))


@given(FINITE)
def test_what_is_written_reads_back_the_same(value: object) -> None:
    for room in (CORE, MODEL):
        text = room.encode(value)
        assert exact(room.decode(text)) == exact(value)
        assert exact(json.loads(text)) == exact(value)


@given(VALUES)
@example({"\ud800": 1})
@example(["\ud800"])
def test_both_rooms_write_the_same_bytes(value: object) -> None:
    assert verdict(lambda: CORE.encode(value)) == verdict(lambda: MODEL.encode(value))


@given(
    st.integers(0, 90), st.sampled_from(['"', "\\", "\n", "\x00", "é", "€", "😀", "\x7f", "\x1f"]), st.integers(0, 90)
)
def test_a_special_character_at_any_place_is_found(before: int, special: str, after: int) -> None:
    text = "a" * before + special + "b" * after
    for room in (CORE, MODEL):
        encoded = room.encode([text, text])
        assert encoded == json.dumps([text, text], ensure_ascii=False, separators=(",", ":")).encode()
        assert room.decode(encoded) == [text, text]
        assert room.decode(json.dumps([text, text])) == [text, text]


def test_a_long_text_with_many_escapes_reads_back_the_same(room: ModuleType) -> None:
    rng = random.Random(7)
    alphabets = [
        "ab\n",
        "abé\\",
        "日本\t語",
        "x" * 60 + "\n",
        "\x00\x01",
        "😀a",
        "\\",
        '\\"',
        '\\\\\\"nt/u',
        "n" * 90 + "\\é\n",
    ]
    for alphabet in alphabets:
        text = "".join(rng.choice(alphabet) for _ in range(70_000))
        assert room.decode(room.encode([text])) == [text]
        assert room.decode(json.dumps([text])) == [text]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_written_as_repr_and_read_back_to_the_bit(value: float) -> None:
    for room in (CORE, MODEL):
        assert room.encode(value) == repr(value).encode()
        assert struct.pack("d", room.decode(room.encode(value))) == struct.pack("d", value)


@given(st.integers(-(10**17), 10**17), st.integers(-330, 310))
def test_a_decimal_is_rounded_as_float_rounds_it(digits: int, power: int) -> None:
    for text in (f"{digits}e{power}", f"{digits}.5E{power}", f"{digits}.000000"):
        assert exact(CORE.decode(text)) == exact(MODEL.decode(text)) == exact(float(text))


@given(st.integers(1, 15), st.integers(0, 17), st.integers(0, 10**15 - 1))
def test_a_short_decimal_is_written_as_repr(size: int, scale: int, digits: int) -> None:
    value = float(f"{digits % 10**size}e-{scale}")
    for number in (value, -value, math.nextafter(value, math.inf)):
        assert CORE.encode(number) == repr(number).encode()


def test_an_allocation_that_fails_is_a_memory_error_and_loses_nothing() -> None:
    memory = importlib.import_module("erlmcp._core.memory")
    text = b"[" + b"1," * 300 + b"[" + b"2," * 600 + b"3" + b"]]"
    before = memory.live_blocks()
    for count in range(1, 5):
        memory.fail_after(count)
        with suppress(MemoryError):
            assert len(CORE.decode(text)) == 301
        memory.fail_never()
        assert memory.live_blocks() == before
    assert len(CORE.decode(text)) == 301


# --- both rooms in step ---


TOKENS = rb"""{ } [ ] , : " \ \u \ud83d \ude00 d800 0 1 - . e + true false null "a": 1e5 [[ ]] "x" """.split()
TOKENS += [b" ", b"\n", b"\x00", b"\x1f", b"\x80", b"\xc3", b"\xa9", b"\xe2\x82\xac", b"\xed\xa0\x80", b"\xff"]
TOKENS += [b"\xf0\x9f\x98\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf"]


def mutated(rng: random.Random, text: bytes) -> bytes:
    data = bytearray(text)
    for _ in range(rng.randint(1, 3)):
        at = rng.randint(0, len(data))
        what = rng.randint(0, 3)
        if what == 0:
            data[at:at] = rng.choice(TOKENS)
        elif what == 1:
            del data[at : at + rng.randint(1, 4)]
        elif what == 2 and at < len(data):
            data[at] = rng.randrange(256)
        else:
            data[at : at + rng.randint(0, 6)] = rng.choice(TOKENS)
    return bytes(data)


def agree(text: bytes, **limits: int) -> None:
    core, model = verdict(lambda: CORE.decode(text, **limits)), verdict(lambda: MODEL.decode(text, **limits))
    assert core == model, text


def seeds() -> list[bytes]:
    rng = random.Random(3)
    texts = [text for text, _ in vectors.ACCEPT]
    texts += [b"[" + b",".join(rng.sample(texts, 5)) + b"]" for _ in range(60)]
    texts += [b'{"first":' + rng.choice(texts) + b', "second" : ' + rng.choice(texts) + b"}" for _ in range(60)]
    return texts


@given(st.lists(st.sampled_from(TOKENS), max_size=12).map(b"".join))
@settings(max_examples=300)
def test_both_rooms_agree_on_any_sequence_of_tokens(text: bytes) -> None:
    agree(text)
    agree(text, depth_max=2, string_bytes_max=3, number_bytes_max=2)


def test_both_rooms_agree_on_mutated_texts() -> None:
    rng = random.Random(5)
    texts = seeds()
    for _ in range(6_000):
        agree(mutated(rng, rng.choice(texts)))


def test_both_rooms_agree_on_mutated_texts_under_tight_limits() -> None:
    rng = random.Random(6)
    texts = seeds()
    for _ in range(3_000):
        agree(mutated(rng, rng.choice(texts)), depth_max=3, string_bytes_max=6, number_bytes_max=4)


@pytest.mark.deep
def test_both_rooms_agree_on_very_many_mutated_texts() -> None:
    rng = random.Random(8)
    texts = seeds()
    for _ in range(60_000):
        agree(mutated(rng, rng.choice(texts)))


def test_keys_of_many_shapes_come_out_of_the_cache_as_they_went_in(room: ModuleType) -> None:
    rng = random.Random(9)
    for size in [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 47, 48, 49, 64] * 3:
        keys = [
            "".join(rng.choice("abcxyz_é" if rng.random() < 0.1 else "abcxyz_") for _ in range(size))
            for _ in range(200)
        ]
        value = [{key: i} for i, key in enumerate(keys)]
        assert room.decode(json.dumps(value, ensure_ascii=False)) == value


def test_objects_do_not_gather(room: ModuleType) -> None:
    texts = [b'[{"a":[1.5,"x",{}]},', b'[{"a":[1.5,"x",{}]}]', b'[1,[2,[3,"\\ud800"]]]', b'{"k":[1,2,{"b":nul}]}']
    for text in texts:
        verdict(lambda text=text: room.decode(text))  # type: ignore[misc]
    word = "not shared " + str(id(room))
    value = {"a": [word, {"b": word}], "c": object()}
    before = sys.getrefcount(word), sys.getrefcount(None)
    for _ in range(200):
        verdict(lambda: room.encode(value))
        for text in texts:
            verdict(lambda text=text: room.decode(text))  # type: ignore[misc]
    after = sys.getrefcount(word), sys.getrefcount(None)
    assert after[0] == before[0]
    assert after[1] - before[1] < 100
