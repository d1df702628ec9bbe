"""Weights and layers of other programs: PyTorch's own layers, Keras, ONNX."""

from recurra.nn.weights.keras import from_keras, to_keras
from recurra.nn.weights.onnx import OnnxLayer, from_onnx
from recurra.nn.weights.pytorch import from_torch, to_torch

__all__ = ["OnnxLayer", "from_keras", "from_onnx", "from_torch", "to_keras", "to_torch"]
