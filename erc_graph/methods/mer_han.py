r"""MER-HAN: hybrid attention networks on audio and text, after Zhang et al. (Biomedical Signal Processing and Control, 2023).

The abstract describes attention within each modality, between modalities, and over all modalities together. The equations follow the code
of a third party; the numbering is ours.

.. math::
    S_m &= \mathrm{BiLSTM}(x_m), \text{ of text } S_m = x_m \tag{1} \\
    A_m &= \mathrm{LN}(S_m + \mathrm{MHA}(S_m, S_m, S_m)) \qquad \text{(queries, keys, values)} \tag{2} \\
    P_m &= W_m A_m + b_m \tag{3} \\
    U_m &= \mathrm{LN}\big(P_m + \textstyle\sum_{n \ne m} \mathrm{MHA}(P_m, P_n, P_n)\big) \tag{4} \\
    F &= [U_1 ; U_2 ; \dots] \text{ along time}, \qquad \alpha = \mathrm{softmax}_t(F_t u) \tag{5} \\
    g &= \big(\textstyle\sum_t \alpha_t F_t\big) \odot \mathrm{mean}_t F_t, \qquad s = W g + b \tag{6}

| symbol | attribute | shape |
|---|---|---|
| `x_m` | `items` | `(n, L_m, features)`, scaled, after a linear map that the third party's code lacks |
| BiLSTM, (2) | `recur[m]`, `attend[m]`, `norm[m]` | `(n, L_m, hidden)`, text `(n, L_m, features)` |
| `P_m`, `U_m` | `project[m]`, `exchange`, `normed[m]` | `(n, L_m, width)` |
| `F`; `u`, `W` | `query`, `classify` | `(n, sum of L_m, width)`; `(width,)`, `(classes, width)`, wider with a graph stage |

**What is guessed, and differences from the third party's code**

- Eq. (5): the third party's code concatenates the channels of word `i` and frame `i`, although they are not aligned (`join = "index"`). By
  default, we concatenate the sequences along time. The softmax then runs over the words and frames of all modalities, which fits the
  "global inter-modal" attention of the abstract. Eq. (6): the product comes from a figure of the paper; the paper may mean a sum.
- The third party's code masks nothing, although most of its 512 steps are padding. Here padding is masked, and (4)-(6) leave out a missing
  modality. With `join = "index"`, the channels of a missing modality are zero. The channels of a shorter sequence are zero after its end.
- A modality with one vector per utterance is a sequence of one item. If all modalities are vectors, (2) and (4) do not depend on queries
  and keys. If `F` has a single item, (6) becomes :math:`U \odot U` and loses all signs. `F` has one item for an utterance with a single
  item, and for vectors with `join = "index"`.
- The third party's code has no dropout and no graph stage, and only two modalities. For three modalities, we apply (4) to every ordered
  pair, and every modality except text has a BiLSTM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.exchange import Exchange
from erc_graph.encoders.frame_lstm import FrameLSTM
from erc_graph.encoders.self_attention import FrameAttention
from erc_graph.encoders.sequences import masked_mean
from erc_graph.methods.conversation import InConversation, UtteranceMethod
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import Items, Padded
from erc_graph.methods.ranges import Even, Share, Size


@dataclass(frozen=True, kw_only=True)
class MERHANConfig(InConversation):
    """Options of MER-HAN.

    Attributes:
        hidden: Width of the BiLSTM states, both directions together.
        layers: Number of BiLSTM layers.
        width: Width of `U`.
        heads: Number of attention heads in every attention layer.
        join: Concatenation of all `U` to `F`: along `time`, or of the channels at the same `index`.
        dropout: Dropout on `A` and before the classifier.
    """

    hidden: Even = 128
    layers: Size = 2
    width: Size = 64
    heads: Size = 4
    join: Literal["time", "index"] = "time"
    dropout: Share = 0.2


class MERHAN(UtteranceMethod):
    """Attention within each modality, between modalities and over all modalities, after Zhang et al., then a graph stage."""

    Config = MERHANConfig
    unused = {"exchange.*.key.bias": "it adds the same to all scores of a query, which cancels in the softmax"}
    paper = Paper(
        title="Multimodal Emotion Recognition Based on Audio and Text by Using Hybrid Attention Networks",
        authors="Zhang et al.",
        venue="Biomedical Signal Processing and Control 85",
        year=2023,
        url="https://doi.org/10.1016/j.bspc.2023.105052",
        after=True,
    )

    def build(self, config: MERHANConfig, shapes: Shapes) -> None:
        """Build the three attention blocks, the graph stage, and the classifier."""
        width, self.names = config.width, shapes.modalities
        items = {m: item[0] if len(item) == 1 else config.hidden for m, item in shapes.items.items()} | dict(shapes.widths)
        states = {m: items[m] if m == "text" else config.hidden for m in self.names}
        self.items = Items(shapes, items)
        self.recur = nn.ModuleDict({m: FrameLSTM(items[m], states[m], layers=config.layers) for m in self.names if m != "text"})
        self.attend = nn.ModuleDict({m: FrameAttention(states[m], heads=config.heads) for m in self.names})
        self.norm = nn.ModuleDict({m: nn.LayerNorm(states[m]) for m in self.names})
        self.project = nn.ModuleDict({m: nn.Sequential(Dropout(config.dropout), nn.Linear(states[m], width)) for m in self.names})
        self.exchange = Exchange(self.names, width, heads=config.heads)
        self.normed = nn.ModuleDict({m: nn.LayerNorm(width) for m in self.names})
        self.size = width * (len(self.names) if config.join == "index" else 1)
        self.query = nn.Parameter(torch.randn(self.size) * self.size**-0.5)
        self.conversation = self.around(self.size)
        self.classify = self.head(config, self.conversation.width, shapes.outputs)

    def states(self, padded: Mapping[str, Padded]) -> Tensor:
        """Compute the vectors g of Eq. (6) for `n` utterances with at least one word, frame or vector: `(n, size)`."""
        p, masks = {}, {m: mask for m, (_, mask) in padded.items()}
        for m, (x, mask) in padded.items():
            s = self.recur[m](x, mask) if m in self.recur else x  # Eq. (1)
            a = self.norm[m](s + self.attend[m](s, mask | ~mask.any(1, keepdim=True)))  # Eq. (2); what is missing reads its padding
            p[m] = self.project[m](a)  # Eq. (3)
        u = [self.normed[m](p[m] + heard) * masks[m][..., None] for m, heard in self.exchange(p, masks).items()]  # Eq. (4)
        f, mask = torch.cat(u, 1), torch.cat(list(masks.values()), 1)
        if self.config.join == "index":
            f = nn.utils.rnn.pad_sequence([one.transpose(0, 1) for one in u]).permute(2, 0, 1, 3).flatten(2)  # (n, longest L_m, size)
            mask = nn.utils.rnn.pad_sequence([one.T for one in masks.values()]).any(1).T
        alpha = (f @ self.query).masked_fill(~mask, -torch.inf).softmax(-1)  # Eq. (5)
        return (alpha[..., None] * f).sum(1) * masked_mean(f, mask)  # Eq. (6)

    def encode(self, given: Given) -> Tensor:
        """Compute the states of `N` utterances, `(N, size)`; a graph stage concatenates its own states to them."""
        g = self.items(self.states, given, self.size)
        return self.conversation(g, given.here(self.names).any(1), given)
