"""Tables as people really have them: what must come out, and every fault told by file, line and column."""

import bz2
import gzip
import io
import lzma
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurra.data import DataSettings, Schema, load_part, load_parts
from recurra.data.load import choose_format
from recurra.data.records import Records
from recurra.data.table import read_frame
from recurra.errors import DataError

ALL = DataSettings(validation_fraction=0, test_fraction=0)


def read(folder: Path, content: str | bytes, task: str = "classify", name: str = "mine.csv", **options: Any) -> Records:
    """Write a file and read it in the format that its content tells of."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    settings = DataSettings(**options)
    return choose_format(path, task, settings).read(path, task, settings, None)


def sequences(records: Records) -> list[list[Any]]:
    """The sequences as lists: numbers where there is one a step, else rows."""
    values = records.values[:, 0] if records.values.shape[1] == 1 else records.values
    return [
        values[a:b].tolist() for a, b in zip(records.offsets[:-1].tolist(), records.offsets[1:].tolist(), strict=True)
    ]


def labels(records: Records) -> list[str]:
    assert records.labels is not None
    return [";".join(row) for row in records.labels]


CATS = ([[1.5, 2.5, 3.25], [0.5, 1, 2]], ["cat", "dog"])
WIDE = {
    "header, label first": ("label,t0,t1,t2\ncat,1.5,2.5,3.25\ndog,0.5,1,2\n", {}, CATS),
    "label last": ("t0,t1,t2,kind\n1.5,2.5,3.25,cat\n0.5,1,2,dog\n", {}, CATS),
    "label in the middle": ("t0,Class,t1,t2\n1.5,cat,2.5,3.25\n0.5,dog,1,2\n", {}, CATS),
    "no header": ("cat,1.5,2.5,3.25\ndog,0.5,1,2\n", {}, CATS),
    "no newline at the end": ("label,t0,t1,t2\ncat,1.5,2.5,3.25\ndog,0.5,1,2", {}, CATS),
    "Excel: mark, semicolons, decimal commas, CRLF, empty rows": (
        "\ufefflabel;t0;t1;t2\r\ncat;1,5;2,5;3,25\r\n;;;\r\ndog;0,5;1;2\r\n;;;\r\n\r\n",
        {},
        CATS,
    ),
    "tabs": ("label\tt0\tt1\tt2\ncat\t1.5\t2.5\t3.25\ndog\t0.5\t1\t2\n", {}, CATS),
    "tabs and decimal commas": ("label\tt0\tt1\tt2\ncat\t1,5\t2,5\t3,25\ndog\t0,5\t1\t2\n", {}, CATS),
    "pipes": ("label|t0|t1|t2\ncat|1.5|2.5|3.25\ndog|0.5|1|2\n", {}, CATS),
    "blanks": ("label  t0   t1  t2\ncat    1.5  2.5 3.25\n dog   0.5  1   2\n", {}, CATS),
    "old line ends": ("label,t0,t1,t2\rcat,1.5,2.5,3.25\rdog,0.5,1,2\r", {}, CATS),
    "quoted header and blanks after commas": (
        '"label", "t 0", "t 1", t2\ncat, 1.5, 2.5, 3.25\ndog, .5, 1, 2\n',
        {},
        CATS,
    ),
    "quoted cells": ('"label","t0","t1","t2"\n"cat","1.5","2.5","3.25"\n"dog","0.5","1","2"\n', {}, CATS),
    "exponents and signs": ("label,t0,t1,t2\ncat,15e-1,+2.5,3.25E0\ndog,.5,1.,2\n", {}, CATS),
    "pandas' index": (",label,t0,t1,t2\n0,cat,1.5,2.5,3.25\n1,dog,0.5,1,2\n", {}, CATS),
    "pandas' index, saved twice": (",Unnamed: 0,label,t0,t1,t2\n0,0,cat,1.5,2.5,3.25\n1,1,dog,0.5,1,2\n", {}, CATS),
    "pandas' numbered columns": ("0,1,2,label\n1.5,2.5,3.25,cat\n0.5,1,2,dog\n", {}, CATS),
    "R's row names": ('"t0","t1","t2","y"\n"1",1.5,2.5,3.25,"cat"\n"2",0.5,1,2,"dog"\n', {}, CATS),
    "a comma at the end of every line": ("label,t0,t1,t2,\ncat,1.5,2.5,3.25,\ndog,0.5,1,2,\n", {}, CATS),
    "a comma at the end of every line but the header": ("label,t0,t1,t2\ncat,1.5,2.5,3.25,\ndog,0.5,1,2,\n", {}, CATS),
    "a comma at the end of the header": ("label,t0,t1,t2,\ncat,1.5,2.5,3.25\ndog,0.5,1,2\n", {}, CATS),
    "an id": ("filename,label,t0,t1,t2\na.wav,cat,1.5,2.5,3.25\nb.wav,dog,0.5,1,2\n", {}, CATS),
    "years as names": ("country,2019,2020,2021\ncat,1.5,2.5,3.25\ndog,0.5,1,2\n", {}, CATS),
    "names of a series and one that is none": ("t_1,t_2,t_3,what\n1.5,2.5,3.25,cat\n0.5,1,2,dog\n", {}, CATS),
    "subjects that rows share": (
        "subject,t0,t1,t2,Activity\n1,1.5,2.5,3.25,cat\n2,0.5,1,2,dog\n2,0.5,1,2,dog\n",
        {},
        ([*CATS[0], CATS[0][1]], ["cat", "dog", "dog"]),
    ),
    "the same name again": ("label,v,v,v\ncat,1.5,2.5,3.25\ndog,0.5,1,2\n", {}, CATS),
    "a target named": ("a,b,c,d\n1.5,cat,2.5,3.25\n0.5,dog,1,2\n", {"target": "b"}, CATS),
    "a target named in other case": ("a,B,c,d\n1.5,cat,2.5,3.25\n0.5,dog,1,2\n", {"target": "b"}, CATS),
    "a target by its number": ("1.5,2.5,3.25,7\n0.5,1,2,7\n", {"target": "-1"}, (CATS[0], ["7", "7"])),
    "columns named": ("1.5,2.5,3.25,7\n0.5,1,2,8\n", {"columns": ["a", "b", "c", "y"]}, (CATS[0], ["7", "8"])),
    "features named, in another order": (
        "a,b,c,d,y\n2.5,1.5,9,3.25,cat\n1,0.5,9,2,dog\n",
        {"features": ["b", "a", "d"]},
        CATS,
    ),
    "a column left out": ("y,city,t0,t1,t2\ncat,Rome,1.5,2.5,3.25\ndog,Oslo,0.5,1,2\n", {"ignore": ["city"]}, CATS),
    "whole numbers as labels, written as fractions": ("y,a,b\n1.0,3,4\n2.0,5,6\n", {}, ([[3, 4], [5, 6]], ["1", "2"])),
    "numbers with leading zeros as labels": ("y,a,b\n01,3,4\n02,5,6\n", {}, ([[3, 4], [5, 6]], ["01", "02"])),
    "no header, numeric labels last": (
        "0.1,1,0\n0.2,2,0\n0.3,3,1\n0.4,4,1\n",
        {},
        (
            [[np.float32(0.1), 1], [np.float32(0.2), 2], [np.float32(0.3), 3], [np.float32(0.4), 4]],
            ["0", "0", "1", "1"],
        ),
    ),
    "no header, an index, numeric labels last": (
        "0,0.5,0\n1,1.5,0\n2,2.5,1\n3,3.5,1\n4,4.5,1\n",
        {},
        ([[0.5], [1.5], [2.5], [3.5], [4.5]], ["0", "0", "1", "1", "1"]),
    ),
    "unequal lengths": ("label,t0,t1,t2\na,1,2,3\nb,1,2,\nc,1,,\n", {}, ([[1, 2, 3], [1, 2], [1]], ["a", "b", "c"])),
    "channels": (
        "label,x_0,x_1,y_0,y_1\na,1,2,3,4\nb,5,6,7,8\n",
        {},
        ([[[1, 3], [2, 4]], [[5, 7], [6, 8]]], ["a", "b"]),
    ),
    "channels in turn": (
        "acc.1,gyr.1,acc.2,gyr.2,label\n1,3,2,4,a\n5,7,6,8,b\n",
        {},
        ([[[1, 3], [2, 4]], [[5, 7], [6, 8]]], ["a", "b"]),
    ),
    "channels of unequal lengths": (
        "label,x_0,x_1,y_0,y_1\na,1,2,3,4\nb,5,,7,\n",
        {},
        ([[[1, 3], [2, 4]], [[5, 7]]], ["a", "b"]),
    ),
    "names that are no channels": (
        "label,jan_2019,feb_2019,jan_2020,feb_2020\na,1,2,3,4\nb,5,6,7,8\n",
        {},
        ([[1, 2, 3, 4], [5, 6, 7, 8]], ["a", "b"]),
    ),
    "several labels": (
        "label,t0,t1\na;b,1,2\nb; a;,3,4\n,5,6\n",
        {"label_separator": ";"},
        ([[1, 2], [3, 4], [5, 6]], ["a;b", "b;a", ""]),
    ),
}


@pytest.mark.parametrize("case", WIDE)
def test_wide(tmp_path: Path, case: str):
    content, options, (values, expected) = WIDE[case]
    records = read(tmp_path, content, **options)
    assert records.settings["format"] == "wide"
    assert sequences(records) == values
    assert labels(records) == expected
    assert records.values.dtype == np.float32


LONG = {
    "id, time, values, label": "id,time,x,y,label\nA,0,1,2,w\nA,1,3,4,w\nB,0,5,6,r\n",
    "rows in any order": "id,time,x,y,label\nA,1,3,4,w\nB,0,5,6,r\nA,0,1,2,w\n",
    "dates": "label,series,date,x,y\nw,A,2024-02-01,3,4\nw,A,2024-01-31,1,2\nr,B,2023-01-01,5,6\n",
    "dates and times": "label,unit_id,timestamp,x,y\n"
    "w,A,2024-01-31T10:00:00Z,3,4\nw,A,2024-01-31 09:59:59.5,1,2\nr,B,2024-01-31,5,6\n",
    "months": "label;series;month;x;y\nw;A;2024-02;3;4\nw;A;2023-12;1;2\nr;B;2024-01;5;6\n",
    "times beyond float32": "id,t,x,y,label\nA,1700000000.002,3,4,w\nA,1700000000.001,1,2,w\nB,0,5,6,r\n",
    "no time: the order of the file": "sample,x,y,label\nA,1,2,w\nA,3,4,w\nB,5,6,r\n",
    "pandas' index": ",id,time,x,y,label\n0,A,0,1,2,w\n1,A,1,3,4,w\n2,B,0,5,6,r\n",
    "pandas' index, named": "Unnamed: 0,id,time,x,y,label\n0,A,0,1,2,w\n1,A,1,3,4,w\n2,B,0,5,6,r\n",
    "a label by its content": "id,time,x,y,activity\nA,0,1,2,w\nA,1,3,4,w\nB,0,5,6,r\n",
}


@pytest.mark.parametrize("case", LONG)
def test_long(tmp_path: Path, case: str):
    records = read(tmp_path, LONG[case])
    assert records.settings["format"] == "long"
    assert sequences(records) == [[[1, 2], [3, 4]], [[5, 6]]]
    assert labels(records) == ["w", "r"]
    assert records.ids == ["A", "B"]
    assert records.features == ["x", "y"]


def grouped(ids: int, rows: int, columns: list[str], label: Callable[[int, int], str], apart: bool = False) -> str:
    """A table without a column of times; the rows of an id stand together, or are dealt out in turn."""
    order = [(i, t) for i in range(ids) for t in range(rows)]
    order = sorted(order, key=lambda at: at[1]) if apart else order
    lines = [f"i{i},{','.join(f'{i + t + k}.5' for k in range(len(columns)))},{label(i, t)}" for i, t in order]
    return "\n".join([f"id,{','.join(columns)},label", *lines]) + "\n"


def by_id(i: int, t: int) -> str:
    return "ab"[i % 2]


def mistyped(i: int, t: int) -> str:
    return "c" if (i, t) == (3, 2) else by_id(i, t)


def by_step(i: int, t: int) -> str:
    return "ab"[(i + t) % 2]


TIMES = [f"t{k}" for k in range(12)]
BOTH = "--set data.format=long or wide says which."
SHARED = {
    "a label an id": (grouped(6, 4, ["u", "v"], by_id), {}, "long", 6, None),
    "a label an id, dealt out": (grouped(6, 4, ["u", "v"], by_id, True), {}, "long", 6, None),
    "an id beyond the first rows": (grouped(2, 300, ["u", "v"], by_id), {}, "long", 2, None),
    "labels of steps": (
        grouped(6, 4, ["u"], by_step),
        {},
        "long",
        6,
        "rows that share their 'id' are read as the steps",
    ),
    "labels of steps, as said": (grouped(6, 4, ["u"], by_step), {"per_step": True}, "long", 6, None),
    "labels of steps, dealt out": (
        grouped(6, 4, ["u"], by_step, True),
        {},
        "wide",
        24,
        "each is read as a sequence of",
    ),
    "few steps as columns": (grouped(6, 4, TIMES[:3], by_step), {}, "long", 6, "are read as the steps of one"),
    "steps as columns": (
        grouped(6, 20, TIMES, by_step),
        {},
        "wide",
        120,
        "each is read as a sequence of its own (wide)",
    ),
    "steps as columns, few labels": (grouped(6, 4, TIMES, mistyped), {}, "wide", 24, "each is read as a sequence of"),
    "columns without numbers": (
        grouped(6, 4, list("abcdefgh"), by_step),
        {},
        "long",
        6,
        "are read as the steps of one",
    ),
    "wide, as said": (grouped(6, 4, ["u"], by_step), {"format": "wide"}, "wide", 24, None),
    "long, as said": (grouped(6, 20, TIMES, by_id), {"format": "long"}, "long", 6, None),
    "an id that two rows share": (
        "id,u,v,label\n" + "p,1,2,a\nq,1,2,b\nr,1,2,a\ns,1,2,b\np,1,2,b\n",
        {},
        "wide",
        5,
        None,
    ),
}


@pytest.mark.parametrize("case", SHARED)
def test_rows_that_share_an_id_without_a_time(tmp_path: Path, case: str):
    content, options, format, count, said = SHARED[case]
    records = read(tmp_path, content, **options)
    assert records.settings["format"] == format
    assert len(records) == count
    told = [warning for warning in records.warnings if warning.endswith(BOTH)]
    assert len(told) == (said is not None)
    assert all(said in warning for warning in told if said)


@pytest.mark.parametrize("columns", [["u", "v"], TIMES])
def test_one_mistyped_label_of_a_table_without_a_time_is_told(tmp_path: Path, columns: list[str]):
    """Whatever the columns are called: with more rows an id than columns, they are no steps."""
    text = grouped(6, 20, columns, mistyped)
    place = "'label' changes within sequence 'i3', from 'b' in line 62 to 'c' in line 64; classify needs one"
    with pytest.raises(DataError, match=rf"{place}.*per_step=true; where each row is a .*data\.format=wide\.$"):
        read(tmp_path, text)
    with pytest.raises(DataError, match=rf"{place}.*data\.per_step=true\.$"):
        read(tmp_path, text, per_step=False)


def test_one_label_a_sequence_may_be_asked_for_of_rows_that_are_dealt_out(tmp_path: Path):
    with pytest.raises(DataError, match="'label' changes within sequence 'i3'"):
        read(tmp_path, grouped(6, 4, ["u", "v"], mistyped, True), per_step=False)


def test_numbers_that_change_within_an_id_are_those_of_steps(tmp_path: Path):
    records = read(tmp_path, "id,u,y\np,1,2\np,2,3\nq,1,5\nq,2,5\n", "regress")
    assert records.settings["format"] == "long"
    assert records.per_step
    assert [warning for warning in records.warnings if warning.endswith(BOTH)]


def test_long_sequences_stand_in_the_order_of_their_first_rows(tmp_path: Path):
    records = read(tmp_path, "id,time,x,label\nB,1,3,r\nA,0,1,w\nB,0,2,r\n")
    assert records.ids == ["B", "A"]
    assert sequences(records) == [[2, 3], [1]]
    assert records.place(0) == f"{tmp_path / 'mine.csv'}, sequence 'B' (line 4)"


def test_long_by_named_columns(tmp_path: Path):
    records = read(
        tmp_path, "who,when,x,what\nA,1,3,w\nA,0,1,w\nB,0,5,r\n", id="who", time="when", target="what", ignore=[]
    )
    assert sequences(records) == [[1, 3], [5]]


def test_long_regress_finds_whether_the_target_varies(tmp_path: Path):
    constant = read(tmp_path, "id,time,x,target\nA,0,1,7\nA,1,3,7\nB,0,5,8.5\n", "regress")
    assert not constant.per_step
    assert constant.numbers is not None
    assert constant.numbers.tolist() == [[7], [8.5]]
    varying = read(tmp_path, "id,time,x,target\nA,1,3,7\nA,0,1,6\nB,0,5,8.5\n", "regress")
    assert varying.per_step
    assert varying.numbers is not None
    assert varying.numbers.tolist() == [[6], [7], [8.5]]


def test_regress_several_targets(tmp_path: Path):
    records = read(tmp_path, "a,b,u,v\n1,2,0.5,3\n3,4,0.7,4\n", "regress", target=["v", "u"])
    assert records.targets == ["v", "u"]
    assert records.numbers is not None
    assert records.numbers.tolist() == [[3, 0.5], [4, 0.7]]
    assert sequences(records) == [[1, 2], [3, 4]]


def test_one_sequence_without_an_id(tmp_path: Path):
    records = read(tmp_path, "time,u,y\n0,1,2\n1,3,4\n", "regress", format="long")
    assert sequences(records) == [[1, 3]]
    assert records.per_step
    assert records.place(0) == f"{tmp_path / 'mine.csv'}, line 2"


FAULTS = {
    "ragged, short": ("label,t0,t1\na,1,2\nb,1\n", {}, "line 3: 2 cells found, 3 expected (cells parted by commas)."),
    "ragged, twice": ("label,t0,t1\na,1,2\nb,1\nb,1,2,3\n", {}, "line 3: 2 cells found, 3 expected"),
    "not a number, twice": ("label,t0,t1\na,1,2\nb,1,2x\nb,x,1\n", {}, "line 3, column 't1': found '2x'"),
    "ragged, long": ("label,t0,t1\na,1,2\n\nb,1,2,3\n", {}, "line 4: 4 cells found, 3 expected"),
    "ragged, quoted": ('"label",t0,t1\n"a",1,2\n"b",1\n', {}, "line 3: 2 cells found, 3 expected"),
    "header too short": ("label,t0\na,1,2,3\nb,1,2,3\n", {}, "the header names 2 columns, but the rows have 4 cells"),
    "not a number": (
        "label,t0,t1\na,1,2\nb,1,2x\n",
        {},
        "line 3, column 't1': found '2x', expected a number.",
    ),
    "not a number, quoted": (
        'label,t0,t1\n"a",1,2\n"a\nb",1,2\n"b",1,2x\n',
        {},
        "line 5, column 't1': found '2x', expected a number.",
    ),
    "nan": ("label,t0,t1\na,1,2\nb,nan,2\n", {}, "line 3, column 't0': found 'nan', expected a finite number"),
    "inf": ("label,t0,t1\na,1,2\nb,-inf,2\n", {}, "line 3, column 't0': found '-inf', expected a finite number"),
    "NA": ("label,t0,t1\na,1,2\nb,NA,2\n", {}, "line 3, column 't0': found 'NA', expected a finite number (a missing"),
    "too large": ("label,t0,t1\na,1,2\nb,1e39,2\n", {}, "line 3, column 't0': found '1e39', expected a finite number"),
    "a decimal comma": (
        "label;t0;t1\na;1.5;2\nb;1,5;2\n",
        {},
        "line 3, column 't0': found '1,5', expected a number with",
    ),
    "empty in the middle": ("label,t0,t1\na,1,2\nb,,2\n", {}, "line 3, column 't0': is empty in the middle"),
    "empty in one channel": ("label,x_0,x_1,y_0,y_1\na,1,2,3,4\nb,1,2,3,\n", {}, "line 3, column 'y_1': is empty in"),
    "no step": ("label,t0,t1\na,1,2\nb,,\n", {}, "line 3: the sequence has no step"),
    "empty label": ("label,t0,t1\na,1,2\n,1,2\n", {}, "line 3, column 'label': the label is empty"),
    "header alone": ("label,t0,t1\n", {}, "has a header (label, t0, t1) but no row."),
    "unclear target": ("a,b,c\n1.5,2,3\n1,2,3.5\n", {}, "no column is clearly the label. Columns: a, b, c."),
    "two columns of words": (
        "a,b,c,d\np,2,3,r\nq,4,5,s\n",
        {},
        "no column is clearly the label. Columns: a, d. Name it: --set data",
    ),
    "two columns of names": (
        "name,t0,t1,t2,file\np,2,3,1,r\np,4,5,2,r\nq,4,6,3,s\n",
        {},
        "no column is clearly the label. Columns: name, file. Name it: --set data",
    ),
    "two names of targets": (
        "class,b,label\n1,2,3\n2,2,4\n",
        {},
        "no column is clearly the label. Columns: class, label.",
    ),
    "unclear target without header": (
        "1,0.5,1\n1,0.7,2\n2,0.5,2\n2,0.7,1\n",
        {},
        "whether the first or the last column is the label is not clear.",
    ),
    "no such target": ("a,b\n1,x\n2,y\n", {"target": "lable"}, "data.target names a column 'lable' that is not there"),
    "no such feature": ("sepal,b\n1,x\n2,y\n", {"features": ["sepla"]}, "did you mean 'sepal'? Columns: sepal, b."),
    "target as feature": (
        "a,b\n1,x\n2,y\n",
        {"features": ["a", "b"], "target": "b"},
        "'b' is both in data.target and in",
    ),
    "words as input": ("y,a,b\n1,2,Rome\n2,3,Oslo\n", {}, "column 'b' holds 'Rome', not numbers; leave it out with"),
    "no input": ("y,a,b\np,2,3\nq,3,4\n", {"ignore": ["a", "b"]}, "no column is left as input."),
    "names that do not fit": (
        "1,2,p\n3,4,q\n",
        {"columns": ["a", "b"]},
        "data.columns gives 2 names, but the rows have 3",
    ),
    "no separator": ("label,t0\na,1\nb,2\n", {"separator": "::"}, "data.separator: '::' is not a separator"),
    "several target columns": ("a,b,c\n1,p,q\n", {"target": ["b", "c"]}, "names 2 columns, but classify has one"),
    "a quote that does not close": ('label,t0\na,1\n"b,2\n', {}, "line 3: a quote opens here that never closes."),
    "a quote that closes early": (
        'label,t0\na,1\n"b"b,2\n',
        {},
        "line 3: a quoted cell goes on after its closing quote",
    ),
    "something in a nameless column": (
        "label,t0,\n" + "a,1,\n" * 1200 + "b,1,9\n",
        {},
        "line 1202, column 3: found '9', expected nothing",
    ),
    "latin-1": (
        "label,t0\na,1\né,2\n".encode("latin-1"),
        {},
        "line 3: byte 13 (e9) is not utf-8; if it is latin-1, convert it",
    ),
    "long: a time twice": (
        "id,time,x,label\nA,0,1,w\nB,0,1,w\nA,0,3,w\n",
        {},
        "the lines 2 and 4 give the same time of sequence 'A' (column 'time')",
    ),
    "long: no time": (
        "id,time,x,label\nA,0,1,w\nA,noon,1,w\n",
        {},
        "line 3, column 'time': found 'noon', expected a time",
    ),
    "long: empty time": ("id,time,x,label\nA,0,1,w\nA,,1,w\n", {}, "line 3, column 'time': found '', expected a time"),
    "long: a label that changes": (
        "id,time,x,label\nA,0,1,w\nB,0,1,w\nA,1,3,r\n",
        {},
        "'label' changes within sequence 'A', from 'w' in line 2 to 'r' in line 4; classify needs one",
    ),
    "long: an empty cell": (
        "id,time,x,label\nA,0,1,w\nA,1,,w\n",
        {},
        "line 3, column 'x': is empty, expected a number.",
    ),
    "long: no id": (
        "id,time,x,label\nA,0,1,w\n,1,2,w\nA,2,2,w\n",
        {},
        "line 3, column 'id': is empty, expected the id",
    ),
    "long: no column tells": ("a,b,label\n1,2,w\n2,2,r\n", {"format": "long"}, "no column tells which sequence a row"),
    "long: no label": ("id,time,x,label\nA,0,1,w\nA,1,2,\n", {}, "line 3, column 'label': the label is empty"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_faults(tmp_path: Path, case: str):
    content, options, message = FAULTS[case]
    with pytest.raises(DataError) as caught:
        read(tmp_path, content, **options)
    assert message in str(caught.value)
    assert str(caught.value).startswith((f"{tmp_path / 'mine.csv'}", "data.separator"))
    assert len(str(caught.value).splitlines()) <= 2


def test_regress_faults(tmp_path: Path):
    with pytest.raises(DataError, match="line 3, column 'target': is empty, expected the number to predict"):
        read(tmp_path, "a,target\n1,2\n3,\n", "regress")
    with pytest.raises(DataError, match="line 3, column 'target': found 'high', expected a number"):
        read(tmp_path, "a,target\n1,2\n3,high\n4,5\n", "regress")
    with pytest.raises(DataError, match=r"no column is clearly the number to predict\. Columns: date, a, b"):
        read(tmp_path, "date,a,b\n2024-01-01,2,3\n2024-01-02,4,5\n", "regress")


def test_what_is_no_table_is_not_taken_for_one(tmp_path: Path):
    for content in ("To be, or not to be\nthat is the question\nWhether tis nobler\n", "\0\1\2,\0\3", "just a line\n"):
        with pytest.raises(DataError, match="no format fits"):
            read(tmp_path, content)


def test_tweets_are_no_long_table(tmp_path: Path):
    """A user that several rows share and a date, but what is there to read is a text."""
    rows = "".join(f"pos,{i % 3},2024-01-0{i},A fine film seen {i} times\n" for i in range(1, 9))
    assert read(tmp_path, "target,user,date,text\n" + rows).settings["format"] == "labelled-text"


def test_measurements_are_no_classes(tmp_path: Path):
    content = "a,b,target\n" + "".join(f"{i},{i},{i / 7}\n" for i in range(1, 60))
    with pytest.raises(DataError, match="column 'target' holds 59 different numbers in 59 rows, which are no classes"):
        read(tmp_path, content)
    assert len(read(tmp_path, content, "regress")) == 59


def test_further_data_with_a_comma_at_the_end_of_every_line(tmp_path: Path):
    schema = trained(tmp_path, "a,1,2,\nb,3,4,\nb,5,6,\n")
    for content in ("b,1,2,\na,3,4,\n", "b,1,2\na,3,4\n"):
        assert further(schema, content) == ([[1, 2], [3, 4]], [1, 0])
    schema = trained(tmp_path, "a,1,2\nb,3,4\nb,5,6\n")
    assert further(schema, "b,1,2,\na,3,4,\n") == ([[1, 2], [3, 4]], [1, 0])


def test_lines_are_counted_across_blocks(tmp_path: Path):
    """The fault stands far beyond the first block that is read."""
    rows = 100_000
    good = "a,1.2345678901,2.3456789012,3.4567890123\n"
    content = "label,t0,t1,t2\n\n" + good * rows + "b,1,x,2\n"
    assert len(content) > 4_000_000
    with pytest.raises(DataError, match=rf"line {rows + 3}, column 't1': found 'x'"):
        read(tmp_path, content)
    with pytest.raises(DataError, match=rf"line {rows + 3}: 3 cells found, 4 expected"):
        read(tmp_path, content.replace("b,1,x,2", '"b",1,2'))


def test_a_label_that_only_the_whole_file_tells(tmp_path: Path):
    """Sorted by class, without a header: the first thousand rows have one label alone."""
    content = "".join(f"{i / 7},{i / 3},{i // 1500}\n" for i in range(1, 3000))
    records = read(tmp_path, content)
    assert labels(records) == [str(i // 1500) for i in range(1, 3000)]
    assert sequences(records)[0] == [np.float32(1 / 7), np.float32(1 / 3)]
    assert records.settings["target"] == ["column_3"]


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
def test_compressed(tmp_path: Path, ending: str, pack: Callable[[bytes], bytes]):
    content, _, (values, expected) = WIDE["header, label first"]
    records = read(tmp_path, pack(content.encode()), name=f"mine.csv{ending}")
    assert sequences(records) == values
    assert labels(records) == expected


def test_other_encodings(tmp_path: Path):
    content = "label;t0\nété;1,5\nhiver;2\n"
    for encoding in ("latin-1", "utf-16"):
        records = read(tmp_path, content.encode(encoding), encoding=encoding)
        assert labels(records) == ["été", "hiver"]
        assert sequences(records) == [[1.5], [2]]


def test_parquet(tmp_path: Path):
    frame = pl.DataFrame({"y": ["a", "b"], "t0": [1, 2], "t1": [1.5, None], "flag": [True, False]})
    frame.write_parquet(tmp_path / "mine.parquet")
    records = read(tmp_path, (tmp_path / "mine.parquet").read_bytes(), features=["t0", "t1"])
    assert sequences(records) == [[1, 1.5], [2]]
    assert labels(records) == ["a", "b"]
    with pytest.raises(DataError, match="starts as a Parquet file but is cut short or damaged"):
        read(tmp_path, (tmp_path / "mine.parquet").read_bytes()[:-20])
    pl.DataFrame({"y": ["a", "b"], "t0": [1, None], "t1": [1.5, 2]}).write_parquet(tmp_path / "mine.parquet")
    with pytest.raises(DataError, match=r"row 2, column 't0': is empty in the middle"):
        read(tmp_path, (tmp_path / "mine.parquet").read_bytes())


def test_lists_in_cells(tmp_path: Path):
    frame = pl.DataFrame({"y": ["a", "b"], "u": [[1, 2], [3]], "v": [[1.5, 2.5], [3.5]]})
    records = read_frame(frame, "classify", DataSettings())
    assert sequences(records) == [[[1, 1.5], [2, 2.5]], [[3, 3.5]]]
    assert records.features == ["u", "v"]
    assert sequences(read_frame(frame.drop("v"), "classify", DataSettings())) == [[1, 2], [3]]
    with pytest.raises(DataError, match=r"row 2: lists of these lengths found: 'u' 1, 'v' 2"):
        read_frame(pl.DataFrame({"y": ["a", "b"], "u": [[1], [3]], "v": [[1.5], [3.5, 4]]}), "classify", DataSettings())
    with pytest.raises(DataError, match=r"row 2, column 'u': found nan"):
        read_frame(pl.DataFrame({"y": ["a", "b"], "u": [[1], [3, None, 4]]}), "classify", DataSettings())
    with pytest.raises(DataError, match=r"column 'age' holds Int64, expected a list of numbers as in 'u'"):
        read_frame(pl.DataFrame({"y": ["a", "b"], "u": [[1], [3]], "age": [1, 2]}), "classify", DataSettings())


def test_dataframes():
    """The same from pandas as from polars; NaN at the end of a row is a shorter sequence, as pandas reads it."""
    columns = {"label": ["a", "b"], "t0": [1, 2], "t1": [1.5, float("nan")]}
    for frame in (pd.DataFrame(columns), pl.DataFrame(columns), pl.LazyFrame(columns)):
        records = read_frame(frame, "classify", DataSettings())
        assert sequences(records) == [[1, 1.5], [2]]
        assert labels(records) == ["a", "b"]
        assert records.place(1) == "the dataframe, row 2"
    moments = pd.to_datetime(["2024-01-02", "2024-01-01", "2024-01-01"])
    long = pd.DataFrame({"id": [7, 7, 8], "time": moments, "x": [1, 2, 3], "label": pd.Categorical(["w", "w", "r"])})
    records = read_frame(long, "classify", DataSettings())
    assert sequences(records) == [[2, 1], [3]]
    assert records.ids == ["7", "8"]
    lists = pd.DataFrame({"u": [np.array([1.0, 2.0]), np.array([3.0])]})
    lists["label"] = pd.Series(["a", "b"], dtype=object)
    assert sequences(read_frame(lists, "classify", DataSettings())) == [[1, 2], [3]]
    whole = pd.DataFrame({"label": ["a", "b"], "t0": [1, 2], "t1": pd.array([3, None], dtype="Int64")})
    assert sequences(read_frame(whole, "classify", DataSettings())) == [[1, 3], [2]]
    texts = pd.DataFrame({"text": ["a fine film", "a bad film"], "label": [1, 0]})
    records = read_frame(texts, "classify", DataSettings())
    assert records.symbols == ["a", "fine", "film", "bad"]
    assert labels(records) == ["1", "0"]


def test_dataframe_faults():
    with pytest.raises(DataError, match="found dict, expected a pandas or polars dataframe"):
        read_frame({"a": [1]}, "classify", DataSettings())
    with pytest.raises(DataError, match="has 0 rows and 1 columns"):
        read_frame(pl.DataFrame({"a": []}), "classify", DataSettings())
    with pytest.raises(DataError, match="two columns are named 'a'"):
        read_frame(pd.DataFrame([[1, 2]], columns=["a", "a"]), "classify", DataSettings())
    with pytest.raises(DataError, match="row 2, column 't0': is empty in the middle"):
        read_frame(pd.DataFrame({"label": ["a", "b"], "t0": [1, None], "t1": [2, 3]}), "classify", DataSettings())
    with pytest.raises(DataError, match="row 1, column 't1': found 'inf', expected a finite number"):
        read_frame(pd.DataFrame({"label": ["a", "b"], "t0": [1, 2], "t1": [np.inf, 3]}), "classify", DataSettings())


def trained(folder: Path, content: str, task: str = "classify", **options: Any) -> Schema:
    (folder / "train.csv").write_text(content)
    return load_parts(folder / "train.csv", task, ALL.model_copy(update=options)).schema


def further(schema: Schema, content: str) -> tuple[list[list[Any]], list[int] | None]:
    """What standard input holds, read as the training data were: sequences and class indices."""
    found, _ = load_part(io.BytesIO(content.encode()), schema)
    values = found.values[:, 0] if found.values.shape[1] == 1 else found.values
    bounds = found.offsets.tolist()
    targets = None if found.targets is None else found.targets.tolist()
    return [values[a:b].tolist() for a, b in pairwise(bounds)], targets


def test_further_data_of_a_wide_table(tmp_path: Path):
    schema = trained(tmp_path, "id,first,second,label\np,1,2,a\nq,3,4,b\nr,5,6,b\n")
    assert further(schema, "id,first,second,label\nx,1,2,b\ny,3,,c\n") == ([[1, 2], [3]], [1, -1])
    assert further(schema, "label,second,extra,first\nb,2,9,1\n") == ([[1, 2]], [1])
    assert further(schema, "first,second\n1,2\n") == ([[1, 2]], None)
    assert further(schema, "first;second\n1,5;2\n") == ([[1.5, 2]], None)
    assert further(schema, "first,second,label\n1,2,\n3,4,\n") == ([[1, 2], [3, 4]], None)
    assert further(schema, "1,2\n3,4\n") == ([[1, 2], [3, 4]], None)
    assert further(schema, "x,1,2,b\ny,3,4,a\n") == ([[1, 2], [3, 4]], [1, 0])
    with pytest.raises(DataError, match="the column 'second' of the training data is missing; did you mean 'secnd'"):
        further(schema, "first,secnd\n1,2\n")
    with pytest.raises(DataError, match="its rows have 5 cells, the training data had 4"):
        further(schema, "1,2,3,4,5\n")


def test_further_data_without_header(tmp_path: Path):
    schema = trained(tmp_path, "a,1,2\nb,3,4\nb,5,6\n")
    assert further(schema, "b,1,2\na,3,4\n") == ([[1, 2], [3, 4]], [1, 0])
    assert further(schema, "1,2\n3,4\n") == ([[1, 2], [3, 4]], None)


def test_further_data_of_another_kind(tmp_path: Path):
    """A network trained on other files reads a table, where it has what the network needs; one of texts does not."""
    (tmp_path / "ucr_TRAIN.txt").write_text("1 1 2\n2 3 4\n2 5 6\n")
    schema = load_parts(tmp_path / "ucr_TRAIN.txt", "classify", ALL).schema
    assert schema.format == "ucr"
    (tmp_path / "new.csv").write_text("label;t0;t1\n2;1,5;2\n1;3;4\n")
    found, _ = load_part(tmp_path / "new.csv", schema)
    assert found.values[:, 0].tolist() == [1.5, 2, 3, 4]
    assert found.targets is not None
    assert found.targets.tolist() == [1, 0]
    schema = trained(tmp_path, "text,label\na fine film,pos\na bad film,neg\n", min_count=1)
    with pytest.raises(DataError, match="holds a table of numbers, but the network reads text"):
        load_part(tmp_path / "new.csv", schema, format="wide")
    with pytest.raises(DataError, match="holds a table of numbers, but the network reads text"):
        load_part(tmp_path / "new.csv", schema, format="long")


def test_further_data_with_channels(tmp_path: Path):
    schema = trained(tmp_path, "x_0,x_1,y_0,y_1,label\n1,2,3,4,a\n5,6,7,8,b\n")
    assert schema.features == ["x", "y"]
    assert further(schema, "y_0,y_1,x_0,x_1\n3,4,1,2\n") == ([[[1, 3], [2, 4]]], None)
    assert further(schema, "1,2,3,4\n") == ([[[1, 3], [2, 4]]], None)


def test_further_data_of_a_long_table(tmp_path: Path):
    schema = trained(tmp_path, "id,time,x,y,label\nA,0,1,2,w\nA,1,3,4,w\nB,0,5,6,r\n")
    assert further(schema, "y,x,time,id\n4,3,1,Z\n2,1,0,Z\n") == ([[[1, 2], [3, 4]]], None)
    assert further(schema, "id,time,x,y,label\nZ,0,1,2,r\n") == ([[[1, 2]]], [0])
    with pytest.raises(DataError, match="the column 'time' of the training data is missing"):
        further(schema, "id,x,y\nA,1,2\n")
    with pytest.raises(DataError, match="the column 'id' of the training data is missing"):
        further(schema, "time,x,y\n1,1,2\n")


def test_further_data_keep_one_number_a_sequence(tmp_path: Path):
    schema = trained(tmp_path, "id,time,x,target\nA,0,1,7\nA,1,3,7\nB,0,5,8.5\n", "regress")
    assert further(schema, "id,time,x,target\nA,0,1,3\nA,1,3,3\n")[1] == [[3]]
    with pytest.raises(
        DataError, match=r"'target' changes within sequence 'A', from '3\.0' in line 2 to '4\.0' in line 3"
    ):
        further(schema, "id,time,x,target\nA,0,1,3\nA,1,3,4\n")


def test_further_data_with_several_labels(tmp_path: Path):
    schema = trained(tmp_path, "label,t0\na;b,1\nb,2\n", label_separator=";")
    found, _ = load_part(io.BytesIO(b"label,t0\na,1\nb;a,2\n"), schema)
    assert found.targets is not None
    assert found.targets.tolist() == [[True, False], [True, True]]


cells = st.floats(width=32, allow_nan=False, allow_infinity=False)
names = st.text("abcXYZ é漢;'\"", min_size=1, max_size=6).filter(lambda name: name == name.strip())


def quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"'


@given(
    st.lists(st.tuples(names, st.lists(cells, min_size=1, max_size=5)), min_size=1, max_size=8),
    st.sampled_from([",", "\t", "|"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_a_wide_table_written_is_read_back(rows: list[tuple[str, list[float]]], separator: str, end: str):
    width = max(len(values) for _, values in rows)
    lines = [separator.join(["label", *(f"t{i}" for i in range(width))])]
    for label, values in rows:
        filled = [repr(value) for value in values] + [""] * (width - len(values))
        lines.append(separator.join([quoted(label), *filled]))
    with tempfile.TemporaryDirectory() as folder:
        records = read(Path(folder), end.join(lines) + end, format="wide", target="label")
    assert labels(records) == [label for label, _ in rows]
    for i, (_, values) in enumerate(rows):
        np.testing.assert_array_equal(
            records.values[records.offsets[i] : records.offsets[i + 1], 0], np.array(values, np.float32)
        )
        assert records.place(i).endswith(f"mine.csv, line {i + 2}")


@given(
    st.dictionaries(
        st.text("abc019", min_size=1, max_size=4), st.lists(st.tuples(cells, cells), min_size=1, max_size=5), min_size=1
    ),
    st.randoms(use_true_random=False),
)
def test_a_long_table_written_is_read_back(series: dict[str, list[tuple[float, float]]], random: Any):
    rows = [(name, step, x, y, f"l{len(steps)}") for name, steps in series.items() for step, (x, y) in enumerate(steps)]
    random.shuffle(rows)
    content = "id,time,x,y,label\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)
    with tempfile.TemporaryDirectory() as folder:
        records = read(Path(folder), content, format="long")
    assert records.ids == list(dict.fromkeys(row[0] for row in rows))
    for i, name in enumerate(records.ids or []):
        np.testing.assert_array_equal(
            records.values[records.offsets[i] : records.offsets[i + 1]], np.array(series[name], np.float32)
        )
        assert labels(records)[i] == f"l{len(series[name])}"


def test_a_real_table(data_folder: Path):
    """ETTh1: dates and seven numbers; one is predicted at every step from the others."""
    path = data_folder / "ett" / "ETTh1.csv"
    settings = DataSettings(format="long", target="OT")
    records = choose_format(path, "regress", settings).read(path, "regress", settings, None)
    assert records.values.shape == (17420, 6)
    assert records.per_step
    assert records.features == ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL"]
    assert records.settings["time"] == "date"
