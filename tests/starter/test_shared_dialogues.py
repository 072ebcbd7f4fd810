from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from erc_graph.data.files.load import load_corpus
from erc_graph.errors import CorpusError
from starter import shared_dialogues as shared

COLUMNS = ("Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID", "Season", "Episode", "StartTime")


@pytest.fixture
def meld(tmp_path: Path) -> Path:
    """One dialogue in every split; the texts of two scenes, with other marks, and a short one stand in it."""
    texts = {
        "train": ["I say in scene 2 of train that this is Mad"],
        "dev": ["I SAY, in scene 1 of train: that this is Sad!"],
        "test": ["I say in scene 2 of dev that this is Mad", "I say in scene 2 of test that this is Mad", "this is joy"],
    }
    for split, said in texts.items():
        with (tmp_path / f"{split}_sent_emo.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow([*COLUMNS, "EndTime"])
            for number, text in enumerate(said):
                table.writerow([number, text, "Ann", "joy", "positive", 0, number, 1, 1, "00:00:01,000", "00:00:02,000"])
    return tmp_path


def test_scenes_with_a_text_of_the_splits_that_are_measured_are_found(meld: Path, emorynlp: Path) -> None:
    found = shared.shared_dialogues(load_corpus(emorynlp), load_corpus(meld))
    assert found == ["s01_e04_c01", "s02_e04_c02"]  # not for MELD's training split, and none of EmoryNLP's test split


def test_the_command_writes_the_list_and_sees_another(meld: Path, emorynlp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "LIST", tmp_path / "list.json")
    options = ["--emorynlp", str(emorynlp), "--meld", str(meld)]
    assert shared.main(options) == 0 and shared.main([*options, "--check"]) == 0
    assert json.loads((tmp_path / "list.json").read_text()) == ["s01_e04_c01", "s02_e04_c02"]
    (tmp_path / "list.json").write_text('["s01_e04_c01"]')
    assert shared.main([*options, "--check"]) == 1


def test_a_dialogue_that_is_no_scene_is_refused() -> None:
    with pytest.raises(CorpusError, match=r"expected season, episode and scene as the name of a dialogue .* found 'talk'"):
        shared.scene("talk")


def test_the_committed_list_names_scenes_and_nothing_else() -> None:
    names = shared.listed()
    assert len(names) > 100 and all(shared.scene(name) == name for name in names)


@pytest.mark.corpus
def test_the_committed_list_is_that_of_the_corpora(data_folder: Path) -> None:
    assert shared.main(["--emorynlp", str(data_folder / "emorynlp"), "--meld", str(data_folder / "meld"), "--check"]) == 0
