"""A handler of notifications, hook by hook."""

from __future__ import annotations

from typing import Any, Final

from erlmcp.spec import method as m

HOOKS: Final = {
    m.CANCELLED: "on_cancelled",
    m.PROGRESS: "on_progress",
    m.MESSAGE: "on_logging_message",
    m.TOOLS_CHANGED: "on_tool_list_changed",
    m.RESOURCES_CHANGED: "on_resource_list_changed",
    m.PROMPTS_CHANGED: "on_prompt_list_changed",
    m.RESOURCE_UPDATED: "on_resource_updated",
}


class MessageHandler:
    """Override what you want to hear of: each hook gets a message with ``method`` and ``params``."""

    async def __call__(self, message: Any) -> None:
        await self.dispatch(message)

    async def dispatch(self, message: Any) -> None:
        """The hook of every message, then that of notifications, then its own."""
        await self.on_message(message)
        await self.on_notification(message)
        hook = HOOKS.get(message.method)
        if hook is not None:
            await getattr(self, hook)(message)

    async def on_message(self, message: Any) -> None: ...
    async def on_notification(self, message: Any) -> None: ...
    async def on_cancelled(self, message: Any) -> None: ...
    async def on_progress(self, message: Any) -> None: ...
    async def on_logging_message(self, message: Any) -> None: ...
    async def on_tool_list_changed(self, message: Any) -> None: ...
    async def on_resource_list_changed(self, message: Any) -> None: ...
    async def on_prompt_list_changed(self, message: Any) -> None: ...
    async def on_resource_updated(self, message: Any) -> None: ...
