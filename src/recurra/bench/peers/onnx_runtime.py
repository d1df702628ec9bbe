"""ONNX Runtime's recurrent operators, one node a layer; inference alone."""

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper
from torch import Tensor

from recurra.bench.problem import Contestant, NotHere, Problem, from_arrays
from recurra.cells import CATALOGUE
from recurra.nn.weights.gates import split, stack

OPERATORS = {
    "lstm": ("LSTM", "i o f g", {}),
    "gru_reset_after": ("GRU", "z r n", {"linear_before_reset": 1}),
    "elman": ("RNN", "h", {}),
}
"""The operator of each cell, the order in which it stacks our gates, and its attributes."""

OPSET, IR_VERSION = 22, 10


def make(problem: Problem) -> Contestant:
    """The cell's operator with its weights; `NotHere` where there is none, or gradients are asked for."""
    cell = problem.cell
    if cell.name not in OPERATORS or cell != CATALOGUE[cell.name]:
        raise NotHere(f"ONNX has no operator of cell {cell.name!r}")
    if problem.kind != "infer":
        raise NotHere("ONNX Runtime computes whole sequences, and no gradients")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = problem.threads, 1
    options.add_session_config_entry("session.force_spinning_stop", "1")  # its threads spin while it runs, no longer
    session = onnxruntime.InferenceSession(
        _model(problem).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    given = {"x": problem.x.numpy()}
    return Contestant(lambda: session.run(None, given)[0], from_arrays)


def _model(problem: Problem) -> onnx.ModelProto:
    """Layers on top of each other; after each, the axis of directions is taken out."""
    operator, order, attributes = OPERATORS[problem.cell.name]
    shape = problem.shape
    nodes, constants = [], [numpy_helper.from_array(np.array([1]), "axis")]
    for k in range(shape.layers):
        values = {f"W{k}": _stacked(problem, f"weight_ih_l{k}", order)}
        values[f"R{k}"] = _stacked(problem, f"weight_hh_l{k}", order)
        values[f"B{k}"] = torch.cat([_bias(problem, name, k, order) for name in ("bias_ih", "bias_hh")])
        constants += [numpy_helper.from_array(v.unsqueeze(0).numpy(), name) for name, v in values.items()]
        below = "x" if k == 0 else f"y{k - 1}"
        nodes.append(helper.make_node(operator, [below, *values], [f"Y{k}"], hidden_size=shape.H, **attributes))
        nodes.append(helper.make_node("Squeeze", [f"Y{k}", "axis"], [f"y{k}"]))
    sizes = {"x": (shape.T, shape.B, shape.I), f"y{shape.layers - 1}": (shape.T, shape.B, shape.H)}
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, size) for name, size in sizes.items()]
    graph = helper.make_graph(nodes, "bench", ends[:1], ends[1:], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(made)
    return made


def _stacked(problem: Problem, name: str, order: str) -> Tensor:
    """A parameter with its gates in this order."""
    return stack(split(problem.weights[name], " ".join(problem.cell.gates)), order)


def _bias(problem: Problem, name: str, k: int, order: str) -> Tensor:
    """The first or second bias; where the cell has one, it is the first, and the second zero."""
    if problem.cell.biases == 2:
        return _stacked(problem, f"{name}_l{k}", order)
    first = _stacked(problem, f"bias_l{k}", order)
    return first if name == "bias_ih" else torch.zeros_like(first)
