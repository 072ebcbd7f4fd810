"""The graphs of a corpus as a dataset for the data loaders of PyTorch Geometric; each access to a graph builds the graph again."""

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

    Graphs are not stored: each access to a graph builds it again. The dataset supports indices, loops and
    `torch_geometric.loader.DataLoader`, with or without workers. In a batch of this loader, `batch[stream].batch` contains, for every node,
    the index of its dialogue.

    Args:
        corpus: The dialogues, for example `corpus.split("train")`.
        recipe: The graph recipe, or its name or path, as in `build_graph`.
        modalities: Modalities to use, as in `build_graph`.

    Raises:
        ConfigError: the recipe is unknown or invalid, or a modality has the name of an attribute of the graph.
        CorpusError: a modality is unknown.

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
    """Return the dataset class. It is created on first use, because the import of PyG is slow."""
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
            """Return the number of classes, or 1 if the labels are scores."""
            return len(self.corpus.task.labels) if self.corpus.task.kind == "classification" else 1

        def __reduce__(self) -> Any:
            return graph_dataset, (self.corpus, self.recipe, self.modalities), self.__dict__  # the class has no name of its own to find

    return GraphDataset
