r"""MMGCN: Multimodal Fusion via Deep Graph Convolution Network for ERC (Hu et al., ACL-IJCNLP 2021).

Deep graph convolution with angular edge weights, over one node per utterance and modality. The numbering of the equations is ours.

.. math::
    u^\tau_i &= W_\tau x^\tau_i + b_\tau, \qquad u^t = \mathrm{BiLSTM}(u^t) \tag{1} \\
    n^\tau_i &= [u^\tau_i ; S_{s(i)}] \tag{2} \\
    A_{ij} &= 1 - \arccos(\cos(n_i, n_j)) / \pi \ \text{within a modality}, \quad
    \gamma \, (\ldots) \ \text{across, same utterance} \tag{3} \\
    P &= (D + I)^{-1/2} (A + I) (D + I)^{-1/2} \tag{4} \\
    h^0 &= \mathrm{ReLU}(n W_0 + b_0) \tag{5} \\
    h^l &= \mathrm{ReLU}\big(((1 - \alpha) P h^{l-1} + \alpha h^0)((1 - \beta_l) I + \beta_l W_l)\big), \quad
    \beta_l = \ln(\eta / l + 1) \tag{6} \\
    e_i &= [n^\tau_i ; h^{K,\tau}_i]_\tau, \qquad \mathrm{scores}_i = W \, \mathrm{ReLU}(e_i) + b \tag{7}

| symbol | attribute | shape |
|---|---|---|
| `W_τ`, `b_τ` | `streams.project[τ]` | `(width, features)`, `(width,)` |
| `S` | `speaker.embedding` times `speaker.weight` | `(speakers, width)` |
| `W_0`, `b_0` | `conv.first` | `(hidden, 2 width)`, `(hidden,)` |
| `W_l` | `conv.weights[l - 1]` | `(hidden, hidden)`; `(2 hidden, hidden)` with `variant` |
| `W`, `b` | `classify` | `(labels, S (2 width + hidden))`, `(labels,)` |

Differences from the paper and from its public code:

- We had no access to the paper's text. The equations follow the public code, except where others report that the paper differs from its
  code. In these points, we follow the paper: γ = 0.7, A + I, a square `W_l`, few layers, and speaker embeddings in all modalities. The
  public code has γ = 1 and no I (recipe `mmgcn`), the option `variant`, and 64 layers. The public code adds the speaker embedding only to
  the text (`speaker = "add_text"`). The published results come from the public code.
- The width of a speaker embedding is unknown; here it equals `width`. Speakers are numbered by first appearance, not by a list of all
  speakers of the corpus, so the names of speakers have no effect.
- The arccos in (3) is bounded as in `erc_graph.graphs.weights`. Edge weights differ by at most 0.0015 from those of the public code, which
  computes `arccos(0.99999 cos)` and gives self-loops the weight 0.9986. The cosine with a node state of zeros is 0; in the public code,
  such a state makes all scores of the batch NaN.
- The LSTM stops at the end of a dialogue. In the public code, it also reads the padding, so the scores depend on the other dialogues of the
  batch.
- For MELD, the focal loss of the public code uses the log-probability instead of the probability. This loss therefore increases when the
  model becomes certain of the right class. The option `training.loss = "legacy_focal"` reproduces it; the default is cross entropy, as in
  the paper.
- A missing modality has no node, and its states in (7) are zero. A single modality works here, but not in the public code.
- With the option `causal`, the LSTM reads only forward, and edges from later utterances are left out. The paper reads whole conversations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from erc_graph.conv.angular.angular import AngularConv, AngularConvConfig
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.recurrent import Recurrent
from erc_graph.encoders.speaker import SpeakerEmbedding
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import Streams, added
from erc_graph.methods.ranges import Causal, Even, Fraction, Graph, Positive, Share, Size


@dataclass(frozen=True, kw_only=True)
class MMGCNConfig(Causal):
    """Options of MMGCN.

    Attributes:
        graph: Graph recipe; it sets γ and determines whether I is added in (4).
        width: Width of the encoders' states.
        hidden: Hidden width of the graph layers.
        layers: Number of graph layers, `K`.
        alpha: Share α of `h^0` in every layer.
        eta: Strength η of the matrices `W_l`, from which β_l is computed.
        variant: Use a separate matrix for `h^0` in every layer, as the public code does (GCNII*).
        speaker: Speaker embedding: concatenated with the node states (`concat`), added to them (`add`), or added only to the text
            (`add_text`).
        dropout: Dropout before, between and after the graph layers, and between the LSTM layers.
    """

    graph: Graph = "mmgcn_paper"
    width: Even = 128
    hidden: Size = 64
    layers: Size = 4
    alpha: Fraction = 0.1
    eta: Positive = 0.5
    variant: bool = False
    speaker: Literal["concat", "add", "add_text"] = "concat"
    dropout: Share = 0.4


class MMGCN(Method):
    """Deep graph convolution over one node per utterance and modality."""

    Config = MMGCNConfig
    paper = Paper(
        title="MMGCN: Multimodal Fusion via Deep Graph Convolution Network for Emotion Recognition in Conversation",
        authors="Hu et al.",
        venue="ACL-IJCNLP",
        year=2021,
        url="https://arxiv.org/abs/2107.06779",
        code="https://github.com/hujingwen6666/MMGCN",
    )

    def build(self, c: MMGCNConfig, shapes: Shapes) -> None:
        """Build the encoders, the speaker embedding, the graph network and the classifier."""
        lstm = Recurrent("lstm", c.width, c.width, bidirectional=not c.causal, layers=2, dropout=c.dropout)
        self.streams = Streams(shapes.widths, c.width, read={"text": lstm})
        spoken = c.speaker != "add_text" or "text" in shapes.widths
        self.speaker = SpeakerEmbedding(c.width, given=shapes.speaker) if spoken else None
        gcnii = AngularConvConfig(depth=c.layers, alpha=c.alpha, lambda_=c.eta, variant=c.variant)
        width = c.width * (1 + (c.speaker == "concat"))
        self.conv = AngularConv(width, self.recipe, gcnii, hidden=c.hidden, dropout=c.dropout)
        self.dropout = Dropout(c.dropout)
        self.classify = nn.Sequential(Dropout(c.dropout), nn.ReLU(), nn.Linear(len(shapes.widths) * self.conv.width, shapes.outputs))

    def encode(self, given: Given) -> Tensor:
        """Compute the states of `N` utterances before the classifier, `(N, S (node width + hidden))` for `S` modalities."""
        nodes = self.streams(given)  # Eq. (1): (N, S, width)
        if self.speaker and self.config.speaker == "concat":
            spoken = self.speaker(given)[:, None].expand_as(nodes.states)
            nodes = nodes.with_states(torch.cat([nodes.states, spoken], -1))  # Eq. (2): (N, S, 2 width)
        elif self.speaker:
            nodes = added(nodes, self.speaker(given), nodes.streams if self.config.speaker == "add" else ("text",))
        x = self.conv(nodes, given.batch).states  # Eqs. (3)-(6)
        hidden = self.config.hidden
        return torch.cat([x[..., :-hidden], self.dropout(x[..., -hidden:])], -1).flatten(1)  # Eq. (7)
