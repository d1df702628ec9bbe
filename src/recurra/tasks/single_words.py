"""Tags told from single words, without the sentence around them: what a tagger is held against."""

import numpy as np
import torch
from torch import Tensor, nn

from recurra.data.schemes import part
from recurra.data.sentences import Sentences
from recurra.data.sequences import UNKNOWN
from recurra.tasks.tagging import Tagging

WIDTH, UPDATES, LR = 64, 150, 0.02


def tag_counts(train: Sentences, words: int, tags: int) -> np.ndarray:
    """How often each word has each tag, (V, K) float32; those seen once stand for the unknown word as well."""
    assert train.tags is not None
    counts = np.zeros((words, tags), np.float32)
    np.add.at(counts, (train.words.numpy(), train.tags.numpy()), 1)
    once = counts.sum(1) == 1
    counts[UNKNOWN] += counts[once].sum(0) if once.any() else counts.sum(0)
    return counts


def most_frequent(counts: np.ndarray) -> np.ndarray:
    """The tag that each word has most often, (V,); for a word never seen, that of the unknown word."""
    found = counts.argmax(1)
    return np.where(counts.sum(1) > 0, found, found[UNKNOWN])


def feed_forward(counts: np.ndarray, seed: int) -> np.ndarray:
    """The tag that a feed-forward network says of each word, (V,).

    The word's vector, a hidden layer, a linear layer, trained by Adam on the cross entropy of all words of the training
    part at once: since the network sees nothing but the word, how often that has each tag is all it can learn from.

    Args:
        counts: As `tag_counts` has them.
        seed: Of the first weights.
    """
    met = np.flatnonzero(counts.sum(1) > 0)
    weights = torch.from_numpy(counts[met] / counts.sum())
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Embedding(len(met), WIDTH), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, counts.shape[1])
        )
    optimizer = torch.optim.Adam(network.parameters(), lr=LR)
    every = torch.arange(len(met))
    for _ in range(UPDATES):
        optimizer.zero_grad()
        loss: Tensor = -(weights * network(every).log_softmax(-1)).sum()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        said = network(every).argmax(-1).numpy()
    found = np.full(len(counts), said[np.flatnonzero(met == UNKNOWN)[0]])
    found[met] = said
    return found


def contrasts(said: Tagging, alone: Tagging, most: int) -> tuple[np.ndarray, list[tuple[str, list[tuple[int, int]]]]]:
    """Words that stand with several tags, of which a word alone can tell but one.

    Args:
        said: What a tagger says of sentences whose tags are known.
        alone: What is said of the same by single words.
        most: How many words to pick.

    Returns:
        (S,) bool, which words of the sentences stand there with several true tags; and of the words that do so most
        evenly each with two places, (sentence, word in it), whose tags differ, where the tagger is right in both: the
        shortest such sentences.
    """
    data = said.data
    assert data.tags is not None
    words, true = data.words.numpy(), data.tags.numpy()
    sentence = np.repeat(np.arange(len(data)), data.lengths.numpy())
    kinds = [part(name)[1] if said.schema.scheme else name for name in data.names]
    places: dict[int, dict[str, list[int]]] = {}
    tags: dict[int, set[int]] = {}
    for step, (word, tag) in enumerate(zip(words.tolist(), true.tolist(), strict=True)):
        if word == UNKNOWN:
            continue
        tags.setdefault(word, set()).add(tag)
        if kinds[tag]:
            places.setdefault(word, {}).setdefault(kinds[tag], []).append(step)
    several = np.isin(words, [word for word, met in tags.items() if len(met) > 1])
    lengths, offsets = data.lengths.numpy(), data.offsets.numpy()
    ranked: list[tuple[int, int, list[int]]] = []
    for word, by_kind in places.items():
        right = {
            kind: sorted((s for s in steps if said.tags[s] == true[s]), key=lambda s: lengths[sentence[s]])
            for kind, steps in by_kind.items()
        }
        one, other = (*sorted(right, key=lambda kind: -len(right[kind])), "", "")[:2]
        if other and right[one] and right[other]:
            two = [right[one][0], next((s for s in right[other] if sentence[s] != sentence[right[one][0]]), -1)]
            # Where both are told right from the word alone it has another prefix, not another kind.
            if two[1] >= 0 and not all(alone.tags[s] == true[s] for s in two):
                ranked.append((-len(right[other]), word, two))
    found = []
    for _, word, two in sorted(ranked)[:most]:
        found.append((said.schema.vocabulary[word], [(int(sentence[s]), int(s - offsets[sentence[s]])) for s in two]))
    return several, found
