"""What `recurra generate` does with a run of frames: films that go on from given ones."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recurra.data.clips import Clips, ClipSchema
from recurra.engine.threads import suited
from recurra.errors import RecipeError, RunError, unknown
from recurra.files import write_bytes
from recurra.nn.arguments import whole
from recurra.run.generation.base import Generator, Options, Tell
from recurra.run.pictures import gif, strip
from recurra.tasks.frames import in_channels_last, npz

KINDS = ("gif", "png", "npz")
LENGTH = 20
"""Frames that are told where nothing is said."""


class Films(Generator):
    """Films that a run of frames tells on from given ones."""

    task = "frames"
    options = frozenset({"prompt_file", "length", "echo", "output_format"})

    def generate(self, run: Any, prompts: Any = None, **options: Any) -> list[np.ndarray]:
        """Films that go on from given ones.

        Args:
            run: A `Run` of frames that tells next frames.
            prompts: What they go on from: all that `Run.predict` takes. None: the first half of the first clip of the
                run's own test part.
            options: `length`, frames that are told, 20 when left out.

        Returns:
            For each clip (length, H, W) or (length, H, W, C), in the numbers of the clips that were given.

        Raises:
            RunError: A run that tells labels.
            RecipeError: A length that cannot be, or another option.
        """
        for name in options:
            if name != "length":
                raise RecipeError(f"{name}: a run of frames has no such option; it has length")
        clips, told, _ = _told(run, prompts, options.get("length", LENGTH))
        is_bytes, span = clips.frames.dtype == torch.uint8, clips.high - clips.low
        return [in_channels_last(clips.low + span * film.numpy(), is_bytes) for film in told]

    def write(self, run: Any, given: Options, out: Path | None, tell: Tell) -> None:
        """See `Generator.write`. A GIF or a strip (PNG) shows one film, an npz holds those of all clips."""
        ending = "" if out is None else out.suffix.lower().removeprefix(".")
        kind = given.get("output_format") or ending or "gif"
        if given.get("output_format") is None and kind not in KINDS:
            raise RunError(f"--out: {out}: {unknown('ending of films', kind, KINDS)}; or --output-format names one")
        if kind not in KINDS:
            raise RunError(f"--output-format: {unknown('format of films', kind, KINDS)}")
        if out is None and sys.stdout.isatty():
            raise RunError(f"--out: a {kind} is no text to be shown; it names a file")
        files = given.get("prompt_file", [])
        if len(files) > 1:
            raise RecipeError("--prompt-file: one file (or folder) of clips is gone on with; leave the others out")
        clips, told, warnings = _told(run, files[0] if files else None, given.get("length", LENGTH))
        for warning in warnings:
            tell(warning)
        echo = given.get("echo") is not False
        films = [torch.cat([clips.clip(i), film]) if echo else film for i, film in enumerate(told)]
        if kind == "npz":
            content = _archive(films, clips)
        else:
            if len(films) > 1:
                tell(f"{len(films):,} clips: the first is shown; --output-format npz writes all")
            film = films[0].numpy()
            content = gif(film) if kind == "gif" else strip([film])
        if out is None:
            sys.stdout.buffer.write(content)
        else:
            write_bytes(out, content)


def _told(run: Any, prompts: Any, length: int) -> tuple[Clips, list[torch.Tensor], list[str]]:
    """The clips that are gone on from, the frames that are told of each, (length, C, H, W), and what a person should
    know."""
    schema: ClipSchema = run.schema
    if schema.target != "next":
        raise RunError(f"{run.path}: tells labels of frames, and has no film to go on with; recurra predict uses it")
    try:
        whole("length", length)
    except ValueError as error:
        raise RecipeError(str(error)) from error
    network, said = run.so_far
    if prompts is None:
        clips, warnings = _own(run)
    else:
        clips, warnings = run.task.reader.part(prompts, schema)
    like = next(network.parameters())
    told: list[torch.Tensor] = [torch.empty(0)] * len(clips)
    with suited(network, 32):
        for frames in torch.unique(clips.lengths).tolist():
            for indices in (clips.lengths == frames).nonzero().flatten().split(64):
                batch = run.task.collate(clips, indices)
                found = network.generate(batch.frames.to(like), length).float()
                for row, index in enumerate(indices.tolist()):
                    told[index] = found[:, row]
    return clips, told, [*([said] if said else []), *warnings]


def _own(run: Any) -> tuple[Clips, list[str]]:
    """The first half of the first clip of the run's own test part, else of its validation part or its training part."""
    recipe = run.recipe
    if recipe.data.path is None and recipe.data.name is None:
        raise RunError(f"{run.path}: its data were given from Python, and are not kept; --prompt-file names a clip")
    parts = run.task.reader.parts(None, recipe.task, recipe.data, seed=recipe.seed, kept=run.schema)
    shown = parts.test if parts.test is not None else parts.validation if parts.validation is not None else parts.train
    first = shown.select([0])
    half = max(1, len(first.frames) // 2)
    return Clips(first.frames[:half], torch.tensor([0, half]), first.low, first.high, ids=first.ids), []


def _archive(films: Sequence[torch.Tensor], clips: Clips) -> bytes:
    """Films in the numbers of the clips, padded to the longest."""
    lengths = np.array([len(film) for film in films])
    frames = np.zeros((len(films), lengths.max(), *films[0].shape[1:]), np.float32)
    for i, film in enumerate(films):
        frames[i, : len(film)] = clips.low + (clips.high - clips.low) * film.numpy()
    arrays = {"frames": in_channels_last(frames, clips.frames.dtype == torch.uint8)}
    return npz(arrays | ({"lengths": lengths} if len(set(lengths.tolist())) > 1 else {}))
