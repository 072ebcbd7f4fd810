r"""DialogueGCN: A Graph Convolutional Neural Network for Emotion Recognition in Conversation (Ghosal et al., EMNLP-IJCNLP 2019).

A recurrent network runs over the utterances of the dialogue. Two graph layers then pass messages between utterances within a window. The
first graph layer has one matrix per relation. A relation is given by the speakers of both utterances and by which comes first.

.. math::
    g &= \mathrm{BiGRU}(u) \tag{1} \\
    \alpha_{ij} &= \mathrm{softmax}_{j \in N(i) \cup \{i\}}\; g_i^\top W_e g_j \tag{2} \\
    h^1_i &= \mathrm{ReLU}\Big(\sum_r \sum_{j \in N_r(i)} \frac{\alpha_{ij}}{|N_r(i)|} W_r g_j + \alpha_{ii} W_0 g_i + b\Big) \tag{3} \\
    h^2_i &= \mathrm{ReLU}\Big(\sum_{j \in N(i)} W h^1_j + W_0' h^1_i + b'\Big) \tag{4} \\
    \tilde h_i &= \textstyle\sum_j \mathrm{softmax}_j(h_i^\top W_\beta h_j)\, h_j, \qquad h_i = [g_i ; h^2_i] \tag{5} \\
    s_i &= W_2\, \mathrm{ReLU}(W_1 \tilde h_i + b_1) + b_2 \tag{6}

`N_r(i)` are the neighbours of utterance `i` with relation `r` (graph recipe `dialoguegcn`). In (5), `j` runs over all utterances of the
dialogue. We wrote the equations from memory, without access to the paper; the equation numbers are ours.

| symbol | attribute | shape (`N`: utterances, `D`: features of an utterance) |
|---|---|---|
| `u` | | `(N, D)` |
| `g` | `context` | `(N, width)`, both directions |
| `W_e`; `W_β` | `relate.attention`; `nodal.transform` | `(width, width)`; `(width + hidden, width + hidden)`; stored transposed |
| `W_r`, `W_0`, `b` | `relate.weight` (the last matrix is `W_0`), `relate.bias` | `(relations + 1, width, hidden)`, `(hidden,)` |
| `W`, `W_0'` | `neighbours.neighbours`, `.root` | `(hidden, hidden)` |
| `W_1`, `W_2` | `classify` | `(hidden, width + hidden)`, `(classes, hidden)` |

**Differences from the paper and from its public code**

- There are two public implementations. The authors of the paper wrote the first code, and recommend the second code.
- The paper leaves three choices open. Here no utterance is its own neighbour, the activation is ReLU, and (3) and (4) have biases.
- The option `form = "code"` follows the second code. In this code, the softmax (2) runs over the receivers of a sender `j`, so the weights
  at a receiver do not sum to one. Equation (3) has no factor :math:`1/|N_r|`, and (3) and (4) have no ReLU. The term :math:`W_0 g_i` has no
  factor :math:`\alpha_{ii}`. Self-loops of the recipe, as in `cogmen`, are edges.
- The published results were computed with an LSTM in (1). The first code has a tanh and a bias in (5); the second code does not have (5).
- The first code scores edges not by (2) but by the sender's position in the dialogue (at most 110). This score is left out.
- In both codes, a window contains the receivers of messages; in a graph recipe, the senders. Symmetric windows give the same edges.
- The first code selects the epoch on test data. Its network (1) reads padding, so scores depend on the batch. Both are avoided here.
- Here each relation has its own matrix. In both codes, the 8 matrices are linear combinations of 30 matrices, which does not restrict them.
- Both codes distinguish two speakers by their sex. Here speakers are numbered by first appearance in the dialogue. If a dialogue has more
  speakers than the graph recipe distinguishes, all further speakers count as the last of these speakers.
- The input of both codes is only text. Here all modalities of an utterance are concatenated, with zeros for a missing modality. An
  utterance without any modality has no node in the graph.
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
    """Options of DialogueGCN; symbols and numbers such as (4) refer to the equations in the docstring of the module.

    Attributes:
        graph: Graph recipe; its self-loops are used only with `form = "code"`.
        width: Width of the states before the graph, for both directions together.
        hidden: Width of the graph layers and of the hidden layer of the classifier.
        cell: Cell of the recurrent network in (1).
        form: Variant of (2) to (4): `paper`, as in the equations, or `code`, as in the second public implementation.
        nodal: Variant of (5): `plain`, as in (5); `tanh`, with a tanh and a bias in the scores; `none`: the classifier reads `h_i`.
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
    """A recurrent network, a relational graph convolution with attention, a plain graph convolution, and attention over the dialogue."""

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
        """Build the modules in the order of the method's equations."""
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
