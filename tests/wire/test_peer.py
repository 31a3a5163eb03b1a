"""Who is at the other end: what ``initialize`` and ``_meta`` say of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmcp.errors import McpError
from erlmcp.spec import key
from erlmcp.wire.peer import Peer, judge_initialize, judge_meta, unsupported_version

GOOD = {key.PROTOCOL_VERSION: "2026-07-28", key.CLIENT_CAPABILITIES: {}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


def test_a_complete_envelope_is_a_peer() -> None:
    info = {"name": "c", "version": "1", "extra": True}
    peer = judge_meta({**GOOD, key.CLIENT_INFO: info, key.LOG_LEVEL: "info", "progressToken": 1, "traceparent": "x"})
    assert (peer.version, peer.capabilities, peer.info, peer.log_level, peer.modern) == (
        "2026-07-28",
        {},
        info,
        "info",
        True,
    )


@pytest.mark.parametrize("version", ["2025-11-25", "2024-11-05", "2099-01-01", "", "draft"])
def test_a_version_that_is_not_modern_is_unsupported(version: str) -> None:
    with pytest.raises(McpError) as caught:
        judge_meta({**GOOD, key.PROTOCOL_VERSION: version})
    assert caught.value.code == -32022
    assert caught.value.data == {"supported": ["2026-07-28"], "requested": version}


def test_what_is_missing_comes_before_what_is_unsupported() -> None:
    for meta in ({key.PROTOCOL_VERSION: "2099-01-01"}, {key.CLIENT_CAPABILITIES: {}}, {}):
        with pytest.raises(McpError) as caught:
            judge_meta(meta)
        assert caught.value.code == -32602


def test_the_refusal_of_a_version_that_is_no_string_names_it_as_text() -> None:
    assert unsupported_version(7).data == {"supported": ["2026-07-28"], "requested": "7"}
    assert unsupported_version(None).data == {"supported": ["2026-07-28"], "requested": "None"}


@given(
    st.fixed_dictionaries(
        {},
        optional={
            name: JSON | st.sampled_from(["2026-07-28", {}, "info", {"name": "a", "version": "b"}])
            for name in (key.PROTOCOL_VERSION, key.CLIENT_CAPABILITIES, key.CLIENT_INFO, key.LOG_LEVEL, "progressToken")
        },
    )
)
def test_any_envelope_is_a_peer_or_a_protocol_error(meta: dict[str, Any]) -> None:
    codes = []
    try:
        peer = judge_meta(meta)
    except McpError as error:
        codes.append(error.code)
    else:
        assert peer.modern
        assert isinstance(peer.capabilities, dict)
    assert codes in ([], [-32602], [-32022])


@given(
    JSON
    | st.fixed_dictionaries(
        {},
        optional={
            "protocolVersion": JSON | st.just("2025-11-25"),
            "capabilities": JSON | st.just({}),
            "clientInfo": JSON | st.just({"name": "a", "version": "b"}),
        },
    )
)
def test_any_initialize_is_a_peer_or_a_protocol_error(params: Any) -> None:
    codes = []
    try:
        version, peer = judge_initialize(params)
    except McpError as error:
        codes.append(error.code)
    else:
        assert version == params["protocolVersion"]
        assert not peer.modern
    assert codes in ([], [-32602])


@pytest.mark.parametrize(
    ("declared", "capability", "part", "expected"),
    [
        ({}, "roots", None, False),
        ({"roots": {}}, "roots", None, True),
        ({"roots": None}, "roots", None, False),
        ({"roots": True}, "roots", None, False),
        ({"elicitation": {}}, "elicitation", "form", True),
        ({"elicitation": {"form": {}}}, "elicitation", "form", True),
        ({"elicitation": {"url": {}}}, "elicitation", "form", False),
        ({"elicitation": {"url": {}}}, "elicitation", "url", True),
        ({"elicitation": {}}, "elicitation", "url", False),
        ({"sampling": {"tools": {}}}, "sampling", "tools", True),
        ({"sampling": {"tools": True}}, "sampling", "tools", False),
    ],
)
def test_what_a_client_offers_is_an_object_in_its_capabilities(
    declared: dict[str, Any], capability: str, part: str | None, expected: bool
) -> None:
    assert Peer("2026-07-28", declared).offers(capability, part) is expected
