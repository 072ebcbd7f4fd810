r"""Attention fusion: multi-head attention between the modalities of an utterance, then message passing over the conversation.

This method is our own. It replaces MHA (Zhang et al., Computers & Industrial Engineering, 2022). We know only the title of MHA: "multi-head
attention fusion networks for multi-modal speech emotion recognition".

.. math::
    x_m &= \mathrm{ReLU}(W_m f_m + b_m) \tag{1} \\
    y_m &= \mathrm{LN}\big(x_m + \mathrm{MHA}(x_m, \{x_n\}_n)\big) \tag{2} \\
    u &= \mathrm{ReLU}(U [y_a ; y_t ; y_v] + b) \tag{3} \\
    s &= W u + b \tag{4}

| symbol | attribute | shape (`N`: utterances) |
|---|---|---|
| `f_m` | | `(N, features)` |
| `W_m` | `project[m]` | `(width, features)` |
| MHA, LN | `attend`, `norm` | over `(N, modalities, width)` |
| `U` | `join` | `(width, modalities · width)` |
| `W` | `classify` | `(classes, width)`; a graph stage adds columns |

**Differences from the paper**

- We do not know which modality gives the queries in MHA, and which vectors are concatenated. We also do not know whether MHA attends to
  time steps or to vectors. Here every modality attends to all modalities of the utterance.
- For a sequence of words or frames, `f_m` consists of the mean and the standard deviation over time. The attention masks a missing
  modality, and the vector `y_m` of this modality is zero.
- After equation (3), a graph stage passes messages between utterances. All methods whose paper classifies single utterances have this graph
  stage (`erc_graph.methods.conversation`). The option `graph = "none"` removes this stage.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.self_attention import FrameAttention
from erc_graph.methods.conversation import InConversation, UtteranceMethod
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.ranges import Share, Size


@dataclass(frozen=True, kw_only=True)
class AttentionFusionConfig(InConversation):
    """Options of attention fusion; symbols and numbers such as (4) refer to the equations in the docstring of the module.

    Attributes:
        width: Width of `x_m`, `y_m` and `u`.
        heads: Number of attention heads.
        dropout: Dropout on the attention weights, and before the linear maps of (3) and (4).
    """

    width: Size = 128
    heads: Size = 4
    dropout: Share = 0.3


class AttentionFusion(UtteranceMethod):
    """Multi-head attention between the modalities of an utterance, then message passing over the conversation."""

    Config = AttentionFusionConfig
    reads = ("features", "sequences")
    stands_for = "Stands in for MHA, of which only the title is known: a simple method that fits the title"

    def build(self, c: AttentionFusionConfig, shapes: Shapes) -> None:
        """Build the modules in the order of the method's equations."""
        self.names = shapes.modalities
        self.project = nn.ModuleDict({name: nn.Sequential(nn.Linear(inputs, c.width), nn.ReLU()) for name, inputs in shapes.widths.items()})
        self.attend, self.norm = FrameAttention(c.width, heads=c.heads, dropout=c.dropout), nn.LayerNorm(c.width)
        self.join = nn.Sequential(Dropout(c.dropout), nn.Linear(len(self.names) * c.width, c.width), nn.ReLU())
        self.conversation = self.around(c.width)
        self.classify = nn.Sequential(Dropout(c.dropout), nn.Linear(self.conversation.width, shapes.outputs))  # Eq. (4)

    def encode(self, given: Given) -> Tensor:
        """Compute the utterance states, `(N, width)`, or wider with a graph, which appends its node states."""
        here = given.here(self.names)  # (N, modalities)
        x = torch.stack([self.project[name](given.values[name]) for name in self.names], 1)  # Eq. (1), (N, modalities, width)
        y = self.norm(x + self.attend(x, here | ~here.any(1, keepdim=True)))  # Eq. (2)
        u = self.join(torch.where(here[..., None], y, 0.0).flatten(1))  # Eq. (3), (N, width)
        return self.conversation(u, here.any(1), given)
