r"""CMN: Conversational Memory Network for Emotion Recognition in Dyadic Dialogue Videos (Hazarika et al., NAACL-HLT 2018).

Every utterance has two memories: the earlier utterances of its own speaker, and the earlier utterances of all other speakers. The utterance
attends to both memories several times (hops). The result of a hop is added to the query of the next hop.

.. math::
    q_i &= \tanh(W_q u_i + b_q) \tag{1} \\
    X^s_k &= \tanh(\mathrm{GRU}^{\text{local}}_s(u_k)) \qquad s \in \{\text{own}, \text{other}\} \tag{2} \\
    M^s &= \mathrm{GRU}^{\text{memory}}_s(X^s) \tag{3} \\
    a^s_k &= \mathrm{softmax}_{k \in s} \tanh(q_i \cdot M^s_k) \tag{4} \\
    q_i &\leftarrow \tanh\Big(q_i + \sum_s \sum_{k \in s} a^s_k M^s_k\Big) \qquad \text{(4), (5) once per hop} \tag{5} \\
    o_i &= W_o q_i + b_o \tag{6}

The equations follow the public code; the numbering is ours. `k` runs over up to `window` utterances before `i`. Outside memory `s`, the
local GRU keeps its state, and the memory GRU reads `X^s = 0`. As in TensorFlow, the reset gate of a GRU acts before the matrix product.

| symbol | attribute | shape (`N`: utterances, `D`: features of an utterance) |
|---|---|---|
| `u` | `turn` | `(N, 1, D)` |
| `W_q`, `W_o` | `recall.ask`, `classify` | `(width, D)`, `(classes, width)` |
| local, memory GRUs | `recall.local`, `.memory` | two GRUs each, one per memory |

**Differences from the paper and from its public code**

- The public code pads the window on the left with empty utterances, and its memory GRUs read this padding. Scores therefore depend on the
  amount of padding. Here windows have no padding. An utterance without any modality is in no memory; its query is computed from zeros.
- Equation (4): in the public code, the softmax of each memory runs over the utterances of both memories. An utterance that is not in the
  memory gets attention weight, but adds 0 to (5). The code computes its score from the state of the memory GRU in the first hop, and from 0
  in later hops. The option `mask = "global"` reproduces this. With the default `"side"`, each softmax runs only over its memory.
- Paper and public code assume two speakers. With more speakers, "other" means all speakers except the speaker of the utterance.
- The public code selects the epoch on a random 60 per cent of the *test* utterances. It does not shuffle the training data, and its loss
  includes the zero rows that pad the last batch. In the code, the dropout value 0.3 is the share of values that are kept.
- We had no access to the paper's text. The paper probably has no tanh in (4), but separate memories for each speaker and each hop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.memory_bank import ChainedGRU, TurnChains, bounded_attention, recalled
from erc_graph.encoders.turns import OverTurns
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import Turn
from erc_graph.methods.ranges import Checked, Share, Size


@dataclass(frozen=True, kw_only=True)
class CMNConfig(Checked):
    """Options of CMN; symbols and numbers such as (4) refer to the equations in the docstring of the module.

    Attributes:
        width: Width of all states.
        hops: Number of times that an utterance attends to its memories.
        window: Largest number of earlier utterances in both memories together; `None`: all earlier utterances.
        mask: Utterances in each softmax of (4): those of its own memory (`side`), or of both memories (`global`, as in the authors' code).
        dropout: Dropout on the outputs of the local GRUs and on the attention weights.
    """

    width: Size = 100
    hops: Size = 3
    window: Size | None = 40
    mask: Literal["side", "global"] = "side"
    dropout: Share = 0.5


class TwoMemories(OverTurns):
    """Module for equations (1) to (5), with a memory for earlier utterances of the speaker, and a memory for those of other speakers.

    The method `forward` appends the attention weights of every memory and hop to the list `seen`: `(N, T)`, for windows of at most `T`.
    """

    causal = True

    def __init__(self, inputs: int, config: CMNConfig) -> None:
        super().__init__()
        self.config, self.past, width = config, config.window, config.width
        self.ask = nn.Linear(inputs, width)
        self.local, self.memory = ChainedGRU(2, inputs, width), ChainedGRU(2, width, width)
        self.dropout = Dropout(config.dropout)

    def forward(self, nodes: Nodes, batch: Batch, seen: list[Tensor] | None = None) -> Nodes:
        """Map states `(N, 1, inputs)` to `(N, 1, width)`."""
        u = nodes.masked()[:, 0]
        history = TurnChains.of(batch, nodes.present[:, 0], self.config.window)
        q = self.ask(u).tanh()  # Eq. (1)
        x = self.dropout(history.of_sides(self.local, u)).tanh()  # Eq. (2), (2, T, C, width)
        whole = history.of_turns(self.memory.over(x, history.here.expand_as(history.sides)))  # Eq. (3), (2, N, T, width)
        here = history.of_turns(history.sides)  # (2, N, T)
        memory = torch.where(here[..., None], whole, 0.0)
        heard = here & history.heard if self.config.mask == "side" else history.heard.expand_as(here)
        for hop in range(self.config.hops):
            a = bounded_attention(q, memory if hop else whole, heard)  # Eq. (4)
            if seen is not None:
                seen.extend(a)
            q = (q + recalled(self.dropout(a), memory)).tanh()  # Eq. (5)
        return nodes.with_states(q[:, None])


class CMN(Method):
    """Attention to two memories of earlier utterances, repeated in several hops."""

    Config = CMNConfig
    family = "recurrent"
    paper = Paper(
        title="Conversational Memory Network for Emotion Recognition in Dyadic Dialogue Videos",
        authors="Hazarika et al.",
        venue="NAACL-HLT",
        year=2018,
        url="https://aclanthology.org/N18-1193",
        code="https://github.com/declare-lab/conv-emotion",
    )

    def build(self, config: CMNConfig, shapes: Shapes) -> None:
        """Build the input layer, the memories, and the classifier."""
        self.turn = Turn(shapes.widths)
        self.recall = TwoMemories(self.turn.width, config)
        self.classify = nn.Linear(config.width, shapes.outputs)  # Eq. (6)

    def encode(self, given: Given) -> Tensor:
        """Compute the utterance states before the classifier, `(N, width)`."""
        return self.recall(self.turn(given), given.batch).states[:, 0]
