"""``erlmcp doctor``, and the commands that take an app of another SDK."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from erlmcp.cli import main

APP = """
from typing import Annotated

from mcp.server.mcpserver import Context, MCPServer, Resolve

mcp = MCPServer("shop", version="1", log_level="ERROR")

@mcp.tool()
async def add(a: int, b: int = 2) -> int:
    return a + b

@mcp.tool()
async def told(ctx: Context) -> str:
    return "told"

async def found() -> str:
    return "found"

@mcp.tool()
async def resolved(word: Annotated[str, Resolve(found)]) -> str:
    return word
"""
OWN = """
from erlmcp import Server

server = Server("own")

@server.tool
async def add(a: int) -> int:
    return a
"""
pytestmark = pytest.mark.filterwarnings("ignore")


def write(folder: Path, text: str, name: str) -> str:
    path = folder / f"{name}.py"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_it_shows_the_level_of_each_tool_and_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", write(tmp_path, APP, "doctor_a")]) == 0
    said = capsys.readouterr().out
    assert "shop (MCPServer; mcp 2.3.0)" in said
    assert "l3  add" in said
    assert "l3  told      compiled arguments, a ready answer, with the Context" in said
    assert "l1  resolved  it has Resolve parameters" in said
    assert "2 straight, 1 kernel" in said


GUARDED = """
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer
from starlette.routing import WebSocketRoute

class Verifier:
    async def verify_token(self, token):
        return None

settings = AuthSettings(issuer_url="https://issuer.example", resource_server_url=None)
mcp = MCPServer("shop", version="1", log_level="ERROR", auth=settings, token_verifier=Verifier())

@mcp.custom_route("/items/{name}", methods=["POST"])
async def item(request):
    pass

async def talk(socket):
    pass
"""


def test_it_says_what_of_the_apps_own_http_side_is_served_and_what_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", write(tmp_path, GUARDED, "doctor_g")]) == 0
    said = capsys.readouterr().out
    assert "over HTTP its own Verifier is asked for each request" in said
    assert "over HTTP 1 route of its own is served beside the endpoint" in said
    talking = GUARDED + 'mcp._custom_starlette_routes.append(WebSocketRoute("/talk", talk))\n'
    assert main(["doctor", write(tmp_path, talking, "doctor_h")]) == 0
    assert "HTTP is not accelerated: its route /talk is a WebSocket" in capsys.readouterr().out


def test_it_says_what_holds_for_all_tools(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ERLMCP_ACCEL", "l1")
    assert main(["doctor", write(tmp_path, APP, "doctor_b"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["remarks"] == ["no tool is called straight: level l1"]
    assert [(each["name"], each["level"], each["why"]) for each in found["tools"]] == [
        ("add", "l1", "level l1"),
        ("told", "l1", "level l1"),
        ("resolved", "l1", "level l1"),
    ]


def test_a_server_of_our_own_has_plans_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", write(tmp_path, OWN, "doctor_c")]) == 0
    assert "own  add" in capsys.readouterr().out


def test_call_and_list_take_an_app_of_another_sdk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, APP, "doctor_d")
    assert main(["list", f"{file}:mcp"]) == 0
    assert "add(a: integer, b?: integer)" in capsys.readouterr().out
    assert main(["call", file, "add", "a=3"]) == 0
    assert capsys.readouterr().out.strip() == "5"
    assert main(["call", file, "told"]) == 0
    assert capsys.readouterr().out.strip() == "told"


def test_an_unknown_level_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ERLMCP_ACCEL", "l2")
    assert main(["doctor", write(tmp_path, APP, "doctor_e")]) != 0
    assert "ERLMCP_ACCEL='l2': expected auto, off, l1, l3" in capsys.readouterr().err
