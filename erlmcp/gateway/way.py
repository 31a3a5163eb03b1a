"""From what a configuration says of a server to the way there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from erlmcp.client.bound import ClientLimits
    from erlmcp.client.channel import Channel
    from erlmcp.gateway.app import Gateway
    from erlmcp.gateway.config import Credential, UpstreamConfig


def channel_of(
    gateway: Gateway, config: UpstreamConfig, credential: Credential, limits: ClientLimits, index: int
) -> Channel:
    """A channel that is not open yet, with the credential; ``index`` is that of the replica."""
    flags = gateway.flags
    if config.kind == "http":
        from erlmcp.client.http import HttpChannel

        url = config.urls[index] if config.urls else config.url
        return HttpChannel(url, headers={**config.headers, **credential.headers}, flags=flags)
    if config.kind == "stdio":
        from erlmcp.client.process import ProcessChannel

        env = {**config.env, **credential.env}
        return ProcessChannel(
            config.command, env=env, inherit_env=config.inherit_env, cwd=config.cwd, limits=limits, flags=flags
        )
    if config.kind == "server":
        from erlmcp.client.memory import MemoryChannel

        return MemoryChannel(gateway.server_of(config), objects=False, limits=limits, flags=flags)
    from erlmcp.client.stream import StreamChannel

    if config.kind == "unix":
        return StreamChannel(path=config.address, limits=limits, flags=flags)
    host, _, port = config.address.rpartition(":")
    return StreamChannel(host.strip("[]"), int(port), limits=limits, flags=flags)
