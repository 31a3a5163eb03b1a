"""completion/complete: suggestions for the arguments of prompts and the variables of resource templates."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from erlmcp.errors import InvalidParamsError

if TYPE_CHECKING:
    from erlmcp.server.app import Server
    from erlmcp.server.context import Context

VALUE_COUNT_MAX = 100  # completion.values holds at most 100 items (spec: server/utilities/completion).


async def complete(server: Server, context: Context) -> dict[str, Any]:
    """The result of a completion request; an argument that nobody completes has no suggestions."""
    params = context.params
    reference, argument = params.get("ref"), params.get("argument")
    if not isinstance(reference, dict) or not isinstance(argument, dict):
        raise InvalidParamsError("Invalid params: completion needs ref and argument")
    name, value = argument.get("name"), argument.get("value")
    if not isinstance(name, str) or not isinstance(value, str):
        raise InvalidParamsError("Invalid params: argument needs a name and a value, both strings")
    kind = reference.get("type")
    target = reference.get("name") if kind == "ref/prompt" else reference.get("uri") if kind == "ref/resource" else None
    if not isinstance(target, str):
        raise InvalidParamsError("Invalid params: ref must be a ref/prompt with a name or a ref/resource with a uri")
    known = (server.prompts,) if kind == "ref/prompt" else (server.templates, server.resources)
    if not any(target in each for each in known):
        raise InvalidParamsError(f"Unknown {'prompt' if kind == 'ref/prompt' else 'resource template'}: {target}")
    chosen = params.get("context")
    given = chosen.get("arguments") if isinstance(chosen, dict) else None
    complete_one = server.completions.get((target, name)) or server.completions.get((target, None))
    if complete_one is None:
        return {"completion": {"values": [], "total": 0, "hasMore": False}}
    values = complete_one(value, given if isinstance(given, dict) else {})
    if inspect.isawaitable(values):
        values = await values
    found = [str(each) for each in values]
    return {
        "completion": {
            "values": found[:VALUE_COUNT_MAX],
            "total": len(found),
            "hasMore": len(found) > VALUE_COUNT_MAX,
        }
    }
