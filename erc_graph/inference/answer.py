"""Prediction of all utterances of a corpus in batches, and the classes of the result: `Answer` (one utterance) and `Answers` (a list)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

import torch
from torch import Tensor

from erc_graph.data.annotations import TIMES
from erc_graph.data.batch import Batch
from erc_graph.data.corpus import Corpus
from erc_graph.data.dataframe import make_frame
from erc_graph.data.numbers import check_numbers
from erc_graph.data.ragged import Ragged, shape_text
from erc_graph.errors import CheckpointError, CorpusError
from erc_graph.inference.saved import Network
from erc_graph.methods.stage import infer

if TYPE_CHECKING:
    import pandas

BUDGET = 4096  # padded turns in one forward pass: memory stays small, whatever the lengths


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One utterance with its predicted emotion.

    Attributes:
        dialogue: Id of the conversation.
        turn: Position of the utterance in the conversation, from 0.
        speaker: Name of the speaker.
        text: The transcript; empty if the corpus has no text.
        emotion: The most probable label, or, if the task has numeric scores, the score as text, such as `+0.8`.
        probabilities: Label → probability, in the label order of the task; the sum is one. Empty if the task has numeric scores.
        score: The predicted score, if the task has numeric scores; `None` for a classification.
        start: Start of the utterance in the recording, in seconds; `None` if unknown.
        end: End of the utterance in the recording, in seconds; `None` if unknown.
        time: Time at which the utterance was written, as text copied from the input file; `None` if unknown.
        unsure: Whether the probability of `emotion` is below the threshold set by the user; `None` if the user set no threshold.
    """

    dialogue: str
    turn: int
    speaker: str
    text: str
    emotion: str
    probabilities: dict[str, float] = field(default_factory=dict)
    score: float | None = None
    start: float | None = None
    end: float | None = None
    time: str | None = None
    unsure: bool | None = None

    @property
    def times(self) -> dict[str, float | str]:
        """Return those times of the utterance (`start`, `end` and `time`) that are known."""
        found = {"start": self.start, "end": self.end, "time": self.time}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def when(self) -> str:
        """Return `start` as a text of minutes and seconds, or `time` if `start` is unknown. The text is empty if both are unknown."""
        if self.start is None:
            return self.time or ""
        minutes, seconds = divmod(int(self.start), 60)
        return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}" if minutes >= 60 else f"{minutes}:{seconds:02d}"

    @property
    def confidence(self) -> float | None:
        """Return the probability of the predicted label; `None` if the task has numeric scores instead of labels."""
        return self.probabilities.get(self.emotion)

    def as_dict(self) -> dict[str, Any]:
        """Return a dict with `turn`, `speaker`, `text`, `emotion` and `probabilities`.

        The dict also contains those of the keys `start`, `end`, `time`, `unsure` and `score` whose values are not `None`.
        """
        plain: dict[str, Any] = {"turn": self.turn, **self.times, "speaker": self.speaker, "text": self.text, "emotion": self.emotion}
        if self.unsure is not None:
            plain["unsure"] = self.unsure
        plain["probabilities"] = self.probabilities
        return plain if self.score is None else {**plain, "score": self.score}


class Answers(list[Answer]):
    """A list with one `Answer` per utterance, in the order of the input. The method `to_frame` converts the list to a pandas table."""

    @overload
    def __getitem__(self, key: SupportsIndex) -> Answer: ...

    @overload
    def __getitem__(self, key: slice) -> Answers: ...

    def __getitem__(self, key: SupportsIndex | slice) -> Answer | Answers:
        return Answers(super().__getitem__(key)) if isinstance(key, slice) else super().__getitem__(key)

    def to_frame(self) -> pandas.DataFrame:
        """Return a pandas table with one row per utterance. The function `columns_of` lists the columns of the table.

        Raises:
            ConfigError: pandas is not installed.
        """
        return make_frame(columns_of(self, list(self[0].probabilities) if self else ()))


def columns_of(rows: Sequence[Answer], labels: Sequence[str]) -> dict[str, list[Any]]:
    """Return the columns of a table of predictions: `dialogue`, `turn`, `speaker`, `text`, `emotion` and one `p(label)` per class.

    The columns `start`, `end`, `time`, `unsure` and `score` are included only if at least one row has a value for them.
    """
    return {
        "dialogue": [row.dialogue for row in rows],
        "turn": [row.turn for row in rows],
        **{name: [row.times.get(name) for row in rows] for name in times_of(rows)},
        "speaker": [row.speaker for row in rows],
        "text": [row.text for row in rows],
        "emotion": [row.emotion for row in rows],
        **({"unsure": [row.unsure for row in rows]} if any(row.unsure is not None for row in rows) else {}),
        **({"score": [row.score for row in rows]} if any(row.score is not None for row in rows) else {}),
        **{f"p({label})": [row.probabilities.get(label) for row in rows] for label in labels},
    }


def times_of(rows: Sequence[Answer]) -> list[str]:
    """Return the names of the time columns (`start`, `end` and `time`) that have a value in at least one row."""
    return [name for name in TIMES if any(name in row.times for row in rows)]


def answers(method: Network, corpus: Corpus) -> Answers:
    """Predict the emotion of every utterance, in the order of the corpus. The corpus needs the features that `complete` checks."""
    task = method.task
    if not len(corpus):
        return Answers()
    scores = ask(method, method.schema.batch(complete(corpus, method)).to(method.device)).cpu()
    says: list[tuple[str, dict[str, float], float | None]]
    if task.kind == "score":
        says = [(f"{value:+.1f}", {}, value) for value in scores[:, 0].tolist()]
    else:
        chances = scores.double().softmax(-1)
        best = [task.labels[i] for i in chances.argmax(-1).tolist()]
        says = [(name, dict(zip(task.labels, row, strict=True)), None) for name, row in zip(best, chances.tolist(), strict=True)]
    places = zip(corpus.dialogue_of.tolist(), corpus.batch(()).turn.tolist(), strict=True)
    texts = corpus.texts or ("",) * corpus.utterances
    columns = [corpus.annotations.get(name) or (None,) * corpus.utterances for name in TIMES]
    times = [dict(zip(TIMES, row, strict=True)) for row in zip(*columns, strict=True)]
    return Answers(
        Answer(
            dialogue=corpus.dialogue_ids[place],
            turn=turn,
            speaker=speaker,
            text=text,
            emotion=emotion,
            probabilities=chance,
            score=score,
            **when,
        )
        for (place, turn), speaker, text, (emotion, chance, score), when in zip(places, corpus.speakers, texts, says, times, strict=True)
    )


def complete(corpus: Corpus, method: Network) -> Corpus:
    """Return a copy of the corpus with exactly the features that the method uses.

    If the corpus lacks a modality, the modality is marked as missing in every utterance.

    Raises:
        CorpusError: the corpus has none of the modalities that the method uses, a vector or a sequence element has a wrong shape, or a
            value is too large or not finite.
    """
    widths, items = method.schema.widths, method.schema.sequences
    if not any(name in corpus.features for name in widths) and not any(name in corpus.sequences for name in items):
        shapes = {**{name: str(width) for name, width in widths.items()}, **{name: shape_text(item) for name, item in items.items()}}
        wanted = ", ".join(f"{name} ({shape})" for name, shape in shapes.items())
        kinds = " and ".join(kind for kind, read in (("features", widths), ("sequences", items)) if read)
        raise CorpusError(
            f"{corpus.name}: expected the {kinds} that the model uses, {wanted}; found {', '.join(corpus.modalities) or 'none'}"
        )
    features, present, sequences = {}, {}, {}
    for name, width in widths.items():
        features[name] = corpus.features.get(name, torch.zeros(corpus.utterances, width))
        present[name] = corpus.present.get(name, torch.zeros(corpus.utterances, dtype=torch.bool))
        if (found := features[name].shape[1]) != width:
            raise CorpusError(
                f"{corpus.name}: features.{name}: expected vectors of {width} numbers, found {found}; use the same features as in training"
            )
    for name, item in items.items():
        nothing = Ragged(torch.zeros(0, *item), torch.zeros(corpus.utterances + 1, dtype=torch.long))
        sequences[name] = corpus.sequences.get(name, nothing)
        if (shape := sequences[name].item) != item:
            raise CorpusError(
                f"{corpus.name}: sequences.{name}: the model was trained on time steps of the shape {shape_text(item)}, found "
                f"{shape_text(shape)}"
            )
    chosen = replace(corpus, features=features, present=present, sequences=sequences)
    check_numbers(chosen)
    return chosen


def ask(method: Network, batch: Batch) -> Tensor:
    """Compute the scores `(N, C)` of `N` utterances for `C` classes, in the order of the utterances in `batch`.

    Dialogues of similar lengths share a forward pass of at most `BUDGET` utterances, padding included. A dialogue with more than `BUDGET`
    utterances has its own forward pass.

    Raises:
        CheckpointError: some scores are not finite.
    """
    batch = replace(batch, row=torch.arange(batch.utterances, device=batch.device))
    scores = torch.empty(batch.utterances, method.schema.outputs, device=batch.device)
    for chosen in _chunks(batch.lengths.cpu()):
        part = batch.select(chosen.to(batch.device))
        scores[part.row] = infer(method, part, len(part)).scores
    if wrong := int((~scores.isfinite()).any(1).sum()):
        raise CheckpointError(
            f"{type(method).__name__}: expected finite scores, found NaN or inf in {wrong} of {len(scores)} utterances; the training "
            f"diverged (lower training.learning_rate), or the features are much larger than in training"
        )
    return scores


def _chunks(lengths: Tensor) -> Iterator[Tensor]:
    """Yield the positions of the dialogues of each forward pass, the longest dialogues first.

    A forward pass has at most `BUDGET` utterances, padding included, but at least one dialogue.
    """
    order = lengths.argsort(descending=True, stable=True)
    start = 0
    while start < len(order):
        size = max(1, BUDGET // max(1, int(lengths[order[start]])))
        yield order[start : start + size]
        start += size
