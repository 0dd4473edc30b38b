"""ONNX files: honest models with one to three things changed, or bytes of the file; read, and what passes also run.

`python -m tests.fuzz.onnx_files --executions 30000`. What passes must be what onnxruntime makes of the file itself, and
hold nothing of files outside the model's folder; most of it is run in a child, which must end with rows or a sentence.
"""

import os
import resource
import signal
import tempfile
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, external_data_helper, helper
from sklearn.ensemble import ExtraTreesRegressor

from skyfan.errors import ModelError
from skyfan.models.onnx.operators import ALLOWED, CURES
from skyfan.models.onnx.reading import OnnxModel, onnx_digest, read_onnx
from skyfan.models.onnx.session import OnnxSession
from skyfan.models.reference_outputs import check_samples
from skyfan.sandbox import restrict_process
from tests.fuzz.formats import damaged
from tests.fuzz.runner import main
from tests.models.onnx.models import magnitude, model_of, perceptron, trees

ROWS, RUN_SHARE = 3, 0.5
MEMORY_BYTES, DEADLINE_S = 12 * 2**30, 60
SECRET = b"not for models: " * 64
_FOLDER = Path(tempfile.mkdtemp(prefix="skyfan-fuzz-"))
SIZES = (0, 1, -1, 2, 3, 5, 31, 2**16, 2**20, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63))
FLOATS = (0.0, -1.0, 1e-45, 3e38, float("inf"), float("-inf"), float("nan"))
TEXTS = (
    "", "x", "magnitude", "y", "h", "w1", "\x1b[2J", "a\nb", "\u202e", "n" * 300, "/etc/passwd", "NOTSET",
    "SAME_UPPER", "VALID", "reflect", "constant", "linear", "cubic", "BRANCH_LEQ", "LEAF", "ij,jk->ik", "i" * 200,
)  # fmt: skip
OPERATORS = [(domain, name) for domain in ("", "ai.onnx.ml") for name in sorted(ALLOWED[domain])]
REFUSED = (
    *(("", name) for name in sorted(CURES)), ("", "Exec"), ("com.microsoft", "FusedMatMul"),
    ("ai.onnx.training", "Adam"), ("com.evil", "Run"), ("", "SequenceConstruct"),
    ("", "StringNormalizer"), ("ai.onnx.ml", "LabelEncoder"),
)  # fmt: skip
LOCATIONS = (
    "weights.bin", "../outside.bin", "link.bin", "/etc/passwd", "/dev/zero", "inside", "", ".", "..",
    "a/../../outside.bin", "file:///etc/passwd", "s3://bucket/x", "weights.bin\x00", "missing.bin", "\x1b[2J",
    "x" * 4000, "pipe",
)  # fmt: skip
Change = Callable[[onnx.ModelProto, Random], None]


def _image() -> onnx.ModelProto:
    """Convolution, normalisation, pooling and shape arithmetic on images."""
    rng = np.random.default_rng(0)
    weights = {
        "kernel": rng.normal(0, 0.3, (4, 3, 3, 3)).astype("f4"), "w1": rng.normal(0, 0.3, (4, 2)).astype("f4"),
        **{name: np.full(4, 0.5, "f4") for name in ("scale", "bias", "mean", "var")},
        "shape": np.array([-1, 4]), "at": np.array([1, 0]), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    }  # fmt: skip
    nodes = [
        helper.make_node("Pad", ["image", "pads"], ["padded"], mode="reflect"),
        helper.make_node("Conv", ["padded", "kernel"], ["c"], kernel_shape=[3, 3], strides=[1, 1]),
        helper.make_node("BatchNormalization", ["c", "scale", "bias", "mean", "var"], ["n"]),
        helper.make_node("MaxPool", ["n"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["p"], ["g"]),
        helper.make_node("Reshape", ["g", "shape"], ["r"]),
        helper.make_node("Gather", ["r", "at"], ["o"], axis=1),
        helper.make_node("TopK", ["r", "k"], ["top", "where"], axis=1),
        helper.make_node("MatMul", ["r", "w1"], ["m"]),
        helper.make_node("Concat", ["o", "m", "top"], ["y"], axis=1),
    ]
    return model_of(
        nodes, [("y", ("batch", 6))], {**weights, "k": np.array([2])}, inputs=[("image", ("batch", 3, 6, 6))]
    )


def _recurrent() -> onnx.ModelProto:
    """An LSTM on a curve, and quantised weights."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(0, 0.3, (1, 16, 2)).astype("f4"), "r": rng.normal(0, 0.3, (1, 16, 4)).astype("f4"),
        "q": rng.integers(0, 255, (4, 3)).astype("u1"), "s": np.array(0.01, "f4"), "zero": np.array(128, "u1"),
        "axes": np.array([1]), "starts": np.array([0]), "ends": np.array([2]),
    }  # fmt: skip
    nodes = [
        helper.make_node("Transpose", ["curve"], ["t"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["t", "w", "r"], ["", "last"], hidden_size=4),
        helper.make_node("Squeeze", ["last", "first"], ["h"]),
        helper.make_node("DequantizeLinear", ["q", "s", "zero"], ["d"]),
        helper.make_node("MatMul", ["h", "d"], ["m"]),
        helper.make_node("Slice", ["m", "starts", "ends", "axes"], ["cut"]),
        helper.make_node("Softmax", ["cut"], ["y"], axis=-1),
    ]
    return model_of(
        nodes, [("y", ("batch", 2))], {**weights, "first": np.array([0])}, inputs=[("curve", ("batch", 5, 2))]
    )


@cache
def seeds() -> list[bytes]:
    """Honest files; the last keeps its weights in a file beside it, in the folder that holds the traps."""
    inside, rng = _FOLDER / "in", np.random.default_rng(0)
    (inside / "inside").mkdir(parents=True)
    (_FOLDER / "outside.bin").write_bytes(SECRET)
    (inside / "link.bin").symlink_to(_FOLDER / "outside.bin")
    os.mkfifo(inside / "pipe")
    outside = perceptron()
    external_data_helper.convert_model_to_external_data(outside, location="weights.bin", size_threshold=0)
    onnx.save(outside, inside / "m.onnx")
    trained = ExtraTreesRegressor(3, max_depth=3, random_state=0).fit(magnitude(60), rng.random(60))
    made = [perceptron(), _image(), _recurrent(), trees(trained)]
    return [*(model.SerializeToString() for model in made), (inside / "m.onnx").read_bytes()]


def _operator(model: onnx.ModelProto, random: Random) -> None:
    node = random.choice(model.graph.node)
    node.domain, node.op_type = random.choice(OPERATORS if random.random() < 0.8 else REFUSED)


def _attribute(model: onnx.ModelProto, random: Random) -> None:
    node = random.choice(model.graph.node)
    if not node.attribute or random.random() < 0.3:
        name = random.choice(("axis", "to", "group", "kernel_shape", "pads", "dilations", "perm", "value", "n_targets"))
        value = random.choice(
            (
                random.choice(SIZES),
                [random.choice(SIZES) for _ in range(4)],
                random.choice(FLOATS),
                random.choice(TEXTS),
            )
        )
        node.attribute.append(helper.make_attribute(name, value, attr_type=None if value != [] else 7))
        return
    held = random.choice(node.attribute)
    match random.randrange(6):
        case 0 if held.ints:
            held.ints[random.randrange(len(held.ints))] = random.choice(SIZES)
        case 1 if held.floats:
            held.floats[random.randrange(len(held.floats))] = random.choice(FLOATS)
        case 2 if held.strings:
            held.strings[random.randrange(len(held.strings))] = random.choice(TEXTS).encode()
        case 3:
            held.i, held.type = random.choice(SIZES), random.randrange(15)
        case 4:
            held.ints.extend(random.choice(SIZES) for _ in range(random.choice((1, 3, 2000))))
        case _:
            _forbidden(held, model, random)


def _forbidden(held: onnx.AttributeProto, model: onnx.ModelProto, random: Random) -> None:
    """What an attribute must not hold: graphs (nested, too), sparse tensors, types, references."""
    inner = onnx.GraphProto()
    inner.CopyFrom(model.graph)
    match random.randrange(5):
        case 0:
            for _ in range(random.choice((0, 3, 15))):
                inner = helper.make_graph([helper.make_node("If", ["c"], ["d"], then_branch=inner)], "g", [], [])
            held.g.CopyFrom(inner)
        case 1:
            held.graphs.append(inner)
        case 2:
            held.sparse_tensor.dims.append(2**40)
        case 3:
            held.ref_attr_name = random.choice(TEXTS)
        case _:
            held.tp.sequence_type.elem_type.tensor_type.elem_type = TensorProto.STRING


def _tensor(model: onnx.ModelProto, random: Random) -> None:
    if not model.graph.initializer:
        model.graph.initializer.append(helper.make_tensor("w", 1, [0], []))
    held = random.choice(model.graph.initializer)
    match random.randrange(7):
        case 0:
            held.dims.append(random.choice(SIZES))
        case 1 if held.dims:
            held.dims[random.randrange(len(held.dims))] = random.choice(SIZES)
        case 2:
            held.data_type = random.choice((*range(1, 24), 2**30, -1))
        case 3 if held.raw_data:
            data = bytearray(held.raw_data)
            width = random.choice((1, 4, 8))
            data[:width] = random.choice((0, 1, 2**31, 2**62, 2**64 - 1)).to_bytes(8, "little")[:width]
            held.raw_data = bytes(data)[: random.choice((len(data), len(data), len(data) - 1))]
        case 4:
            held.float_data.extend(random.choice(FLOATS) for _ in range(random.randrange(5)))
        case 5:  # a huge tensor of few bytes
            del held.dims[:]
            held.dims.extend(random.choice(((2**30, 0), (2**40,), (2**20, 2**20, 2**20), (1,) * 9, (0,) * 8)))
        case _:
            held.name = random.choice(TEXTS)


def _external(model: onnx.ModelProto, random: Random) -> None:
    held = random.choice(model.graph.initializer) if model.graph.initializer else model.graph.initializer.add()
    held.data_location = TensorProto.EXTERNAL
    if random.random() < 0.7:
        held.ClearField("raw_data")
    told = {"location": random.choice(LOCATIONS), "offset": str(random.choice(SIZES)), "length": "1e3"}
    for key in random.sample(sorted(told), random.choice((1, 1, 2, 3))):
        held.external_data.add(key=key, value=told[key])


def _wires(model: onnx.ModelProto, random: Random) -> None:
    """Cycles, calls in another order, values that nothing computes, or that two do."""
    nodes = model.graph.node
    node, other = random.choice(nodes), random.choice(nodes)
    match random.randrange(5):
        case 0 if node.input:
            node.input[random.randrange(len(node.input))] = random.choice((*other.output, *TEXTS))
        case 1 if node.output:
            node.output[random.randrange(len(node.output))] = random.choice((*other.output, *other.input, *TEXTS))
        case 2:
            nodes.remove(node)
        case 3:
            nodes.insert(random.randrange(len(nodes) + 1), node)
        case _:
            (node.input if random.random() < 0.5 else node.output).extend(random.sample(TEXTS, 3))


def _boundary(model: onnx.ModelProto, random: Random) -> None:
    """The model's inputs and outputs: sizes, dtypes, names, kinds that are no tensors."""
    held = random.choice([*model.graph.input, *model.graph.output])
    tensor = held.type.tensor_type
    match random.randrange(5):
        case 0 if tensor.shape.dim:
            random.choice(tensor.shape.dim).dim_value = random.choice(SIZES)
        case 1:
            tensor.shape.dim.add(dim_param=random.choice(TEXTS))
        case 2:
            tensor.elem_type = random.randrange(24)
        case 3:
            held.name = random.choice(TEXTS)
        case _:
            held.type.map_type.key_type = TensorProto.STRING


def _whole(model: onnx.ModelProto, random: Random) -> None:
    """What is not the graph: versions, functions, training, texts, sparse weights, shapes of values between."""
    match random.randrange(7):
        case 0:
            model.opset_import.add(domain=random.choice(("", "com.evil", "ai.onnx.ml")), version=random.choice(SIZES))
        case 1:
            model.ir_version = random.choice(SIZES)
        case 2:
            body = [helper.make_node("Relu", ["x"], ["y"])]
            name = random.choice(("Mine", "Relu", model.graph.node[0].op_type if model.graph.node else "Mine"))
            model.functions.append(helper.make_function("", name, ["x"], ["y"], body, model.opset_import[:1]))
        case 3:
            model.training_info.add()
        case 4:
            model.metadata_props.add(key=random.choice(TEXTS), value=random.choice(TEXTS))
        case 5:
            model.graph.sparse_initializer.add().dims.append(2**40)
        case _:
            model.graph.value_info.append(helper.make_tensor_value_info(random.choice(TEXTS), 1, [2**40]))


CHANGES: tuple[Change, ...] = (
    _operator,
    _attribute,
    _attribute,
    _tensor,
    _tensor,
    _external,
    _wires,
    _boundary,
    _whole,
)


def contents(random: Random) -> bytes:
    """A file that was honest, and is no longer in one to three respects, or in some of its bytes."""
    data = random.choice(seeds())
    if random.random() < 0.25:
        return damaged(random, data)
    model = onnx.load_from_string(data)
    for _ in range(random.choice((0, 1, 1, 1, 2, 3))):
        if model.graph.node and (model.graph.input or model.graph.output):
            random.choice(CHANGES)(model, random)
    data = model.SerializeToString()
    return damaged(random, data) if random.random() < 0.05 else data


def load(random: Random) -> None:
    """One execution."""
    data, uri = contents(random), str(_FOLDER / "in" / "m.onnx")
    model = read_onnx(data, uri)
    assert len(onnx_digest(data, uri)) == 64
    assert SECRET[:32] not in model.data
    assert read_onnx(model.data, uri).data == model.data
    if random.random() < RUN_SHARE:
        status = _status_of_a_child(data, model)
        assert status == 0, f"the run ended with status {status}"


def _status_of_a_child(data: bytes, model: OnnxModel) -> int:
    """The wait status of a child that runs a model that passed: 0 for rows or a sentence."""
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(DEADLINE_S)
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            restrict_process()
            _run(data, model)
        except BaseException:  # noqa: BLE001 - whatever it is, it is counted
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def _run(data: bytes, model: OnnxModel) -> None:
    """Predicts; where onnxruntime takes the file as it came, that must give the same."""
    rows = check_samples(model.inputs, model.inputs[0].shape[0] or ROWS)
    try:
        found = OnnxSession(model.data, model.inputs, threads=1).predict(rows)
    except ModelError as error:
        if not str(error).isprintable():
            raise AssertionError(repr(str(error))) from error
        return
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        given = dict(zip([taken.name for taken in model.inputs], rows, strict=True))
        outputs = session.run(None, given)
    except Exception:  # noqa: BLE001 - it has data beside it, or shapes that are left out
        return
    wanted = np.concatenate([output.reshape(len(rows[0]), -1).astype("f4") for output in outputs], axis=1)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


if __name__ == "__main__":
    main(load, ModelError)
