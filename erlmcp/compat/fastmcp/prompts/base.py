"""Prompts, and the messages that they give."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from erlmcp.compat.fastmcp import values
from erlmcp.compat.fastmcp.component import Component, Json
from erlmcp.compat.fastmcp.current import current_context, is_context
from erlmcp.compat.fastmcp.described import description_of
from erlmcp.compat.fastmcp.exceptions import PromptError, Unfit, unsupported
from erlmcp.compat.fastmcp.resources.base import name_of, public_meta
from erlmcp.compat.fastmcp.thread import in_thread
from erlmcp.compat.fastmcp.tools.function_tool import mark, mark_of, naming, refuse_unnamed
from erlmcp.errors import ArgumentError, ConfigurationError
from erlmcp.server.bind import Argument
from erlmcp.server.content import block_like, block_of, text_block
from erlmcp.server.docstring import parse_docstring
from erlmcp.server.jsonable import to_jsonable
from erlmcp.server.plan import doc_of
from erlmcp.server.prompt import PromptPlan, compile_prompt

Role = Literal["user", "assistant"]


class Message:
    """One message: a text, a block, or any value, which is written as JSON."""

    __slots__ = ("_block", "role")

    def __init__(self, content: Any, role: Role = "user") -> None:
        if role not in ("user", "assistant"):
            raise ValueError(f"role {role!r}; expected 'user' or 'assistant'")
        self.role = role
        if isinstance(content, str):
            self._block = text_block(content)
        else:
            self._block = (block_of(content) if block_like(content) else None) or text_block(values.json_text(content))

    @property
    def content(self) -> Any:
        """The block as an object of ``mcp_types``."""
        return values.typed_blocks([self._block])[0]

    @classmethod
    def from_wire(cls, message: Mapping[str, Any]) -> Message:
        made = cls("", message["role"])
        made._block = message["content"]
        return made

    def to_wire(self) -> Json:
        """The PromptMessage as JSON."""
        return {"role": self.role, "content": self._block}

    def to_mcp_prompt_message(self) -> Any:
        """The PromptMessage of ``mcp_types``."""
        from erlmcp.client.result import typed

        return typed("PromptMessage", self.to_wire())

    def __repr__(self) -> str:
        return f"Message({self._block!r}, role={self.role!r})"


class PromptResult:
    """All that a prompt gives."""

    __slots__ = ("description", "messages", "meta")

    def __init__(
        self,
        messages: str | Sequence[Message],
        description: str | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        given = [Message(messages)] if isinstance(messages, str) else messages
        if not isinstance(given, list):
            raise TypeError(f"messages must be str or list[Message], got {type(given).__name__}")
        for index, each in enumerate(given):
            if not isinstance(each, Message):
                raise TypeError(
                    f"messages[{index}] must be Message, got {type(each).__name__}; wrap it as Message({each!r})"
                )
        self.messages: list[Message] = list(given)
        self.description = description
        self.meta: Json | None = None if meta is None else dict(meta)

    def to_wire(self) -> Json:
        """The GetPromptResult as JSON."""
        made: Json = {"messages": [each.to_wire() for each in self.messages]}
        if self.description is not None:
            made["description"] = self.description
        if self.meta is not None:
            made["_meta"] = to_jsonable(self.meta)
        return made

    def to_mcp_prompt_result(self) -> Any:
        """The GetPromptResult of ``mcp_types``."""
        from erlmcp.client.result import typed

        return typed("GetPromptResult", self.to_wire())


class PromptArgument:
    """An argument as prompts/list shows it."""

    __slots__ = ("description", "name", "required")

    def __init__(self, name: str, description: str | None = None, required: bool = False) -> None:
        self.name = name
        self.description = description
        self.required = required

    def to_wire(self) -> Json:
        found = {"name": self.name, "description": self.description, "required": self.required}
        return {key: each for key, each in found.items() if each is not None}


class Prompt(Component):
    """A prompt. A subclass with a ``render(arguments)`` of its own is served as it is."""

    KEY_PREFIX: ClassVar[str] = "prompt"

    def __init__(self, *, name: str, arguments: Sequence[PromptArgument] | None = None, **options: Any) -> None:
        super().__init__(name=name, **options)
        self.arguments = None if arguments is None else list(arguments)

    def descriptor(self) -> Json:
        """Its entry in prompts/list."""
        return {"name": self.name, **self.public(arguments=[each.to_wire() for each in self.arguments or ()])}

    def to_mcp_prompt(self, **overrides: Any) -> Any:
        """The Prompt of ``mcp_types``."""
        from erlmcp.client.result import typed

        return typed("Prompt", {**self.descriptor(), **overrides})

    async def render(self, arguments: dict[str, Any] | None = None) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no render(arguments)")

    async def _render(self, arguments: dict[str, Any] | None = None) -> PromptResult:
        """As a server renders it."""
        if self.owner is not None:
            found: PromptResult = await self.owner.render_prompt(self.own_name, arguments)
            return found
        return self.convert_result(await self.render(arguments))

    def convert_result(self, value: Any) -> PromptResult:
        """A returned value -> a PromptResult. Raises TypeError for what is no message."""
        if isinstance(value, PromptResult):
            return value
        meta = public_meta(self.meta)
        if isinstance(value, str):
            return PromptResult(value, self.description, meta)
        if isinstance(value, list | tuple):
            return PromptResult([_message(index, each) for index, each in enumerate(value)], self.description, meta)
        raise TypeError(f"Prompt must return str, list[Message | str], or PromptResult, got {type(value).__name__}")

    @classmethod
    def from_function(cls, fn: Callable[..., Any], **options: Any) -> FunctionPrompt:
        """A prompt from a function; the options of ``@mcp.prompt``."""
        return FunctionPrompt.from_function(fn, **options)


def _message(index: int, value: Any) -> Message:
    if isinstance(value, Message):
        return value
    if isinstance(value, str):
        return Message(value)
    raise TypeError(
        f"messages[{index}] must be Message or str, got {type(value).__name__}. "
        f"Use Message({value!r}) to wrap the value."
    )


class FunctionPrompt(Prompt):
    """A prompt whose ``fn`` is called with the arguments."""

    def __init__(self, fn: Callable[..., Any], plan: PromptPlan, **options: Any) -> None:
        super().__init__(**options)
        self.fn = fn
        self.plan = plan

    @classmethod
    def from_function(cls, fn: Callable[..., Any], **options: Any) -> FunctionPrompt:
        if all(each is None for each in options.values()):
            options = mark_of(fn, "prompt") or {}
        return cls._make(fn, **options)

    @classmethod
    def _make(
        cls,
        fn: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        enabled: bool | None = None,
        **options: Any,
    ) -> FunctionPrompt:
        if enabled is not None:
            unsupported("enabled=", "FastMCP 4 took it away too", "mcp.disable(names={...})")
        refuse_unnamed(fn, "prompts")
        named = name_of(fn, name)
        try:
            plan = compile_prompt(fn, name=named, is_context=is_context, run_sync=in_thread)
        except ConfigurationError as error:
            raise Unfit(str(error)) from error
        doc = parse_docstring(doc_of(fn))
        return cls(
            fn,
            plan,
            name=named,
            description=description_of(fn) if description is None else description,
            arguments=[_argument(each, doc.params.get(each.name)) for each in plan.binding.arguments],
            **options,
        )

    async def render(self, arguments: dict[str, Any] | None = None) -> Any:
        given = arguments or {}
        missing = {each.name for each in self.arguments or () if each.required} - set(given)
        if missing:
            raise ValueError(f"Missing required arguments: {missing}")
        context = current_context()
        try:
            if not self.plan.in_thread:
                value = self.plan.invoke(given, context)
            else:
                value = await in_thread(self.plan.invoke, given, context)
            return await value if hasattr(value.__class__, "__await__") else value
        except ArgumentError as refusal:
            raise PromptError(self._explain(given, refusal)) from refusal

    def _explain(self, given: Mapping[str, Any], refusal: ArgumentError) -> str:
        """Which argument does not fit, in pydantic's words."""
        from pydantic import TypeAdapter

        for each in self.plan.binding.arguments:
            value = given.get(each.key)
            adapter = TypeAdapter(each.hint)
            if isinstance(value, str) and not _takes(adapter.validate_python, value):
                try:
                    adapter.validate_json(value)
                except ValueError as error:
                    text = f"Could not convert argument '{each.key}' with value '{value}' to expected type {each.hint}"
                    return f"{text}. Error: {error}"
        return str(refusal)


def _takes(validate: Callable[[Any], Any], value: Any) -> bool:
    try:
        validate(value)
    except ValueError:
        return False
    return True


def _argument(each: Argument, described: str | None) -> PromptArgument:
    text = each.facts.description or described
    if each.hint is not str and each.shape.kind != "any":
        schema = _schema_text(each)
        note = f"Provide a value matching the following JSON schema: {schema}. Encode non-string values as JSON."
        text = f"{text}\n\n{note}" if text else note
    return PromptArgument(each.key, text, each.required)


def _schema_text(each: Argument) -> str:
    """The schema of the type, as pydantic has it."""
    from pydantic import TypeAdapter

    return json.dumps(TypeAdapter(each.hint).json_schema(), separators=(",", ":"))


def prompt(name_or_fn: Any = None, *, name: str | None = None, **options: Any) -> Any:
    """Mark a function as a prompt; ``mcp.add_prompt`` registers it."""
    return naming(name_or_fn, name, lambda fn, found: mark(fn, "prompt", {**options, "name": found}))
