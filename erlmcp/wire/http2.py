"""The state of an HTTP/2 connection, either side: the h2 library's, with more patience at the end."""

from __future__ import annotations

from h2.config import H2Configuration
from h2.connection import ConnectionInputs, ConnectionState, H2Connection, H2ConnectionStateMachine
from h2.errors import ErrorCodes
from h2.events import Event
from h2.settings import SettingCodes, Settings

CONNECTION_WINDOWS = 8  # of a stream, that are open for all streams together
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

_OPEN = (ConnectionState.CLIENT_OPEN, ConnectionState.SERVER_OPEN)
_GOAWAY = (ConnectionInputs.RECV_GOAWAY, ConnectionInputs.SEND_GOAWAY)


class PatientMachine(H2ConnectionStateMachine):
    """After a GOAWAY the streams that it names may end (RFC 9113, section 6.8); the library takes all for closed."""

    def process_input(self, input_: ConnectionInputs) -> list[Event]:
        state = self.state
        found = super().process_input(input_)
        if input_ in _GOAWAY and state in _OPEN:
            self.state = state
        return found


def make_connection(*, is_client: bool, window_bytes: int, head_bytes_max: int, stream_count_max: int) -> H2Connection:
    """A connection that has begun: its first bytes are in ``data_to_send``.

    What is sent must be in order (names in lower case, nothing of HTTP/1.1 alone): it is ours, and not looked at again.
    """
    config = H2Configuration(
        client_side=is_client,
        header_encoding="utf-8",
        validate_outbound_headers=False,
        normalize_outbound_headers=False,
    )
    h2 = H2Connection(config)
    h2.state_machine = PatientMachine()
    values = {SettingCodes.INITIAL_WINDOW_SIZE: window_bytes, SettingCodes.MAX_HEADER_LIST_SIZE: head_bytes_max}
    if is_client:
        values[SettingCodes.ENABLE_PUSH] = 0
    else:
        values[SettingCodes.MAX_CONCURRENT_STREAMS] = stream_count_max
    h2.local_settings = Settings(client=is_client, initial_values=values)
    h2.decoder.max_header_list_size = head_bytes_max
    h2.initiate_connection()
    h2.increment_flow_control_window((CONNECTION_WINDOWS - 1) * window_bytes)
    return h2


def name_of(code: int | None) -> str:
    """An error code as the RFC calls it."""
    try:
        return ErrorCodes(code or 0).name
    except ValueError:
        return f"error {code}"
