"""Tokens without a user: fixed ones, those of the program itself, and those for what another issuer says."""

from __future__ import annotations

from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from realm import Realm, Said, basic_of, in_realm

from erlmcp import Client
from erlmcp.client.oauth import ClientCredentials, EnterpriseManaged, JwtBearer, OAuth
from erlmcp.errors import AuthorizationError, ConfigurationError, HttpStatusError

ID_JAG = "urn:ietf:params:oauth:token-type:id-jag"


@in_realm
async def test_a_token_that_is_given_is_shown_from_the_first_request_on(realm: Realm) -> None:
    realm.tokens["fixed"] = set()
    async with realm.client("fixed") as client:
        await client.call_tool("echo")
        realm.revoke()
        with pytest.raises(HttpStatusError) as caught:
            await client.call_tool("echo")
    assert caught.value.status == 401
    assert {each.headers["authorization"] for each in realm.server.asked} == {"Bearer fixed"}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@in_realm
async def test_a_function_is_asked_first_and_where_its_token_is_refused(realm: Realm, mode: str) -> None:
    count = 0

    async def give() -> str:
        nonlocal count
        count += 1
        realm.tokens[f"number-{count}"] = set()
        return f"number-{count}"

    async with realm.client(give, mode=mode) as client:
        await client.call_tool("echo")
        assert count == 1
        realm.revoke()
        await client.call_tool("echo")
        assert count == 2


@in_realm
async def test_a_function_that_gives_what_is_refused_is_asked_twice_and_no_more(realm: Realm) -> None:
    given = []

    def give() -> str:
        given.append("bad")
        return "bad"

    with pytest.raises(HttpStatusError):
        async with realm.client(give):
            pass
    assert len(given) == 2


@in_realm
async def test_what_a_function_raises_is_told_by_its_kind_alone(realm: Realm) -> None:
    def fail() -> str:
        raise RuntimeError("the-secret")

    with pytest.raises(AuthorizationError, match="RuntimeError") as caught:
        async with realm.client(fail):
            pass
    assert "the-secret" not in str(caught.value)


@pytest.mark.parametrize("given", ["", "a b", "a\r\nb", "ü"])
def test_what_cannot_stand_in_a_header_is_no_token(given: str) -> None:
    with pytest.raises(ConfigurationError, match="no token"):
        Client("https://x.example/mcp", auth=given)._make()


def test_auth_of_another_kind_says_what_is_wanted() -> None:
    with pytest.raises(ConfigurationError, match=r"OAuth\(\.\.\.\), got int"):
        Client("https://x.example/mcp", auth=7)._make()


@in_realm
async def test_a_program_shows_its_secret_and_gets_another_token_where_one_ended(realm: Realm) -> None:
    realm.issuer_more = {"token_endpoint_auth_methods_supported": None, "code_challenge_methods_supported": None}
    realm.resource_more = {"scopes_supported": ["a", "b"]}
    realm.token_more = {"refresh_token": None}
    async with realm.client(ClientCredentials("me", "s", trust_env=False)) as client:
        realm.revoke()
        await client.call_tool("echo")
    first, second = realm.issuer.forms()
    assert first == second == {"grant_type": "client_credentials", "scope": "a b", "resource": realm.url}
    assert basic_of(realm.issuer.asked[-1]) == ("me", "s")


@in_realm
async def test_a_program_signs_for_the_issuer_and_no_other(realm: Realm) -> None:
    key = generate_private_key(SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    realm.issuer_more = {"token_endpoint_auth_methods_supported": ["private_key_jwt"]}
    async with realm.client(ClientCredentials("me", private_key=pem, scope="x", trust_env=False)):
        pass
    [form] = realm.issuer.forms()
    assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    told = jwt.decode(form["client_assertion"], key.public_key(), ["ES256"], audience=realm.issuer.url)
    assert (told["iss"], told["sub"]) == ("me", "me")
    assert told["exp"] - told["iat"] <= 300
    assert form["scope"] == "x"


@in_realm
async def test_what_another_issuer_says_is_exchanged_once_and_a_refusal_is_final(realm: Realm) -> None:
    asked: list[tuple[str, str]] = []

    async def say(issuer: str, resource: str) -> str:
        asked.append((issuer, resource))
        return "the.signed.word"

    async with realm.client(JwtBearer(say, client_id="load", trust_env=False)):
        pass
    [form] = realm.issuer.forms()
    assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    assert (form["assertion"], form["client_id"]) == ("the.signed.word", "load")
    assert asked == [(realm.issuer.url, realm.url)]
    realm.refuses = {form["grant_type"]: "invalid_grant"}
    with pytest.raises(AuthorizationError, match="invalid_grant") as caught:
        async with realm.client(JwtBearer(say, client_id="load", trust_env=False)):
            pass
    assert "the.signed.word" not in str(caught.value)
    assert len(realm.issuer.forms()) == 2


def enterprise(realm: Realm, **answer: Any) -> EnterpriseManaged:
    """With the company's identity provider at the issuer's house."""
    value = {"access_token": "the.id.jag", "issued_token_type": ID_JAG, "token_type": "N_A", **answer}
    realm.issuer.doors["/idp"] = lambda asked: Said(value=value)
    url = realm.issuer.url + "/idp"
    who = {"client_id": "me", "client_secret": "s", "idp_client_id": "me-there"}
    return EnterpriseManaged("the.id.token", idp_token_url=url, trust_env=False, **who)


@in_realm
async def test_a_company_gives_access_by_the_users_id_token(realm: Realm) -> None:
    async with realm.client(enterprise(realm)):
        pass
    exchange = next(each.form for each in realm.issuer.asked if each.path == "/idp")
    assert exchange["subject_token"] == "the.id.token"
    assert exchange["requested_token_type"] == ID_JAG
    assert (exchange["audience"], exchange["resource"]) == (realm.issuer.url, realm.url)
    assert exchange["client_id"] == "me-there"
    assert realm.issuer.forms()[0]["assertion"] == "the.id.jag"


@in_realm
async def test_an_exchange_that_gives_something_else_is_refused(realm: Realm) -> None:
    auth = enterprise(realm, issued_token_type="urn:ietf:params:oauth:token-type:access_token")
    with pytest.raises(AuthorizationError, match="ID-JAG"):
        async with realm.client(auth):
            pass
    assert realm.issuer.forms() == []


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: ClientCredentials("", "s"), "needs a client_id"),
        (lambda: ClientCredentials("a"), "needs a client_id"),
        (lambda: ClientCredentials("a", "s", private_key="k"), "needs a client_id"),
        (lambda: OAuth(client_secret="s"), "belong to a client_id"),
        (lambda: OAuth(client_metadata_url="http://a.example/x"), "https URL with a path"),
        (lambda: OAuth(client_metadata_url="https://a.example/"), "https URL with a path"),
        (lambda: OAuth(lambda url: url), "redirect_uri"),
    ],
)
def test_what_cannot_work_is_said_at_once(make: Any, match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        make()


def test_an_identity_provider_is_asked_by_https() -> None:
    with pytest.raises(AuthorizationError, match="neither https"):
        EnterpriseManaged("t", idp_token_url="http://idp.example/token", idp_client_id="x")
