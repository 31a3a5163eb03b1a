"""Our client: ``call_erlmcp.py http URL [CONNECTIONS|http2] | stdio COMMAND...``."""

# mypy: ignore-errors
from __future__ import annotations

import sys

from turn import TEXT, check, run, serve

from erlmcp import Client
from erlmcp.client.http import HttpChannel
from erlmcp.client.http_limit import HttpLimits


async def main(kind, *words):
    target = list(words)
    if kind == "http":
        url, how = words[0], words[1] if len(words) > 1 else "64"
        count = 1 if how == "http2" else int(how)
        channel = HttpChannel(url, http2=how == "http2", limits=HttpLimits(connection_count_max=count))
        target = channel
    async with Client(target) as client:

        async def call():
            check((await client.call_tool("echo", {"text": TEXT})).structured_content)

        def tell():
            channel = client.channel
            if kind == "stdio":
                return {"writes": channel.write_count}
            stats = channel.stats()
            return {"sent": stats["sent_total"], "opened": stats["opened_total"]}

        await serve(call, tell)


if __name__ == "__main__":
    run(main(*sys.argv[1:]))
