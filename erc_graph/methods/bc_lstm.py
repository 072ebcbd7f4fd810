r"""bc-LSTM: Context-Dependent Sentiment Analysis in User-Generated Videos (Poria et al., ACL 2017), implemented as in later public code.

Two bidirectional LSTM layers run over the utterances of a dialogue. Attention then connects all utterances of the dialogue. The method uses
neither a graph nor speakers.

.. math::
    h_i &= \mathrm{BiLSTM}(u)_i \tag{1} \\
    y_i &= \sum_j \mathrm{softmax}_j \big( \tanh(h_j \cdot (T h_i + t)) \big)\, h_j \tag{2} \\
    s_i &= W_2\, \mathrm{ReLU}(W_1 y_i + b_1) + b_2 \tag{3}

The equations follow the public PyTorch code that later papers use as a baseline. The equation numbers are ours.

| symbol | attribute | shape (`N`: utterances, `D`: features of an utterance) |
|---|---|---|
| `u` | `turn` | `(N, 1, D)` |
| `h` | `read` | `(N, width)`, half for each direction |
| `T`, `t` | `attend.transform` | `(width, width)`, `(width,)` |
| `W_1`, `W_2` | `classify` | `(hidden, width)`, `(classes, hidden)` |

**Differences from the paper and from its public code**

- The paper first trains one LSTM per modality over the utterances, then another LSTM over the outputs of these LSTMs. The public code has a
  single LSTM over all features of an utterance. Later papers report results of this single LSTM as bc-LSTM, so the package implements the
  single LSTM. It does not implement the two levels of LSTMs of the paper, nor the code's variant for words. Attention (2) and the second
  LSTM layer come from the code. We had no access to the text of the paper.
- Equation (1): the public code does not pack sequences. The backward LSTM of a shorter dialogue therefore starts in padding. The second
  layer reads backward states, so padding also changes its forward LSTM. Here the backward LSTM starts at the last utterance.
- The public code does not use (2) by default, but the results in later papers were computed with (2). With the option `attention = false`,
  the classifier reads `h_i` instead of `y_i`. Because of the tanh, two attention weights differ at most by the factor `e^2`. For a long
  dialogue, `y_i` is therefore close to the mean of all `h_j`.
- The public code has no development split and selects the epoch on test data. Here the development split selects the epoch.
- The input of the public code is only text. Here all modalities of an utterance are concatenated, with zeros for a missing modality. An
  utterance without any modality is a vector of zeros. Other utterances still attend to this utterance.
- With the option `causal`, only the forward direction is computed, and in (2) an utterance does not attend to later utterances.
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
    """Options of bc-LSTM; symbols and numbers such as (4) refer to the equations in the docstring of the module.

    Attributes:
        width: Width of the LSTM states, for both directions together.
        layers: Number of LSTM layers.
        hidden: Hidden width of the classifier.
        attention: Whether to use the attention between all utterances, equation (2).
        bounded: Whether to use the tanh of equation (2), as in the code that the authors of bc-LSTM published.
        dropout: Dropout between the LSTM layers and before the last linear layer.
    """

    width: Even = 200
    layers: Size = 2
    hidden: Size = 100
    attention: bool = True
    bounded: bool = True
    dropout: Share = 0.25


class BCLSTM(Method):
    """A bidirectional LSTM over the utterances of a dialogue, then attention over the LSTM states."""

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
        """Build the modules in the order of the method's equations."""
        self.turn = Turn(shapes.widths)
        self.read = Recurrent("lstm", self.turn.width, c.width, bidirectional=not c.causal, layers=c.layers, dropout=c.dropout)
        self.attend = MatchingAttention(c.width, causal=c.causal, bounded=c.bounded) if c.attention else None
        # Eq. (3)
        self.classify = nn.Sequential(nn.Linear(c.width, c.hidden), nn.ReLU(), Dropout(c.dropout), nn.Linear(c.hidden, shapes.outputs))

    def encode(self, given: Given) -> Tensor:
        """Compute the utterance states before the classifier, `(N, width)`."""
        h = over_turns(self.read, self.turn(given).masked()[:, 0], given.batch)  # Eq. (1)
        return h if self.attend is None else over_turns(self.attend, h, given.batch)  # Eq. (2)
