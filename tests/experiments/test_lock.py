from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from erc_graph.errors import ConfigError
from erc_graph.experiments.command import main
from erc_graph.experiments.lock import LOCK, alone

HOLD = """
import sys; from pathlib import Path; from erc_graph.experiments.lock import alone
with alone(Path(sys.argv[1])): print(1, flush=True); sys.stdin.read()
"""


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("fcntl")
    folder = tmp_path / "deep" / "run"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline()
        with (
            pytest.raises(ConfigError, match=rf"run: another run writes to this folder \(process {holder.pid}\); wait until that run"),
            alone(folder),
        ):
            pass
        assert main("bigru", ["--out", str(folder)]) == 2
        assert f"(process {holder.pid})" in capsys.readouterr().err
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert os.listdir(folder) == [LOCK]  # of a process that is gone: it is in nobody's way
    with alone(folder):
        (folder / "result").touch()
    assert os.listdir(folder) == ["result"]


def test_nothing_stays_where_nothing_was_written(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), alone(tmp_path / "deep" / "run"):
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_what_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / ("n" * 300)):
        with pytest.raises(ConfigError, match="--out: expected a folder to which results can be written, found"), alone(path):
            pass
