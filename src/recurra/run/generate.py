"""What a language model writes: texts that are drawn, the most probable ones, and the tree of what may follow."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple
from zlib import crc32

import numpy as np
import torch

from recurra.analysis.prediction_tree import PredictionTree, prediction_tree
from recurra.data.units import END, PAD, START, UNK, Decoding, Units
from recurra.engine.threads import suited
from recurra.errors import DataError, RecipeError, RunError
from recurra.nn.arguments import whole
from recurra.nn.decoding import Sampler, beam_search
from recurra.nn.softmax import FullSoftmax
from recurra.nn.writer import Writer

Ending = Literal["length", "stop"]


class Piece(NamedTuple):
    """What a symbol adds to a text.

    Attributes:
        number: Which text; those of the first prompt come first.
        text: What is added for good: nothing, while a character is not whole, or what may be the text to stop at.
        ended: Why the text has ended with it; None where it goes on.
    """

    number: int
    text: str
    ended: Ending | None = None


@dataclass(frozen=True)
class Generated:
    """A text.

    Attributes:
        prompt: What it goes on from.
        text: What was written, without the prompt.
        sample: Which of the texts of this prompt, from 0 on; of a beam, the most probable first.
        symbols: Symbols that were written.
        ended: "length", or "stop" where it came to a text to stop at.
        log_probability: Of a beam: of the symbols that were written, in nats.
    """

    prompt: str
    text: str
    sample: int
    symbols: int
    ended: Ending
    log_probability: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return {key: value for key, value in asdict(self).items() if key != "log_probability" or value is not None}


class TextModel:
    """A language model and its vocabulary, at work on texts.

    Args:
        network: A `LanguageModel`, in evaluation mode, on the CPU.
        units: What its symbols are.
    """

    def __init__(self, network: Any, units: Units) -> None:
        self.network, self.units = network, units
        self._never = [PAD, UNK, START, *([] if units.lines else [END])]  # no text has them, or should have

    @property
    def between(self) -> str:
        """What is written between two symbols."""
        return " " if self.units.unit == "word" else ""

    # --- prompts -----------------------------------------------------------------------------------------------------

    def begin(self) -> list[int]:
        """What an empty prompt stands for: the end of a line before, or where lines have none, the commonest symbol."""
        if self.units.unit == "word":
            return [END] if self.units.lines else [len(self._never)]
        return [i for i in self.units.encode("\n") if i != UNK][:1] or [len(self._never)]

    def encode(self, prompts: str | Sequence[str]) -> list[list[int]]:
        """The symbols of prompts, none of them empty.

        Raises:
            DataError: A symbol that was never seen in training, with its place.
        """
        found = []
        given = [prompts] if isinstance(prompts, str) else prompts
        for number, prompt in enumerate(given, 1):
            try:
                found.append(self.units.encode(prompt, strict=True) or self.begin())
            except DataError as error:
                raise DataError(f"prompt{f' {number}' if len(given) > 1 else ''}: {error}") from error
        if not found:
            raise DataError("no prompt is given; an empty one, '', begins a text")
        return found

    # --- texts -------------------------------------------------------------------------------------------------------

    def stream(
        self,
        prompts: str | Sequence[str] = "",
        *,
        length: int = 500,
        samples: int = 1,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        repetition_penalty: float = 1.0,
        seed: int = 0,
        stop: str | Sequence[str] = (),
    ) -> Iterator[Piece]:
        """Draw texts, and hand out what each symbol adds to its text as soon as it is drawn.

        All texts take their steps together, each draws from random numbers of its own: what is drawn for a prompt does
        not depend on the others.

        Args:
            prompts: What the texts go on from.
            length: Symbols that are written, at most.
            samples: Texts for each prompt.
            temperature: See `Sampler`, as for what follows.
            top_k: See there.
            top_p: See there.
            repetition_penalty: See there.
            seed: Of the random numbers.
            stop: Texts at which to stop; they are left out.

        Yields:
            A piece for every symbol of every text.

        Raises:
            DataError: A prompt with a symbol that was never seen.
            RecipeError: A setting that cannot be.
        """
        given, ids = [prompts] if isinstance(prompts, str) else list(prompts), self.encode(prompts)
        stops = _stops(stop)
        try:
            whole("length", length)
            whole("samples", samples)
            # A text's random numbers are settled by its prompt and its place among that one's samples alone.
            rows = [
                (crc32(prompt.encode("utf-8", "surrogatepass")) << 32) + n for prompt in given for n in range(samples)
            ]
            sampler = Sampler(
                temperature,
                top_k=top_k,
                top_p=top_p,
                repetition_penalty=repetition_penalty,
                seed=seed,
                rows=rows,
                forbidden=self._never,
            )
        except ValueError as error:
            raise RecipeError(str(error)) from error
        begun = [prompt for prompt in ids for _ in range(samples)]
        texts = [
            _Text(self.units, read, prompt, stops)
            for read, prompt in zip(begun, (p for p in given for _ in range(samples)), strict=True)
        ]
        return self._written(texts, begun, sampler, length)

    def _written(self, texts: list["_Text"], begun: list[list[int]], sampler: Sampler, length: int) -> Iterator[Piece]:
        sampler.begin(begun, len(self.units))
        with suited(self.network, len(texts)):
            writer = self.writer(len(texts))
            writer.read(begun)
        at = list(range(len(texts)))  # which text each row of the writer is
        symbols = np.array([prompt[-1] for prompt in begun])
        for n in range(1, length + 1):
            symbols = sampler.choose(writer.step(symbols), None if len(at) == len(texts) else at)
            fewer = False
            for number, symbol in zip(at, symbols.tolist(), strict=True):
                text = texts[number]
                if text.ended is None:
                    added = text.feed(symbol, n == length)
                    fewer |= text.ended is not None
                    yield Piece(number, added, text.ended)
            if fewer:
                on = [k for k, number in enumerate(at) if texts[number].ended is None]
                if not on:
                    return
                if 2 * len(on) <= len(at):  # which is worth packing the parameters again
                    with suited(self.network, len(on)):
                        writer, at, symbols = writer.kept(on), [at[k] for k in on], symbols[on]

    def generate(
        self, prompts: str | Sequence[str] = "", *, length: int = 500, samples: int = 1, **options: Any
    ) -> list[Generated]:
        """Write texts.

        Args:
            prompts: What they go on from.
            length: Symbols that are written, at most.
            samples: Texts for each prompt.
            options: As for `stream`; or `beam`, to look for the most probable texts, so many at a time, instead of
                drawing. Beside it stands only `stop`, one symbol.

        Returns:
            The texts, those of the first prompt first.

        Raises:
            DataError: A prompt with a symbol that was never seen.
            RecipeError: A setting that cannot be.
        """
        given = [prompts] if isinstance(prompts, str) else list(prompts)
        if options.get("beam") is not None:
            return self._most_probable(given, length, samples, **options)
        options.pop("beam", None)
        parts: dict[int, list[Piece]] = {}
        for piece in self.stream(given, length=length, samples=samples, **options):
            parts.setdefault(piece.number, []).append(piece)
        return [
            Generated(
                given[n // samples],
                "".join(p.text for p in pieces),
                n % samples,
                len(pieces),
                pieces[-1].ended or "length",
            )
            for n, pieces in sorted(parts.items())
        ]

    def _most_probable(
        self, given: list[str], length: int, samples: int, beam: int, stop: str | Sequence[str] = (), **others: Any
    ) -> list[Generated]:
        """What a beam search finds."""
        if others:
            raise RecipeError(
                f"{next(iter(others))}: nothing is drawn by a beam, which looks for the most probable texts"
            )
        stops = _stops(stop)
        ends = [self.units.encode(text) for text in stops]
        if len(ends) > 1 or any(len(end) != 1 or end[0] == UNK for end in ends):
            raise RecipeError(f"stop: {stops[0]!r}: a beam stops at one symbol of the vocabulary")
        ids = self.encode(given)
        try:
            whole("length", length)
            with suited(self.network, whole("beam", beam) * len(ids)):
                found = beam_search(
                    self.network.step,
                    self.state_before(ids),
                    torch.tensor([prompt[-1] for prompt in ids]),
                    end=ends[0][0] if ends else None,
                    max_length=length,
                    beam_size=beam,
                    n_best=whole("samples", samples),
                    forbidden=self._never,
                )
        except ValueError as error:
            raise RecipeError(str(error).replace("n_best", "samples").replace("beam_size", "beam")) from error
        texts = []
        for prompt, read, hypotheses in zip(given, ids, found, strict=True):
            for n, h in enumerate(hypotheses):
                text = _Text(self.units, read, prompt, ())
                said = "".join([text.feed(symbol, False) for symbol in h.symbols]) + text.finish()
                ended: Ending = "stop" if h.ended else "length"
                texts.append(Generated(prompt, said, n, len(h.symbols) + h.ended, ended, h.log_probability))
        return texts

    def tree(
        self, prompt: str = "", *, depth: int = 8, width: int = 3, min_probability: float = 0.02
    ) -> PredictionTree:
        """What may follow a text, and what may follow that.

        Args:
            prompt: The text.
            depth: Symbols of a path, at most.
            width: Symbols kept after each, at most.
            min_probability: Paths less probable than this are left out.

        Raises:
            DataError: A prompt with a symbol that was never seen.
            AnalysisError: An argument that cannot be.
        """
        (ids,) = self.encode(prompt)
        names = ["\n" if i == END and self.units.lines else name for i, name in enumerate(self.units.symbols)]
        settings: dict[str, Any] = {"depth": depth, "width": width, "min_probability": min_probability}
        state = self.state_before([ids])
        return prediction_tree(self.network.step, state, torch.tensor(ids[-1:]), names, prompt=prompt, **settings)

    # --- the model ---------------------------------------------------------------------------------------------------

    def writer(self, rows: int = 1) -> Writer:
        """What takes the steps of so many texts."""
        network = self.network
        output = network.output
        scored = (output.matrix, output.bias) if isinstance(output, FullSoftmax) else output.log_probabilities
        return Writer(network.recurrent, network.embedding.weight, scored, rows)

    def state_before(self, prompts: list[list[int]]) -> Any:
        """The recurrent layers' state before the last symbol of each prompt."""
        writer = self.writer(len(prompts))
        writer.read(prompts)
        return writer.state


class _Text:
    """A text as it is written.

    Args:
        units: The vocabulary.
        read: The symbols of the prompt.
        prompt: The prompt.
        stops: Texts at which to stop.
    """

    def __init__(self, units: Units, read: Sequence[int], prompt: str, stops: Sequence[str]) -> None:
        self.ended: Ending | None = None
        self._decoding, self._stops, self._held = Decoding(units), stops, ""
        for symbol in read:  # so that what follows is joined to it as it should be
            self._decoding.feed(symbol)
        self._is_spaced = units.unit == "word" and prompt[-1:].isspace()

    def feed(self, symbol: int, is_last: bool) -> str:
        """What a symbol adds for good; what may be the beginning of a text to stop at is held back."""
        added = self._decoding.feed(symbol)
        if self._is_spaced and added:
            added, self._is_spaced = added.removeprefix(" "), False
        if is_last:
            added += self._decoding.finish()
        if not self._stops:
            self.ended = "length" if is_last else None
            return added
        self._held += added
        places = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if places:
            self.ended = "stop"
            return self._held[: min(places)]
        self.ended = "length" if is_last else None
        keep = 0 if is_last else max(_overlap(self._held, stop) for stop in self._stops)
        said, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return said

    def finish(self) -> str:
        """What is left of a character that never became whole."""
        return self._decoding.finish()


def _overlap(text: str, stop: str) -> int:
    """The most characters at the end of `text` that are the beginning of `stop`, and not all of it.

    >>> _overlap("he said: EN", "END"), _overlap("END", "END")
    (2, 0)
    """
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


def _stops(stop: str | Sequence[str]) -> list[str]:
    stops = [stop] if isinstance(stop, str) else list(stop)
    if "" in stops:
        raise RecipeError("stop: an empty text stands everywhere; leave it out to write the whole length")
    return stops


def text_model(run: Any) -> tuple[TextModel, str]:
    """The language model of a run, as far as it has come, and what a person should know of it.

    Args:
        run: A `Run`.

    Raises:
        RunError: It is a run of another task, or has no weights yet.
    """
    task = run.recipe.task
    if task != "language":
        instead = "recurra predict writes its translations" if task == "translate" else "recurra predict uses it"
        raise RunError(f"{run.path}: is a run of {task}, not of language, and has no text to go on with; {instead}")
    network, said = run.so_far
    return TextModel(network, run.schema.units), said
