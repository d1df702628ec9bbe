"""Layers read from ONNX answer as ONNX's own node tests and as onnxruntime do."""

import copy
import pickle
import warnings
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

import recurra
from recurra.nn import Recurrent
from recurra.nn.weights import OnnxLayer, from_onnx

torch.set_num_threads(1)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # making the cases of other operators overflows on purpose
    from onnx.backend.test.loader import load_model_tests

    CASES = {
        case.name: case
        for case in load_model_tests(kind="node")
        if case.model and {node.op_type for node in case.model.graph.node} & {"LSTM", "GRU", "RNN"}
    }


def test_every_node_test_of_onnx_is_here() -> None:
    assert len(CASES) == 18
    assert {case.model.graph.node[0].op_type for case in CASES.values() if case.model} == {"LSTM", "GRU", "RNN"}


@pytest.mark.parametrize("name", CASES)
def test_a_node_test_of_onnx(name: str) -> None:
    case = CASES[name]
    assert case.model
    assert case.data_sets
    (node,) = case.model.graph.node
    for inputs, outputs in case.data_sets:
        given = dict(zip([one.name for one in case.model.graph.input], map(array, inputs), strict=True))
        layer = from_onnx(node, given)
        assert isinstance(layer, OnnxLayer)
        call = {key: torch.tensor(given[key]) for key in ("X", "sequence_lens", "initial_h", "initial_c") if key in given}
        found = dict(zip(("Y", "Y_h", "Y_c"), layer.as_node(**call), strict=False))
        expected = dict(zip([one.name for one in case.model.graph.output], map(array, outputs), strict=True))
        for key, value in expected.items():
            np.testing.assert_allclose(found[key].detach(), value, rtol=case.rtol, atol=case.atol)


def array(value: Any) -> np.ndarray:
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)


# --- onnxruntime ----------------------------------------------------------------------------------------------------

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
NAMES = {
    "Relu": (),
    "Tanh": (),
    "Sigmoid": (),
    "Affine": ("alpha", "beta"),
    "LeakyRelu": ("alpha",),
    "ThresholdedRelu": ("alpha",),
    "ScaledTanh": ("alpha", "beta"),
    "HardSigmoid": ("alpha", "beta"),
    "Elu": ("alpha",),
    "Softsign": (),
    "Softplus": (),
}


def random_node(rng: np.random.Generator) -> tuple[Any, dict[str, np.ndarray]]:
    """A node of any kind with its tensors and inputs, all that onnxruntime understands."""
    op = str(rng.choice(list(GATES)))
    T, B, I, H = (int(n) for n in rng.integers(1, 6, 4))
    direction = str(rng.choice(["forward", "reverse", "bidirectional"]))
    D = 1 + (direction == "bidirectional")
    attributes: dict[str, Any] = {"hidden_size": H, "direction": direction}
    if rng.random() < 0.6:
        names = rng.choice(list(NAMES), {"LSTM": 3, "GRU": 2, "RNN": 1}[op] * D).tolist()
        attributes["activations"] = names
        for key in ("alpha", "beta"):
            takers = sum(key in NAMES[name] for name in names)
            if takers:
                attributes[f"activation_{key}"] = rng.uniform(0.1, 0.9, takers).astype(np.float32).tolist()
    if rng.random() < 0.3:
        attributes["clip"] = float(np.float32(rng.uniform(0.2, 1.5)))
    if op == "LSTM" and rng.random() < 0.4:
        attributes["input_forget"] = 1
    if op == "GRU":
        attributes["linear_before_reset"] = int(rng.integers(2))

    def drawn(*shape: int) -> np.ndarray:
        return rng.normal(0.0, 0.5, shape).astype(np.float32)

    G = GATES[op]
    tensors = {"X": drawn(T, B, I), "W": drawn(D, G * H, I), "R": drawn(D, G * H, H)}
    optional: dict[str, np.ndarray] = {
        "B": drawn(D, 2 * G * H),
        "sequence_lens": rng.integers(1, T + 1, B).astype(np.int32),
        "initial_h": drawn(D, B, H),
    }
    if op == "LSTM":
        optional |= {"initial_c": drawn(D, B, H), "P": drawn(D, 3 * H)}
    tensors |= {key: value for key, value in optional.items() if rng.random() < 0.5}
    names = ["X", "W", "R", *optional]
    inputs = [name if name in tensors else "" for name in names]
    outputs = ["Y", "Y_h", "Y_c"][: 3 if op == "LSTM" else 2]
    return helper.make_node(op, inputs, outputs, name="node", **attributes), tensors


def model_of(node: Any, tensors: dict[str, np.ndarray], constant: tuple[str, ...] = (), opset: int = 14) -> Any:
    """A model of one node. Tensors named in `constant` are the model's own, others are inputs."""
    inputs = [
        helper.make_tensor_value_info(key, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for key, value in tensors.items()
        if key not in constant
    ]
    kind = helper.np_dtype_to_tensor_dtype(tensors["W"].dtype)
    outputs = [helper.make_tensor_value_info(key, kind, None) for key in node.output if key]
    own = [numpy_helper.from_array(tensors[key], key) for key in constant]
    graph = helper.make_graph([node], "graph", inputs, outputs, own)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def with_onnxruntime(model: Any, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)  # pyright: ignore[reportReturnType]


def answer(layer: OnnxLayer, tensors: dict[str, np.ndarray]) -> tuple[Tensor, ...]:
    named = ("X", "sequence_lens", "initial_h", "initial_c")
    return layer.as_node(**{key: torch.from_numpy(tensors[key]) for key in named if key in tensors})


@pytest.mark.parametrize("seed", range(200))
def test_agrees_with_onnxruntime(seed: int) -> None:
    """onnxruntime runs neither layout 1 nor float64; those are compared with layout 0 and float32 below."""
    node, tensors = random_node(np.random.default_rng(seed))
    expected = with_onnxruntime(model_of(node, tensors), tensors)
    layer = from_onnx(node, tensors)
    assert isinstance(layer, OnnxLayer)
    if "initial_h" not in tensors and "initial_c" not in tensors:
        assert not any("initial" in name for name, _ in layer.named_parameters())
    for found, value in zip(answer(layer, tensors), expected, strict=True):
        np.testing.assert_allclose(found.detach(), value, rtol=2e-5, atol=2e-6)
