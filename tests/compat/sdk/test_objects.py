"""The small parts of the façade by themselves: records, resources, forms, answers."""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from erlmcp import ConfigurationError
from erlmcp.compat.sdk import Audio, Image, MCPServer, ResourceSecurity
from erlmcp.compat.sdk.convert import content_of, indented, plan_result
from erlmcp.compat.sdk.elicitation import (
    AcceptedElicitation,
    CancelledElicitation,
    DeclinedElicitation,
    outcome,
    rendered,
    url_outcome,
)
from erlmcp.compat.sdk.exceptions import InvalidSignature
from erlmcp.compat.sdk.prompts.base import AssistantMessage, Message, UserMessage
from erlmcp.compat.sdk.record import python_name, wire_name
from erlmcp.compat.sdk.resources import DirectoryResource, FileResource, Resource, encoding_of
from erlmcp.compat.sdk.server import CacheHint
from erlmcp.compat.sdk.types import CallToolResult, ClientCapabilities, InputRequiredResult, ResourceLink, block_from
from erlmcp.compat.sdk.utilities.types import Image as SameImage
from erlmcp.compat.v1.resources import TextResource as FirstTextResource
from erlmcp.compat.v1.tools import Tool as FirstTool
from erlmcp.compat.v1.utilities.types import Audio as SameAudio


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Form:
    name: str
    age: int | None = None
    color: Color = Color.RED


@dataclass
class Deep:
    inner: Form


# -- names and blocks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "wire"),
    [("input_schema", "inputSchema"), ("meta", "_meta"), ("name", "name"), ("has_more", "hasMore")],
)
def test_a_field_has_two_names(ours: str, wire: str) -> None:
    assert (wire_name(ours), python_name(wire)) == (wire, ours)
    assert wire_name(wire) == wire


def test_the_helpers_are_the_same_by_each_of_their_names() -> None:
    assert (SameImage, SameAudio) == (Image, Audio)
    assert FirstTool.from_function(len, name="n").name == "n"
    assert FirstTextResource(uri="a://b", text="t").name == "a://b"


@pytest.mark.parametrize(
    ("helper", "mime_type"),
    [
        (Image(data=b"x"), "image/png"),
        (Image(data=b"x", format="JPEG"), "image/jpeg"),
        (Audio(data=b"x"), "audio/wav"),
        (Audio(data=b"x", format="mp3"), "audio/mp3"),
    ],
)
def test_a_medium_has_the_type_that_the_sdk_gives_it(helper: Any, mime_type: str) -> None:
    made = helper.to_image_content() if isinstance(helper, Image) else helper.to_audio_content()
    assert (made.mime_type, made.data) == (mime_type, "eA==")


@pytest.mark.parametrize(
    ("name", "mime_type"), [("a.png", "image/png"), ("a.JPG", "image/jpeg"), ("a.xyz", "application/octet-stream")]
)
def test_a_file_has_the_type_of_its_ending(tmp_path: Path, name: str, mime_type: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert Image(path=tmp_path / name).to_content()["mimeType"] == mime_type
    assert Audio(path=tmp_path / "a.m4a").mime_type == "audio/mp4"


def test_a_block_of_an_unknown_type_stays_as_it_came() -> None:
    assert block_from({"type": "new", "a": 1}) == {"type": "new", "a": 1}
    assert block_from({"type": "resource_link", "uri": "a://b", "name": "n"}) == ResourceLink(uri="a://b", name="n")


def test_values_become_text_as_the_sdk_writes_it() -> None:
    assert content_of(None) == []
    assert [each["text"] for each in content_of([1, ["a", {"b": None}]])] == ["1", "a", '{\n  "b": null\n}']
    assert indented({"x": float("inf"), "d": dt.date(2026, 1, 2), "o": len}) == (
        '{\n  "x": null,\n  "d": "2026-01-02",\n  "o": "' + str(len) + '"\n}'
    )


def test_capabilities_are_read_as_deep_as_they_go() -> None:
    found = ClientCapabilities.model_validate({"sampling": {"tools": {}}, "roots": {"listChanged": True}})
    assert found.sampling.tools is not None
    assert found.roots.list_changed is True
    assert found.elicitation is None
    assert found.sampling.context is None


# -- results ----------------------------------------------------------------------------------------------------------


def test_control_signals_are_no_data() -> None:
    for hint in (InputRequiredResult, CallToolResult):
        assert plan_result("tool", "t", hint, None).output_schema is None
    both = plan_result("tool", "t", int | str | InputRequiredResult, None).output_schema
    assert both is not None
    assert both["properties"]["result"]["anyOf"] == [{"type": "integer"}, {"type": "string"}]
    with pytest.raises(InvalidSignature, match="one of several return types"):
        plan_result("tool", "t", CallToolResult | str, None)
    with pytest.raises(InvalidSignature, match="needs a return annotation"):
        from erlmcp.compat.sdk.convert import EMPTY

        plan_result("tool", "t", EMPTY, True)


def test_a_value_that_does_not_fit_its_schema_is_refused() -> None:
    plan = plan_result("tool", "t", list[int], None)
    assert plan.result([1, "2"])["structuredContent"] == {"result": [1, 2]}
    with pytest.raises(ValueError, match="integer"):
        plan.result(["x"])


# -- forms ------------------------------------------------------------------------------------------------------------


def test_a_form_is_flat_and_says_nothing_of_none() -> None:
    found = rendered(Form)
    assert found["properties"]["age"] == {"type": "integer", "title": "Age"}
    assert found["properties"]["color"]["enum"] == ["red", "blue"]
    assert found["required"] == ["name"]
    assert "$defs" not in found
    assert rendered({"type": "object"}) == {"type": "object"}
    for deep in (Deep, list[int]):
        with pytest.raises(TypeError, match="Elicitation schema"):
            rendered(deep)


def test_an_answer_is_what_the_user_made_of_it() -> None:
    accepted = outcome(Form, {"action": "accept", "content": {"name": "Ada", "color": "blue"}})
    assert (accepted.data, accepted.action) == (Form("Ada", None, Color.BLUE), "accept")
    assert isinstance(accepted, AcceptedElicitation)
    assert isinstance(outcome(Form, {"action": "decline"}), DeclinedElicitation)
    assert isinstance(outcome(Form, {"action": "cancel"}), CancelledElicitation)
    assert url_outcome({"action": "accept"}).action == "accept"
    assert url_outcome({"action": "decline"}).action == "decline"
    assert url_outcome({"action": "cancel"}).action == "cancel"
    assert outcome({"type": "object"}, {"action": "accept", "content": {"x": 1}}).data == {"x": 1}
    for content in (None, {"age": 1}):
        with pytest.raises(ValueError, match="accepted elicitation"):
            outcome(Form, {"action": "accept", "content": content})


# -- resources --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mime_type", "encoding"),
    [
        ("text/plain", "utf-8-sig"),
        ("application/json", "utf-8-sig"),
        ("image/svg+xml", "utf-8-sig"),
        ("image/png", None),
        ("text/csv; charset=latin-1", "latin-1"),
    ],
)
def test_the_encoding_of_a_file_is_that_of_its_type(mime_type: str, encoding: str | None) -> None:
    assert encoding_of(mime_type) == encoding


def test_a_file_of_the_first_line_says_whether_it_is_binary(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("ä", encoding="utf-8")
    assert FileResource(uri="file:///a", path=path, is_binary=True).encoding is None
    assert FileResource(uri="file:///a", path=path, is_binary=False).encoding == "utf-8"


def test_a_directory_lists_its_files_as_far_as_asked(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.txt").write_text("b")
    (tmp_path / "a.txt").write_text("a")
    flat = DirectoryResource(uri="dir://a", path=tmp_path)
    assert "b.txt" not in flat._read()
    assert "b.txt" in DirectoryResource(uri="dir://a", path=tmp_path, recursive=True)._read()
    with pytest.raises(FileNotFoundError):
        DirectoryResource(uri="dir://a", path=tmp_path / "absent").list_files()
    with pytest.raises(NotADirectoryError):
        DirectoryResource(uri="dir://a", path=tmp_path / "a.txt").list_files()
    with pytest.raises(ValueError, match="absolute"):
        DirectoryResource(uri="dir://a", path=Path("a"))


async def test_a_resource_of_an_authors_own_class_is_read() -> None:
    class Own(Resource):
        async def read(self) -> str:
            return f"own {self.name}"

    mcp = MCPServer("x")
    mcp.add_resource(Own(uri="own://a", name="n", mime_type="text/x-own"))
    (found,) = await mcp.read_resource("own://a")
    assert (found.content, found.mime_type) == ("own n", "text/x-own")
    with pytest.raises(NotImplementedError, match=r"Resource has no read\(\)"):
        await Resource(uri="a://b").read()


@pytest.mark.parametrize(
    ("value", "breaks"),
    [
        ("a/b", False),
        ("../a", True),
        ("a\\..\\b", True),
        ("/etc", True),
        ("C:\\x", True),
        ("a\0b", True),
        ("..a", False),
    ],
)
def test_the_policy_refuses_what_leads_out_of_a_folder(value: str, breaks: bool) -> None:
    assert (ResourceSecurity().validate({"x": value}) == "x") is breaks
    assert ResourceSecurity(exempt_params={"x"}).validate({"x": value}) is None
    assert (ResourceSecurity().validate({"x": ["fine", value]}) == "x") is breaks
    loose = ResourceSecurity(reject_path_traversal=False, reject_absolute_paths=False, reject_null_bytes=False)
    assert loose.validate({"x": value}) is None


# -- messages, hints --------------------------------------------------------------------------------------------------


def test_a_message_has_a_role_and_a_block() -> None:
    assert UserMessage("a") == Message("a", role="user")
    assert UserMessage("a") != AssistantMessage("a")
    assert AssistantMessage("a").model_dump() == {"role": "assistant", "content": {"type": "text", "text": "a"}}
    assert Message({"type": "text", "text": "b"}).content.text == "b"
    assert "UserMessage" in repr(UserMessage("a"))
    with pytest.raises(ValueError, match="expected 'user' or 'assistant'"):
        Message("a", role="system")


def test_a_hint_is_bounded() -> None:
    assert CacheHint(5, "public").ttl_ms == 5
    with pytest.raises(ValueError, match="ttl_ms"):
        CacheHint(-1)
    with pytest.raises(ValueError, match="scope"):
        CacheHint(1, "all")


def test_the_type_of_the_first_lines_names_is_not_there_by_others() -> None:
    import erlmcp.compat.v1 as first

    assert dir(first) == ["Audio", "Context", "FastMCP", "Icon", "Image"]
    with pytest.raises(AttributeError, match="no attribute 'MCPServer'"):
        _ = first.MCPServer
    with pytest.raises(ConfigurationError):
        first.FastMCP("x", auth_server_provider=object())
