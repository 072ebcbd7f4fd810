"""What every pipeline shares: what it reads, what it predicts, and how it is trained and asked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from erc_graph.conv.angular.angular import AngularConv
from erc_graph.data.batch import Batch
from erc_graph.data.corpus import Corpus, Dialogue
from erc_graph.data.tasks import Task
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.frontend import FrontEnds
from erc_graph.encoders.inputs import Inputs
from erc_graph.errors import CheckpointError, ConfigError
from erc_graph.methods.prior import Prior, prior_names
from erc_graph.methods.stage import Prediction, Stage

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData
    from typing_extensions import Self

    from erc_graph.inference.answer import Answer
    from erc_graph.inference.stream import Stream
else:  # PyG takes seconds to import, and jsonargparse would import it for `--help`
    HeteroData = Any

Kind = Literal["features", "sequences"]

VERSION = 1
"""Of what `Pipeline.describe` gives; files without a number are of version 0."""


@dataclass(frozen=True, kw_only=True)
class Schema:
    """What a pipeline reads and predicts.

    Attributes:
        widths: Modality → number of features, in the order of the model's streams.
        task: What is predicted.
        sequences: Modality that is read as a sequence → shape of one item, `()` for a waveform.
        provenance: Where the features came from: name and files of the corpus, modality → what made them; plain JSON values.

    Raises:
        ConfigError: a modality with a name that no submodule can have.
    """

    widths: Mapping[str, int]
    task: Task
    sequences: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Modalities name submodules and parameters; PyTorch's containers keep some words, such as `type`, for themselves.
        for name in (*self.widths, *self.sequences):
            if "." in name or "+" in name or hasattr(nn.ParameterDict(), name):
                raise ConfigError(f"modalities: a feature set cannot be called {name!r}; give it another name in corpus.toml")

    @classmethod
    def of(cls, corpus: Corpus, modalities: tuple[str, ...] | None = None, reads: tuple[Kind, ...] = ("features",)) -> Schema:
        """Schema of a corpus, or of some of its modalities.

        Args:
            corpus: The conversations.
            modalities: Which; by default all that the corpus has in a form that is read.
            reads: `features`: one vector per utterance, `sequences`: words, frames or samples; of two, the first that a modality has.

        Raises:
            ConfigError: a modality that the corpus does not have in such a form, or none at all.
        """
        forms: dict[Kind, Mapping[str, Any]] = {"features": corpus.features, "sequences": corpus.sequences}
        has = {name: kind for kind in reversed(reads) for name in forms[kind]}
        chosen = tuple(sorted(modalities or has))
        unknown = [name for name in chosen if name not in has]
        if unknown or not chosen:
            wanted = " or ".join(reads)
            nothing = f"none; give files under [{reads[0]}] of corpus.toml"
            if corpus.sequences and "sequences" not in reads:
                nothing = f"sequences ({', '.join(corpus.sequences)}), which a method reads with Schema.of(corpus, reads=METHOD.reads)"
            known = ", ".join(has) or nothing
            raise ConfigError(f"modalities: {corpus.name} has no {unknown[0] if unknown else wanted}; it has {known}")
        made = {name: what for name, what in corpus.provenance.get("extractors", {}).items() if name in chosen}
        source = {"corpus": corpus.name, "files": dict(corpus.provenance.get("files", {})), "extractors": made}
        return cls(
            widths={name: corpus.features[name].shape[1] for name in chosen if has[name] == "features"},
            task=corpus.task,
            sequences={name: corpus.sequences[name].item for name in chosen if has[name] == "sequences"},
            provenance=source,
        )

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of all that is read, as vectors or as sequences, sorted."""
        return tuple(sorted((*self.widths, *self.sequences)))

    def batch(self, corpus: Corpus) -> Batch:
        """What is read of a corpus, as tensors."""
        return corpus.batch(self.widths, self.sequences)

    def known(self, modalities: Sequence[str], option: str) -> Sequence[str]:
        """The modalities as they are.

        Raises:
            ConfigError: one that the corpus does not have; names the option.
        """
        for name in modalities:
            if name not in self.modalities:
                raise ConfigError(f"{option}: expected modalities of the corpus ({', '.join(self.modalities)}), found {name!r}")
        return modalities

    def prior(self, joined: str | None, around: bool = False) -> Prior | None:
        """What adds the feature set, or several joined by `+`, to the scores; `None` where none is wanted.

        Raises:
            ConfigError: no such feature set, one that is not as wide as the scores, or one twice.
        """
        names = prior_names(joined)
        if len(set(names)) < len(names):
            raise ConfigError(f"pipeline.prior: expected every feature set once, found {joined!r}")
        for name in names:
            if self.widths.get(name) != self.outputs:
                found = f"a width of {self.widths[name]}" if name in self.widths else f"none of that name among {', '.join(self.widths)}"
                raise ConfigError(
                    f"pipeline.prior: expected a feature set {name!r} of {self.outputs} log-probabilities (as `erc-graph features "
                    f"--fine-tune --output log-probabilities` writes them), found {found}"
                )
        if around and not names:
            raise ConfigError("pipeline.prior_around: expected pipeline.prior beside it, whose frequencies in a conversation are meant")
        return Prior(*names, around=around) if names else None

    @property
    def outputs(self) -> int:
        """Number of scores per utterance."""
        return len(self.task.labels) if self.task.kind == "classification" else 1


class Pipeline(nn.Module):
    """A whole method: recipe, encoders, message passing, readout, classifier and losses.

    A subclass takes `(schema, config)`, sets its parts, and says in `stages` what is trained in which order.

    Attributes:
        reads: In which form it takes a modality: `features`, `sequences`, or the first of two that the corpus has.
    """

    Config: ClassVar[type]
    reads: ClassVar[tuple[Kind, ...]] = ("features",)

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

    @property
    def causal(self) -> bool:
        """Whether nothing that it says of a turn depends on later turns."""
        return False

    @property
    def alone(self) -> bool:
        """Whether nothing that it says of a turn depends on other turns."""
        return False

    def stream(self) -> Stream:
        """A conversation that is judged turn by turn, as it happens; see `erc_graph.inference.stream`.

        Raises:
            ConfigError: the pipeline reads later turns too.
        """
        from erc_graph.inference.stream import Stream

        return Stream(self)

    def describe(self) -> dict[str, Any]:
        """What it takes to build this pipeline again, as plain values that are stored with the weights.

        Class, configuration, content of the graph recipe, inputs, task with its label names, and where the features came from. The
        normalisation of the features is among the weights, as buffers.
        """
        recipe = getattr(self, "recipe", None)
        return {
            "version": VERSION,
            "pipeline": type(self).__name__,
            "config": {} if self.config is None else asdict(self.config),
            "recipe": None if recipe is None else {**asdict(recipe), "examples": ()},
            "widths": dict(self.schema.widths),
            **({"sequences": {name: list(item) for name, item in self.schema.sequences.items()}} if self.schema.sequences else {}),
            "task": {**asdict(self.task), "mapping": dict(self.task.mapping), "drop": sorted(self.task.drop)},
            "provenance": dict(self.schema.provenance),
        }

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write `config.json` and `model.safetensors` to `folder`, all or nothing: everything that `from_pretrained` needs.

        Raises:
            StorageError: the folder holds other files, or the file system refuses.
        """
        from erc_graph.inference.saved import save_pipeline

        save_pipeline(self, folder)

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> Self:
        """The pipeline that was saved, in evaluation mode on the CPU; nothing in the files is run.

        Args:
            folder: What `save_pretrained` wrote, the folder of an experiment's run (its first seed) or of one seed, a weights file,
                or the name of a model on the Hugging Face hub (`someone/model`).

        Raises:
            CheckpointError: nothing there, damaged, of a newer version, or a pipeline of another class.
        """
        from erc_graph.inference.saved import load_pipeline

        pipeline = load_pipeline(folder)
        if not isinstance(pipeline, cls):
            raise CheckpointError(f"{folder}: expected a {cls.__name__}, found a {type(pipeline).__name__}; use Pipeline.from_pretrained")
        return pipeline

    def predict(self, dialogues: Corpus | Dialogue | Iterable[Dialogue]) -> list[Answer]:
        """What the pipeline says about every utterance, in the order given.

        Args:
            dialogues: A corpus, a conversation or several, with the features that the pipeline reads; a modality that is not there
                counts as missing.

        Raises:
            CorpusError: none of the pipeline's features, or features of another width.
            CheckpointError: the pipeline gives scores that are not numbers.

        >>> from erc_graph import PIPELINES, Schema, load_corpus
        >>> corpus = load_corpus("sample")
        >>> rows = PIPELINES["bigru"](Schema.of(corpus)).predict(corpus[0])
        >>> len(rows) == len(corpus[0]), round(sum(rows[0].probabilities.values()), 3)
        (True, 1.0)
        """
        from erc_graph.inference.answer import answers

        return answers(self, dialogues)

    def fit_inputs(self, train: Batch) -> None:
        """Fit the scaling of all inputs on training data."""
        for module in self.modules():
            if isinstance(module, Inputs | FrontEnds):
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

    def cut(self, batch: Batch) -> list[str]:
        """What is longer than the method reads, so that only its beginning counts: one sentence per kind, empty where nothing is."""
        return []

    def trust(self, batch: Batch) -> dict[str, Tensor]:
        """How much each modality counts in a turn: modality → `(N,)` shares that sum to one; empty where the method weighs none."""
        return {}

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
        self.layers = nn.Sequential(Dropout(dropout), nn.Linear(inputs, hidden), nn.ReLU(), Dropout(dropout), nn.Linear(hidden, outputs))

    def forward(self, states: Tensor) -> Tensor:
        """`(N, inputs)` → `(N, outputs)`."""
        return self.layers(states)


def in_parts(function: Callable[[Batch], Tensor], batch: Batch, dialogues: int = 64) -> Tensor:
    """`function` over a large batch, some dialogues at a time, so that memory stays small; rows as in the batch."""
    return torch.cat([function(part) for part in batch.split(torch.arange(len(batch)).split(dialogues))])
