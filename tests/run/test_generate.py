"""What language models write: against a loop in float64, every text by itself, and by the command."""

import io
import itertools
import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from zlib import crc32

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import recurra
from recurra.cli import main
from recurra.data.units import END, PAD, START, UNK, Units
from recurra.errors import DataError, RecipeError, RunError
from recurra.nn import writer as writing
from recurra.run.generate import Generated, Piece, TextModel, _Text
from recurra.run.generation import GENERATORS
from recurra.run.generation.language import _write_as_it_comes
from recurra.run.training import Silent
from recurra.tasks.language import LanguageModel, LanguageModelSettings

RHYME = "the cat sat on the mat, the dog sat on the log; round and round they go.\nÄh, größer: 語!\n"


def made(
    unit: Any = "character", spread: float = 1.5, vocabulary: dict[str, Any] | None = None, **model: Any
) -> TextModel:
    """A model of random weights, so that its texts are like no others."""
    torch.manual_seed(3)
    units = Units.learn([RHYME * 3], unit, **(vocabulary or {}))
    given = {"hidden_size": 9, "embedding_size": 5, **model}
    network = LanguageModel(LanguageModelSettings.model_validate(given), len(units)).eval()
    for p in network.parameters():
        nn.init.normal_(p, std=spread / math.sqrt(p.shape[-1]))
    return TextModel(network, units)


def distribution(model: TextModel, text: list[int]) -> np.ndarray:
    """That of the next symbol, by the network itself, run over the whole text."""
    with torch.no_grad():
        scores = model.network.read(torch.tensor(text).unsqueeze(1))[0]
    return np.exp(scores[0].double().numpy())


def by_hand(model: TextModel, prompt: str, length: int, temperature: float, seed: int, sample: int = 0) -> list[int]:
    """A loop: the whole text is read anew for every symbol of it."""
    random = np.random.default_rng([seed, (crc32(prompt.encode()) << 32) + sample])
    ids, said = model.units.encode(prompt), []
    for _ in range(length):
        p = distribution(model, ids + said)
        p[[PAD, UNK, START, *([] if model.units.lines else [END])]] = 0
        p = p ** (1 / temperature)
        said.append(int(np.searchsorted(np.cumsum(p / p.sum()), random.random(), "right")))
    return said


# --- texts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"cell": "gru", "num_layers": 2},
        {"cell": "lstm_peephole", "hidden_size": [7, 9], "num_layers": 2},
        {"num_layers": 2, "hidden_size": 5, "skip": "residual"},
        {"softmax": "adaptive", "cutoffs": [8, 14], "hidden_size": 32},
        {"softmax": "sampled", "samples": 4},
        {"tied": True, "hidden_size": 5},
    ],
    ids=str,
)
def test_a_text_is_that_of_a_loop_over_the_network_itself(model: dict[str, Any]) -> None:
    """Recurrent, embedding and every softmax, on the core and in tensor code."""
    one = made(**model)
    (text,) = one.generate("the c", length=40, temperature=0.8, seed=5)
    assert text == Generated("the c", one.units.decode(by_hand(one, "the c", 40, 0.8, 5)), 0, 40, "length")


def test_greedy_takes_the_most_probable_symbol() -> None:
    model = made()
    said: list[int] = []
    for _ in range(30):
        p = distribution(model, model.units.encode("cat") + said)
        p[[PAD, UNK, START, END]] = 0
        said.append(int(p.argmax()))
    greedy: list[dict[str, Any]] = [{"temperature": 0.0}, {"top_k": 1}, {"top_p": 1e-9}]
    for options in greedy:
        assert model.generate("cat", length=30, **options)[0].text == model.units.decode(said)


@pytest.mark.parametrize("options", [{}, {"stop": [" ", "t"]}, {"top_p": 0.9, "repetition_penalty": 1.2, "seed": 4}])
def test_a_prompt_has_the_same_texts_whatever_is_beside_it(options: dict[str, Any]) -> None:
    model, prompts = made(), ["the cat", "", "a", "round and round they g", "on the mat, "]
    together = model.generate(prompts, length=30, samples=3, **options)
    assert [t.prompt for t in together] == [p for p in prompts for _ in range(3)]
    assert [t.sample for t in together] == [0, 1, 2] * 5
    alone = [text for prompt in prompts for text in model.generate(prompt, length=30, samples=3, **options)]
    assert alone == together
    assert len({t.text for t in together}) == 15
    backwards = model.generate(prompts[::-1], length=30, samples=3, **options)
    assert sorted(map(str, backwards)) == sorted(map(str, together))
    assert model.generate(prompts[0], length=30, **{**options, "seed": 9})[0].text != together[0].text


def test_a_long_prompt_is_read_by_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made()
    whole = model.generate(RHYME, length=20)
    monkeypatch.setattr(writing, "AT_ONCE", 7)
    assert model.generate(RHYME, length=20) == whole


def test_a_penalty_is_on_what_the_prompt_says_too() -> None:
    model = made(spread=0.01)  # all symbols are about as likely
    (text,) = model.generate("the cat sat", length=12, repetition_penalty=50.0)
    assert len(set(text.text)) == 12
    assert not set(text.text) & set("the cat sat")


def test_symbols_that_no_text_has_never_come() -> None:
    for unit in ("character", "word", "subword"):
        model = made(unit, spread=0.01, vocabulary={"size": 270} if unit == "subword" else {})
        pieces = [p for t in model.generate(length=900, samples=2) for p in [t]]
        never = {model.units.symbols[i] for i in (PAD, UNK, START, END)}
        assert not any(symbol in piece.text.split() for piece in pieces for symbol in never)


def test_words_are_joined_as_they_are_read() -> None:
    model = made("word", vocabulary={"lines": True})
    said = by_hand(model, "the cat", 25, 1.0, 0)
    text = model.generate("the cat", length=25)[0].text
    assert text.split() == model.units.decode(said).split()
    assert ("the cat" + text).startswith("the cat\n" if said[0] == END else "the cat ")
    after_a_blank = model.generate("the cat ", length=25)[0].text
    assert not after_a_blank.startswith(" ")
    assert "\n" in model.generate(length=200)[0].text


def test_pieces_of_characters_are_held_until_they_are_whole() -> None:
    model = made("subword", vocabulary={"size": 261})  # hardly more than single bytes
    pieces = list(model.stream("the ", length=300, top_k=4))
    assert len(pieces) == 300
    assert "" in [piece.text for piece in pieces]
    assert all(
        piece.text.isprintable() or "\n" in piece.text or "\ufffd" in piece.text or len(piece.text) < 2
        for piece in pieces
    )
    ids = by_hand(made("subword", vocabulary={"size": 261}), "the ", 1, 1.0, 0)
    assert len(ids) == 1
    joined = "".join(piece.text for piece in pieces)
    assert model.generate("the ", length=300, top_k=4)[0].text == joined


def test_symbols_are_handed_out_one_by_one() -> None:
    model = made()
    steps = []
    stream = model.stream(["a", "c"], length=5, samples=2)
    for piece in stream:
        steps.append(piece)
        if len(steps) == 3:
            break
    assert [piece.number for piece in steps] == [0, 1, 2]
    assert [piece.ended for piece in stream] == [None] * 13 + ["length"] * 4


def test_an_empty_prompt_begins_a_line() -> None:
    model = made()
    assert model.generate("", length=20)[0].text != ""
    assert model.begin() == model.units.encode("\n")
    assert made("word", vocabulary={"lines": True}).begin() == [END]
    words = made("word")
    assert words.units.symbols[words.begin()[0]] == "the"  # the commonest
    assert made("subword", vocabulary={"size": 270}).begin() == made("subword", vocabulary={"size": 270}).units.encode(
        "\n"
    )
    blank = TextModel(None, Units.learn(["abba b"], "character"))
    assert blank.units.symbols[blank.begin()[0]] == "b"


# --- where a text stops ----------------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(st.text("ab \n", max_size=30), st.lists(st.text("ab \n", min_size=1, max_size=4), max_size=3))
def test_a_text_stops_before_the_first_text_to_stop_at(text: str, stops: list[str]) -> None:
    """Whatever has been said is never taken back, and nothing is held that need not be."""
    units = Units.learn(["ab \n"], "character")
    made_text, said, used = _Text(units, [], "", stops), "", 0
    for n, symbol in enumerate(units.encode(text), 1):
        said, used = said + made_text.feed(symbol, n == len(text)), n
        if made_text.ended:
            break
        held = text[len(said) : n]
        assert not held or any(stop.startswith(held) for stop in stops)
    ends = [(place + len(stop), place) for stop in stops for place in range(len(text)) if text.startswith(stop, place)]
    if ends:
        end = min(end for end, _ in ends)
        assert (made_text.ended, used) == ("stop", end)
        assert said == text[: min(place for e, place in ends if e == end)]
    else:
        assert said == text
        assert made_text.ended == ("length" if text else None)


def test_what_has_stopped_leaves_the_others_as_they_are() -> None:
    model = made()
    free = model.generate(["a", "o", "c"], length=60, samples=4)
    stopped = model.generate(["a", "o", "c"], length=60, samples=4, stop="t")
    for whole, cut in zip(free, stopped, strict=True):
        assert cut.text == whole.text.partition("t")[0]
        assert cut.ended == ("stop" if "t" in whole.text else "length")
        assert cut.symbols == (len(cut.text) + 1 if "t" in whole.text else 60)
    assert {t.ended for t in stopped} == {"stop"}


# --- the most probable texts -----------------------------------------------------------------------------------------


def test_a_beam_finds_the_most_probable_of_all_texts() -> None:
    model = made(spread=2.5)
    symbols = [i for i in range(len(model.units)) if i not in (PAD, UNK, START, END)]
    every = {}
    for text in itertools.product(symbols, repeat=2):
        ids = model.units.encode("the")
        p = [distribution(model, [*ids, *text[:n]])[text[n]] for n in range(2)]
        every[text] = math.log(p[0]) + math.log(p[1])
    best = sorted(every, key=every.__getitem__, reverse=True)[:3]
    found = model.generate("the", beam=len(symbols) ** 2, length=2, samples=3)
    assert [t.text for t in found] == [model.units.decode(text) for text in best]
    assert [t.log_probability for t in found] == pytest.approx([every[text] for text in best], rel=1e-4)
    assert [t.sample for t in found] == [0, 1, 2]


def test_a_beam_stops_at_a_symbol() -> None:
    model = made(spread=2.5)
    found = model.generate(["the ", "a"], beam=4, length=30, samples=2, stop=" ")
    assert {t.ended for t in found} == {"stop"}
    assert all(" " not in t.text and t.symbols == len(t.text) + 1 for t in found)
    alone = [t for prompt in ("the ", "a") for t in model.generate(prompt, beam=4, length=30, samples=2, stop=" ")]
    assert [t.text for t in alone] == [t.text for t in found]


# --- the tree --------------------------------------------------------------------------------------------------------


def test_the_tree_is_that_of_the_network() -> None:
    model = made(spread=2.5)
    tree = model.tree("the c", depth=3, width=2, min_probability=0)
    assert tree.symbol == "the c"

    def check(branch: Any, text: list[int], depth: int) -> None:
        assert len(branch.children) == (2 if depth else 0)
        p = distribution(model, text)
        for child, symbol in zip(branch.children, np.argsort(-p), strict=False):
            assert child.symbol == model.units.symbols[symbol]
            assert child.probability == pytest.approx(p[symbol], rel=1e-4)
            check(child, [*text, int(symbol)], depth - 1)

    check(tree, model.units.encode("the c"), 3)


def test_the_end_of_a_line_is_one_in_a_tree_of_words() -> None:
    model = made("word", vocabulary={"lines": True})
    tree = model.tree("cat", depth=1, width=99, min_probability=0)
    assert "\n" in {child.symbol for child in tree.children}
    assert model.between == " "


# --- what cannot be --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"length": 0}, "length: a whole number above 0 is expected, not 0"),
        ({"samples": 0}, "samples: a whole number above 0 is expected, not 0"),
        ({"temperature": -1}, "temperature: a number from 0 on is expected, not -1"),
        ({"top_k": 0}, "top_k: a whole number above 0"),
        ({"top_p": 0.0}, "top_p: a number above 0, at most 1"),
        ({"repetition_penalty": -2}, "repetition_penalty: a number above 0"),
        ({"seed": -1}, "seed: a whole number from 0 on"),
        ({"stop": ["x", ""]}, "stop: an empty text stands everywhere"),
        ({"beam": 0}, "beam: a whole number above 0 is expected, not 0"),
        ({"beam": 2, "samples": 3}, "samples: 3 texts cannot come from a beam of 2; beam is too small"),
        ({"beam": 2, "temperature": 0.5}, "temperature: nothing is drawn by a beam"),
        ({"beam": 2, "stop": "the end"}, "stop: 'the end': a beam stops at one symbol of the vocabulary"),
        ({"beam": 2, "length": 0}, "length: a whole number above 0 is expected, not 0"),
    ],
    ids=str,
)
def test_settings_that_cannot_be(options: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(words)):
        made().generate("a", **options)


def test_a_symbol_that_was_never_seen() -> None:
    with pytest.raises(
        DataError, match=re.escape("prompt 2: character 5 of 'the zoo': 'z' was never seen in training")
    ):
        made().generate(["the cat", "the zoo"])
    with pytest.raises(
        DataError, match=re.escape("prompt: word 2 of 'the catt': 'catt' was never seen in training; the")
    ):
        made("word").tree("the catt")
    with pytest.raises(DataError, match="no prompt is given"):
        made().generate([])


# --- by the command --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few updates."""
    folder = tmp_path_factory.mktemp("written")
    (folder / "rhyme.txt").write_text(RHYME * 12, "utf-8")
    settings = {"model.hidden_size": 12, "model.embedding_size": 6, "train.epochs": 1, "train.batch_size": 8}
    recurra.train("language", folder / "rhyme.txt", out=folder / "run", settings=settings)
    return folder / "run"


def command(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str, str]:
    status = main(["generate", *map(str, words)])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_a_text_is_printed_behind_its_prompt(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = command(capsys, run, "--prompt", "the cat", "--length", 30, "--seed", 3, "--temperature", 0.5)
    (text,) = recurra.load(run).generate("the cat", length=30, seed=3, temperature=0.5)
    assert (status, out, err) == (0, "the cat" + text.text + "\n", "")
    assert len(text.text) == 30
    assert command(capsys, run, "--prompt", "the cat", "--length", 30, "--seed", 3, "--temperature", 0.5)[1] == out
    status, out, _ = command(capsys, run, "--prompt", "the cat", "--length", 9, "--no-echo")
    assert out == recurra.load(run).generate("the cat", length=9)[0].text + "\n"
    status, out, _ = command(capsys, run, "--prompt", "", "--length", 9)
    assert (status, out) == (0, recurra.load(run).generate("", length=9)[0].text + "\n")


def test_several_texts_stand_below_each_other(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [run, "--prompt", "the", "--prompt", "a", "--samples", 2, "--length", 12, "--stop", "t"]
    _, out, _ = command(capsys, *words)
    texts = recurra.load(run).generate(["the", "a"], samples=2, length=12, stop="t")
    assert out == "\n".join(f"--- {n} of 4\n{t.prompt}{t.text}\n" for n, t in enumerate(texts, 1))
    _, out, _ = command(capsys, *words, "--json")
    assert [json.loads(line) for line in out.splitlines()] == [t.to_dict() for t in texts]
    assert set(json.loads(out.splitlines()[0])) == {"prompt", "text", "sample", "symbols", "ended"}
    _, out, _ = command(capsys, run, "--beam", 3, "--samples", 2, "--length", 5, "--prompt", "the", "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines[0]["log_probability"] >= lines[1]["log_probability"]


def test_symbols_are_printed_as_they_come(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Watched(io.StringIO):
        flushed: list[str]

        def flush(self) -> None:
            self.flushed.append(self.getvalue())

    out = Watched()
    out.flushed = []
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["generate", str(run), "--prompt", "the", "--length", "8"]) == 0
    seen = [len(text) - len("the") for text in dict.fromkeys(out.flushed)]
    assert seen == [0, 1, 2, 3, 4, 5, 6, 7, 9]  # the last with the end of the line


def test_what_is_interrupted_ends_its_line(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> Iterator[Piece]:
        yield Piece(0, " ca")
        raise KeyboardInterrupt

    monkeypatch.setattr(TextModel, "stream", interrupted)
    assert command(capsys, run, "--prompt", "the") == (130, "the ca\n", "")


def test_prompts_from_files(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prompt.txt").write_text("the cat\nsat\n", "utf-8")
    expected = "the cat\nsat" + recurra.load(run).generate("the cat\nsat", length=7)[0].text + "\n"
    assert command(capsys, run, "--prompt-file", tmp_path / "prompt.txt", "--length", 7)[1] == expected
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"the cat\nsat\n"), "utf-8"))
    assert command(capsys, run, "--prompt-file", "-", "--length", 7)[1] == expected
    (tmp_path / "bad.txt").write_bytes(b"the \xff")
    status, _, err = command(capsys, run, "--prompt-file", tmp_path / "bad.txt")
    assert status == 2
    assert "bad.txt" in err
    assert "4" in err  # the place


def test_the_tree_in_every_form(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [run, "--tree", "--prompt", "the ", "--depth", 3, "--width", 2, "--min-probability", 0.001]
    tree = recurra.load(run).tree("the ", depth=3, width=2, min_probability=0.001)
    _, out, _ = command(capsys, *words)
    assert out == str(tree) + "\n"
    for more in (["--json"], ["--output-format", "json"]):
        assert json.loads(command(capsys, *words, *more)[1]) == tree.to_dict()
    assert command(capsys, *words, "--output-format", "svg")[1] == tree.to_svg()
    for kind in ("svg", "json", "txt"):
        assert command(capsys, *words, "--out", tmp_path / f"tree.{kind}") == (0, "", "")
    assert (tmp_path / "tree.svg").read_text("utf-8") == tree.to_svg()
    assert json.loads((tmp_path / "tree.json").read_text("utf-8")) == tree.to_dict()
    assert (tmp_path / "tree.txt").read_text("utf-8") == str(tree) + "\n"
    status, _, err = command(capsys, *words, "--out", tmp_path / "tree.svg")
    assert (status, err) == (2, f"error: {tmp_path / 'tree.svg'}: exists already; --force overwrites it\n")
    merged = command(capsys, *words, "--width", 1, "--merge")[1]
    assert len(merged.splitlines()) == 2
    ElementTree.fromstring(tree.to_svg())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--prompt", "the zoo"], "prompt: character 5 of 'the zoo': 'z' was never seen in training"),
        (["--beam", "0"], "beam: a whole number above 0 is expected, not 0"),
        (["--temperature", "-1"], "temperature: a number from 0 on is expected, not -1.0"),
        (["--top-p", "1.5"], "top_p: a number above 0, at most 1, is expected, not 1.5"),
        (["--tree", "--width", "0"], "width: a whole number above 0 is expected, not 0"),
        (["--tree", "--top-k", "3"], "--top-k: --tree shows the model's own probabilities, and draws nothing"),
        (["--tree", "--stop", "x"], "--stop: --tree shows"),
        (["--tree", "--beam", "3"], "--beam: --tree shows"),
        (["--beam", "3", "--seed", "1"], "--seed: --beam looks for the most probable text, and draws nothing"),
        (["--min-probability", "0.1"], "--min-probability: goes with --tree"),
        (["--merge"], "--merge: goes with --tree"),
        (["--output-format", "svg"], "--output-format: unknown format of texts 'svg'"),
        (["--tree", "--output-format", "sgv"], "--output-format: unknown format of --tree 'sgv'; did you mean 'svg'?"),
        (["--tree", "--output-format", "svg", "--prompt", "a", "--prompt", "t"], "one prompt is drawn, not 2"),
        (["--json", "--output-format", "text"], "--json beside --output-format text: one of them"),
        (["--prompt-file", "nowhere.txt"], "nowhere.txt: no such file"),
        (["--out", "nowhere/a.txt"], "cannot be written: there is no folder nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_told(run: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    status, out, err = command(capsys, run, *words)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_run_that_has_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = np.random.default_rng(0).normal(size=(40, 5, 2)), np.arange(40) % 2
    settings = {"train.epochs": 1, "model.hidden_size": 4}
    classify = recurra.train("classify", (x, y), out=tmp_path / "run", settings=settings)
    status, _, err = command(capsys, tmp_path / "run", "--prompt", "a")
    assert status == 2
    *names, last = GENERATORS
    known = f"{', '.join(names)} or {last}"
    told = f"is a run of classify, not of {known}, and has nothing to go on with; recurra predict uses it"
    assert err == f"error: {tmp_path / 'run'}: {told}\n"
    with pytest.raises(RunError, match="is a run of classify"):
        classify.tree("a")


def test_options_that_the_task_does_not_have() -> None:
    language = GENERATORS["language"]
    language.check({"prompt": ["a"], "tree": True, "echo": False})
    with pytest.raises(RecipeError) as told:
        language.check({"length": 3, "top_kk": 1})
    said = str(told.value)
    assert said.startswith("--top-kk: a run of language has no such option; did you mean --top-k? It has --beam, ")
    assert "--no-echo" in said
    with pytest.raises(RecipeError, match="--fps: a run of language has no such option; it has --beam"):
        language.check({"fps": 3})


def test_a_run_that_is_not_finished_writes_with_what_it_has(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Stop(Silent):
        def update(self, step: int, loss: float) -> None:
            if step == 3:
                raise KeyboardInterrupt

    settings = {"model.hidden_size": 6, "train.batch_size": 2, "train.window": 16, "train.checkpoint_seconds": 0.0}
    with pytest.raises(KeyboardInterrupt):
        recurra.train("language", run.parent / "rhyme.txt", out=tmp_path / "run", settings=settings, listener=Stop())
    status, out, err = command(capsys, tmp_path / "run", "--prompt", "the", "--length", 5)
    assert status == 0
    assert len(out) == 3 + 5 + 1
    assert "is not finished: taken are the" in err


def pieces(texts: list[str]) -> Iterator[Piece]:
    """Pieces of several texts in turn."""
    for n in range(max(map(len, texts))):
        for number, text in enumerate(texts):
            if n < len(text):
                yield Piece(number, text[n], "length" if n == len(text) - 1 else None)


def test_texts_that_are_done_wait_for_those_before_them() -> None:
    out = io.StringIO()
    _write_as_it_comes(pieces(["abcdef", "g", "hij", "klmnopqrs"]), ["1:", "2:", "", "4:"], out)
    assert out.getvalue() == "--- 1 of 4\n1:abcdef\n\n--- 2 of 4\n2:g\n\n--- 3 of 4\nhij\n\n--- 4 of 4\n4:klmnopqrs\n"
