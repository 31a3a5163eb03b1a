"""A server over stdio with bad manners, by the words of its command line. Standard library only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

MODERN = "2026-07-28"


def say(message: object) -> None:
    data = message if isinstance(message, str) else json.dumps(message)
    sys.stdout.write(data + "\n")
    sys.stdout.flush()


def answer(request: dict, result: dict) -> None:
    say({"jsonrpc": "2.0", "id": request["id"], "result": {"resultType": "complete", **result}})


def text(value: str) -> dict:
    return {"content": [{"type": "text", "text": value}]}


def discover(request: dict) -> None:
    answer(request, {"supportedVersions": [MODERN], "capabilities": {"tools": {}}, "ttlMs": 0, "cacheScope": "private"})


def main() -> None:
    manners = set(sys.argv[1:])
    sys.stderr.write("rude: good morning\n")
    if "dies-at-start" in manners:
        sys.stderr.write("rude: no licence found\n")
        sys.exit(3)
    if "noise" in manners:
        say("Server listening on stdio!")
        say("")
        say("[1, 2")
    if "child" in manners:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        sys.stderr.write(f"child {child.pid}\n")
        sys.stderr.flush()
    if "ignores-term" in manners:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for line in sys.stdin:
        request = json.loads(line)
        method = request.get("method")
        if method == "server/discover":
            if "exits-at-unknown" in manners:
                sys.exit(1)
            if "legacy" in manners:
                say({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32601, "message": "what?"}})
            else:
                discover(request)
        elif method == "initialize":
            result = {"protocolVersion": request["params"]["protocolVersion"], "capabilities": {"tools": {}}}
            answer(request, {**result, "serverInfo": {"name": "rude", "version": "1"}})
        elif method == "tools/call":
            call(request, manners)
        elif method == "ping":
            answer(request, {})
    if "hangs-on-exit" in manners or "ignores-term" in manners:
        time.sleep(600)


def call(request: dict, manners: set[str]) -> None:
    name = request["params"]["name"]
    if name == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif name == "half":
        sys.stdout.write('{"jsonrpc":"2.0","id":')
        sys.stdout.flush()
        os._exit(9)
    elif name == "answer_and_die":
        answer(request, text("last words"))
        os._exit(0)
    elif name == "mute":
        pass
    elif name == "close":
        os.close(1)
    elif name == "deaf":
        os.close(0)
        answer(request, text("I hear nothing any more"))
        time.sleep(600)
    elif name == "slow_reader":
        answer(request, text("busy"))
        time.sleep(600)
    elif name == "environment":
        answer(request, text(",".join(sorted(os.environ))))
    else:
        answer(request, text(name))


if __name__ == "__main__":
    main()
