r"""M3NET: Multivariate, Multi-frequency and Multimodal: Rethinking Graph Neural Networks for ERC (Chen et al., CVPR 2023).

Each utterance has one node per modality. A hypergraph network and a multi-frequency graph network process these nodes in parallel. We had
no access to the paper's text. The equations follow the public code; the numbering is ours.

.. math::
    u_i &= \tfrac14 \textstyle\sum_{k=1}^4 \mathrm{BatchNorm}_k(r_{k,i}) \tag{1} \\
    x^l &= \mathrm{BiGRU}(W_l u + b_l) + S_{s(i)}, \qquad x^a = W_a r^a + b_a, \qquad x^v = W_v r^v + b_v \tag{2} \\
    z^0 &= y^0 = W_1 x + b_1 \tag{3} \\
    m_e &= B_e^{-1} \textstyle\sum_{v \in e} z_v, \qquad
    z_v \leftarrow \mathrm{LeakyReLU}_{0.01}\big(D_v^{-1} \sum_{e \ni v} m_e + b\big) \tag{4} \\
    y_i &\leftarrow y_i + \textstyle\sum_j \tanh(g^\top [y_i ; y_j] + c) \, y_j / \sqrt{d_i d_j} \tag{5} \\
    \mathrm{scores}_i &= W \, \mathrm{ReLU}([z^\tau_i ; y^\tau_i]_\tau) + b \tag{6}

Eq. (4) has `N_L` layers, and (5) has `N_K` layers. A hyperedge joins all nodes of a modality in a dialogue, or all nodes of an utterance.

| symbol | attribute | shape |
|---|---|---|
| `BatchNorm_k` | `texts.norm[k]` | `(features,)` |
| `W_l`, `W_a`, `W_v` | `streams.project[τ]` | `(width, features)` |
| `S` | `speaker.embedding` times `speaker.weight` | `(speakers, width)` |
| `W_1`, `b_1` | `node` | `(hidden, width)`, `(hidden,)` |
| `b` of (4) | `hypergraph.bias[l - 1]` | `(hidden,)` |
| `g`, `c` | `frequencies.gate[k - 1]`, `frequencies.bias[k - 1]` | `(2, hidden)`, `()` |
| `W`, `b` of (6) | `classify` | `(labels, S · 2 hidden)`, `(labels,)` |

Differences from the paper and from its public code:

- By default, all hyperedges and nodes have the weight one. In the public code, each position in the batch has a learned weight. The scores
  of a dialogue therefore depend on its position in the batch. Because the training order never changes, such a weight can memorise a
  dialogue. Positions that do not occur in training have the weight one. With the option `weights = "kind"`, each kind of hyperedge and each
  modality has a positive learned weight. The means in (4) are then weighted means.
- If the corpus has a single text feature, (1) is left out. Several text features (`text1` to `text4`: the last layers of RoBERTa) are
  averaged by (1). The batch norms in (1) use only utterances that have the feature; in the public code, they also use padding. In training,
  these batch norms make the dialogues of a batch depend on each other.
- The text always has a linear map before the GRU; in the public code, only if the width of the text is not `width` (as for IEMOCAP).
- The GRU stops at the end of a dialogue. In the public code, the GRU also reads padding, so the scores depend on the batch.
- Speakers are numbered by order of appearance, so the names of speakers have no effect.
- For MELD, the public code uses a variant of the focal loss: `training.loss = "legacy_focal"` (see `erc_graph.methods.mmgcn`).
- A missing modality has no node and is in no hyperedge; its states in (6) are zero. The public code needs three modalities.
- The method is never causal, because the hyperedge of a modality joins all utterances.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from erc_graph.conv.gated import Gated
from erc_graph.conv.hypergraph import Hypergraph
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.recurrent import Recurrent
from erc_graph.encoders.speaker import SpeakerEmbedding
from erc_graph.errors import ConfigError
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import MeanOfTexts, Streams, added
from erc_graph.methods.ranges import Checked, Even, Graph, Share, Size


@dataclass(frozen=True, kw_only=True)
class M3NETConfig(Checked):
    """Options of M3NET.

    Attributes:
        graph: Graph recipe of both graph networks.
        causal: Must be false, because the hyperedge of a modality joins all utterances.
        width: Width of the encoders' states.
        hidden: Width of the nodes.
        hyper_layers: Number `N_L` of hypergraph layers (4).
        layers: Number `N_K` of multi-frequency layers (5).
        weights: Weights of hyperedges and nodes: all one (`uniform`), or one learned weight per kind of hyperedge and per modality
            (`kind`).
        dropout: Dropout between the layers of the GRU and before the classifier.
    """

    graph: Graph = "m3net"
    causal: bool = False
    width: Even = 128
    hidden: Size = 128
    hyper_layers: Size = 3
    layers: Size = 4
    weights: Literal["uniform", "kind"] = "uniform"
    dropout: Share = 0.5


class M3NET(Method):
    """Hypergraph convolution over modalities and utterances, in parallel to graph convolution with gates between -1 and 1."""

    Config = M3NETConfig
    can_be_causal = False
    paper = Paper(
        title="Multivariate, Multi-frequency and Multimodal: Rethinking Graph Neural Networks for Emotion Recognition in Conversation",
        authors="Chen et al.",
        venue="CVPR",
        year=2023,
        url="https://openaccess.thecvf.com/content/CVPR2023/html/"
        "Chen_Multivariate_Multi-Frequency_and_Multimodal_Rethinking_Graph_Neural_Networks_for_Emotion_CVPR_2023_paper.html",
        code="https://github.com/feiyuchen7/M3NET",
    )

    def build(self, c: M3NETConfig, shapes: Shapes) -> None:
        """Build the encoders, both graphs and the classifier."""
        self.texts = MeanOfTexts(shapes.widths)
        self.couples_batch, widths = self.texts.couples_batch, self.texts.widths
        gru = Recurrent("gru", c.width, c.width, bidirectional=True, layers=2, dropout=c.dropout)
        self.streams = Streams(widths, c.width, read={"text": gru})
        self.speaker = SpeakerEmbedding(c.width, given=shapes.speaker) if "text" in widths else None
        self.node = nn.Linear(c.width, c.hidden)
        if not (self.recipe.edges and self.recipe.hyperedges):
            missing = "hyperedges ([[hyperedge]])" if self.recipe.edges else "edges ([[edges]])"
            raise ConfigError(f"M3NET: graph recipe {self.recipe.name!r}: expected rules for edges and hyperedges, found no {missing}")
        sets, pairs = replace(self.recipe, examples=(), edges=()), replace(self.recipe, examples=(), hyperedges=())
        weights = len(widths) if c.weights == "kind" else None
        self.hypergraph = Hypergraph(c.hidden, c.hidden, sets, layers=c.hyper_layers, streams=weights)
        self.frequencies = Gated(c.hidden, c.hidden, pairs, layers=c.layers)
        self.classify = nn.Sequential(Dropout(c.dropout), nn.ReLU(), nn.Linear(len(widths) * 2 * c.hidden, shapes.outputs))  # Eq. (6)

    def encode(self, given: Given) -> Tensor:
        """Compute the states of `N` utterances before the classifier, `(N, S · 2 hidden)` for `S` modalities."""
        nodes = self.streams(self.texts(given))  # Eqs. (1), (2): (N, S, width)
        nodes = added(nodes, self.speaker(given), ("text",)) if self.speaker else nodes
        nodes = nodes.with_states(self.node(nodes.states))  # Eq. (3): (N, S, hidden)
        z, y = (part(nodes, given.batch).states for part in (self.hypergraph, self.frequencies))  # Eqs. (4), (5)
        return torch.cat([z, y], -1).flatten(1)
