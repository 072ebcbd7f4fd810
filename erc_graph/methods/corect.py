r"""CORECT: Conversation Understanding using Relational Temporal GNNs with Auxiliary Cross-Modality Interaction (Nguyen et al., EMNLP 2023).

Two branches over a stream per modality: a relational graph, and modalities that attend to each other over the dialogue as in MulT.

.. math::
    x_t &= W\, \mathrm{Transformer}(u_t) + b, \qquad x_m = \mathrm{ReLU}(W_2\, \mathrm{ReLU}(W_1 u_m)) \quad m \in \{a, v\} \tag{1} \\
    x &\leftarrow x + M e_{\mathrm{speaker}} \tag{2} \\
    y_i &= W_0 x_i + b_0 + \textstyle\sum_r \frac{1}{|N_r(i)|} \sum_{j \in N_r(i)} W_r x_j \tag{3} \\
    z_i &= \mathrm{LeakyReLU}\big(\mathrm{Norm}\big(\big[\textstyle\sum_j \mathrm{softmax}_j \big(\frac{(Q y_i) \cdot (K y_j)}{\sqrt d}\big)
        V y_j \big]_{\text{heads}} + W_s y_i \big)\big) \tag{4} \\
    c_m &= \mathrm{SA}([\mathrm{CM}(x_m \leftarrow x_n) ; \mathrm{CM}(x_m \leftarrow x_o)]) \tag{5} \\
    s &= W_4\, \mathrm{ReLU}(W_3 [z_t ; z_a ; z_v ; c_t ; c_a ; c_v]) \tag{6}

The equations are those of the public code; their numbers are ours. CM and SA are MulT's (`erc_graph.encoders.crossmodal`) over all
utterances, without positions. Relations are earlier, later and same utterance of each stream, and ordered pairs of streams. Only `W_r` and
`M` lack biases.

| symbol | attribute | shape |
|---|---|---|
| Transformer; `W`, `W_1`, `W_2` | `context`; `project[m]` | over the features of text; `(width, ·)` |
| `e`, `M` | `speaker.embedding`, `.weight` | `(2, width)`, `(width, width)` |
| `W_r`, `W_0` | `relate.weight`, `.root` | `(relations, width, width)`, `(width, width)` |
| `Q`, `K`, `V`, `W_s`; Norm | `attend.query`, `.key`, `.value`, `.skip`; `norm` | `(heads width, width)`; `heads width` channels |
| `c` | `crossed` | `(N, 1, S (S - 1) width)` |
| `W_3`, `W_4` | `classify` | `(width, ·)`, `(classes, width)` |

**Differences from the paper and from its public code**

- The paper's text was not at hand. The code's window is mirrored and one utterance short; here it is as its names say (recipe `corect`).
- The Transformer and (5) mask padding. In the code they do not, so that scores depend on the batch.
- The code's modules named for audio hold text, and the reverse; here names are right. Layers of the code that nothing reads are left out.
- A missing modality has no node, and attention to it in (5) adds zero. With one modality there is no (5).
- Speakers are numbered by first appearance, and those after the second share its vector. The code tells two apart by sex and has no `M`.
- As in the code, the batch norm couples a batch in training, LeakyReLU has the slope 0.01, and heads of (1) follow from the text's width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from erc_graph.conv.attention import Attention
from erc_graph.conv.relational import Relational
from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.batch_norm import BatchNorm
from erc_graph.encoders.crossmodal import Crossed, CrossTransformer
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.self_attention import TransformerEncoder
from erc_graph.encoders.speaker import SpeakerEmbedding
from erc_graph.encoders.steps import OfTurns
from erc_graph.encoders.turns import over_turns
from erc_graph.graphs.recipe import GraphRecipe
from erc_graph.methods.base import Method
from erc_graph.methods.cogmen import heads_for
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.ranges import Causal, Graph, Share, Size


@dataclass(frozen=True, kw_only=True)
class CORECTConfig(Causal):
    """CORECT.

    Attributes:
        graph: Recipe; each of its rules is a relation per stream, or per ordered pair of streams.
        width: `d`, of the states and of a head of (4).
        layers: Layers of the Transformer of (1).
        feedforward: Hidden width of each of them.
        heads: Heads of (4).
        cross_heads: Of (5).
        cross_layers: Of CM.
        memory_layers: Of SA.
        dropout: Dropout in the Transformer of (1) and before the last layer.
    """

    graph: Graph = "corect"
    width: Size = 100
    layers: Size = 2
    feedforward: Size = 2048
    heads: Size = 7
    cross_heads: Size = 2
    cross_layers: Size = 2
    memory_layers: Size = 3
    dropout: Share = 0.5


def by_stream(recipe: GraphRecipe, streams: Sequence[str]) -> GraphRecipe:
    """Return a rule per stream, or per ordered pair of streams, in place of one for all."""
    rules = []
    for rule in recipe.edges:
        for source, target in rule.joined(tuple(streams)):
            name = f"{rule.relation}_{source if source == target else f'{source}_{target}'}".lower()
            rules.append(replace(rule, relation=name, source=(source,), target=(target,)))
    return replace(recipe, edges=tuple(rules), examples=())


class CORECT(Method):
    """A relational temporal graph, and modalities that attend to each other over the dialogue."""

    Config = CORECTConfig
    couples_batch = "the batch norm, Eq. (4)"
    unused = {
        "*.attention.key.bias": "it cancels in the softmax of (5)",
        "attend.key.bias": "it cancels in the softmax of (4)",
        "attend.value.bias": "the norm of (4) takes the mean away",
        "attend.skip.bias": "the norm of (4) takes the mean away",
    }
    paper = Paper(
        title="Conversation Understanding using Relational Temporal Graph Neural Networks with Auxiliary Cross-Modality Interaction",
        authors="Nguyen et al.",
        venue="EMNLP",
        year=2023,
        url="https://aclanthology.org/2023.emnlp-main.937",
        code="https://github.com/leson502/CORECT_EMNLP2023",
    )

    def build(self, c: CORECTConfig, shapes: Shapes) -> None:
        """Build the parts in the order of the equations."""
        self.names = tuple(sorted(shapes.widths, key=lambda m: (m != "text", m)))
        width, wide, count = c.width, c.heads * c.width, len(self.names)
        if text := shapes.widths.get("text"):
            size: Any = {"heads": heads_for(text), "layers": c.layers, "feedforward": c.feedforward, "causal": c.causal}
            self.context = TransformerEncoder(text, dropout=c.dropout, **size)
        others = {m: [nn.Linear(n, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()] for m, n in shapes.widths.items() if m != "text"}
        self.project = nn.ModuleDict({m: nn.Sequential(*others[m]) if m in others else nn.Linear(text or 0, width) for m in self.names})
        self.speaker = SpeakerEmbedding(width, speakers=2, given=shapes.speaker)
        recipe = by_stream(self.recipe, self.names)
        self.relate, self.attend = Relational(width, width, recipe), Attention(width, wide, recipe, heads=c.heads)
        self.norm = BatchNorm(wide)

        def stack(inputs: int, asks: str, asked: str) -> CrossTransformer:
            layers = c.memory_layers if asks == asked else c.cross_layers
            return CrossTransformer(inputs, heads=c.cross_heads, layers=layers, positions=False, causal=c.causal)

        self.crossed = OfTurns(Crossed(self.names, width, stack)) if count > 1 else None
        read = nn.Linear(count * (wide + (count - 1) * width), width)
        self.classify = nn.Sequential(read, nn.ReLU(), Dropout(c.dropout), nn.Linear(width, shapes.outputs))  # Eq. (6)

    def nodes(self, given: Given) -> Nodes:
        """Compute `x`: `(N, S, width)`."""
        rows = [over_turns(self.context, given.values[m], given.batch) if m == "text" else given.values[m] for m in self.names]
        x = torch.stack([self.project[m](row) for m, row in zip(self.names, rows, strict=True)], 1)  # Eq. (1)
        return Nodes(x + self.speaker(given)[:, None], given.here(self.names), self.names)  # Eq. (2)

    def related(self, x: Nodes, batch: Batch) -> Tensor:
        """Compute `z`: `(N, S heads width)`."""
        y = self.relate(x, batch)  # Eq. (3), (N, S, width)
        z = self.norm(self.attend(y, batch), batch)  # (N, S, heads width)
        return z.with_states(nn.functional.leaky_relu(z.states)).masked().flatten(1)  # Eq. (4)

    def encode(self, given: Given) -> Tensor:
        """Return `(N, S heads width + S (S - 1) width)`."""
        x = self.nodes(given)
        heard = [] if self.crossed is None else [self.crossed(x, given.batch).states[:, 0]]  # Eq. (5)
        return torch.cat([self.related(x, given.batch), *heard], -1)
