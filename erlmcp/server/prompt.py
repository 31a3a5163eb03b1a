"""Prompt plans: a function that returns messages, ready to be listed and called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from erlmcp.errors import ErlmcpError
from erlmcp.server.bind import Binder, Binding, Bound, Overrides
from erlmcp.server.content import Message, block_of, dump_model, is_protocol_model, text_block, write_json
from erlmcp.server.depend import is_async_call
from erlmcp.server.docstring import parse_docstring
from erlmcp.server.jsonable import to_jsonable
from erlmcp.server.plan import RunSync, doc_of, property_schema, refuse_generator, to_thread, tool_name
from erlmcp.server.schema import Json, SchemaBuilder
from erlmcp.server.source import Invoke, compile_invoke, must_await


@dataclass(slots=True, eq=False)
class PromptPlan(Bound):
    """A prompt. ``invoke`` as in ToolPlan; arguments arrive as strings, those for other types are read as JSON."""

    name: str
    descriptor: Json
    invoke: Invoke
    is_async: bool
    in_thread: bool
    tags: frozenset[str]
    binding: Binding
    _recompile: Callable[[Overrides], PromptPlan]

    def convert(self, value: Any) -> list[Json]:
        """A returned value -> messages: a string is what the user says; a list is taken entry by entry.

        Raises ErlmcpError for what cannot be a message.
        """
        try:
            return messages_of(value)
        except (TypeError, ValueError, OSError, RecursionError) as error:
            raise ErlmcpError(f"{self.binding.label} returned what is no message: {error}") from error

    def result(self, value: Any) -> Json:
        """A returned value -> the whole result, with the prompt's description; a result of ``mcp_types`` as it is."""
        if is_protocol_model(value) and not hasattr(value, "role") and block_of(value) is None:
            made: Json = dump_model(value)
            return made
        described = self.descriptor.get("description")
        return {**({"description": described} if described else {}), "messages": self.convert(value)}

    def override(self, overrides: Overrides) -> PromptPlan:
        """The same prompt with some dependencies replaced, for tests."""
        return self._recompile(overrides)


def compile_prompt(
    fn: Callable[..., Any],
    *,
    name: str | None = None,
    title: str | None = None,
    description: str | None = None,
    icons: object = None,
    meta: Mapping[str, Any] | None = None,
    tags: Iterable[str] = (),
    run_in_thread: bool | None = None,
    is_context: Callable[[Any], bool] = lambda _: False,
    run_sync: RunSync | None = None,
    overrides: Overrides | None = None,
) -> PromptPlan:
    """Plan a prompt from a function. Raises ConfigurationError, naming prompt and parameter, for a bad signature."""
    given = {key: value for key, value in locals().items() if key not in ("fn", "overrides")}
    name = tool_name(fn, name)
    label = f"prompt {name!r}"
    refuse_generator(fn, label)
    binding = Binder(label, is_context, overrides).bind(fn)
    doc = parse_docstring(doc_of(fn))
    arguments = []
    for each in binding.arguments:
        schema = property_schema(SchemaBuilder(), each, doc)
        entry = {"name": each.key, "title": schema.get("title"), "description": schema.get("description")}
        arguments.append({**{k: v for k, v in entry.items() if v is not None}, "required": each.required})
    descriptor = {
        "name": name,
        "title": title,
        "description": doc.text or None if description is None else description,
        "arguments": arguments or None,
        "icons": dump_model(icons),
        "_meta": dump_model(meta),
    }
    fn_async = is_async_call(fn)
    in_thread = not fn_async and run_in_thread is not False
    awaits = must_await(binding, fn_async)
    return PromptPlan(
        name=name,
        descriptor={key: value for key, value in descriptor.items() if value is not None},
        invoke=compile_invoke(binding, is_async=fn_async, run_sync=(run_sync or to_thread) if in_thread else None),
        is_async=fn_async or awaits,
        in_thread=in_thread and not awaits,
        tags=frozenset(tags),
        binding=binding,
        _recompile=lambda overrides: compile_prompt(fn, **given, overrides=overrides),
    )


def messages_of(value: Any) -> list[Json]:
    """Any returned value -> prompt messages. Raises TypeError or ValueError for what has no JSON form."""
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return [_message(each) for each in value]
    return [_message(value)]


def _message(value: Any) -> Json:
    if isinstance(value, Message):
        if value.role not in ("user", "assistant"):
            raise ValueError(f"role {value.role!r}; expected 'user' or 'assistant'")
        return {"role": value.role, "content": _content(value.content)}
    if is_protocol_model(value) and hasattr(value, "role"):
        dumped: Json = dump_model(value)
        return dumped
    if isinstance(value, Mapping) and value.get("role") in ("user", "assistant") and "content" in value:
        return {**value, "content": _content(value["content"])}
    return {"role": "user", "content": _content(value)}


def _content(value: Any) -> Json:
    """One block; in a message a dict with a ``type`` is a block already."""
    if isinstance(value, str):
        return text_block(value)
    block = block_of(value)
    if block is not None:
        return block
    if isinstance(value, Mapping) and value.get("type") in ("text", "image", "audio", "resource", "resource_link"):
        return {key: dump_model(each) for key, each in value.items()}
    return text_block(write_json(to_jsonable(value)))
