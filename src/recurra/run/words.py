"""What a run came to, in words."""

from typing import TYPE_CHECKING, Any

from recurra.nn import NTM
from recurra.tasks import TASKS

if TYPE_CHECKING:
    from recurra.run.api import Run, Seeds
    from recurra.run.online import Online
    from recurra.run.training import Training


def describe_model(training: "Training | Online") -> str:
    """One line: cell and sizes."""
    model = training.recipe.model
    if training.network.words:
        return training.network.words
    if getattr(model, "kind", "recurrent") == "tdnn":
        sizes = model.hidden_size if isinstance(model.hidden_size, list) else [model.hidden_size] * model.num_layers
        layers = ", ".join(f"{size} over {p} steps" for size, p in zip(sizes, model.delays, strict=True))
        return f"time-delay network, {layers}"
    machine = ""
    if isinstance(layer := training.network.recurrent, NTM):
        heads = layer.read_heads + layer.write_heads
        machine = f"neural Turing machine, memory of {layer.places} × {layer.width}, {heads} heads, "
    layers = f"{model.num_layers} layers of " if model.num_layers > 1 else ""
    ways = ", both directions" if training.network.recurrent.bidirectional else ""
    kernels = getattr(model, "products", "dense") == "convolution"
    layers += f"{model.cell} {model.hidden_size}{f', kernels of {model.kernel_size}' if kernels else ''}{ways}"
    return machine + layers


def counted(count: int, samples: str) -> str:
    """So many of something that is named in the plural.

    >>> counted(1, "clips"), counted(2000, "clips")
    ('1 clip', '2,000 clips')
    """
    return f"{count:,} {samples.removesuffix('s') if count == 1 else samples}"


def outcome(done: "Run | Seeds") -> str:
    """The score with its interval (or deviation over seeds), the baseline beside it, and where the report is."""
    summary = done.summary
    metric = summary.get("main_metric", TASKS[summary["task"]].main_metric)
    lines = []
    part = "test" if summary["test"] else "validation"
    if metric in summary[part]:
        value = summary[part][metric]
        if "seeds" in summary:
            lines += [f"{path}: {part} {metric} {figure(run.summary[part][metric])}" for path, run in _by_seed(done)]
            said = f"{part} {metric} {figure(value)}, {_mean_over(summary, part, metric)}"
        else:
            said = f"{part} {metric} {figure(value)}" + _interval(summary, metric)
        for name, scores in summary["baselines"].items():
            said += f"; {name} baseline {figure(scores[metric])}"
        lines.append(said)
        extra = {k: v for k, v in summary["test"].items() if "_first_" in k and k.startswith(metric)}
        lines += [f"test {k.replace('_', ' ')}: {v:.4f}" for k, v in extra.items()]
        lines += summary.get("findings", [])
        if "seeds" in summary:
            lines += [f"{path}: {said}" for path, run in _by_seed(done) for said in run.summary.get("findings", [])]
    else:
        lines.append(f"last training loss {summary['train']['last_loss']:.4g}")
    samples, seconds = TASKS[summary["task"]].samples, summary["train_seconds"]
    pace = f", {steps / seconds:,.0f} steps a second" if (steps := summary.get("steps_seen")) and seconds else ""
    lines.append(f"trained in {seconds:.1f} s on {counted(summary['samples_seen'], samples)}{pace}")
    lines.append(f"report {done.report}")
    return "\n".join(lines)


def _interval(summary: dict[str, Any], metric: str) -> str:
    found = summary.get("test_intervals" if summary["test"] else "validation_intervals", {}).get(metric)
    return f" (95 % interval {figure(found[0])} to {figure(found[1])})" if found else ""


def _mean_over(summary: dict[str, Any], part: str, metric: str) -> str:
    """What a mean is over, with the standard deviation."""
    seeds, folds = len(summary["seeds"]), summary.get("folds")
    spread = summary[f"{part}_deviation"].get(metric)
    if folds is None:
        return f"mean over {seeds} seeds" + (f" (standard deviation {figure(spread)})" if spread is not None else "")
    of_means = summary.get(f"{part}_deviation_of_seeds", {}).get(metric)
    said = f"mean over {folds} folds" + (f" with {seeds} seeds" if seeds > 1 else "")
    if spread is not None:
        of_seeds = f", of the seeds' means {figure(of_means)}" if of_means is not None else ""
        said += f" (standard deviation over folds {figure(spread)}{of_seeds})"
    return said


def _by_seed(done: Any) -> "list[tuple[str, Run]]":
    return [(run.path.name, run) for run in done.runs]


def figure(value: float) -> str:
    """A score with four decimals, or with four digits where these would be zeros.

    >>> figure(0.95), figure(0.0006878)
    ('0.9500', '0.0006878')
    """
    return f"{value:.4g}" if 0 < abs(value) < 0.01 else f"{value:.4f}"
