r"""After DialogueTRM: exploring multi-modal emotional dynamics in a conversation (Mao et al., Findings of EMNLP 2021).

Each modality hears other turns or its own alone, after its need of context; then gates per neuron join pairs of modalities, and attention
per vector weighs them. The equations are ours: **the paper was not at hand and there is no public code**. Abstract and quotations tell of
the two parts, the switch, the order of both fusions, and that text is sequential. All else is our guess.

.. math::
    x_m &= \mathrm{LN}(W_m f_m + b_m) \; [+\, \mathrm{PE} \text{ where turns hear each other}] \tag{1} \\
    h_m &= \mathrm{Transformer}_m(x_m) \quad \text{over the turns, or each turn to itself} \tag{2} \\
    g_{mn} &= z \odot \tanh(A_{mn} h_m) + (1 - z) \odot \tanh(B_{mn} h_n), \qquad z = \sigma(Z_{mn} [h_m ; h_n]) \tag{3} \\
    v &= \mathrm{Transformer}(\{g_{mn}\}) \quad \text{over the pairs of a turn} \tag{4} \\
    s &= C_2\, \mathrm{ReLU}(C_1 [v_{mn}]_{m < n}) \tag{5}

| symbol | attribute | shape |
|---|---|---|
| `W_m`, LN | `project[m]` | `(width, features)` |
| Transformers of (2), of (4) | `context[m]`, `weigh` | |
| `Z`, `A`, `B` | `pairs[m_n].gate`, `.first`, `.second` | `(width, 2 width)`, `(width, width)` twice |
| `C_1`, `C_2` | `classify` | `(width, pairs width)`, `(classes, width)` |

**What was guessed**

- Text hears the whole dialogue, with `causal` no later turns; other modalities hear their own turn: the same kind of layers,
  as if the mask were reduced to the diagonal. `sequential` names the modalities that hear others.
- The gates are for unordered pairs, and attention is between the pairs of a turn. One modality alone has neither (3) nor (4).
- Where a modality is missing, the other one of a pair has the gate to itself; a pair without any is not attended to and zeros in (5). A
  turn that lacks text is a turn of zeros in (2).
- All sizes, and the training. The paper fine-tunes BERT on a speaker's earlier utterances; here text is the vector of the corpus.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from erc_graph.data.nodes import Nodes
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.feedforward import FeedForward
from erc_graph.encoders.positions import Positions
from erc_graph.encoders.self_attention import FrameAttention, TransformerEncoder
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import Classifier
from erc_graph.methods.ranges import Checked, Share, Size


@dataclass(frozen=True, kw_only=True)
class DialogueTRMConfig(Checked):
    """DialogueTRM.

    Attributes:
        causal: Nothing comes from later turns.
        width: Of all states.
        layers: Of (2).
        heads: Attention heads of (2).
        fusion_heads: Of (4).
        feedforward: Hidden width of the Transformers.
        sequential: Modalities that hear other turns.
        dropout: In the Transformers and the classifier.
    """

    causal: bool = False
    width: Size = 128
    layers: Size = 3
    heads: Size = 8
    fusion_heads: Size = 4
    feedforward: Size = 256
    sequential: list[str] = field(default_factory=lambda: ["text"])
    dropout: Share = 0.3


class WithinTurn(nn.Module):
    """Layers of a Transformer over what a turn has, one item or several."""

    def __init__(self, width: int, *, heads: int, layers: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.attend = nn.ModuleList(FrameAttention(width, heads=heads, dropout=dropout) for _ in range(layers))
        self.norm, self.dropout = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers)), Dropout(dropout)
        self.feedforward = nn.ModuleList(FeedForward(width, feedforward, dropout) for _ in range(layers))

    def forward(self, items: Tensor, here: Tensor) -> Tensor:
        """`(N, items, width)`, read where they are there `(N, items)`; what is said of others does not matter."""
        mask = here | ~here.any(1, keepdim=True)
        for attend, norm, feedforward in zip(self.attend, self.norm, self.feedforward, strict=True):
            items = feedforward(norm(items + self.dropout(attend(items, mask))))
        return items


class Gate(nn.Module):
    """The gated unit of a pair of modalities."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate, self.first, self.second = nn.Linear(2 * width, width), nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, one: Tensor, other: Tensor, here: Tensor) -> Tensor:
        """States `(N, width)` of both and their presence `(N, 2)` → `(N, width)`."""
        z = self.gate(torch.cat([one, other], -1)).sigmoid()
        share = torch.where(here.all(1, keepdim=True), z, here[:, :1].to(z.dtype))
        return share * self.first(one).tanh() + (1 - share) * self.second(other).tanh()  # Eq. (3)


class DialogueTRM(Method):
    """After Mao et al.: context by the need of a modality, and fusion by neuron and by vector."""

    Config = DialogueTRMConfig
    family = "transformer"
    paper = Paper(
        title="DialogueTRM: Exploring Multi-Modal Emotional Dynamics in a Conversation",
        authors="Mao et al.",
        venue="Findings of EMNLP",
        year=2021,
        url="https://aclanthology.org/2021.findings-emnlp.229",
        after=True,
    )

    def build(self, c: DialogueTRMConfig, shapes: Shapes) -> None:
        """The parts in the order of the equations."""
        self.names = tuple(shapes.widths)
        size: dict[str, Any] = {"feedforward": c.feedforward, "dropout": c.dropout}
        self.project = nn.ModuleDict({m: nn.Sequential(nn.Linear(w, c.width), nn.LayerNorm(c.width)) for m, w in shapes.widths.items()})
        over = [m for m in self.names if m in c.sequential]
        self.positions = Positions() if over else None
        self.context = nn.ModuleDict(
            {m: TransformerEncoder(c.width, heads=c.heads, layers=c.layers, causal=c.causal, **size) if m in over
             else WithinTurn(c.width, heads=c.heads, layers=c.layers, **size) for m in self.names}
        )  # fmt: skip
        self.pairs = nn.ModuleDict({f"{m}_{n}": Gate(c.width) for m, n in combinations(self.names, 2)})
        self.weigh = WithinTurn(c.width, heads=c.fusion_heads, layers=1, **size) if self.pairs else None
        self.classify = Classifier(max(1, len(self.pairs)) * c.width, shapes.outputs, hidden=c.width, dropout=c.dropout)  # Eq. (5)

    def streams(self, given: Given) -> Nodes:
        """`h`: `(N, modalities, width)`."""
        found = []
        for m, part in self.context.items():
            nodes = Nodes.of_turns(self.project[m](given.values[m]), given.present[m])
            if self.positions is not None and isinstance(part, TransformerEncoder):
                found.append(part(self.positions(nodes, given.batch), given.batch).states)  # Eqs. (1), (2)
            else:
                found.append(part(nodes.masked(), nodes.present))  # Eqs. (1), (2)
        return Nodes(torch.cat(found, 1), given.here(self.names), self.names)

    def encode(self, given: Given) -> Tensor:
        """`v` of all pairs: `(N, pairs width)`."""
        h = self.streams(given)
        if self.weigh is None:
            return h.masked().flatten(1)
        places = list(combinations(range(len(self.names)), 2))
        found = [
            gate(h.states[:, m], h.states[:, n], h.present[:, (m, n)]) for (m, n), gate in zip(places, self.pairs.values(), strict=True)
        ]
        here = torch.stack([h.present[:, pair].any(1) for pair in places], 1)  # (N, pairs)
        fused = self.weigh(torch.where(here[..., None], torch.stack(found, 1), 0.0), here)  # Eq. (4)
        return torch.where(here[..., None], fused, 0.0).flatten(1)
