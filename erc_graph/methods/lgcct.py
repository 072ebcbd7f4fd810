r"""LGCCT: A Light Gated and Crossed Complementation Transformer for Multimodal Speech Emotion Recognition (Liu et al., Entropy, 2022),
and the conversation around it.

Sound and text: an LSTM over each, then a crossmodal Transformer each way between two linear "gates".

.. math::
    x_a &= \mathrm{BiLSTM}(\mathrm{ReLU}(K_2 * \mathrm{ReLU}(K_1 * \mathrm{frames}))), \qquad
        x_l = \mathrm{BiLSTM}(\mathrm{words}) \tag{1} \\
    p_m &= R_m W_m x_m + r_m \tag{2} \\
    c_{l} &= \mathrm{CM}(p_l \leftarrow p_a), \qquad c_{a} = \mathrm{CM}(p_a \leftarrow p_l) \tag{3} \\
    n_m &= \mathrm{LN}(G_m c_m + g_m + p_m) \tag{4} \\
    h &= \text{last step of } \mathrm{SA}([n_l ; n_a]) \tag{5} \\
    f &= h + W_b\, \mathrm{ReLU}(W_a h) \tag{6}

The equations are those of the public code; their numbers are ours. CM and SA are MulT's (`erc_graph.encoders.crossmodal`).

| symbol | attribute | shape |
|---|---|---|
| `K`, BiLSTM | `read.net.convolve[m]`, `read.net.lstm[m]` | `(channels, ·, 3)`; `(n, L_m, hidden)` |
| `W`; `R`, `G` | `read.net.project[m]`; `.retain[m]`, `.compound[m]` | `(width, hidden)`, without bias; `(width, width)` |
| CM, LN, SA | `read.net.cross[m]`, `.norm[m]`, `.memory` | SA is `2 width` wide |
| `W_a`, `W_b` | `residual` | `(2 width, 2 width)` |

**Differences from the paper and from its public code**

- The paper's equations were not at hand. It tells of gates and of attention that is scaled by length; in the code the gates are linear
  maps and the scaling is a comment. Here it is as in the code.
- The code reads padding, everywhere; here lengths are known. A missing modality is heard by nobody, and its `n_m` is zero.
- The code needs sequences of one length. In front of (5) longer or shorter sound is averaged over the spans of the words (our choice).
- From epoch 5 on the code's optimiser moves a model that is no longer used. Modules that get no gradient, a third of its parameters, are
  left out.
- Vectors instead of sequences: the turns of the dialogue are the steps; `causal` makes the LSTM read forward alone, and (1) look back.
- Other modalities than text and sound are not read. With one of the two (3) and (4) fall away.
- The paper knows no conversation. A graph stage stands behind (6); `graph = "none"` is the paper's own model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_graph.encoders.crossmodal import CrossTransformer
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.steps import LSTMSteps, ReadSteps, StepNet, Steps, last, resampled
from erc_graph.errors import ConfigError
from erc_graph.methods.base import Method
from erc_graph.methods.conversation import FUSED, Conversation, ConversationConfig
from erc_graph.methods.inputs import SPEAKER, Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.ranges import Checked, Even, Share, Size
from erc_graph.methods.schema import Schema

READ = ("text", "audio")


@dataclass(frozen=True, kw_only=True)
class LGCCTConfig(Checked):
    """LGCCT.

    Attributes:
        graph: Recipe of the conversation's graph, or `none`, the paper's own model.
        causal: Nothing comes from later turns.
        channels: Of the convolutions.
        hidden: Of the LSTMs, both directions together.
        width: Of (2) to (4).
        heads: Of every attention.
        layers: Of CM and of SA.
        mask: A step reads none further on than itself, in (3) and (5).
        dropout: In the Transformers; none on the attention weights of those who read sound.
        embedding_dropout: On what goes into the Transformers, and on the text of (1).
        lstm_dropout: Behind the LSTMs.
        conversation: The graph stage.
    """

    graph: str = "speaker"
    causal: bool = False
    channels: Size = 64
    hidden: Even = 32
    width: Size = 30
    heads: Size = 5
    layers: Size = 2
    mask: bool = True
    dropout: Share = 0.1
    embedding_dropout: Share = 0.25
    lstm_dropout: Share = 0.5
    conversation: ConversationConfig = field(default_factory=ConversationConfig)


class LGCCTNet(StepNet):
    """Eqs. (1) to (5), over the steps of text and sound."""

    def __init__(self, c: LGCCTConfig, inputs: Mapping[str, int], causal: bool) -> None:
        super().__init__()
        heard, k = [m for m in inputs if m != "text"], c.channels
        self.convolve = nn.ModuleDict({m: nn.ModuleList([nn.Conv1d(inputs[m], k, 3), nn.Conv1d(k, k, 3)]) for m in heard})
        self.lstm = nn.ModuleDict({m: LSTMSteps(k if m in heard else inputs[m], c.hidden, bidirectional=not causal) for m in inputs})
        self.project = nn.ModuleDict({m: nn.Linear(c.hidden, c.width, bias=False) for m in inputs})
        self.retain = nn.ModuleDict({m: nn.Linear(c.width, c.width) for m in inputs})

        def stack(width: int, attention: float) -> CrossTransformer:
            return CrossTransformer(
                width, heads=c.heads, layers=c.layers, dropout=c.dropout, attention_dropout=attention,
                embedding_dropout=c.embedding_dropout, causal=c.mask or causal,
            )  # fmt: skip

        both = list(inputs) if len(inputs) > 1 else []
        self.cross = nn.ModuleDict({m: stack(c.width, 0.0 if m == "text" else c.dropout) for m in both})
        self.compound = nn.ModuleDict({m: nn.Linear(c.width, c.width) for m in both})
        self.norm = nn.ModuleDict({m: nn.LayerNorm(c.width) for m in both})
        self.memory = stack(len(inputs) * c.width, c.dropout)
        self.dropout, self.embedding_dropout, self.around = (
            Dropout(c.lstm_dropout),
            Dropout(c.embedding_dropout),
            (2, 0) if causal else (1, 1),
        )
        self.inputs, self.widths, self.pools, self.causal = inputs, [len(inputs) * c.width], [last], causal

    def alone(self, m: str, steps: Steps) -> Steps:
        """`p_m`"""
        for convolve in cast(nn.ModuleList, self.convolve[m]) if m in self.convolve else ():
            x = convolve(F.pad(steps.masked().transpose(1, 2), self.around))
            steps = steps.with_states(x.relu().transpose(1, 2))
        x = self.dropout(self.lstm[m](steps).states)  # Eq. (1)
        x = self.embedding_dropout(x) if m == "text" else x
        return steps.with_states(self.retain[m](self.project[m](x)))  # Eq. (2)

    def forward(self, steps: Mapping[str, Steps]) -> list[Steps]:
        """Of all steps of the text, or of the sound where there is no text: `(n, L, 2 width)`."""
        p = {m: self.alone(m, one) for m, one in steps.items()}
        if len(p) < 2:
            return [self.memory(one) for one in p.values()]
        first, other = p
        for m, n in ((first, other), (other, first)):
            c = self.cross[m](p[m], p[n]).states  # Eq. (3)
            steps = {**steps, m: p[m].with_states(self.norm[m](self.compound[m](c) + p[m].states))}  # Eq. (4)
        one, two = steps[first], steps[other]
        if one.length is two.length:  # turns
            joined = Steps(torch.cat([one.masked(), two.masked()], -1), one.present | two.present, one.length)
        else:
            length = torch.where(one.length > 0, one.length, two.length)
            longest = max(one.states.shape[1], two.states.shape[1])
            present = torch.arange(longest, device=length.device) < length[:, None]
            joined = Steps(torch.cat([resampled(part, length, longest) for part in (one, two)], -1), present, length)
        return [self.memory(joined)]  # Eq. (5)


class LGCCT(Method):
    """Text and sound that complement each other, and the conversation around them."""

    Config = LGCCTConfig
    family = "fusion"
    reads = ("sequences", "features")
    unused: ClassVar[Mapping[str, str]] = {"*attention.key.bias": "it cancels in the softmax of (3) and (5)"}
    paper = Paper(
        title="LGCCT: A Light Gated and Crossed Complementation Transformer for Multimodal Speech Emotion Recognition",
        authors="Liu et al.",
        venue="Entropy 24(7)",
        year=2022,
        code="https://github.com/ECNU-Cross-Innovation-Lab/LGCCT",
    )

    @classmethod
    def narrow(cls, schema: Schema) -> Schema:
        """Text and sound, or one of them."""
        widths = {m: width for m, width in schema.widths.items() if m in (*READ, SPEAKER)}
        sequences = {m: item for m, item in schema.sequences.items() if m in READ}
        if not {*widths, *sequences} & {*READ}:
            raise ConfigError(f"modalities: expected text or audio, which LGCCT reads, found {', '.join(schema.modalities) or 'none'}")
        return replace(schema, widths=widths, sequences=sequences)

    def build(self, c: LGCCTConfig, shapes: Shapes) -> None:
        """The net over steps, the residual layer, the conversation and the classifier."""
        if len(shapes.modalities) > 2:
            raise ConfigError(f"modalities: expected two for LGCCT, found {', '.join(shapes.modalities)}")
        causal = c.causal and not shapes.items
        self.read = ReadSteps(shapes.widths, shapes.items, lambda inputs: LGCCTNet(c, inputs, causal))
        width = self.read.width
        self.residual = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.conversation = Conversation({FUSED: width}, self.graph, c.conversation, causal=c.causal, speaker=shapes.speaker)
        self.classify = nn.Linear(self.conversation.width, shapes.outputs)

    def encode(self, given: Given) -> Tensor:
        """`(N, 2 width)`, with a conversation wider."""
        h = self.read(given.values, given.present, given.batch)
        f = h + self.residual(h)  # Eq. (6)
        return self.conversation({FUSED: f}, {FUSED: given.here(self.read.names).any(1)}, given)
