"""As the documents begin: a server that greets, then one that counts, searches, and says who it is."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from erlmcp.compat.fastmcp import Context, FastMCP

mcp = FastMCP(
    "Start",
    instructions="Greets, counts, and finds things in a small catalogue.",
    version="0.1",
    website_url="https://example.com/start",
)

CATALOGUE = [
    {"id": 1, "name": "kettle", "kind": "kitchen", "price": 20.0},
    {"id": 2, "name": "lamp", "kind": "light", "price": 35.5},
    {"id": 3, "name": "pan", "kind": "kitchen", "price": 15.25},
]


class Found(BaseModel):
    """What a search found."""

    query: str
    items: list[dict[str, Any]]
    total: int = Field(description="how many there were before the limit")


@mcp.tool
def greet(name: str) -> str:
    """Greet somebody by name."""
    return f"Hello, {name}!"


@mcp.tool(
    name="find_products",
    description="Search the catalogue, perhaps within one kind.",
    tags={"catalogue", "search"},
    meta={"team": "shop", "revision": 2},
    annotations={"title": "Find products", "readOnlyHint": True, "openWorldHint": False},
)
def search(
    query: Annotated[str, "Words that the name has"],
    kind: Literal["kitchen", "light"] | None = None,
    limit: Annotated[int, Field(description="At most so many", ge=1, le=100)] = 10,
) -> Found:
    """This text is not shown: the decorator has one."""
    hits = [each for each in CATALOGUE if query in each["name"] and kind in (None, each["kind"])]
    return Found(query=query, items=hits[:limit], total=len(hits))


@mcp.tool
def divide(a: float, b: float) -> float:
    """Divide a by b."""
    if b == 0:
        raise ValueError("Division by zero is not allowed")
    return a / b


@mcp.tool
async def analyse(numbers: list[float], ctx: Context) -> dict[str, float]:
    """The mean and the extremes of some numbers."""
    await ctx.info(f"Looking at {len(numbers)} numbers")
    for done in range(len(numbers)):
        await ctx.report_progress(done + 1, len(numbers))
    return {"mean": sum(numbers) / len(numbers), "least": min(numbers), "most": max(numbers)}


@mcp.resource("config://app")
def app_config() -> dict[str, Any]:
    """Settings of the app."""
    return {"theme": "dark", "version": "1.2"}


@mcp.resource("greetings://{name}")
def greeting(name: str) -> str:
    """A greeting of one's own."""
    return f"Hello from a template, {name}"


@mcp.resource("product://{id}")
def product(id: int) -> dict[str, Any]:
    """A product by its number."""
    found = [each for each in CATALOGUE if each["id"] == id]
    if not found:
        raise LookupError(f"no product {id}")
    return found[0]


@mcp.prompt
def explain(topic: str) -> str:
    """Ask for an explanation."""
    return f"Explain {topic} in simple words."


@mcp.prompt(name="review", description="Ask for a review of a text.", tags={"writing"})
def review_text(text: str, style: Literal["kind", "strict"] = "kind") -> str:
    return f"Review in a {style} way:\n\n{text}"


def call(name: str, /, **arguments: Any) -> tuple[str, dict[str, Any]]:
    return "tools/call", {"name": name, "arguments": arguments}


REQUESTS = [
    ("tools/list", {}),
    ("resources/list", {}),
    ("resources/templates/list", {}),
    ("prompts/list", {}),
    call("greet", name="Ford"),
    call("greet"),
    call("find_products", query="a"),
    call("find_products", query="e", kind="kitchen", limit=1),
    call("find_products", query="e", limit=0),
    call("find_products", query="e", kind="garden"),
    call("divide", a=1, b=4),
    call("divide", a=1, b=0),
    (
        "tools/call",
        {
            "name": "analyse",
            "arguments": {"numbers": [1, 2, 6]},
            "_meta": {"progressToken": "t", "io.modelcontextprotocol/logLevel": "info"},
        },
    ),
    call("analyse", numbers=[]),
    ("resources/read", {"uri": "config://app"}),
    ("resources/read", {"uri": "greetings://Ford"}),
    ("resources/read", {"uri": "product://2"}),
    ("resources/read", {"uri": "product://9"}),
    ("prompts/get", {"name": "explain", "arguments": {"topic": "towels"}}),
    ("prompts/get", {"name": "review", "arguments": {"text": "So long", "style": "strict"}}),
    ("prompts/get", {"name": "review", "arguments": {"text": "So long"}}),
]

if __name__ == "__main__":
    mcp.run(show_banner=False)
