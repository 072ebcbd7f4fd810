"""Checks of a user's own method before training, on the scores of an untrained network for two dialogues."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.corpus import Corpus
from erc_graph.data.printable import one_line
from erc_graph.errors import ConfigError, ErcGraphError
from erc_graph.inference.saved import Network
from erc_graph.methods.own_file import own_parts, show_own
from erc_graph.methods.stage import evaluating

TOLERANCE = 1e-3  # of scores that must be the same


@contextmanager
def own_code(method: str, doing: str) -> Iterator[None]:
    """Convert every error in the `with` block to a `ConfigError` of one line, and print the traceback of the error.

    The printed traceback begins in the user's file.

    Args:
        method: File and class of the method.
        doing: What the code of the method does, such as `the forward pass`, for the message.

    Raises:
        ConfigError: the code of the method raised an error.
    """
    try:
        yield
    except ErcGraphError:
        raise
    except Exception as error:
        show_own(error, own_parts(method)[0].resolve())
        words = one_line(f"{type(error).__name__}: {error}", 160)
        raise ConfigError(f"{method}: {doing} failed ({words}); the traceback above shows the line") from None


@torch.no_grad()
def probe(method: str, network: Network, corpus: Corpus) -> None:
    """Check the shape of a network's scores, and that the scores do not depend on other dialogues.

    For a causal network, the scores must also not depend on later utterances.

    Args:
        method: File and class of the method, for the messages.
        network: The untrained network.
        corpus: The corpus; its first two dialogues are used.

    Raises:
        ConfigError: a check failed; the message says what was expected and what was found.
    """
    if not any(True for _ in network.parameters()):
        raise ConfigError(
            f"{method}: expected a network with trainable parameters, found none; create layers, such as torch.nn.Linear, in "
            "__init__ of the class"
        )
    read, names = network.schema, corpus.dialogue_ids[:2]
    with evaluating(network), own_code(method, "the forward pass for two dialogues"):

        def ask(batch: Batch) -> Tensor:
            scores = network(batch).scores
            shape = (batch.utterances, read.outputs)
            if not isinstance(scores, Tensor) or tuple(scores.shape) != shape:
                found = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
                raise ConfigError(f"{method}: expected scores of shape {shape}, a row per utterance and a column per label, found {found}")
            if not scores.isfinite().all():
                raise ConfigError(
                    f"{method}: expected finite scores from the untrained network, found NaN or inf; correct the computation of the scores"
                )
            return scores

        together = ask(read.batch(corpus.subset(names)))
        each = [read.batch(corpus.subset([name])) for name in names]
        alone = [ask(batch) for batch in each]
        if (gap := _gap(together, torch.cat(alone))) > TOLERANCE:
            raise ConfigError(
                f"{method}: expected the same scores for a dialogue alone and in a batch, found a difference of {gap:.2g}: a "
                "module uses values of other dialogues or of padding; make this module a subclass of `OverTurns`, which "
                "processes each dialogue separately"
            )
        if not (network.causal or network.utterance_level):
            return
        for batch, scores in zip(each, alone, strict=True):
            if (gap := _gap(ask(_other_end(batch))[:-1], scores[:-1])) > TOLERANCE:
                raise ConfigError(
                    f"{method}: expected the last utterance not to change the scores of earlier utterances, because all modules are "
                    f"causal, found a difference of {gap:.2g}; make the module that uses later utterances a subclass of `OverTurns` "
                    "with `causal = False`"
                )


def _other_end(batch: Batch) -> Batch:
    """Return a copy of a batch of one dialogue, with 1 added to the features of the last utterance."""
    features = {name: torch.cat([values[:-1], values[-1:] + 1]) for name, values in batch.features.items()}
    return replace(batch, features=features)


def _gap(found: Tensor, expected: Tensor) -> float:
    """Return the largest absolute difference; each is divided by the absolute expected score if this score is larger than 1."""
    return float(((found - expected).abs() / expected.abs().clamp(min=1)).max()) if len(found) else 0.0
