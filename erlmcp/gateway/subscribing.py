"""Subscriptions to resources: at the upstreams that have them, for a handshake session or a listen stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from erlmcp.errors import InvalidParamsError, McpError, ResourceNotFoundError

if TYPE_CHECKING:
    from erlmcp.gateway.service import GatewayService
    from erlmcp.runtime.exchange import Exchange


def subscribe(service: GatewayService, is_on: bool, exchange: Exchange) -> None:
    params = exchange.call.params
    uri = params.get("uri") if isinstance(params, dict) else None
    if not isinstance(uri, str):
        raise InvalidParamsError("Invalid params: uri must be a string")
    service.drive(exchange, _subscribe_slowly(service, is_on, uri, exchange))


async def _subscribe_slowly(service: GatewayService, is_on: bool, uri: str, exchange: Exchange) -> None:
    session, gateway = exchange.session, service.gateway
    uris = session.resources = session.resources or set()
    if not is_on:
        if uri in uris:
            uris.discard(uri)
            gateway.followers.drop(session, uri)
    elif uri not in uris:
        if len(uris) >= gateway.limits.subscription_count_max:
            most = gateway.limits.subscription_count_max
            raise InvalidParamsError(f"subscription_count_max={most} resources are subscribed to")
        await gateway.followers.subscribe(uris, uri, exchange, service.caller_of(exchange))
    exchange.result({})


def listen(service: GatewayService, exchange: Exchange) -> None:
    service.drive(exchange, _listen_slowly(service, exchange))


async def _listen_slowly(service: GatewayService, exchange: Exchange) -> None:
    """The upstreams of the resources first, then what every server does. A URI that the caller does not see is one that
    nobody has: it is left out of what is granted, as another's subscription to it would be heard here, too."""
    params = exchange.call.params
    wanted = params.get("notifications") if isinstance(params, dict) else None
    uris = wanted.get("resourceSubscriptions") if isinstance(wanted, dict) else None
    caller = service.caller_of(exchange)
    followers = service.gateway.followers
    missing: set[str] = set()
    try:
        if isinstance(uris, list):
            for uri in uris[: service.gateway.limits.subscription_count_max]:
                if isinstance(uri, str):
                    try:
                        await followers.follow(exchange, uri, exchange, caller)
                    except ResourceNotFoundError:
                        missing.add(uri)
                    except McpError:
                        pass  # Who refuses to tell of a changing resource still has it.
        if not exchange.done:
            service.listen(exchange, missing)
    finally:
        if exchange.ended is None:
            followers.leave(exchange)
