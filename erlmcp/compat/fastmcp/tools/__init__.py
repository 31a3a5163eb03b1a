"""Tools, and what they give."""

from erlmcp.compat.fastmcp.tools.base import InputRequiredToolResult, Tool, ToolResult
from erlmcp.compat.fastmcp.tools.function_tool import FunctionTool, tool
from erlmcp.compat.fastmcp.tools.tool_transform import forward, forward_raw

__all__ = ["FunctionTool", "InputRequiredToolResult", "Tool", "ToolResult", "forward", "forward_raw", "tool"]
