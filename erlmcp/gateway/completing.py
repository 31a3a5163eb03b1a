"""``completion/complete``: by the prompt or the template that it is about, to the upstream that has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from erlmcp.errors import InvalidParamsError
from erlmcp.gateway.forward import Forward, raw
from erlmcp.gateway.mount import PROMPT
from erlmcp.gateway.translate import meta_for

if TYPE_CHECKING:
    from erlmcp.gateway.access import Caller
    from erlmcp.gateway.line import Line
    from erlmcp.gateway.mount import Mount
    from erlmcp.gateway.service import GatewayService
    from erlmcp.runtime.exchange import Exchange


def complete(service: GatewayService, exchange: Exchange) -> None:
    found = _mount_of(service, exchange)
    service.drive(exchange, _complete_slowly(service, exchange, *found))


def _mount_of(service: GatewayService, exchange: Exchange) -> tuple[Mount, Caller]:
    caller = service.caller_of(exchange)
    params = exchange.call.params
    reference = params.get("ref") if isinstance(params, dict) else None
    if not isinstance(params, dict) or not isinstance(reference, dict):
        raise InvalidParamsError("Invalid params: completion needs ref and argument")
    is_prompt = reference.get("type") == "ref/prompt"
    name = reference.get("name" if is_prompt else "uri")
    if not isinstance(name, str):
        raise InvalidParamsError("Invalid params: ref must be a ref/prompt with a name or a ref/resource with a uri")
    mounts = service.gateway.mounts
    mount = mounts.tables[PROMPT].get(name) if is_prompt else mounts.template(name)
    if mount is None or not caller.sees(name):
        raise InvalidParamsError(f"Unknown {'prompt' if is_prompt else 'resource template'}: {name}")
    return mount, caller


async def _complete_slowly(service: GatewayService, exchange: Exchange, mount: Mount, caller: Caller) -> None:
    send(service, exchange, mount, await _line_of(service, exchange, mount, caller))


async def _line_of(service: GatewayService, exchange: Exchange, mount: Mount, caller: Caller) -> Line:
    first = await service.gateway.first_line(mount.upstream, caller, exchange.call)
    line, _ = await service.gateway.line_for(exchange, first.upstream, first, service.may_share)
    return line


async def way(service: GatewayService, exchange: Exchange) -> tuple[Mount, Line, None]:
    """Where a completion goes by now. Raises McpError."""
    mount, caller = _mount_of(service, exchange)
    return mount, await _line_of(service, exchange, mount, caller), None


def send(service: GatewayService, exchange: Exchange, mount: Mount, line: Line, attempt: int = 1) -> None:
    params: Any = exchange.call.params
    reference = {**params["ref"], "name" if mount.kind == PROMPT else "uri": mount.name}
    given: dict[str, Any] = {**params, "ref": reference}
    meta = meta_for(exchange, line, None)
    if meta is not None:
        given["_meta"] = raw(meta)
    forward = Forward(service, exchange, mount, line, given, line.limits.timeout_s, None)
    forward.attempt = attempt
    forward.send()
