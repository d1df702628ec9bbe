"""Weights of Keras 3, compared with what Keras itself puts out."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import recurra
from recurra import cells
from recurra.errors import DataError, MissingExtraError, RecipeError
from recurra.nn import Recurrent
from recurra.nn.weights import from_keras, to_keras, variants
from recurra.nn.weights.keras import ACTIVATIONS

torch.set_num_threads(1)

ANSWERS = Path(__file__).with_name("keras_answers.py")
LENGTHS = (6, 2, 4)  # as in keras_answers.py


def case(kind: str, bidirectional: bool = False, masked: bool = False, **config: Any) -> dict[str, Any]:
    return {"kind": kind, "bidirectional": bidirectional, "masked": masked, "config": config}


CASES = [
    *(
        case(kind, both, masked, use_bias=bias, **more)
        for kind, more in (
            ("LSTM", {}),
            ("GRU", {"reset_after": True}),
            ("GRU", {"reset_after": False}),
            ("SimpleRNN", {}),
        )
        for both in (False, True)
        for bias in (False, True)
        for masked in (False, True)
    ),
    *(case(kind, go_backwards=True) for kind in ("LSTM", "GRU", "SimpleRNN")),
    *(case("SimpleRNN", activation=name) for name in ACTIVATIONS),
    case("LSTM", activation="softsign", recurrent_activation="hard_sigmoid"),
    case("LSTM", True, activation="tanh", recurrent_activation="hard_sigmoid"),
    case("GRU", activation="relu", recurrent_activation="hard_sigmoid", reset_after=True),
    case("GRU", True, activation="relu", recurrent_activation="sigmoid", reset_after=False),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Keras put out and saved."""
    made = tmp_path_factory.mktemp("keras")
    environment = {**os.environ, "KERAS_HOME": str(made / "home"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, ANSWERS, made],
        input=json.dumps(CASES),
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return made


def numbered(file: Any, name: str) -> list[np.ndarray]:
    """The arrays name-0, name-1, … of an npz file."""
    return [file[f"{name}-{k}"] for k in range(sum(key.startswith(f"{name}-") for key in file.files))]


@pytest.mark.parametrize("n", range(len(CASES)), ids=[json.dumps(one) for one in CASES])
def test_agrees_with_keras(folder: Path, n: int) -> None:
    kind, both, masked, config = CASES[n].values()
    with np.load(folder / f"case-{n}.npz") as file:
        x, expected = torch.from_numpy(file["x"]), torch.from_numpy(file["output"])
        weights, begun, states = (numbered(file, name) for name in ("weight", "begun", "state"))
    layer = from_keras(weights, kind, bidirectional=both, **config)
    state = keras_order(begun, both)
    output, final = layer(x, state, lengths=LENGTHS if masked else None)
    if config.get("go_backwards"):
        expected = expected.flip(1)
    if masked:  # after the end, Keras puts out the last output again, or zeros in both directions
        within = torch.arange(x.shape[1]) < torch.tensor(LENGTHS).unsqueeze(1)
        output, expected = output[within], expected[within]
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-5)
    for found, value in zip(final, keras_order(states, both), strict=True):
        torch.testing.assert_close(found, value, rtol=1e-5, atol=1e-5)
    again = to_keras(layer, use_bias=config.get("use_bias", True))
    for returned, given in zip(again, weights, strict=True):
        np.testing.assert_array_equal(returned, given)


def keras_order(states: list[np.ndarray], both: bool) -> tuple[torch.Tensor, ...]:
    """Fields of (directions, B, H) from Keras's list, which has all fields of one direction after the other's."""
    fields = len(states) // (1 + both)
    rows = [states[k::fields] for k in range(fields)]
    return tuple(torch.from_numpy(np.stack(one)) for one in rows)


def test_cells_of_the_catalogue_are_known_again() -> None:
    def arrays(gates: int, *bias: int) -> list[np.ndarray]:
        return [np.ones((3, gates * 2)), np.ones((2, gates * 2)), np.ones((*bias, gates * 2))]

    found = {
        from_keras(arrays(4), "LSTM").cell,
        from_keras(arrays(3, 2), "GRU").cell,
        from_keras(arrays(3), "GRU", reset_after=False).cell,
        from_keras(arrays(1), "SimpleRNN", activation="relu").cell,
    }
    assert found == {cells.lstm, cells.gru_reset_after, cells.gru, cells.elman(activation="relu")}
    assert from_keras(arrays(4), "LSTM").get_parameter("weight_ih_l0").dtype == torch.float64
    assert recurra.from_keras is from_keras
    assert recurra.to_keras is to_keras


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["model.weights.h5", "model.keras"])
@pytest.mark.parametrize(
    ("names", "kind", "saved"),
    [
        (("reader", "layers/bidirectional"), "LSTM", "reader"),
        (("gru", "layers/gru"), "GRU", "gru"),
        (("last", "layers/simple_rnn"), "SimpleRNN", "last"),
    ],
)
def test_a_file_that_keras_saved(folder: Path, file: str, names: tuple[str, ...], kind: str, saved: str) -> None:
    with np.load(folder / f"{saved}.npz") as arrays:
        weights = numbered(arrays, "weight")
    expected = from_keras(weights, kind).state_dict()
    for name in names:
        found = from_keras(folder / file, kind, layer=name).state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_the_only_layer_of_a_file_needs_no_name(folder: Path) -> None:
    assert from_keras(str(folder / "alone.weights.h5"), "GRU").hidden_size == 5


@pytest.mark.parametrize(
    ("file", "layer", "error", "text"),
    [
        ("model.weights.h5", None, RecipeError, r"3 recurrent layers; name one as layer: .*gru \(layers/gru\)"),
        ("model.weights.h5", "raeder", RecipeError, "unknown recurrent layer 'raeder'; did you mean 'reader'"),
        ("model.weights.h5", "layers/gur", RecipeError, "did you mean 'layers/gru'"),
        ("none.weights.h5", None, DataError, "no group of it holds a recurrent layer as Keras 3 writes them"),
        ("missing.weights.h5", None, DataError, "missing.weights.h5: No such file or directory"),
        (".", None, DataError, "Is a directory"),
        ("truncated.weights.h5", None, DataError, "an HDF5 file of Keras 3 is expected; this is none, or not whole"),
        ("text.weights.h5", None, DataError, "an HDF5 file of Keras 3 is expected; this is none, or not whole"),
        ("empty.keras", None, DataError, "an archive of Keras 3 with model.weights.h5 is expected"),
    ],
)
def test_a_file_that_cannot_be_read(
    folder: Path, file: str, layer: str | None, error: type[Exception], text: str
) -> None:
    whole = (folder / "model.weights.h5").read_bytes()
    (folder / "truncated.weights.h5").write_bytes(whole[: len(whole) // 2])
    (folder / "text.weights.h5").write_text("no weights", encoding="utf-8")
    with zipfile.ZipFile(folder / "empty.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(error, match=text) as caught:
        from_keras(folder / file, "GRU", layer=layer)
    assert str(caught.value).startswith(str(folder / file))


def test_another_kind_than_the_file_has(folder: Path) -> None:
    with pytest.raises(DataError, match=r"layers/gru: kernel of LSTM: \(4, 20\) is expected, found \(4, 15\)"):
        from_keras(folder / "alone.weights.h5", "LSTM")


def test_without_h5py_the_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'recurra\[keras\]'"):
        from_keras("a.weights.h5", "GRU")


# --- what cannot be -------------------------------------------------------------------------------------------------

LSTM = (np.ones((3, 8)), np.ones((2, 8)), np.ones(8))


@pytest.mark.parametrize(
    ("weights", "kind", "config", "error", "text"),
    [
        (LSTM, "LTSM", {}, RecipeError, "unknown kind of layer 'LTSM'.* Known: GRU, LSTM, SimpleRNN"),
        (LSTM, "LSTM", {"activation": "tahn"}, RecipeError, "unknown activation 'tahn'; did you mean 'tanh'"),
        (LSTM, "LSTM", {"recurrent_activation": None}, RecipeError, "unknown activation 'None'"),
        (3, "LSTM", {}, RecipeError, "a list of arrays, or the path of a file, is expected, not int"),
        (LSTM[0], "LSTM", {}, RecipeError, "a list of arrays, or the path of a file, is expected, not ndarray"),
        (LSTM, "LSTM", {"layer": "a"}, RecipeError, "layer='a': only a file has several layers"),
        ((*LSTM, *LSTM), "LSTM", {"go_backwards": True}, RecipeError, "go_backwards=True: a layer that runs in both"),
        ([], "LSTM", {}, DataError, "2 or 3 or 4 or 6 arrays are expected .*, found 0"),
        (LSTM, "LSTM", {"use_bias": False}, DataError, "2 or 4 arrays are expected .*, found 3"),
        (LSTM, "LSTM", {"bidirectional": True}, DataError, "4 or 6 arrays are expected .*, found 3"),
        (LSTM, "GRU", {}, DataError, r"weights: kernel of GRU: \(3, 6\) is expected, found \(3, 8\)"),
        ((LSTM[0], np.ones((2, 7))), "LSTM", {}, DataError, r"recurrent kernel of LSTM: \(2, 8\) is expected, found"),
        ((*LSTM[:2], np.ones(7)), "LSTM", {}, DataError, r"bias of LSTM: \(8,\) is expected, found \(7,\)"),
        ((*LSTM, np.ones((4, 8)), *LSTM[1:]), "LSTM", {}, DataError, r"kernel of LSTM: \(3, 8\) is expected, found"),
        (
            (np.ones((3, 6)), np.ones((2, 6)), np.ones(6)),
            "GRU",
            {},
            DataError,
            r"\(2, 6\) is expected \(as reset_after",
        ),
        ((np.ones((3, 8), int), *LSTM[1:]), "LSTM", {}, DataError, "kernel: real numbers are expected, not int64"),
        ((np.float32(1), np.float32(2)), "LSTM", {}, DataError, r"kernel of LSTM: \(0, 0\) is expected, found \(\)"),
    ],
)
def test_weights_that_do_not_fit(weights: Any, kind: str, config: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        from_keras(weights, kind, **config)


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (
            Recurrent("lstm_peephole", 3, 4),
            "cell 'lstm_peephole': Keras has no layer that computes it; it has elman, gru",
        ),
        (Recurrent("lstm", 3, 4, 2), "num_layers=2: a layer of Keras is one"),
        (Recurrent("lstm", 3, 4, zoneout=0.5), "zoneout=0.5: Keras's layers do not have it"),
        (Recurrent("lstm", 3, 4, output_layers=[2]), "output_layers="),
        (Recurrent(variants.lstm_activated(g=F.softsign), 3, 4), "Keras's LSTM has one activation for g and h"),
    ],
)
def test_what_keras_does_not_have(layer: Recurrent, text: str) -> None:
    with pytest.raises(RecipeError, match=text):
        to_keras(layer)


def test_biases_are_not_lost() -> None:
    layer = Recurrent("lstm", 3, 4)
    with pytest.raises(RecipeError, match="use_bias=False: the layer's biases are not zero"):
        to_keras(layer, use_bias=False)
