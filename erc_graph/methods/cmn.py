r"""CMN: Conversational Memory Network for Emotion Recognition in Dyadic Dialogue Videos (Hazarika et al., NAACL-HLT 2018).

A turn asks two memories, of what its own speaker said before and of what the others said, and asks again with what it has heard.

.. math::
    q_i &= \tanh(W_q u_i + b_q) \tag{1} \\
    X^s_k &= \tanh(\mathrm{GRU}^{\text{local}}_s(u_k)) \qquad s \in \{\text{own}, \text{other}\} \tag{2} \\
    M^s &= \mathrm{GRU}^{\text{memory}}_s(X^s) \tag{3} \\
    a^s_k &= \mathrm{softmax}_k \tanh(q_i \cdot M^s_k) \tag{4} \\
    q_i &\leftarrow \tanh\Big(q_i + \sum_s \sum_{k \in s} a^s_k M^s_k\Big) \qquad \text{(4), (5) once per hop} \tag{5} \\
    o_i &= W_o q_i + b_o \tag{6}

The equations are those of the public code; their numbers are ours. `k` runs over the turns before `i`, at most `window` of them. A local
GRU stands still where the other side speaks, and has the output 0 there; a memory GRU reads these zeros.

| symbol | attribute | shape |
|---|---|---|
| `u` | `turn` | `(N, 1, D)` |
| `W_q` | `recall.ask` | `(width, D)` |
| local, memory | `recall.local`, `.memory` | two GRUs each: own, other |
| `W_o` | `classify` | `(classes, width)` |

**Differences from the paper and from its public code**

- The code fills the window with empty turns on the left and reads them, so that a turn's scores depend on the size of an unfilled window.
  Here there are only turns that were said. A turn without any modality is none of them; it asks with zeros.
- (4): in the code each side's softmax runs over the turns of both, so that the other side takes weight and says nothing (`mask = "global"`;
  in the first hop it is even scored by its state). The default is over the side's own turns.
- With more than two speakers, which paper and code do not know, "other" is everybody else.
- The code chooses its epoch on a random 60 per cent of the *test* turns, never shuffles, and pads its last batch. Here the training loop
  does what it does for every method. A keep probability of 0.3 there is a dropout of 0.7.
- The paper's text was not at hand. It has no tanh around the scores, and other memories per hop; in the code, and here, one set serves all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.memory_bank import ChainedGRU, History, bounded_attention, recalled
from erc_graph.encoders.turns import OverTurns
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import Turn
from erc_graph.methods.ranges import Checked, Share, Size


@dataclass(frozen=True, kw_only=True)
class CMNConfig(Checked):
    """CMN.

    Attributes:
        width: Of all states.
        hops: How often the memories are asked.
        window: Most earlier turns that are heard; unset: all.
        mask: Over whose turns (4) runs: the `side`'s own, or, as in the code, all (`global`).
        dropout: Behind the local GRUs and on the attention.
    """

    width: Size = 100
    hops: Size = 3
    window: Size | None = 40
    mask: Literal["side", "global"] = "side"
    dropout: Share = 0.5


class TwoMemories(OverTurns):
    """Eqs. (1)-(5); `seen` gets the attention of every hop, own then other: `(N, T)` each."""

    causal = True

    def __init__(self, inputs: int, config: CMNConfig) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.ask = nn.Linear(inputs, width)
        self.local, self.memory = ChainedGRU(2, inputs, width), ChainedGRU(2, width, width)
        self.dropout = Dropout(config.dropout)

    @property
    def past(self) -> int | None:
        """The window."""
        return self.config.window

    def forward(self, nodes: Nodes, batch: Batch, seen: list[Tensor] | None = None) -> Nodes:
        """`(N, 1, inputs)` → `(N, 1, width)`"""
        u = nodes.masked()[:, 0]
        history = History.of(batch, nodes.present[:, 0], self.config.window)
        sides = torch.stack([history.own, history.here & ~history.own])  # (2, T, C)
        q = self.ask(u).tanh()  # Eq. (1)
        local = torch.where(sides[..., None], self.local(self.local.before(u)[:, history.rows], sides), 0.0)
        x = self.dropout(local).tanh()  # Eq. (2), (2, T, C, width)
        whole = history.of_turns(self.memory.over(x, history.here.expand_as(sides)))  # Eq. (3), (2, N, T, width)
        here = history.of_turns(sides)  # (2, N, T)
        memory = torch.where(here[..., None], whole, 0.0)
        heard = here & history.heard if self.config.mask == "side" else history.heard.expand_as(here)
        for hop in range(self.config.hops):
            a = bounded_attention(q, memory if hop else whole, heard)  # Eq. (4)
            if seen is not None:
                seen.extend(a)
            q = (q + recalled(self.dropout(a), memory)).tanh()  # Eq. (5)
        return nodes.with_states(q[:, None])


class CMN(Method):
    """Two memories of what was said before, asked several times."""

    Config = CMNConfig
    family = "recurrent"
    paper = Paper(
        title="Conversational Memory Network for Emotion Recognition in Dyadic Dialogue Videos",
        authors="Hazarika et al.",
        venue="NAACL-HLT",
        year=2018,
        code="https://github.com/declare-lab/conv-emotion",
    )

    def build(self, config: CMNConfig, shapes: Shapes) -> None:
        """The turn, its memories, the classifier."""
        self.turn = Turn(shapes.widths)
        self.recall = TwoMemories(self.turn.width, config)
        self.classify = nn.Linear(config.width, shapes.outputs)  # Eq. (6)

    def encode(self, given: Given) -> Tensor:
        """`(N, width)`"""
        return self.recall(self.turn(given), given.batch).states[:, 0]
