r"""M2FNet: Multi-modal Fusion Network for Emotion Recognition in Conversation (Chudasama et al., CVPR Workshops 2022).

Transformer encoders over the turns of each modality; then the text asks the other modalities where to look, and reads itself there.

.. math::
    x_m &= W_m u_m \tag{1} \\
    x_m &\leftarrow x_m + \mathrm{Enc}(x_m) \qquad \text{in every encoder} \tag{2} \\
    o_m &= \mathrm{MHA}(Q = f, K = x_m, V = f) \qquad m \in \{a, v\}, \quad f = x_t \text{ in the first layer} \tag{3} \\
    f &\leftarrow \mathrm{ReLU}(W [o_a ; o_v ; f]) \tag{4} \\
    s &= W_2\, \mathrm{ReLU}(W_1 [f ; x_a ; x_v]) \tag{5}

(2) to (4) are the paper's (5) and (6), (5) is its (7) and (8).

| symbol | attribute | shape |
|---|---|---|
| `W_m`, Enc | `project[m]`, `encoders[m]` | `(width, features)`, over `(N, 1, width)` |
| MHA, `W` | `fuse.attention[layer][m]`, `fuse.connect[layer]` | `(n, L, width)`, `(width, S width)` |
| `W_1`, `W_2` | `classify` | `(width, S width)`, `(classes, width)` |

**Differences from the paper, which has no public code**

- The paper does not tell heads, feed-forward width, places of norms or positions: here Enc is one post-norm layer, without positions.
- Whether `f` itself is in (4) can be seen in its figure alone; two re-implementations have it. ReLU and dropout there are ours.
- (1) brings all modalities to one width, which (3) needs; the paper does not say how. `W_m` with dropout around it is as in a
  re-implementation.
- The features are given. The paper's extractors of sound and faces, and the loss that trains them, are left out; by the letter that loss
  has no hinge and pulls apart what is alike.
- A missing modality is a turn of zeros in (2). Nobody looks where the text or what it asks is missing. Without text the first modality
  takes its part, and one alone has (1), (2) and (5).
- `causal` lets every attention look back alone; the paper reads whole dialogues.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

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
from erc_graph.methods.ranges import Checked, Share, Size


@dataclass(frozen=True, kw_only=True)
class M2FNetConfig(Checked):
    """M2FNet.

    Attributes:
        causal: Nothing comes from later turns.
        width: Of all states.
        heads: Of every attention.
        feedforward: Hidden width of an encoder.
        encoders: Of each modality.
        layers: Of the fusion.
        dropout: Around (1), in the encoders, behind (4) and in the classifier.
    """

    causal: bool = False
    width: Size = 256
    heads: Size = 8
    feedforward: Size = 512
    encoders: Size = 1
    layers: Size = 5
    dropout: Share = 0.4


class KeyedFusion(OverTurns):
    """Eqs. (3), (4): the first stream reads itself, by the keys of each of the others, over the turns of a dialogue."""

    def __init__(self, c: M2FNetConfig, others: tuple[str, ...]) -> None:
        super().__init__()
        self._causal = c.causal
        self.attention = nn.ModuleList(
            nn.ModuleDict({m: CrossAttention(c.width, c.width, c.width, heads=c.heads) for m in others}) for _ in range(c.layers)
        )
        self.connect = nn.ModuleList(nn.Linear((len(others) + 1) * c.width, c.width) for _ in range(c.layers))
        self.dropout = Dropout(c.dropout)

    @property
    def causal(self) -> bool:
        """Whether a turn looks at no later turn."""
        return self._causal

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """`(N, S, width)` → `f`, `(N, 1, width)`"""
        x, here = batch.pad(nodes.masked()), batch.pad(nodes.present)
        turn, f = torch.arange(batch.longest, device=x.device), x[:, :, 0]
        keys = (here & here[..., :1]).permute(2, 0, 1)[:, :, None]  # (S, D, 1, L)
        keys = keys & (turn <= turn[:, None]) if self.causal else keys
        for attention, connect in zip(self.attention, self.connect, strict=True):
            asked = enumerate(cast(nn.ModuleDict, attention).values(), 1)
            heard = [attend(f, x[:, :, i], keys[i], values=f) for i, attend in asked]  # Eq. (3)
            f = self.dropout(connect(torch.cat([*heard, f], -1)).relu())  # Eq. (4)
        return Nodes.of_turns(batch.unpad(f), nodes.present.any(1))


class M2FNet(Method):
    """Encoders over the turns of each modality, and a text that reads itself by the keys of the others."""

    Config = M2FNetConfig
    family = "transformer"
    unused: ClassVar[Mapping[str, str]] = {"fuse.*key.bias": "it cancels in the softmax of (3)"}
    paper = Paper(
        title="M2FNet: Multi-modal Fusion Network for Emotion Recognition in Conversation",
        authors="Chudasama et al.",
        venue="CVPR Workshops",
        year=2022,
    )

    def build(self, c: M2FNetConfig, shapes: Shapes) -> None:
        """Projections, encoders, fusion and classifier."""
        self.names = tuple(sorted(shapes.widths, key=lambda m: (m != "text", m)))

        def encoder() -> TransformerEncoder:
            return TransformerEncoder(c.width, heads=c.heads, feedforward=c.feedforward, dropout=c.dropout, causal=c.causal)

        self.project = nn.ModuleDict(
            {m: nn.Sequential(Dropout(c.dropout), nn.Linear(shapes.widths[m], c.width), Dropout(c.dropout)) for m in self.names}
        )
        self.encoders = nn.ModuleDict({m: nn.ModuleList(encoder() for _ in range(c.encoders)) for m in self.names})
        self.fuse = KeyedFusion(c, self.names[1:]) if len(self.names) > 1 else None
        layers = nn.Linear(len(self.names) * c.width, c.width), nn.ReLU(), Dropout(c.dropout), nn.Linear(c.width, shapes.outputs)
        self.classify = nn.Sequential(*layers)  # Eq. (5)

    def encode(self, given: Given) -> Tensor:
        """`[f ; x_a ; x_v]`: `(N, S width)`"""
        rows = []
        for m in self.names:
            x = Nodes(self.project[m](given.values[m])[:, None], given.present[m][:, None], (m,))  # Eq. (1)
            for encoder in cast(nn.ModuleList, self.encoders[m]):
                x = x.with_states(x.states + encoder(x, given.batch).states)  # Eq. (2)
            rows.append(x.masked()[:, 0])
        if self.fuse is None:
            return rows[0]
        nodes = Nodes(torch.stack(rows, 1), given.here(self.names), self.names)
        return torch.cat([self.fuse(nodes, given.batch).states[:, 0], *rows[1:]], -1)
