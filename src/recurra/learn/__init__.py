"""How parameters learn: rules that find the gradient, optimisers and schedules that use it."""

from recurra.learn.backward import BPTT, TruncatedBPTT
from recurra.learn.explain import WrittenOut, explain_bptt
from recurra.learn.forward import RTRL, UORO, EProp, SnAp
from recurra.learn.gradients import gradients
from recurra.learn.optimise import TrainSettings
from recurra.learn.rule import Rule
from recurra.learn.rules import RULES, LearnSettings, find

__all__ = [
    "BPTT",
    "RTRL",
    "RULES",
    "UORO",
    "EProp",
    "LearnSettings",
    "Rule",
    "SnAp",
    "TrainSettings",
    "TruncatedBPTT",
    "WrittenOut",
    "explain_bptt",
    "find",
    "gradients",
]
