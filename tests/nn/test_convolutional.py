"""Cells whose products are convolutions: against matrices, against the paper in float64, and against themselves."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d
from torch import Tensor

import recurra
from recurra.analysis import gradient_flow
from recurra.analysis.result import AnalysisError
from recurra.cells import CATALOGUE
from recurra.errors import RecipeError
from recurra.learn import RULES, explain_bptt, find, gradients
from recurra.nn import ConvRecurrent, Recurrent, Stream

T, B, N_IN, C, H, W = 5, 3, 2, 4, 5, 7
LENGTHS = [5, 0, 2]


CELLS: dict[str, Any] = {**CATALOGUE, "slstm of two heads": CATALOGUE["slstm"](heads=2)}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(5)


def made(cell: Any, *arguments: Any, **options: Any) -> ConvRecurrent:
    """A layer with unequal weights."""
    layer = ConvRecurrent(cell, *arguments, dtype=torch.float64, **options)
    for p in layer.parameters():
        p.data.normal_(0.1, 0.3)
    return layer


def close(a: Any, b: Any, tolerance: float = 1e-12) -> None:
    if isinstance(a, (tuple, list)):
        for one, other in zip(a, b, strict=True):
            close(one, other, tolerance)
    else:
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def film(*shape: int) -> Tensor:
    return torch.randn(*(shape or (T, B, N_IN, H, W)), dtype=torch.float64)


# --- against other ways to compute the same ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", CELLS)
def test_one_place_and_a_kernel_of_one_is_a_row(name: str) -> None:
    rows = Recurrent(CELLS[name], N_IN, C, 2, bidirectional=True, dtype=torch.float64)
    frames = made(CELLS[name], N_IN, C, 1, 2, bidirectional=True)
    for (a, p), (b, q) in zip(rows.named_parameters(), frames.named_parameters(), strict=True):
        assert a == b
        p.data = q.data.reshape(p.shape).clone()
    x = torch.randn(T, B, N_IN, dtype=torch.float64)
    output, state = rows(x, lengths=LENGTHS)
    pictures, final = frames(x[..., None, None], lengths=LENGTHS)
    close(pictures[..., 0, 0], output)
    for field, of_frames in zip(state, final, strict=True):
        close([v[..., 0, 0] for v in of_frames], list(field))
    towards = torch.randn_like(output)
    (output * towards).sum().backward()
    (pictures[..., 0, 0] * towards).sum().backward()
    for p, q in zip(rows.parameters(), frames.parameters(), strict=True):
        assert p.grad is not None
        assert q.grad is not None
        close(q.grad.reshape(p.shape), p.grad, 1e-10)


@pytest.mark.parametrize("name", CATALOGUE)
def test_places_that_a_kernel_does_not_join_are_rows_of_a_batch(name: str) -> None:
    rows = Recurrent(name, N_IN, C, dtype=torch.float64)
    frames = made(name, N_IN, C, 1)
    for p, q in zip(rows.parameters(), frames.parameters(), strict=True):
        p.data = q.data.reshape(p.shape).clone()
    x = film()
    pictures, _ = frames(x)
    output, _ = rows(x.movedim(2, -1).reshape(T, -1, N_IN))
    close(pictures.movedim(2, -1).reshape(T, -1, pictures.shape[2]), output)


def convolved(frame: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Every channel of a frame (I, H, W) under every row of a kernel (rows, I, k, k), zeros around."""
    return np.stack([sum(correlate2d(f, k, "same") for f, k in zip(frame, row, strict=True)) for row in kernel])


def sigma(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


@pytest.mark.parametrize("by_place", [True, False])
@pytest.mark.parametrize(("k", "k_x"), [(3, 5), (5, 1)])
def test_conv_lstm_of_the_paper(by_place: bool, k: int, k_x: int) -> None:
    """Shi et al. 2015, equation 3: peepholes multiply place by place; by channel, all places have one value."""
    layer = made("lstm_peephole", N_IN, C, k, input_kernel_size=k_x, frame_size=(H, W) if by_place else None)
    weights = {name.removesuffix("_l0"): p.detach().numpy() for name, p in layer.named_parameters()}
    gates = dict(zip("ifgo", range(4), strict=True))
    W_x, W_h, b = (np.split(weights[name], 4) for name in ("weight_ih", "weight_hh", "bias"))
    v = {g: weights[f"v_{g}"] if by_place else weights[f"v_{g}"][:, None, None] for g in "ifo"}
    x = film()
    output, state = layer(x)
    assert weights["v_i"].shape == ((C, H, W) if by_place else (C,))
    for row in range(B):
        h, c = np.zeros((C, H, W)), np.zeros((C, H, W))
        for t in range(T):
            x_t = x[t, row].numpy()
            z = {g: convolved(x_t, W_x[n]) + convolved(h, W_h[n]) + b[n][:, None, None] for g, n in gates.items()}
            i, f = sigma(z["i"] + v["i"] * c), sigma(z["f"] + v["f"] * c)
            c = f * c + i * np.tanh(z["g"])
            h = sigma(z["o"] + v["o"] * c) * np.tanh(c)
            np.testing.assert_allclose(output[t, row].detach().numpy(), h, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(state.c[0, row].detach().numpy(), c, rtol=1e-10, atol=1e-12)


def test_conv_gru_resets_before_the_convolution() -> None:
    layer = made("gru", N_IN, C, 3)
    W_x, W_h, b = (
        np.split(layer.get_parameter(name).detach().numpy(), 3) for name in ("weight_ih_l0", "weight_hh_l0", "bias_l0")
    )
    x = film(T, 1, N_IN, H, W)
    output, _ = layer(x)
    h = np.zeros((C, H, W))
    for t in range(T):
        of_x = [convolved(x[t, 0].numpy(), W_x[n]) + b[n][:, None, None] for n in range(3)]
        r, u = (sigma(of_x[n] + convolved(h, W_h[n])) for n in (0, 1))
        n = np.tanh(of_x[2] + convolved(r * h, W_h[2]))
        h = u * h + (1 - u) * n
        np.testing.assert_allclose(output[t, 0].detach().numpy(), h, rtol=1e-10, atol=1e-12)


def test_a_diagonal_u_is_a_kernel_for_each_channel() -> None:
    layer = made("indrnn", N_IN, C, 3)
    W_x, U, b = (layer.get_parameter(n).detach().numpy() for n in ("weight_ih_l0", "weight_hh_l0", "bias_l0"))
    assert U.shape == (C, 1, 3, 3)
    x = film(T, 1, N_IN, H, W)
    output, _ = layer(x)
    h = np.zeros((C, H, W))
    for t in range(T):
        own = np.stack([correlate2d(h[n], U[n, 0], "same") for n in range(C)])
        h = np.maximum(convolved(x[t, 0].numpy(), W_x) + own + b[:, None, None], 0)
        np.testing.assert_allclose(output[t, 0].detach().numpy(), h, rtol=1e-10, atol=1e-12)


def test_heads_do_not_see_each_other() -> None:
    layer = made(CATALOGUE["slstm"](heads=2), N_IN, C, 3)
    assert layer.get_parameter("weight_hh_l0").shape == (2, 4 * C // 2, C // 2, 3, 3)
    state = tuple(film(1, 1, C, H, W).requires_grad_() for _ in range(4))
    output, _ = layer(film(1, 1, N_IN, H, W), state)
    (by_h, *_) = torch.autograd.grad(output[0, 0, : C // 2].sum(), state)
    assert by_h[0, 0, : C // 2].abs().min() > 0
    assert not by_h[0, 0, C // 2 :].any()


def test_a_mask_of_u_holds_at_all_places_of_the_kernel() -> None:
    cell = CATALOGUE["clockwork"]
    layer = ConvRecurrent(cell, N_IN, C, 3)
    mask = cell.mask_of_u(C)
    assert mask is not None
    assert 0 < mask.sum() < mask.numel()
    kernel = layer.get_parameter("weight_hh_l0")
    assert not kernel[mask == 0].any()
    assert (kernel[mask == 1] != 0).all()


# --- against itself ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lstm_peephole", "gru", "elman", "clockwork", "indrnn", "lstm_layer_norm", "jordan"])
def test_steps_windows_and_rows_by_themselves_give_the_same(name: str) -> None:
    layer = made(name, N_IN, C, 3, 2, skip="residual", input_layers=[3], output_layers=[6, 2], learn_initial_state=True)
    x = film()
    output, final = layer(x)
    assert output.shape == (T, B, 2, H, W)
    state, steps = None, []
    for t in range(T):
        y, state = layer.step(x[t], state)
        steps.append(y)
    close([torch.stack(steps), state], [output, final])
    first, state = layer(x[:2])
    second, state = layer(x[2:], state)
    close([torch.cat([first, second]), state], [output, final])
    alone = [layer(x[:, row]) for row in range(B)]
    close([y for y, _ in alone], list(output.unbind(1)))
    for row, (_, own) in enumerate(alone):
        close(tuple(own), tuple(field[:, row] for field in final))


@pytest.mark.parametrize("both_ways", [True, False])
def test_padding_does_not_leak_and_lengths_end_where_a_shorter_film_does(both_ways: bool) -> None:
    layer = made("lstm", N_IN, C, 3, 2, bidirectional=both_ways, batch_first=True)
    x = film(B, T, N_IN, H, W)
    for row, length in enumerate(LENGTHS):
        x[row, length:] = torch.nan
    x.requires_grad_()
    output, state = layer(x, lengths=LENGTHS)
    for row, length in enumerate(LENGTHS):
        assert not output[row, length:].any()
        if length:
            own, last = layer(x[row, :length].detach())
            close(own, output[row, :length])
            close(tuple(last), tuple(field[:, row] for field in state))
    output.square().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


def test_reset_and_mask_of_frames() -> None:
    layer = made("gru", N_IN, C, 3)
    x = film()
    reset, mask = torch.zeros(T, B, dtype=torch.bool), torch.ones(T, B, dtype=torch.bool)
    reset[2, 1], mask[3, 0] = True, False
    output, _ = layer(x, reset=reset, mask=mask)
    close(output[2:, 1], layer(x[2:, 1:2])[0][:, 0])
    assert not output[3, 0].any()
    close(output[4, 0], layer(torch.cat([x[:3], x[4:]]))[0][3, 0])


def test_every_state_is_returned_and_recomputed_alike() -> None:
    layer = made("lstm_peephole", N_IN, C, 3, 2)
    again = ConvRecurrent("lstm_peephole", N_IN, C, 3, 2, memory="recompute", dtype=torch.float64)
    again.load_state_dict(layer.state_dict())
    x = film()
    output, final, states = layer(x, return_states=True)
    assert states.c.shape == (2, T, B, C, H, W)
    close(states.h[1], output)
    close(states.c[:, -1], final.c)
    output.square().sum().backward()
    again(x)[0].square().sum().backward()
    for p, q in zip(layer.parameters(), again.parameters(), strict=True):
        close(p.grad, q.grad)


def test_derivatives_are_right() -> None:
    for cell in ("lstm_peephole", "gru", "indrnn"):
        layer = made(cell, 1, 2, 3)
        names = [name for name, _ in layer.named_parameters()]
        x = film(2, 1, 1, 3, 2).requires_grad_()

        def run(x: Tensor, *values: Tensor, layer: ConvRecurrent = layer, names: list[str] = names) -> Tensor:
            return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))[0]

        assert torch.autograd.gradcheck(run, (x, *(p.detach().requires_grad_() for p in layer.parameters())))


def test_dropout_and_zoneout_are_of_training() -> None:
    layer = made("gru", N_IN, C, 3, 2, recurrent_dropout=0.5, input_dropout=0.3, dropout=0.2, weight_drop=0.2)
    x = film()
    assert not torch.equal(layer(x)[0], layer(x)[0])
    layer.eval()
    close(layer(x)[0], layer(x)[0])
    held = made("gru", N_IN, C, 3, zoneout=1.0).eval()
    assert not held(x)[0].any()


def test_frames_of_any_size_go_through_one_network() -> None:
    layer = made("lstm", N_IN, C, 3)
    for size in ((1, 1), (2, 9), (16, 3)):
        assert layer(film(T, B, N_IN, *size))[0].shape == (T, B, C, *size)
    assert layer(film(T, 0, N_IN, 4, 4))[0].shape == (T, 0, C, 4, 4)
    assert layer(film(0, B, N_IN, 4, 4))[1].c.shape == (1, B, C, 4, 4)


# --- how it begins, and what it says ----------------------------------------------------------------------------------


def test_first_values_are_those_of_matrices() -> None:
    layer = ConvRecurrent("lstm", 8, 32, 5, init={"U": "identity"})
    assert torch.equal(layer.get_parameter("bias_l0")[32:64], torch.ones(32))  # the forget gate's
    kernel = layer.get_parameter("weight_hh_l0").reshape(4, 32, 32, 25)
    assert torch.equal(kernel[..., 12], torch.eye(32).expand(4, 32, 32))
    assert not kernel[..., :12].any()
    drawn = layer.get_parameter("weight_ih_l0").reshape(4, -1)
    bound = (6 / ((8 + 32) * 25)) ** 0.5  # Glorot & Bengio 2010, a kernel's places counted on both sides
    assert drawn.abs().amax(1).max() <= bound
    assert (drawn.abs().amax(1) > 0.97 * bound).all()
    square = ConvRecurrent("elman", 2, 3, 3, init={"U": "orthogonal"}).get_parameter("weight_hh_l0").flatten(1)
    close(square @ square.T, torch.eye(3), 1e-5)
    own = ConvRecurrent("indrnn", 2, 3, 3, init={"U": "identity"}).get_parameter("weight_hh_l0")
    assert torch.equal(own.sum((1, 2, 3)), torch.ones(3))
    assert torch.equal(own[:, 0, 1, 1], torch.ones(3))
    normal = ConvRecurrent("elman", 2, 64, 3, init={"U": "normal"}).get_parameter("weight_hh_l0")
    assert float(normal.detach().std()) == pytest.approx((64 * 9) ** -0.5, rel=0.05)
    pace = ConvRecurrent("leaky", 2, 4, 3, frame_size=(2, 3)).get_parameter("nu_a_l0")
    assert torch.equal(pace, pace[:, :1, :1].expand(4, 2, 3))
    assert pace[:, 0, 0].unique().numel() == 4


def test_parameters_by_symbol_are_views() -> None:
    layer = made("lstm_peephole", N_IN, C, 3, 2)
    found = layer.by_symbol(dict(layer.named_parameters()))
    assert [v.shape for v in found["U_f"]] == [(C, C, 3, 3)] * 2
    assert torch.equal(found["W_o"][1], layer.get_parameter("weight_ih_l1")[3 * C :])
    assert found["v_i"][0] is layer.get_parameter("v_i_l0")


def test_what_it_says_of_itself() -> None:
    layer = ConvRecurrent("lstm", 3, 8, 5, input_kernel_size=3, frame_size=(4, 6), batch_first=True)
    sizes = "kernel_size=5, input_kernel_size=3, frame_size=(4, 6)"
    assert repr(layer) == f"ConvRecurrent(lstm(forget_bias=1.0), 3, 8, {sizes}, batch_first=True)"
    told = recurra.explain(layer)
    assert told.backend == "eager"
    assert "convolutions" in told.reason


def test_a_copy_and_a_saved_one_are_the_same(tmp_path: Any) -> None:
    layer = ConvRecurrent("gru", N_IN, C)
    torch.save(layer, tmp_path / "layer.pt")
    again = torch.load(tmp_path / "layer.pt", weights_only=False)
    x = film().float()
    close(again(x)[0], layer(x)[0])


# --- what cannot be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kernel_size": 4}, "kernel_size: an odd number is expected, so that the kernel has a middle, not 4"),
        ({"kernel_size": 0}, "kernel_size: a whole number above 0 is expected, not 0"),
        ({"input_kernel_size": 2}, "input_kernel_size: an odd number is expected"),
        ({"frame_size": 8}, "frame_size: height and width are expected, such as (16, 16), not 8"),
        ({"cell": lambda x, s: s}, "cell: a cell or its name is expected, whose products can be convolutions"),
        ({"cell": "lstn"}, "unknown cell 'lstn'; did you mean 'lstm'?"),
        (
            {"cell": "gru_layer_norm", "frame_size": (4, 4)},
            "frame_size: cell 'gru_layer_norm' has vectors over the channels of a place",
        ),
    ],
)
def test_arguments_that_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        ConvRecurrent(**({"cell": "lstm", "input_channels": 1, "hidden_channels": 2} | options))


def test_films_that_cannot_be() -> None:
    layer = ConvRecurrent("gru", 2, 3, frame_size=(4, 5))
    for x, said in (
        (torch.zeros(2, 4, 5), "x: (T, B, C, H, W), (B, T, C, H, W) or (T, C, H, W) is expected, not (2, 4, 5)"),
        (torch.zeros(6, 1, 3, 4, 5), "x: input_channels is 2, but (6, 1, 3, 4, 5) has 3"),
        (torch.zeros(6, 1, 2, 5, 4), "x: frame_size is (4, 5), but its frames are (5, 4)"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
            layer(x)
    with pytest.raises(ValueError, match=r"state.h\[0\]: a tensor \(1, 3, 4, 5\) is expected, not \(1, 3\)"):
        layer(torch.zeros(6, 1, 2, 4, 5), torch.zeros(1, 1, 3))
    with pytest.raises(ValueError, match=r"x_t: \(B, C, H, W\) or \(C, H, W\) is expected, not \(4, 5\)"):
        layer.step(torch.zeros(4, 5))
    with pytest.raises(ValueError, match="not packed"):
        layer(torch.nn.utils.rnn.pack_padded_sequence(torch.zeros(3, 2, 2), torch.tensor([3, 2])))


def test_what_needs_rows_of_numbers_says_so() -> None:
    layer, x = ConvRecurrent("gru", N_IN, C), film().float()
    found = gradients(layer, x, lambda y, t: y.square().sum(), "bptt")
    assert all(v.any() for v in found.values())
    for name in RULES:
        rule = find("snap1" if name == "snap" else name)
        with pytest.raises(ValueError, match=r"products are convolutions, and a stream needs a state that is a row"):
            rule.begin(layer)
        if name != "bptt":
            with pytest.raises(ValueError, match=rf"products are convolutions, and {rule.name} needs"):
                rule.check(layer)
    with pytest.raises(ValueError, match="products are convolutions"):
        explain_bptt(layer, x, x)
    with pytest.raises(TypeError, match="ConvRecurrent reads frames"):
        Stream(layer)
    with pytest.raises(AnalysisError, match="its products are convolutions and its state a picture"):
        gradient_flow(layer, x)
    with pytest.raises(RecipeError, match=r"kernel_size=3: torch\.nn\.GRU does not have it"):
        recurra.to_torch(ConvRecurrent("gru_reset_after", N_IN, C))
