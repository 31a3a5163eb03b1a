"""The sealed state of multi-round requests: whose it is, what for, and until when."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmcp.errors import InvalidParamsError
from erlmcp.wire.seal import _sign, digest, seal, unseal

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=5
)


def sealed(payload: Any) -> str:
    return seal(b"k", payload, bound_to="d", owner="o", expires_s=100)


@given(st.dictionaries(st.text(), VALUES))
def test_what_was_sealed_comes_out_again(payload: dict[str, Any]) -> None:
    assert unseal(b"k", sealed(payload), bound_to="d", owner="o", now_s=100) == payload


@pytest.mark.parametrize(
    ("secret", "bound_to", "owner", "now_s"),
    [(b"x", "d", "o", 100), (b"k", "x", "o", 100), (b"k", "d", "x", 100), (b"k", "d", "o", 101)],
)
def test_what_a_state_is_bound_to_is_checked_with_its_owner_and_time(
    secret: bytes, bound_to: str, owner: str, now_s: int
) -> None:
    with pytest.raises(InvalidParamsError):
        unseal(secret, sealed({"a": 1}), bound_to=bound_to, owner=owner, now_s=now_s)


@given(st.data())
def test_no_character_of_a_state_can_be_changed(data: st.DataObject) -> None:
    state = sealed({"a": 1})
    at = data.draw(st.integers(0, len(state) - 1))
    other = data.draw(st.sampled_from("AZaz09-_.=").filter(lambda c: c != state[at]))
    with pytest.raises(InvalidParamsError):
        unseal(b"k", state[:at] + other + state[at + 1 :], bound_to="d", owner="o", now_s=1)


@given(st.none() | st.integers() | st.text() | st.text("e1.AB", max_size=9) | st.lists(st.text()))
def test_what_was_not_sealed_is_refused(state: Any) -> None:
    with pytest.raises(InvalidParamsError):
        unseal(b"k", state, bound_to="d", owner="o", now_s=1)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"nonsense", b"\xff", json.dumps({"v": 7, "d": "d", "o": "o", "e": 100}).encode()]
)
def test_a_body_that_is_signed_and_makes_no_sense_is_refused(body: bytes) -> None:
    text = base64.urlsafe_b64encode(body).decode().rstrip("=")
    with pytest.raises(InvalidParamsError):
        unseal(b"k", f"e1.{text}.{_sign(b'k', text)}", bound_to="d", owner="o", now_s=1)


def test_a_request_is_known_by_its_method_and_own_params() -> None:
    one = digest("tools/call", {"name": "a", "arguments": {"x": 1, "y": 2}})
    assert one == digest("tools/call", {"arguments": {"y": 2, "x": 1}, "name": "a", "_meta": {}, "requestState": "s"})
    assert one != digest("prompts/get", {"name": "a", "arguments": {"x": 1, "y": 2}})
    assert one != digest("tools/call", {"name": "a", "arguments": {"x": 1, "y": "2"}})
