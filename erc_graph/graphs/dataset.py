"""The graphs of a corpus for PyTorch Geometric's loaders: nothing is built before it is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erc_graph.data.corpus import Corpus
from erc_graph.graphs.build import build_graph
from erc_graph.graphs.recipe import GraphRecipe, load_recipe

if TYPE_CHECKING:
    from torch_geometric.data import Dataset, HeteroData


def graph_dataset(corpus: Corpus, recipe: str | Path | GraphRecipe = "pairwise", modalities: Iterable[str] | None = None) -> Dataset:
    """Return the graphs of a corpus, one per dialogue, as a `torch_geometric.data.Dataset`.

    A graph is built whenever it is asked for, and not kept: by an index, a loop, or a `torch_geometric.loader.DataLoader`, also one
    with workers. In a batch of a loader `batch[stream].batch` says which dialogue a node belongs to.

    Args:
        corpus: The dialogues, for example `corpus.split("train")`.
        recipe: As for `build_graph`.
        modalities: As for `build_graph`.

    Raises:
        ConfigError: unknown or wrong recipe, or a modality whose name the graph itself needs.
        CorpusError: unknown modality.

    >>> from erc_graph.data.sample.vectors import sample_corpus
    >>> graphs = graph_dataset(sample_corpus(dialogues=4), "window")
    >>> graphs, graphs.num_classes, graphs[:2]
    (GraphDataset(4), 6, GraphDataset(2))
    """
    graphs = _kind()(corpus, load_recipe(recipe), modalities if modalities is None or isinstance(modalities, str) else tuple(modalities))
    if len(graphs):
        graphs.get(0)  # what is wrong with the recipe or the modalities is said here
    return graphs


@lru_cache(maxsize=1)
def _kind() -> Any:
    """The class; made when it is needed, so that nobody else waits for PyG."""
    from torch_geometric.data import Dataset

    class GraphDataset(Dataset):
        def __init__(self, corpus: Corpus, recipe: GraphRecipe, modalities: str | tuple[str, ...] | None) -> None:
            super().__init__()
            self.corpus, self.recipe, self.modalities = corpus, recipe, modalities

        def len(self) -> int:
            return len(self.corpus)

        def get(self, idx: int) -> HeteroData:
            return build_graph(self.corpus[idx], self.recipe, self.modalities)

        @property
        def num_classes(self) -> int:
            """Of the task; 1 for a score."""
            return len(self.corpus.task.labels) if self.corpus.task.kind == "classification" else 1

        def __reduce__(self) -> Any:
            return graph_dataset, (self.corpus, self.recipe, self.modalities), self.__dict__  # the class has no name of its own to find

    return GraphDataset
