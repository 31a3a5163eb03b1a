"""The protocol as a state machine, without a server: eras, phases, and who may send what."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from erlmcp.errors import McpError, MethodNotFoundError
from erlmcp.spec import method as m
from erlmcp.spec.descriptor import fit_implementation, fit_other, fit_tool, has_structured
from erlmcp.spec.version import KNOWN_VERSIONS, LATEST_MODERN, LEGACY_VERSIONS, negotiate
from erlmcp.wire.connection import NEW, READY, Connection
from erlmcp.wire.peer import Peer

METHODS = sorted(frozenset().union(*m.CLIENT_REQUESTS.values()) | {"no/such", "notifications/initialized"})


def test_a_conversation_begins_without_an_era() -> None:
    connection = Connection()
    assert (connection.era, connection.version, connection.phase, connection.peer) == (None, None, NEW, None)


@pytest.mark.parametrize("method", METHODS)
def test_a_modern_request_pins_the_era_whatever_its_method(method: str) -> None:
    connection = Connection()
    refusal = connection.admit_modern(method)
    assert (connection.era, connection.version, connection.phase) == ("modern", LATEST_MODERN, READY)
    if method in m.CLIENT_REQUESTS[LATEST_MODERN]:
        assert refusal is None
    else:
        assert isinstance(refusal, MethodNotFoundError)


@pytest.mark.parametrize("version", LEGACY_VERSIONS)
@pytest.mark.parametrize("method", METHODS)
def test_after_the_handshake_the_methods_of_the_version_are_admitted(version: str, method: str) -> None:
    connection = Connection()
    assert connection.admit_legacy(m.INITIALIZE) is None
    connection.initialized(version, Peer(version))
    refusal = connection.admit_legacy(method)
    if method == m.INITIALIZE:
        assert refusal is not None
        assert refusal.code == -32600
    else:
        assert (refusal is None) is (method in m.CLIENT_REQUESTS[version])


def test_a_server_that_sends_may_ask_what_the_version_knows() -> None:
    for version, known in m.SERVER_REQUESTS.items():
        connection = Connection(m.SERVER_REQUESTS)
        if version == LATEST_MODERN:
            assert isinstance(connection.admit_modern(m.SAMPLE), MethodNotFoundError)
            continue
        connection.initialized(version, Peer(version))
        for method in (m.PING, m.SAMPLE, m.ELICIT, m.ROOTS_LIST):
            assert (connection.admit_legacy(method) is None) is (method in known)


@pytest.mark.parametrize(("requested", "expected"), [*zip(LEGACY_VERSIONS, LEGACY_VERSIONS, strict=True)])
def test_a_known_handshake_version_is_taken(requested: str, expected: str) -> None:
    assert negotiate(requested) == expected


@pytest.mark.parametrize("requested", ["", "2024-10-07", LATEST_MODERN, "2025-11-26", "draft"])
def test_any_other_version_is_answered_with_the_newest_of_the_handshake(requested: str) -> None:
    assert negotiate(requested) == LEGACY_VERSIONS[-1]


def test_the_fields_of_descriptors_only_grow() -> None:
    tool = {"name": 1, "annotations": 1, "title": 1, "outputSchema": 1, "_meta": 1, "icons": 1, "inputSchema": 1}
    other = {"name": 1, "title": 1, "_meta": 1, "icons": 1}
    info = {"name": 1, "version": 1, "title": 1, "description": 1, "icons": 1, "websiteUrl": 1}
    for fit, whole in ((fit_tool, tool), (fit_other, other), (fit_implementation, info)):
        sizes = [set(fit(whole, version)) for version in KNOWN_VERSIONS]
        assert all(earlier <= later for earlier, later in itertools.pairwise(sizes))
        assert sizes[-1] == set(whole)
        assert len(sizes[0]) < len(whole)
    assert [has_structured(version) for version in KNOWN_VERSIONS] == [False, False, True, True, True]


class EraMachine(RuleBasedStateMachine):
    """An era once pinned stays, and no request of the other era is admitted after that."""

    def __init__(self) -> None:
        super().__init__()
        self.connection = Connection()
        self.pinned: str | None = None

    def note(self, refusal: McpError | None, era: str) -> None:
        if self.pinned is None:
            self.pinned = self.connection.era
        assert self.connection.era == self.pinned
        if self.pinned not in (None, era):
            assert refusal is not None

    @rule(method=st.sampled_from(METHODS))
    def modern(self, method: str) -> None:
        self.note(self.connection.admit_modern(method), "modern")

    @rule(method=st.sampled_from(METHODS), version=st.sampled_from(LEGACY_VERSIONS))
    def legacy(self, method: str, version: str) -> None:
        refusal = self.connection.admit_legacy(method, version)
        if refusal is None and method == m.INITIALIZE:
            self.connection.initialized(version, Peer(version))
        self.note(refusal, "legacy")
        if self.connection.phase == NEW and refusal is None:
            assert method == m.PING


TestEraMachine = EraMachine.TestCase
