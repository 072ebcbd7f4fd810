from __future__ import annotations

import json
from pathlib import Path

import pytest

from erc_graph.cli.main import main
from erc_graph.data.digest import corpus_sha256
from erc_graph.data.files.load import load_corpus
from erc_graph.data.sample.raw import sample_raw_corpus
from erc_graph.data.sample.vectors import sample_corpus


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "small"
    sample_corpus(dialogues=24, seed=3).save(folder)
    return folder


def test_inspect(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["corpus", "inspect", str(small)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("sample: 24 dialogues") and "█" in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert main(["corpus", "inspect", str(small), "--json"]) == 0
    page = json.loads(capsys.readouterr().out)
    corpus = load_corpus(small)
    assert page["utterances"] == corpus.utterances and list(page["labels"]) == list(corpus.task.labels)


def test_a_corpus_of_sequences_goes_through_every_action(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = sample_raw_corpus(dialogues=3)
    raw.save(tmp_path / "raw")
    assert main(["corpus", "inspect", str(tmp_path / "raw")]) == 0
    shown = capsys.readouterr().out
    row = next(line for line in shown.splitlines() if line.startswith("audio"))
    assert " s, " in row and "samples" in row and "no features" not in shown and max(map(len, shown.splitlines())) <= 80
    assert main(["corpus", "validate", str(tmp_path / "raw")]) == 0
    assert main(["corpus", "save", str(tmp_path / "raw"), str(tmp_path / "again")]) == 0
    assert corpus_sha256(load_corpus(tmp_path / "again")) == corpus_sha256(raw)
    capsys.readouterr()
    assert main(["corpus", "convert", str(tmp_path / "raw"), str(tmp_path / "turns.csv")]) == 0
    assert "text, audio, visual are left out" in capsys.readouterr().err
    for ending in ("html", "svg", "png", "graphml"):
        assert main(["graph", str(tmp_path / "raw"), "--out", str(tmp_path / f"graph.{ending}")]) == 0
    assert b"svg" in (tmp_path / "graph.svg").read_bytes()


def test_inspect_without_labels_features_and_splits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "talk.csv"
    file.write_text("dialogue,turn,speaker,text\n\x1b[31md,0,A,Hello\n\x1b[31md,1,B,Hi\n")
    assert main(["corpus", "inspect", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "no splits" in shown and "no features" in shown and "no labels" in shown and "\x1b" not in shown


def test_validate(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["corpus", "validate", str(small)]) == 0
    assert "no problem" in capsys.readouterr().out
    (tmp_path / "corpus.toml").write_text('annotations = "nowhere.csv"\ntaks = 3\n')
    assert main(["corpus", "validate", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert "unknown key" in shown.out and "no such file" in shown.out and shown.err.startswith("error: ")
    assert main(["corpus", "validate", str(tmp_path), "--json"]) == 2
    page = json.loads(capsys.readouterr().out)
    assert page["valid"] is False and page["problems"]


def test_save_and_convert_to_a_folder_keep_everything(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for action in ("save", "convert"):
        assert main(["corpus", action, str(small), str(tmp_path / action)]) == 0
        assert corpus_sha256(load_corpus(tmp_path / action)) == corpus_sha256(load_corpus(small))
    assert "written: " in capsys.readouterr().out
    assert main(["corpus", "save", str(small), str(tmp_path)]) == 2
    assert "contains other files" in capsys.readouterr().err


def test_convert_to_a_table(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for ending in ("csv", "jsonl"):
        out = tmp_path / f"turns.{ending}"
        assert main(["corpus", "convert", str(small), str(out), "--json"]) == 0
        shown = capsys.readouterr()
        assert json.loads(shown.out)["written"] == str(out)
        assert "text, audio, visual are left out" in shown.err
        assert load_corpus(out, task="sample6").target.equal(load_corpus(small).target)
    assert main(["corpus", "convert", str(small), str(tmp_path / "turns.xlsx")]) == 2
    assert "a file name ending in .csv or .jsonl, found the ending '.xlsx'" in capsys.readouterr().err
