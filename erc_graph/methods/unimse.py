r"""UniMSE, after Hu et al. (EMNLP 2022): adapters add audio and video to the last layers of a language model.

Here only the encoder of the language model is used, and a classifier replaces the generation of label words. Training uses a single corpus.
In these three points, the method differs from the paper.

.. math::
    m_i &= W_m\, \mathrm{LSTM}(\text{sequence})_{\text{last}} + b_m \qquad m \in \{a, v\} \tag{1} \\
    x &= [h ; a_i ; v_i], \qquad h' = W_o \big(x + W_{up}\, \sigma(W_{down} x)\big) \text{ behind each of the last layers} \tag{2} \\
    s_i &= W h_i + b \tag{3} \\
    L_m &= -\frac1n \sum_i \log \mathrm{softmax}_j \big(\cos(P_h \bar h_i, P_m \bar m_j) / \tau\big)_{j = i} \tag{4} \\
    L &= L_{ce} + \lambda \textstyle\sum_m L_m \tag{5}

Eqs. (1), (2), (4) follow the public code; the numbering is ours. A bar denotes the mean over the tokens of the text, or over the states of
an LSTM.

| symbol | attribute | shape |
|---|---|---|
| LSTM, `W_m` | `beside[m]`: `lstm`, `linear` | `(modality, features)`, `(modality, modality)` |
| `W_down`, `W_up`, `W_o` | `adapters[l]`: `down`, `up`, `output` | `(bottleneck, wide)`, `(wide, bottleneck)`, `(width, wide)` |
| `P_h`, `P_m` | `own`, `others[m]` | `(30, width)`, `(30, modality)` |
| `W` | `classify` | `(classes, width)` |

**Differences from the paper and from its public code**

- In the paper, T5 generates the labels of four corpora as text. An utterance gets labels of the other corpora from its nearest utterances.
  The nearest utterances can be test utterances, so test labels leak into training. In the public code, the epoch is selected manually on
  the test set. Here labels are not transferred, and the epoch is selected on the development data. Eq. (3) reads the state of the first
  token of the utterance. The text also contains the two utterances before and the two after it. This context is a guess from the texts in
  the data files of the public code.
- Any encoder of the library `transformers` can replace T5; of T5 itself, only the encoder is used. If text is given as token states or as
  vectors, a Transformer over the utterances of the dialogue replaces the language model. The input of this Transformer is a linear map of
  the vector, or of the mean over the token states.
- Eq. (2): the public code initialises `W_o` at random, which destroys the output of the last layers. Here (2) initially returns h: `W_o`
  starts as the identity for h and as zero for a and v.
- Eq. (4): in the public code, the mean includes padding, and this loss is switched off. Here (4) compares only utterances that have text
  and modality `m`.
- A modality that an utterance lacks is zero in (2); a modality that the corpus lacks is left out. In (1), one vector per utterance is a
  sequence of one step. Text is required.
- A pretrained language model is frozen except its last layers and the adapters. We had no access to the paper's text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erc_graph.encoders.adapter import Adapter
from erc_graph.encoders.dialogue_text import TextInContext
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.frontend import FrontEnds
from erc_graph.encoders.language_model import IDS, TOKENS, LanguageModel, LanguageModelConfig
from erc_graph.encoders.self_attention import TransformerEncoder
from erc_graph.encoders.sequences import encode_sequences, masked_mean
from erc_graph.encoders.turns import over_turns
from erc_graph.errors import ConfigError
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.ranges import Causal, Positive, Share, Size, Weight
from erc_graph.methods.stage import Prediction, Stage

ADAPTED, AROUND, PROJECTED = 3, 2, 30  # layers with an adapter; turns on each side of a text; width in (4)


@dataclass(frozen=True, kw_only=True)
class UniMSEConfig(Causal):
    """Options of UniMSE.

    Attributes:
        width: Width of the states, if no language model determines it.
        layers: Number of layers of the Transformer over utterances, if there is no language model.
        heads: Number of attention heads in each layer.
        modality: Width of `a` and `v`.
        bottleneck: Width between `W_down` and `W_up`.
        dropout: Dropout in the Transformer, in (1), and before the classifier.
        contrast: Weight λ of the contrastive loss.
        temperature: Temperature τ of the contrastive loss.
        trained: Number of last layers of a pretrained language model that are trained.
        language_model: Options of the language model, for text that is given as token ids.
    """

    width: Size = 128
    layers: Size = 3
    heads: Size = 4
    modality: Size = 32
    bottleneck: Size = 64
    dropout: Share = 0.3
    contrast: Weight = 0.5
    temperature: Positive = 0.1
    trained: Size = 2
    language_model: LanguageModelConfig = field(default_factory=LanguageModelConfig)


class Beside(nn.Module):
    """The LSTM of Eq. (1), with its last state and the mean of its states."""

    def __init__(self, inputs: int, width: int, dropout: float) -> None:
        super().__init__()
        self.lstm, self.dropout, self.linear = nn.LSTM(inputs, width, batch_first=True), Dropout(dropout), nn.Linear(width, width)

    def forward(self, padded: Tensor, mask: Tensor) -> Tensor:
        """Map `n` sequences of length `L` and their mask, `(n, L)`, to vectors, `(n, 2 width)`; no sequence is empty."""
        states, _ = self.lstm(padded)
        last = states[torch.arange(len(states), device=states.device), mask.sum(1) - 1]
        return torch.cat([self.linear(self.dropout(last)), masked_mean(states, mask)], -1)  # Eq. (1)


def info_nce(own: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Compute the contrastive loss (4) between two projected matrices, `(n, d)` each; rows with the same index are the positive pairs."""
    cosine = F.normalize(own, dim=-1) @ F.normalize(other, dim=-1).T
    return F.cross_entropy(cosine / temperature, torch.arange(len(own), device=own.device))  # Eq. (4)


class UniMSE(Method):
    """A language model, or a Transformer over utterances, whose last layers also read audio and video through adapters."""

    Config = UniMSEConfig
    family = "language model"
    reads = ("sequences", "features")
    couples_batch = "the contrast between modalities, Eq. (4), which compares all utterances"
    paper = Paper(
        title="UniMSE: Towards Unified Multimodal Sentiment Analysis and Emotion Recognition",
        authors="Hu et al.",
        venue="EMNLP",
        year=2022,
        url="https://arxiv.org/abs/2211.11256",
        code="https://github.com/LeMei/UniMSE",
        after=True,
    )

    def build(self, c: UniMSEConfig, shapes: Shapes) -> None:
        """Build the text encoder, the LSTMs of audio and video, the adapters, and the classifier."""
        if "text" not in shapes.modalities:
            raise ConfigError(
                f"modalities: expected text, to which UniMSE attaches the other modalities, found {', '.join(shapes.modalities)}"
            )
        item, width, self.text = shapes.items.get("text"), c.width, None
        beside = c.modality * (len(shapes.modalities) - 1)
        if item == IDS:
            model = LanguageModel(c.language_model)
            if c.language_model.folder or c.language_model.settings:
                model.freeze(c.trained)
            self.config, width = replace(c, language_model=model.config), model.width
            adapters = [Adapter(width, beside, c.bottleneck) for _ in model.layers[-ADAPTED:]]
            self.text = TextInContext(model, adapters, past=AROUND, future=0 if c.causal else AROUND)
        else:
            self.project = nn.Linear(shapes.widths["text"] if item is None else item[0], width)
            self.layers = nn.ModuleList(
                TransformerEncoder(width, heads=c.heads, layers=1, dropout=c.dropout, causal=c.causal) for _ in range(c.layers)
            )
            self.adapters = nn.ModuleList(Adapter(width, beside, c.bottleneck) for _ in self.layers[-ADAPTED:])
        names = [name for name in shapes.modalities if name != "text"]
        self.front = FrontEnds({name: shapes.items[name] for name in names if name in shapes.items}, c.modality)
        self.beside = nn.ModuleDict({name: Beside(shapes.widths.get(name, c.modality), c.modality, c.dropout) for name in names})
        compared = self.beside if c.contrast else ()
        self.own = nn.Linear(width, PROJECTED, bias=False) if compared else None
        self.others = nn.ModuleDict({name: nn.Linear(c.modality, PROJECTED, bias=False) for name in compared})
        self.classify = nn.Sequential(Dropout(c.dropout), nn.Linear(width, shapes.outputs))  # Eq. (3)

    def attached(self, given: Given) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute `[a ; v]` of `N` utterances, with zeros for a missing modality, and the mean LSTM states: modality → `(N, modality)`."""
        last, means = [given.batch.speaker.new_zeros(given.batch.utterances, 0).to(next(self.classify.parameters()))], {}
        for name, net in self.beside.items():
            if name in given.sequences:
                read = lambda padded, mask, name=name, net=net: net(*self.front[name](padded, mask))  # noqa: E731
                found = encode_sequences(read, given.sequences[name], 2 * self.config.modality, TOKENS)
            else:
                values, here = given.values[name][:, None], given.present[name][:, None]
                found = net(values, torch.ones_like(here)) * here
            end, means[name] = found.chunk(2, -1)
            last.append(end)
        return torch.cat(last, -1), means

    def text_states(self, given: Given, beside: Tensor) -> tuple[Tensor, Tensor]:
        """Compute h of each utterance and the mean state over its tokens, `(N, width)` each; zero for an utterance without text."""
        if self.text is not None:
            return self.text(given.sequences["text"], beside, given.batch)
        words = given.sequences.get("text")
        text = given.values["text"] if words is None else encode_sequences(masked_mean, words, words.item[0], TOKENS)
        h, start = self.project(text) * given.present["text"][:, None], len(self.layers) - len(self.adapters)
        for i, layer in enumerate(self.layers):
            h = over_turns(layer, h, given.batch)
            h = h if i < start else self.adapters[i - start](h, beside)  # Eq. (2)
        return h, h

    def contrast(self, mean: Tensor, means: Mapping[str, Tensor], given: Given) -> Tensor:
        """Compute the loss (4), summed over audio and video; each term uses the utterances that have text and this modality."""
        total = mean.new_zeros(())
        for name, project in self.others.items():
            here = given.present["text"] & given.present[name]
            if self.own is not None and here.any():
                total = total + info_nce(self.own(mean[here]), project(means[name][here]), self.config.temperature)
        return total

    def answer(self, given: Given) -> Prediction:
        """Compute the scores and, in training, the contrastive loss."""
        beside, means = self.attached(given)
        h, mean = self.text_states(given, beside)
        penalty = self.config.contrast * self.contrast(mean, means, given) if self.training else 0.0
        return Prediction(scores=self.classify(h), states=h, penalty=penalty)  # Eq. (5)

    def stages(self) -> list[Stage]:
        """Return a single training stage; the language model has its own learning rate."""
        stage = self.stage("train", self)
        return [stage if self.text is None else replace(stage, rates=((self.text.model, self.config.language_model.rate), *stage.rates))]
