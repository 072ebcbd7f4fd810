r"""DialogueCRN: Contextual Reasoning Networks for Emotion Recognition in Conversations (Hu, Wei and Huai, ACL-IJCNLP 2021).

Every utterance has two context vectors: one from the whole dialogue, and one from the utterances of its speaker. In several rounds of
attention, the utterance then collects information from the context vectors of all utterances.

.. math::
    c^s_i &= \mathrm{BiLSTM}_s(u)_i \tag{1} \\
    c^v_i &= \mathrm{BiLSTM}_v(\text{turns of the speaker of } i)_i \tag{2} \\
    q^0_i &= W_q c_i + b_q \tag{3} \\
    m^k_i &= \mathrm{LSTM}(q^{k-1}_i) \tag{4} \\
    q^k_i &= [m^k_i ; r^k_i] \qquad r^k_i = \sum_j \mathrm{softmax}_j(c_j \cdot m^k_i)\, c_j \tag{5} \\
    o_i &= W\, \mathrm{ReLU}([q^v_i ; q^s_i]) + b \tag{6}

The equations follow the public code; the equation numbers are ours. There are two levels: `s` is the situation (the whole dialogue), and
`v` is the speaker. All speakers share one BiLSTM (2). Equations (3) to (5) are computed at both levels, and each level has its own LSTM
(4). The state of this LSTM is zero before the first round. In (5), `j` runs over all utterances of the dialogue. A level with 0 rounds has
no LSTM (4), and its `q` is `q^0`. The speaker level has 0 rounds in our settings for MELD.

| symbol | attribute | shape (`N`: utterances, `D`: features of an utterance) |
|---|---|---|
| `u` | `turn` | `(N, 1, D)` |
| `c^s`, `c^v` | `situation`, `speaker` | `(N, width)`, half for each direction |
| `W_q` | `start` | `(2 width, width)` |
| LSTM | `reason.situation.cell`, `reason.speaker.cell` | `LSTMCell` of PyTorch |
| `W` | `classify` | `(classes, 4 width)` |

**Differences from the paper and from its public code**

- Equations (1), (2): the public code does not pack sequences, so its LSTMs also read padding. The code pads the utterances of each speaker
  to the longest dialogue, which changes even the scores of a single dialogue. Here the backward direction starts at the last utterance of
  each sequence.
- As in the public code, both levels (situation and speaker) share the linear map (3), and (6) has a ReLU.
- The public code computes class weights from all data, including the test split. It divides the weighted loss by the number of utterances,
  not by the sum of the weights. This makes the L2 term six to eight times weaker relative to the loss. Here the class weights come from the
  training split and have the mean one.
- Two options of the public code are left out: GRUs instead of LSTMs, and a choice between formulas of the loss.
- In the focal loss of the public code, no gradient flows through the factor in front of the logarithm. In the focal loss here, this factor
  has a gradient.
- For IEMOCAP with text, the public script has no development split and selects the epoch on test data. For MELD, the script's development
  split is the first tenth of the list of training dialogues. Here the development split of the corpus selects the epoch.
- A missing modality is zero, so an utterance without any modality is a vector of zeros.
- With the option `causal`, only the forward direction is computed, and in (5) `j` runs over the utterance and earlier utterances.
- We had no access to the paper's text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.window import Window
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.own_turns import OwnTurns
from erc_graph.encoders.recurrent import Recurrent
from erc_graph.encoders.turns import OverRows, over_turns
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import Turn
from erc_graph.methods.ranges import Causal, Count, Even, Share, Size


@dataclass(frozen=True, kw_only=True)
class DialogueCRNConfig(Causal):
    """Options of DialogueCRN; symbols and numbers such as (4) refer to the equations in the docstring of the module.

    Attributes:
        width: Width of each context, for both directions together.
        layers: Number of layers of the LSTMs of (1) and (2).
        situation_rounds: Number of attention rounds over `c^s`. With 0 rounds, `q^s` is `q^0`.
        speaker_rounds: Number of attention rounds over `c^v`. With 0 rounds, `q^v` is `q^0`.
        dropout: Dropout between the LSTM layers of (1) and (2), and before the last linear layer.
    """

    width: Even = 200
    layers: Size = 2
    situation_rounds: Count = 3
    speaker_rounds: Count = 4
    dropout: Share = 0.2


class Reasoning(OverRows):
    """The attention rounds (4) and (5) at one level (situation or speaker), which map `[c ; q^0]` to `q^K`.

    Args:
        context: Width of `c`; `q` is twice as wide.
        rounds: Number of rounds, `K`.
        causal: Whether an utterance attends only to itself and to earlier utterances.
    """

    def __init__(self, context: int, rounds: int, *, causal: bool) -> None:
        super().__init__()
        self.context, self.rounds, self.causal = context, rounds, causal
        self.cell = nn.LSTMCell(2 * context, context)

    def read(self, rows: Tensor, batch: Batch) -> Tensor:
        """Map states `(N, 3 context)` of `N` utterances to `(N, 2 context)`. Each round processes all utterances at once."""
        c = batch.pad(rows[:, : self.context])  # (D, L, context)
        turn = torch.arange(batch.longest, device=batch.device)
        mask = turn[:, None] >= turn if self.causal else batch.mask[:, None]

        def clues(m: Tensor) -> Tensor:
            score = batch.pad(m) @ c.transpose(1, 2)  # (D, L, L): asked by, of
            return batch.unpad(score.masked_fill(~mask, -torch.inf).softmax(-1) @ c)

        return self._rounds(rows[:, self.context :], clues)

    def read_next(self, row: Tensor, batch: Batch, memory: Window | None) -> tuple[Tensor, Window]:
        """Map the state of the next utterance, `(1, 3 context)`, to `(1, 2 context)`. Also return all context vectors so far."""
        memory = memory or Window(None)
        c = memory.push(row[0, : self.context])  # (turns, context)
        return self._rounds(row[:, self.context :], lambda m: (m @ c.T).softmax(-1) @ c), memory

    def _rounds(self, q: Tensor, clues: Callable[[Tensor], Tensor]) -> Tensor:
        state = None
        for _ in range(self.rounds):
            state = self.cell(q, state)  # Eq. (4)
            q = torch.cat([state[0], clues(state[0])], -1)  # Eq. (5)
        return q


class DialogueCRN(Method):
    """Two context vectors per utterance (dialogue and speaker), and several rounds of attention to the vectors of each kind."""

    Config = DialogueCRNConfig
    family = "recurrent"
    paper = Paper(
        title="DialogueCRN: Contextual Reasoning Networks for Emotion Recognition in Conversations",
        authors="Hu, Wei and Huai",
        venue="ACL-IJCNLP",
        year=2021,
        url="https://arxiv.org/abs/2106.01978",
        code="https://github.com/zerohd4869/DialogueCRN",
    )

    def build(self, c: DialogueCRNConfig, shapes: Shapes) -> None:
        """Build the modules in the order of the method's equations."""
        self.turn = Turn(shapes.widths)
        self.situation, speaker = (
            Recurrent("lstm", self.turn.width, c.width, bidirectional=not c.causal, layers=c.layers, dropout=c.dropout) for _ in range(2)
        )
        self.speaker = OwnTurns(speaker)
        self.start = nn.Linear(c.width, 2 * c.width)
        rounds = {"situation": c.situation_rounds, "speaker": c.speaker_rounds}
        self.reason = nn.ModuleDict({level: Reasoning(c.width, k, causal=c.causal) for level, k in rounds.items() if k})
        self.classify = nn.Sequential(nn.ReLU(), Dropout(c.dropout), nn.Linear(4 * c.width, shapes.outputs))  # Eq. (6)

    def encode(self, given: Given) -> Tensor:
        """Compute the utterance states before the classifier, `(N, 4 width)`."""
        u, found = self.turn(given).masked()[:, 0], []
        for level, part in {"speaker": self.speaker, "situation": self.situation}.items():
            c = over_turns(part, u, given.batch)  # Eqs. (1), (2), (N, width)
            q = self.start(c)  # Eq. (3), (N, 2 width)
            found.append(over_turns(self.reason[level], torch.cat([c, q], -1), given.batch) if level in self.reason else q)
        return torch.cat(found, -1)
