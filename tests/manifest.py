"""The rules of the protocol that erlmcp keeps, each with its source and its tests; and the gaps.

Sources name the page of the specification (modelcontextprotocol.io/specification) and the revision, or another
document. A test is "path::name" below tests/. ``test_manifest.py`` checks that every test is there.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """``id`` is ours and stays; ``text`` is the rule in short."""

    id: str
    source: str
    text: str
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Gap:
    """A rule, or a part of one, that is not kept, and why."""

    id: str
    source: str
    text: str
    why: str


SESSION = "server/test_session.py::"
SERVICE = "server/test_service.py::"
TOOL = "server/test_tool.py::"
CONTEXT = "server/test_context.py::"
INPUT = "server/test_input.py::"
LISTING = "server/test_listing.py::"
COMPLETION = "server/test_completion.py::"
LADDER = "wire/test_ladder.py::"
HEADER = "wire/test_header.py::"
PEER = "wire/test_peer.py::"
CONNECTION = "wire/test_connection.py::"
RANDOM = "runtime/test_random_conversations.py::"
HTTP = "transports/test_http_"
CLIENT = "client/test_client.py::"
QUESTIONS = "client/test_questions.py::"
SUBSCRIPTIONS = "client/test_subscriptions.py::"
FAULTS = "client/test_faults.py::"
PROCESS = "client/test_process.py::"
ANNOTATION = "client/test_annotation.py::"
OVER_HTTP = "client/http/test_http_"
GATEWAY = "gateway/test_"
MODERN, LEGACY = "2026-07-28", "2025-11-25"


def rule(id: str, source: str, text: str, *tests: str) -> Rule:
    return Rule(id, source, text, tests)


RULES = (
    # -- JSON-RPC -----------------------------------------------------------------------------------------------------
    rule(
        "rpc-one-answer",
        "JSON-RPC 2.0, 5",
        "Each request is answered exactly once.",
        RANDOM + "test_a_random_conversation_is_answered_and_leaves_nothing",
    ),
    rule(
        "rpc-id-kept",
        f"{MODERN} basic: requests",
        "The id of an answer is that of its request, its type kept.",
        SESSION + "test_ids_come_back_as_they_were_sent",
        SESSION + "test_an_id_in_use_is_refused_and_its_string_twin_is_not",
    ),
    rule(
        "rpc-id-kind",
        f"{MODERN} basic: requests",
        "An id is a string or an integer, never null.",
        SESSION + "test_what_is_no_id_is_refused_with_a_null_id",
    ),
    rule(
        "rpc-notification-silent",
        "JSON-RPC 2.0, 4.1",
        "A notification is never answered.",
        SESSION + "test_notifications_are_never_answered_whatever_their_method",
    ),
    rule(
        "rpc-response-silent",
        "JSON-RPC 2.0, 5",
        "A response is never answered.",
        SESSION + "test_what_looks_like_an_answer_is_never_answered",
    ),
    rule(
        "rpc-bad-message",
        "JSON-RPC 2.0, 5.1",
        "Bad JSON is -32700, a bad message -32600; the next message is served.",
        SESSION + "test_a_bad_line_is_answered_and_the_next_one_is_served",
    ),
    rule(
        "rpc-unknown-method",
        "JSON-RPC 2.0, 5.1",
        "An unknown method is -32601.",
        SESSION + "test_unknown_methods_are_refused_in_both_eras",
    ),
    rule(
        "rpc-batch",
        "2025-03-26 basic: batching",
        "A batch is received and answered in one array; responses and notifications in it are not answered.",
        SERVICE + "test_a_batch_is_answered_in_one_array_in_2025_03_26",
        SERVICE + "test_a_batch_of_notifications_is_not_answered",
        SERVICE + "test_an_empty_batch_and_one_that_is_too_long_are_refused",
        SERVICE + "test_a_batch_is_answered_without_the_request_that_was_cancelled",
    ),
    rule(
        "rpc-no-batch",
        "2025-06-18 changelog; 2024-11-05 basic: messages",
        "Other revisions have no batches.",
        SERVICE + "test_batches_are_refused_in_other_revisions",
        SERVICE + "test_a_batch_before_the_handshake_is_refused",
    ),
    # -- eras and versions --------------------------------------------------------------------------------------------
    rule(
        "init-version",
        f"{LEGACY} basic/lifecycle: version negotiation",
        "A supported version is taken; another is answered with the newest of the handshake.",
        SESSION + "test_initialize_is_answered_with_the_version_that_was_asked_for",
        SESSION + "test_initialize_with_another_version_is_offered_the_newest_handshake_version",
        CONNECTION + "test_any_other_version_is_answered_with_the_newest_of_the_handshake",
    ),
    rule(
        "init-params",
        f"{LEGACY} basic/lifecycle: initialization",
        "initialize names protocolVersion, capabilities and clientInfo.",
        SESSION + "test_a_malformed_initialize_is_refused_and_may_be_tried_again",
        PEER + "test_any_initialize_is_a_peer_or_a_protocol_error",
    ),
    rule(
        "init-first",
        f"{LEGACY} basic/lifecycle: initialization",
        "Before initialize only ping is answered.",
        SESSION + "test_before_initialize_only_ping_is_answered",
    ),
    rule(
        "init-once",
        f"{LEGACY} basic/lifecycle: initialization",
        "The handshake is done once.",
        SESSION + "test_a_second_initialize_is_refused",
    ),
    rule(
        "era-pinned",
        f"{MODERN} basic/versioning: dual-era",
        "The first request of a stream pins its era; requests of the other era are refused.",
        CONNECTION + "TestEraMachine",
        SESSION + "test_initialize_after_a_modern_request_names_the_versions_that_are_spoken",
        SESSION + "test_a_request_without_an_envelope_is_refused_on_a_modern_connection",
        SESSION + "test_an_enveloped_request_is_refused_on_a_handshake_connection",
        SESSION + "test_a_ping_pins_the_handshake_era",
        SESSION + "test_a_refused_modern_request_does_not_pin_the_era",
    ),
    rule(
        "era-methods",
        "schema.json of each revision",
        "Each revision has its own methods.",
        CONNECTION + "test_after_the_handshake_the_methods_of_the_version_are_admitted",
        SESSION + "test_methods_that_were_removed_do_not_exist_in_the_modern_era",
        SESSION + "test_modern_methods_do_not_exist_in_the_handshake_eras",
    ),
    rule(
        "meta-required",
        f"{MODERN} basic: per-request metadata",
        "protocolVersion and clientCapabilities are required (-32602), clientInfo is not.",
        SESSION + "test_missing_envelope_keys_are_an_invalid_params_error",
        SESSION + "test_an_ill_typed_envelope_is_an_invalid_params_error",
        SESSION + "test_client_info_is_optional_in_the_envelope_and_reaches_the_handler",
        PEER + "test_any_envelope_is_a_peer_or_a_protocol_error",
    ),
    rule(
        "version-unsupported",
        f"{MODERN} basic/versioning",
        "An unknown version is -32022 with supported and requested.",
        PEER + "test_a_version_that_is_not_modern_is_unsupported",
        SESSION + "test_a_refused_modern_request_does_not_pin_the_era",
    ),
    rule(
        "discover",
        f"{MODERN} server/discover",
        "server/discover names versions, capabilities, instructions and caching hints.",
        SERVICE + "test_discover_names_the_modern_versions_and_what_is_offered",
    ),
    rule(
        "capabilities-true",
        f"{MODERN} basic/versioning: capabilities",
        "Capabilities name what is registered; completions came with 2025-03-26.",
        SERVICE + "test_capabilities_name_only_what_is_registered",
        SERVICE + "test_the_completions_capability_came_with_2025_03_26",
    ),
    # -- results ------------------------------------------------------------------------------------------------------
    rule(
        "result-type",
        f"{MODERN} basic: results",
        "Every modern result has resultType and serverInfo; older ones have neither.",
        SERVICE + "test_modern_results_are_stamped",
        SERVICE + "test_results_of_the_handshake_revisions_carry_no_stamps",
    ),
    rule(
        "caching",
        f"{MODERN} server/utilities/caching",
        "Lists, reads and discover carry ttlMs (not negative) and cacheScope; rounds carry none.",
        SERVICE + "test_modern_results_are_stamped",
        SERVICE + "test_discover_names_the_modern_versions_and_what_is_offered",
        INPUT + "test_prompts_and_resources_may_ask_too",
    ),
    rule(
        "descriptor-fields",
        "schema.json of each revision",
        "Descriptors and serverInfo have the fields of the revision.",
        SERVICE + "test_a_tool_is_listed_with_the_fields_of_the_revision",
        SERVICE + "test_resources_and_prompts_are_listed_with_the_fields_of_the_revision",
        SESSION + "test_server_info_has_the_fields_of_the_revision",
    ),
    rule(
        "structured-content",
        "2025-06-18 server/tools: structured content",
        "structuredContent exists from 2025-06-18 on, with its text beside it.",
        SERVICE + "test_structured_content_came_with_2025_06_18",
    ),
    rule(
        "pagination",
        f"{MODERN} server/utilities/pagination",
        "Pages by opaque cursors; a bad cursor is -32602.",
        LISTING + "test_all_pages_together_are_the_list_in_order",
        LISTING + "test_a_cursor_that_was_not_given_out_is_an_invalid_params_error",
    ),
    rule(
        "list-order",
        f"{MODERN} server/tools: listing",
        "Lists are in a deterministic order.",
        LISTING + "test_all_pages_together_are_the_list_in_order",
        LISTING + "test_a_list_is_fresh_after_every_change",
    ),
    # -- tools, resources, prompts ------------------------------------------------------------------------------------
    rule(
        "tool-unknown",
        f"{MODERN} server/tools: error handling",
        "An unknown tool and a malformed call are -32602.",
        TOOL + "test_an_unknown_tool_and_a_malformed_call_are_protocol_errors",
    ),
    rule(
        "tool-arguments",
        "SEP-1303",
        "Arguments that do not fit are an isError result.",
        TOOL + "test_arguments_that_do_not_fit_are_an_error_result",
    ),
    rule(
        "tool-failure",
        f"{MODERN} server/tools: error handling",
        "A tool's failure is an isError result; what it did not mean to tell is masked.",
        TOOL + "test_tool_errors_are_told_protocol_errors_kept_and_other_exceptions_masked",
    ),
    rule(
        "resource-not-found",
        f"{MODERN} server/resources: error handling; {LEGACY} the same",
        "-32602 with data.uri in the modern era, -32002 before.",
        SERVICE + "test_an_unknown_resource_has_the_error_code_of_the_era",
    ),
    rule(
        "resource-contents",
        f"{MODERN} server/resources: contents",
        "Text as text, bytes as a base64 blob, with URI and media type.",
        SERVICE + "test_resources_are_read_as_text_json_and_blob",
    ),
    rule(
        "prompt-errors",
        f"{MODERN} server/prompts: error handling",
        "An unknown prompt or missing argument is -32602.",
        SERVICE + "test_a_bad_prompt_request_is_an_invalid_params_error",
    ),
    rule(
        "completion",
        f"{MODERN} server/utilities/completion",
        "At most 100 values with total and hasMore; a bad reference is -32602.",
        COMPLETION + "test_at_most_a_hundred_values_are_sent_and_the_context_is_known",
        COMPLETION + "test_a_bad_reference_or_argument_is_an_invalid_params_error",
    ),
    rule(
        "internal-error",
        f"{MODERN} server/resources: error handling",
        "An accident is -32603 and tells no secrets.",
        SERVICE + "test_an_unexpected_exception_is_an_internal_error",
    ),
    # -- while a request runs -----------------------------------------------------------------------------------------
    rule(
        "cancel",
        f"{MODERN} basic/patterns/cancellation",
        "A cancelled request is stopped and not answered; unknown ids are passed over.",
        TOOL + "test_a_cancelled_call_is_not_answered_and_its_handler_is_told",
        TOOL + "test_a_cancelled_call_in_a_thread_is_not_answered_and_one_that_waits_for_a_thread_never_runs",
        TOOL + "test_cancelling_what_is_unknown_or_answered_does_nothing",
    ),
    rule(
        "progress",
        f"{MODERN} basic/patterns/progress",
        "Progress goes out only with the token of the request, and stops with its answer.",
        CONTEXT + "test_progress_goes_out_with_the_token_of_the_request",
        CONTEXT + "test_without_a_usable_token_there_is_no_progress",
        TOOL + "test_a_cancelled_call_is_not_answered_and_its_handler_is_told",
    ),
    rule(
        "logging-modern",
        f"{MODERN} server/utilities/logging",
        "No logs without a level in the request; from that level on with one.",
        CONTEXT + "test_a_modern_client_that_asked_for_no_logs_gets_none",
        CONTEXT + "test_a_modern_client_gets_the_logs_from_the_level_it_asked_for",
    ),
    rule(
        "logging-legacy",
        f"{LEGACY} server/utilities/logging",
        "logging/setLevel sets the least level; an unknown one is -32602.",
        CONTEXT + "test_a_handshake_client_gets_all_logs_until_it_sets_a_level",
        CONTEXT + "test_an_unknown_level_is_an_invalid_params_error",
    ),
    rule(
        "timeout",
        f"{LEGACY} basic/lifecycle: timeouts",
        "Requests have a time; one that passes it is answered and stopped, a question is withdrawn.",
        TOOL + "test_a_tool_that_passes_its_timeout_is_answered_and_stopped",
        INPUT + "test_a_client_that_does_not_answer_in_time_is_not_waited_for",
    ),
    # -- changes ------------------------------------------------------------------------------------------------------
    rule(
        "changes-legacy",
        f"{LEGACY} server/tools: list changed; server/resources: subscriptions",
        "Sessions hear of changed lists, and of the resources they subscribed to.",
        SERVICE + "test_legacy_sessions_hear_of_changed_lists_unasked",
        SERVICE + "test_legacy_sessions_hear_of_the_resources_they_subscribed_to",
        SERVICE + "test_nobody_hears_of_changes_before_the_handshake",
    ),
    rule(
        "listen-ack",
        f"{MODERN} basic/patterns/subscriptions",
        "The acknowledgement is first and names what is honoured; all is tagged with the id of the request.",
        SERVICE + "test_a_listen_stream_is_acknowledged_first_and_tagged_throughout",
        SERVICE + "test_listening_for_what_the_server_does_not_have_is_not_acknowledged",
        SERVICE + "test_several_listen_streams_have_their_own_filters_and_tags",
    ),
    rule(
        "listen-end",
        f"{MODERN} basic/patterns/subscriptions",
        "A listen stream ends silently when cancelled, and with its answer when the server stops.",
        SERVICE + "test_a_listen_stream_ends_without_an_answer_when_it_is_cancelled",
        SERVICE + "test_a_listen_stream_ends_with_its_answer_when_the_server_stops",
        SERVICE + "test_a_listen_stream_ends_with_its_connection",
    ),
    # -- asking the client --------------------------------------------------------------------------------------------
    rule(
        "mrtr-round",
        f"{MODERN} basic/patterns/mrtr",
        "A question is an input_required result; the retry carries answers and state.",
        INPUT + "test_a_question_ends_the_round_and_its_answer_begins_the_next",
        INPUT + "test_questions_asked_together_are_one_round",
        INPUT + "test_rounds_carry_answers_and_state_until_the_end",
    ),
    rule(
        "mrtr-methods",
        f"{MODERN} basic/patterns/mrtr",
        "Only tools/call, prompts/get and resources/read may ask.",
        INPUT + "test_prompts_and_resources_may_ask_too",
        INPUT + "test_a_list_cannot_ask",
    ),
    rule(
        "mrtr-state",
        f"{MODERN} basic/patterns/mrtr: security",
        "A state that was tampered with, expired, or belongs to another request is an error.",
        INPUT + "test_a_tampered_state_is_an_error",
        INPUT + "test_an_expired_state_is_an_error",
        INPUT + "test_the_state_of_another_request_or_server_is_an_error",
        "wire/test_seal.py::test_what_a_state_is_bound_to_is_checked_with_its_owner_and_time",
    ),
    rule(
        "mrtr-answers",
        f"{MODERN} basic/patterns/mrtr",
        "Missing answers are asked for again, extra ones ignored.",
        INPUT + "test_missing_wrong_and_garbage_answers_are_asked_for_again",
        INPUT + "test_extra_keys_are_ignored",
    ),
    rule(
        "client-capability",
        f"{MODERN} basic/versioning: capabilities",
        "A client is asked only what it declared; otherwise -32021 with requiredCapabilities.",
        INPUT + "test_a_client_is_asked_only_what_it_declared",
        INPUT + "test_capabilities_count_for_the_request_that_declares_them",
        INPUT + "test_elicitation_does_not_exist_before_2025_06_18",
    ),
    rule(
        "ask-legacy",
        f"{LEGACY} client/elicitation, client/sampling, client/roots",
        "Questions are requests to the client; its error, silence or absence reaches the handler.",
        INPUT + "test_the_same_handlers_ask_by_requests_before_2026_07_28",
        INPUT + "test_an_error_answer_of_the_client_reaches_the_handler",
        INPUT + "test_a_connection_that_closes_fails_the_question_that_waits",
    ),
    rule(
        "ask-withdrawn",
        f"{LEGACY} basic/utilities/cancellation",
        "A question that is no longer needed is withdrawn with notifications/cancelled.",
        INPUT + "test_a_question_of_a_cancelled_call_is_withdrawn",
        INPUT + "test_a_question_beside_one_that_failed_is_withdrawn",
    ),
    # -- HTTP ---------------------------------------------------------------------------------------------------------
    rule(
        "http-ladder",
        f"{MODERN} basic/transports: headers",
        "Headers repeat the body exactly: -32020, after -32602 and before -32022.",
        LADDER + "test_the_first_rung_that_a_request_fails_names_its_error",
        LADDER + "test_headers_that_repeat_the_body_pass",
    ),
    rule(
        "http-sentinel",
        f"{MODERN} basic/transports: header values",
        "=?base64?...?= is decoded, and refused where malformed.",
        LADDER + "test_any_text_comes_through_the_sentinel",
        LADDER + "test_any_value_is_decoded_or_refused",
    ),
    rule(
        "http-params",
        f"{MODERN} basic/transports: x-mcp-header",
        "Mcp-Param-* headers mirror arguments.",
        LADDER + "test_parameters_are_mirrored_exactly",
    ),
    rule(
        "http-origin",
        f"{MODERN} basic/transports: security",
        "A foreign Origin is 403, a foreign Host of a local endpoint refused.",
        HEADER + "test_an_origin_must_be_known",
        HEADER + "test_other_names_are_misdirected_where_the_endpoint_is_local",
    ),
    rule(
        "http-verbs",
        f"{MODERN} basic/transports",
        "The modern era has POST alone; other verbs are 405 with Allow.",
        HEADER + "test_verbs_belong_to_eras",
    ),
    rule(
        "http-status",
        f"{MODERN} basic/transports: errors",
        "Statuses that errors must have.",
        HTTP + "status.py::test_a_request_gets_the_status_and_the_code_that_the_specification_asks_for",
    ),
    rule(
        "http-stream",
        f"{MODERN} basic/transports: responses",
        "The answer becomes a stream with its first notification.",
        HTTP + "stream.py::test_the_answer_becomes_a_stream_with_the_first_notification_and_not_before",
    ),
    rule(
        "http-session",
        f"{LEGACY} basic/transports: sessions",
        "A session is opened by initialize and ended by DELETE; then 404.",
        HTTP + "session.py::test_a_session_serves_calls_until_its_client_deletes_it",
        HTTP + "session.py::test_only_a_valid_initialize_opens_a_session",
    ),
    rule(
        "http-resume",
        f"{LEGACY} basic/transports: resumability",
        "A lost stream is resumed with what was missed on it, and only that.",
        HTTP + "session.py::test_a_lost_get_stream_is_resumed_with_what_was_missed",
        HTTP + "session.py::test_a_stream_cannot_be_resumed_from_another_session",
    ),
    # -- the client ---------------------------------------------------------------------------------------------------
    rule(
        "client-probe",
        f"{MODERN} basic/versioning: detection",
        "server/discover first; a modern error stays modern, any other one and silence are the handshake era.",
        FAULTS + "test_any_other_error_to_the_probe_is_a_server_of_the_handshake_era",
        FAULTS + "test_silence_is_a_server_of_the_handshake_era",
        FAULTS + "test_a_modern_error_keeps_the_era_and_is_asked_again",
        FAULTS + "test_a_modern_server_that_was_slow_to_answer_is_found_out_all_the_same",
    ),
    rule(
        "client-negotiation",
        f"{LEGACY} basic/lifecycle: version negotiation",
        "A client that does not speak the version of the answer ends the connection.",
        FAULTS + "test_a_counter_offer_that_will_not_do_is_said_so",
        FAULTS + "test_no_common_revision_is_said_so",
    ),
    rule(
        "client-rounds",
        f"{MODERN} basic/patterns/mrtr",
        "A round has a new id, all original params, the answers, and the state byte by byte if there was one.",
        QUESTIONS + "test_a_round_repeats_the_request_with_the_answers_and_the_state_as_it_was",
        QUESTIONS + "test_a_server_that_never_stops_asking_is_cut_off",
    ),
    rule(
        "client-result-type",
        f"{MODERN} basic: results",
        "An absent resultType is complete, an unknown one an invalid answer.",
        QUESTIONS + "test_a_result_that_nobody_knows_is_an_invalid_answer",
        FAULTS + "test_any_other_error_to_the_probe_is_a_server_of_the_handshake_era",
    ),
    rule(
        "client-declares",
        f"{MODERN} basic: capabilities",
        "A client declares what it answers, and nothing else.",
        QUESTIONS + "test_capabilities_are_those_of_the_handlers_in_the_words_of_the_revision",
        QUESTIONS + "test_a_client_without_handlers_declares_none_and_is_not_asked",
    ),
    rule(
        "client-defaults",
        f"{LEGACY} client/elicitation (SEP-1034)",
        "The defaults of a form are filled in.",
        QUESTIONS + "test_what_a_user_leaves_as_it_is_has_the_forms_defaults",
    ),
    rule(
        "client-cancels",
        f"{MODERN} basic/patterns/cancellation",
        "A request that is given up, or timed out, is cancelled with its id; what comes late is dropped.",
        FAULTS + "test_a_caller_that_is_cancelled_tells_the_server",
        FAULTS + "test_a_server_that_stalls_costs_the_deadline_and_no_more",
    ),
    rule(
        "client-listen-end",
        f"{MODERN} basic/patterns/subscriptions and cancellation",
        "A listen stream ends by its answer or by notifications/cancelled.",
        SUBSCRIPTIONS + "test_the_server_may_end_a_stream_in_either_way",
    ),
    rule(
        "client-keeps",
        f"{MODERN} basic/utilities/caching",
        "An answer is kept for ttlMs, and until a notification says that it changed.",
        SUBSCRIPTIONS + "test_a_list_is_kept_as_long_as_the_server_says_and_until_it_changes",
        SUBSCRIPTIONS + "test_a_resource_is_kept_until_it_is_updated",
    ),
    rule(
        "client-pages",
        f"{MODERN} basic/utilities/pagination",
        "Lists are followed to their end.",
        CLIENT + "test_lists_come_with_all_their_pages",
        CLIENT + "test_a_list_without_an_end_is_cut_off",
    ),
    rule(
        "client-batch",
        "2025-03-26 basic: batching",
        "Batches of answers are accepted.",
        FAULTS + "test_batches_of_answers_are_taken_apart",
    ),
    rule(
        "client-annotations",
        f"{MODERN} basic/transports: x-mcp-header",
        "A tool whose annotations break the rules is left out; arguments are mirrored into headers.",
        ANNOTATION + "test_a_tool_whose_marks_break_the_rules_is_not_to_be_offered",
        ANNOTATION + "test_marked_arguments_are_found_down_the_properties",
        ANNOTATION + "test_values_that_headers_cannot_hold_are_encoded",
    ),
    rule(
        "client-shutdown",
        f"{MODERN} basic/transports/stdio: shutdown",
        "Standard input is closed, then SIGTERM, then SIGKILL.",
        PROCESS + "test_a_server_that_does_not_go_is_made_to",
    ),
    rule(
        "client-http-heads",
        f"{MODERN} basic/transports/streamable-http: headers",
        "Each request says its revision, method and name; the name in base64 where a header cannot hold it.",
        OVER_HTTP + "channel.py::test_a_modern_call_is_answered_and_its_connection_is_used_again",
        OVER_HTTP + "channel.py::test_a_name_outside_of_ascii_is_sent_in_the_base64_form",
        OVER_HTTP + "two.py::test_a_hundred_calls_at_a_time_share_one_connection",
    ),
    rule(
        "client-http-answers",
        f"{MODERN} basic/transports/streamable-http: responses",
        "An answer is JSON or an event stream; an error is read from the body at any status.",
        OVER_HTTP + "channel.py::test_progress_comes_before_the_answer_on_its_stream",
        OVER_HTTP + "fault.py::test_an_error_that_names_the_request_is_its_answer_whatever_the_status",
    ),
    rule(
        "client-http-cancel",
        f"{MODERN} basic/patterns/cancellation",
        "Over HTTP a call is cancelled by closing its stream, in the handshake revisions by a notification.",
        OVER_HTTP + "channel.py::test_cancelling_closes_the_stream_and_so_cancels_the_tool",
        OVER_HTTP + "channel.py::test_cancelling_in_a_session_is_told_by_a_word",
        OVER_HTTP + "two.py::test_cancelling_resets_the_stream_and_nothing_else",
    ),
    rule(
        "client-http-broken",
        f"{MODERN} basic/transports/streamable-http",
        "A stream that breaks off is a lost request: nothing is resumed.",
        OVER_HTTP + "stream.py::test_in_2026_07_28_a_broken_stream_is_a_lost_call",
    ),
    rule(
        "client-session",
        f"{LEGACY} basic/transports: session management",
        "The session's name goes with each request, 404 for it begins another, DELETE ends it.",
        OVER_HTTP + "stream.py::test_each_request_of_a_session_says_its_name_and_the_revision",
        OVER_HTTP + "client.py::test_calls_at_the_same_time_to_a_lost_session_begin_one_other_and_are_each_made_once",
    ),
    rule(
        "client-resumption",
        f"{LEGACY} basic/transports: resumability (SEP-1699)",
        "A stream that breaks off is resumed by GET with Last-Event-ID, after the time of retry.",
        OVER_HTTP + "stream.py::test_a_stream_that_ends_early_is_resumed_after_the_time_that_the_server_asked_for",
        OVER_HTTP + "stream.py::test_a_stream_that_is_cut_within_an_event_is_resumed_from_the_last_whole_one",
        OVER_HTTP + "stream.py::test_the_stream_of_the_session_is_opened_again_with_the_last_id",
    ),
    rule(
        "client-old-pair",
        f"{LEGACY} basic/transports: backwards compatibility",
        "A server that refuses the POST of initialize is asked for the pair of endpoints of 2024-11-05.",
        OVER_HTTP + "stream.py::test_the_old_pair_is_found_by_a_refused_post",
        OVER_HTTP + "stream.py::test_where_there_is_no_old_pair_either_the_first_refusal_holds",
    ),
    rule(
        "client-http-era",
        f"{MODERN} basic/versioning: detection over HTTP",
        "400, 404 and 405 without a modern error mean the handshake era; 401, 403, 5xx and silence mean nothing.",
        OVER_HTTP + "client.py::test_a_server_of_the_handshake_era_is_found_out",
        OVER_HTTP + "client.py::test_a_refusal_for_want_of_a_token_is_no_verdict_on_the_era",
    ),
    rule(
        "http2",
        "RFC 9113, 5.1.2, 5.2, 6.8",
        "Stream limits, windows and GOAWAY are kept on both sides.",
        OVER_HTTP + "two.py::test_no_more_streams_are_opened_than_the_server_allows",
        OVER_HTTP + "two.py::test_bodies_larger_than_the_windows_pass_both_ways",
        OVER_HTTP + "two.py::test_what_a_goaway_leaves_out_is_sent_on_another_connection",
        OVER_HTTP + "two_served.py::test_an_answer_waits_for_the_clients_window",
        OVER_HTTP + "two_served.py::test_a_server_that_stops_lets_the_answers_under_way_leave",
    ),
    # -- gateways ------------------------------------------------------------------------------------------------------
    rule(
        "gateway-apart",
        f"{MODERN} basic: authorization; a server MUST NOT use earlier requests as context",
        "A gateway never passes the client's credentials on, and nothing of one client reaches another.",
        GATEWAY + "relay.py::test_a_callers_credentials_go_no_further",
        GATEWAY + "callers.py::test_nothing_of_one_key_or_token_reaches_another",
        GATEWAY + "cache.py::test_a_private_answer_is_its_callers_alone",
        GATEWAY + "reading.py::test_callers_load_each_their_own",
        GATEWAY + "task.py::test_a_task_is_its_callers_alone",
    ),
    rule(
        "gateway-through",
        f"{MODERN} basic: patterns, mrtr; transports, streamable HTTP",
        "requestState goes through a gateway unchanged, and so do Mcp-Param headers that it does not know.",
        GATEWAY + "relay.py::test_state_and_answers_of_a_round_go_through_untouched",
        GATEWAY + "mounts.py::test_headers_of_arguments_that_nobody_here_knows_are_handed_on",
    ),
    rule(
        "authorization",
        f"{MODERN} basic: authorization; RFC 9728, 9068, 8707, 6750",
        "A protected server names its issuers, checks each token, and tells by 401 and 403 what is missing.",
        "auth/test_porter.py::test_the_metadata_of_the_resource_is_everybodys",
        "auth/test_token.py::test_a_token_that_does_not_hold_is_refused_with_why",
        GATEWAY + "oauth.py::test_who_needs_another_scope_is_told_which",
    ),
)

GAPS = (
    Gap(
        "ungated-methods",
        f"{MODERN} basic/versioning: capabilities",
        "A method behind a capability that was not advertised may be refused with -32601.",
        "Lists of what is not registered are answered with empty lists, since it may be registered at any time.",
    ),
    Gap(
        "nested-fields",
        "2024-11-05 and 2025-03-26 schema.json",
        "PromptArgument.title, annotations.lastModified and audio or resource_link content came later.",
        "Only the fields of descriptors themselves are fitted to the revision; the older schemas allow further fields.",
    ),
    Gap(
        "output-root",
        "2025-06-18 and 2025-11-25 schema.json",
        "outputSchema and structuredContent are objects there.",
        "What an author gives as another root type is sent as it is; schemas made from annotations are wrapped.",
    ),
    Gap(
        "progress-order",
        f"{MODERN} basic/patterns/progress",
        "Progress must increase with each notification.",
        "Left to the author, as in the official SDKs.",
    ),
    Gap(
        "legacy-missing-capability",
        f"{LEGACY} basic/lifecycle",
        "-32021 belongs to 2026-07-28.",
        "Handshake clients get it too: -32000 to -32099 were the implementation's there, and HTTP needs no 400 for it.",
    ),
    Gap(
        "tasks",
        f"{LEGACY} basic/utilities/tasks; extension io.modelcontextprotocol/tasks",
        "Tasks are experimental, then an extension.",
        "Not served.",
    ),
    Gap(
        "roots-changed",
        f"{LEGACY} client/roots",
        "notifications/roots/list_changed may be used to ask for the roots again.",
        "Accepted and passed over; handlers ask for the roots when they need them.",
    ),
)
