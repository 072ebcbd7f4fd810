from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from erc_graph.report.explorer import Conversation, Edges
from erc_graph.report.page import Contents
from erc_graph.report.predictions import Predictions
from erc_graph.training.history import Epoch, History, StageHistory

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

LABELS = ("joy", "sadness", "neutral")
HOSTILE = "<script>alert(1)</script>"


def complete(turns: int, streams: int) -> Edges:
    """Every turn to every turn within a stream, and the streams of a turn to each other; weights fall with distance."""
    source, target, weight = [], [], []
    for t in range(turns):
        for s in range(streams):
            for u in range(turns):
                source.append((u, s))
                target.append((t, s))
                weight.append(1 / (1 + abs(t - u)) - 0.01 * (u > t))
            for other in range(streams):
                if other != s:
                    source.append((t, other))
                    target.append((t, s))
                    weight.append(0.35)
    return Edges(source=np.array(source), target=np.array(target), weight=np.array(weight))


def conversation(number: int, turns: int, **changes: Any) -> Conversation:
    random = np.random.default_rng(number)
    chances = random.dirichlet(np.ones(3), turns)
    values: dict[str, Any] = {
        "id": f"talk-{number}",
        "split": "test",
        "utterances": tuple(f"talk-{number}_{t}" for t in range(turns)),
        "speakers": tuple(("Ada", "Ben", "Zoë")[t % 3] for t in range(turns)),
        "texts": tuple(f"sentence {t} of {number}" for t in range(turns)),
        "target": (chances.argmax(1) + (random.random(turns) < 0.4)) % 3,
        "guess": chances.argmax(1),
        "probabilities": chances,
        "present": np.array([[True, t != 1] for t in range(turns)]),
        "edges": complete(turns, 2),
    }
    return Conversation(**{**values, **changes})


def hostile() -> Conversation:
    """What a corpus may say: markup, quotes, line separators, control characters, a lone surrogate."""
    texts = (HOSTILE, "</script><img src=x onerror=alert(2)>", "a & b \u2028 c \x00 \ud800", '"><svg onload=alert(3)>')
    return conversation(7, 4, id=f"d{HOSTILE}", texts=texts, speakers=("<b>Eve</b>", "A", "'\"", "<b>Eve</b>"))


def gather(conversations: list[Conversation]) -> Predictions:
    return Predictions(
        labels=LABELS,
        dialogue=tuple(c.id for c in conversations for _ in range(len(c))),
        utterance=tuple(name for c in conversations for name in c.utterances),
        target=np.concatenate([c.target for c in conversations]),
        guess=np.concatenate([c.guess for c in conversations]),
        probabilities=np.concatenate([c.probabilities for c in conversations if c.probabilities is not None]),
    )


def spread(*values: float) -> dict[str, Any]:
    return {"mean": float(np.mean(values)), "std": 0.0, "values": list(values)}


@pytest.fixture
def make() -> Callable[..., Contents]:
    """Contents of a small report, with changes."""

    def contents(**changes: Any) -> Contents:
        conversations = changes.pop("conversations", [conversation(1, 9), hostile(), *(conversation(n, 5) for n in range(2, 6))])
        found = gather(conversations)
        test = {name: spread(0.6, 0.7) for name in ("accuracy", "weighted_f1", *(f"f1/{label}" for label in LABELS))}
        result = {
            "method": "pairwise", "dataset": f"mine {HOSTILE}", "task": "t", "labels": list(LABELS), "modalities": ["text", "audio"],
            "seeds": [0, 1], "metrics": {"test": test}, "baselines": {"majority": {"accuracy": spread(0.4)}},
            "parameters": 1234, "seconds_per_epoch": 0.5, "data": {"extractors": {"text": HOSTILE}},
        }  # fmt: skip
        epochs = [Epoch(1 / (i + 1), {"accuracy": i / 5, "weighted_f1": i / 6}, 1.0) for i in range(4)]
        values: dict[str, Any] = {
            "result": result,
            "columns": [("weighted_f1", "wF1"), ("accuracy", "accuracy")],
            "protocol": "official; two seeds",
            "predictions": found,
            "conversations": conversations,
            "streams": ("audio", "text"),
            "history": History([StageHistory("train", epochs, 3)]),
            "states": np.random.default_rng(0).standard_normal((len(found), 4)).astype(np.float32),
        }
        return Contents(**{**values, **changes})

    return contents


def talk(
    speakers: Sequence[int],
    edges: Mapping[tuple[str, str, str], Sequence[tuple[int, ...]]],
    *,
    weights: Mapping[tuple[str, str, str], Sequence[float]] | None = None,
    hyperedges: Sequence[str] = (),
    streams: Sequence[str] = ("text",),
    names: Sequence[str] = (),
    texts: Sequence[str] = (),
) -> HeteroData:
    """A graph of one conversation by hand: edges `(source turn, target turn)` by type, hyperedges by name."""
    from torch_geometric.data import HeteroData

    graph, turns = HeteroData(), len(speakers)
    for stream in streams:
        node = graph[stream]
        node.present, node.speaker = torch.ones(turns, dtype=torch.bool), torch.tensor(speakers)
        node.dialogue, node.turn = torch.zeros(turns, dtype=torch.long), torch.arange(turns)
        node.y, node.num_nodes = torch.arange(turns) % 3, turns
    if hyperedges:
        node = graph["hyperedge"]
        node.kind, node.names, node.num_nodes = torch.zeros(len(hyperedges), dtype=torch.long), list(hyperedges), len(hyperedges)
    for kind, ends in edges.items():
        graph[kind].edge_index = torch.tensor(ends, dtype=torch.long).view(-1, 2).T
        if weights is not None and kind in weights:
            graph[kind].edge_weight = torch.tensor(weights[kind])
    graph.ptr = torch.tensor([0, turns])
    graph.texts = list(texts)
    graph.speakers = [(names or ("Ann", "Bob", "Eve", "Kim", "Lee", "Mia", "Ned", "Pia", "Tom"))[code] for code in speakers]
    graph.dialogue_ids, graph.labels = ["talk"], list(LABELS)
    return graph


def four_relations(turns: int = 12, speakers: int = 2, window: int = 3, streams: Sequence[str] = ("text",), **changes: Any) -> HeteroData:
    """Same or other speaker, past or future, within a window, with random weights; `cross` between streams."""
    random = np.random.default_rng(1)
    who = [turn % speakers for turn in range(turns)]
    edges: dict[tuple[str, str, str], list[tuple[int, ...]]] = {}
    for stream in streams:
        for i in range(turns):
            for j in range(max(0, i - window), min(turns, i + window + 1)):
                relation = f"{'same' if who[i] == who[j] else 'other'}_{'past' if i <= j else 'future'}"
                edges.setdefault((stream, relation, stream), []).append((i, j))
        for other in streams:
            if other != stream:
                edges[stream, "cross", other] = [(i, i) for i in range(turns)]
    weights = {kind: random.random(len(ends)).tolist() for kind, ends in edges.items()}
    return talk(who, edges, weights=weights, streams=streams, **changes)
