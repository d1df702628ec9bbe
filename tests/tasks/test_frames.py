"""Next frames and labels of frames: the network against loops in NumPy, losses and scores against their definitions."""

import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d
from torch import Tensor
from torch.nn import functional as F

from recurra.data.clip_reader import ClipReader
from recurra.data.clips import ClipBatch, Clips, ClipSchema, ClipSettings, collate
from recurra.errors import RecipeError
from recurra.learn import LearnSettings
from recurra.learn.regularise import factors
from recurra.tasks.film_model import FilmModel, FilmSettings
from recurra.tasks.frames import Filmed, FilmTrainSettings, Frames

LENGTHS = [7, 4, 2]
USUAL = {"hidden_size": 3, "told": "frame", "output": "sigmoid"}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(6)


def schema(target: str = "next", size: tuple[int, int, int] = (1, 4, 6), classes: int = 3) -> ClipSchema:
    channels, height, width = size
    return ClipSchema.model_validate(
        {
            **{"task": "frames", "format": "npz", "height": height, "width": width, "channels": channels},
            **{"low": 0, "high": 255, "target": target, "classes": [str(i) for i in range(classes)]},
        }
    )


def clips(labels: bool = False, size: tuple[int, int, int] = (1, 4, 6)) -> Clips:
    random = np.random.default_rng(0)
    frames = torch.from_numpy(random.integers(0, 256, (sum(LENGTHS), *size), np.uint8))
    offsets = torch.tensor(np.cumsum([0, *LENGTHS]))
    if not labels:
        return Clips(frames, offsets, 0, 255)
    named = torch.from_numpy(random.integers(0, 3, sum(LENGTHS)))
    asked = torch.from_numpy(random.random(sum(LENGTHS)) < 0.7)
    return Clips(frames, offsets, 0, 255, torch.where(asked, named, -1), asked)


def made(target: str = "next", size: tuple[int, int, int] = (1, 4, 6), **settings: Any) -> Any:
    network = FilmModel(FilmSettings.model_validate(USUAL | settings), schema(target, size)).double().eval()
    for p in network.parameters():
        p.data.normal_(0, 0.4)
    return network


def task(target: str = "next", **settings: Any) -> Frames:
    return Frames(schema(target), FilmTrainSettings.model_validate(settings))


def batch_of(data: Clips, told: Any = "next", free: int = 0) -> ClipBatch:
    return collate(data, torch.arange(len(data)), told, free).to(torch.device("cpu"), torch.float64)


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


# --- the network ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["elman", "indrnn"])
def test_b7_a_4_5_4_network_over_2_by_2_frames(cell: str) -> None:
    """h_t = tanh(W x_t + U h_(t-1) + b), ŷ_t = V h_t + c; the label of frame t is frame t + 1; U full or diagonal."""
    options = {"activation": "tanh"} if cell == "indrnn" else {}
    network = made(size=(1, 2, 2), products="dense", cell=cell, options=options, hidden_size=5, output="linear")
    W, U, b = (array(network.recurrent.get_parameter(n)) for n in ("weight_ih_l0", "weight_hh_l0", "bias_l0"))
    assert (W.shape, U.shape) == ((5, 4), (5, 5) if cell == "elman" else (5,))
    V, c = array(network.output.weight), array(network.output.bias)
    assert V.shape == (4, 5)
    film = torch.rand(50, 10, 1, 2, 2, dtype=torch.float64)
    told, _ = network(film[:-1])
    h = np.zeros((10, 5))
    expected = []
    for frame in array(film[:-1]).reshape(49, 10, 4):
        h = np.tanh(frame @ W.T + (h @ U.T if cell == "elman" else h * U) + b)
        expected.append(h @ V.T + c)
    np.testing.assert_allclose(array(told).reshape(49, 10, 4), expected, rtol=1e-10, atol=1e-12)
    data = Clips(film.transpose(0, 1).reshape(-1, 1, 2, 2), torch.arange(11) * 50, 0.0, 1.0)
    batch = collate(data, torch.arange(10), "next").to(torch.device("cpu"), torch.float64)
    loss = Frames(schema(size=(1, 2, 2)), FilmTrainSettings()).loss(network, network(*batch.inputs)[0], batch)
    true = data.frames.reshape(10, 50, 4)[:, 1:].transpose(0, 1).numpy()
    assert float(loss.detach()) == pytest.approx(np.mean((np.array(expected) - true) ** 2), rel=1e-6)


def convolved(frame: np.ndarray, kernel: Tensor, bias: Tensor) -> np.ndarray:
    rows = [sum(correlate2d(f, k, "same") for f, k in zip(frame, row, strict=True)) for row in array(kernel)]
    return np.stack(rows) + array(bias)[:, None, None]


def test_a_convolutional_network_is_its_parts_one_after_the_other() -> None:
    network = made(front=[2], head=[4], cell="gru", kernel_size=3, patch=2, told="change", output="linear")
    film = torch.rand(5, 1, 1, 4, 6, dtype=torch.float64)
    told, _ = network(film)
    state = None
    for t, frame in enumerate(film):
        pixels = array(frame[0, 0])
        patches = np.stack([pixels[i::2, j::2] for i in (0, 1) for j in (0, 1)])
        seen = np.maximum(convolved(patches, network.front[0].weight, network.front[0].bias), 0)
        output, state = network.recurrent.step(torch.from_numpy(seen)[None], state)
        hidden = np.maximum(convolved(array(output[0]), network.head[0].weight, network.head[0].bias), 0)
        out = convolved(hidden, network.output.weight, network.output.bias)
        expected = pixels.copy()
        for k, (i, j) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
            expected[i::2, j::2] += out[k]
        np.testing.assert_allclose(array(told[t, 0, 0]), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("pool", ["mean", "max", "places"])
def test_a_label_is_told_from_the_state_at_all_places(pool: str) -> None:
    network = made("label", cell="lstm", head=[5], pool=pool)
    film = torch.rand(4, 2, 1, 4, 6, dtype=torch.float64)
    told, _ = network(film)
    states, _ = network.recurrent(film)
    every = states.flatten(3)
    seen = every.mean(-1) if pool == "mean" else every.max(-1).values if pool == "max" else every.flatten(2)
    hidden = torch.relu(seen @ network.head[0].weight.T + network.head[0].bias)
    torch.testing.assert_close(told, hidden @ network.output.weight.T + network.output.bias)


@pytest.mark.parametrize("settings", [{"products": "dense", "head": [7]}, {"cell": "gru"}])
def test_frames_that_are_told_are_read_again(settings: dict[str, Any]) -> None:
    network = made(**settings)
    film = torch.rand(6, 3, 1, 4, 6, dtype=torch.float64)
    told, _ = network(film, None, 2)
    known, state = network(film[:4])
    first = torch.sigmoid(known[-1])
    second, state = network.step(first, state)
    third, _ = network.step(torch.sigmoid(second), state)
    torch.testing.assert_close(told, torch.cat([known, second[None], third[None]]))
    torch.testing.assert_close(network.generate(film[:4], 3), torch.sigmoid(torch.stack([known[-1], second, third])))
    changed = film.clone()
    changed[4:] = 0  # which is never read
    torch.testing.assert_close(network(changed, None, 2)[0], told)


def test_the_gradient_goes_through_frames_that_were_told() -> None:
    network = made(products="dense", output="linear").train()
    film = (3 * torch.rand(4, 1, 1, 4, 6, dtype=torch.float64)).requires_grad_()
    told, _ = network(film, None, 2)
    (by_first,) = torch.autograd.grad(told[-1].sum(), film)
    assert by_first[:2].any()
    assert not by_first[2:].any()
    assert told.abs().max() > 1  # and they were not cut where that would end it


@pytest.mark.parametrize("target", ["next", "label"])
@pytest.mark.parametrize("products", ["dense", "convolution"])
def test_padding_does_not_matter(target: Any, products: str) -> None:
    network, data = made(target, products=products), clips(labels=target == "label")
    batch = batch_of(data, target)
    outputs, _ = network(*batch.inputs)
    loss = task(target).loss(network, outputs, batch)
    steps, total = 0, 0.0
    for i in range(len(data)):
        own = collate(data, torch.tensor([i]), target).to(torch.device("cpu"), torch.float64)
        alone, _ = network(*own.inputs)
        torch.testing.assert_close(outputs[: len(alone), i], alone[:, 0])
        count = len(alone) if target == "next" else int((own.labels >= 0).sum())  # pyright: ignore
        total += count * float(task(target).loss(network, alone, own).detach())
        steps += count
    assert float(loss.detach()) == pytest.approx(total / steps)


def test_groups_of_parameters_can_be_named() -> None:
    network = made(front=[2], head=[2])
    by_name = factors(dict(network.named_parameters()), network.by_symbol, {"front": 1e-3, "U_f": 1e-4}, "train.l2")
    assert by_name


# --- losses and scores ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mse", "mae", "bce"])
def test_losses_by_their_definition(kind: str) -> None:
    network, data = made(products="dense"), clips()
    batch = batch_of(data)
    told = torch.sigmoid(network(*batch.inputs)[0]).detach().numpy()
    each = []
    for i, length in enumerate(LENGTHS):
        true, said = array(data.clip(i))[1:], told[: length - 1, i]
        cross = -(true * np.log(said) + (1 - true) * np.log1p(-said))
        each.append({"mse": (said - true) ** 2, "mae": np.abs(said - true), "bce": cross}[kind])
    found = task(loss=kind).loss(network, network(*batch.inputs)[0], batch)
    assert float(found.detach()) == pytest.approx(np.concatenate(each).mean(), rel=1e-6)


def test_the_loss_of_labels_is_that_of_frames_that_have_one() -> None:
    network, data = made("label"), clips(labels=True)
    batch = batch_of(data, "label")
    outputs = network(*batch.inputs)[0]
    each = []
    assert data.labels is not None
    for i, length in enumerate(LENGTHS):
        for t in range(length):
            label = int(data.labels[int(data.offsets[i]) + t])
            if label >= 0:
                each.append(-F.log_softmax(outputs[t, i], -1)[label])
    torch.testing.assert_close(task("label").loss(network, outputs, batch), torch.stack(each).mean())


def test_scores_of_next_frames_by_their_definition() -> None:
    network, data = made().float(), clips()
    told = task(given=2, loss="bce").predict(network, data)
    assert told.frames is not None
    squared, absolute, before, free, held, cross = [], [], [], [], [], []
    for i in range(len(data)):
        film = data.clip(i)
        said = network(film[:, None])[0][:, 0].detach()
        np.testing.assert_allclose(told.frames[told.offsets[i] : told.offsets[i + 1]], torch.sigmoid(said), atol=1e-6)
        squared.append((torch.sigmoid(said[:-1]) - film[1:]).square())
        absolute.append((torch.sigmoid(said[:-1]) - film[1:]).abs())
        before.append((film[1:] - film[:-1]).square())
        cross.append(F.binary_cross_entropy_with_logits(said[:-1], film[1:], reduction="none"))
        if len(film) > 2:
            own = network.generate(film[:2, None], len(film) - 2)[:, 0]
            free.append((own - film[2:]).square().mean((1, 2, 3)))
            held.append((film[1] - film[2:]).square().mean((1, 2, 3)))
    mse, mae, copying, nats = (float(torch.cat(v).mean()) for v in (squared, absolute, before, cross))
    expected = {"mse": mse, "mae": mae, "psnr": 10 * math.log10(1 / mse), "ratio": mse / copying, "loss": nats}
    expected["free_mse"] = float(torch.cat(free).mean())
    expected["free_ratio"] = expected["free_mse"] / float(torch.cat(held).mean())
    found = task(given=2, loss="bce").scores(told)
    assert found == pytest.approx(expected, rel=1e-5)
    baselines = task().baselines(data, told)
    assert baselines["last_frame"]["mse"] == pytest.approx(copying, rel=1e-5)
    assert baselines["last_frame"]["ratio"] == pytest.approx(1)
    assert baselines["last_frame"]["free_mse"] == pytest.approx(float(torch.cat(held).mean()), rel=1e-5)
    mean = data.scaled(data.frames).mean(0)
    of_mean = torch.cat([(data.clip(i)[1:] - mean).square() for i in range(3)]).mean()
    assert baselines["mean_frame"]["mse"] == pytest.approx(float(of_mean), rel=1e-5)
    assert [row["frames"] for row in task().rows(told)] == [6, 3, 1]
    each = [row["mse"] for row in task().rows(told)]
    assert each == pytest.approx([float(v.mean()) for v in squared], rel=1e-5)
    assert set(task().intervals(told)) == set()  # of three clips
    assert task().scores(told.first(1))["mse"] == pytest.approx(each[0])
    assert "loss" not in task().scores(told)


def test_scores_of_labels_are_of_frames_that_have_one() -> None:
    network, data = made("label").float(), clips(labels=True)
    found = task("label")
    told = found.predict(network, data)
    assert told.probabilities is not None
    assert data.labels is not None
    assert data.asked is not None
    right = (told.probabilities.argmax(1) == data.labels.numpy())[data.asked.numpy()]
    assert found.scores(told)["accuracy"] == pytest.approx(right.mean())
    rows = list(found.rows(told, targets=True))
    assert len(rows) == int(data.asked.sum())
    assert [row["target"] == row["prediction"] for row in rows] == right.tolist()
    assert len(list(found.rows(told))) == sum(LENGTHS)
    commonest = np.bincount(data.labels[data.asked].numpy()).max()
    assert found.baselines(data, told)["majority"]["accuracy"] == pytest.approx(commonest / int(data.asked.sum()))
    assert found.main_metric == "accuracy"
    assert found.is_better_high("accuracy")
    assert not found.is_better_high(task().main_metric)


def test_a_perfect_and_a_still_film() -> None:
    data = clips()
    shifted = torch.cat([torch.cat([data.clip(i)[1:], data.clip(i)[:1]]) for i in range(3)]).numpy()
    assert task().scores(Filmed(data, schema(), frames=shifted))["psnr"] == pytest.approx(120)
    still = Clips(torch.full((6, 1, 4, 6), 9, dtype=torch.uint8), torch.tensor([0, 3, 6]), 0, 255)
    found = task().scores(Filmed(still, schema(), frames=np.zeros((6, 1, 4, 6), np.float32)))
    assert "ratio" not in found
    assert next(task().rows(Filmed(still, schema(), frames=np.zeros((6, 1, 4, 6), np.float32))))["ratio"] is None


def test_an_archive_has_the_numbers_of_the_data() -> None:
    network, data = made().float(), clips()
    told = task().predict(network, data)
    arrays = np.load(io.BytesIO(task().file(told, "npz")))
    assert arrays["lengths"].tolist() == LENGTHS
    assert arrays["frames"].dtype == np.uint8
    assert arrays["frames"].shape == (3, 7, 4, 6)
    assert told.frames is not None
    np.testing.assert_array_equal(arrays["frames"][1, :4], np.round(255 * told.frames[7:11, 0]))


# --- how training goes ------------------------------------------------------------------------------------------------


def test_frames_told_again_become_more_from_epoch_to_epoch() -> None:
    found = task(free=6, epochs=10, free_from=0.5)
    assert [found.free(epoch) for epoch in range(10)] == [1, 2, 3, 4, 6, 6, 6, 6, 6, 6]
    assert [task(free=4, epochs=3, free_from=0).free(epoch) for epoch in range(3)] == [4, 4, 4]
    assert task(epochs=3).free(2) == 0
    found.plan(clips(), seed=0, epoch=3)
    assert found.collate(clips(), torch.arange(2)).free == 4
    assert found.few(clips(), 2)[0].free == 0  # instruments look at what is given


# --- what cannot be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "train", "learn", "said"),
    [
        ({}, {}, {"rule": "rtrl"}, "learn.rule: 'rtrl' follows states that are rows"),
        ({}, {}, {"carry_state": True}, "learn.carry_state: every clip begins anew"),
        ({"bidirectional": True}, {}, {}, "model.bidirectional: the next frame is the future"),
        ({"output": "linear"}, {"loss": "bce"}, {}, "train.loss: bce takes a pixel for a probability"),
        (
            {"products": "dense"},
            {"free": 2, "epochs": 2},
            {"rule": "rtrl"},
            "train.free: frames that are told and read",
        ),
        ({}, {"free": 2}, {}, "train.free: it grows from epoch to epoch; train.epochs is to be set"),
        ({}, {"temporal_l2": 0.1}, {}, "train.temporal_l2: is for sequences of rows"),
    ],
)
def test_settings_that_do_not_go_together(
    model: dict[str, Any], train: dict[str, Any], learn: dict[str, Any], said: str
) -> None:
    found = task(**train)
    with pytest.raises(RecipeError, match=said):
        found.check(FilmSettings.model_validate(model), LearnSettings.model_validate(learn))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"patch": 4}, "model.patch: frames are 4 × 6, and 4 does not divide their width"),
        ({"cell": "lstn"}, "model.cell: unknown cell 'lstn'; did you mean 'lstm'"),
        ({"options": {"bias": 1}}, "model.options: .*bias"),
        ({"cell": "gru_layer_norm", "peepholes": "place"}, "model: frame_size: cell 'gru_layer_norm' has vectors over"),
        ({"init": {"X": 1}}, "model.*'X'"),
    ],
)
def test_networks_that_cannot_be(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        FilmModel(FilmSettings.model_validate(settings), schema())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kernel_size": 4}, "kernel_size: an odd number is expected"),
        ({"products": "dense", "patch": 2}, "patch: it is for convolutions"),
        ({"kind": "tdnn"}, "kind: 'tdnn' reads rows of numbers; products is to be 'dense'"),
        ({"kind": "ntm"}, "kind: 'ntm' reads rows of numbers; products is to be 'dense'"),
        ({"output": "sigmoid"}, "output: a sigmoid is never below 0, as a change may be; told is to be 'frame'"),
    ],
)
def test_settings_of_the_network_that_cannot_be(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        FilmSettings.model_validate(settings)


def test_a_run_goes_on_with_one_that_tells_the_same() -> None:
    assert task().unlike(schema()) is None
    told = task().unlike(schema("label"))
    assert told == "that run tells labels of frames, the new data have next frames"
    assert task().unlike(schema(size=(3, 4, 6))) == "that run reads frames of 4 × 6 in colours, the new ones are 4 × 6"


def test_it_is_read_by_its_reader() -> None:
    assert isinstance(Frames.reader, ClipReader)
    assert Frames.reader.settings is ClipSettings
