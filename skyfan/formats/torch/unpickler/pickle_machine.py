"""The machine that follows a pickle's instructions: a stack, a memo, and counters that end it in time."""

from collections.abc import Callable
from typing import Any

from skyfan.formats.torch.unpickler.errors import Malformed
from skyfan.formats.torch.unpickler.limits import MAX_COPIED_ITEMS, MAX_OBJECTS, MAX_OPCODES

Instruction = Callable[["PickleMachine"], None]


class PickleMachine:
    """One run over one pickle. Instructions take their arguments from `data` and work on `stack`.

    A mark puts the stack aside and begins a new one, so that no instruction reaches below a mark.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0
        self.stack: list[Any] = []
        self.outer_stacks: list[list[Any]] = []
        self.memo: dict[int, object] = {}
        self._objects_left = MAX_OBJECTS
        self._items_left = MAX_COPIED_ITEMS

    def run(self, instructions: tuple[Instruction | None, ...], stop: int) -> object:
        """Follows `instructions` (by opcode) to the opcode `stop` and gives what lies on the stack then.

        Raises:
            Malformed: an unknown opcode, or more of something than `limits` allows.
            LookupError, ValueError, struct.error: the pickle is damaged.
        """
        data = self.data
        for _ in range(MAX_OPCODES):
            opcode = data[self.position]
            self.position += 1
            instruction = instructions[opcode]
            if instruction is not None:
                instruction(self)
            elif opcode == stop:
                return self.stack.pop()
            else:
                raise Malformed(f"it has an instruction that torch does not write (0x{opcode:02x})")
        raise Malformed(f"it has more than {MAX_OPCODES:,} instructions")

    def take(self, size_bytes: int) -> bytes:
        """The next bytes of the pickle."""
        end = self.position + size_bytes
        if not self.position <= end <= len(self.data):
            raise Malformed("it ends in the middle of an instruction")
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def line(self, limit_bytes: int) -> bytes:
        """The bytes up to the next line feed, which is passed over."""
        end = self.data.find(b"\n", self.position, self.position + limit_bytes + 1)
        if end < 0:
            raise Malformed(f"it has a line of more than {limit_bytes} bytes")
        taken = self.data[self.position : end]
        self.position = end + 1
        return taken

    def marked(self) -> list[Any]:
        """What was pushed since the last mark, which is removed."""
        items, self.stack = self.stack, self.outer_stacks.pop()
        return items

    def push_object(self, value: object) -> None:
        """Push a container or an object, which counts towards `MAX_OBJECTS`."""
        self._objects_left -= 1
        if self._objects_left < 0:
            raise Malformed(f"it makes more than {MAX_OBJECTS:,} objects")
        self.stack.append(value)

    def charge_items(self, count: int) -> None:
        """Count items that are copied out of another container towards `MAX_COPIED_ITEMS`."""
        self._items_left -= count
        if self._items_left < 0:
            raise Malformed(f"it copies more than {MAX_COPIED_ITEMS:,} items")
