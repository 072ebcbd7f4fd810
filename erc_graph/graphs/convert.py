"""Conversion of a graph to networkx and DGL; edges and edge weights stay the same."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from erc_graph.errors import ConfigError
from erc_graph.graphs.rules import HYPEREDGE

if TYPE_CHECKING:
    import dgl
    import networkx
    from torch_geometric.data import HeteroData

Labels = Sequence[Any] | Tensor


def streams_of(graph: HeteroData) -> list[str]:
    """Return the streams of a graph: its node types except hyperedges."""
    return [name for name in graph.node_types if name != HYPEREDGE]


def to_networkx(graph: HeteroData) -> networkx.MultiDiGraph:
    """Convert a graph to a networkx multigraph. The name of a node is `(stream, row)`; a hyperedge becomes a node `("hyperedge", row)`.

    Nodes have the attributes `speaker` (name), `label` (name, score, or `None`), `dialogue` (id), `turn`, `present` and `text`. Hyperedges
    have the attributes `kind` (index of the rule) and `name`. Edges have the attribute `relation`, which is also the key of the edge, and,
    if the graph has edge weights, the attribute `weight`. For an edge that occurs several times, the attribute `times` is its count, and
    `weight` is the mean of its weights.
    """
    import networkx

    result = networkx.MultiDiGraph()
    for stream in streams_of(graph):
        node = graph[stream]
        texts = graph.texts or [None] * node.num_nodes
        rows = zip(graph.speakers, node.y.tolist(), node.dialogue.tolist(), node.turn.tolist(), node.present.tolist(), texts, strict=True)
        result.add_nodes_from(
            (
                (stream, i),
                {
                    "speaker": speaker,
                    "label": label_name(label, graph.labels),
                    "dialogue": graph.dialogue_ids[dialogue],
                    "turn": turn,
                    "present": present,
                    "text": text,
                },
            )
            for i, (speaker, label, dialogue, turn, present, text) in enumerate(rows)
        )
    if HYPEREDGE in graph.node_types:
        hyper = graph[HYPEREDGE]
        about = zip(hyper.kind.tolist(), hyper.names, strict=True)
        result.add_nodes_from(((HYPEREDGE, i), {"kind": kind, "name": name}) for i, (kind, name) in enumerate(about))
    for m, relation, n in graph.edge_types:
        edge = graph[m, relation, n]
        # A multigraph has one edge per key: edges that are listed several times are counted.
        index, which, times = edge.edge_index.unique(dim=1, return_inverse=True, return_counts=True)
        attributes: list[dict[str, Any]] = [{"relation": relation} for _ in times]
        if "edge_weight" in edge:
            weight = edge.edge_weight.detach()
            total = weight.new_zeros(len(times)).index_add_(0, which, weight)
            for values, mean in zip(attributes, (total / times).tolist(), strict=True):
                values["weight"] = mean
        for values, count in zip(attributes, times.tolist(), strict=True):
            if count > 1:
                values["times"] = count
        result.add_edges_from(((m, i), (n, j), relation, values) for i, j, values in zip(*index.tolist(), attributes, strict=True))
    return result


def import_dgl() -> Any:
    """Import the module `dgl`, and suppress the warnings of DGL 1.1.3 with newer NumPy, SciPy and PyTorch.

    Raises:
        ConfigError: DGL is not installed, or its compiled part cannot be loaded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import dgl
    except (ImportError, OSError) as problem:
        raise ConfigError(f'DGL cannot be imported ({problem}); pip install "erc_graph[dgl]"') from None
    return dgl


def to_dgl(graph: HeteroData) -> dgl.DGLGraph:
    """Convert a graph to a DGL heterograph.

    Nodes have the data fields `x`, `present`, `speaker`, `y`, `dialogue` and `turn`. Edges have the data field `weight`, if the graph has
    edge weights. Hyperedges become nodes of an own type with the data field `kind`.

    Raises:
        ConfigError: DGL is not installed, or its compiled part cannot be loaded.
    """
    dgl = import_dgl()
    index = {kind: tuple(graph[kind].edge_index) for kind in graph.edge_types}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = dgl.heterograph(index, num_nodes_dict={stream: graph[stream].num_nodes for stream in graph.node_types})
        for stream in graph.node_types:
            for name in ("x", "present", "speaker", "y", "dialogue", "turn", "kind"):
                if name in graph[stream]:
                    result.nodes[stream].data[name] = graph[stream][name]
        for kind in graph.edge_types:
            if "edge_weight" in graph[kind]:
                result.edges[kind].data["weight"] = graph[kind].edge_weight
    return result


def label_name(label: float, names: list[str]) -> str | float | None:
    """Return the name of a label index, or `None` for an unlabelled utterance; return a score unchanged."""
    if isinstance(label, int):
        return None if label < 0 else names[label] if names else str(label)
    return None if label != label else label


def label_names(values: Labels, names: list[str], count: int, what: str, score: bool = False) -> list[str | None]:
    """Convert names, label indices or scores to label names, one per utterance.

    Args:
        values: Names, indices or scores; `None` for an unknown label.
        names: The names of the labels, in the order of their indices.
        count: Number of utterances.
        what: What the values are, in words, for the error message.
        score: Whether numbers are scores; the result is then `negative`, `neutral` or `positive`.

    Raises:
        ConfigError: the number of values is wrong, or an index has no name.
    """
    found: list[Any] = values.tolist() if isinstance(values, (Tensor, np.ndarray)) else list(values)
    if len(found) != count:
        raise ConfigError(f"{what}: expected {count} values, one per utterance, found {len(found)}")
    result: list[str | None] = []
    for row, value in enumerate(found):
        if score and isinstance(value, (int, str)):
            with suppress(ValueError):
                value = float(value)
        if isinstance(value, int) and names and value >= len(names):
            known = f"the graph has {len(names)} labels, from 0: {', '.join(names)}"
            raise ConfigError(f"{what}: utterance {row} has the label index {value}; {known}")
        name = value if value is None or isinstance(value, str) else label_name(value, names)
        if isinstance(name, float):
            name = "negative" if name < 0 else "positive" if name > 0 else "neutral"
        result.append(None if name is None else name.encode("utf-8", "replace").decode())  # lone surrogates cannot be drawn
    return result
