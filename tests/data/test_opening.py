"""Files are opened whatever their packing, and their faults are told as a person can mend them."""

import bz2
import gzip
import io
import lzma
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from recurra.data.opening import (
    LONGEST,
    encoding_settable,
    first_bytes,
    first_lines,
    open_binary,
    open_text,
    plain_name,
)
from recurra.errors import DataError

PACK = {"": lambda data: data, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


def read(source: Path | io.BytesIO, encoding: str = "utf-8") -> str:
    with open_text(source, encoding) as text:
        return text.read()


@pytest.mark.parametrize("ending", PACK)
def test_every_packing_is_read_from_files_and_streams(tmp_path: Path, ending: str):
    content = "Zürich\n日本\n" * 5000
    data = PACK[ending](content.encode())
    path = tmp_path / f"a.txt{ending}"
    path.write_bytes(data)
    renamed = tmp_path / "renamed"
    renamed.write_bytes(data)
    assert read(path) == read(renamed) == read(io.BytesIO(data)) == content
    assert plain_name(path) == "a.txt"
    with open_binary(path) as binary:
        buffer = bytearray(7)
        assert binary.readline() == "Zürich\n".encode()
        assert binary.readinto(buffer) == 7  # type: ignore[attr-defined]
        assert bytes(buffer) == "日本\n".encode()
    assert first_lines(path, 2) == ["Zürich", "日本"]
    assert first_bytes(path, 3) == "Zü".encode()


def test_a_byte_order_mark_is_left_out_and_line_ends_are_one(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfa\r\nb\n")
    assert read(tmp_path / "a") == "a\nb\n"


def test_text_is_not_split_at_unicode_line_ends(tmp_path: Path):
    (tmp_path / "a").write_text("one\x85two\u2028three\nfour\n", encoding="utf-8")
    with open_text(tmp_path / "a") as text:
        assert len(list(text)) == 2


def test_first_lines_of_very_long_lines_are_cut(tmp_path: Path):
    (tmp_path / "a").write_text("x" * (3 * LONGEST) + "\nsecond\n" + "y" * LONGEST + "\nfourth")
    lines = first_lines(tmp_path / "a", 4)
    assert [len(line) for line in lines] == [LONGEST, 6, LONGEST, 6]
    (tmp_path / "b").write_bytes(b"\x89PNG\r\n\0\0")
    assert first_lines(tmp_path / "b", 4) == first_lines(tmp_path / "none") == []


def test_a_stream_stays_open(tmp_path: Path):
    stream = io.BytesIO(b"abc")
    assert read(stream) == "abc"
    assert not stream.closed


def packed(content: bytes, ending: str, start: int, stop: int, put: bytes = b"") -> bytes:
    data = PACK[ending](content)
    return data[:start] + put + data[stop:]


NOISE = bytes((i * i * 7 + i // 3) % 251 for i in range(20_000))
FAULTS = {
    "empty": (b"", "a", r"a: is empty\."),
    "empty gzip": (gzip.compress(b""), "a.gz", r"a\.gz: is empty once unpacked\."),
    "empty bzip2": (bz2.compress(b""), "a.bz2", r"is empty once unpacked\."),
    "cut gzip": (packed(NOISE, ".gz", 300, 1 << 30), "a.gz", r"the gzip data are cut short\."),
    "cut gzip trailer": (packed(NOISE, ".gz", -3, 1 << 30), "a.gz", r"the gzip data are cut short\."),
    "cut bzip2": (packed(NOISE, ".bz2", 300, 1 << 30), "a.bz2", r"the bzip2 data are cut short\."),
    "cut xz": (packed(NOISE, ".xz", 200, 1 << 30), "a.xz", r"the xz data are cut short\."),
    "damaged gzip": (packed(NOISE, ".gz", 80, 90, b"0123456789"), "a.gz", r"the gzip data are damaged \("),
    "damaged bzip2": (packed(NOISE, ".bz2", 80, 90, b"0123456789"), "a.bz2", r"the bzip2 data are damaged \("),
    "damaged xz": (packed(NOISE, ".xz", 80, 90, b"0123456789"), "a.xz", r"the xz data are damaged \("),
    "no gzip": (b"plain", "a.gz", r"its name says gzip, but it starts with the bytes 70 6c 61 69\."),
    "encoding": (
        b"one\ntwo\ncaf\xe9s\n",
        "a",
        r"a, line 3: byte 11 \(e9\) is not utf-8; .*iconv -f iso8859-1 -t utf-8 /",
    ),
    "utf-16": (
        "a\nb".encode("utf-16"),
        "a",
        r"line 1: byte 0 \(ff\) is not utf-8; .*: iconv -f utf-16 -t utf-8 /.*/a >",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_told(tmp_path: Path, fault: str):
    data, name, message = FAULTS[fault]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        read(tmp_path / name, "latin-1" if name.endswith("z") or name.endswith("2") else "utf-8")


def test_wrong_bytes_are_placed_far_into_a_packed_file(tmp_path: Path):
    good = "Größe\n".encode() * 40_000
    (tmp_path / "a.gz").write_bytes(gzip.compress(good + b"bad \xff\n" + good))
    with pytest.raises(DataError, match=rf"a\.gz, line 40001: byte {len(good) + 4} \(ff\) is not utf-8"):
        read(tmp_path / "a.gz")
    with pytest.raises(DataError, match=rf"standard input, line 40001: byte {len(good) + 4} \(ff\)"):
        read(io.BytesIO(good + b"bad \xff\n" + good))


@pytest.mark.parametrize(("packing", "ending"), [(bytes, ""), (gzip.compress, ".gz"), (bz2.compress, ".bz2")])
def test_a_wrong_encoding_is_told_with_the_command_that_converts_the_file(
    tmp_path: Path, packing: Callable[[bytes], bytes], ending: str
):
    place = tmp_path / f"a b{ending}"
    place.write_bytes(packing("Größe\n".encode("latin-1")))
    with pytest.raises(DataError) as error:
        read(place)
    _, _, command = str(error.value).partition("convert it: ")
    subprocess.run(command.replace("NEW", f"{tmp_path}/new"), shell=True, check=True)
    assert read(tmp_path / "new") == "Größe\n"
    settable = r"byte 2 \(f6\) is not utf-8; name the encoding .* data\.encoding=latin-1\."
    with pytest.raises(DataError, match=settable), encoding_settable():
        read(place)


def test_paths_that_are_no_files(tmp_path: Path):
    (tmp_path / "Train.csv").write_text("x")
    with pytest.raises(DataError, match=re.escape(f"Did you mean {tmp_path / 'Train.csv'}?")):
        read(tmp_path / "trian.csv")
    with pytest.raises(DataError, match="no such file, and no folder"):
        read(tmp_path / "none" / "a.csv")
    with pytest.raises(DataError, match="is a folder; a file is expected"):
        read(tmp_path)
    with pytest.raises(DataError, match="not a regular file"):
        read(Path("/dev/null"))
    with pytest.raises(DataError, match="cannot be opened: Not a directory"):
        read(tmp_path / "Train.csv" / "a")


@pytest.mark.parametrize("encoding", ["utf-9", "rot13"])
def test_encodings_that_are_none(tmp_path: Path, encoding: str):
    (tmp_path / "a").write_text("x")
    with pytest.raises(DataError, match=rf"data\.encoding: '{encoding}'"):
        read(tmp_path / "a", encoding)
