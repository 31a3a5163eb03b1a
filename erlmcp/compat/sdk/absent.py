"""What of the SDK's server an app may look for in vain, and what there is instead."""

# Overriding these would change nothing.
NOT_CALLED = frozenset(
    {
        "call_tool",
        "get_prompt",
        "list_prompts",
        "list_resource_templates",
        "list_resources",
        "list_tools",
        "read_resource",
    }
)
_NO_LOW_LEVEL = "there is no low-level server; ``kernel`` is our own, an erlmcp.Server"
_NO_MANAGER = "what is registered is in ``kernel.describe()``; add and remove it by the public methods"
INNER = {
    "_lowlevel_server": _NO_LOW_LEVEL,
    "_mcp_server": _NO_LOW_LEVEL,
    "_tool_manager": _NO_MANAGER,
    "_resource_manager": _NO_MANAGER,
    "_prompt_manager": _NO_MANAGER,
    "_custom_starlette_routes": "the custom routes are in ``routes``",
}
