r"""MultiEMO: an attention-based correlation-aware multimodal fusion framework for emotion recognition in conversations.

The paper is by Shi and Huang (ACL 2023, pages 14752-14766). Each modality has a DialogueRNN and attends to the other modalities. Two
further losses compare the states of utterances. The equations follow the public code; the numbering is ours.

.. math::
    x_m &= W_m f_m + b_m \tag{1} \\
    \tilde x_m &= \mathrm{ReLU}(D_m [e^\to ; e^\leftarrow] + d_m), \qquad e = \mathrm{DialogueRNN}_m(x_m) \tag{2} \\
    z &\leftarrow \mathrm{LN}(z + \mathrm{MHA}(z, \tilde x_n, \tilde x_n)) \quad \text{for each } n \ne m \tag{3} \\
    z &\leftarrow \mathrm{LN}(z + W_4\, \mathrm{ReLU}(W_3 z + b_3) + b_4) \tag{4} \\
    h &= W_f [z_m]_m + b_f \tag{5} \\
    s &= W_2\, \mathrm{ReLU}(W_1 h + b_1) + b_2 \tag{6} \\
    L_{SWFC} &= - \frac1N \sum_i \omega_{y_i} \mathrm{mean}_{j \ne i, y_j = y_i} (1 - p_{ij})^\gamma \ln p_{ij}, \qquad
        p_{ij} = \mathrm{softmax}_{j \ne i} \cos(h_i, h_j) / \tau \tag{7} \\
    L_{HGR} &= - \textstyle\sum_{m < n} \big( \tfrac1{N - 1} \sum_i \bar z_{m,i} \cdot \bar z_{n,i} - \tfrac12 \mathrm{tr}(
        \mathrm{cov}(z_m)\, \mathrm{cov}(z_n)) \big) \tag{8}

Before the first layer, `z` equals :math:`\tilde x_m`; each layer consists of (3) and (4). A class `c` with :math:`n_c` training utterances
has the weight :math:`\omega_c \propto n_c^{-\alpha}`; the weights sum to one. :math:`\bar z` is `z` minus its mean over the utterances. The
DialogueRNN has no listener states, and its attention weights do not depend on the current utterance (`erc_graph.encoders.parties`).

| symbol | attribute | shape |
|---|---|---|
| `W_m`, DialogueRNN, `D_m` | `project.project[m]`, `context`, `merge[m]` | `(width, features)`, , `(width, 2 width)` |
| MHA, LN; (4) | `stacks[m][l].attend[n]`, `.norm[n]`; `.feedforward` | four maps `(width, width)`; `(feedforward, width)` and back |
| `W_f`, `W_1`, `W_2` | `fuse`, `classify` | `(width, modalities · width)`, `(hidden, width)`, `(classes, hidden)` |

**Differences from the paper and from its public code**

- We had no access to the paper's text. In the public code, attention and recurrence read padding, so the scores depend on the batch. Here
  padding is not read.
- Eq. (8) follows the definition of Soft-HGR correlation. The public code does not subtract the mean of the states. The public code computes
  the covariance between utterances, not channels, and divides the sum by `N` once more.
- Cross entropy has the weight one; the weights of (7) and (8) are relative to it. Eq. (7) uses only the utterances that the cross entropy
  uses.
- For MELD, the public code has no recurrent network for text (`text_context = false`). The other recurrent networks read only forward
  (`bidirectional = false`); (2) is then `ReLU(e)`.
- A missing modality is zero in (2), its keys are masked in (3), and its `z` is zero in (5). With a single modality, (3) is left out. For a
  score task, (7) is left out.
- In the public code, the dropout of (6) is 0 and follows the last layer; here it precedes the last layer. Eq. (2) has no dropout.
- The public code uses text features of a fine-tuned encoder and reports the best test result of all epochs. Here the epoch is selected on
  the development data.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.feedforward import FeedForward
from erc_graph.encoders.parties import SAID, Parties, Party
from erc_graph.encoders.stream_attention import StreamAttention
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import Streams
from erc_graph.methods.ranges import Causal, Positive, Share, Size, Weight
from erc_graph.methods.stage import Prediction


@dataclass(frozen=True, kw_only=True)
class MultiEMOConfig(Causal):
    """Options of MultiEMO.

    Attributes:
        width: Width of all states.
        hidden: Hidden width of the classifier; default: `width`.
        layers: Number of layers for each modality; a layer is (3) and (4).
        heads: Number of attention heads in (3).
        feedforward: Hidden width of (4).
        bidirectional: Whether the recurrent networks of (2) also read backwards.
        text_context: Whether text has a recurrent network.
        contrast: Weight of the contrastive loss (7).
        correlation: Weight of the correlation loss (8).
        alpha: Exponent α of the class weights in (7).
        gamma: Exponent γ in (7).
        temperature: Temperature τ in (7).
        dropout: Dropout on attention weights, on layer outputs, and before the last linear layer.
    """

    width: Size = 128
    hidden: Size | None = None
    layers: Size = 2
    heads: Size = 4
    feedforward: Size = 256
    bidirectional: bool = True
    text_context: bool = True
    contrast: Weight = 1.0
    correlation: Weight = 1.0
    alpha: Weight = 1.2
    gamma: Weight = 2.0
    temperature: Positive = 1.0
    dropout: Share = 0.0


class Layer(nn.Module):
    """A layer of crossmodal attention and a feed-forward network, Eqs. (3) and (4)."""

    def __init__(self, c: MultiEMOConfig, others: tuple[str, ...]) -> None:
        super().__init__()
        self.attend = nn.ModuleDict({n: StreamAttention(c.width, heads=c.heads, dropout=c.dropout, causal=c.causal) for n in others})
        self.norm, self.dropout = nn.ModuleDict({n: nn.LayerNorm(c.width) for n in others}), Dropout(c.dropout)
        self.feedforward = FeedForward(c.width, c.feedforward, c.dropout)

    def forward(self, z: Tensor, here: Tensor, nodes: Nodes, batch: Batch) -> Tensor:
        """Compute the new states `z` of one modality, `(N, width)`, from its states, their mask `(N,)`, and all modalities' states."""
        for n, attend in self.attend.items():
            k = nodes.streams.index(n)
            both = Nodes(torch.stack([nodes.states[:, k], z], 1), torch.stack([nodes.present[:, k], here], 1), (n, "asks"))
            z = self.norm[n](torch.where(here[:, None], z, 0.0) + self.dropout(attend(both, batch).states[:, 0]))  # Eq. (3)
        return self.feedforward(z)  # Eq. (4)


class MultiEMO(Method):
    """Recurrent context, attention between modalities, and contrastive and correlation losses."""

    Config = MultiEMOConfig
    family = "transformer"
    couples_batch = "the losses between utterances, Eqs. (7), (8)"
    paper = Paper(
        title="MultiEMO: An Attention-Based Correlation-Aware Multimodal Fusion Framework for Emotion Recognition in Conversations",
        authors="Shi and Huang",
        venue="ACL",
        year=2023,
        url="https://aclanthology.org/2023.acl-long.824",
        code="https://github.com/TaoShi1998/MultiEMO-ACL2023",
    )

    def build(self, c: MultiEMOConfig, shapes: Shapes) -> None:
        """Build the modules in the order of the equations."""
        self.names = tuple(sorted(shapes.widths, key=lambda name: (name != "text", name)))  # the order in which the code attends
        both, heard = c.bidirectional and not c.causal, [m for m in self.names if m != "text" or c.text_context]
        self.project = Streams({m: shapes.widths[m] for m in self.names}, c.width)
        size: Any = {"emotion": c.width, "attention": "simple", "bidirectional": both, "streams": len(heard)}
        self.context = Parties({SAID: c.width}, c.width, {"q": Party(width=c.width)}, **size) if heard else None
        self.merge = nn.ModuleDict({m: nn.Linear(2 * c.width, c.width) if both else nn.Identity() for m in heard})
        others = {m: tuple(n for n in self.names if n != m) for m in self.names}
        self.stacks = nn.ModuleDict({m: nn.ModuleList(Layer(c, others[m]) for _ in range(c.layers)) for m in self.names})
        self.fuse, hidden = nn.Linear(len(self.names) * c.width, c.width), c.hidden or c.width
        self.classify = nn.Sequential(nn.Linear(c.width, hidden), nn.ReLU(), Dropout(c.dropout), nn.Linear(hidden, shapes.outputs))
        self.register_buffer("counts", torch.zeros(len(self.task.labels)))

    def keep(self, index: int, batch: Batch) -> Batch:
        """Count the labels of each class in the first batch, which is the training split, for the class weights of (7)."""
        counts = self.get_buffer("counts")
        if self.task.labels and not counts.any():
            counts.copy_(torch.bincount(batch.target[batch.judged & (batch.target >= 0)], minlength=len(counts)))
        return batch

    def streams(self, given: Given) -> Nodes:
        """Compute the recurrent states `x̃` of Eq. (2) for `N` utterances: `(N, modalities, width)`."""
        nodes = self.project(given)  # Eq. (1)
        found = dict(zip(self.names, nodes.masked().unbind(1), strict=True))
        if self.context is not None:
            e = self.context(nodes.take(*map(self.names.index, self.merge)), given.batch).states
            found |= {m: merge(own).relu() for (m, merge), own in zip(self.merge.items(), e.unbind(1), strict=True)}  # Eq. (2)
        return nodes.with_states(torch.stack(list(found.values()), 1))

    def attended(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Compute the states `z` of Eqs. (3) and (4) for `N` utterances in all modalities: `(N, modalities, width)`."""
        found = []
        for k, stack in enumerate(self.stacks.values()):
            z, here = nodes.states[:, k], nodes.present[:, k]
            for layer in cast(nn.ModuleList, stack):
                z = layer(z, here, nodes, batch)
            found.append(z)
        return nodes.with_states(torch.stack(found, 1))

    def answer(self, given: Given) -> Prediction:
        """Compute the scores and, in training, the losses between utterances."""
        z = self.attended(self.streams(given), given.batch)
        h = self.fuse(z.masked().flatten(1))  # Eq. (5)
        c, batch, penalty = self.config, given.batch, h.new_zeros(())
        if self.training and c.contrast and self.task.labels:
            rows = batch.judged & (batch.target >= 0)
            penalty = penalty + c.contrast * self.contrast(h[rows], batch.target[rows])  # Eq. (7)
        if self.training and c.correlation:
            for m, n in combinations(range(len(self.names)), 2):
                both = z.present[:, m] & z.present[:, n]
                penalty = penalty + c.correlation * correlation(z.states[both, m], z.states[both, n])  # Eq. (8)
        return Prediction(scores=self.classify(h), states=h, penalty=penalty)  # Eq. (6)

    def contrast(self, h: Tensor, target: Tensor) -> Tensor:
        """Compute the loss (7) of `n` utterances from their states, `(n, width)`, and labels, `(n,)`; zero for fewer than two."""
        c, unit, own = self.config, F.normalize(h, dim=-1), torch.eye(len(h), dtype=torch.bool, device=h.device)
        log = (unit @ unit.T / c.temperature).masked_fill(own, -torch.inf).log_softmax(-1).masked_fill(own, 0.0)
        alike = (target[:, None] == target) & ~own
        focal = torch.where(alike, (1 - log.exp()).clamp(min=1e-12) ** c.gamma * log, 0.0).sum(1) / alike.sum(1).clamp(min=1)
        weight = self.get_buffer("counts").to(h.dtype).clamp(min=1) ** -c.alpha
        return -((weight / weight.sum())[target] * focal).sum() / max(1, len(h))


def correlation(x: Tensor, y: Tensor) -> Tensor:
    """Compute the term of Eq. (8) for `n` utterances in two modalities, `(n, width)` each; zero for fewer than two utterances."""
    x, y, others = x - x.mean(0), y - y.mean(0), max(1, len(x) - 1)
    return ((x.T @ x) * (y.T @ y)).sum() / (2 * others**2) - (x * y).sum() / others
