"""EmoContext: three turns a row."""

from __future__ import annotations

from pathlib import Path

import pytest

from erc_graph.data.files.load import load_corpus


@pytest.mark.parametrize("separator", ["\t", ",", ";"])
def test_rows(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "dev.txt"
    rows = [["id", "turn1", "turn2", "turn3", "label"], ["7", "Hi", "Ho", "So?", "Happy"], ["8", "a", "b", "c", "others"]]
    path.write_text("\n".join(map(separator.join, rows)))
    corpus = load_corpus(path)
    assert corpus.dialogue_ids == ("7", "8") and corpus.speakers[:3] == ("A", "B", "A") and corpus.texts[:3] == ("Hi", "Ho", "So?")
    assert corpus.annotations["label"] == (None, None, "Happy", None, None, "others") and set(corpus.splits) == {"dev"}


def test_without_labels(tmp_path: Path) -> None:
    path = tmp_path / "test.txt"
    path.write_text("id\tturn1\tturn2\tturn3\n0\tDon't \"you\tb\tc\n")
    assert load_corpus(path).texts[0] == "Don't \"you" and not load_corpus(path).labelled.any()
