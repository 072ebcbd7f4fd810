"""Recognise emotions in conversations with graphs.

>>> import erc_graph
>>> corpus = erc_graph.load_corpus("sample")
>>> graph = erc_graph.build_graph(corpus[0], "pairwise")
>>> sorted(graph.node_types)
['audio', 'text', 'visual']

The functions and classes are imported at their first use, so `import erc_graph` does not wait for PyTorch Geometric.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from erc_graph.data.corpus import Corpus, Dialogue
    from erc_graph.data.files.load import load_corpus
    from erc_graph.data.files.transcripts import load_transcript
    from erc_graph.data.sample.bayes_limit import sample_bayes_limit
    from erc_graph.data.sample.raw import sample_raw_corpus
    from erc_graph.data.sample.vectors import sample_corpus
    from erc_graph.data.utterance import Utterance
    from erc_graph.errors import CheckpointError, ConfigError, CorpusError, ErcGraphError, StorageError
    from erc_graph.graphs.build import build_graph
    from erc_graph.graphs.convert import to_dgl, to_networkx
    from erc_graph.graphs.dataset import graph_dataset
    from erc_graph.graphs.graphml import write_graphml
    from erc_graph.graphs.recipe import load_recipe
    from erc_graph.inference.answer import Answer, Answers
    from erc_graph.inference.explain import explain
    from erc_graph.inference.pipeline import Pipeline, load_starter
    from erc_graph.inference.prepare import prepare
    from erc_graph.inference.stream import Stream, Turn
    from erc_graph.methods import METHODS
    from erc_graph.methods.base import Method
    from erc_graph.methods.schema import Schema
    from erc_graph.report.draw import draw_graph
    from erc_graph.report.explanation import draw_explanation
    from erc_graph.report.interactive import GraphView, show
    from erc_graph.training.config import TrainingConfig
    from erc_graph.training.loop import fit
    from erc_graph.training.metrics import evaluate

__version__ = "0.1.0"

_HOME = {
    "Answer": "inference.answer",
    "Answers": "inference.answer",
    "CheckpointError": "errors",
    "ConfigError": "errors",
    "Corpus": "data.corpus",
    "CorpusError": "errors",
    "Dialogue": "data.corpus",
    "ErcGraphError": "errors",
    "GraphView": "report.interactive",
    "METHODS": "methods",
    "Method": "methods.base",
    "Pipeline": "inference.pipeline",
    "Schema": "methods.schema",
    "StorageError": "errors",
    "Stream": "inference.stream",
    "TrainingConfig": "training.config",
    "Turn": "inference.stream",
    "Utterance": "data.utterance",
    "build_graph": "graphs.build",
    "draw_explanation": "report.explanation",
    "draw_graph": "report.draw",
    "evaluate": "training.metrics",
    "explain": "inference.explain",
    "fit": "training.loop",
    "graph_dataset": "graphs.dataset",
    "load_corpus": "data.files.load",
    "load_recipe": "graphs.recipe",
    "load_starter": "inference.pipeline",
    "load_transcript": "data.files.transcripts",
    "prepare": "inference.prepare",
    "sample_bayes_limit": "data.sample.bayes_limit",
    "sample_corpus": "data.sample.vectors",
    "sample_raw_corpus": "data.sample.raw",
    "show": "report.interactive",
    "to_dgl": "graphs.convert",
    "to_networkx": "graphs.convert",
    "write_graphml": "graphs.graphml",
}

__all__ = [
    "METHODS",
    "Answer",
    "Answers",
    "CheckpointError",
    "ConfigError",
    "Corpus",
    "CorpusError",
    "Dialogue",
    "ErcGraphError",
    "GraphView",
    "Method",
    "Pipeline",
    "Schema",
    "StorageError",
    "Stream",
    "TrainingConfig",
    "Turn",
    "Utterance",
    "build_graph",
    "draw_explanation",
    "draw_graph",
    "evaluate",
    "explain",
    "fit",
    "graph_dataset",
    "load_corpus",
    "load_recipe",
    "load_starter",
    "load_transcript",
    "prepare",
    "sample_bayes_limit",
    "sample_corpus",
    "sample_raw_corpus",
    "show",
    "to_dgl",
    "to_networkx",
    "write_graphml",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
