"""Instructions that make and fill containers and objects."""

from skyfan.formats.torch.unpickler import calls, tensors
from skyfan.formats.torch.unpickler.errors import Malformed
from skyfan.formats.torch.unpickler.limits import MAX_NAME_CHARACTERS
from skyfan.formats.torch.unpickler.pickle_machine import Instruction, PickleMachine
from skyfan.formats.torch.unpickler.values import ClassRef, InertObject, Opaque, as_key


def _empty(kind: type[list[object]] | type[dict[object, object]] | type[set[object]]) -> Instruction:
    return lambda machine: machine.push_object(kind())


def _empty_tuple(machine: PickleMachine) -> None:
    machine.stack.append(())


def _tuple_of(count: int) -> Instruction:
    def build(machine: PickleMachine) -> None:
        items = tuple(machine.stack[-count:])
        if len(items) < count:
            raise Malformed("it makes a tuple of more than there is")
        del machine.stack[-count:]
        machine.push_object(items)

    return build


def _tuple(machine: PickleMachine) -> None:
    machine.push_object(tuple(machine.marked()))


def _list(machine: PickleMachine) -> None:
    machine.push_object(machine.marked())


def _dict(machine: PickleMachine) -> None:
    items = machine.marked()
    machine.push_object({})
    _set_items(machine, items)


def _frozen_set(machine: PickleMachine) -> None:
    machine.push_object({as_key(value) for value in machine.marked()})


def _append(machine: PickleMachine) -> None:
    value = machine.stack.pop()
    _extend(machine, [value])


def _appends(machine: PickleMachine) -> None:
    _extend(machine, machine.marked())


def _extend(machine: PickleMachine, values: list[object]) -> None:
    target = machine.stack[-1]
    if type(target) is list:
        target.extend(values)
    elif not isinstance(target, InertObject | Opaque):  # whose items are not read
        raise Malformed("it appends to something that is not a list")


def _add_items(machine: PickleMachine) -> None:
    values, target = machine.marked(), machine.stack[-1]
    if type(target) is not set:
        raise Malformed("it adds to something that is not a set")
    target.update(as_key(value) for value in values)


def _set_item(machine: PickleMachine) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    _set_items(machine, [key, value])


def _set_items_marked(machine: PickleMachine) -> None:
    _set_items(machine, machine.marked())


def _set_items(machine: PickleMachine, items: list[object]) -> None:
    target = machine.stack[-1]
    if len(items) % 2:
        raise Malformed("it sets a key without a value")
    if type(target) is dict:
        target.update((as_key(key), value) for key, value in zip(items[::2], items[1::2], strict=True))
    elif not isinstance(target, InertObject | Opaque):
        raise Malformed("it sets an item of something that is not a dictionary")


def _global(machine: PickleMachine) -> None:
    module, name = (str(machine.line(MAX_NAME_CHARACTERS), "utf-8") for _ in range(2))
    _push_named(machine, module, name)


def _stack_global(machine: PickleMachine) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    _push_named(machine, module, name)


def _push_named(machine: PickleMachine, module: object, name: object) -> None:
    value = calls.named(module, name)
    machine.charge_items(len(value.path) if isinstance(value, ClassRef) else 0)
    machine.push_object(value)


def _reduce(machine: PickleMachine) -> None:
    arguments, function = machine.stack.pop(), machine.stack.pop()
    machine.push_object(calls.call(machine, function, arguments))


def _new_object(machine: PickleMachine) -> None:
    arguments, kind = machine.stack.pop(), machine.stack.pop()
    machine.push_object(calls.new_object(kind, arguments))


def _new_object_with_keywords(machine: PickleMachine) -> None:
    machine.stack.pop()
    _new_object(machine)


def _build(machine: PickleMachine) -> None:
    """Give attributes to an object: kept of objects, dropped of dictionaries and of what is not read."""
    state, target = machine.stack.pop(), machine.stack[-1]
    if isinstance(target, InertObject):
        for part in state if isinstance(state, tuple) and len(state) == 2 else (state,):
            if type(part) is dict:  # attributes, or with __slots__ the second of two parts
                machine.charge_items(len(part))
                target.state.update(part)
    elif type(target) is not dict and not isinstance(target, Opaque):
        raise Malformed("it gives state to a function, a tensor or a constant")


def _storage(machine: PickleMachine) -> None:
    machine.push_object(tensors.storage(machine.stack.pop()))


# By name in `pickletools`, where each instruction is documented.
OBJECT_INSTRUCTIONS: dict[str, Instruction] = {
    "EMPTY_TUPLE": _empty_tuple,
    "EMPTY_LIST": _empty(list),
    "EMPTY_DICT": _empty(dict),
    "EMPTY_SET": _empty(set),
    "TUPLE": _tuple,
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "LIST": _list,
    "DICT": _dict,
    "FROZENSET": _frozen_set,
    "APPEND": _append,
    "APPENDS": _appends,
    "SETITEM": _set_item,
    "SETITEMS": _set_items_marked,
    "ADDITEMS": _add_items,
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _new_object,
    "NEWOBJ_EX": _new_object_with_keywords,
    "BUILD": _build,
    "BINPERSID": _storage,
}
