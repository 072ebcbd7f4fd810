r"""After BIMHA: bimodal information-augmented multi-head attention (after Wu et al., Knowledge-Based Systems 235, 2022).

The outer product of two modality vectors forms one row per pair of modalities; the rows then attend to each other.

.. math::
    Z_m &= \mathrm{DNN}_m(x_m) \tag{1} \\
    Z_{mn} &= \mathrm{vec}(Z_m \otimes Z_n), \qquad \bar Z_s = \mathrm{ReLU}(W_s Z_s + b_s) \tag{2} \\
    H_s &= \mathrm{ReLU}(V \bar Z_s + c), \qquad D = [H_{av} ; H_{at} ; H_{vt}] \tag{3} \\
    D' &= D + \mathrm{MultiHead}(D, D, D) \tag{4} \\
    f &= \mathrm{ReLU}(U_2\, \mathrm{ReLU}(U_1\, \mathrm{vec}\, D')) \tag{5}

| symbol | attribute | shape |
|---|---|---|
| `Z_m` | `subnets` | `(N, inner)` |
| `W_s` | `pairs[s]` | `(width, inner^2)` |
| `V`, `D` | `shared`, `rows(...)` | `(width, width)`, `(N, pairs, width)` |
| MultiHead | `attend` | `(N, pairs, width)` |
| `U_1`, `U_2` | `after` | `(hidden, ·)`, `(hidden, hidden)` |

**What is known, what was guessed, and what differs**

- Eqs. (2) to (5) come from a review; we had access neither to the paper's text nor to a code. We guessed the ReLU of (3), shared
  projections for all pairs in (4), concatenated rows in (5), all sizes, dropout and training. Eq. (1) follows TFN: batch norm, then three
  layers; for words, the last state of an LSTM.
- A pair with a missing modality is masked as a key in (4), and its row is then set to zero. If an utterance has only one modality, its
  pairs have the row :math:`\mathrm{ReLU}(W Z_m + b)` instead. One map `own` serves all modalities.
- With two modalities, (4) has one row and is a linear map with a residual connection. With one modality, this modality is the only row.
- The paper does not model the conversation. A graph stage follows (5); `graph = "none"` removes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.self_attention import FrameAttention
from erc_graph.methods.conversation import InConversation, UtteranceMethod
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import SubNets
from erc_graph.methods.ranges import Share, Size


@dataclass(frozen=True, kw_only=True)
class BIMHAConfig(InConversation):
    """Options of BIMHA.

    Attributes:
        inner_width: Width of `Z_m`.
        width: Width of the rows.
        words: Width of the LSTM, if text is a sequence of words.
        heads: Number of attention heads in (4).
        hidden: Hidden width of both layers of (5).
        dropout: Dropout before (1) and before (5).
        attention_dropout: Dropout on the attention weights of (4).
    """

    inner_width: Size = 32
    width: Size = 64
    words: Size = 64
    heads: Size = 4
    hidden: Size = 64
    dropout: Share = 0.3
    attention_dropout: Share = 0.1


class BIMHA(UtteranceMethod):
    """Attention between all pairs of modalities, after Wu et al., then a graph stage over the conversation."""

    Config = BIMHAConfig
    sequences_of = ("text",)
    couples_batch = "the batch norm of the features, Eq. (1)"
    paper = Paper(
        title="Video Sentiment Analysis with Bimodal Information-augmented Multi-Head Attention",
        authors="Wu et al.",
        venue="Knowledge-Based Systems 235",
        year=2022,
        url="https://arxiv.org/abs/2103.02362",
        after=True,
    )

    def build(self, config: BIMHAConfig, shapes: Shapes) -> None:
        """Build the parts in the order of the equations."""
        inner, width, hidden = config.inner_width, config.width, config.hidden
        self.subnets = SubNets(shapes, dict.fromkeys(shapes.modalities, inner), config.words, config.dropout)
        self.names = shapes.modalities
        self.pairs = nn.ModuleDict({f"{m}_{n}": nn.Linear(inner**2, width) for m, n in combinations(self.names, 2)})
        self.own, self.shared = nn.Linear(inner, width), nn.Linear(width, width)
        self.attend = FrameAttention(width, heads=config.heads, dropout=config.attention_dropout)
        inputs = max(1, len(self.pairs)) * width
        self.after = nn.Sequential(Dropout(config.dropout), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.conversation = self.around(hidden)
        self.classify = nn.Linear(self.conversation.width, shapes.outputs)

    def rows(self, given: Given) -> tuple[Tensor, Tensor]:
        """Compute the rows `D` `(N, pairs, width)`, and a bool mask `(N, pairs)` of the rows that are present."""
        z, present = self.subnets(given), given.present  # Eq. (1)
        alone = given.here(self.names).sum(1) == 1
        own = {m: torch.where((present[m] & alone)[:, None], self.own(z[m]), 0.0) for m in self.names}
        rows, here = [], []
        for m, n in combinations(self.names, 2):
            both, outer = present[m] & present[n], (z[m][:, :, None] * z[n][:, None]).flatten(1)
            rows.append(torch.where(both[:, None], self.pairs[f"{m}_{n}"](outer), own[m] + own[n]).relu())  # Eq. (2)
            here.append(both | alone & (present[m] | present[n]))
        if not rows:
            rows, here = [own[m].relu() for m in self.names], [present[m] for m in self.names]
        return self.shared(torch.stack(rows, 1)).relu(), torch.stack(here, 1)  # Eq. (3)

    def encode(self, given: Given) -> Tensor:
        """Compute the utterance states, `(N, hidden)`; a graph stage adds columns."""
        rows, here = self.rows(given)
        mixed = rows + self.attend(rows, here | ~here.any(1, keepdim=True))  # Eq. (4)
        f = self.after((mixed * here[..., None]).flatten(1))  # Eq. (5)
        return self.conversation(f, here.any(1), given)
