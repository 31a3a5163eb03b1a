"""A limit, not a server: what C reaches here with the least parsing that still answers each request by its id."""

def http(port: int) -> None:
    """Answer every HTTP/1.1 POST on 127.0.0.1 with one fixed body, until the process is ended. Raises OSError."""

def stdio() -> None:
    """Answer every line of the standard input with one fixed line, until the input ends."""
