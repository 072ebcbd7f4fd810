r"""After MFRM: multi-fusion residual memory (after Mai et al., IEEE Transactions on Affective Computing 13, 2022), over dialogues.

A recurrent network encodes each modality over the dialogue, and utterances with intense audio get more weight. For each utterance, the
element-wise products of all subsets of modalities are fused. A recurrent memory with an additive state reads the sequence of fused vectors.

.. math::
    h^m_t &= V_m\, \mathrm{BiGRU}_m(x^m)_t \tag{1} \\
    e_t &= w_1^\top \tanh(W_1 h^a_t) + w_2^\top \tanh(W_2 (h^a_t - h^a_{t-1})), \qquad
    i_t = 1 + T\, \mathrm{softmax}_t(e) \tag{2} \\
    u_t &= \mathrm{ReLU}\big(W_f [\textstyle\bigodot_{m \in S} i_t h^m_t]_{S \subseteq \{a, t, v\}}\big) \tag{3} \\
    g_t, r_t &= \sigma(W_{gr} [u_t ; \mathrm{LayerNorm}(s_{t-1})]), \qquad
    s_t = s_{t-1} + g_t \odot \tanh(W_c [u_t ; r_t \odot \mathrm{LayerNorm}(s_{t-1})]) \tag{4} \\
    f_t &= \mathrm{ReLU}(W [s_t ; u_t ; h^a_t ; h^t_t ; h^v_t]) \tag{5}

| symbol | attribute | shape |
|---|---|---|
| BiGRU, `V_m` | `read[m]`, `project[m]` | `(N, width)` |
| `W_1`, `w_1`, `W_2`, `w_2` | `intensity.strength`, `.change` | `(width, width)`, `(1, width)` |
| `W_f` | `fuse` | `(width, subsets width)` |
| `W_gr`, `W_c` | `memory.given`, `.gates`, `.kept` | `(3 width, width)`, `(2 width, width)`, `(width, width)` |
| `W` | `join` | `(width, (2 + M) width)` |

**What is known, what was guessed, and what differs**

- The abstract and a survey describe the modules, their order, and attention to steps with intense audio. According to both, the memory adds
  to its state, and the classifier reads the states of the memory and of the recurrent networks. We had no access to the paper's text or to
  code, so **all formulas are guesses**. In particular, we guessed the difference in (2), the products in (3), the cell in (4), the inputs
  of (5), and all sizes.
- In the paper, a step is a word of one utterance. Here a step is an utterance of the dialogue, because the corpora have no words that are
  aligned with audio and video. The difference in (2) is therefore the change of the audio between two consecutive utterances.
- The state of a missing modality is zero in (3) and (5), so all its products are zero. In (2), an utterance without audio gets the mean
  score `e` of the utterances with audio. For the next utterance, the difference in (2) is zero. If the corpus has no audio, (2) is left
  out. The memory also has a state for an utterance without any modality, but the graph has no node for this utterance.
- In (2), `T` is the number of utterances of the dialogue. With the option `causal`, the recurrent networks read only forward. The softmax
  of (2) then runs over the utterances up to `t`, and `T` is the number of these utterances. By default, no graph stage follows (5).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.recurrent import Recurrent, side_by_side
from erc_graph.encoders.turns import OverTurns, over_turns
from erc_graph.methods.conversation import InConversation, UtteranceMethod
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.ranges import Even, Share


@dataclass(frozen=True, kw_only=True)
class MFRMConfig(InConversation):
    """Options of MFRM.

    Attributes:
        graph: Graph recipe of the graph stage after (5); `none`: no graph stage.
        width: Width of all states.
        dropout: Dropout before (1) and in the classifier.
    """

    graph: str = "none"
    width: Even = 64
    dropout: Share = 0.3


class Intensity(OverTurns):
    """The weight `i_t` of each utterance, Eq. (2), from the strength and the change of its audio."""

    def __init__(self, width: int, *, causal: bool) -> None:
        super().__init__()
        self.causal = causal  # whether the softmax is over the turns so far
        self.strength, self.change = (nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1, bias=False)) for _ in range(2))

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Map the audio states of `N` utterances, `(N, 1, width)`, which may be missing, to the weights `i_t`, `(N, 1, 1)`."""
        h, here = batch.pad(nodes.masked()[:, 0]), batch.pad(nodes.present[:, 0])  # (D, L, width), (D, L)
        change = torch.cat([torch.zeros_like(h[:, :1]), (h[:, 1:] - h[:, :-1]) * here[:, :-1, None]], 1)
        e = torch.where(here, (self.strength(h) + self.change(change)).squeeze(-1), 0.0)
        turns = batch.mask.cumsum(1)
        count, total = here.cumsum(1), e.cumsum(1)  # of the turns so far, or of all
        count, total = (count, total) if self.causal else (count[:, -1:], total[:, -1:])
        e = torch.where(here, e, total / count.clamp(min=1))
        share = (e - e.logcumsumexp(1)).exp() if self.causal else e.masked_fill(~batch.mask, -torch.inf).softmax(1)
        return nodes.with_states(batch.unpad(1 + (turns if self.causal else turns[:, -1:]) * share)[:, None, None])  # Eq. (2)


class ResidualMemory(OverTurns):
    """A recurrent network whose gated updates are added to its state, Eq. (4)."""

    causal = True

    def __init__(self, width: int) -> None:
        super().__init__()
        self.given, self.norm = nn.Linear(width, 3 * width), nn.LayerNorm(width)
        self.gates, self.kept = nn.Linear(width, 2 * width, bias=False), nn.Linear(width, width, bias=False)

    def after(self, given: Tensor, state: Tensor) -> Tensor:
        """Compute the next states of `D` dialogues, `(D, width)`, from the linear maps of u, `(D, 3 width)`, and the previous states."""
        normed, (update, reset, candidate) = self.norm(state), given.chunk(3, -1)
        more, other = self.gates(normed).chunk(2, -1)
        kept = self.kept((reset + other).sigmoid() * normed)
        return state + (update + more).sigmoid() * (candidate + kept).tanh()  # Eq. (4)

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Map the fused vectors of `N` utterances, `(N, 1, width)`, to states of the memory, `(N, 1, width)`."""
        given = batch.pad(self.given(nodes.states[:, 0]))
        states = [given.new_zeros(len(batch), nodes.width)]
        for one in given.unbind(1):
            states.append(self.after(one, states[-1]))
        return nodes.with_states(batch.unpad(torch.stack(states[1:], 1))[:, None])

    def step(self, nodes: Nodes, batch: Batch, memory: Tensor | None) -> tuple[Nodes, Tensor]:
        """Process one utterance; return its state twice: as the output, and as the memory that the next utterance reads."""
        rows = nodes.states[:, 0]
        state = self.after(self.given(rows), torch.zeros_like(rows) if memory is None else memory)
        return nodes.with_states(state[:, None]), state


class MFRM(UtteranceMethod):
    """Products of modalities, weighted by the intensity of the audio, and an additive memory over the dialogue, after Mai et al."""

    Config = MFRMConfig
    reads = ("features", "sequences")
    paper = Paper(
        title="Multi-Fusion Residual Memory Network for Multimodal Human Sentiment Comprehension",
        authors="Mai et al.",
        venue="IEEE Transactions on Affective Computing 13",
        year=2022,
        after=True,
    )

    def build(self, config: MFRMConfig, shapes: Shapes) -> None:
        """Build the modules in the order of the equations."""
        width, self.names = config.width, tuple(shapes.widths)
        self.read = nn.ModuleDict({m: Recurrent("gru", n, width, bidirectional=not config.causal) for m, n in shapes.widths.items()})
        self.project = nn.ModuleDict({m: nn.Linear(width, width) for m in self.names})
        self.intensity = Intensity(width, causal=config.causal) if "audio" in self.names else None
        self.subsets = [s for size in range(1, len(self.names) + 1) for s in combinations(range(len(self.names)), size)]
        self.fuse = nn.Linear(len(self.subsets) * width, width)
        self.memory = ResidualMemory(width)
        self.join = nn.Linear((2 + len(self.names)) * width, width)
        self.dropout = Dropout(config.dropout)
        self.conversation = self.around(width)
        self.classify = nn.Sequential(Dropout(config.dropout), nn.Linear(self.conversation.width, shapes.outputs))

    def encode(self, given: Given) -> Tensor:
        """Compute the states of `N` utterances, `(N, width)`; a graph stage concatenates its own states to them."""
        batch, here = given.batch, given.here(self.names)
        rows = side_by_side(list(self.read.values()), [self.dropout(given.values[m]) for m in self.names], batch)  # type: ignore[arg-type]
        states = {m: self.project[m](row) for m, row in zip(self.names, rows, strict=True)}  # Eq. (1)
        h = torch.stack(list(states.values()), 1) * here[..., None]  # (N, M, width)
        heard = h
        if self.intensity is not None:
            sound = Nodes(states["audio"][:, None], given.present["audio"][:, None], ("audio",))
            heard = h * self.intensity(sound, batch).states
        u = self.fuse(torch.cat([heard[:, list(subset)].prod(1) for subset in self.subsets], -1)).relu()  # Eq. (3)
        s = over_turns(self.memory, u, batch)
        f = self.join(torch.cat([s, u, h.flatten(1)], -1)).relu()  # Eq. (5)
        # The memory knows of every turn, a graph of those that are there.
        known = torch.ones_like(here[:, 0]) if self.graph is None else here.any(1)
        return self.conversation(f, known, given)
