"""What every pipeline shares: what it reads, what it predicts, and how it is trained and asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from erc_graph.conv.angular import AngularConv
from erc_graph.data.batch import Batch
from erc_graph.data.corpus import Corpus, Dialogue
from erc_graph.data.tasks import Task
from erc_graph.encoders.inputs import Inputs
from erc_graph.errors import ConfigError
from erc_graph.pipelines.stage import Prediction, Stage

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData
else:  # PyG takes seconds to import, and jsonargparse would import it for `--help`
    HeteroData = Any


@dataclass(frozen=True, kw_only=True)
class Schema:
    """What a pipeline reads and predicts.

    Attributes:
        widths: Modality → number of features, in the order of the model's streams.
        task: What is predicted.

    Raises:
        ConfigError: a modality with a name that no submodule can have.
    """

    widths: Mapping[str, int]
    task: Task

    def __post_init__(self) -> None:
        # Modalities name submodules and parameters; PyTorch's containers keep some words, such as `type`, for themselves.
        for name in self.widths:
            if "." in name or "+" in name or hasattr(nn.ParameterDict(), name):
                raise ConfigError(f"modalities: a feature set cannot be called {name!r}; give it another name in corpus.toml")

    @classmethod
    def of(cls, corpus: Corpus, modalities: tuple[str, ...] | None = None) -> Schema:
        """Schema of a corpus, or of some of its modalities."""
        chosen = tuple(sorted(modalities or corpus.modalities))
        unknown = [name for name in chosen if name not in corpus.features]
        if unknown or not chosen:
            known = ", ".join(corpus.modalities) or "none; give feature files under [features] of corpus.toml"
            raise ConfigError(f"modalities: {corpus.name} has no {unknown[0] if unknown else 'features'}; it has {known}")
        return cls(widths={name: corpus.features[name].shape[1] for name in chosen}, task=corpus.task)

    @property
    def outputs(self) -> int:
        """Number of scores per utterance."""
        return len(self.task.labels) if self.task.kind == "classification" else 1


class Pipeline(nn.Module):
    """A whole method: recipe, encoders, message passing, readout, classifier and losses.

    A subclass takes `(schema, config)`, sets its parts, and says in `stages` what is trained in which order.
    """

    Config: ClassVar[type]

    def __init__(self, schema: Schema, config: Any = None) -> None:
        super().__init__()
        self.schema = schema
        self.config = config

    @property
    def task(self) -> Task:
        """What is predicted."""
        return self.schema.task

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def describe(self) -> dict[str, Any]:
        """What it takes to build this pipeline again: class, configuration, inputs, task; plain values, stored with the weights."""
        task = {**asdict(self.task), "mapping": dict(self.task.mapping), "drop": sorted(self.task.drop)}
        config = {} if self.config is None else asdict(self.config)
        return {"pipeline": type(self).__name__, "config": config, "widths": dict(self.schema.widths), "task": task}

    def fit_inputs(self, train: Batch) -> None:
        """Fit the scaling of all inputs on training data."""
        for module in self.modules():
            if isinstance(module, Inputs):
                module.fit(train)

    def forward(self, batch: Batch) -> Prediction:
        """Scores of every utterance: `(N, C)`."""
        raise NotImplementedError

    def stages(self) -> list[Stage]:
        """What is trained, in order; one stage unless a method says otherwise."""
        return [Stage(name="train", module=self, forward=self.forward)]

    @staticmethod
    def roles(config: Any) -> tuple[str, ...]:
        """Feature sets that the method reads but that are no modality of its graph."""
        return ()

    def graph(self, dialogue: Dialogue) -> HeteroData | None:
        """The graph of a conversation with the weights that this pipeline gives it; `None` for a method without a graph."""
        return None

    def convolutions(self) -> dict[str, tuple[AngularConv, tuple[str, ...]]]:
        """Part of the graph → its convolution and the names of its streams: where `erc_graph.explain` can look at single edges."""
        return {}

    def start_stage(self, index: int, batch: Batch) -> Batch:
        """Called before stage `index` with each part of the data; may put outputs of frozen layers into the batch's cache."""
        return batch


class Classifier(nn.Module):
    """Fully connected layers with ReLU and dropout in front of the scores."""

    def __init__(self, inputs: int, outputs: int, *, hidden: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, outputs)
        )

    def forward(self, states: Tensor) -> Tensor:
        """`(N, inputs)` → `(N, outputs)`."""
        return self.layers(states)


def in_parts(function: Callable[[Batch], Tensor], batch: Batch, dialogues: int = 64) -> Tensor:
    """`function` over a large batch, some dialogues at a time, so that memory stays small; rows as in the batch."""
    positions = torch.arange(len(batch), device=batch.device)
    return torch.cat([function(batch.select(part)) for part in positions.split(dialogues)])
