"""Conversion of conversations to `HeteroData` graphs: node type = stream, edge type = `(source stream, relation, target stream)`.

A stream is a modality or a pair of modalities. Every stream has one row per utterance, so that row `i` is the same utterance in all
streams. The attribute `present` marks the rows that have a node. The graph has these attributes:

| where | attribute | what |
|---|---|---|
| `graph[stream]` | `x` | `(N, d)` features or states; missing if the corpus has no features |
| | `present` | `(N,)` bool; an absent node has no edges |
| | `speaker` | `(N,)` int64, index of the speaker by first appearance in the dialogue |
| | `dialogue`, `turn` | `(N,)` int64, index of the dialogue, and index of the utterance in the dialogue |
| | `y` | `(N,)` label index (-1: none), or score (NaN: none) |
| `graph[edge type]` | `edge_index` | `(2, E)`: source rows, target rows |
| | `edge_weight` | `(E,)`: `scale · times` of the edge rule, for angular weights multiplied by the similarity |
| | `unweighted` | instead of `edge_weight`: the reason, in words, why the edges have no weights |
| `graph["hyperedge"]` | `kind` | `(M,)` index of the rule; only if the recipe has hyperedges |
| | `names` | stream, speaker, or `turn i` of every hyperedge |
| `graph[stream, relation, "hyperedge"]` | `edge_index` | `(2, I)`: node rows, hyperedge indices, in the order of the nodes |
| `graph["hyperedge", relation, stream]` | `edge_index` | `(2, I)`: hyperedge indices, node rows, in the order of the nodes |
| `graph` | `ptr` | `(D + 1,)` first row of every dialogue, then `N` |
| | `texts`, `speakers` | lists with one string per utterance; `texts` may be empty |
| | `dialogue_ids`, `labels` | names of the dialogues, names of the label indices |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.corpus import Corpus, Dialogue
from erc_graph.data.ragged import Ragged
from erc_graph.errors import ConfigError, CorpusError
from erc_graph.graphs.hyperedges import Members
from erc_graph.graphs.recipe import EdgeRule, GraphRecipe, load_recipe
from erc_graph.graphs.rule_edges import graph_edges, rules_of
from erc_graph.graphs.rules import HYPEREDGE
from erc_graph.graphs.weights import angular, directions

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

NAMES = ("ptr", "texts", "speakers", "dialogue_ids", "labels")
_CHUNK = 2**23  # numbers gathered at a time while weights are computed


def build_graph(
    dialogues: Dialogue | Corpus | Iterable[Dialogue],
    recipe: str | Path | GraphRecipe = "pairwise",
    modalities: Iterable[str] | None = None,
) -> HeteroData:
    """Build one graph with all given conversations; node types are the modalities.

    An angular edge weight is the similarity of two states of equal width, but the features of two modalities rarely have the same width.
    Edges between modalities of different widths have no `edge_weight`; the edge attribute `unweighted` contains the reason. The node states
    that a method computes have equal widths, so a graph of these states has all weights (`build_from_states`, `Pipeline.graph`).

    Args:
        dialogues: A dialogue, a corpus, or several dialogues that have the same task and the same features and sequences.
        recipe: Name of a graph recipe, path of its TOML file, or a `GraphRecipe`.
        modalities: Modalities of the corpus to use; default: all. A modality that only has sequences of words or frames has nodes without
            `x`. For a corpus without features, nodes have no `x`, and the node types are the names in `modalities`, or else only `text`.

    Raises:
        ConfigError: the recipe is unknown or invalid, `modalities` is empty, or a modality has the name of an attribute of the graph.
        CorpusError: a modality is unknown, or the dialogues have different tasks, features or sequences.

    >>> from erc_graph.data.corpus import Corpus
    >>> from erc_graph.data.tasks import get_task
    >>> corpus = Corpus(
    ...     name="own", task=get_task("meld7"), dialogue_ids=("d",), ptr=torch.tensor([0, 3]), utterance_ids=("d_0", "d_1", "d_2"),
    ...     speakers=("Ross", "Joey", "Ross"), target=torch.tensor([0, 4, -1]))
    >>> build_graph(corpus, modalities=("text", "audio")).num_edges
    24
    """
    recipe = load_recipe(recipe)
    corpus = _as_corpus(dialogues)
    names = (modalities,) if isinstance(modalities, str) else None if modalities is None else tuple(modalities)
    if names == ():
        raise ConfigError("graph: modalities: expected at least one name, found none; leave `modalities` out to use all modalities")
    if corpus.features or corpus.sequences:
        names = tuple(dict.fromkeys((*corpus.features, *corpus.sequences))) if names is None else names
        inner = [name for name in names if name not in corpus.features and name in corpus.sequences]
        batch = corpus.batch([name for name in names if name not in inner])
        there = {**batch.present, **{name: corpus.sequences[name].present for name in inner}}
        present = {name: there[name] for name in names}
    else:
        batch = corpus.batch()
        present = {name: torch.ones(batch.utterances, dtype=torch.bool) for name in names or ("text",)}
    return _assemble(batch, batch.features, present, recipe, corpus)


def build_from_states(
    batch: Batch,
    states: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
    recipe: str | Path | GraphRecipe,
    corpus: Corpus | None = None,
) -> HeteroData:
    """Build a graph whose nodes have the states that a method computed. Edges between different streams also have weights.

    Args:
        batch: The dialogues.
        states: Stream → `(N, d)` node states of `N` utterances; the width `d` is the same in all streams.
        present: Stream → `(N,)` bool, whether each node is present.
        recipe: Name of a graph recipe, path of its TOML file, or a `GraphRecipe`.
        corpus: Corpus (`dialogue.corpus`) that gives the texts and names of the utterances of the batch, in the same order. `None`: no
            texts.

    Raises:
        ConfigError: the states have different widths.
    """
    widths = {name: value.shape[1] for name, value in states.items()}
    if len(set(widths.values())) > 1:
        found = ", ".join(f"{name} {width}" for name, width in widths.items())
        raise ConfigError(
            f"graph of states: expected the same width for the states of all modalities, found {found}; map the states to one "
            "width with linear layers first"
        )
    return _assemble(batch, states, {name: present[name] for name in states}, load_recipe(recipe), corpus)


def _assemble(
    batch: Batch, states: Mapping[str, Tensor], present: Mapping[str, Tensor], recipe: GraphRecipe, corpus: Corpus | None
) -> HeteroData:
    from torch_geometric.data import HeteroData

    graph = HeteroData()
    for name, mask in present.items():
        if name in (*NAMES, HYPEREDGE):
            raise ConfigError(
                f"graph: a modality cannot be called {name!r}, because the graph has an attribute of this name; rename the modality"
            )
        node = graph[name]
        if name in states:
            node.x = states[name]
        node.present, node.speaker, node.y = mask, batch.speaker, batch.target
        node.dialogue, node.turn, node.num_nodes = batch.dialogue, batch.turn, batch.utterances
    rules = rules_of(recipe)
    unit = {name: directions(value) for name, value in states.items()}
    for (m, relation, n), index in graph_edges(recipe, batch.ptr, batch.speaker, present, sizes=batch.sizes).items():
        edge = graph[m, relation, n]
        edge.edge_index = index
        weight = _weight(rules[relation], (m, n), index, unit)
        edge["unweighted" if isinstance(weight, str) else "edge_weight"] = weight
    graph.ptr = batch.ptr
    graph.texts = list(corpus.texts) if corpus else []
    graph.speakers = list(corpus.speakers) if corpus else [f"speaker {i + 1}" for i in batch.speaker.tolist()]
    graph.dialogue_ids = list(corpus.dialogue_ids) if corpus else [str(i) for i in range(len(batch))]
    graph.labels = list(corpus.task.labels) if corpus else []
    if recipe.hyperedges:
        _add_hyperedges(graph, batch, present, recipe)
    return graph


def _add_hyperedges(graph: HeteroData, batch: Batch, present: Mapping[str, Tensor], recipe: GraphRecipe) -> None:
    members = Members.of(recipe, len(present), batch)
    node = graph[HYPEREDGE]
    node.kind, node.num_nodes = members.kind, len(members.kind)
    node.names = [""] * len(members.kind)
    turns = [f"turn {turn}" for turn in batch.turn.tolist()]
    for rule, index in zip(recipe.hyperedges, members.index, strict=True):
        for s, stream in enumerate(present):
            called = {"stream": [stream] * batch.utterances, "turn": turns, "speaker": graph.speakers}[rule.over]
            for hyperedge, name in zip(index[:, s].tolist(), called, strict=True):
                node.names[hyperedge] = name
    incidences = {}
    for rule, index in zip(recipe.hyperedges, members.index, strict=True):
        for s, (stream, here) in enumerate(present.items()):
            row = here.nonzero().flatten()
            incidences[stream, rule.relation] = torch.stack([row, index[row, s]])
    for (stream, relation), index in incidences.items():
        graph[stream, relation, HYPEREDGE].edge_index = index
    for (stream, relation), index in incidences.items():
        graph[HYPEREDGE, relation, stream].edge_index = index.flip(0)


def _weight(rule: EdgeRule, streams: tuple[str, str], index: Tensor, unit: Mapping[str, Tensor]) -> Tensor | str:
    """Compute the edge weights `(E,)` of one relation between two streams, or return the reason why there are none.

    `unit` maps every stream to its node states, scaled to length one, `(N, d)`.
    """
    if rule.weight == "learned":
        return "learned: the operator computes the weight"
    scale = rule.scale * rule.times
    if rule.weight == "unit":
        return torch.full((index.shape[1],), scale, device=index.device)
    if absent := [name for name in streams if name not in unit]:
        return f"angular: {absent[0]} has no vectors to compare"
    source, target = (unit[name] for name in streams)
    if source.shape[1] != target.shape[1]:
        widths = f"{streams[0]} {source.shape[1]}, {streams[1]} {target.shape[1]}"
        return f"angular: expected vectors of equal width, found {widths}; the graph of a method's node states has these weights"
    # In pieces: a corpus has hundreds of thousands of edges, and gathering both ends at once would take gigabytes.
    pieces = index.split(max(1, _CHUNK // max(1, source.shape[1])), dim=1)
    cosine = [(source[i] * target[j]).sum(-1) for i, j in pieces]
    return scale * angular(torch.cat(cosine))


def _as_corpus(dialogues: Dialogue | Corpus | Iterable[Dialogue]) -> Corpus:
    if isinstance(dialogues, Corpus):
        return dialogues
    parts = [dialogues.corpus] if isinstance(dialogues, Dialogue) else [dialogue.corpus for dialogue in dialogues]
    if not parts:
        raise CorpusError("graph: expected at least one dialogue, found none")
    first = parts[0]
    if len(parts) == 1:
        return first
    for part in parts:
        for what, expected, found in (
            ("task", first.task.name, part.task.name),
            ("features", _widths(first), _widths(part)),
            ("sequences", _items(first), _items(part)),
            ("texts", bool(first.texts), bool(part.texts)),
        ):
            if expected != found:
                ids = f"{first.dialogue_ids[0]!r} and {part.dialogue_ids[0]!r}"
                raise CorpusError(
                    f"graph: the dialogues {ids} differ in {what} ({expected} and {found}); build a separate graph for each dialogue"
                )
    lengths = torch.cat([part.lengths for part in parts])
    return replace(
        first,
        dialogue_ids=sum((part.dialogue_ids for part in parts), ()),
        ptr=torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]),
        utterance_ids=sum((part.utterance_ids for part in parts), ()),
        speakers=sum((part.speakers for part in parts), ()),
        texts=sum((part.texts for part in parts), ()),
        target=torch.cat([part.target for part in parts]),
        features={name: torch.cat([part.features[name] for part in parts]) for name in first.features},
        present={name: torch.cat([part.present[name] for part in parts]) for name in first.features},
        sequences={name: _joined([part.sequences[name] for part in parts]) for name in first.sequences},
        splits={},
        annotations={},
    )


def _widths(corpus: Corpus) -> dict[str, int]:
    return {name: value.shape[1] for name, value in corpus.features.items()}


def _items(corpus: Corpus) -> dict[str, tuple[int, ...]]:
    return {name: value.item for name, value in corpus.sequences.items()}


def _joined(parts: list[Ragged]) -> Ragged:
    lengths = torch.cat([part.lengths for part in parts])
    return Ragged(torch.cat([part.values for part in parts]), torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]))
