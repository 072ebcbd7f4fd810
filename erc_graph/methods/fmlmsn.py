r"""After FmlMSN: fine-grained modal label-based multi-stage network (after Peng et al., Expert Systems with Applications 221, 2023).

Each pair of modalities has a base learner, which is trained in its own stage. A meta-learner is then trained on the features of the frozen
base learners.

.. math::
    z_m &= E_m(x_m) \qquad \text{(each learner has its own)} \tag{1} \\
    b_{mn} &= \mathrm{ReLU}(W [z_m ; z_n ; z_m \odot z_n] + c) \tag{2} \\
    L_{mn} &= \ell(Q_{mn} b_{mn}) + \mu\, (\ell(Q_m z_m) + \ell(Q_n z_n)) \tag{3} \\
    f &= [b_{av} ; b_{vt} ; b_{at} ; \text{which are there}], \qquad y = U_2\, \mathrm{ReLU}(U_1 f) \tag{4}

`ℓ` is the loss for the label of the utterance. "Which are there" in (4) is one value per pair: 1 if both modalities are present, else 0.

| symbol | attribute | shape (`N`: utterances) |
|---|---|---|
| `E_m` | `learners[mn].subnets[m]` | `(N, width)` |
| `W`, `c` | `learners[mn].join` | `(width, 3 width)` |
| `Q_mn`, `Q_m` | `learners[mn].judge[mn]`, `.judge[m]` | `(classes, width)` |
| `U_1`, `U_2` | `classify` | `(hidden, width of f)`, `(classes, hidden)` |

**What is known, what was guessed, and what differs**

- We had access neither to the paper's text nor to its code. According to the abstract, each pair has a learner, and the learners are
  trained in stages. The outputs of a learner share encoders, and a meta-learner reads the hidden features of the learners of all pairs. We
  guessed (1), which follows TFN, the equation (2), the weight μ, and the meta-learner.
- The main idea of the paper, seven labels per video clip, is missing here. The corpora have one label per utterance, so all outputs of a
  learner are trained with this label.
- The meta-learner is trained on the same utterances as the base learners. The base learners have already fitted the features of these
  utterances to the labels.
- A pair with a missing modality has `b = 0` in (4), and zero scores without a gradient in (3). With one or two modalities, there is a
  single learner. For one modality, (2) contains only this modality and no product.
- The paper classifies single utterances. Here a graph stage (`erc_graph.methods.conversation`) passes messages between utterances. The
  stage lies between the learners and the meta-learner; `graph = "none"` removes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import cast

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.methods.base import in_parts
from erc_graph.methods.conversation import InConversation, UtteranceMethod
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.parts import Classifier, SubNets
from erc_graph.methods.ranges import Share, Size, Weight
from erc_graph.methods.stage import Prediction, Stage


@dataclass(frozen=True, kw_only=True)
class FmlMSNConfig(InConversation):
    """Options of FmlMSN; symbols and numbers such as (4) refer to the equations in the docstring of the module.

    Attributes:
        width: Width of `z_m` and `b_mn`.
        words: Width of the LSTM over words, if text is a sequence of words.
        hidden: Hidden width of the meta-learner.
        mu: Weight μ of the losses of single modalities in (3).
        dropout: Dropout before the encoders and in the meta-learner.
    """

    width: Size = 64
    words: Size = 64
    hidden: Size = 64
    mu: Weight = 0.5
    dropout: Share = 0.3


class Learner(nn.Module):
    """The base learner of a pair of modalities, or of a single modality."""

    def __init__(self, names: tuple[str, ...], config: FmlMSNConfig, shapes: Shapes) -> None:
        super().__init__()
        self.names, self.weight = names, config.mu
        self.subnets = SubNets(shapes, dict.fromkeys(names, config.width), config.words, config.dropout)
        self.join = nn.Linear((3 if len(names) > 1 else 1) * config.width, config.width)
        judged = ["pair", *(names if len(names) > 1 and config.mu else ())]
        self.judge = nn.ModuleDict({name: nn.Linear(config.width, shapes.outputs) for name in judged})

    def forward(self, given: Given) -> tuple[dict[str, Tensor], Tensor]:
        """Compute `z` (equation (1)) of each modality, and `b` (equation (2)), `(N, width)` each. If a modality is missing, `b` is zero."""
        z = self.subnets(given)  # Eq. (1)
        rows = [*z.values()] + ([z[self.names[0]] * z[self.names[1]]] if len(z) > 1 else [])
        b = self.join(torch.cat(rows, -1)).relu()  # Eq. (2)
        return z, torch.where(given.here(self.names).all(1)[:, None], b, 0.0)

    def answer(self, given: Given) -> Prediction:
        """Compute the prediction for the training stage of the learner, equation (3)."""
        z, b = self(given)
        here = {**given.present, "pair": given.here(self.names).all(1)}
        scores = {name: torch.where(here[name][:, None], judge({**z, "pair": b}[name]), 0.0) for name, judge in self.judge.items()}
        return Prediction(scores=scores.pop("pair"), auxiliary=scores, auxiliary_weight=self.weight)  # Eq. (3)


class FmlMSN(UtteranceMethod):
    """One learner per pair of modalities, message passing over the conversation, and a meta-learner, after Peng et al."""

    Config = FmlMSNConfig
    sequences_of = ("text",)
    couples_batch = "the batch norm of the features, Eq. (1)"
    paper = Paper(
        title="A fine-grained modal label-based multi-stage network for multimodal sentiment analysis",
        authors="Peng et al.",
        venue="Expert Systems with Applications 221",
        year=2023,
        url="https://www.sciencedirect.com/science/article/pii/S0957417423002221",
        after=True,
    )

    def build(self, config: FmlMSNConfig, shapes: Shapes) -> None:
        """Build one learner per pair of modalities, the graph stage between utterances, and the meta-learner."""
        pairs: list[tuple[str, ...]] = [*combinations(shapes.modalities, 2)] or [shapes.modalities]
        self.learners = nn.ModuleDict({"_".join(names): Learner(names, config, shapes) for names in pairs})
        self.conversation = self.around(len(pairs) * (config.width + 1))
        self.classify = Classifier(self.conversation.width, shapes.outputs, hidden=config.hidden, dropout=config.dropout)

    @property
    def base(self) -> dict[str, Learner]:
        """Return a dictionary from the modalities of a learner, joined by `_`, to the learner."""
        return {name: cast(Learner, learner) for name, learner in self.learners.items()}

    def stages(self) -> list[Stage]:
        """Return one training stage for each learner, then one training stage for the meta-learner."""
        base = [self.stage(f"pair {name}", learner, answer=learner.answer) for name, learner in self.base.items()]
        return [*base, self.stage("meta", self.conversation, self.classify)]

    @torch.no_grad()
    def keep(self, index: int, batch: Batch) -> Batch:
        """Store the features of the frozen learners in the cache, unless swap noise or modality dropout changes them in every epoch."""
        if index < len(self.learners) or self.inputs_config.swap_noise or self.inputs_config.modality_dropout:
            return batch
        self.eval()
        return batch.with_cache({"f": in_parts(lambda part: self.features(self.given(part)), batch)})

    def features(self, given: Given) -> Tensor:
        """Compute the features `f` of equation (4) from all learners: `(N, pairs (width + 1))`."""
        b = [learner(given)[1] for learner in self.base.values()]
        here = torch.stack([given.here(learner.names).all(1) for learner in self.base.values()], 1)
        return torch.cat([*b, here.to(b[0].dtype)], -1)  # Eq. (4)

    def encode(self, given: Given) -> Tensor:
        """Compute the utterance states: the features `f` and, with a graph, the node states after message passing."""
        f = given.batch.cache["f"] if "f" in given.batch.cache else self.features(given)
        return self.conversation(f, given.here(tuple(given.present)).any(1), given)
