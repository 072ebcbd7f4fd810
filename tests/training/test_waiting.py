"""Nothing in the steps of an epoch waits for the device: what is asked of it comes once, at the end."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from erc_graph.data.batch import Batch, ranges
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.methods.bigru import BiGRU
from erc_graph.methods.inputs import InputsConfig
from erc_graph.methods.pairwise import MffConfig, Pairwise, PairwiseConfig
from erc_graph.methods.schema import Schema
from erc_graph.training.accelerator import make_accelerator
from erc_graph.training.config import TrainingConfig
from erc_graph.training.schedule import batch_order
from erc_graph.training.stages import Run, StageRun

CONFIG = TrainingConfig(batch_size=4, ema=0.9, class_weights="balanced", clip=1.0)
# A number for Python, or a shape that depends on values: on a GPU both stop the host until the device has caught up.
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal", "is_nonzero", "bincount"}


class Asked(TorchDispatchMode):
    """Counts operations that would wait for a device, were the tensors on one."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_") and any(t is not None and t.dtype == torch.bool for t in args[1])
        if name in WAITING or by_mask:
            self.found[name] += 1
        return function(*args, **(kwargs or {}))


def train_part(dialogues: int = 24) -> tuple[Schema, Batch]:
    corpus = sample_corpus().split("train")
    corpus = corpus.subset(corpus.dialogue_ids[:dialogues])
    return Schema.of(corpus), corpus.batch()


def methods(schema: Schema) -> list[torch.nn.Module]:
    joint = PairwiseConfig(stages="joint", mff=MffConfig(bidirectional=True))
    return [BiGRU(schema), Pairwise(schema), Pairwise(schema, joint, inputs=InputsConfig(swap_noise={"text": 0.2}))]


def epochs(device: str):
    """For every stage of every method: its name, and a function that makes the steps of one epoch."""
    schema, train = train_part()
    train = train.to(device)
    for method in methods(schema):
        method.fit_inputs(train.to("cpu"))
        method.to(device)
        accelerator = make_accelerator(CONFIG, device)
        run = Run(accelerator=accelerator, method=method, task=method.task, config=CONFIG, train=train, seed=0, quiet=True)
        for index, stage in enumerate(method.stages()):
            method.eval()
            part = method.start_stage(index, train)
            under_way = StageRun(run, index, stage)
            order = batch_order(run.lengths, CONFIG.batch_size, (0, index, 0))
            judged = [int(run.judged[positions].sum()) for positions in order]
            rows = [int(run.lengths[positions].sum()) for positions in order]
            method.train()
            run.criterion  # noqa: B018 - made once per run, from counts on the host
            under_way.steps(part, order, judged, rows, 0)
            yield stage.name, partial(under_way.steps, part, order, judged, rows, 1)


def test_no_step_asks_the_device_for_anything() -> None:
    names = []
    for name, steps in epochs("cpu"):
        with Asked() as asked:
            total = steps()
        assert not asked.found, f"{name}: {dict(asked.found)}"
        assert total.isfinite()
        names.append(name)
    assert len(names) >= 4


def test_asking_is_noticed() -> None:
    _, batch = train_part(3)
    for ask in (
        lambda: int(batch.lengths.max()),
        lambda: bool(batch.judged.all()),
        lambda: ranges(batch.ptr[:-1], batch.lengths),
        lambda: batch.target[batch.judged],
        lambda: batch.judged.nonzero(),
    ):
        with Asked() as asked:
            ask()
        assert asked.found


@pytest.mark.gpu
def test_no_step_waits_for_a_gpu() -> None:
    for _, steps in epochs("cuda"):
        torch.cuda.set_sync_debug_mode("error")
        try:
            total = steps()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert total.isfinite()
