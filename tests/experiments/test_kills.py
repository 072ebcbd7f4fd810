"""After a kill at any rename the next command works, and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from erc_graph.cli.main import main
from erc_graph.data.corpus import Corpus
from erc_graph.data.files import storage
from erc_graph.data.files.load import load_corpus
from erc_graph.data.files.storage import atomic_write, tidy, write_json

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
@pytest.mark.parametrize("options", [[], ["--tune", "2"]])
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
