"""From the bytes of an ONNX file to a model that may be run, with nothing of the file in it but what was checked."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from skyfan.dtypes import numpy_dtype
from skyfan.errors import BadInput, ModelError
from skyfan.models.inputs import ModelInput
from skyfan.models.onnx import NEEDED
from skyfan.models.onnx.external import read_external
from skyfan.models.onnx.operators import ALLOWED, BOUNDED, CURES, INDICES
from skyfan.models.programs.checked import MAX_ROW_VALUES
from skyfan.models.programs.fields import Refusal, refuse, shown
from skyfan.models.programs.lookups import Call, first_unbounded_lookup
from skyfan.plain_text import first_line

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

# protobuf's own limit of a message, the calls and tensors of a graph, values of one tensor.
MAX_BYTES, MAX_NODES, MAX_TENSORS, MAX_DIMENSIONS, MAX_VALUES = 2**31 - 1, 50_000, 200_000, 8, 2**40
MAX_NAME, MAX_OPSET = 200, 64
# onnx's numbers of dtypes (TensorProto.DataType), and their names here.
DTYPES = {1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool"}
DTYPES |= {10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16"}
# Fields of a tensor that hold its values where `raw_data` does not.
_TYPED = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
_GRAPHS, _SPARSE, _TYPES = (5, 10), (11, 12), (13, 14)  # AttributeProto.AttributeType


@dataclass(frozen=True)
class OnnxModel:
    """A checked model as the bytes of a new file without external data, and what it takes, gives and calls."""

    data: bytes
    inputs: tuple[ModelInput, ...]
    output_names: tuple[str, ...]
    operators: Mapping[str, int]
    parameters: int
    unbounded_lookup: str | None

    @property
    def example_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of its inputs, with a batch of one where it is free."""
        return tuple(tuple(size or 1 for size in taken.shape) for taken in self.inputs)


def onnx_digest(data: bytes, uri: str) -> str:
    """SHA-256 over a file and the files that hold its external data: what identifies the model.

    Raises:
        ModelError: it is no ONNX file, or its external data cannot be read.
    """
    own = hashlib.sha256(data)
    try:
        locations = sorted({_location(tensor) for tensor in _tensors(_parse(data).graph) if tensor.data_location})
        for location in locations:
            own.update(f"\n{location} {hashlib.sha256(read_external(uri, location)).hexdigest()}".encode())
    except Refusal as refusal:
        raise ModelError(f"{uri} {refusal}.") from refusal
    return own.hexdigest()


def read_onnx(data: bytes, uri: str) -> OnnxModel:
    """The model in the bytes of the file at `uri`; nothing in it is executed.

    Raises:
        ModelError: it holds something that is not allowed, which is named.
        BadInput: the packages for ONNX are not installed.
    """
    try:
        return _checked(_parse(data), uri)
    except Refusal as refusal:
        raise ModelError(f"{uri} {refusal}.") from refusal


def _parse(data: bytes) -> "ModelProto":
    if find_spec("onnx") is None or find_spec("onnxruntime") is None:
        raise BadInput(NEEDED)
    import onnx
    from google.protobuf.message import DecodeError

    if not data or len(data) > MAX_BYTES:
        refuse("is empty" if not data else f"has {len(data):,} bytes, more than {MAX_BYTES:,}")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)  # bounds the nesting of messages by itself, at 100
    except (DecodeError, ValueError) as error:
        raise Refusal(f"is no ONNX file, or damaged: {first_line(error)}") from error
    graph = model.graph
    if len(graph.node) > MAX_NODES or len(graph.initializer) > MAX_TENSORS:
        refuse(f"holds more than {MAX_NODES:,} calls or more than {MAX_TENSORS:,} tensors")
    for part in (*model.opset_import, *graph.node, *graph.initializer, *graph.input, *graph.output):
        _check_texts(part)
    return model


def _check_texts(message: "Message") -> None:
    """Refuses texts that are no UTF-8: protobuf gives them as bytes, where all that follows counts on texts."""
    for field, value in message.ListFields():
        if field.type in (field.TYPE_STRING, field.TYPE_MESSAGE):
            for part in (value,) if isinstance(value, str | bytes) or hasattr(value, "ListFields") else value:
                if isinstance(part, bytes):
                    refuse(f"holds a {field.name} that is no text")
                if not isinstance(part, str):
                    _check_texts(part)


def _checked(model: "ModelProto", uri: str) -> OnnxModel:
    graph = model.graph
    domains = {opset.domain for opset in model.opset_import}
    _check_domains(domains)
    if model.functions or model.training_info:
        refuse(
            "holds functions of its own (inline them with onnx.inliner) or training (save the inference graph alone)"
        )
    if graph.sparse_initializer:
        refuse("holds sparse tensors")
    if not graph.node:
        refuse("is no ONNX file, or holds no calls")
    fetched: dict[str, bytes] = {}
    for tensor in _tensors(graph):
        _check_tensor(tensor, uri, fetched)
    weights = {tensor.name for tensor in graph.initializer}
    given = [value for value in graph.input if value.name not in weights]
    inputs = tuple(_input(value) for value in given)
    if not inputs or len(graph.output) == 0:
        refuse("takes no tensors" if not inputs else "gives no tensors")
    if len({taken.shape[0] for taken in inputs}) > 1:
        refuse("takes tensors of different batch sizes")
    outputs = tuple(_output(value) for value in graph.output)
    _check_calls(graph, {taken.name for taken in inputs} | weights, outputs)
    calls = Counter(node.op_type for node in graph.node)
    parameters = sum(math.prod(tensor.dims) for tensor in graph.initializer)
    data = _written(model, given)
    return OnnxModel(data, inputs, outputs, calls, parameters, first_unbounded_lookup(
        {taken.name for taken in inputs}, _lookups(graph.node)))  # fmt: skip


def _check_domains(domains: Iterable[str]) -> None:
    other = next((domain for domain in sorted(domains) if domain not in ALLOWED), None)
    if other is not None:
        refuse(
            f"uses operators of the domain {shown(other)}, which are somebody's own code; allowed are those of "
            + ", ".join(repr(name) for name in ALLOWED)
        )


def _tensors(graph: "GraphProto") -> Iterable["TensorProto"]:
    """Every tensor of the file: weights, and those in attributes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _location(tensor: "TensorProto") -> str:
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def _check_tensor(tensor: "TensorProto", uri: str, fetched: dict[str, bytes]) -> None:
    """Holds a tensor's shape against its values; external ones are read and put into it."""
    name, sizes = shown(tensor.name), list(tensor.dims)
    if tensor.data_type not in DTYPES:
        refuse(f"holds the tensor {name} of dtype {tensor.data_type}, which is no plain number")
    count = math.prod(sizes[:MAX_DIMENSIONS])
    if len(sizes) > MAX_DIMENSIONS or any(size < 0 for size in sizes) or count > MAX_VALUES:
        refuse(f"gives the tensor {name} the shape {sizes[:MAX_DIMENSIONS]}, which no tensor here can have")
    wanted_bytes = count * numpy_dtype(DTYPES[tensor.data_type]).itemsize
    if tensor.data_location:
        tensor.raw_data = _external(tensor, uri, wanted_bytes, fetched)
        del tensor.external_data[:]
        tensor.ClearField("data_location")
    held = sum(len(getattr(tensor, field)) for field in _TYPED)
    fits = len(tensor.raw_data) == wanted_bytes if tensor.raw_data else held == count
    if not fits or tensor.string_data:
        refuse(f"gives the tensor {name} the shape {sizes}, which is not what is stored for it")


def _external(tensor: "TensorProto", uri: str, wanted_bytes: int, fetched: dict[str, bytes]) -> bytes:
    told = {entry.key: entry.value for entry in tensor.external_data}
    location = told.get("location", "")
    if location not in fetched:
        fetched[location] = read_external(uri, location)
        if sum(map(len, fetched.values())) > MAX_BYTES:
            refuse(f"has more than {MAX_BYTES:,} bytes with its external data")
    offset, length = _whole(told.get("offset", "0")), _whole(told.get("length", str(wanted_bytes)))
    if length != wanted_bytes or offset + length > len(fetched[location]):
        refuse(f"keeps the tensor {shown(tensor.name)} in {shown(location)} beyond what that file holds")
    return fetched[location][offset : offset + length]


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else refuse(f"has {shown(text)} as a size")


def _input(value: "ValueInfoProto") -> ModelInput:
    dtype, sizes = _type(value)
    if not sizes:
        refuse(f"takes {shown(value.name)}, which has no batch dimension")
    if any(size is None for size in sizes[1:]):
        refuse(f"leaves sizes of {shown(value.name)} open beside the batch; export it with fixed sizes of a row")
    if any(size is not None and size < 1 for size in sizes) or math.prod(size or 1 for size in sizes) > MAX_ROW_VALUES:
        refuse(f"takes {shown(value.name)} with rows of more than {MAX_ROW_VALUES:,} values, or none")
    return ModelInput(_name(value.name), sizes, dtype)


def _output(value: "ValueInfoProto") -> str:
    _type(value)
    return _name(value.name)


def _type(value: "ValueInfoProto") -> tuple[str, tuple[int | None, ...]]:
    if value.type.WhichOneof("value") != "tensor_type":
        refuse(f"takes or gives {shown(value.name)}, which is no tensor (a classifier: {CURES['ZipMap']})")
    tensor = value.type.tensor_type
    if tensor.elem_type not in DTYPES:
        refuse(f"takes or gives {shown(value.name)}, which holds no plain numbers")
    if len(tensor.shape.dim) > MAX_DIMENSIONS:
        refuse(f"takes or gives {shown(value.name)} of {len(tensor.shape.dim)} dimensions")
    return DTYPES[tensor.elem_type], tuple(
        dim.dim_value if dim.WhichOneof("value") == "dim_value" else None for dim in tensor.shape.dim
    )


def _name(name: str) -> str:
    if not name.isprintable() or not 0 < len(name) <= MAX_NAME:
        refuse(f"takes or gives a tensor of the name {shown(name)}")
    return name


def _check_calls(graph: "GraphProto", known: set[str], outputs: Iterable[str]) -> None:
    """Every call is allowed, and takes only what is there before it: so there are no cycles."""
    for node in graph.node:
        _check_call(node)
        missing = next((name for name in node.input if name and name not in known), None)
        if missing is not None:
            refuse(f"uses {shown(missing)} before anything computes it: its graph has a cycle or lacks a part")
        twice = next((name for name in node.output if name and name in known), None)
        if twice is not None:
            refuse(f"computes {shown(twice)} twice")
        known.update(name for name in node.output if name)
    lacking = next((name for name in outputs if name not in known), None)
    if lacking is not None:
        refuse(f"gives {shown(lacking)}, which nothing computes")


def _check_call(node: "NodeProto") -> None:
    _check_domains({node.domain})
    if node.op_type not in ALLOWED[node.domain]:
        cure = CURES.get(node.op_type)
        refuse(f"calls {shown(node.op_type)}, which is not allowed here" + (f"; {cure}" if cure else ""))
    for attribute in node.attribute:
        _check_attribute(attribute, node)


def _check_attribute(attribute: "AttributeProto", node: "NodeProto") -> None:
    graphs = attribute.HasField("g") or attribute.graphs or attribute.type in _GRAPHS
    sparse = attribute.HasField("sparse_tensor") or attribute.sparse_tensors or attribute.type in _SPARSE
    types = attribute.HasField("tp") or attribute.type_protos or attribute.type in _TYPES
    if graphs or sparse or types or attribute.ref_attr_name:
        what = f"{shown(attribute.name)}, which holds a graph, a type, a sparse tensor or a reference"
        refuse(f"gives {shown(node.op_type)} {what}")
    trains = (node.op_type, attribute.name) == ("BatchNormalization", "training_mode")
    if trains and attribute.i:
        refuse("was exported in training mode; call .eval() before exporting")


def _lookups(nodes: Iterable["NodeProto"]) -> Iterable[Call]:
    for node in nodes:
        at = INDICES.get(node.op_type)
        indices = [node.input[at]] if at is not None and at < len(node.input) else []
        yield Call(node.op_type, indices, list(node.input), list(node.output), bounded=node.op_type in BOUNDED)


def _written(model: "ModelProto", given: Iterable["ValueInfoProto"]) -> bytes:
    """A new file of the checked parts. Not in it: fields unknown to onnx, texts, and shapes that nothing needs."""
    import onnx

    clean = onnx.ModelProto(ir_version=model.ir_version)
    for opset in model.opset_import:
        if not 0 < opset.version <= MAX_OPSET:
            refuse(f"is of version {opset.version} of the operators")
        clean.opset_import.add(domain=opset.domain, version=opset.version)
    clean.graph.name = "model"
    for node in model.graph.node:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    clean.graph.node.extend(model.graph.node)
    clean.graph.initializer.extend(model.graph.initializer)
    clean.graph.input.extend(given)
    clean.graph.output.extend(model.graph.output)
    clean.DiscardUnknownFields()
    try:
        data: bytes = clean.SerializeToString(deterministic=True)
    except ValueError as error:
        raise Refusal(f"has more than {MAX_BYTES:,} bytes with its external data") from error
    return data
