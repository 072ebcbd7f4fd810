r"""Multimodal Emotion Recognition Based on Hierarchical Feature Fusion (Xie, Zhou and Zhu, Journal of Computers 36(2), 2025).

Speech: mel-frequency cepstral coefficients (MFCCs) are computed from the waveform. Convolutions then process the frames of MFCCs.

.. math::
    X(t, f) &= \sum_n x_s(n)\, w(n - t)\, e^{-j 2 \pi f n} \tag{1} \\
    M(f) &= 2595 \log_{10}(1 + f / 700) \tag{2} \\
    S_m &= \sum_k |X(t, f_k)|^2 H_m(f_k) \tag{3} \\
    S'_m &= \log |S_m| \tag{4} \\
    c_n &= \sum_m S'_m \cos((m - 0.5)\, n \pi / M) \tag{5} \\
    h^{(i)} &= \mathrm{ReLU}(W^{(i)} * h^{(i-1)} + b^{(i)}) \tag{6} \\
    p_j &= \max(h_j) \tag{7} \\
    f_s &= \mathrm{CNN}(X_{mfcc}) \tag{8}

Text: BERT computes hidden states. Vision: a residual network encodes each video frame.

.. math::
    h_i &= \mathrm{BERT}(x_i) \tag{9} \\
    f_{CLS} &= h_{CLS} \tag{10} \\
    f_{mean} &= \textstyle\frac1n \sum_i h_i \tag{11} \\
    f_t &= [f_{CLS}, f_{mean}] \tag{12} \\
    y &= f(x) + x \tag{13} \\
    f'_v &= \mathrm{ResNet}(v'_i) \tag{14} \\
    f'_v &= \textstyle\frac1N \sum_j f'^{\,j}_v \tag{15}

Level 1, preliminary fusion: the vectors of all modalities are mapped to a common width, then weighted by their content and by their
uncertainty.

.. math::
    \hat f_m &= \mathrm{Linear}(f_m) \tag{16} \\
    \alpha &= \mathrm{softmax}(W_{dyn} [\hat f_s, \hat f_t, \hat f_v]) \tag{17} \\
    f^{(0)} &= \alpha_s \hat f_s + \alpha_t \hat f_t + \alpha_v \hat f_v \tag{18} \\
    w_m &= 1 / (\sigma_m^2 + \epsilon) \tag{19} \\
    f^{(1)} &= \mu + \epsilon \cdot \sigma, \quad \epsilon \sim N(0, I) \tag{20}

Level 2 is multi-head cross-modal attention. Level 3 is a gated recurrent unit (GRU) over time. The classifier follows.

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
| f_m, m ∈ {s, t, v} | `HFF.vectors` | modality → (utterances, width of the modality) |
| f̂_m | `HFF.project[m]` | (utterances, modalities, width) |
| α | `Fusion.dynamic` | (utterances, modalities) |
| w_m, normalised to sum one | `Fusion.precision` | (utterances, modalities, width) |
| σ_m² | `Fusion.variance` | (utterances, modalities, width) |
| f^(0), μ, σ | `Fusion.weighted`, `.mean`, `.deviation` | (utterances, width) |
| MultiHead, d_k | `CrossModal.attention`, `head_width` | (utterances, width) |
| h_t, over utterances | `HFF.read` | (utterances, width) |
| h_t, β, over frames | `HFF.pool[m]` | (chunk, width) |

A chunk is a group of utterances that are encoded at once.

Differences from the paper:

- Equations (9), (14): the method does not contain the pretrained networks. A corpus contains their outputs: one vector per word, frame or
  utterance. A small residual network without batch norm, which is trained with the method, encodes raw images of faces.
- Equations (10) to (12) are an option (`cls`) for text as a sequence of words whose first word is [CLS]. By default, a GRU with attention,
  (24) to (28), encodes words like frames. The text vector has 768 values according to the paper's section 4.1, but 1536 according to (12).
  Here words and MFCCs are first projected to the common width.
- As printed, (15) is a mean over channels. Here it is a mean over the positions of the image, for each channel, as usual in residual
  networks.
- Equations (19), (20): the paper does not describe its Bayesian layer. Here every modality has a linear layer with normally distributed
  weights (`VariationalLinear`). This layer computes the mean μ_m and the variance σ_m². In each channel, μ is the mean of the μ_m weighted
  by w_m, and σ² is the variance of this mean. The paper uses ε for two quantities: a small constant in (19), and noise in (20). The
  variance σ_m² grows with the size of f̂_m. With a small constant ε, the modality with the largest vectors therefore tends to have the
  smallest weight. A larger `epsilon` makes the weights more equal.
- The loss (31) has no Kullback–Leibler divergence of the variational layers from their prior. Here this divergence is added with the weight
  `kl`; the prior is a standard normal distribution.
- In training, the noise of (20) is drawn at random. In evaluation, f^(1) is μ, or probabilities are averaged over `samples` draws of the
  noise. All utterances share these draws, so that scores do not depend on the batch.
- For a missing modality, α and w are exactly zero, and the attention masks the modality. The paper mentions missing modalities without
  details.
- Equations (21) to (23): according to section 4.1 of the paper, there are 4 layers. Here the first layer is (23). Each layer has a
  feed-forward network and layer norms, as in the original Transformer. As printed, keys and values are computed from f^(0), which is one
  vector per utterance. Attention could then only connect different utterances (`attend = "turns"`). But according to the paper, attention
  finds common and complementary information of modalities. By default, keys and values are therefore the vectors f̂_m of the utterance. The
  head width is independent of `width`, because 128 is not divisible by 6 and 10, the numbers of heads in Table 5.
- Equations (24) to (28): modalities have no common time axis. Before fusion, each modality that is a sequence therefore has its own GRU and
  its own weighted sum over frames or words. If all modalities are vectors, the GRU runs over the utterances of the dialogue after level 2.
  The classifier then reads h_t, because (28) would reduce all utterances to one vector. The option `turns` adds or removes this GRU over
  utterances for any input. In (26), the reset gate is applied after the matrix product, as in PyTorch. The z of (27) corresponds to 1 − z
  in PyTorch.
- Ablations of the paper's Table 4: without attention, f^(2) = f^(0) + f^(1). Without dynamic weighting, all present modalities have equal
  α. The paper does not explain "cross-modality alignment". Here, without alignment, (19) and (20) are left out, and f^(1) = f^(0). Without
  temporal modeling, frames and words are averaged, and there is no GRU. For a single modality, α is always one, so the method without
  dynamic weighting equals the full method. The paper prints different results for these two methods.
- The paper classifies single utterances. Here a graph stage (`erc_graph.methods.conversation`) follows level 3 and passes messages between
  utterances. The option `graph = "none"` removes this stage.
- As printed, (17) and (18) have no mask: a missing modality has a weight α, but its f̂ is a vector of zeros. Here the weights of present
  modalities sum to one. With the option `shrink`, f^(2) is multiplied by the sum of the unmasked weights (17) of present modalities.
- The options `bidirectional`, `residual` and `concatenate` are not in the paper.
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
    """Options of hierarchical feature fusion; symbols and numbers such as (4) refer to the equations in the docstring of the module.

    Attributes:
        width: Width of all states after the projection of the inputs.
        dynamic: Whether (17) computes the weights of modalities; otherwise all present modalities have the same weight.
        shrink: Multiply f^(2) by the sum of the weights that (17), without a mask, gives to present modalities.
        uncertainty: Whether to compute f^(1) by (19) and (20); otherwise f^(1) is f^(0) (Table 4: without cross-modality alignment).
        attention: Whether to use level 2; otherwise f^(2) is f^(0) + f^(1).
        concatenate: Replace levels 1 and 2 by a linear layer and a ReLU over the concatenated modalities, with zeros for missing
            modalities. This baseline is not in the paper.
        temporal: Whether to use level 3, the GRU.
        attend: Keys and values of (21): the vectors f̂ of the utterance (`modalities`), or f^(0) of all utterances (`turns`), as printed.
        turns: Whether the GRU of level 3 runs over the utterances of a dialogue; default: only if no modality is a sequence.
        bidirectional: Whether the GRU over utterances has both directions; ignored if the method is causal (not in the paper).
        residual: Add f^(2) to h_t if the GRU runs over utterances (not in the paper).
        layers: Number of layers in level 2.
        heads: Number of attention heads in each layer.
        head_width: Width of each head.
        feedforward: Hidden width of each layer.
        hidden: Width of the classifier's hidden layer.
        cls: For text as a sequence of words: whether to concatenate [CLS] and the mean of all words, (10) to (12), instead of (24) to (28).
        kl: Weight of the Kullback–Leibler divergence of the variational layers from their prior; the divergence is a sum over all weights.
        epsilon: Constant ε in (19); a larger value makes the weights of modalities more equal.
        samples: Number of draws of the noise of (20) in evaluation. With 0 draws, f^(1) is the mean μ.
        dropout: Dropout everywhere except in the classifier and the graph stage.
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
                "0, or a number above 0 if uncertainty is true and concatenate is false",
            ),
        )


@dataclass(frozen=True)
class Fusion:
    """The output of level 1 for `N` utterances; symbols and numbers such as (20) refer to the equations in the docstring of the module.

    Attributes:
        present: `(N, modalities)` bool mask of present modalities.
        states: Projected vectors f̂, `(N, modalities, width)`; zero for a missing modality.
        dynamic: Weights α, `(N, modalities)`.
        weighted: Weighted sum f^(0), `(N, width)`.
        filled: Factor on f^(2) with `shrink`: sum of the unmasked weights (17) of present modalities, `(N, 1)`; 1 without `shrink`.
        mean: Mean μ of (20), `(N, width)`; f^(0) if the option `uncertainty` is false.
        deviation: Standard deviation σ of (20), `(N, width)`; zero if the option `uncertainty` is false.
        precision: Weights w of (19), normalised to sum one over the modalities, `(N, modalities, width)`; `None` if the option
            `uncertainty` is false.
        variance: Variance σ_m² of (19), `(N, modalities, width)`; infinite for a missing modality; `None` if the option `uncertainty` is
            false.
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
    """Level 2: Transformer layers. In the first layer, the query is f^(0), and f^(1) is added to the output."""

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
    """Hierarchical feature fusion for any number of modalities, then message passing over the conversation."""

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
        """Compute the vectors f_m of one modality from its words, frames or samples.

        Args:
            modality: Name of the modality.
            padded: `(n, L, *item)` padded items (words, frames or samples) of `n` utterances.
            mask: `(n, L)` bool mask of real items.

        Returns:
            `(n, width)`; with the option `cls`, text has `(n, 2 width)`.
        """
        read = self.images if modality in self.images else self.front
        states, mask = read[modality](padded, mask)  # Eqs. (1)-(5) of sound, Eq. (9) of words, Eqs. (13)-(15) of faces
        if modality in self.convolve:
            states, mask = self.convolve[modality](states, mask)  # Eqs. (6)-(8)
        states = self.dropout(states)
        if modality in self.words:
            return first_and_mean(states, mask)  # Eqs. (10)-(12)
        return self.pool[modality](states, mask) if modality in self.pool else masked_mean(states, mask)  # Eqs. (24)-(28), within

    def vectors(self, given: Given) -> dict[str, Tensor]:
        """Compute the vectors f_m of `N` utterances, as a dict from modality to `(N, width of the modality)`."""
        found = self.missing(given.values, given.present)
        for m, sequences in given.sequences.items():
            budget = TOKENS * items_per_frame(sequences.item)
            width = self.widths[m]
            found[m] = encode_sequences(lambda padded, mask, m=m: self.frames(m, padded, mask), sequences, width, budget)  # type: ignore[misc]
        return found

    def fuse(self, given: Given) -> Fusion:
        """Compute level 1, the preliminary fusion, equations (16) to (20)."""
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
        """Compute the output of levels 2 and 3, `(N, width)`, from the output of level 1 and the noise of equation (20)."""
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
        """Compute the input of the classifier, after message passing: `(N, conversation.width)`."""
        return self.conversation(self.levels(fused, noise, given.batch), fused.present.any(1), given)

    def answer(self, given: Given) -> Prediction:
        """Compute the scores of every utterance, `(N, C)`, and the divergence of the variational layers from their prior."""
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
        """Return the noise of equation (20) for evaluation, `(samples, width)`. It is fixed, and equal for all utterances."""
        noise = torch.randn(self.config.samples, self.config.width, generator=torch.Generator().manual_seed(0))
        return noise.to(self.device, next(self.parameters()).dtype)

    def divergence(self) -> Tensor | float:
        """Compute the Kullback–Leibler divergence of all variational layers from their prior, in nats."""
        return torch.stack([layer.divergence() for layer in self.bayes.values()]).sum() if self.bayes else 0.0  # type: ignore[operator]

    @torch.no_grad()
    def weights(self, batch: Batch) -> Fusion:
        """Compute the output of level 1 in evaluation mode: the weight and the uncertainty of each modality in every utterance."""
        with evaluating(self):
            return self.fuse(self.given(batch))

    def trust(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weight of each modality in every utterance. The weight of a missing modality is zero.

        The weight is the mean, over channels, of the normalised w of equation (19). If the option `uncertainty` is false, it is α of (17).
        """
        fused = self.weights(batch)
        shares = fused.dynamic if fused.precision is None else fused.precision.mean(-1)
        return dict(zip(self.modalities, shares.unbind(1), strict=True))
