r"""Graph convolution along time: in each layer, an utterance attends to the *new* states of preceding utterances.

.. math::
    a_{ij} &= \mathrm{softmax}_{j \in N(i)}\; w^\top h^l_j \tag{2} \\
    M_i &= \sum_{j \in N(i)} a_{ij} W_{r_{ij}} h^l_j \tag{3} \\
    h^l_i &= \mathrm{GRU}_C(h^{l-1}_i, M_i) + \mathrm{GRU}_P(M_i, h^{l-1}_i) \qquad \text{(input, hidden state)} \tag{4}

The operator is DAG-ERC (Shen et al., "Directed Acyclic Graph Network for Conversational Emotion Recognition", ACL-IJCNLP 2021), as in the
public code of the paper. The equation numbers differ from the paper. :math:`h^l_i` is the state of utterance `i` in layer `l`. `N(i)` are
the sources of the edges into utterance `i`, and :math:`r_{ij}` is the relation of an edge. An utterance without incoming edges has `M = 0`.
An instance of `Directed` is one layer.

| symbol | attribute | shape |
|---|---|---|
| `w` | `key` | `(width,)` |
| `W_r` | `matrices` | `(relations, width, width)`, multiplied from the left: `h W_r` |
| `GRU_C`, `GRU_P` | `nodal`, `contextual` | two `torch.nn.GRUCell` |

**Differences from the paper.** The paper computes the score :math:`w^\top [h^{l-1}_i ; h^l_j]`. The term of :math:`h^{l-1}_i` is the same
for all sources of an utterance, so it cancels in the softmax. The bias of the public code also cancels in the softmax. Both terms have no
effect, and are left out.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from erc_graph.conv.base import Conv
from erc_graph.conv.directed_turns import Order, Recurrence, order_of
from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.encoders.turns import dialogue_of
from erc_graph.errors import ConfigError
from erc_graph.graphs.edge_list import EdgeList
from erc_graph.graphs.edges import Edges, edges_of
from erc_graph.graphs.recipe import GraphRecipe


class Directed(Conv):
    """A layer of DAG-ERC over the graph of a recipe whose edges all come from earlier utterances.

    Args:
        inputs: Width of the input states.
        width: Width of the output states; must equal `inputs`.
        recipe: Graph recipe, the rules for the edges.

    Raises:
        ConfigError: `width` differs from `inputs`, or the recipe has edges from the same or a later utterance.
    """

    def __init__(self, inputs: int, width: int, recipe: GraphRecipe) -> None:
        super().__init__(recipe)
        if inputs != width:
            raise ConfigError(
                f"Directed: width: expected {inputs}, the width of the input states, found {width}; "
                "put a linear layer before this operator to change the width of the input states"
            )
        ahead = [rule.relation for rule in recipe.edges if rule.scope == "within" and (rule.future != 0 or rule.self_loops)]
        if ahead:
            where = ", ".join(ahead)
            raise ConfigError(
                f"Directed: graph recipe {recipe.name!r}: expected edges from earlier utterances only, found edges from the same or later "
                f"utterances in {where}; set future = 0 and self_loops = false there"
            )
        self.width, self.layout, self.past = width, "list", None  # a recurrence reads all earlier turns
        self.key = nn.Parameter(torch.empty(width))
        self.matrices = nn.Parameter(torch.empty(len(recipe.relations), width, width))
        self.nodal, self.contextual = nn.GRUCell(width, width), nn.GRUCell(width, width)
        for weight in (self.key, self.matrices):
            nn.init.uniform_(weight, -(width**-0.5), width**-0.5)

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        """Apply the layer to all dialogues: states `(N, 1, width)` → `(N, 1, width)` of `N` utterances, zero for absent nodes.

        Raises:
            ConfigError: the nodes have more than one stream.
        """
        self._check_streams(nodes)
        return super().forward(nodes, batch)

    def pass_on(self, x: Tensor, edges: Edges) -> Tensor:
        """Compute the new states of all `N` utterances: `(N, 1, width)` → `(N, 1, width)`."""
        listed = edges if isinstance(edges, EdgeList) else self._listed(Nodes(x, edges.present, edges.streams), edges.batch)
        order = self._order(listed)
        share = 1 / order.number if listed.edges.factor is None else listed.edges.factor / order.number
        watched = listed.watched
        if watched is not None and watched.multiplier is not None:
            share = share * watched.multiplier
        with torch.autocast(x.device.type, enabled=False):
            below, gain = x[:, 0].to(self.key.dtype), share.to(self.key.dtype)
            gain = gain.new_zeros(len(order.score) * order.relations).index_add(0, order.slot, gain)
            states, attention = Recurrence.apply(below, *self._gates(), self.matrices.flatten(0, 1), self.key, gain, order)
        if watched is not None:
            weight = attention[order.pair] / order.number
            watched.seen(weight if listed.edges.factor is None else weight * listed.edges.factor)
        return states[:, None]

    def step(self, nodes: Nodes, batch: Batch, memory: Any) -> tuple[Nodes, Any]:
        """Process the next utterance of a dialogue that is still going on.

        `memory` is `None` for the first utterance, and otherwise the memory that the last call returned. The memory contains the states and
        speakers of all preceding utterances that can be sources of edges. It also contains whether the nodes of these utterances are
        present.

        Raises:
            ConfigError: the nodes have more than one stream.
        """
        self._check_streams(nodes)
        x = nodes.masked()[:, 0]
        states, present, speaker = (x[:0], nodes.present[:0], batch.speaker[:0]) if memory is None else memory
        if self.recipe.past is not None:
            states, present, speaker = (value[len(value) - min(len(value), self.recipe.past) :] for value in (states, present, speaker))
        present, speaker = torch.cat([present, nodes.present]), torch.cat([speaker, batch.speaker])
        dialogue = Nodes(x.new_empty(len(speaker), 1, 0), present, nodes.streams)
        edges = self._listed(dialogue, dialogue_of(speaker)).edges
        into = edges.target == len(states)
        sources = states[edges.source[into]]  # (E, width)
        times = None if edges.times is None else edges.times[into].to(x.dtype)
        score = sources @ self.key
        weight = (score if times is None else score + times.log()).softmax(0)
        if edges.factor is not None:
            weight = weight * edges.factor[into].to(x.dtype) / (1 if times is None else times)
        gathered = x.new_zeros(len(self.matrices), x.shape[1]).index_add(0, edges.relation[into], weight[:, None] * sources)
        message = gathered.flatten()[None] @ self.matrices.flatten(0, 1)
        state = self.nodal(x, message) + self.contextual(message, x)
        state = state * nodes.present.to(state.dtype)
        return nodes.with_states(state[:, None]), (torch.cat([states, state]), present, speaker)

    def _listed(self, nodes: Nodes, batch: Batch) -> EdgeList:
        return cast(EdgeList, edges_of(self.recipe, nodes, batch, layout="list"))

    def _order(self, listed: EdgeList) -> Order:
        """Return the indices for the loop over utterances; they are stored in the batch, and the next layer uses them again."""
        kept, key = listed.batch.kept, ("directed", self.recipe.edges)
        if key not in kept or kept[key][0] is not listed.edges:
            kept[key] = listed.edges, order_of(listed.batch, listed.edges, len(self.recipe.relations))
        order: Order = kept[key][1]
        return order

    def _gates(self) -> tuple[Tensor, Tensor, Tensor]:
        """Concatenate the parameters of both GRU cells: return weights of the input state, biases, and weights of the message."""

        def reset_update_new(cell: nn.GRUCell, name: str) -> tuple[Tensor, ...]:
            return getattr(cell, name).unflatten(0, (3, -1)).unbind(0)

        ir, iz, i_n = reset_update_new(self.nodal, "weight_ih")
        mr, mz, mn = reset_update_new(self.nodal, "weight_hh")
        pr, pz, pn = reset_update_new(self.contextual, "weight_ih")
        hr, hz, hn = reset_update_new(self.contextual, "weight_hh")
        b_ir, b_iz, b_in = reset_update_new(self.nodal, "bias_ih")
        b_mr, b_mz, b_mn = reset_update_new(self.nodal, "bias_hh")
        b_pr, b_pz, b_pn = reset_update_new(self.contextual, "bias_ih")
        b_hr, b_hz, b_hn = reset_update_new(self.contextual, "bias_hh")
        own = torch.cat([i_n, ir, hr, iz, hz, hn])
        bias = torch.cat([b_in, b_mn, b_ir + b_mr, b_pr + b_hr, b_iz + b_mz, b_pz + b_hz, b_pn, b_hn])
        return own, bias, torch.cat([mn, mr, pr, mz, pz, pn]).T

    def _check_streams(self, nodes: Nodes) -> None:
        if len(nodes.streams) != 1:
            raise ConfigError(
                f"Directed: expected one stream, which has one node per utterance, found {len(nodes.streams)} streams "
                f"({', '.join(nodes.streams)}); combine the streams before this operator"
            )
