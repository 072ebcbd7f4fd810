r"""bc-LSTM: Context-Dependent Sentiment Analysis in User-Generated Videos (Poria et al., ACL 2017), in the form with which ERC papers
compare.

Two bidirectional LSTM layers over the utterances, and attention between all utterances of the dialogue. No graph, no speakers.

.. math::
    h_i &= \mathrm{BiLSTM}(u)_i \tag{1} \\
    y_i &= \sum_j \mathrm{softmax}_j \big( \tanh(h_j \cdot (T h_i + t)) \big)\, h_j \tag{2} \\
    s_i &= W_2\, \mathrm{ReLU}(W_1 y_i + b_1) + b_2 \tag{3}

The equations are those of the public PyTorch code that later papers use for comparison; the numbering is ours.

| symbol | attribute | shape |
|---|---|---|
| `u` | `turn` | `(N, 1, D)`, `D` all features of an utterance |
| `h` | `read` | `(N, width)`, half for each direction |
| `T`, `t` | `attend.transform` | `(width, width)`, `(width,)` |
| `W_1`, `W_2` | `classify` | `(hidden, width)`, `(classes, hidden)` |

**Differences from the paper and from its public code**

- The network of 2017 has a contextual LSTM per modality, trained first, and another one over their outputs. Its text was not at hand. Later
  tables call the code's single level over the features of an utterance bc-LSTM; this level is implemented here. The two levels and the
  code's variant that reads words are not. (2) and the second layer come from the code; the network of 2017 has neither.
- (1): the code does not pack. The backward direction of a shorter dialogue begins in the padding of its batch, and through the second layer
  so does the forward one. Here each dialogue is read from its own end.
- (2) is off by default in the code, but later tables list the variant with it. `attention = false` passes on `h`; with attention, `h_i`
  itself is not passed on. Because of the tanh, one weight is at most `e^2` times another, so (2) is nearly a mean over a long dialogue.
- The code has no development split and selects the epoch on test data. Here development data select it.
- The code's scripts read only text. Here all modalities of an utterance are concatenated, with zeros for a missing one; an utterance
  without any modality is read as zeros and attended to.
- With `causal`, only the forward direction is read, and (2) attends to no later utterance.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.matching import MatchingAttention
from erc_graph.encoders.recurrent import Recurrent
from erc_graph.encoders.turns import over_turns
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import Turn
from erc_graph.methods.ranges import Causal, Even, Share, Size


@dataclass(frozen=True, kw_only=True)
class BCLSTMConfig(Causal):
    """bc-LSTM.

    Attributes:
        width: Width of the LSTM, both directions together.
        layers: Layers of the LSTM.
        hidden: Hidden width of the classifier.
        attention: Attention between all utterances, Eq. (2).
        bounded: The tanh of (2), which the code has.
        dropout: Dropout between the layers of the LSTM, and before the last layer.
    """

    width: Even = 200
    layers: Size = 2
    hidden: Size = 100
    attention: bool = True
    bounded: bool = True
    dropout: Share = 0.25


class BCLSTM(Method):
    """An LSTM over the dialogue, and attention over its states."""

    Config = BCLSTMConfig
    family = "recurrent"
    paper = Paper(
        title="Context-Dependent Sentiment Analysis in User-Generated Videos",
        authors="Poria et al.",
        venue="ACL",
        year=2017,
        url="https://aclanthology.org/P17-1081",
        code="https://github.com/declare-lab/conv-emotion",
    )

    def build(self, c: BCLSTMConfig, shapes: Shapes) -> None:
        """Build the parts in the order of the equations."""
        self.turn = Turn(shapes.widths)
        self.read = Recurrent("lstm", self.turn.width, c.width, bidirectional=not c.causal, layers=c.layers, dropout=c.dropout)
        self.attend = MatchingAttention(c.width, causal=c.causal, bounded=c.bounded) if c.attention else None
        # Eq. (3)
        self.classify = nn.Sequential(nn.Linear(c.width, c.hidden), nn.ReLU(), Dropout(c.dropout), nn.Linear(c.hidden, shapes.outputs))

    def encode(self, given: Given) -> Tensor:
        """Return `(N, width)`."""
        h = over_turns(self.read, self.turn(given).masked()[:, 0], given.batch)  # Eq. (1)
        return h if self.attend is None else over_turns(self.attend, h, given.batch)  # Eq. (2)
