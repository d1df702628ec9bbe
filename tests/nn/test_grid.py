"""Grids of cells: against an independent reference in NumPy, block by block, and against their own definitions."""

import itertools
import re
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from recurra.cells import CATALOGUE
from recurra.nn import DepthGrid, Grid, Recurrent

ROWS, COLUMNS, BATCH, INPUT, HIDDEN = 3, 4, 2, 2, 3
TINY = 1e-30


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(8)


def make(cell: Any = "lstm", *arguments: Any, **options: Any) -> Grid:
    options = {"dtype": torch.float64, **options}
    grid = Grid(cell, options.pop("input_size", INPUT), options.pop("hidden_size", HIDDEN), *arguments, **options)
    for p in grid.parameters():
        nn.init.normal_(p, std=0.5)
    return grid


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def sides(grid: Grid, rows: int = ROWS, columns: int = COLUMNS, batch: int = BATCH) -> tuple[Any, ...]:
    runs = grid.num_layers * len(grid.origins)
    return tuple(tuple(random(runs, n, batch, width) for width in grid.widths) for n in (columns, rows))


# --- the paper -------------------------------------------------------------------------------------------------------


def lstm_of_the_paper(H: np.ndarray, m: np.ndarray, w: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """LSTM(H, m, W) of Kalchbrenner et al. 2015, one matrix a gate over the whole of H (and a bias; h = o tanh m)."""
    net = {gate: H @ w[f"W_{gate}"].T + w[f"b_{gate}"] for gate in "ufoc"}
    u, f, o = (1 / (1 + np.exp(-net[gate])) for gate in "ufo")
    m = f * m + u * np.tanh(net["c"])
    return o * np.tanh(m), m


def grid_of_the_paper(w: dict[str, np.ndarray], priority: str | None) -> dict[str, np.ndarray]:
    """A block for every place, in reading order; v goes down and h goes right."""
    R, C = w["x"].shape[:2]
    v = {c: (w["v_h"][c], w["v_c"][c]) for c in range(C)}
    h = {r: (w["h_h"][r], w["h_c"][r]) for r in range(R)}
    outputs = {}
    own = {side: {k[2:]: value for k, value in w.items() if k.startswith(side + ".")} for side in "vh"}
    for r, c in itertools.product(range(R), range(C)):
        old_v, old_h = v[c][0], h[r][0]
        seen_by_v = seen_by_h = np.concatenate([w["x"][r, c], old_v, old_h], -1)
        if priority == "vertical":
            h[r] = lstm_of_the_paper(seen_by_h, h[r][1], own["h"])
            seen_by_v = np.concatenate([w["x"][r, c], old_v, h[r][0]], -1)
            v[c] = lstm_of_the_paper(seen_by_v, v[c][1], own["v"])
        elif priority == "horizontal":
            v[c] = lstm_of_the_paper(seen_by_v, v[c][1], own["v"])
            seen_by_h = np.concatenate([w["x"][r, c], v[c][0], old_h], -1)
            h[r] = lstm_of_the_paper(seen_by_h, h[r][1], own["h"])
        else:
            v[c] = lstm_of_the_paper(seen_by_v, v[c][1], own["v"])
            h[r] = lstm_of_the_paper(seen_by_h, h[r][1], own["h"])
        outputs[r, c] = np.concatenate([v[c][0], h[r][0]], -1)
    found = {"output": np.stack([np.stack([outputs[r, c] for c in range(C)]) for r in range(R)])}
    found |= {f"v_{f}": np.stack([v[c][i] for c in range(C)]) for i, f in enumerate("hc")}
    return found | {f"h_{f}": np.stack([h[r][i] for r in range(R)]) for i, f in enumerate("hc")}


def weights_of_the_paper(grid: Grid, of: Any) -> dict[str, np.ndarray]:
    """W over H = [x; h_v; h_h] from our W over [x; the other h] and U; `of` gives a parameter's values by its name."""
    found = {}
    for side, dimension in (("v", "vertical"), ("h", "horizontal")):
        W, U, b = (of(f"{name}_l0_{dimension}") for name in ("weight_ih", "weight_hh", "bias"))
        for gate, w, u, d in zip("ufco", *(np.split(v, 4) for v in (W, U, b)), strict=True):
            x, other = w[:, :INPUT], w[:, INPUT:]
            hidden = [u, other] if side == "v" else [other, u]
            found |= {f"{side}.W_{gate}": np.concatenate([x, *hidden], 1), f"{side}.b_{gate}": d}
    return found


@pytest.mark.parametrize("priority", [None, "vertical", "horizontal"])
def test_it_is_the_papers_grid(priority: Any) -> None:
    """Outputs, the states that leave, and every gradient, by a complex step in each number."""
    grid = make(priority=priority)
    x, (v, h) = random(2, 3, BATCH, INPUT).requires_grad_(), sides(grid, 2, 3)
    leaves = {**dict(grid.named_parameters()), "x": x}
    leaves |= {f"v_{f}": value.requires_grad_() for f, value in zip("hc", v, strict=True)}
    leaves |= {f"h_{f}": value.requires_grad_() for f, value in zip("hc", h, strict=True)}
    values = {name: leaf.detach().numpy() for name, leaf in leaves.items()}

    def run(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        edges = {name: values[name][0] for name in ("v_h", "v_c", "h_h", "h_c")}
        return grid_of_the_paper({"x": values["x"], **edges, **weights_of_the_paper(grid, values.get)}, priority)

    expected = run(values)
    output, state = grid(x, (v, h))
    found = {"output": output, **{f"v_{f}": v[0] for f, v in state.vertical._asdict().items()}}
    found |= {f"h_{f}": v[0] for f, v in state.horizontal._asdict().items()}
    assert set(found) == set(expected)
    for name, value in found.items():
        np.testing.assert_allclose(value.detach().numpy(), expected[name], rtol=1e-12, atol=1e-13, err_msg=name)

    weights = {name: torch.randn_like(value) for name, value in found.items()}
    total = torch.stack([(value * weights[name]).sum() for name, value in found.items()]).sum()
    ours = torch.autograd.grad(total, list(leaves.values()))
    for name, gradient in zip(leaves, ours, strict=True):
        slope = np.empty(values[name].shape)
        for place in np.ndindex(slope.shape):
            moved = values[name].astype(complex)
            moved[place] += TINY * 1j
            there = run({**values, name: moved})
            slope[place] = sum(np.sum(np.imag(v) * weights[k].numpy()) for k, v in there.items()) / TINY
        np.testing.assert_allclose(gradient.numpy(), slope, rtol=1e-10, atol=1e-12 * abs(slope).max(), err_msg=name)


# --- block by block, for every cell ----------------------------------------------------------------------------------


def block_by_block(grid: Grid, x: Tensor, state: Any = None) -> Tensor:
    """One layer from one corner, a block at a time, each a step of an ordinary layer with the same weights."""
    layers = []
    for dimension in ("vertical", "horizontal"):
        layer = Recurrent(grid.cell, INPUT + grid.widths[0], grid.hidden_size, backend="eager", dtype=torch.float64)
        own = {
            name: grid.get_parameter(f"{name}{'' if grid.tied else f'_{dimension}'}")
            for name, _ in layer.named_parameters()
        }
        layer.load_state_dict(own)
        layers.append(layer)
    R, C, B, _ = x.shape
    start = grid.cell.initial_state(B, grid.hidden_size, x)
    v = [[field[:, c] for field in state[0]] if state else [field[None] for field in start] for c in range(C)]
    h = [[field[:, r] for field in state[1]] if state else [field[None] for field in start] for r in range(R)]
    outputs = torch.zeros(R, C, B, 2 * grid.widths[0], dtype=torch.float64)
    for r, c in itertools.product(range(R), range(C)):
        up, left = v[c][0][0], h[r][0][0]
        v[c] = layers[0].step(torch.cat([x[r, c], left], -1), v[c])[1]
        h[r] = layers[1].step(torch.cat([x[r, c], up], -1), h[r])[1]
        outputs[r, c] = torch.cat([v[c][0][0], h[r][0][0]], -1)
    return outputs


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", CATALOGUE)
def test_diagonals_are_block_by_block(name: str, tied: bool) -> None:
    grid, x = make(name, tied=tied), random(ROWS, COLUMNS, BATCH, INPUT)
    torch.testing.assert_close(grid(x)[0], block_by_block(grid, x))


def test_one_row_is_a_recurrent_layer_over_what_enters_from_above() -> None:
    """Where nothing enters from above, and W of the other hidden vector is zero."""
    grid, layer = make(), Recurrent("lstm", INPUT, HIDDEN, dtype=torch.float64)
    with torch.no_grad():
        for name, p in layer.named_parameters():
            p.copy_(
                grid.get_parameter(f"{name}_horizontal")[:, :INPUT]
                if "ih" in name
                else grid.get_parameter(f"{name}_horizontal")
            )
        grid.get_parameter("weight_ih_l0_horizontal")[:, INPUT:] = 0
    x = random(1, 6, BATCH, INPUT)
    output, state = grid(x)
    expected, final = layer(x[0])
    torch.testing.assert_close(output[0, ..., HIDDEN:], expected)
    torch.testing.assert_close(state.horizontal.c[:, 0], final.c)


# --- corners, layers, layouts ----------------------------------------------------------------------------------------


AXES = {"top left": (), "top right": (1,), "bottom left": (0,), "bottom right": (0, 1)}


@pytest.mark.parametrize("origin", AXES)
def test_each_corner_is_the_first_one_of_the_turned_grid(origin: Any) -> None:
    grid, plain = make(origins=origin), make()
    plain.load_state_dict({re.sub("_(tr|bl|br)$", "", name): v for name, v in grid.state_dict().items()})
    x, (v, h) = random(ROWS, COLUMNS, BATCH, INPUT), sides(grid)
    output, state = grid(x, (v, h))
    turned_v = tuple(f.flip(1) if 1 in AXES[origin] else f for f in v)
    turned_h = tuple(f.flip(1) if 0 in AXES[origin] else f for f in h)
    expected, left = plain(x.flip(AXES[origin]), (turned_v, turned_h))
    torch.testing.assert_close(output, expected.flip(AXES[origin]))
    torch.testing.assert_close(state.vertical.c, left.vertical.c.flip(1) if 1 in AXES[origin] else left.vertical.c)
    torch.testing.assert_close(
        state.horizontal.c, left.horizontal.c.flip(1) if 0 in AXES[origin] else left.horizontal.c
    )


def test_corners_and_layers_are_runs_one_by_one() -> None:
    grid = make("gru", 2, origins=list(AXES))
    x, state = random(ROWS, COLUMNS, BATCH, INPUT), sides(grid)
    output, left = grid(x, state)
    below, own = x, grid.state_dict()
    for k in range(2):
        outputs = []
        for i, (origin, ending) in enumerate(zip(AXES, ("", "_tr", "_bl", "_br"), strict=True)):
            one = make("gru", input_size=below.shape[-1], origins=origin)
            names = {name: re.sub("_l0", f"_l{k}", name) for name in one.state_dict()}
            assert all(name.endswith(("vertical" + ending, "horizontal" + ending)) for name in names)
            one.load_state_dict({name: own[there] for name, there in names.items()})
            place = slice(4 * k + i, 4 * k + i + 1)
            out, last = one(below, tuple(tuple(f[place] for f in side) for side in state))
            outputs.append(out)
            torch.testing.assert_close(left.vertical.h[place], last.vertical.h)
            torch.testing.assert_close(left.horizontal.h[place], last.horizontal.h)
        below = torch.cat(outputs, -1)
    torch.testing.assert_close(output, below)
    assert grid.output_size == output.shape[-1] == 8 * HIDDEN


def test_batch_first() -> None:
    grid, turned = make(), make(batch_first=True)
    turned.load_state_dict(grid.state_dict())
    x, mask = random(ROWS, COLUMNS, BATCH, INPUT), torch.rand(ROWS, COLUMNS, BATCH) < 0.7
    expected, left = grid(x, mask=mask)
    output, last = turned(x.permute(2, 0, 1, 3), mask=mask.permute(2, 0, 1))
    assert torch.equal(output, expected.permute(2, 0, 1, 3))
    assert torch.equal(last.vertical.c, left.vertical.c)


def test_a_grid_cut_in_four_is_the_whole() -> None:
    grid, x = make("lstm_peephole"), random(ROWS, COLUMNS, BATCH, INPUT)
    whole, end = grid(x)
    first, a = grid(x[:2, :1])
    second, b = grid(x[:2, 1:], (None, a.horizontal))
    third, c = grid(x[2:, :1], (a.vertical, None))
    fourth, d = grid(x[2:, 1:], (b.vertical, c.horizontal))
    parts = torch.cat([torch.cat([first, second], 1), torch.cat([third, fourth], 1)])
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(torch.cat([c.vertical.c, d.vertical.c], 1), end.vertical.c)
    torch.testing.assert_close(torch.cat([b.horizontal.h, d.horizontal.h], 1), end.horizontal.h)


# --- padding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("origins", [["top left", "bottom right"], ["top right", "bottom left"]])
def test_a_padded_batch_is_each_grid_alone(origins: Any) -> None:
    """Outputs, states that leave, and gradients; what stands outside is NaN."""
    grid, sizes = make("lstm", 2, origins=origins), [(3, 4), (2, 1), (1, 4), (0, 0), (3, 0)]
    x = random(ROWS, COLUMNS, len(sizes), INPUT).requires_grad_()
    inside = torch.zeros(ROWS, COLUMNS, len(sizes), dtype=torch.bool)
    for b, (rows, columns) in enumerate(sizes):
        inside[:rows, :columns, b] = True
    padded = x.masked_fill(~inside.unsqueeze(-1), torch.nan)
    rows, columns = zip(*sizes, strict=True)
    output, state = grid(padded, lengths=(rows, columns))
    assert torch.equal(grid(padded, mask=inside)[0], output)
    assert (output[~inside] == 0).all()
    total, expected_total = output.square().sum(), torch.zeros((), dtype=torch.float64)
    for b, (R, C) in enumerate(sizes):
        alone, left = grid(x[:R, :C, b : b + 1])
        torch.testing.assert_close(output[:R, :C, b : b + 1], alone)
        torch.testing.assert_close(state.vertical.c[:, :C, b : b + 1], left.vertical.c)
        torch.testing.assert_close(state.horizontal.h[:, :R, b : b + 1], left.horizontal.h)
        expected_total = expected_total + alone.square().sum()
    leaves = [x, *grid.parameters()]
    for found, wanted in zip(*(torch.autograd.grad(t, leaves) for t in (total, expected_total)), strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(("rows", "columns", "batch"), [(0, 3, 2), (3, 0, 2), (2, 3, 0), (1, 1, 1)])
def test_edges(rows: int, columns: int, batch: int) -> None:
    grid = make(origins=["top left", "bottom right"])
    state = sides(grid, rows, columns, batch)
    output, left = grid(random(rows, columns, batch, INPUT), state)
    assert output.shape == (rows, columns, batch, 4 * HIDDEN)
    assert [tuple(f.shape) for f in left.vertical] == [(2, columns, batch, HIDDEN)] * 2
    assert [tuple(f.shape) for f in left.horizontal] == [(2, rows, batch, HIDDEN)] * 2
    if not rows:
        assert torch.equal(left.vertical.c, state[0][1])
    if not columns:
        assert torch.equal(left.horizontal.c, state[1][1])


@pytest.mark.parametrize("name", ["lstm", "clockwork", "min_gru"])
def test_gradients_by_differences(name: str) -> None:
    grid = make(name, hidden_size=2, origins=["bottom left"], priority="vertical")
    x = random(2, 2, 1, INPUT).requires_grad_()
    values = [p.detach().requires_grad_() for p in grid.parameters()]
    names = [key for key, _ in grid.named_parameters()]

    def run(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(grid, dict(zip(names, values, strict=True)), (x,))[0]

    assert torch.autograd.gradcheck(run, (x, *values))


def test_a_grid_is_copied_and_saved() -> None:
    grid, x = make("clockwork", 2), random(ROWS, COLUMNS, BATCH, INPUT)
    other = make("clockwork", 2)
    other.load_state_dict(grid.state_dict(), strict=True)
    assert torch.equal(other(x)[0], grid(x)[0])
    assert [*grid.state_dict()][:3] == [f"{name}_l0_vertical" for name in ("weight_ih", "weight_hh", "bias")]
    assert [*make(tied=True).state_dict()] == ["weight_ih_l0", "weight_hh_l0", "bias_l0"]
    assert repr(make(tied=True, origins="top right")) == (
        "Grid(lstm(forget_bias=1.0), 2, 3, origins=['top right'], tied=True)"
    )


def test_it_begins_as_the_cell_says() -> None:
    grid = Grid("lstm", 2, 3)
    assert grid.get_parameter("bias_l0_vertical").tolist() == [0.0] * 3 + [1.0] * 3 + [0.0] * 6
    U = grid.get_parameter("weight_hh_l0_horizontal")[:3]
    torch.testing.assert_close(U @ U.T, torch.eye(3))
    layers = DepthGrid("lstm", 2, 3, 2)
    for block in layers.weight_enter.detach().split(3):  # h and c, each drawn by itself: ±√(6 / (I + H))
        assert 0.5 < float(block.abs().max()) <= (6 / 5) ** 0.5
    assert not layers.bias_enter.any()


# --- over time and depth ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lstm", "gru", "slstm", "jordan"])
@pytest.mark.parametrize("shared", [False, True])
def test_depth_is_a_grid_whose_columns_begin_with_the_input(name: str, shared: bool) -> None:
    layers = DepthGrid(name, INPUT, HIDDEN, 3, shared=shared, dtype=torch.float64)
    for p in layers.parameters():
        nn.init.normal_(p, std=0.5)
    x = random(5, BATCH, INPUT)
    output, state = layers(x)
    fields = layers.cell.state_type._fields
    projected = (x @ layers.weight_enter.T + layers.bias_enter).split(HIDDEN, -1)
    rising = [v[None] for v in projected]
    if name == "slstm":
        rising.append(torch.full_like(rising[0], -torch.inf))
    assert len(rising) == len(fields)
    left = []
    for k in range(3):
        grid = layers.grids[0 if shared else k]
        _, (rising, across) = grid(random(1, 5, BATCH, 0), (tuple(rising), None))
        left.append(across)
    torch.testing.assert_close(output, rising[0][0])
    for i, field in enumerate(state):
        torch.testing.assert_close(field, torch.cat([across[i][0] for across in left]))


@pytest.mark.parametrize("shared", [False, True])
def test_depth_over_time_carries_its_state_and_heeds_lengths(shared: bool) -> None:
    layers = DepthGrid("lstm", INPUT, HIDDEN, 2, shared=shared, priority="vertical", batch_first=True).double()
    nn.init.normal_(layers.bias_enter)
    x = random(3, 5, INPUT).requires_grad_()
    whole, end = layers(x)
    first, middle = layers(x[:, :2])
    second, last = layers(x[:, 2:], middle)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    torch.testing.assert_close(tuple(last), tuple(end))
    lengths = [5, 0, 2]
    padded = x.masked_fill(torch.arange(5).view(1, 5, 1) >= torch.tensor(lengths).view(3, 1, 1), torch.nan)
    output, state = layers(padded, lengths=lengths)
    mask = torch.arange(5) < torch.tensor(lengths).unsqueeze(1)
    assert torch.equal(layers(padded, mask=mask)[0], output)
    expected_total = torch.zeros((), dtype=torch.float64)
    for b, length in enumerate(lengths):
        alone, final = layers(x[b, :length])
        torch.testing.assert_close(output[b, :length], alone)
        assert (output[b, length:] == 0).all()
        torch.testing.assert_close(tuple(f[:, b] for f in state), tuple(final))
        expected_total = expected_total + alone.square().sum()
    leaves = [x, *layers.parameters()]
    totals = (output.square().sum(), expected_total)
    for found, wanted in zip(*(torch.autograd.grad(t, leaves) for t in totals), strict=True):
        torch.testing.assert_close(found, wanted)
    alone, final = layers(x[0], tuple(f[:, 0] for f in middle))
    torch.testing.assert_close(alone, layers(x[:1], tuple(f[:, :1] for f in middle))[0][0])


# --- mistakes --------------------------------------------------------------------------------------------------------


def test_wrong_arguments_are_told() -> None:
    for arguments, message in [
        ({"cell": torch.tanh}, "cell: a cell made with recurra.cell, or the name of one, is expected, not <built-in"),
        ({"cell": "lsmt"}, "unknown cell 'lsmt'; did you mean 'lstm'?"),
        ({"input_size": -1}, "input_size: a whole number above 0 is expected, not -1"),
        ({"hidden_size": 0}, "hidden_size: a whole number above 0 is expected, not 0"),
        ({"num_layers": 0}, "num_layers: a whole number above 0 is expected, not 0"),
        ({"origins": "top lefft"}, "origins: unknown corner 'top lefft'; did you mean 'top left'?"),
        ({"origins": ["top left", "top left"]}, "origins: 'top left' is named twice"),
        ({"origins": []}, "origins: a corner or several are expected (top left, top right, bottom left, bottom right)"),
        ({"priority": "vertikal"}, "priority: unknown dimension 'vertikal'; did you mean 'vertical'?"),
    ]:
        with pytest.raises(ValueError, match="^" + re.escape(message)):
            Grid(**{"cell": "lstm", "input_size": 2, "hidden_size": 3, **arguments})


def test_wrong_inputs_are_told() -> None:
    grid, x = make(), random(ROWS, COLUMNS, BATCH, INPUT)
    field = random(1, COLUMNS, BATCH, HIDDEN)
    cases: list[tuple[Any, dict[str, Any], str]] = [
        ("x", {}, "x: a tensor (R, C, B, I) is expected, not str"),
        (x[0], {}, "x: (R, C, B, I) is expected, not (4, 2, 2)"),
        (x[..., :1], {}, "x: input_size is 2, but (3, 4, 2, 1) ends with 1"),
        (x.float(), {}, "x: torch.float64 is expected, as the parameters are, not torch.float32"),
        (x, {"mask": x}, "mask: a boolean tensor is expected, not torch.float64"),
        (x, {"mask": x[0, ..., 0] > 0}, "mask: (3, 4, 2) is expected, not (4, 2)"),
        (
            x,
            {"lengths": [1, 2, 3]},
            "lengths: a pair is expected, the rows of each grid and the columns of each, such as "
            "([3, 5], [4, 4]), not [1, 2, 3]",
        ),
        (
            x,
            {"lengths": [1, 2]},
            "lengths: a pair is expected, the rows of each grid and the columns of each, such as "
            "([3, 5], [4, 4]), not [1, 2]",
        ),
        (x, {"lengths": ([1, 4], [1, 1])}, "lengths: from 0 to T = 3 is expected, found 4"),
        (x, {"state": 3}, "state: a pair is expected, vertical and horizontal, not int"),
        (x, {"state": (field, None)}, "state.vertical: 2 field(s) are expected (h, c), not 1"),
        (
            x,
            {"state": (None, (field, field))},
            "state.horizontal.h: a tensor (1, 3, 2, 3) is expected, not (1, 4, 2, 3)",
        ),
    ]
    for value, flags, message in cases:
        with pytest.raises(ValueError, match="^" + re.escape(message)):
            grid(value, **flags)


def test_wrong_inputs_over_depth_are_told() -> None:
    layers, x = DepthGrid("lstm", INPUT, HIDDEN, 2), torch.zeros(4, BATCH, INPUT)
    field = torch.zeros(2, BATCH, HIDDEN)
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (x[..., :1], {}, "x: (T, B, I), (B, T, I) or (T, I) with I = 2 is expected, not (4, 2, 1)"),
        (x.double(), {}, "x: torch.float32 is expected, as the parameters are, not torch.float64"),
        (x, {"state": field}, "state: 2 field(s) are expected (h, c), not 1"),
        (x, {"state": (field, field[:1])}, "state.c: a tensor (2, 2, 3) is expected, not (1, 2, 3)"),
    ]
    for value, flags, message in cases:
        with pytest.raises(ValueError, match="^" + re.escape(message)):
            layers(value, **flags)
    with pytest.raises(ValueError, match="depth: a whole number above 0 is expected, not 0"):
        DepthGrid("lstm", 2, 3, 0)


# --- a task ----------------------------------------------------------------------------------------------------------


def test_it_learns_to_read_digits() -> None:
    """Handwritten digits of 8 x 8 pixels, read from two corners: over nine in ten right after a few seconds."""
    digits: Any = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unflatten(1, (4, 2)).unflatten(3, (4, 2))
    patches = images.permute(1, 3, 0, 2, 4).flatten(3) / 16  # (4, 4, B, 4): blocks of 2 x 2 pixels
    labels = torch.tensor(digits.target)
    grid = Grid("lstm", 4, 24, origins=["top left", "bottom right"])
    head = nn.Linear(grid.output_size, 10)
    optimiser = torch.optim.Adam([*grid.parameters(), *head.parameters()], lr=0.03)

    def scores(rows: Tensor) -> Tensor:
        return head(grid(patches[:, :, rows])[0].mean((0, 1)))

    order = torch.randperm(len(labels))
    test, training = order[:400], order[400:]
    for _ in range(10):
        for rows in training[torch.randperm(len(training))].split(64):
            loss = nn.functional.cross_entropy(scores(rows), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    with torch.no_grad():
        accuracy = float((scores(test).argmax(-1) == labels[test]).float().mean())
    assert accuracy > 0.9
