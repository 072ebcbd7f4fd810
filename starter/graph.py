"""Training and calibration of the graph network of the starter model, on two corpora with different classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.corpus import Corpus
from erc_graph.data.tasks import Task
from erc_graph.methods import METHODS
from erc_graph.methods.base import Method
from erc_graph.methods.prior import PriorConfig
from erc_graph.methods.schema import Schema
from erc_graph.methods.stage import Prediction, Stage, infer
from erc_graph.training.config import TrainingConfig
from erc_graph.training.loop import fit
from erc_graph.training.metrics import evaluate
from starter.joined import EMORYNLP, GOEMOTIONS, Joined

CHANCES = "text_chances"  # feature set: log-probabilities of the tuned encoders
NEVER = -1e4  # score of a class that was not to be chosen
PROVENANCE = {  # as the saved model names them
    "corpus": "GoEmotions and EmoryNLP",
    "extractors": {CHANCES: "../encoder:output=log-probabilities"},
}


def build(corpus: Corpus, method: str, pipeline: Mapping[str, Any]) -> Method:
    """Return a method that reads the log-probabilities of the encoders and corrects them; initially, it makes no correction.

    Args:
        corpus: Corpus with the feature set `CHANCES`.
        method: Name of the method.
        pipeline: Options of the method.
    """
    schema = replace(Schema.of(corpus, (CHANCES,)), provenance=PROVENANCE)
    kind = METHODS[method]
    found = kind(schema, kind.Config(causal=True, **pipeline), prior=PriorConfig(features=[CHANCES], stream=True))
    # What no label speaks of, such as surprise in a dialogue of EmoryNLP, stays as the encoders have it.
    nn.init.zeros_(last_layer(found).weight)
    nn.init.zeros_(last_layer(found).bias)
    return found


def last_layer(method: Method) -> nn.Linear:
    """Return the layer that computes the scores before the prior is added."""
    return [layer for layer in method.classify.modules() if isinstance(layer, nn.Linear)][-1]


def among(scores: Tensor, offered: Tensor) -> Tensor:
    """Return scores `(N, C)` in which classes outside the mask `offered` `(N, C)` have probability zero."""
    return scores.masked_fill(~offered.to(scores.device), NEVER)


class Offered(nn.Module):
    """A method that is trained and evaluated only on the classes that were offered to the annotators of an utterance.

    Args:
        method: Method with scores of all classes.
        offered: `(U, C)` mask of offered classes per row of the corpus.
    """

    def __init__(self, method: Method, offered: Tensor) -> None:
        super().__init__()
        self.method, self.offered = method, offered

    @property
    def task(self) -> Task:
        """Return the task of the method."""
        return self.method.task

    def stages(self) -> list[Stage]:
        """Return the training stages of the method, with restricted scores."""
        return [replace(stage, forward=partial(self.ask, stage.forward)) for stage in self.method.stages()]

    def start_stage(self, index: int, batch: Batch) -> Batch:
        """Start a stage of the method."""
        return self.method.start_stage(index, batch)

    def ask(self, forward: Callable[[Batch], Prediction], batch: Batch) -> Prediction:
        """Return the prediction of the method, restricted to the offered classes."""
        answer = forward(batch)
        answer.scores = among(answer.scores, self.offered[batch.row.cpu()])
        return answer

    def forward(self, batch: Batch) -> Prediction:
        """Run the forward pass of the whole method, restricted to the offered classes."""
        return self.ask(self.method, batch)


def balanced(joined: Joined, split: str) -> Tensor:
    """Return positions of a split's dialogues with about the same number of labels from both corpora; the smaller one is repeated."""
    corpus = joined.corpus
    places = {name: joined.dialogues(name, split) for name in (GOEMOTIONS, EMORYNLP)}
    labels = {name: int(corpus.labelled[corpus.rows(found)].sum()) for name, found in places.items()}
    times = {name: max(1, round(max(labels.values()) / max(1, count))) for name, count in labels.items()}
    return torch.tensor([place for name, found in places.items() for place in found * times[name]])


def temperature(judged: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Return the temperature that minimises the cross entropy of scores divided by it; every part has the same weight.

    Args:
        judged: Scores `(N, C)` and targets `(N,)` of held-out utterances, for each part.
    """

    def loss(log: float) -> float:
        parts = [F.cross_entropy(scores.double() / math.exp(log), target) for scores, target in judged]
        return float(torch.stack(parts).mean())

    return math.exp(minimize_scalar(loss, bounds=(-2.0, 2.0), method="bounded").x)


@torch.no_grad()
def cool(method: Method, by: float) -> None:
    """Divide the scores of a method by a temperature, by scaling its last layer and its prior."""
    layer = last_layer(method)
    for weight in (layer.weight, layer.bias, *(method.prior.parameters() if method.prior is not None else ())):
        weight.div_(by)


def held_out(joined: Joined, scores: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Return corpus → scores, restricted to offered classes, and targets of the labelled development utterances.

    Args:
        joined: The corpus.
        scores: `(U, C)` scores of all utterances.
    """
    corpus, found = joined.corpus, {}
    for name in (GOEMOTIONS, EMORYNLP):
        rows = corpus.rows(joined.dialogues(name, "dev"))
        rows = rows[corpus.labelled[rows]]
        found[name] = among(scores[rows], joined.offered[rows]), corpus.target[rows]
    return found


def train_graph(
    joined: Joined, corpus: Corpus, graph: Mapping[str, Any], training: TrainingConfig, seed: int
) -> tuple[Method, dict[str, Any]]:
    """Train and calibrate a method, and return it with its metrics on the development splits.

    Args:
        joined: The corpus with offered classes.
        corpus: The same corpus with the feature set `CHANCES`.
        graph: Table with `method` and `pipeline`.
        training: Configuration of the training.
        seed: Seed of the initial weights and the order of the dialogues.
    """
    torch.manual_seed(seed)
    method = build(corpus, graph["method"], graph.get("pipeline", {}))
    whole = method.schema.batch(corpus)
    train, dev = (whole.select(balanced(joined, split)) for split in ("train", "dev"))
    method.fit_inputs(train)
    history = fit(Offered(method, joined.offered), train, dev, training, seed=seed, device="cpu", quiet=True)  # type: ignore[arg-type]
    places = torch.tensor([place for name in (GOEMOTIONS, EMORYNLP) for place in joined.dialogues(name, "dev")])
    some = whole.select(places)
    scores = torch.zeros(corpus.utterances, method.schema.outputs)
    scores[some.row] = infer(method, some).scores
    by = temperature(list(held_out(joined, scores).values()))
    cool(method, by)
    figures = judged(joined, scores / by)
    return method.eval(), {"temperature": by, "epoch": history.stages[-1].chosen, **figures}


def judged(joined: Joined, scores: Tensor) -> dict[str, Any]:
    """Return weighted F1, macro F1 and calibration error of both development splits, and the mean of their weighted F1.

    Args:
        joined: The corpus.
        scores: `(U, C)` scores of all utterances.
    """
    names = ("weighted_f1", "macro_f1", "calibration_error", "loss")
    parts = {name: evaluate(*both, joined.corpus.task) for name, both in held_out(joined, scores).items()}
    found: dict[str, Any] = {name: {figure: part[figure] for figure in names} for name, part in parts.items()}
    return {**found, "mean_weighted_f1": sum(part["weighted_f1"] for part in parts.values()) / len(parts)}
