"""MELD's CSVs: the words of its two label sets in any case, the dyadic files by MELD's own ids."""

from __future__ import annotations

from pathlib import Path

import pytest

from erc_graph.data.files.formats import merge_annotations, read_annotations

HEAD = "Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID"


@pytest.mark.parametrize(
    ("emotion", "sentiment", "expected"),
    [("JOY", "Positive", ("joy", "positive")), ("sad", "neg", ("sadness", "negative")), ("", "neutral", (None, "neutral"))],
)
def test_words(tmp_path: Path, emotion: str, sentiment: str, expected: tuple[str | None, str]) -> None:
    path = tmp_path / "dev.csv"
    path.write_text(f"{HEAD}\nHi,Ann,{emotion},{sentiment},3,0\n")
    read = read_annotations(path)
    assert (read.columns["label"][0] or None, read.columns["sentiment"][0]) == expected and read.utterance_ids == ["dev_dia3_utt0"]


def test_dyadic_files_of_several_splits_side_by_side(tmp_path: Path) -> None:
    parts = []
    for split in ("train", "test"):
        path = tmp_path / f"{split}_sent_emo_dya.csv"
        path.write_text(f"{HEAD},Old_Dialogue_ID,Old_Utterance_ID\nHi,Ann,joy,positive,0,1,7,9\nHo,Bob,joy,positive,0,0,7,8\n")
        parts.append(read_annotations(path))
    merged = merge_annotations(parts)
    assert merged.utterance_ids == ["train_dia7_utt8", "train_dia7_utt9", "test_dia7_utt8", "test_dia7_utt9"]
    assert merged.dialogue_ids == ["train_dyadic0", "test_dyadic0"] and merged.dataset == "meld-dyadic"
