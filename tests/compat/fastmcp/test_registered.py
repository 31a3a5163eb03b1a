"""What can be registered, what is refused and with which words, and what a server does without a client."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from erlmcp import Client
from erlmcp.compat import fastmcp
from erlmcp.compat.fastmcp import Context, FastMCP, tools
from erlmcp.compat.fastmcp.exceptions import (
    AuthorizationError,
    NotFoundError,
    PromptError,
    ResourceError,
    ToolError,
    Unsupported,
    ValidationError,
    to_mcp_error,
)
from erlmcp.compat.fastmcp.prompts import Message, Prompt, PromptResult
from erlmcp.compat.fastmcp.resources import (
    DirectoryResource,
    FileResource,
    HttpResource,
    Resource,
    ResourceContent,
    ResourceResult,
    ResourceTemplate,
)
from erlmcp.compat.fastmcp.resources.template import ResourceSecurity, match_uri_template
from erlmcp.compat.fastmcp.server.lifespan import ContextManagerLifespan, lifespan
from erlmcp.compat.fastmcp.server.middleware import Middleware, MiddlewareContext
from erlmcp.compat.fastmcp.server.middleware.caching import ResponseCachingMiddleware
from erlmcp.compat.fastmcp.server.middleware.error_handling import ErrorHandlingMiddleware
from erlmcp.compat.fastmcp.server.middleware.rate_limiting import (
    RateLimitingMiddleware,
    SlidingWindowRateLimitingMiddleware,
)
from erlmcp.compat.fastmcp.server.middleware.tool_injection import ToolInjectionMiddleware
from erlmcp.compat.fastmcp.server.providers import Provider
from erlmcp.compat.fastmcp.server.transforms import VersionFilter, VersionSpec, Visibility
from erlmcp.compat.fastmcp.tools import Tool, ToolResult, forward
from erlmcp.compat.fastmcp.tools.tool_transform import ArgTransform
from erlmcp.errors import McpError


def f(x: int) -> int:
    return x


@pytest.mark.parametrize(
    ("register", "name"),
    [
        (lambda mcp: mcp.tool(f), "f"),
        (lambda mcp: mcp.tool()(f), "f"),
        (lambda mcp: mcp.tool("g")(f), "g"),
        (lambda mcp: mcp.tool(name="g")(f), "g"),
        (lambda mcp: mcp.tool(f, name="g"), "g"),
        (lambda mcp: mcp.add_tool(f), "f"),
        (lambda mcp: mcp.add_tool(Tool.from_function(f, name="g")), "g"),
    ],
)
async def test_a_tool_is_registered_in_every_form(register: Callable[[FastMCP], Any], name: str) -> None:
    mcp = FastMCP()
    assert register(mcp) is f or name
    assert [each.name for each in await mcp.list_tools()] == [name]
    assert (await mcp.call_tool(name, {"x": 3})).structured_content == {"result": 3}


async def test_a_decorated_function_stays_a_function() -> None:
    mcp = FastMCP()
    assert mcp.tool(f) is f
    assert mcp.prompt("p")(f) is f
    assert mcp.resource("data://{x}")(f) is f


async def test_what_was_marked_outside_keeps_its_options_unless_the_server_says_otherwise() -> None:
    def g(x: int) -> int:
        return x

    tools.tool(name="marked", tags={"m"})(g)
    one, other = FastMCP(), FastMCP()
    one.tool(g)
    other.tool("named", tags={"n"})(g)
    assert [(each.name, each.tags) for each in await one.list_tools()] == [("marked", {"m"})]
    assert [(each.name, each.tags) for each in await other.list_tools()] == [("named", {"n"})]


class Thing:
    @staticmethod
    def apart(x: int) -> int:
        return x * 3

    @classmethod
    def of_class(cls, x: int) -> str:
        return f"{cls.__name__} {x}"


async def test_methods_are_tools_once_they_are_bound() -> None:
    mcp = FastMCP(tools=[Thing.apart, Thing.of_class])
    assert (await mcp.call_tool("apart", {"x": 2})).structured_content == {"result": 6}
    assert (await mcp.call_tool("of_class", {"x": 2})).structured_content == {"result": "Thing 2"}


def positional(x: int, /) -> int:
    return x


def starred(*x: int) -> int:
    return 1


def rest(**x: int) -> int:
    return 1


def of_self(self: Any, x: int) -> int:
    return x


@pytest.mark.parametrize(
    ("register", "words"),
    [
        (lambda mcp: mcp.tool(positional), "positional-only"),
        (lambda mcp: mcp.tool(starred), r"\*args"),
        (lambda mcp: mcp.tool(rest), r"\*\*kwargs"),
        (lambda mcp: mcp.prompt(rest), r"\*\*kwargs"),
        (lambda mcp: mcp.tool(of_self), "make the object first"),
        (lambda mcp: mcp.tool(lambda x: x), "no name|name for lambda"),
        (lambda mcp: mcp.tool("a", name="b"), "two names"),
        (lambda mcp: mcp.tool(5), "a function or a name"),
        (lambda mcp: mcp.tool(classmethod(f)), "classmethod"),
        (lambda mcp: mcp.tool(f, output_schema={"type": "string"}), "must represent object types"),
        (lambda mcp: mcp.tool(f, timeout=1, run_in_thread=False), "timeout cannot end"),
        (lambda mcp: mcp.resource(f), "used incorrectly"),
        (lambda mcp: mcp.resource("data://x")(f), "at least one parameter"),
        (lambda mcp: mcp.resource("data://{y}")(f), "must be a subset"),
        (lambda mcp: mcp.resource("data://a{?x}")(f), "need a default"),
        (lambda mcp: mcp.add_resource(f), "is no resource"),
        (lambda mcp: mcp.mount("x"), "takes a FastMCP"),
        (lambda mcp: mcp.mount(mcp), "in itself"),
        (lambda mcp: FastMCP(list_page_size=0), "positive integer"),
        (lambda mcp: FastMCP(on_duplicate="shout"), "on_duplicate is one of"),
        (lambda mcp: FastMCP(host="x"), r"Use run\(host=\.\.\.\)"),
        (lambda mcp: FastMCP(colour="red"), "unexpected keyword argument 'colour'"),
        (lambda mcp: FastMCP(include_tags={"a"}), r"server\.enable\(tags=\.\.\., only=True\)"),
        (lambda mcp: Tool.from_tool(f, transform_args={"z": ArgTransform(hide=True)}), "Unknown arguments"),
        (lambda mcp: Tool.from_tool(f, transform_args={"x": ArgTransform(hide=True)}), "has no default"),
        (lambda mcp: ArgTransform(default=1, default_factory=list), "not both"),
        (lambda mcp: ArgTransform(required=False), "default value instead"),
        (lambda mcp: VersionFilter(), "At least one"),
        (lambda mcp: Visibility(True, components={"tools"}), "components are tool"),
        (lambda mcp: FileResource(uri="data://x", path="relative"), "must be absolute"),
        (lambda mcp: Tool(name="x", version="1@2"), "no '@'"),
        (lambda mcp: ToolResult(), "content or structured_content"),
        (lambda mcp: ToolResult(structured_content=[1]), "is an object"),
        (lambda mcp: Message("x", role="system"), "expected 'user' or 'assistant'"),
        (lambda mcp: PromptResult([1]), "must be Message"),
        (lambda mcp: ResourceResult(["x"]), "must be ResourceContent"),
        (lambda mcp: RateLimitingMiddleware(0), "must be positive"),
    ],
)
def test_what_fastmcp_refuses_is_refused(register: Callable[[FastMCP], Any], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        register(FastMCP())


@pytest.mark.parametrize(
    ("register", "instead"),
    [
        (lambda mcp: FastMCP(auth=object()), "gateway"),
        (lambda mcp: FastMCP(tasks=True), "schedule"),
        (lambda mcp: FastMCP(session_state_store=object()), "lifespan"),
        (lambda mcp: FastMCP(request_state_security=object()), "state_secret"),
        (lambda mcp: FastMCP(experimental_capabilities={"a": {}}), "no such argument"),
        (lambda mcp: mcp.tool(f, task=True), "schedule"),
        (lambda mcp: mcp.tool(f, app=True), "ui://"),
        (lambda mcp: mcp.tool(f, auth=lambda _: True), "gateway"),
        (lambda mcp: mcp.tool(f, enabled=False), "disable"),
        (lambda mcp: mcp.prompt(f, enabled=False), "disable"),
        (lambda mcp: mcp.resource("data://{x}", app=True)(f), "ui://"),
        (lambda mcp: mcp.resource("data://{x}", auth=f)(f), "gateway"),
        (lambda mcp: Tool.from_function(f).enable(), "server.enable"),
        (lambda mcp: Tool.from_function(f).disable(), "server.disable"),
        (lambda mcp: HttpResource(uri="https://x", url="https://x"), "fetches the URL"),
        (lambda mcp: ResponseCachingMiddleware(cache_storage=object()), "gateway"),
        (lambda mcp: mcp.add_provider(object()), "subclass of Provider"),
        (lambda mcp: mcp.add_extension(object()), "Middleware"),
        (lambda mcp: mcp.override_dependencies({}), "in that test"),
        (lambda mcp: FastMCP.from_openapi({}), "stock FastMCP"),
        (lambda mcp: FastMCP.from_fastapi(object()), "stock FastMCP"),
        (lambda mcp: mcp.http_app(transport="sse"), r'run\("sse"\)'),
    ],
)
def test_what_is_not_here_says_so_and_what_to_use(register: Callable[[FastMCP], Any], instead: str) -> None:
    with pytest.raises(Unsupported, match=instead) as caught:
        register(FastMCP())
    assert "docs/moving.md" in str(caught.value)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("", "ClientGroup"),
        ("", "FastMCPApp"),
        ("server.middleware", "AuthMiddleware"),
        ("server.middleware", "PingMiddleware"),
        ("server.transforms", "PromptsAsTools"),
        ("server.auth", "BearerAuthProvider"),
        ("server.auth.providers", "JWTVerifier"),
        ("contrib", "MCPMixin"),
        ("experimental", "CodeMode"),
        ("apps", "Approval"),
    ],
)
def test_an_import_of_what_is_not_here_says_what_to_use(module: str, name: str) -> None:
    found = importlib.import_module("erlmcp.compat.fastmcp" + (f".{module}" if module else ""))
    with pytest.raises(ImportError, match=rf"{name} is not in this façade.*instead"):
        getattr(found, name)


def test_names_that_fastmcp_has_are_where_it_has_them() -> None:
    for module in ("tools", "resources", "prompts", "server", "client", "utilities.types", "utilities.logging"):
        assert importlib.import_module(f"erlmcp.compat.fastmcp.{module}")
    assert fastmcp.settings.transport == "stdio"
    assert fastmcp.server.create_proxy is not None
    with pytest.raises(AttributeError):
        fastmcp.nothing_of_the_kind  # noqa: B018


async def test_duplicates_are_warned_of_refused_replaced_or_ignored(caplog: pytest.LogCaptureFixture) -> None:
    async def value(mcp: FastMCP) -> Any:
        return (await mcp.call_tool("t")).structured_content["result"]

    def both(on_duplicate: str | None) -> FastMCP:
        mcp = FastMCP(on_duplicate=on_duplicate)
        mcp.add_tool(first)
        mcp.add_tool(second)
        return mcp

    def one() -> int:
        return 1

    def two() -> int:
        return 2

    first, second = Tool.from_function(one, name="t"), Tool.from_function(two, name="t")
    assert await value(both(None)) == 2
    assert "already exists" in caplog.text
    assert await value(both("replace")) == 2
    assert await value(both("ignore")) == 1
    with pytest.raises(ValueError, match="already exists"):
        both("error")
    mcp = FastMCP()
    mcp.add_tool(first)
    with pytest.raises(ValueError, match="in one place and none in another"):
        mcp.add_tool(Tool.from_function(one, name="t", version=1))


# -- without a client ----------------------------------------------------------------------------------------------


async def test_a_server_is_asked_without_a_client() -> None:
    mcp = FastMCP("alone")

    @mcp.tool
    async def who(ctx: Context) -> str:
        await ctx.info("nobody hears")
        await ctx.report_progress(1)
        return f"{ctx.fastmcp.name} {ctx.request_context} {ctx.transport} {ctx.lifespan_context}"

    @mcp.tool
    def fails(x: int) -> int:
        raise KeyError("x")

    @mcp.resource("data://{x}")
    def data(x: int) -> int:
        return x + 1

    @mcp.prompt
    def ask(x: str) -> str:
        return x

    assert (await mcp.call_tool("who")).content[0].text == "alone None None {}"
    with pytest.raises(NotFoundError, match="Unknown tool: 'absent'"):
        await mcp.call_tool("absent")
    with pytest.raises(ToolError, match="Error calling tool 'fails': 'x'"):
        await mcp.call_tool("fails", {"x": 1})
    with pytest.raises(ValidationError, match="1 validation error"):
        await mcp.call_tool("fails", {"x": "no"})
    assert (await mcp.read_resource("data://4")).contents[0].content == "5"
    with pytest.raises(ResourceError, match="invalid literal"):
        await mcp.read_resource("data://x")
    with pytest.raises(NotFoundError):
        await mcp.read_resource("none://")
    assert (await mcp.render_prompt("ask", {"x": "hi"})).messages[0].content.text == "hi"
    with pytest.raises(PromptError, match="Missing required arguments"):
        await mcp.render_prompt("ask")
    assert (await mcp.get_tool("who")).key == "tool:who@"
    assert (await mcp.get_resource_template("data://7")).uri_template == "data://{x}"
    assert await mcp.get_prompt("absent") is None
    assert (await mcp.get_tool("who")).to_mcp_tool(title="Who?").title == "Who?"


async def test_a_context_outside_of_a_request_says_so() -> None:
    context = Context(FastMCP("x"))
    with pytest.raises(RuntimeError, match="no request here"):
        _ = context.request_id
    async with context:
        await context.set_state("a", 1)
        assert await context.get_state("a") == 1


# -- life, and what is put together --------------------------------------------------------------------------------


async def test_lifespans_of_mounted_servers_open_and_close_with_the_one_that_serves() -> None:
    events: list[str] = []

    def of(name: str) -> Any:
        @asynccontextmanager
        async def open_it(server: Any) -> AsyncIterator[dict[str, str]]:
            events.append(f"open {name}")
            yield {"own": name}
            events.append(f"close {name}")

        return open_it

    child, parent = FastMCP("child", lifespan=of("child")), FastMCP("parent", lifespan=of("parent"))

    @child.tool
    async def own(ctx: Context) -> str:
        return str(ctx.lifespan_context["own"])

    parent.mount(child, "c")
    async with Client(parent) as client:
        assert (await client.call_tool("c_own")).data == "child"
        async with Client(child) as inner:
            assert (await inner.call_tool("own")).data == "child"
        assert events == ["open parent", "open child"]
    assert events == ["open parent", "open child", "close child", "close parent"]


async def test_lifespans_are_put_together() -> None:
    @lifespan
    async def left(server: Any) -> AsyncIterator[dict[str, int]]:
        yield {"a": 1, "b": 1}

    @asynccontextmanager
    async def old(server: Any) -> AsyncIterator[dict[str, int]]:
        yield {"b": 2}

    async with (left | ContextManagerLifespan(old))(None) as found:
        assert found == {"a": 1, "b": 2}
    with pytest.raises(TypeError, match="ContextManagerLifespan"):
        left | old


async def test_a_server_that_is_imported_is_not_followed() -> None:
    child, parent = FastMCP("child"), FastMCP("parent")
    child.add_tool(Tool.from_function(f, name="now"))
    await parent.import_server(child, prefix="c")
    child.add_tool(Tool.from_function(f, name="later"))
    assert [each.name for each in await parent.list_tools()] == ["c_now"]
    assert (await parent.call_tool("c_now", {"x": 1})).structured_content == {"result": 1}


async def test_enable_only_hides_the_rest() -> None:
    mcp = FastMCP()
    mcp.add_tool(Tool.from_function(f, name="a", tags={"public"}))
    mcp.add_tool(Tool.from_function(f, name="b"))
    assert mcp.enable(tags={"public"}, only=True) is mcp
    assert [each.name for each in await mcp.list_tools()] == ["a"]
    with pytest.warns(UserWarning, match="match nothing"):
        mcp.enable(keys={"tool:b"})
    assert await mcp.get_tool("b") is None
    mcp.enable(keys={"tool:b@"})
    assert await mcp.get_tool("b") is not None


async def test_versions_are_chosen_filtered_and_listed() -> None:
    mcp = FastMCP()
    for version in ("1.0", "1.5", "v2.0", "10"):
        mcp.add_tool(Tool.from_function(lambda version=version: version, name="t", version=version))
    assert (await mcp.get_tool("t")).version == "10"
    assert (await mcp.get_tool("t", "1.0")).version == "1.0"
    assert (await mcp.get_tool("t", VersionSpec(lt="2"))).version == "1.5"
    mcp.add_transform(VersionFilter(version_gte="1.2", version_lt="3"))
    assert sorted(each.version for each in await mcp.list_tools()) == ["1.5", "v2.0"]
    async with Client(mcp) as client:
        listed = (await client.list_tools())[0]
        assert listed.meta["fastmcp"]["versions"] == ["v2.0", "1.5"]


class Numbers(Provider):
    """Tools that are made when they are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 1

    async def _list_tools(self) -> list[Tool]:
        return [Tool.from_function(lambda number=number: number, name=f"n{number}") for number in range(self.count)]


class Own(Tool):
    """A tool that is no function."""

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        return ToolResult(content=f"{self.name} {arguments}")


class OwnPrompt(Prompt):
    async def render(self, arguments: dict[str, Any] | None = None) -> Any:
        return [Message(str(arguments)), "and more"]


class OwnResource(Resource):
    async def read(self) -> Any:
        return {"own": True}


class OwnTemplate(ResourceTemplate):
    async def read(self, arguments: dict[str, Any]) -> Any:
        return [ResourceContent(arguments["x"], meta={"m": 1})]


@pytest.mark.parametrize("mode", ["2026-07-28", "2025-11-25"])
async def test_components_of_ones_own_classes_and_providers_are_served(mode: str) -> None:
    numbers = Numbers()
    mcp = FastMCP(providers=[numbers], tools=[Own(name="own", parameters={"type": "object"})])
    mcp.add_prompt(OwnPrompt(name="p"))
    mcp.add_resource(OwnResource(uri="own://x"))
    mcp.add_template(OwnTemplate(uri_template="own://{x}/y", meta={"k": 2}))
    more = Numbers()
    mcp.add_provider(more, namespace="more")
    async with Client(mcp, mode=mode, cache=False) as client:
        assert {each.name for each in await client.list_tools()} == {"own", "n0", "more_n0"}
        numbers.count = 3
        assert {"n1", "n2"} <= {each.name for each in await client.list_tools()}
        assert (await client.call_tool("own", {"a": 1})).text == "own {'a': 1}"
        assert (await client.call_tool("more_n0")).text == "0"
        assert [each.content.text for each in (await client.get_prompt("p")).messages] == ["{}", "and more"]
        assert (await client.read_resource("own://x")).contents[0].text == '{"own": true}'
        assert (await client.read_resource("own://z/y")).contents[0].meta == {"k": 2, "m": 1}


async def test_own_tools_need_no_provider_to_be_served_by_their_entries() -> None:
    mcp = FastMCP(tools=[Own(name="own")])
    async with Client(mcp) as client:
        assert mcp.quick_route is not None
        assert (await client.call_tool("own", {"a": 1})).text == "own {'a': 1}"
        assert (await client.call_tool("own")).text == "own {}"


async def test_a_folder_lists_its_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.py").write_text("b")
    mcp = FastMCP()
    mcp.add_resource(DirectoryResource(uri="dir://x", path=tmp_path, pattern="*.txt", name="x"))
    mcp.add_resource(DirectoryResource(uri="dir://absent", path=tmp_path / "absent", name="absent"))
    mcp.add_resource(FileResource(uri="file://a", path=tmp_path / "a.txt", is_binary=True, name="a"))
    assert (await mcp.read_resource("dir://x")).contents[0].content == '{"files":["a.txt"]}'
    assert (await mcp.read_resource("file://a")).contents[0].content == b"a"
    with pytest.raises(ResourceError, match="Directory not found"):
        await mcp.read_resource("dir://absent")


@pytest.mark.parametrize(
    ("uri", "template", "found"),
    [
        ("a://x/y", "a://{b}/y", {"b": "x"}),
        ("a://x/z", "a://{b}/y", None),
        ("a://x/y/z", "a://{b*}", {"b": "x/y/z"}),
        ("a://x%20y", "a://{b}", {"b": "x y"}),
        ("a://caf%C3%A9/x", "a://café/{b}", {"b": "x"}),
        ("a://x#part", "a://{b}", {"b": "x"}),
        ("a://x?c=1&d=", "a://{b}{?c,d,e}", {"b": "x", "c": "1", "d": ""}),
        ("a://x?c=1&c=2", "a://{b}{?c*}", {"b": "x", "c": ["1", "2"]}),
        ("a://x?my-c=1", "a://{my-b}{?my-c}", {"my_b": "x", "my_c": "1"}),
        ("a://x", "a://{1b}", None),
    ],
)
def test_uris_are_matched(uri: str, template: str, found: dict[str, Any] | None) -> None:
    assert match_uri_template(uri, template) == found


def test_lists_in_one_parameter_of_a_query_are_split() -> None:
    assert match_uri_template("a://x?c=1,2%2C3", "a://{b}{?c}", list_params={"c"}) == {"b": "x", "c": ["1", "2,3"]}
    assert match_uri_template("a://x?c=", "a://{b}{?c}", list_params={"c"}) == {"b": "x", "c": []}


@pytest.mark.parametrize("value", ["../x", "/x", "a\0b", "C:/x", "\\x"])
def test_paths_that_lead_out_are_refused(value: str) -> None:
    assert ResourceSecurity().validate({"p": value}) == "p"
    assert ResourceSecurity(exempt_params=frozenset({"p"})).validate({"p": value}) is None
    assert ResourceSecurity(False, False, False).validate({"p": [value]}) is None


# -- middleware that comes along -----------------------------------------------------------------------------------


async def asks(mcp: FastMCP, count: int, name: str = "f") -> list[str]:
    async with Client(mcp, guards=None) as client:
        found = []
        for _ in range(count):
            try:
                found.append((await client.call_tool(name, {"x": 1}, raise_on_error=False)).text)
            except McpError as error:
                found.append(f"{error.code} {error.message}")
        return found


async def test_rates_are_limited() -> None:
    limited = FastMCP(middleware=[RateLimitingMiddleware(0.001, burst_capacity=3)], tools=[f])
    found = await asks(limited, 4)  # server/discover was the first
    assert found == ["1", "1", *["-32000 Rate limit exceeded for client: global"] * 2]
    windowed = FastMCP(middleware=[SlidingWindowRateLimitingMiddleware(2, get_client_id=lambda _: "me")], tools=[f])
    assert (await asks(windowed, 2))[1] == "-32000 Rate limit exceeded: 2 requests per 1 minutes for client: me"
    whole = FastMCP(middleware=[RateLimitingMiddleware(0.001, burst_capacity=2, global_limit=True)], tools=[f])
    assert (await asks(whole, 2))[1] == "-32000 Global rate limit exceeded"


async def test_errors_are_turned_and_counted() -> None:
    seen: list[str] = []

    def note(error: Exception, context: MiddlewareContext[Any]) -> None:
        seen.append(type(error).__name__)
        raise RuntimeError("of the callback")

    errors = ErrorHandlingMiddleware(include_traceback=True, error_callback=note)
    mcp = FastMCP(middleware=[errors])
    kinds = (ValueError, KeyError, PermissionError, TimeoutError, OSError)
    for number, kind in enumerate(kinds):

        def breaks(x: int, kind: Any = kind) -> int:
            raise kind("no")

        mcp.tool(name=f"t{number}", output_schema=None)(lambda x, breaks=breaks: breaks(x))
    found = [(await asks(mcp, 1, f"t{number}"))[0].split()[0] for number in range(len(kinds))]
    assert found == ["-32602", "-32001", "-32000", "-32000", "-32603"]
    assert errors.get_error_stats() == {"ToolError:tools/call": 5}
    assert seen == ["ToolError"] * 5


async def test_tools_are_injected_and_access_is_refused() -> None:
    class Refusing(Middleware):
        async def check_resource_access(self, context: MiddlewareContext[Any]) -> None:
            raise AuthorizationError(f"not {context.message.uri}")

        async def on_list_prompts(self, context: MiddlewareContext[Any], call_next: Any) -> Any:
            raise AuthorizationError("no prompts")

    mcp = FastMCP(middleware=[ToolInjectionMiddleware([Tool.from_function(f, name="injected")]), Refusing()])
    mcp.add_resource(OwnResource(uri="own://x"))
    async with Client(mcp) as client:
        assert [each.name for each in await client.list_tools()] == ["injected"]
        assert (await client.call_tool("injected", {"x": 5})).data == 5
        with pytest.raises(McpError, match="not own://x"):
            await client.read_resource("own://x")
        with pytest.raises(McpError, match="no prompts"):
            await client.list_prompts()


async def test_forward_is_for_transformed_tools() -> None:
    with pytest.raises(RuntimeError, match="within a transformed tool"):
        await forward(x=1)
    tool = Tool.from_tool(f, name="g", transform_args={"x": ArgTransform(type=str, description=None, examples=["1"])})
    assert tool.parameters["properties"]["x"] == {"type": "string", "examples": ["1"]}
    assert (await tool.run({"x": "3"})).structured_content == {"result": 3}


def test_errors_have_their_codes() -> None:
    assert to_mcp_error(NotFoundError("x")).code == -32602
    assert to_mcp_error(ToolError("x")).code == -32603
    assert to_mcp_error(McpError(7, "x")).code == 7
