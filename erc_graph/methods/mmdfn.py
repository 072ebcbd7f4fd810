r"""MM-DFN: Multimodal Dynamic Fusion Network for Emotion Recognition in Conversations (Hu et al., ICASSP 2022).

The graph is the graph of MMGCN (`erc_graph.methods.mmgcn`). The node state of an utterance also contains the state of a GRU that reads only
utterances of the same speaker. An LSTM cell over the depth of the network gates the messages of each graph layer.

.. math::
    x^\tau &= W_\tau u^\tau + b_\tau, \qquad c^t = \mathrm{BiGRU}(x^t), \quad c^a = x^a, \quad c^v = x^v \tag{1} \\
    z^\tau &= \mathrm{BiGRU}_S(x^\tau \text{ of the speaker's own turns}), \qquad n^\tau = c^\tau + w_\tau z^\tau \tag{2} \\
    A_{ij} &= 1 - \arccos(\cos(n_i, n_j)) / \pi, \qquad P = D^{-1/2} A D^{-1/2} \tag{3} \\
    h^0 &= \mathrm{ReLU}(n W_0 + b_0), \qquad q_0 = h^0 \tag{4} \\
    g_l, c_l &= \mathrm{LSTM}(q_{l-1};\, g_{l-1}, c_{l-1}), \qquad k = P g_l \tag{5} \\
    q_l &= q_{l-1} + \mathrm{ReLU}\big((1 - \beta_l)((1 - \alpha) k + \alpha h^0) + \beta_l [k ; h^0] W_l\big), \quad
    \beta_l = \ln(\eta / l + 1) \tag{6} \\
    s_i &= W\, \mathrm{ReLU}([n^\tau_i ; q^\tau_{K,i}]_\tau) + b \tag{7}

The edges in (3) are the edges of MMGCN. The equations follow the public code; the numbering is ours.

| symbol | attribute | shape |
|---|---|---|
| `W_τ`, `b_τ` | `streams.project[τ]` | `(width, features)`, `(width,)` |
| both GRUs, of two layers | `context`, `own.net` | both directions `width` wide together |
| `W_0`, `b_0` | `conv.first` | `(hidden, width)`, `(hidden,)` |
| LSTM | `conv.gate` | one cell for all layers and nodes |
| `W_l` | `conv.weights[l - 1]` | `(2 hidden, hidden)` |
| `W`, `b` | `classify` | `(labels, S (width + hidden))`, `(labels,)` |

**Differences from the paper and from its public code**

- We had no access to the paper's text. As far as we remember, the paper has a square matrix `W_l`, and (6) adds `g_l` instead of `q_{l-1}`.
- The GRU of (1) stops at the last utterance of the dialogue, and the GRU of (2) stops at the last utterance of the speaker. In the public
  code, both GRUs also read padding; the GRU of (2) does so even for a single dialogue. The published results come from this code. They are
  the best of 32 or 48 settings on the test data.
- The arccos in (3) is bounded as in `erc_graph.graphs.weights`. Edge weights differ from those of the public code by at most 0.0015. A node
  state of zeros makes the scores of the public code NaN.
- The default loss is cross entropy. The public code has a focal loss, and no gradient passes through its factor. The option
  `training.loss = "focal"` gives nearly this loss.
- Speakers are numbered by first appearance. In the public code, 38 tensors, such as speaker embeddings, are unused; they are left out here.
- A missing modality has no node; both GRUs read zeros for it, and its states in (7) are zero. The public code needs three modalities.
- With the option `causal`, the GRUs read only forward, and edges from later utterances are left out. The paper reads whole conversations.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from erc_graph.conv.angular.angular import AngularConv, AngularConvConfig
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.own_turns import OwnTurns
from erc_graph.encoders.recurrent import Recurrent
from erc_graph.encoders.turns import over_turns
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import Streams
from erc_graph.methods.ranges import Causal, Even, Fraction, Graph, Positive, Share, Size


@dataclass(frozen=True, kw_only=True)
class MMDFNConfig(Causal):
    """Options of MM-DFN.

    Attributes:
        graph: Graph recipe.
        width: Width of the encoders' states.
        hidden: Hidden width of the graph layers.
        layers: Number of graph layers, `K`.
        alpha: Share α of `h^0` in every layer.
        eta: Strength η of the matrices `W_l`, from which β_l is computed.
        speaker: Modality → weight `w_τ` of the speaker states `z` in (2); default: one.
        dropout: Dropout between the layers of both GRUs, on `n` and `q_0`, after each graph layer, and before the classifier.
    """

    graph: Graph = "mmgcn"
    width: Even = 128
    hidden: Size = 64
    layers: Size = 16
    alpha: Fraction = 0.2
    eta: Positive = 0.5
    speaker: dict[str, float] = field(default_factory=dict)
    dropout: Share = 0.4


class MMDFN(Method):
    """Deep graph convolution over one node per utterance and modality, with an LSTM gate over the depth."""

    Config = MMDFNConfig
    paper = Paper(
        title="MM-DFN: Multimodal Dynamic Fusion Network for Emotion Recognition in Conversations",
        authors="Hu et al.",
        venue="ICASSP",
        year=2022,
        url="https://arxiv.org/abs/2203.02385",
        code="https://github.com/zerohd4869/MM-DFN",
    )

    def build(self, c: MMDFNConfig, shapes: Shapes) -> None:
        """Build the encoders, the graph network and the classifier."""
        net = partial(Recurrent, "gru", c.width, c.width, bidirectional=not c.causal, layers=2, dropout=c.dropout)
        self.streams = Streams(shapes.widths, c.width)
        self.context = net() if "text" in shapes.widths else None
        self.own = OwnTurns(net())
        self.shares = [c.speaker.get(name, 1.0) for name in self.streams.names]
        gcnii = AngularConvConfig(depth=c.layers, alpha=c.alpha, lambda_=c.eta, gate=True)
        self.conv = AngularConv(c.width, self.recipe, gcnii, hidden=c.hidden, dropout=c.dropout)
        # Eq. (7)
        self.classify = nn.Sequential(Dropout(c.dropout), nn.ReLU(), nn.Linear(len(self.shares) * self.conv.width, shapes.outputs))

    def encode(self, given: Given) -> Tensor:
        """Compute the states of `N` utterances before the classifier, `(N, S (width + hidden))` for `S` modalities."""
        x = self.streams(given)  # Eq. (1), (N, S, width)
        rows = dict(zip(x.streams, x.masked().unbind(1), strict=True))
        if self.context is not None:
            rows["text"] = over_turns(self.context, rows["text"], given.batch)
        share = x.states.new_tensor(self.shares)[:, None]
        n = torch.stack(list(rows.values()), 1) + share * self.own(x, given.batch).states  # Eq. (2)
        return self.conv(x.with_states(n), given.batch).states.flatten(1)  # Eqs. (3)-(6)
