r"""Two graphs in sequence: over the modalities of an utterance, then over the utterances of the dialogue.

This method has no paper. We offer it in place of HFGCN (Tang et al., "Fusion with Hierarchical Graphs for Multimodal Emotion Recognition",
2021), of which we know only the abstract. In HFGCN, one graph fuses the modalities, and a second graph adds the dependencies between
modalities to the context of the conversation. Everything else here is our choice, with graph operators that were known in 2021. Results of
this method are not results of HFGCN.

.. math::
    x_m &= W_m f_m + b_m, \qquad x_t \leftarrow \mathrm{BiGRU}(x_t) \tag{1} \\
    z_m &= \mathrm{ReLU}\big(R_m x_m + \textstyle\sum_{a \ne m} W_{a \to m} x_a + c_m\big), \qquad u = [z_m]_m \tag{2} \\
    v_i &= \mathrm{ReLU}\Big(R u_i + \sum_r \frac{1}{|N_r(i)|} \sum_{j \in N_r(i)} W_r u_j + c\Big) \tag{3} \\
    y_i &= \mathrm{ReLU}\big(Q v_i + \textstyle\sum_{j \in N(i)} V v_j + d\big) \tag{4} \\
    s_i &= W_o [u_i ; y_i] + b_o \tag{5}

| symbol | attribute | shape |
|---|---|---|
| `W_m` | `streams.project[m]` | `(hidden, features)` |
| `R_m`, `W_{a→m}`, `c_m` | `fuse`: its blocks, a row of blocks for each `m` | `(S hidden, S hidden)`, `(S hidden,)` |
| `W_r`, `R`, `c` | `talk.weight`, `talk.root` | `(relations, S hidden, hidden)`, `(hidden, S hidden)` |
| `V`, `Q`, `d` | `spread.neighbours`, `spread.root` | `(hidden, hidden)` |
| `W_o` | `classify` | `(classes, (S + 1) hidden)` |

**Our choices**: the relation `r` of an edge in (3) depends on both speakers and on the order of the two utterances (recipe `cogmen`). Eq.
(4) uses the same edges without relations. A missing modality has no node; its states in (2) and in `u` are zero. The loss is set by
`training.loss`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from erc_graph.conv.neighbours import Neighbours
from erc_graph.conv.relational import Relational
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.recurrent import Recurrent
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.parts import Streams
from erc_graph.methods.ranges import Causal, Even, Graph, Share


@dataclass(frozen=True, kw_only=True)
class TwoStageConfig(Causal):
    """Options of the two-stage graph.

    Attributes:
        graph: Graph recipe of the second graph.
        hidden: Hidden width of all states.
        dropout: Dropout after both graphs.
    """

    graph: Graph = "cogmen"
    hidden: Even = 100
    dropout: Share = 0.4


class TwoStage(Method):
    """A graph over modalities, then a graph over utterances."""

    Config = TwoStageConfig
    stands_for = "Stands in for HFGCN, of which only the abstract is known: it names two graphs, and the rest is a guess"

    def build(self, c: TwoStageConfig, shapes: Shapes) -> None:
        """Build the modules in the order of the equations."""
        gru = Recurrent("gru", c.hidden, c.hidden, bidirectional=not c.causal)
        self.streams, wide = Streams(shapes.widths, c.hidden, read={"text": gru}), len(shapes.widths) * c.hidden
        self.fuse, self.dropout = nn.Linear(wide, wide), Dropout(c.dropout)
        self.talk = Relational(wide, c.hidden, self.recipe)
        self.spread = Neighbours(c.hidden, c.hidden, self.recipe)
        self.classify = nn.Linear(wide + c.hidden, shapes.outputs)  # Eq. (5)

    def encode(self, given: Given) -> Tensor:
        """Compute the states of `N` utterances before the classifier, `(N, (S + 1) hidden)` for `S` modalities."""
        x = self.streams(given)  # Eq. (1), (N, S, hidden)
        z = x.with_states(self.fuse(x.masked().flatten(1)).relu().view_as(x.states))  # Eq. (2)
        u = Nodes.of_turns(self.dropout(z.masked().flatten(1)), x.present.any(1))  # (N, 1, S hidden)
        v = self.talk(u, given.batch)  # Eq. (3), (N, 1, hidden)
        y = self.spread(v.with_states(v.states.relu()), given.batch)  # Eq. (4)
        return torch.cat([u.states, self.dropout(y.states.relu())], -1)[:, 0]
