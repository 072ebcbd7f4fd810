"""A recurrent network that processes the utterances of each speaker as a separate sequence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.recurrent import Recurrent
from erc_graph.encoders.turns import OverTurns


class OwnTurns(OverTurns):
    """A recurrent network that processes the utterances of each speaker in a dialogue as a separate sequence.

    All speakers and all streams (for example, modalities) share the weights of the network. This network computes the speaker-level context
    in DialogueCRN (Hu et al., ACL-IJCNLP 2021) and the speaker states in MM-DFN (Hu et al., ICASSP 2022).

    Args:
        net: The recurrent network.
    """

    def __init__(self, net: Recurrent) -> None:
        super().__init__()
        self.net, self.width, self.causal = net, net.width, net.causal

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Apply the network per speaker: node states `(N, S, inputs)` → `(N, S, width)`. The input of a missing modality is zero."""
        order, back, own = by_speaker(batch, len(nodes.streams))
        rows = nodes.masked().index_select(0, order).transpose(0, 1).flatten(0, 1)
        read = self.net.read(rows, own).view(len(nodes.streams), len(order), -1).transpose(0, 1)
        return nodes.with_states(read.index_select(0, back))

    def step(self, nodes: Nodes, batch: Batch, memory: Any) -> tuple[Nodes, Any]:
        """Process the next utterance of a live dialogue; `memory` maps every speaker to a state of the network."""
        who, told = int(batch.speaker[0]), memory or {}
        state, after = self.net.step(nodes, batch, told.get(who))
        return state, {**told, who: after}


def by_speaker(batch: Batch, streams: int = 1) -> tuple[Tensor, Tensor, Batch]:
    """Sort the utterances of a batch by dialogue, then by speaker, then by position in the dialogue.

    Returns:
        The permutation that sorts the utterances, the inverse permutation, and a batch in which the utterances of each speaker are a
            separate dialogue. This batch contains all dialogues once per stream (for example, modality).
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
