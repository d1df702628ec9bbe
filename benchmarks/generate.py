"""Characters a second of one stream: ours beside the same loop on `torch.nn.LSTM`.

    python benchmarks/generate.py [--hidden-size 256] [--num-layers 2] [--vocabulary 65] [--rounds 15] [--json]

Both write with the same weights, temperature and number of symbols, from random numbers of their own. The loop on
`torch.nn.LSTM` is what one writes in PyTorch: an embedding, the layer called with one step, a linear layer, softmax,
`torch.multinomial`, without gradients. They take turns, and each round's ratio is that of two runs side by side. Before
anything is timed, it is checked that both give the same distributions.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from recurra.data.units import SPECIAL, Units
from recurra.nn import Recurrent
from recurra.run.generate import TextModel
from recurra.tasks.language import LanguageModel, LanguageModelSettings

TEMPERATURE = 0.8


def network(sizes: argparse.Namespace) -> LanguageModel:
    """A language model with weights of about the size of trained ones."""
    settings = LanguageModelSettings(
        hidden_size=sizes.hidden_size, num_layers=sizes.num_layers, embedding_size=sizes.embedding_size
    )
    return LanguageModel(settings, sizes.vocabulary + len(SPECIAL)).eval()


def twin(model: LanguageModel) -> tuple[nn.Embedding, nn.LSTM, nn.Linear]:
    """The same weights in PyTorch's own modules."""
    recurrent, embedding = model.recurrent, model.embedding
    assert isinstance(recurrent, Recurrent)
    assert embedding is not None
    hidden = recurrent.hidden_size
    assert isinstance(hidden, int)
    lstm, out = nn.LSTM(recurrent.input_size, hidden, recurrent.num_layers), nn.Linear(hidden, len(embedding.weight))
    own = dict(recurrent.named_parameters())
    with torch.no_grad():
        for k in range(recurrent.num_layers):
            getattr(lstm, f"weight_ih_l{k}").copy_(own[f"weight_ih_l{k}"])
            getattr(lstm, f"weight_hh_l{k}").copy_(own[f"weight_hh_l{k}"])
            getattr(lstm, f"bias_ih_l{k}").copy_(own[f"bias_l{k}"])
            getattr(lstm, f"bias_hh_l{k}").zero_()
        output = model.output
        out.weight.copy_(output.matrix)  # type: ignore[union-attr, arg-type]
        out.bias.copy_(output.bias)  # type: ignore[union-attr, arg-type]
    return embedding, lstm, out


@torch.no_grad()
def loop(modules: tuple[nn.Embedding, nn.LSTM, nn.Linear], first: int, length: int) -> list[int]:
    """The loop on PyTorch's modules."""
    embedding, lstm, out = modules
    symbol, state, said = torch.tensor([[first]]), None, []
    for _ in range(length):
        y, state = lstm(embedding(symbol), state)
        p = torch.softmax(out(y[0]) / TEMPERATURE, -1)
        symbol = torch.multinomial(p, 1)
        said.append(int(symbol))
    return said


def check(model: LanguageModel, modules: tuple[nn.Embedding, nn.LSTM, nn.Linear], writer: TextModel) -> None:
    """Both give the same distributions along a text."""
    embedding, lstm, out = modules
    symbols = torch.randint(len(SPECIAL), len(embedding.weight), (50,))
    with torch.no_grad():
        theirs = out(lstm(embedding(symbols.unsqueeze(1)))[0][:, 0]).log_softmax(-1)
    one = writer.writer()
    one.read([[int(symbols[0])]])
    ours = torch.stack([torch.from_numpy(one.step(np.array([s]))[0].copy()) for s in symbols.tolist()]).log_softmax(-1)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description="Characters a second of one stream, beside a loop on torch.nn.LSTM.")
    for name, default in {"hidden-size": 256, "num-layers": 2, "embedding-size": 256, "vocabulary": 65}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--length", type=int, default=1000, help="characters of each text")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="PyTorch's threads, for both")
    parser.add_argument("--json", action="store_true")
    sizes = parser.parse_args()
    torch.set_num_threads(sizes.threads)
    torch.manual_seed(0)
    symbols = [chr(ord("!") + n) for n in range(sizes.vocabulary)]
    model = network(sizes)
    modules = twin(model)
    writer = TextModel(model, Units(unit="character", symbols=[*SPECIAL, *symbols]))
    check(model, modules, writer)

    def ours() -> None:
        for _ in writer.stream(symbols[0], length=sizes.length, temperature=TEMPERATURE):
            pass

    def theirs() -> None:
        loop(modules, len(SPECIAL), sizes.length)

    for call in (ours, theirs):
        call()  # warm
    pairs = []
    for n in range(sizes.rounds):
        turns = (ours, theirs) if n % 2 else (theirs, ours)
        took = {call: seconds(call) for call in turns}
        pairs.append((took[ours], took[theirs]))
    ratios = [b / a for a, b in pairs]
    told = {
        "ours": sizes.length / statistics.median(a for a, _ in pairs),
        "torch.nn.LSTM": sizes.length / statistics.median(b for _, b in pairs),
        "ratio": statistics.median(ratios),
        "ratios": sorted(ratios),
        "sizes": vars(sizes),
        "versions": {"torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()},
    }
    if sizes.json:
        print(json.dumps(told))
        return
    low, high = np.quantile(ratios, [0.1, 0.9])
    print(f"{sizes.num_layers} × {sizes.hidden_size} LSTM, {sizes.vocabulary} characters, {sizes.threads} threads")
    for name in ("ours", "torch.nn.LSTM"):
        print(f"  {name:<14} {told[name]:>8,.0f} characters a second")
    print(f"  ratio          {told['ratio']:>8.2f} (80 % of {sizes.rounds} rounds: {low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
