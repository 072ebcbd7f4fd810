"""The interface between a method and the training loop: training stages, and the result of a forward pass."""

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
    """The result of a forward pass for the `N` utterances of a batch.

    Attributes:
        scores: `(N, C)` logits, or `(N, 1)` for a score task.
        penalty: Term that is added to the loss without a weight, for example a density loss that is already weighted.
        penalty_reduction: Whether the penalty is a `mean` or a `sum` over utterances; needed if several processes share a batch.
        auxiliary: Further scores, each of the shape of `scores`, such as those of single modalities. These scores are trained with the same
            loss function as `scores`.
        auxiliary_weight: Weight of the losses of `auxiliary`.
        states: `(N, width)` states before the classifier, for plots.
        members: Prediction of each network of an ensemble (`erc_graph.methods.ensemble`). Each of these predictions has its own loss, and
            `scores` is their average.
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
    """One stage of the training.

    Attributes:
        name: Name of the stage in logs and training histories.
        module: The module that is trained; all other parameters of the method are frozen, and their modules are in evaluation mode.
        forward: Function from a batch to the prediction whose loss is minimised.
        learning_rate: Learning rate of the stage; default: the learning rate of the training.
        weight_decay: Weight decay of the stage; default: the weight decay of the training.
        epochs: Number of epochs of the stage; default: the number of epochs of the training.
        rates: Modules with a different learning rate: pairs of a module and its learning rate, as a share of the stage's learning rate.
        parts: Independent networks in `module`, whose gradients are clipped separately; empty: one network.
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
    """Set `module` to evaluation mode inside the `with` block; then every submodule returns to its former mode, even after an error."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


@torch.no_grad()
def infer(method: nn.Module, batch: Batch, batch_size: int = 32, *, forward: Callable[[Batch], Prediction] | None = None) -> Prediction:
    """Compute the predictions for many dialogues in evaluation mode, without gradients; dialogues of similar length share a batch.

    Args:
        method: The method; its mode (training or evaluation) is restored afterwards.
        batch: All dialogues, on the method's device.
        batch_size: Number of dialogues per forward pass; it changes memory and time, not the result.
        forward: Function that replaces the method's own forward pass, such as `Stage.forward` of an earlier stage.

    Returns:
        `scores` and, if the method gives them, `states`, as float32, in the order of the utterances in `batch`.
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
