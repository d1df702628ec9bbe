"""How parameters learn: rules that find the gradient, optimisers and schedules that use it."""

from recurra.learn.optimise import TrainSettings
from recurra.learn.rules import BPTT, RULES, LearnSettings, Rule

__all__ = ["BPTT", "RULES", "LearnSettings", "Rule", "TrainSettings"]
