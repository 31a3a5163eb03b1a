"""Floor 1: the words of MCP (versions, methods, keys, shapes of results) without behaviour."""
