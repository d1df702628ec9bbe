"""`.ts` files: what is written is read back, and every fault is told."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recurra.data import FORMATS, DataSettings, load_part, load_parts
from recurra.errors import DataError

ALL = DataSettings(validation_fraction=0, test_fraction=0)
LABELS = ["-1", "1", "a b", "né"]


@st.composite
def panels(draw: st.DrawFn) -> tuple[list[np.ndarray], list[str]]:
    """Series (T, D) of one D, and a label each, of which two at least differ."""
    dimensions = draw(st.integers(1, 3))
    lengths = draw(st.lists(st.integers(1, 5), min_size=2, max_size=5))
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    series = [draw(hnp.arrays(np.float32, (length, dimensions), elements=finite)) for length in lengths]
    labels = draw(
        st.permutations(
            [
                "-1",
                "1",
                *draw(
                    st.lists(st.sampled_from(["-1", "1", "x.y"]), min_size=len(lengths) - 2, max_size=len(lengths) - 2)
                ),
            ]
        )
    )
    return series, list(labels)


def written(series: list[np.ndarray], labels: list[str] | None, header: str) -> str:
    lines = ["# made", "", "@problemName X", header, "@data"]
    for i, values in enumerate(series):
        dimensions = [",".join(str(value) for value in column) for column in values.T]
        lines.append(":".join(dimensions if labels is None else [*dimensions, labels[i]]))
    return "\n".join(lines) + "\n"


@given(panels(), st.booleans())
def test_what_is_written_is_read_back(panel: tuple[list[np.ndarray], list[str]], spoken: bool):
    series, labels = panel
    header = "@timeStamps false\n@missing false\n@CLASSLABEL TRUE " + " ".join(sorted(set(labels)))
    if spoken:
        width, lengths = series[0].shape[1], {len(values) for values in series}
        header += f"\n@univariate {'true' if width == 1 else 'false'}\n@dimensions {width}"
        header += f"\n@equalLength {'true' if len(lengths) == 1 else 'false'}\n@seriesLength {max(lengths)}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.ts"
        path.write_text(written(series, labels, header))
        parts = load_parts(path, "classify", ALL)
    assert parts.schema.format == "ts"
    assert parts.train.targets is not None
    assert [parts.schema.classes[target] for target in parts.train.targets] == labels
    assert len(parts.schema.features) == series[0].shape[1]
    for i, values in enumerate(series):
        np.testing.assert_array_equal(parts.train.sequence(i).numpy(), values)


def load(folder: Path, text: str, task: str = "classify"):
    (folder / "x.ts").write_text(text)
    return load_parts(folder / "x.ts", task, ALL)


def test_numbers_to_predict(tmp_path: Path):
    parts = load(tmp_path, "@targetLabel true\n@data\n1,2:3,4:-0.5\n% comment\n5:6:7e2\n", "regress")
    assert parts.train.targets is not None
    assert parts.train.targets.tolist() == [[-0.5], [700.0]]
    assert parts.train.values.tolist() == [[1, 3], [2, 4], [5, 6]]
    assert parts.schema.features == ["dimension_0", "dimension_1"]


def test_further_series_without_labels(tmp_path: Path):
    schema = load(tmp_path, "@classLabel true a b\n@data\n1,2:a\n3,4:b\n").schema
    (tmp_path / "new.ts").write_text("@classLabel false\n@data\n5,6\n")
    further, _ = load_part(tmp_path / "new.ts", schema)
    assert further.targets is None
    assert further.values[:, 0].tolist() == [5, 6]
    with (tmp_path / "new.ts").open("rb") as stream:
        assert len(load_part(stream, schema)[0]) == 1
    (tmp_path / "new.ts").write_text("@classLabel true a c\n@data\n5,6:7,8:c\n")
    with pytest.raises(
        DataError, match=r"new\.ts: holds 2 values a step \(dimension_0, dimension_1\), expected 1 \(value\)"
    ):
        load_part(tmp_path / "new.ts", schema)


def test_an_unknown_header_line_is_named(tmp_path: Path):
    parts = load(tmp_path, "@clasLabel true\n@classLabel true a b\n@data\n1,2:a\n3,4:b\n")
    assert parts.warnings == [
        f"{tmp_path / 'x.ts'}, line 1: @clasLabel is unknown and left out. Did you mean @classlabel?"
    ]


def test_arff_is_another_format(tmp_path: Path):
    (tmp_path / "x.arff").write_text("@relation x\n@attribute a numeric\n@data\n1,2\n")
    assert not FORMATS["ts"].recognises(tmp_path / "x.arff", "classify", ALL)


HEAD = "@classLabel true a b\n@data\n"
FAULTS = {
    "number": (HEAD + "1,2:a\n3,x:b\n", r"line 4: step 2 is 'x'; expected a number"),
    "dimension": (HEAD + "1:2:a\n3:4z:b\n", r"line 4: step 1 of dimension 2 is '4z'; expected a number"),
    "missing": (HEAD + "1,?:a\n3,4:b\n", r"line 3: step 2 is missing \('\?'\)"),
    "nan": (HEAD + "1,NaN:a\n3,4:b\n", r"line 3: step 2 is NaN \(missing\)"),
    "unequal dimensions": (HEAD + "1,2:3:a\n", r"line 3: dimension 2 has 1 steps, but dimension 1 has 2"),
    "other dimensions": (HEAD + "1:2:a\n3:b\n", r"line 4: holds 1 dimensions, expected 2"),
    "unknown label": (HEAD + "1,2:a\n3,4:bb\n", r"line 4: unknown label 'bb'; did you mean 'b'\?"),
    "no label": (HEAD + "1,2\n3,4\n", r"line 3: has no label; expected one after the last ':'"),
    "no series": (HEAD, r"holds no series after @data"),
    "no data": ("@classLabel true a b\n", r"has no line '@data'"),
    "data too soon": ("@classLabel true a b\n1,2:a\n", r"line 2: series begin before a line '@data'"),
    "times": ("@timeStamps true\n" + HEAD + "(0,1):a\n", r"line 1: series with times are not read"),
    "flag": ("@univariate maybe\n" + HEAD, r"line 1: @univariate is maybe; expected true or false"),
    "count": ("@dimensions -3\n" + HEAD, r"line 1: @dimensions is -3; expected a whole number from 1"),
    "univariate": ("@univariate true\n" + HEAD + "1:2:a\n", r"line 4: holds 2 dimensions, expected 1"),
    "equal": ("@equalLength true\n" + HEAD + "1,2:a\n3:b\n", r"line 5: holds 1 steps, expected 2: the header"),
    "length": ("@equalLength true\n@seriesLength 3\n" + HEAD + "1,2:a\n", r"line 5: holds 2 steps, expected 3"),
    "one class": (HEAD + "1,2:a\n3,4:a\n", r"only the class 'a' in the training data"),
    "no classes": ("@classLabel false\n@data\n1,2\n", r"has no labels, which training needs"),
    "regress": ("@targetLabel true\n@data\n1,2:3\n", r"holds numbers to predict \(@targetLabel true\), not classes"),
    "both": ("@targetLabel true\n" + HEAD + "1:a\n", r"its header has both @classLabel true and @targetLabel true"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_told(tmp_path: Path, fault: str):
    text, message = FAULTS[fault]
    with pytest.raises(DataError, match=rf"x\.ts[,:] {message}"):
        load(tmp_path, text)


def test_faults_of_regression_are_told(tmp_path: Path):
    with pytest.raises(
        DataError, match=r"holds classes \(@classLabel true\), not numbers; use the task regress|classify"
    ):
        load(tmp_path, HEAD + "1,2:a\n", "regress")
    with pytest.raises(DataError, match=r"line 3: the number to predict is 'NaN'; expected a finite number"):
        load(tmp_path, "@targetLabel true\n@data\n1,2:NaN\n", "regress")
