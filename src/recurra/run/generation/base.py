"""What `recurra generate` asks of a task."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from recurra.errors import RecipeError, nearest

Options = Mapping[str, Any]
"""The options that were given, by the command's names with `_` for `-`, those alone that were."""

Tell = Callable[[str], None]
"""Tells a person what they should know."""


class Generator(ABC):
    """What runs of one task bring forth, by the command and from Python.

    Common to all are `prompt_file`, `length`, `samples`, `temperature`, `seed` and `output_format`; where the result is
    written (`--out`) is settled before.
    """

    task: ClassVar[str]
    options: ClassVar[frozenset[str]]
    """The options that it has; others are refused."""

    def check(self, given: Options) -> None:
        """Look whether all of the options given are ones that it has.

        Raises:
            RecipeError: One is not; which, and what there is.
        """
        for name in given:
            if name not in self.options:
                guess = nearest(name, self.options)
                meant = "; it has" if guess is None else f"; did you mean {_option(guess)}? It has"
                known = ", ".join(sorted(map(_option, self.options)))
                raise RecipeError(f"{_option(name)}: a run of {self.task} has no such option{meant} {known}")

    @abstractmethod
    def write(self, run: Any, given: Options, out: Path | None, tell: Tell) -> None:
        """What the command does.

        Args:
            run: A `Run` of the task.
            given: The options given, which are all ones that it has.
            out: The file to write, which may be written to; None for standard output.
            tell: Tells a person what they should know.

        Raises:
            RecurraError: Anything that a person can mend, in words.
        """

    @abstractmethod
    def generate(self, run: Any, prompts: Any, **options: Any) -> Sequence[Any]:
        """What `Run.generate` returns: `samples` of them for each prompt, those of the first prompt first."""


def _option(name: str) -> str:
    """An option as the command has it."""
    return f"--{'no-echo' if name == 'echo' else name.replace('_', '-')}"
