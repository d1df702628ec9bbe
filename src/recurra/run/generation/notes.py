"""What `recurra generate` does with a run of notes: pieces drawn frame by frame, as MIDI, JSON or a drawing."""

import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch

from recurra.data.midi import METER, write_midi
from recurra.data.roll_reader import RollReader, read_pieces
from recurra.data.rolls import KEYS, LOWEST, RollSchema
from recurra.engine.threads import suited
from recurra.errors import RecipeError, RunError, unknown
from recurra.files import write_bytes
from recurra.nn.arguments import whole
from recurra.run.generation.base import Generator, Options, Tell
from recurra.run.roll_drawing import Roll, drawing
from recurra.tasks.roll_model import RollModel

LENGTH = 64
"""Frames that are written where nothing is said."""

PACE = 100.0
"""Beats a minute where neither the data nor a person says any."""

OPTIONS = ("length", "samples", "temperature", "seed")
"""Of what is drawn."""

FORMATS = ("json", "midi", "svg")
ENDINGS = {".mid": "midi", ".midi": "midi", ".svg": "svg", ".json": "json"}


@dataclass(frozen=True, eq=False)
class Tune:
    """A piece that was drawn.

    Attributes:
        sounding: (T, 88) bool, which keys sound in each frame, those of the prompt first.
        prompt: Frames of the prompt.
        sample: Which of the pieces of its prompt, from 0 on.
        step: Beats of a frame.
        tempo: Beats a minute.
        meter: Time signature.
    """

    sounding: np.ndarray
    prompt: int
    sample: int
    step: float
    tempo: float
    meter: tuple[int, int]

    @property
    def pitches(self) -> list[list[int]]:
        """The MIDI pitches of each frame, from the lowest."""
        return [(LOWEST + np.flatnonzero(frame)).tolist() for frame in self.sounding]

    def without_prompt(self) -> "Tune":
        """What was drawn alone."""
        return Tune(self.sounding[self.prompt :], 0, self.sample, self.step, self.tempo, self.meter)

    def to_midi(self) -> bytes:
        """The bytes of a MIDI file; a key that sounds in several frames in a row is one note."""
        return write_midi(self.sounding, self.step, tempo=self.tempo, meter=self.meter, lowest=LOWEST)

    def to_svg(self) -> str:
        """A drawing, the prompt in grey."""
        return drawing([Roll(self.sounding, given=self.prompt)], self.step, self.meter)


def compose(
    network: RollModel,
    prompts: Sequence[np.ndarray],
    *,
    length: int = LENGTH,
    samples: int = 1,
    temperature: float = 1.0,
    seed: int = 0,
) -> list[np.ndarray]:
    """Draw frames.

    All pieces take their steps together; each draws from random numbers of its own, settled by the seed, its prompt and
    its place among that one's samples, so that what is drawn does not depend on what is beside it.

    Args:
        network: In evaluation mode, on the CPU.
        prompts: (T, 88) of zeros and ones each, which the pieces go on from; (0, 88) begins a piece.
        length: Frames that are drawn.
        samples: Pieces for each prompt.
        temperature: Logits are divided by it; 0 lets each key sound where that is more probable than not.
        seed: Of the random numbers.

    Returns:
        (T + length, 88) bool for each sample of each prompt, those of the first prompt first.

    Raises:
        RecipeError: A setting that cannot be.
    """
    try:
        whole("length", length)
        whole("samples", samples)
    except ValueError as error:
        raise RecipeError(str(error)) from error
    if not 0 <= temperature < math.inf:
        raise RecipeError(f"temperature: a number from 0 on is expected, not {temperature}")
    if not isinstance(seed, int) or seed < 0:
        raise RecipeError(f"seed: a whole number from 0 on is expected, not {seed}")
    rows = [np.asarray(prompt) != 0 for prompt in prompts for _ in range(samples)]
    random = [np.random.default_rng([seed, crc32(row.tobytes()), number % samples]) for number, row in enumerate(rows)]
    dtype = next(network.parameters()).dtype
    lengths = torch.tensor([len(row) for row in rows])
    begun = torch.zeros(int(lengths.max()) + 1, len(rows), KEYS, dtype=dtype)
    for column, row in enumerate(rows):
        begun[1 : len(row) + 1, column] = torch.from_numpy(row)
    drawn = []
    with torch.no_grad(), suited(network, len(rows)):
        seen, state = network(begun, lengths + 1)
        seen = seen[lengths, torch.arange(len(rows))]
        for n in range(length):
            uniform = torch.from_numpy(np.stack([one.random(KEYS) for one in random]))
            frames = network.draw(seen, uniform, temperature)
            drawn.append(frames != 0)
            if n < length - 1:
                seen, state = network.step(frames, state)
    after = torch.stack(drawn, 1).numpy()
    return [np.concatenate([row, more]) for row, more in zip(rows, after, strict=True)]


class Music(Generator):
    """Pieces of music."""

    task = "notes"
    options = frozenset({"prompt_file", "length", "samples", "temperature", "seed", "tempo", "echo", "output_format"})

    def generate(self, run: Any, prompts: Any = None, *, tempo: float | None = None, **options: Any) -> list[Tune]:
        """Draw pieces.

        Args:
            run: A `Run` of notes.
            prompts: What they go on from: a file of pieces (JSON, MIDI, or a folder of these), or pieces as arrays
                (T, 88) or lists of pitches; several of these; None begins anew.
            tempo: Beats a minute; those of the prompt, or of the training data, where None.
            options: `length`, `samples`, `temperature` and `seed`, as `compose` has them.

        Raises:
            DataError: A prompt that is none.
            RecipeError: A setting that cannot be.
        """
        for name in options:
            if name not in OPTIONS:
                raise RecipeError(unknown("option of music", name, (*OPTIONS, "tempo")))
        return self._drawn(run, [] if prompts is None else _several(prompts), tempo, options, lambda _: None)

    def write(self, run: Any, given: Options, out: Path | None, tell: Tell) -> None:
        """See `Generator.write`."""
        kind = _kind(given.get("output_format"), out)
        files = given.get("prompt_file", [])
        samples = given.get("samples", 1)
        if kind == "midi" and out is None and sys.stdout.isatty():
            raise RunError("--output-format midi: its bytes are not for a terminal; --out FILE.mid names a file")
        options = {name: given[name] for name in OPTIONS if name in given}
        tunes = self._drawn(run, files, given.get("tempo"), options, tell)
        if "echo" in given:
            tunes = [tune.without_prompt() for tune in tunes]
        if kind == "midi" and len(tunes) > 1:
            many = f"--samples {samples}" if samples > 1 else f"{len(tunes)} prompts"
            raise RecipeError(f"{many}: a MIDI file holds one piece; JSON and SVG hold several (--output-format json)")
        content = _content(tunes, kind)
        if out is not None:
            write_bytes(out, content)
        elif kind == "midi":
            sys.stdout.buffer.write(content)
        else:
            sys.stdout.write(content.decode())

    def _drawn(
        self, run: Any, prompts: Sequence[Any], tempo: float | None, options: dict[str, Any], tell: Tell
    ) -> list[Tune]:
        if tempo is not None and not 4 <= tempo <= 2000:  # MIDI cannot say less than 3.6
            raise RecipeError(f"tempo: beats a minute from 4 to 2000 are expected, not {tempo:g}")
        schema: RollSchema = run.schema
        network, said = run.so_far
        if said:
            tell(said)
        settings = RollReader().settings_of(schema)
        begun: list[tuple[np.ndarray, float, tuple[int, int]]] = []
        for prompt in prompts:
            found, warnings = read_pieces(prompt, settings)
            for warning in warnings:
                tell(warning)
            pace = _paces(found.tempos, found.meters, schema, len(found.pieces))
            begun += [(piece, *of) for piece, of in zip(found.pieces, pace, strict=True)]
        if not prompts:
            begun = [(np.zeros((0, KEYS), np.uint8), *_paces([], [], schema, 1)[0])]
        pieces = compose(network, [piece for piece, _, _ in begun], **options)
        samples = options.get("samples", 1)
        return [
            Tune(
                piece,
                len(begun[n // samples][0]),
                n % samples,
                schema.step,
                tempo or begun[n // samples][1],
                begun[n // samples][2],
            )
            for n, piece in enumerate(pieces)
        ]


def _several(prompts: Any) -> list[Any]:
    """Sources of prompts: one, or those in a list of paths or arrays."""
    if isinstance(prompts, list | tuple) and prompts and all(isinstance(one, str | os.PathLike) for one in prompts):
        return list(prompts)
    return [prompts]


def _paces(
    tempos: Sequence[float], meters: Sequence[tuple[int, int]], schema: RollSchema, count: int
) -> list[tuple[float, tuple[int, int]]]:
    """Tempo and time signature of so many prompts: their own, or those of the training data."""
    if tempos:
        return list(zip(tempos, meters, strict=True))
    return [(schema.tempo or PACE, schema.meter or METER)] * count


def _kind(output_format: str | None, out: Path | None) -> str:
    if output_format is not None:
        if output_format not in FORMATS:
            raise RunError(f"--output-format: {unknown('format of music', output_format, FORMATS)}")
        return output_format
    if out is None:
        return "json"
    if out.suffix.lower() not in ENDINGS:
        known = ", ".join(ENDINGS)
        raise RunError(f"--out: {out}: a name that ends with {known} is expected, or --output-format beside it")
    return ENDINGS[out.suffix.lower()]


def _content(tunes: Sequence[Tune], kind: str) -> bytes:
    if kind == "midi":
        return tunes[0].to_midi()
    if kind == "svg":
        titles = ["" if len(tunes) == 1 else f"{n} of {len(tunes)}" for n in range(1, len(tunes) + 1)]
        rolls = [Roll(tune.sounding, title, tune.prompt) for tune, title in zip(tunes, titles, strict=True)]
        return drawing(rolls, tunes[0].step, tunes[0].meter).encode()
    return ("[" + ",\n".join(json.dumps(tune.pitches) for tune in tunes) + "]\n").encode()
