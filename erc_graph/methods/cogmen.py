r"""COGMEN: COntextualized GNN based Multimodal Emotion recognitioN (Joshi et al., NAACL 2022).

A Transformer runs over the utterances, whose modalities are concatenated. Two graph layers then pass messages within a window.

.. math::
    x_i &= W_x\, \mathrm{Transformer}(u)_i + b_x \tag{1} \\
    y_i &= W_0 x_i + b_0 + \sum_{r} \frac{1}{|N_r(i)|} \sum_{j \in N_r(i)} W_r x_j \tag{2} \\
    z_i &= W_s y_i + \Big[\sum_{j \in N(i)} \mathrm{softmax}_j((W_q y_i) \cdot (W_k y_j) / \sqrt d) W_v y_j\Big]_{\text{heads}} \tag{3} \\
    g_i &= \mathrm{LeakyReLU}(\mathrm{Norm}(z_i)) \tag{4} \\
    s_i &= W_2\, \mathrm{ReLU}(W_1 g_i + b_1) + b_2 \tag{5}

We had no access to the paper's text. The equations follow the public code; the equation numbers are ours. All linear maps of (3) have
biases. The relation `r` between two utterances depends on their speakers and on which utterance comes first (graph recipe `cogmen`).

| symbol | attribute | shape (`N`: utterances, `D`: features of an utterance) |
|---|---|---|
| `u`, Transformer | `turn`, `context` | `(N, 1, D)` each |
| `W_x` | `project.layers[0]` | `(width, D)` |
| `W_r`, `W_0` | `relate.weight`, `relate.root` | `(relations, width, width)`, `(width, width)` |
| `W_q`, `W_k`, `W_v`, `W_s` | `attend.query`, `.key`, `.value`, `.skip` | `(heads · width, width)` |
| Norm; `W_1`, `W_2` | `norm`; `classify` | over `heads · width` channels; `(width, heads · width)`, `(classes, width)` |

**Differences from the paper and from its public code**

- The Transformer of the public code attends to the padding of shorter dialogues, so scores depend on the batch. Here padding is masked.
- Equation (4): the batch norm of the public code fails for a single utterance, and couples the dialogues of a batch. The default here is a
  layer norm, which is not in the paper. The option `norm = "batch"` selects the batch norm, computed only over utterances with a modality.
- In the public code, a window contains the receivers of messages; in a graph recipe, the senders. Symmetric windows give the same edges.
- The public code distinguishes two speakers by their sex. Here speakers are numbered by first appearance in the dialogue. All speakers
  after the second have the relations of the second speaker.
- A missing modality is zero; the public code needs all modalities. Without any modality, an utterance is zero in (1) and has no node.
- As in the public code, the Transformer is post-norm, without position encodings, and has `heads_for(D)` heads. LeakyReLU has slope 0.01.
- Unused modules of the public code are left out, and also its options that replace the Transformer by an LSTM or a GRU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from erc_graph.conv.attention import Attention
from erc_graph.conv.relational import Relational
from erc_graph.encoders.batch_norm import BatchNorm
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.self_attention import TransformerEncoder
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import Highway, Rowwise, Turn
from erc_graph.methods.ranges import Causal, Graph, Share, Size


@dataclass(frozen=True, kw_only=True)
class COGMENConfig(Causal):
    """Options of COGMEN; symbols and numbers such as (4) refer to the equations in the docstring of the module.

    Attributes:
        graph: Graph recipe, which defines the edges and their relations.
        width: Width `d` of the states after the Transformer, and of each graph attention head.
        layers: Number of Transformer layers.
        feedforward: Hidden width of each Transformer layer.
        heads: Number of heads of the graph attention (3); their outputs are concatenated.
        norm: Norm of (4): a `layer` norm, or the public code's `batch` norm.
        concat_input: Whether the classifier reads `[x_i ; g_i]` instead of `g_i`.
        highway: Add a highway layer before the classifier.
        dropout: Dropout in the Transformer and before the last linear layer.
    """

    graph: Graph = "cogmen"
    width: Size = 100
    layers: Size = 2
    feedforward: Size = 2048
    heads: Size = 1
    norm: Literal["layer", "batch"] = "layer"
    concat_input: bool = False
    highway: bool = False
    dropout: Share = 0.5


def heads_for(width: int) -> int:
    """Return the number of attention heads for a feature width, as in the code that the authors of COGMEN published.

    This number is the smallest divisor of the width from 7 to 14, or 1 if no number from 7 to 14 divides the width.

    >>> heads_for(1380), heads_for(612), heads_for(13), heads_for(17)
    (10, 9, 13, 1)
    """
    return next((heads for heads in range(7, 15) if width % heads == 0), 1)


class COGMEN(Method):
    """A Transformer over the dialogue, then a relational graph convolution and graph attention."""

    Config = COGMENConfig
    paper = Paper(
        title="COGMEN: COntextualized GNN based Multimodal Emotion recognitioN",
        authors="Joshi et al.",
        venue="NAACL",
        year=2022,
        url="https://arxiv.org/abs/2205.02455",
        code="https://github.com/Exploration-Lab/COGMEN",
    )
    unused = {"attend.key.bias": "it cancels in the softmax of (3)"}

    def build(self, c: COGMENConfig, shapes: Shapes) -> None:
        """Build the modules in the order of the method's equations."""
        self.couples_batch = "the batch norm, Eq. (4)" if c.norm == "batch" else ""
        self.turn, output = Turn(shapes.widths), c.heads * c.width
        wide, size = self.turn.width, {"layers": c.layers, "feedforward": c.feedforward}
        self.context = TransformerEncoder(wide, heads=heads_for(wide), **size, dropout=c.dropout, causal=c.causal)
        self.project = Rowwise(nn.Linear(wide, c.width))
        self.relate = Relational(c.width, c.width, self.recipe)
        self.attend = Attention(c.width, output, self.recipe, heads=c.heads)
        self.norm = BatchNorm(output) if c.norm == "batch" else Rowwise(nn.LayerNorm(output))
        read = output + c.concat_input * c.width
        self.highway = Highway(read) if c.highway else nn.Identity()
        layers = nn.Linear(read, c.width), nn.ReLU(), Dropout(c.dropout), nn.Linear(c.width, shapes.outputs)
        self.classify = nn.Sequential(*layers)  # Eq. (5)

    def encode(self, given: Given) -> Tensor:
        """Compute the utterance states, `(N, heads · width)`; with `concat_input`, they also contain the states before the graph layers."""
        x = self.project(self.context(self.turn(given), given.batch), given.batch)  # Eq. (1), (N, 1, width)
        y = self.relate(x, given.batch)  # Eq. (2), (N, 1, width)
        z = self.attend(y, given.batch)  # Eq. (3), (N, 1, heads · width)
        g = nn.functional.leaky_relu(self.norm(z, given.batch).states)  # Eq. (4)
        states = torch.cat([x.states, g], -1) if self.config.concat_input else g
        return self.highway(z.with_states(states).masked().flatten(1))
