r"""The deep angular graph convolution for a conversation that is still going on: one utterance at a time, with a causal recipe.

In the propagation :math:`P = D^{-1/2} W D^{-1/2}` with edge weights `W` and in-degrees `D`, the row of `P` and the degree of an utterance
depend only on this utterance and earlier utterances. Results for earlier utterances therefore never change. If an utterance can
have edges to later utterances, two results are stored for it. The first are its node states, scaled to length one, for the angular weights.
The second are its messages :math:`D^{-1/2} h^{l-1}` in each layer `l`. For a new utterance, only one row of `P` is computed.

Up to rounding errors, the states of all layers equal the states that `AngularConv` computes from the whole conversation. Edges across
streams may join different utterances.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from erc_graph.conv.angular.written import windows_only
from erc_graph.data.batch import Batch
from erc_graph.data.window import Window
from erc_graph.graphs.recipe import EdgeRule, GraphRecipe
from erc_graph.graphs.weights import angular, directions

if TYPE_CHECKING:
    from erc_graph.conv.angular.angular import AngularConv


class AngularMemory:
    """The results for preceding utterances, from which `angular_step` computes the states of the next utterance.

    Args:
        recipe: A causal recipe.
        depth: Number of layers.
    """

    def __init__(self, recipe: GraphRecipe, depth: int) -> None:
        windows_only(recipe)
        self.recipe = recipe
        self.directions, self.present, self.speaker = (Window(recipe.past) for _ in range(3))
        self.sent = [Window(recipe.past) for _ in range(depth)]
        self._scales: dict[tuple[str, str], Tensor] = {}

    def row(self, states: Tensor, present: Tensor, speaker: Tensor) -> tuple[Tensor, Tensor]:
        """Add an utterance to the memory, and return the weights of its incoming edges and the in-degrees of its nodes.

        Args:
            states: `(S, d)` node states of the utterance.
            present: `(S,)` bool, presence of the nodes.
            speaker: `(1,)` index of the speaker.

        Returns:
            Edge weights `(S, turns * S)`, a row per target stream and a column per source node, and in-degrees `(S, 1)`. `turns` is the
            number of stored utterances, the new utterance included.
        """
        unit = directions(states)
        seen = self.directions.push(unit)  # (turns, S, d)
        here = self.present.push(present.to(unit.dtype)).flatten()
        speakers = self.speaker.push(speaker)
        weights = unit.new_zeros(len(unit), len(here))
        for (kind, who), scale in self._scale(len(seen), unit).items():
            if kind == "angular":
                scale = scale * angular((unit @ seen.flatten(0, 1).T).clamp_(-1, 1))
            if who != "any":
                same = (speakers == speaker).expand(-1, len(unit)).flatten()
                scale = scale * (same if who == "same" else ~same)
            weights = weights + scale
        weights = weights * (here * here[-len(unit) :, None])
        return weights, weights.sum(1, keepdim=True)

    @property
    def nbytes(self) -> int:
        """Return the size of the stored values in bytes."""
        return sum(window.nbytes for window in (self.directions, self.present, self.speaker, *self.sent))

    def forget(self) -> None:
        """Remove the newest utterance from the memory, after its states have been computed in all layers."""
        for window in (self.directions, self.present, self.speaker, *self.sent):
            window.forget()

    def _scale(self, turns: int, like: Tensor) -> dict[tuple[str, str], Tensor]:
        """Return a dictionary with the factors of all edges into the newest utterance, `(S, turns * S)`, zero without an edge.

        The keys of the dictionary are pairs of the options `weight` and `speaker` of an edge rule.
        """
        if not self._scales or next(iter(self._scales.values())).shape[1] != turns * len(like):
            behind = torch.arange(turns - 1, -1, -1, device=like.device)
            own = torch.eye(len(like), dtype=torch.bool, device=like.device)

            def edges(rule: EdgeRule) -> Tensor:
                near = torch.ones_like(behind, dtype=torch.bool) if rule.behind is None else behind <= rule.behind
                near = near if rule.self_loops else near & (behind > 0)
                return (near[:, None] & (own if rule.scope == "within" else ~own)[:, None]).flatten(1).to(like.dtype) * rule.scale

            self._scales = {}
            for rule in self.recipe.edges:
                what = rule.weight, rule.speaker
                self._scales[what] = self._scales.get(what, 0) + edges(rule)
        return self._scales


def angular_step(
    conv: AngularConv, states: Tensor, present: Tensor, batch: Batch, memory: AngularMemory | None
) -> tuple[Tensor, AngularMemory]:
    """Process the next utterance with `AngularConv`, in evaluation mode.

    Args:
        conv: The operator.
        states: `(1, S, width)` node states of the utterance.
        present: `(1, S)` bool, presence of the nodes.
        batch: A batch that contains only this utterance.
        memory: The memory returned for the preceding utterance; `None` for the first utterance.

    Returns:
        The output `(1, S, width)`, zero for absent nodes, and the memory for the next utterance.
    """
    memory = memory or AngularMemory(conv.recipe, conv.config.depth)
    x = states[0]
    weights, degree = memory.row(x, present[0], batch.speaker)
    root = torch.where(degree > 0, degree.clamp(min=1e-12).rsqrt(), 0.0)
    initial = hidden = torch.relu(conv.first(x))
    for layer, (weight, window) in enumerate(zip(conv.matrices, memory.sent, strict=True), start=1):
        theta = math.log(conv.config.lambda_ / layer + 1)
        sent = window.push((root * hidden).to(weights.dtype))  # (turns, S, width)
        spread = (root * (weights @ sent.flatten(0, 1))).to(x.dtype)
        mixed = (1 - conv.config.alpha) * spread + conv.config.alpha * initial
        hidden = torch.relu(theta * torch.cat([spread, initial], -1) @ weight + (1 - theta) * mixed)
    output = torch.cat([x, hidden], -1) if conv.config.residual else hidden
    return (output * present[0][:, None].to(output.dtype))[None], memory
