"""Resource plans: URIs and templates, and contents from what is returned."""

from __future__ import annotations

import base64
import pathlib
from typing import Any

import mcp_types
import pydantic
import pytest

from erlmcp.errors import ArgumentError, ConfigurationError, ErlmcpError
from erlmcp.server.content import Image, ResourceContents
from erlmcp.server.resource import compile_resource

PNG = b"\x89PNG"


class User(pydantic.BaseModel):
    name: str
    user_id: int = pydantic.Field(0, alias="userId")


def test_a_static_resource_is_listed_with_its_uri() -> None:
    def readme() -> str:
        """The readme."""
        return "text"

    plan = compile_resource(
        readme, "docs://readme", title="R", mime_type="text/markdown", size=4, annotations={"priority": 0.5}, tags=["d"]
    )
    assert plan.descriptor == {
        "uri": "docs://readme",
        "name": "readme",
        "title": "R",
        "description": "The readme.",
        "mimeType": "text/markdown",
        "size": 4,
        "annotations": {"priority": 0.5},
    }
    assert not plan.is_template
    assert plan.match("docs://readme") == {}
    assert plan.match("docs://other") is None
    assert plan.convert(plan.invoke({}, None), "docs://readme") == [
        {"uri": "docs://readme", "mimeType": "text/markdown", "text": "text"}
    ]


def test_a_template_passes_its_variables() -> None:
    def page(number: int, lang: str = "en", tags: list[str] = []) -> dict[str, Any]:  # noqa: B006
        return {"number": number, "lang": lang, "tags": tags}

    plan = compile_resource(page, "docs://{number}{/tags*}{?lang}")
    assert plan.descriptor == {"uriTemplate": "docs://{number}{/tags*}{?lang}", "name": "page"}
    uri = "docs://5/a/b?lang=de"
    found = plan.match(uri)
    assert plan.result(plan.invoke(found, None), uri) == {
        "contents": [{"uri": uri, "mimeType": "application/json", "text": '{"number":5,"lang":"de","tags":["a","b"]}'}]
    }
    with pytest.raises(ArgumentError, match="number: expected integer"):
        plan.invoke({"number": "x"}, None)


def test_traversal_in_a_template_is_refused_unless_the_author_allows_it() -> None:
    def read(path: str) -> str:
        return path

    assert compile_resource(read, "f://{+path}").match("f://../etc") is None
    assert compile_resource(read, "f://{+path}", safe=False).match("f://../etc") == {"path": "../etc"}


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("no-scheme", "begins with a scheme"),
        ("x://{a}", r"\['b'\] are not in the template"),
        ("x://{a}/{b}/{c}", r"variables \['c'\]"),
        ("x://{a}{?b}", r"\['b'\] may be absent"),
        ("x://{a", "not closed"),
        ("x://{?a}/{b}", "stand last"),
        ("x://static", "nobody can give the parameters a, b"),
    ],
)
def test_a_uri_that_does_not_fit_its_function_is_refused(uri: str, words: str) -> None:
    def read(a: str, b: str) -> str:
        return a + b

    with pytest.raises(ConfigurationError, match=words):
        compile_resource(read, uri)


def test_all_that_a_resource_may_return_becomes_contents(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\xff")
    plan = compile_resource(lambda: None, "x://y", name="r")

    def only(value: Any) -> dict[str, Any]:
        (entry,) = plan.convert(value, "x://y")
        assert entry.pop("uri") == "x://y"
        return entry

    assert only("a") == {"mimeType": "text/plain", "text": "a"}
    assert only(b"\x00") == {"mimeType": "application/octet-stream", "blob": "AA=="}
    assert only([1, 2]) == {"mimeType": "application/json", "text": "[1,2]"}
    assert only(User(name="a")) == {"mimeType": "application/json", "text": '{"name":"a","userId":0}'}
    assert only(Image(data=PNG)) == {"mimeType": "image/png", "blob": base64.b64encode(PNG).decode()}
    assert only(tmp_path / "a.bin") == {"mimeType": "application/octet-stream", "blob": "/w=="}
    assert only(ResourceContents("{}", "application/json", meta={"a.b/c": 1})) == {
        "mimeType": "application/json",
        "text": "{}",
        "_meta": {"a.b/c": 1},
    }
    assert plan.convert(None, "x://y") == []
    many = plan.convert([ResourceContents("a"), ResourceContents(b"b", uri="x://z")], "x://y")
    assert [(each["uri"], "blob" in each) for each in many] == [("x://y", False), ("x://z", True)]
    theirs = mcp_types.TextResourceContents(uri="x://w", text="t")
    assert plan.convert(theirs, "x://y") == [{"uri": "x://w", "text": "t"}]
    whole = mcp_types.ReadResourceResult(contents=[theirs])
    assert plan.result(whole, "x://y")["contents"] == [{"uri": "x://w", "text": "t"}]
    with pytest.raises(ErlmcpError, match="cannot be sent"):
        plan.convert(object(), "x://y")
