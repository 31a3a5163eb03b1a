"""The authorization code flow against an authorization server of this process."""

from __future__ import annotations

import asyncio
import logging

import pytest
from realm import REDIRECT_URI, RESOURCE, SERVER, WAIT_S, Realm, Said, basic_of, in_realm

from erlmcp import Client
from erlmcp import sync as blocking
from erlmcp.client.bound import ClientLimits
from erlmcp.client.http import HttpChannel
from erlmcp.client.oauth import MemoryStore, OAuth
from erlmcp.client.oauth.challenge import Challenge
from erlmcp.client.oauth.keeper import Keeper
from erlmcp.client.oauth.token import Token
from erlmcp.errors import AuthorizationError, CallTimeoutError, ConfigurationError, HttpStatusError

MODES = ("auto", "legacy")


@pytest.mark.parametrize("mode", MODES)
@in_realm
async def test_a_client_that_is_refused_gets_itself_a_token_and_asks_again(
    realm: Realm, mode: str, loop_kind: str
) -> None:
    async with realm.client(realm.oauth(), mode=mode) as client:
        assert (await client.call_tool("echo")).text == "done"
        assert (await client.call_tool("echo")).text == "done"
    [wanted] = realm.user
    assert wanted["response_type"] == "code"
    assert wanted["code_challenge_method"] == "S256"
    assert wanted["resource"] == realm.url
    assert wanted["redirect_uri"] == REDIRECT_URI
    [form] = realm.issuer.forms()
    assert form["resource"] == realm.url
    assert len(form["code_verifier"]) >= 43
    assert realm.calls["echo"] == 2


@in_realm
async def test_an_unprotected_server_is_asked_as_ever(realm: Realm) -> None:
    realm.tokens[""] = set()
    async with realm.client(realm.oauth()) as client:
        await client.call_tool("echo")
    assert realm.user == []
    assert realm.issuer.asked == []


@in_realm
async def test_the_blocking_client_does_the_same(realm: Realm) -> None:
    def call() -> str:
        with blocking.Client(realm.url, auth=realm.oauth(), trust_env=False) as client:
            return client.call_tool("echo").text

    assert await asyncio.to_thread(call) == "done"
    assert len(realm.user) == 1


@in_realm
async def test_many_refused_calls_ask_the_user_once_and_are_acted_on_once_each(realm: Realm) -> None:
    auth = realm.oauth()
    async with realm.client(auth) as client, realm.client(auth) as other:
        await auth.forget(realm.url)
        realm.revoke()
        both = [each.call_tool("echo") for each in (client, other) for _ in range(20)]
        assert {result.text for result in await asyncio.gather(*both)} == {"done"}
    assert len(realm.user) == 2
    assert realm.calls["echo"] == 40


@in_realm
async def test_an_expired_token_is_refreshed_without_the_user(realm: Realm) -> None:
    async with realm.client(realm.oauth()) as client:
        realm.revoke()
        await client.call_tool("echo")
    assert len(realm.user) == 1
    assert [form["grant_type"] for form in realm.issuer.forms()] == ["authorization_code", "refresh_token"]
    assert realm.issuer.forms()[1]["resource"] == realm.url


@in_realm
async def test_a_token_that_is_about_to_end_is_renewed_before_it_is_shown(realm: Realm) -> None:
    realm.token_more = {"expires_in": 1e-6}
    async with realm.client(realm.oauth()) as client:
        before = len(realm.server.asked)
        await client.call_tool("echo")
        assert [each.path for each in realm.server.asked[before:]].count("/mcp") == 1
    assert "refresh_token" in {form["grant_type"] for form in realm.issuer.forms()}
    assert len(realm.user) == 1


@in_realm
async def test_a_token_that_cannot_be_renewed_early_serves_until_its_end(
    realm: Realm, caplog: pytest.LogCaptureFixture
) -> None:
    realm.token_more = {"expires_in": 100}
    auth = realm.oauth()
    async with realm.client(auth) as client:
        token = auth.keeper(realm.url).token
        assert token is not None
        object.__setattr__(token, "due_s", 1.0)
        realm.issuer.doors["/token"] = lambda asked: Said(503)
        await client.call_tool("echo")
        await client.call_tool("echo")
    assert realm.calls["echo"] == 2
    assert len([path for path in realm.issuer.paths if path == "/token"]) == 2  # the first token, one try
    assert "serves on" in caplog.text


@in_realm
async def test_where_the_refresh_token_is_good_no_more_the_user_is_asked(realm: Realm) -> None:
    async with realm.client(realm.oauth()) as client:
        realm.revoke()
        realm.refreshes.clear()
        await client.call_tool("echo")
    assert len(realm.user) == 2
    assert realm.calls["echo"] == 1


@in_realm
async def test_a_rotated_refresh_token_is_kept_and_an_old_one_where_none_came(realm: Realm) -> None:
    auth = realm.oauth()
    async with realm.client(auth) as client:
        first = auth.keeper(realm.url).token
        realm.revoke()
        await client.call_tool("echo")
        second = auth.keeper(realm.url).token
        realm.revoke()
        realm.token_more = {"refresh_token": None}
        await client.call_tool("echo")
        third = auth.keeper(realm.url).token
    assert first is not None
    assert second is not None
    assert third is not None
    assert first.refresh != second.refresh == third.refresh


@in_realm
async def test_a_step_up_asks_for_what_was_held_and_what_is_wanted_now(realm: Realm) -> None:
    realm.challenge_more = {"scope": "read"}
    realm.needs = {"write": "write"}
    async with realm.client(realm.oauth()) as client:
        realm.challenge_more = {}
        await client.call_tool("write")
        await client.call_tool("write")
    assert [wanted["scope"] for wanted in realm.user] == ["read", "read write"]


@in_realm
async def test_a_step_up_that_did_not_help_is_not_tried_again(realm: Realm) -> None:
    realm.needs = {"admin": "admin"}
    async with realm.client(realm.oauth()) as client:
        realm.grants = set()
        for _ in range(3):
            with pytest.raises(HttpStatusError) as caught:
                await client.call_tool("admin")
            assert caught.value.status == 403
    assert len(realm.user) == 2


@in_realm
async def test_a_server_that_takes_no_token_at_all_asks_the_user_once(realm: Realm) -> None:
    realm.token_more = {"access_token": "never-good"}
    with pytest.raises(HttpStatusError) as caught:
        async with realm.client(realm.oauth()):
            pass
    assert caught.value.status == 401
    assert len(realm.user) == 1
    assert len(realm.issuer.forms()) == 1


@in_realm
async def test_another_403_is_the_callers(realm: Realm) -> None:
    realm.needs = {"echo": "x"}
    realm.challenge_more = {"error": "nothing_known"}
    async with realm.client(realm.oauth()) as client:
        with pytest.raises(HttpStatusError):
            await client.call_tool("echo")
    assert len(realm.user) == 1
    assert len(realm.issuer.forms()) == 1


@in_realm
async def test_time_stands_still_while_the_user_is_asked(realm: Realm) -> None:
    asked, may_go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> None:
        asked.set()
        await may_go_on.wait()

    async with realm.client(realm.oauth()) as client:
        realm.revoke()
        realm.refreshes.clear()
        realm.before_user = slowly
        call = asyncio.ensure_future(client.call_tool("echo", timeout_s=0.2))
        await asked.wait()
        await asyncio.wait([call], timeout=0.4)
        assert not call.done()
        may_go_on.set()
        assert (await call).text == "done"


@in_realm
async def test_connecting_has_time_for_the_user_beside_its_own(realm: Realm) -> None:
    asked, may_go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> None:
        asked.set()
        await may_go_on.wait()

    realm.before_user = slowly
    client = Client(realm.url, auth=realm.oauth(), trust_env=False, limits=ClientLimits(connect_timeout_s=0.2))
    async with asyncio.timeout(WAIT_S):
        opening = asyncio.ensure_future(client.connect())
        await asked.wait()
        await asyncio.wait([opening], timeout=0.4)
        assert not opening.done()
        may_go_on.set()
        await opening
        await client.aclose()


@in_realm
async def test_after_the_user_a_call_has_the_time_that_it_had_left(realm: Realm) -> None:
    silent = asyncio.Event()

    async def never(asked: object) -> Said:
        await silent.wait()
        return Said(500)

    async def then_silent() -> None:
        realm.server.doors["/mcp"] = never

    async with realm.client(realm.oauth()) as client:
        realm.revoke()
        realm.refreshes.clear()
        realm.before_user = then_silent
        with pytest.raises(CallTimeoutError):
            await client.call_tool("echo", timeout_s=0.3)
        silent.set()


@in_realm
async def test_a_user_who_does_not_come_back_is_waited_for_so_long(realm: Realm) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    realm.before_user = never
    with pytest.raises(AuthorizationError, match=r"within timeout_s=0\.05"):
        async with realm.client(realm.oauth(timeout_s=0.05)):
            pass


@in_realm
async def test_a_call_that_is_given_up_gives_the_user_up(realm: Realm) -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()

    realm.before_user = wait
    client = Client(realm.url, auth=realm.oauth(), trust_env=False)
    opening = asyncio.ensure_future(client.connect())
    async with asyncio.timeout(WAIT_S):
        await asked.wait()
        opening.cancel()
        await client.aclose()
        await gone.wait()


@in_realm
async def test_a_refusal_of_the_user_is_told_with_the_servers_word(realm: Realm) -> None:
    realm.callback_more = {"code": "", "error": "access_denied", "error_description": "not today"}
    with pytest.raises(AuthorizationError, match="access_denied: not today") as caught:
        async with realm.client(realm.oauth()):
            pass
    assert caught.value.error == "access_denied"


@pytest.mark.parametrize(
    ("more", "advertised", "match"),
    [
        ({"state": "forged"}, None, "another state"),
        ({"state": ""}, None, "another state"),
        ({"iss": "https://evil.example"}, None, "was asked"),
        ({}, True, "does not say that it is of"),
        ({"code": ""}, None, "no code"),
    ],
)
@in_realm
async def test_a_callback_that_is_not_the_answer_to_the_question_is_refused(
    realm: Realm, more: dict[str, str], advertised: bool | None, match: str
) -> None:
    realm.callback_more = more
    realm.issuer_more = {"authorization_response_iss_parameter_supported": advertised}
    with pytest.raises(AuthorizationError, match=match):
        async with realm.client(realm.oauth()):
            pass
    assert realm.issuer.forms() == []


@in_realm
async def test_a_callback_of_the_right_issuer_is_taken(realm: Realm) -> None:
    realm.callback_more = {"iss": realm.issuer.url}
    realm.issuer_more = {"authorization_response_iss_parameter_supported": True}
    async with realm.client(realm.oauth()):
        assert len(realm.issuer.forms()) == 1


@in_realm
async def test_a_client_that_the_server_registered_is_used_again(realm: Realm) -> None:
    store = MemoryStore()
    for _ in range(2):
        realm.revoke()
        realm.refreshes.clear()
        async with realm.client(realm.oauth(store=store)):
            pass
    assert realm.issuer.paths.count("/register") == 1
    assert len({wanted["client_id"] for wanted in realm.user}) == 1
    registered = next(each.json for each in realm.issuer.asked if each.path == "/register")
    assert registered["redirect_uris"] == [REDIRECT_URI]
    assert registered["application_type"] == "native"
    assert registered["grant_types"] == ["authorization_code", "refresh_token"]


@in_realm
async def test_a_registration_that_the_server_forgot_is_made_anew_the_next_time(realm: Realm) -> None:
    auth = realm.oauth()
    realm.refuses = {"authorization_code": "invalid_client"}
    with pytest.raises(AuthorizationError, match="invalid_client"):
        async with realm.client(auth):
            pass
    realm.refuses = {}
    async with realm.client(auth):
        assert realm.issuer.paths.count("/register") == 2


@in_realm
async def test_a_secret_that_ended_is_not_used_again(realm: Realm) -> None:
    realm.registration_more = {"client_secret": "s", "client_secret_expires_at": 1}
    auth = realm.oauth()
    async with realm.client(auth) as client:
        realm.revoke()
        realm.refreshes.clear()
        await client.call_tool("echo")
    assert realm.issuer.paths.count("/register") == 2


@in_realm
async def test_tokens_are_taken_from_the_store_without_a_question(realm: Realm) -> None:
    store = MemoryStore()
    async with realm.client(realm.oauth(store=store)):
        pass
    asked_count = len(realm.issuer.asked)
    async with realm.client(realm.oauth(store=store)) as client:
        await client.call_tool("echo")
    assert len(realm.user) == 1
    assert len(realm.issuer.asked) == asked_count


@in_realm
async def test_nothing_is_kept_of_a_server_that_was_forgotten(realm: Realm) -> None:
    store = MemoryStore()
    auth = realm.oauth(store=store)
    async with realm.client(auth) as client:
        await auth.forget(realm.url)
        await client.call_tool("echo")
    assert len(realm.user) == 2


@in_realm
async def test_a_client_id_that_was_given_is_used_and_shown_as_the_server_wants(realm: Realm) -> None:
    realm.issuer_more = {"token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"]}
    async with realm.client(realm.oauth(client_id="a:b", client_secret="p&q")):
        pass
    token = next(each for each in realm.issuer.asked if each.path == "/token")
    assert basic_of(token) == ("a:b", "p&q")
    assert "client_secret" not in token.form
    assert "/register" not in realm.issuer.paths


@in_realm
async def test_a_document_of_the_clients_is_its_id_where_the_server_reads_such(realm: Realm) -> None:
    url = "https://app.example/client.json"
    async with realm.client(realm.oauth(client_metadata_url=url)):
        pass
    realm.issuer_more = {"client_id_metadata_document_supported": True}
    realm.revoke()
    async with realm.client(realm.oauth(client_metadata_url=url)) as client:
        realm.revoke()
        await client.call_tool("echo")
    assert [wanted["client_id"] == url for wanted in realm.user] == [False, True]
    assert realm.issuer.forms()[-1]["grant_type"] == "refresh_token"
    assert realm.issuer.forms()[-1]["client_id"] == url


@in_realm
async def test_a_server_that_registers_nobody_says_what_is_to_be_done(realm: Realm) -> None:
    realm.issuer_more = {"registration_endpoint": None}
    with pytest.raises(AuthorizationError, match="give the client_id"):
        async with realm.client(realm.oauth()):
            pass


@in_realm
async def test_a_refresh_token_is_not_shown_to_another_authorization_server(realm: Realm) -> None:
    async with Realm() as other, realm.client(realm.oauth(client_id="mine")) as client:
        realm.resource_more = {"authorization_servers": [other.issuer.url]}
        realm.revoke()
        other.issuer.doors["/token"] = realm._token
        await client.call_tool("echo")
        assert [form["grant_type"] for form in other.issuer.forms()] == ["authorization_code"]


@in_realm
async def test_a_client_for_another_redirect_uri_is_another_client(realm: Realm) -> None:
    store = MemoryStore()
    for uri in (REDIRECT_URI, REDIRECT_URI + "/other"):
        auth = OAuth(realm.agree, redirect_uri=uri, store=store, trust_env=False)
        async with realm.client(auth):
            await auth.forget(realm.url)
    assert realm.issuer.paths.count("/register") == 2
    assert len({wanted["client_id"] for wanted in realm.user}) == 2


@in_realm
async def test_another_authorization_server_gets_nothing_of_the_first_ones(realm: Realm) -> None:
    async with Realm() as other, realm.client(realm.oauth()) as client:
        first_id = realm.user[0]["client_id"]
        realm.resource_more = {"authorization_servers": [other.issuer.url]}
        realm.revoke()
        other.issuer.doors["/token"] = realm._token
        await client.call_tool("echo")
        assert realm.issuer.forms() == realm.issuer.forms()[:1]
        assert other.issuer.paths.count("/register") == 1
        [form] = other.issuer.forms()
        assert form["grant_type"] == "authorization_code"
        sent = b"".join(each.body for each in other.issuer.asked if each.path == "/token")
        assert first_id.encode() not in sent
        assert realm.user[1]["client_id"] != first_id


@in_realm
async def test_only_the_issuer_that_is_wanted_is_asked(realm: Realm) -> None:
    with pytest.raises(AuthorizationError, match="only https://ours"):
        async with realm.client(realm.oauth(issuer="https://ours.example")):
            pass
    assert realm.issuer.asked == []


@in_realm
async def test_a_server_of_the_oldest_revision_is_its_own_authorization_server(realm: Realm) -> None:
    realm.challenge_more = {"resource_metadata": ""}
    del realm.server.doors[RESOURCE + "/mcp"]
    realm.server.doors |= {"/register": realm._register, "/token": realm._token}
    async with realm.client(realm.oauth(), mode="legacy") as client:
        await client.call_tool("echo")
    assert realm.user[0]["endpoint"] == realm.server.url + "/authorize"
    assert "resource" not in realm.user[0]
    assert [path for path in realm.server.paths if "well-known" in path] == [RESOURCE + "/mcp", RESOURCE, SERVER]


@in_realm
async def test_tokens_and_secrets_are_in_no_log_and_no_error(realm: Realm, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    realm.registration_more = {
        "client_secret": "the-clients-secret",
        "token_endpoint_auth_method": "client_secret_post",
    }
    auth = realm.oauth()
    async with realm.client(auth) as client:
        token = auth.keeper(realm.url).token
        assert token is not None
        realm.revoke()
        realm.refuses = {"refresh_token": "temporarily_unavailable"}
        with pytest.raises(AuthorizationError, match="temporarily_unavailable") as caught:
            await client.call_tool("echo")
    told = f"{caught.value} {caught.value!r} {token!r} {caplog.text}"
    assert "[...]" in str(caught.value)  # it was told back to us
    for secret in (token.value, token.refresh, "the-clients-secret"):
        assert secret not in told


def test_two_ways_to_say_who_calls_are_one_too_many() -> None:
    with pytest.raises(ConfigurationError, match="must not have an Authorization"):
        HttpChannel("https://x.example/mcp", auth="token", headers={"authorization": "Bearer other"})


def test_auth_is_for_a_url() -> None:
    with pytest.raises(ConfigurationError, match="auth and trust_env are for a URL"):
        Client("tcp://127.0.0.1:1", auth="token")


class Counting(Keeper):
    count = 0

    async def _get(self, challenge: Challenge) -> Token:
        self.count += 1
        await asyncio.sleep(0)
        return Token(f"number-{self.count}", asked=challenge.scopes)


async def test_who_was_refused_with_an_older_token_gets_the_one_that_is_there() -> None:
    keeper = Counting("https://x.example/mcp")
    await keeper.renew(Challenge(), "")
    await keeper.renew(Challenge(), "older")
    assert keeper.count == 1
    stepping = Challenge(params={"error": "insufficient_scope", "scope": "more"})
    await keeper.renew(stepping, "older")
    assert keeper.count == 2
    await keeper.renew(stepping, "older")
    assert keeper.count == 2
    await asyncio.gather(*(keeper.renew(Challenge(), "number-2") for _ in range(10)))
    assert keeper.count == 3
