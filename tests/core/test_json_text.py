"""The json room's vectors: what is special at every place of strings of every length, and no read past the end."""

from __future__ import annotations

import ctypes
import importlib
import json
import mmap
import random
import struct
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from erlmcp.errors import JsonError, LimitError

Impl = Callable[[str], ModuleType]
CORE = importlib.import_module("erlmcp._core.json")
MODEL = importlib.import_module("erlmcp._model.json")

LENGTHS = range(131)  # two blocks of 64 and what is left of a third
FILLERS = {"ascii": "a", "two bytes": "é", "three bytes": "数", "four bytes": "😀", "quotes": '"'}
SPECIALS = ['"', "\\", "/", "\n", "\b", "\x00", "\x0b", "\x1f", "\x7f", "\x80", "ÿ", "\u07ff", "\u0800", "\uffff", "😀"]
BROKEN = [b"\x80", b"\xbf\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xc3", b"\xc3\xc3\xa9", b"\xe0\x80\x80", b"\xe0\x9f\xbf"]
BROKEN += [b"\xe2\x82", b"\xe2\x82\xac\x80", b"\xed\xa0\x80", b"\xf0\x80\x80\x80", b"\xf0\x8f\xbf\xbf", b"\xf0\x9f\x98"]
BROKEN += [b"\xf0\x9f\x98\x80\x80", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xff", b"\x1f", b"\x00"]
BROKEN += [b'"', b"\\", b"\\x", b"\\u12", b"\\ud800", b"\\udc00\\ud800"]


@pytest.fixture(params=[0, 1, 2, 3], ids=["SSE2", "AVX2", "AVX-512", "VBMI2"])
def vectors(request: pytest.FixtureRequest) -> Iterator[None]:
    CORE.limit_vectors(request.param)
    yield
    CORE.limit_vectors(3)


def test_a_level_of_vectors_that_there_is_not_is_refused() -> None:
    for level in (-1, 4):
        with pytest.raises(ValueError, match="level"):
            CORE.limit_vectors(level)


def dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def verdict(room: ModuleType, text: bytes | memoryview) -> str:
    try:
        return repr(room.decode(text))
    except (JsonError, LimitError) as error:
        return f"{type(error).__name__} {error}"


def placed(filler: str, special: str) -> Iterator[str]:
    for size in LENGTHS:
        for at in range(size):
            yield filler * at + special + filler * (size - at - 1)


@pytest.mark.usefixtures("vectors")
@pytest.mark.parametrize("filler", FILLERS.values(), ids=FILLERS)
@pytest.mark.parametrize("special", SPECIALS, ids=ascii)
def test_a_special_character_at_each_place_of_each_length_goes_both_ways(filler: str, special: str) -> None:
    texts = list(placed(filler, special))
    encoded = CORE.encode(texts)
    assert encoded == dump(texts)
    assert CORE.decode(encoded) == texts
    for text in texts[-131:]:  # alone: into a target that is too small for whole blocks at first
        assert CORE.encode(text) == dump(text)
        assert CORE.decode(dump(text)) == text


@pytest.mark.usefixtures("vectors")
@pytest.mark.parametrize("filler", FILLERS.values(), ids=FILLERS)
def test_a_lone_surrogate_at_any_place_is_refused(filler: str) -> None:
    for size in (1, 7, 8, 16, 17, 31, 64, 130, 5000):
        for at in {0, 1, size // 2, size - 1}:
            for lone in ("\ud800", "\udfff"):
                with pytest.raises(JsonError, match="lone surrogate"):
                    CORE.encode(filler * at + lone + filler * (size - at - 1))


FRAMES = [("a", "b"), ("é", "é"), ("数", "语"), ("😀", "😀"), ("\\n", '\\"'), ("a\\\\", "é\\n数"), ("\\u00e9", "\\/")]


@pytest.mark.usefixtures("vectors")
@pytest.mark.parametrize("broken", BROKEN, ids=ascii)
def test_what_is_broken_is_found_at_each_place_where_the_twin_finds_it(broken: bytes) -> None:
    for before, after in FRAMES:
        for count in (*range(0, 131, 1 if len(before) == 1 else 3), 200):
            text = b'["' + before.encode() * count + broken + after.encode() * (131 - min(count, 100)) + b'"]'
            assert verdict(CORE, text) == verdict(MODEL, text), text


@pytest.mark.usefixtures("vectors")
def test_runs_of_backslashes_of_any_length_lie_across_the_blocks_as_they_may() -> None:
    for before in range(70):
        for run in (1, 2, 3, 4, 15, 16, 17, 31, 32, 33, 63, 64, 65, 66):
            for after in (b"n", b'"', b"t/u0041", "é".encode()):
                text = b'"' + b"x" * before + b"\\" * run + after + b"y" * 70 + b'"'
                assert verdict(CORE, text) == verdict(MODEL, text), text


def random_text(rng: random.Random, size: int) -> str:
    alphabets = ["ab", "ab\n", 'a"\\', "abé", "aé数\t", "数语", "a😀é\n", "\x00\x7fa", "/bfnrtu\\", "é\x01ÿ"]
    return "".join(
        rng.choice(rng.choice(alphabets)) if rng.random() < 0.9 else rng.choice("axyz") * rng.randrange(40)
        for _ in range(size)
    )


@pytest.mark.usefixtures("vectors")
@pytest.mark.parametrize("round_", range(8))
def test_random_texts_go_both_ways_however_they_are_escaped(round_: int) -> None:
    rng = random.Random(round_)
    for size in (*range(0, 300, 7), 4095, 4096, 4097, 9000):
        text = random_text(rng, size)
        encoded = CORE.encode([text, text])
        assert encoded == dump([text, text])
        assert CORE.decode(encoded) == CORE.decode(json.dumps([text, text])) == [text, text]
        mixed = "".join(json.dumps(part, ensure_ascii=rng.random() < 0.2)[1:-1] for part in text)
        assert CORE.decode(f'"{mixed}"') == text


@pytest.mark.usefixtures("vectors")
def test_a_random_text_with_a_wrong_byte_fails_where_the_twin_says() -> None:
    rng = random.Random(4)
    for _ in range(3_000):
        data = bytearray(dump(random_text(rng, rng.randrange(20, 160))))
        data[rng.randrange(len(data))] = rng.randrange(256)
        assert verdict(CORE, bytes(data)) == verdict(MODEL, bytes(data)), bytes(data)


@pytest.mark.usefixtures("vectors")
def test_a_str_that_keeps_its_utf8_is_written_as_one_that_does_not() -> None:
    rng = random.Random(5)
    for size in (1, 5, 16, 17, 40, 131, 5000):
        fresh = '"' + "é数" + "".join(rng.choice('éa"数\n') for _ in range(size)).replace('"', "'") + '"'
        kept = (fresh + " ")[:-1]
        kept_value = CORE.decode(kept.replace("\n", " "))
        assert isinstance(kept_value, str)
        ctypes.pythonapi.PyUnicode_AsUTF8(ctypes.py_object(kept))
        assert CORE.encode(kept) == CORE.encode(fresh) == dump(fresh)
        assert CORE.encode([kept, {kept: kept}]) == dump([kept, {kept: kept}])


@pytest.mark.usefixtures("vectors")
@pytest.mark.parametrize("text", ["é" * 90, "数" * 60, "a数\n" * 30, '"' * 90, "😀é" * 20, "a" * 180])
def test_a_limit_on_the_target_is_exact_for_characters_of_any_width(impl: Impl, text: str) -> None:
    room = impl("corridor_out")
    size = len(dump({"jsonrpc": "2.0", "id": 1, "result": [text]}))
    for bytes_max in range(size - 3, size + 3):
        outbound = room.Outbound(framing="none", bytes_max=bytes_max)
        if bytes_max < size:
            with pytest.raises(LimitError):
                outbound.result(b"1", [text])
        else:
            outbound.result(b"1", [text])
            assert len(outbound.take()) == size


# --- nothing is read past the end ---


class Guarded:
    """Bytes that end where the memory ends: a read past them kills the interpreter."""

    def __init__(self, size_max: int) -> None:
        self.size = -(-size_max // mmap.PAGESIZE) * mmap.PAGESIZE
        self.map = mmap.mmap(-1, self.size + mmap.PAGESIZE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        assert libc.mprotect(start + self.size, mmap.PAGESIZE, 0) == 0, ctypes.get_errno()

    def at_end(self, data: bytes) -> memoryview:
        start = self.size - len(data)
        self.map[start : self.size] = data
        return memoryview(self.map)[start : self.size]


@pytest.mark.usefixtures("vectors")
@pytest.mark.skipif(sys.platform != "linux", reason="mprotect")
def test_no_read_goes_past_the_end_of_a_text_or_of_what_is_left_of_it() -> None:
    guarded = Guarded(1024)
    bodies = ["a", "é", "数", "😀", "\n", "a数\n", '\\"', "\x01"]
    for body in bodies:
        for size in LENGTHS:
            whole = dump(body * size)
            assert CORE.decode(guarded.at_end(whole)) == body * size
            cut = whole[:-1]
            assert verdict(CORE, guarded.at_end(cut)) == verdict(MODEL, cut)
            cut = dump({body * size: [1.5, 12345678]})[: -1 - size % 9]
            assert verdict(CORE, guarded.at_end(cut)) == verdict(MODEL, cut)
    for number in (
        "1",
        "-12",
        "1234567",
        "12345678",
        "123456789012",
        "1.5",
        "0.12345678901234567",
        "1e10",
        "-0.001e-7",
    ):
        assert CORE.decode(guarded.at_end(number.encode())) == json.loads(number)


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect")
def test_no_read_goes_past_the_end_of_an_envelope() -> None:
    core, model = importlib.import_module("erlmcp._core.jsonrpc"), importlib.import_module("erlmcp._model.jsonrpc")
    head = b'{"jsonrpc":"2.0","id":'
    tails = [b"7}", b' 7,"method":"m"}', b'7,"method":"tools/call","params":{"name":"n","arguments":{"a":1}}}', b"1.5}"]
    tails += [b'7,"id":8,"method":"m"}', b'7,"jsonrpc":"2.0","method":"m"}', b'7,"x":1,"result":{}}', b"null,"]
    tails += [
        b'7,"method":"m","e":1}}',
        b'7,"method":"m","\\u0069d":1}',
        b'7 ,"method" : "m"}',
        b"",
        b"{",
        b'"a","method":',
    ]
    for tail in tails:
        for size in range(len(head) + len(tail) + 1):
            data = (head + tail)[:size]
            for limit in (7, 23, 24, 100):
                scans = [room.scan(data, string_bytes_max=limit) for room in (core, model)]
                seen = [(e.kind, e.id, e.id_kind, e.method, e.params, e.result, e.message, e.position) for e in scans]
                assert seen[0] == seen[1], (data, limit)


# --- numbers ---


@pytest.mark.usefixtures("vectors")
def test_integers_of_every_size_are_written_and_read() -> None:
    rng = random.Random(6)
    values = [sign * (10**k + d) for k in range(25) for d in (-1, 0, 1) for sign in (1, -1)]
    values += [rng.randrange(10**k) for k in range(1, 22) for _ in range(200)] + [2**63 - 1, -(2**63), 2**63, 2**64]
    assert CORE.encode(values) == dump(values)
    assert CORE.decode(dump(values)) == values
    for value in values:
        assert CORE.encode(value) == str(value).encode()
        assert CORE.decode(str(value)) == value


def doubles(rng: random.Random, count: int) -> list[float]:
    found: list[float] = [v for v in struct.unpack(f"{count}d", rng.randbytes(8 * count)) if v - v == 0]
    found += [rng.random() * 10 ** rng.randint(-8, 20) for _ in range(count)]
    found += [round(rng.random() * 10 ** rng.randint(0, 17), rng.randint(0, 16)) for _ in range(count)]
    found += [float(rng.randrange(10 ** rng.randint(1, 25))) for _ in range(count)]
    return found


def check_doubles(rng: random.Random, count: int) -> None:
    values = doubles(rng, count)
    text = ("[" + ",".join(map(repr, values)) + "]").encode()
    assert CORE.encode(values) == text
    assert list(map(repr, CORE.decode(text))) == list(map(repr, values))


def check_decimals(rng: random.Random, count: int) -> None:
    texts = [
        f"{rng.randrange(10 ** rng.randint(0, 20))}.{rng.randrange(10**18):0{rng.randint(1, 25)}}" for _ in range(count)
    ]
    texts += [f"-0.{'0' * rng.randint(0, 12)}{rng.randrange(1, 10 ** rng.randint(1, 22))}" for _ in range(count)]
    texts += [f"{rng.randrange(10 ** rng.randint(1, 19))}e{rng.randint(-345, 289)}" for _ in range(count)]
    for _ in range(count // 4):  # half way between two doubles, and just above
        digits, power = 2 * rng.randrange(2**52, 2**53) + 1, rng.randint(1, 25)
        exact = f"{digits * 5**power:0{power + 1}}"
        texts += [f"{exact[:-power]}.{exact[-power:]}", f"{exact[:-power]}.{exact[-power:]}1"]
    assert list(map(repr, CORE.decode(f"[{','.join(texts)}]"))) == [repr(float(text)) for text in texts]


@pytest.mark.usefixtures("vectors")
def test_powers_of_two_and_of_ten_and_their_neighbours_are_written_as_repr() -> None:
    values = (
        [2.0**k for k in range(-1074, 1024)]
        + [float(f"1e{k}") for k in range(-323, 309)]
        + [5e-324, sys.float_info.max]
    )
    values += [struct.unpack("d", struct.pack("q", struct.unpack("q", struct.pack("d", v))[0] - 1))[0] for v in values]
    assert CORE.encode(values) == ("[" + ",".join(map(repr, values)) + "]").encode()
    assert list(map(repr, CORE.decode(CORE.encode(values)))) == list(map(repr, values))


@pytest.mark.usefixtures("vectors")
def test_random_doubles_and_decimals_go_both_ways_to_the_bit() -> None:
    rng = random.Random(7)
    check_doubles(rng, 5_000)
    check_decimals(rng, 5_000)


@pytest.mark.deep
def test_millions_of_random_doubles_and_decimals_go_both_ways_to_the_bit() -> None:
    rng = random.Random(8)
    for _ in range(100):
        check_doubles(rng, 20_000)
        check_decimals(rng, 20_000)
