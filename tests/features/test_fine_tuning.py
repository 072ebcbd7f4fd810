"""Tuning: folds, repeats, several processes, and what cannot be tuned."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.storage import load_tensors
from erc_graph.data.tasks import TASKS
from erc_graph.errors import CheckpointError, ConfigError, CorpusError, StorageError
from erc_graph.features import fine_tuning
from erc_graph.features.fine_tuning import TuningConfig, tune
from erc_graph.features.processes import Share
from erc_graph.features.tuned import TunedEncoder
from erc_graph.features.tuned_files import ABOUT, HEAD
from erc_graph.features.utterance_classifier import TuningRun
from tests.features.conftest import QUICK, rows_of

pytest.importorskip("transformers")


def test_a_repeat_is_what_the_next_seed_gives_by_itself(talks: Corpus, tiny_encoder: Path, tmp_path: Path) -> None:
    quick = replace(QUICK, epochs=1)
    twice, first, second = (tmp_path / name for name in ("twice", "first", "second"))
    tune(talks, str(tiny_encoder), twice, quick, cross_fit=2, repeats=2, quiet=True)
    tune(talks, str(tiny_encoder), first, quick, cross_fit=2, quiet=True)
    tune(talks, str(tiny_encoder), second, replace(quick, seed=1), cross_fit=2, quiet=True)
    texts, learnt = ["we won !", "really ?", "won hello"], talks.splits["train"]
    both, *alone = (TunedEncoder(folder) for folder in (twice, first, second))
    assert list(both.members) == ["fold-0", "fold-1", "repeat-1-fold-0", "repeat-1-fold-1"]
    assert set(alone[0].members.values()) != set(alone[1].members.values())  # other folds
    for dialogue in (*learnt, talks.splits["test"][0]):
        expected = sum(encoder(texts, dialogues=[dialogue] * 3) for encoder in alone) / 2
        torch.testing.assert_close(both(texts, dialogues=[dialogue] * 3), expected)
    with pytest.raises(ConfigError, match="repeats: expected 1 repetition or more, found 0"):
        tune(talks, str(tiny_encoder), tmp_path / "none", quick, repeats=0)
    with pytest.raises(CheckpointError, match=r"with other or with more folds"):
        tune(talks, str(tiny_encoder), twice, quick, cross_fit=2, quiet=True)


def test_a_fold_is_not_trained_on_and_targets_outside_training_do_not_matter(talks: Corpus, crossed: Path, tiny_encoder: Path) -> None:
    """Other labels in the first fold and in the test split: the first encoder is the same to the bit, the others are not."""
    about = json.loads((crossed / ABOUT).read_text())
    changed = talks.target.clone()
    for name in (*about["members"]["fold-0"], *talks.splits["test"]):
        rows = talks.rows([talks.position[name]])
        changed[rows] = torch.where(talks.target[rows] < 0, -1, 1 - talks.target[rows])
    folder = crossed.with_name("changed")
    tune(replace(talks, target=changed), str(tiny_encoder), folder, QUICK, cross_fit=3, quiet=True)
    for name, equal in (("fold-0", True), ("fold-1", False)):
        ours, theirs = (load_tensors(place / name / HEAD)[0]["weight"] for place in (folder, crossed))
        assert torch.equal(ours, theirs) == equal


def test_processes_share_the_folds(talks: Corpus, crossed: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    """The second of two takes fold 1; the first, which here comes later, the others, and finds that one done."""
    (tmp_path / "tuned").mkdir()
    shutil.copyfile(crossed / ABOUT, tmp_path / "tuned" / ABOUT)
    trained: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fine_tuning, "wait_for", lambda done: None)
        patch.setattr(fine_tuning, "TunedEncoder", lambda *_, **__: None)
        patch.setattr(TuningRun, "fit", lambda run: trained.append(run.name))
        tune(talks, str(tiny_encoder), tmp_path / "tuned", QUICK, cross_fit=3, share=Share(1, 2), quiet=True)
        assert trained == ["fold-1"]
        tune(talks, str(tiny_encoder), tmp_path / "tuned", QUICK, cross_fit=3, share=Share(0, 2), quiet=True)
        assert trained == ["fold-1", "fold-0", "fold-2"]


def test_a_score_task(talks: Corpus, tiny_encoder: Path, tmp_path: Path) -> None:
    target = torch.where(talks.target < 0, torch.nan, talks.target * 4.0 - 2)
    scored = replace(talks, task=TASKS["sentiment"], target=target)
    encoder = tune(scored, str(tiny_encoder), tmp_path / "s", replace(QUICK, epochs=8), output="log-probabilities", quiet=True)
    rows = rows_of(talks, "test")
    said = encoder([talks.texts[row] for row in rows])
    assert said.shape == (len(rows), 1) and (said[:, 0] - target[rows]).abs().mean() < 1


def test_without_a_development_split_the_last_epoch_is_kept(talks: Corpus, tiny_encoder: Path, tmp_path: Path) -> None:
    plain = replace(talks, splits={"train": talks.splits["train"]})
    encoder = tune(plain, str(tiny_encoder), tmp_path / "t", replace(QUICK, epochs=1), quiet=True)
    assert encoder.about["chosen_on"] == "nothing: the last epoch"


def test_what_cannot_be_tuned(talks: Corpus, fitted: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    model, new = str(tiny_encoder), tmp_path / "new"
    with pytest.raises(CorpusError, match="expected a training split for fine-tuning"):
        tune(replace(talks, splits={}), model, new, QUICK)
    with pytest.raises(CorpusError, match="expected texts for fine-tuning, found none"):
        tune(replace(talks, texts=()), model, new, QUICK)
    with pytest.raises(CorpusError, match="expected labelled utterances in the training split, found none"):
        tune(replace(talks, target=torch.full_like(talks.target, -1)), model, new, QUICK)
    with pytest.raises(ConfigError, match="expected 2 to 14 folds"):
        tune(talks, model, new, QUICK, cross_fit=15)
    few = talks.target.clone()
    few[talks.rows(talks.position[i] for i in talks.splits["train"][1:])] = -1
    with pytest.raises(CorpusError, match="expected labelled training utterances in the other folds, found none; use fewer folds"):
        tune(replace(talks, target=few), model, new, QUICK, cross_fit=2, quiet=True)
    with pytest.raises(CheckpointError, match="were fine-tuned with another value of `settings`; choose another folder"):
        tune(talks, model, fitted, replace(QUICK, seed=1))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(StorageError, match="is not empty; expected a new folder for the fine-tuned encoders"):
        tune(talks, model, tmp_path / "full", QUICK)
    with pytest.raises(ConfigError, match="cross-fit: expected 0, because only one training dialogue exists, found 2"):
        tune(replace(talks, splits={**talks.splits, "train": talks.splits["train"][:1]}), model, new, QUICK, cross_fit=2)
    with pytest.raises(ConfigError, match=r"tuning.seed: expected an integer from 0 to 2\*\*63 - 1"):
        TuningConfig(seed=2**63)
    with pytest.raises(ConfigError, match=r"tuning.learning_rate: expected a number above 0, found inf"):
        TuningConfig(learning_rate=float("inf"))
    with pytest.raises(ConfigError, match=r"tuning.epochs: expected 1 or more, found 0\ntuning.dropout: expected a number in"):
        TuningConfig(epochs=0, dropout=1)
