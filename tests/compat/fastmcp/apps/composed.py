"""Mounted servers, namespaces, transforms, visibility and versions."""

from typing import Any

from erlmcp.compat.fastmcp import Context, FastMCP
from erlmcp.compat.fastmcp.server.middleware import Middleware, MiddlewareContext
from erlmcp.compat.fastmcp.server.transforms import Namespace, ToolTransform, Transform
from erlmcp.compat.fastmcp.tools import Tool, forward
from erlmcp.compat.fastmcp.tools.tool_transform import ArgTransform, ToolTransformConfig

mcp = FastMCP("composed", version="1")
weather = FastMCP("weather")
inner = FastMCP("inner")
guarded = FastMCP("guarded")
named = FastMCP("named")
bare = FastMCP("bare")


@weather.tool(tags={"cold"})
def forecast(city: str) -> str:
    """What comes."""
    return f"rain in {city}"


@weather.tool
async def where(ctx: Context) -> str:
    return ctx.fastmcp.name


@weather.tool
def storm() -> int:
    raise ValueError("thunder")


@weather.prompt
def ask_storm() -> str:
    raise ValueError("thunder")


@weather.resource("weather://storm")
def storm_warning() -> str:
    raise ValueError("thunder")


@weather.resource("weather://now")
def now() -> str:
    return "rain"


@weather.resource("weather://{city}/now")
def now_in(city: str) -> str:
    return f"rain in {city}"


@weather.prompt
def ask_weather(city: str) -> str:
    return f"how is it in {city}?"


@inner.tool
def deep(n: int) -> int:
    return n + 1


@inner.resource("inner://{x}")
def deep_resource(x: str) -> str:
    return x


class Shouting(Middleware):
    async def on_call_tool(self, context: MiddlewareContext, call_next: Any) -> Any:
        found = await call_next(context)
        found.meta = {"heard": context.message.name}
        return found


guarded.add_middleware(Shouting())


@guarded.tool
def quiet(n: int) -> int:
    return n


@guarded.tool
def fails() -> int:
    raise ValueError("the details")


@guarded.resource("guarded://{x}/y")
def guarded_resource(x: str) -> str:
    return f"guarded {x}"


@named.tool
def one() -> int:
    return 1


@named.tool
def two() -> int:
    return 2


@bare.tool
def unnamed() -> str:
    return "bare"


weather.mount(inner, namespace="inner")
mcp.mount(weather, namespace="weather")
mcp.mount(guarded, namespace="g")
mcp.mount(named, namespace="n", tool_names={"one": "the_one"})
mcp.mount(bare)


@weather.tool
def late() -> str:
    return "added after the mount"


# -- transforms ----------------------------------------------------------------------------------------------


def multiply(a: int, b: int, factor: int = 2) -> int:
    """Multiply."""
    return a * b * factor


mcp.add_tool(multiply)
mcp.add_tool(
    Tool.from_tool(
        Tool.from_function(multiply),
        name="times",
        description="Times.",
        tags={"t"},
        transform_args={
            "a": ArgTransform(name="left", description="the left one"),
            "b": ArgTransform(default=7),
            "factor": ArgTransform(hide=True, default=1),
        },
    )
)


async def checked(left: int) -> str:
    """Checked."""
    found = await forward(left=left)
    return f"got {found.structured_content['result']}"


mcp.add_tool(
    Tool.from_tool(
        Tool.from_function(multiply),
        name="checked",
        transform_fn=checked,
        transform_args={
            "a": ArgTransform(name="left"),
            "b": ArgTransform(hide=True, default=3),
            "factor": ArgTransform(hide=True, default=1),
        },
    )
)


@mcp.tool
def plain(n: int) -> int:
    return n


mcp.add_transform(
    ToolTransform({"plain": ToolTransformConfig(name="renamed", title="Renamed", tags={"r"}, meta={"x": 1})})
)

# -- visibility ----------------------------------------------------------------------------------------------


@mcp.tool(tags={"internal"})
def internal() -> str:
    return "internal"


@mcp.tool(tags={"internal", "kept"})
def internal_and_kept() -> str:
    return "kept"


@mcp.resource("data://hidden", tags={"internal"})
def hidden() -> str:
    return "hidden"


@mcp.prompt(tags={"internal"})
def hidden_prompt() -> str:
    return "hidden"


mcp.disable(tags={"internal"})
mcp.enable(tags={"kept"})
mcp.disable(names={"weather_where"}, components={"tool"})

# -- a second server, for a transform of one's own ---------------------------------------------------------------------

special = FastMCP("special")


class Suffix(Transform):
    async def list_tools(self, tools: Any) -> Any:
        return [each.model_copy(update={"name": f"{each.name}_x"}) for each in tools]

    async def get_tool(self, name: str, call_next: Any, *, version: Any = None) -> Any:
        if not name.endswith("_x"):
            return None
        found = await call_next(name.removesuffix("_x"), version=version)
        return None if found is None else found.model_copy(update={"name": name})


@special.tool
def suffixed(n: int) -> int:
    return n


special.add_transform(Suffix())
special.add_transform(Namespace("s"))
mcp.mount(special)


def call(name: str, /, **arguments: Any) -> tuple[str, dict[str, Any]]:
    return "tools/call", {"name": name, "arguments": arguments}


REQUESTS = [
    ("tools/list", {}),
    ("resources/list", {}),
    ("resources/templates/list", {}),
    ("prompts/list", {}),
    call("weather_forecast", city="Oslo"),
    call("weather_forecast", city=5),
    call("weather_where"),
    call("weather_late"),
    call("weather_storm"),
    ("resources/read", {"uri": "weather://weather/storm"}),
    ("prompts/get", {"name": "weather_ask_storm"}),
    call("weather_inner_deep", n=1),
    call("g_quiet", n=2),
    call("g_fails"),
    call("n_the_one"),
    call("the_one"),
    call("n_two"),
    call("unnamed"),
    call("forecast", city="Oslo"),
    ("resources/read", {"uri": "weather://weather/now"}),
    ("resources/read", {"uri": "weather://weather/Oslo/now"}),
    ("resources/read", {"uri": "inner://weather/inner/z"}),
    ("resources/read", {"uri": "guarded://g/z/y"}),
    ("resources/read", {"uri": "weather://now"}),
    ("resources/read", {"uri": "data://hidden"}),
    ("prompts/get", {"name": "weather_ask_weather", "arguments": {"city": "Oslo"}}),
    ("prompts/get", {"name": "hidden_prompt"}),
    call("multiply", a=2, b=3),
    call("times", left=2),
    call("times", left=2, b=5),
    call("times"),
    call("checked", left=4),
    call("renamed", n=1),
    call("plain", n=1),
    call("internal"),
    call("internal_and_kept"),
    call("s_suffixed_x", n=3),
    call("suffixed", n=3),
]

if __name__ == "__main__":
    mcp.run(show_banner=False)
