r"""After M2FNet: Multi-modal Fusion Network for Emotion Recognition in Conversation (after Chudasama et al., CVPR Workshops 2022).

For each modality, Transformer encoders process the dialogue. Fusion layers follow: attention whose queries and values come from the text,
and whose keys come from another modality. In the paper, (2) has the number (5); (3) and (4) have the number (6), and (5) has (7) and (8).

.. math::
    x_m &= W_m u_m + b_m \tag{1} \\
    x_m &\leftarrow x_m + \mathrm{Enc}(x_m) \qquad \text{in every encoder} \tag{2} \\
    o_m &= \mathrm{MHA}(Q = f, K = x_m, V = f) \qquad m \in \{a, v\}, \quad f = x_t \text{ in the first layer} \tag{3} \\
    f &\leftarrow \mathrm{ReLU}(W [o_a ; o_v ; f] + b) \tag{4} \\
    s &= W_2\, \mathrm{ReLU}(W_1 [f ; x_a ; x_v] + b_1) + b_2 \tag{5}

| symbol | attribute | shape |
|---|---|---|
| `W_m`, Enc | `project[m]`, `encoders[m]` | `(width, features)`, over `(N, 1, width)` |
| MHA, `W` | `fuse.attention[layer][m]`, `fuse.connect[layer]` | `(N, width)`, `(width, S width)` |
| `W_1`, `W_2` | `classify` | `(width, S width)`, `(classes, width)` |

**What was guessed, and what differs from the paper, which has no public code**

- The paper does not state the number of heads, the feed-forward width, or whether it uses layer norms or position encodings. Here Enc is
  one post-norm Transformer layer without position encodings.
- In the paper, only a figure shows whether (4) includes `f` itself; two re-implementations include `f`. The paper has no ReLU and no
  dropout in (4) and (5).
- Eq. (3) needs the same width for all modalities, so (1) projects them. Eq. (1) and the dropout around (1) follow a re-implementation.
- The method reads the features of the corpus. The paper's feature extractors and their triplet loss are left out. As printed in the paper,
  this loss pulls distant negative samples closer.
- The output of (2) is zero for a missing modality. In (3), utterances that lack text or modality `m` are masked as keys. If the corpus has
  no text, the first modality in alphabetical order replaces the text.
- The paper does not use speakers, and neither does this method. With a single modality, only (1), (2) and (5) remain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.cross_attention import CrossAttention
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.self_attention import TransformerEncoder
from erc_graph.encoders.turns import OverTurns
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.ranges import Causal, Share, Size


@dataclass(frozen=True, kw_only=True)
class M2FNetConfig(Causal):
    """Options of M2FNet.

    Attributes:
        width: Width of all states.
        heads: Number of attention heads in every attention layer.
        feedforward: Hidden width of the encoders' feed-forward networks.
        encoders: Number of encoders per modality.
        layers: Number of fusion layers.
        dropout: Dropout before and after (1), in the encoders, after (4) and in (5).
    """

    width: Size = 256
    heads: Size = 8
    feedforward: Size = 512
    encoders: Size = 1
    layers: Size = 5
    dropout: Share = 0.4


class KeyedFusion(OverTurns):
    """The fusion of Eqs. (3) and (4) over a dialogue: queries and values come from the text, keys from another modality."""

    def __init__(self, c: M2FNetConfig, others: tuple[str, ...]) -> None:
        super().__init__()
        self.causal, self.dropout, n = c.causal, Dropout(c.dropout), c.width
        self.attention = nn.ModuleList(nn.ModuleDict({m: CrossAttention(n, n, n, heads=c.heads) for m in others}) for _ in range(c.layers))
        self.connect = nn.ModuleList(nn.Linear((len(others) + 1) * n, n) for _ in range(c.layers))

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Map the states of `N` utterances in `S` modalities, `(N, S, width)`, to the fused text `f` of Eq. (4), `(N, 1, width)`."""
        f, *others = nodes.masked().unbind(1)
        keys = batch.pad(nodes.present[:, 1:] & nodes.present[:, :1]).permute(2, 0, 1)[:, :, None]  # (S - 1, D, 1, L)
        keys = keys & keys.new_ones(batch.longest, batch.longest).tril() if self.causal else keys
        for attention, connect in zip(cast(Any, self.attention), self.connect, strict=True):
            o = [part(f, x, k, f, (batch, batch)) for part, x, k in zip(attention.values(), others, keys, strict=True)]  # Eq. (3)
            f = self.dropout(connect(torch.cat([*o, f], -1)).relu())  # Eq. (4)
        return Nodes.of_turns(f, nodes.present.any(1))


class M2FNet(Method):
    """Encoders for each modality, and attention over the text with keys from the other modalities, after Chudasama et al."""

    Config = M2FNetConfig
    family = "transformer"
    unused = {"fuse.*key.bias": "it cancels in the softmax of (3)"}
    paper = Paper(
        title="M2FNet: Multi-modal Fusion Network for Emotion Recognition in Conversation",
        authors="Chudasama et al.",
        venue="CVPR Workshops",
        year=2022,
        url="https://arxiv.org/abs/2206.02187",
        after=True,
    )

    def build(self, c: M2FNetConfig, shapes: Shapes) -> None:
        """Build the modules in the order of the equations."""
        self.names = tuple(sorted(shapes.widths, key=lambda m: (m != "text", m)))
        n, d = c.width, c.dropout
        size: Any = {"heads": c.heads, "feedforward": c.feedforward, "dropout": d, "causal": c.causal}
        self.project = nn.ModuleDict({m: nn.Sequential(Dropout(d), nn.Linear(shapes.widths[m], n), Dropout(d)) for m in self.names})
        self.encoders = nn.ModuleDict({m: nn.ModuleList(TransformerEncoder(n, **size) for _ in range(c.encoders)) for m in self.names})
        self.fuse = KeyedFusion(c, self.names[1:]) if len(self.names) > 1 else None
        self.classify = nn.Sequential(nn.Linear(len(self.names) * n, n), nn.ReLU(), Dropout(d), nn.Linear(n, shapes.outputs))  # Eq. (5)

    def encode(self, given: Given) -> Tensor:
        """Compute the utterance states `[f ; x_a ; x_v]` of Eq. (5): `(N, S width)` for `N` utterances and `S` modalities."""
        rows = []
        for m, encoders in cast(Any, self.encoders).items():
            x = Nodes(self.project[m](given.values[m])[:, None], given.present[m][:, None], (m,))  # Eq. (1)
            for encoder in encoders:
                x = x.with_states(x.states + encoder(x, given.batch).states)  # Eq. (2)
            rows.append(x.masked()[:, 0])
        nodes = Nodes(torch.stack(rows, 1), given.here(self.names), self.names)
        f = self.fuse(nodes, given.batch).states[:, 0] if self.fuse else rows[0]
        return torch.cat([f, *rows[1:]], -1)
