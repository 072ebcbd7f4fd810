"""A bipartite graph of the words and frames of one utterance: edges join a word and the frames of its window, with attention weights.

| where | attribute | what |
|---|---|---|
| `graph["word"]`, `graph["frame"]` | `num_nodes` | number of words, number of frames |
| `graph["frame", "window", "word"]` | `edge_index` | `(2, E)`: frame index, word index |
| | `edge_weight` | `(E,)` |
| `graph` | `words` | the words of the text; empty if the model has another number of words |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData
else:  # PyG takes seconds to import, and jsonargparse would import it for `--help` of a method that names it
    HeteroData = Any

KIND = ("frame", "window", "word")


def window_graph(weights: Tensor, seen: Tensor, words: Sequence[str] = ()) -> HeteroData:
    """Build a graph of words and frames from the weights of window attention (`erc_graph.encoders.sawa`).

    Args:
        weights: `(L, T)` attention weights of `L` words for `T` frames.
        seen: `(L, T)` bool, whether a word attends to a frame. The graph has an edge for every such pair.
        words: The words of the text, one string per word. `words` is ignored if the number of strings is not `L`.
    """
    from torch_geometric.data import HeteroData

    graph = HeteroData()
    word, frame = seen.nonzero().unbind(1)
    graph["word"].num_nodes, graph["frame"].num_nodes = seen.shape
    edge = graph[KIND]
    edge.edge_index, edge.edge_weight = frame.new_empty(2, len(frame)), weights[word, frame]
    edge.edge_index[0], edge.edge_index[1] = frame, word
    graph.words = list(words) if len(words) == len(seen) else []
    return graph
