r"""ICON: Interactive Conversational Memory Network for Multimodal Emotion Detection (Hazarika et al., EMNLP 2018).

A turn asks one memory of what was said before, own and others' turns in their order; between two questions the memory reads itself.

.. math::
    q_i &= \tanh(W_q u_i + b_q) \tag{1} \\
    y_k &= \mathrm{GRU}_s(u_k) \qquad s \text{ is own or other, as } k\text{'s speaker is } i\text{'s or not} \tag{2} \\
    M^1 &= \mathrm{GRU}_{\text{global}}(\tanh y) \tag{3} \\
    M^h &= \mathrm{GRU}_{\text{memory}}(M^{h-1}) \qquad h > 1 \tag{4} \\
    a_k &= \mathrm{softmax}_k \tanh(q_i \cdot M^h_k) \tag{5} \\
    q_i &\leftarrow \tanh\Big(q_i + \sum_k a_k M^h_k\Big) \qquad \text{(4)-(6) once per hop} \tag{6} \\
    o_i &= W_o q_i + b_o \tag{7}

The equations are those of the public code; their numbers are ours. `k` runs over the turns before `i`, at most `window` of them. Of (2)
the GRU of the other side stands still.

| symbol | attribute | shape |
|---|---|---|
| `u` | `turn` | `(N, 1, D)` |
| `W_q` | `recall.ask` | `(width, D)` |
| own, other | `recall.local` | two GRUs side by side |
| global, memory | `recall.whole`, `.rewrite` | one each; `rewrite` serves all later hops |
| `W_o` | `classify` | `(classes, width)` |

**Differences from the paper and from its public code**

- The code fills the window with empty turns on the left. (3) and (4) read them, so that each hop drifts and a turn's scores depend on
  the size of an unfilled window. Here there are only turns that were said. A turn without any modality is none of them; it asks with zeros.
- In place of raw vectors the code takes those of a network that was trained on the labels and read whole dialogues, so that its model
  is causal in name alone. Here features are what the corpus has.
- With more than two speakers, which paper and code do not know, "other" is everybody else.
- The code chooses its epoch on a random 60 per cent of the *test* turns, never shuffles, and pads its last batch. Here the training loop
  does what it does for every method. A keep probability of 0.3 there is a dropout of 0.7.
- The paper's text was not at hand; its scores have no tanh, it seems.
"""

from __future__ import annotations

from dataclasses import dataclass

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
class ICONConfig(Checked):
    """ICON.

    Attributes:
        width: Of all states.
        hops: How often the memory is asked.
        window: Most earlier turns that are heard; unset: all.
        dropout: Behind the GRUs of (2) and on the attention.
    """

    width: Size = 100
    hops: Size = 3
    window: Size | None = 40
    dropout: Share = 0.5


class OneMemory(OverTurns):
    """Eqs. (1)-(6); `seen` gets the attention of every hop: `(N, T)`."""

    causal = True

    def __init__(self, inputs: int, config: ICONConfig) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.ask = nn.Linear(inputs, width)
        self.local, self.whole = ChainedGRU(2, inputs, width), ChainedGRU(1, width, width)
        self.rewrite = ChainedGRU(1, width, width) if config.hops > 1 else None
        self.dropout = Dropout(config.dropout)

    @property
    def past(self) -> int | None:
        """The window."""
        return self.config.window

    def forward(self, nodes: Nodes, batch: Batch, seen: list[Tensor] | None = None) -> Nodes:
        """`(N, 1, inputs)` → `(N, 1, width)`"""
        u = nodes.masked()[:, 0]
        history = History.of(batch, nodes.present[:, 0], self.config.window)
        here, sides = history.here[None], torch.stack([history.own, history.here & ~history.own])  # (2, T, C)
        q = self.ask(u).tanh()  # Eq. (1)
        y = torch.where(sides[..., None], self.local(self.local.before(u)[:, history.rows], sides), 0.0)  # Eq. (2)
        memory = self.whole.over(self.dropout(y).sum(0, keepdim=True).tanh(), here)  # Eq. (3), (1, T, C, width)
        for hop in range(self.config.hops):
            if hop and self.rewrite is not None:
                memory = self.rewrite.over(memory, here)  # Eq. (4)
            said = history.of_turns(memory)  # (1, N, T, width)
            a = bounded_attention(q, said, history.heard[None])  # Eq. (5)
            if seen is not None:
                seen.extend(a)
            q = (q + recalled(self.dropout(a), said)).tanh()  # Eq. (6)
        return nodes.with_states(q[:, None])


class ICON(Method):
    """One memory of what was said before, asked several times and rewritten between."""

    Config = ICONConfig
    family = "recurrent"
    paper = Paper(
        title="ICON: Interactive Conversational Memory Network for Multimodal Emotion Detection",
        authors="Hazarika et al.",
        venue="EMNLP",
        year=2018,
        code="https://github.com/declare-lab/conv-emotion",
    )

    def build(self, config: ICONConfig, shapes: Shapes) -> None:
        """The turn, its memory, the classifier."""
        self.turn = Turn(shapes.widths)
        self.recall = OneMemory(self.turn.width, config)
        self.classify = nn.Linear(config.width, shapes.outputs)  # Eq. (7)

    def encode(self, given: Given) -> Tensor:
        """`(N, width)`"""
        return self.recall(self.turn(given), given.batch).states[:, 0]
