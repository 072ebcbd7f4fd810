"""The options of the training loop with their defaults."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints

from erc_graph.errors import ConfigError

Criterion = Literal["weighted_f1", "macro_f1", "accuracy", "unweighted_accuracy", "loss", "mae", "acc7", "pearson"]
LOWER_IS_BETTER = ("loss", "mae")

# Field → what its number must be, in words and as a test.
_NUMBERS = {
    "epochs": ("an integer of 1 or more", lambda v: v >= 1),
    "batch_size": ("an integer of 1 or more", lambda v: v >= 1),
    "batch_tokens": ("an integer of 0 or more", lambda v: v >= 0),
    "learning_rate": ("a number above 0", lambda v: v > 0),
    "weight_decay": ("a number of 0 or more", lambda v: v >= 0),
    "patience": ("an integer of 0 or more", lambda v: v >= 0),
    "clip": ("a number of 0 or more", lambda v: v >= 0),
    "focal_gamma": ("a number of 0 or more", lambda v: v >= 0),
    "label_smoothing": ("a number in [0, 1)", lambda v: 0 <= v < 1),
    "warmup": ("a number in [0, 1]", lambda v: 0 <= v <= 1),
    "plateau": ("an integer of 0 or more", lambda v: v >= 0),
    "plateau_factor": ("a number in (0, 1)", lambda v: 0 < v < 1),
    "ema": ("a number in [0, 1)", lambda v: 0 <= v < 1),
}


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The options of the training loop. A method is trained in one or more stages, one after the other.

    Attributes:
        epochs: Number of passes over the training split in every stage; a stage can replace this number.
        batch_size: Number of dialogues per training step, summed over all processes.
        batch_tokens: Largest number of utterances per step, padding included; 0: only `batch_size` limits a step.
        learning_rate: Learning rate of Adam; a stage can replace this value.
        weight_decay: Factor of the L2 regularisation; a stage can replace this value.
        decay: Kind of weight decay. `coupled`: the L2 term is part of the gradient (Adam); `decoupled`: AdamW.
        patience: Number of epochs without a better development metric after which a stage stops; 0: no early stopping. Only used if
            `selection` is `dev`.
        clip: Largest norm of the gradient; a larger gradient is scaled down. 0: no limit.
        schedule: Learning rate after the warm-up: `constant`, `step` (one tenth in the second half of a stage), `cosine` or `linear` (decay
            to zero), or `plateau`. With `plateau`, the rate is reduced when the development metric stops improving. Without a development
            split, `plateau` uses the training loss.
        plateau: With schedule `plateau`: number of consecutive epochs without improvement before the rate is reduced.
        plateau_factor: With schedule `plateau`: factor by which the rate is multiplied.
        warmup: Share of the steps of a stage in which the learning rate grows linearly from zero.
        loss: `cross_entropy`, `focal`, or `legacy_focal` (from the public code of MMGCN and M3NET). A score task always uses the absolute
            error.
        focal_gamma: Exponent of both focal losses; with 0, `focal` is the cross entropy.
        class_weights: Class weights from the training split: `none`, `balanced` (inverse class frequency), or `sqrt` (square root of the
            inverse frequency).
        label_smoothing: Share of the target probability that is distributed equally over all classes.
        selection: Epoch whose weights are used: `dev`, the best epoch on the development split; or `last`, the last epoch.
        criterion: Development metric that selects the epoch. For a score task, `weighted_f1` and `accuracy` are computed for two classes:
            negative and not negative.
        ema: Decay of the exponential moving averages of the weights. The averages are evaluated and saved instead of the weights of the
            last step. 0: no averages.
        mixed_precision: Numerical precision: `no` (full precision), `bf16`, or `fp16` (needs a GPU).
    """

    epochs: int = 60
    batch_size: int = 16
    batch_tokens: int = 0
    learning_rate: float = 2e-4
    weight_decay: float = 2e-5
    decay: Literal["coupled", "decoupled"] = "coupled"
    patience: int = 0
    clip: float = 1.0
    schedule: Literal["constant", "step", "cosine", "linear", "plateau"] = "constant"
    plateau: int = 2
    plateau_factor: float = 0.5
    warmup: float = 0.0
    loss: Literal["cross_entropy", "focal", "legacy_focal"] = "cross_entropy"
    focal_gamma: float = 2.0
    class_weights: Literal["none", "balanced", "sqrt"] = "none"
    label_smoothing: float = 0.0
    selection: Literal["dev", "last"] = "dev"
    criterion: Criterion = "weighted_f1"
    ema: float = 0.0
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"

    def __post_init__(self) -> None:
        """Check all values.

        Raises:
            ConfigError: at least one value is invalid; the message names every invalid option, what was expected and what was found.
        """
        problems = []
        hints = get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in _NUMBERS:
                expected, holds = _NUMBERS[field.name]
                kinds = int if hints[field.name] is int else (int, float)
                good = isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value) and holds(value)
            else:
                choices = get_args(hints[field.name])
                expected, good = f"one of {', '.join(choices)}", value in choices
            if not good:
                problems.append(f"training.{field.name}: expected {expected}, found {value!r}")
        if problems:
            raise ConfigError("\n".join(problems))
