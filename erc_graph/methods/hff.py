r"""Multimodal Emotion Recognition Based on Hierarchical Feature Fusion (Xie, Zhou and Zhu, Journal of Computers 36(2), 2025).

Speech: cepstral coefficients are computed from the waveform; convolutions read their frames.

.. math::
    X(t, f) &= \sum_n x_s(n)\, w(n - t)\, e^{-j 2 \pi f n} \tag{1} \\
    M(f) &= 2595 \log_{10}(1 + f / 700) \tag{2} \\
    S_m &= \sum_k |X(t, f_k)|^2 H_m(f_k) \tag{3} \\
    S'_m &= \log |S_m| \tag{4} \\
    c_n &= \sum_m S'_m \cos((m - 0.5)\, n \pi / M) \tag{5} \\
    h^{(i)} &= \mathrm{ReLU}(W^{(i)} * h^{(i-1)} + b^{(i)}) \tag{6} \\
    p_j &= \max(h_j) \tag{7} \\
    f_s &= \mathrm{CNN}(X_{mfcc}) \tag{8}

Text: the states of BERT. Vision: a residual network reads each frame.

.. math::
    h_i &= \mathrm{BERT}(x_i) \tag{9} \\
    f_{CLS} &= h_{CLS} \tag{10} \\
    f_{mean} &= \textstyle\frac1n \sum_i h_i \tag{11} \\
    f_t &= [f_{CLS}, f_{mean}] \tag{12} \\
    y &= f(x) + x \tag{13} \\
    f'_v &= \mathrm{ResNet}(v'_i) \tag{14} \\
    f'_v &= \textstyle\frac1N \sum_j f'^{\,j}_v \tag{15}

Level 1, preliminary fusion: modalities are mapped to one space, then weighted by their content and by their uncertainty.

.. math::
    \hat f_m &= \mathrm{Linear}(f_m) \tag{16} \\
    \alpha &= \mathrm{softmax}(W_{dyn} [\hat f_s, \hat f_t, \hat f_v]) \tag{17} \\
    f^{(0)} &= \alpha_s \hat f_s + \alpha_t \hat f_t + \alpha_v \hat f_v \tag{18} \\
    w_m &= 1 / (\sigma_m^2 + \epsilon) \tag{19} \\
    f^{(1)} &= \mu + \epsilon \cdot \sigma, \quad \epsilon \sim N(0, I) \tag{20}

Level 2 is multi-head cross-modal attention; level 3 is a gated recurrent unit over time. The classifier follows.

.. math::
    Q &= f^{(0)} W_Q, \quad K = f^{(0)} W_K, \quad V = f^{(0)} W_V \tag{21} \\
    \mathrm{Attention}(Q, K, V) &= \mathrm{softmax}(Q K^\top / \sqrt{d_k})\, V \tag{22} \\
    f^{(2)} &= \mathrm{MultiHead}(Q, K, V) + f^{(1)} \tag{23} \\
    z_t &= \sigma(W_z [h_{t-1}, x_t]) \tag{24} \\
    r_t &= \sigma(W_r [h_{t-1}, x_t]) \tag{25} \\
    \tilde h_t &= \tanh(W_h [r_t \odot h_{t-1}, x_t]) \tag{26} \\
    h_t &= (1 - z_t) \odot h_{t-1} + z_t \odot \tilde h_t \tag{27} \\
    f_{final} &= \textstyle\sum_t \beta_t h_t \tag{28} \\
    z_i &= \mathrm{ReLU}(W_i F + b_i) \tag{29} \\
    p &= \mathrm{softmax}(W_{out} z_{final} + b_{out}) \tag{30} \\
    L &= -\textstyle\frac1N \sum_n \sum_c y_{n,c} \log p_{n,c} \tag{31}

| paper | here | shape |
|---|---|---|
| c_n, X_mfcc | `HFF.front` of a waveform | (chunk, frames, width) |
| f'_v | `HFF.images` | (chunk, frames, width) |
| f_m, m ∈ {s, t, v} | `HFF.vectors` | modality → (utterances, its width) |
| f̂_m | `HFF.project[m]` | (utterances, modalities, width) |
| α | `Fusion.dynamic` | (utterances, modalities) |
| w_m, as shares | `Fusion.precision` | (utterances, modalities, width) |
| σ_m² | `Fusion.variance` | (utterances, modalities, width) |
| f^(0), μ, σ | `Fusion.weighted`, `.mean`, `.deviation` | (utterances, width) |
| MultiHead, d_k | `CrossModal.attention`, `head_width` | (utterances, width) |
| h_t, over utterances | `HFF.read` | (utterances, width) |
| h_t, β, over frames | `HFF.pool[m]` | (chunk, width) |

Differences from the paper:

- Eqs. (9), (14): pretrained networks are not part of the method; a corpus has their states as words and frames, or as one vector per
  utterance. Raw pictures of faces pass a small residual network without batch norm, which is trained with the rest.
- Eq. (12) is an option (`cls`) for text as a sequence of words, the first of them [CLS]. By default, a GRU reads words as it reads frames.
  The paper names 768 values (section 4.1) and, by (12), 1536. Here words and audio coefficients are first projected to the common width.
- Eq. (15) averages over channels as printed. Here it averages over the picture, per channel, which is usual.
- Eqs. (19), (20): the paper does not describe its Bayesian layer. Here it is linear with normally distributed weights, one per modality
  (`VariationalLinear`). The vector μ is the mean of the μ_m weighted by w_m, per channel, and σ² is the variance of that mean. The symbol ε
  is printed twice: as a small constant, and as noise. A variance grows with its vector. With a small ε, the modality with the largest
  vectors therefore tends to have the smallest weight. A larger `epsilon` makes the weights more equal. The divergence from a unit prior,
  which (31) lacks, is added with the weight `kl`. Noise is drawn in training. Evaluation uses μ, or the mean probability over `samples`
  draws. All utterances share these draws, so none depends on its batch.
- A missing modality has α and w of exactly zero, and is masked in the attention. The paper mentions missing modalities without details.
- Eqs. (21)-(23): section 4.1 has 4 layers. The first is (23); each has a feed-forward part and layer norm as in the original Transformer.
  As printed, keys and values come from f^(0), one vector per utterance; attention would then only reach other utterances
  (`attend = "turns"`). According to the paper, attention finds the common and the complementary information of modalities. Keys and values
  here are therefore the f̂ of the utterance's modalities. Head width and model width are independent, because the 6 and 10 heads of Table 5
  do not divide 128.
- Eqs. (24)-(28): modalities have no common time axis. Frames or words of a modality therefore pass its own GRU and attentive sum before
  fusion. If all modalities are vectors, the GRU reads the utterances of the dialogue, and h_t itself is classified. Eq. (28) would reduce
  all utterances to one vector. Option `turns` also enables this for sequences, or disables it. In (26), the reset gate is applied after the
  matrix product, as in PyTorch; in (27), z is PyTorch's 1 − z.
- Table 4: without attention, f^(2) = f^(0) + f^(1). Without dynamic weighting, α is equal. Cross-modality alignment is not named in the
  text; without it, f^(1) = f^(0), and no layer has uncertainty. Without temporal modeling, frames and words are averaged, without a GRU.
  For a single modality, α is always one, so the row without dynamic weighting is the full method. The paper prints two different results.
- The paper does not model the conversation. A graph stage (`graph`) follows level 3; `none` is the paper's model.
- As printed, (17) and (18) have no mask, so the share of a missing f̂ is lost to a zero vector. Here present modalities share it. With
  `shrink`, f^(2) is instead scaled by the share that the unmasked (17) gives to present modalities.
- Options `bidirectional`, `residual` and `concatenate` are not in the paper.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.encoders.attentive import AttentiveGRU, first_and_mean
from erc_graph.encoders.convolution import FrameConvolution, ResidualImages
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.frontend import FrontEnds, items_per_frame
from erc_graph.encoders.missing import Missing
from erc_graph.encoders.recurrent import Recurrent
from erc_graph.encoders.self_attention import ModalityAttention, SelfAttention
from erc_graph.encoders.sequences import encode_sequences, masked_mean
from erc_graph.encoders.turns import over_turns
from erc_graph.encoders.variational import VariationalLinear
from erc_graph.encoders.weighting import DynamicWeights, equal_weights, precision_weights
from erc_graph.errors import expect
from erc_graph.methods.conversation import InConversation, UtteranceMethod
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import Classifier
from erc_graph.methods.ranges import Even, Positive, Share, Size, Weight
from erc_graph.methods.stage import Prediction, evaluating

TOKENS = 8192  # most frames or words that are encoded at once


@dataclass(frozen=True, kw_only=True)
class HFFConfig(InConversation):
    """Options of hierarchical feature fusion.

    Attributes:
        width: Width of the common space.
        dynamic: Weight modalities by (17); off: equally.
        shrink: Leave the share of a missing modality in (17) empty, which makes f^(2) smaller.
        uncertainty: Weight modalities by (19) for (20); off: f^(1) is f^(0) (Table 4: without cross-modality alignment).
        attention: Use level 2; off: f^(0) + f^(1).
        concatenate: Replace levels 1 and 2 by a linear layer and a ReLU over the concatenated modalities, with zeros for missing ones. This
            is a fusion baseline, not in the paper.
        temporal: Use level 3.
        attend: Keys and values of (21): the `modalities` of the utterance, or f^(0) of all utterances (`turns`), as printed.
        turns: Let level 3 read the utterances of a dialogue; default: if no modality is a sequence.
        bidirectional: Let level 3 read utterances in both directions, unless the method is causal (not in the paper).
        residual: Add f^(2) to h_t if level 3 reads utterances (not in the paper).
        layers: Number of layers in level 2.
        heads: Number of attention heads in each layer.
        head_width: Width of each head.
        feedforward: Hidden width of each layer.
        hidden: Width of the classifier's hidden layer.
        cls: For text as words, use [CLS], the first word, and the mean of all words, (10)-(12), instead of GRU and attention.
        kl: Weight of the divergence of the variational layers from their prior, which is a sum over their weights.
        epsilon: Constant in (19). The larger it is compared with the variances, the more equal are the weights.
        samples: Number of draws of (20) in evaluation; 0: use the mean μ.
        dropout: Dropout everywhere except in the classifier and the graph.
        classifier_dropout: Dropout in the classifier.
    """

    width: Even = 128
    dynamic: bool = True
    shrink: bool = False
    uncertainty: bool = True
    attention: bool = True
    concatenate: bool = False
    temporal: bool = True
    attend: Literal["modalities", "turns"] = "modalities"
    turns: bool | None = None
    bidirectional: bool = False
    residual: bool = False
    layers: Size = 4
    heads: Size = 8
    head_width: Size = 16
    feedforward: Size = 512
    hidden: Size = 128
    cls: bool = False
    kl: Weight = 1e-6
    epsilon: Positive = 1e-6
    samples: int = 0
    dropout: Share = 0.1
    classifier_dropout: Share = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        alone = not (self.attention and self.attend == "turns" and not self.concatenate)
        expect(
            self.where,
            self,
            causal=(not self.causal or alone, "false with attend = 'turns', which reads later utterances"),
            samples=(
                self.samples == 0 or (self.samples > 0 and self.uncertainty and not self.concatenate),
                "0, or 0 or more if uncertainty is true and concatenate is false",
            ),
        )


@dataclass(frozen=True)
class Fusion:
    """The output of level 1 for the `N` utterances of a batch.

    Attributes:
        present: `(N, modalities)` bool mask of present modalities.
        states: Projected vectors f̂, `(N, modalities, width)`; zero for a missing modality.
        dynamic: Weights α, `(N, modalities)`.
        weighted: Weighted sum f^(0), `(N, width)`.
        filled: Share of (17) for present modalities, `(N, 1)`; one without `shrink`.
        mean: Mean μ of (20), `(N, width)`; f^(0) without uncertainty.
        deviation: Deviation σ of (20), `(N, width)`; zero without uncertainty.
        precision: Weights w that sum to one, `(N, modalities, width)`; `None` without uncertainty.
        variance: Variance σ², `(N, modalities, width)`; infinite for a missing modality; `None` without uncertainty.
    """

    present: Tensor
    states: Tensor
    dynamic: Tensor
    weighted: Tensor
    filled: Tensor
    mean: Tensor
    deviation: Tensor
    precision: Tensor | None
    variance: Tensor | None


class CrossModal(nn.Module):
    """Level 2: Transformer layers; the first takes its query from f^(0) and its residual from f^(1)."""

    def __init__(self, config: HFFConfig) -> None:
        super().__init__()
        width, heads, each, dropout = config.width, config.heads, config.head_width, config.dropout
        self.attention = nn.ModuleList(
            SelfAttention(width, width, heads=heads, head_width=each, dropout=dropout)
            if config.attend == "turns"
            else ModalityAttention(width, heads=heads, head_width=each, dropout=dropout)
            for _ in range(config.layers)
        )
        self.feedforward = nn.ModuleList(
            nn.Sequential(nn.Linear(width, config.feedforward), nn.ReLU(), Dropout(dropout), nn.Linear(config.feedforward, width))
            for _ in range(config.layers)
        )
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * config.layers))
        self.dropout = Dropout(dropout)

    def forward(self, fused: Fusion, first: Tensor, batch: Batch) -> Tensor:
        """Compute f^(2): `(N, width)` from level 1 and f^(1)."""
        query, states = fused.weighted, first
        for i, (attention, feedforward) in enumerate(zip(self.attention, self.feedforward, strict=True)):
            turns = isinstance(attention, SelfAttention)
            asked = over_turns(attention, query, batch) if turns else attention(query, fused.states, fused.present)  # Eqs. (21), (22)
            states = self.norm[2 * i](states + self.dropout(asked))  # Eq. (23)
            query = states = self.norm[2 * i + 1](states + self.dropout(feedforward(states)))
        return states


class HFF(UtteranceMethod):
    """Hierarchical feature fusion for any number of modalities, then a graph stage over the conversation."""

    Config = HFFConfig
    paper = Paper(
        title="Multimodal Emotion Recognition Based on Hierarchical Feature Fusion",
        authors="Xie, Zhou and Zhu",
        venue="Journal of Computers 36(2)",
        year=2025,
    )

    def build(self, config: HFFConfig, shapes: Shapes) -> None:
        """Build the three levels, the graph stage, and the classifier."""
        width, self.modalities, items = config.width, shapes.modalities, shapes.items
        self.dropout = Dropout(config.dropout)
        self.missing = Missing(shapes.widths)
        self.front = FrontEnds({m: item for m, item in items.items() if len(item) < 2}, width)
        self.images = nn.ModuleDict({m: ResidualImages(item[0], width) for m, item in items.items() if len(item) > 1})
        self.convolve = nn.ModuleDict({m: FrameConvolution(width) for m, item in items.items() if not item})
        words = {m for m, item in items.items() if config.cls and m == "text" and len(item) == 1}
        self.pool = nn.ModuleDict({m: AttentiveGRU(width) for m in items if config.temporal and m not in words})
        self.widths = {**shapes.widths, **{m: width * (1 + (m in words)) for m in items}}
        self.words = frozenset(words)

        self.project = nn.ModuleDict({m: nn.Linear(self.widths[m], width) for m in self.modalities})
        self.joined = nn.Linear(len(self.modalities) * width, width) if config.concatenate else None
        self.weigh = DynamicWeights(len(self.modalities), width) if config.dynamic and not self.joined else None
        sure = config.uncertainty and not self.joined
        self.bayes = nn.ModuleDict({m: VariationalLinear(width, width) for m in self.modalities} if sure else {})

        turns = not items if config.turns is None else config.turns
        self.attend = CrossModal(config) if config.attention and not self.joined else None
        both = config.bidirectional and not config.causal
        self.read = Recurrent("gru", width, width, bidirectional=both) if turns and config.temporal else None
        self.conversation = self.around(width)
        self.classify = Classifier(self.conversation.width, shapes.outputs, hidden=config.hidden, dropout=config.classifier_dropout)

    def frames(self, modality: str, padded: Tensor, mask: Tensor) -> Tensor:
        """Compute f_m from the items of some utterances: `(n, L, *item)`, `(n, L)` bool → `(n, width)`; with [CLS], twice the width."""
        read = self.images if modality in self.images else self.front
        states, mask = read[modality](padded, mask)  # Eqs. (1)-(5) of sound, Eq. (9) of words, Eqs. (13)-(15) of faces
        if modality in self.convolve:
            states, mask = self.convolve[modality](states, mask)  # Eqs. (6)-(8)
        states = self.dropout(states)
        if modality in self.words:
            return first_and_mean(states, mask)  # Eqs. (10)-(12)
        return self.pool[modality](states, mask) if modality in self.pool else masked_mean(states, mask)  # Eqs. (24)-(28), within

    def vectors(self, given: Given) -> dict[str, Tensor]:
        """Compute the vectors f_m: modality → `(N, its width)`."""
        found = self.missing(given.values, given.present)
        for m, sequences in given.sequences.items():
            budget = TOKENS * items_per_frame(sequences.item)
            width = self.widths[m]
            found[m] = encode_sequences(lambda padded, mask, m=m: self.frames(m, padded, mask), sequences, width, budget)  # type: ignore[misc]
        return found

    def fuse(self, given: Given) -> Fusion:
        """Compute level 1, Eqs. (16) to (20)."""
        vectors, here = self.vectors(given), given.here(self.modalities)
        projected = [self.project[m](self.dropout(vectors[m])) for m in self.modalities]
        states = torch.stack(projected, 1) * here[..., None]  # Eq. (16)

        def shares(of: Tensor) -> Tensor:
            return equal_weights(of, states.dtype) if self.weigh is None else self.weigh(states, of)

        alpha, filled = shares(here), torch.ones_like(here[:, :1], dtype=states.dtype)  # Eq. (17)
        if self.config.shrink:
            filled = (shares(torch.ones_like(here)) * here).sum(1, keepdim=True)
        weighted = (alpha[..., None] * states).sum(1)  # Eq. (18)
        if not self.bayes:
            return Fusion(here, states, alpha, weighted, filled, weighted, torch.zeros_like(weighted), None, None)
        pairs = [self.bayes[m](states[:, i]) for i, m in enumerate(self.modalities)]
        mean, variance = (torch.stack(parts, 1) for parts in zip(*pairs, strict=True))
        share = precision_weights(variance, here, self.config.epsilon)  # Eq. (19)
        mean, deviation = (share * mean).sum(1), (share.square() * variance).sum(1).clamp(min=1e-12).sqrt()
        return Fusion(here, states, alpha, weighted, filled, mean, deviation, share, variance.masked_fill(~here[..., None], math.inf))

    def levels(self, fused: Fusion, noise: Tensor | None, batch: Batch) -> Tensor:
        """Compute levels 2 and 3, `(N, width)`, from level 1 and the noise of (20)."""
        first = fused.mean if noise is None else fused.mean + noise * fused.deviation  # Eq. (20)
        if self.joined:
            second = torch.relu(self.joined(fused.states.flatten(1)))
        else:
            second = fused.filled * (self.attend(fused, first, batch) if self.attend else fused.weighted + first)
        if self.read is None:
            return second
        final = over_turns(self.read, self.dropout(second), batch)  # Eqs. (24)-(27), over turns
        return second + final if self.config.residual else final

    def states(self, fused: Fusion, noise: Tensor | None, given: Given) -> Tensor:
        """Compute the input of the classifier, after the graph stage: `(N, conversation.width)`."""
        return self.conversation(self.levels(fused, noise, given.batch), fused.present.any(1), given)

    def answer(self, given: Given) -> Prediction:
        """Compute the scores of every utterance, `(N, C)`, and the divergence of the variational layers."""
        fused = self.fuse(given)
        if self.training or not self.config.samples:
            noise = torch.randn_like(fused.mean) if self.training and self.bayes else None
            states = self.states(fused, noise, given)
            scores = self.classify(states)  # Eqs. (29), (30); Eq. (31) is the training's loss
        else:
            draws = [self.states(fused, noise, given) for noise in self.draws()]
            states, scores = torch.stack(draws).mean(0), torch.stack([self.classify(draw) for draw in draws])
            mean = scores.log_softmax(-1).logsumexp(0) - math.log(len(draws))  # of the probabilities
            scores = mean if self.task.labels else scores.mean(0)
        return Prediction(scores=scores, penalty=self.config.kl * self.divergence(), states=states)

    def draws(self) -> Tensor:
        """Return fixed noise of (20) for evaluation, shared by all utterances: `(samples, width)`."""
        noise = torch.randn(self.config.samples, self.config.width, generator=torch.Generator().manual_seed(0))
        return noise.to(self.device, next(self.parameters()).dtype)

    def divergence(self) -> Tensor | float:
        """Compute the divergence of all variational layers from their prior, in nats."""
        return torch.stack([layer.divergence() for layer in self.bayes.values()]).sum() if self.bayes else 0.0  # type: ignore[operator]

    @torch.no_grad()
    def weights(self, batch: Batch) -> Fusion:
        """Compute level 1 in evaluation mode, with the weight and the uncertainty of each modality in every utterance."""
        with evaluating(self):
            return self.fuse(self.given(batch))

    def trust(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weight of each modality: its mean precision over channels (without uncertainty, α); zero if it is missing."""
        fused = self.weights(batch)
        shares = fused.dynamic if fused.precision is None else fused.precision.mean(-1)
        return dict(zip(self.modalities, shares.unbind(1), strict=True))
