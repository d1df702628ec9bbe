"""Trees a second in training: a Tree-LSTM level by level over a batch, beside the same model node by node.

    OMP_NUM_THREADS=1 python benchmarks/trees.py --data FOLDER

Both have the same parameters and are given the same batches of 25 trees of the Stanford Sentiment Treebank (or, without
`--data`, of random binary trees of 20 words): vectors of words, an N-ary Tree-LSTM of 150 units (Tai et al. 2015), five
classes at every node, backward, and no update. Node by node is the recursion as it is written in PyTorch: each node's
state by one call, from the leaves to the root, each tree for itself; one matrix product a node for all gates. Rounds of
both alternate; told are the medians with their range, and that outputs and gradients are the same.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from recurra.data.tree_reader import TreeReader
from recurra.data.trees import Trees, TreeSettings
from recurra.nn.tree import Forest, NaryLSTM

WIDTH, CLASSES, BATCH = 150, 5, 25


class Model(nn.Module):
    """Words, tree, classes."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, WIDTH)
        self.tree = NaryLSTM(WIDTH, WIDTH, 2)
        self.output = nn.Linear(WIDTH, CLASSES)

    def forward(self, words: Tensor, forest: Forest) -> Tensor:
        """Scores of all nodes, level by level."""
        return self.output(self.tree(self.embedding(words), forest)[0])

    def node_by_node(self, words: Tensor, children: list[dict[int, list[int]]], roots: list[int]) -> Tensor:
        """The same by recursion over each tree."""
        tree, zero = self.tree, torch.zeros(WIDTH)
        states: dict[int, tuple[Tensor, Tensor]] = {}

        def visit(node: int, below: dict[int, list[int]]) -> tuple[Tensor, Tensor]:
            kids = [visit(child, below) for child in below.get(node, [])]
            zi, zf, zg, zo = linear(self.embedding(words[node]), tree.weight_ih, tree.bias).chunk(4)
            if kids:
                h = torch.cat([kids[k][0] if k < len(kids) else zero for k in range(2)])
                ui, u1, u2, ug, uo = linear(h, tree.weight_hh).chunk(5)
                c = (zi + ui).sigmoid() * (zg + ug).tanh()
                for (_, below_c), u in zip(kids, (u1, u2), strict=False):
                    c = c + (zf + u).sigmoid() * below_c
                state = (zo + uo).sigmoid() * c.tanh(), c
            else:
                c = zi.sigmoid() * zg.tanh()
                state = zo.sigmoid() * c.tanh(), c
            states[node] = state
            return state

        for root, below in zip(roots, children, strict=True):
            visit(root, below)
        return self.output(torch.stack([states[node][0] for node in range(len(words))]))


def random_trees(count: int, leaves: int, seed: int) -> Trees:
    """Binary trees over so many words each, every way to put them together as likely as the draw of neighbours."""
    draw = np.random.default_rng(seed)
    parents, words, offsets = [], [], [0]
    for _ in range(count):
        over, front = [-1] * (2 * leaves - 1), list(range(leaves))
        for new in range(leaves, 2 * leaves - 1):
            at = int(draw.integers(len(front) - 1))
            over[front[at]] = over[front[at + 1]] = new
            front[at : at + 2] = [new]
        parents += over
        words += [*draw.integers(2, 1000, leaves), *[0] * (leaves - 1)]
        offsets.append(len(parents))
    M = len(parents)
    labels = torch.from_numpy(draw.integers(0, CLASSES, M))
    surface = torch.full((M,), -1, dtype=torch.int32)
    return Trees(
        torch.tensor(words, dtype=torch.int32), surface, [], torch.tensor(parents), labels, torch.tensor(offsets),
        torch.arange(count),
    )  # fmt: skip


def compared(trees: Trees, batches: int, rounds: int) -> dict[str, list[float]]:
    """Trees a second of both, a number a round; the forest of a batch is made anew each time, as training does."""
    assert trees.labels is not None
    torch.manual_seed(0)
    model = Model(int(trees.words.max()) + 1)
    chosen = torch.from_numpy(np.random.default_rng(0).permutation(len(trees))[: batches * BATCH]).split(BATCH)
    parts = [trees.select(indices) for indices in chosen]

    def at_once(part: Trees) -> Tensor:
        return model(part.words.long(), Forest.from_parents(part.over))

    def one_by_one(part: Trees) -> Tensor:
        below = [part.children(i) for i in range(len(part))]
        return model.node_by_node(part.words.long(), below, part.roots.tolist())

    def gradients(run: Callable[[Trees], Tensor], part: Trees) -> list[Tensor]:
        assert part.labels is not None
        model.zero_grad()
        cross_entropy(run(part), part.labels, ignore_index=-1).backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    for one, other in zip(gradients(at_once, parts[0]), gradients(one_by_one, parts[0]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)
    found: dict[str, list[float]] = {"level by level": [], "node by node": []}
    for _ in range(rounds):
        for name, run in (("level by level", at_once), ("node by node", one_by_one)):
            begun = time.perf_counter()
            for part in parts:
                gradients(run, part)
            found[name].append(batches * BATCH / (time.perf_counter() - begun))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the treebank: train.txt")
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.data is None:
        trees = random_trees(1000, 20, 0)
    else:
        trees = TreeReader().parts(given.data, "tree", TreeSettings()).train
    found = compared(trees, given.batches, given.rounds)
    for name, rates in found.items():
        print(f"{name}: {statistics.median(rates):,.0f} trees a second ({min(rates):,.0f} to {max(rates):,.0f})")
    ratios = [one / other for one, other in zip(found["level by level"], found["node by node"], strict=True)]
    print(f"ratio: {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})")


if __name__ == "__main__":
    main()
