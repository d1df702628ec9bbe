"""The conditional random field beside a sum over every path, in double precision."""

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from torch import Tensor

from recurra.data.schemes import SCHEMES, Scheme, allowed, entities, find_scheme, first_break, written
from recurra.nn.crf import CRF

TAGS = ["O", "B-LOC", "I-LOC", "E-LOC", "S-LOC"]


def made(tags: int = 4, seed: int = 0, constrained: bool = False) -> CRF:
    torch.manual_seed(seed)
    masks = (torch.from_numpy(mask) for mask in allowed(TAGS, "iobes")) if constrained else ()
    crf = CRF(len(TAGS) if constrained else tags, *masks).double()
    with torch.no_grad():
        for parameter in crf.parameters():
            parameter.normal_(0, 1.5)
    return crf


def paths(crf: CRF, emissions: Tensor) -> dict[tuple[int, ...], float]:
    """The score of every allowed path of one sentence, (T, K), added up term by term."""
    start, transition, end = (p.detach().numpy() for p in (crf.start, crf.transition, crf.end))
    begins, follows, ends = (m.numpy() for m in (crf.may_begin, crf.may_follow, crf.may_end))
    e, found = emissions.detach().numpy(), {}
    for path in product(range(e.shape[1]), repeat=len(e)):
        moves = list(pairwise(path))
        if not (begins[path[0]] and ends[path[-1]] and all(follows[i, j] for i, j in moves)):
            continue
        score = start[path[0]] + end[path[-1]] + sum(e[t, k] for t, k in enumerate(path))
        found[path] = float(score + sum(transition[i, j] for i, j in moves))
    return found


@pytest.mark.parametrize("constrained", [False, True])
def test_everything_is_as_a_sum_over_all_paths_has_it(constrained: bool) -> None:
    crf = made(constrained=constrained)
    lengths = torch.tensor([4, 1, 3])
    emissions = torch.randn(4, 3, len(crf.start), dtype=torch.float64) * 2
    emissions[1:, 1], emissions[3:, 2] = torch.nan, torch.nan  # padding must not be looked at
    likely, said = crf.decode(emissions, lengths), crf.marginals(emissions, lengths)
    for b, length in enumerate(lengths.tolist()):
        scores = paths(crf, emissions[:length, b])
        every = np.array(list(scores.values()))
        log_z = np.log(np.exp(every - every.max()).sum()) + every.max()
        best = max(scores, key=lambda path: scores[path])
        assert likely[:length, b].tolist() == list(best)
        assert not likely[length:, b].any()
        marginals = np.zeros((length, len(crf.start)))
        for path, score in scores.items():
            marginals[np.arange(length), list(path)] += np.exp(score - log_z)
        np.testing.assert_allclose(said[:length, b].numpy(), marginals, atol=1e-12)
        for path in list(scores)[:: max(1, len(scores) // 7)]:
            tags = torch.zeros(4, 3, dtype=torch.int64)
            tags[:length, b] = torch.tensor(path)
            clean = emissions.nan_to_num(3.0)
            got = crf.log_likelihood(clean, tags, lengths)[b]
            assert got.item() == pytest.approx(scores[path] - log_z, abs=1e-10)


def test_padding_reaches_neither_the_likelihood_nor_its_gradient() -> None:
    crf, lengths = made(), torch.tensor([3, 2])
    tags = torch.tensor([[1, 2], [0, 3], [2, 0]])
    emissions = torch.randn(3, 2, 4, dtype=torch.float64)
    padded = torch.cat([emissions, torch.full((2, 2, 4), torch.nan, dtype=torch.float64)])
    padded[2, 1] = torch.nan
    padded.requires_grad_()
    got = crf.log_likelihood(padded, torch.cat([tags, tags[:2]]), lengths)
    alone = [crf.log_likelihood(emissions[:n, [b]], tags[:n, [b]]) for b, n in enumerate((3, 2))]
    torch.testing.assert_close(got, torch.cat(alone))
    (gradient,) = torch.autograd.grad(got.sum(), padded)
    assert not gradient[3:].any()
    assert not gradient[2, 1].any()


def test_gradients() -> None:
    crf, lengths, tags = made(3), torch.tensor([4, 2]), torch.randint(3, (4, 2))
    emissions = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    parameters = tuple(p.detach().clone().requires_grad_() for p in crf.parameters())

    def likelihood(e: Tensor, *values: Tensor) -> Tensor:
        named = dict(zip([name for name, _ in crf.named_parameters()], values, strict=True))
        return torch.func.functional_call(_Call(crf), {f"crf.{k}": v for k, v in named.items()}, (e, tags, lengths))

    assert torch.autograd.gradcheck(likelihood, (emissions, *parameters))


class _Call(torch.nn.Module):
    def __init__(self, crf: CRF) -> None:
        super().__init__()
        self.crf = crf

    def forward(self, *arguments: Tensor) -> Tensor:
        return self.crf.log_likelihood(*arguments)


def test_emissions_a_hundred_nats_apart_leave_numbers_in_single_precision() -> None:
    crf = made(constrained=True).float()
    emissions = (torch.randn(9, 2, 5) * 300).requires_grad_()
    tags = torch.tensor([0, 1, 2, 3, 4, 0, 1, 3, 0]).unsqueeze(1).expand(9, 2)
    value = crf.log_likelihood(emissions, tags)
    value.sum().backward()
    assert emissions.grad is not None
    assert torch.isfinite(value).all()
    assert torch.isfinite(emissions.grad).all()
    assert (value <= 1e-3).all()
    torch.testing.assert_close(crf.marginals(emissions).sum(-1), torch.ones(9, 2))


def test_what_is_not_allowed_is_never_said() -> None:
    crf = made(constrained=True)
    said = crf.decode(torch.randn(12, 40, 5, dtype=torch.float64) * 3)
    for b in range(40):
        assert first_break([TAGS[k] for k in said[:, b]], "iobes") is None


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"may_follow: has the shape \(2, 2\), expected \(3, 3\)"):
        CRF(3, follows=torch.ones(2, 2, dtype=torch.bool))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_allowed_is_what_written_tags_can_be(scheme: Scheme) -> None:
    """Every sequence of up to four tags keeps to its scheme exactly where every move in it is allowed."""
    prefixes = {"iob1": "BI", "iob2": "BI", "iobes": "BIES", "bilou": "BILU"}[scheme]
    tags = ["O", *(f"{p}-{kind}" for p in prefixes for kind in ("X", "Y"))]
    begins, follows, ends = allowed(tags, scheme)
    for length in (1, 2, 3, 4):
        for path in product(range(len(tags)), repeat=length):
            named = [tags[k] for k in path]
            kept = written(entities(named), length, scheme) == named
            moves = begins[path[0]] and ends[path[-1]] and all(follows[i, j] for i, j in pairwise(path))
            assert bool(moves) == kept, named


def test_schemes_are_found() -> None:
    assert find_scheme([["I-X", "I-X", "B-X", "O"]]) == "iob1"
    assert find_scheme([["B-X", "I-X", "O", "B-Y"]]) == "iob2"
    assert find_scheme([["B-X", "E-X", "S-Y"]]) == "iobes"
    assert find_scheme([["B-X", "L-X", "U-Y"]]) == "bilou"
    assert find_scheme([["O", "I-X"], ["B-X", "O"]]) == "iob2"  # one break among tags that are no IOB1
    assert find_scheme([["NOUN", "VERB"]]) is None
    assert find_scheme([["O", "O"]]) is None
