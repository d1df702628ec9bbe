"""Recurrent layers as learning rules see them: their steps, their parameters and their states, layer by layer."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from recurra.cells.form import Cell, Stateful
from recurra.engine import eager
from recurra.engine.eager import State
from recurra.engine.reach import Layer
from recurra.engine.trace import TraceError, trace
from recurra.nn.convolutional import ConvRecurrent
from recurra.nn.dropin import cell_and_use, weights_of
from recurra.nn.recurrent import Recurrent


class Followed:
    """A `Recurrent`, a drop-in, or PyTorch's own recurrent layer, taken one step at a time.

    Args:
        module: The layer.

    Raises:
        TypeError: It is none of these.
        ValueError: It reads the future: it is bidirectional, or runs from the last step to the first.
    """

    def __init__(self, module: nn.Module) -> None:
        if not isinstance(module, (Recurrent, nn.RNNBase)):
            raise TypeError(f"layer: a Recurrent, an LSTM, GRU or RNN is expected, not {type(module).__name__}")
        self.module: Any = module
        self.is_own = isinstance(module, Recurrent)
        self.count: int = module.num_layers
        self.batch_first: bool = module.batch_first

    @property
    def is_of_frames(self) -> bool:
        """Whether its products are convolutions, and its state a picture."""
        return isinstance(self.module, ConvRecurrent)

    @property
    def reads_the_future(self) -> str | None:
        """The option by which the layer reads what comes later, or None."""
        if self.module.bidirectional:
            return "bidirectional=True"
        return "reverse=True" if getattr(self.module, "reverse", False) else None

    @property
    def beside_its_steps(self) -> str | None:
        """An option, as it is now, by which the layer is more than its cells' steps on top of each other; or None."""
        names = ["dropout"]
        if self.is_own:
            names += ["input_dropout", "recurrent_dropout", "weight_drop", "zoneout", "skip", "input_layers"]
            names += ["output_layers"]
        for name in names:
            is_drawn = name not in ("skip", "input_layers", "output_layers", "zoneout")
            idle = name == "dropout" and self.count == 1
            if getattr(self.module, name) and not idle and (self.module.training or not is_drawn):
                return f"{name}={getattr(self.module, name)!r}"
        return None

    @cached_property
    def form(self) -> Stateful:
        """The state's fields."""
        return self.module.form if self.is_own else cell_and_use(self.module)[0]

    @property
    def cell(self) -> Any:
        """The cell, or a plain function."""
        return self.module.cell if self.is_own else cell_and_use(self.module)[0]

    @property
    def hidden_sizes(self) -> list[int]:
        """Units of each layer."""
        if self.is_own:
            return [place.hidden_size for place in self.module._places]
        return [self.module.hidden_size] * self.count

    @property
    def input_sizes(self) -> list[int]:
        """The width of what each layer reads."""
        if self.is_own:
            return [place.input_size for place in self.module._places]
        return [self.module.input_size, *[self.widths[0][0]] * (self.count - 1)]

    @cached_property
    def widths(self) -> list[tuple[int, ...]]:
        """The widths of each layer's state fields."""
        return [self.form.widths(size) for size in self.hidden_sizes]

    def names(self, k: int) -> dict[str, str]:
        """From a cell's names of the parameters of layer k to the module's."""
        if not self.is_own:
            return {
                name: f"{'weight_hr' if name == 'W_hr' else name}_l{k}" for name in weights_of(self.module, f"_l{k}")
            }
        if not isinstance(self.cell, Cell):
            return {name: name for name, _ in self.module.named_parameters()}
        suffix = self.module._places[k].suffix
        own = [f"initial_{f.name}" for f in self.form.fields if f"initial_{f.name}{suffix}" in self.module._starts]
        trained = {*dict(self.module.named_parameters()), *getattr(self.module, "parametrizations", ())}
        every = [*self.module._places[k].names, *own]
        return {name: name + suffix for name in every if name + suffix in trained}

    def trained(self, weights: Sequence[Mapping[str, Tensor]] | None = None) -> dict[str, Tensor]:
        """By the module's names, its parameters, or what a parametrisation makes of them, that a gradient is asked of.

        Where gradients are recorded, a parametrised one can be differentiated further.

        Args:
            weights: What `weights` gave for each layer, where that is there already.
        """
        found = weights or [self.weights(k) for k in range(self.count)]
        return {name: found[k][own] for k in range(self.count) for own, name in self.names(k).items()}

    @cached_property
    def not_followed(self) -> str | None:
        """A parameter that learns and is none of the cells' own, nor made into one by a parametrisation; or None."""
        known = {name for k in range(self.count) for name in self.names(k).values()}
        for name, parameter in self.module.named_parameters():
            made = name.split(".")[1] if name.startswith("parametrizations.") else name
            if parameter.requires_grad and made not in known:
                return name
        return None

    def first_states(self) -> dict[str, int]:
        """Where in the state of the first layer each parameter begins that is its first value, by the cell's names."""
        found, first = {}, 0
        for field, width in zip(self.form.fields, self.widths[0], strict=True):
            for own, name in self.names(0).items():
                if self.is_own and name == f"initial_{field.name}{self.module._places[0].suffix}":
                    found[own] = first
            first += width
        return found

    def weights(self, k: int) -> dict[str, Tensor]:
        """Parameters and constants of layer k by the cell's names."""
        if not self.is_own:
            return weights_of(self.module, f"_l{k}")
        if not isinstance(self.cell, Cell):
            return dict(self.module.named_parameters())
        suffix = self.module._places[k].suffix
        found = self.module._weights(self.module._places[k])
        learnt = {f"initial_{f.name}": f"initial_{f.name}{suffix}" for f in self.form.fields}
        return found | {a: self.module.get_parameter(b) for a, b in learnt.items() if b in self.module._starts}

    def initial(self, rows: int, like: Tensor) -> list[State]:
        """Each layer's state before the first step, each field (B, width)."""
        if self.is_own:
            return self.module._initial(like, rows)
        return [self.form.initial_state(rows, size, like) for size in self.hidden_sizes]

    def packed(self, states: Sequence[State]) -> Any:
        """From each layer's state to the form in which the module takes and returns it."""
        if self.is_own:
            return self.module._gathered([list(fields) for fields in states])
        columns = tuple(torch.stack(column) for column in zip(*states, strict=True))
        return columns if self.module.mode == "LSTM" else columns[0]

    def unpacked(self, state: Any) -> list[State]:
        """The reverse of `packed`."""
        fields = (state,) if isinstance(state, Tensor) else tuple(state)
        return [tuple(field[k] for field in fields) for k in range(self.count)]

    def layers(self, steps: int | None = None, explicit: bool = True) -> list[Layer]:
        """The layers with the linear part of their steps.

        Args:
            steps: Steps within which what a parameter reaches is followed; None for all.
            explicit: Follow what passes from step to step through U too.

        Raises:
            TraceError: The cell cannot be written down as a program.
        """
        if not isinstance(self.cell, Cell):
            raise TraceError("it is a plain function")
        found = []
        for k, (hidden, width) in enumerate(zip(self.hidden_sizes, self.input_sizes, strict=True)):
            use = self.module._places[k].use if self.is_own else cell_and_use(self.module)[1]
            learnt = [name.removeprefix("initial_") for name in self.names(k) if name.startswith("initial_")]
            how: dict[str, Any] = {"steps": steps, "explicit": explicit, "learnt": learnt}
            if not self.is_own:
                how["biases"] = 2 if self.module.bias else 0
            found.append(Layer(self.cell, use, trace(self.cell, hidden), hidden, width, **how))
        return found

    def step(self, weights: Mapping[str, Tensor], x: Tensor, state: State) -> State:
        """One step of the first layer in tensor code, with these parameters."""
        if isinstance(self.cell, Cell):
            use = self.module._places[0].use if self.is_own else cell_and_use(self.module)[1]
            stepper = eager.CellStepper(self.cell, use, weights)
            return stepper(stepper.prepare(x.unsqueeze(0))[0], state)
        function = self.cell
        if isinstance(function, nn.Module):
            own = {name.removeprefix("cell."): v for name, v in weights.items()}
            module = function

            def function(x: Tensor, s: Any) -> Any:
                return functional_call(module, own, (x, s))

        return eager.FunctionStepper(function, self.form)(x, state)
