r"""MPFU: multiplicative fusion with context, after Mittal et al. (IEEE MultiMedia 28, 2021).

Each modality is a channel with its own classifier, and the conversation is a further channel, `c`. A confident channel has more weight in
the loss and in the prediction.

.. math::
    z_m &= \mathrm{Enc}_m(x_m), \qquad p_m = \mathrm{softmax}(W_m z_m + b_m) \tag{1} \\
    p_c &= \mathrm{softmax}(W_c\, \mathrm{conversation}([\max(p_1)\, z_1 ; \max(p_2)\, z_2 ; \dots]) + b_c) \tag{2} \\
    L &= -\textstyle\sum_m w_m \log p_m^e, \qquad w_m = (p_m^e)^\gamma, \quad \gamma = \beta / (M - 1) \tag{3} \\
    p &\propto \textstyle\sum_m p_m^\gamma\, p_m \tag{4}

| symbol | attribute | shape |
|---|---|---|
| `z_m`, `W_m` | `encoders[m]`, `score[m]` | `(N, width)`, `(classes, width)` |
| `W_c` | `context`, after `conversation` | `(classes, width of the graph's states)` |
| `e`, `M` | the true class; number of channels that an utterance has, including `c`; all sums run over these channels | `(N,)`, `(N, 1)` |

**What is guessed, and differences from the paper**

- We had access only to the abstract. Eq. (3) is the loss of M3ER (AAAI 2020, same first author), as a third party describes it. We assume
  that this paper has the same loss, and that the name "MPFU" refers to this paper. Eqs. (1), (2) and (4) are ours.
- In its printed form, (3) trains an unsure channel *against* the true label. The reason is that the loss :math:`-p^\gamma \log p` increases
  with :math:`p` as long as :math:`p < e^{-1/\gamma}`. For `beta = 1`, the bound :math:`e^{-1/\gamma}` is 0.37 for two channels and 0.14 for
  three channels. An untrained network predicts 0.25 for each of four classes. By default (`weight = "detached"`), `w` is therefore a
  constant in the backward pass. With `weight = "attached"`, (3) is computed as printed. As far as we remember, M3ER derives this loss from
  the weights :math:`w_m = \prod_{n \ne m} (1 - p_n^e)^\gamma` (`weight = "others"`). These weights train no channel against the label.
- For a single channel, :math:`\gamma` is 0 and (3) is cross entropy. Eq. (3) is the whole loss: `training.loss`, class weights and label
  smoothing are ignored. The loss is divided by the number of all utterances of a batch, including utterances without a label.
- Eq. (1): the encoder of a vector is a batch norm and three linear layers with ReLU. The encoder of words is an LSTM and a linear map of
  its last state. Other sequences first become vectors of their mean and standard deviation.
- Eq. (2): the context is only the conversation, without a background image and a depth map. In the backward pass, `max(p)` is a constant.
  Eq. (4) does not depend on the option `weight`.
- A missing modality has no term in (3) and (4), and is not counted in `M`. The memory of M3ER is left out. The proxies of M3ER for useless
  modalities are left out, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from erc_graph.data.nodes import Nodes
from erc_graph.encoders.subnets import LastWord, SubNet
from erc_graph.errors import ConfigError
from erc_graph.methods.conversation import InConversation, UtteranceMethod
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.ranges import Positive, Share, Size
from erc_graph.methods.stage import Prediction


@dataclass(frozen=True, kw_only=True)
class MPFUConfig(InConversation):
    """Options of MPFU.

    Attributes:
        width: Width of `z` and of the LSTM.
        beta: Parameter β, from which the exponent γ of (3) and (4) is computed.
        weight: Weights `w` in (3): as printed but without a gradient (`detached`), as printed (`attached`), or computed from the other
            channels (`others`).
        dropout: Dropout in the encoders and before `W_c`.
    """

    width: Size = 64
    beta: Positive = 1.0
    weight: Literal["detached", "attached", "others"] = "detached"
    dropout: Share = 0.3


class MPFU(UtteranceMethod):
    """Channels with their own classifiers, weighted by confidence, after Mittal et al.; the conversation is a further channel."""

    Config = MPFUConfig
    sequences_of = ("text",)
    couples_batch = "the batch norm of the features, Eq. (1)"
    paper = Paper(
        title="Multimodal and Context-Aware Emotion Perception Model With Multiplicative Fusion",
        authors="Mittal, Bera and Manocha",
        venue="IEEE MultiMedia 28",
        year=2021,
        after=True,
    )

    def build(self, config: MPFUConfig, shapes: Shapes) -> None:
        """Build an encoder and a classifier per modality, the graph stage, and the classifier of the conversation."""
        if self.task.kind != "classification":
            raise ConfigError("task: expected a task with classes, because MPFU multiplies class probabilities, found a task with a score")
        width, self.names = config.width, shapes.modalities
        self.encoders = nn.ModuleDict({m: SubNet(inputs, width, config.dropout) for m, inputs in shapes.widths.items()})
        self.encoders.update({m: LastWord(item[0], width, width, config.dropout) for m, item in shapes.items.items()})
        self.score = nn.ModuleDict({m: nn.Linear(width, shapes.outputs) for m in self.names})
        self.size = len(self.names) * width
        self.conversation = self.around(self.size)
        self.context = self.head(config, self.conversation.width - self.size, shapes.outputs) if self.graph is not None else None

    def channels(self, given: Given) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the log-probabilities, `(utterances, channels, labels)`, the mask of present channels, and the concatenated states."""
        z = {m: self.encoders[m](Nodes.of_turns(given.values[m], given.present[m]), given.batch) for m in given.values}
        z |= {m: self.encoders[m](sequences) for m, sequences in given.sequences.items()}
        here = given.here(self.names)
        states = torch.stack([z[m] for m in self.names], 1) * here[..., None]
        p = torch.stack([self.score[m](own) for m, own in zip(self.names, states.unbind(1), strict=True)], 1).log_softmax(-1)  # Eq. (1)
        if self.context is None:
            return p, here, states.flatten(1)
        sure = states * p.detach().exp().amax(-1, keepdim=True)
        around = self.conversation(sure.flatten(1), here.any(1), given)
        heard = self.context(around[:, self.size :]).log_softmax(-1)  # Eq. (2)
        return torch.cat([p, heard[:, None]], 1), torch.cat([here, here.any(1, keepdim=True)], 1), around

    def answer(self, given: Given) -> Prediction:
        """Compute the log-probabilities `(utterances, labels)` and, in training, the loss L; in training, only L has a gradient."""
        p, here, states = self.channels(given)
        others = here.to(p.dtype).sum(1, keepdim=True) - 1  # M - 1
        gamma = torch.where(others > 0, self.config.beta / others.clamp(min=1), 0.0)  # (N, 1)
        votes = ((1 + gamma)[..., None] * p).masked_fill(~here[..., None], torch.finfo(p.dtype).min)
        scores = votes.logsumexp(1).log_softmax(-1)  # Eq. (4)
        if not self.training:
            return Prediction(scores=scores, states=states)
        target = given.batch.target
        true = p[torch.arange(len(p), device=p.device), :, target.clamp(min=0)]  # log p^e, (N, M)
        wrong = torch.where(here, torch.log1p(-true.exp().clamp(max=1 - torch.finfo(p.dtype).eps)), 0.0)
        log_w = gamma * {"detached": true.detach(), "attached": true, "others": wrong.sum(1, keepdim=True) - wrong}[self.config.weight]
        counts = here & (given.batch.judged & (target >= 0))[:, None]
        loss = -torch.where(counts, log_w.exp() * true, 0.0).sum() / len(p)  # Eq. (3)
        return Prediction(scores=scores.detach(), states=states, penalty=loss)
