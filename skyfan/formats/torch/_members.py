"""What of a saved object tree is a dataset's tensors, and what is left out, by name."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from skyfan.errors import DatasetError
from skyfan.formats.torch.unpickler import MAX_NAME_CHARACTERS, InertObject, OpaqueKey, TensorRef, describe
from skyfan.plain_text import printable

_MAX_DEPTH = 32
_MAX_TENSORS = 10_000
_MAX_SKIPPED = 1_000
_MAX_MEMBERS = 4_000_000
# At least this many images of one shape are an object each; bands or epochs kept as tensors of their own are fewer.
_MAX_ALIKE = 64
_DATASET_CLASS = "torch.utils.data.dataset.TensorDataset"

REMEDY = (
    "; Skyfan opens tensors, TensorDataset, and tuples, lists and dicts of tensors only. "
    "Save the tensors themselves: torch.save(TensorDataset(image, magnitude, redshift), FILE)."
)
"""How the sentence about a call goes on."""


@dataclass
class Members:
    """`tensors` by name in the file's order, and a phrase for each member that is none: `note (a str)`."""

    where: str
    tensors: dict[str, TensorRef] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    _without_tensors: set[int] = field(default_factory=set)
    _visited: int = 0

    def add(self, name: str, tensor: TensorRef) -> None:
        """One more tensor; its name goes into plans, file names and terminals, so it has to be plain text."""
        if not name.isprintable() or len(name) > MAX_NAME_CHARACTERS:
            raise DatasetError(
                f"{self.where} names a tensor {name[:60]!r}; name tensors by at most {MAX_NAME_CHARACTERS} "
                "printable characters."
            )
        if name in self.tensors:
            raise DatasetError(f"{self.where} has two tensors of one name ({name}); rename the keys that hold dots.")
        if len(self.tensors) == _MAX_TENSORS:
            raise DatasetError(f"{self.where} holds more than {_MAX_TENSORS} tensors.")
        self.tensors[name] = tensor

    def skip(self, path: tuple[str, ...], value: object) -> None:
        """One more member that is no tensor."""
        if len(self.skipped) == _MAX_SKIPPED:
            raise DatasetError(f"{self.where} holds more than {_MAX_SKIPPED} members beside its tensors.")
        name = printable(".".join(path)[:MAX_NAME_CHARACTERS])
        self.skipped.append(f"{name} ({describe(value)})")

    def collect(self, value: object, path: tuple[str, ...] = ()) -> bool:
        """Add the tensors at and below `value`; false where there are none, and then nothing below is skipped by name.

        A container without tensors is visited once, however often it is referred to.
        """
        if isinstance(value, TensorRef):
            self.add(".".join(path) or "0", value)
            return True
        if id(value) in self._without_tensors:
            return False
        members = _members(value)
        if members is None:
            return False
        if len(path) > _MAX_DEPTH:
            raise DatasetError(f"{self.where} nests its tensors deeper than {_MAX_DEPTH} levels.")
        others = []
        for key, member in members:
            self._visited += 1
            if self._visited > _MAX_MEMBERS:
                raise DatasetError(f"{self.where} holds more than {_MAX_MEMBERS:,} members.")
            if isinstance(key, OpaqueKey) and isinstance(member, TensorRef):
                raise DatasetError(f"{self.where} names a tensor by {key.kind}; name tensors by strings.")
            part = key.kind if isinstance(key, OpaqueKey) else str(key)
            if not self.collect(member, (*path, part)):
                others.append(((*path, part), member))
        if len(others) == len(_sized(value)):
            self._without_tensors.add(id(value))
            return False
        for path_to, member in others:
            self.skip(path_to, member)
        return True


def read_members(tree: object, where: str) -> Members:
    """The tensors of an object tree as `load_tree` gives it.

    Raises:
        DatasetError: there are none, or too many, or names that cannot be used.
    """
    members = Members(where)
    if members.collect(tree):
        _refuse_objects(tree, members)
        return members
    if _members(tree) is None:
        raise DatasetError(
            f"{where} holds {describe(tree)}; Skyfan opens tensors, TensorDataset, and tuples, lists and dicts of "
            "tensors only."
        )
    listed = ", ".join(
        f"{str(key)[:60]} ({describe(value)})" for key, value in _first(tree) if isinstance(key, str | int)
    )
    arrays = "; save them as tensors, or with numpy.savez" if "numpy array" in listed else ""
    raise DatasetError(printable(f"{where} holds no tensors{f', but {listed}' if listed else ''}{arrays}."))


def _refuse_objects(tree: object, members: Members) -> None:
    """An object a member, as a list of samples is saved: dimension 0 of its tensors is bands or lines, not samples."""
    rows = isinstance(tree, list | tuple) and len(tree) > 1 and all(_alike(tree[0], one) for one in tree)
    images = Counter(ref.shape for ref in members.tensors.values() if len(ref.shape) > 2)
    if rows or max(images.values(), default=0) > _MAX_ALIKE:
        every = "list(torch.load(FILE).values())" if isinstance(tree, dict) else "torch.load(FILE)"
        raise DatasetError(
            f"{members.where} seems to hold one object a member, {len(_sized(tree)):,} of them; make one tensor "
            f"of all: torch.save(torch.utils.data.default_collate({every}), NEW_FILE)."
        )


def _alike(first: object, other: object) -> bool:
    """Whether both hold one object each, which share names or begin alike; inputs and targets of all objects do not."""
    if isinstance(first, dict) and isinstance(other, dict):
        return not first.keys().isdisjoint(other)
    if isinstance(first, list | tuple) and isinstance(other, list | tuple):
        begins = [
            [len(one.shape) if isinstance(one, TensorRef) else None for one in each[:1]] for each in (first, other)
        ]
        return begins[0] == begins[1]
    return False


def _sized(value: object) -> tuple[object, ...] | list[object] | dict[object, object]:
    """The container itself, or the one in a TensorDataset, a dataclass or a named tuple, which hold tensors alone.

    Of a named tuple the file has no names: they are in its class, which is not imported.
    """
    if isinstance(value, InertObject):
        inside = _dataset_members(value) if value.path == _DATASET_CLASS else value.state or value.arguments
        held = inside.values() if isinstance(inside, dict) else inside if isinstance(inside, tuple | list) else ()
        value = inside if value.path == _DATASET_CLASS or any(isinstance(one, TensorRef) for one in held) else ()
    return value if isinstance(value, tuple | list | dict) else ()


def _dataset_members(dataset: InertObject) -> object:
    """What a TensorDataset's items are made of, by position, and its further attributes by name."""
    items, attributes = dataset.state.get("tensors"), {k: v for k, v in dataset.state.items() if k != "tensors"}
    return {**dict(enumerate(items)), **attributes} if attributes and isinstance(items, tuple | list) else items


def _members(value: object) -> Iterator[tuple[object, object]] | None:
    """Key and value of each member of a container; None for anything else."""
    found = _sized(value)
    if found is value or found or (isinstance(value, InertObject) and value.path == _DATASET_CLASS):
        return iter(found.items()) if isinstance(found, dict) else iter(enumerate(found))
    return None


def _first(tree: object) -> list[tuple[object, object]]:
    return [member for _, member in zip(range(3), _members(tree) or (), strict=False)]
