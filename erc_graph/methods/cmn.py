r"""CMN: Conversational Memory Network for Emotion Recognition in Dyadic Dialogue Videos (Hazarika et al., NAACL-HLT 2018).

An utterance queries two memories: earlier utterances of its own speaker, and those of all other speakers. Each answer refines the next
query.

.. math::
    q_i &= \tanh(W_q u_i + b_q) \tag{1} \\
    X^s_k &= \tanh(\mathrm{GRU}^{\text{local}}_s(u_k)) \qquad s \in \{\text{own}, \text{other}\} \tag{2} \\
    M^s &= \mathrm{GRU}^{\text{memory}}_s(X^s) \tag{3} \\
    a^s_k &= \mathrm{softmax}_{k \in s} \tanh(q_i \cdot M^s_k) \tag{4} \\
    q_i &\leftarrow \tanh\Big(q_i + \sum_s \sum_{k \in s} a^s_k M^s_k\Big) \qquad \text{(4), (5) once per hop} \tag{5} \\
    o_i &= W_o q_i + b_o \tag{6}

The equations follow the public code; the numbering is ours. `k` runs over at most `window` utterances before `i`. Each `s` has a local GRU.
At an utterance that is not of `s`, it keeps its state and `X^s` is 0, which the memory GRU reads. GRUs are TensorFlow's.

| symbol | attribute | shape |
|---|---|---|
| `u` | `turn` | `(N, 1, D)` |
| `W_q` | `recall.ask` | `(width, D)` |
| local, memory GRUs | `recall.local`, `.memory` | two GRUs each: own, other |
| `W_o` | `classify` | `(classes, width)` |

**Differences from the paper and from its public code**

- The public code fills the window with empty utterances on the left, which its memory GRUs read. Scores thus depend on the number of empty
  utterances. Here only real utterances count. An utterance without any modality enters no memory; as a query it reads zeros.
- Eq. (4): in the public code, the softmax of each side runs over the utterances of both sides. Utterances of the other side take attention
  weight and add 0 to (5). In the first hop, their scores even come from the memory GRU's states. `mask = "global"` reproduces this; the
  default is `"side"`.
- Paper and public code assume two speakers. With more speakers, "other" means all speakers except that of the utterance.
- The public code selects its epoch on a random 60 per cent of the *test* utterances. It does not shuffle, and its loss counts the zero rows
  that pad the last batch. Here all methods share one training loop. The code's 0.3 is the share that dropout keeps.
- We had no access to the paper's text. The paper seems to have no tanh in (4), a history per speaker, and separate memories for each hop.
  Here, as in the code, one pair of memories serves all hops.
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
    """Options of CMN.

    Attributes:
        width: Width of all states.
        hops: Number of queries per utterance.
        window: Largest number of earlier utterances in the memories; default: all.
        mask: Utterances in the softmax of (4): those of one `side`, or of both (`global`), as in the public code.
        dropout: Dropout on the outputs of the local GRUs and on the attention weights.
    """

    width: Size = 100
    hops: Size = 3
    window: Size | None = 40
    mask: Literal["side", "global"] = "side"
    dropout: Share = 0.5


class TwoMemories(OverTurns):
    """The two memories of Eqs. (1)-(5): the speaker's own utterances, and those of other speakers.

    In every hop, the list `seen` receives the attention weights over the first and over the second memory: `(N, T)` each.
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
    """Two memories of earlier utterances, queried several times."""

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
        """Build the utterance vectors, their memories, and the classifier."""
        self.turn = Turn(shapes.widths)
        self.recall = TwoMemories(self.turn.width, config)
        self.classify = nn.Linear(config.width, shapes.outputs)  # Eq. (6)

    def encode(self, given: Given) -> Tensor:
        """Compute the utterance states before the classifier, `(N, width)`."""
        return self.recall(self.turn(given), given.batch).states[:, 0]
