from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.data.splits import folds
from erc_graph.errors import ConfigError
from erc_graph.experiments.experiment import from_dict
from erc_graph.experiments.jobs import Job
from erc_graph.experiments.run import run_job
from erc_graph.training import tracking
from erc_graph.training.tracking import check_tracker, tracked

SMALL = {"pmf": {"width": 8}, "mff": {"width": 8}, "mal": {"width": 8, "hidden": 8}}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    corpus = sample_corpus(dialogues=24, seed=3)
    experiment = from_dict("pairwise", {"pipeline": SMALL, "training": {"epochs": 2}, "device": "cpu"}, "test")
    return Job(experiment=experiment, seed=1, fold=folds(corpus, "official")[0], folder=tmp_path, name="row a seed 1")


def expected(job: Job) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Curves and test metrics, from what the run itself hands back."""
    from erc_graph.training.metrics import evaluate

    corpus = sample_corpus(dialogues=24, seed=3)
    _, history, test, answer = run_job(job, corpus, resume=True, quiet=True, track="tensorboard")  # finished: nothing is tracked again
    curves: dict[str, list[float]] = {}
    for stage in history.stages:
        for epoch in stage.epochs:
            for key, value in {"loss": epoch.loss, **{f"dev/{name}": v for name, v in epoch.dev.items()}}.items():
                curves.setdefault(f"{stage.name.replace('+', '-')}/{key}", []).append(value)
    figures = evaluate(answer.scores[test.judged], test.target[test.judged], corpus.task)
    return curves, {f"test/{name}": value for name, value in figures.items()}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of tensorboard and what it imports
def test_tensorboard_has_curves_test_metrics_and_configuration(job: Job) -> None:
    pytest.importorskip("tensorboard")
    run_job(job, sample_corpus(dialogues=24, seed=3), quiet=True, track="tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert job.folder is not None
    files = sorted((job.folder / "tensorboard").rglob("events*"))
    curves, figures = expected(job)
    assert files == sorted((job.folder / "tensorboard").rglob("events*"))
    events = EventAccumulator(str(job.folder / "tensorboard")).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if "/" in tag]
    assert set(tags) == {*curves, *figures}
    for tag, values in {**curves, **{name: [value] for name, value in figures.items()}}.items():
        assert [event.value for event in events.Scalars(tag)] == pytest.approx(values)
    assert [event.step for event in events.Scalars("mff-mal/loss")] == [7, 8]  # steps go on over the stages: three pairs, then the rest
    stored = next((job.folder / "tensorboard").rglob("hparams.yml")).read_text()
    assert "pipeline.mal.hidden: 8" in stored and "training.epochs: 2" in stored and "seed: 1" in stored


class Wandb(ModuleType):
    """As much of wandb as accelerate uses, without a network."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.started: list[dict[str, object]] = []
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.finished = 0
        self.broken = 10**9
        self.config = SimpleNamespace(update=lambda values, **options: self.started[-1].update(config=values))

    def init(self, **options: object) -> SimpleNamespace:
        self.started.append(options)
        return SimpleNamespace(log=self.log, finish=self.finish)

    def log(self, values: dict[str, float], step: int) -> None:
        if len(self.logged) >= self.broken:
            raise ConnectionError("no route\nto host")
        self.logged.append((step, values))

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Wandb:
    fake = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setattr(tracking, "check_tracker", lambda name: None)
    return fake


def test_wandb_has_one_run_per_job(job: Job, wandb: Wandb) -> None:
    run_job(job, sample_corpus(dialogues=24, seed=3), quiet=True, track="wandb")
    curves, figures = expected(job)
    (begun,) = wandb.started
    assert (begun["project"], begun["name"]) == ("erc_graph-pairwise-sample", "row a seed 1")
    assert begun["config"]["seed"] == 1 and begun["config"]["pipeline.pmf.width"] == 8  # type: ignore[index]
    assert [step for step, _ in wandb.logged] == [1, 2, 3, 4, 5, 6, 7, 8, 8] and wandb.finished == 1
    found: dict[str, list[float]] = {}
    for _, values in wandb.logged:
        for name, value in values.items():
            found.setdefault(name, []).append(value)
    assert found == {**curves, **{name: [value] for name, value in figures.items()}}


def test_a_tracker_that_fails_later_costs_no_training(job: Job, wandb: Wandb, capsys: pytest.CaptureFixture[str]) -> None:
    wandb.broken = 2
    assert len(run_job(job, sample_corpus(dialogues=24, seed=3), quiet=True, track="wandb")[1].stages[3].epochs) == 2
    assert capsys.readouterr().err.splitlines() == ["the run is no longer tracked by wandb: no route"]


def test_a_tracker_that_cannot_begin_is_refused(job: Job, wandb: Wandb, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_login(**options: object) -> None:
        raise RuntimeError("no login")

    monkeypatch.setattr(wandb, "init", no_login)
    with pytest.raises(ConfigError, match=r"track: wandb cannot start a run: no login; correct this, or leave out --track"):
        run_job(job, sample_corpus(dialogues=24, seed=3), quiet=True, track="wandb")


def test_only_the_first_process_tracks(wandb: Wandb, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RANK", "1")
    with tracked("wandb", "project", "run", tmp_path, {}) as tracker:
        assert tracker is None


def test_off_by_default(tmp_path: Path) -> None:
    with tracked(None, "project", "run", tmp_path, {}) as tracker:
        assert tracker is None


def test_unknown_and_missing_trackers(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="track: expected one of tensorboard, wandb, mlflow, found 'paper'"):
        check_tracker("paper")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"expected the package mlflow, which is not installed; install it with pip install 'erc_graph\[mlflow\]'"
    ):
        check_tracker("mlflow")


def written(path: Path) -> Iterator[Any]:
    """Records of the log that wandb writes without a network: blocks of 32 KiB of (checksum, length, kind, data) after seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, whole = path.read_bytes(), 7, b""
    while place + 7 <= len(content):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        size, kind = struct.unpack_from("<HB", content, place + 4)
        whole += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(whole)
            whole = b""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of wandb and what it imports
def test_what_wandb_itself_writes_offline(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    real = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run_job(job, sample_corpus(dialogues=24, seed=3), quiet=True, track="wandb")
    real.teardown()
    curves, figures = expected(job)
    assert job.folder is not None
    (file,) = job.folder.glob("wandb/offline-run-*/run-*.wandb")
    found: dict[str, list[float]] = {}
    begun: list[tuple[str, str]] = []
    config: dict[str, Any] = {}
    for record in written(file):
        if record.HasField("run"):
            begun.append((record.run.project, record.run.display_name))
        for item in [*record.run.config.update, *record.config.update]:
            config[item.key or ".".join(item.nested_key)] = json.loads(item.value_json)
        for item in record.history.item:
            name = item.key or ".".join(item.nested_key)
            if not name.startswith("_"):
                found.setdefault(name, []).append(json.loads(item.value_json))
    assert set(begun) == {("erc_graph-pairwise-sample", "row a seed 1")}
    assert config["seed"] == 1 and config["pipeline.pmf.width"] == 8
    assert set(found) == {*curves, *figures}
    for name, values in {**curves, **{name: [value] for name, value in figures.items()}}.items():
        assert found[name] == pytest.approx(values), name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of mlflow and what it imports
def test_what_mlflow_itself_keeps(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'runs.db'}")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'runs.db'}")
    run_job(job, sample_corpus(dialogues=24, seed=3), quiet=True, track="mlflow")
    curves, figures = expected(job)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("erc_graph-pairwise-sample")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "row a seed 1" and run.info.status == "FINISHED"
    assert run.data.params["seed"] == "1" and run.data.params["pipeline.pmf.width"] == "8"
    assert set(run.data.metrics) == {*curves, *figures}
    for name, values in {**curves, **{name: [value] for name, value in figures.items()}}.items():
        history = sorted(client.get_metric_history(run.info.run_id, name), key=lambda metric: metric.step)
        assert [metric.value for metric in history] == pytest.approx(values), name
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "mff-mal/loss")] == [7, 8]
