"""Runs that are trained by workers end in the serial result, and whatever happens to a worker leaves something to continue."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from multiprocessing.spawn import get_preparation_data
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from erc_graph.data.files.load import load_corpus
from erc_graph.errors import ConfigError
from erc_graph.experiments import workers
from erc_graph.experiments.experiment import Launch, from_dict
from erc_graph.experiments.jobs import Plan
from erc_graph.experiments.launch import check_launch, run_all, train_all
from erc_graph.experiments.pairwise import main
from erc_graph.training.checkpoint import State

SMALL = {"pmf": {"width": 8}, "mff": {"width": 8}, "mal": {"width": 8, "hidden": 8}}
OPTIONS = [f"--pipeline.{part}.{name}={value}" for part, values in SMALL.items() for name, value in values.items()]
unix = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for processes in /proc")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As many as a worker has: sums are bit for bit the same for the same number of threads alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def plan(data: Path, folder: Path, **values: object) -> Plan:
    experiment = from_dict("pairwise", {"data": str(data), "pipeline": SMALL, "training": {"epochs": 3}, "seeds": 2, **values}, "test")
    return Plan(experiment=experiment, folder=folder)


def states(folder: Path) -> dict[str, State]:
    found = {str(path.relative_to(folder)): State.load(path) for path in sorted(folder.rglob("last.safetensors"))}
    for state in found.values():
        for stage in state.history["stages"]:
            for epoch in stage["epochs"]:
                del epoch["seconds"], epoch["cpu_seconds"]
    return found


def assert_same(one: Path, other: Path) -> None:
    """Same checkpoints, bit for bit; only times may differ."""
    ours, theirs = states(one), states(other)
    assert list(ours) == list(theirs) and ours
    for name, state in ours.items():
        assert state.finished and theirs[name].finished and state.history == theirs[name].history
        left, right = (load_file((folder / name).with_name("best.safetensors")) for folder in (one, other))
        assert left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["local", "ray"])
def test_workers_end_in_the_serial_result(launcher: str, small: Path, tmp_path: Path) -> None:
    """Two rows of a table with two seeds each, one run of them finished before."""
    if launcher == "ray":
        pytest.importorskip("ray")
    corpus = load_corpus(str(small))
    plans = {name: [plan(small, tmp_path / name / row, seeds=2, pipeline={**SMALL, "conv": {"depth": d}}) for d, row in enumerate("ab", 1)]
             for name in ("serial", "workers")}  # fmt: skip
    serial = run_all(plans["serial"], corpus, tmp_path)
    train_all(plans["workers"][0].jobs(corpus)[:1], corpus, tmp_path, Launch())  # one job in one worker
    before = (tmp_path / "workers" / "a" / "seed-0" / "last.safetensors").stat().st_mtime_ns
    launch = Launch(workers=2, launcher=launcher)  # type: ignore[arg-type]
    apart = run_all(plans["workers"], corpus, tmp_path, launch=launch, resume=True)
    assert (tmp_path / "workers" / "a" / "seed-0" / "last.safetensors").stat().st_mtime_ns == before
    assert_same(tmp_path / "workers", tmp_path / "serial")
    for one, other in zip(apart, serial, strict=True):
        for ours, theirs in zip(one.seeds, other.seeds, strict=True):
            assert ours.test == theirs.test and ours.dev == theirs.dev and ours.histories == theirs.histories
            assert torch.equal(ours.scores, theirs.scores) and torch.equal(ours.rows, theirs.rows)


def start(small: Path, out: Path, *options: str) -> subprocess.Popen[bytes]:
    """The command in a process group of its own, as a terminal starts it; returns when both workers have a checkpoint."""
    arguments = ["--data", str(small), "--out", str(out), "--seeds=2", "--no-baseline", "--workers=2", "--training.epochs=600", *OPTIONS]
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "  # a shell's background job ignores it
    code += f"from erc_graph.experiments.pairwise import main; raise SystemExit(main({[*arguments, *options]!r}))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    for _ in range(6000):
        if process.poll() is not None or all((out / f"seed-{i}" / "last.safetensors").exists() for i in (0, 1)):
            break
        time.sleep(0.05)
    return process


def members(group: int) -> list[int]:
    """Processes of a group that are alive."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, own = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(own) == group and state != "Z":
            found.append(int(path.parent.name))
    return found


def workers_of(group: int) -> list[int]:
    return [pid for pid in members(group) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def all_gone(group: int) -> bool:
    for _ in range(600):
        if not members(group):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
@unix
def test_ctrl_c_stops_all_workers_and_the_run_goes_on_from_there(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(small, out)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors.decode()
    assert f"--resume {out}".encode() in errors and b"Traceback" not in errors and b"leaked" not in errors
    assert all_gone(process.pid)
    assert not [path for path in out.rglob("*") if path.name.endswith(".tmp")]
    kept = {name: len(state.history["stages"][0]["epochs"]) for name, state in states(out).items()}
    assert set(kept) == {"seed-0/last.safetensors", "seed-1/last.safetensors"} and all(0 < n < 600 for n in kept.values())
    assert json.loads((out / "config.json").read_text())["launch"] == asdict(Launch(workers=2))


@unix
@pytest.mark.slow
def test_a_killed_worker_is_named_and_takes_no_other_with_it(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(small, out)
    os.kill(workers_of(process.pid)[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2, errors.decode()
    lines = [line for line in errors.decode().splitlines() if line.startswith("error")]
    assert len(lines) == 1 and "seed" in lines[0] and "the worker process has died" in lines[0] and f"--resume {out} continues" in lines[0]
    assert b"Traceback" not in errors and all_gone(process.pid)
    assert len(states(out)) == 2  # both can be continued


@unix
@pytest.mark.slow
def test_workers_follow_a_killed_parent(small: Path, tmp_path: Path) -> None:
    process = start(small, tmp_path / "run")
    assert len(workers_of(process.pid)) == 2
    process.kill()
    process.communicate(timeout=120)
    assert all_gone(process.pid)


@pytest.mark.slow
def test_an_error_of_a_worker_ends_the_command_in_one_line(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--data", str(small), "--out", str(tmp_path / "run"), "--seeds=2", "--no-baseline", *OPTIONS]
    assert main([*arguments, "--workers=2", "--training.learning_rate=1e30", "--training.clip=0"]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(errors) == 1
    assert errors[0].startswith("error: pairwise seed ") and "training.learning_rate: the scores after an epoch" in errors[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "0"], "workers: expected 1 worker process or more, found 0"),
        (["--launcher", "slurm"], "slurm"),
        (
            ["--launcher", "ray"],
            r"--launcher ray: expected the package ray, which is not installed; install it with pip install 'erc_graph[ray]'",
        ),
        (
            ["--track", "wandb"],
            r"track: expected the package wandb, which is not installed; install it with pip install 'erc_graph[wandb]'",
        ),
    ],
)
def test_what_cannot_be_launched_is_refused_before_anything_is_written(
    options: list[str], message: str, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in ("ray", "wandb") else real(name, *a))
    assert main(["--data", str(small), "--out", str(tmp_path / "run"), *options]) == 2
    errors = capsys.readouterr().err
    assert message in errors and "Traceback" not in errors
    assert not (tmp_path / "run").exists()


def test_workers_do_not_run_the_script_that_started_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script without a guard would start itself in every worker."""
    script = ModuleType("__main__")
    script.__file__ = "script.py"
    monkeypatch.setitem(sys.modules, "__main__", script)
    with workers._main_left_out():
        assert not {"init_main_from_path", "init_main_from_name"} & get_preparation_data("worker").keys()
    assert {"init_main_from_path", "init_main_from_name"} & get_preparation_data("worker").keys()


def test_workers_do_not_start_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_launch(Launch())
    with pytest.raises(ConfigError, match="expected one process that starts the workers"):
        check_launch(Launch(workers=2))


def test_resume_takes_how_to_launch_and_nothing_else(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    arguments = ["--data", str(small), "--seeds=2", "--no-baseline", "--training.epochs=1", *OPTIONS]
    assert main([*arguments, "--out", str(out)]) == 0
    assert main(["--resume", str(out), "--workers", "2"]) == 0  # all is finished: no worker is started
    assert main(["--resume", str(out), "--workers", "many"]) == 2
    capsys.readouterr()
    assert main(["--resume", str(out), "--workers", "2", "--seeds", "3"]) == 2
    assert "expected no other options than --workers, --launcher, --track" in capsys.readouterr().err


def test_a_cluster_that_is_not_there(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(**options: object) -> None:
        raise ConnectionError("nobody answers at 10.0.0.1")

    exceptions = SimpleNamespace(RayError=type("RayError", (Exception,), {}), RayTaskError=type("RayTaskError", (Exception,), {}))
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=nobody, exceptions=exceptions))
    monkeypatch.setitem(sys.modules, "ray.exceptions", exceptions)
    with pytest.raises(ConfigError, match="--launcher ray: expected a Ray cluster, but none could be reached or started: nobody answers"):
        run_all([plan(small, tmp_path)], load_corpus(str(small)), tmp_path, launch=Launch(launcher="ray"))
