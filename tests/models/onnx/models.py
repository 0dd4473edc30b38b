"""ONNX models for tests, made node by node: what users bring, and what somebody hostile would."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.ensemble import ExtraTreesRegressor

OPSETS = (helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3))
FLOAT = TensorProto.FLOAT


def magnitude(count: int = 20) -> np.ndarray:
    """Random magnitudes [B, 5]."""
    return np.random.default_rng(2).uniform(14, 22, (count, 5)).astype(np.float32)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    outputs: Sequence[tuple[str, Sequence[int | str]]],
    weights: dict[str, np.ndarray] | None = None,
    *,
    inputs: Sequence[tuple[str, Sequence[int | str]]] = (("magnitude", ("batch", 5)),),
    dtype: int = FLOAT,
    opsets: Sequence[onnx.OperatorSetIdProto] = OPSETS,
) -> onnx.ModelProto:
    """A model of these calls; the inputs are of `dtype`."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs],
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in outputs],
        [numpy_helper.from_array(values, name) for name, values in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=list(opsets), ir_version=9)


def perceptron() -> onnx.ModelProto:
    """Two layers on the magnitudes, with two named outputs."""
    rng = np.random.default_rng(1)
    weights = {
        "w1": rng.normal(0, 0.3, (5, 32)).astype(np.float32),
        "b1": np.zeros(32, np.float32),
        "w2": rng.normal(0, 0.3, (32, 3)).astype(np.float32),
        "w3": rng.normal(0, 0.3, (32, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["magnitude", "w1", "b1"], ["h0"]),
        helper.make_node("Tanh", ["h0"], ["h"]),
        helper.make_node("MatMul", ["h", "w2"], ["features"]),
        helper.make_node("MatMul", ["h", "w3"], ["z_pred"]),
    ]
    return model_of(nodes, [("features", ("batch", 3)), ("z_pred", ("batch", 1))], weights)


def expected_of_perceptron(values: np.ndarray) -> np.ndarray:
    """Its second output, by numpy."""
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in perceptron().graph.initializer}
    return np.tanh(values @ weights["w1"] + weights["b1"]) @ weights["w3"]


def trees(trained: ExtraTreesRegressor) -> onnx.ModelProto:
    """scikit-learn's trees as a TreeEnsembleRegressor: a node goes left where the value is at most the threshold."""
    held: dict[str, list[float | int | str]] = {name: [] for name in (
        "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_values", "nodes_modes", "nodes_truenodeids",
        "nodes_falsenodeids", "target_treeids", "target_nodeids", "target_ids", "target_weights")}  # fmt: skip
    for number, estimator in enumerate(trained.estimators_):
        tree = estimator.tree_
        for node in range(tree.node_count):
            leaf = tree.children_left[node] < 0
            held["nodes_treeids"].append(number)
            held["nodes_nodeids"].append(node)
            held["nodes_featureids"].append(0 if leaf else int(tree.feature[node]))
            held["nodes_values"].append(0.0 if leaf else float(np.float32(tree.threshold[node])))
            held["nodes_modes"].append("LEAF" if leaf else "BRANCH_LEQ")
            held["nodes_truenodeids"].append(0 if leaf else int(tree.children_left[node]))
            held["nodes_falsenodeids"].append(0 if leaf else int(tree.children_right[node]))
            if leaf:
                held["target_treeids"].append(number)
                held["target_nodeids"].append(node)
                held["target_ids"].append(0)
                held["target_weights"].append(float(tree.value[node].item()) / len(trained.estimators_))
    node = helper.make_node(
        "TreeEnsembleRegressor", ["magnitude"], ["z_pred"], domain="ai.onnx.ml", n_targets=1, **held
    )
    return model_of([node], [("z_pred", ("batch", 1))])
