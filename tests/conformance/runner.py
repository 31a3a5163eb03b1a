"""Runs the official conformance suite against examples/everything.py, also through our gateway, against a server
written for the official Python SDK (through the gateway, by its façade, and accelerated), and against our client, and
judges its results.

    python tests/conformance/runner.py --erlmcp .venv/bin/erlmcp --node NODE --suite INDEX.JS

Of the two frozen requirement sets the server's scenarios are run whole and the client's one by one; then scenarios that
no set requires, of which those that are not built are listed. A run fails on any failed check of a
scenario that counts, on a scenario that did not run, and where fewer scenarios passed than the sets hold; a client's
scenario on a warning too. The gateway stands before the same server, reached by HTTP and by stdio, in the era that a
set is of, and for the older set in the newer era as well. What is written for the SDK has to pass the sets, and
whatever else the SDK's own server passes with it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parents[2]
FIXTURE = ROOT / "examples/everything.py"
SDK_SERVER = str(Path(__file__).with_name("sdk_server.py"))
STOCK, FACADE = "mcp.server.mcpserver", "erlmcp.compat.sdk"
SDK_FIXTURE = str(Path(__file__).with_name("sdk_everything.py"))
CLIENT = [sys.executable, str(Path(__file__).with_name("client.py"))]
# Requirement set -> the number of server scenarios in it (suite 0.2.0-alpha.12), and of client scenarios.
REQUIRED = {"2025-11-25": 30, "2026-07-28": 37}
REQUIRED_OF_CLIENT = {"2025-11-25": 18, "2026-07-28": 32}
NOT_BUILT = ("auth/dpop", "auth/dpop-nonce")
# Scenario -> the revisions at which it is run besides.
EXTRA = {
    "http-header-validation": ["2026-07-28"],
    "http-custom-header-server-validation": ["2026-07-28"],
    "server-session-lifecycle": ["2025-03-26", "2025-06-18", "2025-11-25"],
    "server-sse-polling": ["2025-11-25"],
    "json-schema-2020-12": ["2025-11-25", "2026-07-28"],
}
# The sets that are run through the gateway, each with the era in which its upstream is spoken to.
THROUGH = [("2025-11-25", "legacy"), ("2026-07-28", "2026-07-28"), ("2025-11-25", "2026-07-28")]
EXTRA_OF_CLIENT = {
    "json-schema-2020-12-preservation": ["2025-11-25", "2026-07-28"],
    "auth/2025-03-26-oauth-metadata-backcompat": ["2025-03-26"],
    "auth/2025-03-26-oauth-endpoint-fallback": ["2025-03-26"],
    # Of extensions, which belong to no revision.
    "auth/client-credentials-jwt": [""],
    "auth/client-credentials-basic": [""],
    "auth/enterprise-managed-authorization": [""],
    "auth/wif-jwt-bearer": [""],
}
START_TIMEOUT_S = 30.0
RUN_TIMEOUT_S = 600.0


@dataclass
class Verdict:
    """What one run of the suite found."""

    name: str
    passed: int
    failed: list[str]
    said: str

    @property
    def is_fine(self) -> bool:
        return not self.failed and self.passed > 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_up(url: str, server: subprocess.Popen[bytes]) -> None:
    """Any HTTP answer means that the server is there."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            sys.exit(f"the server ended with code {server.returncode} before it was reachable")
        try:
            urlopen(url, timeout=2).close()
            return
        except HTTPError as answer:
            answer.close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"the server was not reachable at {url} within {START_TIMEOUT_S} s")


def required_scenarios(suite: str, revision: str, leg: str) -> list[str]:
    """The scenarios that a revision's frozen list holds for a server or a client; the package carries it as YAML."""
    text = (Path(suite).parents[1] / "requirements" / f"{revision}.yaml").read_text(encoding="utf-8")
    section = re.search(rf"^{leg}:\n((?:[ #].*\n|\n)*)", text, re.M)
    return re.findall(r"^  - ([\w/-]+)$", section[1], re.M) if section else []


def read_checks(folder: Path) -> dict[str, Counter[str]]:
    """Scenario -> how many checks ended with each status, from ``server-SCENARIO-TIME/checks.json``."""
    found: dict[str, Counter[str]] = {}
    for path in sorted(folder.rglob("checks.json")):
        name = re.sub(r"-\d{4}-\d\d-\d\dT[\d-]+Z$", "", path.parent.name).removeprefix("server-")
        checks = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault(name, Counter()).update(check["status"] for check in checks)
    return found


def run_suite(node: str, suite: str, leg: Sequence[str], folder: Path, *arguments: str) -> tuple[int, str]:
    """``leg``: which side is judged, and how it is reached."""
    command = [node, suite, *leg, "-o", str(folder), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
    )
    return done.returncode, done.stdout + done.stderr


def judge_set(node: str, suite: str, leg: Sequence[str], folder: Path, revision: str) -> Verdict:
    """Run a whole set: each scenario of the frozen list must have run, with a success and without a failure."""
    code, said = run_suite(node, suite, leg, folder, "--requirements", revision)
    wanted = required_scenarios(suite, revision, "server")
    checks = read_checks(folder)
    failed = []
    for name in wanted:
        count = checks.get(name, Counter())
        if count["FAILURE"] or not count["SUCCESS"]:
            failed.append(f"{name}: {count['SUCCESS']} passed, {count['FAILURE']} failed")
    passed = len(wanted) - len(failed)
    if len(wanted) != REQUIRED[revision]:
        failed.append(f"the frozen list holds {len(wanted)} scenarios, expected {REQUIRED[revision]}")
    if code and not failed:
        failed = [f"the suite ended with code {code}"]
    return Verdict(f"requirements {revision}", passed, failed, said)


def judge_scenario(node: str, suite: str, leg: Sequence[str], folder: Path, scenario: str, revision: str) -> Verdict:
    """Run one scenario; any failed check fails it, and so does a scenario without a successful one."""
    version = ["--spec-version", revision] if revision else []
    code, said = run_suite(node, suite, leg, folder, "--scenario", scenario, *version)
    count = sum(read_checks(folder).values(), Counter())
    failed = [f"{count['FAILURE']} failed checks"] if count["FAILURE"] else []
    if code and not failed:
        failed = [f"the suite ended with code {code}"]
    return Verdict(f"{leg[0]} {scenario} {revision}", count["SUCCESS"], failed, said)


def judge_server(node: str, suite: str, url: str, folder: Path) -> list[Verdict]:
    leg = ["server", "--url", url]
    verdicts = [judge_set(node, suite, leg, folder / revision, revision) for revision in REQUIRED]
    for scenario, revisions in EXTRA.items():
        for revision in revisions:
            place = folder / f"{scenario}-{revision}"
            verdicts.append(judge_scenario(node, suite, leg, place, scenario, revision))
    return verdicts


@contextlib.contextmanager
def started(*command: str, url: str, is_others: bool = False) -> Iterator[None]:
    """A server that is there, until the end; one that does not end well on SIGTERM ends the run. One of others' may end
    and say what it likes."""
    said = subprocess.DEVNULL if is_others else None
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    try:
        wait_until_up(url, server)
        yield
    finally:
        server.terminate()
        server.wait(timeout=30)
    if server.returncode and not is_others:
        sys.exit(f"{' '.join(command[:3])} ended with code {server.returncode} on SIGTERM")


def judge_gateway(
    erlmcp: str, node: str, suite: str, ways: dict[str, Any], folder: Path, pairings: Sequence[tuple[str, str]]
) -> list[Verdict]:
    """The required sets through the gateway, before each of ``ways``: entries of its file."""
    verdicts = []
    for way, entry in ways.items():
        for revision, mode in pairings:
            place = folder / f"gateway-{way}-{revision}-{mode}"
            place.mkdir(parents=True)
            config = place / "mcp.json"
            entry = {**entry, "prefix": False, "mode": mode}
            config.write_text(json.dumps({"mcpServers": {"everything": entry}}), encoding="utf-8")
            port = free_port()
            url = f"http://localhost:{port}/mcp"
            command = (erlmcp, "gateway", str(config), "--host", "localhost", "--port", str(port))
            with started(*command, "--log-level", "warning", url=url):
                verdict = judge_set(node, suite, ["server", "--url", url], place / "results", revision)
            verdict.name = f"gateway to {way}, {mode}: {verdict.name}"
            verdicts.append(verdict)
    return verdicts


def judge_sdk(erlmcp: str, node: str, suite: str, folder: Path) -> list[Verdict]:
    """One server that is written for the official Python SDK: through the gateway, by the façade, and accelerated at
    both levels. All but the gateway must pass what the SDK's own HTTP server passes with it, too."""
    port = free_port()
    url = f"http://localhost:{port}/mcp"
    with started(sys.executable, "-W", "ignore", SDK_SERVER, STOCK, str(port), url=url, is_others=True):
        stock = judge_server(node, suite, url, folder / "sdk")
        # A tool of the SDK's asks its client within a call in the older era alone: no gateway can mend that.
        verdicts = judge_gateway(erlmcp, node, suite, {"mcp 2": {"url": url}}, folder, THROUGH[:2])
    ways = {"façade": (sys.executable, "-W", "ignore", SDK_SERVER, FACADE)}
    for level in ("l1", "l3"):
        served = (erlmcp, "serve", SDK_FIXTURE, "--log-level", "error", "--port")
        ways[f"accelerated ({level})"] = ("env", f"ERLMCP_ACCEL={level}", *served)
    for way, command in ways.items():
        port = free_port()
        url = f"http://localhost:{port}/mcp"
        with started(*command, str(port), url=url):
            ours = judge_server(node, suite, url, folder / f"sdk-{way}")
        verdicts += [as_good(way, *pair) for pair in zip(stock, ours, strict=True)]
    return verdicts


def as_good(way: str, stock: Verdict, ours: Verdict) -> Verdict:
    """A required set has to be passed, and whatever else the SDK passes."""
    failed = ours.failed if ours.name.startswith("requirements") or stock.is_fine else []
    if ours.passed < stock.passed:
        failed = [*failed, f"{ours.passed} passed, {stock.passed} by the SDK's own server"]
    return Verdict(f"{way}: {ours.name}", ours.passed, failed, ours.said)


def judge_client(node: str, suite: str, folder: Path) -> list[Verdict]:
    """Each required scenario, of which the number must be as it was, and what no set requires."""
    leg = ["client", "--command", shlex.join(CLIENT)]
    verdicts = []
    runs = [(name, revision) for name, revisions in EXTRA_OF_CLIENT.items() for revision in revisions]
    for revision, count in REQUIRED_OF_CLIENT.items():
        wanted = required_scenarios(suite, revision, "client")
        if len(wanted) != count:
            wrong = f"the frozen list holds {len(wanted)} client scenarios, expected {count}"
            verdicts.append(Verdict(f"client requirements {revision}", 0, [wrong], ""))
        runs += [(name, revision) for name in wanted]
    print(f"not built  client: {', '.join(NOT_BUILT)}", flush=True)
    for scenario, revision in runs:
        place = folder / f"client-{scenario}-{revision}"
        verdicts.append(judge_scenario(node, suite, leg, place, scenario, revision))
    return verdicts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--erlmcp", required=True, help="the command erlmcp")
    parser.add_argument("--node", required=True, help="node, 22 or newer")
    parser.add_argument("--suite", required=True, help="dist/index.js of the conformance package")
    parser.add_argument("--results", type=Path, help="folder for the suite's files (default: a temporary one)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.results or Path(temporary)
        port = free_port()
        url = f"http://localhost:{port}/mcp"
        command = [options.erlmcp, "serve", str(FIXTURE), "--port", str(port), "--log-level", "warning"]
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        try:
            wait_until_up(url, server)
            verdicts = judge_server(options.node, options.suite, url, folder)
            ways = {"http": {"url": url}, "stdio": {"command": options.erlmcp, "args": ["run", str(FIXTURE)]}}
            verdicts += judge_gateway(options.erlmcp, options.node, options.suite, ways, folder, THROUGH)
        finally:
            server.terminate()
            server.wait(timeout=30)
        verdicts += judge_sdk(options.erlmcp, options.node, options.suite, folder)
        verdicts += judge_client(options.node, options.suite, folder)
    return report(verdicts, server.returncode)


def report(verdicts: list[Verdict], code: int) -> int:
    for verdict in verdicts:
        print(f"{'passed' if verdict.is_fine else 'FAILED'}  {verdict.name} ({verdict.passed})")
        if not verdict.is_fine:
            print("\n".join(["", *verdict.failed, verdict.said[-6000:], ""]))
    if code != 0:
        print(f"FAILED  the server ended with code {code} on SIGTERM")
    return 0 if code == 0 and all(verdict.is_fine for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
