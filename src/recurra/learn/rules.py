"""Every learning rule by name, and the `learn.*` settings of a recipe."""

import re

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from recurra.errors import nearest, unknown
from recurra.learn.backward import BPTT, TruncatedBPTT
from recurra.learn.forward import RTRL, STACKS, UORO, EProp, SnAp
from recurra.learn.rule import Rule

RULES: dict[str, type[Rule]] = {rule.name: rule for rule in (BPTT, TruncatedBPTT, RTRL, SnAp, EProp, UORO)}
"""Every learning rule by name; `snap` stands for `snap1`, `snap2` and so on."""

_SNAP = re.compile(r"snap([1-9][0-9]*)")
NAMES = ("bptt", "tbptt", "rtrl", "snap1", "snap2", "eprop", "uoro")
"""Names that a rule can be asked for by, of all snaps the first two."""


def find(name: str) -> Rule:
    """The rule of that name, with what it has where nothing more is said.

    Raises:
        ValueError: There is none; the nearest is named.
    """
    snap = _SNAP.fullmatch(name)
    if snap:
        return SnAp(int(snap[1]))
    if name not in RULES or name == "snap":
        meant = "snap1" if re.fullmatch(r"snap\W*0*", name, re.IGNORECASE) else nearest(name, NAMES)
        raise ValueError(unknown("rule", name, [*NAMES, "snap3, …"], meant))
    return RULES[name]()


class LearnSettings(BaseModel):
    """The `learn.*` settings of a recipe."""

    model_config = ConfigDict(extra="forbid")

    rule: str = Field(
        default="bptt",
        description="how the gradient is found: "
        + ", ".join(
            f"{'snap1, snap2, …' if name == 'snap' else name} ({rule.summary})" for name, rule in RULES.items()
        ),
    )
    k1: int | None = Field(
        default=None,
        ge=1,
        description="steps from one update to the next, within a sequence that has a target at every step; one update "
        "for a whole batch when left out (tbptt: 32)",
    )
    k2: int | None = Field(default=None, ge=1, description="tbptt: steps that are gone back through; k1 when left out")
    stack: str = Field(
        default="exact",
        description="rtrl with several layers: exact, or by_layer, where the error comes down through the present step "
        "alone",
    )
    carry_state: bool = Field(
        default=False,
        description="begin each batch with the state that the last one ended with (its gradient stops there)",
    )

    @field_validator("rule")
    @classmethod
    def _is_known(cls, name: str) -> str:
        find(name)
        return name

    @field_validator("stack")
    @classmethod
    def _is_a_way(cls, name: str) -> str:
        if name not in STACKS:
            raise ValueError(unknown("stack", name, STACKS))
        return name

    @model_validator(mode="after")
    def _fits_the_rule(self) -> "LearnSettings":
        if self.k2 is not None and self.rule != "tbptt":
            raise ValueError(f"k2: it belongs to the rule tbptt, and rule is {self.rule!r}")
        if self.stack != "exact" and self.rule != "rtrl":
            raise ValueError(f"stack: it belongs to the rule rtrl, and rule is {self.rule!r}")
        if self.k1 is not None and self.rule == "bptt":
            raise ValueError("k1: bptt goes back through whole sequences; rule is to be 'tbptt' (or k1 left out)")
        self.make()
        return self

    def make(self, seed: int = 0) -> Rule:
        """The rule that the settings ask for."""
        if self.rule == "tbptt":
            return TruncatedBPTT(self.window or 32, self.k2)
        if self.rule == "rtrl":
            return RTRL("by_layer" if self.stack == "by_layer" else "exact")
        return UORO(seed) if self.rule == "uoro" else find(self.rule)

    @property
    def window(self) -> int | None:
        """Steps from one update to the next; None for whole sequences."""
        return self.k1 or (32 if self.rule == "tbptt" else None)
