"""Tool plans: descriptors, and calls with good and bad arguments through the generated code."""

from __future__ import annotations

import asyncio
import functools
import json
import subprocess
import sys
import typing
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import pydantic
import pytest

from erlmcp.errors import ArgumentError, ConfigurationError
from erlmcp.server.param import Param
from erlmcp.server.plan import compile_tool


class Context:
    """Stands for the server's context."""


def is_context(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Context)


def message_of(call: Any, *args: Any) -> str:
    with pytest.raises(ArgumentError) as caught:
        call(*args)
    return str(caught.value)


@dataclass
class Item:
    name: str
    count: int = 1
    tags: list[str] = field(default_factory=list)


async def echo(text: str) -> str:
    """Say it again."""
    return text


def add(a: int, b: int = 2, *, scale: float = 1.0) -> float:
    """Add two numbers.

    Args:
        a: the first
        b: the second
    """
    return (a + b) * scale


# -- descriptors --------------------------------------------------------------------------------------------------


def test_a_descriptor_has_its_keys_in_a_fixed_order_and_no_absent_ones() -> None:
    plan = compile_tool(add)
    assert list(plan.descriptor) == ["name", "description", "inputSchema", "outputSchema"]
    assert plan.descriptor["description"] == "Add two numbers."
    assert plan.descriptor["inputSchema"] == {
        "type": "object",
        "properties": {
            "a": {"type": "integer", "description": "the first"},
            "b": {"type": "integer", "description": "the second", "default": 2},
            "scale": {"type": "number", "default": 1.0},
        },
        "required": ["a"],
    }


def test_everything_that_was_given_is_in_the_descriptor() -> None:
    plan = compile_tool(
        add,
        name="plus",
        title="Plus",
        description="D",
        annotations={"readOnlyHint": True},
        icons=[{"src": "https://a.b/c.png", "mimeType": "image/png"}],
        meta={"a.b/c": 1},
        tags=["math"],
        timeout_s=2.5,
    )
    assert list(plan.descriptor) == [
        "name",
        "title",
        "description",
        "inputSchema",
        "outputSchema",
        "annotations",
        "icons",
        "_meta",
    ]
    assert plan.descriptor["annotations"] == {"readOnlyHint": True}
    assert plan.descriptor["_meta"] == {"a.b/c": 1}
    assert plan.tags == {"math"}
    assert plan.timeout_s == 2.5
    json.dumps(plan.descriptor)


def test_models_of_the_protocol_are_taken_for_annotations_and_icons() -> None:
    import mcp_types

    plan = compile_tool(
        echo,
        annotations=mcp_types.ToolAnnotations(read_only_hint=True),
        icons=[mcp_types.Icon(src="https://a.b/c.png")],
    )
    assert plan.descriptor["annotations"] == {"readOnlyHint": True}
    assert plan.descriptor["icons"] == [{"src": "https://a.b/c.png"}]


def test_a_tool_without_parameters_has_an_empty_object_schema() -> None:
    def ping() -> None:
        pass

    plan = compile_tool(ping)
    assert plan.descriptor == {"name": "ping", "inputSchema": {"type": "object", "properties": {}}}
    assert plan.invoke(None, None) is None
    assert plan.invoke({"unknown": 1}, None) is None


@pytest.mark.parametrize("bad", [lambda x: x, 5, "text", None], ids=["lambda", "number", "text", "none"])
def test_what_has_no_name_or_is_no_function_is_refused(bad: Any) -> None:
    with pytest.raises(ConfigurationError):
        compile_tool(bad)


def test_star_parameters_are_refused() -> None:
    def many(*items: int) -> None: ...

    def rest(**items: int) -> None: ...

    with pytest.raises(ConfigurationError, match=r"'many': \*items"):
        compile_tool(many)
    with pytest.raises(ConfigurationError, match=r"'rest': \*\*items"):
        compile_tool(rest)


def test_a_generator_is_refused() -> None:
    def numbers() -> Iterator[int]:
        yield 1

    async def later() -> AsyncIterator[int]:
        yield 1

    for each in (numbers, later):
        with pytest.raises(ConfigurationError, match="yields"):
            compile_tool(each)


def test_an_annotation_known_only_while_type_checking_is_refused_by_name() -> None:
    def tool(x: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(ConfigurationError, match="Nowhere"):
        compile_tool(tool)


# -- calls --------------------------------------------------------------------------------------------------------


def test_an_async_tool_gives_a_coroutine_and_a_sync_one_its_value() -> None:
    plan = compile_tool(echo)
    assert plan.is_async
    assert not plan.in_thread
    assert asyncio.run(plan.invoke({"text": "hi"}, None)) == "hi"
    plan = compile_tool(add)
    assert not plan.is_async
    assert plan.in_thread
    assert plan.invoke({"a": 1}, None) == 3
    assert not compile_tool(add, run_in_thread=False).in_thread


def test_defaults_stand_in_for_absent_arguments() -> None:
    plan = compile_tool(add)
    assert plan.invoke({"a": 1, "b": 1, "scale": 3}, None) == 6.0
    assert plan.decode({"a": "1"}) == {"a": 1, "b": 2, "scale": 1.0}


def test_every_bad_argument_is_named() -> None:
    plan = compile_tool(add)
    assert message_of(plan.invoke, {"b": "x", "scale": None}, None) == (
        "Invalid arguments for tool 'add': a: missing, expected integer; b: expected integer, got string 'x'; "
        "scale: expected number, got null"
    )
    assert message_of(plan.decode, {"b": "x"}).startswith("Invalid arguments for tool 'add': a: missing")


def test_arguments_that_are_no_object_are_refused() -> None:
    plan = compile_tool(add)
    for bad in ([], "text", 5):
        assert "expected an object" in message_of(plan.invoke, bad, None)
    assert "a: missing" in message_of(plan.invoke, None, None)


def test_a_string_is_read_as_json_where_the_hint_is_no_string() -> None:
    def tool(n: int, items: list[Item], on: bool, opt: dict[str, int] | None = None) -> Any:
        return n, items, on, opt

    plan = compile_tool(tool)
    got = plan.invoke({"n": "5", "items": '[{"name": "a", "count": "2"}]', "on": "true", "opt": '{"a": 1}'}, None)
    assert got == (5, [Item("a", 2)], True, {"a": 1})


def test_unknown_arguments_are_ignored_unless_the_tool_is_strict() -> None:
    assert compile_tool(add).invoke({"a": 1, "z": 1}, None) == 3
    plan = compile_tool(add, strict=True)
    assert plan.descriptor["inputSchema"]["additionalProperties"] is False
    assert plan.invoke({"a": 1}, None) == 3
    assert message_of(plan.invoke, {"a": 1, "z": 1}, None) == "Invalid arguments for tool 'add': z: unknown argument"


def test_bounds_are_checked_on_the_quick_way_and_on_the_slow_one() -> None:
    def tool(
        a: Annotated[int, Param(ge=1, le=3)],
        b: Annotated[str, pydantic.Field(min_length=2, pattern="^x")] = "xx",
        c: Annotated[float, Param(gt=0)] = 1.0,
    ) -> Any:
        return a, b, c

    plan = compile_tool(tool)
    assert plan.invoke({"a": 3, "b": "xyz", "c": 1}, None) == (3, "xyz", 1.0)
    assert plan.invoke({"a": "2"}, None) == (2, "xx", 1.0)
    assert message_of(plan.invoke, {"a": 4, "b": "x", "c": 0.0}, None) == (
        "Invalid arguments for tool 'tool': a: expected a number less than or equal to 3, got integer 4; "
        "b: expected at least 2 characters, got string 'x'; c: expected a number greater than 0, got number 0.0"
    )
    assert "got string '0'" in message_of(plan.invoke, {"a": "0"}, None)


def test_an_alias_is_the_name_on_the_wire() -> None:
    def tool(
        user_id: Annotated[int, pydantic.Field(alias="userId")], x: Annotated[int, Param(alias="class")] = 1
    ) -> Any:
        return user_id, x

    plan = compile_tool(tool)
    assert list(plan.descriptor["inputSchema"]["properties"]) == ["userId", "class"]
    assert plan.invoke({"userId": 1, "class": 2}, None) == (1, 2)
    assert "userId: missing" in message_of(plan.invoke, {"user_id": 1}, None)


def test_two_parameters_of_one_name_on_the_wire_are_refused() -> None:
    def tool(a: int, b: Annotated[int, Param(alias="a")]) -> None: ...

    with pytest.raises(ConfigurationError, match="two parameters"):
        compile_tool(tool)


def test_a_default_factory_runs_for_each_call() -> None:
    def tool(items: Annotated[list[int], pydantic.Field(default_factory=list)]) -> list[int]:
        return items

    plan = compile_tool(tool)
    assert plan.invoke({}, None) == []
    assert plan.invoke({}, None) is not plan.invoke({}, None)
    assert plan.invoke({"items": [1]}, None) == [1]


def test_null_is_taken_where_the_default_is_none() -> None:
    def tool(a: int = None) -> Any:  # type: ignore[assignment]  # noqa: RUF013
        return a

    plan = compile_tool(tool)
    assert plan.invoke({"a": None}, None) is None
    assert plan.decode({"a": None}) == {"a": None}
    assert plan.invoke({"a": 3}, None) == 3


def test_all_kinds_of_parameters_are_passed_rightly() -> None:
    def tool(a: int, /, b: int, c: int = 3, *, d: int, e: int = 5) -> Any:
        return a, b, c, d, e

    plan = compile_tool(tool)
    assert plan.invoke({"a": 1, "b": 2, "d": 4}, None) == (1, 2, 3, 4, 5)
    assert plan.invoke({"a": 1, "b": 2, "c": 0, "d": 4, "e": 0}, None) == (1, 2, 0, 4, 0)


def test_parameters_may_have_any_name() -> None:
    def tool(arguments: int, context: int, fn: int, explain: int, v0: int, d0: int, EMPTY: int, BROKEN: int) -> Any:
        return arguments, context, fn, explain, v0, d0, EMPTY, BROKEN

    names = ["arguments", "context", "fn", "explain", "v0", "d0", "EMPTY", "BROKEN"]
    assert compile_tool(tool).invoke({name: i for i, name in enumerate(names)}, None) == tuple(range(8))


def test_the_context_is_passed_and_not_listed() -> None:
    class Special(Context):
        pass

    def tool(ctx: Special, n: int, other: Context | None = None, *, named: Annotated[Context, "it"]) -> Any:
        return ctx, n, other, named

    plan = compile_tool(tool, is_context=is_context)
    assert plan.needs_context
    assert plan.context_names == ("ctx", "other", "named")
    assert list(plan.descriptor["inputSchema"]["properties"]) == ["n"]
    here = Special()
    assert plan.invoke({"n": 1}, here) == (here, 1, here, here)
    assert not compile_tool(add, is_context=is_context).needs_context


def test_partials_methods_and_callable_objects_are_tools() -> None:
    class Service:
        """A service."""

        factor = 3

        def times(self, n: int) -> int:
            """Multiply."""
            return n * self.factor

        @classmethod
        def named(cls, n: int) -> str:
            return cls.__name__ * n

        @staticmethod
        def plain(n: int) -> int:
            return n

        async def __call__(self, n: int) -> int:
            return n + self.factor

    service = Service()
    assert compile_tool(service.times).invoke({"n": "2"}, None) == 6
    assert compile_tool(service.times).descriptor["description"] == "Multiply."
    assert compile_tool(Service.named).invoke({"n": 1}, None) == "Service"
    assert compile_tool(Service.plain).invoke({"n": 1}, None) == 1
    plan = compile_tool(service)
    assert plan.name == "Service"
    assert plan.is_async
    assert plan.descriptor["description"] == "A service."
    assert asyncio.run(plan.invoke({"n": 1}, None)) == 4
    partial = compile_tool(functools.partial(add, 1, scale=2.0))
    assert partial.name == "add"
    assert list(partial.descriptor["inputSchema"]["properties"]) == ["b"]
    assert partial.invoke({"b": 4}, None) == 10
    assert compile_tool(functools.partial(service, 5)).is_async


def test_a_wrapped_function_is_read_through_its_wrapper() -> None:
    def wrap(fn: Any) -> Any:
        @functools.wraps(fn)
        def inner(*args: Any, **kwargs: Any) -> Any:
            return fn(*args, **kwargs) * 2

        return inner

    plan = compile_tool(wrap(add))
    assert plan.descriptor["inputSchema"]["required"] == ["a"]
    assert plan.invoke({"a": "1"}, None) == 6


def test_a_cached_function_and_a_plain_wrapper_of_an_async_one_are_tools() -> None:
    @functools.cache
    def twice(n: int) -> int:
        return n * 2

    @functools.wraps(echo)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return echo(*args, **kwargs)

    plan = compile_tool(twice)
    assert plan.name == "twice"
    assert plan.invoke({"n": "2"}, None) == 4
    plan = compile_tool(wrapper)
    assert plan.is_async
    assert asyncio.run(plan.invoke({"text": "x"}, None)) == "x"


def test_an_error_inside_the_tool_is_not_blamed_on_the_arguments() -> None:
    def tool(n: int) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        compile_tool(tool).invoke({"n": 1}, None)


def test_an_error_of_a_validator_that_is_no_refusal_comes_through() -> None:
    def check(value: int) -> int:
        raise RuntimeError("broken validator")

    def tool(n: Annotated[int, pydantic.AfterValidator(check)]) -> None: ...

    with pytest.raises(RuntimeError, match="broken validator"):
        compile_tool(tool).invoke({"n": 1}, None)


def test_pydantic_models_are_validated_and_their_problems_named() -> None:
    class User(pydantic.BaseModel):
        name: str
        age: int = pydantic.Field(ge=0)

    def tool(user: User, users: list[User]) -> Any:
        return user, users

    plan = compile_tool(tool)
    ann = {"name": "Ann", "age": 3}
    user, users = plan.invoke({"user": json.dumps(ann), "users": [ann]}, None)
    assert user == users[0] == User(name="Ann", age=3)
    said = message_of(plan.invoke, {"user": {"age": -1}, "users": [{"name": 1, "age": 1}]}, None)
    assert "user.name: missing" in said
    assert "user.age: Input should be greater than or equal to 0, got -1" in said
    assert "users[0].name: Input should be a valid string, got 1" in said


# -- imports ------------------------------------------------------------------------------------------------------


def test_plain_tools_import_neither_pydantic_nor_the_protocol_types_nor_asyncio() -> None:
    program = """
import sys
from dataclasses import dataclass
from typing import Annotated, TypedDict
from erlmcp.server.content import Image
from erlmcp.server.param import Param
from erlmcp.server.plan import compile_tool
from erlmcp.server.prompt import compile_prompt
from erlmcp.server.resource import compile_resource

@dataclass
class Item:
    name: str

class Out(TypedDict):
    a: int

def tool(a: Annotated[int, Param("x", ge=1)], b: list[Item], c: str | None = None) -> Out:
    return {"a": a}

def prompt(a: str) -> str:
    return a

def picture() -> Image:
    return Image(data=b"x")

plan = compile_tool(tool)
plan.convert(plan.invoke({"a": "1", "b": [{"name": "x"}]}, None))
plan = compile_tool(picture)
plan.convert(plan.invoke({}, None))
compile_prompt(prompt)
compile_resource(prompt, "a://{a}")
found = [name for name in ("pydantic", "mcp_types", "asyncio") if name in sys.modules]
assert not found, found
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_hints_of_this_module_were_read_from_strings() -> None:
    assert typing.get_type_hints(echo)["text"] is str
