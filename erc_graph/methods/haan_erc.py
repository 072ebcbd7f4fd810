r"""HAAN-ERC: hierarchical adaptive attention network for multimodal emotion recognition in conversation.

Zhang and Tan, Neural Computing and Applications, 2023. Turns hear earlier turns of their own speaker, then those of others, where a
selector keeps or drops each pair; then all modalities hear each other. The equations are those of the public code; their numbers are ours.

.. math::
    x_m &= \mathrm{LN}(W_m f_m + \mathrm{PE}) \tag{1} \\
    k_{tj} &= \mathrm{argmax}\; V_2\, \mathrm{ReLU}(V_1 [U_0 x_t ; U_1 x_j]) \in \{0, 1\} \tag{2} \\
    a_{tj} &= \mathrm{softmax}_{j \in R(t),\, k_{tj} = 1}\; (W_q x_t) \cdot (W_k x_j) / \sqrt{d} \tag{3} \\
    x'_t &= \mathrm{LN}\big(x_t + W_o \textstyle\sum_j a_{tj} W_v x_j\big), \qquad
    \mathrm{Att}(x) = \mathrm{LN}(x' + W_2 \mathrm{ReLU}(W_1 x')) \tag{4} \\
    h_m &= \mathrm{Att}_{all}(\mathrm{Att}_{other}(\mathrm{Att}_{same}(x_m))) \tag{5} \\
    r &= \mathrm{FF}\big(\mathrm{LN}\big(\textstyle\sum_m \mathrm{softmax}_m (w_m \cdot h_m / \sqrt d)\, V h_m\big)\big) \tag{6} \\
    s &= C r + c \tag{7}

`R` of (3) is a turn itself and earlier turns of the same speaker, or earlier turns of others. Each stage of (5) has several layers, and a
selector (2) in the first; in the last every modality hears all turns of all.

| symbol | attribute | shape |
|---|---|---|
| `W_m`, LN of (1) | `project[m]`, `norm` | `(width, features)` |
| `U_0`, `U_1`, `V_1`, `V_2` | `same[m][0].attend.selector` | `(width, width)` twice, `(2 width, 2 width)`, `(2, 2 width)` |
| `W_q`, `W_k`, `W_v`, `W_o` | `same[m][l].attend`, `other`, `everyone[l].attend` | `(heads head_width, width)`, last transposed |
| `w_m`, `V`, FF | `asks`, `value`, `read` | `(modalities, width)`, `(width, width)` |

**Differences from the paper and from its public code**

- The paper's text was not at hand. The code has two models; this is the one for IEMOCAP.
- In the code the second stage of (5) also hears the same speaker: a slip in a comparison. Without another speaker a turn hears itself.
- In the code (2) is never trained, and a turn of which every pair is dropped hears all turns, later ones and padding. Here weights
  have the gradient that they would have with probabilities in the place of decisions, and a turn always keeps itself.
- The last stage of the code attends to padding and later turns. Padding is masked here, and with `causal` later turns are, too.
- (1): several texts (`text1` to `text4`) are a mean behind batch norms over true turns; the code counts padding.
- A missing modality is heard by nobody and has no share in (6).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.feedforward import FeedForward
from erc_graph.encoders.positions import Positions
from erc_graph.encoders.relation_attention import RelationAttention
from erc_graph.encoders.stream_attention import StreamAttention
from erc_graph.encoders.turns import OverTurns
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import MeanOfTexts
from erc_graph.methods.ranges import Checked, Share, Size

EPSILON = 1e-6  # of all layer norms


@dataclass(frozen=True, kw_only=True)
class HAANERCConfig(Checked):
    """HAAN-ERC.

    Attributes:
        causal: The last stage of (5) hears no later turns; the others never do.
        width: Of all states.
        layers: Of each stage.
        heads: Attention heads.
        head_width: `d`, of each.
        feedforward: Hidden width of (4) and (6).
        dropout: Behind (1), on attention weights, and on what a layer adds.
    """

    causal: bool = False
    width: Size = 128
    layers: Size = 3
    heads: Size = 8
    head_width: Size = 16
    feedforward: Size = 256
    dropout: Share = 0.1


class Layer(nn.Module):
    """`Att`: Eq. (4)."""

    def __init__(self, c: HAANERCConfig, attend: OverTurns) -> None:
        super().__init__()
        self.attend, self.norm, self.dropout = attend, nn.LayerNorm(c.width, eps=EPSILON), Dropout(c.dropout)
        self.feedforward = FeedForward(c.width, c.feedforward, c.dropout, epsilon=EPSILON)

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """`(N, S, width)` → the same."""
        heard = self.norm(nodes.masked() + self.dropout(self.attend(nodes, batch).states))  # Eqs. (2), (3)
        return nodes.with_states(self.feedforward(heard))  # Eq. (4)


class HAANERC(Method):
    """Attention to the same speaker, to others and to all modalities."""

    Config = HAANERCConfig
    family = "transformer"
    paper = Paper(
        title="Hierarchical adaptive attention network for multimodal emotion recognition in conversation",
        authors="Zhang and Tan",
        venue="Neural Computing and Applications",
        year=2023,
        code="https://github.com/TAN-OpenLab/HAAN-ERC",
    )

    def build(self, c: HAANERCConfig, shapes: Shapes) -> None:
        """The parts in the order of the equations."""
        self.texts = MeanOfTexts(shapes.widths)
        self.couples_batch, self.names = self.texts.couples_batch, tuple(self.texts.widths)
        self.project = nn.ModuleDict({m: nn.Linear(inputs, c.width) for m, inputs in self.texts.widths.items()})
        self.positions, self.dropout, self.norm = Positions(), Dropout(c.dropout), nn.LayerNorm(c.width, eps=EPSILON)

        size = {"heads": c.heads, "head_width": c.head_width}

        def stage(relation: str) -> nn.ModuleDict:
            return nn.ModuleDict({m: nn.ModuleList(Layer(c, attend(relation, k)) for k in range(c.layers)) for m in self.names})

        def attend(relation: str, k: int) -> OverTurns:
            return RelationAttention(c.width, relation, **size, dropout=c.dropout, selector=not k)

        self.same, self.other = stage("same"), stage("other")
        asks = [StreamAttention(c.width, **size, bias=False, dropout=c.dropout, causal=c.causal, together=True) for _ in range(c.layers)]
        self.everyone = nn.ModuleList(Layer(c, attend) for attend in asks)
        self.asks, self.value = nn.Parameter(torch.randn(len(self.names), c.width)), nn.Linear(c.width, c.width, bias=False)
        self.read_norm, self.read = nn.LayerNorm(c.width, eps=EPSILON), FeedForward(c.width, c.feedforward, c.dropout, epsilon=EPSILON)
        self.classify = nn.Linear(c.width, shapes.outputs)  # Eq. (7)

    def streams(self, given: Given) -> Nodes:
        """`h`: `(N, modalities, width)`."""
        given = self.texts(given)
        rows = torch.stack([self.project[m](given.values[m]) for m in self.names], 1)
        nodes = self.positions(Nodes(rows, given.here(self.names), self.names), given.batch)
        nodes = nodes.with_states(self.norm(self.dropout(nodes.states)))  # Eq. (1)
        found = []
        for k, m in enumerate(self.names):
            one = nodes.take(k)
            for stage in (self.same[m], self.other[m]):
                for layer in cast(nn.ModuleList, stage):
                    one = layer(one, given.batch)
            found.append(one.states)
        nodes = nodes.with_states(torch.cat(found, 1))
        for layer in self.everyone:
            nodes = layer(nodes, given.batch)  # Eq. (5)
        return nodes

    def encode(self, given: Given) -> Tensor:
        """`r`: `(N, width)`."""
        h = self.streams(given)
        states, here = h.masked(), h.present | ~h.present.any(1, keepdim=True)
        score = (states * self.asks).sum(-1) / states.shape[-1] ** 0.5
        share = score.masked_fill(~here, -torch.inf).softmax(1)
        return self.read(self.read_norm((share[..., None] * self.value(states)).sum(1)))  # Eq. (6)
