"""A server for the benchmarks of clients: what C reaches with as little as any client needs to be answered right."""

from typing import Any, Final

RESULTS: Final[dict[str, dict[str, Any]]]
"""What each method is answered with; any other is not found."""

def http(port: int) -> None:
    """Serve on 127.0.0.1 for as long as the process lives. Raises OSError where the port is taken."""

def stdio() -> None:
    """Serve on standard input and output until the input ends."""
