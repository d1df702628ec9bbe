"""The terms of a cell's equations that are more than tensors: net inputs, `z.g`, and matrices, `p.W @ v`."""

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import linear
from torch.utils._pytree import tree_map

from recurra.errors import CellError

Product = Callable[[Tensor, Tensor | None], Tensor]
"""U of one gate or several: `(v, added) -> U v + added`."""

Part = TypeVar("Part", Tensor, Product)


class NetInput:
    """A net input that a body can take whole, in its two parts, or with another operand for U.

    A gate that the body only ever takes whole is handed to it as a plain tensor instead.

    Args:
        x: `W_g x_t + b_g`.
        half: `U_g h_(t-1)`, with the second bias where the cell declares two; None where the body never asks for it.
        product: U_g; None where the body never calls it.
        bias: `b_g`, (H,), where the cell declares it apart; it is then in neither part.
    """

    __slots__ = ("_bias", "_half", "_product", "_x")

    def __init__(
        self, x: Tensor, half: Tensor | None, product: Product | None = None, bias: Tensor | None = None
    ) -> None:
        self._x, self._half, self._product, self._bias = x, half, product, bias

    def __call__(self, operand: Any) -> Tensor:
        """`W_g x_t + U_g operand + b_g`."""
        return _found(self._product)(plain(operand), self._x if self._bias is None else self._x + self._bias)

    @property
    def x(self) -> Tensor:
        """`W_g x_t`, with the first bias where it is not declared apart."""
        return self._x

    @property
    def b(self) -> Tensor:
        """`b_g`, (H,), where the cell declares its biases apart."""
        return _found(self._bias)

    @property
    def h(self) -> Tensor:
        """`U_g h_(t-1)`, with the second bias where the cell declares two."""
        return _found(self._half)

    @property
    def whole(self) -> Tensor:
        """The whole net input, (B, H), which every tensor operation takes this object for."""
        whole = self._x + _found(self._half)
        return whole if self._bias is None else whole + self._bias

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Let PyTorch's functions take the net input for the tensor that it stands for."""
        args, kwargs = tree_map(plain, (args, kwargs or {}))
        return func(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.whole, name)


def plain(value: Any) -> Any:
    """The tensor that a net input stands for; anything else as it is."""
    return value.whole if isinstance(value, NetInput) else value


def _found(part: Part | None) -> Part:
    if part is None:
        raise CellError("a body takes each net input in the same way at every call, whatever the values are")
    return part


def _operator(name: str) -> Callable[..., Any]:
    def apply(self: NetInput, *others: Any) -> Any:
        return getattr(self.whole, name)(*others)  # a net input among them comes to __torch_function__

    return apply


for _name in (
    *("add", "sub", "mul", "truediv", "pow", "matmul"),
    *("radd", "rsub", "rmul", "rtruediv", "rpow", "rmatmul"),
    *("mod", "rmod", "floordiv", "rfloordiv"),
    *("neg", "abs", "getitem", "eq", "ne", "lt", "le", "gt", "ge"),
    *("bool", "float", "int", "len"),  # of which the tensor says why it has none
):
    setattr(NetInput, f"__{_name}__", _operator(f"__{_name}__"))


class LinearMap:
    """A matrix W that a body multiplies with: `p.W @ v` is W v for each row of v, (B, columns) -> (B, rows)."""

    __slots__ = ("_weight",)

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight

    def __matmul__(self, v: Any) -> Tensor:
        return linear(plain(v), self._weight)

    def _refuse(self, *others: Any) -> NoReturn:
        raise TypeError("a matrix of a cell stands left of what it multiplies, `p.W @ v`, and can do nothing else")

    __rmatmul__ = __mul__ = __rmul__ = __add__ = __radd__ = __sub__ = __rsub__ = __truediv__ = __neg__ = _refuse

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse()

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Tensor:
        """`p.W @ v` as the compiler sees it: it asks the tensor v first, with the two in reverse order."""
        if torch.compiler.is_compiling() and func.__name__ == "matmul" and isinstance(args[1], LinearMap):
            return linear(plain(args[0]), args[1]._weight)
        raise TypeError(f"a matrix of a cell is multiplied with, `p.W @ v`; it is no tensor to take {func.__name__} of")
