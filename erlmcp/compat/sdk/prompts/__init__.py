"""Prompts as objects, and their messages."""

from __future__ import annotations

from erlmcp.compat.sdk.prompts.base import AssistantMessage as AssistantMessage
from erlmcp.compat.sdk.prompts.base import Message as Message
from erlmcp.compat.sdk.prompts.base import Prompt as Prompt
from erlmcp.compat.sdk.prompts.base import PromptArgument as PromptArgument
from erlmcp.compat.sdk.prompts.base import UserMessage as UserMessage
