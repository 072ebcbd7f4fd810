r"""IA-MMTF: implicitly aligned multimodal Transformer fusion (after Guo et al., IEEE MultiMedia 29, 2022).

In every layer, audio frames and words attend to each other, without an alignment in time. A weighted fusion then combines the modalities.
The equations are ours, because we had access only to the abstract.

.. math::
    H^0_m &= W_m\, \mathrm{BiLSTM}(x_m) + b_m + \mathrm{PE} \tag{1} \\
    Z^l_m &= H^{l-1}_m + \textstyle\sum_{n \ne m} \mathrm{MHA}(\mathrm{LN}(H^{l-1}_m), \mathrm{LN}(H^{l-1}_n)) \tag{2} \\
    H^l_m &= Z^l_m + \mathrm{FFN}(\mathrm{LN}(Z^l_m)) \tag{3} \\
    v_m &= \textstyle\sum_t \beta_t H^L_{m, t}, \qquad \beta = \mathrm{softmax}_t\, u_m^\top \tanh(U_m H^L_{m, t} + c_m) \tag{4} \\
    g &= \mathrm{softmax}(G [v_1 ; v_2 ; \dots] + d) \tag{5} \\
    f &= [g_1 v_1 ; g_2 v_2 ; \dots] \tag{6}

| symbol | attribute | shape |
|---|---|---|
| `x_m` | `items` | `(n, L_m, width)`, scaled, after a linear map |
| BiLSTM, `W_m` | `recur[m]`, `project[m]` | `(n, L_m, width)` |
| MHA(queries, keys and values), FFN, LN | `layers[l]`: `exchange`, `feedforward[m]`, `first[m]`, `second[m]` | |
| `u`, `U` | `pool[m]` | `(width,)`, `(width, width)` |
| `G` | `weigh` | `(modalities, modalities · width)` |

**What is guessed**

- The abstract describes a Transformer in which two modalities guide each other, without alignment of words and frames, and a weighted
  fusion. In the abstract, BiLSTMs belong to another model, with which the Transformer is compared. All sizes, the dropout, (1), and the
  exact form of (2)-(6) are guesses.
- Equation (2): every layer updates both modalities. So we understand "guide each other". In MulT (`erc_graph.methods.mult`), by contrast,
  every layer attends to the input states of the other modality. With three modalities, each modality attends to both others (a guess). With
  a single modality, (2) and (3) are left out.
- Equation (5): each utterance has one weight per modality; the weights sum to one. A missing modality is masked and has the weight zero. If
  one of two modalities is missing, the weight of the other modality is one.
- A modality with one vector per utterance is a sequence of one item. If all modalities are vectors, (2) adds a linear map of the other
  modality's vector, and (4) returns its input. Queries, keys, `u` and `U` then have no effect.
- The paper does not model the conversation. Here a graph stage passes messages between utterances; `graph = "none"` removes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.encoders.attentive import AttentiveSum
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.exchange import Exchange
from erc_graph.encoders.frame_lstm import FrameLSTM
from erc_graph.encoders.positions import sines
from erc_graph.encoders.weighting import DynamicWeights
from erc_graph.methods.conversation import InConversation, UtteranceMethod
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import Items, Padded
from erc_graph.methods.ranges import Even, Share, Size
from erc_graph.methods.stage import evaluating


@dataclass(frozen=True, kw_only=True)
class IAMMTFConfig(InConversation):
    """Options of IA-MMTF.

    Attributes:
        width: Width of all states; each direction of the BiLSTM has half of this width.
        layers: Number `L` of layers.
        heads: Number of attention heads in every attention layer.
        feedforward: Hidden width of the feed-forward networks (FFN).
        dropout: Dropout within the layers and before the classifier.
    """

    width: Even = 64
    layers: Size = 2
    heads: Size = 4
    feedforward: Size = 256
    dropout: Share = 0.3


class MutualLayer(nn.Module):
    """Attention from every modality to every other modality, then a feed-forward network per modality."""

    def __init__(self, names: Sequence[str], config: IAMMTFConfig) -> None:
        super().__init__()
        width, hidden = config.width, config.feedforward
        self.exchange = Exchange(names, width, heads=config.heads, dropout=config.dropout)
        self.feedforward = nn.ModuleDict(
            {m: nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), Dropout(config.dropout), nn.Linear(hidden, width)) for m in names}
        )
        self.first, self.second = (nn.ModuleDict({m: nn.LayerNorm(width) for m in names}) for _ in range(2))
        self.dropout = Dropout(config.dropout)

    def forward(self, states: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the updated states of `n` utterances, as a dict from modality to `(n, L, width)`."""
        heard = self.exchange({m: self.first[m](h) for m, h in states.items()}, masks)
        z = {m: h + self.dropout(heard[m]) for m, h in states.items()}  # Eq. (2)
        return {m: one + self.dropout(self.feedforward[m](self.second[m](one))) for m, one in z.items()}  # Eq. (3)


class IAMMTF(UtteranceMethod):
    """A Transformer in which modalities attend to each other, weighted fusion, and message passing between utterances; after Guo et al."""

    Config = IAMMTFConfig
    unused = {"*.key.bias": "it adds the same to all scores of a query, which cancels in the softmax"}
    paper = Paper(
        title="Emotion Recognition With Multimodal Transformer Fusion Framework Based on Acoustic and Lexical Information",
        authors="Guo et al.",
        venue="IEEE MultiMedia 29",
        year=2022,
        url="https://ieeexplore.ieee.org/document/9740502",
        after=True,
    )

    def build(self, config: IAMMTFConfig, shapes: Shapes) -> None:
        """Build the BiLSTMs, the attention layers, the pooling, the weights of modalities, the graph stage, and the classifier."""
        width, self.names = config.width, shapes.modalities
        self.items = Items(shapes, dict.fromkeys(self.names, width))
        self.recur = nn.ModuleDict({m: FrameLSTM(width, width) for m in self.names})
        self.project = nn.ModuleDict({m: nn.Linear(width, width) for m in self.names})
        self.layers = nn.ModuleList(MutualLayer(self.names, config) for _ in range(config.layers if len(self.names) > 1 else 0))
        self.pool = nn.ModuleDict({m: AttentiveSum(width) for m in self.names})
        self.weigh = DynamicWeights(len(self.names), width) if len(self.names) > 1 else None
        size = len(self.names) * width
        self.conversation = self.around(size)
        self.classify = self.head(config, self.conversation.width, shapes.outputs)

    def pooled(self, padded: Mapping[str, Padded]) -> Tensor:
        """Compute the pooled vectors v of `n` utterances, `(n, modalities · width)`; v is zero for a missing modality."""
        states, masks = {}, {m: mask for m, (_, mask) in padded.items()}
        for m, (x, mask) in padded.items():
            states[m] = self.project[m](self.recur[m](x, mask)) + sines(torch.arange(x.shape[1], device=x.device), x)  # Eq. (1)
        for layer in self.layers:
            states = layer(states, masks)
        return torch.cat([self.pool[m](states[m], masks[m]) for m in self.names], -1)  # Eq. (4)

    def fuse(self, given: Given) -> tuple[Tensor, Tensor]:
        """Compute the pooled vectors v `(N, modalities, width)` and the weights g `(N, modalities)`."""
        here, width = given.here(self.names), self.config.width
        v = self.items(self.pooled, given, len(self.names) * width).unflatten(-1, (-1, width))
        return v, here.to(v.dtype) if self.weigh is None else self.weigh(v, here)  # Eq. (5)

    def encode(self, given: Given) -> Tensor:
        """Compute the utterance states, `(N, modalities · width)`, or wider with a graph, which appends its node states."""
        v, g = self.fuse(given)
        f = (g[..., None] * v).flatten(1)  # Eq. (6)
        return self.conversation(f, given.here(self.names).any(1), given)

    @torch.no_grad()
    def trust(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weight g of each modality in every utterance."""
        with evaluating(self):
            return dict(zip(self.names, self.fuse(self.given(batch))[1].unbind(1), strict=True))
