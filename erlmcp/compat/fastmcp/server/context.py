"""The request at hand, as FastMCP shows it."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import Token
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from erlmcp import core as codec
from erlmcp.compat.fastmcp.current import CONTEXT, ContextBase
from erlmcp.compat.fastmcp.exceptions import NotFoundError, unsupported
from erlmcp.compat.fastmcp.server import elicitation
from erlmcp.compat.fastmcp.server.request import HttpRequest
from erlmcp.compat.fastmcp.server.state import unsealed
from erlmcp.server.context import Context as Core
from erlmcp.server.input import SampleResult
from erlmcp.server.jsonable import to_jsonable
from erlmcp.spec import key
from erlmcp.spec import method as m

if TYPE_CHECKING:
    from erlmcp.compat.fastmcp.server.server import FastMCP

log = logging.getLogger("fastmcp.server.context.to_client")
STATE, RULES, SESSION = "fastmcp.state", "fastmcp.rules", "fastmcp.session"
_RANKS = {"debug": 10, "info": 20, "notice": 20, "warning": 30, "error": 40, "critical": 50, "alert": 50}


@dataclass(frozen=True)
class RequestContext:
    """What of the request a handler may look at besides."""

    session: Session
    request_id: str | int | None
    meta: dict[str, Any]
    request: HttpRequest | None
    protocol_version: str
    lifespan_context: Any


class Session:
    """The conversation with the client, as far as a handler may use it."""

    __slots__ = ("_core",)

    def __init__(self, core: Core) -> None:
        self._core = core

    @property
    def client_info(self) -> dict[str, Any] | None:
        return self._core.client_info

    @property
    def client_capabilities(self) -> dict[str, Any]:
        return self._core.client_capabilities

    @property
    def protocol_version(self) -> str:
        return self._core.protocol_version

    async def send_log_message(self, level: str, data: Any, logger: str | None = None, **_: Any) -> None:
        await self._core.log(level, data, logger)

    async def send_tool_list_changed(self) -> None:
        await self._core.tools_changed()

    async def send_resource_list_changed(self) -> None:
        await self._core.resources_changed()

    async def send_prompt_list_changed(self) -> None:
        await self._core.prompts_changed()

    async def send_resource_updated(self, uri: Any) -> None:
        await self._core.resource_updated(str(uri))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the session of this façade has no {name!r}; ask by the Context: ctx.elicit, ctx.sample")


class Context(ContextBase):
    """A handler gets it by a parameter annotated with ``Context``, by ``CurrentContext()`` or by ``get_context()``.

    Outside of a request, as within ``server.call_tool(...)`` by a program, what needs a client raises RuntimeError or
    does nothing, as it says.
    """

    __slots__ = ("_core", "_own", "_token", "fastmcp")

    def __init__(self, fastmcp: FastMCP, core: Core | None = None) -> None:
        self.fastmcp = fastmcp
        self._core = core
        self._own: dict[str, Any] = {}
        self._token: Token[Any] | None = None

    async def __aenter__(self) -> Self:
        self._token = CONTEXT.set(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            CONTEXT.reset(self._token)
            self._token = None

    def within(self, fastmcp: FastMCP) -> Context:
        """The same request, in a server that is mounted."""
        made = Context(fastmcp, self._core)
        made._own = self._own
        return made

    # -- who asks ------------------------------------------------------------------------------------------------------

    @property
    def core(self) -> Core:
        """erlmcp's own context of the request. RuntimeError outside of one."""
        if self._core is None:
            raise RuntimeError("there is no request here: this runs outside of a client's call")
        return self._core

    @property
    def request_context(self) -> RequestContext | None:
        core = self._core
        if core is None:
            return None
        return RequestContext(
            Session(core), core.request_id, core.meta, self.http_request, core.protocol_version, self.lifespan_context
        )

    @property
    def http_request(self) -> HttpRequest | None:
        """The HTTP request that the call came in; None on other transports."""
        core = self._core
        return HttpRequest(core) if core is not None and core.headers else None

    @property
    def session(self) -> Session:
        return Session(self.core)

    @property
    def request_id(self) -> str:
        return str(self.core.request_id)

    @property
    def origin_request_id(self) -> str | None:
        return None if self._core is None else self.request_id

    @property
    def client_id(self) -> str | None:
        found = self._core.meta.get("client_id") if self._core is not None else None
        return None if found is None else str(found)

    @property
    def session_id(self) -> str:
        """The HTTP session's id where there is one, else one for the conversation; in 2026-07-28, for the request."""
        core = self.core
        if core.era == "legacy" and core.session_id is not None:
            return core.session_id
        kept = self._kept
        found: str = kept.setdefault(SESSION, uuid.uuid4().hex)
        return found

    @property
    def _kept(self) -> dict[str, Any]:
        """What is kept between the requests of a conversation: there is none in 2026-07-28."""
        core = self._core
        return self._own if core is None or core.era == "modern" else core.session

    @property
    def transport(self) -> str | None:
        if self._core is None:
            return None
        return "streamable-http" if self._core.headers else "stdio"

    @property
    def lifespan_context(self) -> dict[str, Any]:
        found = self.fastmcp.lifespan_result
        return {} if found is None else found

    @property
    def input_responses(self) -> dict[str, Any] | None:
        return None if self._core is None else self._core.params.get("inputResponses")

    @property
    def request_state(self) -> str | None:
        """What the tool gave as ``request_state`` when it asked. StateError where that was altered, or is another's."""
        return None if self._core is None else unsealed(self._core)

    @property
    def task_id(self) -> None:
        return None

    @property
    def is_background_task(self) -> bool:
        return False

    def client_supports_extension(self, extension_id: str) -> bool:
        """Whether the client declared an extension."""
        return self.client_extension_settings(extension_id) is not None

    def client_extension_settings(self, identifier: str) -> dict[str, Any] | None:
        found = self.core.client_capabilities.get("extensions") or {}
        settings = found.get(identifier)
        return settings if isinstance(settings, dict) else None

    # -- telling -------------------------------------------------------------------------------------------------------

    async def report_progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Where the client asked for it."""
        if self._core is not None:
            await self._core.progress(float(progress), None if total is None else float(total), message)

    async def log(
        self,
        message: str,
        level: str | None = None,
        logger_name: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Send a message to the client's log, and to ``fastmcp.server.context.to_client`` here."""
        level = level or "info"
        if level not in key.LOG_RANK:
            raise ValueError(f"unknown log level {level!r}, expected one of {', '.join(key.LOG_LEVELS)}")
        log.log(_RANKS.get(level, 50), "Sending %s to client: %s", level.upper(), message)
        if self._core is not None:
            least = self.fastmcp.client_log_level
            if least is None or key.LOG_RANK[level] >= key.LOG_RANK[least]:
                data = {"msg": message, "extra": None if extra is None else to_jsonable(dict(extra))}
                await self._core.log(level, data, logger_name)

    async def debug(self, message: str, logger_name: str | None = None, extra: Mapping[str, Any] | None = None) -> None:
        await self.log(message, "debug", logger_name, extra)

    async def info(self, message: str, logger_name: str | None = None, extra: Mapping[str, Any] | None = None) -> None:
        await self.log(message, "info", logger_name, extra)

    async def warning(
        self, message: str, logger_name: str | None = None, extra: Mapping[str, Any] | None = None
    ) -> None:
        await self.log(message, "warning", logger_name, extra)

    async def error(self, message: str, logger_name: str | None = None, extra: Mapping[str, Any] | None = None) -> None:
        await self.log(message, "error", logger_name, extra)

    async def send_notification(self, notification: Any) -> None:
        """One of the list-changed notifications of ``mcp_types``, or a resource's update."""
        core = self.core
        method = getattr(notification, "method", None)
        if method == m.RESOURCE_UPDATED:
            await core.resource_updated(str(notification.params.uri))
        elif method in (m.TOOLS_CHANGED, m.RESOURCES_CHANGED, m.PROMPTS_CHANGED):
            self.fastmcp.hub.publish(method)
        else:
            unsupported(
                f"send_notification({method})",
                "it is no change of a list or a resource",
                "ctx.log, ctx.report_progress",
            )

    async def close_sse_stream(self) -> None:
        await self.core.close_stream()

    # -- what the server has -------------------------------------------------------------------------------------------

    async def list_resources(self) -> list[Any]:
        return [each.to_mcp_resource() for each in await self.fastmcp.list_resources()]

    async def list_prompts(self) -> list[Any]:
        return [each.to_mcp_prompt() for each in await self.fastmcp.list_prompts()]

    async def list_tools(self) -> list[Any]:
        return [each.to_mcp_tool() for each in await self.fastmcp.list_tools()]

    async def read_resource(self, uri: Any) -> Any:
        """A ResourceResult; raises NotFoundError."""
        return await self.fastmcp.read_resource(str(uri))

    async def get_prompt(self, name: str, arguments: dict[str, Any] | None = None) -> Any:
        """A GetPromptResult of ``mcp_types``."""
        if await self.fastmcp.get_prompt(name) is None:
            raise NotFoundError(f"Unknown prompt: {name!r}")
        return (await self.fastmcp.render_prompt(name, arguments)).to_mcp_prompt_result()

    # -- asking the client ---------------------------------------------------------------------------------------------

    async def elicit(
        self,
        message: str,
        response_type: Any = dict,
        *,
        response_title: str | None = None,
        response_description: str | None = None,
    ) -> Any:
        """Ask the user: an AcceptedElicitation with the value in ``data``, a DeclinedElicitation or a
        CancelledElicitation. Works in both eras; in 2026-07-28 the tool runs again from its start."""
        form = elicitation.form_of(response_type, response_title, response_description)
        found = await self.core.elicit(message, form.schema)
        return elicitation.answer_of(form, found.action, found.content)

    async def sample(
        self, messages: Any, system_prompt: str | None = None, max_tokens: int = 512, **options: Any
    ) -> SampleResult:
        """Let the client's model answer: ``.text``, ``.content``, ``.model``."""
        names = {"temperature": "temperature", "model_preferences": "modelPreferences", "tools": "tools"}
        for name in options:
            if name not in names:
                unsupported(f"sample({name}=)", "FastMCP 4 took sampling away", f"{', '.join(names)}")
        given = {names[name]: to_jsonable(each) for name, each in options.items() if each is not None}
        preferred = given.get("modelPreferences")
        if isinstance(preferred, str | list):
            hints = [preferred] if isinstance(preferred, str) else preferred
            given["modelPreferences"] = {"hints": [{"name": name} for name in hints]}
        return await self.core.sample(messages, max_tokens=max_tokens, system_prompt=system_prompt, **given)

    async def list_roots(self) -> list[dict[str, Any]]:
        """The client's roots."""
        return await self.core.list_roots()

    # -- state ---------------------------------------------------------------------------------------------------------

    async def set_state(self, key: str, value: Any, *, serializable: bool = True) -> None:
        """Keep a value for the conversation, or for this request: what has no JSON form, and all in 2026-07-28.

        Raises TypeError for what has no JSON form where ``serializable`` does not say so.
        """
        if not serializable:
            self._own.setdefault(STATE, {})[key] = value
            return
        try:
            kept = codec.decode(codec.encode(to_jsonable(value)))
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"Value for state key {key!r} is not serializable: use set_state({key!r}, value, serializable=False), "
                "which keeps it for this request"
            ) from error
        self._own.get(STATE, {}).pop(key, None)
        self._kept.setdefault(STATE, {})[key] = kept

    async def get_state(self, key: str) -> Any:
        """The value, or None."""
        own = self._own.get(STATE, {})
        return own[key] if key in own else self._kept.get(STATE, {}).get(key)

    async def delete_state(self, key: str) -> None:
        self._own.get(STATE, {}).pop(key, None)
        self._kept.get(STATE, {}).pop(key, None)

    # -- what this conversation sees -----------------------------------------------------------------------------------

    @property
    def rules(self) -> list[Any]:
        """The visibility rules of this conversation alone."""
        found: list[Any] = self.core.session.get(RULES, []) if self._core is not None else []
        return found

    async def enable_components(self, **which: Any) -> None:
        """Show, to this conversation, what matches; see ``server.enable``."""
        await self._rule(True, which)

    async def disable_components(self, **which: Any) -> None:
        """Hide, from this conversation, what matches."""
        await self._rule(False, which)

    async def reset_visibility(self) -> None:
        """Forget the rules of this conversation."""
        self.core.session.pop(RULES, None)
        await self._tell_all()

    async def _rule(self, enabled: bool, which: dict[str, Any]) -> None:
        from erlmcp.compat.fastmcp.server.transforms.visibility import Visibility

        self.core.session.setdefault(RULES, []).append(Visibility(enabled, **which))
        self.fastmcp.has_session_rules()
        await self._tell_all()

    async def _tell_all(self) -> None:
        for method in (m.TOOLS_CHANGED, m.RESOURCES_CHANGED, m.PROMPTS_CHANGED):
            if self._core is not None:
                self._core._exchange.notify(method, None)


@contextmanager
def set_context(context: Context) -> Iterator[Context]:
    """Within this, ``get_context()`` gives this context."""
    token = CONTEXT.set(context)
    try:
        yield context
    finally:
        CONTEXT.reset(token)
