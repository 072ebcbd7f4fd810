from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from erc_graph.data.files.export import turns, write_turns
from erc_graph.data.files.load import load_corpus
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.data.tasks import get_task
from erc_graph.errors import ConfigError


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_what_is_read_again_is_the_corpus(ending: str, tmp_path: Path) -> None:
    corpus = sample_corpus(dialogues=10, seed=1)
    odd = ('a "quoted", text', "two\nlines", "名前 …", "=1+1", " spaces ")
    texts = tuple(odd[i % len(odd)] for i in range(corpus.utterances))
    corpus = replace(corpus, texts=texts)
    read = load_corpus(write_turns(corpus, tmp_path / f"turns.{ending}"), task=corpus.task)
    for name in ("dialogue_ids", "utterance_ids", "speakers", "texts", "splits"):
        assert getattr(read, name) == getattr(corpus, name), name
    assert read.target.equal(corpus.target) and read.ptr.equal(corpus.ptr)


def test_scores_names_and_labels_of_the_files() -> None:
    corpus = sample_corpus(dialogues=3)
    rows = corpus.utterances
    both = replace(corpus, annotations={"label": ("joy",) * rows, "sentiment": ("positive",) * rows, "score": (1.5,) * rows}, splits={})
    assert {key: turns(both)[0][key] for key in ("label", "sentiment")} == {"label": "joy", "sentiment": 1.5}
    assert turns(replace(both, task=get_task("meld3")))[0]["sentiment"] == "positive"
    assert "split" not in turns(both)[0]


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a file name ending in .csv or .jsonl, found '.xml'"):
        write_turns(sample_corpus(dialogues=3), tmp_path / "a.xml")
