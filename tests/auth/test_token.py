"""Tokens: what is let in, what is refused and why, and what is remembered."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from issuer import AUDIENCE, NAME, SECRET, jwk, key_set, pem, private, rule, token

from erlmcp import ConfigurationError
from erlmcp.auth import Auth, Issuer
from erlmcp.auth import token as tokens
from erlmcp.auth.admission import Admission
from erlmcp.auth.challenge import Refusal
from erlmcp.auth.token import Verifier, scopes_of
from erlmcp.wire.header import Gate, Verdict

HOUR = 3600


def refused(verifier: Verifier, text: str) -> Refusal:
    found = verifier.look(text)
    assert isinstance(found, Refusal)
    return found


def b64(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def retold(text: str, part: int, value: Any) -> str:
    """A token with another header or other claims, and the signature that it had."""
    parts = text.split(".")
    parts[part] = b64(value)
    return ".".join(parts)


@pytest.mark.parametrize("kid", ["r1", "e1", "o1"])
async def test_a_token_that_is_signed_with_a_key_of_the_issuer_tells_who_calls(kid: str) -> None:
    verifier = Verifier(rule())
    found = verifier.look(token(kid, scope="mcp files:read", team="blue"))
    assert isinstance(found, Admission)
    who = found.principal
    assert (who.name, who.issuer, who.scopes) == ("alice", NAME, frozenset({"mcp", "files:read"}))
    assert who.claims["team"] == "blue"
    assert who.until > time.time()
    verifier.close()


NOW = int(time.time())
WRONG: list[tuple[str, dict[str, Any], str, bool]] = [
    ("expired", {"exp": NOW - HOUR}, "has expired", False),
    ("without an end", {"exp": None}, "has no exp", False),
    ("not valid yet", {"nbf": NOW + HOUR}, "not valid yet", False),
    ("made in the future", {"iat": NOW + HOUR}, "not valid yet", False),
    ("for another audience", {"aud": "https://other.test/mcp"}, "another audience", False),
    ("for no audience", {"aud": None}, "has no aud", False),
    ("of a stranger", {"iss": "https://evil.test"}, "not trusted here", True),
    ("of nobody", {"iss": None}, "not trusted here", True),
    ("for nobody", {"sub": None}, "does not say who calls: sub", False),
    ("for a blank", {"sub": ""}, "does not say who calls", False),
    ("for a line break", {"sub": "a\nb"}, "does not say who calls", False),
    ("for a number", {"sub": 7}, "does not say who calls", False),
    ("with an end that is no number", {"exp": "soon"}, "not of the right kinds", False),
    ("with an end that is a list", {"exp": [1]}, "not of the right kinds", False),
    ("with a beginning that is a table", {"nbf": {}}, "not of the right kinds", False),
    ("by another's key", {"key": "stranger"}, "signature is wrong", True),
    ("by a key that is not there", {"kid": "r2"}, "does not have", True),
    ("an ID token of another kind", {"headers": {"typ": "dpop+jwt"}}, "no access token", True),
    ("with an extension", {"headers": {"crit": ["exp"]}}, "no access token", True),
    ("with a kid that is no text", {"headers": {"kid": 7}}, "no JWT", True),
]  # fmt: skip


@pytest.mark.parametrize(("options", "why", "is_guess"), [each[1:] for each in WRONG], ids=[each[0] for each in WRONG])
async def test_a_token_that_does_not_hold_is_refused_with_why(
    options: dict[str, Any], why: str, is_guess: bool
) -> None:
    options = dict(options)
    if options.get("key") == "stranger":
        options["key"] = private("r2")
    if "headers" in options and not isinstance(options["headers"].get("kid", ""), str):
        made = retold(token(), 0, {"alg": "RS256", "typ": "JWT", "kid": 7})
    else:
        made = token(**options)
    found = refused(Verifier(rule()), made)
    assert (found.status, found.error) == (401, "invalid_token")
    assert why in found.reason
    assert found.is_guess or not is_guess


async def test_times_hold_within_the_leeway_alone() -> None:
    late = {"exp": int(time.time()) - 20}
    assert isinstance(Verifier(rule(leeway_s=60)).look(token(**late)), Admission)
    assert "expired" in refused(Verifier(rule(leeway_s=5)), token(**late)).reason
    early = {"nbf": int(time.time()) + 20}
    assert isinstance(Verifier(rule(leeway_s=60)).look(token(**early)), Admission)
    assert "not valid yet" in refused(Verifier(rule(leeway_s=5)), token(**early)).reason


@pytest.mark.parametrize("end", [10**400, 1e300, 2**63])
async def test_an_end_that_never_comes_is_far_enough(end: Any) -> None:
    verifier = Verifier(rule(kids=("o1",)))
    found = verifier.look(token("o1", exp=end))
    assert isinstance(found, Admission)
    assert found.principal.until == min(int(end), 2**53)
    verifier.close()


async def test_an_audience_is_one_of_those_that_are_named() -> None:
    verifier = Verifier(rule(audience=["https://a.test/mcp", "https://b.test/mcp"]))
    assert isinstance(verifier.look(token(aud=["https://x.test", "https://b.test/mcp"])), Admission)
    assert "another audience" in refused(verifier, token(aud=["https://x.test"])).reason
    verifier.close()


async def test_a_token_without_a_signature_is_nobodys() -> None:
    verifier = Verifier(rule())
    claims = jwt.decode(token(), options={"verify_signature": False})
    for alg in ("none", "None", "NONE", "nOnE", ""):
        for signature in ("", "AA"):
            text = f"{b64({'alg': alg, 'typ': 'JWT', 'kid': 'r1'})}.{b64(claims)}.{signature}"
            assert refused(verifier, text).status == 401
    assert len(verifier) == 0


async def test_a_public_key_is_no_secret_that_tokens_can_be_signed_with() -> None:
    """The classic confusion: HS256, and the issuer's public key, which everybody has, as the secret."""
    import hashlib
    import hmac

    for made in (rule(), rule(key=pem("r1"))):
        claims = jwt.decode(token(), options={"verify_signature": False})
        for text in (pem("r1"), pem("r1").strip(), json.dumps(jwk("r1"))):
            signed = f"{b64({'alg': 'HS256', 'typ': 'JWT', 'kid': 'r1'})}.{b64(claims)}"
            digest = hmac.new(text.encode(), signed.encode(), hashlib.sha256).digest()
            forged = f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"
            assert "algorithm that is not allowed" in refused(Verifier(made), forged).reason


async def test_a_key_of_a_secret_in_a_key_set_is_not_used() -> None:
    oct_key = {"kty": "oct", "kid": "s1", "k": base64.urlsafe_b64encode(SECRET.encode()).decode(), "alg": "HS256"}
    keys = {"keys": [jwk("r1"), oct_key]}
    verifier = Verifier(Auth(Issuer(NAME, jwks=keys), AUDIENCE))  # type: ignore[arg-type]  # one alone is meant, too
    forged = token("s1", key=SECRET, alg="HS256")
    assert "not allowed" in refused(verifier, forged).reason


async def test_a_secret_takes_its_own_algorithm_alone() -> None:
    verifier = Verifier(rule(secret=SECRET))
    assert isinstance(verifier.look(token("s", key=SECRET, alg="HS256")), Admission)
    assert "signature is wrong" in refused(verifier, token("s", key=SECRET + "x", alg="HS256")).reason
    assert "not allowed" in refused(verifier, token("r1")).reason
    verifier.close()


async def test_algorithms_are_those_that_are_listed_and_fit_the_key() -> None:
    verifier = Verifier(rule(algorithms=("ES256",)))
    assert isinstance(verifier.look(token("e1")), Admission)
    assert "not allowed" in refused(verifier, token("r1")).reason
    verifier.close()
    bound = {"keys": [jwk("r1", alg="RS512")]}
    other = Verifier(Auth(Issuer(NAME, jwks=bound), AUDIENCE))  # type: ignore[arg-type]
    assert "does not have" in refused(other, token("r1")).reason
    assert isinstance(other.look(token("r1", alg="RS512")), Admission)
    other.close()


async def test_a_token_that_names_no_key_is_tried_with_each_that_fits() -> None:
    verifier = Verifier(rule(kids=("r1", "e1", "r2")))
    assert isinstance(verifier.look(token("r2", headers={"kid": None})), Admission)
    assert "signature is wrong" in refused(verifier, token("e1", key=private("e2"), headers={"kid": None})).reason
    verifier.close()


async def test_scopes_that_are_missing_are_named_all_at_once() -> None:
    verifier = Verifier(rule(scopes=("mcp", "files")))
    found = refused(verifier, token(scope="mcp"))
    assert (found.status, found.error, found.scopes) == (403, "insufficient_scope", ("mcp", "files"))
    assert not found.is_guess
    assert isinstance(verifier.look(token(scope="files other mcp")), Admission)
    verifier.close()


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({"scope": "a b"}, {"a", "b"}),
        ({"scope": ""}, set()),
        ({"scp": ["a", "b", 7]}, {"a", "b"}),
        ({"scp": "a b"}, {"a", "b"}),
        ({"scope": 7}, set()),
        ({}, set()),
    ],
)
def test_scopes_are_read_as_issuers_write_them(claims: dict[str, Any], scopes: set[str]) -> None:
    assert scopes_of(claims) == scopes


async def test_a_claim_of_ones_own_names_the_caller() -> None:
    verifier = Verifier(rule(caller="client_id"))
    found = verifier.look(token(client_id="robot"))
    assert isinstance(found, Admission)
    assert found.principal.name == "robot"
    verifier.close()


async def test_two_issuers_have_each_their_own_keys_and_callers() -> None:
    first, second = Issuer(NAME, key=pem("r1")), Issuer("https://other.test", key=pem("r2"))
    verifier = Verifier(Auth((first, second), AUDIENCE))  # type: ignore[arg-type]
    one, two = verifier.look(token("r1")), verifier.look(token("r2", iss="https://other.test"))
    assert isinstance(one, Admission)
    assert isinstance(two, Admission)
    assert one.principal.name == two.principal.name == "alice"
    assert one.owner != two.owner
    assert "signature is wrong" in refused(verifier, token("r1", iss="https://other.test")).reason
    verifier.close()


# -- what is remembered ------------------------------------------------------------------------------------------------


async def test_a_token_is_checked_once_and_forgotten_when_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = []
    monkeypatch.setattr(tokens.jwt, "decode", lambda *a, decode=jwt.decode, **k: checks.append(a) or decode(*a, **k))
    verifier = Verifier(rule())
    text = token()
    found = verifier.look(text)
    assert isinstance(found, Admission)
    assert verifier.look(text) is found
    assert len(checks) == 1
    verdict = Verdict(gate=Gate("/mcp", local=True))
    found.hold(verdict)
    verifier._end(text, found)  # as its timer does
    assert verdict.gate is None
    assert not verifier.knows(text)
    verifier.close()


async def test_what_is_remembered_ends_with_the_token() -> None:
    verifier = Verifier(rule(leeway_s=10))
    found = verifier.look(token(exp=int(time.time()) + 100))
    assert isinstance(found, Admission)
    assert found.timer is not None
    import asyncio

    left_s = found.timer.when() - asyncio.get_running_loop().time()
    assert 105 < left_s <= 110
    verifier.close()
    assert found.timer.cancelled()


async def test_few_tokens_are_remembered_and_bad_ones_never(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "KNOWN_COUNT_MAX", 3)
    verifier = Verifier(rule(kids=("o1",)))
    texts = [token("o1", n=number) for number in range(5)]
    for text in texts:
        assert isinstance(verifier.look(text), Admission)
    assert [verifier.knows(text) for text in texts] == [False, False, True, True, True]
    assert isinstance(verifier.look(texts[0]), Admission)
    refused(verifier, texts[1][:-4] + "AAAA")
    assert len(verifier) == 3
    verifier.close()


# -- junk --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", "x", "..", "a.b", "a.b.c", "a.b.c.d", "é.é.é", f"{b64([])}.{b64({})}.AA", f"{b64({})}.{b64('x')}.AA",
     f"{b64({'alg': 'RS256'})}.bnVsbA.AA", "A" * 20_000 + ".A.A"],
)  # fmt: skip
async def test_what_is_no_token_is_refused(text: str) -> None:
    assert refused(Verifier(rule()), text).status == 401


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_token_that_was_altered_anywhere_is_refused(run: Any, data: st.DataObject) -> None:
    """Each character but those whose bits a decoder may pass over: the last of a part."""

    async def play() -> None:
        verifier = Verifier(rule(kids=("o1",)))
        text = token("o1")
        at = data.draw(st.integers(0, len(text) - 2))
        if text[at] == "." or text[at + 1] == ".":
            return
        other = data.draw(st.sampled_from("ABCXYZabcxyz0189-_.=\0 é").filter(lambda char: char != text[at]))
        assert isinstance(verifier.look(text[:at] + other + text[at + 1 :]), Refusal)
        assert len(verifier) == 0

    run(play)


# -- rules -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Issuer(""), "issuer is missing"),
        (lambda: Issuer(NAME), "says nowhere how"),
        (lambda: Issuer(NAME, jwks_url="https://a.test/", key="x"), "stands beside jwks_url"),
        (lambda: Issuer(NAME, jwks_url="http://a.test/keys"), "no https:// address"),
        (lambda: Issuer(NAME, jwks_url="http://[a/keys"), "no https:// address"),
        (lambda: Issuer(NAME, jwks_url="keys.json"), "no https:// address"),
        (lambda: Issuer(NAME, secret="short"), "has 5 bytes"),
        (lambda: Issuer(NAME, secret=SECRET, algorithms=("HS256", "HS512")), "37 bytes; take 64 or more"),
        (lambda: Issuer(NAME, secret=SECRET, algorithms=("RS256",)), "RS256 is for public keys"),
        (lambda: Issuer(NAME, key="x", algorithms=("HS256",)), "HS256 is for a secret"),
        (lambda: Issuer(NAME, key="x", algorithms=("none",)), "lists none"),
        (lambda: Issuer(NAME, key="x", algorithms=("RS1",)), "'RS1' is unknown"),
        (lambda: rule(audience=()), "audience is missing"),
        (lambda: rule(audience="api://x"), "resource is missing"),
        (lambda: rule(resource="http://h/#x"), "is no URL"),
        (lambda: rule(scopes=("a b",)), "'a b' is no scope"),
        (lambda: rule(caller=""), "caller is empty"),
        (lambda: rule(leeway_s=-1), "leeway_s is -1"),
        (lambda: rule(jwks_stale_s=1), "below jwks_refresh_s"),
        (lambda: Auth((), AUDIENCE), "issuer is missing"),  # type: ignore[arg-type]
        (lambda: Auth((Issuer(NAME, key="x"),) * 2, AUDIENCE), "is there twice"),  # type: ignore[arg-type]
        (lambda: Verifier(rule(key="x")), "no public key as PEM"),
        (lambda: Verifier(rule(key=pem("weak"))), "1024 bits"),
        (lambda: Verifier(rule(kids=("weak",))), "no key to check signatures with"),
        (lambda: Verifier(Auth(Issuer(NAME, jwks={"x": 1}), AUDIENCE)), "it is no key set"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_a_rule_that_cannot_hold_is_refused_when_it_is_made(make: Any, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why.replace("(", r"\(")):
        make()


def test_a_rule_does_not_show_its_secret() -> None:
    assert SECRET not in repr(rule(secret=SECRET))


def test_private_parts_of_a_key_set_are_never_read() -> None:
    from erlmcp.auth.keyset import read_keys

    whole = {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(private("r1"))), "key_ops": ["verify"]}
    (key,) = read_keys({"keys": [whole, {"kty": "RSA"}, {**jwk("e1"), "use": "enc"}, {"kty": "EC", "crv": "P-256"}, 7]})
    assert "d" in whole
    assert not hasattr(key.value, "private_numbers")
    assert key_set("r1")["keys"][0]["n"] == whole["n"]
