"""Floor 4: what the author of an MCP server sees."""
