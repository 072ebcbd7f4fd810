"""What a method tells the training loop: which part is trained when, and what a forward pass gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch, ranges


@dataclass
class Prediction:
    """What a forward pass says about the `N` utterances of a batch.

    Attributes:
        scores: `(N, C)` logits, or `(N, 1)` for a score task.
        penalty: Added to the loss as it is, for example a weighted density loss.
        penalty_reduction: Whether it is a `mean` over the utterances or a `sum`; several processes that share a batch need to know.
        auxiliary: Further scores of the same shape that get the same criterion.
        auxiliary_weight: Weight of their losses.
        states: `(N, k)` features before the classifier, for pictures.
        members: What each of several independent networks says, where there are some (`erc_graph.methods.ensemble`): each has a loss
            of its own, and `scores` is what they say together.
    """

    scores: Tensor
    penalty: Tensor | float = 0.0
    penalty_reduction: Literal["mean", "sum"] = "mean"
    auxiliary: dict[str, Tensor] = field(default_factory=dict)
    auxiliary_weight: float = 1.0
    states: Tensor | None = None
    members: tuple[Prediction, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One part of the training.

    Attributes:
        name: For logs and histories.
        module: Its parameters are trained; all others of the method are frozen and in evaluation mode.
        forward: Batch → prediction whose loss is minimised.
        learning_rate: Default: the training's.
        weight_decay: Default: the training's.
        epochs: Default: the training's.
        rates: Modules that are trained at another rate: as a share of the stage's.
        parts: Independent networks in `module`, whose gradients are clipped each by itself; empty: it is one.
    """

    name: str
    module: nn.Module
    forward: Callable[[Batch], Prediction]
    learning_rate: float | None = None
    weight_decay: float | None = None
    epochs: int | None = None
    rates: tuple[tuple[nn.Module, float], ...] = ()
    parts: tuple[nn.Module, ...] = ()


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """In evaluation mode; afterwards every part is as it was, also where something failed."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


@torch.no_grad()
def infer(method: nn.Module, batch: Batch, batch_size: int = 32, *, forward: Callable[[Batch], Prediction] | None = None) -> Prediction:
    """Ask a method about many dialogues, similar lengths together, in evaluation mode and without gradients.

    Args:
        method: Its mode (training or evaluation) is as before afterwards.
        batch: All dialogues, on the method's device.
        batch_size: Dialogues per forward pass; changes memory and time, not the result.
        forward: Another question than the method's own, for example that of an earlier stage.

    Returns:
        `scores` and, where the method gives them, `states` in the row order of `batch`, as float32.
    """
    ask = forward or method
    with evaluating(method):
        lengths = torch.tensor(batch.sizes, dtype=torch.long)
        order = lengths.argsort(descending=True, stable=True)
        answers = [ask(part) for part in batch.split(order.split(batch_size))]
    rows = ranges((lengths.cumsum(0) - lengths)[order], lengths[order]).to(batch.device)

    def place(parts: list[Tensor]) -> Tensor:
        values = torch.cat(parts).float()
        return torch.empty_like(values).index_copy_(0, rows, values)

    states = [answer.states for answer in answers if answer.states is not None]
    return Prediction(scores=place([answer.scores for answer in answers]), states=place(states) if states else None)
