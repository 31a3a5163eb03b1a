"""What is registered with a façade, what is refused, and the calls within the process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, get_args

import pytest

from erlmcp import Client, ConfigurationError, Depends, Server
from erlmcp.compat.sdk import (
    AcceptedElicitation,
    CacheHint,
    Context,
    Elicit,
    Extension,
    Image,
    MCPError,
    MCPServer,
    Message,
    MethodBinding,
    RequestStateSecurity,
    Resolve,
    UserMessage,
)
from erlmcp.compat.sdk.auth import AuthSettings
from erlmcp.compat.sdk.exceptions import (
    InvalidSignature,
    ResourceError,
    ResourceNotFoundError,
    ToolError,
    UnexpectedResourceError,
    UnexpectedToolError,
)
from erlmcp.compat.sdk.prompts.base import Prompt
from erlmcp.compat.sdk.resources import FileResource, HttpResource, TextResource
from erlmcp.compat.sdk.tools import Tool
from erlmcp.compat.sdk.types import CallToolResult, TextContent


def make() -> MCPServer:
    return MCPServer("here")


# -- within the process -----------------------------------------------------------------------------------------------


async def test_tools_are_listed_and_called_without_a_client() -> None:
    mcp = make()

    @mcp.tool()
    def add(a: int, b: int = 1) -> int:
        """Add."""
        return a + b

    (listed,) = await mcp.list_tools()
    assert (listed.name, listed.description) == ("add", "Add.")
    assert listed.input_schema["required"] == ["a"]
    found = await mcp.call_tool("add", {"a": "2"})
    assert found.structured_content == {"result": 3}
    assert (found.content[0].text, found.is_error) == ("3", False)


async def test_a_failure_of_a_tool_is_raised_within_the_process() -> None:
    mcp = make()

    @mcp.tool()
    def foreseen() -> str:
        raise ToolError("no such town")

    @mcp.tool()
    def crash() -> str:
        raise KeyError("secret")

    @mcp.tool()
    def protocol() -> str:
        raise MCPError(-32050, "own", {"a": 1})

    with pytest.raises(ToolError, match=r"^Error executing tool foreseen: no such town$") as caught:
        await mcp.call_tool("foreseen", {})
    assert not isinstance(caught.value, UnexpectedToolError)
    with pytest.raises(UnexpectedToolError, match=r"^Error executing tool crash$") as crashed:
        await mcp.call_tool("crash", {})
    assert isinstance(crashed.value.__cause__, KeyError)
    with pytest.raises(MCPError, match="own") as refused:
        await mcp.call_tool("protocol", {})
    assert (refused.value.code, refused.value.error.data) == (-32050, {"a": 1})
    with pytest.raises(ToolError, match="Unknown tool: absent"):
        await mcp.call_tool("absent", {})
    with pytest.raises(ToolError, match="Unknown tool: absent"):
        mcp.remove_tool("absent")


async def test_resources_are_read_within_the_process() -> None:
    mcp = make()
    mcp.add_resource(TextResource(uri="text://a", text="the text"))

    @mcp.resource("data://{name}")
    def data(name: str) -> str:
        if name == "closed":
            raise ResourceError("closed")
        if name == "broken":
            raise KeyError(name)
        return name

    (found,) = await mcp.read_resource("text://a")
    assert (found.content, found.mime_type) == ("the text", "text/plain")
    assert [each.content for each in await mcp.read_resource("data://x")] == ["x"]
    assert [each.uri_template for each in await mcp.list_resource_templates()] == ["data://{name}"]
    assert [each.uri for each in await mcp.list_resources()] == ["text://a"]
    for uri, kind in (
        ("data://closed", ResourceError),
        ("data://broken", UnexpectedResourceError),
        ("none://x", ResourceNotFoundError),
    ):
        with pytest.raises(kind):
            await mcp.read_resource(uri)


async def test_prompts_are_rendered_within_the_process() -> None:
    mcp = make()

    @mcp.prompt()
    def greet(name: str) -> list[Message]:
        """Greet."""
        return [UserMessage(f"Hello {name}"), UserMessage(Image(data=b"x", format="png"))]

    mcp.add_prompt(Prompt.from_function(lambda: "hi", name="short", description="Short"))
    found = await mcp.get_prompt("greet", {"name": "Ada"})
    assert [each.content.type for each in found.messages] == ["text", "image"]
    assert [each.name for each in await mcp.list_prompts()] == ["greet", "short"]
    with pytest.raises(ValueError, match="Missing required arguments"):
        await mcp.get_prompt("greet")
    with pytest.raises(ValueError, match="Unknown prompt"):
        await mcp.get_prompt("absent")
    mcp.remove_prompt("short")
    with pytest.raises(ValueError, match="Unknown prompt"):
        mcp.remove_prompt("short")


async def test_a_context_outside_of_a_request_says_so() -> None:
    mcp = make()

    @mcp.tool()
    async def name(ctx: Context) -> str:
        return ctx.mcp_server.name

    @mcp.tool()
    async def who(ctx: Context) -> str:
        return ctx.request_id

    assert (await mcp.call_tool("name", {})).structured_content == {"result": "here"}
    with pytest.raises(UnexpectedToolError) as caught:
        await mcp.call_tool("who", {})
    assert "outside of a request" in str(caught.value.__cause__)


# -- the short way ----------------------------------------------------------------------------------------------------


def test_a_plain_tool_goes_the_same_short_way_as_a_servers_own() -> None:
    own, mcp = Server("own"), make()

    async def add(a: int, b: int = 2) -> int:
        return a + b

    async def echo(text: str) -> str:
        return text

    for fn in (add, echo):
        own.add_tool(fn)
        mcp.add_tool(fn)
        here, there = mcp.kernel.tools[fn.__name__], own.tools[fn.__name__]
        assert here.is_simple is there.is_simple is True
        assert (here.kind, here.result_class) == (there.kind, there.result_class)
    assert mcp.kernel.quick_route is not None


def test_a_middleware_takes_the_short_way_away_and_leaves_it_as_it_goes() -> None:
    mcp = make()

    async def watch(ctx: Any, call_next: Callable[[Any], Any]) -> Any:
        return await call_next(ctx)

    mcp.middleware.append(watch)
    assert mcp.kernel.quick_route is None
    mcp.middleware.remove(watch)
    assert mcp.kernel.quick_route is not None
    mcp.middleware += [watch]
    assert mcp.kernel.quick_route is None
    del mcp.middleware[0]
    assert mcp.kernel.quick_route is not None
    mcp.middleware.insert(0, watch)
    mcp.middleware[0] = watch
    assert len(mcp.kernel.middleware) == 1
    mcp.middleware.clear()
    assert mcp.kernel.middleware == []


async def test_our_own_dependencies_are_filled_and_can_be_replaced() -> None:
    def real() -> str:
        return "real"

    mcp = make()

    @mcp.tool()
    async def tool(value: int, dep: Annotated[str, Depends(real)], ctx: Context) -> str:
        return f"{value} {dep} {ctx.mcp_server.name}"

    @mcp.resource("data://{name}")
    def data(name: str, ctx: Context) -> Any:
        return TextResource(uri="text://inner", text=f"inner {name}")

    @mcp.prompt()
    def prompt(dep: Annotated[str, Depends(real)]) -> str:
        return dep

    async with Client(mcp.kernel) as client:
        assert (await client.call_tool("tool", {"value": True})).data == "1 real here"
        with mcp.kernel.override_dependencies({real: lambda: "fake"}):
            assert (await client.call_tool("tool", {"value": True})).data == "1 fake here"
            assert (await client.get_prompt("prompt")).messages[0].content.text == "fake"
            assert (await client.read_resource("data://x")).contents[0].text == "inner x"
        assert (await client.get_prompt("prompt")).messages[0].content.text == "real"
    with pytest.raises(ConfigurationError, match="one side"):
        mcp.kernel.side()


# -- what is refused, where it is registered --------------------------------------------------------------------------


def test_a_decorator_without_its_call_is_refused() -> None:
    mcp = make()
    for decorate in (mcp.tool, mcp.prompt, mcp.resource):
        with pytest.raises(TypeError, match="Did you forget to call it"):
            decorate(lambda: "x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make_it", "reason"),
    [
        (lambda: MCPServer(auth_server_provider=object(), auth=object()), "token_verifier="),
        (lambda: AuthSettings("https://i", client_registration_options=object()), "token_verifier="),
        (lambda: HttpResource(uri="a://b", url="https://c"), "@mcp.resource"),
    ],
)
def test_what_is_not_served_says_what_to_do_instead(make_it: Callable[[], Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        make_it()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"auth": AuthSettings("https://i")}, "Must specify either"),
        ({"token_verifier": object()}, "without auth settings"),
        ({"request_state_security": RequestStateSecurity(keys=[b"k" * 32])}, "has no name"),
        ({"cache_hints": {"tools/call": CacheHint()}}, "no cacheable result"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        MCPServer(**options)


def test_an_extension_whose_name_or_method_is_taken_is_refused() -> None:
    async def handler(_ctx: Any, _params: Any) -> None: ...

    class Own(Extension):
        identifier = "com.example/own"

        def methods(self) -> list[MethodBinding]:
            return [MethodBinding("com.example/do", object, handler)]

    class Other(Own):
        identifier = "com.example/other"

    with pytest.raises(ValueError, match=r"binds 'com\.example/do', which is already registered"):
        MCPServer("x", extensions=[Own(), Other()])
    with pytest.raises(ValueError, match="already registered"):
        MCPServer("x", extensions=[Own(), Own()])
    with pytest.raises(ValueError, match="a method of the specification"):
        MethodBinding("tools/list", object, handler)
    with pytest.raises(ValueError, match=r"com\.example/name"):
        type("Bad", (Extension,), {"identifier": "no slash"})


def resolver() -> Elicit[int]:
    return Elicit("?", int)


def ring(value: Annotated[int, Resolve(resolver)]) -> int:
    return value


async def buried(value: Annotated[int, Resolve(resolver)] | None) -> int: ...
async def hidden(_private: int) -> int: ...
async def lost(value: Annotated[int, Resolve(lambda other: other)]) -> int: ...
async def no_schema(value: int) -> object: ...


@pytest.mark.parametrize(
    ("fn", "options", "reason"),
    [
        (buried, {}, "within its type"),
        (hidden, {}, "cannot start with"),
        (lost, {}, "cannot be resolved"),
        (no_schema, {"structured_output": True}, "not serializable"),
    ],
)
def test_a_signature_that_cannot_be_served_is_refused(fn: Any, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidSignature, match=reason):
        make().add_tool(fn, **options)


def test_what_comes_from_the_sdk_itself_is_named_where_it_would_be_misread() -> None:
    theirs = pytest.importorskip("mcp.server.mcpserver")

    async def takes_their_context(value: int, ctx: theirs.Context) -> int:  # type: ignore[name-defined]
        return value

    async def takes_their_resolve(value: Annotated[int, theirs.Resolve(resolver)]) -> int:
        return value

    takes_their_context.__annotations__["ctx"] = theirs.Context
    takes_their_resolve.__annotations__["value"] = Annotated[int, theirs.Resolve(resolver)]
    with pytest.raises(InvalidSignature, match="Context of another package"):
        make().add_tool(takes_their_context)
    with pytest.raises(InvalidSignature, match="Resolve comes from mcp"):
        make().add_tool(takes_their_resolve)


@pytest.mark.parametrize(
    ("uri", "fn"),
    [("a://{x}", lambda y: y), ("a://b", lambda x: x), ("a://{x}", lambda: 1)],
)
def test_variables_and_parameters_of_a_resource_have_to_be_the_same(uri: str, fn: Any) -> None:
    with pytest.raises(ValueError, match=r"Mismatch|no URI template variables"):
        make().resource(uri, name="r")(fn)


def test_a_name_that_is_taken_stays_what_it_is_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    mcp = make()
    mcp.add_tool(lambda: "first", name="same")
    mcp.add_resource(TextResource(uri="a://b", text="first"))
    with caplog.at_level(logging.WARNING, "erlmcp.compat"):
        mcp.add_tool(lambda: "second", name="same")
        mcp.add_resource(TextResource(uri="a://b", text="second"))
    assert [record.message for record in caplog.records] == [
        "Tool already exists: same",
        "Resource already exists: a://b",
    ]
    quiet = MCPServer("q", warn_on_duplicate_tools=False)
    caplog.clear()
    for _ in range(2):
        quiet.add_tool(lambda: "x", name="same")
    assert not caplog.records


async def test_tools_and_resources_can_be_given_to_the_constructor() -> None:
    tool = Tool.from_function(lambda: "x", name="given", title="Given")
    mcp = MCPServer("x", tools=[tool], resources=[TextResource(uri="a://b", text="t", name="named")])
    assert [(each.name, each.title) for each in await mcp.list_tools()] == [("given", "Given")]
    assert [each.name for each in await mcp.list_resources()] == ["named"]


def test_a_file_has_to_be_named_from_the_root_and_in_an_encoding_that_there_is() -> None:
    with pytest.raises(ValueError, match="absolute"):
        FileResource(uri="file:///a", path="a")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown encoding"):
        FileResource(uri="file:///a", path="/a", encoding="none")  # type: ignore[arg-type]


def test_an_override_that_no_request_would_come_by_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"Own\.call_tool.*middleware="):

        class Own(MCPServer):
            async def call_tool(self, *_given: Any) -> Any: ...

    class Fine(MCPServer):
        def extra(self) -> str:
            return self.name

    assert Fine("fine").extra() == "fine"


@pytest.mark.parametrize("name", ["_lowlevel_server", "_mcp_server", "_tool_manager"])
def test_the_inner_parts_of_the_sdks_server_are_not_there_and_what_is_instead_is_said(name: str) -> None:
    with pytest.raises(AttributeError, match="kernel"):
        getattr(make(), name)
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = make().absent


# -- objects ----------------------------------------------------------------------------------------------------------


def test_records_have_the_names_of_both_lines_and_refuse_others() -> None:
    found = CallToolResult(content=[TextContent(text="a")], structured_content={"a": 1})
    assert found.structured_content == found.structuredContent == {"a": 1}
    assert found.model_dump(by_alias=True, exclude_none=True) == {
        "content": [{"type": "text", "text": "a"}],
        "isError": False,
        "structuredContent": {"a": 1},
    }
    assert CallToolResult.model_validate(found.model_dump(by_alias=True)) == found
    with pytest.raises(TypeError, match="no field 'wrong'"):
        TextContent(wrong=1)
    with pytest.raises(AttributeError, match="absent"):
        _ = found.absent
    found.is_error = True
    assert found.isError is True
    assert "TextContent" in repr(found)


def test_objects_of_the_protocol_package_are_instances_of_the_records() -> None:
    types = pytest.importorskip("mcp_types")
    assert isinstance(types.TextContent(type="text", text="a"), TextContent)
    assert not isinstance(types.TextContent(type="text", text="a"), CallToolResult)
    theirs = pytest.importorskip("mcp.server.elicitation")
    assert isinstance(theirs.AcceptedElicitation.model_construct(data=1), AcceptedElicitation)
    assert not isinstance(theirs.DeclinedElicitation(), AcceptedElicitation)


def test_the_package_offers_what_the_sdks_own_has() -> None:
    theirs = pytest.importorskip("mcp.server.mcpserver")
    import erlmcp.compat.sdk as ours

    missing = [name for name in theirs.__all__ if name not in dir(ours)]
    assert missing == ["RequestStateBoundary"]
    with pytest.raises(AttributeError, match="request_state_security="):
        _ = ours.RequestStateBoundary


def test_the_signatures_are_those_of_the_sdk() -> None:
    """Each public method of the SDK's server is there, with its parameters in their order."""
    import inspect

    theirs = pytest.importorskip("mcp.server.mcpserver").MCPServer
    open_ended = {"run", "run_sse_async", "run_streamable_http_async", "sse_app", "streamable_http_app"}
    for name, member in inspect.getmembers(theirs):
        if name.startswith("_") and name != "__init__":
            continue
        assert hasattr(MCPServer, name) or hasattr(MCPServer("x"), name), name
        own = getattr(MCPServer, name, None)
        if callable(member) and name not in open_ended:
            assert list(inspect.signature(own).parameters) == list(inspect.signature(member).parameters), name
    for name in open_ended - {"run", "sse_app", "run_sse_async"}:
        known = set(inspect.signature(MCPServer._http_setting).parameters) | {"port"}
        assert set(inspect.signature(getattr(theirs, name)).parameters) <= known, name
    for name in ("sse_app", "run_sse_async"):
        known = set(inspect.signature(MCPServer._sse_setting).parameters) | {"port"}
        assert set(inspect.signature(getattr(theirs, name)).parameters) <= known, name


def test_the_client_and_the_session_have_all_that_the_sdks_have() -> None:
    theirs = pytest.importorskip("mcp.client")
    from mcp.server.session import ServerSession as TheirSession

    from erlmcp.compat.sdk import Client as OurClient
    from erlmcp.compat.sdk.session import ServerSession

    for ours, stock in ((OurClient, theirs.Client), (ServerSession, TheirSession)):
        wanted = {name for name in vars(stock) if not name.startswith("_")} - set(
            getattr(stock, "__dataclass_fields__", ())
        )
        assert wanted <= set(dir(ours))


def test_the_context_has_all_that_the_sdks_has() -> None:
    theirs = pytest.importorskip("mcp.server.mcpserver").Context
    from pydantic import BaseModel

    wanted = {name for name in dir(theirs) if not name.startswith("_")} - set(dir(BaseModel))
    assert wanted <= set(dir(Context))


@dataclass
class State:
    value: int


def test_a_context_may_name_what_the_lifespan_yields() -> None:
    assert Context[State] is Context
    assert get_args(Context[State, Any]) == ()
