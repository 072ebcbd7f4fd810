"""What every method shares: what it is given, what it answers, what follows from its parts, and how it is trained."""

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
"""Of what `Method.describe` gives; files without a number are of version 0."""

Family = Literal["graph", "recurrent", "transformer", "fusion", "language model"]
NONE = "none"  # the recipe of a method without a graph


class Method(nn.Module):
    """A whole method: recipe, encoders, message passing, readout, classifier and losses.

    A paper writes its `Config`, its `Paper`, and

    - `parts`, where one part follows the other: the first takes what is given (`erc_graph.methods.parts`), the others nodes; or
    - `build` and `encode`, where it branches;

    and `head`, `answer`, `stages`, where it differs from the usual. All else follows: what is around it (`[inputs]`, `[prior]`), and
    whether it is causal.

    Args:
        schema: What there is to read, and what is predicted.
        config: The method's own options.
        inputs: What is done with the features before.
        prior: What is added to the scores after.

    Attributes:
        graph: Recipe of its graph; `None`: it has none.
        paper: Where it was published; `None`: nowhere.
        family: What spreads context or joins modalities in it.
        stands_for: The published system in whose place it stands where too little of that is known, and why; empty: none.
        reads: In which form it takes a modality: `features`, `sequences`, or the first of two that the corpus has.
        reads_second_text: Whether `inputs.second_text` means something to it.
        can_be_causal: Whether there is a form of it that reads no later utterances (`Config(causal=True)`).
        unused: Parameter, or a pattern with `*`, whose gradient is always zero → the reason.
        couples_batch: What in training makes the dialogues of a batch depend on each other, such as a batch norm or a loss that compares
            utterances; empty: nothing. In evaluation nothing may.
        sequences_of: Modalities that are read as sequences, the others as vectors; default: all.

    Raises:
        ConfigError: options that do not fit the corpus or each other; `causal` with a part that reads later utterances.
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
                f"modalities: expected sequences, for {type(self).__name__} reads no vectors, found vectors of "
                f"{', '.join(self.inputs.shapes.widths)}; leave them out (prior.stream among them)"
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
        """Return what the method reads of a schema; a method that cannot read all of it leaves something out, or refuses."""
        return schema

    def parts(self, config: Any, shapes: Shapes) -> Iterator[nn.Module]:
        """Return the parts, in order; the first takes what is given. A part that changes the width has an attribute `width`."""
        raise ConfigError(f"{type(self).__name__}: expected parts(), or build() and encode(), found neither")

    def head(self, config: Any, width: int, outputs: int) -> nn.Module:
        """From the states of an utterance `(N, width)` to its scores `(N, outputs)`."""
        return nn.Sequential(Dropout(getattr(config, "dropout", 0.0)), nn.Linear(width, outputs))

    def build(self, config: Any, shapes: Shapes) -> None:
        """Make the parts, and `classify`."""
        parts = list(self.parts(config, shapes))
        for i, part in enumerate(parts):
            if not isinstance(part, nn.Module):
                raise ConfigError(f"{type(self).__name__}.parts: part {i}: expected an nn.Module, found {type(part).__name__}")
        self.chain = nn.ModuleList(parts)
        widths: list[int] = [part.width for part in self.chain if hasattr(part, "width")]  # type: ignore[misc]
        if not widths:
            raise ConfigError(f"{type(self).__name__}.parts: expected a part that says its `width`, found none")
        streams = int(getattr(self.chain[0], "count", 1))  # side by side in `encode`
        self.classify = self.head(config, streams * widths[-1], shapes.outputs)

    def encode(self, given: Given) -> Tensor:
        """States of every utterance before the classifier: `(N, width)`; several streams side by side."""
        first, *rest = self.chain
        nodes: Nodes = first(given)
        for part in rest:
            nodes = part(nodes, given.batch)
        return nodes.masked().flatten(1)

    def answer(self, given: Given) -> Prediction:
        """Scores and losses of every utterance."""
        states = self.encode(given)
        return Prediction(scores=self.classify(states), states=states)

    def stages(self) -> list[Stage]:
        """Return what is trained, in order; one stage unless a method says otherwise."""
        return [self.stage("train", self)]

    def keep(self, index: int, batch: Batch) -> Batch:
        """Before stage `index`, with each part of the data: what frozen layers say may go into the batch's cache."""
        return batch

    def cut(self, batch: Batch) -> list[str]:
        """Return what is longer than the method reads, so that only its beginning counts: one sentence per kind, empty where nothing is."""
        return []

    def trust(self, batch: Batch) -> dict[str, Tensor]:
        """Return how much each modality counts in an utterance: modality → `(N,)` shares that sum to one; empty where the method weighs
        none.
        """
        return {}

    # -- what follows ----------------------------------------------------------------------------------------------------------

    @property
    def task(self) -> Task:
        """Return what is predicted."""
        return self.schema.task

    @property
    def recipe(self) -> GraphRecipe:
        """Return the graph, for methods that need one; `graph` is `None` where there is none.

        Raises:
            ConfigError: the graph is `none`.
        """
        if self.graph is None:
            known = ", ".join(list_recipes())
            raise ConfigError(f"pipeline.graph: expected a recipe ({known}), which {type(self).__name__} needs, found 'none'")
        return self.graph

    @property
    def device(self) -> torch.device:
        """Return where the parameters are."""
        return next(self.parameters()).device

    @final
    @property
    def causal(self) -> bool:
        """Return whether nothing that it says of an utterance depends on later utterances: all parts are causal."""
        return all(part.causal for _, part in self.over_turns())

    @final
    @property
    def utterance_level(self) -> bool:
        """Return whether nothing that it says of an utterance depends on other utterances: no part looks at them."""
        return not any(True for _ in self.over_turns())

    def over_turns(self) -> Iterator[tuple[str, OverTurns]]:
        """Return the parts that look at other utterances, with their names."""
        return ((name, part) for name, part in self.named_modules() if isinstance(part, OverTurns))

    @final
    def given(self, batch: Batch) -> Given:
        """Return what the parts are given of a batch, in training with noise."""
        return self.inputs(self.inputs.noisy(self.inputs.vectors(batch)))

    def forward(self, batch: Batch, answer: Callable[[Given], Prediction] | None = None) -> Prediction:
        """Scores of every utterance: `(N, C)`.

        Args:
            batch: The dialogues.
            answer: Another question than the method's own, for example that of an earlier stage; without the prior.
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
        """Return a stage that trains some modules, with the layers of a text encoder at their own rate.

        Args:
            name: For logs and histories.
            *modules: What is trained.
            answer: What is asked; default: the method's own answer, whose prior is trained too.
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
        """Fit the scaling of all inputs on training data."""
        self.inputs.fit(train)
        for module in self.modules():
            if isinstance(module, FrontEnds):
                module.fit(train)

    @final
    def start_stage(self, index: int, batch: Batch) -> Batch:
        """Called before stage `index` with each part of the data: what knows no weights is computed once."""
        batch = self.inputs.prepared(batch)
        for module in self.modules():
            if isinstance(module, FrontEnds):
                batch = module.prepared(batch)
        return self.keep(index, batch)

    def describe(self) -> dict[str, Any]:
        """Return what it takes to build this method again, as plain values that are stored with the weights.

        Class, configuration, content of the graph recipe, inputs, prior, task with its label names, and where the features came from. The
        normalisation of the features is among the weights, as buffers.
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
            raise ConfigError(f"pipeline.causal: expected false, for {type(self).__name__} always reads later turns, found true")

    def _refuse_parts_that_look_ahead(self) -> None:
        if not getattr(self.config, "causal", False):
            return
        ahead = [name for name, part in self.over_turns() if not part.causal]
        if ahead:
            raise ConfigError(
                f"pipeline.causal: expected parts that read no later turns, found {', '.join(ahead)}; change their options, or set "
                "pipeline.causal to false"
            )


def in_parts(function: Callable[[Batch], Tensor], batch: Batch, dialogues: int = 64) -> Tensor:
    """Apply `function` to a large batch, some dialogues at a time, so that memory stays small; rows as in the batch."""
    return torch.cat([function(part) for part in batch.split(torch.arange(len(batch)).split(dialogues))])
