"""Translations: what was said beside what is true, and where the decoder looked."""

from collections.abc import Sequence
from typing import cast

import torch

from recurra.data.pairs import Pairs, collate
from recurra.data.units import UNK
from recurra.run.content import Section
from recurra.run.figures import weights_map
from recurra.run.training import Training
from recurra.tasks.translate import Translate, Translations, signatures
from recurra.tasks.translator import Translator

EXAMPLES, MAPS, LONGEST_MAP = 12, 4, 24
"""Pairs in the table, attention maps, and the most symbols that a source has of which one is drawn."""


def sections(training: Training, part: Pairs, said: Translations | None) -> Sequence[Section]:
    """The sections of a translator's report."""
    task, network = cast(Translate, training.task), cast(Translator, training.network)
    if said is None:  # there is the training part alone
        part = part.select(torch.arange(min(EXAMPLES, len(part))))
        said = cast(Translations, training.predict(part))
    assert said.targets is not None
    some = range(min(EXAMPLES, len(said)))
    sources = said.sources or [_vector(task, part, i) for i in some]
    found = [
        Section(
            "Translations",
            _words(task, said),
            tables=[
                (
                    f"The first {len(some)} pairs, as the test part has them." if some else "",
                    ("", "source", "true", "said"),
                    [(f"{i}", sources[i], said.targets[i], said.said[i]) for i in some],
                )
            ],
        )
    ]
    if network.decoder.attention is not None:
        found.append(_maps(training, task, network, part))
    return found


def _words(task: Translate, said: Translations) -> list[str]:
    words = []
    if not task.is_vector:
        named = signatures()
        words.append(
            "BLEU and chrF are sacreBLEU's, from 0 to 100, of texts as written (not cut into tokens); signatures: "
            f"BLEU {named['bleu']}; chrF {named['chrf']}."
        )
        ratio = task.scores(said).get("length_ratio")
        if ratio is not None:
            words.append(f"What was said has {ratio:.3g} times as many words as what is true.")
    cut = int((~said.ended).sum())
    if cut:
        words.append(f"{cut} of {len(said)} texts came to no end, and were cut at the greatest length.")
    return words


def _vector(task: Translate, part: Pairs, index: int) -> str:
    """A vector as text: the names of what is 1 where all else is 0, else the first numbers."""
    values = part.source.sequence(index)[0]
    if bool(((values == 0) | (values == 1)).all()):
        return " ".join(task.schema.features[i] for i in values.nonzero().flatten().tolist())
    return ", ".join(f"{v:.4g}" for v in values[:8].tolist()) + (", …" if len(values) > 8 else "")


def _maps(training: Training, task: Translate, network: Translator, part: Pairs) -> Section:
    """Where the decoder looked, for some of the first sources."""
    lengths = part.source.lengths
    chosen = [i for i in range(len(part)) if 4 <= int(lengths[i]) <= LONGEST_MAP][:MAPS]
    chosen = chosen or list(range(min(MAPS, len(part))))
    batch = collate(part, torch.tensor(chosen)).to(training.fabric.device, next(network.parameters()).dtype)
    was_training = network.training
    network.eval()
    found = task.decode(network, batch, network.settings.beam, weights=True)
    network.train(was_training)
    figures = []
    for index, best in zip(chosen, found, strict=True):
        source = [*_shown(task, part, index), "</s>"]
        target = [task.schema.target_units.symbols[i] for i in best.symbols] + ["</s>"] * best.ended
        if best.watched is None or not target:
            continue
        weights = best.watched[: len(target), : len(source)].float().cpu().numpy()
        figures.append(
            (
                f"Source {index}: {part.sources[index]}",
                weights_map(
                    weights, [*map(_visible, source)], [*map(_visible, target)], f"Attention map of source {index}"
                ),
            )
        )
    return Section(
        "Attention",
        [
            "Each row is a symbol that was said, each column one of the source; the stronger, the more the decoder "
            "looked there as it chose that symbol. A row sums to 1."
        ],
        figures,
    )


def _shown(task: Translate, part: Pairs, index: int) -> list[str]:
    """A source's symbols; words that are not in the vocabulary as they were written."""
    units, symbols = task.schema.source, part.source.sequence(index).tolist()
    if units.unit != "word" or UNK not in symbols:
        return [units.symbols[i] for i in symbols]
    words = units.words(part.sources[index].strip())
    return [word if i == UNK else units.symbols[i] for i, word in zip(symbols, words, strict=False)]


def _visible(symbol: str) -> str:
    """A subword with a mark where a blank stands before it."""
    return symbol.replace(" ", "\N{LOWER ONE EIGHTH BLOCK}") if symbol.strip() else repr(symbol)
