r"""LMF: Efficient Low-rank Multimodal Fusion with Modality-Specific Factors (Liu et al., ACL 2018), and the conversation around it.

The tensor of TFN is multiplied with a weight tensor of low rank, without forming either tensor.

.. math::
    z_m &= \mathrm{ReLU}(W_3\, \mathrm{ReLU}(W_2\, \mathrm{ReLU}(W_1\, \mathrm{BatchNorm}(x_m)))), \qquad
    z_t = W_t\, \mathrm{LSTM}(\text{words})_{\text{last}} + b_t \tag{1} \\
    \tilde z_m &= [1 ; z_m] \tag{2} \\
    \phi_m^r &= \tilde z_m^\top W_m^r \tag{3} \\
    \Lambda^r &= \prod_m \phi_m^r \tag{4} \\
    o &= \sum_{r=1}^{R} w_r \Lambda^r + c \tag{5}

The equations are those of the public codes; their numbers are ours. The maps `W_1` to `W_3` have biases.

| symbol | attribute | shape |
|---|---|---|
| `z_m` | `subnets[m]` | `(N, widths[m])` |
| `W_m` | `factors[m]` | `(R, widths[m] + 1, K)` |
| `w`, `c` | `weight`, `bias` | `(1, R)`, `(1, K)` |
| `Λ` | `products(...)` | `(R, N, K)` |

**Differences from the paper and from its public codes**

- (5): the paper, whose text was not at hand, seems to have no `w`. In the codes `K` is the number of classes and `o` the scores. Here
  `fused` is the width of a vector, which a ReLU, the conversation and the classifier read (our choice). `fused = 0` with
  `graph = "none"` is the published model, for all classes at once; the codes train one model per emotion.
- First weights are drawn matrix by matrix, and the rows of the constant are one. The codes draw a whole factor at once, with small weights
  where `R` and `K` are large. With their initialisation, the sample corpus is not learned at the default width.
- A missing modality has :math:`z_m = 0`, so that :math:`\phi_m^r` is the row of the constant: the product fuses the others.
- Text of one vector per utterance goes through the layers of audio and video, because there is no sequence to read. Audio and video
  sequences become vectors before. Any number of modalities is fused.
- The codes build a dropout after the fusion and never apply it; it is left out. They train the factors at their own learning rate. One code
  fails for a single utterance; another never trains `w` and `c`. The script for IEMOCAP chooses an epoch and then predicts with the last.
- In training the batch norm couples the utterances of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce

import torch
from torch import Tensor, nn

from erc_graph.encoders.dropout import Dropout
from erc_graph.errors import ConfigError
from erc_graph.methods.conversation import InConversation, UtteranceMethod
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import SubNets
from erc_graph.methods.ranges import Share, Size, Widths


@dataclass(frozen=True, kw_only=True)
class LMFConfig(InConversation):
    """LMF.

    Attributes:
        width: Width of `z_m`, if `widths` does not set it.
        widths: Modality → width of its `z_m`.
        words: Width of the LSTM, where text is words.
        rank: `R`.
        fused: `K`; 0: the number of classes, and `o` are the scores, as published; then there is no graph.
        dropout: Dropout in (1), and before the classifier.
    """

    width: Size = 16
    widths: Widths = field(default_factory=lambda: {"text": 32})
    words: Size = 64
    rank: Size = 4
    fused: int = 64
    dropout: Share = 0.2


class LMF(UtteranceMethod):
    """Products of what the modalities say, of low rank, and the conversation around them."""

    Config = LMFConfig
    sequences_of = ("text",)
    couples_batch = "the batch norm of the features, Eq. (1)"
    paper = Paper(
        title="Efficient Low-rank Multimodal Fusion With Modality-Specific Factors",
        authors="Liu et al.",
        venue="ACL",
        year=2018,
        url="https://aclanthology.org/P18-1209",
        code="https://github.com/Justin1904/Low-rank-Multimodal-Fusion",
    )

    def build(self, config: LMFConfig, shapes: Shapes) -> None:
        """Build a network and a factor per modality, the conversation, and the classifier."""
        if config.fused < 0 or (not config.fused and self.graph is not None):
            raise ConfigError(f"pipeline.fused: expected 1 or more, or 0 with graph 'none', found {config.fused} with {config.graph!r}")
        self.names, size = shapes.modalities, config.fused or shapes.outputs
        widths = {name: config.widths.get(name, config.width) for name in self.names}
        self.subnets = SubNets(shapes, widths, config.words, config.dropout)
        factors = {m: nn.Parameter(torch.empty(config.rank, width + 1, size)) for m, width in widths.items()}
        self.factors, self.weight = nn.ParameterDict(factors), nn.Parameter(torch.empty(1, config.rank))
        for weight in (self.weight, *(matrix for factor in factors.values() for matrix in factor)):
            nn.init.xavier_normal_(weight)
        for factor in factors.values():
            nn.init.ones_(factor[:, 0])
        self.bias = nn.Parameter(torch.zeros(1, size))
        self.conversation = self.around(size)
        linear = nn.Linear(self.conversation.width, shapes.outputs)
        self.classify = nn.Sequential(nn.ReLU(), Dropout(config.dropout), linear) if config.fused else nn.Identity()

    def products(self, given: Given) -> Tensor:
        """Compute `Λ`: `(R, N, K)`."""
        z = self.subnets(given)  # Eq. (1)
        return reduce(torch.mul, (nn.functional.pad(z[m], (1, 0), value=1.0) @ self.factors[m] for m in self.names))  # Eqs. (2)-(4)

    def encode(self, given: Given) -> Tensor:
        """Return `(N, K)`, with a conversation wider."""
        o = torch.einsum("r,rnk->nk", self.weight[0], self.products(given)) + self.bias  # Eq. (5)
        return self.conversation(o, given.here(self.names).any(1), given)
