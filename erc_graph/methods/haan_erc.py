r"""HAAN-ERC: hierarchical adaptive attention network for multimodal ERC (Zhang and Tan, Neural Computing and Applications, 2023).

In each modality, an utterance attends to earlier utterances of its speaker, then of other speakers. A selector network decides which
utterances attend to which. Then all modalities attend to each other. The equations follow the public code; the numbering is ours.

.. math::
    x_m &= \mathrm{LN}(W_m f_m + b_m + \mathrm{PE}) \tag{1} \\
    k_{tj} &= \mathrm{argmax}\; V_2\, \mathrm{ReLU}(V_1 [U_0 x_t ; U_1 x_j]) \in \{0, 1\} \tag{2} \\
    a_{tj} &= \mathrm{softmax}_{j \in R(t),\, k_{tj} = 1}\; (W_q x_t) \cdot (W_k x_j) / \sqrt{d_k} \tag{3} \\
    \mathrm{Att}(x)_t &= \mathrm{FF}\big(\mathrm{LN}(x_t + W_o \textstyle\sum_j a_{tj} W_v x_j)\big), \qquad
    \mathrm{FF}(y) = \mathrm{LN}(y + W_2\, \mathrm{ReLU}(W_1 y)) \tag{4} \\
    h_m &= \mathrm{Att}_{all}(\mathrm{Att}_{other}(\mathrm{Att}_{same}(x_m))) \tag{5} \\
    r &= \mathrm{FF}\big(\mathrm{LN}\big(\textstyle\sum_m \mathrm{softmax}_m (w_m \cdot h_m / \sqrt d)\, V h_m\big)\big) \tag{6} \\
    s &= C r + c \tag{7}

Equation (5) has three stages of several layers. In the first stage, `R(t)` contains utterance `t` and earlier utterances of its speaker. In
the second stage, `R(t)` contains earlier utterances of other speakers. In the last stage, every modality attends to all utterances of all
modalities. Only the first layers of the first two stages have a selector (2). In training, Gumbel noise is added before the argmax of (2).

| symbol | attribute | shape |
|---|---|---|
| `W_m`, LN of (1) | `project.project[m]`, `norm` | `(width, features)` |
| `U_0`, `U_1`; `V_1`; `V_2` | `own[m][l].attend.selector` | `(width, width)`; `(2 width, 2 width)`; `(2, 2 width)` |
| `W_q`, `W_k`, `W_v`, `W_o` | `own[m][l].attend`, `all[l].attend` | `(heads · d_k, width)`; `W_o`: `(width, heads · d_k)` |
| `w_m`, `V`, FF | `asks`, `value`, `read` | `(modalities, width)`, `(width, width)`, hidden width `feedforward` |

**Differences from the paper and from its public code**

- We had no access to the paper's text. The public code has two models; the model for IEMOCAP is implemented here. In each epoch, the code
  evaluates this model on test data.
- By mistake, the second stage of (5) in the public code also attends to utterances of the same speaker. This mistake is corrected here. An
  utterance without earlier utterances of other speakers attends to itself.
- In the public code, the selector (2) gets no gradient; here the gradient treats decisions as probabilities (straight-through). If all its
  pairs are dropped, an utterance attends to itself; in the public code, to all utterances, even later ones, and padding.
- The last stage of the code attends to padding and later utterances. Here padding is masked, and with `causal` also later utterances.
- Equation (1): text features (`text1` to `text4`) are averaged, each after a batch norm. In the public code, this norm includes padding.
- No node attends to a missing modality, and the weight of a missing modality in (6) is zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from erc_graph.data.nodes import Nodes
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.feedforward import AttentionLayer, FeedForward
from erc_graph.encoders.positions import Positions
from erc_graph.encoders.relation_attention import RelationAttention
from erc_graph.encoders.stream_attention import StreamAttention
from erc_graph.encoders.turns import OverTurns
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import MeanOfTexts, Stack, Streams
from erc_graph.methods.ranges import Causal, Share, Size


@dataclass(frozen=True, kw_only=True)
class HAANERCConfig(Causal):
    """Options of HAAN-ERC; symbols and numbers such as (4) refer to the equations in the docstring of the module.

    Attributes:
        width: Width `d` of all states.
        layers: Number of layers in each of the three stages of (5).
        heads: Number of attention heads.
        head_width: Width `d_k` of each head.
        feedforward: Hidden width of FF in (4) and (6).
        dropout: Dropout after (1), on attention weights, and on the output of each layer.
    """

    width: Size = 128
    layers: Size = 3
    heads: Size = 8
    head_width: Size = 16
    feedforward: Size = 256
    dropout: Share = 0.1


class HAANERC(Method):
    """Attention to utterances of the same speaker, then to utterances of other speakers, then to all modalities."""

    Config = HAANERCConfig
    family = "transformer"
    paper = Paper(
        title="Hierarchical adaptive attention network for multimodal emotion recognition in conversation",
        authors="Zhang and Tan",
        venue="Neural Computing and Applications",
        year=2023,
        url="https://doi.org/10.1007/s00521-023-08638-2",
        code="https://github.com/TAN-OpenLab/HAAN-ERC",
    )

    def build(self, c: HAANERCConfig, shapes: Shapes) -> None:
        """Build the modules in the order of the method's equations."""
        self.texts = MeanOfTexts(shapes.widths)
        self.couples_batch, self.names = self.texts.couples_batch, tuple(self.texts.widths)
        self.project, self.positions, self.dropout = Streams(self.texts.widths, c.width), Positions(), Dropout(c.dropout)
        self.norm, self.read_norm = (nn.LayerNorm(c.width, eps=1e-6) for _ in range(2))
        size: Any = {"heads": c.heads, "head_width": c.head_width, "dropout": c.dropout}
        last: Any = {"hidden": c.feedforward, "dropout": c.dropout, "epsilon": 1e-6}

        def layers(attend: Iterable[OverTurns]) -> Stack:
            return Stack(AttentionLayer(one, c.width, **last) for one in attend)

        stages = [(who, not k) for who in ("same", "other") for k in range(c.layers)]
        self.own = nn.ModuleDict({m: layers(RelationAttention(c.width, who, **size, selector=s) for who, s in stages) for m in self.names})
        self.all = layers(StreamAttention(c.width, **size, bias=False, causal=c.causal, together=True) for _ in range(c.layers))
        self.asks, self.value = nn.Parameter(torch.randn(len(self.names), c.width)), nn.Linear(c.width, c.width, bias=False)
        self.read, self.classify = FeedForward(c.width, **last), nn.Linear(c.width, shapes.outputs)  # Eq. (7)

    def streams(self, given: Given) -> Nodes:
        """Compute the node states `h`: `(N, modalities, width)`."""
        nodes = self.positions(self.project(self.texts(given)), given.batch)
        nodes = nodes.with_states(self.norm(self.dropout(nodes.states)))  # Eq. (1)
        found = [own(nodes.take(k), given.batch).states for k, own in enumerate(self.own.values())]  # Eqs. (2)-(4)
        return self.all(nodes.with_states(torch.cat(found, 1)), given.batch)  # Eq. (5)

    def encode(self, given: Given) -> Tensor:
        """Compute the utterance states `r`: `(N, width)`."""
        h = self.streams(given)
        states, here = h.masked(), h.present | ~h.present.any(1, keepdim=True)
        score = (states * self.asks).sum(-1) / states.shape[-1] ** 0.5
        share = score.masked_fill(~here, -torch.inf).softmax(1)
        return self.read(self.read_norm((share[..., None] * self.value(states)).sum(1)))  # Eq. (6)
