"""Test scores with their 95 % intervals, and the sequences a network got most wrong: arrays in, numbers out."""

from collections.abc import Callable, Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array, hstack
from scipy.stats import binomtest
from scipy.stats import t as student
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, r2_score

from recurra.errors import RunError, unknown

FEWEST = 5
"""Fewer sequences than this say nothing about their spread: no bootstrap interval is given."""

Interval = tuple[float, float]

ClassRow = TypedDict(
    "ClassRow",
    {"class": str, "precision": float, "recall": float, "f1": float, "support": int, "predicted": int},
)


def accuracy_interval(correct: int, total: int, level: float = 0.95) -> Interval:
    """Wilson's score interval for a share (Wilson 1927, without continuity correction).

    Args:
        correct: How many were right.
        total: How many were tested, at least 1.
        level: Share of such intervals that hold the true value.

    Returns:
        Lower and upper bound, within 0 and 1.
    """
    found = binomtest(int(correct), int(total)).proportion_ci(level, method="wilson")
    return float(found.low), float(found.high)


def bootstrap_draws(
    per_item_values: np.ndarray | csr_array,
    statistic: Callable[[np.ndarray], np.ndarray],
    seed: int,
    resamples: int = 2000,
) -> np.ndarray:
    """What `statistic` becomes when the items are drawn anew with replacement (Efron 1979).

    Args:
        per_item_values: (N,) or (N, K) numbers of each item, dense or sparse. Every score here is a function of
            their sums over the items, so a resample needs only how often each item was drawn.
        statistic: Takes the (R, K) sums of R resamples, returns R values.
        seed: Equal seeds give equal draws; the draws of two calls with one seed and one N are of the same items.
        resamples: How many draws.

    Returns:
        (resamples,) float64.
    """
    values = per_item_values
    if isinstance(values, np.ndarray) and values.ndim == 1:
        values = values[:, None]
    items = values.shape[0]  # pyright: ignore[reportOptionalSubscript]  # SciPy's annotation; never None
    if items < 1:
        raise ValueError("nothing to draw from: no items")
    generator = np.random.default_rng(seed)
    draws = []
    batch = max(1, min(resamples, 4_000_000 // items))  # keeps the table of counts near 32 MB
    for start in range(0, resamples, batch):
        rows = [
            np.bincount(generator.integers(0, items, items), minlength=items)
            for _ in range(min(batch, resamples - start))
        ]
        draws.append(statistic(np.asarray(rows, dtype=np.float64) @ values))
    return np.concatenate(draws)


def percentile_interval(draws: np.ndarray, level: float = 0.95) -> Interval:
    """The middle `level` of the draws."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_interval(
    per_item_values: np.ndarray | csr_array,
    statistic: Callable[[np.ndarray], np.ndarray],
    seed: int,
    level: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """Percentile bootstrap interval; arguments as for `bootstrap_draws`.

    >>> errors = np.stack([np.square(np.arange(10.0)), np.ones(10)], axis=1)  # squared error, count
    >>> low, high = bootstrap_interval(errors, lambda sums: np.sqrt(sums[:, 0] / sums[:, 1]), seed=0)
    >>> bool(low < np.sqrt(28.5) < high)
    True
    """
    return percentile_interval(bootstrap_draws(per_item_values, statistic, seed, resamples), level)


BOUNDS: dict[str, Interval] = {
    **dict.fromkeys(("accuracy", "sequence_accuracy", "intent_accuracy", "hamming_loss", "coverage"), (0.0, 1.0)),
    **dict.fromkeys(("precision", "recall", "f1", "f1_micro", "node_accuracy", "exact_match"), (0.0, 1.0)),
    **dict.fromkeys(("rmse", "one_step_rmse", "mae", "mse", "mase", "pinball", "wer", "cer"), (0.0, np.inf)),
    **dict.fromkeys(("mse_normalised", "mae_normalised"), (0.0, np.inf)),
    **dict.fromkeys(("r2", "fit"), (-np.inf, 1.0)),
    "smape": (0.0, 200.0),
}
"""What scores lie between, where they do."""


def shared_of(folds: int | None) -> float:
    """What `mean_interval` is told of runs over so many folds; 0 for those that share nothing."""
    return 0.0 if folds is None else 1 / (folds - 1)


def mean_interval(
    values: np.ndarray, level: float = 0.95, shared: float = 0.0, metric: str | None = None
) -> Interval | None:
    """Student's interval of a mean; None for fewer than two values.

    Args:
        values: (N,).
        level: Share of such intervals that hold the true value.
        shared: Of scores on the folds of one data set, the size of a test part over that of a training part: the runs
            learn from much the same data, and the variance of their mean is (1 / N + shared) σ², not σ² / N (Nadeau &
            Bengio 2003, eq. 9).
        metric: What the values are: the interval ends where this can be no less or more, which a normal distribution
            does not know; None for such as have no bounds, as differences.
    """
    if len(values) < 2:
        return None
    least, most = BOUNDS.get((metric or "").partition("_first_")[0], (-np.inf, np.inf))
    error = values.std(ddof=1) * (1 / len(values) + shared) ** 0.5
    half = float(student.ppf((1 + level) / 2, len(values) - 1) * error)
    return max(float(values.mean()) - half, least), min(float(values.mean()) + half, most)


def intervals(
    kind: str,
    targets: ArrayLike,
    outputs: ArrayLike,
    offsets: ArrayLike | None = None,
    asked: ArrayLike | None = None,
    seed: int = 0,
) -> dict[str, Interval]:
    """95 % intervals of the scores of one kind of task.

    Args:
        kind: "classify", "multilabel" or "regress".
        targets: As that kind's scores take them.
        outputs: Probabilities, or predicted numbers.
        offsets: With a row a step: the bounds of the sequences, (N + 1,).
        asked: With a row a step: which have a target; None where all have.
        seed: Seed of the bootstrap.
    """
    if offsets is not None and kind != "regress":
        return step_intervals(targets, outputs, offsets, asked, seed)
    match kind:
        case "classify":
            return classify_intervals(targets, outputs, seed)
        case "multilabel":
            return multilabel_intervals(targets, outputs, seed)
        case "regress":
            return regress_intervals(targets, outputs, offsets, seed)
    raise ValueError(unknown("kind of score", kind, ["classify", "multilabel", "regress"]))


# One class a sequence


def classify_scores(targets: ArrayLike, probabilities: ArrayLike) -> dict[str, float]:
    """Scores of a network that names one class a sequence.

    Args:
        targets: (N,) class indices; -1 for a label that the network does not know, which counts as wrong.
        probabilities: (N, C).

    Returns:
        `accuracy`; `f1`, the mean over the classes met among targets or predictions (an unknown label has no F1
        of its own, but what was predicted in its place counts against that class); `loss` in nats per sequence,
        over the sequences whose label is known, left out where there are none; and `unknown_labels`, how many
        were not, where there are any.

    Raises:
        RunError: A probability is NaN or infinite.
    """
    targets, probabilities = np.asarray(targets), _finite(probabilities, "probabilities")
    predictions = probabilities.argmax(1)
    known = targets >= 0
    columns = _hits_and_marks(targets, predictions, probabilities.shape[1])
    scores = {"accuracy": float(np.mean(predictions == targets)), "f1": float(_macro_f1(columns.sum(0)))}
    if known.any():
        scores["loss"] = float(_surprise(targets[known], probabilities[known]).mean())
    if not known.all():
        scores["unknown_labels"] = float(np.sum(~known))
    return scores


def classify_intervals(targets: ArrayLike, probabilities: ArrayLike, seed: int = 0) -> dict[str, Interval]:
    """95 % intervals of `classify_scores`: Wilson for accuracy, bootstrap over sequences for F1 and loss."""
    targets, probabilities = np.asarray(targets), _finite(probabilities, "probabilities")
    items, classes = probabilities.shape
    predictions = probabilities.argmax(1)
    intervals = {"accuracy": accuracy_interval(int(np.sum(predictions == targets)), items)}
    if items >= FEWEST:
        intervals["f1"] = bootstrap_interval(_hits_and_marks(targets, predictions, classes), _macro_f1, seed)
    known = targets >= 0
    if known.sum() >= FEWEST:
        intervals["loss"] = _mean_interval(_surprise(targets[known], probabilities[known]), seed)
    return intervals


def per_class(targets: ArrayLike, predictions: ArrayLike, classes: Sequence[str]) -> list[ClassRow]:
    """Precision, recall and F1 of each class, with how many there are and how often it was predicted.

    Args:
        targets: (N,) class indices, -1 for unknown labels; or (N, C) bool, several labels at once.
        predictions: In the same form.
        classes: C labels.

    Returns:
        C rows. A class never met has recall 0, one never predicted precision 0.
    """
    targets, predictions = np.asarray(targets), np.asarray(predictions)
    several = targets.ndim == 2
    precision, recall, f1, support = (
        np.asarray(column)
        for column in precision_recall_fscore_support(
            targets.astype(int) if several else targets,
            predictions.astype(int) if several else predictions,
            labels=range(len(classes)),
            zero_division=0.0,  # pyright: ignore[reportArgumentType]  # sklearn's annotation says str
        )
    )
    predicted = predictions.sum(0) if several else np.bincount(predictions, minlength=len(classes))
    return [
        {
            "class": label,
            "precision": float(precision[i]),
            "recall": float(recall[i]),
            "f1": float(f1[i]),
            "support": int(support[i]),
            "predicted": int(predicted[i]),
        }
        for i, label in enumerate(classes)
    ]


def confusion(targets: ArrayLike, predictions: ArrayLike, n: int) -> np.ndarray:
    """How often class i (row) was called class j (column): (n, n) int64. Unknown labels (-1) have no row."""
    targets, predictions = np.asarray(targets), np.asarray(predictions)
    known = targets >= 0
    if not known.any():
        return np.zeros((n, n), dtype=np.int64)
    return confusion_matrix(targets[known], predictions[known], labels=range(n)).astype(np.int64)


def most_wrong(targets: ArrayLike, probabilities: ArrayLike, count: int = 12) -> np.ndarray:
    """Indices of the sequences given a wrong class with the least probability for the true one, worst first.

    Args:
        targets: (N,) class indices (unknown labels are passed over), or (N, C) bool, several labels at once: then
            those with the least probability for the true set.
        probabilities: (N, C).
        count: How many at most.
    """
    targets, probabilities = np.asarray(targets), np.asarray(probabilities)
    if targets.ndim == 2:
        wrong = np.flatnonzero(np.any((probabilities >= 0.5) != targets, axis=1))
        surprise = _several_surprise(targets[wrong], probabilities[wrong])
    else:
        wrong = np.flatnonzero((targets >= 0) & (probabilities.argmax(1) != targets))
        surprise = _surprise(targets[wrong], probabilities[wrong])
    return wrong[np.argsort(-surprise, kind="stable")[:count]]


# Several labels a sequence


def multilabel_scores(targets: ArrayLike, probabilities: ArrayLike) -> dict[str, float]:
    """Scores of a network that gives a sequence any number of labels: those whose probability is at least 0.5.

    Args:
        targets: (N, C) bool.
        probabilities: (N, C).

    Returns:
        `accuracy`, the share of sequences whose whole set is right; `f1`, the mean over the labels met among
        targets or predictions; `f1_micro`, over all decisions together; `hamming_loss`, the share of these that
        are wrong, which of binary vectors is the bit error; `loss` in nats per sequence, summed over its labels.

    Raises:
        RunError: A probability is NaN or infinite.
    """
    targets, probabilities = np.asarray(targets, dtype=bool), _finite(probabilities, "probabilities")
    given = probabilities >= 0.5
    sums = np.hstack([targets & given, targets.astype(np.float64) + given]).sum(0)
    return {
        "accuracy": float(np.mean(np.all(given == targets, axis=1))),
        "f1": float(_macro_f1(sums)),
        "f1_micro": float(_micro_f1(sums)),
        "hamming_loss": float(np.mean(given != targets)),
        "loss": float(_several_surprise(targets, probabilities).mean()),
    }


def multilabel_intervals(targets: ArrayLike, probabilities: ArrayLike, seed: int = 0) -> dict[str, Interval]:
    """95 % intervals of `multilabel_scores`: Wilson for accuracy, bootstrap over sequences for the others."""
    targets, probabilities = np.asarray(targets, dtype=bool), _finite(probabilities, "probabilities")
    given = probabilities >= 0.5
    intervals = {"accuracy": accuracy_interval(int(np.sum(np.all(given == targets, axis=1))), len(targets))}
    if len(targets) >= FEWEST:
        columns = np.hstack([targets & given, targets.astype(np.float64) + given])
        intervals["f1"] = bootstrap_interval(columns, _macro_f1, seed)
        intervals["f1_micro"] = bootstrap_interval(columns, _micro_f1, seed)
        intervals["hamming_loss"] = _mean_interval(np.mean(given != targets, axis=1), seed)
        intervals["loss"] = _mean_interval(_several_surprise(targets, probabilities), seed)
    return intervals


# Classes at every step


def step_scores(
    targets: ArrayLike, probabilities: ArrayLike, offsets: ArrayLike, asked: ArrayLike | None = None
) -> dict[str, float]:
    """Scores of a network that names a class, or several, at every step.

    Args:
        targets: (S,) class indices, -1 for a label that the network does not know; or (S, C) bool, several at once.
        probabilities: (S, C).
        offsets: (N + 1,) bounds of the sequences.
        asked: (S,) bool: the steps that have a target, the only ones that count; None where all have.

    Returns:
        What `classify_scores` (or `multilabel_scores`) gives over the steps that are asked for, and
        `sequence_accuracy`: the share of sequences, among those of which anything is asked, with every such step right.

    Raises:
        RunError: A probability is NaN or infinite.
    """
    targets, probabilities, sequence, _ = _asked_steps(targets, probabilities, offsets, asked)
    scores = (multilabel_scores if targets.ndim == 2 else classify_scores)(targets, probabilities)
    whole, _ = _whole_sequences(_right(targets, probabilities), sequence)
    first = {"accuracy": scores.pop("accuracy"), "sequence_accuracy": float(np.mean(whole))}
    return first | scores


def step_intervals(
    targets: ArrayLike, probabilities: ArrayLike, offsets: ArrayLike, asked: ArrayLike | None = None, seed: int = 0
) -> dict[str, Interval]:
    """95 % intervals of `step_scores`: Wilson for sequence_accuracy; for the others bootstrap over whole sequences,
    since steps of one are not independent."""
    targets, probabilities, sequence, _ = _asked_steps(targets, probabilities, offsets, asked)
    right = _right(targets, probabilities)
    whole, counts = _whole_sequences(right, sequence)
    found = {"sequence_accuracy": accuracy_interval(int(whole.sum()), len(whole))}
    if len(whole) < FEWEST:
        return found
    gather = csr_array(
        (np.ones(len(sequence)), (sequence, np.arange(len(sequence)))), shape=(len(whole), len(sequence))
    )
    found["accuracy"] = bootstrap_interval(np.stack([gather @ right, counts], 1), _ratio, seed)
    if targets.ndim == 2:
        given = probabilities >= 0.5
        columns = gather @ np.hstack([targets & given, targets.astype(np.float64) + given])
        found["f1"] = bootstrap_interval(columns, _macro_f1, seed)
        found["f1_micro"] = bootstrap_interval(columns, _micro_f1, seed)
        wrong = np.stack([gather @ np.mean(given != targets, axis=1), counts], 1)
        found["hamming_loss"] = bootstrap_interval(wrong, _ratio, seed)
        losses = np.stack([gather @ _several_surprise(targets, probabilities), counts], 1)
        return found | {"loss": bootstrap_interval(losses, _ratio, seed)}
    columns = csr_array(gather @ _hits_and_marks(targets, probabilities.argmax(1), probabilities.shape[1]))
    found["f1"] = bootstrap_interval(columns, _macro_f1, seed)
    known = targets >= 0
    if known.any():
        surprise = np.zeros(len(targets))
        surprise[known] = _surprise(targets[known], probabilities[known])
        losses = np.stack([gather @ surprise, gather @ known.astype(np.float64)], 1)
        found["loss"] = bootstrap_interval(losses, _ratio, seed)
    return found


def most_wrong_sequences(
    targets: ArrayLike, probabilities: ArrayLike, offsets: ArrayLike, asked: ArrayLike | None = None, count: int = 12
) -> np.ndarray:
    """Indices of the sequences with a step that is wrong, those first whose true labels were thought least likely.

    Args:
        targets: See `step_scores`.
        probabilities: See `step_scores`.
        offsets: See `step_scores`.
        asked: See `step_scores`.
        count: How many at most.
    """
    targets, probabilities, sequence, names = _asked_steps(targets, probabilities, offsets, asked)
    whole, counts = _whole_sequences(_right(targets, probabilities), sequence)
    if targets.ndim == 2:
        surprise = _several_surprise(targets, probabilities)
    else:
        surprise = np.where(targets >= 0, _surprise(np.maximum(targets, 0), probabilities), 0.0)
    mean = np.bincount(sequence, surprise) / counts
    wrong = np.flatnonzero(~whole)
    return names[wrong[np.argsort(-mean[wrong], kind="stable")[:count]]]


# Numbers


def regress_scores(targets: ArrayLike, predictions: ArrayLike) -> dict[str, float]:
    """Scores of a network that predicts K numbers.

    Args:
        targets: (M, K) or (M,), one row a sequence or a step.
        predictions: In the same form.

    Returns:
        `rmse`, `mae` and `mse` over all M × K numbers; `r2`, the share of the variance explained, its mean over
        the K numbers (1 or 0 for one that does not vary, by whether it was met exactly), left out for M < 2.

    Raises:
        RunError: A prediction is NaN or infinite.
    """
    targets, predictions = _columns(targets), _columns(_finite(predictions, "predictions"))
    errors = predictions - targets
    mse = float(np.mean(np.square(errors)))
    scores = {"rmse": mse**0.5, "mae": float(np.mean(np.abs(errors))), "mse": mse}
    if len(targets) >= 2:
        scores["r2"] = float(r2_score(targets, predictions))
    return scores


def regress_intervals(
    targets: ArrayLike, predictions: ArrayLike, offsets: ArrayLike | None = None, seed: int = 0
) -> dict[str, Interval]:
    """95 % bootstrap intervals of `rmse`, `mae` and `mse`, over whole sequences: steps of one are not independent.

    Args:
        targets: (M, K) or (M,), one row a sequence or a step.
        predictions: In the same form.
        offsets: With a row a step: (N + 1,) bounds of the N sequences in M.
        seed: Seed of the draws.

    Returns:
        Nothing for fewer than `FEWEST` sequences.
    """
    columns = squared_and_absolute(targets, predictions, offsets)
    if len(columns) < FEWEST:
        return {}
    return {name: bootstrap_interval(columns, statistic, seed) for name, statistic in REGRESS_STATISTICS.items()}


REGRESS_STATISTICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "rmse": lambda sums: np.sqrt(sums[:, 0] / sums[:, 2]),
    "mae": lambda sums: sums[:, 1] / sums[:, 2],
    "mse": lambda sums: sums[:, 0] / sums[:, 2],
}
"""Each score as a function of the sums of `squared_and_absolute`."""


def squared_and_absolute(targets: ArrayLike, predictions: ArrayLike, offsets: ArrayLike | None = None) -> np.ndarray:
    """(N, 3): for each sequence the sum of its squared errors, of its absolute errors, and the count of its numbers."""
    errors = _columns(_finite(predictions, "predictions")) - _columns(targets)
    rows = np.stack(
        [np.square(errors).sum(1), np.abs(errors).sum(1), np.full(len(errors), errors.shape[1], float)], axis=1
    )
    return rows if offsets is None else np.add.reduceat(rows, np.asarray(offsets)[:-1], axis=0)


def furthest_off(
    targets: ArrayLike, predictions: ArrayLike, offsets: ArrayLike | None = None, count: int = 12
) -> np.ndarray:
    """Indices of the sequences with the largest mean squared error, worst first; see `regress_intervals`."""
    columns = squared_and_absolute(targets, predictions, offsets)
    return np.argsort(-columns[:, 0] / columns[:, 2], kind="stable")[:count]


# Parts of the above


def _asked_steps(
    targets: ArrayLike, probabilities: ArrayLike, offsets: ArrayLike, asked: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Targets and probabilities of the steps that count; the sequence of each, counted among those that have any; and
    which sequences these are."""
    targets, probabilities = np.asarray(targets), np.asarray(probabilities)
    sequence = np.repeat(np.arange(len(np.asarray(offsets)) - 1), np.diff(np.asarray(offsets)))
    if asked is not None:
        chosen = np.asarray(asked)
        targets, probabilities, sequence = targets[chosen], probabilities[chosen], sequence[chosen]
    names, sequence = np.unique(sequence, return_inverse=True)
    return targets, probabilities, sequence, names


def _right(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Which rows are right: the class, or the whole set of them."""
    if targets.ndim == 2:
        return np.all((_finite(probabilities, "probabilities") >= 0.5) == targets, axis=1)
    return _finite(probabilities, "probabilities").argmax(1) == targets


def _whole_sequences(right: np.ndarray, sequence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which sequences have every row right, and how many rows each has; `sequence` says which one a row belongs to."""
    counts = np.bincount(sequence)
    return np.bincount(sequence, right) == counts, counts


def _ratio(sums: np.ndarray) -> np.ndarray:
    """The first column over the second, (R, 2) -> (R,)."""
    return sums[:, 0] / np.maximum(sums[:, 1], 1)


def _finite(values: ArrayLike, what: str) -> np.ndarray:
    array = np.asarray(values)
    if not np.isfinite(array).all():
        raise RunError(
            f"the network's {what} hold NaN or infinite values: training diverged; "
            "a smaller train.lr or a bound on the gradient (train.clip_norm) is the usual remedy"
        )
    return array


def _columns(values: ArrayLike) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    return array[:, None] if array.ndim == 1 else array


def _surprise(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """-log of the probability given to the true class, (N,) nats."""
    return -np.log(_floored(probabilities[np.arange(len(targets)), targets]))


def _several_surprise(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """-log of the probability given to the true set of labels, (N,) nats."""
    return -np.log(_floored(np.where(targets, probabilities, 1 - probabilities))).sum(1)


def _floored(probabilities: np.ndarray) -> np.ndarray:
    """No less than the smallest normal float32 (87 nats): a float32 softmax puts out 0 for anything below it."""
    return np.maximum(probabilities.astype(np.float64), float(np.finfo(np.float32).tiny))


def _mean_interval(values: np.ndarray, seed: int) -> Interval:
    return bootstrap_interval(values, lambda sums: sums[:, 0] / len(values), seed)


# F1 = 2 tp / (2 tp + fp + fn) from columns of hits (tp of each class), then of marks (true + predicted of each class)


def _hits_and_marks(targets: np.ndarray, predictions: np.ndarray, classes: int) -> csr_array:
    """(N, 2 C), sparse; a target of -1 marks nothing."""
    hits = _one_hot(np.where(predictions == targets, targets, -1), classes)
    return csr_array(hstack([hits, _one_hot(targets, classes) + _one_hot(predictions, classes)]))


def _one_hot(indices: np.ndarray, classes: int) -> csr_array:
    rows = np.flatnonzero(indices >= 0)
    return csr_array((np.ones(len(rows)), (rows, indices[rows])), shape=(len(indices), classes))


def _macro_f1(sums: np.ndarray) -> np.ndarray:
    """Mean over the classes marked at all; (…, 2 C) -> (…)."""
    hits, marks = np.split(sums, 2, axis=-1)
    return (2 * hits / np.maximum(marks, 1)).sum(-1) / np.maximum((marks > 0).sum(-1), 1)


def _micro_f1(sums: np.ndarray) -> np.ndarray:
    """Over all classes together; (…, 2 C) -> (…)."""
    hits, marks = np.split(sums, 2, axis=-1)
    return 2 * hits.sum(-1) / np.maximum(marks.sum(-1), 1)
