"""What a protected server tells, as the official SDK's client reads it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "auth"))

from issuer import NAME, rule, token
from knock import Answer, Knock

from erlmcp import Server
from erlmcp.server.serve import http

pytestmark = pytest.mark.interop
utils = pytest.importorskip("mcp.client.auth.utils")
shared = pytest.importorskip("mcp.shared.auth")


def as_response(answer: Answer) -> Any:
    """As much of a response of httpx as the SDK looks at."""
    headers = {"WWW-Authenticate": answer.headers.get("www-authenticate")}
    return SimpleNamespace(status_code=answer.status, headers=headers)


async def test_the_sdk_finds_the_issuer_by_the_challenge_and_by_the_well_known_paths() -> None:
    async with http(Server("plain")) as listener:
        port = listener.port
    auth = rule(resource=f"http://127.0.0.1:{port}/mcp", scopes=("mcp", "files"))
    async with http(Server("guarded", auth=auth), port=port) as listener, Knock(port) as knock:
        refused = await knock.call("echo", {})
        url = utils.extract_resource_metadata_from_www_auth(as_response(refused))
        assert url == f"http://127.0.0.1:{port}/.well-known/oauth-protected-resource/mcp"
        assert utils.extract_scope_from_www_auth(as_response(refused)) == "mcp files"
        looked_for = utils.build_protected_resource_metadata_discovery_urls(None, f"http://127.0.0.1:{port}/mcp")
        for each in {url, *looked_for}:
            found = await knock.ask("GET", each.removeprefix(f"http://127.0.0.1:{port}"))
            metadata = shared.ProtectedResourceMetadata.model_validate_json(found.body)
            assert str(metadata.resource) == f"http://127.0.0.1:{port}/mcp"
            assert [str(each).rstrip("/") for each in metadata.authorization_servers] == [NAME]
            assert metadata.scopes_supported == ["mcp", "files"]
        narrow = await knock.call("echo", {}, token(scope="mcp"))
        assert utils.extract_field_from_www_auth(as_response(narrow), "error") == "insufficient_scope"
        assert utils.extract_scope_from_www_auth(as_response(narrow)) == "mcp files"
        assert listener.port == port
