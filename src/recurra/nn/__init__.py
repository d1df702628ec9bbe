"""Layers."""

from recurra.nn.recurrent import Recurrent

__all__ = ["Recurrent"]
