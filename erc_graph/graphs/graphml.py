"""Export of a graph to a GraphML file for Gephi, Cytoscape and yEd; the file is written with networkx."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erc_graph.data.files.storage import atomic_write
from erc_graph.graphs.convert import Labels, label_names, streams_of, to_networkx
from erc_graph.graphs.rules import HYPEREDGE

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData


def write_graphml(graph: HeteroData, path: str | Path, *, predictions: Labels | None = None) -> Path:
    """Convert a graph with `to_networkx`, and write it to a GraphML file in one step, so that no incomplete file remains after an error.

    A node has the name `stream/row` and the attribute `stream`. For a hyperedge, the attribute `stream` is `hyperedge`. Unknown labels and
    texts are left out. Characters that XML does not allow are replaced by spaces. The key of an edge is a number.

    Args:
        graph: A graph of `build_graph` or `Pipeline.graph`.
        path: The file to write.
        predictions: Predicted labels, one per utterance, as in `draw_graph`. The node attribute `predicted` stores them.

    Raises:
        ConfigError: the number of predictions is wrong, or a predicted label is unknown.
        StorageError: the file cannot be written.
    """
    import networkx

    full = to_networkx(graph)
    if predictions is not None:
        node = graph[streams_of(graph)[0]]
        guess = label_names(predictions, graph.labels, node.num_nodes, "predictions", node.y.is_floating_point())
        for (stream, row), values in full.nodes(data=True):
            if stream != HYPEREDGE:
                values["predicted"] = guess[row]
    safe = networkx.MultiDiGraph()
    name = {node: f"{node[0]}/{node[1]}" for node in full}
    safe.add_nodes_from((name[node], _plain({"stream": node[0], **values})) for node, values in full.nodes(data=True))
    safe.add_edges_from((name[m], name[n], i, _plain(values)) for i, (m, n, values) in enumerate(full.edges(data=True)))
    path = Path(path)
    with atomic_write(path) as temporary:
        # The writer in pure Python: that of lxml refuses the same characters with other words.
        networkx.write_graphml_xml(safe, temporary)
    return path


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {key: _text(value) if isinstance(value, str) else value for key, value in values.items() if value is not None}


def _text(text: str) -> str:
    return "".join(c if unicodedata.category(c)[0] != "C" and c not in "\ufffe\uffff" else " " for c in text)
