"""As the documents put servers together: several of them, a database in the lifespan, a middleware that checks."""

from contextlib import asynccontextmanager
from typing import Any

from erlmcp.compat.fastmcp import Context, FastMCP
from erlmcp.compat.fastmcp.dependencies import Depends
from erlmcp.compat.fastmcp.exceptions import ToolError
from erlmcp.compat.fastmcp.prompts import Message
from erlmcp.compat.fastmcp.server.middleware import Middleware, MiddlewareContext
from erlmcp.compat.fastmcp.tools import Tool
from erlmcp.compat.fastmcp.tools.tool_transform import ArgTransform


class Database:
    """Rows by table, open between ``connect`` and ``close``."""

    def __init__(self) -> None:
        self.rows: dict[str, list[dict[str, Any]]] | None = None

    def connect(self) -> None:
        self.rows = {"users": [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Bob"}], "notes": []}

    def close(self) -> None:
        self.rows = None


database = Database()


@asynccontextmanager
async def opened(server: Any) -> Any:
    database.connect()
    try:
        yield {"database": database}
    finally:
        database.close()


def get_database() -> Database:
    if database.rows is None:
        raise RuntimeError("the database is closed")
    return database


users = FastMCP("Users")
notes = FastMCP("Notes")
main = FastMCP("Main", version="5", lifespan=opened)


@users.tool
def find_user(name: str, db: Database = Depends(get_database)) -> dict[str, Any]:
    """A user by name."""
    for row in db.rows["users"]:
        if row["name"] == name:
            return row
    raise ToolError(f"no user {name}")


@users.resource("users://{id}/card")
def card(id: int, db: Database = Depends(get_database)) -> str:
    """A user's card."""
    return {row["id"]: row["name"] for row in db.rows["users"]}[id]


@users.prompt
def introduce(name: str) -> list[Message]:
    """Introduce a user."""
    return [Message(f"Introduce {name}."), Message("With pleasure.", role="assistant")]


@notes.tool(tags={"write"})
async def add_note(text: str, ctx: Context, db: Database = Depends(get_database)) -> int:
    """Keep a note, and say how many there are."""
    db.rows["notes"].append({"text": text})
    await ctx.set_state("last", text)
    return len(db.rows["notes"])


@notes.tool
def list_notes(db: Database = Depends(get_database)) -> list[str]:
    """All notes."""
    return [row["text"] for row in db.rows["notes"]]


@notes.tool(tags={"write", "dangerous"})
def drop_notes(db: Database = Depends(get_database)) -> None:
    """Forget all notes."""
    db.rows["notes"].clear()


class ReadOnly(Middleware):
    """Refuses what writes, while it is on."""

    def __init__(self) -> None:
        self.is_on = False

    async def on_call_tool(self, context: MiddlewareContext, call_next: Any) -> Any:
        tool = await context.fastmcp_context.fastmcp.get_tool(context.message.name)
        if self.is_on and tool is not None and "write" in tool.tags:
            raise ToolError("read only")
        return await call_next(context)


read_only = ReadOnly()
main.add_middleware(read_only)
main.mount(users, namespace="users")
main.mount(notes, namespace="notes")
main.disable(tags={"dangerous"})


@main.tool
def set_read_only(on: bool) -> bool:
    """Switch writing off or on."""
    read_only.is_on = on
    return on


def raw_query(table: str, limit: int, trace: str) -> str:
    """Rows of a table, as they are."""
    return f"{table} {limit} {trace}"


main.add_tool(
    Tool.from_tool(
        Tool.from_function(raw_query),
        name="peek",
        description="The first rows of a table.",
        transform_args={
            "table": ArgTransform(description="which table"),
            "limit": ArgTransform(name="count", default=5),
            "trace": ArgTransform(hide=True, default="peek"),
        },
    )
)


def call(name: str, /, **arguments: Any) -> tuple[str, dict[str, Any]]:
    return "tools/call", {"name": name, "arguments": arguments}


REQUESTS = [
    ("tools/list", {}),
    ("resources/templates/list", {}),
    ("prompts/list", {}),
    call("users_find_user", name="Ada"),
    call("users_find_user", name="Zed"),
    ("resources/read", {"uri": "users://users/2/card"}),
    ("resources/read", {"uri": "users://users/9/card"}),
    ("prompts/get", {"name": "users_introduce", "arguments": {"name": "Ada"}}),
    call("notes_add_note", text="one"),
    call("notes_add_note", text="two"),
    call("notes_list_notes"),
    call("notes_drop_notes"),
    call("set_read_only", on=True),
    call("notes_add_note", text="three"),
    call("notes_list_notes"),
    call("set_read_only", on=False),
    call("notes_add_note", text="three"),
    call("peek", table="users"),
    call("peek", table="users", count=2),
    call("peek", table="users", limit=2),
]

if __name__ == "__main__":
    main.run(show_banner=False)
