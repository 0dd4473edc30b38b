"""Instructions that push a number, a text or a constant, or that keep the stack in order."""

import struct

from skyfan.formats.torch.unpickler.errors import Malformed
from skyfan.formats.torch.unpickler.limits import MAX_INTEGER_BYTES, MAX_PICKLE_BYTES, MAX_TEXT_NUMBER_BYTES
from skyfan.formats.torch.unpickler.pickle_machine import Instruction, PickleMachine

_HIGHEST_PROTOCOL = 5


def _constant(value: object) -> Instruction:
    return lambda machine: machine.stack.append(value)


def _packed(layout: str) -> Instruction:
    parser = struct.Struct(layout)

    def push(machine: PickleMachine) -> None:
        machine.stack.append(parser.unpack_from(machine.data, machine.position)[0])
        machine.position += parser.size

    return push


def _length(machine: PickleMachine, width_bytes: int) -> int:
    return int.from_bytes(machine.take(width_bytes), "little")


def _long(width_bytes: int) -> Instruction:
    def push(machine: PickleMachine) -> None:
        size_bytes = _length(machine, width_bytes)
        if size_bytes > MAX_INTEGER_BYTES:
            raise Malformed(f"it holds an integer of more than {8 * MAX_INTEGER_BYTES} bits")
        machine.stack.append(int.from_bytes(machine.take(size_bytes), "little", signed=True))

    return push


def _text(width_bytes: int) -> Instruction:
    return lambda machine: machine.stack.append(
        str(machine.take(_length(machine, width_bytes)), "utf-8", "surrogatepass")
    )


def _bytes(width_bytes: int) -> Instruction:
    return lambda machine: machine.stack.append(machine.take(_length(machine, width_bytes)))


def _integer_line(machine: PickleMachine) -> None:
    text = machine.line(MAX_TEXT_NUMBER_BYTES)
    machine.stack.append({b"00": False, b"01": True}[text] if text in (b"00", b"01") else int(text))


def _long_line(machine: PickleMachine) -> None:
    machine.stack.append(int(machine.line(MAX_TEXT_NUMBER_BYTES).removesuffix(b"L")))


def _float_line(machine: PickleMachine) -> None:
    machine.stack.append(float(machine.line(MAX_TEXT_NUMBER_BYTES)))


def _text_line(machine: PickleMachine) -> None:
    machine.stack.append(str(machine.line(MAX_PICKLE_BYTES), "raw-unicode-escape"))


def _protocol(machine: PickleMachine) -> None:
    if machine.take(1)[0] > _HIGHEST_PROTOCOL:
        raise Malformed("it is of a pickle protocol that is not known")


def _frame(machine: PickleMachine) -> None:
    machine.take(8)  # a hint for readers of streams


def _mark(machine: PickleMachine) -> None:
    machine.outer_stacks.append(machine.stack)
    machine.stack = []


def _pop(machine: PickleMachine) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.marked()


def _pop_mark(machine: PickleMachine) -> None:
    machine.marked()


def _duplicate(machine: PickleMachine) -> None:
    machine.stack.append(machine.stack[-1])


def _memoize(machine: PickleMachine) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _put(width_bytes: int) -> Instruction:
    def put(machine: PickleMachine) -> None:
        machine.memo[_length(machine, width_bytes)] = machine.stack[-1]

    return put


def _get(width_bytes: int) -> Instruction:
    return lambda machine: machine.stack.append(machine.memo[_length(machine, width_bytes)])


def _put_line(machine: PickleMachine) -> None:
    machine.memo[int(machine.line(MAX_TEXT_NUMBER_BYTES))] = machine.stack[-1]


def _get_line(machine: PickleMachine) -> None:
    machine.stack.append(machine.memo[int(machine.line(MAX_TEXT_NUMBER_BYTES))])


# By name in `pickletools`, where each instruction is documented.
SCALAR_INSTRUCTIONS: dict[str, Instruction] = {
    "NONE": _constant(None),
    "NEWTRUE": _constant(True),
    "NEWFALSE": _constant(False),
    "BININT": _packed("<i"),
    "BININT1": _packed("<B"),
    "BININT2": _packed("<H"),
    "BINFLOAT": _packed(">d"),
    "LONG1": _long(1),
    "LONG4": _long(4),
    "INT": _integer_line,
    "LONG": _long_line,
    "FLOAT": _float_line,
    "SHORT_BINUNICODE": _text(1),
    "BINUNICODE": _text(4),
    "BINUNICODE8": _text(8),
    "UNICODE": _text_line,
    "SHORT_BINBYTES": _bytes(1),
    "BINBYTES": _bytes(4),
    "BINBYTES8": _bytes(8),
    "BYTEARRAY8": _bytes(8),
    "PROTO": _protocol,
    "FRAME": _frame,
    "MARK": _mark,
    "POP": _pop,
    "POP_MARK": _pop_mark,
    "DUP": _duplicate,
    "MEMOIZE": _memoize,
    "PUT": _put_line,
    "BINPUT": _put(1),
    "LONG_BINPUT": _put(4),
    "GET": _get_line,
    "BINGET": _get(1),
    "LONG_BINGET": _get(4),
}
