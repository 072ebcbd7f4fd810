"""The base class of all methods: input, output, training stages, and the properties that follow from their parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.data.tasks import Task
from erc_graph.encoders.dropout import Dropout
from erc_graph.encoders.frontend import FrontEnds
from erc_graph.encoders.turns import OverTurns
from erc_graph.errors import ConfigError
from erc_graph.graphs.recipe import GraphRecipe, list_recipes, load_recipe
from erc_graph.methods.inputs import Given, Inputs, InputsConfig, Shapes
from erc_graph.methods.paper import Paper
from erc_graph.methods.prior import Prior, PriorConfig
from erc_graph.methods.schema import Kind, Schema
from erc_graph.methods.stage import Prediction, Stage

VERSION = 2
"""Version of the result of `Method.describe`; results without a number have version 0."""

Family = Literal["graph", "recurrent", "transformer", "fusion", "language model"]
NONE = "none"  # the recipe of a method without a graph


class Method(nn.Module):
    """Base class of a complete method: graph recipe, encoders, message passing, readout, classifier and losses.

    A subclass defines its `Config`, its `Paper`, and either

    - `parts`, if each part follows the previous one: the first reads the input (`erc_graph.methods.parts`), the others read nodes; or
    - `build` and `encode`, if the architecture branches.

    It also defines `head`, `answer` and `stages` if they differ from the defaults. Everything else follows from these: the options around
    the method (`[inputs]`, `[prior]`), and whether the method is causal.

    Args:
        schema: The features to read and the task.
        config: Options of the method itself.
        inputs: Preprocessing of the features.
        prior: Log-probabilities that are added to the scores.

    Attributes:
        graph: Graph recipe; `None`: no graph.
        paper: Publication of the method; `None`: not published.
        family: Kind of network that connects utterances or fuses modalities.
        stands_for: A published system that the method approximates because too little of it is known, and why; empty: none.
        reads: Form in which a modality is read: `features` or `sequences`; if both are named, the first one that the corpus has.
        reads_second_text: Whether the method uses `inputs.second_text`.
        can_be_causal: Whether the method has a form that reads no later utterances (`Config(causal=True)`).
        unused: Name of a parameter whose gradient is always zero, or a pattern with `*` → the reason.
        couples_batch: Reason why the dialogues of a training batch depend on each other, such as a batch norm or a contrastive loss. Empty:
            they are independent. In evaluation they must be independent.
        sequences_of: Modalities that are read as sequences; others are read as vectors; default: all.

    Raises:
        ConfigError: options do not fit the corpus or each other, or `causal` is set but a part reads later utterances.
    """

    Config: ClassVar[type]
    paper: ClassVar[Paper | None] = None
    family: ClassVar[Family] = "graph"
    stands_for: ClassVar[str] = ""
    reads: ClassVar[tuple[Kind, ...]] = ("features", "sequences")
    reads_second_text: ClassVar[bool] = False
    can_be_causal: ClassVar[bool] = True
    unused: ClassVar[Mapping[str, str]] = {}
    couples_batch: str = ""
    sequences_of: ClassVar[tuple[str, ...] | None] = None

    @final
    def __init__(self, schema: Schema, config: Any = None, *, inputs: InputsConfig | None = None, prior: PriorConfig | None = None) -> None:
        super().__init__()
        self.schema = self._read(schema, prior or PriorConfig())
        self.config = self.Config() if config is None else config
        self.inputs_config, self.prior_config = inputs or InputsConfig(), prior or PriorConfig()
        apart = () if self.prior_config.stream else self.prior_config.features
        self.prior = Prior(self.prior_config, schema) if self.prior_config.features else None
        items = tuple(self.schema.sequences) if self.sequences_of is None else self.sequences_of
        self.inputs = Inputs(
            self.schema,
            self.inputs_config,
            prior=apart,
            sequences=items if self.reads[0] == "sequences" else (),
            second_text=self.reads_second_text,
        )
        if self.inputs.shapes.widths and "features" not in self.reads:
            raise ConfigError(
                f"modalities: expected only sequences, because {type(self).__name__} reads no vectors, found vectors of "
                f"{', '.join(self.inputs.shapes.widths)}; leave these vectors out, also from prior.stream"
            )
        self._refuse_causal()
        self.graph = self._graph()
        self.build(self.config, self.inputs.shapes)
        self._refuse_parts_that_look_ahead()

    def _read(self, schema: Schema, prior: PriorConfig) -> Schema:
        """What the method reads of a schema, and what the prior does."""
        narrow = self.narrow(schema)
        added = {name: schema.widths[name] for name in prior.features if name in schema.widths and name not in narrow.widths}
        return replace(narrow, widths={**narrow.widths, **added}) if added else narrow

    # -- what a paper writes ---------------------------------------------------------------------------------------------------

    @classmethod
    def narrow(cls, schema: Schema) -> Schema:
        """Return the part of a schema that the method reads; a method may drop a modality that it cannot read, or raise an error."""
        return schema

    def parts(self, config: Any, shapes: Shapes) -> Iterator[nn.Module]:
        """Yield the parts in order; the first reads `Given`, the others read nodes. A part that changes the width has the attribute
        `width`."""
        raise ConfigError(f"{type(self).__name__}: expected parts(), or build() and encode(), found neither")

    def head(self, config: Any, width: int, outputs: int) -> nn.Module:
        """Return the classifier, which maps utterance states `(N, width)` to scores `(N, outputs)`."""
        return nn.Sequential(Dropout(getattr(config, "dropout", 0.0)), nn.Linear(width, outputs))

    def build(self, config: Any, shapes: Shapes) -> None:
        """Build the parts and the classifier."""
        parts = list(self.parts(config, shapes))
        for i, part in enumerate(parts):
            if not isinstance(part, nn.Module):
                raise ConfigError(f"{type(self).__name__}.parts: part {i}: expected an nn.Module, found {type(part).__name__}")
        self.chain = nn.ModuleList(parts)
        widths: list[int] = [part.width for part in self.chain if hasattr(part, "width")]  # type: ignore[misc]
        if not widths:
            raise ConfigError(f"{type(self).__name__}.parts: expected a part with an attribute `width`, found none")
        streams = int(getattr(self.chain[0], "count", 1))  # side by side in `encode`
        self.classify = self.head(config, streams * widths[-1], shapes.outputs)

    def encode(self, given: Given) -> Tensor:
        """Compute the utterance states before the classifier, `(N, width)`; several streams are concatenated."""
        first, *rest = self.chain
        nodes: Nodes = first(given)
        for part in rest:
            nodes = part(nodes, given.batch)
        return nodes.masked().flatten(1)

    def answer(self, given: Given) -> Prediction:
        """Compute the scores of every utterance and the losses."""
        states = self.encode(given)
        return Prediction(scores=self.classify(states), states=states)

    def stages(self) -> list[Stage]:
        """Return the training stages, in order; one stage by default."""
        return [self.stage("train", self)]

    def keep(self, index: int, batch: Batch) -> Batch:
        """Return the batch of a split before stage `index`; outputs of frozen layers may be stored in its cache."""
        return batch

    def cut(self, batch: Batch) -> list[str]:
        """Return one sentence per kind of input that is too long and is cut off; empty if nothing is cut off."""
        return []

    def trust(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weight of each modality in an utterance: modality → `(N,)`; they sum to one. Empty: the method has none."""
        return {}

    # -- what follows ----------------------------------------------------------------------------------------------------------

    @property
    def task(self) -> Task:
        """Return the task: labels or a score."""
        return self.schema.task

    @property
    def recipe(self) -> GraphRecipe:
        """Return the graph recipe of a method that needs one; the attribute `graph` may be `None`.

        Raises:
            ConfigError: the option `graph` is `none`.
        """
        if self.graph is None:
            known = ", ".join(list_recipes())
            raise ConfigError(f"pipeline.graph: expected a recipe ({known}), which {type(self).__name__} needs, found 'none'")
        return self.graph

    @property
    def device(self) -> torch.device:
        """Return the device of the parameters."""
        return next(self.parameters()).device

    @final
    @property
    def causal(self) -> bool:
        """Return whether no prediction depends on later utterances, because all parts are causal."""
        return all(part.causal for _, part in self.over_turns())

    @final
    @property
    def utterance_level(self) -> bool:
        """Return whether no prediction depends on other utterances, because no part reads them."""
        return not any(True for _ in self.over_turns())

    def over_turns(self) -> Iterator[tuple[str, OverTurns]]:
        """Yield the parts that read other utterances, with their names."""
        return ((name, part) for name, part in self.named_modules() if isinstance(part, OverTurns))

    @final
    def given(self, batch: Batch) -> Given:
        """Return the preprocessed input of the method for a batch; in training, noise is added."""
        return self.inputs(self.inputs.noisy(self.inputs.vectors(batch)))

    def forward(self, batch: Batch, answer: Callable[[Given], Prediction] | None = None) -> Prediction:
        """Compute the scores of every utterance: `(N, C)`.

        Args:
            batch: The dialogues.
            answer: Function that replaces the method's own `answer`, for example that of an earlier stage; the prior is then not added.
        """
        given = self.given(batch)
        if answer is not None:
            return answer(given)
        prediction = self.answer(given)
        if self.prior is not None:
            prediction.scores = self.prior(prediction.scores, given.batch)
        return prediction

    @final
    def stage(self, name: str, *modules: nn.Module, answer: Callable[[Given], Prediction] | None = None) -> Stage:
        """Return a stage that trains some modules; the trained layers of a text encoder have their own learning rate.

        Args:
            name: Name in logs and histories.
            *modules: Modules to train.
            answer: Function that computes the prediction; default: the method's own `answer`, which also trains the prior.
        """
        layers = self.inputs.text_layers
        own = [*modules, *([self.prior] if self.prior is not None and answer is None and self not in modules else [])]
        return Stage(
            name=name,
            module=own[0] if len(own) == 1 else nn.ModuleList(own),
            forward=self.forward if answer is None else lambda batch: self.forward(batch, answer),
            rates=() if layers is None else ((layers, self.inputs_config.text_layers.rate),),
        )

    @final
    def fit_inputs(self, train: Batch) -> None:
        """Fit the scaling of all inputs to training data."""
        self.inputs.fit(train)
        for module in self.modules():
            if isinstance(module, FrontEnds):
                module.fit(train)

    @final
    def start_stage(self, index: int, batch: Batch) -> Batch:
        """Prepare the batch of a split before stage `index`: what does not depend on trained weights is computed once."""
        batch = self.inputs.prepared(batch)
        for module in self.modules():
            if isinstance(module, FrontEnds):
                batch = module.prepared(batch)
        return self.keep(index, batch)

    def describe(self) -> dict[str, Any]:
        """Return everything that is needed to rebuild the method, as plain JSON values.

        These are the class, the configuration, the graph recipe, the inputs, the prior, the task with its labels, and the origin of the
        features. The normalisation of the features is stored with the weights, as buffers.
        """
        schema, recipe = self.schema, self.graph
        return {
            "version": VERSION,
            "method": type(self).__name__,
            "config": asdict(self.config),
            "inputs": asdict(self.inputs_config),
            "prior": asdict(self.prior_config),
            "recipe": None if recipe is None else {**asdict(recipe), "examples": ()},
            "widths": dict(schema.widths),
            **({"sequences": {name: list(item) for name, item in schema.sequences.items()}} if schema.sequences else {}),
            "task": {**asdict(schema.task), "mapping": dict(schema.task.mapping), "drop": sorted(schema.task.drop)},
            "provenance": dict(schema.provenance),
        }

    def _graph(self) -> GraphRecipe | None:
        """The graph that the configuration names; with `causal` without its edges from later utterances."""
        graph = getattr(self.config, "graph", NONE)
        if graph == NONE:
            return None
        recipe = load_recipe(graph)
        return recipe.past_only() if getattr(self.config, "causal", False) else recipe

    def _refuse_causal(self) -> None:
        if getattr(self.config, "causal", False) and not self.can_be_causal:
            raise ConfigError(f"pipeline.causal: expected false, because {type(self).__name__} always reads later utterances, found true")

    def _refuse_parts_that_look_ahead(self) -> None:
        if not getattr(self.config, "causal", False):
            return
        ahead = [name for name, part in self.over_turns() if not part.causal]
        if ahead:
            raise ConfigError(
                f"pipeline.causal: expected parts that read no later utterances, found {', '.join(ahead)}; change their options, or set "
                "pipeline.causal to false"
            )


def in_parts(function: Callable[[Batch], Tensor], batch: Batch, dialogues: int = 64) -> Tensor:
    """Apply `function` to a large batch, some dialogues at a time to save memory; the row order is unchanged."""
    return torch.cat([function(part) for part in batch.split(torch.arange(len(batch)).split(dialogues))])
