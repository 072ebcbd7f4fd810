r"""DialogueRNN: An Attentive RNN for Emotion Detection in Conversations (Majumder et al., AAAI 2019).

At every utterance, recurrent networks update a state of the dialogue, a state of the speaker and an emotion state, in both directions.
Attention over the dialogue follows. The paper calls this variant of its method BiDialogueRNN+Att.

.. math::
    g_t &= \mathrm{GRU}_G([u_t ; q_{s, t-1}], g_{t-1}) \tag{1} \\
    c_t &= \sum_{j < t} \mathrm{softmax}_j(g_j \cdot W u_t)\, g_j \tag{2} \\
    q_{s, t} &= \mathrm{GRU}_P([u_t ; c_t], q_{s, t-1}) \tag{3} \\
    q_{i, t} &= q_{i, t-1} \text{ or } \mathrm{GRU}_L([u_t ; q_{s, t}], q_{i, t-1}) \qquad i \ne s \tag{4} \\
    e_t &= \mathrm{GRU}_E(q_{s, t}, e_{t-1}) \tag{5} \\
    y_t &= \sum_j \mathrm{softmax}_j(E_j \cdot (T E_t + b))\, E_j \qquad E_t = [\overrightarrow{e_t} ; \overleftarrow{e_t}] \tag{6} \\
    o_t &= W_2\, \mathrm{ReLU}(W_1 y_t + b_1) + b_2 \tag{7}

The equations follow the public code; the equation numbers are ours. `s` is the speaker of utterance `t`, and `i` is any other speaker (a
listener). All initial states are zero.

| symbol | attribute | shape (`N`: utterances, `D`: features of an utterance) |
|---|---|---|
| `u` | `turn` | `(N, 1, D)` |
| `GRU_G`, `GRU_P`, `GRU_L`, `GRU_E` | `read.directions[d]`: `dialogue`, `party.q`, `listener.q`, `emotion` | `GRUCell` of PyTorch |
| `W` | `read.directions[d].attend` | `(width, D)` |
| `T`, `b` | `attend.transform` | `(2 emotion_width, 2 emotion_width)`; with `causal`, every `2 emotion_width` is `emotion_width` |
| `W_1`, `W_2` | `classify` | `(hidden, 2 emotion_width)`, `(classes, hidden)` |

**Differences from the paper and from its public code**

- Equation (4): in the paper, the listener GRU reads visual features and `c_t`. In the public code, this GRU reads the utterance and the new
  state of the speaker. Here (4) follows the code. As in the code, the states of listeners are not updated by default.
- In the paper, "bidirectional" may refer only to the emotion GRU (5). Here, as in the public code, (1) to (5) are computed in both
  directions.
- Equation (2): the attention scores `dot`, `concat` and `general2` of the public code are left out.
- Equation (6): the public code multiplies scores by a mask before the softmax. In a padded dialogue, very low scores then lead to 0/0. Here
  padding is masked with minus infinity. The bias `b` is in the code, but not in the paper. As in the code, the hidden layer of (7) is twice
  as wide as the value of the code's option `D_h`.
- With the option `causal`, only the forward direction is computed, and in (6) an utterance does not attend to later utterances. The public
  code lacks this option. An ablation of the paper has only forward states, but attention over the whole dialogue; it is not available here.
- The public code has class weights only for IEMOCAP, and divides the weighted loss by the sum of the weights in the batch. Here the class
  weights have mean one over the training split, and the loss is divided by the number of utterances.
- The input of the public code is text for IEMOCAP, and text and audio for MELD. Here all modalities of an utterance are concatenated.
- The public code has one state for every speaker of the corpus. Here there is one state for every speaker of the batch. The scores do not
  change, because no weight depends on the identity of a speaker.
- Both public scripts select the epoch on test data and have no development split. Here the development split selects the epoch.
- A missing modality is zero, so an utterance without any modality is a vector of zeros.
- We know the equations of the paper from a review article.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.matching import MatchingAttention
from erc_graph.encoders.parties import SAID, Parties, Party
from erc_graph.encoders.turns import over_turns
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import Turn
from erc_graph.methods.ranges import Causal, Share, Size


@dataclass(frozen=True, kw_only=True)
class DialogueRNNConfig(Causal):
    """Options of DialogueRNN; symbols and numbers such as (4) refer to the equations in the docstring of the module.

    Attributes:
        width: Width of `g`.
        party_width: Width of `q`; default: the width of `g`.
        emotion_width: Width of `e` in each direction.
        hidden: Hidden width of the classifier.
        context: Attention scores: `general`, as in (2), or `simple`: `w · g_j`, which does not depend on utterance `t`.
        listener: Whether to update the states of listeners, equation (4).
        attention: Whether to use the attention over the dialogue, equation (6).
        dropout: Dropout on each new state and before the last linear layer.
        output_dropout: Dropout on `E`.
    """

    width: Size = 150
    party_width: Size | None = None
    emotion_width: Size = 100
    hidden: Size = 200
    context: Literal["general", "simple"] = "general"
    listener: bool = False
    attention: bool = True
    dropout: Share = 0.1
    output_dropout: Share = 0.25


class DialogueRNN(Method):
    """Recurrent states of the dialogue, of its speakers and of the emotion, and attention over the dialogue."""

    Config = DialogueRNNConfig
    family = "recurrent"
    paper = Paper(
        title="DialogueRNN: An Attentive RNN for Emotion Detection in Conversations",
        authors="Majumder et al.",
        venue="AAAI",
        year=2019,
        url="https://arxiv.org/abs/1811.00405",
        code="https://github.com/declare-lab/conv-emotion",
    )

    def build(self, c: DialogueRNNConfig, shapes: Shapes) -> None:
        """Build the modules in the order of the method's equations."""
        self.turn = Turn(shapes.widths)
        party = Party(width=c.party_width or c.width, listens=(SAID,) if c.listener else None)
        self.read = Parties(
            {SAID: self.turn.width}, c.width, {"q": party},
            emotion=c.emotion_width, attention=c.context, bidirectional=not c.causal, dropout=c.dropout,
        )  # fmt: skip
        self.drop, width = Dropout(c.output_dropout), self.read.width
        self.attend = MatchingAttention(width, causal=c.causal, bounded=False) if c.attention else None
        # Eq. (7)
        self.classify = nn.Sequential(nn.Linear(width, c.hidden), nn.ReLU(), Dropout(c.dropout), nn.Linear(c.hidden, shapes.outputs))

    def encode(self, given: Given) -> Tensor:
        """Compute the utterance states before the classifier, `(N, 2 emotion_width)`."""
        e = self.drop(over_turns(self.read, self.turn(given).masked()[:, 0], given.batch))  # Eqs. (1)-(5)
        return e if self.attend is None else over_turns(self.attend, e, given.batch)  # Eq. (6)
