"""Room json."""

from __future__ import annotations

from types import ModuleType

from asv_benchmarks import Room
from asv_benchmarks.instruction import Counted
from asv_benchmarks.message import ANSWER, CALL, RESULT, TOOLS, TOOLS_TEXT

TEXT = "the quick brown fox " * 5000


class Decode(Room):
    room = "json"

    def prepare(self, room: ModuleType) -> None:
        self.decode = room.decode
        self.text = room.encode(TEXT)
        self.numbers = room.encode([i * 1.37 for i in range(1000)])

    def time_a_call_100_times(self, implementation: str) -> None:
        decode = self.decode
        for _ in range(100):
            decode(CALL)

    def time_an_answer_100_times(self, implementation: str) -> None:
        decode = self.decode
        for _ in range(100):
            decode(ANSWER)

    def time_a_list_of_50_tools(self, implementation: str) -> None:
        self.decode(TOOLS_TEXT)

    def time_a_text_of_100_kb(self, implementation: str) -> None:
        self.decode(self.text)

    def time_1000_floats(self, implementation: str) -> None:
        self.decode(self.numbers)


class Encode(Room):
    room = "json"

    def prepare(self, room: ModuleType) -> None:
        self.encode = room.encode
        self.raw = {"content": room.Raw(TOOLS_TEXT)}
        self.numbers = [i * 1.37 for i in range(1000)]

    def time_a_result_100_times(self, implementation: str) -> None:
        encode = self.encode
        for _ in range(100):
            encode(RESULT)

    def time_a_list_of_50_tools(self, implementation: str) -> None:
        self.encode(TOOLS)

    def time_a_list_of_50_tools_encoded_before(self, implementation: str) -> None:
        self.encode(self.raw)

    def time_a_text_of_100_kb(self, implementation: str) -> None:
        self.encode(TEXT)

    def time_1000_floats(self, implementation: str) -> None:
        self.encode(self.numbers)


class Memory(Room):
    """A document of 5,000 tools, 2.7 MB."""

    room = "json"

    def prepare(self, room: ModuleType) -> None:
        self.room_module = room
        self.text = b"[" + b",".join([TOOLS_TEXT] * 100) + b"]"

    def peakmem_decode_5000_tools(self, implementation: str) -> None:
        self.room_module.decode(self.text)

    def peakmem_encode_5000_tools(self, implementation: str) -> None:
        self.room_module.encode([TOOLS] * 100)


class InstructionsDecode(Counted):
    situation = Decode
    counted = ("a_call_100_times", "a_list_of_50_tools")


class InstructionsEncode(Counted):
    situation = Encode
    counted = ("a_result_100_times", "a_list_of_50_tools")
