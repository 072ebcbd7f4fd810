"""The report of a finished run: what its folder says, and what its corpus and its model still have to say.

Figures come from the run's own files. The corpus that the run names gives speakers and texts, the model of the first seed the graphs;
where one of them is gone, the report says so and shows the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from erc_graph.data.corpus import Corpus
from erc_graph.data.splits import folds, judged_rows
from erc_graph.errors import CheckpointError, CorpusError, ErcGraphError
from erc_graph.experiments.display import METRICS, SELECTION
from erc_graph.experiments.experiment import Experiment, from_dict
from erc_graph.experiments.result import PREDICTIONS, RESULT
from erc_graph.experiments.run import fold_folder
from erc_graph.experiments.settings import FILE, in_words, read_object, read_settings
from erc_graph.methods import PIPELINES
from erc_graph.methods.base import Pipeline
from erc_graph.methods.stage import infer
from erc_graph.report.explorer import Conversation, Edges
from erc_graph.report.predictions import Predictions, read_predictions
from erc_graph.training.checkpoint import BEST

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

    from erc_graph.report.page import Contents
    from erc_graph.training.history import History

REPORT = "report.html"
Scope = Literal["test", "all"]
_KINDS: dict[str, Any] = {
    **dict.fromkeys(("method", "dataset", "task", "protocol", "selection"), str),
    **dict.fromkeys(("labels", "modalities", "seeds"), list),
    **dict.fromkeys(("metrics", "baselines", "environment", "data"), dict),
    **dict.fromkeys(("members", "parameters"), int),
    "seconds_per_epoch": (int, float),
}


@dataclass(frozen=True)
class Made:
    """What was written: the file, its headline as plain values, notes for the reader, and whether it carries a corpus' text."""

    path: Path
    headline: dict[str, Any]
    notes: tuple[str, ...]
    licensed: bool


def make_report(folder: str | Path, *, text: bool = True, scope: Scope = "test") -> Made:
    """Write `report.html` into the folder of a finished run.

    Args:
        folder: What `python -m erc_graph.experiments.<method> --out` left.
        text: Whether the page carries what was said.
        scope: Conversations of the explorer: those that were judged, or the whole corpus.

    Raises:
        CheckpointError: the folder holds no finished run, or its files are damaged.
        StorageError: the report cannot be written.
    """
    from erc_graph.report.page import write_page

    folder = Path(folder)
    result = read_result(folder)
    found = read_predictions(folder / PREDICTIONS, result["labels"])
    notes: list[str] = []
    explored = _explore(folder, result["seeds"][0], found, scope, notes)
    history = _history(folder, result["seeds"][0], notes)
    conversations = explored.conversations or predicted_only(found)
    contents = _contents(folder, result, found, history, replace(explored, conversations=conversations), notes, text)
    path = write_page(folder / REPORT, contents)
    licensed = text and not explored.generated and any(any(c.texts) for c in conversations)
    return Made(path, _headline(path, contents), tuple(notes), licensed)


# -- files of the run -----------------------------------------------------------------------


def read_result(folder: Path) -> dict[str, Any]:
    """The content of a run's result.json.

    Raises:
        CheckpointError: absent, damaged, or not the result of a run.
    """
    path = folder / RESULT
    try:
        result = {"members": 1, **read_object(path)}
        if wrong := [name for name, kind in _KINDS.items() if not isinstance(result.get(name), kind)]:
            raise ValueError(f"no {wrong[0]}")
        shown = {**result["metrics"]["test"], **{f"baseline {name}": value for name, value in _baselines(result)}}
        wrong = [name for name, value in shown.items() if name != "loss" and not all(isinstance(v, (int, float)) for v in value["values"])]
        if wrong or not result["seeds"] or not all(isinstance(name, str) for name in (*result["labels"], *result["modalities"])):
            raise ValueError(f"no {wrong[0] if wrong else 'seeds, labels or modalities'}")
    except (FileNotFoundError, NotADirectoryError):
        advice = "finish it with --resume" if (folder / FILE).exists() else "name the folder of --out"
        if folder.is_dir() and any(folder.glob("table-*.json")):
            advice = "an ablation table has no report"
        raise CheckpointError(f"{path}: expected the result of a finished run, found no such file; {advice}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: expected the result of a run, found something else ({in_words(error)}); --resume writes it anew"
        ) from None
    return result


def _baselines(result: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Metrics of the baselines."""
    known = [result["baselines"].get(name, {}) for name in ("majority", "bigru")]
    return [(name, value) for values in known for name, value in values.items() if isinstance(value, dict) and name != "loss"]


def _settings(folder: Path) -> tuple[Experiment, str]:
    """The run's experiment, and the SHA-256 of its corpus."""
    stored = read_settings(folder)
    if stored.method not in PIPELINES:
        raise CheckpointError(
            f"{folder / FILE}: expected the settings of a run, found something else (the unknown method {stored.method!r})"
        )
    return from_dict(stored.method, stored.values, str(folder / FILE)), stored.data_sha256


def _history(folder: Path, seed: int, notes: list[str]) -> History | None:
    """How the first seed was trained; of several folds the first."""
    from erc_graph.training.checkpoint import LAST, State, refused
    from erc_graph.training.history import History

    place = folder / f"seed-{seed}"
    files = [place / LAST, *sorted(place.glob(f"*/{LAST}"))]
    path = next((file for file in files if file.is_file()), files[0])
    try:
        with refused(path):
            return History.from_dict(State.load(path).history)
    except CheckpointError as error:
        notes.append(f"No training curves drawn anew: {error}.")
        return None


# -- corpus and model -----------------------------------------------------------------------


@dataclass(frozen=True)
class Explored:
    """Conversations with predictions and graphs; `states` belong to the rows of predictions.csv."""

    conversations: list[Conversation] = field(default_factory=list)
    streams: tuple[str, ...] = ()
    states: NDArray[np.float32] | None = None
    generated: bool = False


def _explore(folder: Path, seed: int, found: Predictions, scope: Scope, notes: list[str]) -> Explored:
    """Conversations of the corpus as the model sees them; notes say what is missing."""
    try:
        experiment, digest = _settings(folder)
        corpus = _corpus(experiment, digest)
        divisions = folds(corpus, experiment.run.protocol)
        judged = sum(int(judged_rows(corpus, fold.test, fold.test_speakers).sum()) for fold in divisions)
    except ErcGraphError as error:
        notes.append(f"No texts and no graphs: the corpus of this run cannot be read. {error}")
        return Explored()
    if len(found) != judged:
        raise CheckpointError(f"{folder / PREDICTIONS}: expected {judged} judged turns, found {len(found)}; --resume writes it anew")
    tested = list(dict.fromkeys(name for fold in divisions for name in fold.test))
    ids = tested if scope == "test" else list(corpus.dialogue_ids)
    seen = _Seen(corpus, len(found.labels) if found.probabilities is not None else 1)
    try:
        for fold in divisions:
            mine = [name for name in ids if name in set(fold.test) or (fold is divisions[0] and name not in set(tested))]
            pipeline = Pipeline.from_pretrained(fold_folder(folder / f"seed-{seed}", divisions, fold) / BEST)
            seen.ask(pipeline, [name for name in mine if name not in seen.graphs])
    except ErcGraphError as error:
        notes.append(f"No graphs: the model of the first seed cannot be used. {error}")
    else:
        if not seen.streams:
            notes.append(f"The method {experiment.method} has no graph; the explorer shows turns and predictions.")
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
        raise CorpusError(f"{run.data}: is no longer the corpus that the run was made with; its SHA-256 differs")
    return corpus


class _Seen:
    """What models say about the rows of a corpus: scores and states by row, graphs by dialogue."""

    def __init__(self, corpus: Corpus, width: int) -> None:
        self.corpus = corpus
        self.scores = np.full((corpus.utterances, width), np.nan)
        self.states: NDArray[np.float32] | None = None
        self.graphs: dict[str, tuple[Edges, NDArray[np.bool_]] | None] = {}
        self.trust: dict[str, dict[str, NDArray[np.float64]]] = {}
        self.streams: tuple[str, ...] = ()

    def ask(self, pipeline: Pipeline, ids: list[str]) -> None:
        """Predictions and graphs of some dialogues."""
        if not ids:
            return
        part = self.corpus.subset(ids)
        answer = infer(pipeline, pipeline.schema.batch(part).to(pipeline.device))
        rows = self.corpus.rows(self.corpus.position[name] for name in ids).numpy()
        score = self.corpus.task.kind == "score"
        self.scores[rows] = (answer.scores if score else answer.scores.softmax(-1)).cpu().numpy()
        if answer.states is not None:
            if self.states is None:
                self.states = np.zeros((self.corpus.utterances, answer.states.shape[1]), dtype=np.float32)
            self.states[rows] = answer.states.cpu().numpy()
        for name in tqdm(ids, desc="graphs", unit=" conversations", disable=None, leave=False):
            dialogue = part[name]
            graph = pipeline.graph(dialogue)
            self.graphs[name] = None if graph is None else self._edges(graph)
            shares = pipeline.trust(pipeline.schema.batch(dialogue.corpus).to(pipeline.device))
            self.trust[name] = {stream: value.detach().double().cpu().numpy() for stream, value in shares.items()}

    def _edges(self, graph: HeteroData) -> tuple[Edges, NDArray[np.bool_]]:
        self.streams = tuple(graph.node_types)
        lane = {name: i for i, name in enumerate(self.streams)}
        ends: list[list[NDArray[Any]]] = [[], [], [], [], []]
        for kind in graph.edge_types:
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
        """One dialogue as the explorer shows it."""
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
            seven = np.where(np.isnan(both), -1, np.clip(np.round(np.nan_to_num(both)), -3, 3) + 3).astype(np.int64)
            return Conversation(**common, target=seven[:, 0], guess=seven[:, 1], scores=both)
        chances = self.scores[rows]
        guess = np.where(known, np.nan_to_num(chances).argmax(1), -1)
        return Conversation(**common, target=target.astype(np.int64), guess=guess, probabilities=chances)


def _overlay(seen: _Seen, found: Predictions) -> NDArray[np.int64] | None:
    """Put the recorded predictions over the model's: those are the ones that the figures count. Returns their rows."""
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
    """Conversations made of the judged turns alone, for a run whose corpus is gone."""
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


# -- words and figures ----------------------------------------------------------------------


def _contents(
    folder: Path,
    result: Mapping[str, Any],
    found: Predictions,
    history: History | None,
    explored: Explored,
    notes: Iterable[str],
    text: bool,
) -> Contents:
    from erc_graph.report.page import Contents

    seeds, members = len(result["seeds"]), result["members"]
    protocol = (
        f"Protocol {result['protocol']}; epoch: {SELECTION.get(result['selection'], result['selection'])}; "
        f"{seeds} seed{'s, mean ± standard deviation' if seeds > 1 else ', so no spread'}"
        f"{f', {members} networks each, whose mean is judged' if members > 1 else ''}; judged on {len(found):,} test turns "
        f"in {len(set(found.dialogue)):,} conversations."
    )
    return Contents(
        result=result,
        columns=_columns(result),
        protocol=protocol,
        predictions=found,
        conversations=explored.conversations,
        streams=explored.streams,
        history=history,
        states=explored.states,
        pictures={"curves": folder / "curves.png", "projection": folder / "tsne.png"},
        notes=tuple(notes),
        text=text,
    )


def _columns(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Metrics of the headline: F1 first, which the epoch is compared by in the field."""
    columns = METRICS["classification" if result["labels"] else "score"]
    return sorted(columns, key=lambda column: column[0] not in ("weighted_f1", "f1"))


def _headline(path: Path, contents: Contents) -> dict[str, Any]:
    result = contents.result
    keep = ("method", "dataset", "task", "modalities", "protocol", "selection", "seeds")
    return {
        "report": str(path),
        "bytes": path.stat().st_size,
        **{key: result[key] for key in keep},
        "metrics": {key: result["metrics"]["test"][key] for key, _ in contents.columns},
        "baselines": {
            name: {key: values[key]["mean"] for key, _ in contents.columns if key in values}
            for name, values in result.get("baselines", {}).items()
            if name in ("majority", "bigru")
        },
        "turns": len(contents.predictions),
        "conversations": len(contents.conversations),
        "graph": list(contents.streams),
        "text": contents.text and any(any(c.texts) for c in contents.conversations),
        "notes": list(contents.notes),
    }
