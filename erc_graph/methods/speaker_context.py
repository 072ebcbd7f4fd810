r"""Speaker context, the method that this project recommends: two recurrent networks and one layer of graph attention.

This method has no paper. One recurrent network reads the whole dialogue. The other network reads the utterances of each speaker as a
separate sequence. For each utterance, a linear layer combines both states into a node state. Graph attention over a window of utterances
then adds messages from the neighbours, with a residual connection.

.. math::
    x_i &= \mathrm{ReLU}\big(W_x [f^m_i ; f^m_i - \mathrm{mean}_j f^m_j]_m + b_x\big), \qquad m \text{ the modalities} \tag{1} \\
    c &= \mathrm{BiGRU}(x), \qquad z = \mathrm{BiGRU}_S(x \text{ of each speaker's own utterances}) \tag{2} \\
    n_i &= \mathrm{ReLU}(W_n [c_i ; z_i] + b_n) \tag{3} \\
    g_i &= \mathrm{LN}\big(n_i + \mathrm{ReLU}(\mathrm{Attention}(n)_i)\big) \tag{4} \\
    s_i &= W [n_i ; g_i] + b \tag{5}

| symbol | attribute | shape |
|---|---|---|
| `f^m` | | `(N, features)`, a learned vector where it is missing |
| mean | `centred` | over the present utterances of the dialogue; if causal, over those so far |
| `W_x`, `b_x` | `project` | `(width, 2 features)`, `(width,)` |
| `BiGRU`, `BiGRU_S` | `context`, `own.net` | both directions `width` wide together |
| `W_n`, `b_n` | `join` | `(width, 2 width)`, `(width,)` |
| Attention | `attend` | `(N, 1, width)`, see `erc_graph.conv.attention` |
| LN | `norm` | over `width` channels |
| `W`, `b` | `classify` | `(classes, 2 width)`, `(classes,)` |

The speaker network of (2) comes from DialogueCRN. Eq. (4) is the graph attention of COGMEN with a residual connection. All modules and
settings were chosen on held-out dialogues of the training data (docs/searches.md). With the option `graph = "none"`, (4) is left out and
(5) reads only `n_i`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from erc_graph.conv.attention import Attention
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.centred import Centred
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.missing import Missing
from erc_graph.encoders.own_turns import OwnTurns
from erc_graph.encoders.recurrent import Recurrent
from erc_graph.encoders.turns import over_turns
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.ranges import Causal, Even, Share, Size


@dataclass(frozen=True, kw_only=True)
class SpeakerContextConfig(Causal):
    """Options of the recommended method.

    Attributes:
        graph: Graph recipe of (4); `none`: (4) is left out.
        width: Width of all states.
        heads: Number of attention heads of (4).
        dropout: Dropout rate on the features, before (2), (4) and (5), and on the messages of (4).
    """

    graph: str = "dialoguegcn"
    width: Even = 128
    heads: Size = 4
    dropout: Share = 0.5


class SpeakerContext(Method):
    """Recurrent networks over the dialogue and over each speaker's own utterances, then graph attention over a window."""

    Config = SpeakerContextConfig
    unused = {"attend.key.bias": "it cancels in the softmax of (4)"}

    def build(self, c: SpeakerContextConfig, shapes: Shapes) -> None:
        """Build the modules in the order of the equations."""
        self.missing, self.centred, self.drop = Missing(shapes.widths), Centred(causal=c.causal), Dropout(c.dropout)
        self.project = nn.Sequential(Dropout(c.dropout), nn.Linear(2 * sum(shapes.widths.values()), c.width), nn.ReLU(), Dropout(c.dropout))
        self.context = Recurrent("gru", c.width, c.width, bidirectional=not c.causal)
        self.own = OwnTurns(Recurrent("gru", c.width, c.width, bidirectional=not c.causal))
        self.join = nn.Sequential(nn.Linear(2 * c.width, c.width), nn.ReLU())
        self.attend = Attention(c.width, c.width, self.graph, heads=c.heads) if self.graph else None
        self.norm = nn.LayerNorm(c.width) if self.graph else None
        self.classify = self.head(c, (1 + bool(self.graph)) * c.width, shapes.outputs)  # Eq. (5)

    def encode(self, given: Given) -> Tensor:
        """Return `[n ; g]` of `N` utterances, `(N, 2 width)`; with `graph = "none"`, only `n`. Utterances without modalities have zeros."""
        features = self.missing(given.values, given.present)
        own = {m: self.centred(Nodes.of_turns(given.values[m], given.present[m]), given.batch).states[:, 0] for m in features}
        rows = [torch.cat([features[m], own[m]], -1) for m in features]
        x = Nodes.of_turns(self.project(torch.cat(rows, -1)), given.here(tuple(features)).any(1))  # Eq. (1), (N, 1, width)
        c, z = over_turns(self.context, x.states[:, 0], given.batch), self.own(x, given.batch).states[:, 0]  # Eq. (2)
        n = x.with_states(self.join(torch.cat([c, z], -1))[:, None])  # Eq. (3)
        if self.attend is None or self.norm is None:
            return n.masked()[:, 0]
        message = self.attend(n.with_states(self.drop(n.states)), given.batch).states.relu()
        g = self.norm(n.states + self.drop(message))  # Eq. (4)
        return n.with_states(torch.cat([n.states, g], -1)).masked()[:, 0]
