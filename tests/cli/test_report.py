"""`erc-graph report`: words and exit codes; what is written is tested with `experiments.report`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from erc_graph.cli.main import main
from erc_graph.errors import StorageError
from erc_graph.experiments import report
from erc_graph.experiments.report import Made


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the command asks for; a report with a note, of a licensed corpus."""
    calls: list[Any] = []

    def make_report(folder: str, **options: Any) -> Made:
        calls.append((folder, options))
        return Made(Path(folder) / "report.html", {"bytes": 726_000, "method": "pairwise"}, ("No graphs: gone.",), options["text"])

    monkeypatch.setattr(report, "make_report", make_report)
    return calls


def test_written(asked: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "runs/a"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "written to runs/a/report.html (0.7 MB)\n" and asked == [
        ("runs/a", {"text": True, "scope": "test", "method": None})
    ]
    assert shown.err.splitlines() == [
        "note: No graphs: gone.",
        "note: the page contains the texts of the corpus; keep it private, or use --no-text",
    ]
    assert all(len(line) <= 90 for line in shown.err.splitlines())


def test_for_machines(asked: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "runs/a", "--json", "--no-text", "--all"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["method"] == "pairwise" and asked[0][1] == {"text": False, "scope": "all", "method": None}
    assert "texts of the corpus" not in shown.err


def test_help_and_wrong_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--help"]) == 0
    text = capsys.readouterr().out
    assert "usage: erc-graph report" in text and "--no-text" in text and all(len(line) <= 80 for line in text.splitlines())
    assert main(["report"]) == 2 and "RUN" in capsys.readouterr().err


def test_a_model_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.safetensors").touch()
    for name in ("starter", str(tmp_path)):
        assert main(["report", name]) == 2
        assert "use `erc-graph predict --html`" in capsys.readouterr().err


def test_refused_and_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["report", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith("error: ") and not (tmp_path / "none").exists()

    def fail(error: BaseException) -> Any:
        def make_report(*_: Any, **__: Any) -> Made:
            raise error

        return make_report

    monkeypatch.setattr(report, "make_report", fail(StorageError("no space")))
    assert main(["report", "a"]) == 2 and capsys.readouterr().err == "error: no space\n"
    monkeypatch.setattr(report, "make_report", fail(KeyboardInterrupt()))
    assert main(["report", "a"]) == 130 and "stopped" in capsys.readouterr().err
