"""Messages that are handed on: what is to be another is, and every other byte stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

Impl = Callable[[str], ModuleType]

CALL = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":%b}\n'
HEAD = '{"jsonrpc":"2.0","id":7,"method":"tools/call","params":'


def scanned(impl: Impl, data: bytes, key: str | None = "name") -> Any:
    room = impl("corridor")
    routes = room.Routes()
    routes.set_method("tools/call", "CALL", key)
    (call,) = room.Inbound(routes).feed(data)
    return call


@pytest.mark.parametrize(
    ("params", "name", "meta", "wanted"),
    [
        (b'{"name":"a","x":1e2}', None, None, b'{"name":"a","x":1e2}'),
        (b'{"name":"a","x":1.0}', b'"bc"', None, b'{"name":"bc","x":1.0}'),
        (b'{ "x" : {"name":"a"}, "name" : "a" }', b'"b"', None, b'{ "x" : {"name":"a"}, "name" : "b" }'),
        (b'{"name":"a\\u0041"}', b'"b"', None, b'{"name":"b"}'),
        (b'{"_meta":{"t":1},"name":"a"}', b'"b"', b"{}", b'{"_meta":{},"name":"b"}'),
        (b'{"name":"a","_meta":{"t":1},"z":[]}', b'"b"', b'{"u":2}', b'{"name":"b","_meta":{"u":2},"z":[]}'),
        (b'{"name":"a"}', b'"b"', b'{"u":2}', b'{"_meta":{"u":2},"name":"b"}'),
        (b'{"name":"a"}', None, b"{}", b'{"_meta":{},"name":"a"}'),
        (b"{}", None, b"{}", b'{"_meta":{}}'),
        (b"{ }", None, b"{}", b'{"_meta":{} }'),
        (b'{"_meta":5,"name":"a"}', None, b"{}", b'{"_meta":{},"name":"a"}'),
        (b'{"name":"\xc3\xa9","y":"\xc3\xa9"}', '"ü"'.encode(), None, '{"name":"ü","y":"é"}'.encode()),
        (b"[1, 2]", None, None, b"[1, 2]"),
    ],
)
def test_params_are_handed_on_with_another_name_and_meta(
    impl: Impl, params: bytes, name: bytes | None, meta: bytes | None, wanted: bytes
) -> None:
    assert impl("corridor_relay").relay_params(scanned(impl, CALL % params), name, meta) == wanted


def test_a_uri_is_replaced_where_it_names_the_entry(impl: Impl) -> None:
    call = scanned(impl, CALL % b'{"name":"n","uri":"a://b"}', "uri")
    assert impl("corridor_relay").relay_params(call, b'"c://d"') == b'{"name":"n","uri":"c://d"}'


def test_params_that_are_not_there_can_be_given_a_meta_alone(impl: Impl) -> None:
    relay = impl("corridor_relay").relay_params
    call = scanned(impl, b'{"jsonrpc":"2.0","id":1,"method":"tools/call"}\n')
    assert relay(call) is None
    assert relay(call, meta=b'{"a":1}') == b'{"_meta":{"a":1}}'
    with pytest.raises(ValueError, match="no params"):
        relay(call, b'"a"')


@pytest.mark.parametrize(
    ("params", "key", "name", "meta", "wrong"),
    [
        (b"[1]", "name", None, b"{}", "an array"),
        (b'{"name":5}', "name", b'"a"', None, "name nothing"),
        (b'{"x":5}', "name", b'"a"', None, "name nothing"),
        (b'{"name":"x"}', None, b'"a"', None, "name nothing"),
        (b'{"ref":"x"}', "ref", b'"a"', None, "name nothing"),
    ],
)
def test_what_cannot_be_replaced_is_refused(
    impl: Impl, params: bytes, key: str | None, name: bytes | None, meta: bytes | None, wrong: str
) -> None:
    with pytest.raises(ValueError, match=wrong):
        impl("corridor_relay").relay_params(scanned(impl, CALL % params, key), name, meta)


@pytest.mark.parametrize(
    ("answer", "id", "wanted"),
    [
        (b'{"jsonrpc":"2.0","id":1,"result":{"a":1.50}}', b'"x"', b'{"jsonrpc":"2.0","id":"x","result":{"a":1.50}}'),
        (b'{"result":{"id":1}, "id" : "abc","z":0,"jsonrpc":"2.0"}', b"2", b'{"result":{"id":1}, "id" : 2,"z":0,'
         b'"jsonrpc":"2.0"}'),
        (b'{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"m","x":[]}}', b"9",
         b'{"jsonrpc":"2.0","id":9,"error":{"code":-1,"message":"m","x":[]}}'),
    ],
)  # fmt: skip
def test_an_answer_is_handed_on_under_another_id(impl: Impl, answer: bytes, id: bytes, wanted: bytes) -> None:
    relay = impl("corridor_relay")
    (call,) = impl("corridor").Inbound().feed(b"\r\n" + answer + b"\n")
    assert relay.relay_answer(call, id) == wanted


def test_results_and_errors_are_given_as_text(impl: Impl) -> None:
    relay, room = impl("corridor_relay"), impl("corridor")
    result, error, note = room.Inbound().feed(
        b'{"jsonrpc":"2.0","id":1,"result":{"a": 1e2}}\n{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m"}}\n'
        b'{"jsonrpc":"2.0","method":"x"}\n'
    )
    assert [relay.result_text(call) for call in (result, error, note)] == [b'{"a": 1e2}', None, None]
    assert [relay.error_text(call) for call in (result, error, note)] == [None, b'{"code":1,"message":"m"}', None]
    assert relay.relay_params(result) is None


def test_a_message_without_an_id_cannot_be_handed_on_under_another(impl: Impl) -> None:
    for data in (b'{"jsonrpc":"2.0","method":"x"}\n', b'{"jsonrpc":"2.0","error":{"code":1,"message":"m"}}\n', b"[]\n"):
        (call,) = impl("corridor").Inbound().feed(data)
        with pytest.raises(ValueError, match="no id"):
            impl("corridor_relay").relay_answer(call, b"1")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(["name", "uri", "_meta", "arguments", "x", "é"]), JSON, max_size=5),
    st.text(max_size=5),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
    st.sampled_from([None, 1]),
    st.booleans(),
)
def test_what_is_handed_on_means_what_was_meant(
    params: dict[str, Any], name: str, meta: dict[str, int], indent: int | None, ascii: bool
) -> None:
    from importlib import import_module

    import erlmcp._core
    import erlmcp._model

    params = {"name": "old", **params}
    if not isinstance(params["name"], str):
        params["name"] = "old"
    text = json.dumps(params, ensure_ascii=ascii, indent=indent).replace("\n", " ")
    made = []
    for package in (erlmcp._core, erlmcp._model):
        impl = lambda room, package=package: import_module(f"{package.__name__}.{room}")  # noqa: E731
        call = scanned(impl, (HEAD + text + "}\n").encode())
        made.append(impl("corridor_relay").relay_params(call, json.dumps(name).encode(), json.dumps(meta).encode()))
    assert made[0] == made[1]
    assert json.loads(made[0]) == {**params, "name": name, "_meta": meta}
