"""Live conversations: every utterance gets its predicted emotion when it arrives, before later utterances are known.

For every new utterance, the method runs a forward pass on this utterance only. Modules that also use other utterances (`OverTurns`) store
the states of preceding utterances that they need. The predictions therefore equal the predictions for the whole conversation, up to
rounding. If the graph recipe and all modules use a limited number of preceding utterances, the cost per utterance stays constant.

>>> import torch
>>> from erc_graph.data.sample.vectors import sample_corpus
>>> from erc_graph.inference.pipeline import Pipeline
>>> from erc_graph.methods.pairwise import Pairwise, PairwiseConfig
>>> from erc_graph.methods.schema import Schema
>>> corpus = sample_corpus(dialogues=3, seed=0).split("test")  # one dialogue
>>> pipeline = Pipeline(Pairwise(Schema.of(corpus), PairwiseConfig(graph="causal_window", causal=True)).eval())
>>> stream = pipeline.stream()
>>> for row, speaker in enumerate(corpus.speakers):
...     features = {name: values[row] for name, values in corpus.features.items() if corpus.present[name][row]}
...     turn = stream.push(speaker, features)
>>> turn.emotion in corpus.task.labels, round(sum(turn.probabilities.values()), 5)
(True, 1.0)
>>> torch.allclose(torch.tensor(turn.scores), pipeline(corpus.batch()).scores[-1], atol=1e-5)
True
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.data.numbers import UNFIT, fit
from erc_graph.encoders.turns import OverTurns
from erc_graph.errors import ConfigError, CorpusError, ErcGraphError
from erc_graph.inference.saved import Network

if TYPE_CHECKING:
    Feature = Tensor | np.ndarray | Sequence[float] | None


@dataclass(frozen=True, kw_only=True)
class Turn:
    """The prediction for one utterance of a live conversation.

    Attributes:
        turn: Position of the utterance in the conversation, from 0.
        speaker: Name of the speaker.
        emotion: The most probable label; `None` if the task has numeric scores.
        probabilities: Label → probability; empty if the task has numeric scores.
        scores: The output of the method: the logits of all labels, in label order, or one numeric score.
    """

    turn: int
    speaker: str
    emotion: str | None
    probabilities: dict[str, float]
    scores: tuple[float, ...]


class Stream:
    """A live conversation; the method `push` adds the next utterance.

    Several live conversations with one model are independent of each other, and do not change the model.

    Args:
        method: A causal method: its predictions do not depend on later utterances.

    Raises:
        ConfigError: the method uses sequences, or uses later utterances; the message names the modules that use later utterances.
    """

    def __init__(self, method: Network) -> None:
        if not method.causal:
            networks = getattr(method, "networks", [method])
            ahead = ", ".join(name for name, part in networks[0].over_turns() if not part.causal)
            raise ConfigError(
                f"stream: expected a model that uses no later utterances, found one whose modules {ahead} use them; train a model "
                "with pipeline.causal true"
            )
        if method.schema.sequences:
            read = ", ".join(method.schema.sequences)
            raise ConfigError(f"stream: expected a model that uses one vector per utterance, found one that uses sequences ({read})")
        self.method = method
        self.turns = 0
        self._speakers: dict[str, int] = {}
        self._parts: list[_Part] = []
        self._ask = _in_steps(method, self._parts, {})
        self._whole = True

    @torch.inference_mode()
    def push(self, speaker: str, features: Mapping[str, Feature]) -> Turn:
        """Predict the emotion of the next utterance.

        Args:
            speaker: Name of the speaker. Equal names mean the same speaker.
            features: Modality → feature vector `(d,)` as in the corpus, without normalisation. Missing modalities are left out, or `None`.

        Raises:
            CorpusError: the speaker is not text, a modality is unknown, a vector has a wrong width, or features or scores are not finite.
                After this error, the stream is unchanged.
            ErcGraphError: the computation of an earlier utterance was interrupted.
        """
        if not self._whole:
            raise ErcGraphError("stream: the computation of an earlier utterance was interrupted; start again with pipeline.stream()")
        batch = self._batch(speaker, features)
        self._whole = False
        for part in self._parts:
            part.start()
        scores = self._ask(batch).scores[0].float().cpu()
        if not scores.isfinite().all():
            for part in self._parts:
                part.forget()
            self._whole = True
            largest = max((float(row.abs().max()) for row in batch.features.values()), default=0.0)
            raise CorpusError(
                f"utterance {self.turns}: expected finite scores, found NaN or inf (largest feature: {largest:.3g}); check the "
                "features, or train again if this happens for all utterances"
            )
        self._speakers.setdefault(speaker, len(self._speakers))
        self.turns += 1
        self._whole = True
        labels = self.method.task.labels if self.method.task.kind == "classification" else ()
        shares = dict(zip(labels, scores.softmax(-1).tolist(), strict=True)) if labels else {}
        return Turn(
            turn=self.turns - 1,
            speaker=speaker,
            emotion=max(shares, key=shares.__getitem__) if shares else None,
            probabilities=shares,
            scores=tuple(scores.tolist()),
        )

    @property
    def nbytes(self) -> int:
        """Return the size of all states stored for this conversation, in bytes. It has a limit if the method uses a limited past."""
        return sum(_nbytes(part.memories) for part in self._parts)

    def _batch(self, speaker: str, features: Mapping[str, Feature]) -> Batch:
        """Return the utterance as a batch of one dialogue with one utterance."""
        widths = self.method.schema.widths
        if not isinstance(speaker, str):
            raise CorpusError(f"utterance {self.turns}: speaker: expected a name as text, found a {type(speaker).__name__}")
        if not isinstance(features, Mapping):
            raise CorpusError(
                f"utterance {self.turns}: features: expected a mapping from modality to numbers, found a {type(features).__name__}"
            )
        unknown = [name for name in features if name not in widths]
        if unknown:
            raise CorpusError(f"utterance {self.turns}: expected features of {', '.join(widths)}, found {unknown[0]!r}")
        first = next(self.method.parameters())
        rows, present = {}, {}
        for name, width in widths.items():
            value = features.get(name)
            try:
                if hasattr(value, "__array__") and not isinstance(value, Tensor):
                    value = np.ascontiguousarray(value)  # torch takes no array that runs backwards
                row = torch.zeros(width, dtype=first.dtype) if value is None else torch.as_tensor(value, dtype=first.dtype)
            except (TypeError, ValueError, RuntimeError, OverflowError):
                raise CorpusError(f"utterance {self.turns}: {name}: expected {width} numbers, found other values") from None
            if row.shape != (width,):
                raise CorpusError(f"utterance {self.turns}: {name}: expected {width} numbers, found shape {tuple(row.shape)}")
            if not fit(row).all():
                raise CorpusError(f"utterance {self.turns}: {name}: expected finite numbers, found {UNFIT}; leave out a missing modality")
            rows[name] = row.to(first.device)[None]
            present[name] = torch.tensor([value is not None], device=first.device)
        return Batch(
            ptr=torch.tensor([0, 1], device=first.device),
            speaker=torch.tensor([self._speakers.get(speaker, len(self._speakers))], device=first.device),
            target=torch.tensor([-1], device=first.device),
            judged=torch.tensor([False], device=first.device),
            row=torch.tensor([self.turns], device=first.device),
            features=rows,
            present=present,
        )


class _Part(nn.Module):
    """Wrapper of a module that uses other utterances; the wrapped module processes one utterance per call.

    A module can be called several times per utterance, such as one GRU for all pairs of modalities. Each of these calls has its own memory
    (the state after the preceding utterances).
    """

    def __init__(self, part: OverTurns) -> None:
        super().__init__()
        self.part = part
        self.memories: list[Any] = []
        self.before: list[Any] = []
        self.asked = 0

    def start(self) -> None:
        """Prepare the wrapper for the first call for a new utterance, and save the memories, which `forget` restores."""
        self.before, self.asked = list(self.memories), 0

    def forget(self) -> None:
        """Remove the newest utterance from all memories, which then equal the memories before this utterance."""
        self.memories = self.before
        for memory in _each(self.memories):
            if hasattr(memory, "forget"):
                memory.forget()

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        if self.asked == len(self.memories):
            self.memories.append(None)
        output, self.memories[self.asked] = self.part.step(nodes, batch, self.memories[self.asked])
        self.asked += 1
        return output


def _in_steps(module: nn.Module, parts: list[_Part], known: dict[nn.Module, nn.Module]) -> Any:
    """Return a copy of a module in evaluation mode that shares its parameters, with every `OverTurns` module replaced by a `_Part`."""
    if module not in known:
        if isinstance(module, OverTurns):
            known[module] = part = _Part(module)
            parts.append(part)
        else:
            known[module] = twin = copy.copy(module)
            twin.training = False
            twin._modules = {name: child and _in_steps(child, parts, known) for name, child in module._modules.items()}
    return known[module]


def _each(memory: Any) -> list[Any]:
    """Return all elements of the memory of a module as one flat list; nested lists and tuples are flattened."""
    return [part for item in memory for part in _each(item)] if isinstance(memory, (list, tuple)) else [memory]


def _nbytes(memory: Any) -> int:
    """Return the size in bytes of all tensors and `Window` objects in the memory of a module."""
    return sum(getattr(part, "nbytes", 0) for part in _each(memory))
