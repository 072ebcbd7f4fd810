r"""ICCN: Interaction Canonical Correlation Network (after Sun, Sarma, Sethares and Liang, AAAI 2020), then message passing.

Outer products combine text with audio, and text with video. Convolutional networks encode these products, and a correlation loss makes the
outputs of the networks correlate.

.. math::
    h_m &= \mathrm{LSTM}(\mathrm{Conv}(x_m))_{\text{last}}, \qquad h_m = \tanh(W_m x_m) \text{ for a vector} \tag{1} \\
    O_{tm} &= h_t\, h_m^\top \tag{2} \\
    k_{tm} &= K_m(O_{tm}) \tag{3} \\
    \rho(H_1, H_2) &= \mathrm{singular\ values}\big(\Sigma_{11}^{-1/2}\, \Sigma_{12}\, \Sigma_{22}^{-1/2}\big) \tag{4} \\
    L &= L_{task} - \lambda\, \mathrm{mean}_{m < n}\, \mathrm{mean}\, \rho(k_{tm}, k_{tn}) \tag{5} \\
    e &= [h_t ; k_{ta} ; k_{tv}] \tag{6}

The covariance matrices `Σ` are computed over the utterances of a batch. As in deep CCA (Andrew et al., ICML 2013), `r I` is added to `Σ_11`
and `Σ_22`.

| symbol | attribute | shape |
|---|---|---|
| `h_m` | `vectors[m]` or `frames[m]` | `(N, width)`, of text `(N, text_width)` |
| `K_m` | `convolve[m]`, `project[m]` | `(N, 1, text_width, width)` → `(N, units)` |
| `r` | `RIDGE` | 0.001 |

**What is known, what was guessed, and what differs**

- The abstract and later papers describe outer products, networks over these products, and a concatenation with text. Deep canonical
  correlation analysis (CCA) correlates the networks' outputs. We had no access to the paper's text or to code. We guessed both forms of
  (1), all widths, λ, and the sum in (5). We also guessed the networks of (3): two blocks of 3×3 convolution, 2×2 max pooling and ReLU, with
  8 and 16 channels. A later paper reports two training stages: the correlation of (5) alone, then a classifier on the frozen vectors `e`.
- Equation (4) is computed in double precision, with Cholesky factors instead of matrix square roots. The singular values are the same, and
  the gradient is finite for equal eigenvalues. A well-known public implementation of this loss takes the square root of each matrix entry
  and has NaN gradients.
- If a batch has few utterances compared with the option `units`, `r` dominates (4), and (5) says little. Use batches of many dialogues.
- If an utterance lacks audio or video, its `k_tm` for this modality is zero, and no covariance includes the utterance. If an utterance
  lacks text, all its `k_tm` are zero, and `h_t` is a learned vector. The corpus must have text. With only one other modality, (5) has no
  correlation term. With text alone, `e` equals `h_t`.
- The paper does not model the conversation. Here message passing between utterances follows (6); `graph = "none"` removes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.frontend import FrontEnds
from erc_graph.encoders.missing import Missing
from erc_graph.encoders.sequences import encode_sequences
from erc_graph.encoders.subnets import TOKENS
from erc_graph.errors import ConfigError
from erc_graph.methods.conversation import InConversation, UtteranceMethod
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.ranges import Share, Size, Weight
from erc_graph.methods.stage import Prediction

RIDGE = 1e-3
TEXT = "text"


@dataclass(frozen=True, kw_only=True)
class ICCNConfig(InConversation):
    """Options of ICCN.

    Attributes:
        text_width: Width of `h_t`.
        width: Width of `h_m` for audio and video.
        units: Width of `k_tm`.
        weight: Weight λ of the correlation in (5).
        dropout: Dropout before the classifier.
    """

    text_width: Size = 32
    width: Size = 16
    units: Size = 16
    weight: Weight = 0.1
    dropout: Share = 0.3


class Frames(nn.Module):
    """A convolution over three frames (for text, over one word), then an LSTM whose last state is the output, equation (1)."""

    def __init__(self, name: str, item: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.name, kernel = name, 1 if name == TEXT else 3
        self.front = FrontEnds({name: item}, width)
        self.convolve = nn.Conv1d(width, width, kernel, padding=kernel // 2)
        self.lstm = nn.LSTM(width, width, batch_first=True)

    def forward(self, batch: Batch) -> Tensor:
        """Compute `h_m` of a sequence, `(N, width)`; `h_m` is zero for an utterance without items."""
        return encode_sequences(self.read, self.front.prepared(batch).sequences[self.name], self.lstm.hidden_size, TOKENS)

    def read(self, padded: Tensor, mask: Tensor) -> Tensor:
        """Map padded sequences of words or frames, `(n, L, *item)`, and their mask `(n, L)` to vectors `(n, width)`."""
        frames, mask = self.front[self.name](padded, mask)  # zero behind the end
        states, _ = self.lstm(self.convolve(frames.transpose(1, 2)).transpose(1, 2))
        return states[torch.arange(len(mask), device=mask.device), mask.sum(1) - 1]


def correlations(one: Tensor, two: Tensor, here: Tensor) -> Tensor:
    """Compute the `k` canonical correlations ρ of two sets of vectors, `(N, k)` each, in double precision.

    Only those rows are used for which the mask `here`, `(N,)` bool, is true.
    """
    weight = here.double()[:, None]
    one, two = ((rows.double() - (weight * rows).sum(0) / weight.sum().clamp(min=1)) * weight for rows in (one, two))
    count = (weight.sum() - 1).clamp(min=1)
    ridge = RIDGE * torch.eye(one.shape[1], dtype=torch.double, device=one.device)
    first, second = (torch.linalg.cholesky(rows.T @ rows / count + ridge) for rows in (one, two))
    half = torch.linalg.solve_triangular(first, one.T @ two / count, upper=False)
    return torch.linalg.svdvals(torch.linalg.solve_triangular(second, half.T, upper=False))  # Eq. (4)


class ICCN(UtteranceMethod):
    """Products of text with audio and with video, a correlation loss after Sun et al., and message passing between utterances."""

    Config = ICCNConfig
    couples_batch = "the correlation over utterances, Eq. (5)"
    paper = Paper(
        title="Learning Relationships between Text, Audio, and Video via Deep Canonical Correlation for Multimodal Language Analysis",
        authors="Sun et al.",
        venue="AAAI",
        year=2020,
        url="https://arxiv.org/abs/1911.05544",
        after=True,
    )

    def build(self, config: ICCNConfig, shapes: Shapes) -> None:
        """Build the modules in the order of the method's equations."""
        if TEXT not in shapes.modalities:
            raise ConfigError(
                f"modalities: expected text, which ICCN multiplies with the other modalities, found {', '.join(shapes.modalities)}"
            )
        self.others = tuple(m for m in shapes.modalities if m != TEXT)
        width = {m: config.text_width if m == TEXT else config.width for m in shapes.modalities}
        self.vectors = nn.ModuleDict({m: nn.Sequential(nn.Linear(n, width[m]), nn.Tanh()) for m, n in shapes.widths.items()})
        self.frames = nn.ModuleDict({m: Frames(m, item, width[m]) for m, item in shapes.items.items()})
        size = 16 * -(-config.text_width // 4) * -(-config.width // 4)
        self.convolve = nn.ModuleDict({m: nn.Sequential(*block(1, 8), *block(8, 16), nn.Flatten()) for m in self.others})
        self.project = nn.ModuleDict({m: nn.Linear(size, config.units) for m in self.others})
        self.missing = Missing({TEXT: config.text_width} if self.others else {})
        output = config.text_width + len(self.others) * config.units
        self.conversation = self.around(output)
        self.classify = nn.Sequential(Dropout(config.dropout), nn.Linear(self.conversation.width, shapes.outputs))

    def products(self, given: Given) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the text vector `h_t` and, for every other modality `m`, the encoded product `k_tm`.

        If text is missing, `h_t` is a learned vector. If text or modality `m` is missing, `k_tm` is zero.
        """
        h = {m: net(given.values[m]) for m, net in self.vectors.items()}
        h |= {m: net(given.batch) for m, net in self.frames.items()}  # Eq. (1)
        found = {}
        for m in self.others:
            # Eq. (2), (N, 1, text_width, width); channels stand last in memory, where convolutions are three times as fast.
            outer = (h[TEXT][:, :, None, None] * h[m][:, None, :, None]).permute(0, 3, 1, 2)
            k = self.project[m](self.convolve[m](outer))  # Eq. (3)
            found[m] = torch.where(given.here((TEXT, m)).all(1)[:, None], k, 0.0)
        return {**h, **self.missing(h, given.present)}[TEXT], found

    def penalty(self, k: dict[str, Tensor], given: Given) -> Tensor | float:
        """Return the correlation term of equation (5) with its weight; the training loop adds the term to the task loss."""
        pairs = list(combinations(self.others, 2))
        total = [correlations(k[m], k[n], given.here((TEXT, m, n)).all(1)).mean() for m, n in pairs]
        return -self.config.weight * torch.stack(total).mean().to(k[pairs[0][0]].dtype) if pairs else 0.0  # Eq. (5)

    def answer(self, given: Given) -> Prediction:
        """Compute the scores and, in training, the correlation term of the loss."""
        text, k = self.products(given)
        e, here = torch.cat([text, *k.values()], -1), given.here((TEXT, *self.others)).any(1)  # Eq. (6)
        states = self.conversation(e, here, given)
        return Prediction(scores=self.classify(states), penalty=self.penalty(k, given) if self.training else 0.0, states=states)


def block(inputs: int, channels: int) -> list[nn.Module]:
    """Return a block of layers that halves height and width, rounded up. Max pooling comes before the ReLU, because this is faster."""
    return [nn.Conv2d(inputs, channels, 3, padding=1), nn.MaxPool2d(2, ceil_mode=True), nn.ReLU()]
