"""Dependencies: what they may take, when they run, and how they end."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest

from erlmcp.errors import ConfigurationError
from erlmcp.server.depend import Depends
from erlmcp.server.plan import compile_tool
from erlmcp.server.prompt import compile_prompt
from erlmcp.server.resource import compile_resource


class Context:
    """Stands for the server's context."""

    name = "ctx"


def is_context(kind: Any) -> bool:
    return kind is Context


def settings() -> dict[str, str]:
    return {"url": "db://"}


def test_a_dependency_stands_in_the_annotation_or_as_the_default() -> None:
    by_default = Depends(settings)

    def tool(n: int, a: Annotated[dict[str, str], Depends(settings)], b: dict[str, str] = by_default) -> Any:
        return n, a, b

    plan = compile_tool(tool)
    assert list(plan.descriptor["inputSchema"]["properties"]) == ["n"]
    assert plan.invoke({"n": 1}, None) == (1, {"url": "db://"}, {"url": "db://"})
    assert plan.dependencies == (settings,)
    assert not plan.needs_context


def test_the_caller_cannot_send_what_a_dependency_gives() -> None:
    def tool(a: str = Depends(lambda: "real")) -> str:
        return a

    assert compile_tool(tool).invoke({"a": "forged"}, None) == "real"


def test_a_dependency_takes_context_dependencies_and_arguments_by_name() -> None:
    def user(ctx: Context, user_id: int) -> str:
        return f"{ctx.name}:{user_id}"

    def label(who: Annotated[str, Depends(user)], prefix: str = "<") -> str:
        return prefix + who

    def tool(user_id: int, text: str = Depends(label)) -> str:
        return text

    plan = compile_tool(tool, is_context=is_context)
    assert plan.needs_context
    assert plan.context_names == ()
    assert plan.invoke({"user_id": "7"}, Context()) == "<ctx:7"
    assert plan.dependencies == (user, label)


def test_a_dependency_runs_once_in_a_call_unless_it_says_otherwise() -> None:
    runs: list[str] = []

    def shared() -> int:
        runs.append("shared")
        return len(runs)

    def other(x: int = Depends(shared)) -> int:
        return x

    def tool(
        a: int = Depends(shared),
        b: int = Depends(other),
        c: int = Depends(shared, use_cache=False),
        d: int = Depends(shared, use_cache=False),
    ) -> Any:
        return a, b, c, d

    plan = compile_tool(tool)
    assert plan.invoke({}, None) == (1, 1, 2, 3)
    assert plan.invoke({}, None) == (4, 4, 5, 6)


def test_sync_dependencies_keep_the_call_free_of_a_further_coroutine() -> None:
    async def tool(a: Annotated[dict[str, str], Depends(settings)]) -> dict[str, str]:
        return a

    plan = compile_tool(tool)
    assert plan.is_async
    assert not asyncio.iscoroutinefunction(plan.invoke)
    assert asyncio.run(plan.invoke({}, None)) == {"url": "db://"}


def test_async_dependencies_are_awaited_in_order() -> None:
    order: list[str] = []

    async def first() -> str:
        order.append("first")
        await asyncio.sleep(0)
        return "1"

    async def second(x: Annotated[str, Depends(first)]) -> str:
        order.append("second")
        return x + "2"

    async def tool(y: Annotated[str, Depends(second)]) -> str:
        order.append("tool")
        return y + "3"

    plan = compile_tool(tool)
    assert plan.is_async
    assert asyncio.run(plan.invoke({}, None)) == "123"
    assert order == ["first", "second", "tool"]


def trail(events: list[str], name: str, *, catch: bool = False) -> Any:
    def sync() -> Iterator[str]:
        events.append(f"open {name}")
        try:
            yield name
        except ValueError as error:
            events.append(f"{name} saw {error}")
            if not catch:
                raise
        finally:
            events.append(f"close {name}")

    return sync


def async_trail(events: list[str], name: str) -> Any:
    async def later() -> AsyncIterator[str]:
        events.append(f"open {name}")
        try:
            yield name
        except ValueError as error:
            events.append(f"{name} saw {error}")
            raise
        finally:
            await asyncio.sleep(0)
            events.append(f"close {name}")

    return later


@pytest.mark.parametrize("fails", [False, True])
def test_generators_clean_up_in_reverse_order_and_see_the_error(fails: bool) -> None:
    events: list[str] = []
    one, two = trail(events, "one"), async_trail(events, "two")

    async def tool(a: Annotated[str, Depends(one)], b: Annotated[str, Depends(two)]) -> str:
        events.append("tool")
        if fails:
            raise ValueError("oops")
        return a + b

    plan = compile_tool(tool)
    if fails:
        with pytest.raises(ValueError, match="oops"):
            asyncio.run(plan.invoke({}, None))
        middle = ["tool", "two saw oops", "close two", "one saw oops", "close one"]
    else:
        assert asyncio.run(plan.invoke({}, None)) == "onetwo"
        middle = ["tool", "close two", "close one"]
    assert events == ["open one", "open two", *middle]


def test_a_generator_that_swallows_the_error_does_not_hide_it() -> None:
    events: list[str] = []

    def tool(a: Annotated[str, Depends(trail(events, "one", catch=True))]) -> str:
        raise ValueError("oops")

    with pytest.raises(ValueError, match="oops"):
        compile_tool(tool).invoke({}, None)
    assert events == ["open one", "one saw oops", "close one"]


def test_a_sync_tool_with_sync_generators_stays_a_plain_call() -> None:
    events: list[str] = []

    def tool(a: Annotated[str, Depends(trail(events, "one"))]) -> str:
        return a

    plan = compile_tool(tool)
    assert not plan.is_async
    assert plan.in_thread
    assert plan.invoke({}, None) == "one"
    assert events == ["open one", "close one"]


def test_a_stop_iteration_of_the_tool_passes_through_a_generator() -> None:
    def tool(a: Annotated[str, Depends(trail([], "one"))]) -> str:
        raise StopIteration("mine")

    with pytest.raises(StopIteration, match="mine"):
        compile_tool(tool).invoke({}, None)


def test_a_generator_must_yield_once() -> None:
    def never() -> Iterator[str]:
        return
        yield "x"

    def twice() -> Iterator[str]:
        yield "x"
        yield "y"

    for each, words in ((never, "did not yield"), (twice, "yielded twice")):

        def tool(a: Annotated[str, Depends(each)]) -> str:
            return a

        with pytest.raises(RuntimeError, match=words):
            compile_tool(tool).invoke({}, None)


def test_cleanup_runs_when_the_call_is_cancelled() -> None:
    events: list[str] = []

    async def tool(a: Annotated[str, Depends(async_trail(events, "one"))]) -> None:
        events.append("waiting")
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.ensure_future(compile_tool(tool).invoke({}, None))
        while "waiting" not in events:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert events == ["open one", "waiting", "close one"]


def test_nothing_is_opened_for_arguments_that_do_not_fit() -> None:
    events: list[str] = []

    def tool(n: int, a: Annotated[str, Depends(trail(events, "one"))]) -> None: ...

    with pytest.raises(Exception, match="n: expected integer"):
        compile_tool(tool).invoke({"n": "x"}, None)
    assert events == []


def test_a_sync_tool_with_an_async_dependency_runs_in_a_thread() -> None:
    async def later() -> str:
        return "x"

    def tool(a: Annotated[str, Depends(later)]) -> Any:
        return a, threading.current_thread() is threading.main_thread()

    plan = compile_tool(tool)
    assert plan.is_async
    assert not plan.in_thread
    assert asyncio.run(plan.invoke({}, None)) == ("x", False)
    inline = compile_tool(tool, run_in_thread=False)
    assert asyncio.run(inline.invoke({}, None)) == ("x", True)

    async def run_sync(fn: Any, *args: Any, **kwargs: Any) -> Any:
        return "own pool", fn(*args, **kwargs)

    assert asyncio.run(compile_tool(tool, run_sync=run_sync).invoke({}, None)) == ("own pool", ("x", True))


def test_callable_objects_methods_classes_and_partials_are_dependencies() -> None:
    class Db:
        def __init__(self) -> None:
            self.name = "db"

        async def __call__(self) -> str:
            return self.name

        def plain(self) -> str:
            return self.name + "!"

    def joined(a: str, b: str = "b") -> str:
        return a + b

    async def tool(
        a: Annotated[Db, Depends(Db)],
        b: Annotated[str, Depends(Db())],
        c: Annotated[str, Depends(Db().plain)],
        d: Annotated[str, Depends(functools.partial(joined, "a"))],
    ) -> Any:
        return a.name, b, c, d

    assert asyncio.run(compile_tool(tool).invoke({}, None)) == ("db", "db", "db!", "ab")


def test_a_cycle_is_refused_and_shown() -> None:
    def one(x: Any) -> None: ...

    def two(x: Annotated[Any, Depends(one)]) -> None: ...

    one.__annotations__["x"] = Annotated[Any, Depends(two)]

    def tool(a: Annotated[Any, Depends(one)]) -> None: ...

    with pytest.raises(ConfigurationError, match="cycle: one -> two -> one"):
        compile_tool(tool)


def test_a_dependency_that_wants_something_unknown_is_refused() -> None:
    def needs(colour: str) -> str:
        return colour

    def tool(n: int, a: Annotated[str, Depends(needs)]) -> None: ...

    with pytest.raises(ConfigurationError, match=r"'needs' wants 'colour'.*\(n\)"):
        compile_tool(tool)
    with pytest.raises(ConfigurationError, match="takes a function"):
        Depends("text")  # type: ignore[arg-type]


def test_overrides_replace_a_dependency_with_all_that_it_needs() -> None:
    def url() -> str:
        return "real"

    def db(where: Annotated[str, Depends(url)]) -> str:
        return f"db at {where}"

    def tool(n: int, a: Annotated[str, Depends(db)]) -> str:
        return f"{n}: {a}"

    plan = compile_tool(tool, name="t", tags=["x"])
    fake = plan.override({db: lambda n: f"fake {n}"})
    assert fake.invoke({"n": 1}, None) == "1: fake 1"
    assert fake.name == "t"
    assert fake.tags == {"x"}
    assert plan.override({url: lambda: "test"}).invoke({"n": 1}, None) == "1: db at test"
    assert plan.invoke({"n": 1}, None) == "1: db at real"


def test_prompts_and_resources_have_dependencies_too() -> None:
    def prompt(topic: str, a: Annotated[dict[str, str], Depends(settings)]) -> str:
        return topic + a["url"]

    plan = compile_prompt(prompt)
    assert [each["name"] for each in plan.descriptor["arguments"]] == ["topic"]
    assert plan.invoke({"topic": "x"}, None) == "xdb://"
    assert plan.override({settings: lambda: {"url": "!"}}).invoke({"topic": "x"}, None) == "x!"
    resource = compile_resource(prompt, "a://{topic}")
    assert resource.invoke({"topic": "x"}, None) == "xdb://"
    assert resource.override({settings: lambda: {"url": "!"}}).invoke({"topic": "x"}, None) == "x!"
