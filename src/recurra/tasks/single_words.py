"""Tags told from single words, without the sentence around them: what a tagger is held against."""

import numpy as np
import torch
from torch import Tensor, nn

from recurra.data.sentences import Sentences
from recurra.data.sequences import UNKNOWN

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
