r"""SDT: Transformer-based model with self-distillation for ERC (Ma et al., IEEE Transactions on Multimedia 26, 2024).

Every ordered pair of modalities, and each modality with itself, has a Transformer layer with a gate. Each modality has its own classifier,
which also learns from the scores of the joint classifier. We had no access to the paper's text. The equations follow the public code; the
numbering is ours.

.. math::
    x_m &= W_m f_m + \mathrm{PE} + E_{s} \tag{1} \\
    y &= x_b + \mathrm{MHA}_{ab}(x_b, x_a, x_a) \qquad \text{(query, keys, values)} \tag{2} \\
    T_{ab} &= y + W_2\, \mathrm{gelu}(W_1\, \mathrm{LN}(y)) \tag{3} \\
    g_{ab} &= \sigma(G_{ab} T_{ab}) \odot T_{ab} \tag{4} \\
    u_b &= R_b [g_{ab}]_a + r_b \tag{5} \\
    z &= \textstyle\sum_m \mathrm{softmax}_m (M u_m) \odot u_m \tag{6} \\
    s &= C z + c, \qquad s_m = C_m \mathrm{ReLU}(u_m) + c_m \tag{7} \\
    L &= \mathrm{CE}(s) + \gamma_2 \textstyle\sum_m \mathrm{CE}(s_m) + \gamma_3 \sum_m \mathrm{KL}(p^T \Vert p_m^T) \tag{8}

In (8), `T` is a temperature: :math:`p^T = \mathrm{softmax}(s / T)`. The softmax of (6) runs over the modalities, separately for each
channel.

| symbol | attribute | shape |
|---|---|---|
| `W_m`, `E` | `project[m]`, `speaker` | `(width, features)`, an embedding, then a linear map |
| MHA, LN, `W_1`, `W_2`, `G` | `pairs[a_to_b]`: `attend`, `norm`, `inner`, `outer`, `gate` | `(width, width)` each |
| `R_b`, `M` | `reduce[b]`, `gate` | `(width, modalities · width)`, `(width, width)` |
| `C`, `C_m` | `classify`, `own[m]` | `(classes, width)` |

**Differences from the paper and from its public code**

- The public code also trains on the development data and selects the epoch on the test data. Here the epoch is selected on the development
  data.
- Eq. (8): here padding is removed before the losses are computed. The public code masks padding after it has computed the losses, which
  gives NaN gradients in current PyTorch.
- Eq. (8): here the distillation sends no gradient to the joint classifier; in the public code, it does. The value of the loss is the same.
  As in the public code, no factor :math:`T^2` compensates for the temperature. With `T` = 8, the value for MELD, the distillation has
  almost no effect.
- For MELD, the public code fixes `G` to the identity matrix; the option `gate = "identity"` does the same.
- A missing modality is masked as a key in (2), has the weight zero in (6), and has no KL term in (8). The state `u_m` of a missing modality
  is zero, so such utterances teach the classifier of this modality only the class frequencies. For a score task, (8) has no KL terms.
- Here each modality has one dropout, after (1); in the public code, each Transformer layer has its own dropout on this input. Layer norms
  that the public code does not use are left out. In the public code, the embedding `E` has no linear map. Here the eighth and all later
  speakers share a row of `E`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.positions import Positions
from erc_graph.encoders.speaker import SpeakerEmbedding
from erc_graph.encoders.stream_attention import StreamAttention
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.ranges import Causal, Positive, Share, Size, Weight
from erc_graph.methods.stage import Prediction


@dataclass(frozen=True, kw_only=True)
class SDTConfig(Causal):
    """Options of SDT.

    Attributes:
        width: Width of all states.
        heads: Number of attention heads in (2).
        gate: Matrix `G` in (4): `learned`, or the `identity`.
        own: Weight γ₂ of the classifiers of single modalities.
        distil: Weight γ₃ of the distillation.
        temperature: Temperature `T` of the distillation.
        dropout: Dropout after (1), on attention weights and in (3), and before `C_m`.
    """

    width: Size = 256
    heads: Size = 8
    gate: Literal["learned", "identity"] = "learned"
    own: Weight = 1.0
    distil: Weight = 1.0
    temperature: Positive = 1.0
    dropout: Share = 0.5


class Pair(nn.Module):
    """The Transformer layer of an ordered pair of modalities, and its gate, Eqs. (2) to (4)."""

    def __init__(self, c: SDTConfig) -> None:
        super().__init__()
        self.attend = StreamAttention(c.width, heads=c.heads, dropout=c.dropout, causal=c.causal)
        self.norm, self.dropout = nn.LayerNorm(c.width, eps=1e-6), Dropout(c.dropout)
        self.inner, self.outer = nn.Linear(c.width, c.width), nn.Linear(c.width, c.width)
        self.gate = nn.Linear(c.width, c.width, bias=False) if c.gate == "learned" else nn.Identity()

    def forward(self, nodes: Nodes, batch: Batch) -> Tensor:
        """Map the states of `N` utterances in modalities `a` and `b`, `(N, 2, width)`, to the gated states `g_ab`, `(N, width)`."""
        y = nodes.masked()[:, 1] + self.dropout(self.attend(nodes, batch).states[:, 0])  # Eq. (2)
        hidden = self.dropout(F.gelu(self.inner(self.norm(y)), approximate="tanh"))
        state: Tensor = y + self.dropout(self.outer(hidden))  # Eq. (3)
        return self.gate(state).sigmoid() * state  # Eq. (4)


class SDT(Method):
    """Attention between modalities, hierarchical gates, and self-distillation."""

    Config = SDTConfig
    family = "transformer"
    paper = Paper(
        title="A Transformer-based Model with Self-distillation for Multimodal Emotion Recognition in Conversations",
        authors="Ma et al.",
        venue="IEEE Transactions on Multimedia 26",
        year=2024,
        url="https://arxiv.org/abs/2310.20494",
        code="https://github.com/butterfliesss/SDT",
    )

    def build(self, c: SDTConfig, shapes: Shapes) -> None:
        """Build the modules in the order of the equations."""
        self.names, width = tuple(shapes.widths), c.width
        self.project = nn.ModuleDict({m: nn.Linear(inputs, width, bias=False) for m, inputs in shapes.widths.items()})
        self.positions, self.dropout = Positions(), Dropout(c.dropout)
        self.speaker = SpeakerEmbedding(width, given=shapes.speaker)
        self.pairs = nn.ModuleDict({f"{a}_to_{b}": Pair(c) for b in self.names for a in self.names})
        self.reduce = nn.ModuleDict({b: nn.Linear(len(self.names) * width, width) for b in self.names})
        self.gate, self.classify = nn.Linear(width, width, bias=False), nn.Linear(width, shapes.outputs)
        pupils = self.names if c.own or c.distil else ()
        self.own = nn.ModuleDict({m: nn.Sequential(nn.ReLU(), Dropout(c.dropout), nn.Linear(width, shapes.outputs)) for m in pupils})

    def streams(self, given: Given) -> Tensor:
        """Compute the states `u_b` of Eq. (5) for `N` utterances, `(N, modalities, width)`; zero for a missing modality."""
        rows = torch.stack([self.project[name](given.values[name]) for name in self.names], 1)
        nodes = self.positions(Nodes(rows, given.here(self.names), self.names), given.batch)
        nodes = nodes.with_states(self.dropout(nodes.states + self.speaker(given)[:, None]))  # Eq. (1)
        found = []
        for b, target in enumerate(self.names):
            gated = [self.pairs[f"{source}_to_{target}"](nodes.take(a, b), given.batch) for a, source in enumerate(self.names)]
            found.append(self.reduce[target](torch.cat(gated, -1)))  # Eq. (5)
        return nodes.with_states(torch.stack(found, 1)).masked()

    def answer(self, given: Given) -> Prediction:
        """Compute the scores and, in training, the scores of single modalities and the distillation loss."""
        u, here = self.streams(given), given.here(self.names)
        mask = (here | ~here.any(1, keepdim=True))[..., None]
        z = (self.gate(u).masked_fill(~mask, -torch.inf).softmax(1) * u).sum(1)  # Eq. (6)
        scores = self.classify(z)  # Eq. (7)
        if not (self.training and self.own):
            return Prediction(scores=scores, states=z)
        own = {m: head(u[:, k]) for k, (m, head) in enumerate(self.own.items())}  # Eq. (7)
        told = [distilled(own[m], scores, self.config.temperature) * here[:, k] for k, m in enumerate(self.names)]  # Eq. (8)
        penalty = self.config.distil * torch.stack(told).sum() / max(1, len(scores)) if self.task.labels else 0.0
        return Prediction(scores=scores, states=z, auxiliary=own, auxiliary_weight=self.config.own, penalty=penalty)


def distilled(pupil: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Compute the KL divergence of `N` utterances between teacher and pupil scores at a temperature; the teacher gets no gradient."""
    wanted = (teacher.detach() / temperature).log_softmax(-1)
    return F.kl_div((pupil / temperature).log_softmax(-1), wanted, reduction="none", log_target=True).sum(-1)
