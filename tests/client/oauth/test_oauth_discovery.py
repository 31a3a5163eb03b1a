"""Where tokens are made: the places of metadata in order, and documents that cannot be believed."""

from __future__ import annotations

from typing import Any

import pytest
from realm import RESOURCE, SERVER, Realm, Said, in_realm

from erlmcp.client.oauth.challenge import Challenge
from erlmcp.client.oauth.discovery import discover
from erlmcp.client.oauth.fetch import Fetcher
from erlmcp.client.oauth.metadata import read_issuer, read_resource
from erlmcp.client.oauth.rule import OPENID_PART
from erlmcp.errors import AuthorizationError

URL = "https://api.example/mcp"


async def found(realm: Realm, **challenge: str) -> Any:
    return await discover(Fetcher(trust_env=False), realm.url, Challenge(params=challenge))


@in_realm
async def test_the_challenge_says_where_the_metadata_is_and_nothing_else_is_asked(realm: Realm) -> None:
    realm.server.doors["/elsewhere"] = lambda asked: Said(value=realm.resource())
    resource, _ = await found(realm, resource_metadata=realm.server.url + "/elsewhere")
    assert resource.name == realm.url
    assert realm.server.paths == ["/elsewhere"]


@in_realm
async def test_without_a_challenge_the_servers_own_place_comes_before_the_root(realm: Realm) -> None:
    await found(realm)
    assert realm.server.paths == [RESOURCE + "/mcp"]
    realm.server.doors[RESOURCE] = realm.server.doors.pop(RESOURCE + "/mcp")
    await found(realm)
    assert realm.server.paths[1:] == [RESOURCE + "/mcp", RESOURCE]


@in_realm
async def test_the_authorization_servers_places_are_asked_in_order(realm: Realm) -> None:
    issuer = realm.issuer.url + "/tenant"
    realm.resource_more = {"authorization_servers": [issuer]}
    realm.issuer_more = {"issuer": issuer}
    realm.issuer.doors["/tenant" + OPENID_PART] = realm.issuer.doors.pop(SERVER)
    _, known = await found(realm)
    assert known.issuer == issuer
    assert realm.issuer.paths == [SERVER + "/tenant", OPENID_PART + "/tenant", "/tenant" + OPENID_PART]


@in_realm
async def test_an_authorization_server_without_metadata_is_not_guessed_where_it_was_named(realm: Realm) -> None:
    del realm.issuer.doors[SERVER]
    with pytest.raises(AuthorizationError, match="no metadata at any of its places"):
        await found(realm)


@in_realm
async def test_metadata_that_the_server_names_and_does_not_have_is_an_error(realm: Realm) -> None:
    with pytest.raises(AuthorizationError, match="there is nothing at"):
        await found(realm, resource_metadata=realm.server.url + "/nothing")


@in_realm
async def test_redirects_are_followed_within_an_origin_alone(realm: Realm) -> None:
    realm.issuer.doors["/moved"] = realm.issuer.doors[SERVER]
    realm.issuer.doors[SERVER] = lambda asked: Said(302, None, {"Location": "/moved"})
    await found(realm)
    realm.issuer.doors[SERVER] = lambda asked: Said(302, None, {"Location": realm.server.url + "/moved"})
    with pytest.raises(AuthorizationError, match="not followed"):
        await found(realm)
    assert "/moved" not in realm.server.paths


@in_realm
async def test_a_document_that_leads_in_a_circle_ends(realm: Realm) -> None:
    realm.issuer.doors[SERVER] = lambda asked: Said(302, None, {"Location": SERVER})
    with pytest.raises(AuthorizationError, match="answered 302"):
        await found(realm)
    assert realm.issuer.paths == [SERVER] * 4


@in_realm
async def test_a_token_endpoint_that_leads_elsewhere_gets_no_secret_sent_there(realm: Realm) -> None:
    realm.issuer.doors["/token"] = lambda asked: Said(307, None, {"Location": realm.server.url + "/token"})
    with pytest.raises(AuthorizationError, match="not sent elsewhere"):
        async with realm.client(realm.oauth()):
            pass
    assert "/token" not in realm.server.paths


@pytest.mark.parametrize(
    ("body", "match"),
    [
        (b"<html>", "no JSON"),
        (b"[1]", "no JSON object"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, "no JSON"),
        (b'{"a":"' + b"x" * 300_000 + b'"}', "body_bytes_max"),
    ],
)
@in_realm
async def test_a_document_that_is_none_is_refused(realm: Realm, body: bytes, match: str) -> None:
    realm.issuer.doors[SERVER] = lambda asked: Said(value=body)
    with pytest.raises(AuthorizationError, match=match):
        await found(realm)


@in_realm
async def test_a_server_that_does_not_say_that_it_knows_pkce_is_not_used(realm: Realm) -> None:
    for known in (None, ["plain"]):
        realm.issuer_more = {"code_challenge_methods_supported": known}
        with pytest.raises(AuthorizationError, match="PKCE"):
            async with realm.client(realm.oauth()):
                pass
    assert realm.user == []


@in_realm
async def test_metadata_of_another_resource_stops_everything(realm: Realm) -> None:
    realm.resource_more = {"resource": "https://evil.example/mcp"}
    with pytest.raises(AuthorizationError, match="and not of"):
        async with realm.client(realm.oauth()):
            pass
    assert realm.issuer.asked == []


@in_realm
async def test_the_resource_is_named_as_its_metadata_has_it(realm: Realm) -> None:
    realm.resource_more = {"resource": realm.server.url}
    async with realm.client(realm.oauth()):
        assert realm.user[0]["resource"] == realm.server.url


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"resource": None}, "and not of"),
        ({"resource": "https://api.example/other"}, "and not of"),
        ({"resource": "https://api.example/mc"}, "and not of"),
        ({"resource": "http://api.example/mcp"}, "and not of"),
        ({"authorization_servers": []}, "names no authorization server"),
        ({"authorization_servers": "https://a.example"}, "names no authorization server"),
        ({"authorization_servers": ["http://a.example"]}, "neither https nor of this machine"),
        ({"authorization_servers": ["http://localhost:1"]}, "neither https nor of this machine"),
        ({"authorization_servers": ["file:///etc/passwd"]}, "no http"),
        ({"authorization_servers": ["https://user@a.example"]}, "has a user"),
        ({"authorization_servers": ["https://a.example:0x"]}, "no URL"),
    ],
)
def test_a_resource_that_cannot_be_believed_is_refused(more: dict[str, Any], match: str) -> None:
    document = {"resource": URL, "authorization_servers": ["https://a.example"], **more}
    with pytest.raises(AuthorizationError, match=match):
        read_resource(document, URL, "the document")


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"issuer": "https://other.example"}, "and not of"),
        ({"issuer": "https://a.example/x"}, "and not of"),
        ({"issuer": None}, "and not of"),
        ({"token_endpoint": "http://a.example/token"}, "neither https nor of this machine"),
        ({"token_endpoint": "http://127.0.0.1/token"}, "neither https nor of this machine"),
        ({"authorization_endpoint": "javascript:alert(1)"}, "no http"),
        ({"authorization_endpoint": "https://a.example/a b"}, "no http"),
        ({"registration_endpoint": 7}, "no URL"),
    ],
)
def test_an_issuer_that_cannot_be_believed_is_refused(more: dict[str, Any], match: str) -> None:
    document = {"issuer": "https://a.example", "token_endpoint": "https://a.example/token", **more}
    with pytest.raises(AuthorizationError, match=match):
        read_issuer(document, "https://a.example", URL, "the document")


def test_a_slash_for_an_empty_path_makes_no_other_issuer_and_a_path_does() -> None:
    assert read_issuer({"issuer": "https://a.example/"}, "https://a.example", URL, "it").issuer == "https://a.example/"
    with pytest.raises(AuthorizationError):
        read_issuer({"issuer": "https://a.example/x/"}, "https://a.example/x", URL, "it")


def test_lists_in_documents_keep_words_alone() -> None:
    document = {"issuer": "https://a.example", "scopes_supported": ["good", "b ad", 7, "\n", *["x"] * 1000]}
    scopes = read_issuer(document, "https://a.example", URL, "it").scopes
    assert scopes[0] == "good"
    assert {*scopes} == {"good", "x"}
    assert len(scopes) <= 256


@in_realm
async def test_a_server_far_away_by_plain_http_gets_no_token_made_for_it(realm: Realm) -> None:
    with pytest.raises(AuthorizationError, match="neither https nor of this machine"):
        await discover(Fetcher(trust_env=False), "http://far.example/mcp", Challenge())
    with pytest.raises(AuthorizationError, match="neither https nor of this machine"):
        await discover(Fetcher(), URL, Challenge(params={"resource_metadata": realm.server.url}))
    assert realm.server.asked == []
