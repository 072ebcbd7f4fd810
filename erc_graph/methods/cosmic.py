r"""COSMIC: COmmonSense knowledge for eMotion Identification in Conversations (Ghosal et al., Findings of EMNLP 2020).

COSMIC extends DialogueRNN. Every speaker has three states: internal `q`, external `r` and intent `i`. Vectors of commonsense knowledge are
additional inputs, if the corpus has them.

.. math::
    u_t &= W_u\, \mathrm{Norm}(x_t) + b_u \tag{1} \\
    g_t &= \mathrm{GRU}_g([u_t ; q_s ; r_s], g_{t-1}) \tag{2} \\
    c_t &= \sum_{j < t} \mathrm{softmax}_j(\tanh(g_j \cdot (W u_t + b)))\, g_j \tag{3} \\
    r_s &\leftarrow \mathrm{GRU}_r([u_t ; \mathrm{xReact}_t ; c_t], r_s), \quad
    q_s \leftarrow \mathrm{GRU}_q([\mathrm{xEffect}_t ; c_t], q_s) \tag{4} \\
    r_l &\leftarrow \mathrm{GRU}_{rl}([u_t ; \mathrm{oReact}_t ; r_s], r_l), \quad
    q_l \leftarrow \mathrm{GRU}_{ql}([\mathrm{oEffect}_t ; q_s], q_l) \qquad l \ne s \tag{5} \\
    i_s &\leftarrow \mathrm{GRU}_i([\mathrm{xIntent}_t ; q_s], i_s) \tag{6} \\
    e_t &= \mathrm{GRU}_e([u_t ; q_s ; r_s ; i_s], e_{t-1}) \tag{7} \\
    y_t &= \sum_j \mathrm{softmax}_j(\tanh(E_j \cdot (T E_t + b_T))) E_j \quad E_t = [\overrightarrow{e_t} ; \overleftarrow{e_t}] \tag{8} \\
    o_t &= W_2\, \mathrm{ReLU}(W_1 y_t + b_1) + b_2 \tag{9}

We had no access to the paper's text. The equations follow the public code; the equation numbers are ours. `s` is the speaker of utterance
`t`, and `l` is any other speaker (a listener).

| symbol | attribute | shape (`N`: utterances, `D`: features of an utterance) |
|---|---|---|
| `x`, Norm | `texts`, `turn` | `(N, 1, D)`; several text features (`text1` to `text4`) are averaged |
| GRUs of (2), (7) | `read.directions[d]`: `dialogue`, `emotion` | `GRUCell` of PyTorch |
| GRUs of (4) and (6); GRUs of (5) | `party` `.q`, `.r`, `.i`; `listener` `.q`, `.r` | `GRUCell` of PyTorch |
| `W` of (3); `T` | `read.directions[d].attend`; `attend.transform` | `(width, hidden)`; `(6 width, 6 width)` |
| `W_u`; `W_1`, `W_2` | `project`; `reduce`, `classify` | `(hidden, D)`; `(hidden, 6 width)`, `(classes, hidden)` |

**Differences from the paper and from its public code**

- Commonsense vectors are read from the feature sets `xEffect`, `xReact`, `xIntent`, `oEffect` and `oReact` (hidden states of COMET).
  Equations (4) to (6) leave out a feature set that the corpus lacks; a missing vector is zero. We do not know whether the authors tested
  the method without commonsense vectors.
- Equation (1): the input of the public code is only text, and its batch norm includes padding. Here all modalities of an utterance are
  concatenated, with zeros for a missing modality, and the batch norm ignores padding.
- Some options of the public code are left out: other norms, and other ways to combine four RoBERTa layers. Unused modules of the code are
  also left out.
- As in the public code, (5) to (7) read the new states of the utterance before dropout. After every utterance, the code applies dropout to
  the states of all speakers. Over many utterances, the state of a silent speaker therefore becomes zero. Here dropout is applied to a state
  only when the state changes. With the option `listener`, only the state `i` differs from the code, because every utterance changes the `q`
  and `r` of all speakers.
- The public code does not shuffle the dialogues, and resets the random seed in every epoch. Here batches and dropout masks differ between
  epochs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.matching import MatchingAttention
from erc_graph.encoders.parties import SAID, Parties, Party
from erc_graph.encoders.turns import over_turns
from erc_graph.errors import ConfigError
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import MeanOfTexts, Turn
from erc_graph.methods.ranges import Causal, Share, Size

COMMONSENSE = ("xEffect", "xReact", "xIntent", "oEffect", "oReact")  # relations of ATOMIC: on the speaker (x), on others (o)


@dataclass(frozen=True, kw_only=True)
class COSMICConfig(Causal):
    """Options of COSMIC; symbols and numbers such as (4) refer to the equations in the docstring of the module.

    Attributes:
        width: Width of `g`, `q`, `r` and `i`; `e` is three times as wide.
        hidden: Width of `u` and of the hidden layer of the classifier.
        norm: Norm of the text features in (1): `none`, or a `batch` norm.
        context: Attention scores: `general`, as in (3), or `simple`: `w · g_j`. Scores of the kind `simple` do not depend on utterance `t`;
            the public code uses them for MELD.
        listener: Whether to update the states of listeners, equation (5).
        attention: Whether to use the attention over the dialogue, equation (8).
        residual: Whether to add `u` to the hidden layer of (9).
        dropout: Dropout before the last linear layer.
        state_dropout: Dropout on each new state and on `E`.
    """

    width: Size = 150
    hidden: Size = 100
    norm: Literal["none", "batch"] = "none"
    context: Literal["general", "simple"] = "general"
    listener: bool = True
    attention: bool = True
    residual: bool = False
    dropout: Share = 0.25
    state_dropout: Share = 0.1


class COSMIC(Method):
    """Recurrent states of the dialogue and three states per speaker, with commonsense vectors if the corpus has them."""

    Config = COSMICConfig
    family = "recurrent"
    paper = Paper(
        title="COSMIC: COmmonSense knowledge for eMotion Identification in Conversations",
        authors="Ghosal et al.",
        venue="Findings of EMNLP",
        year=2020,
        url="https://arxiv.org/abs/2010.02795",
        code="https://github.com/declare-lab/conv-emotion",
    )

    def build(self, c: COSMICConfig, shapes: Shapes) -> None:
        """Build the modules in the order of the method's equations."""
        said = {name: width for name, width in shapes.widths.items() if name not in COMMONSENSE}
        if not said:
            raise ConfigError(f"modalities: expected one or more besides the commonsense vectors, found {', '.join(shapes.widths)}")
        self.texts = MeanOfTexts(said, norm=c.norm == "batch")
        self.couples_batch, self.turn = self.texts.couples_batch, Turn(self.texts.widths)
        self.project = nn.Linear(self.turn.width, c.hidden)
        self.known = {name: shapes.widths[name] for name in COMMONSENSE if name in shapes.widths}

        def party(speaker: tuple[str, ...], listener: tuple[str, ...] | None = None, of: str | None = None) -> Party:
            given, listens = (names and tuple(name for name in names if name in (SAID, *self.known)) for names in (speaker, listener))
            return Party(width=c.width, given=given or (), listens=listens if c.listener else None, of=of)

        parties = {"q": party(("xEffect",), ("oEffect",)), "r": party((SAID, "xReact"), (SAID, "oReact")), "i": party(("xIntent",), of="q")}
        net: Any = {"attention": c.context, "bounded": True, "bidirectional": not c.causal, "dropout": c.state_dropout, "late": True}
        self.read = Parties({SAID: c.hidden, **self.known}, c.width, parties, emotion=3 * c.width, reads=(SAID,), **net)
        self.drop_states, self.drop, width = Dropout(c.state_dropout), Dropout(c.dropout), self.read.width
        self.attend = MatchingAttention(width, causal=c.causal) if c.attention else None
        self.reduce, self.classify = nn.Linear(width, c.hidden), nn.Linear(c.hidden, shapes.outputs)

    def encode(self, given: Given) -> Tensor:
        """Compute the utterance states before the classifier, `(N, hidden)`."""
        u = self.project(self.turn(self.texts(given)).masked()[:, 0])  # Eq. (1)
        rows = torch.cat([u, *(given.values[name] for name in self.known)], -1)
        y = self.drop_states(over_turns(self.read, rows, given.batch))  # Eqs. (2)-(7)
        y = y if self.attend is None else over_turns(self.attend, y, given.batch)  # Eq. (8)
        hidden = self.drop(self.reduce(y).relu())  # Eq. (9)
        return hidden + u if self.config.residual else hidden
