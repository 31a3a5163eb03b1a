"""Asking the client in the middle of a call, written once for both eras.

In the handshake revisions a question is a request to the client, and its answer comes back on the same stream. In
2026-07-28 there are no such requests: the call is answered with ``resultType: "input_required"`` and the client
repeats it with the answers (MRTR). A handler does not see the difference, but for one thing: in the modern era it
*runs again from the start* with each round, so what it did before the question is done again. The answers of earlier
rounds travel in the sealed ``requestState``.

Several questions are asked in one round when they are asked together: ``ctx.ask({...})``, or ``asyncio.gather`` over
single ones.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from erlmcp.errors import MISSING_CLIENT_CAPABILITY, InvalidParamsError, McpError
from erlmcp.spec import method as m
from erlmcp.wire.seal import digest, seal, unseal

if TYPE_CHECKING:
    from erlmcp.runtime.exchange import Exchange

STATE_LIFE_S = 3600


class InputRequired(BaseException):
    """Leaves a handler whose question has no answer yet. Not an Exception: an author's ``except Exception`` must not
    swallow it; ``finally`` blocks run."""


@dataclass(frozen=True, slots=True)
class Elicit:
    """A question to the user, for ``ctx.ask``: ``schema`` is a type or a JSON Schema of a flat object."""

    message: str
    schema: Any = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """A request to the client's model, for ``ctx.ask``; ``options`` are the further fields of
    sampling/createMessage."""

    messages: Any
    max_tokens: int = 1024
    system_prompt: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ListRoots:
    """A request for the client's roots, for ``ctx.ask``."""


@dataclass(frozen=True, slots=True)
class ElicitResult:
    """What the user did: ``action`` is "accept", "decline" or "cancel"; ``content`` the filled form; ``data`` the
    same as the type that was asked for."""

    action: str
    content: dict[str, Any] | None = None
    data: Any = None

    @property
    def accepted(self) -> bool:
        return self.action == "accept"


@dataclass(frozen=True, slots=True)
class SampleResult:
    """What the client's model answered. ``content`` is one content block, or a list of them where tools were
    offered."""

    role: str
    content: Any
    model: str
    stop_reason: str | None = None

    @property
    def text(self) -> str:
        """The text of all text blocks."""
        blocks = self.content if isinstance(self.content, list) else [self.content]
        return "".join(b["text"] for b in blocks if isinstance(b, dict) and isinstance(b.get("text"), str))


def sampling_messages(messages: Any) -> list[dict[str, Any]]:
    """Messages for sampling/createMessage from a string, a message, or a list of either."""
    given = messages if isinstance(messages, list | tuple) else [messages]
    found: list[dict[str, Any]] = []
    for message in given:
        if isinstance(message, str):
            found.append({"role": "user", "content": {"type": "text", "text": message}})
        elif isinstance(message, dict):
            found.append(message)
        elif hasattr(message, "model_dump"):
            found.append(message.model_dump(mode="json", by_alias=True, exclude_none=True))
        elif hasattr(message, "to_message"):
            found.append(message.to_message())
        else:
            raise TypeError(f"a sampling message is a str, a dict or a SamplingMessage, not {type(message).__name__}")
    return found


def required_capability(method: str, params: dict[str, Any] | None) -> tuple[str, str | None]:
    """(capability, part) that the client must have declared to be asked this."""
    if method == m.ELICIT:
        return "elicitation", "url" if (params or {}).get("mode") == "url" else "form"
    if method == m.SAMPLE and params and ("tools" in params or "toolChoice" in params):
        return "sampling", "tools"
    return m.NEEDED_CAPABILITY[method], None


def check_capability(exchange: Exchange, method: str, params: dict[str, Any] | None) -> None:
    """Raises McpError -32021 where the client did not declare what the question needs, or its revision has no such
    question."""
    capability, part = required_capability(method, params)
    peer = exchange.peer
    if not peer.modern and part == "form":
        part = None
    if peer.offers(capability, part) and (peer.modern or method in m.SERVER_REQUESTS[peer.version]):
        return
    named: dict[str, Any] = {capability: {part: {}} if part in ("url", "tools") else {}}
    raise McpError(
        MISSING_CLIENT_CAPABILITY,
        f"the client does not offer {capability}{'.' + part if part in ('url', 'tools') else ''}, which {method} needs",
        {"requiredCapabilities": named},
    )


def is_answer(method: str, answer: object) -> bool:
    """Whether an input response has the shape that its request calls for; one that has not is asked for again."""
    if not isinstance(answer, dict):
        return False
    if method == m.ELICIT:
        content = answer.get("content")
        return answer.get("action") in ("accept", "decline", "cancel") and (
            content is None or isinstance(content, dict)
        )
    if method == m.SAMPLE:
        return isinstance(answer.get("role"), str) and isinstance(answer.get("content"), dict | list)
    return isinstance(answer.get("roots"), list)


class Round:
    """The multi-round state of one modern request.

    ``responses`` are the answers so far by key, ``asked`` the questions of this run that have none, ``state`` the
    author's own values (JSON only).
    """

    __slots__ = ("_bound_to", "_counts", "_fresh", "_used", "asked", "owner", "responses", "secret", "state")

    def __init__(self, exchange: Exchange, secret: bytes, owner: str, round_max: int) -> None:
        params = exchange.params
        params = params if isinstance(params, dict) else {}
        self.secret = secret
        self.owner = owner
        self.asked: dict[str, dict[str, Any]] = {}
        self._counts: dict[str, int] = {}
        self._used: list[str] = []
        self._bound_to = digest(exchange.call.method or "", params)
        self.responses: dict[str, Any] = {}
        self.state: dict[str, Any] = {}
        rounds = 0
        if params.get("requestState") is not None:
            payload = unseal(
                secret, params["requestState"], bound_to=self._bound_to, owner=owner, now_s=int(time.time())
            )
            self.responses, self.state, rounds = payload["r"], payload["s"], payload["n"]
        if rounds >= round_max:
            raise InvalidParamsError(f"the request went through input_round_max={round_max} rounds without an end")
        self._fresh = rounds + 1
        given = params.get("inputResponses")
        if isinstance(given, dict):
            self.responses = {**self.responses, **given}

    def key(self, kind: str, key: str | None) -> str:
        """The key of a question: the author's, or one by kind and order."""
        if key is not None:
            return key
        self._counts[kind] = count = self._counts.get(kind, 0) + 1
        return f"{kind}-{count}"

    def answer(self, key: str, method: str) -> dict[str, Any] | None:
        """The answer to this question, or None where there is none yet (or none of its shape)."""
        found = self.responses.get(key)
        if not is_answer(method, found):
            return None
        if key not in self._used:
            self._used.append(key)
        return found

    def result(self) -> dict[str, Any]:
        """The ``input_required`` result: every question without an answer, and the state to carry."""
        kept = {name: self.responses[name] for name in self._used}
        payload = {"r": kept, "s": self.state, "n": self._fresh, "x": secrets.token_hex(4)}
        state = seal(
            self.secret,
            payload,
            bound_to=self._bound_to,
            owner=self.owner,
            expires_s=int(time.time()) + STATE_LIFE_S,
        )
        return {"resultType": "input_required", "inputRequests": dict(self.asked), "requestState": state}
