"""The ways to get a token (docs/client-auth.md): with a user (``OAuth``), for the program itself
(``ClientCredentials``), and for what another issuer says of it (``JwtBearer``, ``EnterpriseManaged``)."""

from __future__ import annotations

import asyncio
import inspect
import secrets
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

from erlmcp.client.oauth import register
from erlmcp.client.oauth.challenge import Challenge
from erlmcp.client.oauth.discovery import discover
from erlmcp.client.oauth.fetch import Fetcher
from erlmcp.client.oauth.identity import Identity, ask_token
from erlmcp.client.oauth.keeper import Keeper, log
from erlmcp.client.oauth.metadata import Issuer, Resource
from erlmcp.client.oauth.redirect import Asked, Browser, Handler, Redirect
from erlmcp.client.oauth.rule import (
    challenge_of,
    check_url,
    choose_scopes,
    make_verifier,
    query_of,
    resource_of,
    shown,
    with_query,
)
from erlmcp.client.oauth.store import MemoryStore, Store
from erlmcp.client.oauth.token import REFRESHED, Token, read_token, stored_token
from erlmcp.client.tls import Tls
from erlmcp.errors import AuthorizationError, ConfigurationError

USER_S: Final = 300.0
JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
TYPE: Final = "urn:ietf:params:oauth:token-type:"
# What a token endpoint says where a refresh token, or a client that was registered, is good no more.
OVER: Final = frozenset({"invalid_grant", "invalid_client", "unauthorized_client", "invalid_scope"})


class Grant:
    """What all ways have in common. ``scope`` is what to ask for, where the server's own word is not enough; ``issuer``
    is the only authorization server that may be asked; ``tls`` is for that, not for the MCP server."""

    def __init__(
        self,
        identity: Identity,
        *,
        scope: str | Sequence[str] = "",
        issuer: str = "",
        store: Store | None = None,
        tls: Tls | ssl.SSLContext | None = None,
        trust_env: bool = True,
    ) -> None:
        self.identity = identity
        self.scopes = tuple(scope.split() if isinstance(scope, str) else scope)
        self.issuer = issuer
        self.store: Store = store or MemoryStore()
        self.fetcher = Fetcher(tls, trust_env=trust_env)
        self._keepers: dict[str, GrantKeeper] = {}

    def keeper(self, url: str) -> GrantKeeper:
        name = resource_of(url)
        if name not in self._keepers:
            self._keepers[name] = self._make(name)
        return self._keepers[name]

    async def forget(self, url: str) -> None:
        """Log out of a server, as far as this program is concerned: no token is kept for it any more."""
        await self.keeper(url).forget()

    def _make(self, url: str) -> GrantKeeper:
        raise NotImplementedError


class GrantKeeper(Keeper):
    """A token that an authorization server makes."""

    is_silent = True  # whether a token can be had without a user

    def __init__(self, url: str, grant: Grant) -> None:
        super().__init__(url)
        self.grant = grant
        self._is_loaded = False

    @property
    def _name(self) -> str:
        return f"token {self.url} {self.grant.identity.id}".rstrip()

    async def load(self) -> None:
        if not self._is_loaded:
            found = stored_token(await self.grant.store.load(self._name))
            self.token = self.token or found
            self._is_loaded = True

    def is_due(self, now_s: float) -> bool:
        token = self.token
        return token is not None and token.is_due(now_s) and (self.is_silent or bool(token.refresh))

    async def forget(self) -> None:
        await super().forget()
        await self.grant.store.drop(self._name)

    async def _get(self, challenge: Challenge) -> Token:
        grant = self.grant
        resource, issuer = await discover(grant.fetcher, self.url, challenge, grant.issuer)
        held, known = self.token, self.token is not None and self.token.issuer == issuer.issuer
        scopes = choose_scopes(
            grant.scopes, challenge.scopes, resource.scopes, held.asked if held and known else (), issuer.scopes
        )
        token = None
        if held is not None and known and held.refresh and not challenge.is_step_up:
            token = await self._refresh(held, resource, issuer)
        if token is None:
            token = await self._grant(resource, issuer, scopes)
        await grant.store.save(self._name, token.as_dict())
        return token

    async def _refresh(self, held: Token, resource: Resource, issuer: Issuer) -> Token | None:
        """None where the issuer does not take the refresh token any more."""
        identity = await self._identity(held, issuer)
        if identity is None:
            return None
        fields = {"grant_type": "refresh_token", "refresh_token": held.refresh, "resource": resource.name}
        try:
            found = await ask_token(self.grant.fetcher, issuer, identity, fields)
        except AuthorizationError as error:
            if error.error not in OVER:
                raise
            log.info("%s: the refresh token is good no more (%s)", self.url, error.error)
            return None
        token = read_token(found, issuer=issuer.issuer, asked=held.asked, client_id=held.client_id, source=REFRESHED)
        return token if token.refresh else replace(token, refresh=held.refresh)

    async def _identity(self, held: Token, issuer: Issuer) -> Identity | None:
        """The client that the token was made for."""
        return self.grant.identity

    async def _grant(self, resource: Resource, issuer: Issuer, scopes: tuple[str, ...]) -> Token:
        raise NotImplementedError

    async def _ask(
        self, resource: Resource, issuer: Issuer, identity: Identity, scopes: tuple[str, ...], fields: dict[str, str]
    ) -> Token:
        """A token for the resource, by the fields of one of the grants."""
        found = await ask_token(self.grant.fetcher, issuer, identity, {**fields, "resource": resource.name})
        return read_token(found, issuer=issuer.issuer, asked=scopes, client_id=identity.id)


class OAuth(Grant):
    """The authorization code flow with PKCE, for a program with a user.

    ``redirect``: how the user gets to the authorization server: ``Browser(...)``, which is what there is without it, or
    a function (a coroutine function too) that is given the URL and gives the one that the user was sent back to, with
    ``redirect_uri``. Who the client is: ``client_id`` (and ``client_secret``, or ``private_key``, where it was
    registered by hand), else ``client_metadata_url`` where the server reads such documents, else it is registered as
    ``client_name``. ``store`` keeps tokens and registrations: ``FileStore(path)``, or in memory. ``timeout_s`` is what
    the user has. One for any number of clients, of one event loop.
    """

    def __init__(
        self,
        redirect: Redirect | Handler | None = None,
        *,
        redirect_uri: str = "",
        client_id: str = "",
        client_secret: str = "",
        client_metadata_url: str = "",
        client_name: str = "erlmcp",
        private_key: str = "",
        algorithm: str = "ES256",
        token_auth_method: str = "",
        timeout_s: float = USER_S,
        **options: Any,
    ) -> None:
        if not client_id and (client_secret or private_key):
            raise ConfigurationError("client_secret and private_key belong to a client_id")
        parts = urlsplit(client_metadata_url)
        if client_metadata_url and (parts.scheme != "https" or parts.path in ("", "/")):
            raise ConfigurationError(f"client_metadata_url is an https URL with a path, got {client_metadata_url!r}")
        super().__init__(Identity(client_id, client_secret, token_auth_method, private_key, algorithm), **options)
        self.redirect: Redirect
        if redirect is None:
            self.redirect = Browser()
        elif isinstance(redirect, Redirect):
            self.redirect = redirect
        else:
            self.redirect = Asked(redirect, redirect_uri)
        self.client_metadata_url = client_metadata_url
        self.client_name = client_name
        self.timeout_s = timeout_s

    def _make(self, url: str) -> GrantKeeper:
        return _UserKeeper(url, self)


class _UserKeeper(GrantKeeper):
    """Asks a user."""

    grant: OAuth
    is_silent = False

    def __init__(self, url: str, grant: OAuth) -> None:
        super().__init__(url, grant)
        self.wait_s = grant.timeout_s

    async def _identity(self, held: Token, issuer: Issuer) -> Identity | None:
        grant = self.grant
        if held.client_id in ("", grant.identity.id):
            return grant.identity
        if held.client_id == grant.client_metadata_url:
            return Identity(held.client_id)
        found = await register.load(grant.store, issuer.issuer)
        return found[0] if found is not None and found[0].id == held.client_id else None

    async def _grant(self, resource: Resource, issuer: Issuer, scopes: tuple[str, ...]) -> Token:
        grant = self.grant
        issuer.check_pkce()
        if not issuer.authorization_url:
            raise AuthorizationError(f"{issuer.issuer} names no authorization endpoint")
        before = await register.load(grant.store, issuer.issuer)
        redirect_uri = await grant.redirect.begin(before[1] if before is not None else "")
        try:
            if urlsplit(redirect_uri).scheme in ("http", "https"):  # not of a scheme that is the program's own
                check_url(redirect_uri, "redirect_uri", beside="http://localhost")
            identity = await self._client(issuer, redirect_uri, scopes)
            verifier, state = make_verifier(), secrets.token_urlsafe(24)
            wanted = {
                "response_type": "code", "client_id": identity.id, "redirect_uri": redirect_uri, "state": state,
                "code_challenge": challenge_of(verifier), "code_challenge_method": "S256",
                "scope": " ".join(scopes), "resource": resource.name,
            }  # fmt: skip
            url = with_query(issuer.authorization_url, {name: value for name, value in wanted.items() if value})
            code = check_callback(await self._user(url), issuer, state, redirect_uri)
        finally:
            await grant.redirect.end()
        fields = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        try:
            return await self._ask(resource, issuer, identity, scopes, {**fields, "code_verifier": verifier})
        except AuthorizationError as error:
            if error.error == "invalid_client" and identity.is_kept:
                await register.drop(grant.store, issuer.issuer)  # The next time it is registered anew.
            raise

    async def _user(self, url: str) -> str:
        try:
            async with asyncio.timeout(self.grant.timeout_s) as scope:
                return await self.grant.redirect.ask(url)
        except TimeoutError:
            if not scope.expired():
                raise
            what = f"{self.url}: the user did not come back within timeout_s={self.grant.timeout_s:g}"
            raise AuthorizationError(what) from None

    async def _client(self, issuer: Issuer, redirect_uri: str, scopes: tuple[str, ...]) -> Identity:
        """Who we are there: as given, by the URL of our document, or register."""
        grant = self.grant
        if grant.identity.id:
            return grant.identity
        if grant.client_metadata_url and issuer.takes_metadata_url:
            return Identity(grant.client_metadata_url)
        return await register.get(grant.fetcher, grant.store, issuer, grant.client_name, redirect_uri, scopes)


def check_callback(url: str, issuer: Issuer, state: str, redirect_uri: str) -> str:
    """The code that the user was sent back with. AuthorizationError where it is not the answer to our question: another
    place, another state (RFC 6749, section 10.12), another issuer (RFC 9207), or a refusal."""
    if not isinstance(url, str) or url.partition("?")[0] != redirect_uri.partition("?")[0]:
        raise AuthorizationError("the user came back to another place than the redirect_uri")
    found = query_of(url)
    if not secrets.compare_digest(found.get("state", "").encode(), state.encode()):
        raise AuthorizationError("the callback has another state than the request: it is not the answer to it")
    told = found.get("iss")
    if told is None and issuer.tells_issuer:
        raise AuthorizationError(f"the callback does not say that it is of {issuer.issuer}, which says that it does")
    if told is not None and told != issuer.issuer:
        raise AuthorizationError(f"the callback is of {shown(told)!r}, and {issuer.issuer} was asked")
    if error := found.get("error"):
        what = shown(found.get("error_description", ""))
        raise AuthorizationError(f"{issuer.issuer} refused: {shown(error)}{': ' + what if what else ''}", shown(error))
    if not found.get("code"):
        raise AuthorizationError("the callback has no code")
    return found["code"]


class ClientCredentials(Grant):
    """A token for the program itself: with ``client_secret``, or with ``private_key`` (PEM) and ``algorithm``."""

    def __init__(
        self,
        client_id: str,
        client_secret: str = "",
        *,
        private_key: str = "",
        algorithm: str = "ES256",
        token_auth_method: str = "",
        **options: Any,
    ) -> None:
        if not client_id or bool(client_secret) == bool(private_key):
            raise ConfigurationError("ClientCredentials needs a client_id, and a client_secret or a private_key")
        super().__init__(Identity(client_id, client_secret, token_auth_method, private_key, algorithm), **options)

    def _make(self, url: str) -> GrantKeeper:
        return _CredentialsKeeper(url, self)


class _CredentialsKeeper(GrantKeeper):
    async def _grant(self, resource: Resource, issuer: Issuer, scopes: tuple[str, ...]) -> Token:
        fields = {"grant_type": "client_credentials", "scope": " ".join(scopes)}
        return await self._ask(resource, issuer, self.grant.identity, scopes, fields)


class JwtBearer(Grant):
    """A token for what another issuer says of the program (RFC 7523, section 2.1): ``assertion(issuer, resource)``,
    plain or coroutine, gives its JWT for the authorization server ``issuer``. A refusal is final: nothing else is
    tried."""

    def __init__(
        self,
        assertion: Callable[[str, str], str | Awaitable[str]] | None,
        *,
        client_id: str = "",
        client_secret: str = "",
        token_auth_method: str = "",
        **options: Any,
    ) -> None:
        super().__init__(Identity(client_id, client_secret, token_auth_method), **options)
        self._given = assertion

    async def assertion(self, issuer: Issuer, resource: str, scopes: tuple[str, ...]) -> str:
        assert self._given is not None
        found = self._given(issuer.issuer, resource)
        return await found if inspect.isawaitable(found) else found

    def _make(self, url: str) -> GrantKeeper:
        return _AssertionKeeper(url, self)


class _AssertionKeeper(GrantKeeper):
    grant: JwtBearer

    async def _grant(self, resource: Resource, issuer: Issuer, scopes: tuple[str, ...]) -> Token:
        grant = self.grant
        assertion = await grant.assertion(issuer, resource.name or self.url, scopes)
        fields = {"grant_type": JWT_BEARER, "assertion": assertion, "scope": " ".join(scopes)}
        return await self._ask(resource, issuer, grant.identity, scopes, fields)


class EnterpriseManaged(JwtBearer):
    """Access that a user's company gives (SEP-990): the company's identity provider exchanges the user's ID token for
    an assertion (ID-JAG), for which the authorization server gives an access token. ``id_token`` is that, or a function
    that gives it; ``idp_token_url`` is where the exchange is, ``idp_client_id`` and ``idp_client_secret`` who we are
    there."""

    def __init__(
        self,
        id_token: str | Callable[[], str | Awaitable[str]],
        *,
        idp_token_url: str,
        idp_client_id: str,
        idp_client_secret: str = "",
        **options: Any,
    ) -> None:
        super().__init__(None, **options)
        self._id_token = id_token
        self._idp = Identity(idp_client_id, idp_client_secret)
        self._idp_url = check_url(idp_token_url, "idp_token_url", beside="http://localhost")

    async def assertion(self, issuer: Issuer, resource: str, scopes: tuple[str, ...]) -> str:
        given = self._id_token
        found: Any = given() if callable(given) else given
        subject = await found if inspect.isawaitable(found) else found
        fields = {
            "grant_type": EXCHANGE, "requested_token_type": TYPE + "id-jag", "audience": issuer.issuer,
            "resource": resource, "scope": " ".join(scopes), "subject_token": subject,
            "subject_token_type": TYPE + "id_token",
        }  # fmt: skip
        there = Issuer(self._idp_url, "", self._idp_url)
        answer = await ask_token(self.fetcher, there, self._idp, fields)
        if answer.get("issued_token_type") != TYPE + "id-jag" or not isinstance(answer.get("access_token"), str):
            raise AuthorizationError(f"{self._idp_url} gave no assertion for another issuer (ID-JAG)")
        return str(answer["access_token"])
