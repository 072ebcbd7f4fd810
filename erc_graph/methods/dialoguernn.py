r"""DialogueRNN: An Attentive RNN for Emotion Detection in Conversations (Majumder et al., AAAI 2019).

The method keeps states of the dialogue, of each speaker and of the emotion, in both directions. Attention over the dialogue follows
(BiDialogueRNN+Att).

.. math::
    g_t &= \mathrm{GRU}_G([u_t ; q_{s, t-1}], g_{t-1}) \tag{1} \\
    c_t &= \sum_{j < t} \mathrm{softmax}_j(g_j \cdot W u_t)\, g_j \tag{2} \\
    q_{s, t} &= \mathrm{GRU}_P([u_t ; c_t], q_{s, t-1}) \tag{3} \\
    q_{i, t} &= q_{i, t-1} \text{ or } \mathrm{GRU}_L([u_t ; q_{s, t}], q_{i, t-1}) \qquad i \ne s \tag{4} \\
    e_t &= \mathrm{GRU}_E(q_{s, t}, e_{t-1}) \tag{5} \\
    y_t &= \sum_j \mathrm{softmax}_j(E_j \cdot (T E_t + b))\, E_j \qquad E_t = [\overrightarrow{e_t} ; \overleftarrow{e_t}] \tag{6} \\
    o_t &= W_2\, \mathrm{ReLU}(W_1 y_t + b_1) + b_2 \tag{7}

The equations follow the public code; the numbering is ours. `s` is the speaker of utterance `t`; all initial states are zero.

| symbol | attribute | shape |
|---|---|---|
| `u` | `turn` | `(N, 1, D)`, `D` all features of an utterance |
| `GRU_G`, `GRU_P`, `GRU_L`, `GRU_E` | `read.directions[d]`: `dialogue`, `party.q`, `listener.q`, `emotion` | cells of torch |
| `W` | `read.directions[d].attend` | `(width, D)` |
| `T`, `b` | `attend.transform` | `(2 emotion_width, 2 emotion_width)`; with `causal` one `emotion_width` here and below |
| `W_1`, `W_2` | `classify` | `(hidden, 2 emotion_width)`, `(classes, hidden)` |

**Differences from the paper and from its public code**

- Eq. (4): the paper's listeners read a visual cue and `c`. Those of the public code read the utterance and the speaker's new state, and are
  off by default. Here they follow the code.
- The paper's "bidirectional" may refer only to the emotion GRU. Here, as in the public code, all of (1) to (5) run in both directions.
- Eq. (2): the scores `dot`, `concat` and `general2` (with a bias) of the public code are left out.
- Eq. (6): the public code multiplies scores by a mask before the softmax; very low scores in a padded dialogue then give 0/0. Here padding
  is masked. The bias is only in the code. In the code and here, the hidden layer of (7) is twice as wide as the code's option `D_h`.
- The public code cannot run a single direction. Here `causal` does so, and (6) then attends to no later utterance. The paper's ablation
  with forward states and attention over the whole dialogue cannot be built.
- The public code divides the weighted loss by the weights of the batch, and weights classes only on IEMOCAP. Here the weights have mean one
  over the training split, and the loss is divided by the number of utterances.
- The public code reads text on IEMOCAP, text and audio on MELD. Here all modalities of an utterance are concatenated.
- The public code has one state per speaker of the corpus; here there is one per speaker of the batch. No weight depends on the identity of
  a speaker.
- Both public scripts select the epoch on test data and have no development split. Here development data select it.
- A missing modality is zero; an utterance without any modality is a vector of zeros. We know the paper's equations from a review.
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
    """Options of DialogueRNN.

    Attributes:
        width: Width of `g`.
        party_width: Width of `q`; default: that of `g`.
        emotion_width: Width of `e` in each direction.
        hidden: Hidden width of the classifier.
        context: Scores of (2): `general` as printed, or `simple`, `w · g_j`, which ignores the utterance.
        listener: Update the states of listeners, Eq. (4).
        attention: Use the attention over the dialogue, Eq. (6).
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
    """Recurrent states of the dialogue, its speakers and their emotion, and attention over the dialogue."""

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
        """Build the parts in the order of the equations."""
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
