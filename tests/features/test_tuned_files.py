"""Tuned encoders are used again for the same data and settings alone."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from erc_graph.data.corpus import Corpus
from erc_graph.errors import CheckpointError
from erc_graph.features.fine_tuning import tune
from erc_graph.features.tuned_files import ABOUT, HEAD, STATE
from tests.features.conftest import QUICK

pytest.importorskip("transformers")


def changed(talks: Corpus, what: str) -> Corpus:
    """Another label, text or split in the training or the development part."""
    train, dev, test = (talks.splits[name] for name in ("train", "dev", "test"))
    target, texts = talks.target.clone(), list(talks.texts)
    row = int(talks.rows([talks.position[dev[0] if "development" in what else train[0]]])[0])
    if "label" in what:
        target[row] = 1 - target[row]
    if "text" in what:
        texts[row] += " !"
    splits = {**talks.splits, "train": (test[0], *train[1:]), "test": (train[0], *test[1:])} if what == "split" else talks.splits
    return replace(talks, target=target, texts=tuple(texts), splits=splits)


@pytest.mark.parametrize("what", ["training label", "training text", "development label", "development text", "split"])
@pytest.mark.parametrize("folds", [0, 3])
def test_encoders_of_other_data_are_not_used(what: str, folds: int, talks: Corpus, fitted: Path, crossed: Path, tiny_encoder: Path) -> None:
    """Else what was a training dialogue then, and is a test dialogue now, would be known to them."""
    folder = crossed if folds else fitted
    with pytest.raises(
        CheckpointError, match=r"were fine-tuned (on other dialogues, texts or labels|with other folds); choose another folder"
    ):
        tune(changed(talks, what), str(tiny_encoder), folder, QUICK, cross_fit=folds, quiet=True)


def test_other_test_dialogues_do_not_matter(talks: Corpus, fitted: Path, tiny_encoder: Path) -> None:
    tune(replace(talks, splits={**talks.splits, "test": talks.splits["test"][1:]}), str(tiny_encoder), fitted, QUICK, quiet=True)


def test_more_repeats_go_on_and_fewer_are_refused(talks: Corpus, crossed: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(crossed, tmp_path / "tuned"))
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("fold-*/model.safetensors")}
    encoder = tune(talks, str(tiny_encoder), folder, QUICK, cross_fit=3, repeats=2, quiet=True)
    assert len(encoder.members) == 6
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    with pytest.raises(CheckpointError, match=r"were fine-tuned with other or with more folds \(--cross-fit, --repeats\)"):
        tune(talks, str(tiny_encoder), folder, QUICK, cross_fit=3, quiet=True)


@pytest.mark.parametrize("what", ["state", "classifier", "about"])
def test_what_is_damaged_and_what_to_do(what: str, talks: Corpus, fitted: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(fitted, tmp_path / "tuned"))
    if what == "state":
        shutil.rmtree(folder / "all")
        (folder / f"all.{STATE}").write_bytes(b"half")
        remedy = rf"all\.{STATE} and repeat the command"
    elif what == "classifier":
        (folder / "all" / HEAD).write_bytes(b"half")
        remedy = r"tuned/all and repeat the command"
    else:
        (folder / ABOUT).write_text("[]")
        remedy = r"tuned to fine-tune again"
    with pytest.raises(CheckpointError, match=f"remove .*{remedy}"):
        tune(talks, str(tiny_encoder), folder, QUICK, quiet=True)
