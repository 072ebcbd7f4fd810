"""Arrays of public codes that pad dialogues and put time first: turns × dialogues × features."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from tests.methods.reference.conftest import Reference, batch_of


def rows(batch: Batch, padded: Tensor) -> Tensor:
    """`(T, B, ...)` → `(N, ...)`"""
    return batch.unpad(padded.transpose(0, 1).contiguous())


def spoken(every: Reference, features: Mapping[str, str]) -> tuple[Batch, list[Tensor]]:
    """The dialogues, and of each the slots of its speakers in the order of their first appearance; modality → array."""
    sizes = every["in/lens"].tolist()
    slots = [every["in/qmask"][:n, i].argmax(-1) for i, n in enumerate(sizes)]
    orders = [torch.tensor(list(dict.fromkeys(own.tolist()))) for own in slots]
    speakers = [(own[:, None] == order).int().argmax(-1) for own, order in zip(slots, orders, strict=True)]
    labels = [every["in/label"][i, :n] for i, n in enumerate(sizes)]
    values = {name: torch.cat([every[array][:n, i] for i, n in enumerate(sizes)]) for name, array in features.items()}
    return batch_of(speakers, labels, **values), orders


class PaddingRead(nn.Module):
    """A recurrent net as public codes ask it: the padding of all dialogues to one length are turns like others."""

    def __init__(self, net: nn.Module, longest: int) -> None:
        super().__init__()
        self.net, self.longest = net, longest

    def read(self, packed: Tensor, batch: Batch) -> Tensor:
        """`(N, inputs)` → `(N, width)`"""
        padded = batch.pad(packed)
        padded = torch.cat([padded, padded.new_zeros(len(batch), self.longest - batch.longest, packed.shape[1])], 1)
        turns = torch.zeros(len(batch), self.longest, dtype=torch.long).unbind(0)
        states = self.net(Nodes.of_turns(padded.flatten(0, 1)), batch_of(turns, turns)).states
        return batch.unpad(states.view(*padded.shape[:2], -1)[:, : batch.longest])

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """`(N, 1, inputs)` → `(N, 1, width)`"""
        return nodes.with_states(self.read(nodes.states[:, 0], batch)[:, None])
