"""`Conv`, the base class of graph operators: modules that send messages along the edges that a graph recipe defines."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.turns import OverTurns
from erc_graph.errors import ConfigError
from erc_graph.graphs.edges import Edges, Layout, Watch, edges_of
from erc_graph.graphs.recipe import GraphRecipe


class Conv(OverTurns):
    """Base class of message passing along the edges that a graph recipe defines.

    A subclass defines its parameters and implements `pass_on`. In `pass_on`, all operators send messages by the methods `edges.spread` and
    `edges.attend`, or by the hyperedges `edges.hyper`. The package can record these messages. Therefore, it can draw the edge weights
    of every operator and explain every message.

    Args:
        recipe: The rules for the edges of the graph and their relations.

    Attributes:
        label: Name of the operator in drawings and explanations; if empty, the name of this module in the network is used.
        layout: Data structure of the edges (`erc_graph.graphs.edges`); all layouts give the same result.
        watch: Object that records the messages while a prediction is explained or a graph is drawn (`erc_graph.graphs.watch`).
    """

    reads_hyperedges: ClassVar[bool] = False

    def __init__(self, recipe: GraphRecipe) -> None:
        super().__init__()
        if recipe.hyperedges and not self.reads_hyperedges:
            kind = type(self).__name__
            raise ConfigError(
                f"{kind}: graph recipe {recipe.name!r}: expected only edges, found a table [[hyperedge]]; use a recipe without hyperedges"
            )
        self.recipe, self.causal, self.past = recipe, recipe.causal, recipe.past
        self.label = ""
        self.layout: Layout = "auto"
        self.watch: Watch | None = None

    def back(self, times: int) -> int | None:
        """Return the number of preceding utterances that the output depends on, after `times` passes over the edges; `None` means all.

        Args:
            times: Number of passes: one per layer, and one more if the edge weights depend on the degree of the source node.
        """
        return None if self.recipe.past is None else times * self.recipe.past

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Apply the operator: `(N, S, inputs)` → `(N, S, width)` for `N` utterances with `S` nodes each; absent nodes get zeros."""
        edges = edges_of(self.recipe, nodes, batch, watch=self.watch, layout=self.layout)
        states = self.pass_on(nodes.states if edges.full else nodes.masked(), edges)
        return nodes.with_states(states if edges.full else states * nodes.present[..., None].to(states.dtype))

    @abstractmethod
    def pass_on(self, x: Tensor, edges: Edges) -> Tensor:
        """Compute the output states: `(N, S, inputs)` → `(N, S, width)` for `N` utterances with `S` nodes each.

        The input states `x` are zero for absent nodes. The output states of absent nodes may have any values.
        """
