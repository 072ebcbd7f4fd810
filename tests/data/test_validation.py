from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from erc_graph.data.ragged import Ragged
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.data.validation import _content, validate_corpus

TABLE = "dialogue,turn,speaker,text,label,split\n" + "".join(
    f"d{d},{t},{'AB'[t % 2]},text {d} {t},{'joy' if t % 2 else 'anger'},{'train' if d < 2 else 'test'}\n"
    for d in range(3)
    for t in range(3)
)


def folder(tmp_path: Path, manifest: str) -> Path:
    (tmp_path / "turns.csv").write_text(TABLE)
    (tmp_path / "corpus.toml").write_text(manifest)
    return tmp_path


def test_every_broken_file_is_named_at_once(tmp_path: Path) -> None:
    np.savez(tmp_path / "audio.npz", utterance=["d0_0", "d0_0"], features=np.ones((2, 3)))
    (tmp_path / "text.npz").write_bytes(b"PK\x03\x04 damaged")
    (tmp_path / "splits.json").write_text('{"train": ["d0", "d9"]}')
    path = folder(tmp_path, 'annotations = "turns.csv"\nsplits = "splits.json"\n[features]\ntext = "text.npz"\naudio = "audio.npz"\n')
    found = validate_corpus(path)
    assert found.corpus is None and len(found.problems) == 3
    assert [sum(name in problem for problem in found.problems) for name in ("text.npz", "audio.npz", "splits.json")] == [1, 1, 1]


def test_one_problem_is_said_once(tmp_path: Path) -> None:
    assert len(validate_corpus(tmp_path / "nowhere").problems) == 1
    (tmp_path / "splits.json").write_text('{"train": ["d9"]}')
    found = validate_corpus(folder(tmp_path, 'annotations = "turns.csv"\nsplits = "splits.json"\n'))
    assert len(found.problems) == 1 and "unknown dialogue 'd9'" in found.problems[0]
    assert len(validate_corpus(tmp_path / "corpus.toml", task="meld3").problems) >= 1


def test_nan_is_a_note_and_with_strict_a_problem(tmp_path: Path) -> None:
    rows = np.ones((9, 2))
    rows[0, 0] = np.nan
    np.savez(tmp_path / "audio.npz", utterance=[f"d{d}_{t}" for d in range(3) for t in range(3)], features=rows)
    path = folder(tmp_path, 'annotations = "turns.csv"\n[features]\naudio = "audio.npz"\n')
    found = validate_corpus(path)
    assert not found.problems and any("NaN, inf or numbers beyond" in note for note in found.notes)
    assert any("all rows are equal" in note for note in found.notes)
    assert any("audio.npz" in problem for problem in validate_corpus(path, strict=True).problems)


def test_what_is_looked_at_in_a_corpus_that_can_be_read() -> None:
    corpus = sample_corpus(dialogues=10, seed=1)
    assert _content(corpus) == ([], [])
    rows = corpus.rows(corpus.position[name] for name in corpus.splits["test"])
    unlabelled = corpus.target.clone()
    unlabelled[rows] = -1
    problems, _ = _content(replace(corpus, target=unlabelled))
    assert problems == [
        f"split test: none of its {len(rows)} utterances is labelled, so the split cannot be used for training or evaluation"
    ]
    absent = {**corpus.present, "audio": torch.zeros(corpus.utterances, dtype=torch.bool)}
    assert any(problem.startswith("features.audio: no utterance has features") for problem in _content(replace(corpus, present=absent))[0])
    unseen = corpus.target.clone()
    train = corpus.rows(corpus.position[name] for name in corpus.splits["train"])
    unseen[train] = torch.where(unseen[train] == 2, 0, unseen[train])
    assert any("that no training utterance has: anger" in note for note in _content(replace(corpus, target=unseen))[1])
    assert "no splits" in _content(replace(corpus, splits={}))[1][0]
    assert any(
        "no test split; the corpus has train" in note for note in _content(replace(corpus, splits={"train": corpus.dialogue_ids}))[1]
    )


def test_a_conversation_on_both_sides_of_a_split(tmp_path: Path) -> None:
    twice = TABLE + "".join(
        line.replace("d0,", "copy,").replace("train", "test") + "\n" for line in TABLE.splitlines() if line.startswith("d0,")
    )
    (tmp_path / "turns.csv").write_text(twice)
    found = validate_corpus(tmp_path / "turns.csv")
    assert not found.problems
    assert "1 dialogues of test have the same utterances as dialogues of train; the first: 'copy' equals 'd0'" in found.notes


@pytest.mark.corpus
@pytest.mark.parametrize("name", ["iemocap", "meld", "mosi"])
def test_real_corpora_have_no_problem_and_the_published_size(name: str, data_folder: Path) -> None:
    from erc_graph.data.summary import summarise

    found = validate_corpus(data_folder / name)
    assert found.corpus is not None and not found.problems
    assert summarise(found.corpus)["published"] == []


def test_silent_recordings_are_noted() -> None:
    corpus = sample_corpus(dialogues=3)
    waves = [torch.zeros(4) if row == 5 else torch.zeros(0) if row == 6 else torch.randn(3) for row in range(corpus.utterances)]
    problems, notes = _content(replace(corpus, sequences={"audio": Ragged.of(waves)}))
    assert not problems and f"sequences.audio: 1 of {corpus.utterances - 1} recordings are silent, the first is 'sample-0_5'" in notes


def test_sequences_that_nobody_has_are_a_problem() -> None:
    corpus = sample_corpus(dialogues=3)
    nothing = Ragged(torch.zeros(0, 2), torch.zeros(corpus.utterances + 1, dtype=torch.long))
    assert _content(replace(corpus, sequences={"text": nothing}))[0] == [
        "sequences.text: no utterance has a sequence; leave the modality out, or check the ids in its file"
    ]
