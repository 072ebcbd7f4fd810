r"""MFM: Learning Factorized Multimodal Representations (Tsai, Liang et al., ICLR 2019), and the conversation around it.

A factor tells the label, and one per modality what only that modality says; together they give the modality back.

.. math::
    z_m &= E_m\, \mathrm{LSTM}_m(x^m)_T + e_m \tag{1} \\
    z_y &= E_y\, \mathrm{MFN}(x)_T + e_y \tag{2} \\
    f_* &= \mathrm{ReLU}(F_*^2\, \mathrm{ReLU}(F_*^1 z_*)) \qquad * \in \{y, 1, \dots, M\} \tag{3} \\
    h^m_1 &= \mathrm{LSTM}'_m([f_y ; f_m]), \quad h^m_t = \mathrm{LSTM}'_m(h^m_{t-1}), \quad \hat x^m_t = D_m h^m_t + d_m \tag{4} \\
    o &= Y_2\, \mathrm{ReLU}(Y_1 f_y) \tag{5} \\
    k(x, y) &= e^{-|x - y|^2 / d^2}, \quad
    \mathrm{MMD}(z) = \overline{k(g, g)} + \overline{k(z, z)} - 2\, \overline{k(g, z)} \qquad g \sim N(0, I_d) \tag{6} \\
    \mathcal L &= \mathcal L_{\text{label}} + \sum_m \lambda_m |\hat x^m - x^m|^2 + \lambda \sum_* \mathrm{MMD}(z_*) \tag{7}

The equations are those of the public code; their numbers are ours. MFN is the recurrence of `erc_graph.methods.mfn`, Eqs. (1)-(6) there.

| symbol | attribute | shape |
|---|---|---|
| LSTM, `E` | `encoders[m]`, `latent[m]`, of `y`: `memory`, `latent.label` | `z`: `latents[m]` wide |
| `F` | `factor[m]`, `factor.label` | `f`: `factors[m]` wide |
| LSTM', `D` | `decoders[m]`: `cell`, `linear` | as wide as `[f_y ; f_m]` |
| `Y` | `classify` | `(f_y, f_y)`, `(classes, f_y)`, with a conversation wider |

**Differences from the paper and from its public code**

- Steps are words, as in MFN here. Vectors alone are sequences of one step: a factorised auto-encoder, in which whatever joins two steps
  stays unused. What a front end makes of raw sound and faces is given back as it is, without a gradient.
- Errors of (7) are means over the steps and columns of an utterance, then over utterances; the code counts padding, too.
- A missing modality is in no term of (6) and (7), and in MFN it has no share. The code's other way, six more encoders that guess what
  belongs to a missing modality, is left out. Its reconstruction of a missing video takes the decoder of a missing sound.
- (6): in the code `d` counts twice, too. The kernel is flat for wide `z`, so that the term says little. Below eight utterances it is
  left out; it couples the utterances of a batch in training.
- The code never hands its learning rate on, and builds an output layer of MFN that nothing trains.
- The paper's text was not at hand. It knows no conversation: a graph stage stands behind `f_y`; `graph = "none"` leaves it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from erc_graph.encoders.alignment import Steps
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.gated_memory import NETS, GatedMemory
from erc_graph.methods.base import Method
from erc_graph.methods.conversation import FUSED, Conversation, ConversationConfig
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.ranges import Checked, Share, Size, Weight, Widths
from erc_graph.methods.stage import Prediction

LABEL = "label"
LEAST = 8  # utterances that a discrepancy is measured on


@dataclass(frozen=True, kw_only=True)
class MFMConfig(Checked):
    """MFM.

    Attributes:
        graph: Recipe of the conversation's graph, or `none`, the paper's own model.
        causal: Nothing comes from later turns.
        width: Of the LSTMs of MFN, unless `widths` says otherwise.
        widths: Modality → width of its LSTM in MFN.
        memory: Width of the memory of MFN.
        hidden: Hidden width of the nets of MFN, unless `hiddens` says otherwise.
        hiddens: Net of MFN → its hidden width.
        latent: Width of `z`, unless `latents` says otherwise.
        latents: Modality, or `label` → width of its `z`.
        factor: Width of `f`, unless `factors` says otherwise.
        factors: Modality, or `label` → width of its `f`.
        dropout: In the nets of MFN and of (3), (5).
        reconstruction_weight: `λ_m`, unless `reconstruction_weights` says otherwise.
        reconstruction_weights: Modality → its `λ_m`.
        discrepancy_weight: `λ`.
        conversation: The graph stage.
    """

    graph: str = "speaker"
    causal: bool = False
    width: Size = 32
    widths: Widths = field(default_factory=lambda: {"text": 64})
    memory: Size = 64
    hidden: Size = 64
    hiddens: Widths = field(default_factory=dict)
    latent: Size = 32
    latents: Widths = field(default_factory=dict)
    factor: Size = 32
    factors: Widths = field(default_factory=dict)
    dropout: Share = 0.2
    reconstruction_weight: Weight = 0.5
    reconstruction_weights: dict[str, float] = field(default_factory=lambda: {"text": 1.0, "audio": 0.1})
    discrepancy_weight: Weight = 1.0
    conversation: ConversationConfig = field(default_factory=ConversationConfig)


class Decoder(nn.Module):
    """An LSTM that reads a state, then its own answers, and a linear map of these."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.cell, self.linear = nn.LSTMCell(width, width), nn.Linear(width, outputs)

    def forward(self, state: Tensor, steps: int) -> Tensor:
        """`(n, width)` → `(n, steps, outputs)`."""
        state, cell = self.cell(state)
        states = [state]
        for _ in range(steps - 1):
            state, cell = self.cell(state, (state, cell))
            states.append(state)
        return self.linear(torch.stack(states, 1))


def discrepancy(z: Tensor, g: Tensor) -> Tensor:
    """`MMD` between rows `(n, d)` and draws `(n, d)`."""
    both = torch.cat([g, z])
    squares = both.square().sum(1)
    kernel = (-(squares[:, None] + squares - 2 * both @ both.T) / z.shape[1] ** 2).exp()
    sign = both.new_tensor([1.0, -1.0]).repeat_interleave(len(z)) / len(z)
    return sign @ kernel @ sign


class MFM(Method):
    """A factor for the label and one per modality, and the conversation around the first."""

    Config = MFMConfig
    family = "fusion"
    reads = ("sequences", "features")
    couples_batch = "the discrepancy, Eq. (6)"
    paper = Paper(
        title="Learning Factorized Multimodal Representations",
        authors="Tsai et al.",
        venue="ICLR",
        year=2019,
        code="https://github.com/pliang279/factorized",
    )

    def build(self, c: MFMConfig, shapes: Shapes) -> None:
        """Encoders, factors, decoders, the conversation, and the classifier."""
        self.steps = Steps(shapes.widths, shapes.items, c.width)
        inputs, self.names = self.steps.inputs, tuple(self.steps.inputs)
        widths = {m: c.widths.get(m, c.width) for m in self.names}
        self.memory = GatedMemory(inputs, widths, c.memory, {net: c.hiddens.get(net, c.hidden) for net in NETS}, c.dropout)
        z, f = ({m: some.get(m, usual) for m in (LABEL, *self.names)} for some, usual in ((c.latents, c.latent), (c.factors, c.factor)))
        self.sizes = list(z.values())
        self.encoders = nn.ModuleDict({m: nn.LSTM(inputs[m], z[m], batch_first=True) for m in self.names})
        self.latent = nn.ModuleDict({m: nn.Linear(self.memory.width if m == LABEL else z[m], z[m]) for m in z})
        self.factor = nn.ModuleDict(
            {m: nn.Sequential(nn.Linear(z[m], f[m]), nn.ReLU(), Dropout(c.dropout), nn.Linear(f[m], f[m]), nn.ReLU()) for m in z}
        )
        self.decoders = nn.ModuleDict({m: Decoder(f[LABEL] + f[m], inputs[m]) for m in self.names})
        own = f[LABEL]
        self.conversation = Conversation({FUSED: own}, self.graph, c.conversation, causal=c.causal, speaker=shapes.speaker)
        read, score = nn.Linear(self.conversation.width, own), nn.Linear(own, shapes.outputs)
        self.classify = nn.Sequential(read, nn.ReLU(), Dropout(c.dropout), score)
        if not shapes.items:
            names = ("memory.cells.*.weight_hh", "memory.nets.keep.*", "encoders.*.weight_hh_l0", "decoders.*.cell.weight_hh")
            self.unused = dict.fromkeys(names, "a vector is a sequence of one step, with none before")  # type: ignore[misc]

    def read(self, values: Mapping[str, Tensor], there: Tensor) -> Tensor:
        """`z_y`, in training also all `z_m` and their squared errors, side by side: `(n, sum of sizes + modalities)`."""
        steps = there.any(-1).sum(1)
        last = torch.arange(len(steps), device=steps.device), steps - 1
        label = self.latent[LABEL](self.memory(self.memory.gates(values), there)[0][last])  # Eq. (2)
        if not self.training:
            return label
        z = {m: self.latent[m](self.encoders[m](values[m])[0][last]) for m in self.names}  # Eq. (1)
        f, count = self.factor[LABEL](label), there.shape[1]
        found = [self.decoders[m](torch.cat([f, self.factor[m](own)], -1), count) for m, own in z.items()]  # Eqs. (3), (4)
        squares = [(x - values[m].detach()).square().mean(-1) for m, x in zip(z, found, strict=True)]
        errors = torch.where(there, torch.stack(squares, -1), 0.0).sum(1) / steps[:, None]
        return torch.cat([label, *z.values(), errors], -1)

    def latents(self, given: Given) -> Tensor:
        """The same of all utterances."""
        width = sum(self.sizes) + len(self.names) if self.training else self.sizes[0]
        return self.steps.encode(self.read, given.values, given.sequences, given.present, width)

    def penalty(self, latents: Tensor, present: Tensor) -> Tensor:
        """Errors and discrepancies of Eq. (7), of what is there: `(N, modalities)` bool."""
        config, means = self.config, latents[:, sum(self.sizes) :].sum(0) / present.sum(0).clamp(min=1)
        weights = [config.reconstruction_weights.get(m, config.reconstruction_weight) for m in self.names]
        loss = (means * means.new_tensor(weights)).sum()
        here = torch.cat([present.any(1, keepdim=True), present], 1)
        for z, rows in zip(latents[:, : sum(self.sizes)].split(self.sizes, 1), here.unbind(1), strict=True):
            z = z[rows]
            if len(z) >= LEAST:
                loss = loss + config.discrepancy_weight * discrepancy(z, torch.randn_like(z))  # Eq. (6)
        return loss

    def answer(self, given: Given) -> Prediction:
        """Scores and, in training, the penalty."""
        present, latents = given.here(self.names), self.latents(given)
        f = self.factor[LABEL](latents[:, : self.sizes[0]])  # Eq. (3)
        states = self.conversation({FUSED: f}, {FUSED: present.any(1)}, given)
        penalty = self.penalty(latents, present) if self.training else 0.0  # Eq. (7)
        return Prediction(scores=self.classify(states), states=states, penalty=penalty)  # Eq. (5)
