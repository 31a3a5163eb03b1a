"""Prompts, and the messages that they give."""

from erlmcp.compat.fastmcp.prompts.base import (
    FunctionPrompt,
    Message,
    Prompt,
    PromptArgument,
    PromptResult,
    prompt,
)

__all__ = ["FunctionPrompt", "Message", "Prompt", "PromptArgument", "PromptResult", "prompt"]
