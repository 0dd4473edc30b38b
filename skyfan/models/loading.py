"""`load_model`: the one way from a URI to something that predicts."""

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from skyfan import store
from skyfan.errors import LocationError, ModelError
from skyfan.models import DEMO_MODEL, demo_model_path
from skyfan.models._inert import open_archive
from skyfan.models._program_check import is_program
from skyfan.models.astromae import AstroMAE
from skyfan.models.checkpoint import STEM, STEM_ALIAS, Checkpoint, read_safetensors, read_torch
from skyfan.models.config import UNSHAPED_FIELDS, AstroMAEConfig, config_from_shapes
from skyfan.models.program import ProgramInput, load_program

ModelFormat = Literal["safetensors", "state_dict", "module", "program"]


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to predict, in evaluation mode on `device`.

    `inputs` are the tensors it takes, in the order of the call; `digest` is the SHA-256 of the file's
    bytes; `config` and `origins` (where the values that no shape tells came from) are of AstroMAE only.
    """

    uri: str
    digest: str
    size_bytes: int
    format: ModelFormat
    module: nn.Module
    inputs: tuple[ProgramInput, ...]
    device: torch.device
    config: AstroMAEConfig | None = None
    origins: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def architecture(self) -> str:
        """`AstroMAE` or `exported program`."""
        return "AstroMAE" if self.config else "exported program"

    @property
    def parameters(self) -> int:
        """Number of trainable values."""
        return sum(parameter.numel() for parameter in self.module.parameters())

    def bind(self, tensor_names: Sequence[str]) -> tuple[str, ...]:
        """The dataset tensors to call the model with: by name where all match, else the first ones in order."""
        names = tuple(wanted.name for wanted in self.inputs)
        if set(names) <= set(tensor_names):
            return names
        if self.config is not None:
            missing = [name for name in names if name not in tensor_names]
            raise ModelError(f"the dataset has no tensor {missing[0]!r}, only {', '.join(tensor_names)}.")
        if len(names) > len(tensor_names):
            raise ModelError(f"the model takes {len(names)} tensors, the dataset has {len(tensor_names)}.")
        return tuple(tensor_names[: len(names)])

    def predict(self, *tensors: Tensor) -> Tensor:
        """Tensors [B, …] in the order of `inputs` → predictions [B, K] (AstroMAE: K = 1), on `device`."""
        self.check_shapes(tensors)
        with torch.inference_mode():
            out: Tensor = self.module(*(tensor.to(self.device) for tensor in tensors))
        return out

    def check_shapes(self, tensors: Sequence[Tensor]) -> None:
        """Raises `ModelError` unless each tensor's shape beyond the batch is what the model takes."""
        if len(tensors) != len(self.inputs):
            raise ModelError(f"the model takes {len(self.inputs)} tensors, not {len(tensors)}.")
        for wanted, tensor in zip(self.inputs, tensors, strict=True):
            sizes = zip(wanted.shape[1:], tensor.shape[1:], strict=False)
            if tensor.dim() != len(wanted.shape) or any(w is not None and w != n for w, n in sizes):
                shape = ", ".join("any" if size is None else str(size) for size in wanted.shape[1:])
                raise ModelError(
                    f"the model takes {wanted.name!r} of shape [samples, {shape}], "
                    f"the dataset's has {list(tensor.shape)}."
                )


def load_model(uri: str, device: str = "cpu") -> LoadedModel:
    """The model at a path or URI, or the packaged one for `"demo"`; nothing in the file is executed.

    Formats are told by content: safetensors, `torch.save` of a state dict or of a whole module, and
    `torch.export` programs (`.pt2`). Raises `ModelError` for anything else and for damaged files,
    `LocationError` where there is no file.
    """
    where = str(demo_model_path()) if uri == DEMO_MODEL else uri
    data = store.read(where)
    target = _device(device)
    digest = hashlib.sha256(data).hexdigest()
    if is_program_file(data, where):
        program, inputs = load_program(data, where)
        return LoadedModel(uri, digest, len(data), "program", program.to(target), inputs, target)
    checkpoint = read_checkpoint(data, where)
    model, origins = build_astromae(checkpoint, where)
    return LoadedModel(
        uri,
        digest,
        len(data),
        checkpoint.format,
        model.to(target),
        _astromae_inputs(model.config),
        target,
        config=model.config,
        origins=origins,
        metadata=checkpoint.metadata,
    )


def read_checkpoint(data: bytes, where: str) -> Checkpoint:
    """Weights from the bytes of any checkpoint format, told by content and not by the file's name."""
    if not data:
        raise ModelError(f"{where} is empty.")
    is_torch = data.startswith((b"PK", b"\x80"))
    return read_torch(data, where) if is_torch else read_safetensors(data, where)


def build_astromae(
    checkpoint: Checkpoint, where: str, overrides: dict[str, float] | None = None
) -> tuple[AstroMAE, dict[str, str]]:
    """The model in evaluation mode, and where each of `UNSHAPED_FIELDS` came from."""
    unshaped = {**checkpoint.attributes, **(overrides or {})}
    try:
        config = config_from_shapes({name: tuple(v.shape) for name, v in checkpoint.state.items()}, **unshaped)
    except ModelError as error:
        raise ModelError(f"{where}: {error}.") from error
    with torch.device("meta"):
        model = AstroMAE(config)
    _check_against(model, checkpoint, where)
    model.load_state_dict(_with_alias(checkpoint.state), assign=True)
    # Assigning gives the twice-registered layer two parameters; it is one.
    stem = model.inception_model.conv2d_init
    model.inception_model.vis_inception[0] = stem
    told = dict.fromkeys(checkpoint.attributes, f"the file's {checkpoint.attributes_from}")
    told |= dict.fromkeys(overrides or {}, "the user")
    return model.eval(), {name: told.get(name, "the default") for name in UNSHAPED_FIELDS}


def _check_against(model: AstroMAE, checkpoint: Checkpoint, where: str) -> None:
    """Raises `ModelError` naming the first weight that is missing, unknown, misshapen or not finite."""
    wanted = {name: v for name, v in model.state_dict().items() if not name.startswith(STEM_ALIAS)}
    for name in sorted(wanted.keys() ^ checkpoint.state.keys()):
        what = "lacks" if name in wanted else "has the unexpected"
        raise ModelError(
            f"{where} {what} weight {name} for an AstroMAE; export a model of another architecture with "
            "torch.export.save to a .pt2 file."
        )
    for name, expected in wanted.items():
        found = checkpoint.state[name]
        if found.shape != expected.shape:
            raise ModelError(
                f"{where}: the weight {name} has the shape {list(found.shape)}, not {list(expected.shape)}."
            )
        if not torch.isfinite(found).all():
            raise ModelError(f"{where}: the weight {name} holds NaN or infinite values.")


def _with_alias(state: dict[str, Tensor]) -> dict[str, Tensor]:
    alias = {STEM_ALIAS + n.removeprefix(STEM): v for n, v in state.items() if n.startswith(STEM)}
    return {**state, **alias}


def _astromae_inputs(config: AstroMAEConfig) -> tuple[ProgramInput, ...]:
    image = (None, config.channels, config.image_size, config.image_size)
    magnitude = (None, config.magnitudes)
    return (ProgramInput("image", image, "float32"), ProgramInput("magnitude", magnitude, "float32"))


def is_program_file(data: bytes, where: str) -> bool:
    """Whether these bytes are a `torch.export` program."""
    if not data.startswith(b"PK"):
        return False
    try:
        with open_archive(data, where) as archive:
            return is_program(archive.namelist())
    except zipfile.BadZipFile as error:
        raise ModelError(f"{where} is damaged: {error}.") from error


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise LocationError(f"the device {name!r} cannot be used: {str(error).splitlines()[0]}.") from error
    return device
