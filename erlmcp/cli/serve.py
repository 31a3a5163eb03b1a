"""``erlmcp serve``: HTTP, raw TCP, a Unix socket, or stdin and stdout."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from erlmcp.cli.fault import CANNOT_REACH, CommandError
from erlmcp.cli.load import load_server, split_target
from erlmcp.cli.setting import apply_limits, show_metrics, start_logging
from erlmcp.errors import ConfigurationError

if TYPE_CHECKING:
    import ssl

    from erlmcp.server.app import Server


WORKERS_MAX = 1000


def run(options: argparse.Namespace) -> int:
    elsewhere = [name for name in ("unix", "tcp", "stdio") if getattr(options, name)]
    if len(elsewhere) > 1:
        raise CommandError(f"--{elsewhere[0]} and --{elsewhere[1]} exclude each other; start one process for each")
    check_http(options, f"--{elsewhere[0]}" if elsewhere else None)
    if options.reload and options.stdio:
        raise CommandError("--reload would leave the client of --stdio with a server that never met it; use HTTP")
    is_worker = "ERLMCP_WORKER" in os.environ
    if options.workers != 1 and not is_worker:
        return _work(options)
    if options.reload:
        return _reload(options)
    apply_limits(options.limit)
    start_logging(options.log_level, options.log_format)
    # With --stdio stdout belongs to the protocol: what the file prints while it is imported goes to stderr.
    with contextlib.redirect_stdout(sys.stderr) if options.stdio else contextlib.nullcontext():
        server = load_server(options.target, options.module, keep_traceback=options.traceback)
    if options.dual_stack:
        server.rollout("stack", old=server.baseline())
    if is_worker:
        from erlmcp.server.worker import Place, Worker

        place = Place.from_environment()
        server.worker, options.port = Worker(place), place.port
    show_metrics(server, options)
    if options.control:
        server.control_path = control_path(options.control)
        print(f"erlmcp: control socket {server.control_path}", file=sys.stderr, flush=True)
    try:
        _serve(server, options)
    except OSError as error:
        where = options.tcp or options.unix or f"{options.host}:{options.port}"
        raise explain(error, where, "--tcp" if options.tcp else "--unix" if options.unix else "--port") from error
    return 0


def _serve(server: Server, options: argparse.Namespace) -> None:
    if options.stdio:
        server.run_stdio()
    elif options.tcp:
        host, port = read_address(options.tcp)
        server.run_tcp(host, port)
    elif options.unix:
        server.run_unix(options.unix)
    else:
        server.run_http(options.host, options.port, options.path, tls=make_tls(options), http2=options.http2)


def check_http(options: argparse.Namespace, elsewhere: str | None = None) -> None:
    """CommandError where what is said of HTTP does not go together; ``elsewhere`` is the option by which something else
    is served."""
    wanted = {
        "--tls-cert": options.tls_cert,
        "--tls-key": options.tls_key,
        "--tls-client-ca": options.tls_client_ca,
        "--http2": options.http2,
    }
    given = [name for name, value in wanted.items() if value]
    if given and elsewhere is not None:
        raise CommandError(f"{', '.join(given)}: for HTTP alone, not for {elsewhere}")
    if options.tls_cert is None and (options.tls_key or options.tls_client_ca):
        raise CommandError(f"{given[0]} needs --tls-cert: there is no TLS without a certificate of our own")
    if options.http2 and find_spec("h2") is None:
        raise CommandError("--http2 needs the package h2: pip install 'erlmcp[http2]'")


def make_tls(options: argparse.Namespace) -> ssl.SSLContext | None:
    from erlmcp.server.tls import make_server_context

    if options.tls_cert is None:
        return None
    try:
        return make_server_context(options.tls_cert, options.tls_key, options.tls_client_ca)
    except ConfigurationError as error:
        raise CommandError(str(error)) from error


def control_path(text: str) -> str:
    """The path of the control socket; "auto" is one by the process's number where only this user may look."""
    if text != "auto":
        return text
    folder = os.environ.get("XDG_RUNTIME_DIR")
    if not folder:
        raise CommandError("--control auto needs XDG_RUNTIME_DIR; give a path instead")
    return os.path.join(folder, f"erlmcp-{os.getpid()}.sock")


def read_address(text: str) -> tuple[str, int]:
    """``"127.0.0.1:9000"`` or ``"[::1]:9000"`` -> host and port."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise CommandError(f"--tcp {text}: expected HOST:PORT, for instance 127.0.0.1:9000")
    return host.strip("[]") or "127.0.0.1", int(port)


def explain(error: OSError, where: str, option: str) -> CommandError:
    """Why nobody can listen there; ``option`` is the one that says where."""
    if error.errno == errno.EADDRINUSE:
        return CommandError(f"{where} is in use by another process; choose another with {option}", CANNOT_REACH)
    if error.errno in (errno.EACCES, errno.EPERM):
        mend = (
            "a port below 1024 needs rights, choose a higher one"
            if option != "--unix"
            else "choose a path you may write"
        )
        return CommandError(f"{where} may not be used: {error.strerror}; {mend} with {option}", CANNOT_REACH)
    if error.errno == errno.EADDRNOTAVAIL or type(error).__name__ == "gaierror":
        return CommandError(f"{where} is not an address of this machine; choose one with --host", CANNOT_REACH)
    return CommandError(f"cannot listen on {where}: {error.strerror or error}", CANNOT_REACH)


def _work(options: argparse.Namespace) -> int:
    """Serve by several processes."""
    others = {
        "--reload": options.reload,
        "--unix": options.unix,
        "--tcp": options.tcp,
        "--stdio": options.stdio,
        "--control": options.control,
        "--metrics-port 0": options.metrics_port == 0,
    }
    given = [name for name, value in others.items() if value]
    if given:
        raise CommandError(f"--workers {options.workers} goes without {', '.join(given)}")
    if not 1 <= options.workers <= WORKERS_MAX:
        raise CommandError(f"--workers {options.workers}: expected 1 to {WORKERS_MAX}")
    from erlmcp.cli.workers import Supervisor, reserve

    try:
        reserved = reserve(options.host, options.port)
    except OSError as error:
        raise explain(error, f"{options.host}:{options.port}", "--port") from error
    with reserved:
        return Supervisor(command_again(), options.workers, reserved.getsockname()[1]).run()


def command_again() -> list[str]:
    """How this process was started: "-m" would look into the current folder first, the script does not."""
    started = ["-m", "erlmcp"] if os.path.basename(sys.argv[0]) == "__main__.py" else [sys.argv[0]]
    return [sys.executable, *started, *sys.argv[1:]]


def _reload(options: argparse.Namespace) -> int:
    from erlmcp.cli.reload import Reloader

    place, _ = split_target(options.target or "")
    folder = Path(place).resolve().parent if options.target else Path.cwd()
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    return Reloader([word for word in command_again() if word != "--reload"], folder).run()
