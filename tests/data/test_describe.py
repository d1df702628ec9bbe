"""What a data set looks like before it is trained on."""

from pathlib import Path

import pytest

from recurra.data import DataSettings, describe


def test_series_with_classes(tmp_path: Path):
    (tmp_path / "x_TRAIN.ts").write_text("@classLabel true a b\n@data\n1,2,3:4,5,6:b\n1:2:a\n7,8:9,10:b\n")
    found = describe(tmp_path / "x_TRAIN.ts", DataSettings())
    train = found.parts["train"]
    assert (train.format, train.sequences, train.steps) == ("ts", 3, 6)
    assert (train.shortest, train.median, train.longest) == (1, 2, 3)
    assert train.classes == {"a": 1, "b": 2}
    assert train.first == ["b | 1 4; 2 5; 3 6", "a | 1 2", "b | 7 9; 8 10"]
    assert found.features == ["dimension_0", "dimension_1"]
    assert found.range == (1, 10)
    assert found.symbols is found.vocabulary is None
    assert found.to_text() == "\n".join(
        [
            f"train: {tmp_path / 'x_TRAIN.ts'} (ts)",
            "  sequences  3",
            "  steps      1 to 3, median 2",
            "  classes    2",
            "    a  1 (33.3%)",
            "    b  2 (66.7%)",
            "  first      b | 1 4; 2 5; 3 6",
            "             a | 1 2",
            "             b | 7 9; 8 10",
            "values a step: 2 (dimension_0, dimension_1), from 1 to 10",
        ]
    )


def test_what_training_would_refuse_is_described(tmp_path: Path):
    (tmp_path / "x.ts").write_text("@classLabel true a b\n@data\n1,2:a\n")
    assert describe(tmp_path / "x.ts", DataSettings()).parts["train"].classes == {"a": 1}
    (tmp_path / "x.ts").write_text("@classLabel false\n@data\n1,2\n")
    assert describe(tmp_path / "x.ts", DataSettings()).parts["train"].classes == {}


def test_texts_without_a_symbol_often_enough_are_described(tmp_path: Path):
    (tmp_path / "x.tsv").write_text("p\tone two three\nn\tfour five six\n")
    assert describe(tmp_path / "x.tsv", DataSettings()).vocabulary == 2


def test_texts_in_parts(tmp_path: Path):
    for part in ("train", "test"):
        for label in ("pos", "neg"):
            (tmp_path / part / label).mkdir(parents=True)
            for i in range(5):
                (tmp_path / part / label / f"{i}.txt").write_text(f"one {label} " + "word " * 20)
    found = describe(tmp_path, DataSettings())
    assert list(found.parts) == ["train", "test"]
    assert (found.input, found.symbols, found.vocabulary) == ("tokens", 4, 6)
    assert found.parts["test"].first[0] == "neg | one neg word word word word word word word word word word …"
    assert "symbols: 4 different, vocabulary of 6" in found.to_text()


def test_numbers_to_predict_at_every_step():
    found = describe("sine", DataSettings(), "regress")
    assert found.parts["train"].targets["next"] == pytest.approx((-1, 0, 1), abs=1e-6)
    assert found.parts["train"].first[0].startswith("0.156434 … | 0 0.1564 0.309")
    assert "  steps      20 each" in found.to_text().splitlines()


def test_many_classes_are_shortened(tmp_path: Path):
    labels = [f"c{i}" for i in range(30)]
    lines = [f"{i},{i}:{label}" for i, label in enumerate([*labels, "c7"])]
    (tmp_path / "x.ts").write_text(f"@classLabel true {' '.join(labels)}\n@data\n" + "\n".join(lines))
    text = describe(tmp_path / "x.ts", DataSettings()).to_text().splitlines()
    assert "  classes    30" in text
    assert text[text.index("  classes    30") + 1] == "    c7  2 (6.5%)"
    assert "    … and 20 more" in text
