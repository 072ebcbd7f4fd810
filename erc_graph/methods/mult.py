r"""MulT: Multimodal Transformer for Unaligned Multimodal Language Sequences (Tsai et al., ACL 2019), and the conversation around it.

Each modality asks each of the others, at the level of words and frames; no alignment of the sequences is needed.

.. math::
    x_m &= W_m\, \mathrm{steps}_m \tag{1} \\
    \hat x_m &= \sqrt d\, x_m + \mathrm{PE} \tag{2} \\
    z &\leftarrow z + \mathrm{MHA}(\mathrm{LN}(z), \mathrm{LN}(\hat x_n)), \qquad z \leftarrow z + \mathrm{FFN}(\mathrm{LN}(z)) \tag{3} \\
    z_{m \leftarrow n} &= \mathrm{LN}(z \text{ after all layers}), \qquad z = \hat x_m \text{ before the first} \tag{4} \\
    h_m &= \mathrm{SA}([z_{m \leftarrow n} ; z_{m \leftarrow o}]) \tag{5} \\
    h &= [h_l ; h_a ; h_v], \qquad \text{the last step of each} \tag{6} \\
    f &= h + W_b\, \mathrm{ReLU}(W_a h) \tag{7}

The equations are those of the public code; their numbers are ours. SA is (2) to (4) with keys of its own, twice as wide.

| symbol | attribute | shape |
|---|---|---|
| `W_m` | `read.net.project[m]` | `(width, features)`, without bias |
| `z_m←n`, `h_m` | `read.net.crossed.cross[m][n]`, `.memory[m]` | `(n, L_m, width)`, `(n, L_m, 2 width)` |
| `W_a`, `W_b` | `residual` | `(6 width, 6 width)` |

**Differences from the paper and from its public code**

- The code never masks padding and reads the last step where padding is; here lengths are known. Its positions skip a step whose first
  channel happens to be zero; here they count the steps.
- `mask`: a step reads none further on than itself, as the code does by default; the paper's attention has no such limit.
- Who reads a missing modality hears nothing (zero) of it; its own `h_m` is zero.
- Vectors instead of sequences: attention over one step is pointless, so that the turns of the dialogue are the steps. This is our choice.
- With M modalities `h` has M (M - 1) parts; a single one reads itself alone. In front of (1) frames are scaled by the training split.
- The code's IEMOCAP figures are four two-way tasks. The score layer is as wide as the task.
- The paper knows no conversation. A graph stage stands behind (7); `graph = "none"` is the paper's own model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from erc_graph.encoders.crossmodal import Crossed
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.steps import ReadSteps, StepNet, Steps
from erc_graph.methods.base import Method
from erc_graph.methods.conversation import FUSED, Conversation, ConversationConfig
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.ranges import Checked, Share, Size


@dataclass(frozen=True, kw_only=True)
class MulTConfig(Checked):
    """MulT.

    Attributes:
        graph: Recipe of the conversation's graph, or `none`, the paper's own model.
        causal: Nothing comes from later turns.
        width: `d`.
        heads: Of every attention.
        layers: Between two modalities; a modality reads itself in as many, and in three at least.
        mask: A step reads none further on than itself.
        dropout: Behind attention and in the feed-forward nets, and on the attention weights of those who read text or themselves.
        embedding_dropout: On the steps of text, and on what goes into (3).
        conversation: The graph stage.
    """

    graph: str = "speaker"
    causal: bool = False
    width: Size = 30
    heads: Size = 5
    layers: Size = 2
    mask: bool = True
    dropout: Share = 0.1
    embedding_dropout: Share = 0.25
    conversation: ConversationConfig = field(default_factory=ConversationConfig)


class MulTNet(StepNet):
    """Eqs. (1) to (5), over the steps of each modality."""

    def __init__(self, c: MulTConfig, inputs: Mapping[str, int], causal: bool) -> None:
        super().__init__()
        self.project = nn.ModuleDict({m: nn.Linear(width, c.width, bias=False) for m, width in inputs.items()})
        self.crossed = Crossed(
            tuple(inputs), c.width, heads=c.heads, layers=c.layers, memory=max(c.layers, 3), dropout=c.dropout,
            attention_dropout={m: 0.0 for m in inputs if m != "text"}, embedding_dropout=c.embedding_dropout, causal=causal,
        )  # fmt: skip
        self.dropout, self.inputs, self.causal = Dropout(c.embedding_dropout), inputs, causal
        self.widths, self.pools = self.crossed.widths, self.crossed.pools

    def forward(self, steps: Mapping[str, Steps]) -> list[Steps]:
        """`h_m` of all steps."""
        x = {m: self.dropout(one.states) if m == "text" else one.states for m, one in steps.items()}
        return self.crossed({m: one.with_states(self.project[m](x[m])) for m, one in steps.items()})  # Eqs. (1)-(5)


class MulT(Method):
    """Modalities that ask each other step by step, and the conversation around them."""

    Config = MulTConfig
    family = "fusion"
    reads = ("sequences", "features")
    unused: ClassVar[Mapping[str, str]] = {"*attention.key.bias": "it cancels in the softmax of (3)"}
    paper = Paper(
        title="Multimodal Transformer for Unaligned Multimodal Language Sequences",
        authors="Tsai et al.",
        venue="ACL",
        year=2019,
        code="https://github.com/yaohungt/Multimodal-Transformer",
    )

    def build(self, c: MulTConfig, shapes: Shapes) -> None:
        """The net over steps, the residual layer, the conversation and the classifier."""
        causal = c.mask or (c.causal and not shapes.items)
        self.read = ReadSteps(shapes.widths, shapes.items, lambda inputs: MulTNet(c, inputs, causal))
        width = self.read.width
        self.residual = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.conversation = Conversation({FUSED: width}, self.graph, c.conversation, causal=c.causal, speaker=shapes.speaker)
        self.classify = nn.Linear(self.conversation.width, shapes.outputs)

    def encode(self, given: Given) -> Tensor:
        """`(N, M (M - 1) width)`, with a conversation wider."""
        h = self.read(given.values, given.present, given.batch)  # Eq. (6)
        f = h + self.residual(h)  # Eq. (7)
        return self.conversation({FUSED: f}, {FUSED: given.here(self.read.names).any(1)}, given)
