"""Layers read from ONNX answer as ONNX's own node tests and as onnxruntime do."""

import copy
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

import recurra
from recurra.cells import Cell
from recurra.errors import DataError, MissingExtraError, RecipeError
from recurra.nn import Recurrent
from recurra.nn.weights import OnnxLayer, from_onnx
from recurra.nn.weights.onnx_functions import FUNCTIONS, activation

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
        call = {
            key: torch.tensor(given[key]) for key in ("X", "sequence_lens", "initial_h", "initial_c") if key in given
        }
        found = dict(zip(node.output, layer.as_node(**call), strict=False))
        for key, value in zip([one.name for one in case.model.graph.output], map(array, outputs), strict=True):
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
    T, B, I, H = (int(n) for n in rng.integers(1, 6, 4))  # noqa: E741
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


# --- what onnxruntime does not run -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(30))
def test_layout_and_types_change_nothing_else(seed: int) -> None:
    node, tensors = random_node(np.random.default_rng(1000 + seed))
    expected = answer(only(from_onnx(node, tensors)), tensors)

    turned = copy.deepcopy(node)
    turned.attribute.append(helper.make_attribute("layout", 1))
    swapped = {key: value.swapaxes(0, 1) if key in BY_ROWS else value for key, value in tensors.items()}
    layer = only(from_onnx(turned, tensors))
    Y, *states = answer(layer, swapped)
    torch.testing.assert_close(Y.permute(1, 2, 0, 3), expected[0])
    for found, value in zip(states, expected[1:], strict=True):
        torch.testing.assert_close(found.transpose(0, 1), value)

    for kind, tolerance in ((np.float64, 1e-5), (np.float16, 2e-2)):
        typed = {key: value.astype(kind) if value.dtype == np.float32 else value for key, value in tensors.items()}
        for found, value in zip(answer(only(from_onnx(node, typed)), typed), expected, strict=True):
            assert found.dtype == torch.from_numpy(typed["W"]).dtype
            torch.testing.assert_close(found.float(), value, rtol=tolerance, atol=tolerance)


BY_ROWS = ("X", "initial_h", "initial_c")


def only(found: OnnxLayer | dict[str, OnnxLayer]) -> OnnxLayer:
    assert isinstance(found, OnnxLayer)
    return found


@pytest.mark.parametrize("seed", range(10))
def test_the_call_of_a_layer_is_that_of_every_layer(seed: int) -> None:
    """Natural and ONNX's own answers are the same numbers, differently laid out; padding is zero and moves nothing."""
    rng = np.random.default_rng(2000 + seed)
    node, tensors = random_node(rng)
    layer = only(from_onnx(node, tensors))
    x = torch.from_numpy(tensors["X"])
    lengths = torch.from_numpy(rng.integers(0, len(x) + 1, x.shape[1]))
    output, state = layer(x, lengths=lengths)
    Y, *states = layer.as_node(x, lengths)
    torch.testing.assert_close(output.unflatten(-1, (Y.shape[1], -1)).transpose(1, 2), Y)
    for field, value in zip(state, states, strict=True):
        assert torch.equal(field, value)
    padding = torch.arange(len(x)).unsqueeze(1) >= lengths
    assert not output[padding].any()
    output.sum().backward()
    gradients = {name: p.grad for name, p in layer.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())
    noisy = torch.where(padding.unsqueeze(-1), torch.full_like(x, float("nan")), x)
    torch.testing.assert_close(layer(noisy, lengths=lengths)[0], output)


@pytest.mark.parametrize(
    ("op", "attributes", "peephole", "cell"),
    [
        ("LSTM", {}, False, "lstm"),
        ("LSTM", {}, True, "lstm_peephole"),
        ("LSTM", {"input_forget": 1}, False, "lstm_coupled"),
        ("LSTM", {"input_forget": 1}, True, "lstm_coupled_peephole"),
        ("LSTM", {"activations": ["sigmoid", "tanh", "tanh"]}, False, "lstm"),
        ("LSTM", {"clip": 1.0}, False, "lstm_activated"),
        ("LSTM", {"activations": ["Sigmoid", "Tanh", "Relu"]}, True, "lstm_peephole_activated"),
        ("LSTM", {"activations": ["Sigmoid", "Relu", "Tanh"], "input_forget": 1}, False, "lstm_coupled_activated"),
        ("GRU", {}, False, "gru"),
        ("GRU", {"linear_before_reset": 1}, False, "gru_reset_after"),
        ("GRU", {"clip": 1.0}, False, "gru_activated"),
        ("GRU", {"activations": ["HardSigmoid", "Tanh"], "linear_before_reset": 1}, False, "gru_reset_after_activated"),
        ("RNN", {}, False, "elman"),
        ("RNN", {"activations": ["Tanh", "Tanh"]}, False, "elman"),
        ("RNN", {"activations": ["Softsign"], "clip": 1.0}, False, "elman"),
    ],
)
def test_a_cell_of_the_catalogue_is_known_again(op: str, attributes: Any, peephole: bool, cell: str) -> None:
    node, tensors = small(op, P=peephole, **attributes)
    layer = from_onnx(node, tensors)
    assert isinstance(layer, Recurrent)
    assert layer.form.name == cell


def small(op: str = "LSTM", P: bool = False, D: int = 1, **attributes: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """A node of two inputs and three units."""
    rng, G, H = np.random.default_rng(0), GATES[op], 3
    shapes = {"X": (4, 2, 2), "W": (D, G * H, 2), "R": (D, G * H, H), "B": (D, 2 * G * H), "P": (D, 3 * H)}
    tensors = {key: rng.normal(size=shape).astype(np.float32) for key, shape in shapes.items() if P or key != "P"}
    inputs = ["X", "W", "R", "B", *(["", "", "", "P"] if P else [])]
    outputs = ["Y", "Y_h", "Y_c"][: 3 if op == "LSTM" else 2]
    return helper.make_node(op, inputs, outputs, name="node", **{"hidden_size": H, **attributes}), tensors


def test_directions_of_different_activations_are_one_layer() -> None:
    node, tensors = small("RNN", D=2, direction="bidirectional", activations=["Tanh", "Relu"])
    layer, x = only(from_onnx(node, tensors)), torch.from_numpy(tensors["X"])
    output, state, states = layer(x, return_states=True)
    assert [*map(tuple, (output.shape, state.h.shape, states.h.shape))] == [(4, 2, 6), (2, 2, 3), (2, 4, 2, 3)]
    first, rest = layer(x[:2])[1], layer(x[2:])[1]
    ahead = layer(x[2:], torch.stack([first.h[0], torch.zeros(2, 3)]))[1].h[0]
    torch.testing.assert_close(ahead, state.h[0])
    back = layer(x[:2], torch.stack([torch.zeros(2, 3), rest.h[1]]))[1].h[1]
    torch.testing.assert_close(back, state.h[1])


@pytest.mark.parametrize("attributes", [{}, {"clip": 0.5, "activations": ["Elu", "Tanh", "Softplus"]}])
def test_layers_are_copied_pickled_and_trained(attributes: Any) -> None:
    node, tensors = small(
        D=2, direction="bidirectional", **{**attributes, "activations": DIFFERENT} if attributes else {}
    )
    layer, x = only(from_onnx(node, tensors)), torch.from_numpy(tensors["X"])
    expected = layer(x)[0]
    for again in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(again(x)[0], expected)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    expected.square().sum().backward()
    optimiser.step()
    assert layer(x)[0].square().sum() < expected.square().sum()


DIFFERENT = ["Elu", "Tanh", "Softplus", "Sigmoid", "Tanh", "Tanh"]


FORMULAS = {  # as ONNX's operator text has them
    "Relu": lambda x, alpha, beta: np.maximum(0, x),
    "Tanh": lambda x, alpha, beta: np.tanh(x),
    "Sigmoid": lambda x, alpha, beta: 1 / (1 + np.exp(-x)),
    "Affine": lambda x, alpha, beta: alpha * x + beta,
    "LeakyRelu": lambda x, alpha, beta: np.where(x >= 0, x, alpha * x),
    "ThresholdedRelu": lambda x, alpha, beta: np.where(x >= alpha, x, 0),
    "ScaledTanh": lambda x, alpha, beta: alpha * np.tanh(beta * x),
    "HardSigmoid": lambda x, alpha, beta: np.minimum(np.maximum(alpha * x + beta, 0), 1),
    "Elu": lambda x, alpha, beta: np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0))),
    "Softsign": lambda x, alpha, beta: x / (1 + np.abs(x)),
    "Softplus": lambda x, alpha, beta: np.logaddexp(0, x),
}


def test_every_activation_is_told() -> None:
    assert FUNCTIONS.keys() == FORMULAS.keys() == NAMES.keys()
    assert all(f"* {name}(x)" in str(onnx.defs.get_schema(op).doc) for name in FORMULAS for op in GATES)


@pytest.mark.parametrize("name", ["LeakyRelu", "ThresholdedRelu", "HardSigmoid", "Elu", "Affine"])
def test_defaults_are_those_of_the_operator_of_the_same_name(name: str) -> None:
    """Affine is no operator any more; ONNX 1.2's defaults were 1 and 0."""
    schema = {"alpha": 1.0, "beta": 0.0}
    if name != "Affine":
        declared = onnx.defs.get_schema(name).attributes
        schema = {key: helper.get_attribute_value(one.default_value) for key, one in declared.items()}
    layer = only(from_onnx(*small("RNN", activations=[name])))
    assert isinstance(layer, Recurrent)
    assert isinstance(layer.cell, Cell)
    chosen = layer.cell.options["activation"]
    assert {key: getattr(chosen, key) for key in schema} == pytest.approx(schema)
    assert len(schema) == len(NAMES[name])


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("clip", [None, 1.5])
def test_an_activation_is_its_formula(name: str, clip: float | None) -> None:
    x = np.array([-60.0, -3.0, -0.5, -1e-9, 0.0, 1e-9, 0.25, 0.75, 3.0, 25.0, 60.0])
    bounded = x if clip is None else np.clip(x, -clip, clip)
    found = activation(name, 0.25, 0.125, clip)(torch.from_numpy(x))
    np.testing.assert_allclose(found, FORMULAS[name](bounded, 0.25, 0.125), rtol=1e-14, atol=1e-25)


# --- models ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_model_that_pytorch_exports(tmp_path: Path, kind: str, folded: bool) -> None:
    """Where constants are not folded, nodes cut PyTorch's weights up and put them together in ONNX's order."""
    module, x = getattr(torch.nn, kind)(3, 4, 2, bidirectional=True), torch.randn(5, 2, 3)
    path = tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that needs no other package is said to be old
        torch.onnx.export(module, (x,), path, dynamo=False, do_constant_folding=folded)
    layers = from_onnx(path)
    assert isinstance(layers, dict)
    assert len(layers) == 2
    output = x
    for name, layer in layers.items():
        assert isinstance(layer, Recurrent)
        assert layer.form.name == {"LSTM": "lstm", "GRU": "gru_reset_after", "RNN": "elman"}[kind]
        assert torch.equal(only(from_onnx(onnx.load(path), name=name))(output)[0], layer(output)[0])
        output, _ = layer(output)
    torch.testing.assert_close(output, module(x)[0])


def test_a_model_of_one_node_and_the_public_name(tmp_path: Path) -> None:
    node, tensors = small("GRU")
    model = model_of(node, tensors, constant=("W", "R", "B"))
    onnx.save(model, tmp_path / "gru.onnx")
    layer = only(recurra.from_onnx(str(tmp_path / "gru.onnx")))
    expected = with_onnxruntime(model, {"X": tensors["X"]})
    for found, value in zip(answer(layer, tensors), expected, strict=True):
        np.testing.assert_allclose(found.detach(), value, rtol=1e-5, atol=1e-6)
    unnamed = copy.deepcopy(model)
    unnamed.graph.node[0].name = ""
    assert isinstance(from_onnx(unnamed, name="Y"), Recurrent)


def test_tensors_that_are_given_go_before_the_models_own() -> None:
    node, tensors = small()
    model = model_of(node, tensors, constant=("W", "R", "B"))
    for given in ({"W": 2 * tensors["W"]}, [numpy_helper.from_array(2 * tensors["W"], "W")]):
        layer = only(from_onnx(model, given))
        assert torch.equal(layer(X)[0], only(from_onnx(node, {**tensors, "W": 2 * tensors["W"]}))(X)[0])
    missing = model_of(node, tensors, constant=("R", "B"))
    with pytest.raises(
        DataError, match=r"node 'node': W is expected with its values .initializers.; tensor 'W' is none"
    ):
        from_onnx(missing)
    assert isinstance(from_onnx(missing, {"W": torch.from_numpy(tensors["W"])}), Recurrent)


X = torch.randn(4, 2, 2)


def test_an_initial_state_of_the_models_own() -> None:
    """Such as a learnt one, the same for every row. Where rows differ it belongs to a batch, and is the caller's."""
    node, tensors = small()
    node.input.extend(["", "initial_h"])
    h = np.array([[[0.5, -0.5, 1.0]]], np.float32)
    given = tensors | {"initial_h": np.repeat(h, 2, 1)}
    layer = only(from_onnx(node, given))
    expected = with_onnxruntime(model_of(node, given), {**given, "X": X.numpy()})[0]
    np.testing.assert_allclose(layer.as_node(X)[0].detach(), expected, rtol=1e-5, atol=1e-6)
    assert layer.get_parameter("initial_h_l0").tolist() == h.flatten().tolist()
    assert layer.get_parameter("initial_c_l0").tolist() == [0.0] * 3
    node.attribute.append(helper.make_attribute("layout", 1))
    swapped = given | {"initial_h": np.repeat(h, 2, 0)}
    assert only(from_onnx(node, swapped)).get_parameter("initial_h_l0").tolist() == h.flatten().tolist()
    del node.attribute[-1]
    for other in (np.zeros((1, 2, 3), np.float32), np.arange(6, dtype=np.float32).reshape(1, 2, 3)):
        names = [name for name, _ in only(from_onnx(node, tensors | {"initial_h": other})).named_parameters()]
        assert not any("initial" in name for name in names)


# --- what cannot be -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"activations": ["Sigmoid", "Tanx", "Tanh"]}, "node 'node': unknown activation 'Tanx'.* Known: Affine, Elu"),
        ({"activations": ["Sigmoid", "Tanh"]}, "activations: 3 are expected, found 2"),
        ({"activations": ["Tanh"] * 3, "activation_alpha": [0.5]}, "activation_alpha: 0 of Tanh, Tanh, Tanh take one"),
        (
            {"activations": ["Tanh", "Elu", "Tanh"], "activation_alpha": [0.1, 0.2, 0.3]},
            "activation_alpha: 1 of Tanh, Elu, Tanh take one, found 3",
        ),
        ({"activations": ["ScaledTanh", "Tanh", "Tanh"]}, "activation_alpha: ScaledTanh has no default"),
        ({"clip": -1.0}, "clip: a number above 0 is expected, not -1.0"),
        ({"layout": 2}, "layout is 0 or 1, not 2"),
        ({"direction": "backward"}, "unknown direction 'backward'"),
        ({"direction": "bidirectional"}, r"W: \(2, 12, 2\) is expected, found \(1, 12, 2\)"),
        ({"hidden_size": 4}, r"W: \(1, 16, 2\) is expected, found \(1, 12, 2\)"),
        ({"clip": "1"}, "clip: type float is expected, not string"),
        ({"direction": 1}, "direction: type string is expected, not int"),
        ({"output_sequence": 1}, "unknown attribute of LSTM 'output_sequence'"),
        ({"linear_before_reset": 1}, "unknown attribute of LSTM 'linear_before_reset'"),
        ({"op": "GRU", "input_forget": 1}, "unknown attribute of GRU 'input_forget'"),
    ],
)
def test_attributes_that_cannot_be(attributes: Any, text: str) -> None:
    with pytest.raises(DataError, match=text):
        from_onnx(*small(attributes.pop("op", "LSTM"), **attributes))


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("W", np.ones((1, 12)), r"W: 3 dimensions are expected, found shape \(1, 12\)"),
        ("R", np.ones((1, 12, 4), np.float32), r"R: \(1, 12, 3\) is expected, found \(1, 12, 4\)"),
        ("R", np.ones((1, 11, 3), np.float32), r"R: \(1, 12, 3\) is expected, found \(1, 11, 3\)"),
        ("B", np.ones((1, 12), np.float32), r"B: \(1, 24\) is expected, found \(1, 12\)"),
        ("P", np.ones((1, 12), np.float32), r"P: \(1, 9\) is expected, found \(1, 12\)"),
        ("B", np.ones((1, 24), np.float64), "B is torch.float64, but W is torch.float32; one type is expected"),
        ("W", np.ones((1, 12, 2), np.int32), "W: float32, float64 or float16 is expected, not int32"),
        ("W", np.ones((1, 0, 2), np.float32), r"W: a tensor with values is expected, found shape \(1, 0, 2\)"),
        ("R", None, "R is expected with its values .initializers.; tensor 'R' is none of the constants"),
        ("B", None, "B is expected with its values .initializers.; tensor 'B' is none of the constants"),
        (
            "W",
            torch.ones(1, 12, 2, dtype=torch.bfloat16),
            "tensor 'W': float32, float64 or float16 is expected, not bf",
        ),
        ("W", TensorProto(name="W", data_type=1, dims=[1, 12, 2], raw_data=b"1234"), "tensor 'W': it is not whole"),
    ],
)
def test_tensors_that_do_not_fit(key: str, value: Any, text: str) -> None:
    node, tensors = small(P=True)
    given: dict[str, Any] = {name: one for name, one in (tensors | {key: value}).items() if one is not None}
    with pytest.raises(DataError, match=text):
        from_onnx(node, given)


def test_nodes_of_another_kind() -> None:
    with pytest.raises(DataError, match="node 'Y': LSTM, GRU or RNN is expected, not Conv"):
        from_onnx(helper.make_node("Conv", ["X", "W"], ["Y"]), {})
    with pytest.raises(DataError, match=r"node 'Y': LSTM, GRU or RNN is expected, not com.microsoft.LSTM"):
        from_onnx(helper.make_node("LSTM", ["X", "W", "R"], ["Y"], domain="com.microsoft"), {})
    with pytest.raises(
        DataError, match=r"node 'Y': R is expected with its values .initializers.; the node does not name"
    ):
        from_onnx(helper.make_node("LSTM", ["X", "W"], ["Y"]), {"W": np.ones((1, 4, 1), np.float32)})
    with pytest.raises(RecipeError, match="initializers: ONNX tensors, or arrays by name, are expected, not ndarray"):
        from_onnx(helper.make_node("LSTM", ["X", "W", "R"], ["Y"]), [np.ones(3)])
    with pytest.raises(RecipeError, match="an ONNX node or model, or the path of one, is expected, not int"):
        from_onnx(3)  # pyright: ignore[reportArgumentType]


def test_models_that_cannot_be() -> None:
    node, tensors = small()
    model = model_of(node, tensors, constant=("W", "R", "B"))
    with pytest.raises(RecipeError, match="model: unknown node 'nod'; did you mean 'node'"):
        from_onnx(model, name="nod")
    for opset, found in ((6, "opset 6; from 7 to"), (999, "opset 999; from 7 to")):
        model.opset_import[0].version = opset
        with pytest.raises(DataError, match=f"model: {found}"):
            from_onnx(model)
    with pytest.raises(DataError, match="model: an ONNX model is expected; it has no graph"):
        from_onnx(onnx.ModelProto())
    graph = helper.make_graph([helper.make_node("Relu", ["X"], ["Y"])], "graph", [], [])
    with pytest.raises(DataError, match="model: a node LSTM, GRU or RNN is expected; its graph has none"):
        from_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)]))


def test_weights_that_the_models_input_decides() -> None:
    node, tensors = small()
    model = model_of(node, tensors | {"V": tensors["W"]}, constant=("R", "B", "V"))
    model.graph.node.insert(0, helper.make_node("Mul", ["V", "X"], ["W"]))
    with pytest.raises(DataError, match="tensor 'W' is none of the constants"):
        from_onnx(model)


@pytest.mark.parametrize(
    "maker",
    [
        helper.make_node("Foo", ["V"], ["W"], domain="own"),
        helper.make_node("Bar", ["V"], ["W"]),
        helper.make_node("MatMul", ["V", "V"], ["W"]),
        helper.make_node("Reshape", ["V", "V"], ["W"]),
    ],
)
def test_constants_that_cannot_be_computed(maker: Any) -> None:
    node, tensors = small()
    model = model_of(node, tensors | {"V": tensors["W"]}, constant=("R", "B", "V"))
    model.graph.node.insert(0, maker)
    with pytest.raises(DataError, match="tensor 'W': cannot be computed from the model's constants: "):
        from_onnx(model)


def test_weights_that_a_branch_decides() -> None:
    node, tensors = small()
    model = model_of(node, tensors | {"V": np.array(True)}, constant=("R", "B", "V"))
    one = numpy_helper.from_array(tensors["W"])
    outputs = [helper.make_empty_tensor_value_info("out")]
    branch = helper.make_graph([helper.make_node("Constant", [], ["out"], value=one)], "branch", [], outputs)
    model.graph.node.insert(0, helper.make_node("If", ["V"], ["W"], then_branch=branch, else_branch=branch))
    with pytest.raises(DataError, match="tensor 'W' is none of the constants"):
        from_onnx(model)


def test_nodes_of_one_name_go_by_their_outputs() -> None:
    node, tensors = small()
    model = model_of(node, tensors, constant=("W", "R", "B"))
    other = model.graph.node.add()
    other.CopyFrom(node)
    other.output[:] = ["", "Z_h"]
    layers = from_onnx(model)
    assert isinstance(layers, dict)
    assert list(layers) == ["Y", "Z_h"]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    node, tensors = small()
    whole = model_of(node, tensors, constant=("W", "R", "B")).SerializeToString()
    path = tmp_path / "model.onnx"
    for content, text in (
        (b"no model", "an ONNX model is expected; this is none, or not whole"),
        (whole[: len(whole) // 2], "an ONNX model is expected; this is none, or not whole"),
        (b"", "an ONNX model is expected; it has no graph"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=text) as caught:
            from_onnx(path)
        assert str(caught.value).startswith(str(path))
    with pytest.raises(DataError, match=r"missing.onnx: No such file or directory"):
        from_onnx(tmp_path / "missing.onnx")
    with pytest.raises(DataError, match="Is a directory"):
        from_onnx(tmp_path)


def test_weights_in_a_file_of_their_own(tmp_path: Path) -> None:
    node, tensors = small()
    path = tmp_path / "model.onnx"
    model = model_of(node, tensors, constant=("W", "R", "B"))
    onnx.save(model, path, save_as_external_data=True, location="weights", size_threshold=0)
    assert torch.equal(only(from_onnx(path))(X)[0], only(from_onnx(node, tensors))(X)[0])
    (tmp_path / "weights").unlink()
    with pytest.raises(DataError, match="weights"):
        from_onnx(path)


def test_an_input_that_does_not_fit() -> None:
    layer = only(from_onnx(*small()))
    with pytest.raises(ValueError, match=r"X: \(T, B, I\) is expected, not \(4, 2\)"):
        layer.as_node(torch.zeros(4, 2))
    with pytest.raises(ValueError, match="input_size is 2"):
        layer.as_node(torch.zeros(4, 2, 3))
    with pytest.raises(ValueError, match=r"initial_c: 3 dimensions are expected, not \(2, 3\)"):
        layer.as_node(X, initial_c=torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"state.h\[0\]: a tensor \(2, 3\) is expected, not \(2, 4\)"):
        layer.as_node(X, initial_h=torch.zeros(1, 2, 4))


def test_without_onnx_the_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'recurra\[onnx\]'"):
        from_onnx("model.onnx")
