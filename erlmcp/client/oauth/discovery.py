"""From a server's refusal to where its tokens are made."""

from __future__ import annotations

from collections.abc import Sequence

from erlmcp.client.oauth.challenge import Challenge
from erlmcp.client.oauth.fetch import Fetcher
from erlmcp.client.oauth.metadata import Issuer, Resource, guessed_issuer, read_issuer, read_resource
from erlmcp.client.oauth.rule import SERVER_PART, check_url, origin_of, resource_urls, server_urls
from erlmcp.errors import AuthorizationError

GUESS_HEADERS = {"MCP-Protocol-Version": "2025-03-26"}


async def discover(fetcher: Fetcher, url: str, challenge: Challenge, wanted: str = "") -> tuple[Resource, Issuer]:
    """Who makes tokens for the server at ``url``; ``wanted`` is the only issuer that may. AuthorizationError where
    nobody does, or somebody who cannot be believed."""
    check_url(url, "server", beside=url)
    resource = await find_resource(fetcher, url, challenge)
    if resource is None:
        issuer = await find_guessed(fetcher, url)
        _pick([issuer.issuer], wanted, url)
        return Resource("", (issuer.issuer,)), issuer
    return resource, await find_issuer(fetcher, _pick(resource.issuers, wanted, url), url)


async def find_resource(fetcher: Fetcher, url: str, challenge: Challenge) -> Resource | None:
    """The server's metadata: where its challenge says, else at the known places; None where it has none."""
    named = challenge.metadata_url
    places = [check_url(named, "resource_metadata", beside=url)] if named else resource_urls(url)
    for place in places:
        found = await fetcher.document(place)
        if found is not None:
            return read_resource(found, url, place)
    if named:
        raise AuthorizationError(f"there is nothing at {named}, which {url} names as its metadata")
    return None


async def find_issuer(fetcher: Fetcher, issuer: str, url: str) -> Issuer:
    for place in server_urls(issuer):
        found = await fetcher.document(place)
        if found is not None:
            return read_issuer(found, issuer, url, place)
    raise AuthorizationError(f"the authorization server {issuer} has no metadata at any of its places")


async def find_guessed(fetcher: Fetcher, url: str) -> Issuer:
    """Of 2025-03-26: the server's origin is its own authorization server, with metadata or with the usual endpoints."""
    origin = origin_of(url)
    place = origin + SERVER_PART
    found = await fetcher.document(place, GUESS_HEADERS)
    return guessed_issuer(url) if found is None else read_issuer(found, origin, url, place)


def _pick(issuers: Sequence[str], wanted: str, url: str) -> str:
    if not wanted:
        return issuers[0]
    for issuer in issuers:
        if issuer.rstrip("/") == wanted.rstrip("/"):
            return issuer
    raise AuthorizationError(f"{url} takes tokens of {', '.join(issuers)[:200]}, and only {wanted} is wanted")
