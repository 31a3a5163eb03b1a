"""Many MCP servers behind one endpoint. ``erlmcp.gateway.app.Gateway`` is the whole; docs/gateway.md is its page."""
