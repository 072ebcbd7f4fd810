"""A recurrent network over the utterances of each speaker, as separate sequences."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.recurrent import Recurrent
from erc_graph.encoders.turns import OverTurns


class OwnTurns(OverTurns):
    """A recurrent network over the sequence of utterances of each speaker; all speakers and streams share one network.

    DialogueCRN (Hu et al., ACL-IJCNLP 2021) uses it for the context of speakers, and MM-DFN (Hu et al., ICASSP 2022) for their states.

    Args:
        net: The network.
    """

    def __init__(self, net: Recurrent) -> None:
        super().__init__()
        self.net, self.width, self.causal = net, net.width, net.causal

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Apply the network per speaker: `(N, S, inputs)` → `(N, S, width)`; absent nodes are read as zeros."""
        order, back, own = by_speaker(batch, len(nodes.streams))
        rows = nodes.masked().index_select(0, order).transpose(0, 1).flatten(0, 1)
        read = self.net.read(rows, own).view(len(nodes.streams), len(order), -1).transpose(0, 1)
        return nodes.with_states(read.index_select(0, back))

    def step(self, nodes: Nodes, batch: Batch, memory: Any) -> tuple[Nodes, Any]:
        """Process the next utterance of a live dialogue, with the memory of its speaker."""
        who, told = int(batch.speaker[0]), memory or {}
        state, after = self.net.step(nodes, batch, told.get(who))
        return state, {**told, who: after}


def by_speaker(batch: Batch, streams: int = 1) -> tuple[Tensor, Tensor, Batch]:
    """Return the permutation that sorts rows by dialogue, speaker and utterance, its inverse, and a batch with one dialogue per speaker.

    The returned batch repeats its dialogues for each stream.
    """
    key = "own turns", streams
    if key not in batch.kept:
        group = batch.dialogue * max(batch.longest, 1) + batch.speaker  # a dialogue has no more speakers than turns
        order = group.argsort(stable=True)
        sizes = group[order].unique_consecutive(return_counts=True)[1].repeat(streams)
        own = Batch(
            ptr=torch.cat([sizes.new_zeros(1), sizes.cumsum(0)]),
            **{name: getattr(batch, name)[order].repeat(streams) for name in ("speaker", "target", "judged", "row")},
        )
        batch.kept[key] = order, order.argsort(), own
    found: tuple[Tensor, Tensor, Batch] = batch.kept[key]
    return found
