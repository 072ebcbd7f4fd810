r"""bc-LSTM: Context-Dependent Sentiment Analysis in User-Generated Videos (Poria et al., ACL 2017), as reimplemented for ERC papers.

Two bidirectional LSTM layers read the utterances; attention connects all utterances of the dialogue. No graph and no speakers are used.

.. math::
    h_i &= \mathrm{BiLSTM}(u)_i \tag{1} \\
    y_i &= \sum_j \mathrm{softmax}_j \big( \tanh(h_j \cdot (T h_i + t)) \big)\, h_j \tag{2} \\
    s_i &= W_2\, \mathrm{ReLU}(W_1 y_i + b_1) + b_2 \tag{3}

The equations follow the public PyTorch code with which later papers compare; the numbering is ours.

| symbol | attribute | shape |
|---|---|---|
| `u` | `turn` | `(N, 1, D)`, `D` all features of an utterance |
| `h` | `read` | `(N, width)`, half for each direction |
| `T`, `t` | `attend.transform` | `(width, width)`, `(width,)` |
| `W_1`, `W_2` | `classify` | `(hidden, width)`, `(classes, hidden)` |

**Differences from the paper and from its public code**

- The paper trains one contextual LSTM per modality first, then another LSTM over their outputs. We had no access to its text. Later tables
  use the name bc-LSTM for the single level of the public code, which reads all features of an utterance. This level is implemented here.
  The two levels of the paper and the code's variant for words are not implemented. (2) and the second layer come from the code, not from
  the paper.
- Eq. (1): the public code does not pack sequences. For a shorter dialogue, the backward direction therefore starts in the padding, which
  reaches the forward direction through the second layer. Here each direction starts at the true end of the dialogue.
- Eq. (2) is off by default in the public code, but later tables use it. With `attention = false`, the classifier reads `h`. With attention,
  it does not read `h_i` itself. Because of the tanh, two attention weights differ at most by the factor `e^2`, so (2) is nearly a mean over
  a long dialogue.
- The public code has no development split and selects the epoch on test data. Here development data select it.
- The scripts of the public code read only text. Here all modalities of an utterance are concatenated, with zeros for a missing one. An
  utterance without any modality is a vector of zeros, and other utterances attend to it.
- With `causal`, only the forward direction is computed, and (2) attends to no later utterance.
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
    """Options of bc-LSTM.

    Attributes:
        width: Width of the LSTM, both directions together.
        layers: Layers of the LSTM.
        hidden: Hidden width of the classifier.
        attention: Use the attention between all utterances, Eq. (2).
        bounded: Use the tanh of (2), as in the public code.
        dropout: Dropout between the LSTM layers and before the last linear layer.
    """

    width: Even = 200
    layers: Size = 2
    hidden: Size = 100
    attention: bool = True
    bounded: bool = True
    dropout: Share = 0.25


class BCLSTM(Method):
    """A bidirectional LSTM over the dialogue, and attention over its states."""

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
        """Compute the utterance states before the classifier, `(N, width)`."""
        h = over_turns(self.read, self.turn(given).masked()[:, 0], given.batch)  # Eq. (1)
        return h if self.attend is None else over_turns(self.attend, h, given.batch)  # Eq. (2)
