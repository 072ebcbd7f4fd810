r"""TETFN: Text Enhanced Transformer Fusion Network (Wang et al., Pattern Recognition, 2023), and the conversation around it.

Modalities read each other as in MulT, but sound and faces read each other through the text.

.. math::
    x_l &= W_l\, \mathrm{words}, \qquad x_m = W_m\, \mathrm{LSTM}(\mathrm{frames}_m) \qquad m \in \{a, v\} \tag{1} \\
    z_{l \leftarrow m} &= \mathrm{CM}(x_l \leftarrow x_m), \qquad z_{m \leftarrow l} = \mathrm{CM}(x_m \leftarrow x_l) \tag{2} \\
    c_{a \leftarrow v} &= \mathrm{CM}_1(x_v \leftarrow x_l), \qquad z_{a \leftarrow v} = \mathrm{CM}_2(x_a \leftarrow c_{a \leftarrow v})
        \tag{3} \\
    h_m &= \mathrm{SA}([z_{m \leftarrow n} ; z_{m \leftarrow o}]) \tag{4} \\
    f &= \mathrm{ReLU}(P_1 [h_l ; h_a ; h_v]), \qquad \text{the last step of each} \tag{5} \\
    o &= P_3\, \mathrm{ReLU}(P_2 f) \tag{6} \\
    o_m &= Q_3\, \mathrm{ReLU}(Q_2\, \mathrm{ReLU}(Q_1 \max_t x_{m,t})) \tag{7}

The equations are those of a public port; their numbers are ours. CM and SA are MulT's (`erc_graph.encoders.crossmodal`), with codes of
positions in (3) alone. For the video (3) is mirrored.

| symbol | attribute | shape |
|---|---|---|
| LSTM, `W` | `read.net.lstm[m]`, `read.net.project[m]` | `(lstm[m], features)`, `(width, ·)`, without bias |
| `z_m←n`, `c_m←o`, `h_m` | `read.net.cross[m][n]`, `.lower[m][o]`, `.memory[m]` | `(n, L, width)`, `h_m` twice as wide |
| `P_1`; `P_2`, `P_3` | `fuse`; `classify` | `(hidden, 6 width)`; `(hidden, ·)`, `(classes, hidden)` |
| `Q_1`, `Q_2`, `Q_3` | `alone[m]` | `(alone[m], width)`, `(alone[m], alone[m])`, `(classes, alone[m])` |

**Differences from the paper and from its port**

- The paper's text was not at hand and no code of the authors is known; the port is that of the toolkit MMSA.
- The port makes labels for (7) from the sign of a sentiment, which classes do not have, and stores features of every utterance for it.
  Left out: (7) is trained on the utterance's own label, with the weight `alone_weight`; the weight is a guess.
- The port reads padding in LSTM, attention, maximum and last step; here lengths are known. A missing modality is heard by nobody, its `h_m`
  is zero, and it has no loss (7).
- In (1) `W` are maps of single steps. The port can take wider windows, but takes the sound's for the video.
- Vectors instead of sequences: the turns of the dialogue are the steps, and (7) reads the turn itself. This is a guess.
- Without text it is refused. With one other modality (3) falls away; with three each reads the two others through the text.
- The paper knows no conversation. A graph stage stands behind (5); `graph = "none"` is the paper's own model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from erc_graph.encoders.crossmodal import CrossTransformer
from erc_graph.encoders.steps import LSTMSteps, ReadSteps, StepNet, Steps, largest, last
from erc_graph.errors import ConfigError
from erc_graph.methods.base import Method
from erc_graph.methods.conversation import FUSED, Conversation, ConversationConfig
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.ranges import Checked, Share, Size, Weight, Widths
from erc_graph.methods.stage import Prediction


@dataclass(frozen=True, kw_only=True)
class TETFNConfig(Checked):
    """TETFN.

    Attributes:
        graph: Recipe of the conversation's graph, or `none`, the paper's own model.
        causal: Nothing comes from later turns.
        width: `d`.
        lstm: Modality → width of its LSTM; `width` unless said otherwise.
        heads: Of every attention.
        layers: Of every Transformer but the lower one of (3), which has one.
        mask: A step reads none further on than itself.
        hidden: Of (5) and (6).
        alone: Modality → width of (7); `hidden` unless said otherwise.
        alone_weight: Of the losses of (7).
        dropout: In the Transformers; none on the attention weights of those who read sound.
        conversation: The graph stage.
    """

    graph: str = "speaker"
    causal: bool = False
    width: Size = 40
    lstm: Widths = field(default_factory=dict)
    heads: Size = 5
    layers: Size = 2
    mask: bool = True
    hidden: Size = 64
    alone: Widths = field(default_factory=dict)
    alone_weight: Weight = 0.1
    dropout: Share = 0.1
    conversation: ConversationConfig = field(default_factory=ConversationConfig)


class TETFNNet(StepNet):
    """Eqs. (1) to (4), over the steps of each modality."""

    def __init__(self, c: TETFNConfig, inputs: Mapping[str, int], causal: bool) -> None:
        super().__init__()
        lstm = {m: c.lstm.get(m, c.width) for m in inputs if m != "text"}
        self.lstm = nn.ModuleDict({m: LSTMSteps(inputs[m], width) for m, width in lstm.items()})
        self.project = nn.ModuleDict({m: nn.Linear(lstm.get(m, inputs[m]), c.width, bias=False) for m in inputs})

        def stack(source: str, layers: int = c.layers, width: int = c.width, positions: bool = False) -> CrossTransformer:
            share = 0.0 if source == "audio" else c.dropout
            return CrossTransformer(
                width, heads=c.heads, layers=layers, dropout=c.dropout, attention_dropout=share, positions=positions, causal=causal
            )

        def enhanced(m: str, o: str) -> bool:
            return "text" not in (m, o)

        others = {m: [o for o in inputs if o != m] for m in inputs}
        self.cross = nn.ModuleDict({m: nn.ModuleDict({o: stack(o, positions=enhanced(m, o)) for o in others[m]}) for m in inputs})
        lower = {m: [o for o in others[m] if enhanced(m, o)] for m in inputs}
        self.lower = nn.ModuleDict({m: nn.ModuleDict({o: stack("text", 1, positions=True) for o in lower[m]}) for m in inputs})
        wide = max(1, len(inputs) - 1) * c.width
        self.memory = nn.ModuleDict({m: stack("", width=wide) for m in inputs})
        self.inputs, self.widths, self.causal = inputs, [wide] * len(inputs) + [c.width] * len(inputs), causal
        self.pools = [last] * len(inputs) + [largest] * len(inputs)

    def forward(self, steps: Mapping[str, Steps]) -> list[Steps]:
        """`h_m` of all modalities, then `x_m`."""
        states = {m: self.lstm[m](one) if m in self.lstm else one for m, one in steps.items()}
        x, h = {m: one.with_states(self.project[m](one.states)) for m, one in states.items()}, []  # Eq. (1)
        cross, lower = cast(Any, self.cross), cast(Any, self.lower)
        for m in x:
            asked = {o: lower[m][o](x[o], x["text"]) if o in lower[m] else x[o] for o in cross[m]}
            heard = [net(x[m], asked[o]).states for o, net in cross[m].items()] or [x[m].states]  # Eqs. (2), (3)
            h.append(self.memory[m](x[m].with_states(torch.cat(heard, -1))))  # Eq. (4)
        return [*h, *x.values()]


class TETFN(Method):
    """Modalities that read each other by way of the text, and the conversation around them."""

    Config = TETFNConfig
    family = "fusion"
    reads = ("sequences", "features")
    unused: ClassVar[Mapping[str, str]] = {"*attention.key.bias": "it cancels in the softmax of (2) to (4)"}
    paper = Paper(
        title="TETFN: A Text Enhanced Transformer Fusion Network for Multimodal Sentiment Analysis",
        authors="Wang et al.",
        venue="Pattern Recognition 136",
        year=2023,
    )

    def build(self, c: TETFNConfig, shapes: Shapes) -> None:
        """The net over steps, the fusion, a head per modality, the conversation and the classifier."""
        if "text" not in shapes.modalities:
            raise ConfigError(f"modalities: expected text, by way of which TETFN reads all others, found {', '.join(shapes.modalities)}")
        causal = c.mask or (c.causal and not shapes.items)
        self.read = ReadSteps(shapes.widths, shapes.items, lambda inputs: TETFNNet(c, inputs, causal))
        names, hidden = self.read.names, c.hidden
        self.fuse = nn.Sequential(nn.Linear(self.read.width - len(names) * c.width, hidden), nn.ReLU())

        def head(inputs: int, width: int) -> nn.Sequential:
            return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, shapes.outputs))

        widths = {m: c.alone.get(m, hidden) for m in names}
        self.alone = nn.ModuleDict({m: nn.Sequential(nn.Linear(c.width, k), nn.ReLU(), *head(k, k)) for m, k in widths.items()})
        self.conversation = Conversation({FUSED: hidden}, self.graph, c.conversation, causal=c.causal, speaker=shapes.speaker)
        self.classify = head(self.conversation.width, hidden)

    def answer(self, given: Given) -> Prediction:
        """Scores of the fused vector, and those of each modality alone."""
        names, width = self.read.names, self.config.width
        found = self.read(given.values, given.present, given.batch)
        h, *own = found.split([self.fuse[0].in_features, *[width] * len(names)], -1)
        here = given.here(names)
        states = self.conversation({FUSED: self.fuse(h)}, {FUSED: here.any(1)}, given)  # Eq. (5)
        alone = [torch.where(here[:, i, None], self.alone[m](own[i]), 0.0) for i, m in enumerate(names)]  # Eq. (7)
        scores: Tensor = self.classify(states)  # Eq. (6)
        return Prediction(
            scores=scores, states=states, auxiliary=dict(zip(names, alone, strict=True)), auxiliary_weight=self.config.alone_weight
        )
