r"""Explanations of one label of an utterance, by attributions to the edges of the graph and to the input features.

An attribution :math:`a_i` is an integrated gradient (Sundararajan et al., ICML 2017) on the line from a baseline :math:`b` to the input
:math:`x`. The function :math:`f` is the log-odds of the label, :math:`\log p - \log (1 - p)`. For a task with numeric scores, :math:`f` is
the score:

.. math:: a_i = (x_i - b_i) \int_0^1 \partial_i f(b + \alpha (x - b)) \, d\alpha, \quad \sum_i a_i = f(x) - f(b)

Attributions are computed for two kinds of variables:

| attribution of | variables | baseline `b` | input `x` |
|---|---|---|---|
| edges | a multiplier of every message of every graph (`erc_graph.graphs.edges.Watch`) | 0: no message | 1: the original message |
| inputs | the features of every utterance and modality | the mean of the training split | the original features |

Edge attributions measure only the effect of the graph. LSTM, GRU and attention layers also carry information between utterances; only input
attributions include this effect. The exact sum of the edge attributions is `graph_effect`; the exact sum of the input attributions is
`input_effect`. `edge_gap` and `input_gap` are the numerical errors of the computed sums. A missing modality has attribution zero.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.corpus import Dialogue
from erc_graph.errors import ConfigError, CorpusError
from erc_graph.graphs.edges import Watch
from erc_graph.inference.graphs import Seen, graph_of, look, operators, read, watched
from erc_graph.inference.saved import Network
from erc_graph.methods.base import Method
from erc_graph.methods.ensemble import Ensemble
from erc_graph.methods.inputs import Inputs

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

_NUMBERS = 2**24  # of messages and features that are held at a time
_MOST_STEPS = 1600
_NEAR = 1e-6  # a gap that no tolerance makes smaller


class Edge(NamedTuple):
    """One edge with its attribution, in units of the log-odds or the score. An edge with a positive attribution supports the label."""

    part: str
    source: str
    source_turn: int
    relation: str
    target: str
    target_turn: int
    attribution: float


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """The attributions of edges and inputs to one label of one utterance.

    Attributes:
        dialogue: The explained conversation.
        turn: Position of the explained utterance, from 0.
        label: The explained label; `score` if the task has numeric scores.
        probability: Probability of the label; `None` if the task has numeric scores.
        value: The explained value f: the log-odds of the label, or the score.
        graphs: Name of a graph operator (such as `audio+text` or `fused`) → its graph. Every edge type of the graph has a tensor
            `edge_attribution` `(E,)`. `graphs` is empty if the method has no graph.
        inputs: Modality → `(T,)` attributions of the `T` utterances of the conversation.
        graph_effect: f with all messages minus f without messages. This is the exact sum of all edge attributions.
        input_effect: f for the original features minus f for the training mean. This is the exact sum of all input attributions.
        edge_gap: Sum of all edge attributions minus `graph_effect`.
        input_gap: Sum of all input attributions minus `input_effect`.
    """

    dialogue: Dialogue
    turn: int
    label: str
    probability: float | None
    value: float
    graphs: dict[str, HeteroData]
    inputs: dict[str, Tensor]
    graph_effect: float
    input_effect: float
    edge_gap: float
    input_gap: float

    @property
    def turns(self) -> Tensor:
        """Return the attribution of every utterance, `(T,)`, summed over modalities."""
        return torch.stack(list(self.inputs.values())).sum(0)

    def edges(self, most: int | None = None, part: str | None = None) -> list[Edge]:
        """Return the edges sorted by the absolute value of their attribution, largest first.

        Args:
            most: Largest number of edges; default: all.
            part: Name of the graph operator whose edges are returned; default: the edges of all graph operators.
        """
        found: list[Edge] = []
        for name, graph in self.graphs.items():
            for source, relation, target in graph.edge_types if part in (None, name) else ():
                store = graph[source, relation, target]
                ends = zip(*store.edge_index.tolist(), store.edge_attribution.tolist(), strict=True)
                found += [Edge(name, source, i, relation, target, j, value) for i, j, value in ends]
        return sorted(found, key=lambda edge: -abs(edge.attribution))[:most]

    def table(self, most: int = 8) -> str:
        """Return a text table of edges and utterances: of each, the `most` with the largest absolute attributions."""
        sure = "" if self.probability is None else f", p = {self.probability:.2f}"
        unit = "score" if self.probability is None else "log-odds"
        lines = [f"turn {self.turn} of {ascii(self.dialogue.id)[1:-1]}: {self.label} ({unit} {self.value:+.2f}{sure})"]
        if self.graphs:
            lines.append(f"\nedges: {self.graph_effect:+.2f} together" + _remark(self.edge_gap))
        wide = max(map(len, self.graphs), default=0)
        for edge in self.edges(most):
            ends = f"{edge.source} {edge.source_turn} → {edge.target} {edge.target_turn}"
            lines.append(f"  {edge.attribution:+.3f}  {edge.part:<{wide}}  {edge.relation}: {ends}")
        lines.append(f"\nturns: {self.input_effect:+.2f} together" + _remark(self.input_gap))
        lines.append(f"  {'turn':>6}{'all':>9}" + "".join(f"{name[:9]:>10}" for name in self.inputs))
        for turn in self.turns.abs().argsort(descending=True, stable=True)[:most].tolist():
            cells = "".join(f"{value[turn]:>+10.3f}" for value in self.inputs.values())
            lines.append(f"  {turn:>6}{self.turns[turn]:>+9.3f}{cells}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.table()


def explain(
    pipeline: Network | Explainable, dialogue: Dialogue, turn: int, *, label: str | None = None, tolerance: float = 0.01
) -> Explanation:
    """Compute how much each edge, utterance and modality supports or opposes a label of one utterance.

    Args:
        pipeline: A pipeline, or a trained method. Afterwards, the method is again in its previous mode (training or evaluation).
        dialogue: The conversation, with all features that the method uses.
        turn: Position of the utterance, from 0; a negative value counts from the end.
        label: The label to explain; default: the predicted label.
        tolerance: Largest allowed error of the sum of attributions, relative to the exact sum. The number of integration steps is doubled,
            from 50 up to 1600, until the error is at most `tolerance`.

    Raises:
        ConfigError: the utterance or label does not exist, `tolerance` is not above 0, or the method uses sequences.
        CorpusError: `dialogue` is not a dialogue, lacks features that the method uses, or has feature vectors of a wrong width.
    """
    method = pipeline if isinstance(pipeline, (Method, Ensemble)) else pipeline.method
    if not isinstance(dialogue, Dialogue):
        raise CorpusError(f"dialogue: expected a conversation, such as corpus[0], found a {type(dialogue).__name__}")
    try:
        turn = operator.index(turn)
    except TypeError:
        raise ConfigError(f"turn: expected the position of an utterance as a whole number, found {turn!r}") from None
    if not -len(dialogue) <= turn < len(dialogue):
        raise ConfigError(
            f"turn: expected the position of an utterance, from -{len(dialogue)} to {len(dialogue) - 1} in dialogue "
            f"{dialogue.id!r}, found {turn}"
        )
    if not tolerance > 0:
        raise ConfigError(f"tolerance: expected a number above 0, found {tolerance}")
    turn %= len(dialogue)
    labels = method.task.labels if method.task.kind == "classification" else ()
    if label is not None and label not in labels:
        expected = f"one of the labels {', '.join(labels)}" if labels else "no label, because the task has scores"
        raise ConfigError(f"label: expected {expected}, found {label!r}")
    if method.schema.sequences:
        found = ", ".join(method.schema.sequences)
        raise ConfigError(f"explain: expected a model that uses one vector per utterance, found one that uses sequences ({found})")
    batch = read(method, dialogue)
    for name, width in method.schema.widths.items():
        if batch.features[name].shape[1] != width:
            numbers = batch.features[name].shape[1]
            raise CorpusError(
                f"{dialogue.id!r}: expected {width} {name} features per utterance, as in training, found {numbers}; use the same features "
                f"as in training"
            )
    with _asked(method):
        seen, scores = look(method, batch)
        scores = scores[turn]
        index = labels.index(label) if label is not None else int(scores.argmax())

        def value(asked: Batch) -> Tensor:  # (K,) f of every copy
            at_turn = method(asked).scores.view(len(asked), len(dialogue), -1)[:, turn]
            return _log_odds(at_turn, index) if labels else at_turn[:, 0]

        f = value(batch).item()
        graphs, graph_effect, edge_gap = _edges(method, batch, seen, value, dialogue, tolerance)
        inputs, input_effect, input_gap = _inputs(method, batch, value, tolerance)
    return Explanation(
        dialogue=dialogue,
        turn=turn,
        label=labels[index] if labels else "score",
        probability=scores.softmax(-1)[index].item() if labels else None,
        value=f,
        graphs=graphs,
        inputs=inputs,
        graph_effect=graph_effect,
        input_effect=input_effect,
        edge_gap=edge_gap,
        input_gap=input_gap,
    )


class Explainable(Protocol):
    """Type (`Protocol`) of all objects that have an attribute `method`, such as a pipeline."""

    @property
    def method(self) -> Network:
        """Return the method whose predictions are explained; it may be an ensemble of networks."""


def _edges(
    method: Network, batch: Batch, seen: dict[str, Seen], value: Callable[[Batch], Tensor], dialogue: Dialogue, tolerance: float
) -> tuple[dict[str, HeteroData], float, float]:
    """Compute the edge attributions: name → graph with `edge_attribution`, the exact sum of all attributions, and the error of the sum."""
    graphs = {name: graph_of(one, batch, dialogue.corpus) for name, one in seen.items()}
    parts = operators(method)
    names = [name for name, one in seen.items() if sum(one.types.values())]

    def answer(*multipliers: Tensor) -> Tensor:  # each (K, E)
        with ExitStack() as stack:
            for name, multiplier in zip(names, multipliers, strict=True):
                stack.enter_context(watched(parts[name], Watch(multiplier)))
            return value(_copies(batch, len(multipliers[0])))

    dtype = next(method.parameters()).dtype
    ones = tuple(torch.ones(1, sum(seen[name].types.values()), device=batch.device, dtype=dtype) for name in names)
    numbers = sum(one.shape[1] * nodes.width for one, name in zip(ones, names, strict=True) if (nodes := seen[name].nodes))
    attributions, effect, gap = _integrate(answer, ones, tuple(map(torch.zeros_like, ones)), numbers, tolerance)
    for name, attribution in zip(names, attributions, strict=True):
        graph, types = graphs[name], seen[name].types
        for kind, part in zip(types, attribution[0].split(list(types.values())), strict=True):
            graph[kind].edge_attribution = part
    return {name: graph.to("cpu") for name, graph in graphs.items()}, effect, gap


def _inputs(method: Network, batch: Batch, value: Callable[[Batch], Tensor], tolerance: float) -> tuple[dict[str, Tensor], float, float]:
    """Compute modality → attributions `(T,)` of the features, the exact sum of all attributions, and the error of the sum."""
    means = {name: module.get_buffer(f"mean_{name}") for module in method.modules() if isinstance(module, Inputs) for name in module.scaled}

    def answer(*features: Tensor) -> Tensor:  # each (K, T, d)
        copies = _copies(batch, len(features[0]))
        flat = {name: value.flatten(0, 1) for name, value in zip(means, features, strict=True)}
        unread = sum(0.0 * part.sum((1, 2)) for part in features)  # a method need not read them all
        return value(replace(copies, features={**copies.features, **flat})) + unread

    own = tuple(batch.features[name][None] for name in means)
    base = tuple(torch.where(batch.present[name][:, None], mean, batch.features[name])[None] for name, mean in means.items())
    attributions, effect, gap = _integrate(answer, own, base, 64 * sum(value.numel() for value in own), tolerance)
    return {name: part[0].sum(-1).cpu() for name, part in zip(means, attributions, strict=True)}, effect, gap


def _integrate(
    answer: Callable[..., Tensor], inputs: tuple[Tensor, ...], baselines: tuple[Tensor, ...], numbers: int, tolerance: float
) -> tuple[tuple[Tensor, ...], float, float]:
    """Compute integrated gradients from baselines to inputs.

    Returns:
        The attributions, their exact sum f(inputs) - f(baselines), and the error of the computed sum.
    """
    if not inputs:
        return (), 0.0, 0.0
    from captum.attr import IntegratedGradients

    with torch.no_grad():
        effect = (answer(*inputs) - answer(*baselines)).item()
    steps, at_a_time = 50, max(1, _NUMBERS // max(1, numbers))
    while True:
        found = IntegratedGradients(answer).attribute(
            inputs, baselines, n_steps=steps, method="gausslegendre", internal_batch_size=min(steps, at_a_time)
        )
        found = tuple(part.detach().float() for part in found)
        gap = math.fsum(part.sum(dtype=torch.float64).item() for part in found) - effect
        if abs(gap) <= max(tolerance * abs(effect), _NEAR) or steps >= _MOST_STEPS:
            return found, effect, gap
        steps *= 2


def _copies(batch: Batch, count: int) -> Batch:
    return batch.select(torch.zeros(count, dtype=torch.long, device=batch.device))


def _log_odds(scores: Tensor, index: int) -> Tensor:
    """Compute the log-odds log p - log (1 - p) of one label from `K` rows of scores, `(K, C)` → `(K,)`."""
    others = torch.arange(scores.shape[1], device=scores.device) != index
    return scores[:, index] - scores[:, others].logsumexp(1)


def _remark(gap: float) -> str:
    return f" (the sum differs by {abs(gap):.2g})" if abs(gap) >= 0.005 else ""


@contextmanager
def _asked(method: Network) -> Iterator[None]:
    """Set evaluation mode, and disable gradients of weights, within a `with` block.

    cuDNN is also disabled, because it does not compute gradients of recurrent networks in evaluation mode.
    """
    modes = {module: module.training for module in method.modules()}
    trained = {weight: weight.requires_grad for weight in method.parameters()}
    method.eval().requires_grad_(False)
    try:
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for weight, asked in trained.items():
            weight.requires_grad_(asked)
