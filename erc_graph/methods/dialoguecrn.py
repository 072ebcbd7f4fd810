r"""DialogueCRN: Contextual Reasoning Networks for Emotion Recognition in Conversations (Hu, Wei and Huai, ACL-IJCNLP 2021).

An utterance has two contexts: the whole dialogue, and the utterances of its speaker. Several rounds of attention then retrieve clues from
both contexts.

.. math::
    c^s_i &= \mathrm{BiLSTM}_s(u)_i \tag{1} \\
    c^v_i &= \mathrm{BiLSTM}_v(\text{turns of the speaker of } i)_i \tag{2} \\
    q^0_i &= W_q c_i + b_q \tag{3} \\
    m^k_i &= \mathrm{LSTM}(q^{k-1}_i) \tag{4} \\
    q^k_i &= [m^k_i ; r^k_i] \qquad r^k_i = \sum_j \mathrm{softmax}_j(c_j \cdot m^k_i)\, c_j \tag{5} \\
    o_i &= W\, \mathrm{ReLU}([q^v_i ; q^s_i]) + b \tag{6}

The equations follow the public code; the numbering is ours. `s` denotes the situation (the whole dialogue), `v` the speaker; one LSTM
serves all speakers. Eqs. (3) to (5) are computed for both levels, each with its own LSTM. The LSTM state is zero before the first round,
and `j` is any utterance of the dialogue. A level without rounds has no such LSTM, and its `q` is `q^0`, as for the speaker in MELD's
settings.

| symbol | attribute | shape |
|---|---|---|
| `u` | `turn` | `(N, 1, D)`, `D` all features of an utterance |
| `c^s`, `c^v` | `situation`, `speaker` | `(N, width)`, half for each direction |
| `W_q` | `start` | `(2 width, width)` |
| LSTM | `reason.situation.cell`, `reason.speaker.cell` | a cell of torch |
| `W` | `classify` | `(classes, 4 width)` |

**Differences from the paper and from its public code**

- Eqs. (1), (2): the public code does not pack sequences. It reads the padding of the batch, and pads each speaker's utterances to the
  longest dialogue. This changes even the result of a single dialogue. Here each sequence is read from its true end.
- Eq. (3) is one map for both levels, and (6) has a ReLU, as in the public code.
- The public code weights classes by their frequencies in all data, including the test set, and takes an unweighted mean. Its L2 term is
  therefore six to eight times weaker than with a weighted mean. Here training frequencies give the weights, which have mean one.
- Two options of the public code are left out: GRUs in place of the LSTMs, and its form of the loss.
- The public code's focal loss treats the probability in the factor as a constant; the focal loss here does not.
- For IEMOCAP with text, the public script has no development split and selects the epoch on test data. For MELD, its development split is
  the first tenth of the training list. Here development data select the epoch.
- A missing modality is zero; an utterance without any modality is a vector of zeros.
- With `causal`, only the forward direction is computed, and `j` runs over no later utterance. We had no access to the paper's text.
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
    """Options of DialogueCRN.

    Attributes:
        width: Width of each context, for both directions together.
        layers: Number of layers of the LSTMs of (1) and (2).
        situation_rounds: Number of rounds over `c^s`; 0: `q^0` is passed on.
        speaker_rounds: Number of rounds over `c^v`; 0: `q^0` is passed on.
        dropout: Dropout between the layers of these LSTMs and before the last linear layer.
    """

    width: Even = 200
    layers: Size = 2
    situation_rounds: Count = 3
    speaker_rounds: Count = 4
    dropout: Share = 0.2


class Reasoning(OverRows):
    """Rounds of Eqs. (4) and (5) at one level: they map `[c ; q^0]` to `q^K`.

    Args:
        context: Width of `c`; `q` is twice as wide.
        rounds: Number of rounds, `K`.
        causal: Attend only to the utterance itself and to earlier ones.
    """

    def __init__(self, context: int, rounds: int, *, causal: bool) -> None:
        super().__init__()
        self.context, self.rounds, self.causal = context, rounds, causal
        self.cell = nn.LSTMCell(2 * context, context)

    def read(self, rows: Tensor, batch: Batch) -> Tensor:
        """Map states `(N, 3 context)` to `(N, 2 context)`; each round processes all utterances at once."""
        c = batch.pad(rows[:, : self.context])  # (D, L, context)
        turn = torch.arange(batch.longest, device=batch.device)
        mask = turn[:, None] >= turn if self.causal else batch.mask[:, None]

        def clues(m: Tensor) -> Tensor:
            score = batch.pad(m) @ c.transpose(1, 2)  # (D, L, L): asked by, of
            return batch.unpad(score.masked_fill(~mask, -torch.inf).softmax(-1) @ c)

        return self._rounds(rows[:, self.context :], clues)

    def read_next(self, row: Tensor, batch: Batch, memory: Window | None) -> tuple[Tensor, Window]:
        """Process the next utterance in evaluation mode, `(1, 3 context)` → `(1, 2 context)`; also return the contexts so far."""
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
    """Two contexts per utterance, and several rounds of attention over each."""

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
        """Build the parts in the order of the equations."""
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
