r"""DAG-ERC: Directed Acyclic Graph Network for Conversational Emotion Recognition (Shen et al., ACL-IJCNLP 2021).

The neighbours `N(i)` of utterance `i` are the previous utterance of its speaker, and all utterances between this utterance and `i`. If the
speaker has no previous utterance, all earlier utterances are neighbours. A layer reads the states of the neighbours in the *same* layer. It
therefore processes the utterances of a dialogue one after the other.

.. math::
    h^0_i &= \mathrm{ReLU}(W_1 u_i + b_1) \tag{1} \\
    a_{ij} &= \mathrm{softmax}_{j \in N(i)}\; w_l^\top [h^{l-1}_i ; h^l_j] \tag{2} \\
    M_i &= \sum_{j \in N(i)} a_{ij} W_{l, r_{ij}} h^l_j \tag{3} \\
    h^l_i &= \mathrm{GRU}_C(h^{l-1}_i, M_i) + \mathrm{GRU}_P(M_i, h^{l-1}_i) \qquad \text{(input, hidden state)} \tag{4} \\
    g_i &= [h^0_i ; h^1_i ; \dots ; h^L_i ; u_i] \tag{5} \\
    s_i &= W_4\, \mathrm{ReLU}(W_3\, \mathrm{ReLU}(W_2 g_i + b_2) + b_3) + b_4 \tag{6}

The equations follow the public code; the equation numbers are ours. The relation `r_ij` states whether utterances `i` and `j` have the same
speaker (graph recipe `dagerc`).

| symbol | attribute | shape (`N`: utterances, `D`: features of an utterance) |
|---|---|---|
| `u` | `turn` | `(N, 1, D)` |
| `W_1` | `project` | `(width, D)` |
| `w`, `W_r`, `GRU_C`, `GRU_P` | `layers[l]`: `key`, `matrices`, `nodal`, `contextual` | see `erc_graph.conv.directed` |
| `g` | | `(N, (layers + 1) width + D)` |
| `W_2`, `W_3`, `W_4` | `classify` | `(width, width of g)`, `(width, width)`, `(classes, width)` |

**Differences from the paper and from its public code**

- In (2), the public code also has a bias. This bias and the term of `h_i` are the same for all neighbours `j`, so they cancel in the
  softmax. Both are left out here, because their gradient is always zero.
- Equations (5) and (6) are the classifier of the public code, with which the published results were computed. Without the option
  `readout_input`, (5) does not contain `u_i`. The option `head_layers` is the number of hidden layers in (6).
- The public code has unused layers, which are left out. It also has an attention over the vectors `g`; here this attention exists only if
  the option `nodal_attention` is set. Other attention scores, which no script of the code uses, are left out.
- The input of the public code is only text. Here all modalities of an utterance are concatenated, with zeros for a missing modality. An
  utterance without any modality has no node in the graph.
- To mask a score, the public code subtracts 1e30, which overflows in half precision. Here masks are Boolean.
- The optimiser of the public code is AdamW of an old library, with weight decay 0 and epsilon 1e-6. Our settings also have weight decay 0,
  but the default epsilon of PyTorch.
- If two epochs have the same result on the development split, the public code selects the epoch with the better test result. Here the first
  epoch is selected.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from erc_graph.conv.directed import Directed
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.matching import MatchingAttention
from erc_graph.encoders.turns import over_turns
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import Turn
from erc_graph.methods.ranges import Checked, Graph, Share, Size


@dataclass(frozen=True, kw_only=True)
class DAGERCConfig(Checked):
    """Options of DAG-ERC; symbols and numbers such as (4) refer to the equations in the docstring of the module.

    Attributes:
        graph: Graph recipe. All edges of the recipe must come from earlier utterances.
        causal: Whether to refuse `nodal_attention = "global"`. Only with this option does the method read later utterances.
        width: Width of the states and of the classifier's hidden layers.
        layers: Number `L` of graph layers.
        readout_input: Whether the classifier also reads the features `u`.
        head_layers: Number of hidden layers in the classifier.
        nodal_attention: Attention over the vectors `g` before the classifier: no attention (`none`), attention to earlier utterances
            (`past`), or attention to the whole dialogue (`global`).
        dropout: Dropout before the last linear layer; there is no other dropout.
    """

    graph: Graph = "dagerc"
    causal: bool = False
    width: Size = 300
    layers: Size = 4
    readout_input: bool = True
    head_layers: Size = 2
    nodal_attention: Literal["none", "past", "global"] = "none"
    dropout: Share = 0.2


class DAGERC(Method):
    """Recurrent layers along the graph of a conversation, and a classifier that reads the states of all layers."""

    Config = DAGERCConfig
    paper = Paper(
        title="Directed Acyclic Graph Network for Conversational Emotion Recognition",
        authors="Shen et al.",
        venue="ACL-IJCNLP",
        year=2021,
        url="https://arxiv.org/abs/2105.12907",
        code="https://github.com/shenwzh3/DAG-ERC",
    )

    def build(self, config: DAGERCConfig, shapes: Shapes) -> None:
        """Build the modules in the order of the method's equations."""
        width, recipe = config.width, self.recipe
        self.turn = Turn(shapes.widths)
        self.project = nn.Linear(self.turn.width, width)
        self.layers = nn.ModuleList(Directed(width, width, recipe) for _ in range(config.layers))
        read = (config.layers + 1) * width + config.readout_input * self.turn.width
        attention = config.nodal_attention
        self.attend = None if attention == "none" else MatchingAttention(read, causal=attention == "past")
        hidden = [nn.Sequential(nn.Linear(width if i else read, width), nn.ReLU()) for i in range(config.head_layers)]
        self.classify = nn.Sequential(*hidden, Dropout(config.dropout), nn.Linear(width, shapes.outputs))  # Eq. (6)

    def encode(self, given: Given) -> Tensor:
        """Compute the utterance states before the classifier, `(N, (layers + 1) width + D)`."""
        turn = self.turn(given)
        states = [turn.with_states(self.project(turn.states).relu())]  # Eq. (1), (N, 1, width)
        for layer in self.layers:
            states.append(layer(states[-1], given.batch))  # Eqs. (2)-(4), (N, 1, width)
        read = [*states, turn] if self.config.readout_input else states
        rows = torch.cat([nodes.masked()[:, 0] for nodes in read], -1)  # Eq. (5)
        return rows if self.attend is None else over_turns(self.attend, rows, given.batch)
