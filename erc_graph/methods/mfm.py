r"""MFM: Learning Factorized Multimodal Representations (Tsai, Liang et al., ICLR 2019), then a graph stage.

One factor predicts the label. For each modality, a further factor contains the remaining information of this modality. A decoder per
modality reconstructs the input from the label's factor and the modality's factor.

.. math::
    z_m &= E_m\, \mathrm{LSTM}_m(x^m)_T + e_m \tag{1} \\
    z_y &= E_y\, \mathrm{MFN}(x)_T + e_y \tag{2} \\
    f_* &= \mathrm{ReLU}(F_*^2\, \mathrm{ReLU}(F_*^1 z_*)) \qquad * \in \{y, 1, \dots, M\} \tag{3} \\
    h^m_1 &= \mathrm{LSTM}'_m([f_y ; f_m]), \quad h^m_t = \mathrm{LSTM}'_m(h^m_{t-1}), \quad \hat x^m_t = D_m h^m_t + d_m \tag{4} \\
    o &= Y_2\, \mathrm{ReLU}(Y_1 f_y) \tag{5} \\
    \mathrm{MMD}(z) &= \overline{k(g, g) + k(z, z) - 2 k(g, z)}, \quad k(x, y) = e^{-|x - y|^2 / d^2}, \quad g \sim N(0, I_d) \tag{6} \\
    \mathcal L &= \mathcal L_{\text{label}} + \sum_m \lambda_m \overline{(\hat x^m - x^m)^2} + \lambda \sum_* \mathrm{MMD}(z_*) \tag{7}

The equations follow the public code; the numbering is ours. MFN in (2) is the recurrent network of `erc_graph.methods.mfn`, Eqs. (1)-(6) of
that module.

| symbol | attribute | shape |
|---|---|---|
| LSTM, `E` | `encoders[m]`, `latent[m]`, of `y`: `memory`, `latent.label` | `z`: `latents[m]` wide |
| `F` | `factor[m]`, `factor.label` | `f`: `factors[m]` wide |
| LSTM', `D` | `decoders[m]`, `columns[m]` | `h`: as wide as `[f_y ; f_m]` |
| `Y` | `classify` | `(f_y, f_y)`, wider with a graph stage, and `(classes, f_y)` |

**Differences from the paper and from its public code**

- As in `erc_graph.methods.mfn`, a step is a word. If all modalities are vectors, each utterance is a sequence of one step (our choice), and
  the recurrent weights are unused. For raw audio or video, the decoder reconstructs the output of the front end, and no gradient passes
  through this target.
- Eq. (7) averages squared errors over the steps and features of an utterance, then over utterances. The public code includes padding in
  these averages.
- A missing modality has no term in (6) and (7), and MFN ignores this modality. The public code has six encoders that estimate `z` of a
  missing modality; they are left out here. In the public code, the reconstruction of missing video uses the decoder output for missing
  audio.
- As in the public code, the exponent in (6) is divided by `d` twice. For a large width `d`, the kernel is therefore almost constant, and
  the maximum mean discrepancy (MMD) is small. Eq. (6) is left out for fewer than eight utterances.
- The public code ignores its learning-rate option, never shuffles its batches, and never trains on the last, incomplete batch.
- We had no access to the paper's text. The paper does not model the conversation. Here a graph stage reads the label's factor `f_y`; the
  option `graph = "none"` removes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from erc_graph.encoders.alignment import AlignedSteps
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.gated_memory import NETS, GatedMemory
from erc_graph.methods.conversation import InConversation, UtteranceMethod
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.penalties import discrepancy
from erc_graph.methods.ranges import Share, Size, Weight, Widths
from erc_graph.methods.stage import Prediction

LABEL = "label"
LEAST = 8  # utterances that a discrepancy is measured on


@dataclass(frozen=True, kw_only=True)
class MFMConfig(InConversation):
    """Options of MFM.

    Attributes:
        width: Width of the LSTMs of MFN, unless `widths` sets it.
        widths: Modality → width of its LSTM in MFN.
        memory: Width of the memory of MFN.
        hidden: Hidden width of the networks of MFN, unless `hiddens` sets it.
        hiddens: Network of MFN (`attention`, `candidate`, `keep`, `take`) → its hidden width.
        latent: Width of `z` and `f`, unless `latents` or `factors` sets it.
        latents: Modality or `label` → width of its `z`.
        factors: Modality or `label` → width of its `f`.
        dropout: Dropout in the networks of MFN, in (3) and in (5).
        reconstruction_weights: Modality → its weight `λ_m` in (7); default: 1.
        discrepancy_weight: Weight `λ` of the discrepancies in (7).
    """

    width: Size = 32
    widths: Widths = field(default_factory=lambda: {"text": 64})
    memory: Size = 64
    hidden: Size = 64
    hiddens: Widths = field(default_factory=dict)
    latent: Size = 32
    latents: Widths = field(default_factory=dict)
    factors: Widths = field(default_factory=dict)
    dropout: Share = 0.2
    reconstruction_weights: dict[str, float] = field(default_factory=lambda: {"audio": 0.1, "visual": 0.5})
    discrepancy_weight: Weight = 1.0


class MFM(UtteranceMethod):
    """A factor for the label, a factor for each modality, and a graph stage that reads the label's factor."""

    Config = MFMConfig
    couples_batch = "the discrepancy, Eq. (6)"
    paper = Paper(
        title="Learning Factorized Multimodal Representations",
        authors="Tsai et al.",
        venue="ICLR",
        year=2019,
        url="https://arxiv.org/abs/1806.06176",
        code="https://github.com/pliang279/factorized",
    )

    def build(self, c: MFMConfig, shapes: Shapes) -> None:
        """Build the encoders, factors, decoders, the graph stage, and the classifier."""
        self.steps = AlignedSteps(shapes.widths, shapes.items, c.width)
        inputs, self.names = self.steps.inputs, tuple(self.steps.inputs)
        widths, hidden = {m: c.widths.get(m, c.width) for m in inputs}, {net: c.hiddens.get(net, c.hidden) for net in NETS}
        self.memory = GatedMemory(inputs, widths, c.memory, hidden, c.dropout)
        z, f = ({m: some.get(m, c.latent) for m in (LABEL, *inputs)} for some in (c.latents, c.factors))
        self.sizes, own = [*z.values(), len(self.names)], f[LABEL]
        self.encoders = nn.ModuleDict({m: nn.LSTM(inputs[m], z[m], batch_first=True) for m in inputs})
        self.latent = nn.ModuleDict({m: nn.Linear(self.memory.width if m == LABEL else z[m], z[m]) for m in z})
        layers = {m: (nn.Linear(z[m], f[m]), nn.ReLU(), Dropout(c.dropout), nn.Linear(f[m], f[m]), nn.ReLU()) for m in z}
        self.factor = nn.ModuleDict({m: nn.Sequential(*some) for m, some in layers.items()})
        self.decoders = nn.ModuleDict({m: nn.LSTMCell(own + f[m], own + f[m]) for m in inputs})
        self.columns = nn.ModuleDict({m: nn.Linear(own + f[m], inputs[m]) for m in inputs})
        self.conversation = self.around(own)
        read = self.conversation.width
        self.classify = nn.Sequential(nn.Linear(read, own), nn.ReLU(), Dropout(c.dropout), nn.Linear(own, shapes.outputs))
        if not shapes.items:
            names = ("memory.cells.*.weight_hh", "memory.nets.keep.*", "encoders.*.weight_hh_l0", "decoders.*.weight_hh")
            self.unused = dict.fromkeys(names, "a vector is a sequence of one step, with none before")  # type: ignore[misc]

    def decode(self, m: str, state: Tensor, steps: int) -> Tensor:
        """Reconstruct the steps of modality `m`, Eq. (4): `(n, width)` factors of `n` utterances → `(n, steps, inputs)`."""
        memory, states = None, [state]
        for _ in range(steps):
            memory = self.decoders[m](states[-1], memory)
            states.append(memory[0])
        return self.columns[m](torch.stack(states[1:], 1))

    def read(self, values: Mapping[str, Tensor], there: Tensor) -> Tensor:
        """Compute `z_y` of `n` utterances, in training concatenated with all `z_m` and the squared reconstruction errors: `(n, sizes)`."""
        label = self.latent[LABEL](self.memory.last(values, there))  # Eq. (2)
        if not self.training:
            return label
        steps = there.any(-1).sum(1)
        last = torch.arange(len(steps), device=steps.device), steps - 1
        z = {m: self.latent[m](self.encoders[m](values[m])[0][last]) for m in self.names}  # Eq. (1)
        f = self.factor[LABEL](label)
        found = {m: self.decode(m, torch.cat([f, self.factor[m](own)], -1), there.shape[1]) for m, own in z.items()}  # Eqs. (3), (4)
        squares = [(x - values[m].detach()).square().mean(-1) for m, x in found.items()]
        errors = torch.where(there, torch.stack(squares, -1), 0.0).sum(1) / steps[:, None]
        return torch.cat([label, *z.values(), errors], -1)

    def penalty(self, zs: Iterable[Tensor], errors: Tensor, present: Tensor) -> Tensor:
        """Compute the weighted reconstruction errors and discrepancies of Eq. (7) where the mask `present`, `(N, modalities)`, is true."""
        weights = errors.new_tensor([self.config.reconstruction_weights.get(m, 1.0) for m in self.names])
        loss = (errors.sum(0) / present.sum(0).clamp(min=1) * weights).sum()
        for z in (z[rows] for z, rows in zip(zs, (present.any(1), *present.unbind(1)), strict=True)):
            if len(z) >= LEAST:
                loss = loss + self.config.discrepancy_weight * discrepancy(z, torch.randn_like(z))  # Eq. (6)
        return loss

    def answer(self, given: Given) -> Prediction:
        """Compute the scores and, in training, the reconstruction and discrepancy losses."""
        present, sizes = given.here(self.names), self.sizes if self.training else self.sizes[:1]
        rows = self.steps.encode(self.read, given.values, given.sequences, given.present, sum(sizes))
        label, *others = rows.split(sizes, 1)
        states = self.conversation(self.factor[LABEL](label), present.any(1), given)  # Eq. (3)
        penalty = self.penalty([label, *others[:-1]], others[-1], present) if self.training else 0.0  # Eq. (7)
        return Prediction(scores=self.classify(states), states=states, penalty=penalty)  # Eq. (5)
