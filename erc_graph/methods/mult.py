r"""MulT: Multimodal Transformer for Unaligned Multimodal Language Sequences (Tsai et al., ACL 2019), then a graph stage.

The steps (words or frames) of each modality attend to the steps of every other modality. The sequences need no alignment.

.. math::
    x_m &= W_m\, \mathrm{steps}_m \tag{1} \\
    \hat x_m &= \sqrt d\, x_m + \mathrm{PE} \tag{2} \\
    z &\leftarrow z + \mathrm{MHA}(\mathrm{LN}(z), \mathrm{LN}(\hat x_n)), \qquad z \leftarrow z + \mathrm{FFN}(\mathrm{LN}'(z)) \tag{3} \\
    z_{m \leftarrow n} &= \mathrm{LN}''(z \text{ after all layers}), \qquad z = \hat x_m \text{ before the first} \tag{4} \\
    h_m &= \mathrm{SA}([z_{m \leftarrow n} ; z_{m \leftarrow o}]) \tag{5} \\
    h &= [h_l ; h_a ; h_v], \qquad \text{the last step of each} \tag{6} \\
    f &= h + W_b\, \mathrm{ReLU}(W_a h + b_a) + b_b \tag{7}

The equations follow the public code; the numbering is ours. SA is a self-attention Transformer: (2) to (4) with `z` itself as keys and
values, and with twice the width.

| symbol | attribute | shape |
|---|---|---|
| `W_m` | `read.net.project[m]` | `(width, features)`, without bias |
| `z_m←n`, `h_m` | `read.net.crossed.cross[m][n]`, `.memory[m]` | `(n, L_m, width)`, `(n, L_m, 2 width)` |
| `W_a`, `W_b` | `residual[0]`, `residual[2]` | `(6 width, 6 width)` |

**Differences from the paper and from its public code**

- We had no access to the paper's text. The public code leaves (1) out if the features already have the width `d`.
- The public code does not mask padding, and it uses the last step even if this step is padding. Here padding is masked, and (6) uses the
  last real step. In the public code, a step whose first channel is zero gets no position embedding; here every step gets a position
  embedding.
- With the option `mask`, step `i` attends only to steps `j <= i + k` of the other modality. Here `k` is the difference of the two sequence
  lengths. The public code has this limit by default. The paper describes attention without such a limit.
- Attention to a missing modality adds zero; the `h_m` of a missing modality is zero.
- If all modalities are vectors, the utterances of a dialogue are the steps (our choice). If some modalities are sequences, a vector is a
  sequence of one step.
- With M modalities, `h` has the width M · (M - 1) · `width`. A single modality attends only to itself, by SA. Before (1), frames are scaled
  with mean and standard deviation of the training data.
- The public code treats IEMOCAP as four binary tasks and reports four binary F1 scores. Here one classifier predicts all labels of the
  task.
- The paper does not model the conversation. Here a graph stage follows (7); the option `graph = "none"` removes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from erc_graph.encoders.crossmodal import Crossed, CrossTransformer
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.steps import ReadSteps, StepNet, Steps
from erc_graph.methods.conversation import InConversation, UtteranceMethod
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.ranges import Share, Size


@dataclass(frozen=True, kw_only=True)
class MulTConfig(InConversation):
    """Options of MulT.

    Attributes:
        width: Width `d` of the states.
        heads: Number of attention heads in every attention layer.
        layers: Number of layers of (3). SA has the same number of layers, but at least three.
        mask: Let a step attend only to steps up to its own position.
        dropout: Dropout after attention, in the feed-forward networks, on the attention weights of SA, and on attention weights over text.
        embedding_dropout: Dropout on the steps of text and on the input of (3).
    """

    width: Size = 30
    heads: Size = 5
    layers: Size = 2
    mask: bool = True
    dropout: Share = 0.1
    embedding_dropout: Share = 0.25


class MulTNet(StepNet):
    """The network of Eqs. (1) to (5) over the steps of each modality."""

    def __init__(self, c: MulTConfig, inputs: Mapping[str, int], causal: bool) -> None:
        super().__init__()
        self.project = nn.ModuleDict({m: nn.Linear(width, c.width, bias=False) for m, width in inputs.items()})

        def stack(width: int, asks: str, asked: str) -> CrossTransformer:
            share = c.dropout if asked in ("text", asks) else 0.0
            return CrossTransformer(
                width, heads=c.heads, layers=max(c.layers, 3) if asked == asks else c.layers, dropout=c.dropout, attention_dropout=share,
                embedding_dropout=c.embedding_dropout, causal=causal,
            )  # fmt: skip

        self.crossed = Crossed(tuple(inputs), c.width, stack)
        self.dropout, self.inputs, self.causal = Dropout(c.embedding_dropout), inputs, causal
        self.widths, self.pools = self.crossed.widths, self.crossed.pools

    def forward(self, steps: Mapping[str, Steps]) -> list[Steps]:
        """Compute the states `h_m` of Eq. (5) for all steps of every modality."""
        x = {m: self.dropout(one.states) if m == "text" else one.states for m, one in steps.items()}
        return self.crossed({m: one.with_states(self.project[m](x[m])) for m, one in steps.items()})  # Eqs. (1)-(5)


class MulT(UtteranceMethod):
    """Crossmodal attention between the steps of all modalities, then a graph stage."""

    Config = MulTConfig
    unused = {"*attention.key.bias": "it cancels in the softmax of (3)"}
    paper = Paper(
        title="Multimodal Transformer for Unaligned Multimodal Language Sequences",
        authors="Tsai et al.",
        venue="ACL",
        year=2019,
        url="https://arxiv.org/abs/1906.00295",
        code="https://github.com/yaohungt/Multimodal-Transformer",
    )

    def build(self, c: MulTConfig, shapes: Shapes) -> None:
        """Build the network over steps, the residual layer, the graph stage and the classifier."""
        causal = c.mask or (c.causal and not shapes.items)
        self.read = ReadSteps(shapes.widths, shapes.items, lambda inputs: MulTNet(c, inputs, causal))
        width = self.read.width
        self.residual = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.conversation = self.around(width)
        self.classify = nn.Linear(self.conversation.width, shapes.outputs)

    def encode(self, given: Given) -> Tensor:
        """Compute the states of `N` utterances, `(N, M · (M - 1) · width)`; a graph stage concatenates its own states to them."""
        h = self.read(given.values, given.present, given.batch)  # Eq. (6)
        f = h + self.residual(h)  # Eq. (7)
        return self.conversation(f, given.here(self.read.names).any(1), given)
