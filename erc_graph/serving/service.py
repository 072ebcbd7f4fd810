"""The model of the service and its text encoders. All threads use the same model and encoders.

The functions `load_transcript` and `prepare` read requests, and also the files of `erc-graph predict`. A conversation therefore gets the
same answer in both cases. Requests neither copy nor change the model and the encoders.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.notes import noting
from erc_graph.data.files.transcripts import load_transcript
from erc_graph.errors import CheckpointError, ConfigError, ErcGraphError
from erc_graph.features.context import Reading, reading
from erc_graph.features.encoder_names import load_text_encoder
from erc_graph.inference.answer import Answer
from erc_graph.inference.pipeline import Pipeline
from erc_graph.inference.prepare import prepare, text_encoders
from erc_graph.inference.stream import Stream
from erc_graph.serving.limits import Limits
from erc_graph.serving.refusal import Refusal
from erc_graph.serving.sessions import REMEMBERED, Session

NAME = "request"  # of a conversation, in messages


class Service:
    """A model that answers requests.

    Args:
        pipeline: The model.
        limits: Limits on the number of utterances and characters per request.
        extractors: Modality → name of an encoder, which replaces the encoder whose name is stored in the model.
        say: Function that is called with each note for the person who starts the service.

    Raises:
        ConfigError: `extractors` has a modality that the model does not use.
        CheckpointError: an encoder of `extractors` cannot be loaded.
    """

    def __init__(
        self, pipeline: Pipeline, limits: Limits, *, extractors: Mapping[str, str] | None = None, say: Callable[[str], None] | None = None
    ) -> None:
        self.pipeline, self.limits, self.extractors = pipeline, limits, dict(extractors or {})
        pipeline.method.eval()
        torch.set_num_threads(max(1, torch.get_num_threads() // limits.at_once))
        if unknown := [name for name in self.extractors if name not in pipeline.schema.modalities]:
            read = ", ".join(pipeline.schema.modalities)
            raise ConfigError(f"extractor: expected a modality of the model ({read}), found {unknown[0]!r}")
        self._encoders: dict[str, Any] = {}
        self._reading = threading.Lock()  # a budget for reading is one of the process; and reading is Python, which takes turns anyway
        for modality, name in text_encoders(pipeline, self.extractors).items():
            try:
                self._encoders[name] = load_text_encoder(name)
            except CheckpointError as error:
                if modality in self.extractors:
                    raise
                if say:
                    say(f"{modality}: requests must contain vectors of this modality, because its encoder cannot be loaded: {error}")

    def about(self) -> dict[str, Any]:
        """Return a description of the model: its method, its inputs and its labels."""
        schema, method = self.pipeline.schema, self.pipeline.method
        networks = getattr(method, "networks", [method])
        return {
            "method": type(networks[0]).__name__,
            "task": schema.task.name,
            "labels": list(schema.task.labels) if schema.task.kind == "classification" else [],
            "features": dict(schema.widths),
            "sequences": {name: list(item) for name, item in schema.sequences.items()},
            "encodes": [name for name, encoder in text_encoders(self.pipeline, self.extractors).items() if encoder in self._encoders],
            "live": self.pipeline.causal and not schema.sequences,
        }

    def warm(self) -> None:
        """Run the model once, so that the first request does not wait for compilation or imports."""
        turn = {
            "speaker": "nobody",
            "text": "hello",
            "features": {name: [0.0] * width for name, width in self.pipeline.schema.widths.items()},
        }
        with suppress(ErcGraphError):  # a model of sequences that nobody gives
            self.predict(json.dumps([turn]).encode())
        for encoder in self._encoders.values():
            encoder(["hello"])

    def predict(self, body: bytes) -> dict[str, Any]:
        """Label the conversations in a request.

        The result has the key `turns` with one dict per utterance, as in `erc-graph predict --json`, and the key `notes` with sentences.

        Args:
            body: A transcript, JSON, JSON lines or CSV, in a format that `load_transcript` reads.

        Raises:
            ErcGraphError: the request cannot be read, or the model cannot label it.
        """
        notes: list[str] = []
        corpus = self._read(body, notes)
        rows = self.pipeline.predict(self._prepared(corpus, notes, self._encoder))
        several = len(corpus) > 1
        return {"turns": [{"dialogue": row.dialogue, **row.as_dict()} if several else row.as_dict() for row in rows], "notes": notes}

    def stream(self) -> Stream:
        """Begin a live conversation.

        Raises:
            ConfigError: the model reads later utterances (it is not causal), or it reads sequences of words or frames.
        """
        return self.pipeline.stream()

    def turn(self, session: Session, body: bytes) -> dict[str, Any]:
        """Label the next utterance of a live conversation. The result is a dict as in `predict`, with the additional key `notes`.

        Args:
            session: The conversation, which the current thread has locked.
            body: One utterance, in any format that `predict` reads.

        Raises:
            ErcGraphError: the utterance cannot be read, or the model cannot label it. The conversation does not change in this case.
        """
        notes: list[str] = []
        corpus = self._read(body, notes)
        if corpus.utterances != 1:
            raise Refusal(
                422,
                f"a live conversation: expected one utterance per request, found {corpus.utterances}; send whole conversations to /predict",
            )
        speaker, text = corpus.speakers[0], corpus.texts[0]
        features: dict[str, torch.Tensor] = {}
        if corpus.features or text.strip():  # else silence, which a conversation may have
            ready = self._prepared(corpus, notes, lambda name: _Hearing(self._encoder(name), speaker, session))
            features = {name: values[0] for name, values in ready.features.items() if ready.present[name][0]}
        judged = session.stream.push(speaker, features)
        if text.strip():
            session.said.append((speaker, text))
        score = self.pipeline.task.kind == "score"
        answer = Answer(
            dialogue=NAME,
            turn=judged.turn,
            speaker=speaker,
            text=text,
            emotion=f"{judged.scores[0]:+.1f}" if score else str(judged.emotion),
            probabilities=judged.probabilities,
            score=judged.scores[0] if score else None,
        )
        return {**answer.as_dict(), "notes": notes}

    def _read(self, body: bytes, notes: list[str]) -> Corpus:
        with self._reading, noting(notes.append):
            corpus = load_transcript(body, name=NAME, most=self.limits.turns)
        if (said := sum(map(len, corpus.texts))) > self.limits.characters:
            raise Refusal(
                413, f"found {said} characters of text; expected at most {self.limits.characters} per request; divide the request"
            )
        return corpus

    def _prepared(self, corpus: Corpus, notes: list[str], load: Callable[[str], Any]) -> Corpus:
        extractors = {name: encoder for name, encoder in self.extractors.items() if encoder in self._encoders}
        return prepare(corpus, self.pipeline, extractors=extractors, say=notes.append, load=load)

    def _encoder(self, name: str) -> Any:
        if name not in self._encoders:
            raise CheckpointError(
                "the text encoder of this model was not found when the service was started; send `features` with every utterance"
            )
        return self._encoders[name]


class _Hearing:
    """A text encoder for one utterance of a live conversation. The input includes preceding utterances if the encoder uses context."""

    context = 0  # the one turn has none beside it; what was said before is in the session

    def __init__(self, encoder: Any, speaker: str, session: Session) -> None:
        self.encoder, self.speaker, self.session = encoder, speaker, session
        self.tokens = encoder.tokens
        if encoder.context > REMEMBERED:
            raise CheckpointError(
                f"the text encoder needs {encoder.context} preceding utterances, but the service stores only {REMEMBERED}; send "
                "`features` with every utterance"
            )

    def __call__(self, texts: list[Reading]) -> torch.Tensor:
        earlier = list(self.session.said)[::-1]
        said: torch.Tensor = self.encoder([reading(str(text), self.speaker, earlier, self.encoder.context) for text in texts])
        return said
