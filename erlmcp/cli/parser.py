"""What can be typed after ``erlmcp``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from erlmcp.cli import doctor
from erlmcp.flags import PHASES

EXIT_CODES = """exit codes:
  0    done
  1    the tool or the server answered with an error, or a call of a load test failed
  2    the command was written wrongly
  3    the server's file or object cannot be loaded
  4    an address cannot be used, a server cannot be reached, or it broke off
  130  interrupted
"""
TARGETS = """TARGET is one of
  FILE[:OBJECT]              a Python file, its server run in this process
  http://..., https://...    Streamable HTTP, or the older HTTP+SSE
  unix:PATH, tcp://HOST:PORT newline-delimited JSON-RPC
  FILE.json#NAME             an entry of mcpServers; #NAME may be left out where there is one
"""
POSITIVE_MAX = 1_000_000_000
TARGET_HELP = "a Python file, with the name of the server object after a colon where it is not server, mcp or app"


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of descriptions, and leaves the width to the terminal."""

    def __init__(self, prog: str, **given: Any) -> None:
        given.setdefault("max_help_position", 28)
        super().__init__(prog, **given)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="erlmcp",
        description="Serve, inspect and call MCP servers.",
        epilog=EXIT_CODES,
        formatter_class=HelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(commands)
    _add_serve(commands)
    _add_inspect(commands)
    doctor.add_parser(commands, _add_command, _add_target)
    _add_call(commands)
    _add_list(commands)
    _add_ping(commands)
    _add_flags(commands)
    _add_rollout(commands)
    _add_gateway(commands)
    _add_bridge(commands)
    _add_top(commands)
    _add_trace(commands)
    _add_version(commands)
    _add_bench(commands)
    return parser


def _add_command(commands: Any, name: str, summary: str, description: str = "") -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=description or summary[0].upper() + summary[1:] + ".",
        formatter_class=HelpFormatter,
    )
    parser.set_defaults(module_of_command=f"erlmcp.cli.{name}")
    parser.add_argument("--traceback", action="store_true", help="show the whole traceback of an error")
    return parser


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", nargs="?", metavar="FILE[:OBJECT]", help=TARGET_HELP)
    parser.add_argument("-m", "--module", metavar="MODULE[:OBJECT]", help="an importable module instead of a file")


def _add_serving(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--log-level",
        default="info",
        choices=["debug", "info", "warning", "error", "critical"],
        help="how much is said on stderr (default: info)",
    )
    parser.add_argument(
        "--log-format",
        default="text",
        choices=["text", "json"],
        help="a line or a JSON object a record (default: text)",
    )
    parser.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a limit, for instance body_bytes_max=1048576; may be repeated; docs/limits.md names them all",
    )
    _add_metrics(parser)


def _add_metrics(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--metrics-port",
        type=int,
        metavar="PORT",
        help="show metrics, health and the dashboard on a port of their own, too; 0 takes a free one (default: no)",
    )
    parser.add_argument(
        "--metrics-address", default="127.0.0.1", metavar="HOST", help="the address of that port (default: 127.0.0.1)"
    )


def _add_tls(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tls-cert", metavar="FILE", help="speak HTTPS with this certificate (PEM, with its chain)")
    parser.add_argument("--tls-key", metavar="FILE", help="its key (PEM), where that is not in the same file")
    parser.add_argument("--tls-client-ca", metavar="FILE", help="let in only clients with a certificate of these (PEM)")
    parser.add_argument(
        "--http2",
        action=argparse.BooleanOptionalAction,
        help="HTTP/2: by ALPN with TLS (default: where h2 is installed), without TLS by prior knowledge (default: not)",
    )


def _add_control(parser: argparse.ArgumentParser, users: str) -> None:
    parser.add_argument(
        "--control",
        metavar="PATH",
        help=f"a Unix socket that only this user can open, for {users} while it serves; "
        "auto: $XDG_RUNTIME_DIR/erlmcp-PID.sock (default: none)",
    )


def _add_run(commands: Any) -> None:
    parser = _add_command(
        commands,
        "run",
        "serve over stdin and stdout, as MCP clients start it",
        "Serve over stdin and stdout: what an MCP client puts in its configuration.",
    )
    _add_target(parser)
    _add_serving(parser)
    parser.set_defaults(log_level="warning")


def _add_serve(commands: Any) -> None:
    parser = _add_command(
        commands,
        "serve",
        "serve over HTTP, TCP, a Unix socket, or stdin and stdout",
        "Serve over HTTP (http://127.0.0.1:8080/mcp unless told otherwise), TCP, a Unix socket, or stdin and stdout.",
    )
    _add_target(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8080, help="port to listen on; 0 takes a free one (default: 8080)")
    parser.add_argument("--path", default="/mcp", help="path of the endpoint (default: /mcp)")
    parser.add_argument("--unix", metavar="PATH", help="newline-framed JSON-RPC on a Unix socket instead of HTTP")
    parser.add_argument("--tcp", metavar="HOST:PORT", help="newline-framed JSON-RPC on a TCP port instead of HTTP")
    parser.add_argument("--stdio", action="store_true", help="stdin and stdout instead of HTTP, as erlmcp run does")
    _add_tls(parser)
    _add_control(parser, "erlmcp flags and rollout")
    parser.add_argument(
        "--dual-stack",
        action="store_true",
        help="serve by the baseline (twins in Python, all flags off), and roll the compiled stack out beside it",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="serve HTTP by so many processes behind one port (default: 1)",
    )
    parser.add_argument("--reload", action="store_true", help="restart when a Python file beside FILE changes")
    _add_serving(parser)


def _add_inspect(commands: Any) -> None:
    parser = _add_command(commands, "inspect", "show what a server offers")
    _add_target(parser)
    parser.add_argument("--json", action="store_true", help="print the descriptors as JSON")


def _positive(kind: Callable[[str], Any], what: str) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if not 0 < value < POSITIVE_MAX:
            raise argparse.ArgumentTypeError(f"expected {what}, got {text!r}")
        return value

    return read


def _add_calling(parser: argparse.ArgumentParser, words: str) -> None:
    """A server to talk to: everything but the words that stand where the caller wants them."""
    parser.add_argument("words", nargs="*", metavar="WORD", help=words)
    where = parser.add_argument_group("instead of TARGET")
    where.add_argument("-m", "--module", metavar="MODULE[:OBJECT]", help="an importable module, in this process")
    where.add_argument("--command", dest="command_line", metavar="LINE", help="a program to start, with its arguments")
    where.add_argument("--config", metavar="FILE", help="a file with mcpServers; TARGET is the NAME of an entry then")
    parser.add_argument("--json", action="store_true", help="print the whole result as JSON")
    parser.add_argument(
        "--timeout",
        type=_positive(float, "seconds"),
        default=60.0,
        metavar="SECONDS",
        help="how long to wait for each answer (default: 60)",
    )
    parser.add_argument(
        "--header", action="append", default=[], metavar="NAME:VALUE", help="an HTTP header to send; may be repeated"
    )
    parser.add_argument(
        "--login", action="store_true", help="get the access token that a URL asks for, in the browser, and keep it"
    )
    parser.add_argument(
        "--mode", default="auto", help="auto, legacy (the handshake revisions) or a revision (default: auto)"
    )


def _add_load(parser: argparse.ArgumentParser) -> None:
    count = _positive(int, "a whole number above 0")
    parser.add_argument(
        "--repeat", type=count, metavar="N", help="so many times: a load test; with times and a histogram"
    )
    parser.add_argument(
        "--concurrency", type=count, metavar="N", help="so many at a time (1000 calls without --repeat)"
    )


def _add_call(commands: Any) -> None:
    parser = _add_command(
        commands,
        "call",
        "call one tool of a file or of a running server",
        "Call one tool and print what it returns.\n\n"
        "A value is read as JSON where it is JSON, and is a string otherwise:\n"
        "  erlmcp call examples/quickstart.py add a=1 b=2\n"
        "  erlmcp call http://127.0.0.1:8080/mcp add a=1 b=2\n"
        "  erlmcp call --command 'npx -y some-server' add a=1 b=2\n"
        "  erlmcp call mcp.json#quickstart add a=1 b=2 --repeat 10000 --concurrency 8\n\n" + TARGETS,
    )
    _add_calling(parser, "TARGET, then TOOL, then key=value ...")
    _add_load(parser)


def _add_list(commands: Any) -> None:
    parser = _add_command(
        commands,
        "list",
        "show what a running server offers",
        "List what a running server offers; inspect shows the same of a file, without running the server.\n\n"
        + TARGETS,
    )
    _add_calling(parser, "TARGET, then tools, resources, templates or prompts (default: all)")


def _add_ping(commands: Any) -> None:
    parser = _add_command(
        commands,
        "ping",
        "tell whether a server answers, what it is and how fast",
        "Tell whether a server answers, what it is and how long that takes.\n\n" + TARGETS,
    )
    _add_calling(parser, "TARGET")
    _add_load(parser)


def _add_flags(commands: Any) -> None:
    parser = _add_command(
        commands,
        "flags",
        "show every flag: its phase, default, value, and where the value comes from",
        "Show every flag: of this environment, or of a running server.",
    )
    parser.add_argument("--phase", choices=PHASES, help="as this phase has them, instead of as they are here")
    parser.add_argument("--control", metavar="PATH", help="of the server that was started with --control PATH")
    parser.add_argument(
        "--set", metavar="CHANGES", help="with --control: switch flags of that server, such as --set=-batching,+caching"
    )
    parser.add_argument("--json", action="store_true", help="print as JSON")


def _add_rollout(commands: Any) -> None:
    parser = _add_command(
        commands,
        "rollout",
        "show and move the roll-outs of a running server; or a demonstration of one",
        "Show and move the roll-outs of a running server.\n\n"
        "  status   what each got and gave, and what was decided\n"
        "  advance  one stage on, whatever the evidence\n"
        "  back     everything to the old side\n"
        "  demo     a slower and a wrong new side in a server of this process: both are caught",
    )
    parser.add_argument("action", choices=["status", "advance", "back", "demo"], metavar="ACTION")
    parser.add_argument("name", nargs="?", metavar="NAME", help="of the roll-out, where there are several")
    parser.add_argument("--control", metavar="PATH", help="of the server that was started with --control PATH")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def _add_listening(parser: argparse.ArgumentParser, *, port: int | None) -> None:
    shown = "8080, or what the file says" if port is None else str(port)
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=port, help=f"port; 0 takes a free one (default: {shown})")
    parser.add_argument("--path", help="path of the endpoint (default: /mcp)")
    parser.add_argument("--stdio", action="store_true", help="serve over stdin and stdout instead of HTTP")
    _add_tls(parser)


def _add_gateway(commands: Any) -> None:
    parser = _add_command(
        commands,
        "gateway",
        "put one endpoint in front of many servers",
        "Serve the servers of an mcpServers file as one.\n\n"
        "  erlmcp gateway mcp.json                  on http://127.0.0.1:8080/mcp\n"
        "  erlmcp gateway mcp.json --stdio          over stdin and stdout\n"
        "  erlmcp gateway check mcp.json            tell what is wrong with it, and start nothing\n"
        "  erlmcp gateway mcp.json --print-config   show what was read, without secrets\n"
        "  erlmcp gateway status --control PATH     each server of a gateway that runs: its state, and why\n\n"
        "An erlmcp.toml beside the file is read too; docs/gateway.md names every key.",
    )
    parser.add_argument("words", nargs="*", metavar="FILE", help="mcp.json, erlmcp.toml, or several of their kind")
    _add_listening(parser, port=None)
    parser.add_argument("--print-config", action="store_true", help="print the configuration as JSON, secrets masked")
    parser.add_argument("--no-watch", action="store_true", help="do not reload when a file changes; SIGHUP still does")
    parser.add_argument("--json", action="store_true", help="print the status as JSON")
    _add_control(parser, "erlmcp gateway status and erlmcp flags")
    _add_serving(parser)


def _add_bridge(commands: Any) -> None:
    parser = _add_command(
        commands,
        "bridge",
        "put a stdio server on HTTP, or an HTTP server on stdio",
        "Put one server on the other transport.\n\n"
        "  erlmcp bridge -- npx -y some-server         a program, served on http://127.0.0.1:8080/mcp\n"
        "  erlmcp bridge https://example.org/mcp       a URL, served over stdin and stdout\n\n" + TARGETS,
    )
    parser.add_argument(
        "words", nargs="+", metavar="TARGET", help="a URL, an entry of a file, or a program and its words"
    )
    _add_listening(parser, port=8080)
    parser.add_argument("--http", action="store_true", help="serve a URL on HTTP again, not over stdin and stdout")
    parser.add_argument(
        "--header", action="append", default=[], metavar="NAME:VALUE", help="an HTTP header to send; may be repeated"
    )
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="for the program's environment; may be repeated",
    )
    _add_serving(parser)


def _add_watching(parser: argparse.ArgumentParser, once: str) -> None:
    """A running server to look at."""
    parser.add_argument("url", metavar="URL", help="http://HOST:PORT of a server with metrics; a path is passed over")
    parser.add_argument("--token", help="what the server's metrics ask for (default: ERLMCP_METRICS_TOKEN)")
    parser.add_argument("--once", action="store_true", help=once)


def _add_top(commands: Any) -> None:
    parser = _add_command(
        commands,
        "top",
        "watch a running server in the terminal",
        "Watch a running server: rates, latencies, tools. The same is in the browser at /metrics/dashboard.",
    )
    _add_watching(parser, "show it once and end")
    parser.add_argument("--span", default="1m", choices=["1s", "1m", "5m", "1h"], help="time looked at (default: 1m)")
    orders = ["rate", "calls", "errors", "p50", "p95", "p99", "p999", "total", "failed"]
    parser.add_argument("--sort", default="calls", choices=orders, help="order of the tools (default: calls)")


def _add_trace(commands: Any) -> None:
    parser = _add_command(
        commands,
        "trace",
        "follow the calls of a running server",
        "Follow the calls of a running server, one line each, after those that it kept: failed and slow ones.",
    )
    _add_watching(parser, "end after the first one")
    parser.add_argument("--tool", metavar="NAME", help="only calls of this tool")
    parser.add_argument("--errors", action="store_true", help="only calls that failed")
    parser.add_argument("--slower-ms", type=float, default=0.0, metavar="MS", help="only calls that took so long")
    parser.add_argument("--json", action="store_true", help="print each as a JSON object")


def _add_version(commands: Any) -> None:
    parser = _add_command(commands, "version", "show versions, and whether the compiled core is in use")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def _add_bench(commands: Any) -> None:
    parser = _add_command(
        commands,
        "bench",
        "measure erlmcp: its parts, its phases, its flags, its server, its peers",
        "Measure erlmcp.\n\n"
        "  accel       servers of FastMCP and of the official SDK as they are, and accelerated\n"
        "  components  the parts, each beside its twin in Python and the libraries of its kind\n"
        "  phases      what each phase of the plan buys over the baseline\n"
        "  flags       what each single flag buys\n"
        "  peers       whole servers, one beside the other; with --libraries those of the components\n"
        "  clients     our client beside others, against one server in C\n"
        "  gateway     our gateway beside others, before one upstream\n"
        "  server      our server alone\n"
        "  overload    our server with more to do than it can\n"
        "  chaos       our server under load, with faults: what its healthy tools feel of them\n"
        "  simulate    the policies against trouble, in simulated time; with --plots as pictures\n"
        "  metrics     what recording costs: a server with metrics and two without, by turns\n"
        "  compare     two result files, or two builds run alternately: fails where the second is worse",
    )
    suites = ["accel", "components", "phases", "flags", "peers", "clients", "gateway", "server"]
    suites += ["overload", "chaos", "simulate", "iterators", "metrics", "compare"]
    parser.add_argument("suite", choices=suites, metavar="SUITE", help=", ".join(suites))
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="options of the suite; try --help")
