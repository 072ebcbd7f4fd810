"""`erc-graph experiment`: which method, and a method of the user's own from an empty file to `report` and `predict`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from erc_graph.cli.experiment import named
from erc_graph.cli.main import main
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.errors import ConfigError

OWN = '''"""The mean of what is there."""

from __future__ import annotations

from dataclasses import dataclass

from erc_graph.methods.base import Method
from erc_graph.methods.parts import Turn


@dataclass(frozen=True, kw_only=True)
class OwnConfig:
    """A linear layer.

    Attributes:
        dropout: In front of it.
    """

    dropout: float = 0.1


class Own(Method):
    Config = OwnConfig

    def parts(self, config, shapes):
        yield Turn(shapes.widths)
'''
TALK = "Ann: We won!\nBob: Oh no.\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus, a method, and a finished run of it."""
    folder = tmp_path_factory.mktemp("own")
    sample_corpus(dialogues=12, seed=1).save(folder / "corpus")
    (folder / "my_method.py").write_text(OWN)
    (folder / "talk.txt").write_text(TALK)
    method, data, out = f"{folder / 'my_method.py'}:Own", str(folder / "corpus"), str(folder / "run")
    options = ["--training.epochs", "1", "--seeds", "2", "--workers", "2"]  # in other processes, which import the file for themselves
    assert main(["experiment", "--method", method, "--data", data, "--out", out, *options]) == 0
    return folder


def test_a_run_names_the_file_and_is_called_by_the_class(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = json.loads((place / "run" / "config.json").read_text())
    result = json.loads((place / "run" / "result.json").read_text())
    assert config["method"] == f"{place / 'my_method.py'}:Own" and result["method"] == "Own" and "bigru" in result["baselines"]
    assert main(["compare", str(place / "run"), str(place / "run" / "bigru")]) == 0
    assert "A Own" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["report"], ["predict", "talk.txt", "--model"], ["graph", "corpus", "--model"]])
def test_the_file_is_named_again(command: list[str], place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(place / word) if word in ("talk.txt", "corpus") else word for word in command]
    assert main([*words, str(place / "run")]) == 2
    shown = capsys.readouterr().err
    name = f"{place / 'my_method.py'}:Own"
    advice = f"name it again with --method {name}, because recorded files are never imported"
    assert shown == f"error: {place / 'run'}: the method of this run is your own method {name}; {advice}\n"
    other = place / "nowhere.py:Own"
    assert main([*words, str(place / "run"), "--method", str(other)]) == 2
    assert f"--method: expected {name}, the method of this run, found {other}\n" in capsys.readouterr().err
    assert not (place / "run" / "report.html").exists() or command == ["report"]


def test_report_and_predict_on_its_run(place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    assert main(["report", "run", "--method", "my_method.py:Own"]) == 0
    assert "written to run/report.html" in capsys.readouterr().out
    rows = [{"speaker": "Ann", "text": "We won!", "features": {"text": [0.1] * 16, "audio": [0.2] * 8, "visual": [0.3] * 8}}]
    (place / "talk.json").write_text(json.dumps(rows))
    assert main(["predict", "talk.json", "--model", "run", "--method", "my_method.py:Own", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)["turns"]
    assert len(answer) == 1 and sum(answer[0]["probabilities"].values()) == pytest.approx(1)
    assert main(["graph", "corpus", "--model", "run/seed-0", "--method", "my_method.py:Own"]) == 2
    assert "the method Own builds no graph" in capsys.readouterr().err


def test_resume(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    before = (place / "run" / "result.json").read_text()
    assert main(["experiment", "bigru", "--resume", str(place / "run")]) == 2
    assert "expected a run of the method bigru, which you named, found a run of the method" in capsys.readouterr().err
    monkeypatch.chdir(place)
    assert main(["experiment", "my_method.py:Own", "--resume", "run"]) == 0
    ours, theirs = (json.loads(text)["metrics"] for text in (before, (place / "run" / "result.json").read_text()))
    assert ours == theirs


def test_help_of_the_command_and_of_ones_own_method(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "--help"]) == 0
    assert "--method my_method.py:Own" in capsys.readouterr().out
    assert main(["experiment", f"{place / 'my_method.py'}:Own", "--help"]) == 0
    page = capsys.readouterr().out
    assert "Train and evaluate Own. The mean of what is there." in page and "--pipeline.dropout" in page and "--inputs.swap_noise" in page


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "method: expected the name of a method, or --method FILE.py:CLASS"),
        (["--data", "sample"], "or --method FILE.py:CLASS, found neither"),
        (["nothing"], "or FILE.py:CLASS, found 'nothing'"),
        (["bigru", "--method", "hff"], "method: expected one method, found 'bigru' and 'hff'"),
        (["--method", "nowhere.py:Own"], "found no file nowhere.py"),
        (["--method"], "method: expected a method that `erc-graph list methods` names"),
    ],
)
def test_methods_that_are_refused(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", *argv]) == 2
    errors = capsys.readouterr().err
    assert message in errors and len(errors.splitlines()) == 1


def test_where_the_method_is_named() -> None:
    assert named(["pairwise", "--seeds", "2"]) == ("pairwise", ["--seeds", "2"])
    assert named(["--seeds", "2", "--method=a.py:B"]) == ("a.py:B", ["--seeds", "2"])
    assert named(["--method", "bigru", "-h"]) == ("bigru", ["-h"]) and named(["-h"]) == (None, ["-h"])
    with pytest.raises(ConfigError, match="expected one method"):
        named(["--method", "a", "--method", "b"])
