"""What a log handler gets: ``level``, ``data`` and ``logger``."""

from erlmcp.compat.fastmcp.server.middleware.middleware import Params as LogMessage

__all__ = ["LogMessage"]
