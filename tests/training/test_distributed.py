"""One training across processes: the loss curve is that of one process with the same batches, to rounding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, os, sys
from dataclasses import asdict
from pathlib import Path
import torch
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.data.splits import folds
from erc_graph.experiments.experiment import from_dict
from erc_graph.experiments.jobs import Job
from erc_graph.experiments.run import train_job

torch.set_num_threads(1)
corpus, histories = sample_corpus(dialogues=24, seed=3), []
quiet = {"dropout": 0.0}
for name, batch_size, reduction, members in (("full", 4, "mean", 1), ("sum", 5, "sum", 2), ("alone", 1, "mean", 1)):
    values = {
        "device": "cpu",
        "members": members,
        "pipeline": {
            "density_reduction": reduction,
            "pmf": {"width": 8, "density": 0.3, **quiet},
            "mff": {"width": 8, **quiet},
            "mal": {"width": 8, "hidden": 8, "density": 0.2, **quiet},
        },
        "training": {"epochs": 3, "batch_size": batch_size, "learning_rate": 0.003, "clip": 0.5, "ema": 0.5},
    }
    experiment = from_dict("pairwise", values, "test")
    job = Job(experiment=experiment, seed=1, fold=folds(corpus, "official")[0], folder=Path(sys.argv[1]) / name)
    history = asdict(train_job(job, corpus, quiet=True)[1])
    histories.append([(epoch["loss"], epoch["dev"]["loss"]) for stage in history["stages"] for epoch in stage["epochs"]])
if os.environ.get("RANK", "0") == "0":
    Path(sys.argv[1], "losses.json").write_text(json.dumps(histories))
if torch.distributed.is_initialized():
    assert torch.distributed.get_world_size() == 2 and torch.distributed.get_backend() == "gloo"
    torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    alone = [sys.executable, str(script), str(tmp_path / "one")]
    together = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script), str(tmp_path / "two")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for folder, command in (("one", alone), ("two", together)):
        (tmp_path / folder).mkdir()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, done.stderr
    one, two = (json.loads((tmp_path / folder / "losses.json").read_text()) for folder in ("one", "two"))
    assert len(one) == 3 and all(len(curve) == 12 for curve in one)  # four stages of three epochs
    for ours, theirs in zip(two, one, strict=True):
        for left, right in zip(ours, theirs, strict=True):
            assert left == pytest.approx(right, rel=1e-5)
    assert one[0][0][0] > one[0][2][0]  # it learns
