"""The compiled core, built from native/; absent where there was no C++ compiler (`recurra.engine.native.why_not`)."""

def instruction_sets() -> dict[str, bool]:
    """Every instruction set that the core was built for, from the plainest to the widest, and whether it runs here."""

def chosen() -> str:
    """The instruction set that runs: the widest that this processor has, or what `RECURRA_ISA` names.

    Raises:
        ValueError: `RECURRA_ISA` names a set that was not built, or that this processor does not have.
    """
