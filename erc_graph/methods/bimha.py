r"""After BIMHA: bimodal information-augmented multi-head attention (after Wu et al., Knowledge-Based Systems 235, 2022).

For each pair of modalities, the outer product of their vectors is projected to one row of a matrix `D`. The rows of an utterance then
attend to each other.

.. math::
    Z_m &= \mathrm{DNN}_m(x_m) \tag{1} \\
    Z_{mn} &= \mathrm{vec}(Z_m \otimes Z_n), \qquad \bar Z_s = \mathrm{ReLU}(W_s Z_s + b_s) \tag{2} \\
    H_s &= \mathrm{ReLU}(V \bar Z_s + c), \qquad D = [H_{av} ; H_{at} ; H_{vt}] \tag{3} \\
    D' &= D + \mathrm{MultiHead}(D, D, D) \tag{4} \\
    f &= \mathrm{ReLU}(U_2\, \mathrm{ReLU}(U_1\, \mathrm{vec}\, D')) \tag{5}

| symbol | attribute | shape (`N`: utterances) |
|---|---|---|
| `Z_m` | `subnets` | `(N, inner_width)` |
| `W_s` | `pairs[s]` | `(width, inner_width^2)` |
| `V`, `D` | `shared`, `rows(...)` | `(width, width)`, `(N, pairs, width)` |
| MultiHead | `attend` | `(N, pairs, width)` |
| `U_1`, `U_2` | `after` | `(hidden, pairs · width)`, `(hidden, hidden)` |

**What is known, what was guessed, and what differs**

- We had no access to the paper's text or code. Equations (2) to (5) come from a review article. We guessed the ReLU of (3), the projections
  of (4), which all pairs share, and the concatenation of rows in (5). We also guessed all sizes, the dropout and the training. Equation (1)
  follows TFN: a batch norm and three linear layers. For a sequence of words, (1) is an LSTM and a linear layer on its last state.
- If a modality is missing, no row attends to the rows of its pairs, and these rows are zero in (5). If only modality :math:`m` is present,
  the rows of its pairs are :math:`\mathrm{ReLU}(W Z_m + b)` instead of (2). All modalities share :math:`W` and :math:`b` (attribute `own`).
- With two modalities, `D` has only one row, and (4) is a linear map with a residual connection. With a single modality, the only row of `D`
  is computed from this modality.
- The paper classifies single utterances. Here a graph stage (`erc_graph.methods.conversation`) follows (5) and passes messages between
  utterances. The option `graph = "none"` removes this stage.
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
    """Options of BIMHA; symbols and numbers such as (4) refer to the equations in the docstring of the module.

    Attributes:
        inner_width: Width of `Z_m`.
        width: Width of the rows of `D`.
        words: Width of the LSTM over words, if text is a sequence of words.
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
    """Attention between all pairs of modalities, after Wu et al., then message passing over the conversation."""

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
        """Build the modules in the order of the method's equations."""
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
        """Compute the rows `D` of equation (3), `(N, pairs, width)`, and a bool mask of the rows that are present, `(N, pairs)`."""
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
        """Compute the utterance states, `(N, hidden)`, or wider with a graph, which appends its node states."""
        rows, here = self.rows(given)
        mixed = rows + self.attend(rows, here | ~here.any(1, keepdim=True))  # Eq. (4)
        f = self.after((mixed * here[..., None]).flatten(1))  # Eq. (5)
        return self.conversation(f, here.any(1), given)
