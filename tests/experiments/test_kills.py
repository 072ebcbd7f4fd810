"""After a kill at any rename the next command works, and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from erc_graph.cli.main import main
from erc_graph.data.corpus import Corpus
from erc_graph.data.files import storage
from erc_graph.data.files.feature_files import read_features
from erc_graph.data.files.load import load_corpus
from erc_graph.data.files.storage import atomic_write, tidy, write_json
from erc_graph.features import extract

fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a copy of this process")


def dies(action: Callable[[], Any], at: int, *, after: bool) -> bool:
    """Do something in a copy of this process that is killed before or after its rename number `at`; whether there was one."""
    child = os.fork()
    if child == 0:
        count = 0

        def counted(rename: Callable[..., Any]) -> Callable[..., Any]:
            def step(one: Any, other: Any) -> Any:
                nonlocal count
                if "matplotlib" in str(other):
                    return rename(one, other)
                count += 1
                if count == at and not after:
                    os.kill(os.getpid(), signal.SIGKILL)
                answer = rename(one, other)
                if count == at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return answer

            return step

        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (1, 2):
            os.dup2(nothing, stream)
        os.replace, os.rename, storage._exchange = counted(os.replace), counted(os.rename), counted(storage._exchange)
        try:
            action()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def moments(action: Callable[[], Any]) -> Iterator[str]:
    """Kill it at every rename, one after the other, before and after."""
    at = 1
    while dies(action, at, after=False):
        yield f"before {at}"
        assert dies(action, at, after=True)
        yield f"after {at}"
        at += 1
        assert at < 200
    assert at > 1


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob(".*"))


@fork
@pytest.mark.parametrize("exchange", [True, False])
def test_a_saved_corpus_is_the_old_or_the_new_one(
    exchange: bool, talks: Corpus, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr(storage, "_exchange", lambda one, other: False)
    new, place = load_corpus(small), tmp_path / "corpora" / "mine"
    talks.save(place)
    old = load_corpus(place).utterances
    for moment in moments(lambda: new.save(place)):
        assert load_corpus(place).utterances in (old, new.utterances), moment
        talks.save(place)
        assert hidden(place.parent) == [] and load_corpus(place).utterances == old, moment


@fork
def test_a_file_is_the_old_or_the_new_one_and_nothing_is_left(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", 1)
    for moment in moments(lambda: write_json(tmp_path / "a.json", 2)):
        assert json.loads((tmp_path / "a.json").read_text()) in (1, 2), moment
        write_json(tmp_path / "a.json", 1)
        assert hidden(tmp_path) == []


def test_what_a_living_process_or_another_machine_writes_is_left_alone(tmp_path: Path) -> None:
    names = [f".a.{storage._HOST}-{os.getppid()}.tmp", ".a.000000-99999999.tmp", ".a.note", f".b.{storage._HOST}-99999999.tmp"]
    for name in names:
        (tmp_path / name).write_text("")
    with atomic_write(tmp_path / "a") as temporary:
        temporary.write_text("")
    assert sorted(hidden(tmp_path)) == sorted(names)
    tidy(tmp_path)
    assert sorted(hidden(tmp_path)) == sorted(names[:3])


def ended(out: Path) -> dict[str, Any]:
    result = json.loads((out / "result.json").read_text())
    return {name: result[name] for name in ("metrics", "seeds", "data_sha256", "parameters")}


@fork
@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--search", "2"]])
def test_an_experiment_that_is_killed_goes_on(options: list[str], small: Path, tmp_path: Path) -> None:
    """With the same command where nothing was trained, with `--resume` where something was; the result is that of a run in one go."""
    (tmp_path / "bigru.toml").write_text('method = "bigru"\n[search]\n"training.learning_rate" = {low = 1e-3, high = 1e-2, log = true}\n')
    command = ["experiment", "bigru", "--config", str(tmp_path / "bigru.toml"), "--data", str(small), "--training.epochs", "2"]
    command += ["--pipeline.width", "8", "--seeds", "2", *options]
    assert main([*command, "--out", str(tmp_path / "whole")]) == 0
    count = 0

    def run() -> int:
        return main([*command, "--out", str(tmp_path / f"killed {count}")])

    at = 1
    for after in (False, True):
        at = 1
        while dies(run, at, after=after):
            out = tmp_path / f"killed {count}"
            resumed = main(["experiment", "bigru", "--resume", str(out)]) if (out / "config.json").exists() else run()
            if resumed and (out / "result.json").exists():
                resumed = 0  # it had ended
            assert resumed == 0, (after, at)
            assert ended(out) == ended(tmp_path / "whole"), (after, at)
            assert hidden(out) == [], (after, at)
            count += 1
            at += 1
        count += 1  # the run that nothing killed
        assert at > 3


@fork
@pytest.mark.parametrize("options", [[], pytest.param(["--fine-tune", "--cross-fit", "2"], marks=pytest.mark.slow)])
def test_features_that_are_killed_go_on(
    options: list[str], talks: Corpus, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same command, to the same rows; without tuning, which keeps the name of its folder, to the same bytes."""
    monkeypatch.setattr(extract, "SECONDS", -1.0)  # every batch is a part
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")  # threads do not outlive a fork
    talks.save(tmp_path / "talks")
    command = ["features", "--data", str(tmp_path / "talks"), "--model", str(tiny_encoder), *options]
    command += ["--tuning.epochs", "1"] if options else []
    whole, killed = (tmp_path / name / "text.safetensors" for name in ("whole", "killed"))

    def run() -> int:
        return main([*command, "--out", str(killed)])

    assert main([*command, "--out", str(whole)]) == 0
    ids, rows = read_features(whole)
    for moment in moments(run):
        assert run() == 0, moment
        assert read_features(killed)[0] == ids and np.array_equal(read_features(killed)[1], rows), moment
        assert options or killed.read_bytes() == whole.read_bytes(), moment
        assert hidden(killed.parent) == [] and not list(killed.parent.glob("*.parts")), moment
        shutil.rmtree(killed.parent)


def test_what_a_kill_leaves_of_parts_that_are_removed_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan is the last of them to go: without it they would be taken for those of somebody else."""
    folder = tmp_path / "text.safetensors.parts"
    folder.mkdir()
    for name in ("00000000.safetensors", extract.PLAN):
        (folder / name).write_text("")
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    extract._remove(folder)
    assert [path.name for path in folder.iterdir()] == [extract.PLAN]


@pytest.fixture(scope="module")
def trained(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "bigru"
    assert (
        main(
            [
                "experiment",
                "bigru",
                "--data",
                str(small),
                "--training.epochs",
                "1",
                "--pipeline.width",
                "8",
                "--seeds",
                "1",
                "--out",
                str(out),
            ]
        )
        == 0
    )
    return out


@fork
@pytest.mark.slow
def test_a_report_that_is_killed_is_made_again(trained: Path, tmp_path: Path) -> None:
    def content(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    out = tmp_path / "run"
    shutil.copytree(trained, out)
    assert main(["report", str(out)]) == 0
    whole = content(out)
    shutil.rmtree(out)
    shutil.copytree(trained, out)
    for moment in moments(lambda: main(["report", str(out)])):
        assert main(["report", str(out)]) == 0, moment
        assert content(out) == whole and hidden(out) == [], moment
        shutil.rmtree(out)
        shutil.copytree(trained, out)


KILLER = """
import fcntl, os, signal
def counted(rename):
    def step(one, other, **named):
        with open(os.environ["KILL_COUNT"], "a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write("x")
            file.flush()
            mine = os.fstat(file.fileno()).st_size == int(os.environ["KILL_AT"]) and "matplotlib" not in str(other)
        end = (lambda: os.killpg(0, signal.SIGKILL)) if os.environ["KILL_ALL"] else (lambda: os.kill(os.getpid(), signal.SIGKILL))
        if mine and os.environ["KILL_WHEN"] == "before":
            end()
        rename(one, other, **named)
        if mine:
            end()
    return step
os.replace, os.rename = counted(os.replace), counted(os.rename)
"""


@fork
@pytest.mark.slow
@pytest.mark.parametrize(("when", "everything"), [("before", True), ("after", False)])
def test_an_experiment_with_two_workers_that_is_killed_goes_on(when: str, everything: bool, small: Path, tmp_path: Path) -> None:
    """All processes of it are killed, as by a cluster, or the one that writes, as where memory ends."""
    (tmp_path / "killer").mkdir()
    (tmp_path / "killer" / "sitecustomize.py").write_text(KILLER)
    command = ["experiment", "bigru", "--data", str(small), "--training.epochs", "2", "--pipeline.width", "8", "--seeds", "2"]

    def run(at: int, out: Path) -> int:
        root = Path(storage.__file__).parents[3]
        count = tmp_path / f"count {at}"
        given = {"KILL_COUNT": count, "KILL_AT": at, "KILL_ALL": "1" if everything else "", "KILL_WHEN": when, "OMP_NUM_THREADS": 1}
        environment = os.environ | {name: str(value) for name, value in given.items()} | {"PYTHONPATH": f"{tmp_path / 'killer'}:{root}"}
        words = [sys.executable, "-m", "erc_graph", *command, "--workers", "2", "--out", str(out)]
        done = subprocess.run(
            words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, check=False
        )
        return done.returncode

    assert run(0, tmp_path / "whole") == 0
    renames = len((tmp_path / "count 0").read_text())
    assert renames > 10
    for at in range(1, renames + 1):
        out = tmp_path / f"killed {at}"
        assert run(at, out) != 0, at
        if not (out / "config.json").exists():
            assert main([*command, "--out", str(out)]) == 0, at
        elif not (out / "result.json").exists():
            assert main(["experiment", "bigru", "--resume", str(out)]) == 0, at
        assert ended(out) == ended(tmp_path / "whole"), at
        assert hidden(out) == [] or (out / "result.json").exists(), at
