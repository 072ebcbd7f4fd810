from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from erc_graph.data.sample import sample_corpus
from erc_graph.data.splits import folds
from erc_graph.errors import ConfigError
from erc_graph.experiments.config import from_dict
from erc_graph.experiments.run import Job, run_job
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
    assert capsys.readouterr().err.splitlines() == ["not tracked any more: wandb: no route"]


def test_a_tracker_that_cannot_begin_is_refused(job: Job, wandb: Wandb, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_login(**options: object) -> None:
        raise RuntimeError("no login")

    monkeypatch.setattr(wandb, "init", no_login)
    with pytest.raises(ConfigError, match=r"track: wandb cannot begin a run: no login; mend that, or leave --track out"):
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
    with pytest.raises(ConfigError, match=r"expected the package mlflow, found none; install it with pip install 'erc_graph\[mlflow\]'"):
        check_tracker("mlflow")
