r"""ICON: Interactive Conversational Memory Network for Multimodal Emotion Detection (Hazarika et al., EMNLP 2018).

A memory contains earlier utterances of all speakers, in order. The query of an utterance attends to this memory several times (hops). In
each hop, the attention output updates the query. Between two hops, a GRU updates the memory.

.. math::
    q_i &= \tanh(W_q u_i + b_q) \tag{1} \\
    y_k &= \mathrm{GRU}_o(u_k) \text{ if } k \text{ has the speaker of } i, \text{ else } \mathrm{GRU}_p(u_k) \tag{2} \\
    M^1 &= \mathrm{GRU}_{\text{global}}(\tanh y) \tag{3} \\
    M^h &= \mathrm{GRU}_{\text{memory}}(M^{h-1}) \qquad h > 1 \tag{4} \\
    a_k &= \mathrm{softmax}_k \tanh(q_i \cdot M^h_k) \tag{5} \\
    q_i &\leftarrow \tanh\Big(q_i + \sum_k a_k M^h_k\Big) \qquad \text{(4)-(6) once per hop} \tag{6} \\
    o_i &= W_o q_i + b_o \tag{7}

The equations follow the public code; the numbering is ours. `k` runs over the last `window` utterances before the utterance `i`. In (2),
:math:`\mathrm{GRU}_o` reads the utterances of the speaker of `i`; :math:`\mathrm{GRU}_p` reads those of all others. Each keeps its state at
utterances that it does not read. All GRUs follow TensorFlow's equations of the GRU.

| symbol | attribute | shape |
|---|---|---|
| `u` | `turn` | `(N, 1, D)` |
| `W_q`, `W_o` | `recall.ask`, `classify` | `(width, D)`, `(classes, width)` |
| `GRU_o`, `GRU_p` | `recall.local` | two GRUs side by side |
| global, memory GRUs | `recall.whole`, `.rewrite` | one GRU each; all hops after the first share `rewrite` |

**Differences from the paper and from its public code**

- The public code pads the window on the left with empty utterances, and the GRUs of (3) and (4) read this padding. The scores therefore
  depend on the amount of padding. Here the memory contains only real utterances. An utterance without any modality is not in the memory,
  and its own query is computed from zeros.
- The text and audio vectors of the public code come from a network that reads whole dialogues and was trained on the labels. These vectors
  therefore contain information from later utterances, although ICON itself is causal. Here the vectors are the features of the corpus.
- The paper and the public code assume two speakers. With more speakers, `GRU_p` reads all speakers except the speaker of `i`.
- The public code selects the epoch on a random 60 per cent of the *test* utterances. It does not shuffle the training data, and its loss
  includes the zero rows that pad the last batch. In the code, the dropout value 0.3 is the probability that a unit is kept.
- We had no access to the paper's text. The paper seems to have no tanh in (5), and a separate encoder for each modality.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.memory_bank import ChainedGRU, TurnChains, bounded_attention, recalled
from erc_graph.encoders.turns import OverTurns
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import Turn
from erc_graph.methods.ranges import Checked, Share, Size


@dataclass(frozen=True, kw_only=True)
class ICONConfig(Checked):
    """Options of ICON.

    Attributes:
        width: Width of all states.
        hops: Number of hops: attention steps over the memory for each query.
        window: Largest number of earlier utterances in the memory; default: all earlier utterances.
        dropout: Dropout on the outputs of (2) and on the attention weights.
    """

    width: Size = 100
    hops: Size = 3
    window: Size | None = 40
    dropout: Share = 0.5


class OneMemory(OverTurns):
    """The memory and the queries that attend to it, equations (1)-(6).

    The method `forward` appends the attention weights of each hop to the list `seen`: `(N, T)` for `T` utterances in the memory.
    """

    causal = True

    def __init__(self, inputs: int, config: ICONConfig) -> None:
        super().__init__()
        self.config, self.past, width = config, config.window, config.width
        self.ask = nn.Linear(inputs, width)
        self.local, self.whole = ChainedGRU(2, inputs, width), ChainedGRU(1, width, width)
        self.rewrite = ChainedGRU(1, width, width) if config.hops > 1 else None
        self.dropout = Dropout(config.dropout)

    def forward(self, nodes: Nodes, batch: Batch, seen: list[Tensor] | None = None) -> Nodes:
        """Map utterance vectors `(N, 1, inputs)` to the last queries `(N, 1, width)`."""
        u = nodes.masked()[:, 0]
        history = TurnChains.of(batch, nodes.present[:, 0], self.config.window)
        q = self.ask(u).tanh()  # Eq. (1)
        y = self.dropout(history.of_sides(self.local, u)).sum(0, keepdim=True)  # Eq. (2), (1, T, C, width)
        memory = self.whole.over(y.tanh(), history.here[None])  # Eq. (3)
        for hop in range(self.config.hops):
            if hop and self.rewrite is not None:
                memory = self.rewrite.over(memory, history.here[None])  # Eq. (4)
            said = history.of_turns(memory)  # (1, N, T, width)
            a = bounded_attention(q, said, history.heard[None])  # Eq. (5)
            if seen is not None:
                seen.extend(a)
            q = (q + recalled(self.dropout(a), said)).tanh()  # Eq. (6)
        return nodes.with_states(q[:, None])


class ICON(Method):
    """A memory of earlier utterances. Attention reads the memory in several hops, and a GRU updates the memory between two hops."""

    Config = ICONConfig
    family = "recurrent"
    paper = Paper(
        title="ICON: Interactive Conversational Memory Network for Multimodal Emotion Detection",
        authors="Hazarika et al.",
        venue="EMNLP",
        year=2018,
        url="https://aclanthology.org/D18-1280",
        code="https://github.com/declare-lab/conv-emotion",
    )

    def build(self, config: ICONConfig, shapes: Shapes) -> None:
        """Build the modules that compute utterance vectors, the memory of these vectors, and the classifier."""
        self.turn = Turn(shapes.widths)
        self.recall = OneMemory(self.turn.width, config)
        self.classify = nn.Linear(config.width, shapes.outputs)  # Eq. (7)

    def encode(self, given: Given) -> Tensor:
        """Compute the utterance states before the classifier, `(N, width)`."""
        return self.recall(self.turn(given), given.batch).states[:, 0]
