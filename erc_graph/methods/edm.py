r"""MF-EDM: Graph-based Multimodal Fusion and Emotional Dynamics Modeling for ERC (Hwang, Kwon and Gweon, Interspeech 2026).

Every utterance has one node per modality, and an anchor node that is computed from these nodes. Only the anchor node is classified. The
"contagion" graph connects all utterances, and its edges have signed gates. The "inertia" graph connects utterances of one speaker.

.. math::
    x^l &= \mathrm{BiGRU}(W_l u + b_l), \qquad x^a = W_a r^a + b_a, \qquad x^v = W_v r^v + b_v \tag{1} \\
    x^u &= W_u [x^l ; x^a ; x^v] + b_u \tag{2} \\
    G^0 &= W_2 (x + S) + b_2, \qquad H^0 = W_1 (x + S') + b_1 \tag{3} \\
    G^k_i &= \sum_{j \to i} \tanh(g_k^\top [G^{k-1}_i ; G^{k-1}_j] + c_k) G^{k-1}_j / \sqrt{d_i d_j} + \varepsilon G^0_i \tag{4} \\
    H^l_i &= \sum_{j \to i} H^{l-1}_j / \sqrt{d_i d_j} + \varepsilon_2 H^0_i \tag{5} \\
    s &= W [H^{N_L} ; G^{N_K}]_{\text{anchor}} + b \tag{6}

The indices `l`, `a`, `v` and `u` denote text, audio, visual and anchor nodes. `S` is the speaker embedding, which is added only to the
nodes that the option `speaker` names. `S'` is also added to the nodes that `inertia_speaker` names. `d` counts outgoing edges of a node in
(4), and incoming edges in (5). With `causal`, (4) counts incoming edges. The equations follow the public code; the numbering is ours.

| symbol | attribute | shape (`N`: utterances) |
|---|---|---|
| `u` | `texts`: mean of several text features, each after a batch norm | `(N, features)` |
| `W_l`, `W_a`, `W_v` | `streams.project[m]` | `(width, features)` |
| `W_u` | `anchor` | `(width, modalities · width)`, modalities in alphabetical order |
| `S` | `speaker` | `(N, width)` |
| `W_2`, `W_1`; `W` | `to_contagion`, `to_inertia`; `classify` | `(hidden, width)`; `(classes, 2 hidden)` |
| `g_k`, `c_k` | `contagion.gate[k - 1]`, `contagion.bias[k - 1]` | `(2, hidden)`, `()` |

**Differences from the paper and from its public code**

- We had no access to the paper's text. The public code is anonymous, but uses the names of the paper. It trains on the development split,
  selects the epoch on test data, and saves a model only if the model exceeds the published results. Here the development split selects the
  epoch. For IEMOCAP, the code repeats the order of dialogues and the dropout masks in every epoch. Unused modules of the code are left out.
- Our graph recipes describe the graphs that the code builds, which differ from its options. In (5), the first utterance of a speaker sends
  no message, and past and future are exchanged. In (4), edges between neighbouring utterances occur twice. In (4) and (5), edges between
  the modalities of an utterance occur twice. For MELD, the code has other windows; our settings use the windows of IEMOCAP.
- The GRU and the batch norm ignore padding, unlike the code. A linear map always precedes the GRU; in the code, only for IEMOCAP.
- For MELD, the code has a "focal" loss that increases when the probability of the right class approaches one (here
  `training.loss = "legacy_focal"`). The paper uses the cross entropy.
- Speakers are numbered by first appearance in the dialogue; the code uses the speaker numbers of the corpus. Here the speaker embedding is
  multiplied by a matrix. A missing modality has no node, and is zero in (2). The public code needs three modalities.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from erc_graph.conv.gated import Gated
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.recurrent import Recurrent
from erc_graph.encoders.speaker import SpeakerEmbedding
from erc_graph.graphs.recipe import load_recipe
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import MeanOfTexts, Streams, added
from erc_graph.methods.ranges import Causal, Even, Graph, Share, Size, Weight


@dataclass(frozen=True, kw_only=True)
class EDMConfig(Causal):
    """Options of MF-EDM; symbols and numbers such as (4) refer to the equations in the docstring of the module.

    Attributes:
        graph: Graph recipe of the contagion graph.
        inertia_graph: Graph recipe of the inertia graph.
        width: Width of `x`, the node states before both graphs.
        hidden: Width of the node states in both graphs.
        layers: Number of contagion layers (4), `N_K`.
        inertia_layers: Number of inertia layers (5), `N_L`.
        residual: Weight `ε` of the initial state in (4).
        inertia_residual: Weight `ε_2` of the initial state in (5).
        speaker: Names of the nodes (modalities or `anchor`) that have a speaker embedding in both graphs; unknown names are ignored.
        inertia_speaker: Names of further nodes that have a speaker embedding in the inertia graph.
        dropout: Dropout between the layers of the GRU; there is no other dropout.
    """

    graph: Graph = "edm_contagion"
    inertia_graph: Graph = "edm_inertia"
    width: Even = 128
    hidden: Size = 128
    layers: Size = 3
    inertia_layers: Size = 6
    residual: Weight = 1.0
    inertia_residual: Weight = 1.0
    speaker: list[str] = field(default_factory=lambda: ["text"])
    inertia_speaker: list[str] = field(default_factory=lambda: ["visual"])
    dropout: Share = 0.5


class EDM(Method):
    """Two graphs whose nodes are the modalities of every utterance, and an anchor node computed from the modalities."""

    Config = EDMConfig
    paper = Paper(
        title="MF-EDM: Graph-based Multimodal Fusion and Emotional Dynamics Modeling for Emotion Recognition in Conversation",
        authors="Hwang, Kwon and Gweon",
        venue="Interspeech",
        year=2026,
        url="https://doi.org/10.21437/Interspeech.2026-1875",
        code="https://github.com/edm-anonymous/MoED",
    )

    def build(self, c: EDMConfig, shapes: Shapes) -> None:
        """Build the encoders, the anchor, the speaker embedding, both graphs and the classifier."""
        self.texts = MeanOfTexts(shapes.widths)
        self.couples_batch, names = self.texts.couples_batch, tuple(self.texts.widths)
        gru = Recurrent("gru", c.width, c.width, bidirectional=not c.causal, layers=2, dropout=c.dropout)
        self.streams = Streams(self.texts.widths, c.width, read={"text": gru})
        self.anchor = nn.Linear(len(names) * c.width, c.width)
        self.speaker = SpeakerEmbedding(c.width, given=shapes.speaker) if {*c.speaker, *c.inertia_speaker} & {*names, "anchor"} else None
        self.to_contagion, self.to_inertia = nn.Linear(c.width, c.hidden), nn.Linear(c.width, c.hidden)
        own, n = load_recipe(c.inertia_graph), c.hidden
        own = own.past_only() if c.causal else own
        self.contagion = Gated(n, n, self.recipe, layers=c.layers, residual="start", share=c.residual, degree="in" if c.causal else "out")
        self.inertia = Gated(n, n, own, layers=c.inertia_layers, residual="start", share=c.inertia_residual, gate=False)
        self.classify = nn.Linear(2 * c.hidden, shapes.outputs)  # Eq. (6)

    def encode(self, given: Given) -> Tensor:
        """Compute the utterance states before the classifier, `(N, 2 hidden)`."""
        x, c = self.streams(self.texts(given)), self.config  # Eq. (1), (N, S, width)
        anchor = self.anchor(x.masked().flatten(1))  # Eq. (2)
        parts = torch.cat([x.states, anchor[:, None]], 1), torch.cat([x.present, x.present.any(1, keepdim=True)], 1)
        x = Nodes(*parts, (*x.streams, "anchor"))  # (N, S + 1, width)
        spoken = self.speaker(given) if self.speaker else torch.zeros_like(anchor)
        s, t = added(x, spoken, c.speaker), added(x, spoken, {*c.speaker, *c.inertia_speaker})
        g = self.contagion(s.with_states(self.to_contagion(s.states)), given.batch)  # Eqs. (3), (4)
        h = self.inertia(t.with_states(self.to_inertia(t.states)), given.batch)  # Eqs. (3), (5)
        return torch.cat([h.states[:, -1], g.states[:, -1]], -1)
