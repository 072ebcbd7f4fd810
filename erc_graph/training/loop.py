"""The training loop of all methods: stages, epochs, selection on the development split, checkpoints.

Each split is one large batch on the device, from which a training step selects dialogues by index. The random seed is set once. The order
of the dialogues depends only on seed, stage and epoch, so a continued run gives the same result as an uninterrupted run.
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
    """Check that `fit` can train with these arguments, without writing anything; `fit` calls this function first.

    Args:
        task: The task: labels or a score.
        train: Dialogues to train on.
        dev: Development dialogues, on which the epoch is selected; `None` is allowed if `config.selection` is `last`.
        config: Options of the training.
        device: `auto`, `cpu` or `cuda`.

    Returns:
        An accelerator with the requested device and precision.

    Raises:
        ConfigError: the device, precision, criterion or selection is not available.
        CorpusError: a split has no utterance that counts in the loss (see `erc_graph.training.losses.counted`).
    """
    if config.criterion not in METRICS[task.kind]:
        known = ", ".join(METRICS[task.kind])
        raise ConfigError(f"training.criterion: expected one of {known} for the task {task.name}, found {config.criterion!r}")
    if dev is None and config.selection == "dev":
        raise ConfigError("training.selection: expected 'last' because there is no development split, found 'dev'")
    for name, part in (("train", train), ("dev", dev if config.selection == "dev" else None)):
        if part is not None and not counted(part, task).any():
            advice = "; label some utterances, or set training.selection to 'last'" if name == "dev" else ""
            raise CorpusError(
                f"{name}: expected labelled utterances that count in the loss, found none among {part.utterances} utterances{advice}"
            )
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
    """Train a method in place, stage by stage; afterwards the method has the weights of the selected epoch.

    Ctrl-C stops the training at once; the checkpoint of the last complete epoch remains.

    Args:
        method: A module with `task`, `stages()` and `start_stage()`.
        train: Dialogues to train on. An utterance counts in the loss if its target is known and its value in `train.judged` is true.
        dev: Development dialogues, on which the epoch is selected; `None` is allowed if `config.selection` is `last`.
        config: Options of the training.
        seed: Seed of the order of the dialogues and of dropout; the caller sets the initial weights.
        folder: Folder for `last.safetensors` and `best.safetensors`; default: no files are written.
        resume: Whether the training continues from the checkpoint in `folder`, if the folder has a checkpoint. The result equals the result
            of an uninterrupted training.
        device: `auto`, `cpu` or `cuda`.
        quiet: `True`: no progress is shown. Default: a progress bar on a terminal; without a terminal, one line per minute.
        description: Text before the progress bar.
        on_epoch: Function that is called with the history after every epoch, once the checkpoint is written.
        watch: Function that is called after every epoch, before the checkpoint is written. The arguments of `watch` are the index of the
            stage, the number of finished epochs of this stage, and a function that predicts a batch with the current weights. The call does
            not affect the training.

    Raises:
        ConfigError: the device, precision, criterion or selection is not available, or the loss is not finite.
        CorpusError: a split has no utterance that counts in the loss.
        CheckpointError: the training cannot continue from the checkpoint in `folder`.
        StorageError: a checkpoint could not be written; the previous checkpoint remains.
    """
    task: Task = method.task
    accelerator = check_fit(task, train, dev, config, device)
    if dev is not None and not counted(dev, task).any():
        dev = None  # only with selection `last`: nothing to evaluate
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
