r"""HiTrans: A Transformer-Based Context- and Speaker-Sensitive Model for Emotion Detection in Conversations (Li et al., COLING 2020).

A language model encodes the text of the whole dialogue. A Transformer then runs over the utterance vectors. An auxiliary task predicts
whether two utterances have the same speaker.

.. math::
    c_i &= \mathrm{BERT}(\text{tokens of the dialogue})_{\text{first token of turn } i} \tag{1} \\
    x^0_i &= c_i + p_i, \qquad y = x^l + \mathrm{MHA}(\mathrm{LN}(x^l)), \quad
        x^{l+1} = y + W_2\, \mathrm{GELU}(W_1 \mathrm{LN}(y) + b_1) + b_2 \tag{2} \\
    s_i &= W x^L_i + b \tag{3} \\
    s_{ij} &= [f_1(x^L_i) ; 1]^\top U [f_2(x^L_j) ; 1], \qquad f_k(x) = \mathrm{LeakyReLU}(W_{f_k} x + b_{f_k}) \tag{4} \\
    L &= \frac{L_e}{2 \sigma_e^2} + \frac{L_s}{2 \sigma_s^2} + \log \sigma_e + \log \sigma_s \tag{5}

We had no access to the paper's text. The equations follow the public code; the equation numbers are ours. `p_i` are sinusoidal position
encodings. In (4), the LeakyReLU has the slope 0.1, and :math:`s_{ij}` are the scores of the auxiliary task. In (5), `L_e` is the emotion
loss, and `L_s` is the loss of the auxiliary task.

| symbol | attribute | shape (`N`: utterances) |
|---|---|---|
| `BERT` | `text.model` | `(N, tokens, 1)` token ids → `(N, width)` |
| MHA, `W_1`, `W_2` | `layers[l]`: `attention`, `feedforward` | see `SelfAttention`; `(feedforward, width)`, `(width, feedforward)` |
| `W` | `classify` | `(classes, width)` |
| `W_f1`, `W_f2`, `U` | `first`, `second`, `pairs` | `(width/2, width)`, `(2, width/2 + 1, width/2 + 1)` |
| log σ | `log_sigma` | `(2,)` |

**Differences from the paper and from its public code**

- Equation (1) needs text as token ids. If text is given as token states, their mean over tokens is used as a vector. A linear layer maps
  the concatenation of all modalities that are vectors to `c_i`; with token ids, its output is added to (1). Without token ids, only (2)
  connects utterances. The input of the paper is only text.
- Equation (1): a long dialogue is cut into several inputs of the language model. From the second cut on, the public code miscounts tokens
  and splits utterances; here no utterance is split. The code pads with the token id 0, which is a token of RoBERTa; here the padding token
  of the model is used. As in the code, only the last utterance has a closing token.
- With the option `causal`, (1) encodes every utterance separately, and in (2) an utterance attends only to itself and earlier utterances.
- Equation (2): as in the public code, the first layer has no layer norm before its attention. An utterance without any modality has
  :math:`c_i = 0`, and other utterances attend to it.
- Equation (5): in the public code, the pairs of utterances include each utterance with itself, which is a trivial case. Here only the
  option `diagonal` includes these pairs. The code learns σ, which may become negative; here log σ is learned. `L_e` is the cross entropy
  without class weights, or the absolute error if the task has numeric scores. It does not depend on the option `training.loss`.
- The public code multiplies its learning rates by 0.95 after each epoch. It has no weight decay on the biases and norms of BERT. Here the
  training loop is the same for all methods.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.encoders.dialogue_text import DialogueText
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.language_model import IDS, LanguageModel, LanguageModelConfig, token_nodes
from erc_graph.encoders.positions import Positions
from erc_graph.encoders.self_attention import SelfAttention
from erc_graph.encoders.turns import over_turns
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import Turn, widths_with_means, with_means
from erc_graph.methods.ranges import Causal, Even, Share, Size
from erc_graph.methods.stage import Prediction, Stage


@dataclass(frozen=True, kw_only=True)
class HiTransConfig(Causal):
    """Options of HiTrans; symbols and numbers such as (4) refer to the equations in the docstring of the module.

    Attributes:
        width: Width of the states if there is no language model; otherwise, the states have the width of the language model.
        layers: Number of layers of the Transformer over utterances.
        heads: Number of attention heads in each layer.
        feedforward: Hidden width of each layer.
        dropout: Dropout in the Transformer.
        head_dropout: Dropout before the classifiers of both tasks.
        diagonal: Whether the loss (5) includes the pairs of an utterance with itself.
        language_model: Language model of (1), for text given as token ids.
    """

    width: Even = 128
    layers: Size = 1
    heads: Size = 4
    feedforward: Size = 128
    dropout: Share = 0.1
    head_dropout: Share = 0.5
    diagonal: bool = False
    language_model: LanguageModelConfig = field(default_factory=LanguageModelConfig)


class TurnLayer(nn.Module):
    """A Transformer layer over utterances, equation (2), with layer norms before the attention and before the feed-forward network."""

    def __init__(self, c: HiTransConfig, width: int, *, first: bool) -> None:
        super().__init__()
        self.norm = nn.Identity() if first else nn.LayerNorm(width, eps=1e-6)
        self.attention = SelfAttention(width, width, heads=c.heads, dropout=c.dropout, causal=c.causal)
        self.feedforward = nn.Sequential(
            nn.LayerNorm(width, eps=1e-6), nn.Linear(width, c.feedforward), nn.GELU("tanh"), Dropout(c.dropout),
            nn.Linear(c.feedforward, width), Dropout(c.dropout),
        )  # fmt: skip
        self.dropout = Dropout(c.dropout)

    def forward(self, x: Tensor, batch: Batch) -> Tensor:
        """Map the states `(N, width)` of `N` utterances to new states of equal shape."""
        y = x + self.dropout(over_turns(self.attention, self.norm(x), batch))
        return y + self.feedforward(y)


class HiTrans(Method):
    """A language model over the dialogue, a Transformer over its utterances, and an auxiliary task that compares speakers."""

    Config = HiTransConfig
    family = "language model"
    reads = ("sequences", "features")
    sequences_of = ("text",)
    couples_batch = "the speaker loss, Eq. (5), which is a mean over all pairs of the batch"
    paper = Paper(
        title="HiTrans: A Transformer-Based Context- and Speaker-Sensitive Model for Emotion Detection in Conversations",
        authors="Li et al.",
        venue="COLING",
        year=2020,
        url="https://aclanthology.org/2020.coling-main.370",
        code="https://github.com/ljynlp/HiTrans",
    )

    def build(self, c: HiTransConfig, shapes: Shapes) -> None:
        """Build the modules in the order of the method's equations."""
        widths, width, self.text = widths_with_means(shapes), c.width, None
        if shapes.items.get("text") == IDS:
            self.text = DialogueText(model := LanguageModel(c.language_model), causal=c.causal)
            self.config, width = replace(c, language_model=model.config), model.width
            widths.pop("text")
        self.turn = Turn(widths, width) if widths else None
        self.positions, self.dropout = Positions(), Dropout(c.dropout)
        self.layers = nn.ModuleList(TurnLayer(c, width, first=i == 0) for i in range(c.layers))
        self.classify = nn.Sequential(Dropout(c.head_dropout), nn.Linear(width, shapes.outputs))  # Eq. (3)
        self.first, self.second = (
            nn.Sequential(Dropout(c.head_dropout), nn.Linear(width, width // 2), nn.LeakyReLU(0.1)) for _ in range(2)
        )
        self.pairs = nn.Parameter(torch.randn(2, width // 2 + 1, width // 2 + 1) / width)
        self.log_sigma = nn.Parameter(torch.zeros(2))

    def contents(self, given: Given) -> Tensor:
        """Compute the utterance vectors `c`: `(N, width)`."""
        parts = []
        if self.text is not None:
            parts.append(self.text(token_nodes(given.sequences["text"]), given.batch).masked()[:, 0])  # Eq. (1)
        if self.turn is not None:
            parts.append(self.turn(given if self.text is not None else with_means(given)).masked()[:, 0])
        return torch.stack(parts).sum(0)

    def encode(self, given: Given) -> Tensor:
        """Compute the utterance states before the classifier, `(N, width)`."""
        x = self.dropout(over_turns(self.positions, self.contents(given), given.batch))
        for layer in self.layers:
            x = layer(x, given.batch)  # Eq. (2)
        return x

    def verify(self, states: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the scores of equation (4) for all pairs of utterances, `(D, L, L, 2)`, and a bool mask of real pairs, `(D, L, L)`.

        The last axis has the scores of "different speakers" and of "the same speaker". `D` is the number of dialogues, and `L` is the
        number of utterances of the longest dialogue.
        """
        first, second = (F.pad(batch.pad(part(states)), (0, 1), value=1.0) for part in (self.first, self.second))
        real = batch.mask[:, :, None] & batch.mask[:, None]
        off = torch.eye(batch.longest, dtype=torch.bool, device=states.device) & (not self.config.diagonal)
        return torch.einsum("dip,opq,djq->dijo", first, self.pairs, second), real & ~off  # Eq. (4)

    def losses(self, scores: Tensor, states: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Compute the losses of equation (5). Without a labelled utterance, `L_e` is zero; without a pair of utterances, `L_s` is zero."""
        speakers, real = self.verify(states, batch)
        same = batch.pad(batch.speaker)
        known = batch.judged & (batch.target >= 0 if self.task.kind == "classification" else ~batch.target.isnan())
        kind = F.cross_entropy if self.task.kind == "classification" else lambda found, wanted: F.l1_loss(found[:, 0], wanted.to(found))
        emotion = kind(scores[known], batch.target[known]) if known.any() else scores.sum() * 0
        pairs = (same[:, :, None] == same[:, None]).long()[real]
        return emotion, F.cross_entropy(speakers[real], pairs) if len(pairs) else speakers.sum() * 0

    def answer(self, given: Given) -> Prediction:
        """Compute the scores and, in training, a penalty: equation (5) minus the emotion loss `L_e`, which the training loop adds."""
        states = self.encode(given)
        scores = self.classify(states)
        penalty = scores.new_zeros(())
        if self.training:
            emotion, speaker = self.losses(scores, states, given.batch)
            weight = torch.exp(-2 * self.log_sigma) / 2
            penalty = (weight[0] - 1) * emotion + weight[1] * speaker + self.log_sigma.sum()  # Eq. (5), less the training's own L_e
        return Prediction(scores=scores, states=states, penalty=penalty)

    def stages(self) -> list[Stage]:
        """Return one training stage. In this stage, the language model has its own learning rate."""
        stage = self.stage("train", self)
        return [stage if self.text is None else replace(stage, rates=((self.text.model, self.config.language_model.rate), *stage.rates))]
