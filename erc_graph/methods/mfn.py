r"""MFN: Memory Fusion Network for Multi-view Sequential Learning (Zadeh et al., AAAI 2018), then a graph stage.

Each modality has an LSTM. Attention over the cell states of two consecutive steps selects the input of a gated memory.

.. math::
    h^m_t, c^m_t &= \mathrm{LSTM}_m(x^m_t, h^m_{t-1}, c^m_{t-1}) \tag{1} \\
    c^*_t &= [c^1_{t-1} ; \dots ; c^M_{t-1} ; c^1_t ; \dots ; c^M_t] \tag{2} \\
    \hat c_t &= \mathrm{softmax}(A_2\, \mathrm{ReLU}(A_1 c^*_t)) \odot c^*_t \tag{3} \\
    \hat u_t &= \tanh(U_2\, \mathrm{ReLU}(U_1 \hat c_t)) \tag{4} \\
    \gamma^i_t &= \sigma(G^i_2\, \mathrm{ReLU}(G^i_1 [\hat c_t ; u_{t-1}])) \qquad i = 1, 2 \tag{5} \\
    u_t &= \gamma^1_t \odot u_{t-1} + \gamma^2_t \odot \hat u_t \tag{6} \\
    f &= \mathrm{ReLU}(O_1 [h^1_T ; \dots ; h^M_T ; u_T]), \qquad o = O_2 f \tag{7}

The equations follow the public code; the numbering is ours. All linear maps have biases; the softmax of (3) runs over channels. Text is the
first modality.

| symbol | attribute | shape |
|---|---|---|
| LSTM | `memory.cells[m]` | `widths[m]` |
| `A`, `U`, `G^1`, `G^2` | `memory.nets`: `attention`, `candidate`, `keep`, `take` | hidden widths `hiddens` |
| `u` | | `(n, T, memory)` |
| `O_1`, `O_2` | `after`, `classify` | `(hidden, D + memory)`, `(classes, hidden)`, wider with a graph stage |

**Differences from the paper and from its public code**

- If the corpus has sequences, a step is a word of an utterance. The paper averages audio and video over each word's time span. Here the
  shortest sequence of an utterance determines the number of steps. Longer sequences are averaged over equal time spans, and a vector is
  repeated at every step.
- If the corpus has only one vector per utterance, a step is an utterance of the dialogue (our choice). Eq. (7) then reads the states at
  each step, and no state depends on later utterances.
- The public code cuts an utterance to its last 20 words, pads shorter utterances at the start, and reads the padding. Here all words are
  read, without padding.
- The LSTM states of a missing modality do not change. Eq. (3) masks the cell state at `t` if the modality is missing at `t`. Eq. (3) also
  masks the cell state at `t - 1` if the modality was never present before. An utterance without any modality does not change the memory.
- Wider LSTMs have more channels, so the softmax of (3) gives each channel a smaller value. The public code has the same property.
- The authors publish a separate trained model for each number in a table. The public code never shuffles its batches and never trains on
  the last, incomplete batch.
- We had no access to the paper's text. The paper does not model the conversation. Here a graph stage follows (7); the option
  `graph = "none"` removes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from erc_graph.data.nodes import Nodes
from erc_graph.encoders.alignment import AlignedSteps
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.gated_memory import NETS, GatedMemory, OverDialogue
from erc_graph.methods.conversation import InConversation, UtteranceMethod
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.ranges import Share, Size, Widths


@dataclass(frozen=True, kw_only=True)
class MFNConfig(InConversation):
    """Options of MFN.

    Attributes:
        width: Width of the LSTMs, unless `widths` sets it.
        widths: Modality → width of its LSTM.
        memory: Width of the memory `u`.
        hidden: Hidden width of all networks and of (7), unless `hiddens` sets it.
        hiddens: Network (`attention`, `candidate`, `keep`, `take`) → its hidden width.
        dropout: Dropout in the networks.
        output_dropout: Dropout before `O_2`.
    """

    width: Size = 32
    widths: Widths = field(default_factory=lambda: {"text": 64})
    memory: Size = 64
    hidden: Size = 64
    hiddens: Widths = field(default_factory=dict)
    dropout: Share = 0.2
    output_dropout: Share = 0.5


class MFN(UtteranceMethod):
    """Parallel LSTMs with a gated memory, then a graph stage over the conversation."""

    Config = MFNConfig
    paper = Paper(
        title="Memory Fusion Network for Multi-view Sequential Learning",
        authors="Zadeh et al.",
        venue="AAAI",
        year=2018,
        url="https://arxiv.org/abs/1802.00927",
        code="https://github.com/pliang279/MFN",
    )

    def build(self, config: MFNConfig, shapes: Shapes) -> None:
        """Build the recurrence, the layer after it, the graph stage, and the classifier."""
        self.steps = AlignedSteps(shapes.widths, shapes.items, config.width)
        self.names = tuple(self.steps.inputs)
        widths = {m: config.widths.get(m, config.width) for m in self.names}
        hidden = {net: config.hiddens.get(net, config.hidden) for net in NETS}
        self.memory = GatedMemory(self.steps.inputs, widths, config.memory, hidden, config.dropout)
        self.over_dialogue = None if shapes.items else OverDialogue(self.memory)
        self.after = nn.Sequential(nn.Linear(self.memory.width, config.hidden), nn.ReLU())
        self.conversation = self.around(config.hidden)
        self.classify = nn.Sequential(Dropout(config.output_dropout), nn.Linear(self.conversation.width, shapes.outputs))

    def encode(self, given: Given) -> Tensor:
        """Compute the states of `N` utterances, `(N, hidden)`; a graph stage concatenates its own states to them."""
        present = given.here(self.names)
        if self.over_dialogue is None:
            read = given.values, given.sequences, given.present
            states = self.steps.encode(self.memory.last, *read, self.memory.width)  # Eqs. (1)-(6), a step is a word
        else:
            turns = Nodes(self.memory.gates(given.values), present, self.names)
            states = self.over_dialogue(turns, given.batch).states[:, 0]  # Eqs. (1)-(6), a step is a turn
        return self.conversation(self.after(states), present.any(1), given)  # Eq. (7)
