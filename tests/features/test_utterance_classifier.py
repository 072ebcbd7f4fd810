"""The tuning of one encoder keeps the best epoch, and continuing equals never having stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sklearn.metrics import f1_score

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.storage import load_tensors, save_tensors
from erc_graph.errors import CheckpointError
from erc_graph.features.fine_tuning import tune
from erc_graph.features.tuned import TunedEncoder
from erc_graph.features.tuned_files import ABOUT, HEAD, STATE, describe
from erc_graph.features.utterance_classifier import TuningRun
from tests.features.conftest import QUICK, rows_of

pytest.importorskip("transformers")


def test_continuing_equals_never_having_stopped(
    talks: Corpus, fitted: Path, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, calls = TuningRun.judge, []

    def stop(run: object) -> float:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return judge(run)  # type: ignore[arg-type]

    monkeypatch.setattr(TuningRun, "judge", stop)
    with pytest.raises(KeyboardInterrupt):
        tune(talks, str(tiny_encoder), tmp_path / "again", QUICK, quiet=True)
    with pytest.raises(
        CheckpointError, match="the fine-tuning of all is not finished; repeat the same `erc-graph features` command to continue"
    ):
        TunedEncoder(tmp_path / "again")
    assert (tmp_path / "again" / f"all.{STATE}").is_file()
    tune(talks, str(tiny_encoder), tmp_path / "again", QUICK, quiet=True)
    assert len(calls) == 4  # epoch 1; 2, stopped; 2 and 3
    for file in ("model.safetensors", HEAD):
        ours, theirs = (load_tensors(place / "all" / file)[0] for place in (tmp_path / "again", fitted))
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    tune(talks, str(tiny_encoder), tmp_path / "again", QUICK, quiet=True)
    assert len(calls) == 4  # finished: read, not trained


def test_a_damaged_state_is_refused(talks: Corpus, tiny_encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / ABOUT).write_text(json.dumps(describe(talks, str(tiny_encoder), QUICK, 0, "no")))
    save_tensors(tmp_path / "tuned" / f"all.{STATE}", {"model.x": torch.ones(1)}, {"figures": "[]"})
    with pytest.raises(CheckpointError, match=r"not the state of this fine-tuning.*remove the file to begin the fine-tuning again"):
        tune(talks, str(tiny_encoder), tmp_path / "tuned", QUICK, quiet=True)


def test_weights_that_are_not_a_number_are_not_kept(talks: Corpus, tiny_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"all: weights are NaN or infinite after epoch 1; use a lower --tuning\.learning_rate"):
        tune(talks, str(tiny_encoder), tmp_path / "t", replace(QUICK, learning_rate=1e30), quiet=True)
    assert not (tmp_path / "t" / "all").exists()


def test_the_kept_epoch_is_the_best_on_the_development_split(talks: Corpus, fitted: Path) -> None:
    rows = rows_of(talks, "dev")
    said = TunedEncoder(fitted, output="log-probabilities")([talks.texts[row] for row in rows])
    figures = json.loads(load_tensors(fitted / "all" / HEAD)[1]["development"])
    assert f1_score(talks.target[rows], said.argmax(-1), average="weighted") == pytest.approx(max(figures))
