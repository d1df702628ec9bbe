"""Ways to use a recurrent network, held against the sentences and equations that state them (6.20-6.25), in NumPy."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from recurra.analysis.prediction_tree import prediction_tree
from recurra.data.batches import collate
from recurra.data.pairs import Pairs, PairSchema
from recurra.data.sentences import SentenceSchema
from recurra.data.sequences import Sequences
from recurra.data.units import END, PAD, START, UNK, Units
from recurra.nn.attention import Attention
from recurra.tasks import TASKS
from recurra.tasks.model import ModelSettings, SequenceModel
from recurra.tasks.translate import Translate
from recurra.tasks.translator import Translator, TranslatorSettings

N_IN, H, C = 3, 5, 4
LENGTHS = (6, 2, 4)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(4)


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def states(layers: Any, x: np.ndarray, h: np.ndarray, suffix: str = "_l0") -> list[np.ndarray]:
    """h_t = tanh(U h_(t-1) + W x_t + b) for every row of x."""
    W, U, b = (array(layers.get_parameter(name + suffix)) for name in ("weight_ih", "weight_hh", "bias"))
    found = []
    for row in x:
        h = np.tanh(W @ row + U @ h + b)
        found.append(h)
    return found


def sequences() -> Sequences:
    values = torch.randn(sum(LENGTHS), N_IN)
    return Sequences(values, torch.tensor(np.cumsum([0, *LENGTHS])), targets=torch.zeros(len(LENGTHS)).long())


def model(pool: str, per_step: bool = False) -> SequenceModel:
    settings = ModelSettings.model_validate({"cell": "elman", "hidden_size": H, "pool": pool, "bidirectional": False})
    return SequenceModel(settings, C, input_size=N_IN, per_step=per_step).double().eval()


def said(network: SequenceModel, data: Sequences) -> np.ndarray:
    batch = collate(data, torch.arange(len(data))).to(torch.device("cpu"), torch.float64)
    return array(network(*batch.inputs)[0])


def g(network: SequenceModel, h: np.ndarray) -> np.ndarray:
    return array(network.output.weight) @ h + array(network.output.bias)


def test_c1_a_class_from_the_last_state() -> None:
    """6.20: ŷ = g(h_T), T the sequence's own length."""
    network, data = model("last"), sequences()
    for i, found in enumerate(said(network, data)):
        along = states(network.recurrent, array(data.sequence(i)), np.zeros(H))
        np.testing.assert_allclose(found, g(network, along[-1]), atol=1e-12)


def test_c2_a_class_from_the_mean_of_the_states() -> None:
    """6.21: ŷ = g(1/T Σ_(t=1)^T h_t); what a shorter sequence is padded with does not count."""
    network, data = model("mean"), sequences()
    for i, found in enumerate(said(network, data)):
        along = states(network.recurrent, array(data.sequence(i)), np.zeros(H))
        np.testing.assert_allclose(found, g(network, np.mean(along, 0)), atol=1e-12)


def test_c3_an_output_at_every_step() -> None:
    """6.22: ŷ_t = g(h_t) for t from 1 to T."""
    network, data = model("last", per_step=True), sequences()
    outputs = said(network, data)
    for i, length in enumerate(LENGTHS):
        along = states(network.recurrent, array(data.sequence(i)), np.zeros(H))
        np.testing.assert_allclose(outputs[:length, i], [g(network, h) for h in along], atol=1e-12)


def test_c3_a_tagger_reads_both_directions() -> None:
    """The tag of a word may hang on the words behind it: without them another one may be said."""
    schema = SentenceSchema(
        task="tag", format="x", vocabulary=["<pad>", "<unk>", "to"], characters=["<pad>", "<unk>", "o"], tags=["a", "b"]
    )
    kind = TASKS["tag"]
    task = kind(schema, kind.train_settings.model_validate({}))
    settings = kind.model_settings.model_validate({"hidden_size": 4, "embedding_size": 3})
    assert task.network(settings).recurrent.bidirectional


WORDS = Units(unit="word", symbols=["<pad>", "<unk>", "<s>", "</s>", "eins", "zwei", "drei", "vier"])


def translate(schema: PairSchema, **settings: Any) -> tuple[Translate, Translator]:
    given = {"cell": "elman", "hidden_size": H, "embedding_size": 3, "tied": "none", "beam": 1, "max_output": 7}
    task = Translate(schema, Translate.train_settings.model_validate({}))
    network = task.network(TranslatorSettings.model_validate({**given, **settings})).double().eval()
    with torch.no_grad():  # far apart, so that the most probable symbol changes from step to step
        for p in network.parameters():
            p.normal_()
    return task, network


def greedy(network: Translator, h: np.ndarray) -> list[int]:
    """h_(T+t) = f_2(h_(T+t-1), ŷ_(t-1)), y_(T+t) = g(h_(T+t)), and ŷ_t the most probable symbol: 6.24, 6.25."""
    vectors, weight = array(network.embedding.weight), array(network.weight)
    symbol, found = START, []
    for _ in range(8):
        (h,) = states(network.recurrent, vectors[[symbol]] * math.sqrt(vectors.shape[1]), h)
        y = weight @ h + array(network.output_bias)
        y[[PAD, UNK, START]] = -np.inf  # these are never said
        symbol = int(y.argmax())
        if symbol == END:
            break
        found.append(symbol)
    return found


def test_c4_encoder_and_decoder() -> None:
    """6.23: h_t = f_1(h_(t-1), x_t) over the source; then 6.24 with its index of h on the right as T + t - 1, and 6.25.

    Lengths of source and target differ.
    """
    schema = PairSchema(task="translate", format="x", input="tokens", target_units=WORDS)
    task, network = translate(schema, bridge="copy", attention="none")
    texts, lengths = ["eins zwei drei", "vier", "zwei zwei vier eins eins"], set()
    symbols = [[*WORDS.encode(text), END] for text in texts]
    vectors = array(network.source_embedding.weight)
    source = torch.zeros(max(map(len, symbols)), len(texts), dtype=torch.long)
    for b, row in enumerate(symbols):
        source[: len(row), b] = torch.tensor(row)
    state = network.encode(source, torch.tensor([len(row) for row in symbols]))
    for b, row in enumerate(symbols):
        h = states(network.encoder, vectors[row] * math.sqrt(vectors.shape[1]), np.zeros(H))[-1]
        np.testing.assert_allclose(array(state.layers[0][0, b]), h, atol=1e-12)
        one = network.encode(source[: len(row), b : b + 1], None)
        expected = greedy(network, h)
        pairs = decoded(task, network, one)
        assert pairs == expected
        lengths.add((len(row), len(expected)))
    assert any(a != b + 1 for a, b in lengths)


def decoded(task: Translate, network: Translator, state: Any) -> list[int]:
    """What `step` says one symbol after another, the most probable each time."""
    symbol, found = torch.tensor([START]), []
    for _ in range(8):
        logs, state = network.step(symbol, state)
        logs[:, [PAD, UNK, START]] = -torch.inf
        symbol = logs.argmax(-1)
        if symbol.item() == END:
            break
        found.append(int(symbol))
    return found


def test_c5_one_vector_to_a_sequence() -> None:
    """A vector makes the first state; from there on symbols follow symbols, as in 6.24."""
    features = ["a", "b"]
    schema = PairSchema(task="translate", format="x", input="vector", features=features, target_units=WORDS)
    task, network = translate(schema)
    values = torch.randn(4, len(features))
    vectors = Sequences(values, torch.arange(5))
    pairs = Pairs(vectors, None, [""] * 4, None)
    texts = task.predict(network, pairs, dtype=torch.float64).said
    assert network.bridge is not None
    W, b = (array(network.bridge.map.get_parameter(name)) for name in ("weight", "bias"))
    for row, text in zip(array(values), texts, strict=True):
        h = np.tanh(W @ ((row - array(network.mean)) / array(network.deviation)) + b)
        assert text == " ".join(WORDS.symbols[i] for i in greedy(network, h))


def test_c6_a_prediction_tree_holds_the_distribution_of_the_next_symbol() -> None:
    """Several predictions are kept, and each is expanded; on the branches stand their probabilities."""
    table = np.random.default_rng(0).dirichlet(np.ones(4), size=4)

    def step(symbols: Tensor, state: Any) -> tuple[Tensor, Any]:
        return torch.from_numpy(np.log(table[symbols.numpy()])), state

    tree = prediction_tree(step, None, torch.tensor([2]), "abcd", prompt="c", depth=2, width=2, min_probability=0.0)
    best = np.argsort(-table[2])[:2]
    assert [child.symbol for child in tree.children] == ["abcd"[k] for k in best]
    for child, k in zip(tree.children, best, strict=True):
        assert child.probability == pytest.approx(table[2, k])
        assert [each.probability for each in child.children] == pytest.approx(sorted(table[k], reverse=True)[:2])


@pytest.mark.parametrize("kind", ["additive", "dot", "general"])
def test_h2_attention_is_a_mean_of_the_memory_by_softmax_of_scores(kind: Any) -> None:
    """α_s = softmax of s(m_s, q) over the memory's own steps, and the context Σ_s α_s m_s."""
    M = H if kind == "dot" else 6
    attention = Attention(kind, H, M).double()
    memory, query, lengths = torch.randn(5, 3, M).double(), torch.randn(3, H).double(), [5, 1, 3]
    context, weights = attention(query, memory, lengths)
    for b, length in enumerate(lengths):
        m, q = array(memory[:length, b]), array(query[b])
        if kind == "additive":
            inner = m @ array(attention.key.weight).T + array(attention.query.weight) @ q + array(attention.query.bias)
            scores = np.tanh(inner) @ array(attention.score.weight)[0]
        else:
            scores = (m if kind == "dot" else m @ array(attention.key.weight).T) @ q
        share = np.exp(scores - scores.max())
        share /= share.sum()
        np.testing.assert_allclose(array(weights[b]), [*share, *[0.0] * (5 - length)], atol=1e-12)
        np.testing.assert_allclose(array(context[b]), share @ m, atol=1e-12)
