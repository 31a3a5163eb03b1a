"""The protocol's objects, by the names that ``mcp_types`` (mcp 2) and ``mcp.types`` (mcp 1) have for them."""

from __future__ import annotations

from typing import Any

from erlmcp.compat.sdk.record import Record


class Annotations(Record, fields="audience priority last_modified"): ...


class ToolAnnotations(Record, fields="title read_only_hint destructive_hint idempotent_hint open_world_hint"): ...


class Icon(Record, fields="src mime_type sizes theme"): ...


class Block(Record):
    """A content block."""

    def to_content(self) -> dict[str, Any]:
        return self.model_dump(by_alias=True, exclude_none=True)


class TextContent(Block, fields="type text annotations", annotations=Annotations, fixed={"type": "text"}): ...


class ImageContent(
    Block, fields="type data mime_type annotations", annotations=Annotations, fixed={"type": "image"}
): ...


class AudioContent(
    Block, fields="type data mime_type annotations", annotations=Annotations, fixed={"type": "audio"}
): ...


class ResourceContents(Record, fields="uri mime_type"): ...


class TextResourceContents(ResourceContents, fields="text"): ...


class BlobResourceContents(ResourceContents, fields="blob"): ...


def contents_from(wire: Any) -> Any:
    """One entry of ``contents`` from the wire."""
    return (BlobResourceContents if "blob" in wire else TextResourceContents).model_validate(wire)


class EmbeddedResource(
    Block,
    fields="type resource annotations",
    resource=contents_from,
    annotations=Annotations,
    fixed={"type": "resource"},
): ...


class ResourceLink(
    Block,
    fields="type uri name title description mime_type size icons annotations",
    icons=Icon,
    fixed={"type": "resource_link"},
): ...


class ToolUseContent(Record, fields="type id name input", fixed={"type": "tool_use"}): ...


class ToolResultContent(
    Record, fields="type tool_use_id content structured_content is_error", fixed={"type": "tool_result"}
): ...


BLOCKS: dict[str, Any] = {
    "text": TextContent,
    "image": ImageContent,
    "audio": AudioContent,
    "resource": EmbeddedResource,
    "resource_link": ResourceLink,
    "tool_use": ToolUseContent,
    "tool_result": ToolResultContent,
}


def block_from(wire: Any) -> Any:
    """A content block from the wire; one of an unknown type as it came."""
    kind = BLOCKS.get(wire.get("type"))
    return wire if kind is None else kind.model_validate(wire)


class CallToolResult(
    Record,
    fields="content structured_content is_error result_type",
    content=block_from,
    fixed={"content": [], "isError": False},
):
    """A tool's whole result."""


class Tool(
    Record,
    fields="name title description input_schema output_schema annotations icons execution",
    annotations=ToolAnnotations,
    icons=Icon,
): ...


class Resource(
    Record,
    fields="uri name title description mime_type size icons annotations",
    annotations=Annotations,
    icons=Icon,
): ...


class ResourceTemplate(
    Record,
    fields="uri_template name title description mime_type icons annotations",
    annotations=Annotations,
    icons=Icon,
): ...


class PromptArgument(Record, fields="name title description required"): ...


class Prompt(Record, fields="name title description arguments icons", arguments=PromptArgument, icons=Icon): ...


class PromptMessage(Record, fields="role content", content=block_from): ...


class GetPromptResult(Record, fields="description messages result_type", messages=PromptMessage): ...


class ReadResourceResult(Record, fields="contents ttl_ms cache_scope result_type", contents=contents_from): ...


class Listed(Record, fields="next_cursor ttl_ms cache_scope result_type"):
    """One page of a list."""


class ListToolsResult(Listed, fields="tools", tools=Tool): ...


class ListResourcesResult(Listed, fields="resources", resources=Resource): ...


class ListResourceTemplatesResult(Listed, fields="resource_templates", resource_templates=ResourceTemplate): ...


class ListPromptsResult(Listed, fields="prompts", prompts=Prompt): ...


class EmptyResult(Record, fields="result_type"): ...


class Completion(Record, fields="values total has_more"): ...


class CompleteResult(Record, fields="completion result_type", completion=Completion): ...


class CompletionArgument(Record, fields="name value"): ...


class CompletionContext(Record, fields="arguments"): ...


class PromptReference(Record, fields="type name title", fixed={"type": "ref/prompt"}): ...


class ResourceTemplateReference(Record, fields="type uri", fixed={"type": "ref/resource"}): ...


class SamplingMessage(Record, fields="role content", content=block_from): ...


class CreateMessageResult(Record, fields="role content model stop_reason result_type", content=block_from): ...


class Root(Record, fields="uri name"): ...


class ListRootsResult(Record, fields="roots result_type", roots=Root): ...


class ElicitResult(Record, fields="action content result_type"): ...


class Params(Record, fields=""):
    """The params of a request, of whatever names."""

    is_open = True


class ElicitRequestFormParams(Record, fields="mode message requested_schema", fixed={"mode": "form"}): ...


class ElicitRequestURLParams(Record, fields="mode message url elicitation_id", fixed={"mode": "url"}): ...


class Request(Record, fields="method params"):
    """A question to the client."""


class ElicitRequest(Request, fixed={"method": "elicitation/create"}): ...


class CreateMessageRequestParams(
    Record,
    fields="messages max_tokens system_prompt include_context temperature stop_sequences metadata model_preferences "
    "tools tool_choice",
): ...


class CreateMessageRequest(Request, fixed={"method": "sampling/createMessage"}): ...


class ListRootsRequest(Request, fixed={"method": "roots/list"}): ...


class InputRequiredResult(
    Record, fields="input_requests request_state result_type", fixed={"resultType": "input_required"}
):
    """Ask the client first: the call is made again with the answers (2026-07-28)."""


class Implementation(Record, fields="name version title description website_url icons", icons=Icon): ...


class ModelPreferences(Record, fields="hints cost_priority speed_priority intelligence_priority"): ...


class ModelHint(Record, fields="name"): ...


class LoggingMessageNotificationParams(Record, fields="level logger data"): ...


class ErrorData(Record, fields="code message data"): ...


class Capabilities(Record, fields=""):
    """What a client or a server offers, of whatever names."""

    is_open = True

    def __getattr__(self, name: str) -> Any:
        try:
            found = super().__getattr__(name)
        except AttributeError:
            if name.startswith("__"):
                raise
            return None
        return Capabilities.model_validate(found) if isinstance(found, dict) else found


class ClientCapabilities(Capabilities): ...


class ServerCapabilities(Capabilities): ...


class RequestParamsMeta(Params):
    """The ``_meta`` of a request."""
