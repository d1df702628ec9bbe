"""`recurra inspect`: what it prints and writes, on a run's own data and others, and what it refuses."""

import html
import io
import json
import math
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from markupsafe import Markup

import recurra
from recurra.cli import main
from recurra.data import load_part
from recurra.data.batches import collate
from recurra.errors import DataError, RunError
from recurra.run import stream
from recurra.run.inspect import _furthest, _own, _reach, inspect
from recurra.tasks.base import _with_targets

TINY = {"train.epochs": 1, "train.batch_size": 8, "model.hidden_size": 4, "train.threads": 1}


def table(steps: int = 6, n: int = 40) -> str:
    """A CSV table, a sequence a row, with its class."""
    lines = ["class," + ",".join(f"t{t}" for t in range(steps))]
    lines += [
        f"{'rises' if i % 2 else 'falls'},{','.join(str((1 if i % 2 else -1) * (t + i % 7)) for t in range(steps))}"
        for i in range(n)
    ]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, and the table it was trained on, beside each other."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "rows.csv").write_text(table())
    recurra.train("classify", folder / "rows.csv", out=folder / "run", settings=TINY)
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without figures, which take their time."""
    monkeypatch.setattr("recurra.run.inspect.plotted", lambda *_: Markup("<svg></svg>"))


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to work in."""
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    monkeypatch.chdir(copy)
    return copy


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["inspect", *words])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


class Page(HTMLParser):
    """The tags and words of a page; every tag that is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_a_run_is_inspected_on_its_own_test_part(folder: Path, command: Callable[..., tuple[int, str, str]]) -> None:
    status, out, err = command("run")
    assert (status, err) == (0, "")
    assert "8 sequences" not in out, "the test part is small enough to be taken whole"
    assert out.splitlines()[0].startswith("run: the test part")
    assert re.search(r"^recurrent, forward +> 5 steps ", out, re.MULTILINE)
    assert re.search(r"^recurrent, backward: The gradient reaches back over all 5 steps", out, re.MULTILINE)
    assert out.rstrip().endswith("figures run/inspect.html")

    told = json.loads((folder / "run" / "inspect.json").read_text())
    run = recurra.load("run")
    assert told["gradients"] == "loss"
    assert told["sequences"] == run.summary["data"]["sequences"]["test"]
    assert [part["name"] for part in told["inspection"]["parts"]] == ["recurrent, forward", "recurrent, backward"]
    for sentence in told["words"]:
        assert sentence in out

    page = Page((folder / "run" / "inspect.html").read_text())
    assert len([tag for tag, _ in page.tags if tag == "svg"]) == 2 * 6 + 2
    for sentence in told["words"]:
        assert sentence in page.words
    fetched = [a.get("src") or a.get("href") or "" for _, a in page.tags]
    assert not [address for address in fetched if address.startswith(("http", "//"))]


def test_the_numbers_are_those_of_the_runs_own_loss(folder: Path) -> None:
    found = inspect("run", "rows.csv", sequences=40)
    run = recurra.load("run")
    part, _ = load_part("rows.csv", run.schema, targets=True)
    batch = collate(part, torch.arange(40))
    network = run.network.double()
    x = batch.x.double()
    begun = torch.zeros(2, 40, 4, dtype=torch.float64, requires_grad=True)
    outputs, _ = network(x, batch.lengths, (begun,))
    (whole,) = torch.autograd.grad(run.task.loss(network, outputs, batch), begun)
    alone = recurra.analysis.record(
        network, (x, batch.lengths), loss=lambda returned: run.task.loss(network, returned[0], batch)
    )
    for i, system in enumerate(alone.systems):
        assert system.gradient is not None
        gradient = torch.zeros_like(system.gradient[0])
        for k in range(system.steps - 1, -1, -1):
            gradient = system.pulled(k, torch.arange(40), gradient + system.gradient[k])
        torch.testing.assert_close(gradient, whole[i], rtol=1e-5, atol=1e-9)
        flow = recurra.analysis.gradient_flow(system, bound=False)
        np.testing.assert_allclose(found.found.parts[i].flow.median, flow.median, rtol=1e-4)


@pytest.mark.usefixtures("undrawn")
def test_the_report_has_the_gradients_once(folder: Path, command: Callable[..., tuple[int, str, str]]) -> None:
    before = (folder / "run" / "report.html").read_text()
    command("run")
    once = (folder / "run" / "report.html").read_text()
    command("run")
    assert (folder / "run" / "report.html").read_text() == once
    page = Page(once)
    assert len([a for tag, a in page.tags if tag == "section" and a.get("id") == "instruments"]) == 1
    assert "Where gradients go" in page.words
    begin, end = once.index("<!-- instruments -->"), once.index("<!-- end of instruments -->\n")
    assert once[:begin] + once[end + len("<!-- end of instruments -->\n") :] == before


@pytest.mark.usefixtures("undrawn")
def test_fewer_sequences_and_other_data(folder: Path, command: Callable[..., tuple[int, str, str]]) -> None:
    (folder / "more.csv").write_text(table(n=50))
    status, out, _ = command("run", "--data", "more.csv", "--sequences", "5")
    assert status == 0
    assert out.startswith("run: 5 of 50 sequences of more.csv")
    told = json.loads((folder / "run" / "inspect.json").read_text())
    assert (told["sequences"], told["inspection"]["parts"][0]["rows"]) == (5, 5)


@pytest.mark.usefixtures("undrawn")
def test_another_inspection_takes_the_place_of_the_last(
    folder: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    (folder / "some more.csv").write_text(table(n=50))
    again = "recurra inspect run --data 'some more.csv' --sequences 5 --input-format wide"
    for words, line in (([], "recurra inspect run"), (shlex.split(again)[3:], again), ([], "recurra inspect run")):
        assert command("run", *words)[::2] == (0, "")
        for name in ("inspect.html", "report.html"):
            page = (folder / "run" / name).read_text()
            assert f"<code>{html.escape(line).replace('&#x27;', '&#39;')}</code>" in page
        told = json.loads((folder / "run" / "inspect.json").read_text())
        assert told["data"] == ("5 of 50 sequences of some more.csv" if words else "the test part")
    assert inspect("run", (np.zeros((4, 6, 1)), ["falls"] * 4)).command == "recurra inspect run --data DATA"


def test_without_targets_gradients_are_random(folder: Path) -> None:
    rows = [line.partition(",")[2] for line in table().splitlines()]
    (folder / "bare.csv").write_text("\n".join(rows) + "\n")
    found = inspect("run", "bare.csv")
    assert not found.has_loss
    assert found.found.parts[0].flow.source == "random"
    assert json.loads(found.to_json())["gradients"] == "random"


def test_unknown_labels_are_left_out(folder: Path) -> None:
    lines = table(n=6).splitlines()
    (folder / "some.csv").write_text("\n".join([*lines[:5], lines[5].replace("falls", "stays")]) + "\n")
    found = inspect("run", "some.csv")
    assert (found.sequences, found.has_loss) == (4, True)
    (folder / "none.csv").write_text(table(n=6).replace("falls", "stays").replace("rises", "waits"))
    found = inspect("run", "none.csv")
    assert (found.sequences, found.has_loss) == (6, False)


@pytest.mark.usefixtures("undrawn")
def test_json_to_a_file_and_to_the_screen(folder: Path, command: Callable[..., tuple[int, str, str]]) -> None:
    status, out, _ = command("run", "--json", "-")
    assert status == 0
    own = json.loads((folder / "run" / "inspect.json").read_text())
    assert json.loads(out) == own
    assert command("run", "--json", "mine.json")[0] == 0
    assert json.loads((folder / "mine.json").read_text()) == own
    assert command("run", "--json", "mine.json")[::2] == (
        2,
        "error: mine.json: exists already; --force overwrites it\n",
    )
    (folder / "mine.json").write_text("{}")
    assert command("run", "--json", "mine.json", "--force", "--sequences", "2")[0] == 0
    assert json.loads((folder / "mine.json").read_text())["sequences"] == 2


@pytest.mark.usefixtures("undrawn")
def test_data_that_have_changed_are_told(folder: Path, command: Callable[..., tuple[int, str, str]]) -> None:
    run = recurra.load("run")
    Path(str(run.recipe.data.path)).exists()
    text = (folder / "run" / "recipe.toml").read_text().replace(str(run.recipe.data.path), str(folder / "rows.csv"))
    (folder / "run" / "recipe.toml").write_text(text)
    (folder / "rows.csv").write_text(table(n=60))
    _, out, err = command("run")
    assert err == "warning: the data are no longer those that the run was trained on\n"
    assert out.startswith("run: the test part")


def test_numbers_at_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {"train.samples": 20, "model.hidden_size": 4, "train.threads": 1}
    run = recurra.train("sine", out="waves", settings=settings)
    found = inspect("waves")
    (part,) = found.found.parts
    assert part.flow.source == "loss"
    assert part.flow.pairs[0] == found.sequences * part.steps or part.flow.pairs[0] == 32 * found.sequences
    assert run.summary["data"]["sequences"]["test"] == found.sequences


def test_labels_at_every_step_and_unknown_ones_among_them(tmp_path: Path) -> None:
    settings = {"train.samples": 8, "model.hidden_size": 4, "train.threads": 1}
    settings |= {f"data.options.{name}": value for name, value in (("training", 8), ("validation", 4), ("test", 4))}
    recurra.train("parity", out=tmp_path / "run", settings=settings)
    found = inspect(tmp_path / "run")
    (part,) = found.found.parts
    assert (found.sequences, part.flow.source) == (4, "loss")
    recipe = recurra.load(tmp_path / "run").recipe.data
    labelled, source = _own(recurra.load(tmp_path / "run"))[:2]
    assert source == "the test part"
    assert recipe.path is None
    assert labelled.targets is not None
    unknown = labelled.targets.clone()
    unknown[::2] = -1
    some = _with_targets(replace(labelled, targets=unknown))
    assert some.asked is not None
    assert torch.equal(some.asked, unknown >= 0)
    none = _with_targets(replace(labelled, targets=torch.full_like(unknown, -1)))
    assert (none.targets, none.asked) == (None, None)


@pytest.mark.usefixtures("undrawn")
def test_of_a_gradient_that_goes_nowhere_words_stand_in_a_figures_place(
    tmp_path: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    (tmp_path / "rows.csv").write_text(table(steps=1))
    run = tmp_path / "run"
    recurra.train("classify", tmp_path / "rows.csv", out=run, settings=TINY)
    status, out, _ = command(str(run))
    assert status == 0
    assert re.search(r"^recurrent, forward +– +– ", out, re.MULTILINE)
    report = Page((run / "report.html").read_text())
    assert "recurrent, backward: A sequence of one step has no way back." in report.words
    page = (run / "inspect.html").read_text()
    assert '<p class="value">–</p>' in page
    assert "Norm of the gradient" not in Page(page).words
    assert json.loads((run / "inspect.json").read_text())["inspection"]["parts"][0]["flow"]["factor"] is None


def test_the_headline_is_about_a_part_whose_gradient_goes_back() -> None:
    found = recurra.analysis.inspect(
        torch.nn.LSTM(2, 3, bidirectional=True), torch.randn(9, 2, 2), loss=lambda returned: returned[0][0].sum()
    )
    assert [part.flow.span for part in found.parts] == [0, 8]
    assert _furthest(found.parts) is found.parts[1]
    assert _reach(found.parts[0]) == "–"


def test_texts(tmp_path: Path) -> None:
    texts = [f"a {'lovely' if i % 2 else 'dreadful'} film {'very ' * (i % 4)}long" for i in range(40)]
    labels = ["good" if i % 2 else "bad" for i in range(40)]
    recurra.train("classify", (texts, labels), out=tmp_path / "texts", settings=TINY)
    found = inspect(tmp_path / "texts", (texts, labels), sequences=7)
    assert found.found.capacity is not None
    assert found.found.capacity.inputs == 100
    assert all(part.flow.factor is not None and math.isfinite(part.flow.factor) for part in found.found.parts)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["nowhere"], r"error: nowhere: no such file or folder"),
        (["."], r"error: \.: is no run folder \(it has no recipe.toml\)"),
        (["run", "--data", "nothing.csv"], r"error: nothing.csv: no such file or folder"),
        (["run", "--sequences", "0"], r"error: sequences: a whole number from 1 is expected, not 0"),
        (["run", "--sequences", "few"], r"error: --sequences: a whole number is expected, not 'few'"),
        (["run", "--json", "nowhere/x.json"], r"error: nowhere/x.json: cannot be written: there is no folder nowhere"),
        (["run", "--sequence", "3"], r"error: no such option --sequence; did you mean --sequences\?"),
    ],
)
def test_mistakes_of_a_command_line(
    words: list[str], text: str, folder: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    status, out, err = command(*words)
    assert (status, out) == (2, "")
    assert re.match(text, err), err
    assert not (folder / "run" / "inspect.json").exists()


def test_data_that_do_not_fit(folder: Path) -> None:
    (folder / "wide.csv").write_text("id,t,a,b\n" + "".join(f"{i},{t},1,2\n" for i in range(3) for t in range(4)))
    with pytest.raises(DataError, match=r"wide.csv"):
        inspect("run", "wide.csv")
    with pytest.raises(DataError):
        inspect("run", np.zeros((4, 5, 3), np.float32))


def test_runs_that_cannot_be_inspected(folder: Path, tmp_path: Path) -> None:
    (folder / "run" / "summary.json").rename(folder / "kept")
    with pytest.raises(RunError, match="is not finished; go on with it: recurra train --resume run"):
        inspect("run")
    (folder / "kept").rename(folder / "run" / "summary.json")
    with (folder / "run" / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(RunError, match="is not the file that the run wrote"):
        inspect("run")
    (folder / "run" / "model.safetensors").unlink()
    with pytest.raises(RunError, match=r"model\.safetensors: is missing"):
        inspect("run")
    assert not (folder / "run" / "inspect.json").exists()


def test_data_from_python_are_asked_for(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(30, 5, 1)).astype(np.float32)
    y = np.where(x[:, :, 0].sum(1) > 0, "up", "down")
    recurra.train("classify", (x, y), out=tmp_path / "run", settings=TINY)
    with pytest.raises(RunError, match="its data were given from Python, and are not kept; --data names some"):
        inspect(tmp_path / "run")
    assert inspect(tmp_path / "run", (x, y)).sequences == 30


@pytest.mark.parametrize("named", [True, False])
def test_of_a_stream_no_row_is_kept(named: bool, tmp_path: Path) -> None:
    text = "a,y\n" + "".join(f"{i % 5},{i % 3}\n" for i in range(20))
    (tmp_path / "rows.csv").write_text(text)
    source = str(tmp_path / "rows.csv") if named else io.BytesIO(text.encode())
    settings = {"model.hidden_size": 3, "train.threads": 1}
    run = stream.train("regress", source, out=tmp_path / "run", settings=settings, write=lambda _: None)
    name = run.summary["data"]["sources"]["train"]
    said = re.escape(f"it learnt from a stream ({name}), and keeps none of its rows; --data names some")
    with pytest.raises(RunError, match=said):
        inspect(tmp_path / "run")
    assert inspect(tmp_path / "run", tmp_path / "rows.csv").has_loss


def test_a_stream_that_its_recipe_names_is_no_data_set(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,y\n" + "".join(f"{i % 5},{i % 3}\n" for i in range(20)))
    settings = {"model.hidden_size": 3, "train.threads": 1, "data.path": str(tmp_path / "rows.csv")}
    stream.train("regress", out=tmp_path / "run", settings=settings, write=lambda _: None)
    with pytest.raises(RunError, match=r"it learnt from a stream \(.*rows.csv\)"):
        inspect(tmp_path / "run")


def test_a_function_as_a_cell(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import torch\n\n\ndef keep(x, s):\n    return 0.5 * s + torch.tanh(x).sum(-1, keepdim=True)\n"
    )
    (tmp_path / "rows.csv").write_text(table())
    settings = TINY | {"model.cell": f"{tmp_path}/own.py:keep"}
    recurra.train("classify", tmp_path / "rows.csv", out=tmp_path / "run", settings=settings)
    (part,) = inspect(tmp_path / "run").found.parts
    assert part.cell == "keep"
    np.testing.assert_allclose(part.flow.median, 0.5 ** np.arange(6.0), rtol=1e-5)
    assert part.flow.bound == pytest.approx(0.5, rel=1e-5)


# --- networks of other tasks ------------------------------------------------------------------------------------------

SMALL_TEXT = {"model.hidden_size": 5, "model.embedding_size": 4, "train.epochs": 1}


@pytest.mark.parametrize(
    ("task", "name", "content", "layer", "which"),
    [
        ("tag", "a.conll", "the DET\ncat NOUN\nsat VERB\n\n" * 60, "recurrent, forward", "4 of 12 sentences"),
        ("language", "a.txt", "to be or not to be\n" * 200, "recurrent", "4 stretches of 16 symbols"),
        ("translate", "a.tsv", "a b c\tx y\nb c\tz\n" * 60, "decoder.layers", "4 of 24 pairs"),
    ],
)
def test_a_network_of_texts(task: str, name: str, content: str, layer: str, which: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    settings = SMALL_TEXT | {"language": {"train.window": 8}, "translate": {"data.unit": "word"}}.get(task, {})
    run = recurra.train(task, data=tmp_path / name, out=tmp_path / "run", settings=settings)
    told = inspect(run.path, sequences=4)
    assert told.has_loss
    assert told.source == f"{which} of the test part"
    assert told.found.parts[0].name == layer
    assert told.found.parts[0].rows == 4
    again = inspect(run.path, tmp_path / name, sequences=2)
    assert again.found.parts[0].rows == 2
