"""The user's module with named inputs and outputs, whatever the structure of what it returns."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from skyfan.errors import ModelError


class NamedModule(nn.Module):
    """Calls `model` with tensors in the order of `keywords` (empty: by position), and gives its tensors by name.

    The keys of dictionaries and the fields of named tuples and dataclasses are names; other outputs are `output_0`,
    `output_1`, … by their position. `output_names` are names in that order instead. What is no tensor is left out.
    """

    def __init__(self, model: nn.Module, keywords: Sequence[str], output_names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self._keywords, self._output_names = tuple(keywords), tuple(output_names)

    def call(self, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        """Tensors [B, …] → outputs [B, …] by name."""
        if self._keywords:
            found = self.model(**dict(zip(self._keywords, tensors, strict=True)))
        else:
            found = self.model(*tensors)
        leaves = list(_leaves(found, ()))
        names = [
            "_".join(path) if any(not part.isdigit() for part in path) else f"output_{at}"
            for at, (path, _) in enumerate(leaves)
        ]
        if self._output_names and len(self._output_names) != len(names):
            raise ModelError(
                f"--output-names gives {len(self._output_names)} names, the model {len(names)} tensors "
                f"({', '.join(names)}); give one name for each."
            )
        named = zip(self._output_names or names, leaves, strict=True)
        return {name: value for name, (_, value) in named}


def named_module(
    model: nn.Module, inputs: Sequence[str], keywords: Sequence[str], output_names: Sequence[str]
) -> NamedModule:
    """The module for `torch.export`, which takes the names of a program's inputs from the signature of `forward`."""

    def forward(self: NamedModule, *tensors: Tensor) -> dict[str, Tensor]:
        return self.call(tensors)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind) for name in ("self", *inputs)]
    forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    made: Callable[..., NamedModule] = type("Exported", (NamedModule,), {"forward": forward})
    return made(model, keywords, output_names)


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    if isinstance(value, Tensor):
        yield path, value
        return
    if isinstance(value, Mapping):
        parts = {str(key): part for key, part in value.items()}
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        parts = dict(zip(value._fields, value, strict=True))
    elif isinstance(value, list | tuple):
        parts = {str(at): part for at, part in enumerate(value)}
    elif hasattr(value, "__dataclass_fields__"):
        parts = {name: getattr(value, name) for name in value.__dataclass_fields__}
    else:
        return
    for key, part in parts.items():
        yield from _leaves(part, (*path, key))
