r"""DialogueGCN: A Graph Convolutional Neural Network for Emotion Recognition in Conversation (Ghosal et al., EMNLP-IJCNLP 2019).

A recurrent network reads the dialogue; two graph layers with one matrix per speaker pair and direction read a window of utterances.

.. math::
    g &= \mathrm{BiGRU}(u) \tag{1} \\
    \alpha_{ij} &= \mathrm{softmax}_{j \in N(i) \cup \{i\}}\; g_i^\top W_e g_j \tag{2} \\
    h^1_i &= \mathrm{ReLU}\Big(\sum_r \sum_{j \in N_r(i)} \frac{\alpha_{ij}}{|N_r(i)|} W_r g_j + \alpha_{ii} W_0 g_i + b\Big) \tag{3} \\
    h^2_i &= \mathrm{ReLU}\Big(\sum_{j \in N(i)} W h^1_j + W_0' h^1_i + b'\Big) \tag{4} \\
    \tilde h_i &= \textstyle\sum_j \mathrm{softmax}_j(h_i^\top W_\beta h_j)\, h_j, \qquad h_i = [g_i ; h^2_i] \tag{5} \\
    s_i &= W_2\, \mathrm{ReLU}(W_1 \tilde h_i + b_1) + b_2 \tag{6}

In (5), `j` runs over the utterances of the dialogue. We recalled the equations without access to the paper; the numbering is ours.

| symbol | attribute | shape |
|---|---|---|
| `u` | | `(N, D)`, all features of an utterance |
| `g` | `context` | `(N, width)`, both directions |
| `W_e` | `relate.attention` | `(width, width)`, its transpose |
| `W_r`, `W_0`, `b` | `relate.weight`, its last, `relate.bias` | `(relations + 1, width, hidden)`, `(hidden,)` |
| `W`, `W_0'` | `neighbours.neighbours`, `.root` | `(hidden, hidden)` |
| `W_β` | `nodal.transform` | `(width + hidden, width + hidden)`, its transpose |
| `W_1`, `W_2` | `classify` | `(hidden, width + hidden)`, `(classes, hidden)` |

**Differences from the paper and from its public implementations** (the authors' folder, and the second one that they recommend)

- The paper leaves three choices open. Here an utterance is no neighbour of itself, the activation is ReLU, and (3) and (4) have biases.
- `form = "code"` follows the second code. Its softmax (2) runs over the utterances to which `j` sends, so the weights of a receiver do not
  sum to one. There is no :math:`1/|N_r|` and no ReLU in (3) and (4). :math:`W_0 g_i` has no weight; self-loops, as in recipe `cogmen`, are
  edges.
- Published figures come from such code with an LSTM in (1). The first code has a tanh and a bias in (5); the second code has no (5).
- In place of (2), the first code scores an edge by the absolute position of its sender, for 110 positions. This is left out.
- A window of the codes lists the receivers of an utterance, a recipe its senders; for symmetric windows both agree.
- In the first code, the network of (1) reads padding, so scores depend on the batch. Here it stops at the end of a dialogue.
- The first code selects the epoch on test data. Here development data select it.
- Both codes combine 30 shared matrices into those of 8 relations, which restricts nothing. Here every relation has its own matrix.
- The codes tell two speakers apart by sex. Here they are numbered by first appearance; surplus speakers share the recipe's last relations.
- The codes read only text. Here all modalities are concatenated, zeros for a missing one. An utterance without any modality is no node.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from erc_graph.conv.neighbours import Neighbours
from erc_graph.conv.relational import Relational
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.matching import MatchingAttention
from erc_graph.encoders.recurrent import Recurrent
from erc_graph.errors import ConfigError
from erc_graph.graphs.rules import EdgeRule
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import Turn
from erc_graph.methods.ranges import Causal, Even, Graph, Share, Size


@dataclass(frozen=True, kw_only=True)
class DialogueGCNConfig(Causal):
    """Options of DialogueGCN.

    Attributes:
        graph: Graph recipe; self-loops are used only with `form = "code"`.
        width: Width of the states before the graph, for both directions together.
        hidden: Hidden width of the graph layers and of the classifier.
        cell: Cell of the recurrent network.
        form: Form of (2) to (4): as in the `paper`, or as in the public `code`.
        nodal: Form of (5): `plain` as printed, `tanh` with a bias in the scores, or `none` (the classifier reads `h`).
        dropout: Dropout between the layers of (1) and before the last linear layer.
    """

    graph: Graph = "dialoguegcn"
    width: Even = 200
    hidden: Size = 100
    cell: Literal["gru", "lstm"] = "gru"
    form: Literal["paper", "code"] = "paper"
    nodal: Literal["plain", "tanh", "none"] = "plain"
    dropout: Share = 0.4


class DialogueGCN(Method):
    """A recurrent network, relational convolution with attention, plain convolution, and attention over the dialogue."""

    Config = DialogueGCNConfig
    paper = Paper(
        title="DialogueGCN: A Graph Convolutional Neural Network for Emotion Recognition in Conversation",
        authors="Ghosal et al.",
        venue="EMNLP-IJCNLP",
        year=2019,
        url="https://arxiv.org/abs/1908.11540",
        code="https://github.com/declare-lab/conv-emotion",
    )

    def build(self, c: DialogueGCNConfig, shapes: Shapes) -> None:
        """Build the parts in the order of the equations."""
        if c.causal and c.form == "code":
            raise ConfigError('pipeline.form: expected "paper" with pipeline.causal, because "code" reads later utterances, found "code"')
        self.turn = Turn(shapes.widths)
        self.context = Recurrent(c.cell, self.turn.width, c.width, bidirectional=not c.causal, layers=2, dropout=c.dropout)
        self.activation: nn.Module = nn.Identity() if c.form == "code" else nn.ReLU()
        if c.form == "code":
            graph = self.recipe
            self.relate = Relational(c.width, c.hidden, graph, norm="none", attention="source")
        else:
            graph = replace(self.recipe, edges=tuple(replace(rule, self_loops=False) for rule in self.recipe.edges), examples=())
            itself = EdgeRule(relation="itself", scope="within", past=0, future=0, weight="learned")
            joined = replace(graph, edges=(*graph.edges, itself))
            self.relate = Relational(c.width, c.hidden, joined, root=False, bias=True, attention="target")
        self.neighbours = Neighbours(c.hidden, c.hidden, graph)
        read = c.width + c.hidden
        bounded = c.nodal == "tanh"
        self.nodal = None if c.nodal == "none" else MatchingAttention(read, causal=c.causal, bounded=bounded, bias=bounded)
        # Eq. (6)
        self.classify = nn.Sequential(nn.Linear(read, c.hidden), nn.ReLU(), Dropout(c.dropout), nn.Linear(c.hidden, shapes.outputs))

    def encode(self, given: Given) -> Tensor:
        """Compute the utterance states before the classifier, `(N, width + hidden)`."""
        g = self.context(self.turn(given), given.batch)  # Eq. (1), (N, 1, width)
        h = self.relate(g, given.batch)  # Eqs. (2), (3), (N, 1, hidden)
        h = self.neighbours(h.with_states(self.activation(h.states)), given.batch)  # Eq. (4)
        h = h.with_states(torch.cat([g.states, self.activation(h.states)], -1))  # (N, 1, width + hidden)
        return (h if self.nodal is None else self.nodal(h, given.batch)).masked()[:, 0]  # Eq. (5)
