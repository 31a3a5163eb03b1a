"""Room jsonrpc."""

from __future__ import annotations

from types import ModuleType

from asv_benchmarks import Room
from asv_benchmarks.instruction import Counted
from asv_benchmarks.message import ANSWER, CALL, TOOLS_TEXT


class Scan(Room):
    room = "jsonrpc"

    def prepare(self, room: ModuleType) -> None:
        self.scan = room.scan
        self.large = b'{"jsonrpc":"2.0","id":1,"result":' + TOOLS_TEXT + b"}"
        self.long = b'{"jsonrpc":"2.0","id":1,"result":{"text":"' + b"x" * 100_000 + b'"}}'

    def time_a_call_100_times(self, implementation: str) -> None:
        scan = self.scan
        for _ in range(100):
            scan(CALL)

    def time_an_answer_100_times(self, implementation: str) -> None:
        scan = self.scan
        for _ in range(100):
            scan(ANSWER)

    def time_a_list_of_50_tools(self, implementation: str) -> None:
        self.scan(self.large)

    def time_a_text_of_100_kb(self, implementation: str) -> None:
        self.scan(self.long)


class Instructions(Counted):
    situation = Scan
    counted = ("a_call_100_times",)
