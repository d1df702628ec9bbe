"""What a person can get wrong, and what is said: one or two lines, status 2, and nothing is damaged or left behind."""

import errno
import gzip
import hashlib
import io
import os
import re
import resource
import shlex
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import recurra
import spoken
from recurra.cells import CATALOGUE
from recurra.cli import app, main
from recurra.data import FORMATS
from recurra.data.fetch import sets
from recurra.data.made import MADE
from recurra.errors import RecipeError
from recurra.run import recipe
from recurra.run.progress import Progress
from recurra.run.training import Silent, make_fabric
from recurra.tasks import TASKS

TINY: dict[str, Any] = {
    "train.epochs": 1,
    "train.batch_size": 8,
    "model.cell": "lstm",
    "model.hidden_size": 3,
    "model.bidirectional": False,
}

GOOD = "label,a,b,c\n" + "".join(f"{'up' if i % 2 else 'down'},{i},{i + 1},{-i}\n" for i in range(20))
RATES = "y,a,b,c\n" + "".join(f"{i * 0.7:.2f},{i},{i + 1},{-i}\n" for i in range(20))
TEXTS = "label\ttext\n" + "".join(
    f"{'good' if i % 2 else 'bad'}\ta {'fine' if i % 2 else 'dull'} film about the number {i % 3}\n" for i in range(20)
)
LONG = "id,time,x,label\n" + "".join(f"{i},{t},{i + t},{'ab'[i % 2]}\n" for i in range(12) for t in range(3))
SERIES = "@univariate true\n@equalLength false\n@classLabel true a b\n@data\n1,2,3:a\n2,3:b\n"
UCR = "1\t2\t3\t4\n2\t3\t4\t5\n1\t2\t3\t4\n2\t1\t2\t3\n"
CELL = "import recurra\n@recurra.cell(state='h', gates='g')\ndef mine(z, s):\n    return "


def idx(*shape: int, magic: bytes = b"\0\0\x08") -> bytes:
    """An IDX file of zeros and ones in turn."""
    head = magic + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    return head + bytes(i % 2 for i in range(int(np.prod(shape))))


def pickled() -> bytes:
    """A .npy file that holds a Python object, and would have to be unpickled."""
    out = io.BytesIO()
    np.save(out, np.array([{}], dtype=object), allow_pickle=True)
    return out.getvalue()


GZ = gzip.compress(GOOD.encode(), mtime=0)
LABELS = {"x-labels-idx1-ubyte": idx(4)}
IMAGES = "x-images-idx3-ubyte"


class Case(NamedTuple):
    """A command line, the input that is made for it, and all that is to be said on standard error.

    Attributes:
        words: The command line. Folders of finished runs called run, other, untested, texts and rates, and of one
            that was stopped, unfinished, stand beside the files, as far as they are named here.
        says: What stands behind "error: ". HERE is the folder in which all this is; a word such as CELLS stands for
            the list of all that there are (`LISTS`).
        files: Path -> content; None makes a folder.
        spoil: What is done to the folder before.
        stdin: What comes by standard input.
    """

    words: str
    says: str
    files: Mapping[str, str | bytes | None] = {}
    spoil: Callable[[Path], object] | None = None
    stdin: bytes = b""


def data(name: str, content: str | bytes | None, says: str, more: str = "") -> Case:
    """A data set to train on."""
    return Case(f"train classify --data {name} --out new {more}", says, {name: content})


def setting(value: str, says: str, files: Mapping[str, str | bytes | None] | None = None) -> Case:
    """A setting laid over the recipe digits."""
    return Case(f"train digits --out new --set {value}", says, files or {})


def toml(content: str | bytes | None, says: str) -> Case:
    """A recipe of one's own."""
    return Case("train r.toml --out new", says, {"r.toml": content})


def damaged(spoil: Callable[[Path], object], says: str) -> Case:
    """A run of which a file is damaged."""
    return Case("predict run --data good.csv", says, {"good.csv": GOOD}, spoil)


def cut(name: str, by: int = 40) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-by])


def flip(name: str) -> Callable[[Path], object]:
    """Change the last bit."""

    def change(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[-1] ^= 1
        (folder / name).write_bytes(content)

    return change


def edit(name: str, old: str, new: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        assert old.encode() in content
        (folder / name).write_bytes(content.replace(old.encode(), new.encode(), 1))

    return change


def write(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


# --- files and what is in them ---------------------------------------------------------------------------------------

FILES = {
    "no such file, a like one beside it": Case(
        "train classify --data god.csv", "god.csv: no such file or folder. Did you mean good.csv?", {"good.csv": GOOD}
    ),
    "no such folder": Case(
        "train classify --data no/such/place.csv", "no/such/place.csv: no such file, and no folder no/such either."
    ),
    "no such file to show": Case(
        "data god.csv", "god.csv: no such file or folder. Did you mean good.csv?", {"good.csv": GOOD}
    ),
    "no such test file": Case(
        "train classify --data good.csv --test tset.csv",
        "tset.csv: no such file or folder. Did you mean test.csv?",
        {"good.csv": GOOD, "test.csv": GOOD},
    ),
    "empty": data("e.csv", "", "e.csv: is empty."),
    "only blank lines": data("e.csv", "\n\n  \n", "e.csv: has no text; its lines are blank."),
    "only a header": data("e.csv", "label,a,b,c\n", "e.csv: has a header (label, a, b, c) but no row."),
    "an empty folder": data(
        "parts",
        None,
        "parts: holds no training part; found nothing. Expected a name with 'train' in it, such as "
        "train.csv, NAME_TRAIN.ts or a folder train, a folder of texts for each class, or one data file.",
    ),
    "a folder without a training part": Case(
        "train classify --data parts",
        "parts: holds no training part; found a.csv, b.csv. Expected a name with 'train' in it, such as "
        "train.csv, NAME_TRAIN.ts or a folder train, a folder of texts for each class, or one data file.",
        {"parts/a.csv": GOOD, "parts/b.csv": GOOD},
    ),
    "gzip cut short": data("good.csv.gz", GZ[:-30], "good.csv.gz: the gzip data are cut short."),
    "gzip damaged": data(
        "good.csv.gz",
        GZ[:-8] + bytes(4) + GZ[-4:],
        "good.csv.gz: the gzip data are damaged (CRC check failed 0x0 != 0x39b834a0).",
    ),
    "gzip by its name alone": data(
        "good.csv.gz", GOOD, "good.csv.gz: its name says gzip, but it starts with the bytes 6c 61 62 65."
    ),
    "gzip of nothing": data("good.csv.gz", gzip.compress(b""), "good.csv.gz: is empty once unpacked."),
    "IDX cut short": Case(
        f"train classify --data {IMAGES}",
        "x-images-idx3-ubyte: is cut short: its header promises 4 × 3 × 3 numbers, 36 bytes, but 31 follow.",
        {IMAGES: idx(4, 3, 3)[:-5], **LABELS},
    ),
    "IDX longer than it says": Case(
        f"train classify --data {IMAGES}",
        "x-images-idx3-ubyte: goes on after the 36 bytes that its header promises (4 × 3 × 3 numbers).",
        {IMAGES: idx(4, 3, 3) + b"x", **LABELS},
    ),
    "IDX with a wrong magic number": Case(
        f"train classify --data {IMAGES}",
        "x-images-idx3-ubyte: starts with the bytes 00 00 07 03, which is not IDX; expected 00 00, a type "
        "(08, 09, 0b, 0c, 0d, 0e), and the number of dimensions (01 to 04).",
        {IMAGES: idx(4, 3, 3, magic=b"\0\0\x07"), **LABELS},
    ),
    "IDX counts that disagree": Case(
        f"train classify --data {IMAGES}",
        "x-labels-idx1-ubyte: holds 4 labels, but x-images-idx3-ubyte holds 5 images.",
        {IMAGES: idx(5, 3, 3), **LABELS},
    ),
    "IDX images without labels": data(
        IMAGES, idx(4, 3, 3), "x-images-idx3-ubyte: no labels beside it; expected a file such as x-labels-idx1-ubyte."
    ),
    "IDX labels in place of images": Case(
        "train classify --data x-labels-idx1-ubyte",
        "x-labels-idx1-ubyte: holds 4 numbers, which look like labels; give the file of the images, and the "
        "labels are found beside it.",
        LABELS,
    ),
    "a row too short": data(
        "r.csv",
        GOOD.replace("up,7,8,-7", "up,7,8"),
        "r.csv, line 9: 3 cells found, 4 expected (cells parted by commas).",
    ),
    "a row too long": data(
        "r.csv",
        GOOD.replace("up,7,8,-7", "up,7,8,-7,9"),
        "r.csv, line 9: 5 cells found, 4 expected (cells parted by commas).",
    ),
    "a word among numbers": data(
        "r.csv", GOOD.replace("up,7,8,-7", "up,7,x8,-7"), "r.csv, line 9, column 'b': found 'x8', expected a number."
    ),
    "a value missing": data(
        "r.csv",
        GOOD.replace("up,7,8,-7", "up,7,nan,-7"),
        "r.csv, line 9, column 'b': found 'nan', expected a finite number (a missing value? fill it in, or "
        "leave the row out).",
    ),
    "an infinite value": data(
        "r.csv",
        GOOD.replace("up,7,8,-7", "up,7,inf,-7"),
        "r.csv, line 9, column 'b': found 'inf', expected a finite number that fits 32 bits.",
    ),
    "a number too large": data(
        "r.csv",
        GOOD.replace("up,7,8,-7", "up,7,1e39,-7"),
        "r.csv, line 9, column 'b': found '1e39', expected a finite number that fits 32 bits.",
    ),
    "an empty cell": data(
        "r.csv",
        GOOD.replace("up,7,8,-7", "up,7,,-7"),
        "r.csv, line 9, column 'b': is empty in the middle of the sequence, expected a number (only the end "
        "of a row may be empty, where the sequence is shorter).",
    ),
    "an empty label": data(
        "r.csv",
        GOOD.replace("up,7,8,-7", ",7,8,-7"),
        "r.csv, line 9, column 'label': the label is empty; every sequence needs one.",
    ),
    "one class only": data(
        "r.csv", GOOD.replace("down", "up"), "r.csv: only the class 'up' in the training data; expected at least two."
    ),
    "too few sequences to split": data(
        "r.csv",
        "label,a,b\nup,1,2\ndown,2,3\n",
        "1 sequence is too few to split off a validation part; give it apart (--validation PATH), or go "
        "without: --set data.validation_fraction=0.",
    ),
    "fractions that leave nothing": data(
        "r.csv",
        GOOD,
        "data.validation_fraction 0.6 and data.test_fraction 0.6 leave nothing to train on; expected a sum below 1.",
        "--set data.test_fraction=0.6 --set data.validation_fraction=0.6",
    ),
    "a target that is no column": data(
        "r.csv",
        GOOD,
        "r.csv: data.target names a column 'lable' that is not there; did you mean 'label'? Columns: label, a, b, c.",
        "--set data.target=lable",
    ),
    "a feature that is no column": data(
        "r.csv",
        GOOD,
        "r.csv: data.features names a column 'bb' that is not there; did you mean 'b'? Columns: label, a, b, c.",
        '--set \'data.features=["a", "bb"]\'',
    ),
    "a test file with other columns": Case(
        "train classify --data good.csv --test t.csv",
        "t.csv: the column 'c' of the training data is missing. Columns: label, a, b.",
        {"good.csv": GOOD, "t.csv": "label,a,b\nup,1,2\n"},
    ),
    "a test file without labels": Case(
        "train classify --data good.csv --test t.csv",
        "t.csv: has no labels, which are needed to measure on it.",
        {"good.csv": GOOD, "t.csv": "a,b,c\n1,2,3\n"},
    ),
    "words as numbers to predict": Case(
        "train regress --data good.csv",
        "good.csv, line 2, column 'label': found 'down', expected a number.",
        {"good.csv": GOOD},
    ),
    "a long table with a time twice": data(
        "l.csv",
        LONG.replace("5,1,6,b", "5,0,6,b"),
        "l.csv: the lines 17 and 18 give the same time of sequence '5' (column 'time'); expected each time once.",
    ),
    "a long table whose label changes": data(
        "l.csv",
        LONG.replace("5,1,6,b", "5,1,6,a"),
        "l.csv: 'label' changes within sequence '5', from 'b' in line 17 to 'a' in line 18; classify needs "
        "one label a sequence; where each step has its own, or only some have one: --set data.per_step=true.",
    ),
    "a series without steps": data(
        "s.ts", SERIES.replace("2,3:b", ":b"), "s.ts, line 6: step 1 is empty; expected a number."
    ),
    "a series with a word": data(
        "s.ts", SERIES.replace("2,3:b", "2,x:b"), "s.ts, line 6: step 2 is 'x'; expected a number."
    ),
    "a series with a missing value": data(
        "s.ts", SERIES.replace("2,3:b", "2,?:b"), "s.ts, line 6: step 2 is missing ('?'); expected a number."
    ),
    "a series with an unknown label": data(
        "s.ts", SERIES.replace("2,3:b", "2,3:c"), "s.ts, line 6: unknown label 'c'. Known: a, b"
    ),
    "a series with a dimension too few": data(
        "s.ts",
        SERIES.replace("@univariate true", "@dimensions 2").replace("1,2,3:a", "1,2:3,4:a"),
        "s.ts, line 6: holds 1 dimensions, expected 2.",
    ),
    "UCR with a line too short": data(
        "X_TRAIN.tsv",
        UCR.replace("1\t2\t3\t4\n2\t1", "1\t2\t3\n2\t1"),
        "X_TRAIN.tsv, line 3: holds 2 values, but 3 of 4 lines hold 3. Series that are shorter are filled up "
        "with NaN at the end; or name the format to take the lines as they are: --input-format ucr.",
    ),
    "UCR with a word": data(
        "X_TRAIN.tsv",
        UCR.replace("2\t3\t4\t5", "2\t3\tfour\t5"),
        "X_TRAIN.tsv, line 2: value 2 is 'four'; expected a number.",
    ),
    "texts in another encoding": data(
        "t.tsv",
        TEXTS.replace("dull", "düll").encode("latin-1"),
        "t.tsv, line 2: byte 18 (fc) is not utf-8; name the encoding the file has, such as --set "
        "data.encoding=latin-1.",
    ),
    "texts in UTF-16": data(
        "t.tsv",
        TEXTS.encode("utf-16"),
        "t.tsv: is text in UTF-16; name the encoding the file has, such as --set data.encoding=utf-16.",
    ),
    "texts that are not in UTF-16": data(
        "t.tsv",
        TEXTS,
        "t.tsv: is not utf-16 (UTF-16 stream does not start with BOM).",
        "--set data.encoding=utf-16",
    ),
    "an encoding that does not exist": data(
        "t.tsv",
        TEXTS,
        "data.encoding: 'utf-9' is no encoding Python knows; expected such as utf-8, latin-1.",
        "--set data.encoding=utf-9",
    ),
    "texts without their target": data(
        "t.tsv",
        TEXTS,
        "t.tsv: data.target names a column 'rating' that is not there. Columns: label, text.",
        "--set data.target=rating",
    ),
    "an empty text": data(
        "t.tsv",
        TEXTS.replace("a dull film about the number 0", ""),
        "t.tsv, line 2: the text is empty; every sequence needs at least one token.",
    ),
    "no word often enough": data(
        "t.tsv",
        TEXTS,
        "t.tsv: no symbol is met 1000 times, of 10 different ones; lower the bound: --set data.min_count=1.",
        "--set data.min_count=1000",
    ),
    "another format than named": data(
        "good.csv",
        GOOD,
        "good.csv, line 1: series begin before a line '@data'; found 'label,a,b,c'.",
        "--input-format ts",
    ),
    "a format that does not exist": data(
        "good.csv",
        GOOD,
        "data.format: unknown format 'widee'; did you mean 'wide'? Known: SORTED_FORMATS",
        "--input-format widee",
    ),
    "no known format": data(
        "p.png",
        b"\x89PNG\0\0\0\0",
        "p.png: no format fits; it starts with the bytes 89 50 4e 47 00 00 00 00; name one with "
        "--input-format: FORMATS.",
    ),
    "a pickled array": data(
        "p.npy",
        pickled(),
        "p.npy: cannot be read as NumPy arrays (Object arrays cannot be loaded when allow_pickle=False).",
    ),
    "a damaged archive": data("p.npz", b"PK\3\4abc", "p.npz: cannot be read as NumPy arrays (File is not a zip file)."),
    "a Parquet file cut short": data(
        "p.parquet",
        b"PAR1abc",
        "p.parquet: starts as a Parquet file but is cut short or damaged (parquet: File out of "
        "specification: A Parquet file must contain a header and fo…).",
    ),
    "standard input to train on": Case(
        "train classify --data - --out new", "standard input: training reads its data more than once; give a file"
    ),
    "no data": Case(
        "train classify --out new", "no data: name a file or folder (--data PATH), or a set (--set data.name=digits)."
    ),
    "a data set that does not exist": Case(
        "train classify --set data.name=digist --out new",
        "no data set 'digist' in $RECURRA_DATA (not set) or the cache (/no/cache). Did you mean 'digits'? "
        "Give your own: --data PATH; offered are OFFERED_OR_MADE.",
    ),
    "a data set near in name": Case(
        "train classify --data digist --out new", "digist: no such file or folder. Did you mean the data set digits?"
    ),
    "a data set that is not here": Case(
        "train mnist --out new",
        "no data set 'mnist' in $RECURRA_DATA (not set) or the cache (/no/cache). Download it with: recurra "
        "data fetch mnist; or give your own: --data PATH.",
    ),
    "a data set of another task": Case(
        "train classify --data sine --out new", "data.name: 'sine' is made for the task regress, not for classify."
    ),
    "steps of unequal number in one order": Case(
        "train classify --data s.ts --set data.permute=0 --out new",
        "s.ts, line 6: has 2 steps, expected as many as s.ts, line 5: 3, since data.permute puts the steps of all "
        "sequences in one order.",
        {"s.ts": SERIES},
    ),
    "a label a sequence for one a step": data(
        "good.csv",
        GOOD,
        "good.csv: has a target for each sequence, and data.per_step is true.",
        "--set data.per_step=true",
    ),
    "steps without a label": data(
        "l.csv",
        LONG.replace("5,1,6,b", "5,1,6,"),
        "l.csv, line 18, column 'label': the label is empty; every sequence needs one; where each step has its own, or "
        "only some have one: --set data.per_step=true.",
    ),
}

# --- recipes ---------------------------------------------------------------------------------------------------------

RECIPES = {
    "no name": Case("train", "NAME is missing: a recipe, a task or a TOML file; known: ALL"),
    "no such recipe": Case(
        "train digist", "unknown recipe, task or TOML file 'digist'; did you mean 'digits'? Known: RECIPES"
    ),
    "no such recipe to print": Case(
        "recipes mnits", "unknown recipe, task or TOML file 'mnits'; did you mean 'mnist'? Known: RECIPES"
    ),
    "no such recipe file": Case(
        "train mine.toml", "mine.toml: no such file or folder. Did you mean nine.toml?", {"nine.toml": ""}
    ),
    "not TOML": toml('task = "classify"\n[train]\nlr = = 3\n', "r.toml, line 3, column 6: not TOML: invalid value"),
    "not UTF-8": toml('task = "classify"\n# für'.encode("latin-1"), "r.toml, line 2: byte 21 is not UTF-8, as TOML is"),
    "a folder": toml(None, "r.toml: cannot be read: Is a directory"),
    "data in place of a recipe": Case(
        "train good.csv",
        "good.csv, line 1, column 6: not TOML: expected '=' after a key in a key/value pair; to train on "
        "this file: recurra train classify --data good.csv",
        {"good.csv": GOOD},
    ),
    "no task": toml("[train]\nlr = 3\n", "r.toml: task: is missing; known: TASKS"),
    "no such task": toml(
        'task = "clasify"\n', "r.toml: task: unknown task 'clasify'; did you mean 'classify'? Known: TASKS"
    ),
    "a section that is a value": toml(
        'task = "classify"\nmodel = 3\n', "r.toml: model: a table of settings is expected (as model.KEY = VALUE), not 3"
    ),
    "no such section": toml(
        'task = "classify"\n[modle]\ncell = "gru"\n', "r.toml: modle.cell: unknown key; did you mean model.cell?"
    ),
    "a wrong value in a file": toml(
        'task = "classify"\n[train]\nlr = -1.0\n', "r.toml: train.lr: a number above 0 is expected, not -1.0"
    ),
    "epochs and samples both": toml(
        'task = "classify"\n[train]\nepochs = 3\nsamples = 640\n',
        "r.toml: train: epochs and samples both given; one of them says how long to train",
    ),
    "a key of another task": setting(
        "train.label_weight=2", "train.label_weight: is a key of the task tag and not of classify"
    ),
    "a key of other tasks": setting(
        "train.loss=mse", "train.loss: is a key of the tasks regress, forecast, frames and not of classify"
    ),
    "a key by its other name": setting(
        "train.learning_rate=0.1", "train.learning_rate: unknown key; did you mean train.lr?"
    ),
    "a key without its section": setting("lr=0.1", "lr: unknown key; did you mean train.lr?"),
    "a misspelt key": setting("model.hiden_size=3", "model.hiden_size: unknown key; did you mean model.hidden_size?"),
    "a key of nothing": setting(
        "x=1", "x: unknown key; known: name, description, task, from_run, seed, data, model, train, learn, report"
    ),
    "a key below a value": setting("train.lr.x=1", "train.lr.x: train.lr is a value, not a table of settings"),
    "no equals sign": setting("train.lr", "--set 'train.lr': KEY=VALUE is expected, such as train.lr=0.001"),
    "a word for a whole number": setting(
        "train.epochs=ten", "train.epochs: a whole number from 1 is expected, not 'ten'"
    ),
    "true for a number": setting("train.lr=true", "train.lr: a number above 0 is expected, not 'true'"),
    "true within a table of numbers": setting(
        "'train.l2={U=true}'",
        "train.l2: a number from 0 or a table of numbers from 0 is expected, not {'U': 'true'}",
    ),
    "true for a number of a made source": setting(
        "data.name=adding --set data.options.length=true",
        "data.options.length: a whole number from 2 is expected, not 'true'",
    ),
    "a table that is no TOML": setting(
        "'train.l2={V=.1}'",
        "train.l2: {V=.1} is not TOML (invalid value); a value is written as in { U = 0.1, W = "
        '"orthogonal" }, [64, 32] or "a text": texts in quotes, 0.1 rather than .1, no key twice',
    ),
    "half an epoch": setting("train.epochs=1.5", "train.epochs: a whole number from 1 is expected, not 1.5"),
    "hidden_size 0": setting(
        "model.hidden_size=0",
        "model.hidden_size: a whole number from 1 or a list of whole numbers from 1 is expected, not 0",
    ),
    "more memory than there is for an influence": setting(
        "model.hidden_size=100000000000 --set learn.rule=rtrl",
        "the memory does not suffice; lower model.hidden_size (now 100000000000) or train.batch_size (now 64), "
        "or take learn.rule = snap1 or tbptt",
    ),
    "widths for other layers": setting(
        "model.hidden_size=[3,4]",
        "model: hidden_size has 2 widths, num_layers is 1; one number is expected, or one for each layer",
    ),
    "more memory than there is": setting(
        "model.hidden_size=100000000000",
        "the memory does not suffice; lower model.hidden_size (now 100000000000), train.batch_size (now 64) "
        "or data.max_length",
    ),
    "an option misspelt": Case(
        "train adding --set data.options.lenght=3 --out new", "data.options.lenght: unknown key; did you mean length?"
    ),
    "an option that cannot be": Case(
        "train adding --set data.options.length=1 --out new",
        "data.options.length: a whole number from 2 is expected, not 1",
    ),
    "an option in a file": toml(
        'task = "classify"\n[data]\nname = "parity"\n[data.options]\nasked = "step"\n',
        "r.toml: data.options.asked: unknown value 'step'; did you mean 'steps'? Known: end, steps",
    ),
    "a misspelt source, whose options a recipe has": Case(
        "train adding --set data.name=addin --out new",
        "recipe 'adding': data.options: data.name is 'addin'; did you mean 'adding'? Only these sources have options: "
        "WITH_OPTIONS",
    ),
    "an unknown source, whose options a recipe has": Case(
        "train adding --set data.name=zz --out new",
        "recipe 'adding': data.options: data.name is zz; only these sources have options: WITH_OPTIONS",
    ),
    "an option of a data set that is not made": Case(
        "train mnist --set data.options.length=3 --out new",
        "data.options: data.name is mnist; only these sources have options: WITH_OPTIONS",
    ),
    "an option of nothing": Case(
        "train classify --set data.options.length=3 --out new",
        "data.options: data.name is not set; only these sources have options: WITH_OPTIONS",
    ),
    "options that are no table": Case(
        "train adding --set data.options=3 --out new", "data.options: a table is expected, not 3"
    ),
    "a permutation by a word": setting(
        "data.permute=true", "data.permute: a whole number from 0 is expected, not 'true'"
    ),
    "batch_size 0": setting("train.batch_size=0", "train.batch_size: a whole number from 1 is expected, not 0"),
    "lr below 0": setting("train.lr=-0.1", "train.lr: a number above 0 is expected, not -0.1"),
    "decay of no number": setting(
        "train.l2=much", "train.l2: a number from 0 or a table of numbers from 0 is expected, not 'much'"
    ),
    "decay of a gate that the cell does not have": setting(
        "train.l2={U_f=1e-4}",
        "train.l2: unknown parameter 'U_f'; did you mean 'U_z'? Known: U, U_n, U_r, U_z, V, W, W_n, W_r, W_z, b, b_n, "
        "b_r, b_z, head, output.bias, output.weight, recurrent.bias_l0, recurrent.bias_l0_reverse, "
        "recurrent.weight_hh_l0, recurrent.weight_hh_l0_reverse, recurrent.weight_ih_l0, "
        "recurrent.weight_ih_l0_reverse",
    ),
    "decay below 0 of a gate": setting(
        "train.l1={U=-1}", "train.l1: a number from 0 or a table of numbers from 0 is expected, not {'U': -1}"
    ),
    "a quantile of 1": setting(
        "train.clip_quantile=1", "train.clip_quantile: a number from 0 to below 1 is expected, not 1"
    ),
    "a first value times no number": setting(
        "model.init.U=orthogonal*x",
        "model.init: cell 'gru': init of 'U': 'orthogonal*x': a number is expected behind the *, such as "
        "'orthogonal*1.2'",
    ),
    "errors followed in two directions": setting(
        "train.error_norm=1",
        "train.error_norm: errors are followed in one direction: model.bidirectional is to be false",
    ),
    "lr infinite": setting("train.lr=inf", "train.lr: a number above 0 is expected, not inf"),
    "dropout 2": setting("model.dropout=2", "model.dropout: a number from 0 to 1 is expected, not 2"),
    "betas of one number": setting(
        "train.betas=[0.9]", "train.betas: a list of 2 numbers from 0 to below 1 is expected, not [0.9]"
    ),
    "a number for a switch": setting("model.bidirectional=3", "model.bidirectional: true or false is expected, not 3"),
    "no such optimiser": setting(
        "train.optimizer=adm", "train.optimizer: unknown value 'adm'; did you mean 'adam'? Known: adam, adamw, sgd"
    ),
    "no such schedule": setting(
        "train.schedule=one-cycle",
        "train.schedule: unknown value 'one-cycle'; did you mean 'one_cycle'? Known: constant, cosine, "
        "one_cycle, warmup",
    ),
    "no such pooling": setting(
        "model.pool=max-pool",
        "model.pool: unknown value 'max-pool'; did you mean 'max'? Known: attention, last, max, mean",
    ),
    "phrases in another word": setting(
        "data.phrases=distinkt",
        "data.phrases: unknown value 'distinkt'; did you mean 'distinct'? Known: all, distinct, none",
    ),
    "phrases of what is no tree": setting(
        "data.phrases=all", "data.phrases: all: digits (train part) holds no trees, whose phrases have labels."
    ),
    "classes of a label that is not there": setting(
        "data.merge_labels={low=[0,1],high=[8,77]}",
        "data.merge_labels: unknown label '77'; did you mean '7'? Known: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 "
        "(digits (train part))",
    ),
    "classes that are no table": setting(
        "data.merge_labels=3", "data.merge_labels: a table of a list of texts or whole numbers is expected, not 3"
    ),
    "a tree that does not end": data(
        "x.txt",
        "(3 (2 It) (4 works))\n(3 (2 It) (4 works)\n(1 no)\n",
        "x.txt, line 2, column 1: the tree that begins here does not end: one ')' is missing.",
    ),
    "a tree without a word": data(
        "x.txt",
        "(3 (2 It) (4 works))\n(3 (2 It) (4))\n",
        "x.txt, line 2, column 11: the tree (4) is empty, expected a word or trees.",
    ),
    "no such device": setting(
        "train.device=tpu", "train.device: unknown device 'tpu'; did you mean 'cpu'? Known: auto, cpu, cuda, mps"
    ),
    "a device that is not here": setting(
        "train.device=cuda", "train.device: 'cuda' is not there; this machine has: cpu"
    ),
    "a processor with a number": setting(
        "train.device=cpu:3", "train.device: 'cpu:3': only cuda devices have numbers, such as cuda:0"
    ),
    "a weight of no class": setting(
        "train.class_weights={ten=2.0}", "train.class_weights: unknown class 'ten'. Known: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    ),
    "a weight below 0": setting(
        "'train.class_weights={1=-1.0}'",
        "train.class_weights: none, balanced or a table of numbers above 0 is expected, not {'1': -1.0}",
    ),
    "a seed below 0": Case(
        "train digits --out new --seed -1", "seed: a whole number from 0 to below 4,294,967,296 is expected, not -1"
    ),
    "a seed that is no number": Case("train digits --out new --seed x", "--seed: a whole number is expected, not 'x'"),
    "no seeds": Case("train digits --out new --seeds 0", "seeds: a whole number from 1 to 1,000 is expected, not 0"),
    "more seeds than there are": Case(
        "train digits --out new --seed 4294967295 --seeds 2", "seeds: a whole number from 1 to 1 is expected, not 2"
    ),
    "an edge to no node": Case(
        "train graph --data x.jsonl --out new",
        "x.jsonl, line 2: edges: that of index 0 is [0, 5]; two nodes from 0 to 1 are expected.",
        {"x.jsonl": '{"nodes": 2, "edges": [], "label": 1}\n{"nodes": 2, "edges": [[0, 5]], "label": 2}\n'},
    ),
    "a set of graphs without its indicator": Case(
        "data d --task graph",
        "d/TOY_graph_indicator.txt: no such file; the TU format has it beside TOY_A.txt, and so it cannot be told "
        "which nodes belong to which graph.",
        {"d/TOY_A.txt": "1, 2\n2, 1\n"},
    ),
    "an edge between two graphs": Case(
        "train graph --data d --out new",
        "d/TOY_A.txt, line 2: joins node 2 of graph 1 and node 3 of graph 2; two nodes of one graph are expected.",
        {"d/TOY_A.txt": "1, 2\n2, 3\n", "d/TOY_graph_indicator.txt": "1\n1\n2\n", "d/TOY_graph_labels.txt": "0\n1\n"},
    ),
    "one fold": Case("train digits --out new --folds 1", "data.folds: a whole number from 2 is expected, not 1"),
    "a fold that there is not": Case(
        "train digits --out new --set data.folds=5 --set data.fold=5",
        "data.fold: 5; one from 0 to 4 is expected, of 5 folds",
    ),
    "a fold of nothing": setting(
        "data.fold=1", "data.fold: says which of data.folds is the test part; folds is not set"
    ),
    "folds beside a test part": Case(
        "train adding --out new --folds 5",
        "data.folds: the data have a test part, so that none is drawn; leave one of them out.",
    ),
    "folds of a text": Case(
        "train language --data good.csv --out new --folds 5",
        "data.folds: parts of a text are taken from its end, and are not dealt out; leave it out",
        {"good.csv": GOOD},
    ),
    "folds beside --resume": Case(
        "train --resume new --folds 5", "--folds beside --resume: a run goes on with the recipe it began with"
    ),
    "several seeds of a bad recipe": Case(
        "train digits --out new --seeds 2 --set model.cell=lsmt",
        "model.cell: unknown cell 'lsmt'; did you mean 'lstm'? Known: CELLS; one of your own is named as file.py:NAME",
    ),
    "no such cell": setting(
        "model.cell=lsmt",
        "model.cell: unknown cell 'lsmt'; did you mean 'lstm'? Known: CELLS; one of your own is named as file.py:NAME",
    ),
    "no such option of a cell": setting(
        "model.options.forget_bais=2", "model.options: cell 'gru': unknown option 'forget_bais'; there is none"
    ),
    "no such activation": setting(
        "model.cell=elman --set model.options.activation=tahn",
        "model.options: cell 'elman': option 'activation': unknown function 'tahn'; did you mean 'tanh'? "
        "Known: cube, identity, logistic, relu, sigmoid, sin, softplus, tanh",
    ),
    "a value that an option cannot have": setting(
        "'model.options={longest=0}' --set model.cell=leaky",
        "model.options: cell 'leaky': option 'longest': a number of steps above 1 is expected, not 0",
    ),
    "a value that an option of a constant cannot have": setting(
        "'model.options={periods=[1, 0]}' --set model.cell=clockwork",
        "model.options: cell 'clockwork': option 'periods': whole numbers above 0 are expected, not (1, 0)",
    ),
    "no such file of cells": setting("model.cell=mine.py:mine", "model.cell: HERE/mine.py: there is no such file"),
    "no such cell in a file": setting(
        "model.cell=my.py:mien",
        "model.cell: unknown cell in HERE/my.py 'mien'; did you mean 'mine'? Known: mine",
        {"my.py": CELL + "z.g\n"},
    ),
    "a file with a cell, unnamed": setting(
        "model.cell=my.py",
        "model.cell: unknown cell 'my.py'. Known: CELLS; one of your own is named as my.py:NAME",
        {"my.py": CELL + "z.g\n"},
    ),
    "a cell's file that is not Python": setting(
        "model.cell=my.py:mine",
        "model.cell: HERE/my.py, line 1: expected ':'",
        {"my.py": "def mine(z, s)\n    return z.g\n"},
    ),
    "a cell's file that fails": setting(
        "model.cell=my.py:mine",
        "model.cell: HERE/my.py, line 2: ZeroDivisionError: division by zero",
        {"my.py": "x = 1\ny = x / 0\n"},
    ),
    "a cell with an undeclared gate": setting(
        "model.cell=my.py:mine",
        "model.cell: cell 'mine' (my.py, line 4): unknown net input 'k'. Known: g",
        {"my.py": CELL + "z.k\n"},
    ),
    "a cell with an unknown name": setting(
        "model.cell=my.py:mine",
        "model.cell: cell 'mine' (my.py, line 4): NameError: name 'tanh' is not defined",
        {"my.py": CELL + "tanh(z.g)\n"},
    ),
    "a cell that is a number": setting(
        "model.cell=my.py:mine",
        "model.cell: 'mine' in HERE/my.py: a cell or a function (x, state) is expected, not int",
        {"my.py": "mine = 3\n"},
    ),
    "a function that fails": setting(
        "model.cell=my.py:mine --set model.bidirectional=false",
        "model.cell: HERE/my.py, line 2: TypeError: unsupported operand type(s) for @: 'Tensor' and 'int'",
        {"my.py": "def mine(x, state):\n    return x @ 3\n"},
    ),
    "a function with another state": setting(
        "model.cell=my.py:mine --set model.bidirectional=false",
        "model.cell: function 'mine': a state of shapes [(2, 96)] is expected, not [(2, 8)]",
        {"my.py": "def mine(x, state):\n    return x\n"},
    ),
}

# --- runs ------------------------------------------------------------------------------------------------------------

RUNS = {
    "a run stands there": Case(
        "train digits --out run", "run: exists already; --out names another folder, --force overwrites it"
    ),
    "a run stands there, forced by what cannot be trained": Case(
        "train digits --out run --force --set model.cell=lsmt",
        "model.cell: unknown cell 'lsmt'; did you mean 'lstm'? Known: CELLS; one of your own is named as file.py:NAME",
    ),
    "a run in place of its recipe": Case(
        "train run --out new",
        "unknown recipe, task or TOML file 'run'. Known: RECIPES; the recipe of that run is run/recipe.toml",
    ),
    "an unfinished run stands there": Case(
        "train digits --out unfinished",
        "unfinished: exists already; --out names another folder, --resume unfinished to go on with it, "
        "--force overwrites it",
    ),
    "a file stands there": Case(
        "train digits --out f", "f: exists already; --out names another folder, --force overwrites it", {"f": "mine"}
    ),
    "a file stands there, forced": Case(
        "train digits --out f --force",
        "f: exists and is not a run folder, so --force does not overwrite it",
        {"f": "mine"},
    ),
    "another folder stands there, forced": Case(
        "train digits --out d --force",
        "d: exists and is not a run folder, so --force does not overwrite it",
        {"d/f": "mine"},
    ),
    "a folder that cannot be made": Case(
        "train digits --out f/new", "f/new: the run folder cannot be made: f is a file", {"f": "mine"}
    ),
    "a folder that cannot be written": Case(
        "train digits --out /proc/new", "/proc/new: the run folder cannot be made: No such file or directory"
    ),
    "evaluate what is not there": Case("evaluate rum", "rum: no such file or folder. Did you mean run?", {"run/f": ""}),
    "evaluate what is no run": Case("evaluate d", "d: is no run folder (it has no recipe.toml)", {"d/f": "mine"}),
    "evaluate a run without a test part": Case(
        "evaluate untested", "untested: the run had no test part; --data names one"
    ),
    "evaluate without targets": Case(
        "evaluate run --data g.csv",
        "g.csv: has no labels, which are needed to measure on it.",
        {"g.csv": "a,b,c\n1,2,3\n"},
    ),
    "predict with an unfinished run": Case(
        "predict unfinished --data good.csv",
        "unfinished: is not finished; go on with it: recurra train --resume unfinished",
    ),
    "predict with several seeds' folder": Case(
        "predict d --data good.csv",
        "d: holds the runs of several seeds; name one of them, such as d/seed-0",
        {"d/recipe.toml": "", "d/seeds.json": "{}", "good.csv": GOOD},
    ),
    "compare one run": Case("compare run", "two or more run folders are expected, not 1"),
    "compare what is no run": Case("compare run d", "d: is no run folder (it has no recipe.toml)", {"d/f": "mine"}),
    "compare two tasks": Case(
        "compare run rates",
        "rates: its task is regress, that of run is classify; only runs of one task can be compared",
    ),
    "resume what is no run": Case("train --resume f", "f: is no run folder (it has no recipe.toml)", {"f": "mine"}),
    "resume with a setting": Case(
        "train --resume unfinished --set train.lr=1",
        "--set beside --resume: a run goes on with the recipe it began with",
    ),
    "resume with a name": Case(
        "train digits --resume unfinished", "NAME beside --resume: a run goes on with the recipe it began with"
    ),
    "resume by force": Case(
        "train --resume unfinished --force", "--force beside --resume: a run goes on with the recipe it began with"
    ),
    "resume with other data": Case(
        "train --resume unfinished",
        "unfinished: the data are not those that this run began with, so it cannot go on",
        spoil=edit("good.csv", "up,1,2", "up,1,3"),
    ),
    "resume without the data": Case(
        "train --resume unfinished", "HERE/good.csv: no such file or folder.", spoil=remove("good.csv")
    ),
    "resume from a damaged checkpoint": Case(
        "train --resume unfinished",
        "unfinished/checkpoints/last.safetensors: is damaged or cut short; delete it, and the run begins "
        "anew when it is resumed",
        spoil=cut("unfinished/checkpoints/last.safetensors"),
    ),
    "resume from a strange checkpoint": Case(
        "train --resume unfinished",
        "unfinished/checkpoints/last.safetensors: is damaged; delete it, and the run begins anew when it is resumed",
        spoil=edit("unfinished/checkpoints/last.safetensors", "samples", "simples"),
    ),
    "resume with an edited recipe": Case(
        "train --resume unfinished",
        "unfinished/checkpoints/last.safetensors: does not fit the run's recipe.toml and schema.json: "
        "output.weight is 2 × 3, expected 2 × 4; delete it, and the run begins anew when it is resumed",
        spoil=edit("unfinished/recipe.toml", "hidden_size = 3", "hidden_size = 4"),
    ),
    "from a run of other inputs": Case(
        "train r.toml --from run --data t.tsv --out new",
        "--from HERE/run: that run reads 1 number a step, the new data are texts",
        {"r.toml": 'task = "classify"\n', "t.tsv": TEXTS},
    ),
    "from an unfinished run": Case(
        "train classify --from unfinished --data good.csv --out new",
        "unfinished: is not finished, and has no checkpoint whose weights could be taken; go on with it: recurra train "
        "--resume unfinished",
        spoil=remove("unfinished/checkpoints/last.safetensors"),
    ),
    "from an unfinished run whose checkpoint is damaged": Case(
        "train classify --from unfinished --data good.csv --out new",
        "unfinished/checkpoints/last.safetensors: is damaged or cut short",
        spoil=cut("unfinished/checkpoints/last.safetensors"),
    ),
    "from an unfinished run whose checkpoint is strange": Case(
        "train classify --from unfinished --data good.csv --out new",
        "unfinished/checkpoints/last.safetensors: is damaged",
        spoil=edit("unfinished/checkpoints/last.safetensors", "progress", "progresz"),
    ),
    "from a run with another network": Case(
        "train classify --from run --data good.csv --out new --set model.cell=gru",
        "model.cell: the network is that of run, so no model.* can be set beside --from",
        {"good.csv": GOOD},
    ),
    "weights cut short": damaged(
        cut("run/model.safetensors"),
        "run/model.safetensors: is not the file that the run wrote (its SHA-256 is not that in summary.json)",
    ),
    "weights edited": damaged(
        flip("run/model.safetensors"),
        "run/model.safetensors: is not the file that the run wrote (its SHA-256 is not that in summary.json)",
    ),
    "weights removed": damaged(remove("run/model.safetensors"), "run/model.safetensors: is missing"),
    "weights of another recipe": damaged(
        edit("run/recipe.toml", "hidden_size = 3", "hidden_size = 4"),
        "run/model.safetensors: does not fit the run's recipe.toml and schema.json: output.weight is 2 × 3, "
        "expected 2 × 4",
    ),
    "summary cut short": damaged(
        write("run/summary.json", '{\n"task": '), "run/summary.json, line 2: is damaged: not JSON"
    ),
    "summary that is a list": damaged(write("run/summary.json", "[]"), "run/summary.json: is damaged: no JSON object"),
    "summary without a digest": damaged(
        edit("run/summary.json", '"sha256"', '"sha257"'), "run/summary.json: is damaged: 'sha256' is missing"
    ),
    "schema cut short": damaged(
        write("run/schema.json", '{\n"task": "classify'), "run/schema.json, line 2: is damaged: not JSON"
    ),
    "schema removed": damaged(remove("run/schema.json"), "run/schema.json: is missing"),
    "schema with a strange key": damaged(
        edit("run/schema.json", '"classes"', '"clases"'), "run/schema.json: is damaged (at 'clases')"
    ),
    "schema with a wrong option": damaged(
        edit("run/schema.json", '"settings": {', '"settings": {"min_count": "few",'),
        "run/schema.json: is damaged (at 'min_count')",
    ),
    "recipe that is not TOML": damaged(
        write("run/recipe.toml", 'name = "x"\n[train\n'),
        "run/recipe.toml, line 2, column 7: not TOML: expected ']' at the end of a table declaration",
    ),
    "recipe with a strange key": damaged(
        edit("run/recipe.toml", "\nlr =", "\nlrr ="), "run/recipe.toml: train.lrr: unknown key; did you mean train.lr?"
    ),
    "recipe with a strange cell": damaged(
        edit("run/recipe.toml", 'cell = "lstm"', 'cell = "lsmt"'),
        "run/recipe.toml: model.cell: unknown cell 'lsmt'; did you mean 'lstm'? Known: CELLS; one of your "
        "own is named as file.py:NAME",
    ),
    "run folder of a later version": damaged(
        edit("run/schema.json", '"format_version": 1', '"format_version": 2'),
        "run: is a run folder of version 2, but Recurra VERSION reads version 1; another release made it",
    ),
    "compare with predictions cut short": Case(
        "compare run other",
        "other/test_predictions.csv: is damaged: it has no column 'prediction' or no row",
        spoil=write("other/test_predictions.csv", "index,target\n0,up\n"),
    ),
    "predict on a file that is not there": Case(
        "predict run --data god.csv", "god.csv: no such file or folder. Did you mean good.csv?", {"good.csv": GOOD}
    ),
    "predict on nothing": Case("predict run --data -", "standard input: is empty."),
    "predict on bytes that are no text": Case(
        "predict run --data -",
        "standard input, line 1: byte 0 (89) is not utf-8; if it is latin-1, convert it: iconv -f iso8859-1 -t utf-8",
        stdin=b"\x89PNG\0\0",
    ),
    "evaluate on a file in another encoding": Case(
        "evaluate run --data g.csv",
        "g.csv, line 3: byte 22 (fc) is not utf-8; if it is latin-1, convert it: iconv -f iso8859-1 -t utf-8 "
        "g.csv > NEW",
        {"g.csv": "label,a,b,c\nup,1,2,3\nf\u00fcr,1,2,3\n".encode("latin-1")},
    ),
    "predict on a feature too few": Case(
        "predict run --data g.csv",
        "g.csv: the column 'c' of the training data is missing. Columns: label, a, b.",
        {"g.csv": "label,a,b\nup,1,2\n"},
    ),
    "predict on other columns": Case(
        "predict run --data g.csv",
        "g.csv: the column 'c' of the training data is missing. Columns: label, a, b, d.",
        {"g.csv": "label,a,b,d\nup,1,2,3\n"},
    ),
    "predict on texts for numbers": Case(
        "predict run --data t.tsv",
        "t.tsv: the column 'a' of the training data is missing. Columns: label, text.",
        {"t.tsv": TEXTS},
    ),
    "predictions over a file": Case(
        "predict run --data good.csv --out f",
        "f: exists already; --force overwrites it",
        {"f": "mine", "good.csv": GOOD},
    ),
    "predictions over a folder": Case(
        "predict run --data good.csv --out d --force",
        "d: cannot be written: is a folder",
        {"d/f": "mine", "good.csv": GOOD},
    ),
    "predictions into no folder": Case(
        "predict run --data good.csv --out d/p.csv",
        "d/p.csv: cannot be written: there is no folder d",
        {"good.csv": GOOD},
    ),
    "predictions in no such format": Case(
        "predict run --data good.csv --output-format json",
        "--output-format: unknown format 'json'; did you mean 'jsonl'? Known: csv, jsonl",
        {"good.csv": GOOD},
    ),
}

# --- the command line ------------------------------------------------------------------------------------------------

WORDS = {
    "no such command": Case("tarin digits", "unknown command 'tarin'; did you mean 'train'? Known: COMMANDS"),
    "no such option": Case("train digits --dta x", "no such option --dta; did you mean --data?"),
    "a key as an option": Case(
        "train digits --epochs 3", "no such option --epochs; a key of the recipe is set by: --set train.epochs=VALUE"
    ),
    "an option unlike any": Case("compare run other --quick", "no such option --quick; known: --json"),
    "an option without its value": Case("train digits --data", "--data: a value is expected behind it"),
    "an empty word": Case(
        "train classify --data ''", "a word of the command line is empty; is it a variable that is not set?"
    ),
    "a name too many": Case("train digits mnist", "train: one argument too many: mnist"),
    "no run": Case("evaluate", "RUN is missing: a run folder"),
    "no data to predict on": Case("predict run", "--data is missing: the sequences; - reads standard input"),
    "nothing to compare": Case("compare", "RUN... is missing: two or more run folders"),
    "nothing to fetch": Case("data fetch", "NAME is missing: the data set to fetch; known: OFFERED"),
    "fetch what does not exist": Case(
        "data fetch mnits", "unknown data set 'mnits'; did you mean 'mnist'? Known: SETS"
    ),
    "fetch what is withheld": Case(
        "data fetch imdb",
        "imdb: is not offered for download: its authors publish it as one archive of 100,000 files, in "
        "another form than the two files that Recurra's figures were made with.\nInstead, unpack "
        "aclImdb_v1.tar.gz, the Large Movie Review Dataset of Maas et al. (2011), remove its train/unsup and "
        "name the folder: recurra train imdb --data aclImdb.",
    ),
    "fetch what is built in": Case("data fetch digits", "digits: is part of Recurra; there is nothing to fetch."),
    "data of nothing": Case("data --task tag", "PATH is missing: a file, folder or data set, or the word fetch"),
    "data of one side": Case(
        "data --task translate --set data.source=here/a.en",
        "data.target: is not set, though the other side is a file; expected a file, too.",
    ),
    "data for no such task": Case(
        "data good.csv --task sort", "--task: unknown task 'sort'. Known: TASKS", {"good.csv": GOOD}
    ),
    "data with a model's key": Case(
        "data good.csv --set model.cell=gru",
        "--set model.cell: only keys data.* tell how data are read",
        {"good.csv": GOOD},
    ),
    "rows of a file": Case(
        "data good.csv --lines 3",
        "--lines, --output-format: unknown made source 'good.csv'. Known: MADE",
        {"good.csv": GOOD},
    ),
    "rows in another form": Case(
        "data adding --output-format xml", "--output-format: unknown format 'xml'. Known: csv, jsonl"
    ),
    "fewer rows than a sequence has": Case(
        "data adding --lines 3", "--lines 3: the first sequence of adding has 400 steps, a line each"
    ),
    "no rows": Case("data adding --lines 0", "--lines: a whole number from 1 is expected, not 0"),
    "rows in number by a word": Case("data adding --lines x", "--lines: a whole number is expected, not 'x'"),
    "rows of a source with a wrong option": Case(
        "data drifting --lines 3 --set data.options.hold=0",
        "data.options.hold: a number from 1 is expected, not 0",
    ),
    "two data sets": Case("data good.csv other.csv", "'other.csv': one file or folder at a time", {"good.csv": GOOD}),
}

TONE = spoken.encoded(spoken.tone("low"))


def sounds(says: str, files: Mapping[str, str | bytes | None], more: str = "") -> Case:
    """Recordings to train on, beside two that are as they should be."""
    return Case(f"train speech --data d --out new {more}", says, {"d/a/1.wav": TONE, "d/b/1.wav": TONE, **files})


SOUNDS: dict[str, Case] = {
    "a recording cut off": sounds(
        f"d/a/2.wav: is cut off: its header tells of {len(TONE):,} bytes, 200 are there.",
        {"d/a/2.wav": TONE[:200]},
    ),
    "an empty recording": sounds("d/a/2.wav: is empty; expected a WAV file.", {"d/a/2.wav": b""}),
    "another kind of sound": sounds(
        "d/a/2.wav: is MP3; expected a WAV file, which starts with RIFF.", {"d/a/2.wav": b"ID3\x04" + bytes(50)}
    ),
    "no recording": Case("train speech --data d --out new", "d: holds no WAV file.", {"d/x.txt": "x"}),
    "names of another form": sounds(
        "d/a/1.wav: the name is not as data.pattern says, '{label}_{index}.wav'.",
        {},
        "--set data.pattern={label}_{index}.wav",
    ),
    "a condition of no field": sounds(
        "d: data.held_out: the names tell of no field 'speaker'; data.pattern says what they tell.",
        {},
        "--set data.held_out=speaker=theo",
    ),
    "a beam of nothing": sounds("model.beam: a whole number from 1 is expected, not 0", {}, "--set model.beam=0"),
    "slopes of slopes of slopes": sounds("data.deltas: unknown value '9'. Known: 0, 1, 2", {}, "--set data.deltas=9"),
    "too many bands": sounds(
        "data.mels: 300 bands are too many: no frequency of the spectrum lies in band 1; fewer bands, or a longer "
        "data.window than 25 ms.",
        {f"d/{label}/{i}.wav": TONE for label in "ab" for i in range(2, 5)},
        "--set data.mels=300",
    ),
}


CASES = {
    f"{group}: {name}": case
    for group, cases in (("file", FILES), ("recipe", RECIPES), ("run", RUNS), ("words", WORDS), ("sound", SOUNDS))
    for name, case in cases.items()
}
LISTS = {
    "CELLS": ", ".join(sorted(CATALOGUE)),
    "RECIPES": ", ".join(sorted([*recipe.built_in(), *TASKS])),
    "ALL": ", ".join([*recipe.built_in(), *TASKS]),
    "FORMATS": ", ".join(FORMATS),
    "SORTED_FORMATS": ", ".join(sorted(FORMATS)),
    "SETS": ", ".join(sorted(name for name, one in sets().items() if one.files)),
    "OFFERED": ", ".join(name for name, one in sets().items() if one.files),
    "WITH_OPTIONS": ", ".join(name for name, made in MADE.items() if made.model_fields),
    "MADE": ", ".join(sorted(MADE)),
    "OFFERED_OR_MADE": ", ".join(sorted([*MADE, *(name for name, one in sets().items() if one.files)])),
    "COMMANDS": ", ".join(
        sorted(str(one.name or getattr(one.callback, "__name__", "")) for one in app.registered_commands)
    ),
    "TASKS": ", ".join(sorted(TASKS)),
    "VERSION": recurra.__version__,
}
RUN_FOLDERS = ("run", "other", "untested", "texts", "rates", "unfinished")


class Stop(Silent):
    """Ends a run after a few updates, as a person does with Ctrl-C."""

    def update(self, step: int, loss: float) -> None:
        if step == 5:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of every kind."""
    here = tmp_path_factory.mktemp("runs")
    for name, content in (("good.csv", GOOD), ("texts.tsv", TEXTS), ("rates.csv", RATES)):
        (here / name).write_text(content)
    good = here / "good.csv"
    recurra.train("classify", good, out=here / "run", settings=TINY)
    recurra.train("classify", good, out=here / "other", settings=TINY, seed=1)
    recurra.train("classify", good, out=here / "untested", settings=TINY | {"data.test_fraction": 0.0})
    recurra.train("classify", here / "texts.tsv", out=here / "texts", settings=TINY)
    recurra.train("regress", here / "rates.csv", out=here / "rates", settings=TINY)
    with pytest.raises(KeyboardInterrupt):
        recurra.train(
            "classify",
            good,
            out=here / "unfinished",
            settings=TINY | {"train.epochs": 20, "train.checkpoint_seconds": 0.0},
            listener=Stop(),
        )
    return here


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, on a machine with a processor alone and no data sets."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RECURRA_DATA", raising=False)
    monkeypatch.setenv("RECURRA_CACHE", "/no/cache")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    return tmp_path


def prepare(here: Path, case: Case, runs: Path) -> None:
    """Make the input of a case, beside an earlier run that nothing may touch."""
    shutil.copytree(runs / "run", here / "runs" / "earlier")
    words = case.words.replace("/", " ").split()
    for name in RUN_FOLDERS:
        if name in words:
            shutil.copytree(runs / name, here / name)
    if "unfinished" in words:
        (here / "good.csv").write_text(GOOD)
        edit("unfinished/recipe.toml", str(runs / "good.csv"), str(here / "good.csv"))(here)
    for name, content in case.files.items():
        path = here / name
        if content is None:
            path.mkdir(parents=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    if case.spoil is not None:
        case.spoil(here)


def spelt(text: str) -> str:
    """A message with every list in full."""
    return re.sub(r"\b[A-Z_]{3,}\b", lambda found: LISTS.get(found[0], found[0]), text)


def digests(folder: Path) -> dict[str, str]:
    """Everything below a folder, with the digest of its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_said(
    name: str, here: Path, runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    prepare(here, case, runs)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(case.stdin)))
    before = digests(here)
    status = main(shlex.split(case.words))
    said = capsys.readouterr()
    assert said.err.replace(str(here), "HERE") == f"error: {spelt(case.says)}\n"
    assert said.err.count("\n") <= 2
    assert said.out == ""
    assert status == 2
    assert digests(here) == before


def test_a_class_met_only_in_the_test_part_counts_as_wrong(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "train.csv").write_text(GOOD)
    (here / "new.csv").write_text("label,a,b,c\nup,1,2,-1\nsideways,5,6,-5\nsideways,7,8,-7\n")
    tiny = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]
    assert main(["train", "classify", "--data", "train.csv", "--test", "new.csv", "--out", "new", *tiny]) == 0
    warning = "new.csv: 2 of 3 sequences have a label that training data do not have ('sideways'); they count as wrong."
    assert f"warning: {warning}\n" in capsys.readouterr().err
    summary = recurra.load("new").summary
    assert warning in summary["warnings"]
    assert summary["test"]["accuracy"] <= 1 / 3 + 1e-9
    assert main(["evaluate", "new", "--data", "new.csv"]) == 0
    assert f"warning: {warning}\n" in capsys.readouterr().err


# --- the disk --------------------------------------------------------------------------------------------------------


@pytest.fixture
def full_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes the disk full once so many files have reached it."""

    def arrange(count: int) -> None:
        left, sync = iter(range(count)), os.fsync

        def fsync(handle: int) -> None:
            if next(left, None) is None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            sync(handle)

        monkeypatch.setattr(os, "fsync", fsync)

    return arrange


def test_a_disk_full_before_training_leaves_nothing(
    here: Path, full_after: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    full_after(2)
    assert main(["train", "digits"]) == 2
    said = "error: runs/digits: the run folder cannot be made: No space left on device\n"
    assert capsys.readouterr().err == said
    assert digests(here) == {"runs": "folder"}


def test_a_disk_full_while_training_leaves_a_run_to_go_on_with(
    here: Path, full_after: Callable[[int], None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "good.csv").write_text(GOOD)
    words = ["train", "classify", "--data", "good.csv"]
    tiny = [word for key, value in (TINY | {"train.epochs": 4}).items() for word in ("--set", f"{key}={value}")]
    assert main([*words, *tiny, "--out", "unbroken"]) == 0
    with monkeypatch.context() as patched:
        full_after(12)
        assert main([*words, *tiny, "--out", "new"]) == 2
        patched.undo()
    said = capsys.readouterr().err.splitlines()[-1]
    place = r"error: new/[\w./]+: cannot be written: No space left on device"
    assert re.fullmatch(f"{place}(; what stood there before is as it was)?", said)
    assert not list((here / "new").rglob(".*.partial"))
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert main(["train", "--resume", "new"]) == 0
    assert recurra.load("new").summary["sha256"] == recurra.load("unbroken").summary["sha256"]


def test_a_disk_full_while_predictions_are_written_keeps_the_old_ones(
    here: Path, runs: Path, full_after: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "good.csv").write_text(GOOD)
    (here / "said.csv").write_text("mine")
    full_after(0)
    assert main(["predict", str(runs / "run"), "--data", "good.csv", "--out", "said.csv", "--force"]) == 2
    expected = "said.csv: cannot be written: No space left on device; what stood there before is as it was"
    assert capsys.readouterr().err == f"error: {expected}\n"
    assert digests(here).keys() == {"good.csv", "said.csv"}
    assert (here / "said.csv").read_text() == "mine"


def test_files_that_may_not_grow(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 15, hard))
    try:
        status = main(["train", "digits", "--out", "new", "--set", "train.samples=64"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "error: new/checkpoints/last.safetensors: cannot be written: File too large"
    assert status == 2
    assert digests(here).keys() == {"new", "new/.lock", "new/checkpoints", "new/recipe.toml", "new/schema.json"} | {
        path for path in digests(here) if path == "new/metrics.jsonl"
    }


def test_a_disk_that_is_full_indeed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = here / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount a small disk here")
    try:
        assert main(["train", "digits", "--out", "disk/new", "--set", "train.samples=64"]) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert re.fullmatch(r"error: disk/new/[\w./]+: cannot be written: No space left on device", said)
        assert recurra.load("disk/new").recipe.train.samples == 64
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# --- the machine, and the person at it -------------------------------------------------------------------------------


def test_a_graphics_card_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    settings = recipe.load("digits", {"train.device": "cuda:7"}).train
    expected = "train.device: 'cuda:7' is not there; this machine has: cuda:0, cuda:1"
    with pytest.raises(RecipeError, match=f"^{re.escape(expected)}$"):
        make_fabric(settings)


def test_a_run_that_is_stopped_says_how_to_go_on(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def update(self: Progress, step: int, loss: float) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Progress, "update", update)
        assert main(["train", "sine", "--out", "new"]) == 130
    said = capsys.readouterr()
    assert said.err.endswith("stopped; go on from the last checkpoint: recurra train --resume new\n")
    assert main(["train", "--resume", "new"]) == 0


def test_a_loss_that_is_no_number(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wild = ["--set", "train.optimizer=sgd", "--set", "train.lr=1e30", "--set", "train.clip_norm=0"]
    assert main(["train", "sine", "--out", "new", *wild]) == 2
    said, command = capsys.readouterr().err.splitlines()[-2:]
    pattern = r"error: new: the loss became (nan|inf) at update \d+\. Try a lower train\.lr .* or train\.clip_norm .*:"
    assert re.fullmatch(pattern, said)
    assert command == "recurra train new/recipe.toml --set train.lr=1e+29 --out new-2"


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digist", "--debug"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("Traceback (most recent call last):")
    assert said.splitlines()[-1].startswith("error: unknown recipe, task or TOML file 'digist'")


@pytest.mark.exhaustive
@pytest.mark.parametrize(("where", "status", "said"), [("/dev/full", 2, "No space left on device"), ("|", 1, "")])
def test_output_that_cannot_be_written(where: str, status: int, said: str) -> None:
    command = f"{shlex.quote(sys.executable)} -m recurra recipes digits"
    line = f"{command} > /dev/full" if where != "|" else f"{command} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert done.returncode == status
    assert done.stderr == (f"error: standard output: {said}\n" if said else "")
