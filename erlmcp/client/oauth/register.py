"""Clients that are registered by themselves (RFC 7591), one for each authorization server, and kept."""

from __future__ import annotations

import time
from typing import Any, Final
from urllib.parse import urlsplit

from erlmcp.client.oauth.fetch import Fetcher
from erlmcp.client.oauth.identity import Identity
from erlmcp.client.oauth.metadata import Issuer
from erlmcp.client.oauth.rule import BASIC, METHODS, NONE, POST, is_loopback, shown
from erlmcp.client.oauth.store import Store
from erlmcp.errors import AuthorizationError

ID_CHARS_MAX: Final = 4096


async def load(store: Store, issuer: str) -> tuple[Identity, str] | None:
    """The client that is registered there, and its redirect URI; None where there is none that is good still."""
    found = await store.load(f"client {issuer}")
    if found is None or not isinstance(found.get("client_id"), str):
        return None
    ends_s = found.get("client_secret_expires_at", 0)
    if isinstance(ends_s, int | float) and 0 < ends_s <= time.time():
        return None
    method = str(found.get("token_endpoint_auth_method", ""))
    identity = Identity(found["client_id"], str(found.get("client_secret", "")), method, is_kept=True)
    return identity, str(found.get("redirect_uri", ""))


async def drop(store: Store, issuer: str) -> None:
    await store.drop(f"client {issuer}")


async def get(
    fetcher: Fetcher, store: Store, issuer: Issuer, name: str, redirect_uri: str, scopes: tuple[str, ...]
) -> Identity:
    """The registered client, registered now where it is not, or is for another redirect URI."""
    known = await load(store, issuer.issuer)
    if known is not None and known[1] == redirect_uri:
        return known[0]
    if not issuer.registration_url:
        what = "give the client_id of one that was registered by hand, or a client_metadata_url where it takes that"
        raise AuthorizationError(f"{issuer.issuer} registers no clients by themselves; {what}")
    status, found = await fetcher.json(issuer.registration_url, document(issuer, name, redirect_uri, scopes))
    id, secret, method = found.get("client_id"), found.get("client_secret"), found.get("token_endpoint_auth_method")
    if status not in (200, 201) or not isinstance(id, str) or not 0 < len(id) <= ID_CHARS_MAX:
        error, what = shown(found.get("error", "")), shown(found.get("error_description", ""))
        said = f"{issuer.registration_url} answered {status} {error} and registered no client: {what}"
        raise AuthorizationError(said.rstrip(": "), error)
    record: dict[str, Any] = {"client_id": id, "redirect_uri": redirect_uri}
    if isinstance(secret, str) and secret:
        record |= {"client_secret": secret, "client_secret_expires_at": found.get("client_secret_expires_at", 0)}
    if method in METHODS:
        record["token_endpoint_auth_method"] = method
    await store.save(f"client {issuer.issuer}", record)
    return Identity(id, record.get("client_secret", ""), record.get("token_endpoint_auth_method", ""), is_kept=True)


def document(issuer: Issuer, name: str, redirect_uri: str, scopes: tuple[str, ...]) -> dict[str, Any]:
    """What is said of the client. It needs no secret where it may go without: it could not keep one."""
    method = next((each for each in (NONE, BASIC, POST) if each in (issuer.methods or (NONE,))), NONE)
    is_native = is_loopback(redirect_uri) or urlsplit(redirect_uri).scheme not in ("http", "https")
    found = {
        "client_name": name,
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": method,
        "application_type": "native" if is_native else "web",
    }
    return {**found, "scope": " ".join(scopes)} if scopes else found
