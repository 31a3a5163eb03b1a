"""Prompt plans: arguments as strings, and messages from what is returned."""

from __future__ import annotations

from typing import Annotated, Literal

import mcp_types
import pydantic
import pytest

from erlmcp.errors import ArgumentError, ErlmcpError
from erlmcp.server.content import AssistantMessage, File, Image, UserMessage
from erlmcp.server.prompt import compile_prompt

PNG = b"\x89PNG"


class User(pydantic.BaseModel):
    name: str
    user_id: int = pydantic.Field(0, alias="userId")


def test_a_prompt_lists_its_arguments() -> None:
    def review(code: str, lines: Annotated[int, "how many"] = 5, style: Literal["a", "b"] | None = None) -> str:
        """Review code.

        Args:
            code: what to look at
        """
        return f"{code}:{lines + 1}:{style}"

    plan = compile_prompt(review, title="Review", icons=[{"src": "https://a.b/c"}], meta={"a.b/c": 1}, tags=["t"])
    assert plan.descriptor == {
        "name": "review",
        "title": "Review",
        "description": "Review code.",
        "arguments": [
            {"name": "code", "description": "what to look at", "required": True},
            {"name": "lines", "description": "how many", "required": False},
            {"name": "style", "required": False},
        ],
        "icons": [{"src": "https://a.b/c"}],
        "_meta": {"a.b/c": 1},
    }
    assert plan.invoke({"code": "5", "lines": "7", "style": "a"}, None) == "5:8:a"
    with pytest.raises(ArgumentError, match="prompt 'review': code: missing, expected string; lines: expected integer"):
        plan.invoke({"lines": "x"}, None)
    assert plan.result("hi") == {
        "description": "Review code.",
        "messages": [{"role": "user", "content": {"type": "text", "text": "hi"}}],
    }


def test_all_that_a_prompt_may_return_becomes_messages() -> None:
    plan = compile_prompt(lambda: None, name="p")
    text = {"type": "text", "text": "x"}
    assert plan.convert(None) == []
    assert plan.convert(UserMessage("x")) == [{"role": "user", "content": text}]
    got = plan.convert(
        [
            "x",
            AssistantMessage("x"),
            AssistantMessage(Image(data=PNG)),
            {"role": "assistant", "content": "x"},
            {"role": "user", "content": text},
            mcp_types.PromptMessage(role="user", content=mcp_types.TextContent(text="x")),
            mcp_types.TextContent(text="x"),
            File(data=b"x", name="a.txt"),
            {"n": 1},
        ]
    )
    assert [each["role"] for each in got] == ["user", "assistant", "assistant", "assistant"] + ["user"] * 5
    assert [each["content"]["type"] for each in got] == [
        "text",
        "text",
        "image",
        "text",
        "text",
        "text",
        "text",
        "resource",
        "text",
    ]
    assert got[-1]["content"]["text"] == '{"n":1}'
    with pytest.raises(ErlmcpError, match="role 'system'"):
        plan.convert(UserMessage("x", role="system"))
    with pytest.raises(ErlmcpError, match="no message"):
        plan.convert(object())


def test_a_whole_prompt_result_is_taken_as_it_is() -> None:
    plan = compile_prompt(lambda: None, name="p")
    theirs = mcp_types.GetPromptResult(
        description="D", messages=[mcp_types.PromptMessage(role="user", content=mcp_types.TextContent(text="x"))]
    )
    result = plan.result(theirs)
    assert result["description"] == "D"
    assert result["messages"] == [{"role": "user", "content": {"type": "text", "text": "x"}}]
