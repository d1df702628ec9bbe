"""A stream's rows, line by line: what each line says, what it may not say, and nothing held back."""

import gzip
import io
import json
import os
import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurra.data import lines as module
from recurra.data import load_parts
from recurra.data.lines import Fault, Lines, Row, open_lines
from recurra.data.settings import DataSettings
from recurra.errors import DataError


def read(text: str | bytes, task: str = "regress", schema: Any = None, **settings: Any) -> Lines:
    data = text.encode() if isinstance(text, str) else text
    return Lines(io.BytesIO(data), "standard input", task, DataSettings(**settings), schema)


def rows(found: Lines) -> list[Row]:
    every = list(found)
    assert all(isinstance(row, Row) for row in every), every
    return [row for row in every if isinstance(row, Row)]


def test_a_table_of_numbers() -> None:
    found = read("step,a,b,y\n0,1.5,2,3\n\n1,-1,4e-1,\n", target="y")
    assert found.schema.features == ["a", "b"]
    assert found.schema.targets == ["y"]
    assert found.notes == ["input: a, b; predicted: y; not read: step"]
    assert rows(found) == [Row(2, [1.5, 2.0], [3.0]), Row(4, [-1.0, 0.4], None)]


def test_the_columns_are_those_of_a_long_table(tmp_path: Path) -> None:
    """The same file read as a whole, by the reader of tables, gives the same columns and the same numbers."""
    text = "id,time,u,v,target\n" + "".join(f"{i % 2},{i},{i * 0.5},{-i},{i * i}\n" for i in range(8))
    (tmp_path / "t.csv").write_text(text)
    whole = load_parts(tmp_path / "t.csv", "regress", DataSettings(validation_fraction=0, test_fraction=0))
    found = read(text)
    assert found.schema.features == whole.schema.features
    assert found.schema.targets == whole.schema.targets
    for key in ("format", "header", "separator", "columns", "target", "features", "id", "time"):
        assert found.schema.settings[key] == whole.schema.settings[key], key
    by_id = sorted(rows(found), key=lambda row: row.stream)
    np.testing.assert_array_equal([row.features for row in by_id], whole.train.values.numpy())
    assert whole.train.targets is not None
    np.testing.assert_array_equal([row.target for row in by_id], whole.train.targets.numpy())


def test_one_column_is_its_own_target() -> None:
    found = read("value\n1\n2\n")
    assert found.looks_ahead
    assert (found.schema.features, found.schema.targets) == (["value"], ["next value"])
    assert [row.target for row in rows(found)] == [None, None]


def test_a_column_that_is_left_is_the_target_and_not_its_own_next_value() -> None:
    found = read("value,more\n1,2\n", features=["value"])
    assert not found.looks_ahead
    assert found.schema.targets == ["more"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a;y\n1,5;2\n3;0,25\n", [[1.5], [3.0]]),
        ("a\ty\n 1.5\t2\n3\t0\n", [[1.5], [3.0]]),
        ("a|y\r\n1|2\r\n3|0\r\n", [[1.0], [3.0]]),
        ('"a","y"\n"1","2"\n"3",0\n', [[1.0], [3.0]]),
        ("a y\n1 2\n3   0\n", [[1.0], [3.0]]),
        ("\ufeffa,y\n1,2\n3,0", [[1.0], [3.0]]),
        ("1,2\n3,0\n", [[1.0], [3.0]]),
    ],
)
def test_separators_and_marks(text: str, expected: list[list[float]]) -> None:
    target = "2" if text[0] == "1" else "y"
    found = read(text, target=target)
    assert found.schema.features == (["column_1"] if target == "2" else ["a"])
    assert [row.features for row in rows(found)] == expected


def test_a_point_and_a_comma_are_not_both_marks_of_fractions() -> None:
    found = list(read("a;y\n1;2\n1.5;2\n1,5;2\n", target="y"))
    assert found[1] == Row(3, [1.5], [2.0])
    assert isinstance(found[2], Fault)
    assert "expected a number with a decimal point" in found[2].said


def test_labels() -> None:
    text = "a,label\n1,up\n2,\n3, down \n"
    assert [row.target for row in rows(read(text, "classify", classes=["up", "down"]))] == [("up",), None, ("down",)]
    assert read(text, "classify", classes=["up", "down"]).schema.classes == ["down", "up"]


def test_labels_that_are_numbers_are_read_however_they_are_written() -> None:
    found = read("a,label\n1,1.0\n2,0\n", "classify", classes=[0, 1])
    assert [row.target for row in rows(found)] == [("1",), ("0",)]


def test_several_labels_at_once() -> None:
    settings: dict[str, Any] = {"classes": ["P", "T"], "label_separator": ";"}
    found = rows(read("a,label\n1,T;P\n2,\n3,P\n", "classify", **settings))
    assert [row.target for row in found] == [("T", "P"), (), ("P",)]
    lines = ['{"a": 1, "label": ["T", "P"]}', '{"a": 2, "label": null}', '{"a": 3, "label": "P"}']
    found = rows(read("\n".join(lines), "classify", **settings))
    assert [row.target for row in found] == [("T", "P"), None, ("P",)]


def test_objects_a_line_each() -> None:
    lines = ['{"a": 1, "b": 1.0, "n": {"x": 1}}', '{"b": 0.5, "a": "2", "y": 7}', '{"y": null, "a": 3, "b": 1}']
    found = read("\n".join(lines), target="y", ignore=["n"])
    assert rows(found) == [Row(1, [1.0, 1.0], None), Row(2, [2.0, 0.5], [7.0]), Row(3, [3.0, 1.0], None)]


def test_ids_and_resets() -> None:
    found = read("id,a,new,y\nx,1,0,1\ny,2,1,1\nx,3,true,1\n", target="y", reset="new")
    (unsaid,) = rows(read("a,new,y\n1,,1\n", target="y", reset="new"))
    assert not unsaid.reset
    assert [(row.stream, row.reset) for row in rows(found)] == [("x", False), ("y", True), ("x", True)]
    assert found.schema.features == ["a"]


BLANK = "column 'a': found 'nan', expected a finite number (a missing value? fill it in, or leave the row out)."
BAD = [
    ("x,2\n", "column 'a': found 'x', expected a number."),
    (
        "nan,2\n",
        "column 'a': found 'nan', expected a finite number (a missing value? fill it in, or leave the row out).",
    ),
    ("1e39,2\n", "column 'a': found '1e39', expected a finite number that fits 32 bits."),
    ("1_0,2\n", "column 'a': found '1_0', expected a number."),
    (",2\n", "column 'a': is empty, expected a number."),
    ("1,2,3\n", "3 cells found, 2 expected (cells parted by commas)."),
    ("1\n", "1 cells found, 2 expected (cells parted by commas)."),
    ("1,x\n", "column 'y': found 'x', expected a number."),
    ('"1,2\n', "a quote opens here that never closes."),
    (b"\xff,2\n", "byte 0 (ff 2c 32 0a) is not utf-8."),
]


@pytest.mark.parametrize(("line", "said"), BAD, ids=[said for _, said in BAD])
def test_a_line_that_cannot_be_read_is_told_and_the_next_is_read(line: str | bytes, said: str) -> None:
    data = b"a,y\n0,0\n\n" + (line.encode() if isinstance(line, str) else line) + b"5,6\n"
    place = "standard input, line 4"
    joined = f"{place}, {said}" if said.startswith("column") else f"{place}: {said}"
    assert list(read(data, target="y")) == [Row(2, [0.0], [0.0]), Fault(4, joined), Row(5, [5.0], [6.0])]


BAD_OBJECTS = [
    ("{", "standard input, line 2: not JSON: expecting property name enclosed in double quotes (character 2)."),
    ("[1]", "standard input, line 2: found '[1]', expected a JSON object, a line each."),
    ('{"y": 1}', "standard input, line 2, column 'a': is missing, expected a number."),
    ('{"a": null, "y": 1}', "standard input, line 2, column 'a': is empty, expected a number."),
    ('{"a": true, "y": 1}', "standard input, line 2, column 'a': found 'true', expected a number."),
    ('{"a": 1, "y": false}', "standard input, line 2, column 'y': found 'false', expected a number."),
    ('{"a": 1, "y": 1, "a": 2}', "standard input, line 2: the key 'a' is there twice."),
    ('{"a": [1], "y": 1}', "standard input, line 2, column 'a': found '[1]', expected a number."),
    ('{"a": NaN, "y": 1}', "standard input, line 2, column 'a': found 'nan', expected a finite number (a missing"),
    (f'{{"a": 1{"0" * 400}, "y": 1}}', "standard input, line 2, column 'a': found '1000"),
    (f'{{"a": 1{"0" * 5000}, "y": 1}}', "standard input, line 2: JSON that cannot be read: Exceeds the limit"),
    ('{"a": 1, "yy": 1}', "standard input, line 2: unknown column 'yy'; did you mean 'y'? Known: a, y"),
    ("[" * 100_000, "standard input, line 2: JSON that cannot be read: maximum recursion depth exceeded"),
]


@pytest.mark.parametrize(("line", "said"), BAD_OBJECTS, ids=[said[:60] for _, said in BAD_OBJECTS])
def test_an_object_that_cannot_be_read_is_told(line: str, said: str) -> None:
    found = list(read(f'{{"a": 1, "y": 2}}\n{line}\n{{"a": 3, "y": 4}}\n', target="y"))
    assert isinstance(found[1], Fault)
    assert found[1].said.startswith(said)
    assert found[2] == Row(3, [3.0], [4.0])


def test_an_object_without_an_id_or_without_one_of_several_targets_is_told() -> None:
    lines = ['{"id": "p", "a": 1, "y": 2, "z": 3}', '{"a": 1, "y": 2, "z": 3}', '{"id": "p", "a": 1, "y": 2}']
    _, *faults = read("\n".join(lines), target=["y", "z"])
    assert faults == [
        Fault(2, "standard input, line 2, column 'id': is missing, expected the id of a stream."),
        Fault(3, "standard input, line 3, column 'z': is missing, expected a number."),
    ]


def test_keys_that_come_later_are_no_fault_where_the_features_are_named() -> None:
    found = read('{"a": 1, "y": 2}\n{"a": 1, "y": 2, "z": 0}\n', target="y", features=["a"])
    assert len(rows(found)) == 2


@pytest.mark.parametrize(
    ("text", "settings", "said"),
    [
        ("\n \n", {}, "standard input: has no line that is not blank."),
        ("a,y\n", {}, "standard input: has a header (a, y) but no row."),
        ("a,b,y\n1,2\n", {}, "standard input, line 2: 2 cells found, and the header names 3 columns"),
        ("a,b\n1,2\n", {}, "standard input: no column is clearly the number to predict."),
        ("a,yy\n1,2\n", {"target": "y"}, "data.target names a column 'y' that is not there"),
        ("a,y\n1,2\n", {"target": "y", "reset": "b"}, "data.reset names a column 'b' that is not there"),
        ("a,y\n1,2\n", {"encoding": "utf-16"}, "data.encoding: 'utf-16' has no lines that end as those of a stream"),
        ("a,y\n1,2\n", {"encoding": "rot13"}, "data.encoding: 'rot13' has no lines"),
        ("a,word,y\n1,x,2\n", {}, "standard input, line 2: column 'word' holds 'x', not numbers; leave it out with"),
        ('{"a": true, "y": 1}\n', {}, "standard input, line 1: column 'a' holds 'true', not numbers; leave it out"),
        ('{"a": 1, "b": 2}\n', {}, "standard input, line 1: no column is clearly the number to predict."),
        ("1,2,3\n", {"columns": ["a", "y"]}, "line 1: data.columns gives 2 names, but the row has 3 cells."),
        ("[1]\n", {}, "found '[1]', expected a JSON object, a line each."),
    ],
)
def test_first_lines_that_settle_nothing(text: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError) as caught:
        read(text, **settings)
    assert said in str(caught.value)


SKIPPED: dict[str, tuple[str | bytes, dict[str, Any], list[str]]] = {
    "a word": ("a,b,y\nx,1,2\n1,2,3\n", {}, ["line 2, column 'a': found 'x', expected a number."]),
    "a cell too few": ("a,b,y\n1,2\n1,2,3\n", {}, ["line 2: 2 cells found, 3 expected"]),
    "a quote that does not close": ('a,b,y\n"1,2,3\n1,2,3\n', {}, ["line 2: a quote opens here"]),
    "other bytes": (b"a,b,y\n1,\xff,2\n1,2,3\n", {}, ["line 2: byte 2 (ff 2c 32 0a) is not utf-8."]),
    "several": ("a,b,y\n\nx,1,2\n?\n1,2,3\n", {}, ["line 3, column 'a': found 'x'", "line 4: 1 cells found"]),
    "names that only a good row tells from cells": ("u,v,w\nx,-,?\n1,2,3\n", {"target": "w"}, ["line 2, column 'u'"]),
    "no header": ("x,2,3\n1,2,3\n", {"target": "3", "header": False}, ["line 1, column 'column_1': found 'x'"]),
    "columns named": ("1,2\n1,2,3\n", {"columns": ["a", "b", "y"]}, ["line 1: 2 cells found, 3 expected"]),
    "JSON cut short": ('{"a": 1, "b"\n{"a": 1, "b": 2, "y": 3}\n', {}, ["line 1: not JSON"]),
    "JSON without its beginning": ('2, "y": 3}\n{"a": 1, "b": 2, "y": 3}\n', {}, ["line 1: not JSON"]),
    "bytes before JSON": (b'\xff\n{"a": 1, "b": 2, "y": 3}\n', {}, ["line 1: byte 0 (ff 0a) is not utf-8."]),
    "JSON of a list": ('[1]\n{}\n{"a": 1, "b": 2, "y": 3}\n', {}, ["line 1: found '[1]'", "line 2, column 'a': is mi"]),
    "JSON without a column": (
        '{"a": 1}\n{"a": 1, "b": 2, "y": 3}\n',
        {"features": ["a", "b"], "target": "y"},
        ["line 1, column 'b': is missing, expected a number."],
    ),
}


@pytest.mark.parametrize("case", SKIPPED)
def test_where_bad_lines_are_skipped_the_first_good_row_settles_the_columns(case: str) -> None:
    text, settings, said = SKIPPED[case]
    with pytest.raises(DataError, match=r"line [123]|'w' that is not there"):
        list(map(_good, read(text, **settings)))
    *faults, row = read(text, bad_lines="skip", **settings)
    assert isinstance(row, Row)
    assert (row.features, row.target) == ([1, 2], [3])
    for fault, words in zip(faults, said, strict=True):
        assert isinstance(fault, Fault)
        assert fault.said.startswith(f"standard input, {words}")


def _good(row: Row | Fault) -> Row:
    if isinstance(row, Fault):
        raise DataError(row.said)
    return row


@pytest.mark.parametrize(
    ("text", "settings", "said"),
    [
        ("a,word,y\n" + "1,x,2\n" * 9, {}, "standard input, line 2: column 'word' holds 'x', not numbers"),
        ("a,b,y\n1,2\n", {}, "standard input, line 2: 2 cells found, and the header names 3 columns"),
        ('{"a"\n{"b"\n', {}, "standard input, line 1: not JSON"),
        ('{"b": 1, "y": 2}\n' * 9, {"features": ["a"]}, "line 1: data.features names a column 'a' that is not there"),
        (b"\xff,y\n1,2\n", {}, "standard input, line 1: byte 0"),
        ("a,y\n" + "x,1\n" * module.TRIED + "1,1\n", {}, "standard input, line 2: column 'a' holds 'x'"),
    ],
)
def test_where_no_row_settles_the_columns_the_first_bad_one_is_told(
    text: str | bytes, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError) as caught:
        read(text, bad_lines="skip", **settings)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("first", "rest"),
    [
        ("a,y\n1,2\n", b'"3,4\n5,6\n'),
        ("a,y\n1,2\n", b"\xff\n5,6\n"),
        ('{"a": 1, "y": 2}\n', b': 3, "y": 4}\n{"a": 5, "y": 6}\n'),
    ],
)
def test_a_stream_that_goes_on_may_begin_with_a_bad_line(first: str, rest: bytes) -> None:
    schema = read(first, target="y").schema
    with pytest.raises(DataError, match="line 1"):
        read(rest, schema=schema)
    fault, row = read(rest, schema=schema, bad_lines="skip")
    assert isinstance(fault, Fault)
    assert row == Row(2, [5.0], [6.0])


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (None, "the labels that there are must be known before they come: --set 'data.classes="),
        (["a"], "data.classes: 1 found, expected at least two"),
        (["a", "b", "a"], "data.classes: 'a' is there twice"),
    ],
)
def test_classes_are_known_ahead(classes: list[str] | None, said: str) -> None:
    with pytest.raises(DataError) as caught:
        read("x,label\n1,a\n", "classify", classes=classes)
    assert said in str(caught.value)


def test_a_label_that_nobody_named_is_a_fault() -> None:
    (fault,) = read("x,label\n1,downn\n", "classify", classes=["up", "down"])
    assert isinstance(fault, Fault)
    assert fault.said.endswith("column 'label': unknown label 'downn'; did you mean 'down'? Known: down, up")


@pytest.mark.parametrize("header", ["", "y,extra,a\n"])
def test_a_stream_that_goes_on_may_bring_its_header_again_in_another_order(header: str) -> None:
    schema = read("a,y\n1,2\n", target="y").schema
    text = "3,4\n" if not header else f"{header}4,9,3\n"
    assert rows(read(text, schema=schema))[0].features == [3.0]
    assert rows(read(text, schema=schema))[0].target == [4.0]


def test_a_stream_goes_on_as_it_began() -> None:
    schema = read('{"a": 1, "y": 2}\n', target="y").schema
    with pytest.raises(DataError, match="line 1: this is CSV, and the stream began as JSON Lines"):
        read("a,y\n1,2\n", schema=schema)
    assert rows(read('{"y": 1, "a": 2}\n', schema=schema)) == [Row(1, [2.0], [1.0])]


def test_rows_are_passed_over() -> None:
    found = read("a,y\n1,1\nbad\n\n3,3\n4,4\n", target="y")
    assert found.skip(3) == 3
    assert rows(found) == [Row(6, [4.0], [4.0])]
    assert found.skip(2) == 0


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_every_row_is_there_as_soon_as_its_line_is(kind: str) -> None:
    """Written to a pipe that stays open: a reader that waited for more would wait for ever."""
    out, into = os.pipe()

    def send(value: int) -> None:
        line = f"{value},{value}\n" if kind == "csv" else json.dumps({"a": value, "y": value}) + "\n"
        os.write(into, line.encode())

    with os.fdopen(out, "rb") as binary, os.fdopen(into, "wb", buffering=0):
        if kind == "csv":
            os.write(into, b"a,y\n")
        send(0)
        with open_lines(binary, "regress", DataSettings(target="y")) as found:
            for value in range(5):
                if value:
                    send(value)
                row = next(found)
                assert isinstance(row, Row)
                assert row.features == [float(value)]


def test_a_named_pipe_and_a_packed_file_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"a,y\n1,2\n",))
    writer.start()
    with open_lines(str(tmp_path / "pipe"), "regress", DataSettings(target="y")) as found:
        assert rows(found) == [Row(2, [1.0], [2.0])]
    writer.join()
    drawn = random.Random(0)
    text = "a,y\n" + "".join(f"{drawn.random()},{drawn.random()}\n" for _ in range(20_000))
    packed = gzip.compress(text.encode())
    (tmp_path / "t.csv.gz").write_bytes(packed)
    with open_lines(str(tmp_path / "t.csv.gz"), "regress", DataSettings(target="y")) as found:
        assert len(rows(found)) == 20_000
    (tmp_path / "cut.csv.gz").write_bytes(packed[: len(packed) // 2])
    with (
        open_lines(str(tmp_path / "cut.csv.gz"), "regress", DataSettings(target="y")) as found,
        pytest.raises(DataError, match=r"cut\.csv\.gz: the gzip data are cut short"),
    ):
        list(found)


def test_a_line_without_end_is_not_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST", 100)
    found = read("a,y\n1,2\n" + "1" * 200 + ",2\n1,2\n", target="y")
    next(found)
    with pytest.raises(DataError, match="line 3: is longer than"):
        next(found)


@given(st.binary(max_size=200))
def test_whatever_comes_is_a_row_or_a_fault_or_a_clear_error(data: bytes) -> None:
    for text in (data, b"a,y\n1,2\n" + data, b'{"a": 1, "y": 2}\n' + data):
        try:
            found = list(read(text, target="y"))
        except DataError:
            continue
        assert all(isinstance(row, Row | Fault) for row in found)
