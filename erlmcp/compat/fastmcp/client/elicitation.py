"""What an elicitation handler gives."""

from erlmcp.compat.fastmcp.client.client import ElicitResult

__all__ = ["ElicitResult"]
