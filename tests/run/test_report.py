"""Reports from made content, read back with an HTML parser."""

import base64
import io
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from sklearn.datasets import load_digits

from recurra.run import figures
from recurra.run.content import flatten
from recurra.run.report import (
    METRICS,
    Classified,
    DataSummary,
    Example,
    Part,
    Regressed,
    ReportContent,
    SeedRun,
    SeedsContent,
    Snapshot,
    StateTrace,
    Updates,
    _scale,  # pyright: ignore[reportPrivateUsage]
    write_report,
    write_seeds_report,
)
from recurra.tasks import scores

VOID = {"meta", "link", "img", "br"}
DANGEROUS = "<script>alert('x')</script>"
CHINESE = "国际新闻"


class Page(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.sections: dict[str, str] = {}
        self.section = ""
        self.rows: list[list[str]] = []
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.tags.append((tag, attributes))
        if tag == "section":
            self.section = attributes.get("id", "")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            return
        self.words.append(data)
        self.sections[self.section] = self.sections.get(self.section, "") + data
        if self.rows and {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def said(self, section: str) -> str:
        return " ".join(self.sections[section].split())

    def all(self, tag: str, **wanted: str) -> list[dict[str, str]]:
        return [a for name, a in self.tags if name == tag and all(a.get(k) == v for k, v in wanted.items())]


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def classified(classes: list[str], items: int = 300, lean: float = 3.0) -> Classified:
    generator = np.random.default_rng(0)
    targets = generator.integers(0, len(classes), items)
    logits = generator.normal(size=(items, len(classes))) + lean * np.eye(len(classes))[targets]
    return Classified(classes, targets, softmax(logits))


def history(lines: int = 6, **scores: float) -> list[dict[str, Any]]:
    return [
        {
            "step": 50 * k,
            "epoch": k,
            "samples": 1600 * k,
            "lr": 0.01 / k,
            "train_loss": 1.5 / k,
            "gradient_norm": 1 / k,
            "validation": {name: value + 0.01 * k for name, value in scores.items()},
        }
        for k in range(1, lines + 1)
    ]


def digits(**changes: Any) -> ReportContent:
    """A run on scikit-learn's digits, as far as its report is concerned."""
    images = load_digits(return_X_y=True)[0].reshape(-1, 8, 8)
    classes = [str(i) for i in range(10)]
    result = classified(classes)
    worst = scores.most_wrong(result.targets, result.probabilities, 6)
    generator = np.random.default_rng(1)
    content = ReportContent(
        title="digits",
        task="classify",
        main="accuracy",
        description="Handwritten digits read row by row",
        data=DataSummary(
            sources=["scikit-learn digits"],
            parts=[
                Part.of("train", np.full(1200, 8), [120] * 10),
                Part.of("validation", np.full(200, 8), [20] * 10),
                Part.of("test", np.full(300, 8), np.bincount(result.targets, minlength=10).tolist()),
            ],
            features=[f"column {i}" for i in range(8)],
            classes=classes,
        ),
        recipe={"name": "digits", "seed": 3, "model": {"cell": "gru", "hidden_size": 64}, "train": {"lr": 0.004}},
        defaults={"name": "classify", "seed": 0, "model": {"cell": "lstm", "hidden_size": 64}, "train": {"lr": 0.004}},
        command="recurra train digits --seed 3",
        seed=3,
        test=scores.classify_scores(result.targets, result.probabilities),
        intervals=scores.classify_intervals(result.targets, result.probabilities),
        validation={"accuracy": 0.9},
        baselines={"majority": {"accuracy": 0.1033, "f1": 0.02, "loss": 2.3}},
        history=history(accuracy=0.8, loss=0.5),
        best_step=250,
        updates=Updates(np.linspace(2, 0.1, 300), np.linspace(3, 0.5, 300), clip_norm=1.0),
        result=result,
        examples=[
            Example(
                f"test sequence {i}",
                classes[result.targets[i]],
                classes[result.probabilities[i].argmax()],
                float(result.probabilities[i].max()),
                float(result.probabilities[i, result.targets[i]]),
                values=images[i],
            )
            for i in worst
        ],
        images=True,
        states=[
            StateTrace(f"test sequence {i}", np.tanh(generator.normal(size=(8, 16))), values=images[i]) for i in (0, 1)
        ],
        model="gru 64",
        parameters=14_000,
        samples_seen=15_744,
        train_seconds=3.4,
        timings={"training": 3.4, "evaluation": 75.0},
        versions={"recurra": "0.1.0", "torch": "2.13.0"},
    )
    return replace(content, **changes)


def bare(**changes: Any) -> ReportContent:
    """The same without its figures, for tests of other things: they take most of the time."""
    return digits(history=[], updates=None, states=[], **changes)


def texts(**changes: Any) -> ReportContent:
    """A run on texts with labels that try to be something else."""
    classes = ["体育", CHINESE, '😀 & "more"', DANGEROUS, "endless " * 400]
    result = classified(classes)
    words = [*["这", "是", "一个", "<b>例子</b>", "&", "😀"], "x" * 500, "\x00\x1b[31m", "end"]
    generator = np.random.default_rng(2)
    unknown = [i % 5 == 0 for i in range(len(words))]
    long = [words[i % len(words)] for i in range(400)]
    content = digits(
        title=CHINESE + DANGEROUS,
        description=DANGEROUS,
        images=False,
        data=DataSummary(
            sources=[f"/data/{DANGEROUS}.tsv"],
            parts=[Part.of("train", np.arange(1, 300), [10, 20, 30, 40, 1])],
            input="tokens",
            vocabulary=12_345,
            classes=classes,
        ),
        result=result,
        recipe={"data": {"path": DANGEROUS}},
        command=f"recurra train classify --data '{DANGEROUS}\x02'",
        baselines={DANGEROUS: {"accuracy": 0.2}},
        versions={DANGEROUS: DANGEROUS},
        warnings=[f"label '{DANGEROUS}' is rare"],
        examples=[
            Example(DANGEROUS, classes[3], classes[1], 0.9, 0.01, tokens=words, unknown=unknown),
            Example("long", classes[4], classes[2], 0.9, 0.01, tokens=long, unknown=[False] * 400),
        ],
        states=[
            StateTrace(DANGEROUS, np.tanh(generator.normal(size=(len(words), 5))), tokens=words, unknown=unknown),
            StateTrace("long", np.tanh(generator.normal(size=(400, 5))), tokens=long),
        ],
    )
    return replace(content, **changes)


def regression(**changes: Any) -> ReportContent:
    generator = np.random.default_rng(3)
    targets = generator.normal(size=(200, 2)) * [10.0, 0.1]
    predictions = 0.9 * targets + generator.normal(size=targets.shape) * [1.0, 0.01]
    offsets = np.arange(0, 201, 20)
    content = ReportContent(
        title="tanks",
        task="regress",
        main="rmse",
        higher_is_better=False,
        data=DataSummary(
            ["tanks.csv"], [Part.of("train", np.full(10, 20))], features=["u"], targets=["level", CHINESE]
        ),
        recipe={},
        command="recurra train regress",
        seed=0,
        test=scores.regress_scores(targets, predictions),
        intervals=scores.regress_intervals(targets, predictions, offsets),
        baselines={"mean": {"rmse": 7.0, "r2": 0.0}},
        history=history(rmse=1.0),
        result=Regressed(["level", CHINESE], targets, predictions),
        examples=[
            Example(
                "test sequence 4", "blue", "orange", target_steps=targets[:20, 0], predicted_steps=predictions[:20, 0]
            )
        ],
        snapshots=[
            Snapshot(step, np.arange(20.0), np.sin(np.arange(20.0)), np.sin(np.arange(1, 21.0)), np.zeros(20))
            for step in (25, 50, 75, 100)
        ],
    )
    return replace(content, **changes)


def seeds(**changes: Any) -> SeedsContent:
    content = SeedsContent(
        title="digits",
        task="classify",
        main="accuracy",
        runs=[
            SeedRun(s, f"seed-{s}", {"accuracy": 0.97 + 0.01 * s, "loss": 0.1}, 20.0, history(accuracy=0.8))
            for s in range(3)
        ],
        recipe={"seed": 0},
        command="recurra train digits --seeds 3",
        baselines={"majority": {"accuracy": 0.1}},
    )
    return replace(content, **changes)


def page(folder: Path, content: ReportContent | SeedsContent) -> Page:
    write = write_seeds_report if isinstance(content, SeedsContent) else write_report
    path = write(folder, content)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert path == folder / "report.html"
    return Page(path)


EVERY = [digits, texts, regression, seeds]


@pytest.fixture(scope="module", params=EVERY, ids=lambda make: make.__name__)
def each(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Each kind of page in turn."""
    return page(tmp_path_factory.mktemp("page"), request.param())


@pytest.fixture(scope="module")
def digits_page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return page(tmp_path_factory.mktemp("page"), digits())


@pytest.fixture(scope="module")
def texts_page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return page(tmp_path_factory.mktemp("page"), texts())


@pytest.fixture(scope="module")
def regression_page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return page(tmp_path_factory.mktemp("page"), regression())


def test_an_error_rate_beyond_one_stays_on_its_scale(tmp_path: Path) -> None:
    scores = {"wer": 5.4167, "exact_match": 0.0, "node_accuracy": 0.4}
    intervals = {"wer": (5.1667, 5.6667), "exact_match": (0.0, 0.3903)}
    content = bare(
        task="speech", main="wer", test=scores, intervals=intervals, validation={}, baselines={}, result=None
    )
    found = page(tmp_path, replace(content, baselines={"commonest": {"wer": 0.8333}}))
    places = [float(place) for place in re.findall(r"(?:left|width): ?([\d.]+)%", found.source)]
    assert max(places) <= 100
    assert f"{5.1667 / 5.6667 / 1.1:.3f}" in {f"{place / 100:.3f}" for place in places}
    assert "0.00 to 39.03 %" in found.source
    assert "40.00 %" in found.source
    assert _scale("wer", 0.4, None, [0.8])["end"] == "100 %"  # pyright: ignore[reportOptionalSubscript]


class TestEveryPage:
    def test_is_well_formed_and_asks_for_nothing(self, each: Page) -> None:
        found = each
        assert found.source.startswith("<!DOCTYPE html>")
        assert found.open == []
        assert len(found.source.encode()) < 1_500_000
        for tag, attributes in found.tags:
            assert tag not in {"script", "iframe", "object", "embed", "form", "b"}
            assert not [name for name in attributes if name.startswith("on")]
            for name in ("src", "href", "data", "action", "poster", "srcset"):
                target = attributes.get(name, "")
                if tag == "a" and name == "href" and re.fullmatch(r"seed-\d/report\.html", target):
                    continue
                assert target == "" or target.startswith(("#", "data:"))
        assert "url(" not in re.sub(r"url\(#\w+\)", "", found.source)
        assert "@import" not in found.source
        assert "http:" not in found.source.replace("http-equiv", "")
        assert "https:" not in found.source
        assert found.all("meta", charset="utf-8")
        assert "default-src 'none'" in found.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
        assert found.all("meta", name="viewport")[0]["content"] == "width=device-width, initial-scale=1"

    def test_can_be_read_aloud(self, each: Page) -> None:
        found = each
        assert found.all("html", lang="en")
        assert len(found.all("h1")) == 1
        names = [a["id"] for _, a in found.tags if "id" in a]
        assert len(names) == len(set(names))
        for image in found.all("img"):
            assert len(image["alt"]) > 10
        for drawing in found.all("svg"):
            assert drawing["role"] == "img"
            assert len(drawing["aria-label"]) > 10
        labels = [a["aria-labelledby"] for _, a in found.tags if "aria-labelledby" in a]
        assert set(labels) <= set(names)
        assert all(header["scope"] in ("row", "col") for header in found.all("th"))
        for link in found.all("a"):
            if link["href"].startswith("#"):
                assert link["href"][1:] in names

    def test_references_within_drawings_hold(self, each: Page) -> None:
        found = each
        names = {a["id"] for _, a in found.tags if "id" in a}
        used = set(re.findall(r"url\(#(\w+)\)", found.source)) | {a["href"][1:] for a in found.all("use")}
        assert used
        assert used <= names

    def test_is_the_same_each_time(self, each: Page, request: pytest.FixtureRequest, tmp_path: Path) -> None:
        assert page(tmp_path, request.node.callspec.params["each"]()).source == each.source

    def test_has_both_schemes_and_print(self, digits_page: Page) -> None:
        found = digits_page
        assert "@media screen and (prefers-color-scheme: dark)" in found.source
        assert "@media print" in found.source
        assert "break-inside: avoid" in found.source
        drawings = "".join(re.findall(r"<svg.*?</svg>", found.source, re.DOTALL))
        assert "var(--ink)" in drawings
        assert "#01010" not in drawings  # every placeholder has become a variable
        assert "font-family" not in drawings  # the page's typeface holds

    def test_colours_of_text_are_legible(self, each: Page) -> None:
        """WCAG 2: at least 4.5 to 1 on the ground and on the cards, in both schemes."""
        source = each.source
        schemes = re.findall(r":root \{(.*?)\}", source, re.DOTALL)[:2]
        assert len(schemes) == 2
        for scheme in schemes:
            colours = dict(re.findall(r"--(\w+): #([0-9a-f]{6})", scheme))
            for ground in ("ground", "card", "note"):
                for ink in ("ink", "muted", "first", "second", "third"):
                    if ground != "note" or ink in ("ink", "second"):
                        assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)


def contrast(one: str, other: str) -> float:
    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


class TestClassify:
    def test_sections_and_headline(self, digits_page: Page) -> None:
        content, found = digits(), digits_page
        sections = ["scores", "training", "classes", "examples", "states", "data", "again", "recipe"]
        assert [a["id"] for a in found.all("section") if "id" in a] == sections
        assert [a["href"] for a in found.all("a")] == [f"#{name}" for name in sections]
        assert content.result is not None
        right = int((content.result.probabilities.argmax(1) == content.result.targets).sum())  # type: ignore[union-attr]  # pyright: ignore
        low, high = content.intervals["accuracy"]
        headline = found.said("")
        assert f"test accuracy {100 * right / 300:.2f} %" in headline
        assert f"95 % interval {100 * low:.2f} to {100 * high:.2f} %" in headline
        assert f"{right} of 300 test sequences get the right class." in headline
        assert "For comparison (always the commonest class): 10.33 %" in headline
        for fact in ("gru 64", "14,000", "15,744", "3.4 s"):
            assert fact in headline
        # loss, validation accuracy, gradient norm, learning rate; two states
        assert len(found.all("svg", **{"class": "figure"})) == 6
        assert ["evaluation", "1 min 15 s"] in found.rows
        assert "recurra train digits --seed 3" in found.said("again")

    def test_tables_hold_the_numbers(self, tmp_path: Path) -> None:
        content = digits()
        assert isinstance(content.result, Classified)
        found = page(tmp_path, content)
        predictions = content.result.probabilities.argmax(1)
        counts = scores.confusion(content.result.targets, predictions, 10)
        for i, row in enumerate(scores.per_class(content.result.targets, predictions, content.result.classes)):
            assert [str(i), *map(str, counts[i])] in found.rows
            numbers = [f"{row[k]:.3f}" for k in ("precision", "recall", "f1")]
            assert [str(i), *numbers, str(row["support"]), str(row["predicted"])] in found.rows
        off = counts - np.diag(np.diag(counts))
        i, j = np.unravel_index(off.argmax(), off.shape)
        share = f"{100 * off[i, j] / counts[i].sum():.1f} %"
        assert [str(i), str(j), str(off[i, j]), share] in found.rows
        assert ["validation", "200", "1,600", "8", "8", "8"] in found.rows
        assert ["3", "120", "20", str(int((content.result.targets == 3).sum()))] in found.rows
        [accuracy] = [row for row in found.rows if row[0] == "accuracy"]
        assert accuracy[3:] == ["90.00 %", "10.33 %"]

    def test_settings_that_differ_are_marked(self, digits_page: Page) -> None:
        found = digits_page
        rows = re.findall(r"<tr( class=\"changed\")?><th scope=\"row\"><code>(\w+)</code></th>", found.source)
        assert {name for marked, name in rows if marked} == {"seed", "cell"}
        assert {name for marked, name in rows if not marked} == {"name", "hidden_size", "lr"}

    def test_a_digit_looks_like_a_digit(self, digits_page: Page) -> None:
        """The picture is the image itself, upright, in its own grey levels."""
        content, found = digits(), digits_page
        pictures = found.all("img")
        assert len(pictures) == len(content.examples)
        assert "true" in pictures[0]["alt"]
        values = content.examples[0].values
        assert values is not None
        png = base64.b64decode(pictures[0]["src"].partition("base64,")[2])
        opacity = imread(io.BytesIO(png))[..., 3]
        assert opacity.shape == (8, 8)
        everything = np.concatenate([e.values.ravel() for e in content.examples if e.values is not None])
        np.testing.assert_allclose(opacity, values / everything.max(), atol=0.01)
        assert "picture ink" in pictures[0]["class"]

    def test_many_numbers_a_step_become_a_strip(self, tmp_path: Path) -> None:
        values = np.random.default_rng(0).normal(size=(500, 12))
        example = Example("test sequence 1", "a", "b", values=values)
        found = page(tmp_path, bare(images=False, examples=[example]))
        [picture] = found.all("img")
        assert (picture["width"], picture["height"]) == ("120", "12")

    @pytest.mark.parametrize("channels", [1, 2, 3])
    def test_few_numbers_a_step_become_curves(self, tmp_path: Path, channels: int) -> None:
        example = Example("test sequence 1", "a", "b", values=np.random.default_rng(0).normal(size=(40, channels)))
        found = page(tmp_path, bare(images=False, examples=[example]))
        assert not found.all("img")
        curves = found.all("polyline")
        assert len(curves) == channels
        assert all(len(curve["points"].split()) == 40 for curve in curves)

    def test_unknown_labels_are_told(self, tmp_path: Path) -> None:
        found = page(tmp_path, bare(test={"accuracy": 0.5, "unknown_labels": 3.0}))
        assert "3 test sequences carry labels that the training part does not have" in found.text
        assert not [row for row in found.rows if "unknown" in row[0]]

    def test_first_few_have_a_row(self, tmp_path: Path) -> None:
        found = page(tmp_path, bare(test={"accuracy": 0.5, "accuracy_first_128": 0.953125}))
        assert ["accuracy, first 128 of the test part", "95.31 %"] in [row[:2] for row in found.rows]

    @pytest.mark.parametrize("count", [2, 24, 25, 300])
    def test_any_number_of_classes(self, tmp_path: Path, count: int) -> None:
        classes = [f"class {i}" for i in range(count)]
        result = classified(classes, items=1500, lean=5.0)
        began = time.process_time()
        found = page(tmp_path, bare(result=result, data=replace(digits().data, classes=classes, parts=[])))
        assert time.process_time() - began < 6
        drawn = [a["aria-label"] for a in found.all("svg") if a["aria-label"].startswith("Confusion")]
        assert drawn == ([] if count <= 24 else [f"Confusion matrix of {count} classes"])
        assert len(found.all("table", **{"class": "matrix long"})) == (1 if count <= 24 else 0)
        headed = [row for row in found.rows if len(row) in (6, 7) and re.fullmatch(r"class \d+", row[-6])]
        assert len(headed) == min(count, 200)
        assert ("100 more are left out" in found.text) == (count == 300)

    def test_no_mistake_at_all(self, tmp_path: Path) -> None:
        perfect = Classified(["a", "b"], np.array([0, 1, 1]), np.eye(2)[[0, 1, 1]])
        found = page(tmp_path, bare(result=perfect, examples=[]))
        assert "3 of 3 test sequences get the right class." in found.text
        assert "Commonest mistakes" not in found.text
        assert "examples" not in found.sections

    def test_f1_is_called_by_what_a_task_counts(self, tmp_path: Path) -> None:
        scores = {"f1": 0.5, "precision": 0.4, "recall": 2 / 3}
        for task, label in (("tag", "F1 of entities"), ("notes", "F1 of sounding keys"), ("classify", "F1, mean over")):
            content = bare(test=scores, task=task, main="f1", validation={}, baselines={}, intervals={})
            found = page(tmp_path, content)
            assert label in found.text
            assert ("mean over classes" in found.text) == (task == "classify")
            assert "40.00 %" in found.text

    def test_several_labels(self, tmp_path: Path) -> None:
        generator = np.random.default_rng(0)
        targets = generator.random((50, 3)) < 0.4
        probabilities = np.clip(0.4 * targets + 0.7 * generator.random((50, 3)), 0, 1)
        result = Classified(["a", "b", CHINESE], targets, probabilities)
        right = int(np.all((probabilities >= 0.5) == targets, axis=1).sum())
        examples = [Example("test sequence 0", "", "a; b", values=np.ones((5, 1)))]
        found = page(tmp_path, bare(result=result, images=False, examples=examples))
        assert f"{right} of 50 test sequences have exactly the right labels." in found.text
        assert "given this label" in found.text
        assert not found.all("table", **{"class": "matrix"})
        row = scores.per_class(targets, probabilities >= 0.5, result.classes)[2]
        assert [CHINESE, *(f"{row[k]:.3f}" for k in ("precision", "recall", "f1"))] in [r[:4] for r in found.rows]
        assert "true none" in found.said("examples")

    def test_a_label_at_every_step(self, tmp_path: Path) -> None:
        result = replace(classified(["a", "b"], items=40), steps=True)
        right = int((result.probabilities.argmax(1) == result.targets).sum())
        examples = [Example("test sequence 3", "a b b", "a b a", values=np.ones((5, 1)))]
        test = {"accuracy": right / 40, "sequence_accuracy": 0.625}
        found = page(tmp_path, bare(result=result, images=False, examples=examples, test=test))
        assert f"{right} of 40 steps of the test sequences get the right class; 62.50 % of the sequences" in found.text
        assert "what its steps were taken for" in found.text
        assert "accuracy of whole sequences, every step right" in found.said("scores")
        assert "true a b b" in found.said("examples")
        assert "the labels of all steps that have one" in found.said("examples")


class TestTexts:
    def test_nothing_becomes_markup(self, texts_page: Page) -> None:
        found = texts_page
        assert "<script" not in found.source
        assert "<b>" not in found.source
        for section in ("", "classes", "examples", "states", "data", "again", "recipe"):
            assert DANGEROUS in found.said(section), section
        assert "<b>例子</b>" in found.said("examples")

    def test_every_script_is_left_to_the_browser(self, tmp_path: Path) -> None:
        found = page(tmp_path, texts())
        for label in ("体育", CHINESE, '😀 & "more"'):
            assert label in found.said("classes")
        assert CHINESE in found.text
        found = page(tmp_path, regression())
        axis = re.findall(r"<text[^>]*>([^<]*)</text>", found.source)
        assert f"true {CHINESE}" in axis

    def test_long_things_are_cut(self, texts_page: Page) -> None:
        found = texts_page
        assert "x" * 60 not in found.source
        assert "endless " * 30 not in found.source
        assert "… 320 left out …" in found.said("examples")
        assert "… 240 left out …" in found.said("states")

    def test_a_long_text_keeps_its_ends(self, tmp_path: Path) -> None:
        example = Example("test sequence 0", "a", "b", tokens=[f"w{i}" for i in range(400)])
        found = page(tmp_path, texts(history=[], updates=None, states=[], examples=[example]))
        shown = [int(i) for i in re.findall(r"w(\d+)", found.said("examples"))]
        assert shown == [*range(40), *range(360, 400)]

    def test_control_characters_are_shown_by_their_pictures(self, tmp_path: Path) -> None:
        found = page(tmp_path, texts(history=[], updates=None, title="a\x00b\x1f\x7f\ud83d"))
        assert "\x00" not in found.source
        assert "a␀b␟��" in found.said("")
        assert "␀␛[31m" in found.said("examples")
        assert f"'{DANGEROUS}␂'" in found.said("again")

    def test_unknown_words_are_marked(self, texts_page: Page) -> None:
        found = texts_page
        assert '<span class="unknown">这</span>' in found.source
        assert len(re.findall('<span class="unknown">', found.source)) == 2  # 0 and 5 of the short text

    def test_words_that_move_the_state_stand_out(self, tmp_path: Path) -> None:
        states = np.zeros((4, 3))
        states[2:] = 1.0
        trace = StateTrace("test sequence 0", states, tokens=["a", "b", "c", "d"])
        found = page(tmp_path, texts(history=[], updates=None, states=[trace]))
        assert re.findall(
            r'<p class="text word" dir="auto">a b <span style="background:rgb\(59 130 208/0\.60\)">c</span> d',
            found.source,
        )

    def test_characters_are_not_spaced(self, tmp_path: Path) -> None:
        example = Example("test sequence 0", "a", "b", tokens=list("循环 网络"))
        found = page(
            tmp_path,
            texts(
                history=[], updates=None, states=[], examples=[example], data=replace(texts().data, unit="character")
            ),
        )
        assert '<p class="text character" dir="auto">循环 网络</p>' in found.source


class TestRegress:
    def test_sections_and_headline(self, regression_page: Page) -> None:
        content, found = regression(), regression_page
        ids = [a["id"] for a in found.all("section") if "id" in a]
        assert ids == ["scores", "training", "snapshots", "agreement", "examples", "data", "again", "recipe"]
        assert f"test RMSE {content.test['rmse']:.4g}" in found.said("")
        assert "For comparison (always the training mean): 7" in found.said("")
        assert "lower is better" in found.said("training")
        assert "To be predicted: level, 国际新闻." in found.said("data")

    def test_drawings(self, regression_page: Page) -> None:
        found = regression_page
        drawn = [a["aria-label"] for a in found.all("svg")]
        assert [d for d in drawn if d.startswith("Predicted against true")] == [
            d for d in drawn if ("level" in d and "Predicted" in d) or (CHINESE in d and "Predicted" in d)
        ]
        assert len([d for d in drawn if d.startswith("Predicted against true")]) == 2
        assert len([d for d in drawn if d.startswith("Histogram of 200 errors")]) == 2
        assert [d.partition(":")[0] for d in drawn if d.startswith("after")] == [
            f"after update {step}" for step in (25, 50, 75, 100)
        ]
        assert len(found.all("polyline")) == 2  # true and predicted over the steps of the one example

    def test_many_predictions_are_thinned(self, tmp_path: Path) -> None:
        targets = np.random.default_rng(0).normal(size=(30_000, 1))
        found = page(tmp_path, regression(result=Regressed(["y"], targets, targets + 0.1), history=[], snapshots=[]))
        assert "Shown: 1,500 of 30,000, evenly taken." in found.text
        assert len(found.source) < 400_000

    def test_no_test_part(self, tmp_path: Path) -> None:
        found = page(
            tmp_path,
            regression(
                test={}, intervals={}, baselines={}, result=None, examples=[], updates=Updates(np.array([0.5, 0.00125]))
            ),
        )
        assert "training loss at the last update 0.00125" in found.said("")
        assert "scores" not in found.sections
        found = page(tmp_path, regression(test={}, baselines={}, result=None, history=[], examples=[]))
        assert "no test part" in found.said("")
        assert "training" not in found.sections


class TestShares:
    @pytest.mark.parametrize(
        ("value", "written"), [(0.9731, "97.31 %"), (-0.176, "−17.60 %"), (-1e-7, "0.00 %"), (1e-7, "0.00 %")]
    )
    def test_a_minus_is_one_and_zero_has_none(self, value: float, written: str, tmp_path: Path) -> None:
        found = page(tmp_path, digits(test={"accuracy": 0.9, "fit": value}))
        assert any(row[0].startswith("fit") and row[1] == written for row in found.rows if row)


class TestSeeds:
    def test_mean_deviation_rows_and_links(self, tmp_path: Path) -> None:
        found = page(tmp_path, seeds())
        low, high = 0.98 - 4.302653 * 0.01 / 3**0.5, 1.0  # an accuracy ends there
        assert "mean over 3 seeds 98.00 %" in found.said("")
        assert f"95 % interval {100 * low:.2f} to {100 * high:.2f} %" in found.said("")
        assert "Standard deviation 1.00 points; the runs range from 97.00 to 99.00 %." in found.said("")
        assert ["accuracy", "98.00 %", "1.00 points", f"{100 * low:.2f} to {100 * high:.2f} %"] in found.rows
        assert ["1", "98.00 %", "0.1 nats", "20.0 s"] in found.rows
        links = [a["href"] for a in found.all("a") if not a["href"].startswith("#")]
        assert links == [f"seed-{s}/report.html" for s in range(3)]
        assert len(found.all("svg")) == 2

    def test_every_share_has_bounds(self) -> None:
        assert {name for name, metric in METRICS.items() if metric.unit == "share"} <= set(scores.BOUNDS)

    def test_intervals_end_where_scores_do(self, tmp_path: Path) -> None:
        told = [{"accuracy": 0.999, "coverage": 0.95, "rmse": 0.1, "fit": 0.9}, {"accuracy": 0.9, "coverage": 1.0}]
        told[1] |= {"rmse": 0.4, "fit": -0.2}
        runs = [replace(run, test=test) for run, test in zip(seeds().runs, told, strict=False)]
        found = page(tmp_path, seeds(runs=runs))
        rows = [[cell.replace("−", "-").replace(" %", "") for cell in row] for row in found.rows if len(row) > 3]
        bounds = {row[0]: row[3].split(" to ") for row in rows}
        assert bounds["accuracy"][1] == "100.00"
        assert bounds["coverage, truths within the interval"] == ["65.73", "100.00"]
        assert bounds["RMSE, root mean squared error"][0] == "0"
        fit = next(values for name, values in bounds.items() if name.startswith("fit"))
        assert float(fit[0]) < -100
        assert fit[1] == "100.00"

    def test_folds(self, tmp_path: Path) -> None:
        runs = [replace(run, seed=0, fold=i) for i, run in enumerate(seeds().runs)]
        found = page(tmp_path, seeds(runs=runs, folds=3))
        assert "mean over 3 folds 98.00 %" in found.said("")
        half = 4.302653 * 0.01 * (1 / 3 + 1 / 2) ** 0.5  # each learns from the two others
        assert f"95 % interval {98 - 100 * half:.2f} to 100.00 %" in found.said("")
        assert ["0, fold 1", "98.00 %", "0.1 nats", "20.0 s"] in found.rows

    def test_a_single_seed(self, tmp_path: Path) -> None:
        found = page(tmp_path, seeds(runs=seeds().runs[:1]))
        assert ["accuracy", "97.00 %", "–", "–"] in found.rows
        assert "95 % interval" not in found.said("")

    def test_no_test_part(self, tmp_path: Path) -> None:
        runs = [replace(run, test={}) for run in seeds().runs]
        assert "mean over 3 seeds –" in page(tmp_path, seeds(runs=runs, baselines={})).said("")


class TestHeavyContent:
    def test_is_quick_and_light(self, tmp_path: Path) -> None:
        """A long run on long sequences with a wide state and many classes: under 1.5 MB, and in at most seven times
        what a plain report takes (three are usual; a plain one takes 0.8 s), since a busy machine makes seconds longer.
        """
        generator = np.random.default_rng(0)
        classes = [f"{CHINESE} {i}" for i in range(120)]
        result = classified(classes, items=10_000, lean=5.0)
        long = [str(k) for k in range(5000)]
        content = digits(
            result=result,
            data=replace(digits().data, classes=classes, parts=[Part.of("train", np.full(9, 9), [3] * 120)]),
            images=False,
            updates=Updates(generator.gamma(2, 1, 200_000), generator.lognormal(size=200_000), 1.0),
            history=history(2000, accuracy=0.1, loss=0.1),
            examples=[
                Example(f"test sequence {i}", "a", "b", values=generator.normal(size=(5000, 64))) for i in range(20)
            ],
            states=[StateTrace("a", generator.normal(size=(5000, 512)), values=generator.normal(size=(5000, 64)))] * 3
            + [StateTrace("b", generator.normal(size=(5000, 512)), tokens=long)],
        )
        (tmp_path / "plain").mkdir()
        began = time.process_time()
        page(tmp_path / "plain", digits())
        between = time.process_time()
        found = page(tmp_path, content)
        assert time.process_time() - between < 7 * (between - began)
        assert len(found.source.encode()) < 1_500_000
        assert "shown are the 64 of 512 that vary most" in found.said("states")


class TestFigures:
    def test_curves_pass_over_what_is_not_finite(self) -> None:
        line = figures.Line("loss", np.arange(4.0), np.array([1.0, np.nan, np.inf, 0.5]))
        kept = figures.Line("loss", np.array([0.0, 3.0]), np.array([1.0, 0.5]))
        assert figures.curves([line], "loss", "Loss") == figures.curves([kept], "loss", "Loss")

    def test_points_without_neighbours_are_marked(self) -> None:
        def marks(drawing: object) -> int:
            return len(re.findall(r"<use [^>]*fill: var\(--first\)", str(drawing)))

        nan = np.nan
        for values, lone in (([1, 2], 0), ([1], 1), ([1, nan, 2, 3], 1), ([1, nan, 2], 2), ([nan, 1, nan], 1)):
            assert marks(figures.plotted(lambda axes, values=values: axes.plot(values), "A curve")) == lone
        noisy = figures.Line("loss", np.ones(1), np.ones(1), noisy=True)
        assert marks(figures.curves([noisy], "loss", "Loss")) == 1

    def test_reduce_keeps_the_extremes(self) -> None:
        values = np.random.default_rng(0).normal(size=1003)
        low, mean, high = figures.reduce(values, 10)
        assert low.min() == values.min()
        assert high.max() == values.max()
        assert len(mean) == 10
        assert mean[0] == pytest.approx(values[:100].mean())
        assert mean[-1] == pytest.approx(values[902:].mean())

    def test_smooth_is_the_mean_of_whole_windows(self) -> None:
        x = np.arange(300.0)
        inner, mean = figures.smooth(x, 2 * x)
        assert len(inner) == 291
        np.testing.assert_allclose(mean, 2 * inner)
        np.testing.assert_allclose(inner[0], 4.5)
        assert figures.smooth(x[:30], x[:30])[0] is not None
        np.testing.assert_array_equal(figures.smooth(x[:30], x[:30])[1], x[:30])

    def test_signed_colours(self) -> None:
        colours = figures.signed_rgba(np.array([-2.0, 0.0, 1.0, 4.0]), 2.0)
        assert colours[:, 3].tolist() == [255, 0, 128, 255]
        assert tuple(colours[0, :3]) == figures.NEGATIVE
        assert tuple(colours[3, :3]) == figures.POSITIVE

    @pytest.mark.parametrize(
        ("value", "written"),
        [
            (12500, "12,500"),
            (0.03125, "0.03125"),
            (-2, "−2"),
            (999.96, "1,000"),
            (999.6, "999.6"),
            (4.1e-7, "4.1e-07"),
            (0, "0"),
        ],
    )
    def test_numbers(self, value: float, written: str) -> None:
        assert figures.number(value) == written

    def test_dollars_are_dollars(self) -> None:
        targets = np.arange(10.0)
        assert ">true $5_a$</text>" in figures.agreement(targets, targets, "$5_a$")

    def test_names_are_cleaned(self) -> None:
        drawing = figures.agreement(np.arange(9.0), np.arange(9.0), "a\x01")
        assert "\x01" not in drawing
        assert drawing.count("a␁") == 3  # both axes and the alternative text

    def test_a_constant_is_drawn(self) -> None:
        zero = np.zeros(10)
        assert figures.agreement(zero, zero, "y")
        assert figures.residuals(zero, "y")
        assert figures.sparkline([(zero, "first")], "flat")
        assert figures.sparkline([(zero[:1], "first")], "a single step")
        assert figures.state(np.zeros((1, 1)), np.zeros((1, 1)), 0.0, "x")
        assert figures.thumbnail(np.zeros((3, 4)), zero, True, "blank")


def test_flatten() -> None:
    assert flatten({"a": {"b": {"c": 1}}, "d": {}}) == {"a.b.c": 1, "d": {}}
