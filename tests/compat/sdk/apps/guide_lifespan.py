"""The page on the lifespan: a database that is opened once and closed at the end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from mcp.server.mcpserver import Context, MCPServer


class Database:
    """Stands for one."""

    def __init__(self) -> None:
        self.is_open = False

    @classmethod
    async def connect(cls) -> "Database":
        made = cls()
        made.is_open = True
        return made

    async def disconnect(self) -> None:
        self.is_open = False

    def query(self, text: str) -> str:
        return f"{text} -> {'rows' if self.is_open else 'nothing'}"


@dataclass
class AppContext:
    db: Database


@asynccontextmanager
async def app_lifespan(server: MCPServer) -> AsyncIterator[AppContext]:
    db = await Database.connect()
    try:
        yield AppContext(db=db)
    finally:
        await db.disconnect()


mcp = MCPServer("My App", lifespan=app_lifespan)


@mcp.tool()
def query_db(ctx: Context[AppContext], text: str = "select 1") -> str:
    """Tool that uses initialized resources."""
    return ctx.request_context.lifespan_context.db.query(text)


@mcp.resource("table://{name}")
async def table(name: str, ctx: Context[AppContext]) -> str:
    return ctx.request_context.lifespan_context.db.query(name)


@mcp.prompt()
def explain(text: str, ctx: Context[AppContext]) -> str:
    return f"Explain {ctx.request_context.lifespan_context.db.query(text)}"


TALK = [
    ("tools/list", {}),
    ("tools/call", {"name": "query_db", "arguments": {}}),
    ("tools/call", {"name": "query_db", "arguments": {"text": "select 2"}}),
    ("resources/read", {"uri": "table://users"}),
    ("prompts/get", {"name": "explain", "arguments": {"text": "select 3"}}),
    ("prompts/list", {}),
]
