r"""LMF: Efficient Low-rank Multimodal Fusion with Modality-Specific Factors (Liu et al., ACL 2018), then a graph stage.

LMF multiplies the tensor of TFN (`erc_graph.methods.tfn`) by a weight tensor of low rank, without computing either tensor.

.. math::
    z_m &= \mathrm{ReLU}(W_3\, \mathrm{ReLU}(W_2\, \mathrm{ReLU}(W_1\, \mathrm{BatchNorm}(x_m)))), \qquad
    z_t = W_t\, \mathrm{LSTM}(\text{words})_{\text{last}} + b_t \tag{1} \\
    \tilde z_m &= [1 ; z_m] \tag{2} \\
    \phi_m^r &= \tilde z_m^\top W_m^r \tag{3} \\
    \Lambda^r &= \prod_m \phi_m^r \tag{4} \\
    o &= \sum_{r=1}^{R} w_r \Lambda^r + c \tag{5}

The equations follow the public implementations; the numbering is ours. The linear maps `W_1` to `W_3` have biases.

| symbol | attribute | shape |
|---|---|---|
| `z_m` | `subnets[m]` | `(N, widths[m])` |
| `W_m` | `factors[m]` | `(R, widths[m] + 1, K)` |
| `w`, `c` | `weight`, `bias` | `(1, R)`, `(1, K)` |
| `Λ` | `products(...)` | `(R, N, K)` |

**Differences from the paper and from its public implementations**

- Eq. (5): we had no access to the paper, which seems to have no weights `w`. In the public implementations, `K` is the number of classes,
  and `o` are the class scores. Here `K` is the option `fused`, and `o` is a vector. A ReLU, the graph stage and a classifier follow (5);
  this is our choice. The options `fused = 0` and `graph = "none"` give the published model, for all classes at once. The public
  implementations train a separate model for each emotion.
- Each matrix :math:`W_m^r` is initialised separately. The row that multiplies the constant 1 of (2) is initialised with ones. The public
  implementations initialise all matrices of a modality together, which gives too small weights if `R` and `K` are large. With such weights
  and the default width, training fails on the sample corpus.
- For a missing modality, :math:`z_m = 0`. Then :math:`\phi_m^r` comes only from the constant 1 of (2), and the product (4) fuses the
  modalities that are present.
- If text has one vector per utterance, it is encoded like audio and video, because there is no sequence for an LSTM. Audio and video
  sequences first become vectors: their mean and standard deviation over time. Any number of modalities is fused.
- The public implementations define a dropout layer after the fusion but never apply it; here this dropout layer is left out. In their code,
  the factors have a separate learning rate. One implementation fails for a single utterance; another implementation never trains `w` and
  `c`. The public script for IEMOCAP selects the best epoch but predicts with the last epoch.
- In training, the batch norm makes the utterances of a batch depend on each other.
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
    """Options of LMF.

    Attributes:
        width: Width of `z_m`, unless `widths` sets it.
        widths: Modality → width of its `z_m`.
        words: Width of the LSTM, if text is a sequence of words.
        rank: Rank `R` of the weight tensor.
        fused: Width `K` of the fused vector; 0: `o` are the class scores, as published. The value 0 needs `graph = "none"`.
        dropout: Dropout in (1) and before the classifier.
    """

    width: Size = 16
    widths: Widths = field(default_factory=lambda: {"text": 32})
    words: Size = 64
    rank: Size = 4
    fused: int = 64
    dropout: Share = 0.2


class LMF(UtteranceMethod):
    """Low-rank products of the modality vectors, then a graph stage over the conversation."""

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
        """Build a network and low-rank factors for each modality, the graph stage, and the classifier."""
        if config.fused < 0 or (not config.fused and self.graph is not None):
            raise ConfigError(f"pipeline.fused: expected 1 or more, or 0 without a graph, found {config.fused} with graph {config.graph!r}")
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
        """Compute the products `Λ` of Eq. (4): `(R, N, K)` for rank `R`, `N` utterances and fused width `K`."""
        z = self.subnets(given)  # Eq. (1)
        return reduce(torch.mul, (nn.functional.pad(z[m], (1, 0), value=1.0) @ self.factors[m] for m in self.names))  # Eqs. (2)-(4)

    def encode(self, given: Given) -> Tensor:
        """Compute the states of `N` utterances, `(N, fused)`; a graph stage concatenates its own states to them."""
        o = torch.einsum("r,rnk->nk", self.weight[0], self.products(given)) + self.bias  # Eq. (5)
        return self.conversation(o, given.here(self.names).any(1), given)
