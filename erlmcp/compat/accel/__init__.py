"""Apps of the official SDK and of FastMCP as they are, on our transports and core (docs/accelerate.md)."""
