"""Networks over graphs."""

import torch

from recurra.nn.graph import MessagePassing, Readout


def test_a_thin_graph() -> None:
    layer = MessagePassing("gru", 5, rounds=2, input_size=3)
    h, (state,) = layer(torch.randn(4, 3), torch.tensor([[0, 1], [1, 2]]))
    assert h is state
    read = Readout("sum", 5)(h, torch.tensor([0, 0, 1, 1]), 2)
    torch.testing.assert_close(read, torch.stack([h[:2].sum(0), h[2:].sum(0)]))
