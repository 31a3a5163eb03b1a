"""A modern HTTP request: what its headers say against what its body says, rung by rung."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmcp.errors import McpError
from erlmcp.spec import key
from erlmcp.wire.header import Verdict
from erlmcp.wire.ladder import decode_value, judge_params, judge_request

VERSION = "2026-07-28"
META = {key.PROTOCOL_VERSION: VERSION, key.CLIENT_CAPABILITIES: {}}


def sentinel(text: str) -> str:
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


def code_of(
    meta: Any = META, method: str = "tools/call", name: str | None = "add", doubled: str | None = None, **headers: Any
) -> int:
    found = {"mcp-method": method, "mcp-name": name, **{k.replace("_", "-"): v for k, v in headers.items()}}
    version = found.pop("version", VERSION)
    verdict = Verdict(version=version, doubled=doubled, headers={k: v for k, v in found.items() if v is not None})
    try:
        judge_request(verdict, method, name, meta)
    except McpError as error:
        return error.code
    return 0


def test_headers_that_repeat_the_body_pass() -> None:
    assert code_of() == 0
    assert code_of(method="tools/list", name=None) == 0
    assert code_of(name="é", mcp_name=sentinel("é")) == 0
    assert code_of(mcp_name=sentinel("add")) == 0
    assert code_of(name="=?base64?", mcp_name="=?base64?") == 0


@pytest.mark.parametrize(
    ("case", "code"),
    [
        ({"doubled": "mcp-name"}, -32020),
        ({"doubled": "mcp-name", "meta": None}, -32020),
        ({"meta": None}, -32602),
        ({"meta": {}}, -32602),
        ({"meta": {key.PROTOCOL_VERSION: VERSION}}, -32602),
        ({"meta": {key.PROTOCOL_VERSION: VERSION}, "mcp_method": "x"}, -32602),
        ({"version": None}, -32020),
        ({"version": "2025-11-25"}, -32020),
        ({"mcp_method": None}, -32020),
        ({"mcp_method": "Tools/Call"}, -32020),
        ({"mcp_method": "tools/list"}, -32020),
        ({"mcp_name": None}, -32020),
        ({"mcp_name": "ADD"}, -32020),
        ({"mcp_name": "=?base64?YWRk"}, -32020),
        ({"mcp_name": "=?base64?YW?="}, -32020),
        ({"mcp_name": "=?base64?@@@@?="}, -32020),
        ({"mcp_name": "=?base64?//4=?="}, -32020),
        ({"version": "2099-01-01", "meta": {**META, key.PROTOCOL_VERSION: "2099-01-01"}}, -32022),
        ({"version": "2099-01-01", "meta": {**META, key.PROTOCOL_VERSION: "2099-01-01"}, "mcp_name": "x"}, -32020),
    ],
)
def test_the_first_rung_that_a_request_fails_names_its_error(case: dict[str, Any], code: int) -> None:
    assert code_of(**case) == code


def test_the_name_header_is_compared_only_where_the_method_has_a_name() -> None:
    assert code_of(method="tools/list", name="ignored", mcp_name=None) == 0
    for method in ("prompts/get", "resources/read"):
        assert code_of(method=method, name="x", mcp_name="y") == -32020


@given(st.text())
def test_any_text_comes_through_the_sentinel(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    assert decode_value(sentinel(text)) == text


@given(st.text())
def test_any_value_is_decoded_or_refused(value: str) -> None:
    for each in (value, f"=?base64?{value}?="):
        try:
            assert isinstance(decode_value(each), str)
        except ValueError:
            assert each.startswith("=?base64?")


@dataclass
class Mirror:
    path: tuple[str, ...]


EXPECTED = {"mcp-param-region": Mirror(("region",)), "mcp-param-depth": Mirror(("a", "b"))}


@pytest.mark.parametrize(
    ("arguments", "headers", "passes"),
    [
        ({}, {}, True),
        (None, {}, True),
        ([], {}, True),
        ({"region": None}, {}, True),
        ({"region": "eu"}, {"region": "eu"}, True),
        ({"region": "eu"}, {}, False),
        ({"region": "eu"}, {"region": "EU"}, False),
        ({}, {"region": "eu"}, False),
        ({"region": None}, {"region": ""}, False),
        ({"region": ""}, {"region": ""}, True),
        ({"region": "é"}, {"region": sentinel("é")}, True),
        ({"region": "é"}, {"region": "=?base64?w6k?="}, False),
        ({"region": True}, {"region": "true"}, True),
        ({"region": True}, {"region": "True"}, False),
        ({"region": True}, {"region": "1"}, False),
        ({"region": False}, {"region": "false"}, True),
        ({"region": 1}, {"region": "1"}, True),
        ({"region": 1}, {"region": "1.0"}, True),
        ({"region": 1}, {"region": "true"}, False),
        ({"region": 10}, {"region": "1_0"}, False),
        ({"region": 10}, {"region": "\u00b210"}, False),
        ({"region": 2**53 + 1}, {"region": str(2**53 + 1)}, True),
        ({"region": 2**53 + 1}, {"region": str(2**53)}, False),
        ({"region": 10**60}, {"region": "1" + "0" * 60}, True),
        ({"region": 10**60}, {"region": "9" * 5000}, False),
        ({"region": 1.5}, {"region": "1.50"}, True),
        ({"region": 1.5}, {"region": "nan"}, False),
        ({"region": 7}, {"region": "seven"}, False),
        ({"region": ["eu"]}, {"region": "['eu']"}, False),
        ({"a": {"b": "x"}}, {"depth": "x"}, True),
        ({"a": {"b": "x"}}, {"depth": "y"}, False),
        ({"a": "b"}, {}, True),
        ({"region": "eu"}, {"region": "eu", "unknown": "fine"}, True),
    ],
)
def test_parameters_are_mirrored_exactly(arguments: Any, headers: dict[str, str], passes: bool) -> None:
    sent = {f"mcp-param-{name}": value for name, value in headers.items()}
    if passes:
        judge_params(EXPECTED, arguments, sent)
        return
    with pytest.raises(McpError) as caught:
        judge_params(EXPECTED, arguments, sent)
    assert caught.value.code == -32020
