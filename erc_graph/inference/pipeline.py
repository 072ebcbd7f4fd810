"""`Pipeline`, the user's interface to a trained method: predict, stream, draw, explain, save and load."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from erc_graph.data.batch import Batch
from erc_graph.data.corpus import Corpus, Dialogue
from erc_graph.data.files.notes import note, noting
from erc_graph.data.files.transcripts import find_recordings
from erc_graph.data.tasks import Task
from erc_graph.errors import ConfigError
from erc_graph.inference.answer import Answers
from erc_graph.inference.explain import Explanation, explain
from erc_graph.inference.given import Given, corpora_of
from erc_graph.inference.graphs import graph_of, look, read
from erc_graph.inference.long_conversations import predict_long
from erc_graph.inference.prepare import hears, lacks, prepare
from erc_graph.inference.saved import Network, load_network, save_network
from erc_graph.inference.starter import STARTER
from erc_graph.inference.stream import Stream
from erc_graph.methods.base import Method
from erc_graph.methods.schema import Schema
from erc_graph.methods.stage import Prediction, evaluating

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData


class Pipeline:
    """A trained method, or an ensemble of networks, ready for prediction.

    Args:
        method: The method or ensemble. The pipeline does not change its weights, nor its mode (training or evaluation).

    >>> from erc_graph import METHODS, Pipeline, Schema, load_corpus
    >>> corpus = load_corpus("sample")
    >>> rows = Pipeline(METHODS["bigru"](Schema.of(corpus))).predict(corpus[0])
    >>> len(rows) == len(corpus[0]), round(sum(rows[0].probabilities.values()), 3)
    (True, 1.0)
    """

    def __init__(self, method: Network) -> None:
        self.method = method
        self._encoders: dict[str, Any] = {}  # text encoders that were asked for, by name: loading one takes longer than asking it

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_encoders": {}}  # another process loads its own

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str], method: type[Method] | None = None) -> Pipeline:
        """Load a saved model in evaluation mode on the CPU, without running any code from the files of the model.

        Args:
            folder: A folder written by `save_pretrained`, a weights file, `starter` (the starter model), or the name of a model on the
                Hugging Face hub (`someone/model`). For the folder of a training run, the model of its first seed is loaded; for the folder
                of one seed, the model of that seed.
            method: The class of the method, if it is not part of the package; `erc_graph.methods.own_file.load_method` loads it.

        Raises:
            CheckpointError: no model is found; or the model is damaged, was written by a newer package version, or has an unknown method.
        """
        return cls(load_network(folder, method))

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write `config.json` and `model.safetensors` to `folder`. The function `from_pretrained` needs only these two files.

        Raises:
            StorageError: the folder contains other files, or cannot be written.
        """
        save_network(self.method, folder)

    @property
    def schema(self) -> Schema:
        """Return the schema of the method, which describes its input features and its task."""
        return self.method.schema

    @property
    def task(self) -> Task:
        """Return the task of the method, which defines the labels or the numeric score that the method predicts."""
        return self.method.task

    @property
    def device(self) -> torch.device:
        """Return the device on which the model parameters are stored."""
        return self.method.device

    @property
    def causal(self) -> bool:
        """Return `True` if predictions do not depend on later utterances; the method `stream` requires this."""
        return self.method.causal

    def to(self, device: torch.device | str) -> Pipeline:
        """Move the parameters of the model to a device, and return this pipeline."""
        self.method.to(device)
        return self

    def __call__(self, batch: Batch) -> Prediction:
        """Compute the scores of every utterance of a batch by the forward pass of the method."""
        prediction: Prediction = self.method(batch)
        return prediction

    def predict(self, dialogues: Given) -> Answers:
        """Predict the emotion of every utterance, in the order of the input.

        If the input lacks features, `erc_graph.prepare` computes them with the encoders that the model names. Features that cannot be
        computed count as missing. Notes about assumptions on the input are printed on standard error.

        Args:
            dialogues: A corpus; one or several dialogues; a list of strings, which is one conversation; a string, which is one utterance;
                or files (`pathlib.Path`). If the method uses audio, it reads the recordings in the folder of a given file. Conversations of
                more than 2000 utterances are divided into overlapping windows.

        Raises:
            CorpusError: the type of the input is not allowed, features have a wrong width, or none of the method's features can be
                computed.
            CheckpointError: an encoder named in the model is missing, or some scores are not finite.
        """
        with noting():
            return Answers(row for corpus, folder in corpora_of(dialogues) for row in self._answers(corpus, folder))

    def _answers(self, corpus: Corpus, folder: Path | None) -> Answers:
        """Predict every utterance of a corpus; `folder` may contain recordings of the utterances."""
        if len(corpus) and lacks(corpus, self.schema):
            recordings = find_recordings(corpus, folder) if folder is not None and hears(self.schema) else None
            corpus = prepare(corpus, self, recordings=recordings, say=note, load=self._encoder, longest=None)
        return predict_long(self, corpus, say=note)

    def _encoder(self, name: str) -> Any:
        """Return the text encoder of this name; every encoder is loaded only once."""
        if name not in self._encoders:
            from erc_graph.features.encoder_names import load_text_encoder

            self._encoders[name] = load_text_encoder(name)
        return self._encoders[name]

    def stream(self) -> Stream:
        """Return a new live conversation, whose utterances are labelled one by one; `erc_graph.inference.stream` explains it.

        Raises:
            ConfigError: the method also uses later utterances, which a live conversation does not have yet.
        """
        return Stream(self.method)

    @torch.no_grad()
    def graphs(self, dialogue: Dialogue) -> dict[str, HeteroData]:
        """Return a dict with the graph of every graph operator of the method. A graph contains the edge weights for the conversation.

        The key is the name of the graph operator. The dict is empty if the method has no graph.

        Raises:
            CorpusError: the conversation lacks features that the method uses; `erc_graph.prepare` computes them.
        """
        batch = read(self.method, dialogue)
        with evaluating(self.method):
            seen, _ = look(self.method, batch)
        return {name: graph_of(one, batch, dialogue.corpus) for name, one in seen.items()}

    def graph(self, dialogue: Dialogue, part: str | None = None) -> HeteroData | None:
        """Return the graph of one graph operator, with the edge weights for a conversation; `None` if the method has no graph.

        Args:
            dialogue: The conversation.
            part: Name of the graph operator; default: the last operator of the method.

        Raises:
            ConfigError: the model has no graph operator of this name.
        """
        found = self.graphs(dialogue)
        if part is None:
            return found[list(found)[-1]] if found else None
        if part not in found:
            names = f"the name of a graph operator of the method ({', '.join(found)})"
            raise ConfigError(f"part: expected {names if found else 'no name, because the method builds no graph'}, found {part!r}")
        return found[part]

    def explain(self, dialogue: Dialogue, turn: int, *, label: str | None = None, tolerance: float = 0.01) -> Explanation:
        """Compute how much each edge, utterance and modality supports or opposes a label of one utterance; see `erc_graph.explain`."""
        return explain(self.method, dialogue, turn, label=label, tolerance=tolerance)


def load_starter() -> Pipeline:
    """Load the starter model of the package, which labels English text with seven emotions (docs/starter.md).

    Raises:
        CheckpointError: the text encoder of the model (extra `[minilm]`) is not installed.
    """
    return Pipeline.from_pretrained(STARTER)
