"""Small things that apps import."""

# Modules that a program names itself.
SHELF = ("erlmcp.compat.fastmcp.utilities.types", "erlmcp.compat.fastmcp.utilities.logging")
