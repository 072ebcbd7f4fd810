"""One stage of a training run: epochs, training steps, and evaluation after each epoch. A run has one or more stages."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from erc_graph.data.batch import Batch
from erc_graph.data.files.storage import load_tensors
from erc_graph.data.progress import Progress
from erc_graph.data.tasks import Task
from erc_graph.errors import CheckpointError, ConfigError
from erc_graph.methods.stage import Prediction, Stage, evaluating, infer
from erc_graph.training.averages import averaged
from erc_graph.training.checkpoint import (
    ANEW,
    BEST,
    LAST,
    State,
    optimizer_tensors,
    random_state,
    refused,
    restore_optimizer,
    restore_random_state,
    save_weights,
    snapshot,
)
from erc_graph.training.config import TrainingConfig
from erc_graph.training.history import Epoch, History
from erc_graph.training.losses import Criterion, counted
from erc_graph.training.metrics import evaluate
from erc_graph.training.schedule import batch_order, rate
from erc_graph.training.selection import figure, improved, reduced, stalled

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)
Watch = Callable[[int, int, Callable[[Batch], Tensor]], None]  # position of the stage, epochs so far, and what answers as after this one


@dataclass(kw_only=True, eq=False)
class Run:
    """The data that all stages of a run share."""

    accelerator: Accelerator
    method: nn.Module
    task: Task
    config: TrainingConfig
    train: Batch
    seed: int
    folder: Path | None = None
    quiet: bool | None = None
    description: str = ""
    on_epoch: Callable[[History], None] | None = None
    watch: Watch | None = None
    history: History = field(default_factory=History)

    @cached_property
    def criterion(self) -> Criterion:
        """Return the loss function, with class weights from the training split."""
        return Criterion(self.task, self.config, self.train)

    @cached_property
    def lengths(self) -> Tensor:
        """Return the number of utterances of every training dialogue, `(D,)`, on the CPU."""
        return torch.tensor(self.train.sizes)

    @cached_property
    def judged(self) -> Tensor:
        """Return for each training dialogue how many of its utterances count in the loss, `(D,)`, on the CPU."""
        counts = counted(self.train, self.task).long()
        return torch.zeros(len(self.train), dtype=torch.long).index_add(0, self.train.dialogue.cpu(), counts.cpu())

    def save_best(self) -> None:
        """Write the current weights to `best.safetensors`."""
        if self.folder and self.accelerator.is_main_process:
            describe = getattr(self.method, "describe", dict)
            save_weights(self.method, self.folder / BEST, {"seed": str(self.seed), "model": json.dumps(describe())})

    def mend_best(self) -> None:
        """Write `best.safetensors` again if it is missing, damaged, or differs from the weights of the method."""
        if not self.folder:
            return
        try:
            found, metadata = load_tensors(self.folder / BEST)
        except CheckpointError:
            found, metadata = {}, {}
        expected = self.method.state_dict()
        same = found.keys() == expected.keys() and metadata.get("seed") == str(self.seed)
        if not (same and all(found[name].dtype == v.dtype and torch.equal(found[name], v.cpu()) for name, v in expected.items())):
            self.save_best()

    def save(self, stage: int, tensors: dict[str, dict[str, Tensor]], *, finished: bool = False) -> None:
        """Write the state after a complete epoch, or the final state."""
        if self.folder and self.accelerator.is_main_process:
            tensors = {"model": self.method.state_dict(), **tensors}
            State(stage, finished, self.seed, asdict(self.config), asdict(self.history), tensors).save(self.folder / LAST)

    def load(self) -> State | None:
        """Load the weights of the method and the history of a saved run; `StageRun.restore` restores the current stage."""
        path = self.folder / LAST if self.folder else None
        if path is None or not path.exists():
            return None
        state = State.load(path)
        with refused(path, ANEW):
            state.expect(path, self.seed, asdict(self.config))
            self.method.load_state_dict(state.tensors["model"])
            self.history = History.from_dict(state.history)
        return state


class _Step(nn.Module):
    """The forward pass of a stage as a module, because accelerate can only wrap modules."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.module = stage.module
        self.ask = stage.forward

    def forward(self, batch: Batch) -> Prediction:
        return self.ask(batch)


class StageRun:
    """The current stage of a training run, with its optimiser, moving averages and best weights."""

    def __init__(self, run: Run, index: int, stage: Stage) -> None:
        self.run, self.index, self.stage, config = run, index, stage, run.config
        self.epochs = stage.epochs or config.epochs
        self.learning_rate = config.learning_rate if stage.learning_rate is None else stage.learning_rate
        self.parameters = [p for p in stage.module.parameters() if p.requires_grad]
        self.parts = [[p for p in part.parameters() if p.requires_grad] for part in stage.parts] or [self.parameters]
        trained = set(self.parameters)
        self.frozen = [p for p in run.method.parameters() if p.requires_grad and p not in trained]
        shares = {parameter: share for module, share in stage.rates for parameter in module.parameters()}
        groups: dict[float, list[nn.Parameter]] = {}
        for parameter in self.parameters:
            groups.setdefault(shares.get(parameter, 1.0), []).append(parameter)
        kind = torch.optim.Adam if config.decay == "coupled" else torch.optim.AdamW
        optimizer = kind(
            [{"params": parameters, "share": share} for share, parameters in groups.items()],
            lr=self.learning_rate,
            weight_decay=config.weight_decay if stage.weight_decay is None else stage.weight_decay,
            fused=run.accelerator.device.type in ("cpu", "cuda"),
        )
        self.step, prepared = run.accelerator.prepare(_Step(stage), optimizer)
        # Only loss scaling needs accelerate's optimiser, which searches the disk for packages in every step (0.4 ms).
        self.optimizer = optimizer if run.accelerator.scaler is None else prepared
        self.scale = 1.0  # of the learning rate in the epoch under way
        self.average = [p.detach().clone() for p in self.parameters] if config.ema else []
        self.best: dict[str, Tensor] = {}

    def fit(self, train: Batch, dev: Batch | None) -> None:
        """Train to the end of the stage; afterwards the method has the weights of the selected epoch."""
        run, history = self.run, self.run.history.stages[self.index]
        for parameter in self.frozen:
            parameter.requires_grad_(False)
        title = f"{run.description} {self.stage.name}".strip()
        bar = Progress(total=self.epochs, initial=len(history.epochs), desc=title, leave=False, disable=run.quiet)
        try:
            while len(history.epochs) < self.epochs and not stalled(history, run.config):
                start, before = time.perf_counter(), time.process_time()
                loss = self.epoch(train, len(history.epochs))
                seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - before
                with averaged(self.parameters, self.average):
                    if dev is None:
                        self.scores(train.select(torch.arange(min(4, len(train)))))
                    history.epochs.append(Epoch(loss, self.judge(dev) if dev is not None else {}, seconds, cpu_seconds))
                    if run.watch:
                        run.watch(self.index, len(history.epochs), self.asked)
                    if improved(history, run.config):
                        history.chosen = len(history.epochs)
                        self.best = snapshot(self.stage.module)
                        run.save_best()
                run.save(self.index, self.tensors())
                if run.on_epoch:
                    run.on_epoch(run.history)
                bar.set_postfix({name: f"{value:.3f}" for name, value in figure(history.epochs[-1], run.config).items()}, refresh=False)
                bar.update()
        finally:
            bar.close()
            for parameter in self.frozen:
                parameter.requires_grad_(True)
        self.stage.module.load_state_dict(self.best)
        chosen = ", ".join(f"{name} {value:.3f}" for name, value in figure(history.best, run.config).items())
        log.info("%s: epoch %d of %d chosen, %s", title, history.chosen, len(history.epochs), chosen)

    def epoch(self, train: Batch, number: int) -> float:
        """Train for one pass over the training split, and return the mean loss of the utterances that count in the loss.

        Raises:
            ConfigError: the loss is not finite.
        """
        run, config = self.run, self.run.config
        run.method.eval()
        self.stage.module.train()
        self.scale = reduced(run.history.stages[self.index], config)
        batches = batch_order(run.lengths, config.batch_size, (run.seed, self.index, number), config.batch_tokens)
        judged = [int(run.judged[index].sum()) for index in batches]
        rows = [int(run.lengths[index].sum()) for index in batches]
        total = self.steps(train, batches, judged, rows, number)
        mean = float(run.accelerator.reduce(total, "mean")) / sum(judged)
        if not math.isfinite(mean):
            raise self.diverged(f"the loss of stage {self.stage.name}, epoch {number + 1} is {mean}")
        return mean

    def diverged(self, what: str) -> ConfigError:
        """Return the error for a loss or scores that are not finite; `what` names them."""
        return ConfigError(f"training.learning_rate: {what}; lower the rate ({self.learning_rate}) or set training.clip")

    def steps(self, train: Batch, batches: list[Tensor], judged: list[int], rows: list[int], number: int) -> Tensor:
        """Run the training steps of an epoch, without synchronising with the GPU.

        Args:
            train: The training split, on the device.
            batches: Indices of the dialogues of every step, on the CPU.
            judged: Number of utterances of every step that count in the loss.
            rows: Number of utterances of every step.
            number: Number of the epoch, from 0.

        Returns:
            Sum of the losses of all utterances that count in the loss, on the device.
        """
        config, accelerator = self.run.config, self.run.accelerator
        total = torch.zeros((), device=train.device)
        own = [index[accelerator.process_index :: accelerator.num_processes] for index in batches]
        # Fewer dialogues than processes: one without takes part with nothing to say.
        taken = train.split([mine if len(mine) else index[:1] for mine, index, count in zip(own, batches, judged, strict=True) if count])
        for position, (count, size) in enumerate(zip(judged, rows, strict=True)):
            if not count:
                continue
            step = number * len(batches) + position
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate * self.scale * group["share"] * rate(step, self.epochs * len(batches), config)
            batch = next(taken)
            loss = self.loss(self.step(batch), batch, count, size)
            if not len(own[position]):
                loss = 0 * loss
            accelerator.backward(loss)
            if config.clip:
                for part in self.parts:
                    accelerator.clip_grad_norm_(part, config.clip)
            self.optimizer.step()
            self.optimizer.zero_grad()
            if self.average:  # young averages forget faster, so that the initial weights do not stay in them
                get_ema_multi_avg_fn(min(config.ema, (1 + step) / (10 + step)))(self.average, self.parameters, step)
            total += loss.detach() * count / len(self.parts)
        return total

    def loss(self, answer: Prediction, batch: Batch, count: int, rows: int) -> Tensor:
        """Compute the loss that a step minimises; the whole batch has `rows` utterances, and the loss includes `count` of them.

        The loss is scaled so that its mean over all processes is the loss of the whole batch, because accelerate averages gradients. The
        loss of an ensemble is the sum of the losses of its networks, so that each network gets its own gradient.
        """
        if answer.members:
            return torch.stack([self.loss(member, batch, count, rows) for member in answer.members]).sum()
        processes = self.run.accelerator.num_processes
        total = self.run.criterion(answer.scores, batch)
        for scores in answer.auxiliary.values():
            total = total + answer.auxiliary_weight * self.run.criterion(scores, batch)
        share = processes if answer.penalty_reduction == "sum" else processes * batch.utterances / rows
        return total / (count / processes) + share * answer.penalty

    def judge(self, dev: Batch) -> dict[str, float]:
        """Compute the metrics on the development split; the metric `loss` is the value of the training loss function.

        Raises:
            ConfigError: the scores or the loss are not finite.
        """
        scores, keep = self.scores(dev), counted(dev, self.run.task)
        loss = float(self.run.criterion(scores, dev) / keep.sum())
        if not math.isfinite(loss):
            raise self.diverged(f"the development loss after an epoch of stage {self.stage.name} is {loss}")
        return {**evaluate(scores[keep], dev.target[keep], self.run.task), "loss": loss}

    def scores(self, batch: Batch) -> Tensor:
        """Compute the scores of `N` utterances after an epoch, `(N, C)`, and check that the scores are finite.

        Raises:
            ConfigError: the scores are not finite; the training may have diverged in the last step.
        """
        scores = self.answers(batch)
        if not scores.isfinite().all():
            raise self.diverged(f"the scores after an epoch of stage {self.stage.name} are not finite")
        return scores

    def asked(self, batch: Batch) -> Tensor:
        """Compute the scores of dialogues with the current weights, `(N, C)`; the function `watch` gets this method as argument."""
        with torch.no_grad(), evaluating(self.run.method):
            return self.answers(self.run.method.start_stage(self.index, batch))  # type: ignore[operator]

    def answers(self, batch: Batch) -> Tensor:
        """Compute the scores of `N` utterances, `(N, C)`, without checking that the scores are finite."""
        with self.run.accelerator.autocast():
            return infer(self.run.method, batch, min(self.run.config.batch_size, len(batch)), forward=self.stage.forward).scores

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Return the state from which the stage can continue, without the weights of the method."""
        scaler = self.run.accelerator.scaler
        return {
            "optimizer": optimizer_tensors(self.optimizer),
            "ema": {str(i): average for i, average in enumerate(self.average)},
            "best": self.best,
            "scaler": {} if scaler is None else {name: torch.tensor(value) for name, value in scaler.state_dict().items()},
            "rng": random_state(self.run.accelerator.device),
        }

    def restore(self, tensors: dict[str, dict[str, Tensor]]) -> None:
        """Restore the state of the stage from the result of `tensors`; `Run.load` restores the weights of the method."""
        accelerator = self.run.accelerator
        restore_optimizer(self.optimizer, tensors.get("optimizer", {}))
        for i, average in enumerate(self.average):
            average.copy_(tensors["ema"][str(i)])
        self.best = {name: value.to(accelerator.device, copy=True) for name, value in tensors["best"].items()}
        if accelerator.scaler is not None:
            accelerator.scaler.load_state_dict({name: value.item() for name, value in tensors["scaler"].items()})
        restore_random_state(tensors["rng"], accelerator.device)
