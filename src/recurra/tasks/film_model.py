"""The network behind `frames`: a front on each frame, recurrent layers, and a head that tells a frame or a label."""

import functools
from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from recurra.cells import find
from recurra.cells.check import OptionError
from recurra.cells.form import Cell
from recurra.data.clips import ClipSchema
from recurra.errors import CellError, RecipeError
from recurra.learn.rule import Rule
from recurra.nn import ConvRecurrent
from recurra.tasks.model import LayerSettings, Network, RecurrentSettings, Width, layers_of

Products = Literal["convolution", "dense"]


class FilmSettings(LayerSettings):
    """The `model.*` settings of frames."""

    cell: str = Field(default="lstm", description=RecurrentSettings.model_fields["cell"].description)
    hidden_size: Width | list[Width] = Field(
        default=32, description="channels of the state (dense: its width); one number, or one for each layer"
    )
    products: Products = Field(
        default="convolution",
        description="what the cell's matrices are: kernels over the places of a frame (ConvLSTM, ConvGRU), or, dense, "
        "matrices over all pixels, for small frames",
    )
    kernel_size: int = Field(default=3, ge=1, description="convolution: height and width of the kernels, odd")
    peepholes: Literal["channel", "place"] = Field(
        default="channel",
        description="convolution: whether vectors of the cell have a value for each channel, or for each place as well",
    )
    patch: int = Field(
        default=1,
        ge=1,
        description="convolution: height and width of patches whose pixels are read as channels of one place (Shi et "
        "al. 2015): fewer places, less work",
    )
    front: list[Width] = Field(
        default_factory=list, description="convolution: channels of layers that each frame passes before the cell"
    )
    head: list[Width] = Field(
        default_factory=list, description="channels (dense, labels: widths) of hidden layers behind the cell"
    )
    pool: Literal["mean", "max", "places"] = Field(
        default="mean",
        description="convolution, labels: the state at all places to one vector, their mean or largest; places: all of "
        "them, each with weights of its own, so that it counts where something is",
    )
    told: Literal["change", "frame"] = Field(
        default="change",
        description="next frame: what is put out, how it differs from the frame before, or the frame itself",
    )
    output: Literal["linear", "sigmoid"] = Field(
        default="linear",
        description="next frame: linear, which is cut to 0 and 1 where a frame is used, or brought there by a sigmoid "
        "(with told = frame)",
    )

    @model_validator(mode="after")
    def _fits(self) -> "FilmSettings":
        if self.kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size: an odd number is expected, so that the kernel has a middle, not {self.kernel_size}"
            )
        if self.products == "dense":
            for key in ("patch", "front", "peepholes", "pool"):
                if getattr(self, key) != type(self).model_fields[key].get_default(call_default_factory=True):
                    raise ValueError(f"{key}: it is for convolutions; products is to be 'convolution'")
        elif self.has_delays or self.has_memory:
            raise ValueError(f"kind: {self.kind!r} reads rows of numbers; products is to be 'dense'")
        if self.told == "change" and self.output == "sigmoid":
            raise ValueError("output: a sigmoid is never below 0, as a change may be; told is to be 'frame'")
        return self


class FilmModel(Network):
    """Frames in; at every step the next frame, or the scores of its label, out.

    Convolutions: patches, front, `ConvRecurrent`, head; a label is told from the last layer's state at all places,
    pooled. Dense: the pixels of a frame are one row, which `Recurrent` reads.

    Args:
        settings: The `model.*` settings.
        schema: What a frame is, and what is told.

    Raises:
        RecipeError: A setting that these frames, or the cell, cannot have.
    """

    recurrent: Any

    def __init__(self, settings: FilmSettings, schema: ClipSchema) -> None:
        super().__init__()
        self.settings, self.embedding = settings, None
        self.shape = (schema.channels, schema.height, schema.width)
        self.tells_frames = schema.target == "next"
        self.is_dense = settings.products == "dense"
        pixels = schema.channels * schema.height * schema.width
        if self.is_dense:
            self.recurrent = layers_of(settings, pixels, forward_only=True)
            self.front = nn.Sequential()
            width = self.recurrent.output_size
            self.head, width = _layers(width, settings.head, nn.Linear)
            self.output: nn.Module = nn.Linear(width, pixels if self.tells_frames else len(schema.classes))
        else:
            for name, size in (("height", schema.height), ("width", schema.width)):
                if size % settings.patch:
                    raise RecipeError(
                        f"model.patch: frames are {schema.height} × {schema.width}, and {settings.patch} does not "
                        f"divide their {name}"
                    )
            own = schema.channels * settings.patch**2
            convolution = functools.partial(
                nn.Conv2d, kernel_size=settings.kernel_size, padding=settings.kernel_size // 2
            )
            self.front, width = _layers(own, settings.front, convolution)
            size = (schema.height // settings.patch, schema.width // settings.patch)
            self.recurrent = conv_layers(settings, width, size)
            width = self.recurrent.output_size
            if self.tells_frames:
                self.head, width = _layers(width, settings.head, convolution)
                self.output = convolution(width, own)
            else:
                width *= size[0] * size[1] if settings.pool == "places" else 1
                self.head, width = _layers(width, settings.head, nn.Linear)
                self.output = nn.Linear(width, len(schema.classes))
        self.output_dropout = nn.Dropout(settings.output_dropout)

    def by_symbol(self, tensors: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """As `Network.by_symbol`, and "front", the kernels before the recurrent layers."""
        front = [v for name, v in tensors.items() if name.startswith("front.") and v.dim() > 1]
        return {**super().by_symbol(tensors), "front": front}

    def forward(
        self,
        frames: Tensor,
        lengths: Tensor | None = None,
        free: int = 0,
        state: Any = None,
        rule: Rule | None = None,
    ) -> tuple[Tensor, Any]:
        """What is told at every step, and the final state.

        Args:
            frames: (T, B, C, H, W), from 0 to 1.
            lengths: (B,) or None where all have T steps.
            free: So many of the last frames are not read: in the place of each stands what was told of it.
            state: The recurrent layers' state to begin with.
            rule: What finds the gradient of the recurrent layers; automatic differentiation where None.

        Returns:
            The next frame at every step, (T, B, C, H, W), before `frame` makes it one; or the scores of each class,
            (T, B, classes). The recurrent layers' final state.
        """
        known = max(1, len(frames) - free)
        run = self.recurrent if rule is None else functools.partial(rule.along, self.recurrent)
        within = None if lengths is None else lengths.clamp(max=known)
        output, state = run(self.inputs(frames[:known]), state, lengths=within)
        told = self.said(output, frames[:known])
        if known == len(frames):
            return told, state
        every = [told]
        for _ in range(known, len(frames)):
            told, state = self.step(self.frame(every[-1][-1], free=True), state)
            every.append(told.unsqueeze(0))
        return torch.cat(every), state

    def step(self, frame: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One step: a frame, (B, C, H, W), and the state so far give what is told and the new state."""
        output, state = self.recurrent(self.inputs(frame.unsqueeze(0)), state)
        return self.said(output, frame.unsqueeze(0)).squeeze(0), state

    def inputs(self, frames: Tensor) -> Tensor:
        """What the recurrent layers read of frames, (T, B, C, H, W)."""
        if self.is_dense:
            return frames.flatten(2)
        if self.settings.patch > 1:
            frames = F.pixel_unshuffle(frames, self.settings.patch)
        if not len(self.front):
            return frames
        return self.front(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

    def said(self, output: Tensor, frames: Tensor) -> Tensor:
        """What is told, made of the recurrent layers' output and the frames that were read."""
        shape = output.shape[:2]
        output = output.flatten(0, 1)
        if not self.tells_frames and not self.is_dense:
            pooled = {"mean": output.mean, "max": output.amax, "places": lambda _: output.flatten(1)}
            output = pooled[self.settings.pool]((-2, -1))
        told = self.output(self.head(self.output_dropout(output)))
        if not self.tells_frames:
            return told.unflatten(0, shape)
        if not self.is_dense and self.settings.patch > 1:
            told = F.pixel_shuffle(told, self.settings.patch)
        told = told.reshape(*shape, *self.shape)
        return told + frames if self.settings.told == "change" else told

    def frame(self, told: Tensor, free: bool = False) -> Tensor:
        """The frame that was told: a linear output is cut at 0 and 1, but not where it is read again in training, so
        that its gradient stays."""
        if self.settings.output == "sigmoid":
            return torch.sigmoid(told)
        return told if free and self.training else told.clamp(0, 1)

    @torch.no_grad()
    def generate(self, frames: Tensor, length: int) -> Tensor:
        """Frames that go on from some: each is read as the one before the next.

        Args:
            frames: (T, B, C, H, W), T at least 1.
            length: How many, at least 1.

        Returns:
            (length, B, C, H, W).
        """
        told, state = self(frames)
        found = [self.frame(told[-1])]
        for _ in range(length - 1):
            told, state = self.step(found[-1], state)
            found.append(self.frame(told))
        return torch.stack(found)


def _layers(width: int, widths: list[int], layer: Any) -> tuple[nn.Sequential, int]:
    """Layers of these widths, each with a ReLU behind it, and the last width."""
    layers: list[nn.Module] = []
    for each in widths:
        layers += [layer(width, each), nn.ReLU()]
        width = each
    return nn.Sequential(*layers), width


def conv_layers(settings: FilmSettings, channels: int, size: tuple[int, int]) -> ConvRecurrent:
    """The convolutional layers that the settings describe.

    Args:
        settings: The `model.*` settings.
        channels: Of what the first layer reads.
        size: Height and width of what it reads.

    Raises:
        RecipeError: A setting cannot be had; which, and why.
    """
    key = "model.cell"
    try:
        cell = find(settings.cell)
        if not isinstance(cell, Cell):
            raise RecipeError(
                f"{key}: {settings.cell!r} is a plain function, whose products are its own; model.products is to be "
                "'dense'"
            )
        if settings.options:
            key = "model.options"
            cell = cell(**settings.options)
        key = "model"
        return ConvRecurrent(
            cell,
            channels,
            settings.hidden_size,
            settings.kernel_size,
            settings.num_layers,
            frame_size=size if settings.peepholes == "place" else None,
            bidirectional=bool(settings.bidirectional),
            dropout=settings.dropout,
            input_dropout=settings.input_dropout,
            recurrent_dropout=settings.recurrent_dropout,
            weight_drop=settings.weight_drop,
            zoneout=settings.zoneout,
            skip=None if settings.skip == "none" else settings.skip,
            learn_initial_state=settings.learn_initial_state,
            input_layers=settings.input_layers,
            init=settings.init or None,
        )
    except OptionError as error:
        raise RecipeError(f"model.options: {error}") from error
    except CellError as error:
        raise RecipeError(f"{key}: {error}") from error
    except ValueError as error:
        raise RecipeError(str(error) if isinstance(error, RecipeError) else f"model: {error}") from error
