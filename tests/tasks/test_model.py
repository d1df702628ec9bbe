"""The network behind the tasks: padding never counts, scales are learnt from the training part alone."""

import re
from typing import Any

import numpy as np
import pytest
import torch

from recurra.data import Schema, Sequences
from recurra.data.batches import by_length, collate, epoch_plan
from recurra.errors import RecipeError
from recurra.tasks import TASKS, Classify, Regress, predict
from recurra.tasks.model import ModelSettings, SequenceModel, build


def ragged(lengths: list[int], width: int = 3, seed: int = 0, **targets: torch.Tensor | bool) -> Sequences:
    generator = torch.Generator().manual_seed(seed)
    offsets = torch.tensor([0, *np.cumsum(lengths)])
    return Sequences(torch.randn(sum(lengths), width, generator=generator), offsets, **targets)  # type: ignore[arg-type]


def tokens(rows: list[list[int]]) -> Sequences:
    flat = torch.tensor([t for row in rows for t in row], dtype=torch.int32)
    return Sequences(flat, torch.tensor([0, *np.cumsum([len(r) for r in rows])]))


@pytest.mark.parametrize("pool", ["last", "mean", "max", "attention"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_a_padded_batch_gives_what_each_sequence_alone_gives(pool: str, bidirectional: bool, num_layers: int) -> None:
    settings = ModelSettings.model_validate(
        {"cell": "gru", "hidden_size": 5, "num_layers": num_layers, "bidirectional": bidirectional, "pool": pool}
    )
    network = SequenceModel(settings, 4, input_size=3).double().eval()
    data = ragged([7, 1, 4, 7, 2])
    batch = collate(data, torch.arange(5))
    together, _ = network(batch.x.double(), batch.lengths)
    for i in range(5):
        alone, _ = network(data.sequence(i).double().unsqueeze(1))
        torch.testing.assert_close(together[i], alone[0], rtol=1e-12, atol=1e-12)


def test_pooling_is_what_the_equations_say() -> None:
    data = ragged([6, 3])
    batch = collate(data, torch.arange(2))
    for pool in ("last", "mean", "max"):
        settings = ModelSettings.model_validate({"pool": pool, "hidden_size": 4, "bidirectional": False})
        network = SequenceModel(settings, 2, input_size=3).eval()
        states, _ = network.recurrent(network.inputs(batch.x), lengths=batch.lengths)
        h = states[:3, 1]
        pooled = {"last": h[2], "mean": h.mean(0), "max": h.amax(0)}[pool]
        torch.testing.assert_close(network(batch.x, batch.lengths)[0][1], network.output(pooled))


def test_tokens_are_embedded_and_padding_is_not_learnt() -> None:
    network = SequenceModel(ModelSettings.model_validate({"embedding_size": 6}), 2, vocabulary_size=9)
    batch = collate(tokens([[2, 3, 4], [5]]), torch.arange(2))
    assert batch.x.tolist() == [[2, 5], [3, 0], [4, 0]]
    network(batch.x, batch.lengths)[0].sum().backward()
    assert network.embedding is not None
    gradient = network.embedding.weight.grad
    assert gradient is not None
    assert gradient[0].abs().sum() == 0
    assert (gradient[2:6].abs().sum(1) > 0).all()


def test_word_dropout_only_in_training() -> None:
    network = SequenceModel(ModelSettings.model_validate({"word_dropout": 1.0}), 2, vocabulary_size=9)
    assert network.embedding is not None
    x = torch.tensor([[2], [0]])
    torch.testing.assert_close(network.inputs(x)[0, 0], network.embedding.weight[1])
    torch.testing.assert_close(network.inputs(x)[1, 0], network.embedding.weight[0])
    torch.testing.assert_close(network.eval().inputs(x)[0, 0], network.embedding.weight[2])


@pytest.mark.parametrize("how", ["none", "feature", "global", "unit"])
def test_scales(how: str) -> None:
    data = ragged([50, 30])
    data = Sequences(data.values * torch.tensor([1.0, 5.0, 0.0]) + torch.tensor([0.0, 3.0, 7.0]), data.offsets)
    network = SequenceModel(ModelSettings.model_validate({}), 2, input_size=3)
    network.scale_from(data, how)  # type: ignore[arg-type]
    x = network.inputs(data.values.unsqueeze(1))[:, 0]
    if how == "none":
        torch.testing.assert_close(x, data.values)
    elif how == "feature":
        torch.testing.assert_close(x.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
        torch.testing.assert_close(x.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-5, rtol=0)
    elif how == "global":
        assert float(x.mean()) == pytest.approx(0, abs=1e-5)
        assert float(x.std(correction=0)) == pytest.approx(1, abs=1e-5)
    else:
        assert (float(x.min()), float(x.max())) == (0.0, 1.0)


def test_images_are_scaled_over_all_their_values() -> None:
    data = ragged([8])
    bytes_ = Sequences((data.values.abs() * 60).clamp(max=255).to(torch.uint8), data.offsets)
    network = SequenceModel(ModelSettings.model_validate({}), 2, input_size=3)
    network.scale_from(bytes_, "auto")
    assert network.mean.unique().numel() == 1
    assert float(network.mean[0]) == pytest.approx(float(bytes_.values.double().mean()), rel=1e-6)


def test_directions_when_left_out() -> None:
    settings = ModelSettings.model_validate({})
    assert SequenceModel(settings, 2, input_size=3).recurrent.bidirectional
    assert not SequenceModel(settings, 2, input_size=3, per_step=True).recurrent.bidirectional
    both = ModelSettings.model_validate({"bidirectional": True})
    assert SequenceModel(both, 2, input_size=3, per_step=True).recurrent.bidirectional


def test_a_cell_that_takes_no_such_option() -> None:
    with pytest.raises(RecipeError, match=r"model\.options: cell 'gru': unknown option 'forget_bias'"):
        build(
            ModelSettings.model_validate({"cell": "gru", "options": {"forget_bias": 1.0}}),
            Schema(task="classify", format="x", input="numbers", features=["a"]),
            2,
        )


def test_first_values_and_a_deeper_input_from_a_recipe() -> None:
    settings = ModelSettings(cell="lstm", hidden_size=5, input_layers=[7], init={"U": "identity", "b_f": 3.0})
    layers = SequenceModel(settings, 2, input_size=4).recurrent
    assert layers.get_parameter("weight_x0").shape == (7, 4)
    assert layers.get_parameter("weight_ih_l0").shape == (20, 7)
    assert torch.equal(layers.get_parameter("weight_hh_l0")[:5], torch.eye(5))
    assert layers.get_parameter("bias_l0")[5:10].tolist() == [3.0] * 5


def test_one_name_for_every_first_value_from_a_recipe() -> None:
    settings = ModelSettings(cell="lstm", hidden_size=5, init="zeros")
    layers = SequenceModel(settings, 2, input_size=4).recurrent
    assert not any(p.any() for p in layers.parameters())


@pytest.mark.parametrize(
    ("cell", "init", "message"),
    [
        ("gru", "zeroes", "model.init: cell 'gru': init of 'W': unknown initialisation 'zeroes'; did you mean 'zeros'"),
        ("lstm", {"b_q": 1.0}, "model.init: cell 'lstm': init: unknown parameter 'b_q'"),
        ("lstm", {"U": "identiti"}, "model.init: cell 'lstm': init of 'U': unknown initialisation 'identiti'; did you"),
        ("elman", {"chrono": 100.0}, "model.init: cell 'elman': init: it names no gates that keep its memory"),
    ],
)
def test_a_first_value_that_cannot_be(cell: str, init: Any, message: str) -> None:
    with pytest.raises(RecipeError, match="^" + re.escape(message)):
        SequenceModel(ModelSettings(cell=cell, init=init), 2, input_size=4)


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_batch_larger_than_any_data(shuffle: bool) -> None:
    plan = epoch_plan(ragged([3, 9, 1]), 10**20, seed=1, epoch=0, shuffle=shuffle, bucket=True)
    assert [sorted(batch.tolist()) for batch in plan] == [[0, 1, 2]]


def test_collate_and_plans_cover_every_sequence_once() -> None:
    data = ragged([3, 9, 1, 5, 5, 2, 8, 4])
    for plan in (
        epoch_plan(data, 3, seed=1, epoch=0, shuffle=True, bucket=True),
        epoch_plan(data, 3, seed=1, epoch=0, shuffle=True, bucket=False),
        epoch_plan(data, 3, seed=1, epoch=0, shuffle=False, bucket=False),
        by_length(data, 3),
    ):
        assert sorted(torch.cat(plan).tolist()) == list(range(8))
        assert [len(b) for b in sorted(plan, key=len)] == [2, 3, 3]
    orders = [
        torch.cat(epoch_plan(data, 3, seed=s, epoch=e, shuffle=True, bucket=True)).tolist()
        for s, e in ((1, 0), (1, 1), (2, 0))
    ]
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert orders[0] == torch.cat(epoch_plan(data, 3, seed=1, epoch=0, shuffle=True, bucket=True)).tolist()


def test_buckets_hold_sequences_of_like_length() -> None:
    generator = np.random.default_rng(0)
    data = ragged(generator.integers(1, 200, size=2000).tolist(), width=1)

    def padding(bucket: bool) -> int:
        plan = epoch_plan(data, 20, seed=0, epoch=0, shuffle=True, bucket=bucket)
        return sum(int(data.lengths[b].max()) * len(b) for b in plan) - int(data.lengths.sum())

    assert padding(True) < padding(False) / 10


def test_batches_measured_in_steps() -> None:
    generator = np.random.default_rng(0)
    data = ragged([*generator.integers(1, 60, size=700).tolist(), 500], width=1)
    counts = set()
    for epoch in range(4):
        plan = epoch_plan(data, 7, seed=3, epoch=epoch, shuffle=True, bucket=True, steps=300)
        assert sorted(torch.cat(plan).tolist()) == list(range(701))
        sizes = [len(b) * int(data.lengths[b].max()) for b in plan]
        assert sorted(sizes)[-2] <= 300  # the one that is longer than a batch may be is a batch by itself
        assert [len(b) for b, size in zip(plan, sizes, strict=True) if size > 300] == [1]
        assert sum(sizes) < 1.03 * int(data.lengths.sum())
        counts.add(len(plan))
    assert len(counts) == 1
    first, second = (
        torch.cat(epoch_plan(data, 7, seed=3, epoch=e, shuffle=True, bucket=True, steps=300)) for e in (0, 1)
    )
    assert first.tolist() != second.tolist()
    in_order = epoch_plan(data, 7, seed=3, epoch=0, shuffle=False, bucket=True, steps=300)
    assert torch.cat(in_order).tolist() == list(range(701))


def test_steps_in_a_batch_ask_for_buckets() -> None:
    with pytest.raises(ValueError, match="batch_steps: batches differ in number"):
        train_settings("classify", batch_steps=100, bucket=False)


def schema(**values: object) -> Schema:
    return Schema.model_validate({"format": "x", "input": "numbers", "features": ["a", "b", "c"], **values})


def train_settings(task: str, **values: object):
    return TASKS[task].train_settings.model_validate(values)


def test_balanced_weights_make_classes_count_alike() -> None:
    data = ragged([2] * 10, targets=torch.tensor([0] * 8 + [1] * 2))
    task = Classify(schema(task="classify", classes=["a", "b"]), train_settings("classify", class_weights="balanced"))
    task.build(ModelSettings.model_validate({}), data)
    assert task.weights is not None
    assert task.weights.tolist() == pytest.approx([0.625, 2.5])
    assert float((task.weights * torch.tensor([8.0, 2.0])).sum()) == pytest.approx(10)


def test_a_weight_for_a_class_that_is_not_there() -> None:
    data = ragged([2] * 4, targets=torch.tensor([0, 1, 0, 1]))
    task = Classify(
        schema(task="classify", classes=["cat", "dog"]), train_settings("classify", class_weights={"dgo": 2})
    )
    with pytest.raises(RecipeError, match=r"train\.class_weights: unknown class 'dgo'; did you mean 'dog'\?"):
        task.build(ModelSettings.model_validate({}), data)


def test_several_labels_at_once() -> None:
    data = ragged([2] * 4, targets=torch.tensor([[True, False], [True, True], [False, False], [False, True]]))
    task = Classify(schema(task="classify", classes=["a", "b"], multi_label=True), train_settings("classify"))
    network = task.build(ModelSettings.model_validate({}), data)
    said = predict(task, network, data)
    assert said.outputs.shape == (4, 2)
    said.outputs = np.array([[0.9, 0.1], [0.6, 0.5], [0.4, 0.2], [0.1, 0.7]])
    assert said.labels == ["a", "a;b", "", "b"]
    assert task.scores(said)["accuracy"] == 1.0
    assert [row["target"] for row in task.rows(said, targets=True)] == ["a", "a;b", "", "b"]


def test_regress_learns_in_scaled_units_and_predicts_in_its_own() -> None:
    targets = torch.tensor([[100.0], [300.0], [200.0], [400.0]])
    data = ragged([2, 3, 4, 2], targets=targets)
    task = Regress(schema(task="regress", targets=["y"]), train_settings("regress"))
    network = task.build(ModelSettings.model_validate({}), data)
    assert float(network.target_mean) == 250
    batch = collate(data, torch.arange(4))
    zero = torch.zeros(4, 1)
    assert float(task.loss(network, zero, batch)) == pytest.approx(1.0)
    assert task.outputs(network, zero).tolist() == [[250.0]] * 4


def test_regress_per_step_ignores_padding() -> None:
    data = ragged([2, 4], targets=torch.arange(6.0).unsqueeze(1), per_step=True)
    settings = train_settings("regress", normalise_targets=False)
    task = Regress(schema(task="regress", targets=["y"], per_step=True), settings)
    network = task.build(ModelSettings.model_validate({}), data)
    batch = collate(data, torch.arange(2))
    assert batch.targets is not None
    outputs = batch.targets + 1
    outputs[2:, 0] = torch.nan  # what stands in the padding must not matter
    assert float(task.loss(network, outputs, batch)) == pytest.approx(1.0)
    said = predict(task, network, data)
    assert said.outputs.shape == (6, 1)
    rows = list(task.rows(said, targets=True))
    assert [(row["index"], row["step"], row["target"]) for row in rows] == [
        (0, 0, 0.0), (0, 1, 1.0), (1, 0, 2.0), (1, 1, 3.0), (1, 2, 4.0), (1, 3, 5.0)
    ]  # fmt: skip


def test_carried_state_is_one_long_sequence() -> None:
    whole = ragged([12], targets=torch.zeros(12, 1), per_step=True)
    parts = Sequences(whole.values, torch.tensor([0, 4, 8, 12]), whole.targets, per_step=True)
    task = Regress(schema(task="regress", targets=["y"], per_step=True), train_settings("regress"))
    network = task.build(ModelSettings.model_validate({"cell": "lstm"}), whole)
    one = predict(task, network, whole).outputs
    np.testing.assert_allclose(predict(task, network, parts, carry_state=True).outputs, one, rtol=1e-5, atol=1e-7)
    assert np.abs(predict(task, network, parts).outputs - one).max() > 1e-3
