"""The one training loop: stages, epochs, selection on the development part, checkpoints.

All data lies on the device as one big batch per part; a step takes dialogues out of it by index arithmetic. Random numbers are
seeded once; the order of the dialogues depends on (seed, stage, epoch) only, so that a continued run equals an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from erc_graph.data.batch import Batch
from erc_graph.data.tasks import Task
from erc_graph.errors import ConfigError, CorpusError
from erc_graph.training.accelerator import make_accelerator
from erc_graph.training.checkpoint import ANEW, LAST, refused
from erc_graph.training.config import TrainingConfig
from erc_graph.training.history import History, StageHistory
from erc_graph.training.losses import counted
from erc_graph.training.metrics import METRICS
from erc_graph.training.stages import Run, StageRun, Watch

if TYPE_CHECKING:
    from accelerate import Accelerator

    from erc_graph.methods.base import Method
    from erc_graph.methods.ensemble import Ensemble


def check_fit(task: Task, train: Batch, dev: Batch | None, config: TrainingConfig, device: str = "auto") -> Accelerator:
    """Refuse what cannot be trained; writes nothing, and is the first thing that `fit` does.

    Args:
        task: What is predicted.
        train: Dialogues to learn from.
        dev: Dialogues that the epoch is chosen on; with selection `last` neither they nor their targets are needed.
        config: How to train.
        device: `auto`, `cpu` or `cuda`.

    Returns:
        The device and precision that were asked for.

    Raises:
        ConfigError: impossible device, precision, criterion or selection.
        CorpusError: a part without any judged utterance that has a target.
    """
    if config.criterion not in METRICS[task.kind]:
        known = ", ".join(METRICS[task.kind])
        raise ConfigError(f"training.criterion: expected one of {known} for the task {task.name}, found {config.criterion!r}")
    if dev is None and config.selection == "dev":
        raise ConfigError("training.selection: expected 'last' where there is no development part, found 'dev'")
    for name, part in (("train", train), ("dev", dev if config.selection == "dev" else None)):
        if part is not None and not counted(part, task).any():
            advice = "; label some, or set training.selection to 'last'" if name == "dev" else ""
            raise CorpusError(f"{name}: expected judged utterances with a target, found none among {part.utterances} utterances{advice}")
    return make_accelerator(config, device)


def fit(
    method: Method | Ensemble,
    train: Batch,
    dev: Batch | None,
    config: TrainingConfig,
    *,
    seed: int,
    folder: Path | None = None,
    resume: bool = False,
    device: str = "auto",
    quiet: bool | None = None,
    description: str = "",
    on_epoch: Callable[[History], None] | None = None,
    watch: Watch | None = None,
) -> History:
    """Train a network in place, stage after stage; afterwards it has the chosen weights.

    Ctrl-C ends it at once; the checkpoint of the last whole epoch stays.

    Args:
        method: A module with `task`, `stages()` and `start_stage()`.
        train: Dialogues to learn from; only rows that are judged and have a target count in the loss.
        dev: Dialogues that the epoch is chosen on; with selection `last` neither they nor their targets are needed.
        config: How to train.
        seed: Of the order of the dialogues and of dropout. (Initial weights are the caller's.)
        folder: Where `last.safetensors` and `best.safetensors` go; unset: nowhere.
        resume: Continue from `folder`, if there is something; ends in the same result as never having stopped.
        device: `auto`, `cpu` or `cuda`.
        quiet: No progress; unset: a bar on a terminal, elsewhere a line a minute.
        description: In front of the bar.
        on_epoch: Called with the history after every epoch, when its checkpoint is written.
        watch: Called after every epoch, before its checkpoint is written, with the stage's position, its epochs so far, and a function
            that answers for a batch as the network would now. Nothing that it does changes the training.

    Raises:
        ConfigError: impossible device, precision or criterion; the loss is no longer a number.
        CorpusError: a part without any judged utterance that has a target.
        CheckpointError: nothing that can be continued.
        StorageError: a checkpoint could not be written; the previous one stays.
    """
    task: Task = method.task
    accelerator = check_fit(task, train, dev, config, device)
    if dev is not None and not counted(dev, task).any():
        dev = None  # only with selection `last`: nothing to judge
    torch.manual_seed(seed + accelerator.process_index)
    method.to(accelerator.device)
    train, dev = train.to(accelerator.device), dev if dev is None else dev.to(accelerator.device)
    run = Run(
        accelerator=accelerator, method=method, task=task, config=config, train=train, seed=seed,
        folder=folder, quiet=quiet if accelerator.is_main_process else True, description=description, on_epoch=on_epoch, watch=watch,
    )  # fmt: skip
    if folder and not resume:
        (folder / LAST).unlink(missing_ok=True)  # of an older run, which is not to be continued by mistake
    state = run.load() if resume else None
    if state and state.finished:
        run.mend_best()
        return run.history

    for index, stage in enumerate(method.stages()):
        if state and index < state.stage:
            continue
        with torch.no_grad():
            method.eval()
            train_part = method.start_stage(index, train)
            dev_part = None if dev is None else method.start_stage(index, dev)
        under_way = StageRun(run, index, stage)
        if state and folder and index == state.stage:
            with refused(folder / LAST, ANEW):
                under_way.restore(state.tensors)
        else:
            run.history.stages.append(StageHistory(stage.name))
        under_way.fit(train_part, dev_part)
    run.save_best()
    run.save(index, {}, finished=True)
    return run.history
