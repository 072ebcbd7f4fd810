"""The same graph for other libraries: networkx and DGL, with the same edges and weights."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from erc_graph.errors import ConfigError

if TYPE_CHECKING:
    import dgl
    import networkx
    from torch_geometric.data import HeteroData


def to_networkx(graph: HeteroData) -> networkx.MultiDiGraph:
    """A networkx multigraph: nodes `(stream, row)`, edges keyed by relation.

    Node attributes: `speaker` (name), `label` (name, a score, or `None`), `dialogue` (id), `turn`, `present`, `text`.
    Edge attributes: `relation`, and `weight` where the graph has one.
    """
    import networkx

    result = networkx.MultiDiGraph()
    for stream in graph.node_types:
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
    for m, relation, n in graph.edge_types:
        edge = graph[m, relation, n]
        source, target = edge.edge_index.tolist()
        if "edge_weight" in edge:
            attributes: Any = ({"relation": relation, "weight": weight} for weight in edge.edge_weight.tolist())
        else:
            attributes = ({"relation": relation} for _ in source)
        result.add_edges_from(((m, i), (n, j), relation, values) for i, j, values in zip(source, target, attributes, strict=True))
    return result


def import_dgl() -> Any:
    """The module `dgl`, imported without the warnings that 1.1.3 raises beside newer NumPy, SciPy and PyTorch.

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
    """A DGL heterograph: node data `x`, `present`, `speaker`, `y`, `dialogue`, `turn`; edge data `weight` where there is one.

    Raises:
        ConfigError: DGL is not installed, or its compiled part cannot be loaded.
    """
    dgl = import_dgl()
    index = {kind: tuple(graph[kind].edge_index) for kind in graph.edge_types}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = dgl.heterograph(index, num_nodes_dict={stream: graph[stream].num_nodes for stream in graph.node_types})
        for stream in graph.node_types:
            for name in ("x", "present", "speaker", "y", "dialogue", "turn"):
                if name in graph[stream]:
                    result.nodes[stream].data[name] = graph[stream][name]
        for kind in graph.edge_types:
            if "edge_weight" in graph[kind]:
                result.edges[kind].data["weight"] = graph[kind].edge_weight
    return result


def label_name(label: float, names: list[str]) -> str | float | None:
    """Name of a label index, `None` for an unlabelled utterance; a score is its own name."""
    if isinstance(label, int):
        return None if label < 0 else names[label] if names else str(label)
    return None if label != label else label
