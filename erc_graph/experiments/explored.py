"""Conversations of a finished run with predictions, classifier inputs and graphs of its model, for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from erc_graph.data.corpus import Corpus
from erc_graph.data.progress import Progress
from erc_graph.data.splits import folds, judged_rows
from erc_graph.errors import CheckpointError, CorpusError, ErcGraphError
from erc_graph.experiments.experiment import Experiment, from_dict
from erc_graph.experiments.jobs import fold_folder
from erc_graph.experiments.result import PREDICTIONS
from erc_graph.experiments.settings import FILE, named_again, read_settings
from erc_graph.inference.answer import Answer
from erc_graph.inference.pipeline import Pipeline
from erc_graph.methods import METHODS
from erc_graph.methods.own_file import find_method, is_own
from erc_graph.methods.stage import infer
from erc_graph.report.explorer import Conversation, Edges
from erc_graph.report.predictions import Predictions
from erc_graph.training.checkpoint import BEST

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

Scope = Literal["test", "all"]
HYPEREDGE = "hyperedge"  # a node type that is no stream


@dataclass(frozen=True)
class Explored:
    """Conversations of a run, with predictions and graphs for the report.

    Attributes:
        conversations: Conversations with predictions and graphs.
        streams: Names of the node types of the graphs, except hyperedges.
        states: Inputs of the classifier, one vector per row of `predictions.csv`; `None` if they are not available.
        generated: Whether the corpus is a sample corpus, whose texts are generated.
    """

    conversations: list[Conversation] = field(default_factory=list)
    streams: tuple[str, ...] = ()
    states: NDArray[np.float32] | None = None
    generated: bool = False


def explore(folder: Path, seed: int, found: Predictions, scope: Scope, notes: list[str], method: str | None = None) -> Explored:
    """Return conversations of the corpus with the predictions and graphs of the model.

    Args:
        folder: Folder of the run.
        seed: Seed of the model.
        found: Recorded predictions of the model.
        scope: `test`: the evaluated conversations; `all`: all conversations of the corpus.
        notes: List to which a note is appended if texts or graphs are not available.
        method: File and class of a user's own method.

    Raises:
        CheckpointError: the number of recorded predictions differs from the number of evaluated utterances.
    """
    try:
        experiment, digest = _settings(folder, method)
        corpus = _corpus(experiment, digest)
        divisions = folds(corpus, experiment.run.protocol)
        judged = sum(int(judged_rows(corpus, fold.test, fold.test_speakers).sum()) for fold in divisions)
    except ErcGraphError as error:
        notes.append(f"No texts and no graphs: the corpus of this run cannot be read. {error}")
        return Explored()
    if len(found) != judged:
        raise CheckpointError(
            f"{folder / PREDICTIONS}: expected predictions for {judged} utterances, found predictions for {len(found)}; "
            "continue the run with --resume to write the file again"
        )
    tested = list(dict.fromkeys(name for fold in divisions for name in fold.test))
    ids = tested if scope == "test" else list(corpus.dialogue_ids)
    kind = find_method(experiment.method)
    seen = _Seen(corpus, len(found.labels) if found.probabilities is not None else 1)
    try:
        for fold in divisions:
            mine = [name for name in ids if name in set(fold.test) or (fold is divisions[0] and name not in set(tested))]
            pipeline = Pipeline.from_pretrained(fold_folder(folder / f"seed-{seed}", divisions, fold) / BEST, kind)
            seen.ask(pipeline, [name for name in mine if name not in seen.graphs])
    except ErcGraphError as error:
        notes.append(f"No graphs: the model of the first seed cannot be used. {error}")
    else:
        if not seen.streams:
            notes.append(f"The method {experiment.method} has no graph; the explorer shows utterances and predictions.")
    rows = _overlay(seen, found)
    split = dict.fromkeys(corpus.dialogue_ids, "unused") | dict.fromkeys(tested, "test")
    if len(divisions) == 1:
        split |= {name: part for part in ("train", "dev") for name in getattr(divisions[0], part)}
    conversations = [seen.conversation(name, split[name], found.probabilities is None) for name in ids]
    states = seen.states[rows] if seen.states is not None and rows is not None and len(divisions) == 1 else None
    return Explored(conversations, seen.streams, states, "sample" in corpus.provenance)


def _corpus(experiment: Experiment, digest: str) -> Corpus:
    from erc_graph.data.digest import corpus_sha256
    from erc_graph.data.files.load import load_corpus

    run = experiment.run
    corpus = load_corpus(run.data, task=run.task, strict=run.strict)
    if corpus_sha256(corpus) != digest:
        raise CorpusError(f"{run.data}: the corpus has changed since the run was trained (its SHA-256 differs); restore the earlier corpus")
    return corpus


class _Seen:
    """Outputs of the models of a run: scores and classifier inputs of each utterance, and the graph of each dialogue."""

    def __init__(self, corpus: Corpus, width: int) -> None:
        self.corpus = corpus
        self.scores = np.full((corpus.utterances, width), np.nan)
        self.states: NDArray[np.float32] | None = None
        self.graphs: dict[str, tuple[Edges, NDArray[np.bool_]] | None] = {}
        self.trust: dict[str, dict[str, NDArray[np.float64]]] = {}
        self.streams: tuple[str, ...] = ()

    def ask(self, pipeline: Pipeline, ids: list[str]) -> None:
        """Compute and store predictions and graphs of the dialogues `ids`."""
        if not ids:
            return
        part = self.corpus.subset(ids)
        answer = infer(pipeline.method, pipeline.schema.batch(part).to(pipeline.device))
        rows = self.corpus.rows(self.corpus.position[name] for name in ids).numpy()
        score = self.corpus.task.kind == "score"
        self.scores[rows] = (answer.scores if score else answer.scores.softmax(-1)).cpu().numpy()
        if answer.states is not None:
            if self.states is None:
                self.states = np.zeros((self.corpus.utterances, answer.states.shape[1]), dtype=np.float32)
            self.states[rows] = answer.states.cpu().numpy()
        for name in Progress(ids, desc="graphs", unit=" conversations", leave=False):
            dialogue = part[name]
            graph = pipeline.graph(dialogue)
            self.graphs[name] = None if graph is None else self._edges(graph)
            shares = pipeline.method.trust(pipeline.schema.batch(dialogue.corpus).to(pipeline.device))
            self.trust[name] = {stream: value.detach().double().cpu().numpy() for stream, value in shares.items()}

    def _edges(self, graph: HeteroData) -> tuple[Edges, NDArray[np.bool_]]:
        self.streams = tuple(name for name in graph.node_types if name != HYPEREDGE)
        lane = {name: i for i, name in enumerate(self.streams)}
        ends: list[list[NDArray[Any]]] = [[], [], [], [], []]
        for kind in graph.edge_types:
            if HYPEREDGE in (kind[0], kind[2]):
                continue  # the explorer shows messages from turn to turn
            edge = graph[kind]
            index = edge.edge_index.cpu().numpy()
            count = index.shape[1]
            weight = edge.edge_weight.detach().double().cpu().numpy() if "edge_weight" in edge else np.full(count, np.nan)
            parts = (index[0], np.full(count, lane[kind[0]]), index[1], np.full(count, lane[kind[2]]), weight)
            for values, found in zip(ends, parts, strict=True):
                values.append(found)
        joined = [np.concatenate(values) if values else np.zeros(0, dtype=np.int64) for values in ends]
        edges = Edges(source=np.column_stack(joined[:2]), target=np.column_stack(joined[2:4]), weight=joined[4].astype(np.float64))
        present = np.column_stack([graph[name].present.cpu().numpy() for name in self.streams])
        return edges.strongest(), present

    def conversation(self, name: str, split: str, score: bool) -> Conversation:
        """Return one dialogue with its predictions and graph."""
        corpus, place = self.corpus, self.corpus.position[name]
        rows = slice(int(corpus.ptr[place]), int(corpus.ptr[place + 1]))
        known = ~np.isnan(self.scores[rows]).any(1)
        target = corpus.target[rows].numpy()
        graph = self.graphs.get(name)
        common: dict[str, Any] = {
            "id": name,
            "split": split,
            "utterances": corpus.utterance_ids[rows],
            "speakers": corpus.speakers[rows],
            "texts": corpus.texts[rows],
            "edges": graph[0] if graph else None,
            "present": graph[1] if graph else None,
            "trust": self.trust.get(name, {}),
        }
        if score:
            both = np.column_stack([target.astype(np.float64), self.scores[rows, 0]])
            seven = _seven(both)
            return Conversation(**common, target=seven[:, 0], guess=seven[:, 1], scores=both)
        chances = self.scores[rows]
        guess = np.where(known, np.nan_to_num(chances).argmax(1), -1)
        return Conversation(**common, target=target.astype(np.int64), guess=guess, probabilities=chances)


def _overlay(seen: _Seen, found: Predictions) -> NDArray[np.int64] | None:
    """Replace predictions of the model by the recorded predictions, and return the indices of their utterances in the corpus."""
    corpus = seen.corpus
    homes = (corpus.dialogue_ids[place] for place in corpus.dialogue_of.tolist())
    place = {key: row for row, key in enumerate(zip(homes, corpus.utterance_ids, strict=True))}
    rows = [place.get(key, -1) for key in zip(found.dialogue, found.utterance, strict=True)]
    if min(rows) < 0:
        return None
    at = np.array(rows)
    if found.probabilities is not None:
        seen.scores[at] = found.probabilities
    elif found.scores is not None:
        seen.scores[at, 0] = found.scores[:, 1]
    return at


def predicted_only(found: Predictions) -> list[Conversation]:
    """Return conversations that contain only the evaluated utterances, for a run whose corpus is no longer available."""
    names = np.array(found.dialogue, dtype=object)
    conversations = []
    for name in dict.fromkeys(found.dialogue):
        rows = np.flatnonzero(names == name)
        conversations.append(
            Conversation(
                id=name,
                split="test",
                utterances=tuple(found.utterance[row] for row in rows.tolist()),
                target=found.target[rows],
                guess=found.guess[rows],
                probabilities=None if found.probabilities is None else found.probabilities[rows],
                scores=None if found.scores is None else found.scores[rows],
            )
        )
    return conversations


def answered(answers: Sequence[Answer], labels: Sequence[str]) -> list[Conversation]:
    """Return conversations from the predictions of a model, in the order of the predictions; true labels are unknown.

    Args:
        answers: One prediction per utterance.
        labels: Names of the classes in index order; empty for a score task, whose scores are rounded to the seven classes -3 to 3.
    """
    found: dict[str, list[Answer]] = {}
    for answer in answers:
        found.setdefault(answer.dialogue, []).append(answer)
    return [_answered(name, rows, {label: i for i, label in enumerate(labels)}) for name, rows in found.items()]


def _answered(name: str, rows: Sequence[Answer], index: Mapping[str, int]) -> Conversation:
    scores = np.array([[np.nan, np.nan if row.score is None else row.score] for row in rows])
    return Conversation(
        id=name,
        split="",
        utterances=tuple(str(row.turn) for row in rows),
        speakers=tuple(row.speaker for row in rows),
        texts=tuple(row.text for row in rows),
        times=tuple(row.when for row in rows),
        target=np.full(len(rows), -1),
        guess=np.array([index[row.emotion] for row in rows]) if index else _seven(scores[:, 1]),
        probabilities=np.array([[row.probabilities[label] for label in index] for row in rows]) if index else None,
        scores=None if index else scores,
        unsure=None if rows[0].unsure is None else np.array([bool(row.unsure) for row in rows]),
    )


def _seven(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the class index 0 to 6 of each score from -3 to 3, or -1 if the score is NaN."""
    return np.where(np.isnan(scores), -1, np.clip(np.round(np.nan_to_num(scores)), -3, 3) + 3).astype(np.int64)


def _settings(folder: Path, method: str | None) -> tuple[Experiment, str]:
    """Return the experiment of a run and the recorded SHA-256 of its corpus."""
    stored = read_settings(folder)
    if not is_own(stored.method) and stored.method not in METHODS:
        raise CheckpointError(
            f"{folder / FILE}: expected a run of an installed method, found the unknown method {stored.method!r}; install the "
            "package with this method"
        )
    return from_dict(named_again(folder, method) or stored.method, stored.values, str(folder / FILE)), stored.data_sha256
