r"""TETFN: Text Enhanced Transformer Fusion Network (Wang et al., Pattern Recognition, 2023), then a graph stage.

As in MulT (`erc_graph.methods.mult`), the modalities attend to each other. Audio and video attend to each other only through the text, Eq.
(3).

.. math::
    x_l &= W_l\, \mathrm{words}, \qquad x_m = W_m\, \mathrm{LSTM}(\mathrm{frames}_m) \qquad m \in \{a, v\} \tag{1} \\
    z_{l \leftarrow m} &= \mathrm{CM}(x_l \leftarrow x_m), \qquad z_{m \leftarrow l} = \mathrm{CM}(x_m \leftarrow x_l) \tag{2} \\
    c_v &= \mathrm{CM}_1(x_v \leftarrow x_l), \qquad z_{a \leftarrow v} = \mathrm{CM}_2(x_a \leftarrow c_v) \tag{3} \\
    h_m &= \mathrm{SA}([z_{m \leftarrow n} ; z_{m \leftarrow o}]) \tag{4} \\
    f &= \mathrm{ReLU}(P_1 [h_l ; h_a ; h_v]), \qquad \text{the last step of each} \tag{5} \\
    o &= P_3\, \mathrm{ReLU}(P_2 f) \tag{6} \\
    o_m &= Q_3\, \mathrm{ReLU}(Q_2\, \mathrm{ReLU}(Q_1 \max_t x_{m,t})) \tag{7}

The equations follow a public re-implementation (the port); the numbering is ours. For video, (3) holds with audio and video exchanged. CM
(crossmodal Transformer) and SA (self-attention Transformer) are the modules of MulT (`erc_graph.encoders.crossmodal`), with the attention
mask of MulT. Only the Transformers of (3) have position embeddings. The linear maps of (5) to (7) have biases.

| symbol | attribute | shape |
|---|---|---|
| LSTM, `W` | `read.net.lstm[m]`, `read.net.project[m]` | `(lstm[m], features)`, `(width, ·)`, without bias |
| `z_m←n`, `h_m`; `c_o` | `read.net.crossed.cross[m][n]`, `.memory[m]`; `read.net.lower[m][o]` | `(n, L, width)`, `h` twice as wide |
| `P_1`; `P_2`, `P_3` | `fuse`; `classify` | `(hidden, 6 width)`; `(hidden, ·)`, `(classes, hidden)` |
| `Q_1`, `Q_2`, `Q_3` | `alone[m]` | `(alone[m], width)`, `(alone[m], alone[m])`, `(classes, alone[m])` |

**Differences from the paper and from its port**

- We had no access to the paper's text, and we know of no code by the authors. The port belongs to the toolkit MMSA.
- The port trains (7) with a label for each modality. These labels are computed from stored features of all utterances and from the sign of
  a sentiment score; emotion classes have no sign. Here (7) is trained with the label of the utterance. The weight of (7) in the loss,
  `alone_weight`, is a guess.
- The port also reads padding; here only real steps are read. Attention to a missing modality adds zero. The state `h_m` of a missing
  modality is zero, and (7) is not trained for it.
- The linear maps `W` of (1) read one step at a time. The port can also read windows of several steps, but it uses the window width of the
  audio for the video. The port ignores its option for the number of layers (always two) and predicts only one score. At the end of an
  epoch, the port discards the gradients of the last batches. The dropout of the port after ReLU is 0.
- If all modalities are vectors, the utterances of a dialogue are the steps (a guess). Eq. (7) then reads `x_m` of the utterance itself.
- Text is required. With only one other modality, (3) is left out.
- The paper does not model the conversation. Here a graph stage follows (5); the option `graph = "none"` removes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn

from erc_graph.encoders.crossmodal import Crossed, CrossTransformer
from erc_graph.encoders.steps import LSTMSteps, ReadSteps, StepNet, Steps, largest, last
from erc_graph.errors import ConfigError
from erc_graph.methods.conversation import InConversation, UtteranceMethod
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.ranges import Share, Size, Weight, Widths
from erc_graph.methods.stage import Prediction


@dataclass(frozen=True, kw_only=True)
class TETFNConfig(InConversation):
    """Options of TETFN.

    Attributes:
        width: Width of the states.
        lstm: Modality → width of its LSTM; default: `width`.
        heads: Number of attention heads in every attention layer.
        layers: Number of layers of every Transformer except `CM_1` in (3), which has one layer.
        hidden: Hidden width of (5) and (6).
        alone: Modality → hidden width of (7); default: `hidden`.
        alone_weight: Weight of the losses of (7).
        dropout: Dropout in the Transformers, but not on attention weights over audio.
    """

    width: Size = 40
    lstm: Widths = field(default_factory=dict)
    heads: Size = 5
    layers: Size = 2
    hidden: Size = 64
    alone: Widths = field(default_factory=dict)
    alone_weight: Weight = 0.1
    dropout: Share = 0.1


class TETFNNet(StepNet):
    """The network of Eqs. (1) to (4) over the steps of each modality."""

    def __init__(self, c: TETFNConfig, inputs: Mapping[str, int]) -> None:
        super().__init__()
        lstm = {m: c.lstm.get(m, c.width) for m in inputs if m != "text"}
        self.lstm = nn.ModuleDict({m: LSTMSteps(inputs[m], width) for m, width in lstm.items()})
        self.project = nn.ModuleDict({m: nn.Linear(lstm.get(m, inputs[m]), c.width, bias=False) for m in inputs})

        def stack(width: int, asks: str, asked: str, lower: bool = False) -> CrossTransformer:
            return CrossTransformer(
                width, heads=c.heads, layers=1 if lower else c.layers, dropout=c.dropout,
                attention_dropout=0.0 if asked == "audio" != asks else c.dropout,
                positions=lower or (asks != asked and "text" not in (asks, asked)),
            )  # fmt: skip

        self.crossed = Crossed(tuple(inputs), c.width, stack)
        lower = {m: [o for o in inputs if o != m and "text" not in (m, o)] for m in inputs}
        self.lower = nn.ModuleDict({m: nn.ModuleDict({o: stack(c.width, o, "text", lower=True) for o in lower[m]}) for m in inputs})
        self.inputs, self.widths, self.causal = inputs, [*self.crossed.widths, *[c.width] * len(inputs)], True
        self.pools = [last] * len(inputs) + [largest] * len(inputs)

    def forward(self, steps: Mapping[str, Steps]) -> list[Steps]:
        """Return the states `h_m` of Eq. (4) for all modalities, followed by the states `x_m` of Eq. (1)."""
        states = {m: self.lstm[m](one) if m in self.lstm else one for m, one in steps.items()}
        x = {m: one.with_states(self.project[m](one.states)) for m, one in states.items()}  # Eq. (1)
        c = {(m, o): net(x[o], x["text"]) for m, nets in self.lower.items() for o, net in nets.items()}  # type: ignore[operator]
        return [*self.crossed(x, c), *x.values()]  # Eqs. (2)-(4)


class TETFN(UtteranceMethod):
    """Audio and video that attend to each other through the text, then a graph stage."""

    Config = TETFNConfig
    unused = {"*attention.key.bias": "it cancels in the softmax of (2) to (4)"}
    paper = Paper(
        title="TETFN: A Text Enhanced Transformer Fusion Network for Multimodal Sentiment Analysis",
        authors="Wang et al.",
        venue="Pattern Recognition 136",
        year=2023,
        url="https://doi.org/10.1016/j.patcog.2022.109259",
    )

    def build(self, c: TETFNConfig, shapes: Shapes) -> None:
        """Build the network over steps, the fusion, a classifier per modality, the graph stage and the joint classifier."""
        if "text" not in shapes.modalities:
            raise ConfigError(f"modalities: expected text, which TETFN needs, found {', '.join(shapes.modalities)}")
        self.read = ReadSteps(shapes.widths, shapes.items, lambda inputs: TETFNNet(c, inputs))
        self.fuse = nn.Sequential(nn.Linear(self.read.width - len(self.read.names) * c.width, c.hidden), nn.ReLU())
        self.conversation = self.around(c.hidden)

        def head(*widths: int) -> nn.Sequential:
            return nn.Sequential(*[layer for sizes in pairwise(widths) for layer in (nn.Linear(*sizes), nn.ReLU())][:-1])

        alone = {m: c.alone.get(m, c.hidden) for m in self.read.names}
        self.alone = nn.ModuleDict({m: head(c.width, width, width, shapes.outputs) for m, width in alone.items()})
        self.classify = head(self.conversation.width, c.hidden, shapes.outputs)

    def answer(self, given: Given) -> Prediction:
        """Compute the scores (6) of the fused vector and, for each modality, the scores (7)."""
        c, names = self.config, self.read.names
        h, *own = self.read(given.values, given.present, given.batch).split([self.fuse[0].in_features, *[c.width] * len(names)], -1)
        here = given.here(names)
        states = self.conversation(self.fuse(h), here.any(1), given)  # Eq. (5)
        alone = {m: torch.where(here[:, i, None], self.alone[m](own[i]), 0.0) for i, m in enumerate(names)}  # Eq. (7)
        scores: Tensor = self.classify(states)  # Eq. (6)
        return Prediction(scores=scores, states=states, auxiliary=alone, auxiliary_weight=c.alone_weight)
