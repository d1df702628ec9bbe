"""From a finished training to what its report shows."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import numpy as np
import torch

from recurra.data import Sequences
from recurra.data.sequences import UNKNOWN, Schema
from recurra.nn import NTM, TDNN
from recurra.run import recipe as recipes
from recurra.run.content import (
    Classified,
    DataSummary,
    Example,
    Part,
    Regressed,
    ReportContent,
    SeedRun,
    SeedsContent,
    Snapshot,
    StateTrace,
    Updates,
)
from recurra.run.recipe import Recipe
from recurra.run.sections import SECTIONS
from recurra.run.sections.classify import weights
from recurra.run.training import Training
from recurra.run.words import describe_model
from recurra.tasks import TASKS, Predictions, SequenceTask
from recurra.tasks.scores import furthest_off, most_wrong, most_wrong_sequences
from recurra.tasks.speech import Spoken

EXAMPLES, TRACES, LONGEST_TRACE = 12, 3, 200


def report_content(training: Training, summary: Mapping[str, Any], test: Any, scored: Any) -> ReportContent:
    """Everything the report of a run shows.

    Args:
        training: The run, at its end.
        summary: What is about to be written as summary.json.
        test: The test part's predictions; None where there is none.
        scored: Those that the run is told by: of the test part, else of the validation part.
    """
    part = "validation" if test is None and scored is not None else "test"
    recipe, parts = training.recipe, training.parts
    own = SECTIONS.get(recipe.task)
    return ReportContent(
        title=recipe.name,
        description=recipe.description,
        task=recipe.task,
        main=training.task.main_metric,
        higher_is_better=training.task.is_better_high(training.task.main_metric),
        data=_data(training),
        recipe=recipe.model_dump(),
        defaults=defaults(recipe),
        command=f"recurra train {training.folder / 'recipe.toml'} --out FOLDER",
        seed=recipe.seed,
        test=summary[part],
        intervals=summary[f"{part}_intervals"],
        validation=summary["validation"] if part == "test" else {},
        baselines=summary["baselines"],
        scored=part,
        history=training.progress.history,
        best_step=training.progress.best_step or None,
        chosen_by=training.task.chosen_by,
        updates=Updates(np.array(training.losses), np.array(training.norms), recipe.train.clip_norm or None),
        sections=[] if own is None else own(training, _shown(training)[1], scored),
        model=describe_model(training),
        parameters=summary["parameters"],
        samples_seen=summary["samples_seen"],
        samples=training.task.samples,
        steps_seen=summary["steps_seen"],
        train_seconds=summary["train_seconds"],
        versions=summary["versions"],
        warnings=parts.warnings,
        finished=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        **(_of_sequences(training, test) if isinstance(training.task, SequenceTask) else _of_speech(test)),
    )


def _of_sequences(training: Training, test: Predictions | None) -> dict[str, Any]:
    """What the report shows of a task whose data are sequences with targets."""
    recipe, schema, parts = training.recipe, training.parts.schema, training.parts
    shown = _shown(training)
    return {
        "result": None if test is None else _result(test),
        "examples": [] if test is None or parts.test is None else _examples(training, test, parts.test),
        "images": schema.format in ("idx", "digits") and not recipe.data.pixels,
        "states": _traces(training, *shown),
        "snapshots": _snapshots(training),
    }


def _of_speech(test: Any) -> dict[str, Any]:
    """What the report shows of recordings with labels; of other tasks nothing."""
    if not isinstance(test, Spoken) or test.probabilities is None or test.targets is None:
        return {}
    return {"result": Classified(test.schema.classes, test.targets, test.probabilities)}


def _shown(training: Training) -> tuple[str, Any]:
    """The part whose sequences are shown, by name: the test part, else that which the weights are chosen on."""
    there = {name: part for name, part in training.parts.named.items() if len(part)}
    name = next(name for name in ("test", "validation", "train") if name in there)
    return "training" if name == "train" else name, there[name]


def seeds_content(recipe: Recipe, summary: Mapping[str, Any], runs: list[Any], folder: str) -> SeedsContent:
    """Everything the report over several seeds shows; `runs` are their `Run`s."""
    task = TASKS[recipe.task]
    return SeedsContent(
        title=recipe.name,
        description=recipe.description,
        task=recipe.task,
        main=runs[0].main_metric,
        higher_is_better=task.is_better_high(runs[0].main_metric),
        runs=[
            SeedRun(
                run.summary["seed"],
                run.path.name,
                run.summary["test"],
                run.summary["train_seconds"],
                run.history,
                None if summary["folds"] is None else run.recipe.data.fold,
            )
            for run in runs
        ],
        recipe=recipe.model_dump(),
        defaults=defaults(recipe),
        command=f"recurra train {folder}/recipe.toml {_how_many(summary)} --out FOLDER",
        folds=summary["folds"],
        baselines=summary["baselines"],
        parameters=summary["parameters"],
        versions=summary["versions"],
        finished=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _how_many(summary: Mapping[str, Any]) -> str:
    seeds = f"--seeds {len(summary['seeds'])}"
    return seeds if summary["folds"] is None else f"{seeds} --folds {summary['folds']}"


def defaults(recipe: Recipe) -> dict[str, Any]:
    """The recipe as it would be with nothing set."""
    return recipes.load(recipe.task).model_dump()


def _data(training: Training) -> DataSummary:
    parts, schema = training.parts, training.parts.schema
    sources = list(dict.fromkeys(parts.sources.values()))
    there = {name: part for name, part in parts.named.items() if len(part)}
    words = training.task.data_words()
    if not isinstance(schema, Schema):
        return DataSummary(sources, [Part.of(name, part.lengths.numpy()) for name, part in there.items()], words=words)
    return DataSummary(
        sources=sources,
        words=words,
        parts=[Part.of(name, part.lengths.numpy(), _counts(part, len(schema.classes))) for name, part in there.items()],
        input=schema.input,
        features=schema.features,
        vocabulary=len(schema.vocabulary),
        unit=training.recipe.data.unit,
        classes=schema.classes,
        targets=schema.targets,
    )


def _counts(part: Sequences, classes: int) -> list[int] | None:
    if not classes or part.targets is None:
        return None
    targets = part.targets if part.asked is None else part.targets[part.asked]
    if targets.dtype == torch.bool:
        return targets.sum(0).tolist()
    return torch.bincount(targets[targets >= 0], minlength=classes).tolist()


def _result(test: Predictions) -> Classified | Regressed | None:
    if test.targets is None:
        return None
    if test.schema.classes:
        asked = slice(None) if test.asked is None else test.asked
        return Classified(test.schema.classes, test.targets[asked], test.outputs[asked], test.schema.per_step)
    return Regressed(test.schema.targets, test.targets, test.outputs)


def _examples(training: Training, test: Predictions, part: Sequences) -> list[Example]:
    """The sequences that the network got most wrong."""
    if test.targets is None:
        return []
    if test.schema.classes and test.offsets is not None:
        return _step_examples(training, test, part)
    found = []
    if test.schema.classes:
        rows = list(training.task.rows(test, targets=True))
        for i in most_wrong(test.targets, test.outputs, EXAMPLES).tolist():
            row, said = rows[i], test.outputs[i]
            known = not test.schema.multi_label and test.targets[i] >= 0
            found.append(
                Example(
                    name=_name(test, i, "test"),
                    truth=str(row["target"]),
                    prediction=str(row["prediction"]),
                    probability=None if test.schema.multi_label else float(said.max()),
                    truth_probability=float(said[test.targets[i]]) if known else None,
                    weights=weights(training, part, i),
                    **_drawn(training, part, i),
                )
            )
        return found
    for i in furthest_off(test.targets, test.outputs, test.offsets, EXAMPLES).tolist():
        place = slice(i, i + 1) if test.offsets is None else slice(int(test.offsets[i]), int(test.offsets[i + 1]))
        true, said = test.targets[place], test.outputs[place]
        steps: dict[str, Any] = (
            {} if test.offsets is None else {"target_steps": true[:, 0], "predicted_steps": said[:, 0]}
        )
        found.append(
            Example(
                name=_name(test, i, "test"),
                truth=_numbers(true) if not steps else "the blue line",
                prediction=_numbers(said) if not steps else f"the orange line, RMSE {_rmse(true, said):.4g}",
                weights=weights(training, part, i),
                **_drawn(training, part, i),
                **steps,
            )
        )
    return found


def _step_examples(training: Training, test: Predictions, part: Sequences) -> list[Example]:
    """The sequences with a label at every step that the network got most wrong, with all that was asked of them."""
    assert test.targets is not None
    assert test.offsets is not None
    wrong = most_wrong_sequences(test.targets, test.outputs, test.offsets, test.asked, EXAMPLES).tolist()
    said: dict[int, list[tuple[str, str]]] = {i: [] for i in wrong}
    for row in training.task.rows(test, targets=True):
        if row["index"] in said:
            said[cast(int, row["index"])].append((str(row["target"]), str(row["prediction"])))
    return [
        Example(
            name=_name(test, i, "test"),
            truth=" ".join(true or "–" for true, _ in said[i]),
            prediction=" ".join(label or "–" for _, label in said[i]),
            **_drawn(training, part, i),
        )
        for i in wrong
    ]


def _drawn(training: Training, part: Sequences, index: int) -> dict[str, Any]:
    """What went in, as a report draws it."""
    values, vocabulary = part.sequence(index), training.parts.schema.vocabulary
    if not vocabulary:
        return {"values": values.float().numpy()}
    return {"tokens": [vocabulary[k] for k in values.tolist()], "unknown": [k == UNKNOWN for k in values.tolist()]}


def _name(test: Predictions, index: int, part: str) -> str:
    return f"{part} sequence {index}" + (f" ({test.ids[index]})" if test.ids is not None else "")


def _numbers(values: np.ndarray) -> str:
    return ", ".join(f"{v:.4g}" for v in values.ravel())


def _rmse(true: np.ndarray, said: np.ndarray) -> float:
    return float(np.sqrt(np.mean((true - said) ** 2)))


@torch.no_grad()
def _traces(training: Training, name: str, part: Sequences) -> list[StateTrace]:
    """The last layer's state, running forward, along the first few sequences."""
    network: Any = training.network
    network.eval()
    traces = []
    for i in range(min(TRACES, len(part))):
        batch = training.task.collate(part, torch.tensor([i]))
        batch = batch.to(training.fabric.device, next(network.parameters()).dtype)
        x = network.inputs(batch.x[:LONGEST_TRACE])
        if isinstance(network.recurrent, (NTM, TDNN)):
            states = network.recurrent(x)[0]
        else:
            last = -2 if network.recurrent.bidirectional else -1
            states = network.recurrent(x, return_states=True)[2][0][last]
        drawn = {k: v[:LONGEST_TRACE] for k, v in _drawn(training, part, i).items()}
        traces.append(StateTrace(f"{name} sequence {i}", states[:, 0].float().cpu().numpy(), **drawn))
    return traces


def _snapshots(training: Training) -> list[Snapshot]:
    """What the network said at moments of training, of the first sequence of that moment's batch.

    Drawn where there is one number a step, in and out. Where sequences follow one another (the state is carried),
    time goes on from one to the next.
    """
    kept, schema, found = training.snapshots, training.parts.schema, []
    for step in sorted({int(key.partition(".")[0]) for key in kept}):
        values = [kept[f"{step}.{what}"].numpy() for what in ("input", "target", "output") if f"{step}.{what}" in kept]
        if len(values) < 3 or values[0].ndim != 2 or values[0].shape[1] != 1 or not schema.per_step or schema.classes:
            continue
        given, target, output = (v.reshape(len(values[0]), -1)[:, 0].astype(np.float64) for v in values)
        first = (step - 1) * len(given) if training.recipe.learn.carry_state else 0
        found.append(Snapshot(step, np.arange(first, first + len(given)), given, target, output))
    return found
