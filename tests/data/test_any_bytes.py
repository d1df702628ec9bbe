"""Whatever a file holds, it is read or refused in words; nothing else is ever raised."""

import gzip
import struct
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recurra.data import DataSettings, describe, load_part, load_parts
from recurra.errors import DataError

NAMES = [
    "a",
    "a.csv",
    "a.tsv",
    "a.ts",
    "X_TRAIN.txt",
    "a.npz",
    "a.npy",
    "a-idx3-ubyte",
    "a.gz",
    "a.csv.bz2",
    "a.parquet",
]
SETTINGS = DataSettings(validation_fraction=0, test_fraction=0, min_count=1)


def table(separator: str, label: str) -> bytes:
    return "\n".join(f"{label}{i % 2}{separator}{i / 7}{separator}{i}" for i in range(8)).encode()


def idx() -> bytes:
    return struct.pack(">HBB3I", 0, 8, 3, 2, 3, 2) + bytes(range(12))


WHOLE = [
    table("\t", ""),
    table(",", "c"),
    table(" ", ""),
    b"label,text\np,a good one\nn,a bad one\n",
    b"id,time,x,label\n1,0,0.5,a\n1,1,0.6,a\n2,0,1,b\n2,1,2,b\n",
    b"@problemName X\n@classLabel true a b\n@data\n1,2:3,4:a\n5:6:b\n",
    idx(),
    gzip.compress(table(",", "c")),
    "größe;länge;klasse\n1;2;ä\n3;4;ö\n".encode(),
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good file with some bytes cut out, put in or changed."""
    data = bytearray(draw(st.sampled_from(WHOLE)))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        stop = draw(st.integers(start, min(len(data), start + 4)))
        data[start:stop] = draw(
            st.sampled_from([b"", b"\0", b"\xff", b"\n", b",", b'"', b"nan", b":", b"-", b"1e999", b"\t"])
        )
    return bytes(data)


ANY = st.tuples(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)), st.sampled_from(NAMES))
LIKELY = st.tuples(damaged(), st.sampled_from(["a", "a.csv", "a.ts", "X_TRAIN.txt"]))


@given(st.one_of(LIKELY, LIKELY, ANY), st.booleans())
def test_no_content_of_a_file_breaks_reading(file: tuple[bytes, str], classify: bool):
    content, name = file
    task = "classify" if classify else "regress"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        for read in (
            lambda: load_parts(path, task, SETTINGS),
            lambda: describe(path, SETTINGS, task).to_text(),
            lambda: load_part(path, NUMBERS),
            lambda: load_part(path, TEXTS),
        ):
            try:
                read()
            except DataError as error:
                assert len(str(error)) < 1000  # noqa: PT017
                assert "\n" not in str(error)  # noqa: PT017


NUMBERS = load_parts((np.zeros((2, 3)), [0, 1]), "classify", SETTINGS).schema
TEXTS = load_parts((["a", "b"], [0, 1]), "classify", SETTINGS).schema
