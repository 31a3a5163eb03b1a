"""What is decided without asking anybody: challenges, URLs, scopes, ways to show who we are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmcp.client.oauth.challenge import Challenge, bearer_of, parse_challenges
from erlmcp.client.oauth.identity import Identity
from erlmcp.client.oauth.metadata import Issuer
from erlmcp.client.oauth.rule import (
    challenge_of,
    choose_method,
    choose_scopes,
    covers,
    query_of,
    resource_of,
    resource_urls,
    server_urls,
    shown,
    with_query,
)
from erlmcp.client.oauth.token import STORED, Token, read_token, stored_token
from erlmcp.errors import AuthorizationError, ConfigurationError

Words = tuple[str, ...]
NAME = st.text("abcdefghijklmnopqrstuvwxyz_-", min_size=1, max_size=12)
VALUE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
PAIRS = st.dictionaries(NAME, VALUE, max_size=6)


def quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


@given(st.lists(st.tuples(NAME, PAIRS), max_size=5), st.sampled_from((", ", ",", " ,  ")))
def test_challenges_are_read_as_they_were_written(written: list[tuple[str, dict[str, str]]], between: str) -> None:
    said = []
    for scheme, params in written:
        told = between.join(f"{name}={quoted(value)}" for name, value in params.items())
        said.append(f"{scheme} {told}" if told else scheme)
    found = parse_challenges(between.join(said))
    assert [(each.scheme, each.params) for each in found] == written


@given(st.text(max_size=200) | st.text('Bearer realm="\\=, abc', max_size=200))
def test_no_header_breaks_the_parser(text: str) -> None:
    for each in parse_challenges(text):
        assert each.scheme
        assert each.scheme == each.scheme.lower()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("Bearer", [("bearer", {})]),
        ('BEARER Realm="a, b", ERROR=x', [("bearer", {"realm": "a, b", "error": "x"})]),
        ("Negotiate YWJj==, Bearer scope=a", [("negotiate", {}), ("bearer", {"scope": "a"})]),
        ("Bearer resource_metadata=https://a.example/b", [("bearer", {"resource_metadata": "https://a.example/b"})]),
        ('Bearer scope="a", scope="b"', [("bearer", {"scope": "a"})]),
        ('Bearer realm="\\"q\\" \\\\"', [("bearer", {"realm": '"q" \\'})]),
        ('Bearer a="never closed', [("bearer", {}), ("a", {})]),
    ],
)
def test_forms_of_challenges(text: str, found: list[tuple[str, dict[str, str]]]) -> None:
    assert [(each.scheme, each.params) for each in parse_challenges(text)] == found


def test_the_bearer_challenge_is_found_among_others_and_empty_where_there_is_none() -> None:
    assert bearer_of('Basic realm="x", Bearer scope="a b"').scopes == ("a", "b")
    assert bearer_of('Basic realm="x"') == Challenge()


def test_two_challenges_in_one_want_what_either_wants() -> None:
    both = bearer_of('Bearer scope="a b"').joined(bearer_of('Bearer scope="b c", error="insufficient_scope"'))
    assert both.scopes == ("a", "b", "c")
    assert both.is_step_up


@pytest.mark.parametrize(
    ("wanted", "challenged", "supported", "held", "by_issuer", "found"),
    [
        ((), (), (), (), (), ()),
        ((), ("c",), ("s",), (), (), ("c",)),
        ((), (), ("s", "t"), (), (), ("s", "t")),
        (("w",), (), ("s",), (), (), ("w",)),
        (("w",), ("c",), ("s",), (), (), ("w", "c")),
        ((), ("c",), (), ("h",), (), ("h", "c")),
        ((), ("c",), (), (), ("offline_access", "z"), ("c", "offline_access")),
        ((), (), (), (), ("offline_access",), ()),
    ],
)
def test_scopes_are_chosen(
    wanted: Words, challenged: Words, supported: Words, held: Words, by_issuer: Words, found: Words
) -> None:
    assert choose_scopes(wanted, challenged, supported, held, by_issuer) == found


@pytest.mark.parametrize(
    ("agreed", "supported", "has_secret", "has_key", "found"),
    [
        ("", (), False, False, "none"),
        ("", ("client_secret_basic",), False, False, "none"),
        ("", (), True, False, "client_secret_basic"),
        ("", ("client_secret_post", "client_secret_basic"), True, False, "client_secret_basic"),
        ("", ("client_secret_post",), True, False, "client_secret_post"),
        ("", ("none",), True, False, "none"),
        ("client_secret_post", ("client_secret_basic",), True, False, "client_secret_post"),
        ("", ("private_key_jwt",), False, True, "private_key_jwt"),
    ],
)
def test_how_a_client_shows_itself(agreed: str, supported: Words, has_secret: bool, has_key: bool, found: str) -> None:
    assert choose_method(agreed, supported, has_secret=has_secret, has_key=has_key) == found


@pytest.mark.parametrize("agreed", ["", "tls_client_auth"])
def test_a_way_to_show_itself_that_is_not_known_is_refused(agreed: str) -> None:
    with pytest.raises(AuthorizationError, match="tls_client_auth"):
        choose_method(agreed, ("tls_client_auth",), has_secret=True, has_key=False)


@pytest.mark.parametrize(
    ("resource", "is_covered"),
    [
        ("https://a.example/x/mcp", True),
        ("https://a.example/x/mcp/", True),
        ("https://a.example/x", True),
        ("https://a.example", True),
        ("https://A.example:443/", True),
        ("https://a.example/x/m", False),
        ("https://a.example/x/mcp/more", False),
        ("https://a.example:444", False),
        ("http://a.example", False),
        ("https://b.example", False),
        ("https://a.example/x/mcp?tenant=2", False),
    ],
)
def test_a_resource_is_the_server_or_what_it_is_a_part_of(resource: str, is_covered: bool) -> None:
    assert covers(resource, "https://a.example/x/mcp?tenant=1") is is_covered


def test_places_of_metadata() -> None:
    base = "https://a.example"
    known = "/.well-known/oauth-protected-resource"
    assert resource_urls(base + "/x/mcp/") == [base + known + "/x/mcp", base + known]
    assert resource_urls(base) == [base + known]
    assert server_urls(base + "/") == [
        base + "/.well-known/oauth-authorization-server",
        base + "/.well-known/openid-configuration",
    ]


def test_one_resource_has_one_name() -> None:
    assert resource_of("HTTPS://A.example:443/") == resource_of("https://a.example") == "https://a.example"
    assert resource_of("https://a.example/Mcp?x=1#f") == "https://a.example/Mcp?x=1"


def test_the_challenge_of_a_verifier_is_that_of_the_rfc() -> None:
    assert challenge_of("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_a_query_is_added_to_one_that_is_there() -> None:
    assert with_query("https://a.example/x?y=1", {"z": "a b"}) == "https://a.example/x?y=1&z=a+b"


def test_a_field_that_is_there_twice_is_refused() -> None:
    with pytest.raises(AuthorizationError, match="twice"):
        query_of("http://127.0.0.1/?code=a&code=b")


def test_what_a_server_says_is_shown_short_printable_and_without_secrets() -> None:
    assert shown("bad\n\x1b[31m the-secret", ["the-secret", ""]) == "bad  [31m [...]"
    assert len(shown("x" * 1000)) == 200


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"access_token": ""},
        {"access_token": "a b"},
        {"access_token": "a\r\nX: y"},
        {"access_token": "a", "token_type": "mac"},
        {"access_token": "a", "token_type": 7},
    ],
)
def test_what_is_no_bearer_token_is_refused(answer: dict[str, object]) -> None:
    with pytest.raises(AuthorizationError):
        read_token(answer)


@pytest.mark.parametrize("given", [None, True, "x", [], -5, 0, float("nan")])
def test_a_lifetime_that_is_none_is_not_known(given: object) -> None:
    token = read_token({"access_token": "a", "expires_in": given})
    assert (token.expires_s, token.due_s) == (0.0, 0.0)
    assert not token.is_due(1e12)


def test_a_token_is_due_before_its_end_and_short_ones_live_nine_tenths() -> None:
    long, short = (read_token({"access_token": "a", "expires_in": life_s}) for life_s in (3600, "10"))
    assert long.expires_s - long.due_s == pytest.approx(30)
    assert short.expires_s - short.due_s == pytest.approx(1)


def test_a_token_comes_out_of_the_store_as_it_went_in() -> None:
    token = Token("a", "https://i.example", "r", 5.0, 4.0, ("x", "y"), "id")
    found = stored_token(token.as_dict())
    assert found is not None
    assert found.source == STORED
    assert found.as_dict() == token.as_dict()


@pytest.mark.parametrize(
    "kept", [None, [], {}, {"value": "a b"}, {"value": "a", "asked": 7}, {"value": "a", "due_s": "x"}]
)
def test_what_is_no_token_is_not_taken_out_of_the_store(kept: object) -> None:
    assert stored_token(kept) is None


def test_a_key_that_is_none_says_so_without_the_key() -> None:
    identity = Identity("id", key="very secret", method="private_key_jwt")
    with pytest.raises(ConfigurationError, match="cannot sign with ES256") as caught:
        identity.dress({}, Issuer("https://i.example", "", ""))
    assert "very secret" not in f"{caught.value!r} {identity!r}"
