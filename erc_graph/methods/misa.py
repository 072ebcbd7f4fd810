r"""MISA: Modality-Invariant and -Specific Representations for Multimodal Sentiment Analysis (Hazarika et al., ACM Multimedia 2020).

Each modality of an utterance has two representations (codes): a private one and a shared one. A Transformer layer fuses all
representations.

.. math::
    u_m &= [\overrightarrow{h}^1_m ; \overrightarrow{h}^2_m ; \overleftarrow{h}^1_m ; \overleftarrow{h}^2_m] \tag{1} \\
    x_m &= \mathrm{LayerNorm}(\mathrm{ReLU}(P_m u_m)) \tag{2} \\
    p_m &= \sigma(V_m x_m), \qquad s_m = \sigma(S x_m) \tag{3} \\
    \tilde x_m &= R_m (p_m + s_m) \tag{4} \\
    f &= \mathrm{ReLU}(U\, \mathrm{vec}\, \mathrm{Transformer}(p_1, \dots, p_M, s_1, \dots, s_M)) \tag{5} \\
    L_{sim} &= \mathrm{mean}_{m < n} \textstyle\sum_{k=1}^5 \| C_k(s_m) - C_k(s_n) \| \tag{6} \\
    L_{diff} &= \textstyle\sum_{(a, b)} \mathrm{mean}\big((\hat a^\top \hat b)^2\big) \tag{7} \\
    L &= L_{task} + \alpha L_{diff} + \beta L_{sim} + \gamma\, \mathrm{mean}_m\, \mathrm{MSE}(\tilde x_m, x_m) \tag{8}

`h^1` and `h^2` are the last states of two BiLSTM layers with a LayerNorm between them. `C_1` is the mean over the batch, and `C_k` is the
central moment of order `k` over the batch. In (7), `â` is `a` after centring, with each row divided by its norm. The pairs `(a, b)` in (7)
are all `(p_m, s_m)` and all `(p_m, p_n)`. The equations follow the public code; the numbering is ours.

| symbol | attribute | shape |
|---|---|---|
| `u_m` | `frames[m]`; a vector is used unchanged | `(N, 4 widths[m])` |
| `P_m`, LayerNorm | `project[m]` | `(width, ·)` |
| `V_m`, `S`, `R_m` | `private[m]`, `shared`, `restore[m]` | `(width, width)` |
| Transformer, `U` | `mix`, `fuse` | `(N, 2 M, width)`, `(M width, 2 M width)` |

**Differences from the paper and from its public code**

- We had no access to the paper's text. For a modality with one vector per utterance, (1) is left out. Before (1), a linear map reads words
  and frames. The public code also fine-tunes a text encoder; here the text encoder is fixed.
- The representations of a missing modality are masked keys in (5), and their output states are set to zero. Eqs. (6) to (8) leave these
  representations out. The public code needs all modalities.
- Eq. (6) adds 1e-12 under each square root; the public code has NaN gradients for a batch of one utterance. A pair in (6) counts only if
  each of its two modalities is present in at least two utterances.
- The default hidden width of the Transformer layer is 512, four times `width`; in the public code, it is 2048. The public code has a
  discriminator that no loss uses; it is left out here.
- The paper does not model the conversation. Here a graph stage follows (5); the option `graph = "none"` removes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from erc_graph.data.batch import Batch
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.frontend import FrontEnds
from erc_graph.encoders.self_attention import FrameLayer
from erc_graph.encoders.sequences import encode_sequences
from erc_graph.encoders.subnets import TOKENS
from erc_graph.methods.conversation import InConversation, UtteranceMethod
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.ranges import Share, Size, Weight, Widths
from erc_graph.methods.stage import Prediction


@dataclass(frozen=True, kw_only=True)
class MISAConfig(InConversation):
    """Options of MISA.

    Attributes:
        width: Width of all private and shared representations.
        widths: Modality → width of its frames and of each LSTM direction in (1); default: `width`.
        heads: Number of attention heads of the Transformer layer.
        feedforward: Hidden width of the Transformer layer.
        dropout: Dropout before the ReLU of (5).
        alpha: Weight α of the difference loss (7).
        beta: Weight β of the similarity loss (6).
        gamma: Weight γ of the reconstruction loss in (8).
    """

    width: Size = 128
    widths: Widths = field(default_factory=dict)
    heads: Size = 2
    feedforward: Size = 512
    dropout: Share = 0.5
    alpha: Weight = 0.3
    beta: Weight = 1.0
    gamma: Weight = 1.0


class Frames(nn.Module):
    """Two BiLSTM layers over the words or frames of one modality, and the last states of both, Eq. (1)."""

    def __init__(self, name: str, item: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.name = name
        self.front = FrontEnds({name: item}, width)
        self.first, self.second = (nn.LSTM(n * width, width, batch_first=True, bidirectional=True) for n in (1, 2))
        self.norm = nn.LayerNorm(2 * width)

    def forward(self, batch: Batch) -> Tensor:
        """Compute `u_m` of Eq. (1) for `N` utterances, `(N, 4 width)`; zero for an utterance without words or frames."""
        return encode_sequences(self.read, self.front.prepared(batch).sequences[self.name], 4 * self.second.hidden_size, TOKENS)

    def read(self, padded: Tensor, mask: Tensor) -> Tensor:
        """Map `n` sequences of length `L`, `(n, L, *item)`, and their mask `(n, L)` to vectors `(n, 4 width)`; no layer reads padding."""
        frames, mask = self.front[self.name](padded, mask)
        packed = pack_padded_sequence(frames, mask.sum(1).cpu(), batch_first=True, enforce_sorted=False)
        states, (first, _) = self.first(packed)
        _, (second, _) = self.second(PackedSequence(self.norm(states.data), *states[1:]))
        return torch.cat([first, second], -1).transpose(0, 1).flatten(1)  # Eq. (1)


def share(present: Tensor, dtype: torch.dtype) -> Tensor:
    """Map the presence mask of `N` utterances and `M` modalities, `(N, M)`, to the weights of a mean over utterances, `(N, M, 1)`."""
    return (present.to(dtype) / present.sum(0).clamp(min=1))[..., None]


def similarity(s: Tensor, present: Tensor) -> Tensor:
    """Compute the central moment discrepancy (6) of the shared representations `(N, M, width)`, averaged over modality pairs."""
    weight = share(present, s.dtype)
    mean = (weight * s).sum(0)
    moments = torch.stack([mean, *((weight * (s - mean) ** k).sum(0) for k in range(2, 6))])  # (5, M, width)
    i, j = torch.triu_indices(s.shape[1], s.shape[1], 1, device=s.device)
    distance = ((moments[:, i] - moments[:, j]).square().sum(-1) + 1e-12).sqrt().sum(0)  # Eq. (6), (pairs,)
    several = present.sum(0) > 1
    return (distance * (several[i] & several[j])).sum() / max(1, len(i))


def difference(p: Tensor, s: Tensor, present: Tensor) -> Tensor:
    """Compute the difference loss (7) of the private representations `p` and the shared representations `s`, `(N, M, width)` each."""
    codes, here, m = torch.cat([p, s], 1), torch.cat([present, present], 1), p.shape[1]
    centred = (codes - (share(here, p.dtype) * codes).sum(0)) * here[..., None]
    unit = (centred / (centred.norm(dim=-1, keepdim=True).detach() + 1e-6)).flatten(1)
    square = (unit.T @ unit).view(*codes.shape[1:], *codes.shape[1:]).square().mean((1, 3))  # (2 M, 2 M)
    return square[:m, m:].diagonal().sum() + square[:m, :m].triu(1).sum()  # Eq. (7)


class MISA(UtteranceMethod):
    """Private and shared representations of each modality, their fusion, and a graph stage."""

    Config = MISAConfig
    couples_batch = "the losses of the codes, Eqs. (6) and (7)"
    paper = Paper(
        title="MISA: Modality-Invariant and -Specific Representations for Multimodal Sentiment Analysis",
        authors="Hazarika, Zimmermann and Poria",
        venue="ACM Multimedia",
        year=2020,
        url="https://arxiv.org/abs/2005.03545",
        code="https://github.com/declare-lab/MISA",
    )

    def build(self, config: MISAConfig, shapes: Shapes) -> None:
        """Build the modules in the order of the equations."""
        self.names, width = shapes.modalities, config.width
        self.frames = nn.ModuleDict({m: Frames(m, item, config.widths.get(m, width)) for m, item in shapes.items.items()})
        inputs = {**shapes.widths, **{m: 4 * config.widths.get(m, width) for m in shapes.items}}
        rows = {m: nn.Sequential(nn.Linear(inputs[m], width), nn.ReLU(), nn.LayerNorm(width)) for m in self.names}
        self.project = nn.ModuleDict(rows)
        self.private, self.restore = (nn.ModuleDict({m: nn.Linear(width, width) for m in self.names}) for _ in range(2))
        self.shared = nn.Linear(width, width)
        self.mix = FrameLayer(width, config.heads, config.feedforward, 0.1)  # dropout: the library's default
        fused = len(self.names) * width
        self.fuse = nn.Sequential(nn.Linear(2 * fused, fused), Dropout(config.dropout), nn.ReLU())
        self.conversation = self.around(fused)
        self.classify = nn.Linear(self.conversation.width, shapes.outputs)

    def codes(self, given: Given) -> tuple[Tensor, Tensor, Tensor]:
        """Compute x, p and s of Eqs. (2) and (3) for `N` utterances and `M` modalities, each `(N, M, width)`."""
        u = {**given.values, **{m: frames(given.batch) for m, frames in self.frames.items()}}
        x = torch.stack([self.project[m](u[m]) for m in self.names], 1)  # Eq. (2)
        p = torch.stack([self.private[m](x[:, i]) for i, m in enumerate(self.names)], 1).sigmoid()
        return x, p, self.shared(x).sigmoid()  # Eq. (3)

    def penalty(self, x: Tensor, p: Tensor, s: Tensor, present: Tensor) -> Tensor:
        """Return the sum of the weighted losses of Eq. (8) that are added to the task loss."""
        c, again = self.config, torch.stack([self.restore[m]((p + s)[:, i]) for i, m in enumerate(self.names)], 1)  # Eq. (4)
        wrong = (share(present, x.dtype) * (again - x).square()).sum() / x[0].numel()
        return c.alpha * difference(p, s, present) + c.beta * similarity(s, present) + c.gamma * wrong  # Eq. (8)

    def answer(self, given: Given) -> Prediction:
        """Compute the scores and, in training, the losses of the representations."""
        (x, p, s), present = self.codes(given), given.here(self.names)
        here = present.repeat(1, 2)
        f = self.fuse((self.mix(torch.cat([p, s], 1), here) * here[..., None]).flatten(1))  # Eq. (5)
        states = self.conversation(f, present.any(1), given)
        penalty = self.penalty(x, p, s, present) if self.training else 0.0
        return Prediction(scores=self.classify(states), penalty=penalty, states=states)
