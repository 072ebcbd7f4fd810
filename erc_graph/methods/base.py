"""`Method`, the base class of all methods. It defines a method's input, output, training stages, and whether it reads later utterances."""

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
"""Version of the dictionary that `Method.describe` returns; a dictionary without the key `version` has version 0."""

Family = Literal["graph", "recurrent", "transformer", "fusion", "language model"]
NONE = "none"  # the recipe of a method without a graph


class Method(nn.Module):
    """Base class of a complete method: graph recipe, encoders, message passing, readout, classifier and losses.

    A subclass defines its options (`Config`) and its publication (`paper`). The subclass defines its architecture in one of two ways:

    - `parts` yields modules, each of which reads the output of the previous module. The first module reads the input of the method
      (`Given`), all other modules read node states (`Nodes`). Modules that several methods use are in `erc_graph.methods.parts`.
    - `build` creates the modules of any other architecture, and `encode` applies them.

    A subclass may also override `head` (classifier), `answer` (scores and losses) and `stages` (training stages). The base class adds the
    option tables `[inputs]` and `[prior]`. It also tests whether the method is causal, which means that it reads no later utterances.

    Args:
        schema: Features that the method reads, and the task.
        config: Options of the method; default: `Config()`.
        inputs: Options of the preprocessing of features.
        prior: Options of the log-probabilities of other classifiers that are added to the scores.

    Attributes:
        graph: Graph recipe, which defines the edges between nodes; `None` if the method has no graph.
        paper: Publication of the method; `None` if it is not published.
        family: Kind of network that connects utterances or fuses modalities.
        stands_for: Sentence on the published system that the method replaces because too little of it is known; empty for other methods.
        reads: How the method reads a modality: `features` (one vector per utterance) or `sequences` (words, frames or samples). If both
            names are given, the method reads a modality in the first named form that the corpus has.
        reads_second_text: Whether the method reads a second text feature (option `inputs.second_text`).
        can_be_causal: False if the method always reads later utterances; the option `causal` must then be false.
        unused: A dict from the name of a parameter to the reason why its gradient is always zero. A name may be a pattern with `*`.
        couples_batch: Reason why the dialogues of a training batch depend on each other, such as a batch norm or a contrastive loss; empty
            if the dialogues are independent. In evaluation, the dialogues are always independent.
        sequences_of: Modalities that the method reads as sequences; it reads all others as vectors. `None`: it reads all as sequences.

    Raises:
        ConfigError: The options do not fit the corpus or each other, or the option `causal` is true but a module reads later utterances.
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
                f"{', '.join(self.inputs.shapes.widths)}; leave these modalities out, and set prior.stream to false"
            )
        self._refuse_causal()
        self.graph = self._graph()
        self.build(self.config, self.inputs.shapes)
        self._refuse_parts_that_look_ahead()

    def _read(self, schema: Schema, prior: PriorConfig) -> Schema:
        """Return the schema with only the features that the method or the prior reads."""
        narrow = self.narrow(schema)
        added = {name: schema.widths[name] for name in prior.features if name in schema.widths and name not in narrow.widths}
        return replace(narrow, widths={**narrow.widths, **added}) if added else narrow

    # -- what a paper writes ---------------------------------------------------------------------------------------------------

    @classmethod
    def narrow(cls, schema: Schema) -> Schema:
        """Return the schema with only those modalities that the method reads. By default, the schema is unchanged.

        A method may override this function to leave modalities out, or to raise an error for a modality that it cannot read.
        """
        return schema

    def parts(self, config: Any, shapes: Shapes) -> Iterator[nn.Module]:
        """Yield the modules of the method in the order in which they are applied.

        The first module maps the input (`Given`) to node states (`Nodes`); every other module maps `Nodes` and `Batch` to `Nodes`. A module
        that changes the width of the node states has an attribute `width`.
        """
        raise ConfigError(f"{type(self).__name__}: expected the methods parts(), or build() and encode(), in the class, found neither")

    def head(self, config: Any, width: int, outputs: int) -> nn.Module:
        """Return the classifier, which maps utterance states `(N, width)` to scores `(N, outputs)`."""
        return nn.Sequential(Dropout(getattr(config, "dropout", 0.0)), nn.Linear(width, outputs))

    def build(self, config: Any, shapes: Shapes) -> None:
        """Build all modules of the method, including the classifier."""
        parts = list(self.parts(config, shapes))
        for i, part in enumerate(parts):
            if not isinstance(part, nn.Module):
                raise ConfigError(f"{type(self).__name__}.parts: part {i}: expected an nn.Module, found {type(part).__name__}")
        self.chain = nn.ModuleList(parts)
        widths: list[int] = [part.width for part in self.chain if hasattr(part, "width")]  # type: ignore[misc]
        if not widths:
            raise ConfigError(f"{type(self).__name__}.parts: expected a module with an attribute `width` (of its output), found none")
        streams = int(getattr(self.chain[0], "count", 1))  # side by side in `encode`
        self.classify = self.head(config, streams * widths[-1], shapes.outputs)

    def encode(self, given: Given) -> Tensor:
        """Compute the utterance states before the classifier, `(N, width)`. The states of several nodes per utterance are concatenated."""
        first, *rest = self.chain
        nodes: Nodes = first(given)
        for part in rest:
            nodes = part(nodes, given.batch)
        return nodes.masked().flatten(1)

    def answer(self, given: Given) -> Prediction:
        """Compute the scores of every utterance, and the losses that the method adds to the loss of the scores."""
        states = self.encode(given)
        return Prediction(scores=self.classify(states), states=states)

    def stages(self) -> list[Stage]:
        """Return the training stages, in the order of training. By default, one stage trains all parameters."""
        return [self.stage("train", self)]

    def keep(self, index: int, batch: Batch) -> Batch:
        """Prepare `batch`, the dialogues of a data split, for training stage `index`. By default, the batch is unchanged.

        A method may store outputs of frozen layers in `batch.cache`.
        """
        return batch

    def cut(self, batch: Batch) -> list[str]:
        """Return warnings about inputs that are truncated because they are too long, one sentence per kind of input."""
        return []

    def trust(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weights of the modalities in every utterance: modality → `(N,)`.

        The weights of an utterance sum to one. The dictionary is empty if the method has no weights of modalities.
        """
        return {}

    # -- what follows ----------------------------------------------------------------------------------------------------------

    @property
    def task(self) -> Task:
        """Return the task, which defines the labels or the numeric score that the method predicts."""
        return self.schema.task

    @property
    def recipe(self) -> GraphRecipe:
        """Return the graph recipe. It is never `None`; for a method without a graph, this property raises an error.

        Raises:
            ConfigError: The option `graph` is `none`.
        """
        if self.graph is None:
            known = ", ".join(list_recipes())
            raise ConfigError(f"pipeline.graph: expected a recipe ({known}), which {type(self).__name__} needs, found 'none'")
        return self.graph

    @property
    def device(self) -> torch.device:
        """Return the device on which the parameters of the method are stored."""
        return next(self.parameters()).device

    @final
    @property
    def causal(self) -> bool:
        """Return whether all modules are causal, so that no prediction depends on later utterances."""
        return all(part.causal for _, part in self.over_turns())

    @final
    @property
    def utterance_level(self) -> bool:
        """Return whether every prediction depends on a single utterance, because no module reads other utterances."""
        return not any(True for _ in self.over_turns())

    def over_turns(self) -> Iterator[tuple[str, OverTurns]]:
        """Yield the name and the module of every module that reads other utterances."""
        return ((name, part) for name, part in self.named_modules() if isinstance(part, OverTurns))

    @final
    def given(self, batch: Batch) -> Given:
        """Return the preprocessed batch, which is the input of the method. Noise (option table `[inputs]`) is added only in training."""
        return self.inputs(self.inputs.noisy(self.inputs.vectors(batch)))

    def forward(self, batch: Batch, answer: Callable[[Given], Prediction] | None = None) -> Prediction:
        """Compute the scores of `N` utterances: `(N, C)` for `C` classes, or `(N, 1)` if the task has numeric scores.

        Args:
            batch: The dialogues.
            answer: Function that replaces the method's `answer`, for example in an early training stage. With such a function, no
                log-probabilities of other classifiers (option table `[prior]`) are added.
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
        """Return a training stage that trains given modules. Trained layers of a text encoder have their own learning rate.

        Args:
            name: Name of the stage in logs and training histories.
            *modules: Modules to train.
            answer: Function that computes the prediction. Default: the method's `answer`; then the weights in `Prior` are also trained.
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
        """Compute the means and standard deviations that scale the inputs, from the training split."""
        self.inputs.fit(train)
        for module in self.modules():
            if isinstance(module, FrontEnds):
                module.fit(train)

    @final
    def start_stage(self, index: int, batch: Batch) -> Batch:
        """Prepare `batch`, the dialogues of a split, for training stage `index`: compute the values that do not change between epochs."""
        batch = self.inputs.prepared(batch)
        for module in self.modules():
            if isinstance(module, FrontEnds):
                batch = module.prepared(batch)
        return self.keep(index, batch)

    def describe(self) -> dict[str, Any]:
        """Return a dictionary with everything that is needed to rebuild the method, as values that JSON can store.

        The dictionary has the class, the options of the method, the graph recipe, the option tables `[inputs]` and `[prior]`, the features,
        and the task. It also says how the features were computed. Their means and standard deviations are not in the dictionary, but among
        the model's weights.
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
        """Return the graph recipe that the configuration names; if the option `causal` is true, edges from later utterances are removed."""
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
                f"pipeline.causal: expected only modules that read no later utterances, found {', '.join(ahead)}; change their options, or "
                "set pipeline.causal to false"
            )


def in_parts(function: Callable[[Batch], Tensor], batch: Batch, dialogues: int = 64) -> Tensor:
    """Apply `function` to groups of at most `dialogues` dialogues of `batch`, and concatenate the results. The groups save memory."""
    return torch.cat([function(part) for part in batch.split(torch.arange(len(batch)).split(dialogues))])
