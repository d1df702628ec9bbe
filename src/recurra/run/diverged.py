"""What is left of a run whose loss is no number any more: its last good checkpoint, and how to begin with that.

A checkpoint is written after an update whose effect nobody has seen, so the weights in it may be on their way to
infinity. Whether they are good shows only in the losses behind it; so the one before is kept until it has shown.
"""

import math
import shlex
import shutil
from collections.abc import Sequence

import numpy as np

from recurra.errors import RunError
from recurra.files import replacing
from recurra.run import checkpoint
from recurra.run.folder import RunFolder
from recurra.run.recipe import Recipe

FAR = 10.0
"""A median loss of more than so many times the one before a checkpoint says that its weights are not good."""

RECENT = 1000
"""Losses before a checkpoint that those behind it are compared with, at the most."""


def is_good(before: Sequence[float] | np.ndarray, behind: Sequence[float] | np.ndarray) -> bool:
    """Whether losses went on behind a checkpoint as they were before it.

    Medians are compared, since a loss of one batch or row may be many times another.

    >>> is_good([1.0, 0.8, 0.9], [0.9, 30.0, 0.7]), is_good([1.0, 0.8], [1e10]), is_good([1.0, 0.8], [])
    (True, False, False)
    """
    if not len(before) or not len(behind):
        return False
    now = float(np.median(behind))
    return math.isfinite(now) and now <= FAR * float(np.median(before[-RECENT:]))


def keep(kept: RunFolder, good: bool) -> None:
    """Before a checkpoint is written over: where it was good, it takes the place of the good one."""
    if good and kept.checkpoint.is_file():
        with replacing(kept.good) as temporary:
            shutil.copyfile(kept.checkpoint, temporary)


def fall_back(kept: RunFolder, good: bool) -> None:
    """After a loss that is no number: only a checkpoint that was good stays."""
    if not good:
        if kept.good.is_file():
            kept.good.replace(kept.checkpoint)
        else:
            kept.checkpoint.unlink(missing_ok=True)
    kept.good.unlink(missing_ok=True)


def told(kept: RunFolder, recipe: Recipe, what: str, good: bool, hint: str, stream: str | None = None) -> RunError:
    """Fall back to the last good checkpoint, and say what was found, what stays, and how to go on.

    Args:
        kept: The run folder.
        recipe: The run's recipe.
        what: What was found, and where.
        good: Whether the last checkpoint is.
        hint: What to try beside a lower learning rate.
        stream: Learning from a stream: the file that it comes from; "-" for none.
    """
    had = kept.checkpoint.is_file()
    fall_back(kept, good)
    stays = ""
    if kept.checkpoint.is_file():
        unit, count = ("row", "lines") if stream else ("update", "step")
        done = checkpoint.facts(kept.checkpoint)["progress"][count]
        stays = f"; the last good checkpoint stays, that of {unit} {done:,}"
    elif had:
        stays = "; no checkpoint was good, and none stays"
    lr = recipe.train.lr
    return RunError(
        f"{kept.path}: {what}{stays}. Try a lower train.lr (now {lr:g}){hint}:\n"
        f"{_begun_with(kept, recipe, f'{lr / 10:g}', stream)}"
    )


def _begun_with(kept: RunFolder, recipe: Recipe, lr: str, stream: str | None) -> str:
    """The command, or where the data are no file the call, that begins a run with what stays of this one."""
    path, begin = kept.path, kept.checkpoint.is_file()
    number = 2
    while (out := path.with_name(f"{path.name}-{number}")).exists():
        number += 1
    if stream is None and recipe.data.path is None and recipe.data.name is None:
        source = f", from_run={str(path)!r}" if begin else ""
        settings = f'{{"train.lr": {lr}}}'
        return f"recurra.train({str(kept / 'recipe.toml')!r}, data{source}, settings={settings}, out={str(out)!r})"
    words = ["recurra", "train", str(kept / "recipe.toml")]
    if stream is not None:
        words += ["--stream", *(["--data", stream] if stream != "-" else [])]
    words += ["--from", str(path)] if begin else []
    return shlex.join([*words, "--set", f"train.lr={lr}", "--out", str(out)])
