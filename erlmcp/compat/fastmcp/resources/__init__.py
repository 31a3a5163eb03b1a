"""Resources, templates, and what reading them gives."""

from erlmcp.compat.fastmcp.resources.base import (
    FunctionResource,
    Resource,
    ResourceContent,
    ResourceResult,
    resource,
)
from erlmcp.compat.fastmcp.resources.template import FunctionResourceTemplate, ResourceSecurity, ResourceTemplate
from erlmcp.compat.fastmcp.resources.types import (
    BinaryResource,
    DirectoryResource,
    FileResource,
    HttpResource,
    TextResource,
)

__all__ = [
    "BinaryResource",
    "DirectoryResource",
    "FileResource",
    "FunctionResource",
    "FunctionResourceTemplate",
    "HttpResource",
    "Resource",
    "ResourceContent",
    "ResourceResult",
    "ResourceSecurity",
    "ResourceTemplate",
    "TextResource",
    "resource",
]
