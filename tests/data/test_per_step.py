"""A label at every step: from tables and from Python data."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recurra.data import DataSettings, Sequences, describe, load_part, load_parts
from recurra.data.batches import collate
from recurra.errors import DataError

WHOLE = DataSettings(validation_fraction=0, test_fraction=0)
STEPS = "id,time,x,label\nA,0,1,w\nA,1,2,r\nB,0,3,r\nB,1,4,w\nB,2,5,w\nC,0,6,w\n"


def read(data: Any, **settings: Any):
    return load_parts(data, "classify", WHOLE.model_copy(update=settings))


def table(folder: Path, text: str, **settings: Any):
    (folder / "steps.csv").write_text(text)
    return read(folder / "steps.csv", **settings)


def targets(data: Sequences) -> list[list[Any]]:
    """The targets of each sequence; None where nothing is asked for."""
    assert data.targets is not None
    asked = torch.ones(len(data.values), dtype=torch.bool) if data.asked is None else data.asked
    flat = [row if there else None for row, there in zip(data.targets.tolist(), asked.tolist(), strict=True)]
    bounds = data.offsets.tolist()
    return [flat[start:stop] for start, stop in pairwise(bounds)]


def test_labels_that_change_within_most_sequences_are_those_of_steps(tmp_path: Path):
    data = table(tmp_path, STEPS)
    assert data.schema.per_step
    assert data.schema.classes == ["r", "w"]
    assert targets(data.train) == [[1, 0], [0, 1, 1], [1]]
    assert data.train.asked is None
    (said,) = data.warnings
    assert said.startswith(f"{tmp_path / 'steps.csv'}: 'label' changes within most sequences, so each step is taken to")
    assert "data.per_step=true or false" in said


def test_labels_that_change_within_half_of_the_sequences_are_a_mistake(tmp_path: Path):
    text = STEPS + "D,0,7,r\n"
    with pytest.raises(DataError, match=r"'label' changes within sequence 'A', from 'w' in line 2 .*=true\.$"):
        table(tmp_path, text)
    assert targets(table(tmp_path, text, per_step=True).train) == [[1, 0], [0, 1, 1], [1], [0]]


def test_one_label_a_sequence_may_be_asked_for(tmp_path: Path):
    with pytest.raises(DataError, match="changes within sequence 'A'"):
        table(tmp_path, STEPS, per_step=False)
    constant = "id,time,x,label\nA,0,1,w\nA,1,2,w\nB,0,3,r\n"
    assert targets(table(tmp_path, constant, per_step=True).train) == [[1, 1], [0]]
    assert not table(tmp_path, constant).schema.per_step


def test_steps_without_a_label(tmp_path: Path):
    text = "id,time,x,label\nA,0,1,\nA,1,2,r\nB,1,4,w\nB,0,3,\n"
    with pytest.raises(DataError, match=r"line 2, column 'label': the label is empty; .*only some have one: --set"):
        table(tmp_path, text)
    data = table(tmp_path, text, per_step=True)
    assert data.schema.classes == ["r", "w"]
    assert targets(data.train) == [[None, 0], [None, 1]]
    with pytest.raises(DataError, match=r"sequence 'B' \(line 5\): has no label, which training needs"):
        table(tmp_path, text.replace("4,w", "4,").replace("A,0,1,", "A,0,1,w"), per_step=True)


def test_several_labels_at_every_step(tmp_path: Path):
    text = "id,time,x,label\nA,0,1,a;b\nA,1,2,\nB,0,3,b\nB,1,4,c;b\n"
    data = table(tmp_path, text, label_separator=";")
    assert data.schema.multi_label
    assert targets(data.train) == [[[True, True, False], [False] * 3], [[False, True, False], [False, True, True]]]
    assert data.train.asked is None  # with a separator, an empty cell is a set without labels


def test_the_separator_alone_is_a_set_without_labels_where_others_are_gaps(tmp_path: Path):
    text = "id,time,x,label\nA,1,2,b\nA,0,1,;\nA,2,3,\nB,0,3,\nB,1,4,a;b\n"
    data = table(tmp_path, text, label_separator=";")
    assert targets(data.train) == [[[False] * 2, [False, True], None], [None, [True, True]]]
    (tmp_path / "more.csv").write_text("id,time,x,label\nA,0,1,\nA,1,2,b\n")
    assert targets(load_part(tmp_path / "more.csv", data.schema)[0]) == [[None, [False, True]]]


def test_a_single_sequence_with_a_label_at_every_step(tmp_path: Path):
    text = "time,x,label\n0,1,a\n1,2,b\n2,3,a\n"
    assert targets(table(tmp_path, text, per_step=True, time="time").train) == [[0, 1, 0]]


def test_a_table_is_long_where_steps_have_labels(tmp_path: Path):
    text = "sequence,x,label\nA,1,a\nA,2,b\nB,3,b\nB,1,a\n"
    assert targets(table(tmp_path, text, per_step=True).train) == [[0, 1], [1, 0]]


def test_further_data_are_read_as_those_of_training_were(tmp_path: Path):
    schema = table(tmp_path, STEPS).schema
    (tmp_path / "more.csv").write_text("id,time,x,label\nZ,1,1,w\nZ,0,2,\nZ,2,2,q\n")
    part, warnings = load_part(tmp_path / "more.csv", schema)
    assert targets(part) == [[None, 1, -1]]
    assert warnings == [
        f"{tmp_path / 'more.csv'}: 1 of 3 steps have a label that training data do not have ('q'); they count as wrong."
    ]
    (tmp_path / "more.csv").write_text("id,time,x\nZ,1,1\n")
    assert load_part(tmp_path / "more.csv", schema)[0].targets is None
    single = table(tmp_path, "id,time,x,label\nA,0,1,w\nA,1,1,w\nB,0,2,r\n").schema
    (tmp_path / "more.csv").write_text("id,time,x,label\nA,0,1,w\nA,1,1,r\n")
    with pytest.raises(DataError, match="changes within sequence 'A'"):
        load_part(tmp_path / "more.csv", single)


def test_numbers_may_be_said_to_be_at_every_step_too(tmp_path: Path):
    (tmp_path / "x.csv").write_text("id,time,x,target\nA,0,1,3\nA,1,2,3\nB,0,3,4\n")
    settings = WHOLE.model_copy(update={"per_step": True})
    data = load_parts(tmp_path / "x.csv", "regress", settings)
    assert targets(data.train) == [[[3], [3]], [[4]]]
    (tmp_path / "x.csv").write_text("id,time,x,target\nA,0,1,3\nA,1,2,5\nB,0,3,4\n")
    with pytest.raises(DataError, match=r"'target' changes within sequence 'A'.*data\.per_step is false"):
        load_parts(tmp_path / "x.csv", "regress", WHOLE.model_copy(update={"per_step": False}))


@pytest.mark.parametrize(
    "y",
    [
        [["a", "b"], ["b", "b", "a"]],
        [np.array(["a", "b"]), np.array(["b", "b", "a"])],
        [("a", "b"), ["b", "b", "a"]],
    ],
)
def test_python_data(y: list[Any]):
    data = read(([np.ones((2, 1)), np.ones((3, 1))], y), per_step=True)
    assert targets(data.train) == [[0, 1], [1, 1, 0]]
    assert data.train.per_step


def test_python_data_of_equal_lengths():
    x = np.ones((2, 3, 1))
    assert targets(read((x, np.array([[0, 1, 1], [2, 0, 1]])), per_step=True).train) == [[0, 1, 1], [2, 0, 1]]
    assert targets(read((x, torch.tensor([[0, 1, 1], [2, 0, 1]])), per_step=True).train) == [[0, 1, 1], [2, 0, 1]]
    gaps = np.array([[np.nan, 1, 1], [2, 0, np.nan]])
    assert targets(read((x, gaps), per_step=True).train) == [[None, 1, 1], [2, 0, None]]
    assert targets(read((x, [[None, "a", "b"], ["b", None, "a"]]), per_step=True).train) == [[None, 0, 1], [1, None, 0]]


def test_python_data_with_several_labels():
    x, sets = np.ones((2, 2, 1)), np.array([[[1, 0, 1], [0, 0, 0]], [[0, 1, 0], [1, 1, 1]]])
    wanted = [[[True, False, True], [False] * 3], [[False, True, False], [True] * 3]]
    assert targets(read((x, sets)).train) == wanted
    data = read((x, [[{"a", "c"}, set()], [["b"], ("a", "b", "c")]]), per_step=True)
    assert data.schema.multi_label
    assert targets(data.train) == wanted


def test_numpy_files(tmp_path: Path):
    np.savez(tmp_path / "a.npz", x=np.ones((2, 3, 1)), y=np.array([[0, 1, 1], [2, 0, 1]]), lengths=np.array([3, 3]))
    assert targets(read(tmp_path / "a.npz", per_step=True).train) == [[0, 1, 1], [2, 0, 1]]


FAULTS: dict[str, tuple[Any, str]] = {
    "too few": (
        (np.ones((2, 3, 1)), [["a", "b", "c"], ["a"]]),
        r"sequence 1: has 3 steps but 1 labels; expected one for",
    ),
    "one a sequence": (
        (np.ones((2, 3, 1)), ["a", "b"]),
        r"sequence 0: its labels are 'a'; expected one for each of",
    ),
    "one number a sequence": (
        (np.ones((2, 3, 1)), np.array([0, 1])),
        r"sequence 0: its labels are .*; expected one",
    ),
    "a fraction": ((np.ones((2, 2, 1)), [["a", 0.5], ["a", "b"]]), r"sequence 0, step 1: the label is 0\.5"),
    "counts for sets": (
        (np.ones((1, 2, 1)), np.full((1, 2, 3), 7)),
        r"labels have shape \(1, 2, 3\); expected \(N",
    ),
    "nothing asked": (
        (np.ones((2, 2, 1)), [["a", "b"], [None, None]]),
        "sequence 1: has no label, which training",
    ),
    "one class": ((np.ones((1, 2, 1)), [["a", "a"]]), "only the class 'a' in the training data"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_cannot_be_read(case: str):
    data, said = FAULTS[case]
    with pytest.raises(DataError, match=said):
        read(data, per_step=True)


def test_formats_that_have_one_label_a_sequence(tmp_path: Path):
    (tmp_path / "x.csv").write_text("label,t0,t1\na,1,2\nb,2,3\n")
    with pytest.raises(DataError, match=r"has a target for each sequence, and data\.per_step is true"):
        read(tmp_path / "x.csv", per_step=True)


def test_further_data_with_a_label_a_sequence():
    schema = read((np.ones((2, 2, 1)), np.array([[[1, 0], [0, 1]], [[0, 0], [1, 1]]]))).schema
    with pytest.raises(DataError, match="its labels are"):
        load_part((np.ones((2, 2, 1)), ["a", "b"]), schema)


def test_sequences_are_cut_with_their_labels():
    y = [[None, "a", "b"], ["b", None, "a"]]
    x = np.arange(6).reshape(2, 3, 1)
    data = read((x, y), per_step=True, max_length=2, keep="end")
    assert targets(data.train) == [[0, 1], [None, 0]]
    with pytest.raises(DataError, match="sequence 0: has no label"):  # nothing is left of what is asked of it
        read((np.ones((3, 2, 1)), [[None, "a"], ["b", "a"], ["a", "b"]]), per_step=True, max_length=1)


def test_parts_are_drawn_with_their_labels():
    y = [[f"{i % 2}", None, f"{(i + 1) % 2}"][i % 3 :] + [None] * (i % 3) for i in range(20)]
    x = np.arange(60).reshape(20, 3, 1)
    data = load_parts((x, y), "classify", DataSettings(per_step=True))
    for part in (data.train, data.validation, data.test):
        assert part is not None
        first = (part.values.reshape(-1, 3)[:, 0] // 3).long().tolist()
        assert targets(part) == [[None if label is None else int(label) for label in y[i]] for i in first]


def test_labels_of_steps_that_were_cut_off_are_not_told_of():
    x = np.ones((2, 3, 1))
    schema = read((x, [["a", "b", "a"], ["b", "a", "a"]]), per_step=True, max_length=2).schema
    part, warnings = load_part((x, [["a", "b", "c"], ["b", "c", "a"]]), schema)
    assert targets(part) == [[0, 1], [1, -1]]
    assert warnings[-1].startswith("the data given: 1 of 4 steps have a label that training data do not have ('c')")
    _, warnings = load_part((x, [["a", "b", "c"], ["b", "b", "a"]]), schema)
    assert not any("label" in said for said in warnings)


def test_a_batch_says_which_steps_count():
    y = [["a", None, "b"], ["b", "a"]]
    data = read(([np.ones((3, 1)), np.ones((2, 1))], y), per_step=True)
    batch = collate(data.train, torch.tensor([1, 0]))
    assert batch.asked is not None
    assert batch.asked.T.tolist() == [[True, True, False], [True, False, True]]
    assert batch.targets is not None
    assert batch.targets.T[batch.asked.T].tolist() == [1, 0, 0, 1]
    whole = read(([np.ones((2, 1)), np.ones((2, 1))], [["a", "b"], ["b", "a"]]), per_step=True)
    assert collate(whole.train, torch.tensor([0, 1])).asked is None


def test_what_is_described(tmp_path: Path):
    (tmp_path / "x.csv").write_text(STEPS)
    part = describe(tmp_path / "x.csv", DataSettings()).parts["train"]
    assert part.classes == {"r": 2, "w": 4}
    assert part.asked == 6
    assert part.first[0] == "w r | 1 2"
