r"""MPFU: multiplicative fusion with context, after Mittal et al. (IEEE MultiMedia 28, 2021).

Every modality judges by itself; a channel that is sure counts more, in the loss and in the answer. The conversation is the context, one
more channel.

.. math::
    z_m &= \mathrm{Enc}_m(x_m), \qquad p_m = \mathrm{softmax}(W_m z_m + b_m) \tag{1} \\
    p_c &= \mathrm{softmax}(W_c\, \mathrm{conversation}([\max(p_1)\, z_1 ; \max(p_2)\, z_2 ; \dots]) + b_c) \tag{2} \\
    L &= -\textstyle\sum_m w_m \log p_m^e, \qquad w_m = (p_m^e)^\gamma, \quad \gamma = \beta / (M - 1) \tag{3} \\
    p &\propto \textstyle\sum_m p_m^\gamma\, p_m \tag{4}

(3) is M3ER's loss (AAAI 2020), of the true class `e`, as a third party repeats it. `M` counts the channels that an utterance has. The
equations are ours otherwise: only the abstract was at hand.

| symbol | attribute | shape |
|---|---|---|
| `Enc_m` | `encoders[m]` | `(N, width)` |
| `W_m` | `score[m]` | `(classes, width)` |
| `W_c` | `context` | `(classes, ·)` |
| `w_m` | `weight` | `(N, M)` |

**What is guessed, and differences from the paper**

- The printed loss trains *against* the label where a channel is unsure: :math:`-p^\gamma \log p` falls again below
  :math:`p = e^{-1/\gamma}`, which is 0.37 for two channels and beta 1, more than a new network of four classes says. So the weight is
  a constant in the backward pass (`weight = "detached"`). `attached` is the printed form. `others` weighs a channel by how wrong the
  others are, :math:`w_m = \prod_{n \ne m} (1 - p_n^e)^\gamma`, as in the work that M3ER starts from; it has no such trap.
- With one channel :math:`\gamma` is not defined; it is 0, and (3) the cross-entropy.
- (3) is the whole loss: `training.loss`, its class weights and label smoothing do not count. It is a mean over all utterances of a
  batch, those without a label included.
- (1): three layers for a vector, the last state of an LSTM for words. (4): channels vote with the confidence that (3) gives them.
- (2): for conversations there is no background image and no depth map. `graph = "none"` has no context channel.
- A missing modality is no channel: it has no term, no vote, and no part in `M`.
- M3ER's check for modalities that say nothing, its proxies for them, and its memory are left out. A score has no probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.subnets import LastWord, SubNet
from erc_graph.errors import ConfigError
from erc_graph.methods.base import Method
from erc_graph.methods.conversation import FUSED, Conversation, ConversationConfig
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.ranges import Checked, Positive, Share, Size
from erc_graph.methods.stage import Prediction


@dataclass(frozen=True, kw_only=True)
class MPFUConfig(Checked):
    """MPFU.

    Attributes:
        graph: Recipe of the conversation's graph, or `none`: no context.
        causal: Nothing comes from later turns.
        width: Of `z`.
        words: Width of the LSTM, where text is words.
        beta: Of (3) and (4).
        weight: `w`: as printed, but constant in the backward pass; as printed; or by the others.
        dropout: In the encoders, and in front of (2).
        conversation: The graph stage.
    """

    graph: str = "speaker"
    causal: bool = False
    width: Size = 64
    words: Size = 64
    beta: Positive = 1.0
    weight: Literal["detached", "attached", "others"] = "detached"
    dropout: Share = 0.3
    conversation: ConversationConfig = field(default_factory=ConversationConfig)


class MPFU(Method):
    """Channels that judge by themselves and count as they are sure, after Mittal et al.; the conversation is one of them."""

    Config = MPFUConfig
    family = "fusion"
    reads = ("sequences", "features")
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
        """An encoder and a classifier per modality, the conversation, and its classifier."""
        if self.task.kind != "classification":
            raise ConfigError("task: expected classes, for MPFU multiplies their probabilities, found a score")
        width, self.names = config.width, shapes.modalities
        encoders: dict[str, nn.Module] = {m: SubNet(inputs, width, config.dropout) for m, inputs in shapes.widths.items()}
        encoders |= {m: LastWord(item[0], config.words, width, config.dropout) for m, item in shapes.items.items()}
        self.encoders = nn.ModuleDict(encoders)
        self.score = nn.ModuleDict({m: nn.Linear(width, shapes.outputs) for m in self.names})
        self.size = len(self.names) * width
        self.conversation = Conversation({FUSED: self.size}, self.graph, config.conversation, causal=config.causal, speaker=shapes.speaker)
        self.context = self.head(config, self.conversation.width - self.size, shapes.outputs) if self.graph is not None else None

    def channels(self, given: Given) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities of every channel `(N, M, C)`, which are there `(N, M)`, and all states side by side."""
        z = {m: self.encoders[m](Nodes.of_turns(given.values[m], given.present[m]), given.batch) for m in given.values}
        z |= {m: self.encoders[m](sequences) for m, sequences in given.sequences.items()}
        here = given.here(self.names)
        states = torch.stack([z[m] for m in self.names], 1) * here[..., None]
        p = torch.stack([self.score[m](own) for m, own in zip(self.names, states.unbind(1), strict=True)], 1).log_softmax(-1)  # Eq. (1)
        if self.context is None:
            return p, here, states.flatten(1)
        sure = states * p.detach().exp().amax(-1, keepdim=True)
        around = self.conversation({FUSED: sure.flatten(1)}, {FUSED: here.any(1)}, given)
        heard = self.context(around[:, self.size :]).log_softmax(-1)  # Eq. (2)
        return torch.cat([p, heard[:, None]], 1), torch.cat([here, here.any(1, keepdim=True)], 1), around

    def gamma(self, p: Tensor, here: Tensor) -> Tensor:
        """`(N, 1)`; 0 for an utterance of one channel."""
        count = here.to(p.dtype).sum(1, keepdim=True)
        return torch.where(count > 1, self.config.beta / (count - 1).clamp(min=1), 0.0)

    def loss(self, p: Tensor, here: Tensor, batch: Batch) -> Tensor:
        """L from the channels; the mean over all utterances."""
        true = p.gather(-1, batch.target.clamp(min=0)[:, None, None].expand(-1, p.shape[1], 1))[..., 0]  # (N, M)
        weight = (self.gamma(p, here) * true).exp()
        if self.config.weight == "detached":
            weight = weight.detach()
        elif self.config.weight == "others":
            wrong = torch.where(here, torch.log1p(-true.exp().clamp(max=1 - torch.finfo(p.dtype).eps)), 0.0)
            weight = (self.gamma(p, here) * (wrong.sum(1, keepdim=True) - wrong)).exp()
        counts = here & (batch.judged & (batch.target >= 0))[:, None]
        return -torch.where(counts, weight * true, 0.0).sum() / batch.utterances  # Eq. (3)

    def answer(self, given: Given) -> Prediction:
        """Log-probabilities `(N, C)`, which no loss is asked of in training, and L."""
        p, here, states = self.channels(given)
        votes = ((1 + self.gamma(p, here))[..., None] * p).masked_fill(~here[..., None], torch.finfo(p.dtype).min)
        scores = votes.logsumexp(1).log_softmax(-1)  # Eq. (4)
        if not self.training:
            return Prediction(scores=scores, states=states)
        return Prediction(scores=scores.detach(), states=states, penalty=self.loss(p, here, given.batch))
