r"""TFN: Tensor Fusion Network for Multimodal Sentiment Analysis (Zadeh et al., EMNLP 2017), then a graph stage.

A small network encodes each modality of an utterance. A tensor of all products of the outputs then fuses the modalities.

.. math::
    z_m &= \mathrm{ReLU}(W_3\, \mathrm{ReLU}(W_2\, \mathrm{ReLU}(W_1\, \mathrm{BatchNorm}(x_m)))) \qquad m \in \{a, v\} \tag{1} \\
    z_t &= W_t\, \mathrm{LSTM}(\text{words})_{\text{last}} + b_t \tag{2} \\
    \tilde z_m &= [1 ; z_m] \tag{3} \\
    Z &= \tilde z_a \otimes \tilde z_v \otimes \tilde z_t \tag{4} \\
    u &= \mathrm{ReLU}(U_2\, \mathrm{ReLU}(U_1 Z)) \tag{5} \\
    o &= U_3 u, \qquad \hat y = r\, \sigma(o) - s \text{ for a score} \tag{6}

The equations follow the public implementations; the numbering is ours. All linear maps have biases.

| symbol | attribute | shape |
|---|---|---|
| `x_m` | | `(N, features)` |
| `z_m` | `subnets[m]` | `(N, widths[m])` |
| LSTM, `W_t` | `subnets.text.lstm`, `.linear` | `(n, L, words)` (states of `L` words), `(widths[text], words)` |
| `Z` | `products(...)` | `(N, product of all widths[m] + 1)`, the last modality fastest |
| `U_1`, `U_2` | `after` | `(hidden, ·)`, `(hidden, hidden)` |
| `U_3` | `classify` | `(classes, hidden)`, wider with a graph stage |
| `r`, `s` | `span`, `shift` | |

**Differences from the paper and from its public implementations**

- Any number of modalities can be fused: with two modalities, `Z` is a matrix, and with one, `Z` is the vector of (3).
- For a missing modality, :math:`z_m = 0`. All its products are then zero, and the tensor of the other modalities remains. The batch norm
  ignores a missing modality. In the public implementations, the *input* of a missing modality would be zero, which gives another tensor.
- Eq. (1): in training, the batch norm makes the utterances of a batch depend on each other. A batch of one utterance is scaled by running
  statistics; the public implementations fail for such a batch.
- As in the public implementations, (2) uses the LSTM state at the last word. In one public implementation, the text is padded
  on the right, so that this state comes from the padding. If text has one vector per utterance, (1) encodes the text, because there is no
  sequence for an LSTM.
- We had no access to the paper's text.
- Audio and video sequences first become vectors: their mean and standard deviation over time. The public implementations also average over
  padding.
- Eq. (6): for a task with classes, the scores are `o`. The default widths are far smaller than those of the first public implementation,
  whose tensor has 70 785 entries.
- The paper does not model the conversation. Here a graph stage follows (5); the option `graph = "none"` removes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor, nn

from erc_graph.encoders.dropout import Dropout
from erc_graph.methods.conversation import InConversation, UtteranceMethod
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import Bounded, SubNets
from erc_graph.methods.ranges import Share, Size, Weight, Widths


@dataclass(frozen=True, kw_only=True)
class TFNConfig(InConversation):
    """Options of TFN.

    Attributes:
        width: Width of `z_m`, unless `widths` sets it.
        widths: Modality → width of its `z_m`.
        words: Width of the LSTM, if text is a sequence of words.
        hidden: Hidden width of both layers after the tensor.
        dropout: Dropout before each network of (1) and after the LSTM.
        tensor_dropout: Dropout on the tensor.
        span: Range `r` of the scores in a score task: largest minus smallest score.
        shift: Shift `s` of the scores in a score task: the negative of the smallest score.
    """

    width: Size = 16
    widths: Widths = field(default_factory=lambda: {"text": 32})
    words: Size = 64
    hidden: Size = 64
    dropout: Share = 0.3
    tensor_dropout: Share = 0.5
    span: Weight = 6.0
    shift: float = 3.0


def products(z: Sequence[Tensor]) -> Tensor:
    """Compute the tensor `Z` of Eq. (4) from vectors `(N, width_m)`, flattened, last index fastest: `(N, product of all (width_m + 1))`."""
    first, *others = (torch.cat([torch.ones_like(vectors[:, :1]), vectors], -1) for vectors in z)  # Eq. (3)
    for other in others:
        first = (first[:, :, None] * other[:, None]).flatten(1)  # Eq. (4)
    return first


class TFN(UtteranceMethod):
    """All products of the modality vectors, then a graph stage over the conversation."""

    Config = TFNConfig
    sequences_of = ("text",)
    couples_batch = "the batch norm of the features, Eq. (1)"
    paper = Paper(
        title="Tensor Fusion Network for Multimodal Sentiment Analysis",
        authors="Zadeh et al.",
        venue="EMNLP",
        year=2017,
        url="https://aclanthology.org/D17-1115",
        code="https://github.com/A2Zadeh/TensorFusionNetwork",
    )

    def build(self, config: TFNConfig, shapes: Shapes) -> None:
        """Build a network per modality (text last, as in the public implementations), two layers, the graph stage, and the classifier."""
        self.names = tuple(sorted(shapes.modalities, key=lambda name: name == "text"))
        widths = {name: config.widths.get(name, config.width) for name in self.names}
        self.subnets = SubNets(shapes, widths, config.words, config.dropout)
        size, hidden = prod(width + 1 for width in widths.values()), config.hidden
        layers = [nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
        self.after = nn.Sequential(Dropout(config.tensor_dropout), *layers)
        self.conversation = self.around(hidden)
        linear, bounded = nn.Linear(self.conversation.width, shapes.outputs), Bounded(config.span, config.shift)
        self.classify = linear if self.task.kind == "classification" else nn.Sequential(linear, bounded)  # Eq. (6)

    def vectors(self, given: Given) -> dict[str, Tensor]:
        """Compute the vectors `z_m` of `N` utterances: modality → `(N, widths[m])`; zero for a missing modality."""
        z = self.subnets(given)  # Eqs. (1), (2)
        return {m: z[m] for m in self.names}

    def encode(self, given: Given) -> Tensor:
        """Compute the states of `N` utterances, `(N, hidden)`; a graph stage concatenates its own states to them."""
        u = self.after(products(list(self.vectors(given).values())))  # Eq. (5), (N, hidden)
        return self.conversation(u, given.here(self.names).any(1), given)
