"""From the bytes of a `data.pkl` to its object tree, and from what is wrong with them to one error."""

import pickle
import pickletools
import struct

from skyfan.errors import BadInput
from skyfan.formats.torch.unpickler.errors import Malformed, RefusedCall, Unsupported
from skyfan.formats.torch.unpickler.limits import MAX_PICKLE_BYTES
from skyfan.formats.torch.unpickler.objects import OBJECT_INSTRUCTIONS
from skyfan.formats.torch.unpickler.pickle_machine import Instruction, PickleMachine
from skyfan.formats.torch.unpickler.scalars import SCALAR_INSTRUCTIONS


def _by_opcode() -> tuple[Instruction | None, ...]:
    known = {**SCALAR_INSTRUCTIONS, **OBJECT_INSTRUCTIONS}
    codes = {ord(opcode.code): known.get(opcode.name) for opcode in pickletools.opcodes}
    return tuple(codes.get(code) for code in range(256))


_INSTRUCTIONS = _by_opcode()
_STOP = pickle.STOP[0]


def load_tree(data: bytes, where: str, error: type[BadInput], remedy: str) -> object:
    """The object tree of a pickle: builtin containers, numbers and strings, `TensorRef`s and inert stand-ins.

    Nothing is imported and nothing that the file names is called; nesting costs no stack, and time and memory are
    bounded by `limits`. `where` names the file; `remedy` goes on after "… would run NAME when loaded".

    Raises:
        error: the pickle is damaged, asks for a call that is not followed, or for more than `limits` allows.
    """
    if len(data) > MAX_PICKLE_BYTES:
        raise error(f"{where} has a data.pkl of more than {MAX_PICKLE_BYTES >> 20} MiB.")
    try:
        return PickleMachine(data).run(_INSTRUCTIONS, _STOP)
    except RefusedCall as refused:
        raise error(f"{where} would run {refused} when loaded{remedy}") from refused
    except Unsupported as reason:
        raise error(f"{where}: {reason}.") from reason
    except Malformed as reason:
        raise error(f"{where} is damaged or was not written by torch.save: {reason}.") from reason
    except (LookupError, ValueError, struct.error) as reason:  # an empty stack, a gap in the memo, text that is none
        raise error(f"{where} is damaged: its data.pkl cannot be read ({type(reason).__name__}).") from reason
