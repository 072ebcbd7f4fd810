"""The graphs that a method builds for a conversation, with the edge weights of its message passing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Module

from erc_graph.conv.base import Conv
from erc_graph.data.batch import Batch
from erc_graph.data.corpus import Corpus, Dialogue
from erc_graph.data.nodes import Nodes
from erc_graph.errors import CorpusError
from erc_graph.graphs.build import build_from_states
from erc_graph.graphs.edges import Sent, Watch
from erc_graph.graphs.recipe import GraphRecipe
from erc_graph.graphs.rule_edges import EdgeType
from erc_graph.graphs.rules import HYPEREDGE
from erc_graph.inference.saved import Network

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData


def read(method: Network, dialogue: Dialogue) -> Batch:
    """Return a batch of tensors with those features of a conversation that the method uses.

    Raises:
        CorpusError: `dialogue` lacks features that the method uses.
    """
    schema, corpus = method.schema, dialogue.corpus
    absent = [name for name in schema.widths if name not in corpus.features]
    if absent := absent + [name for name in schema.sequences if name not in corpus.sequences]:
        raise CorpusError(
            f"{corpus.name}: expected all features that the model uses, found no {', '.join(absent)}; first call "
            "erc_graph.prepare(corpus, model), and use the corpus that it returns"
        )
    return schema.batch(corpus).to(method.device)


def operators(method: Network) -> dict[str, Conv]:
    """Return a dict from name to graph operator, with all graph operators of a method.

    The name is the attribute `label` of the operator. An operator without `label` has the name of its module path. If the method is a chain
    of modules, it has the name of its class. For an ensemble, the number of the network is appended to the name.
    """
    networks = getattr(method, "networks", None)
    found: dict[str, Conv] = {}
    for i, network in enumerate(networks or [method], 1):
        for path, part in network.named_modules():
            if isinstance(part, Conv):
                name = part.label or _name(path, part, network)
                found[f"{name} ({i})" if networks else name] = part
    return found


def _name(path: str, part: Conv, network: Module) -> str:
    """Return the module path of an operator, or its class name if the method is a chain of modules; operators of a class are numbered."""
    if not path.startswith("chain."):
        return path
    alike = [place for place, other in network.named_modules() if type(other) is type(part) and place.startswith("chain.")]
    number = f" {alike.index(path) + 1}" if len(alike) > 1 else ""
    return f"{type(part).__name__}{number}"


@dataclass(eq=False)
class Seen:
    """The recorded inputs and messages of a graph operator for a batch.

    Attributes:
        recipe: Graph recipe of the operator.
        nodes: Input nodes of the last call of the operator.
        sent: Messages of all calls of the operator.
    """

    recipe: GraphRecipe
    nodes: Nodes | None = None
    sent: list[Sent] = field(default_factory=list)

    @property
    def types(self) -> dict[EdgeType, int]:
        """Return a dict from edge type to number of edges. Edges between nodes come first, then edges to and from hyperedges."""
        every = {kind: count for one in self.sent for kind, count in zip(one.types, one.counts, strict=True)}
        return dict(sorted(every.items(), key=lambda item: (HYPEREDGE in item[0], item[0][0] == HYPEREDGE)))

    def weights(self) -> dict[EdgeType, Tensor]:
        """Return a dict from edge type to edge weights `(E,)`, averaged over all calls of the graph operator (one call per layer)."""
        found: dict[EdgeType, list[Tensor]] = {}
        for one in self.sent:
            for kind, part in zip(one.types, one.weights[0].split(one.counts), strict=True):
                found.setdefault(kind, []).append(part)
        return {kind: torch.stack(parts).mean(0) for kind, parts in found.items()}


@contextmanager
def watched(part: Conv, watch: Watch) -> Iterator[None]:
    """Return a context manager; within its `with` block, the observer `watch` gets all messages of a graph operator."""
    usual, part.watch = part.watch, watch
    try:
        yield
    finally:
        part.watch = usual


@torch.no_grad()
def look(method: Network, batch: Batch) -> tuple[dict[str, Seen], Tensor]:
    """Run a forward pass in the current mode (training or evaluation), and record inputs and messages of the method's graph operators.

    Returns:
        A dict from the name of each called operator to its record (`Seen`), and the scores `(N, C)`.
    """
    seen: dict[str, Seen] = {}
    ends: list[Callable[[], None]] = []
    for name, part in operators(method).items():
        one = Seen(part.recipe)

        def before(_: Conv, given: tuple[Any, ...], name: str = name, one: Seen = one) -> None:
            one.nodes = given[0]
            seen[name] = one

        ends.append(part.register_forward_pre_hook(before).remove)
        part.watch = Watch(record=one.sent)
    try:
        scores = method(batch).scores.float()
    finally:
        for end in ends:
            end()
        for part in operators(method).values():
            part.watch = None
    return seen, scores


def graph_of(seen: Seen, batch: Batch, corpus: Corpus | None = None) -> HeteroData:
    """Return the graph of a graph operator, with node states, edges and edge weights.

    Args:
        seen: The record of the graph operator, which the function `look` returned.
        batch: The dialogues for which `look` made the record.
        corpus: Corpus with the same utterances as the batch. The texts and names of a given corpus are added to the graph.
    """
    nodes = seen.nodes
    assert nodes is not None
    states = dict(zip(nodes.streams, nodes.states.unbind(1), strict=True))
    present = dict(zip(nodes.streams, nodes.present.unbind(1), strict=True))
    graph = build_from_states(batch, states, present, seen.recipe, corpus)
    for kind, weights in seen.weights().items():
        if kind in graph.edge_types:
            graph[kind].edge_weight = weights
            graph[kind].pop("unweighted", None)
    return graph
