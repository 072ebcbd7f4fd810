"""Self-attention over the states of a GRU."""

from __future__ import annotations

import torch

from erc_graph.encoders.agru import AGRU


def test_alone_as_in_company() -> None:
    net, frames, lengths = AGRU(5, 6, heads=2).double().eval(), torch.randn(3, 7, 5).double(), (7, 1, 4)
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    whole = net(frames, mask)
    assert whole.shape == (3, 7, 6) and not whole[~mask].any()
    for row, length in enumerate(lengths):
        alone = net(frames[row : row + 1, :length], mask[row : row + 1, :length])
        torch.testing.assert_close(whole[row, :length], alone[0])


def test_it_is_a_gru_and_then_attention() -> None:
    """One cell after the other, then every frame asks all of them."""
    net, frames = AGRU(3, 4).double().eval(), torch.randn(1, 5, 3).double()
    cell = torch.nn.GRUCell(3, 4).double()
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in net.gru.state_dict().items()})
    state, states = torch.zeros(4).double(), []
    for frame in frames[0]:
        state = cell(frame, state)
        states.append(state)
    over = torch.stack(states)[None]
    mask = torch.ones(1, 5, dtype=torch.bool)
    heard = over + net.attention(over, over, mask)
    centred = heard - heard.mean(-1, keepdim=True)
    torch.testing.assert_close(net(frames, mask), centred / (centred.square().mean(-1, keepdim=True) + net.norm.eps).sqrt())
