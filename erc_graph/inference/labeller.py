"""Labelling of input files with emotions, in parts (shards).

A shard is a file, or a section of a file with whole conversations. The predictions for a shard do not depend on other shards.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.budget import content_of
from erc_graph.data.files.notes import noting
from erc_graph.data.files.shards import MADE, TABLES, WHOLE, Records, Refused, Row, Shard, conversation_of, records_of, used_columns
from erc_graph.data.files.transcripts import find_recordings, load_transcript
from erc_graph.data.files.utterance_tables import read_csv
from erc_graph.data.printable import refusal
from erc_graph.errors import CheckpointError, ConfigError, CorpusError
from erc_graph.features.encoder_names import load_text_encoder
from erc_graph.inference.answer import Answer
from erc_graph.inference.long_conversations import predict_long
from erc_graph.inference.pipeline import Pipeline
from erc_graph.inference.prepare import hears, prepare


@dataclass
class Labelled:
    """The result of labelling a shard (a file, or a section of a file).

    Attributes:
        rows: The prediction of every utterance, together with the other columns of its input row, in the order of the input.
        refused: Inputs that could not be read or labelled.
        notes: Notes for the user; of equal notes, only one is stored.
        conversations: Number of labelled conversations.
    """

    rows: list[tuple[Answer, Row]] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    conversations: int = 0


class Labeller:
    """A model that labels shards (files, or sections of files that contain whole conversations).

    Args:
        pipeline: The model.
        extractors: Modality → name of an encoder, which replaces the encoder that the model names for this modality.
        unsure: Threshold; an utterance is marked as unsure if the probability of its predicted emotion is lower. Default: no threshold.

    Raises:
        ConfigError: `unsure` is given, but the model predicts numeric scores, which have no probabilities.
    """

    def __init__(self, pipeline: Pipeline, extractors: Mapping[str, str] | None = None, unsure: float | None = None) -> None:
        if unsure is not None and pipeline.task.kind == "score":
            raise ConfigError(
                f"--unsure: expected a model that predicts emotions, found one that predicts a score without probabilities "
                f"({pipeline.task.name})"
            )
        self.pipeline, self.extractors, self.unsure = pipeline, dict(extractors or {}), unsure
        self.kept = lru_cache(maxsize=4)(load_text_encoder)
        self.hears = hears(pipeline.schema)

    def __call__(self, shard: Shard) -> Labelled:
        """Label a shard (a file, or a section of a file), and return the results.

        If an error occurs, each conversation is labelled separately. The result then lists conversations that cause an error in `refused`.

        Raises:
            CheckpointError: an encoder cannot be found, or its vectors do not have the width that the model uses.
            ConfigError: `extractors` names a modality that the model does not use.
        """
        said = Labelled()
        self.add(shard, said)
        return said

    def add(self, shard: Shard, said: Labelled) -> None:
        """Label a shard (a file, or a section of a file), and add its predictions, errors and notes to the result `said`."""
        with _refusing(said, source=shard.source.name):
            if shard.stop is None:
                self._read_whole(shard, said)
            else:
                self._read_records(shard, records_of(shard), said)
        said.notes = list(dict.fromkeys(said.notes))

    def load(self, path: str | Path, said: Labelled) -> tuple[Corpus, dict[str, Path]]:
        """Read a whole file and, if the model uses audio, find its recordings. Notes about the file are added to `said.notes`.

        Raises:
            CorpusError: `load_transcript` cannot read the file.
        """
        with noting(said.notes.append):
            corpus = load_transcript(str(path))
        return corpus, find_recordings(corpus, Path(path).parent) if self.hears and str(path) not in MADE else {}

    def prepared(self, corpus: Corpus, said: Labelled, recordings: Mapping[str, Path] | None = None) -> Corpus:
        """Return the conversations with the features that the model uses (see `prepare`). Notes for the user are added to `said.notes`."""
        return prepare(
            corpus,
            self.pipeline,
            extractors=self.extractors,
            recordings=recordings,
            say=said.notes.append,
            load=self.kept,
            longest=None,
        )

    def answers(self, corpus: Corpus, said: Labelled) -> list[Answer]:
        """Predict the emotions of conversations that `prepared` returned. Notes for the user are added to `said.notes`.

        Raises:
            CorpusError: the features do not fit the model, or the predicted scores are not finite.
        """
        try:
            found = predict_long(self.pipeline, corpus, say=said.notes.append)
        except CheckpointError as error:  # the model is fine for all others
            raise CorpusError(str(error)) from None
        if self.unsure is None:
            return found
        return [replace(answer, unsure=(answer.confidence or 0.0) < self.unsure) for answer in found]

    def _read_whole(self, shard: Shard, said: Labelled) -> None:
        """Label a whole file of any supported format, and add its predictions, errors and notes to `said`."""
        path = shard.source.path
        corpus, recordings = self.load(path, said)
        more: list[Row] = []
        if path.suffix.lower() in TABLES and path.is_file():
            with noting(lambda _: None):  # they are said by the reader
                table = read_csv(content_of(path), path)
            used = used_columns(table.columns)
            if "text" in used:
                more = [{name: value for name, value in row.items() if name not in used.values()} for row in table.rows]
        more = _aligned(corpus, more, said, shard)
        try:
            self._add(corpus, more, said, recordings)
        except CorpusError:
            if len(corpus) == 1:
                raise
            ptr = corpus.ptr.tolist()
            for dialogue, start, stop in zip(corpus, ptr, ptr[1:], strict=False):
                with _refusing(said, source=shard.source.name, dialogue=dialogue.id):
                    self._add(dialogue.corpus, more[start:stop], said, recordings)

    def _read_records(self, shard: Shard, records: Records, said: Labelled) -> None:
        """Label the records (lines or rows) of a file in JSON lines or Parquet; add predictions, errors and notes to `said`."""
        name = shard.source.path.stem or "conversation"
        with suppress(CorpusError):
            with noting(said.notes.append):
                corpus = records.corpus(name)
            self._add(corpus, _aligned(corpus, _others(records), said, shard), said)
            return
        for dialogue, one in records.split():  # one of them is the trouble
            with _refusing(said, source=shard.source.name, dialogue=dialogue, line=one.numbers[0]):
                if one.spoilt is not None:
                    beside = "" if one.numbers == [one.spoilt] else ", and the line may belong to an adjacent conversation"
                    raise CorpusError(
                        f"line {one.spoilt} is not valid JSON; expected an object or a list{beside}; correct or remove the line"
                    )
                with noting(said.notes.append):
                    corpus = one.corpus(name)
                self._add(corpus, _aligned(corpus, _others(one), said, shard), said)

    def _add(self, corpus: Corpus, more: list[Row], said: Labelled, recordings: Mapping[str, Path] | None = None) -> None:
        answers = self.answers(self.prepared(corpus, said, recordings), said)
        said.rows += zip(answers, more, strict=True)
        said.conversations += len(corpus)


@contextmanager
def _refusing(said: Labelled, **where: Any) -> Iterator[None]:
    """Catch a `CorpusError` of the `with` block, and add it to `said.refused`."""
    try:
        yield
    except CorpusError as error:
        said.refused.append(Refused(**where, reason=refusal(error, 400)))


def _places(corpus: Corpus) -> list[int] | None:
    """Return the index of the input row of every utterance, from its utterance id; `None` if input rows were joined or left out."""
    numbers = [id.rpartition("_")[2] for id in corpus.utterance_ids]
    places = [int(number) if number.isdecimal() else -1 for number in numbers]
    return places if sorted(places) == list(range(len(places))) else None


def _others(records: Records) -> list[Row]:
    """Return the additional columns of every input row; empty if there are no such columns, or if a row is a whole conversation."""
    if any(conversation_of(line) == WHOLE for line in records.lines[:1]) or not any(map(_other, records.lines[:20])):
        return []
    return [_other(line) for line in records.lines]


def _other(line: bytes) -> Row:
    row = json.loads(line)
    used = {*used_columns(row).values()} if isinstance(row, dict) else ()
    return {name: value for name, value in row.items() if name not in used and name.strip().lower() != "features"} if used else {}


def _aligned(corpus: Corpus, more: list[Row], said: Labelled, shard: Shard) -> list[Row]:
    """Return the additional columns of every utterance, in the order of the utterances; empty dicts if they cannot be assigned."""
    if not more:
        return [{}] * corpus.utterances
    places = _places(corpus)
    if places is None or len(places) != len(more):
        said.notes.append(f"{shard.source.name}: additional columns are left out, because input rows were joined or left out")
        return [{}] * corpus.utterances
    return [more[place] for place in places]
