"""TDNN and NARX beside loops in NumPy, and TDNN beside PyTorch's convolutions."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recurra.nn import NARX, TDNN

T, B, N_IN, K = 9, 3, 2, 2


def values(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(7)


def array(v: Tensor) -> np.ndarray:
    return v.detach().numpy()


# --- TDNN -------------------------------------------------------------------------------------------------------------


def tdnn(**options: object) -> TDNN:
    return TDNN(N_IN, [5, 4, 3], [3, 1, 4], dtype=torch.float64, **options)  # type: ignore[arg-type]


def by_hand(network: TDNN, x: np.ndarray, f: object = np.tanh) -> np.ndarray:
    """Eq. 6.1 step by step, of one sequence (T, I); zero before the first step."""
    for k, p in enumerate(network.delays):
        W, b = (array(network.get_parameter(f"{name}_l{k}")) for name in ("weight", "bias"))
        said = np.zeros((len(x), len(b)))
        for t in range(len(x)):
            total = b.copy()
            for i in range(p):
                if t - i >= 0:
                    total += W[:, :, p - 1 - i] @ x[t - i]
            said[t] = f(total)  # type: ignore[operator]
        x = said
    return x


def test_a_tdnn_is_equation_6_1() -> None:
    network, x = tdnn(), values(T, B, N_IN)
    output, _ = network(x)
    for b in range(B):
        np.testing.assert_allclose(array(output[:, b]), by_hand(network, array(x[:, b])), atol=1e-13)
    assert network.receptive_field == 6


def test_a_tdnn_is_a_stack_of_causal_convolutions() -> None:
    network, x = tdnn(activation="relu"), values(T, B, N_IN)
    stack, width = nn.Sequential(), N_IN
    for k, (size, p) in enumerate(zip((5, 4, 3), network.delays, strict=True)):
        convolution = nn.Conv1d(width, size, p, dtype=torch.float64)
        convolution.weight = nn.Parameter(network.get_parameter(f"weight_l{k}").detach().clone())
        convolution.bias = nn.Parameter(network.get_parameter(f"bias_l{k}").detach().clone())
        stack.extend([nn.ZeroPad1d((p - 1, 0)), convolution, nn.ReLU()])
        width = size
    cotangent = values(T, B, 3)
    ours, theirs = network(x)[0], stack(x.permute(1, 2, 0)).permute(2, 0, 1)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-14)
    (ours * cotangent).sum().backward()
    (theirs * cotangent).sum().backward()
    for k in range(3):
        convolution = stack[3 * k + 1]
        assert isinstance(convolution, nn.Conv1d)
        assert convolution.bias is not None
        for name, other in (("weight", convolution.weight.grad), ("bias", convolution.bias.grad)):
            torch.testing.assert_close(network.get_parameter(f"{name}_l{k}").grad, other)


@pytest.mark.parametrize("cut", [0, 1, 4, T])
def test_a_tdnn_goes_on_where_it_stopped(cut: int) -> None:
    network, x = tdnn(), values(T, B, N_IN)
    whole, final = network(x)
    first, state = network(x[:cut])
    second, last = network(x[cut:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    for a, b in zip(last, final, strict=True):
        torch.testing.assert_close(a, b)


def test_steps_of_a_tdnn_are_the_sequence() -> None:
    for batch_first in (False, True):
        network, x = tdnn(batch_first=batch_first), values(T, B, N_IN)
        whole, final = network(x.transpose(0, 1) if batch_first else x)
        state, said = None, []
        for x_t in x:
            y_t, state = network.step(x_t, state)
            said.append(y_t)
        torch.testing.assert_close(torch.stack(said, int(batch_first)), whole)
        assert state is not None
        for a, b in zip(state, final, strict=True):
            torch.testing.assert_close(a, b)


def test_one_sequence_without_a_batch() -> None:
    network, x = tdnn(), values(T, N_IN)
    output, state = network(x)
    np.testing.assert_allclose(array(output), by_hand(network, array(x)), atol=1e-13)
    assert [tuple(line.shape) for line in state] == [(2, N_IN), (0, 5), (3, 4)]
    torch.testing.assert_close(network.step(x[0], state)[0], network(torch.cat([x, x[:1]]))[0][-1])


def test_padding_of_a_tdnn_does_not_leak() -> None:
    network, lengths = tdnn(), torch.tensor([T, 1, 4])
    x = values(T, B, N_IN)
    for b, length in enumerate(lengths.tolist()):
        x[length:, b] = torch.nan
    x.requires_grad_()
    output, state = network(x, lengths=lengths)
    output.sum().backward()
    assert x.grad is not None
    for b, length in enumerate(lengths.tolist()):
        alone, lines = network(x[:length, b].detach())
        torch.testing.assert_close(output[:length, b], alone)
        assert not output[length:, b].any()
        assert not x.grad[length:, b].any()
        for one, other in zip(state, lines, strict=True):
            torch.testing.assert_close(one[:, b], other)
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_dropout_of_a_tdnn_is_between_layers_and_in_training() -> None:
    network, x = tdnn(dropout=1.0), values(T, B, N_IN)
    plain = network.eval()(x)[0]
    assert plain.std() > 0.01
    biases = [network.get_parameter(f"bias_l{k}") for k in range(3)]
    assert torch.equal(network.train()(x)[0], torch.tanh(biases[2]).expand(T, B, 3))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: TDNN(2, 3, []), "delays: a number of steps for each layer is expected"),
        (lambda: TDNN(2, 3, [0]), "delays: a whole number above 0 is expected, not 0"),
        (lambda: TDNN(2, [3, 4], [2]), "hidden_size: one number, or one for each of 1 layers"),
        (lambda: TDNN(2, 3, 2, activation="tahn"), "activation: unknown function 'tahn'; did you mean 'tanh'"),
        (lambda: TDNN(2, 3, 2)(torch.zeros(4, 1, 3)), r"x: \(T, B, 2\) or \(T, 2\) is expected, not \(4, 1, 3\)"),
        (
            lambda: TDNN(2, 3, 2)(torch.zeros(4, 1, 2), [torch.zeros(2, 1, 2)]),
            r"state: delay lines of \[\(1, 1, 2\)\] are expected, not \[\(2, 1, 2\)\]",
        ),
        (lambda: TDNN(2, 3, 2)(torch.zeros(4, 1, 2), lengths=[5]), "lengths: from 0 to T = 4 is expected, found 5"),
        (lambda: NARX(2, 1, [4], input_delay=-1), "input_delay: a whole number from 0 on is expected, not -1"),
        (lambda: NARX(2, 1, linear=True), "linear: without hidden layers f is linear already"),
        (lambda: NARX(2, 1, [4], output_delay=0), "output_delay: a whole number above 0 is expected, not 0"),
        (
            lambda: NARX(2, 1, [4])(torch.zeros(4, 3, 2), torch.zeros(4, 1, 1)),
            r"y: \(4, 3, 1\) is expected, not \(4, 1, 1\)",
        ),
        (
            lambda: NARX(2, 1, [4], output_delay=3).lines(torch.zeros(2, 1, 2), torch.zeros(2, 1, 1)),
            "x: 3 steps fill the delay lines, not 2",
        ),
    ],
)
def test_what_cannot_be_is_told(make: object, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()  # type: ignore[operator]


# --- NARX -------------------------------------------------------------------------------------------------------------


def narx(
    hidden: list[int] | None = None, p: int = 2, q: int = 3, linear: bool = True, batch_first: bool = False
) -> NARX:
    network = NARX(
        N_IN,
        K,
        [5, 4] if hidden is None else hidden,
        input_delay=p,
        output_delay=q,
        linear=linear,
        batch_first=batch_first,
        dtype=torch.float64,
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.4)
    return network


def said_by_hand(network: NARX, x: np.ndarray, y: np.ndarray | None) -> np.ndarray:
    """Eq. 6.3 step by step, of one sequence; y is fed back, or what is said where it is None."""
    weights = {name: array(v) for name, v in network.named_parameters()}
    said: list[np.ndarray] = []
    for t in range(len(x)):
        back = said if y is None else list(y)
        read_x = np.concatenate([x[t - i] if t >= i else np.zeros(N_IN) for i in range(network.input_delay + 1)])
        read_y = np.concatenate([back[t - i] if t >= i else np.zeros(K) for i in range(1, network.output_delay + 1)])
        h = weights["weight_x"] @ read_x + weights["weight_y"] @ read_y + weights["bias_l0"]
        for k in range(1, len(network.hidden_size) + 1):
            h = weights[f"weight_l{k}"] @ np.tanh(h) + weights[f"bias_l{k}"]
        if network.linear:
            h = h + weights["linear_x"] @ read_x + weights["linear_y"] @ read_y
        said.append(h)
    return np.array(said)


@pytest.mark.parametrize(("hidden", "linear"), [([], False), ([5], False), ([5], True), ([5, 4], True)])
@pytest.mark.parametrize(("p", "q"), [(0, 1), (2, 3), (4, 2)])
def test_narx_is_equation_6_3_in_both_modes(hidden: list[int], p: int, q: int, linear: bool) -> None:
    network = narx(hidden, p, q, linear)
    x, y = values(T, B, N_IN), values(T, B, K)
    ahead, free = network(x, y)[0], network(x)[0]
    for b in range(B):
        np.testing.assert_allclose(
            array(ahead[:, b]), said_by_hand(network, array(x[:, b]), array(y[:, b])), atol=1e-12
        )
        np.testing.assert_allclose(array(free[:, b]), said_by_hand(network, array(x[:, b]), None), atol=1e-12)


def test_a_free_run_is_what_feeding_its_own_outputs_back_gives() -> None:
    network, x = narx(), values(T, B, N_IN)
    free, state = network(x)
    again, other = network(x, free)
    torch.testing.assert_close(free, again)
    for a, b in zip(state, other, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("free", [False, True])
def test_narx_has_the_gradients_of_finite_differences(free: bool) -> None:
    network, x, y = narx([3]), values(5, 2, N_IN).requires_grad_(), values(5, 2, K)
    names, parameters = zip(*network.named_parameters(), strict=True)

    def run(x: Tensor, *weights: Tensor) -> Tensor:
        arguments = (x, None if free else y)
        return torch.func.functional_call(network, dict(zip(names, weights, strict=True)), arguments)[0]

    assert torch.autograd.gradcheck(run, (x, *parameters))


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("cut", [0, 1, 5])
def test_narx_goes_on_where_it_stopped(free: bool, cut: int) -> None:
    network, x, y = narx(), values(T, B, N_IN), values(T, B, K)
    fed = (None, None, None) if free else (y, y[:cut], y[cut:])
    whole, final = network(x, fed[0])
    first, state = network(x[:cut], fed[1])
    second, last = network(x[cut:], fed[2], state)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    for a, b in zip(last, final, strict=True):
        torch.testing.assert_close(a, b)


def test_steps_of_narx_are_the_sequence() -> None:
    for batch_first in (False, True):
        network, x, y = narx(batch_first=batch_first), values(T, B, N_IN), values(T, B, K)
        for fed in (None, y):
            laid = [v if v is None or not batch_first else v.transpose(0, 1) for v in (x, fed)]
            whole, _ = network(*laid)
            state, said = None, []
            for t in range(T):
                y_t, state = network.step(x[t], state, None if fed is None else fed[t])
                said.append(y_t)
            torch.testing.assert_close(torch.stack(said, int(batch_first)), whole)


def test_measured_steps_fill_the_lines() -> None:
    network, x, y = narx(), values(T, B, N_IN), values(T, B, K)
    state = network.lines(x[:4], y[:4])
    torch.testing.assert_close(network(x[4:], y[4:], state)[0], network(x, y)[0][4:])
    single = network.lines(x[:4, 0], y[:4, 0])
    torch.testing.assert_close(network(x[4:, 0], y[4:, 0], single)[0], network(x[:, 0], y[:, 0])[0][4:])


@pytest.mark.parametrize("free", [False, True])
def test_padding_of_narx_does_not_leak(free: bool) -> None:
    network, lengths = narx(), torch.tensor([T, 1, 4])
    x, y = values(T, B, N_IN), values(T, B, K)
    for b, length in enumerate(lengths.tolist()):
        x[length:, b] = y[length:, b] = torch.nan
    output, state = network(x, None if free else y, lengths=lengths)
    output.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
    for b, length in enumerate(lengths.tolist()):
        alone, lines = network(x[:length, b], None if free else y[:length, b])
        torch.testing.assert_close(output[:length, b], alone)
        assert not output[length:, b].any()
        for one, other in zip(state, lines, strict=True):
            torch.testing.assert_close(one[:, b], other)


def test_a_narx_with_a_linear_part_begins_by_saying_the_last_output() -> None:
    network = NARX(N_IN, K, [4], output_delay=2, linear=True, dtype=torch.float64)
    x, y = values(T, B, N_IN), values(T, B, K)
    assert torch.equal(network(x, y)[0], F.pad(y[:-1], (0, 0, 0, 0, 1, 0)))


@pytest.mark.parametrize("free", [False, True])
def test_narx_learns_a_system_in_either_mode(free: bool) -> None:
    """y_t = 0.6 y_(t-1) - 0.2 y_(t-2) + tanh(x_(t-1)), which f can say exactly."""
    x = values(60, 1, 1)
    y = torch.zeros_like(x)
    for t in range(1, 60):
        y[t] = 0.6 * y[t - 1] - (0.2 * y[t - 2] if t > 1 else 0) + torch.tanh(x[t - 1])
    network = NARX(1, 1, [4], input_delay=1, output_delay=2, dtype=torch.float64)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.03)
    for _ in range(250):
        optimizer.zero_grad()
        F.mse_loss(network(x, None if free else y)[0], y).backward()
        optimizer.step()
    assert F.mse_loss(network(x)[0], y) < 0.01 * y.var()
