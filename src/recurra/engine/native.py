"""The compiled core: whether it is there, and how it is brought in."""

from functools import cache
from types import ModuleType

from recurra.errors import MissingExtraError, RecipeError

_NOT_BUILT = (
    "Recurra was installed without its compiled core, because there was no C++ compiler. "
    "With g++ or clang++ in PATH, or another one named by CXX, install it again (in a checkout: make clean setup)"
)


def why_not() -> str | None:
    """Why the compiled core cannot run here, in words; None where it can.

    Raises:
        MissingExtraError: The core is there and broken.
        RecipeError: `RECURRA_ISA` names an instruction set that cannot run.
    """
    return _NOT_BUILT if _loaded() is None else None


def core() -> ModuleType:
    """The compiled core, `recurra._native`.

    Raises:
        MissingExtraError: It is not there, or it is broken.
        RecipeError: `RECURRA_ISA` names an instruction set that cannot run.
    """
    found = _loaded()
    if found is None:
        raise MissingExtraError(_NOT_BUILT)
    return found


@cache
def _loaded() -> ModuleType | None:
    """The core, or None where the package was installed without it; brought in when first asked for."""
    try:
        import recurra._native as native
    except ModuleNotFoundError as error:
        if error.name != "recurra._native":
            raise
        return None
    except ImportError as error:
        raise MissingExtraError(f"Recurra's compiled core cannot be loaded; install Recurra again: {error}") from error
    try:
        native.chosen()
    except ValueError as error:
        raise RecipeError(str(error)) from error
    return native
