"""Tensors and facts in one safetensors file, written whole or not at all. Nothing is unpickled."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from recurra.errors import RunError
from recurra.files import unreadable, write_bytes


def write(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors by name, and facts that JSON can hold."""
    plain = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    write_bytes(path, save(plain, metadata={"facts": json.dumps(facts)}))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of a file that `write` made.

    Raises:
        RunError: The file is missing, cut short, or no such file.
    """
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, _facts(file)  # noqa: SIM118


def facts(path: Path) -> dict[str, Any]:
    """The facts alone; raises as `read` does."""
    with _opened(path) as file:
        return _facts(file)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except OSError as error:
        raise unreadable(path, error) from error
    except (SafetensorError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: is damaged or cut short") from error


def _facts(file: Any) -> dict[str, Any]:
    return json.loads((file.metadata() or {}).get("facts", "{}"))


def fill(network: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Put weights that were read from `path` into a network.

    Raises:
        RunError: They are those of another network.
    """
    own = network.state_dict()
    for name in sorted(own.keys() | weights.keys()):
        found, wanted = (shape(tensors, name) for tensors in (weights, own))
        if found != wanted:
            raise RunError(
                f"{path}: does not fit the run's recipe.toml and schema.json: {name} is {found}, expected {wanted}"
            )
    network.load_state_dict(weights)


def shape(tensors: Mapping[str, Tensor], name: str) -> str:
    """A tensor's shape, for messages."""
    return " × ".join(str(size) for size in tensors[name].shape) or "one number" if name in tensors else "not there"


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under `prefix.name`."""
    return {f"{prefix}.{name}": t for name, t in tensors.items()}


def under_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that stand under `prefix.`, without it."""
    return {name[len(prefix) + 1 :]: t for name, t in tensors.items() if name.startswith(prefix + ".")}


def named_parts(state: Any) -> dict[str, Tensor]:
    """The tensors of a state, "0" its first field; "0.1" that of the second layer, where fields are lists."""
    if isinstance(state, Tensor):
        return {"": state}
    return {f"{i}.{name}".rstrip("."): t for i, part in enumerate(state) for name, t in named_parts(part).items()}


def from_parts(tensors: Mapping[str, Tensor]) -> tuple[Any, ...]:
    """The state that `named_parts` named the tensors of."""
    fields: list[Any] = []
    for key, tensor in sorted(tensors.items(), key=lambda item: [int(part) for part in item[0].split(".")]):
        index, _, layer = key.partition(".")
        if not layer:
            fields.append(tensor)
        elif int(index) == len(fields):
            fields.append([tensor])
        else:
            fields[-1].append(tensor)
    return tuple(fields)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's running values: "0.exp_avg" is that of its first parameter."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": torch.as_tensor(value)
        for index, values in state.items()
        for name, value in values.items()
        if value is not None
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
