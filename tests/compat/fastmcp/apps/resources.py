"""Resources, templates, prompts and completions."""

import json
import tempfile
from pathlib import Path
from typing import Any

from erlmcp.compat.fastmcp import FastMCP
from erlmcp.compat.fastmcp.exceptions import PromptError, ResourceError
from erlmcp.compat.fastmcp.prompts import Message, Prompt, PromptResult
from erlmcp.compat.fastmcp.resources import (
    BinaryResource,
    FileResource,
    Resource,
    ResourceContent,
    ResourceResult,
    TextResource,
)
from erlmcp.compat.fastmcp.resources import resource as marked

mcp = FastMCP("resources", version="2")
folder = Path(tempfile.gettempdir())
note = folder / "erlmcp-note.txt"
note.write_text("a note")


@mcp.resource("data://config")
def config() -> dict:
    """The configuration."""
    return {"a": 1}


@mcp.resource(
    "data://text",
    name="text",
    title="A text",
    description="Some text.",
    mime_type="text/markdown",
    tags={"t"},
    meta={"m": 1},
    annotations={"audience": ["user"], "priority": 0.5},
)
async def text() -> str:
    return "# hi"


@mcp.resource("data://bytes", mime_type="application/octet-stream")
def some_bytes() -> bytes:
    return b"\x00\x01"


@mcp.resource("data://many")
def many() -> ResourceResult:
    return ResourceResult(
        [ResourceContent({"k": 1}), ResourceContent(b"x"), ResourceContent("t", meta={"n": 2})], meta={"count": 3}
    )


@mcp.resource("data://list")
def a_list() -> list:
    return [1, "two"]


@mcp.resource("data://breaks")
def breaks() -> str:
    raise ValueError("the details")


@mcp.resource("data://tells")
def tells() -> str:
    raise ResourceError("told so")


@mcp.resource("user://{id}/profile")
def profile(id: int) -> str:
    """A profile."""
    return f"{id!r}"


@mcp.resource("repo://{owner}/{path*}", mime_type="text/plain")
def repo(owner: str, path: str) -> str:
    return f"{owner}: {path}"


@mcp.resource("search://{topic}{?format,limit}")
def search(topic: str, format: str = "json", limit: int = 3) -> str:
    return f"{topic} {format} {limit!r}"


@mcp.resource("switch://{on}")
def switch(on: bool) -> str:
    return f"{on!r}"


@mcp.resource("tag://{name}{?also*}")
def tags(name: str, also: list[str] | None = None) -> str:
    return f"{name} {also!r}"


@marked("data://marked", name="marked")
def outside() -> str:
    return "marked"


mcp.add_resource(outside)
mcp.add_resource(TextResource(uri="data://fixed", text="fixed", name="fixed"))
mcp.add_resource(BinaryResource(uri="data://blob", data=b"\x02", name="blob", mime_type="image/png"))
mcp.add_resource(FileResource(uri="file:///note", path=note, name="note"))
mcp.add_resource(Resource.from_function(lambda: "made", uri="data://made", name="made"))


@mcp.prompt
def ask(topic: str, count: int = 3) -> str:
    """Ask.

    Args:
        topic: what about
        count: how often
    """
    return f"{topic} {count!r}"


@mcp.prompt(name="talk", title="Talk", description="A talk.", tags={"z"}, meta={"q": 1})
def conversation() -> list[Message]:
    return [Message("hi"), Message("yo", role="assistant"), Message({"a": 1})]


@mcp.prompt("listed")
async def listed(numbers: list[int]) -> PromptResult:
    return PromptResult([Message(str(numbers))], description="of its own", meta={"a": 1})


@mcp.prompt
def strings() -> list:
    return ["one", "two"]


@mcp.prompt
def prompt_breaks() -> str:
    raise ValueError("the details")


@mcp.prompt
def prompt_tells() -> str:
    raise PromptError("told so")


mcp.add_prompt(Prompt.from_function(lambda who: f"hello {who}", name="greet", description="Greets."))


@mcp.completion
def complete(ref: Any, argument: Any, context: Any) -> list[str] | None:
    if argument.name == "topic":
        return [each for each in ("math", "music", "art") if each.startswith(argument.value)]
    if argument.name == "owner":
        return [json.dumps(context.arguments if context else None)]
    return None


def read(uri: str) -> tuple[str, dict[str, Any]]:
    return "resources/read", {"uri": uri}


def get(name: str, /, **arguments: str) -> tuple[str, dict[str, Any]]:
    return "prompts/get", {"name": name, "arguments": arguments}


def completed(ref: dict[str, str], name: str, value: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return "completion/complete", {"ref": ref, "argument": {"name": name, "value": value}, **more}


REQUESTS = [
    ("resources/list", {}),
    ("resources/templates/list", {}),
    ("prompts/list", {}),
    read("data://config"),
    read("data://text"),
    read("data://bytes"),
    read("data://many"),
    read("data://list"),
    read("data://breaks"),
    read("data://tells"),
    read("data://marked"),
    read("data://fixed"),
    read("data://blob"),
    read("file:///note"),
    read("data://made"),
    read("data://absent"),
    read("user://5/profile"),
    read("user://x/profile"),
    read("repo://me/a/b/c.py"),
    read("repo://me/a%20b"),
    read("repo://me/../../etc/passwd"),
    read("repo://me//etc/passwd"),
    read("search://cats"),
    read("search://cats?format=xml&limit=5"),
    read("search://cats?limit=many"),
    read("switch://yes"),
    read("switch://perhaps"),
    read("tag://a?also=b&also=c"),
    get("ask", topic="t"),
    get("ask", topic="t", count="5"),
    get("ask", topic="t", count="x"),
    get("ask"),
    get("talk"),
    get("listed", numbers="[1,2]"),
    get("strings"),
    get("prompt_breaks"),
    get("prompt_tells"),
    get("greet", who="you"),
    get("absent"),
    completed({"type": "ref/prompt", "name": "ask"}, "topic", "m"),
    completed({"type": "ref/prompt", "name": "ask"}, "count", ""),
    completed(
        {"type": "ref/resource", "uri": "repo://{owner}/{path*}"}, "owner", "", context={"arguments": {"path": "p"}}
    ),
]

if __name__ == "__main__":
    mcp.run(show_banner=False)
