r"""CORECT: Conversation Understanding using Relational Temporal GNNs with Auxiliary Cross-Modality Interaction (Nguyen et al., EMNLP 2023).

Every modality of an utterance has a state. Two branches of the network read these states: a relational graph network, and crossmodal
attention over the dialogue as in MulT.

.. math::
    x_t &= W\, \mathrm{Transformer}(u_t) + b, \qquad x_m = \mathrm{ReLU}(W_2\, \mathrm{ReLU}(W_1 u_m)) \quad m \in \{a, v\} \tag{1} \\
    x &\leftarrow x + M e_{\mathrm{speaker}} \tag{2} \\
    y_i &= W_0 x_i + b_0 + \textstyle\sum_r \frac{1}{|N_r(i)|} \sum_{j \in N_r(i)} W_r x_j \tag{3} \\
    z_i &= \mathrm{LeakyReLU}\big(\mathrm{Norm}\big(\big[\textstyle\sum_j \mathrm{softmax}_j \big(\frac{(Q y_i) \cdot (K y_j)}{\sqrt d}\big)
        V y_j \big]_{\text{heads}} + W_s y_i \big)\big) \tag{4} \\
    c_m &= \mathrm{SA}([\mathrm{CM}(x_m \leftarrow x_n) ; \mathrm{CM}(x_m \leftarrow x_o)]) \tag{5} \\
    s &= W_4\, \mathrm{ReLU}(W_3 [z_t ; z_a ; z_v ; c_t ; c_a ; c_v]) \tag{6}

The equations follow the public code; the equation numbers are ours. CM (crossmodal attention) and SA (self-attention) are the Transformers
of MulT (`erc_graph.encoders.crossmodal`). They run over all utterances of a dialogue, without position encodings. The graph has three
relations within each modality: to earlier utterances, to later utterances, and to the same utterance. It has one more relation for each
ordered pair of modalities, within an utterance. All linear maps have biases, except `W_r` and `M`.

| symbol | attribute | shape (`N`: utterances, `S`: modalities) |
|---|---|---|
| Transformer; `W`, `W_1`, `W_2` | `context`; `project[m]` | over the text features; `(width, features)` |
| `e`, `M` | `speaker.embedding`, `.weight` | `(2, width)`, `(width, width)` |
| `W_r`, `W_0` | `relate.weight`, `.root` | `(relations, width, width)`, `(width, width)` |
| `Q`, `K`, `V`, `W_s`; Norm | `attend.query`, `.key`, `.value`, `.skip`; `norm` | `(heads · width, width)`; `heads · width` channels |
| `c` | `crossed` | `(N, 1, S (S - 1) width)` |
| `W_3`, `W_4` | `classify` | `(width, width of the concatenation)`, `(classes, width)` |

**Differences from the paper and from its public code**

- We had no access to the paper's text. The window has 11 earlier and 5 later utterances (graph recipe `corect`). In the public code, an
  utterance instead receives messages from 4 earlier and 11 later utterances.
- Here the Transformer of (1) and the attention of (5) mask padding. The public code reads padding, so its scores depend on the batch.
- The public code exchanges the names of its audio and text modules; here the names are correct. Unused layers of the code are left out.
- A missing modality has no node in the graph, and contributes zero to the attention of (5). With a single modality, (5) is left out.
- Speakers are numbered by first appearance in the dialogue. All speakers after the second share the vector `e` of the second speaker. The
  public code distinguishes two speakers by their sex, and has no matrix `M`.
- As in the public code, the batch norm makes the dialogues of a training batch depend on each other. LeakyReLU has the slope 0.01. The
  number of heads in (1) depends on the width of the text features (`erc_graph.methods.cogmen.heads_for`).
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
    """Options of CORECT; symbols and numbers such as (4) refer to the equations in the docstring of the module.

    Attributes:
        graph: Graph recipe; each of its edge rules becomes one relation per modality, or per ordered pair of modalities.
        width: Width `d` of the states and of each head of (4).
        layers: Number of Transformer layers in (1).
        feedforward: Hidden width of each Transformer layer.
        heads: Number of attention heads in (4).
        cross_heads: Number of attention heads in (5).
        cross_layers: Number of layers of CM (crossmodal attention).
        memory_layers: Number of layers of SA (self-attention).
        dropout: Dropout in the Transformer of (1) and before the last linear layer.
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
    """Return the recipe, in which each edge rule is split into one rule per stream (modality), or per ordered pair of streams."""
    rules = []
    for rule in recipe.edges:
        for source, target in rule.joined(tuple(streams)):
            name = f"{rule.relation}_{source if source == target else f'{source}_{target}'}".lower()
            rules.append(replace(rule, relation=name, source=(source,), target=(target,)))
    return replace(recipe, edges=tuple(rules), examples=())


class CORECT(Method):
    """A relational temporal graph network, and crossmodal attention over the dialogue."""

    Config = CORECTConfig
    couples_batch = "the batch norm, Eq. (4)"
    unused = {
        "*.attention.key.bias": "it cancels in the softmax of (5)",
        "attend.key.bias": "it cancels in the softmax of (4)",
        "attend.value.bias": "the norm of (4) subtracts the mean",
        "attend.skip.bias": "the norm of (4) subtracts the mean",
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
        """Build the modules in the order of the method's equations."""
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
        """Compute the node states `x`: `(N, S, width)` for `S` modalities."""
        rows = [over_turns(self.context, given.values[m], given.batch) if m == "text" else given.values[m] for m in self.names]
        x = torch.stack([self.project[m](row) for m, row in zip(self.names, rows, strict=True)], 1)  # Eq. (1)
        return Nodes(x + self.speaker(given)[:, None], given.here(self.names), self.names)  # Eq. (2)

    def related(self, x: Nodes, batch: Batch) -> Tensor:
        """Compute the output `z` of the graph branch: `(N, S · heads · width)` for `S` modalities."""
        y = self.relate(x, batch)  # Eq. (3), (N, S, width)
        z = self.norm(self.attend(y, batch), batch)  # (N, S, heads · width)
        return z.with_states(nn.functional.leaky_relu(z.states)).masked().flatten(1)  # Eq. (4)

    def encode(self, given: Given) -> Tensor:
        """Compute the utterance states before the classifier, `(N, S · heads · width + S (S - 1) width)` for `S` modalities."""
        x = self.nodes(given)
        heard = [] if self.crossed is None else [self.crossed(x, given.batch).states[:, 0]]  # Eq. (5)
        return torch.cat([self.related(x, given.batch), *heard], -1)
