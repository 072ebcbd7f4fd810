"""Two tiny corpora in the forms of GoEmotions and EmoryNLP."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

LABELS = ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")
COLUMNS = ("Utterance", "Speaker", "Emotion", "Scene_ID", "Utterance_ID", "Season", "Episode")
EMOTIONS = ("Joyful", "Mad", "Peaceful", "Neutral", "Sad", "Powerful", "Scared")


@pytest.fixture(scope="session")
def goemotions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven comments with one label and one with two in every split."""
    folder = tmp_path_factory.mktemp("data") / "goemotions"
    folder.mkdir()
    (folder / "labels.txt").write_text("\n".join(LABELS))
    for split in ("train", "dev", "test"):
        lines = [f"this is {label} of {split}\t{number}\t{split:x<5}{number}" for number, label in enumerate(LABELS)]
        (folder / f"{split}.tsv").write_text("\n".join([*lines, f"two at once\t0,3\t{split:x<5}both"]) + "\n")
    return folder


@pytest.fixture(scope="session")
def emorynlp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes of seven utterances in every split."""
    folder = tmp_path_factory.mktemp("data") / "emorynlp"
    folder.mkdir()
    for season, split in enumerate(("train", "dev", "test"), start=1):
        with (folder / f"emorynlp_{split}_final.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(COLUMNS)
            for scene in (1, 2):
                for number, emotion in enumerate(EMOTIONS, start=1):
                    text = f"I say in scene {scene} of {split} that this is {emotion}"
                    table.writerow([text, f"['{'Ann' if number % 2 else 'Bob'}']", emotion, scene, number, season, 4])
    return folder
