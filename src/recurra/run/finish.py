"""The end of a run: the test part scored once, and the files that a person reads."""

import json
import os
import platform
import resource
from importlib import metadata
from typing import Any

import torch

import recurra.version
from recurra.files import sha256, write_text
from recurra.run import checkpoint
from recurra.run.folder import FORMAT
from recurra.run.lines import to_csv
from recurra.run.present import report_content
from recurra.run.report import write_report
from recurra.run.training import Training


def finish(training: Training) -> dict[str, Any]:
    """Write weights, test predictions, report and, last, the summary; returns the summary."""
    folder, task, parts = training.folder, training.task, training.parts
    weights = {k: v.cpu() for k, v in training.network.state_dict().items()}
    checkpoint.write(folder / "model.safetensors", weights, {"format_version": FORMAT})
    test = _predicted(training, parts.test)
    validation = _predicted(training, parts.validation)
    scored = validation if test is None else test  # what the run is told by
    if test is not None:
        write_text(folder / "test_predictions.csv", to_csv(task.rows(test, targets=True)))
        if shares := to_csv(task.shares(test)):
            write_text(folder / "test_shares.csv", shares)
    summary: dict[str, Any] = {
        "format_version": FORMAT,
        "name": training.recipe.name,
        "task": training.recipe.task,
        "main_metric": task.main_metric,
        "recipe": training.recipe.model_dump(),
        "test": {} if test is None else task.scores(test),
        "test_intervals": {} if test is None else task.intervals(test),
        "validation": {} if validation is None else task.scores(validation),
        "validation_intervals": {} if validation is None or test is not None else task.intervals(validation),
        "baselines": {} if scored is None else task.baselines(parts.train, scored),
        "findings": [] if scored is None else task.findings(parts.train, scored),
        "train": {"last_loss": training.losses[-1], "best_step": training.progress.best_step or training.progress.step},
        "train_seconds": training.progress.seconds,
        "updates": training.progress.step,
        "samples_seen": training.progress.samples,
        "steps_seen": training.progress.steps,
        "parameters": sum(p.numel() for p in training.network.parameters()),
        "seed": training.recipe.seed,
        "data": {"sources": parts.sources, "fingerprint": parts.fingerprint, "sequences": sizes(training)},
        "warnings": parts.warnings,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "versions": versions(),
        "sha256": sha256(folder / "model.safetensors"),
    }
    first = training.recipe.report.first
    if test is not None and first:
        few = test.first(first)
        summary["test"] |= {f"{name}_first_{first}": value for name, value in task.scores(few).items()}
    write_report(folder.path, report_content(training, summary, test, scored))
    write_text(folder / "summary.json", json.dumps(summary, ensure_ascii=False, indent=1))
    for path in (folder.checkpoint, folder.good):
        path.unlink(missing_ok=True)  # nothing is left to go on with
    return summary


def sizes(training: Training) -> dict[str, int]:
    """How many sequences each part has."""
    return {name: len(part) for name, part in training.parts.named.items()}


def versions() -> dict[str, str]:
    """What the run was made with."""
    return {
        "recurra": recurra.version.__version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("torch", "numpy", "lightning-fabric", "safetensors")},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
    }


def _predicted(training: Training, part: Any) -> Any:
    return None if part is None or not len(part) else training.predict(part)
