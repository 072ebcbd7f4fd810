r"""Features relative to the dialogue: every vector minus the mean of its dialogue.

.. math:: d_i = x_i - \frac{1}{|P_i|} \sum_{j \in P_i} x_j \tag{1}

`x_i` is the feature vector of utterance `i`. `P_i` is the set of utterances with features in the dialogue of `i`; with the option `causal`,
`P_i` has no utterances after `i`. All utterances of a dialogue share a topic and recording conditions, and Equation (1) removes the common
component of their features. On the complete graph of a dialogue, Equation (1) is a high-pass filter: it subtracts the mean over all nodes.
`erc_graph.methods.inputs.SpeakerRelative` subtracts the mean over a speaker's utterances instead.
"""

from __future__ import annotations

from typing import Any

import torch

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.turns import OverTurns


class Centred(OverTurns):
    """States minus their mean over the dialogue.

    Args:
        causal: Whether the mean is over the current and all earlier utterances, instead of over the whole dialogue.
    """

    def __init__(self, *, causal: bool = False) -> None:
        super().__init__()
        self.causal = causal

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Subtract the mean over the dialogue from states `(N, S, width)` of all nodes that are present; missing modalities give zero."""
        padded = batch.pad(self._counted(nodes))
        sums = batch.unpad(padded.cumsum(1)) if self.causal else padded.sum(1)[batch.dialogue]
        return self._minus(nodes, sums)

    def step(self, nodes: Nodes, batch: Batch, memory: Any) -> tuple[Nodes, Any]:
        """Process the next utterance of a live dialogue; `memory` is the sum and number of earlier states, as returned by the last call."""
        sums = self._counted(nodes) if memory is None else memory + self._counted(nodes)
        return self._minus(nodes, sums), sums

    @staticmethod
    def _counted(nodes: Nodes) -> torch.Tensor:
        """Append 1 to the state of a present node, and 0 to the state of an absent node: `(N, S, width + 1)`."""
        return torch.cat([nodes.masked(), nodes.present[..., None].to(nodes.states.dtype)], -1)

    @staticmethod
    def _minus(nodes: Nodes, sums: torch.Tensor) -> Nodes:
        """Subtract the mean state; `sums` has the sums of the states, and in the last column the number of states."""
        centred = nodes.states - sums[..., :-1] / sums[..., -1:].clamp(min=1)
        return nodes.with_states(torch.where(nodes.present[..., None], centred, 0.0))
