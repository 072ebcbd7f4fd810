from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from erc_graph.cli.graph import file_names
from erc_graph.cli.main import main
from erc_graph.data.sample import SampleConfig, sample_corpus


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "small"
    corpus = sample_corpus(dialogues=10, seed=3, config=SampleConfig(turns=(4, 4), speakers=(2, 2)))
    ids = ("../up", *corpus.dialogue_ids[1:])
    rename = dict(zip(corpus.dialogue_ids, ids, strict=True))
    splits = {split: tuple(rename[name] for name in names) for split, names in corpus.splits.items()}
    replace(corpus, dialogue_ids=ids, splits=splits).save(folder)
    return folder


@pytest.mark.parametrize("ending", ["png", "svg", "graphml"])
def test_several_dialogues_are_several_files(ending: str, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", str(small), "--dialogue", "../up", "1", "0", "--out", str(tmp_path / "a" / f"g.{ending}"), "--json"]) in (0, 2)
    if ending == "graphml":
        page = json.loads(capsys.readouterr().out)
        assert [Path(name).parent for name in page["written"]] == [tmp_path / "a"] * 2 and page["dialogues"][0] == "../up"
    (tmp_path / "b").mkdir()
    assert main(["graph", str(small), "--first", "2", "--out", str(tmp_path / "b" / f"g.{ending}")]) == 0
    assert len(os.listdir(tmp_path / "b")) == 2 and f"g-.._up.{ending}" in os.listdir(tmp_path / "b")


def test_several_dialogues_are_one_page(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    assert (
        main(["graph", str(small), "--split", "test", "--first", "9", "--recipe", "window", "--modalities", "text", "--out", str(out)]) == 0
    )
    assert capsys.readouterr().out == f"written: {out}\n"
    assert '"relations":["context"]' in out.read_text() or '"relations":["context","cross"]' in out.read_text()


def test_the_default_is_the_first_as_png(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["graph", str(small)]) == 0
    assert os.listdir(tmp_path) == ["graph.png"]


def test_file_names_stay_apart_and_inside() -> None:
    names = file_names(Path("out/a.png"), ["../../etc/passwd", "a b", "a/b", "A.b", "x" * 300])
    assert len({name.name.lower() for name in names}) == 5
    assert all(name.parent == Path("out") and len(name.name) < 100 for name in names)
