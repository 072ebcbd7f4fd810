r"""Ensembles: the mean prediction of several networks with the same method and options, but different initial weights.

.. math:: p(y \mid x) = \frac{1}{M} \sum_m p_m(y \mid x)

The sources are Hansen and Salamon, "Neural network ensembles", IEEE PAMI 12, 1990, and Lakshminarayanan et al., "Simple and scalable
predictive uncertainty estimation using deep ensembles", NeurIPS 2017.

`p_m(y | x)` is the probability of label `y` for input `x` according to network `m`, and `M` is the number of networks. For a task with
numeric scores, the scores are averaged instead. The averaged prediction selects the epoch, and is evaluated on the test split. The loss is
the sum of the losses of all networks. Each network is therefore trained independently of the other networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.tasks import Task
from erc_graph.graphs.recipe import GraphRecipe
from erc_graph.methods.base import Method
from erc_graph.methods.inputs import InputsConfig
from erc_graph.methods.prior import PriorConfig
from erc_graph.methods.schema import Schema
from erc_graph.methods.stage import Prediction, Stage

Ask = Callable[[Batch], Prediction]


def _of_all(name: str) -> Any:
    """Return a property with the value of the first network; the value is the same for all networks."""
    return property(lambda self: getattr(self.networks[0], name))


class Ensemble(nn.Module):
    """An ensemble of networks of one method, with the interface of a `Method` for prediction and training.

    Args:
        members: The networks. All networks must have the same class, schema and options.
    """

    schema: Schema = _of_all("schema")
    task: Task = _of_all("task")
    config: Any = _of_all("config")
    inputs_config: InputsConfig = _of_all("inputs_config")
    prior_config: PriorConfig = _of_all("prior_config")
    graph: GraphRecipe | None = _of_all("graph")
    device: torch.device = _of_all("device")
    causal: bool = _of_all("causal")
    utterance_level: bool = _of_all("utterance_level")

    def __init__(self, members: Sequence[Method]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    @property
    def networks(self) -> list[Method]:
        """Return the networks."""
        return cast("list[Method]", list(self.members))

    def describe(self) -> dict[str, Any]:
        """Return what is needed to rebuild the ensemble: `Method.describe` of the first network, and the number of networks."""
        return {**self.networks[0].describe(), "members": len(self.members)}

    def fit_inputs(self, train: Batch) -> None:
        """Compute the means and standard deviations with which every network scales its inputs, from the training split."""
        for member in self.networks:
            member.fit_inputs(train)

    def stages(self) -> list[Stage]:
        """Return the training stages. Each stage trains all networks of the ensemble at the same time."""
        return [_together(stages) for stages in zip(*(member.stages() for member in self.networks), strict=True)]

    def start_stage(self, index: int, batch: Batch) -> Batch:
        """Prepare `batch`, the dialogues of a data split, for training stage `index` of every network.

        Outputs of frozen layers (`batch.cache`) and sequences that a network adds to the batch are stored separately for each network.
        Other changes of the batch do not depend on weights and are stored only once.
        """
        started = [member.start_stage(index, batch) for member in self.networks]
        if all(part is batch for part in started):
            return batch
        cache = {f"{i}.{name}": value for i, part in enumerate(started) for name, value in part.cache.items()}
        sequences = {
            name if name in batch.sequences else f"{i}.{name}": value
            for i, part in reversed(list(enumerate(started)))
            for name, value in part.sequences.items()
        }
        return replace(started[0], cache=cache, sequences=sequences)

    def cut(self, batch: Batch) -> list[str]:
        """Return warnings about inputs that are truncated because they are too long. All networks give the same warnings."""
        return self.networks[0].cut(batch)

    def trust(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weights of the modalities in every utterance, averaged over the networks: modality → `(N,)`."""
        shares = [member.trust(batch) for member in self.networks]
        return {name: torch.stack([share[name] for share in shares]).mean(0) for name in shares[0]}

    def forward(self, batch: Batch) -> Prediction:
        """Compute the log of mean probabilities `(N, C)` of every utterance, or, if the task has numeric scores, mean scores `(N, 1)`."""
        return _vote(self.networks, batch)


def _together(stages: Sequence[Stage]) -> Stage:
    """Combine one training stage of each network into a stage that trains all networks together."""
    modules = tuple(stage.module for stage in stages)
    asked = [stage.forward for stage in stages]
    rates = tuple(rate for stage in stages for rate in stage.rates)
    return replace(stages[0], module=nn.ModuleList(modules), forward=lambda batch: _vote(asked, batch), rates=rates, parts=modules)


def _vote(members: Sequence[Ask], batch: Batch) -> Prediction:
    """Compute the predictions of all networks for a batch, and average them."""
    answers = [ask(_own(batch, index)) for index, ask in enumerate(members)]
    scores = torch.stack([answer.scores for answer in answers])  # (members, N, C)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    voted = scores.log_softmax(-1).logsumexp(0) - math.log(len(members)) if scores.shape[-1] > 1 else scores.mean(0)
    states = [answer.states for answer in answers if answer.states is not None]
    return Prediction(scores=voted, states=torch.cat(states, -1) if states else None, members=tuple(answers))


def _own(batch: Batch, index: int) -> Batch:
    """Return the batch for network `index`: its own entries `index.NAME` are renamed to `NAME`; those of other networks are removed."""
    mark = f"{index}."

    def own(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name.removeprefix(mark): value for name, value in values.items() if name.startswith(mark)}

    given = {name: value for name, value in batch.sequences.items() if "." not in name}
    return replace(batch, cache=own(batch.cache), sequences={**given, **own(batch.sequences)})
