"""Emotion recognition in conversations, done with graphs.

>>> import erc_graph
>>> corpus = erc_graph.load_corpus("sample")
>>> graph = erc_graph.build_graph(corpus[0], "pairwise")
>>> sorted(graph.node_types)
['audio', 'text', 'visual']

Names are loaded when they are first used, so that importing the package does not wait for PyG.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from erc_graph.data.corpus import Corpus, Dialogue
    from erc_graph.data.load import load_corpus
    from erc_graph.data.sample import sample_bayes_limit, sample_corpus
    from erc_graph.errors import CheckpointError, ConfigError, CorpusError, ErcGraphError, StorageError
    from erc_graph.graphs.build import build_graph
    from erc_graph.graphs.convert import to_dgl, to_networkx
    from erc_graph.graphs.draw import draw_graph
    from erc_graph.graphs.recipe import load_recipe
    from erc_graph.inference.explain import explain
    from erc_graph.pipelines import PIPELINES
    from erc_graph.pipelines.base import Pipeline, Schema

__version__ = "0.1.0"

_HOME = {
    "CheckpointError": "errors",
    "ConfigError": "errors",
    "Corpus": "data.corpus",
    "CorpusError": "errors",
    "Dialogue": "data.corpus",
    "ErcGraphError": "errors",
    "PIPELINES": "pipelines",
    "Pipeline": "pipelines.base",
    "Schema": "pipelines.base",
    "StorageError": "errors",
    "build_graph": "graphs.build",
    "draw_graph": "graphs.draw",
    "explain": "inference.explain",
    "load_corpus": "data.load",
    "load_recipe": "graphs.recipe",
    "sample_bayes_limit": "data.sample",
    "sample_corpus": "data.sample",
    "to_dgl": "graphs.convert",
    "to_networkx": "graphs.convert",
}

__all__ = [
    "PIPELINES",
    "CheckpointError",
    "ConfigError",
    "Corpus",
    "CorpusError",
    "Dialogue",
    "ErcGraphError",
    "Pipeline",
    "Schema",
    "StorageError",
    "build_graph",
    "draw_graph",
    "explain",
    "load_corpus",
    "load_recipe",
    "sample_bayes_limit",
    "sample_corpus",
    "to_dgl",
    "to_networkx",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
