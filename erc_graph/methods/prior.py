r"""Log-probabilities of other classifiers as a prior that the method corrects: table `[prior]` of an experiment.

.. math:: s_i = f_i + \sum_k w_k \log p_i^k + v \log \bar p_{d(i)}

The method computes the scores :math:`f`. The other classifiers, called experts, give the probabilities :math:`p^k`. The model is a product
of experts (Hinton, Neural Computation 14, 2002) in which all experts except the method are fixed. The method starts from the predictions of
the experts. The weights :math:`w` are learned and initially average the experts. For training utterances, the log-probabilities must come
from classifiers that were not trained on the labels of these utterances; use `erc-graph features --cross-fit`. Otherwise, :math:`w` is
learned on log-probabilities that are more accurate than those of new utterances.

With the option `around`, the class frequencies in the conversation are a further expert with the learned weight :math:`v`. Here
:math:`\bar p_d` is the mean probability over all experts and all utterances of dialogue `d`, with a minimum of 1e-6. This mean estimates
the class frequencies in the dialogue, which are a prior in Bayes' rule.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.turns import OverTurns
from erc_graph.errors import ConfigError
from erc_graph.methods.schema import Schema


@dataclass(frozen=True, kw_only=True)
class PriorConfig:
    """Options of the prior: log-probabilities of other classifiers, added to the scores.

    Attributes:
        features: Feature sets of class log-probabilities; empty: no prior.
        around: Add the class frequencies in the conversation, as predicted by the classifiers in `features`, with a learned weight.
        stream: Also use these features as modalities that the method reads; off: they are only added to the scores.
    """

    features: list[str] = field(default_factory=list)
    around: bool = False
    stream: bool = False

    def __post_init__(self) -> None:
        if len(set(self.features)) < len(self.features):
            raise ConfigError(f"prior.features: expected every feature set once, found {', '.join(self.features)}")
        for name in ("around", "stream"):
            if getattr(self, name) and not self.features:
                raise ConfigError(f"prior.{name}: expected prior.features as well, because this option is about them, found none")


class Prior(nn.Module):
    """Sum of the method's scores and weighted log-probabilities of other classifiers.

    Args:
        config: Options with at least one feature set, which has log-probabilities in label order (for a score task, the score).
        schema: The features of the corpus.

    Raises:
        ConfigError: a feature set is missing, or its width differs from that of the scores.
    """

    def __init__(self, config: PriorConfig, schema: Schema) -> None:
        super().__init__()
        self.names = tuple(config.features)
        for name in self.names:
            if schema.widths.get(name) != schema.outputs:
                found = (
                    f"a width of {schema.widths[name]}" if name in schema.widths else f"none of that name among {', '.join(schema.widths)}"
                )
                raise ConfigError(
                    f"prior.features: expected a feature set {name!r} of {schema.outputs} log-probabilities (as `erc-graph features "
                    f"--fine-tune --output log-probabilities` writes them), found {found}"
                )
        self.weight = nn.Parameter(torch.full((len(self.names),), 1 / len(self.names)))
        self.around = Around() if config.around else None

    def forward(self, scores: Tensor, batch: Batch) -> Tensor:
        """Add the weighted log-probabilities to the scores of utterances, `(N, C)`; scores without log-probabilities stay unchanged."""
        here = torch.stack([batch.present[name] for name in self.names], 1)
        said = torch.stack([batch.features[name] for name in self.names], 1)
        said = torch.where(here[..., None], said, 0.0).to(scores.dtype)  # (N, experts, C)
        for weight, one in zip(self.weight, said.unbind(1), strict=True):
            scores = scores + weight * one
        return scores if self.around is None else scores + self.around(Nodes(said, here, self.names), batch).states[:, 0]


class Around(OverTurns):
    """The class frequencies in the conversation, predicted by the other classifiers, with a learned weight that starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Map the experts' log-probabilities `(N, experts, C)` to weighted log class frequencies `(N, 1, C)`, or scores to their mean."""
        here, values = nodes.present.to(nodes.states.dtype), nodes.masked()
        values = values.exp() if values.shape[-1] > 1 else values
        votes = torch.cat([(values * here[..., None]).sum(1), here.sum(1, keepdim=True)], 1)
        sums = votes.new_zeros(len(batch), votes.shape[1]).index_add(0, batch.dialogue, votes)
        mean = sums[:, :-1] / sums[:, -1:].clamp(min=1)
        if values.shape[-1] > 1:  # zero where nothing is there
            mean = torch.where(sums[:, -1:] > 0, mean.clamp(min=1e-6).log(), 0.0)
        return Nodes.of_turns(self.weight * mean[batch.dialogue])
