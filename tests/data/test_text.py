"""Texts: tokens, tables with labels in every layout, folders by class, plain lines; faults told by line."""

import bz2
import gzip
import io
import tempfile
import unicodedata
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recurra.data import DataSettings, Schema, load_part, load_parts
from recurra.data.load import choose_format
from recurra.data.records import Records
from recurra.data.text import FOLDER, LABELLED
from recurra.data.tokens import _ASCII, TokenArray, _all_scripts, tokenize
from recurra.errors import DataError

ALL = DataSettings(validation_fraction=0, test_fraction=0, min_count=1)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", []),
        (" \t\n<br /> ", []),
        ("A fine film.", "a fine film ."),
        ("Well-made, isn't it?", "well - made , is n't it ?"),
        ("It's Tom's; they'd've gone: I'm, you're, we'll", "it 's tom 's ; they 'd 've gone : i 'm , you 're , we 'll"),
        ("o'clock l'homme rock'n'roll 'quoted'", "o'clock l'homme rock'n'roll ' quoted '"),
        ("3.14 10,000 1.2.3 7/10 80's 3rd", "3.14 10,000 1.2.3 7 / 10 80 's 3rd"),
        ("one<br /><br>two<BR/>three", "one two three"),
        ("a_b _x_ a<b", "a _ b _ x _ a < b"),
        ("tab\tand\x0bothers\x85here\u00a0too", "tab and others here too"),
        ("\x00bell\x07", "bell"),
        ("Ça va? L’été", "ça va ? l'été"),
        ("It’s don’t", "it 's do n't"),
        ("e\u0301te\u0301", "été"),
        ("हिन्दी भाषा है।", "हिन्दी भाषा है ।"),
        ("שָׁלוֹם عليكم Привет", "שָׁלוֹם عليكم привет"),
        ("我爱Python3。", "我 爱 python3 。"),
        ("これはペンです", "こ れ は ペ ン で す"),
        ("한국어 문장", "한국어 문장"),
        ("👍🏽 ok 👩‍💻", "👍🏽 ok 👩\u200d 💻"),
        ("price: 5€ & £7", "price : 5 € & £ 7"),
    ],
)
def test_words(text: str, tokens: str | list[str]):
    assert tokenize(text) == (tokens.split(" ") if isinstance(tokens, str) else tokens)


def test_characters_and_case():
    assert tokenize("Ab c\n", "character") == ["a", "b", " ", "c", "\n"]
    assert tokenize("Ab c", "character", lowercase=False) == ["A", "b", " ", "c"]
    assert tokenize("DON'T Stop", lowercase=False) == ["DO", "N'T", "Stop"]
    assert tokenize("ÉTÉ Don’t", lowercase=False) == ["ÉTÉ", "Do", "n't"]


@given(st.text(st.characters(max_codepoint=127)))
@example("n't 'sn't 1,2.3,n't")
def test_the_quick_pattern_for_ascii_finds_what_the_full_one_finds(text: str):
    assert _ASCII.findall(text) == _all_scripts().findall(text)


@given(st.text())
def test_no_letter_is_lost(text: str):
    """Every letter and digit is in a token, once, and no token is empty or holds a blank."""
    tokens = tokenize(text.replace("<", ""), lowercase=False)
    assert all(tokens)
    assert not any(character.isspace() for token in tokens for character in token)
    kept = "".join(character for token in tokens for character in token if character.isalnum())
    assert kept == "".join(c for c in unicodedata.normalize("NFC", text.replace("<", "")) if c.isalnum())


@given(st.lists(st.text("abAB '", max_size=12)))
def test_token_array_holds_every_text(texts: list[str]):
    array = TokenArray()
    added = [text for text in texts if array.add(text)]
    assert added == [text for text in texts if tokenize(text)]
    symbols = array.symbols
    for (start, end), text in zip(pairwise(array.offsets.tolist()), added, strict=True):
        assert [symbols[i] for i in array.values[start:end]] == tokenize(text)


def read(folder: Path, content: str | bytes, task: str = "classify", name: str = "mine.csv", **options: Any) -> Records:
    """Write a file and read it in the format that its content tells of."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    settings = DataSettings(**options)
    return choose_format(path, task, settings).read(path, task, settings, None)


def texts(records: Records) -> list[str]:
    assert records.symbols is not None
    return [
        " ".join(records.symbols[i] for i in records.values[start:end])
        for start, end in pairwise(records.offsets.tolist())
    ]


def labels(records: Records) -> list[str]:
    assert records.labels is not None
    return [";".join(row) for row in records.labels]


FILMS = ["a fine film", "a bad , bad film", "not my film"]
SAID = ["pos", "neg", "neg"]
LAYOUTS = {
    "CSV, header": 'text,label\nA fine film,pos\n"A bad, bad film",neg\nNot my film,neg\n',
    "CSV, no header": 'A fine film,pos\n"A bad, bad film",neg\nNot my film,neg\n',
    "CSV, label first": 'pos,A fine film\nneg,"A bad, bad film"\nneg,Not my film\n',
    "mark and CRLF": '\ufefftext,label\r\nA fine film,pos\r\n"A bad, bad film",neg\r\n\r\nNot my film,neg\r\n',
    "a line end in a text": 'label,text\npos,"A\nfine\r\nfilm"\nneg,"A bad, bad film"\nneg,Not my film\n',
    "semicolons": "text;label\nA fine film;pos\nA bad, bad film;neg\nNot my film;neg\n",
    "an index and an id": ",review_id,review,sentiment\n0,x1,A fine film,pos\n"
    '1,x2,"A bad, bad film",neg\n2,x3,Not my film,neg\n',
    "unknown names": 'v1,v2,,,\npos,A fine film,,,\nneg,"A bad, bad film",,,\nneg,Not my film,,,\n',
    "tabs": "pos\tA fine film\nneg\tA bad, bad film\nneg\tNot my film\n",
    "tabs, blank lines": "pos\tA fine film\n \nneg\tA bad, bad film\n\nneg\tNot my film\n \n",
    "tabs, label last": "A fine film\tpos\nA bad, bad film\tneg\nNot my film\tneg\n",
    "tabs, tabs in the text": "label\ttext\npos\tA fine\tfilm\nneg\tA bad, bad film\nneg\tNot\tmy\tfilm\n",
    "fastText": "__label__pos A fine film\n__label__neg A bad, bad film\n\n__label__neg Not my film\n",
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_layouts(tmp_path: Path, case: str):
    records = read(tmp_path, LAYOUTS[case])
    assert records.settings["format"] == "labelled-text"
    assert texts(records) == FILMS
    assert labels(records) == SAID


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("p,A,A fine film\nn,B,A bad film\n", {"columns": ["sign", "who", "text"], "target": "sign"}),
        ("x,y,z\np,A,A fine film\nn,B,A bad film\n", {"text": "z", "target": "x"}),
        ("x,y,z\np,A,A fine film\nn,B,A bad film\n", {"ignore": ["y"]}),
        ("p\tA\tA fine film\nn\tB\tA bad film\n", {"target": "column_1", "header": False}),
        ("p:A fine film\nn:A bad film\n", {"separator": ":"}),
        ("A\tp\tA fine film\nB\tn\tA bad film\n", {"target": "2", "text": "-1"}),
    ],
)
def test_named_columns(tmp_path: Path, content: str, options: dict[str, Any]):
    records = read(tmp_path, content, format="labelled-text", **options)
    assert texts(records) == ["a fine film", "a bad film"]
    assert labels(records) == ["p", "n"]


def test_quotes_are_plain_characters_between_tabs(tmp_path: Path):
    records = read(tmp_path, 'pos\t"A fine" film\nneg\t"A bad film\nneg\tNot my "film"\n')
    assert texts(records) == ['" a fine " film', '" a bad film', 'not my " film "']


def test_lines_end_at_newlines_alone(tmp_path: Path):
    """U+0085, U+2028 and form feeds stand inside real texts."""
    records = read(tmp_path, "pos\tA fine\x85 film\u2028\nneg\tA bad\x0c film\x1c\nneg\tNot my\x0b film\n")
    assert texts(records) == ["a fine film", "a bad film", "not my film"]
    assert records.place(2).endswith("line 3")


def test_lines_are_counted_in_quoted_texts(tmp_path: Path):
    records = read(tmp_path, 'text,label\n\n"A\nfine\nfilm",pos\n\n"A bad, bad film",neg\nNot my film,neg\n')
    assert [records.place(i).rpartition(" ")[2] for i in range(3)] == ["3", "7", "8"]


def test_single_words_are_texts_too(tmp_path: Path):
    records = read(tmp_path, "Smith,English\nNguyen,Vietnamese\nJones,English\nTran,Vietnamese\n", unit="character")
    assert texts(records)[0] == "s m i t h"
    assert labels(records) == ["English", "Vietnamese", "English", "Vietnamese"]
    records = read(tmp_path, "Smith,English\nNguyen,Vietnamese\nJones,English\nTran,Vietnamese\n")
    assert "--set data.unit=character" in records.warnings[0]


def test_molecules(tmp_path: Path):
    content = "smiles,logP\n" + "".join(f"C{'C' * i}O,{i}.5\n" for i in range(1, 9))
    records = read(tmp_path, content, "regress", unit="character", target="logP")
    assert records.settings["text"] == "smiles"
    dna = "".join("+-"[i % 2] + f",S{i},\t\ttacgt{'acgt'[i % 4]}{'a' * i}\n" for i in range(8))
    records = read(tmp_path, dna, unit="character", lowercase=False)
    assert records.settings["text"] == "column_3"
    assert labels(records) == ["+", "-"] * 4


def test_tables_with_names_or_titles_are_not_texts(tmp_path: Path):
    answers = "".join(f"person{i},{i % 5},{i % 3},{i % 4},{'ab'[i % 2]}\n" for i in range(20))
    for header in ("name,q1,q2,q3,group_b\n", "title,q1,q2,q3,group_b\n"):
        (tmp_path / "mine.csv").write_text(header + answers)
        assert not LABELLED.recognises(tmp_path / "mine.csv", "classify", DataSettings())


def test_names_that_recur(tmp_path: Path):
    pairs = "Smith,English\nNguyen,Vietnamese\nJones,English\nTran,Vietnamese\n"
    records = read(tmp_path, "name,language\n" + pairs * 5, unit="character")
    assert texts(records)[0] == "s m i t h"
    assert labels(records)[:2] == ["English", "Vietnamese"]


def test_a_column_called_text_is_one(tmp_path: Path):
    records = read(tmp_path, "Topic,Where,Text\n" + "a,Rome,yes\nb,Oslo,no\n" * 4)
    assert texts(records)[:2] == ["yes", "no"]
    assert labels(records)[:2] == ["a", "b"]


def test_chinese(tmp_path: Path):
    records = read(tmp_path, "标签,文本\n好,我爱北京\n坏,今天 天气不好\n")
    assert texts(records) == ["我 爱 北 京", "今 天 天 气 不 好"]
    assert labels(records) == ["好", "坏"]


def test_several_labels(tmp_path: Path):
    content = "text,tags\nA fine film,old;long\nA bad film,\nNot my film,long\n"
    records = read(tmp_path, content, label_separator=";", target="tags")
    assert records.multi_label
    assert labels(records) == ["old;long", "", "long"]
    records = read(tmp_path, "__label__a __label__b A fine film\n__label__b A bad film\n")
    assert records.multi_label
    assert labels(records) == ["a;b", "b"]


def test_numbers_to_predict(tmp_path: Path):
    records = read(tmp_path, "review,stars\nA fine film,4.5\nA bad film,1\n", "regress")
    assert records.targets == ["stars"]
    assert records.numbers is not None
    assert records.numbers.tolist() == [[4.5], [1]]
    with pytest.raises(DataError, match="line 3, column 'stars': found 'one', expected a finite number"):
        read(tmp_path, "review,stars\nA fine film,4.5\nA bad film,one\nNot my film,2\n", "regress")


def test_the_label_is_the_column_with_fewest_values_over_the_whole_file(tmp_path: Path):
    """Sorted by label, without a header, as IMDB is: the first rows have one label and several ratings."""
    rows = [f"{i // 2000}\t{i // 2000 * 5 + i % 5}\t{i}\tA film seen {i} times" for i in range(4000)]
    records = read(tmp_path, "\n".join(rows) + "\n")
    assert records.settings["target"] == ["column_1"]
    assert labels(records) == [str(i // 2000) for i in range(4000)]
    assert "the label is taken from 'column_1', which has 2 values; 'column_2' has 10" in records.warnings[0]


FAULTS = {
    "a cell too few": (
        "label\ttext\npos\tA fine film\nneg\n",
        {},
        "line 3: 1 cells found, 2 expected (cells parted by tabs)",
    ),
    "a cell too many": (
        "label,text\npos,A fine film\nneg,A bad, bad film\nneg,A bad film\n",
        {},
        "line 3: 3 cells found, 2 expected (cells parted by commas; a text that holds one is put in quotes)",
    ),
    "empty text": ("label,text\npos,A fine film\nneg,\nneg,A bad film\n", {}, "line 3: the text is empty; every"),
    "text of blanks and breaks": ("label,text\npos,A fine film\nneg, <br />\n", {}, "line 3: the text is empty"),
    "empty label": ("label,text\npos,A fine film\n,A bad film\n", {}, "line 3, column 'label': the label is empty"),
    "a quote that does not close": ('label,text\npos,A fine film\nneg,"A bad film\n', {}, "line 3: a quote opens here"),
    "two columns alike": (
        "a\tb\tA fine film\nb\ta\tA bad film\na\tb\tA bad film\nb\tb\tNot my film\n",
        {},
        "no column is clearly",
    ),
    "two names of labels": (
        "class,label,text\na,b,A fine film\n",
        {},
        "no column is clearly the one to predict. Columns:",
    ),
    "no such column": (
        "label,text\na,A fine film\n",
        {"target": "labl"},
        "data.target names a column 'labl' that is not there; did you mean 'label'?",
    ),
    "the text as target": (
        "label,text\na,A fine film\n",
        {"target": "text", "text": "text"},
        "'text' is both the text and the target",
    ),
    "no label beside it": (
        "A fine film\nA bad film\n",
        {"format": "labelled-text"},
        "every line is one text without a label",
    ),
    "blank": ("\n \n", {"format": "labelled-text"}, "has no text; its lines are blank"),
    "fastText without a label": (
        "__label__ A fine film\n__label__a A bad film\n",
        {},
        "line 1: found '__label__ A fine film', expected",
    ),
    "fastText without a text": ("__label__a A fine film\n__label__b\n", {}, "line 2: the text is empty"),
    "latin-1": (
        "label,text\npos,Très bon film\n".encode("latin-1"),
        {},
        "line 2: byte 17 (e8) is not utf-8; if it is latin-1",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_faults(tmp_path: Path, case: str):
    content, options, message = FAULTS[case]
    with pytest.raises(DataError) as caught:
        read(tmp_path, content, **options)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "mine.csv"))


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
def test_compressed(tmp_path: Path, ending: str, pack: Any):
    assert texts(read(tmp_path, pack(LAYOUTS["CSV, header"].encode()), name=f"a.csv{ending}")) == FILMS


def test_parquet(tmp_path: Path):
    frame = pl.DataFrame({"label": [1, 0, 0], "text": ["A fine film", "A bad, bad film", "Not my film"]})
    frame.write_parquet(tmp_path / "a.parquet")
    records = read(tmp_path, (tmp_path / "a.parquet").read_bytes())
    assert texts(records) == FILMS
    assert labels(records) == ["1", "0", "0"]
    assert records.place(1).endswith("mine.csv, row 2")
    frame.with_columns(text=pl.Series(["A fine film", None, "Not my film"])).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="row 2: the text is empty"):
        read(tmp_path, (tmp_path / "a.parquet").read_bytes())


def test_tables_of_numbers_are_not_texts(tmp_path: Path):
    for content in (
        "label,a,b\nx,1,2\ny,3,4\n",
        "date,a,b\n2024-01-01 00:00,1,2\n2024-01-02 00:00,3,5\n",
        "To be, or not\nto be\n",
    ):
        (tmp_path / "mine.csv").write_text(content)
        assert not LABELLED.recognises(tmp_path / "mine.csv", "classify", DataSettings())


def schema_of(folder: Path, content: str, task: str = "classify", name: str = "train.csv", **options: Any) -> Schema:
    (folder / name).write_text(content)
    return load_parts(folder / name, task, ALL.model_copy(update=options)).schema


def further(schema: Schema, content: str) -> tuple[list[str], list[str] | None]:
    """What standard input holds, read as the training data were: texts (unknown words as ?) and labels."""
    found, _ = load_part(io.BytesIO(content.encode()), schema)
    words = ["?" if i < 2 else symbol for i, symbol in enumerate(schema.vocabulary)]
    read = [" ".join(words[i] for i in found.sequence(n).tolist()) for n in range(len(found))]
    targets = None if found.targets is None else [[*schema.classes, "?"][i] for i in found.targets.tolist()]
    return read, targets


@pytest.mark.parametrize("case", LAYOUTS)
def test_further_data_may_be_laid_out_alike_or_plain_lines(tmp_path: Path, case: str):
    schema = schema_of(tmp_path, LAYOUTS[case])
    assert further(schema, LAYOUTS[case]) == (FILMS, SAID)
    assert further(schema, "A film\nNot bad, not fine\n") == (["a film", "not bad , not fine"], None)
    assert further(schema, "A film, bad\n") == (["a film , bad"], None)
    assert further(schema, 'A "fine film\r\n\r\n') == (["a ? fine film"], None)


def test_further_data_with_columns_in_another_order_or_without_labels(tmp_path: Path):
    schema = schema_of(tmp_path, LAYOUTS["CSV, header"])
    assert further(schema, 'label,more,text\nneg,x,"A bad, bad film"\n') == (["a bad , bad film"], ["neg"])
    assert further(schema, 'text\n"A bad, bad film"\n') == (["a bad , bad film"], None)
    assert further(schema, "text;label\nA bad, bad film;new\n") == (["a bad , bad film"], ["?"])
    assert further(schema, "A fine film,neg\nNot my film,pos\n") == (["a fine film", "not my film"], ["neg", "pos"])
    schema = schema_of(tmp_path, "1\tpos\tA fine film\n2\tneg\tA bad film\n3\tneg\tNot my film\n", target="column_2")
    assert further(schema, "9\tA bad film\n") == (["a bad film"], None)
    assert further(schema, "9\tnew\tA bad film\n") == (["a bad film"], ["?"])


def test_further_data_of_regress(tmp_path: Path):
    schema = schema_of(tmp_path, "review,stars\nA fine film,4.5\nA bad film,1\n", "regress")
    found, _ = load_part(io.BytesIO(b"A bad film,3\nA fine film,2\n"), schema)
    assert found.targets is not None
    assert found.targets.tolist() == [[3], [2]]
    found, _ = load_part(io.BytesIO(b"A bad film, fine\nA fine film\n"), schema)
    assert found.targets is None


def test_a_blank_line_among_plain_ones_is_told(tmp_path: Path):
    """Predictions are told apart by their number, so that nothing may be passed over silently."""
    schema = schema_of(tmp_path, LAYOUTS["CSV, header"])
    with pytest.raises(DataError, match="standard input, line 2: the text is empty"):
        further(schema, "A film\n\nNot bad\n")


def test_several_fasttext_labels_need_training_with_several(tmp_path: Path):
    schema = schema_of(tmp_path, LAYOUTS["fastText"])
    with pytest.raises(DataError, match="line 1: has 2 labels; the training data have one each"):
        further(schema, "__label__pos __label__neg A fine film\n")


def folder_of(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / "texts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root / "texts"


def read_folder(folder: Path, schema: Schema | None = None, **options: Any) -> Records:
    settings = DataSettings(**options)
    assert FOLDER.recognises(folder, "classify", settings) or schema
    return FOLDER.read(folder, "classify", settings, schema)


def test_folder_with_a_file_a_sample(tmp_path: Path):
    folder = folder_of(
        tmp_path,
        {
            "neg/1.txt": "A bad,\n\nbad film\n",
            "neg/2.txt": "Not my film",
            "pos/9_8.txt": "A fine film",
            "pos/.hidden": "x",
        }
        | {"README.txt": "what this is"},
    )
    records = read_folder(folder)
    assert texts(records) == ["a bad , bad film", "not my film", "a fine film"]
    assert labels(records) == ["neg", "neg", "pos"]
    assert records.ids == ["neg/1.txt", "neg/2.txt", "pos/9_8.txt"]
    assert str(folder / "neg" / "2.txt") in records.place(1)


def test_folder_with_a_file_a_class(tmp_path: Path):
    folder = folder_of(tmp_path, {"neg.txt": "A bad, bad film\nNot my film\n", "pos.txt": "\nA fine film\n"})
    records = read_folder(folder)
    assert texts(records) == ["a bad , bad film", "not my film", "a fine film"]
    assert labels(records) == ["neg", "neg", "pos"]
    assert records.place(2) == f"{folder / 'pos.txt'}, line 2"


def test_folder_with_one_file_in_each_class_folder(tmp_path: Path):
    folder = folder_of(tmp_path, {"neg/all.txt": "A bad, bad film\nNot my film\n", "pos/all.txt": "A fine film\n"})
    assert texts(read_folder(folder)) == ["a bad , bad film", "not my film", "a fine film"]
    assert texts(read_folder(folder, lines="files")) == ["a bad , bad film not my film", "a fine film"]


def test_folder_with_few_long_files(tmp_path: Path):
    """Two files of many lines a class are lists of samples; two of few lines are samples, unless it is said."""
    long = folder_of(tmp_path, {f"{label}/{n}.txt": "A film\n" * 30 for label in "ab" for n in (1, 2)})
    assert len(read_folder(long)) == 120
    short = folder_of(tmp_path / "other", {f"{label}/{n}.txt": "A film\n" * 3 for label in "ab" for n in (1, 2)})
    assert len(read_folder(short)) == 4
    assert len(read_folder(short, lines="lines")) == 12
    mixed = folder_of(
        tmp_path / "mixed", {f"{label}/{n}.txt": "A film\n" * k for label, k in (("a", 30), ("b", 3)) for n in "12"}
    )
    assert len(read_folder(mixed)) == 4


def test_folders_that_are_none(tmp_path: Path):
    one = folder_of(tmp_path / "one", {"pos/1.txt": "A fine film"})
    binary = folder_of(tmp_path / "binary", {"pos/1.wav": "\0\1", "neg/1.wav": "\0\1"})
    for folder in (one, binary, tmp_path / "one" / "texts" / "pos" / "1.txt"):
        assert not FOLDER.recognises(folder, "classify", DataSettings())
    assert not FOLDER.recognises(folder_of(tmp_path / "r", {"a/1": "x", "b/1": "y"}), "regress", DataSettings())
    folder = folder_of(tmp_path / "ignored", {"pos/1.txt": "A film", "neg/1.txt": "A film", "unsup/1.txt": "A film"})
    assert labels(read_folder(folder, ignore=["unsup"])) == ["neg", "pos"]


def test_folder_faults(tmp_path: Path):
    folder = folder_of(tmp_path, {"neg/1.txt": "A film", "neg/2.txt": " \n", "pos/1.txt": "A", "pos/2.txt": "B"})
    with pytest.raises(DataError, match=r"2\.txt: the text is empty"):
        read_folder(folder)
    with pytest.raises(DataError, match="has no text files"):
        FOLDER.read(folder / "neg" / "..", "classify", DataSettings(ignore=["neg", "pos"]), None)
    with pytest.raises(DataError, match="is not a folder"):
        FOLDER.read(folder / "neg" / "1.txt", "classify", DataSettings(), None)
    with pytest.raises(DataError, match="a folder of texts has classes, not numbers"):
        FOLDER.read(folder, "regress", DataSettings(), None)


def test_further_data_of_a_folder(tmp_path: Path):
    folder = folder_of(
        tmp_path, {"neg/1.txt": "A bad film", "neg/2.txt": "Not", "pos/1.txt": "A fine film", "pos/2.txt": "My"}
    )
    schema = load_parts(folder, "classify", ALL).schema
    assert further(schema, "A film\nNot bad\n") == (["a film", "not bad"], None)
    new = folder_of(tmp_path / "new", {"pos/1.txt": "My film", "other/1.txt": "Not my film"})
    found, warnings = load_part(new, schema)
    assert found.targets is not None
    assert found.targets.tolist() == [-1, 1]
    assert "other" in warnings[-1]
    flat = folder_of(tmp_path / "flat", {"1.txt": "My film", "2.txt": "Not my film"})
    found, _ = load_part(flat, schema, format="text-folder")
    assert found.targets is None
    assert found.ids == ["1.txt", "2.txt"]


words = st.text("abcé漢字 ,;\"'-.\n", min_size=1, max_size=20).filter(lambda text: bool(tokenize(text)))


@given(st.lists(st.tuples(words, st.sampled_from(["pos", "neg", 'a"b', "x,y"])), min_size=1, max_size=8))
def test_a_table_of_texts_written_is_read_back(rows: list[tuple[str, str]]):
    def quoted(cell: str) -> str:
        return '"' + cell.replace('"', '""') + '"'

    content = "text,label\n" + "".join(f"{quoted(text)},{quoted(label)}\n" for text, label in rows)
    with tempfile.TemporaryDirectory() as folder:
        records = read(Path(folder), content, format="labelled-text")
    assert texts(records) == [" ".join(tokenize(text)) for text, _ in rows]
    assert labels(records) == [label for _, label in rows]


def test_imdb(data_folder: Path, tmp_path: Path):
    """The first lines of the real file, which is sorted by label, and lines further on."""
    with bz2.open(data_folder / "imdb" / "train.tsv.bz2", "rt", encoding="utf-8", newline="\n") as file:
        lines = list(islice(file, 300))
    swapped = [line.replace("0", "1", 1) for line in lines[200:]]
    records = read(tmp_path, bz2.compress("".join(lines[:200] + swapped).encode()), name="train.tsv.bz2")
    assert len(records) == 300
    assert labels(records) == ["0"] * 200 + ["1"] * 100
    assert texts(records)[0].startswith("story of a man who has unnatural feelings for a pig . starts out")
    assert not any("<" in text for text in texts(records) if "br" in text.split())


@pytest.mark.exhaustive
def test_imdb_whole(data_folder: Path):
    path = data_folder / "imdb" / "train.tsv.bz2"
    records = LABELLED.read(path, "classify", DataSettings(), None)
    assert len(records) == 25000
    assert labels(records).count("1") == 12500
    assert records.values.nbytes == 4 * len(records.values)
