"""Messages of prompts: a role and a content block, which a string, a picture or a sound becomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from erlmcp.compat.sdk.convert import content_of
from erlmcp.compat.sdk.types import PromptArgument as PromptArgument
from erlmcp.compat.sdk.types import block_from


class Message:
    """What one of the two says."""

    own_role = "user"

    def __init__(self, content: Any, role: str | None = None) -> None:
        self.role = role or self.own_role
        if self.role not in ("user", "assistant"):
            raise ValueError(f"role {self.role!r}; expected 'user' or 'assistant'")
        self.content = block_from(content_of(content)[0]) if not isinstance(content, dict) else block_from(content)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and (self.role, self.content) == (other.role, other.content)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(role={self.role!r}, content={self.content!r})"

    def model_dump(self, **_options: Any) -> dict[str, Any]:
        """On the wire."""
        return {"role": self.role, "content": self.content.to_content()}


class UserMessage(Message):
    """What the user says."""


class AssistantMessage(Message):
    """What the assistant says."""

    own_role = "assistant"


@dataclass(kw_only=True)
class Prompt:
    """A function that gives messages; for ``add_prompt``."""

    fn: Callable[..., Any]
    name: str | None = None
    title: str | None = None
    description: str | None = None
    icons: Any = None

    @classmethod
    def from_function(cls, fn: Callable[..., Any], name: str | None = None, **options: Any) -> Prompt:
        """By the function's own name and docstring where there are no others."""
        return cls(fn=fn, name=name or getattr(fn, "__name__", None), **options)
