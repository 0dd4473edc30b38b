"""`load_model`: the one way from a URI to something that predicts.

torch is imported only by what needs it: an exported program, or the module of an AstroMAE that torch is to run. A model
that was converted for a run (`skyfan.models.converted`) needs it only where torch is the run's engine.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from skyfan import store
from skyfan.errors import LocationError, ModelError
from skyfan.models import DEMO_MODEL, demo_model_path
from skyfan.models.checkpoint import (
    SOURCE_DIGEST_KEY,
    Array,
    Checkpoint,
    is_torch_save,
    read_safetensors,
)
from skyfan.models.config import UNSHAPED_FIELDS, AstroMAEConfig, config_from_shapes
from skyfan.models.converted import ConvertedModel, is_choice, read_converted
from skyfan.models.exporting.command import EXPORT_COMMAND
from skyfan.models.inputs import ModelInput, ModelInputs, examples
from skyfan.models.onnx import is_onnx
from skyfan.models.programs.archive import is_program
from skyfan.models.reference_outputs import Outputs
from skyfan.models.shapes import weight_shapes
from skyfan.models.weight_names import STEM, STEM_ALIAS
from skyfan.plain_text import first_line

if TYPE_CHECKING:
    from torch import Tensor, nn

    from skyfan.models.astromae import AstroMAE
    from skyfan.models.onnx.reading import OnnxModel
    from skyfan.models.programs.module import ProgramModule

ModelFormat = Literal["safetensors", "state_dict", "module", "program", "onnx", "converted"]
CPU = "cpu"


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to predict, in evaluation mode on `device`.

    `call` holds the tensors it takes, in the order of the call, and `example_shapes` shapes that fit them; `digest` is
    the SHA-256 of the file's bytes. `program`, `onnx`: a model of that kind; `converted`: what ranks load of one.
    Of AstroMAE only: `config`, `weights` by name, `reference_outputs` (torch's, on `check_samples`, where the file
    holds them; `bound_outputs`: by a digest to these weights) and `origins` (where the values that no shape tells came
    from).
    """

    uri: str
    digest: str
    size_bytes: int
    format: ModelFormat
    call: ModelInputs
    device: str
    config: AstroMAEConfig | None = None
    weights: Mapping[str, Array] = field(default_factory=dict, repr=False)
    reference_outputs: Outputs | None = None
    bound_outputs: bool = False
    origins: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    program: "ProgramModule | None" = None
    onnx: "OnnxModel | None" = None
    converted: ConvertedModel | None = None
    example_shapes: tuple[tuple[int, ...], ...] = ()

    @property
    def inputs(self) -> tuple[ModelInput, ...]:
        """The tensors that the model takes, in the order of the call."""
        return self.call.tensors

    @property
    def examples(self) -> tuple[ModelInput, ...]:
        """The inputs in sizes that fit the model, for samples to try it on."""
        return examples(self.inputs, self.example_shapes) if self.example_shapes else self.inputs

    @property
    def made_of(self) -> str | None:
        """The SHA-256 of the file that this one says it was converted from."""
        return self.metadata.get(SOURCE_DIGEST_KEY)

    @property
    def architecture(self) -> str:
        """`AstroMAE`, `ONNX model` or `exported program`."""
        return "AstroMAE" if self.config else "ONNX model" if self.onnx else "exported program"

    @cached_property
    def parameters(self) -> int:
        """Number of trainable values; of an ONNX model, of all that are stored."""
        if self.converted is not None:
            return self.converted.choice.parameters
        if self.onnx is not None:
            return self.onnx.parameters
        if self.program is not None:
            # a layer that is registered twice is two parameters over the same values
            return sum({values.data_ptr(): values.numel() for values in self.program.parameters()}.values())
        buffers = (".running_mean", ".running_var", ".num_batches_tracked")
        return sum(values.size for name, values in self.weights.items() if not name.endswith(buffers))

    @cached_property
    def module(self) -> "nn.Module":
        """The model as torch runs it; made when it is first asked for."""
        if self.program is not None:
            return self.program
        if self.config is None:
            raise ModelError(f"{self.uri} is an {self.architecture}, which torch does not run.")
        return astromae_module(self.config, self.weights).to(self.device)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know before they run it, each as one sentence."""
        batch = None if self.program is None else self.program.fixed_batch
        if batch is None:
            return ()
        return (
            f"{self.uri} was exported for {batch} samples at a time, so that smaller batches are filled up to that; "
            f"export it with a free number: {EXPORT_COMMAND.format(weights='CKPT')}.",
        )

    def bind(self, tensor_names: Sequence[str]) -> tuple[str, ...]:
        """The dataset tensors to call the model with, see `ModelInputs.bind`."""
        return self.call.bind(tensor_names)

    def predict(self, *tensors: "Tensor") -> "Tensor":
        """Tensors [B, …] in the order of `inputs` → predictions [B, K] on `device`; AstroMAE's: `models/mixture.py`."""
        import torch

        self.call.check_shapes(tensors)
        with torch.inference_mode():
            out: Tensor = self.module(*(tensor.to(self.device) for tensor in tensors))
        return out


def load_model(
    uri: str, device: str = "cpu", *, random_seed: int | None = None, planned_digest: str | None = None
) -> LoadedModel:
    """The model at a path or URI, or the packaged one for `"demo"`; nothing in the file is executed.

    Formats are told by content: safetensors, `torch.save` of a state dict or of a whole module, `torch.export`
    programs (`.pt2`) and ONNX. Programs and ONNX are checked, and then tried in a confined child process; a file of
    `planned_digest` (SHA-256, hex) was tried when the run was prepared, and any other is refused before it is looked
    into. With `random_seed` a program may draw random numbers, as for MC dropout.

    Raises:
        ModelError: the file is anything else, damaged, or not the planned one.
        LocationError: there is no such file.
    """
    where = str(demo_model_path()) if uri == DEMO_MODEL else uri
    data = store.read(where)
    digest = file_digest(data, where)
    if planned_digest not in (None, digest):
        raise ModelError(f"{uri} changed since the run was planned; plan again with another --output.")
    if is_choice(data):
        return _converted(uri, data, digest, device, random_seed, planned=planned_digest is not None)
    if is_onnx(data, where):
        return _onnx(uri, data, digest, device, tried=planned_digest is not None)
    if device != CPU:
        _require_device(device)
    if is_program_file(data, where):
        program, call, shapes = _program(data, where, random_seed, tried=planned_digest is not None)
        return LoadedModel(
            uri, digest, len(data), "program", call, device, program=program.to(device), example_shapes=shapes
        )
    checkpoint = read_checkpoint(data, where, is_planned=planned_digest is not None)
    config, origins = checked_config(checkpoint, where)
    return LoadedModel(
        uri,
        digest,
        len(data),
        checkpoint.format,
        ModelInputs.of_astromae(config),
        device,
        config=config,
        weights=checkpoint.state,
        reference_outputs=checkpoint.reference_outputs,
        bound_outputs=checkpoint.bound_outputs,
        origins=origins,
        metadata=checkpoint.metadata,
    )


def file_digest(data: bytes, uri: str) -> str:
    """SHA-256 of a model's file, in hex; of an ONNX file with its external data."""
    if is_onnx(data, uri):
        from skyfan.models.onnx.reading import onnx_digest

        return onnx_digest(data, uri)
    return hashlib.sha256(data).hexdigest()


def _converted(
    uri: str, data: bytes, digest: str, device: str, random_seed: int | None, *, planned: bool
) -> LoadedModel:
    """What a run's ranks load; where torch is the run's engine, the model's own file."""
    if not planned:
        raise ModelError(f"{uri} is what a run's ranks load, not a model; name the model's own file.")
    converted = read_converted(uri, data)
    choice = converted.choice
    if choice.engine == "torch":
        source = load_model(choice.source_uri, device, random_seed=random_seed, planned_digest=choice.source_digest)
        return replace(source, converted=converted)
    call = ModelInputs(choice.inputs, by_name=False)
    return LoadedModel(uri, digest, len(data), "converted", call, device, converted=converted)


def _onnx(uri: str, data: bytes, digest: str, device: str, *, tried: bool) -> LoadedModel:
    from skyfan.models.onnx.reading import read_onnx

    model = read_onnx(data, uri)
    if not tried:
        from skyfan.models.onnx.trial import try_onnx

        try_onnx(model.data, uri)
    call = ModelInputs(model.inputs, by_name=False)
    return LoadedModel(uri, digest, len(data), "onnx", call, device, onnx=model, example_shapes=model.example_shapes)


def _program(
    data: bytes, where: str, random_seed: int | None, *, tried: bool
) -> "tuple[ProgramModule, ModelInputs, tuple[tuple[int, ...], ...]]":
    from skyfan.models.programs.checked import checked_program

    checked = checked_program(data, where, random=random_seed is not None)
    if not tried:
        from skyfan.models.programs.trial import try_program

        try_program(data, where, random_seed=random_seed)
    from skyfan.models.programs.module import ProgramModule

    return ProgramModule(checked, random_seed), ModelInputs(checked.inputs, by_name=False), checked.example_shapes


def read_checkpoint(data: bytes, where: str, *, is_planned: bool = False) -> Checkpoint:
    """Weights from the bytes of any checkpoint format, told by content and not by the file's name.

    `is_planned`: of a file that was read when the run was prepared, see `read_safetensors`.

    Raises:
        ModelError: it is empty, damaged, or no checkpoint.
    """
    if not data:
        raise ModelError(f"{where} is empty.")
    if not is_torch_save(data):
        return read_safetensors(data, where, is_planned=is_planned)
    from skyfan.models.torch_checkpoint import read_torch

    return read_torch(data, where)


def checked_config(
    checkpoint: Checkpoint, where: str, overrides: Mapping[str, float] | None = None
) -> tuple[AstroMAEConfig, dict[str, str]]:
    """The configuration that the checkpoint's weights fit, and where each of `UNSHAPED_FIELDS` came from.

    Raises `ModelError` naming the first weight that is missing, unknown, misshapen or not finite.
    """
    unshaped = {**checkpoint.attributes, **(overrides or {})}
    try:
        config = config_from_shapes({name: v.shape for name, v in checkpoint.state.items()}, **unshaped)
    except ModelError as error:
        raise ModelError(f"{where}: {str(error).rstrip('.')}.") from error
    _check_against(weight_shapes(config), checkpoint, where)
    told = dict.fromkeys(checkpoint.attributes, f"the file's {checkpoint.attributes_from}")
    told |= dict.fromkeys(overrides or {}, "the user")
    return config, {name: told.get(name, "the default") for name in UNSHAPED_FIELDS}


def astromae_module(config: AstroMAEConfig, weights: Mapping[str, Array]) -> "AstroMAE":
    """The module in evaluation mode; its parameters share the memory of `weights`."""
    import torch

    from skyfan.models.astromae import AstroMAE

    with torch.device("meta"):
        model = AstroMAE(config)
    state = {name: torch.from_numpy(values) for name, values in weights.items()}
    alias = {STEM_ALIAS + n.removeprefix(STEM): v for n, v in state.items() if n.startswith(STEM)}
    model.load_state_dict({**state, **alias}, assign=True)
    # Assigning gives the twice-registered layer two parameters; it is one.
    stem = model.inception_model.conv2d_init
    model.inception_model.vis_inception[0] = stem
    return model.eval()


def _check_against(wanted: Mapping[str, tuple[int, ...]], checkpoint: Checkpoint, where: str) -> None:
    for name in sorted(wanted.keys() ^ checkpoint.state.keys()):
        what = "lacks" if name in wanted else "has the unexpected"
        raise ModelError(
            f"{where} {what} weight {name} for an AstroMAE; a model of another architecture is exported once: "
            f"{EXPORT_COMMAND.format(weights=where)}."
        )
    for name, expected in wanted.items():
        found = checkpoint.state[name]
        if found.shape != expected:
            raise ModelError(f"{where}: the weight {name} has the shape {list(found.shape)}, not {list(expected)}.")
        if found.dtype != np.float32 and not name.endswith("num_batches_tracked"):
            raise ModelError(f"{where}: the weight {name} holds {found.dtype}, not floating-point numbers.")
        if not np.isfinite(found).all():
            raise ModelError(f"{where}: the weight {name} holds NaN or infinite values.")


def is_program_file(data: bytes, where: str) -> bool:
    """Whether these bytes are a `torch.export` program."""
    if not data.startswith(b"PK"):
        return False
    from skyfan.models._inert import open_archive

    with open_archive(data, where) as archive:
        return is_program(archive.namelist())


def _require_device(name: str) -> None:
    import torch

    try:
        torch.empty(0, device=torch.device(name))
    except (RuntimeError, AssertionError) as error:
        raise LocationError(
            f"the device {name!r} cannot be used: {first_line(error).rstrip('.')}; try --device cpu."
        ) from error
