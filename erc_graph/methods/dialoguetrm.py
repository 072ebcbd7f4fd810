r"""After DialogueTRM: exploring multi-modal emotional dynamics in a conversation (Mao et al., Findings of EMNLP 2021).

In each modality, an utterance attends either to the whole dialogue or only to itself. Gates with one value per channel then fuse pairs of
modalities, and attention combines the pairs. The equations are ours: **we had no access to the paper, and no public code exists**. The
abstract describes two steps, context and fusion, and a choice of context per modality. A summary by other authors gives the order of gates
and attention. According to this summary, text attends to the whole dialogue. All other details are guesses.

.. math::
    x_m &= \mathrm{LN}(W_m f_m + b_m) \; [+\, \mathrm{PE} \text{ where turns attend to each other}] \tag{1} \\
    h_m &= \mathrm{Transformer}_m(x_m) \quad \text{over the turns, or each turn to itself} \tag{2} \\
    g_{mn} &= z \odot \tanh(A_{mn} h_m) + (1 - z) \odot \tanh(B_{mn} h_n), \qquad z = \sigma(Z_{mn} [h_m ; h_n]) \tag{3} \\
    v &= \mathrm{Transformer}(\{g_{mn}\}_{m < n}) \quad \text{over the pairs of a turn, one layer} \tag{4} \\
    s &= C_2\, \mathrm{ReLU}(C_1 [v_{mn}]_{m < n}) \tag{5}

| symbol | attribute | shape |
|---|---|---|
| `W_m`, LN | `project[m]` | `(width, features)` |
| Transformers of (2), of (4) | `context[m]`, `weigh` | hidden width `feedforward` |
| `Z`, `A`, `B` | `pairs[m_n].gate`, `.first`, `.second` | `(width, 2 width)`, `(width, width)` twice |
| `C_1`, `C_2` | `classify` | `(width, pairs · width)`, `(classes, width)` |

**What was guessed**

- By default, an utterance attends to the whole dialogue only in text (option `sequential`). Other modalities have similar layers.
- There is one gate per unordered pair of modalities, and (4) is attention between the pairs of an utterance. With one modality, (3) and (4)
  are left out.
- A missing modality is zero in (2), and the gate of a pair passes only the modality that is present. If both modalities of a pair are
  missing, the pair is zero in (5).
- All sizes and the training are guesses. In our settings, the three layers and `training.clip` are from later code of the first author. The
  paper fine-tunes BERT. In the later code, BERT also reads earlier utterances of the speaker. Here text is a fixed vector from the corpus.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from erc_graph.data.nodes import Nodes
from erc_graph.encoders.positions import Positions
from erc_graph.encoders.self_attention import FrameLayer, TransformerEncoder
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import Classifier, Rowwise, Stack
from erc_graph.methods.ranges import Causal, Share, Size


@dataclass(frozen=True, kw_only=True)
class DialogueTRMConfig(Causal):
    """Options of DialogueTRM; symbols and numbers such as (4) refer to the equations in the docstring of the module.

    Attributes:
        width: Width of all states.
        layers: Number of layers in (2).
        heads: Number of attention heads in (2) and (4).
        feedforward: Hidden width of the Transformers in (2) and (4).
        sequential: Modalities in which an utterance attends to the whole dialogue. In all other modalities, it attends only to itself.
        dropout: Dropout in the Transformers and the classifier.
    """

    width: Size = 128
    layers: Size = 3
    heads: Size = 8
    feedforward: Size = 256
    sequential: list[str] = field(default_factory=lambda: ["text"])
    dropout: Share = 0.3


class Gate(nn.Module):
    """The gated fusion of a pair of modalities, equation (3)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate, self.first, self.second = nn.Linear(2 * width, width), nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, pair: Nodes) -> Tensor:
        """Map the states of both modalities, `(N, 2, width)`, to the fused states `(N, width)`."""
        (one, other), here = pair.masked().unbind(1), pair.present
        z = self.gate(torch.cat([one, other], -1)).sigmoid()
        share = torch.where(here.all(1, keepdim=True), z, here[:, :1].to(z.dtype))
        return share * self.first(one).tanh() + (1 - share) * self.second(other).tanh()  # Eq. (3)


class DialogueTRM(Method):
    """A context Transformer per modality, gates that fuse pairs of modalities, and attention between the pairs, after Mao et al."""

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
        """Build the modules in the order of the method's equations."""
        self.names = tuple(shapes.widths)
        size: Any = {"heads": c.heads, "feedforward": c.feedforward, "dropout": c.dropout}

        def context(name: str) -> Stack:
            if name in c.sequential:
                return Stack([Positions(), TransformerEncoder(c.width, layers=c.layers, causal=c.causal, **size)])
            return Stack([Rowwise(*(FrameLayer(c.width, **size) for _ in range(c.layers)))])

        self.project = nn.ModuleDict({m: nn.Sequential(nn.Linear(w, c.width), nn.LayerNorm(c.width)) for m, w in shapes.widths.items()})
        self.context = nn.ModuleDict({m: context(m) for m in self.names})
        self.pairs = nn.ModuleDict({f"{m}_{n}": Gate(c.width) for m, n in combinations(self.names, 2)})
        self.weigh = FrameLayer(c.width, **size) if self.pairs else None
        self.classify = Classifier(max(1, len(self.pairs)) * c.width, shapes.outputs, hidden=c.width, dropout=c.dropout)  # Eq. (5)

    def encode(self, given: Given) -> Tensor:
        """Compute the fused vectors `v` of all pairs, concatenated: `(N, pairs · width)`."""
        x = {m: Nodes.of_turns(self.project[m](given.values[m]), given.present[m]) for m in self.names}
        found = [context(x[m], given.batch).states for m, context in self.context.items()]  # Eqs. (1), (2)
        h = Nodes(torch.cat(found, 1), given.here(self.names), self.names)  # (N, modalities, width)
        if self.weigh is None:
            return h.masked().flatten(1)
        pairs = [h.take(*pair) for pair in combinations(range(len(self.names)), 2)]
        here = torch.stack([pair.present.any(1) for pair in pairs], 1)  # (N, pairs)
        g = torch.stack([gate(pair) for gate, pair in zip(self.pairs.values(), pairs, strict=True)], 1)
        fused = self.weigh(torch.where(here[..., None], g, 0.0), here)  # Eq. (4)
        return torch.where(here[..., None], fused, 0.0).flatten(1)
