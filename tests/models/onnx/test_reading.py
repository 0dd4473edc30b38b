"""ONNX files are read as data: honest ones give what they compute, others are refused by name."""

import copy
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from skyfan.errors import BadInput, ModelError
from skyfan.models import load_model
from skyfan.models.locating import locate_models, models_digest
from skyfan.models.onnx.reading import read_onnx
from tests.models.onnx.models import FLOAT, OPSETS, expected_of_perceptron, magnitude, model_of, perceptron

pytestmark = pytest.mark.slow


def _relu(**changes: object) -> onnx.ModelProto:
    return model_of([helper.make_node("Relu", ["magnitude"], ["y"])], [("y", ("batch", 5))], **changes)


def _refused(model: onnx.ModelProto | bytes, uri: str = "m.onnx") -> str:
    with pytest.raises(ModelError) as caught:
        read_onnx(model if isinstance(model, bytes) else model.SerializeToString(), uri)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_inputs_outputs_operators_and_parameters_are_told():
    found = read_onnx(perceptron().SerializeToString(), "m.onnx")
    assert [(taken.name, taken.shape, taken.dtype) for taken in found.inputs] == [("magnitude", (None, 5), "float32")]
    assert found.output_names == ("features", "z_pred")
    assert found.operators == {"Gemm": 1, "Tanh": 1, "MatMul": 2}
    assert found.parameters == 5 * 32 + 32 + 32 * 3 + 32


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_its_packages_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, package: str):
    data = perceptron().SerializeToString()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BadInput, match=r"need the packages onnx and onnxruntime: pip install 'skyfan\[onnx\]'"):
        read_onnx(data, "m.onnx")


def test_what_is_not_needed_stays_behind():
    model = perceptron()
    model.producer_name, model.doc_string = "somebody", "a text"
    model.metadata_props.add(key="k", value="secret")
    clean = onnx.load_from_string(read_onnx(model.SerializeToString(), "m.onnx").data)
    assert (clean.producer_name, clean.doc_string, len(clean.metadata_props)) == ("", "", 0)


def test_external_data_beside_the_file_are_read_and_are_part_of_its_identity(tmp_path: Path):
    model = perceptron()
    external_data_helper.convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
    onnx.save(model, tmp_path / "m.onnx")
    loaded = load_model(str(tmp_path / "m.onnx"))
    assert loaded.onnx is not None
    assert loaded.digest == models_digest(locate_models([str(tmp_path / "m.onnx")]))
    from skyfan.models.onnx.session import OnnxSession

    found = OnnxSession(loaded.onnx.data, loaded.inputs, threads=1).predict([magnitude()])
    np.testing.assert_allclose(found[:, 3:], expected_of_perceptron(magnitude()), rtol=1e-5, atol=1e-5)
    weights = bytearray((tmp_path / "weights.bin").read_bytes())
    weights[3] ^= 1
    (tmp_path / "weights.bin").write_bytes(weights)
    assert models_digest(locate_models([str(tmp_path / "m.onnx")])) != loaded.digest


@pytest.mark.parametrize(
    "location", ["../../etc/passwd", "/etc/passwd", "a/../../x", "c:\\x", "link.bin", "folder", "missing.bin", ""]
)
def test_external_data_elsewhere_are_refused(tmp_path: Path, location: str):
    (tmp_path / "in" / "folder").mkdir(parents=True)
    (tmp_path / "outside.bin").write_bytes(bytes(1000))
    (tmp_path / "in" / "link.bin").symlink_to(tmp_path / "outside.bin")
    model = perceptron()
    tensor = model.graph.initializer[0]
    external_data_helper.set_external_data(tensor, location=location)
    tensor.ClearField("raw_data")
    assert "keeps tensors in" in _refused(model, str(tmp_path / "in" / "m.onnx"))


def test_external_data_shorter_than_the_tensor_are_refused(tmp_path: Path):
    (tmp_path / "w.bin").write_bytes(bytes(8))
    model = perceptron()
    external_data_helper.set_external_data(model.graph.initializer[0], location="w.bin", offset=2**40)
    assert "beyond what that file holds" in _refused(model, str(tmp_path / "m.onnx"))


def _with_tensor(**fields: object) -> onnx.ModelProto:
    model = perceptron()
    for name, value in fields.items():
        if name == "dims":
            del model.graph.initializer[0].dims[:]
            model.graph.initializer[0].dims.extend(value)  # type: ignore[arg-type]
        else:
            setattr(model.graph.initializer[0], name, value)
    return model


def _cyclic() -> onnx.ModelProto:
    nodes = [helper.make_node("Add", ["magnitude", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    return model_of(nodes, [("b", ("batch", 5))])


def _with_graph() -> onnx.ModelProto:
    inner = perceptron().graph
    node = helper.make_node("Relu", ["magnitude"], ["y"], body=inner)
    return model_of([node], [("y", ("batch", 5))])


def _deep() -> onnx.ModelProto:
    inner = helper.make_graph([helper.make_node("Relu", ["a"], ["b"])], "g", [], [])
    for _ in range(20):
        inner = helper.make_graph([helper.make_node("If", ["c"], ["d"], then_branch=inner)], "g", [], [])
    return model_of([helper.make_node("If", ["magnitude"], ["y"], then_branch=inner)], [("y", ("batch", 5))])


def _with_function() -> onnx.ModelProto:
    model = perceptron()
    body = [helper.make_node("Relu", ["x"], ["y"])]
    model.functions.append(helper.make_function("", "Mine", ["x"], ["y"], body, [helper.make_opsetid("", 18)]))
    return model


def _zip_map() -> onnx.ModelProto:
    node = helper.make_node("ZipMap", ["magnitude"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    return model_of([node], [("y", ("batch", 5))])


HOSTILE = {
    "a domain of its own": (
        lambda: _relu(opsets=[*OPSETS, helper.make_opsetid("com.evil", 1)]),
        r"the domain 'com.evil', which are somebody's own code; allowed are those of '', 'ai.onnx', 'ai.onnx.ml'",
    ),
    "an operator of another domain": (
        lambda: model_of([helper.make_node("Run", ["magnitude"], ["y"], domain="com.microsoft")], [("y", (1, 5))]),
        "the domain 'com.microsoft'",
    ),
    "an unknown operator": (
        lambda: model_of([helper.make_node("Exec", ["magnitude"], ["y"])], [("y", ("batch", 5))]),
        "calls 'Exec', which is not allowed here",
    ),
    "random numbers": (
        lambda: model_of([helper.make_node("RandomNormalLike", ["magnitude"], ["y"])], [("y", ("batch", 5))]),
        "calls 'RandomNormalLike', which is not allowed here; export it in evaluation mode",
    ),
    "a map": (_zip_map, "calls 'ZipMap', which is not allowed here; export it with zipmap=False"),
    "huge dimensions": (lambda: _with_tensor(dims=[2**31, 2**31, 2**31]), "which no tensor here can have"),
    "many dimensions": (lambda: _with_tensor(dims=[2] * 2000), "which no tensor here can have"),
    "negative dimensions": (lambda: _with_tensor(dims=[-5, -32]), "which no tensor here can have"),
    "more values than stored": (lambda: _with_tensor(dims=[5, 3200]), "which is not what is stored for it"),
    "texts": (lambda: _with_tensor(data_type=TensorProto.STRING), "which is no plain number"),
    "a cycle": (_cyclic, "uses 'b' before anything computes it: its graph has a cycle or lacks a part"),
    "a graph as an argument": (_with_graph, "which holds a graph"),
    "deep nesting": (_deep, "calls 'If', which is not allowed here; export it without control flow"),
    "functions": (_with_function, "holds functions of its own"),
    "an open size": (
        lambda: model_of([helper.make_node("Relu", ["x"], ["y"])], [("y", ("b", "n"))], inputs=[("x", ("b", "n"))]),
        "leaves sizes of 'x' open beside the batch",
    ),
    "huge rows": (
        lambda: model_of([helper.make_node("Relu", ["x"], ["y"])], [("y", ("b", 1))], inputs=[("x", ("b", 2**40))]),
        "rows of more than",
    ),
    "no calls": (lambda: model_of([], [("magnitude", ("batch", 5))]), "holds no calls"),
    "an output that nothing computes": (lambda: _named_output("other"), "gives 'other', which nothing computes"),
}


def _named_output(name: str) -> onnx.ModelProto:
    model = copy.deepcopy(_relu())
    model.graph.output[0].name = name
    return model


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_by_name_in_one_sentence(name: str):
    make, sentence = HOSTILE[name]
    assert sentence in _refused(make())


@pytest.mark.parametrize("cut", [0, 1, 7, 100])
def test_broken_files_are_refused(cut: int):
    data = perceptron().SerializeToString()
    _refused(data[:cut])
    _refused(b"\x08\x09" + b"\xff" * 50)


@pytest.mark.parametrize(("text", "where"), [(b"magnitude", "name"), (b"Gemm", "op_type"), (b"ai.onnx.ml", "domain")])
def test_texts_that_are_no_texts_are_refused(text: bytes, where: str):
    data = perceptron().SerializeToString()
    assert text in data
    for number in range(data.count(text)):
        at = [place for place in range(len(data)) if data.startswith(text, place)][number]
        _refused(data[:at] + b"\xff" + data[at + 1 :])
    assert f"holds a {where} that is no text" in _refused(data[:at] + b"\xff" + data[at + 1 :])


def test_what_onnxruntime_repeats_of_a_file_moves_no_terminal(tmp_path: Path):
    model = model_of([helper.make_node("Relu", ["magnitude"], ["\x1b[2J"])], [("y", ("batch", 5))])
    model.graph.node.append(helper.make_node("Add", ["\x1b[2J"], ["y"]))
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"onnxruntime cannot load the model.*\\x1b\[2J") as caught:
        load_model(str(tmp_path / "m.onnx"))
    assert str(caught.value).isprintable()


def test_too_deep_messages_are_refused_by_protobuf():
    data = b""
    for _ in range(300):  # GraphProto in AttributeProto in NodeProto, each in field 1 or 6
        size = len(data)
        data = b"\x0a" + bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14]) + data
    _refused(b"\x3a" + bytes([len(data) & 127 | 128, len(data) >> 7 & 127 | 128, len(data) >> 14]) + data)


def test_a_batch_wide_mean_is_refused(tmp_path: Path):
    nodes = [
        helper.make_node("ReduceMean", ["magnitude", "axes"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["magnitude", "mean"], ["y"]),
    ]
    model = model_of(nodes, [("y", ("batch", 5))], {"axes": np.array([0])})
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="another prediction alone than among others"):
        load_model(str(tmp_path / "m.onnx"))


def test_weights_that_are_inputs_too_are_no_inputs():
    """Files of version 3 of the form, such as scikit-learn's and older exports, list weights among the inputs."""
    model = perceptron()
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, FLOAT, list(tensor.dims)))
    assert [taken.name for taken in read_onnx(model.SerializeToString(), "m.onnx").inputs] == ["magnitude"]


def test_values_in_typed_fields_count_too():
    model = perceptron()
    values = numpy_helper.to_array(model.graph.initializer[0])
    model.graph.initializer[0].CopyFrom(helper.make_tensor("w1", FLOAT, values.shape, values.ravel().tolist()))
    assert read_onnx(model.SerializeToString(), "m.onnx").parameters > 0


def test_a_model_that_takes_all_memory_ends_its_child_only(tmp_path: Path):
    """Sizes that a constant asks for are not in the file: the trial in a child with a limit finds them."""
    weights = {"shape": np.array([2**20, 2**20, 5], np.int64)}
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
        helper.make_node("Add", ["magnitude", "sum"], ["y"]),
    ]
    onnx.save(model_of(nodes, [("y", ("batch", 5))], weights), tmp_path / "m.onnx")
    with pytest.raises(ModelError) as caught:
        load_model(str(tmp_path / "m.onnx"))
    assert "\n" not in str(caught.value)
