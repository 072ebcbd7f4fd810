r"""LGCCT: Light Gated and Crossed Complementation Transformer (Liu et al., Entropy, 2022), then message passing between utterances.

One LSTM reads the audio, and one LSTM reads the text. Crossmodal Transformers in both directions combine audio and text. Linear maps,
called "gates", precede and follow these Transformers.

.. math::
    x_l &= \mathrm{BiLSTM}(\mathrm{words}), \ x_a = \mathrm{BiLSTM}(\mathrm{ReLU}(K_2 * \mathrm{ReLU}(K_1 * \mathrm{frames}))) \tag{1} \\
    p_m &= R_m W_m x_m + r_m \tag{2} \\
    c_l &= \mathrm{CM}(p_l \leftarrow p_a), \qquad c_a = \mathrm{CM}(p_a \leftarrow p_l) \tag{3} \\
    n_m &= \mathrm{LN}(G_m c_m + g_m + p_m) \tag{4} \\
    h &= \text{last step of } \mathrm{SA}([n_l ; n_a]) \tag{5} \\
    f &= h + W_b\, \mathrm{ReLU}(W_a h + b_a) + b_b \tag{6}

The equations follow the public code; the numbering is ours. CM (crossmodal Transformer) and SA (self-attention Transformer) are the modules
of MulT (`erc_graph.encoders.crossmodal`). Both have the attention mask that MulT has with its option `mask`.

| symbol | attribute | shape |
|---|---|---|
| `K`, BiLSTM | `read.net.convolve[m]`, `read.net.lstm[m]` | `(channels, ·, 3)`; `(n, L_m, hidden)` |
| `W`; `R`, `G` | `read.net.retain[m][0]`; `.retain[m][1]`, `.compound[m]` | `(width, hidden)`, without bias; `(width, width)` |
| CM, LN, SA | `read.net.cross[m]`, `.norm[m]`, `.memory` | `(n, L_m, width)`, SA `2 width` |
| `W_a`, `W_b` | `residual[0]`, `residual[2]` | `(2 width, 2 width)` |

**Differences from the paper and from its public code**

- We had no access to the paper's equations. The paper describes gates, and attention that is scaled by the sequence length. In the public
  code, the gates are linear maps, and the scaling is commented out. We follow the code. The public code for the evaluation on IEMOCAP
  cannot run.
- The public code also reads padding; here only real steps are read. In the public code, a step whose first channel is zero gets no position
  embedding; here every step gets a position embedding.
- The public code needs text and audio sequences of equal length. Here, before (5), audio of another length is averaged over equal spans of
  time, one span per word (our choice).
- From epoch 5 on, the public code trains a model that it no longer uses. A third of its parameters get no gradient; these parameters are
  left out here.
- If text and audio are vectors, the utterances of a dialogue are the steps (our choice). With the option `causal`, the convolutions and
  LSTMs of (1) then read no later utterances.
- Attention to a missing modality adds zero, and `n_m` of the missing modality is zero. With a single modality, (3) and (4) are left out.
  Modalities other than text and audio are not used.
- The paper does not model the conversation. Here message passing between utterances follows (6); `graph = "none"` removes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional as F

from erc_graph.encoders.crossmodal import CrossTransformer
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.steps import LSTMSteps, ReadSteps, StepNet, Steps, beside, last
from erc_graph.errors import ConfigError
from erc_graph.methods.conversation import InConversation, UtteranceMethod
from erc_graph.methods.inputs import SPEAKER, Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.ranges import Even, Share, Size
from erc_graph.methods.schema import Schema


@dataclass(frozen=True, kw_only=True)
class LGCCTConfig(InConversation):
    """Options of LGCCT.

    Attributes:
        channels: Number of channels of the convolutions.
        hidden: Width of the LSTM states, both directions together.
        width: Width of the states in (2) to (4).
        heads: Number of attention heads in every attention layer.
        layers: Number of layers of CM and of SA.
        dropout: Dropout in the Transformers, but not on attention weights over audio.
        embedding_dropout: Dropout on the input of the Transformers and on the text states of (1).
        lstm_dropout: Dropout after the LSTMs.
    """

    channels: Size = 64
    hidden: Even = 32
    width: Size = 30
    heads: Size = 5
    layers: Size = 2
    dropout: Share = 0.1
    embedding_dropout: Share = 0.25
    lstm_dropout: Share = 0.5


class LGCCTNet(StepNet):
    """The network of equations (1) to (5) over the steps of text and audio."""

    def __init__(self, c: LGCCTConfig, inputs: Mapping[str, int], causal: bool) -> None:
        super().__init__()
        shared: Any = {"heads": c.heads, "layers": c.layers, "dropout": c.dropout, "embedding_dropout": c.embedding_dropout}
        k, n, both = c.channels, c.width, [*inputs] if len(inputs) > 1 else []
        self.convolve = nn.ModuleDict({m: nn.ModuleList([nn.Conv1d(inputs[m], k, 3), nn.Conv1d(k, k, 3)]) for m in inputs if m != "text"})
        self.lstm = nn.ModuleDict({m: LSTMSteps(w if m == "text" else k, c.hidden, bidirectional=not causal) for m, w in inputs.items()})
        self.retain = nn.ModuleDict({m: nn.Sequential(nn.Linear(c.hidden, n, bias=False), nn.Linear(n, n)) for m in inputs})
        self.cross = nn.ModuleDict({m: CrossTransformer(n, attention_dropout=(m != "text") * c.dropout, **shared) for m in both})
        self.compound, self.norm = nn.ModuleDict({m: nn.Linear(n, n) for m in both}), nn.ModuleDict({m: nn.LayerNorm(n) for m in both})
        self.memory = CrossTransformer(len(inputs) * n, attention_dropout=c.dropout, **shared)
        self.dropout, self.embedding_dropout, self.around = Dropout(c.lstm_dropout), Dropout(c.embedding_dropout), (1 + causal, 1 - causal)
        self.inputs, self.widths, self.pools, self.causal = inputs, [self.memory.width], [last], causal

    def alone(self, m: str, steps: Steps) -> Steps:
        """Compute the projected states `p_m` of one modality, equations (1) and (2)."""
        for convolve in cast(nn.ModuleList, self.convolve[m]) if m in self.convolve else ():
            steps = steps.with_states(convolve(F.pad(steps.masked().transpose(1, 2), self.around)).relu().transpose(1, 2))
        x = self.dropout(self.lstm[m](steps).states)  # Eq. (1)
        x = self.embedding_dropout(x) if m == "text" else x
        return steps.with_states(self.retain[m](x))  # Eq. (2)

    def forward(self, steps: Mapping[str, Steps]) -> list[Steps]:
        """Compute the fused states of all steps of the text, or, if there is no text, of the audio: `(n, L, 2 width)`."""
        p = {m: self.alone(m, one) for m, one in steps.items()}
        if len(p) < 2:
            return [self.memory(*p.values())]
        c = {m: self.cross[m](p[m], p[other]).states for m, other in zip(p, reversed(p), strict=True)}  # Eq. (3)
        n = [one.with_states(self.norm[m](self.compound[m](c[m]) + one.states)) for m, one in p.items()]  # Eq. (4)
        return [self.memory(beside(*n))]  # Eq. (5)


class LGCCT(UtteranceMethod):
    """Text and audio that attend to each other, then message passing over the conversation."""

    Config = LGCCTConfig
    unused = {"*attention.key.bias": "it cancels in the softmax of (3) and (5)"}
    paper = Paper(
        title="LGCCT: A Light Gated and Crossed Complementation Transformer for Multimodal Speech Emotion Recognition",
        authors="Liu et al.",
        venue="Entropy 24(7)",
        year=2022,
        url="https://doi.org/10.3390/e24071010",
        code="https://github.com/ECNU-Cross-Innovation-Lab/LGCCT",
    )

    @classmethod
    def narrow(cls, schema: Schema) -> Schema:
        """Return a schema with only the modalities that LGCCT reads: text, audio, or both."""
        read = {"text", "audio"} & {*schema.modalities} or {*schema.modalities}
        widths = {m: width for m, width in schema.widths.items() if m in {*read, SPEAKER}}
        return replace(schema, widths=widths, sequences={m: item for m, item in schema.sequences.items() if m in read})

    def build(self, c: LGCCTConfig, shapes: Shapes) -> None:
        """Build the network over steps, the residual layer, the graph stage and the classifier."""
        if not {*shapes.modalities} <= {"text", "audio"}:
            raise ConfigError(f"modalities: expected text, audio or both, which LGCCT reads, found {', '.join(shapes.modalities)}")
        self.read = ReadSteps(shapes.widths, shapes.items, lambda inputs: LGCCTNet(c, inputs, c.causal and not shapes.items))
        width = self.read.width
        self.residual = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.conversation = self.around(width)
        self.classify = nn.Linear(self.conversation.width, shapes.outputs)

    def encode(self, given: Given) -> Tensor:
        """Compute the utterance states, `(N, 2 width)`, or wider with a graph, which appends its node states."""
        h = self.read(given.values, given.present, given.batch)
        f = h + self.residual(h)  # Eq. (6)
        return self.conversation(f, given.here(self.read.names).any(1), given)
