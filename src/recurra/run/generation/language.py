"""What `recurra generate` does with a run of language: texts that are drawn or looked for, and the tree of them."""

import io
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console

from recurra.analysis.prediction_tree import PredictionTree
from recurra.data.opening import open_text
from recurra.errors import RecipeError, RunError, unknown
from recurra.files import write_text
from recurra.run.generate import Generated, Piece, text_model
from recurra.run.generation.base import Generator, Options, Tell

DRAWN = ("temperature", "top_k", "top_p", "repetition_penalty", "seed")
"""Options of texts that are drawn."""

SHAPE = ("depth", "width", "min_probability")
"""Options of the tree."""


class Text(Generator):
    """Texts of a language model."""

    task = "language"
    options = frozenset(
        {
            *("prompt", "prompt_file", "length", "samples", "stop", "beam", "echo", "json", "tree", "merge"),
            *("output_format", *DRAWN, *SHAPE),
        }
    )

    def generate(self, run: Any, prompts: str | Sequence[str] | None = None, **options: Any) -> list[Generated]:
        """See `recurra.run.generate.TextModel.generate`."""
        return text_model(run)[0].generate("" if prompts is None else prompts, **options)

    def write(self, run: Any, given: Options, out: Path | None, tell: Tell) -> None:
        """See `Generator.write`."""
        drawn = {name: given[name] for name in DRAWN if name in given}
        shape = {name: given[name] for name in SHAPE if name in given}
        tree, merge, beam, echo = (given.get(name) for name in ("tree", "merge", "beam", "echo"))
        kind = _kind_of_text(bool(tree), "json" in given, given.get("output_format"), out)
        if tree:
            beside = [*drawn, *(name for name in ("stop", "beam") if name in given)]
            why = "--tree shows the model's own probabilities, and draws nothing"
        elif beam is not None:
            beside, why = [*drawn, *shape], "--beam looks for the most probable text, and draws nothing"
        else:
            beside, why = [*shape, *(["merge"] if merge else [])], "goes with --tree"
        if beside:
            raise RecipeError(f"--{beside[0].replace('_', '-')}: {why}")
        prompts = [*given.get("prompt", []), *map(_prompt, given.get("prompt_file", []))] or [""]
        if kind == "svg" and len(prompts) > 1:
            raise RecipeError(f"--output-format svg: one prompt is drawn, not {len(prompts)}")
        model, said = text_model(run)
        if said:
            tell(said)
        wanted = {name: given[name] for name in ("length", "samples", "stop") if name in given}
        with _written_to(out) as file:
            if tree:
                for one in prompts:
                    found = model.tree(one, **shape)
                    _write_tree(found.merged(model.between) if merge else found, kind, file)
            elif beam is not None or kind == "jsonl":
                texts = model.generate(prompts, **wanted, **({"beam": beam} if beam is not None else drawn))
                for number, text in enumerate(texts):
                    if kind == "jsonl":
                        file.write(json.dumps(text.to_dict(), ensure_ascii=False) + "\n")
                    else:
                        begun = "" if echo is False else text.prompt
                        file.write(_heading(number, len(texts)) + begun + text.text + "\n")
            else:
                pieces = model.stream(prompts, **wanted, **drawn)
                begun = ["" if echo is False else one for one in prompts for _ in range(wanted.get("samples", 1))]
                try:
                    _write_as_it_comes(pieces, begun, file)
                except KeyboardInterrupt:  # what stands there stays, and what follows begins a line of its own
                    file.write("\n")
                    file.flush()
                    raise


def _kind_of_text(tree: bool, as_json: bool, output_format: str | None, out: Path | None) -> str:
    """How texts or trees are written."""
    kinds = ("text", "svg", "json") if tree else ("text", "jsonl")
    if output_format is not None:
        if output_format not in kinds:
            what = "--tree" if tree else "texts"
            raise RunError(f"--output-format: {unknown(f'format of {what}', output_format, kinds)}")
        if as_json and output_format != kinds[-1]:
            raise RunError(f"--json beside --output-format {output_format}: one of them")
        return output_format
    if as_json:
        return kinds[-1]
    ending = "" if out is None else out.suffix.removeprefix(".")
    return ending if ending in kinds else kinds[-1] if ending in ("json", "jsonl") else "text"


def _prompt(name: str) -> str:
    """A prompt that is a whole file."""
    with open_text(sys.stdin.buffer if name == "-" else Path(name)) as file:
        return file.read().removesuffix("\n")


@contextmanager
def _written_to(out: Path | None) -> Iterator[TextIO]:
    """Standard output, or what becomes a file once it is whole."""
    if out is None:
        yield sys.stdout
        return
    held = io.StringIO()
    yield held
    write_text(out, held.getvalue())


def _heading(number: int, of: int) -> str:
    """What stands before a text where there are several."""
    return "" if of == 1 else ("\n" if number else "") + f"--- {number + 1} of {of}\n"


def _write_as_it_comes(pieces: Iterator[Piece], begun: list[str], file: TextIO) -> None:
    """Write texts one below the other: the first as it grows, the others as soon as those before them are done."""
    held = ["" for _ in begun]
    ended = [False for _ in begun]
    now = 0
    file.write(_heading(0, len(begun)) + begun[0])
    file.flush()
    for piece in pieces:
        held[piece.number] += piece.text
        ended[piece.number] = piece.ended is not None
        if piece.number != now:
            continue
        while True:
            file.write(held[now])
            held[now] = ""
            if not ended[now]:
                break
            file.write("\n")
            now += 1
            if now == len(begun):
                break
            file.write(_heading(now, len(begun)) + begun[now])
        file.flush()


def _write_tree(tree: PredictionTree, kind: str, file: TextIO) -> None:
    if kind == "text" and file.isatty():
        Console().print(tree.to_rich())
        return
    text = tree.to_svg() if kind == "svg" else tree.to_json() if kind == "json" else str(tree)
    file.write(text.rstrip("\n") + "\n")
