"""The baseline has the inputs, the prior, the seeds and the epoch rule of the method, and settings of its own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.errors import ConfigError
from erc_graph.experiments import experiment as files
from erc_graph.experiments.baseline import baseline_of, majority_metrics
from erc_graph.experiments.experiment import from_dict
from erc_graph.experiments.jobs import Plan
from erc_graph.experiments.run import run_experiment

CORPUS = sample_corpus(dialogues=12, seed=1)


@pytest.mark.parametrize(("selection", "epochs"), [("dev", 40), ("last", 10)])
def test_what_it_has_from_the_method_and_what_is_its_own(selection: str, epochs: int) -> None:
    values = {
        "seeds": 3, "members": 2, "modalities": ["text", "audio"],
        "training": {"selection": selection, "criterion": "macro_f1", "epochs": 7},
        "inputs": {"speaker_relative": ["audio"], "swap_noise": {"text": 0.5}, "modality_dropout": 0.1},
        "prior": {"features": ["logp"], "around": True},
    }  # fmt: skip
    experiment = from_dict("pairwise", values, "test")
    own = baseline_of(experiment, CORPUS)
    assert own.method == "bigru" and own.run.seeds == 3 and own.run.members == 2 and own.run.modalities == ["audio", "text"]
    assert own.inputs == experiment.inputs and own.prior == experiment.prior
    training = own.training
    assert (training.selection, training.criterion, training.epochs) == (selection, "macro_f1", epochs)
    assert (training.learning_rate, training.weight_decay, training.batch_size) == (1e-3, 1e-5, 16)
    assert (own.pipeline.width, own.pipeline.layers, own.pipeline.dropout) == (256, 2, 0.4)


def test_without_its_files_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FOLDERS", (tmp_path,))
    with pytest.raises(ConfigError, match=r"experiments/bigru: expected default\.toml and default-last\.toml"):
        baseline_of(from_dict("pairwise", {}, "test"), CORPUS)


def test_the_majority_is_the_most_frequent_label_of_the_training_part() -> None:
    experiment = from_dict("bigru", {"training": {"epochs": 1}}, "test")
    outcome = run_experiment(Plan(experiment=experiment), CORPUS)
    (most, _), *_ = Counter(CORPUS.split("train").target.tolist()).most_common(1)
    test = CORPUS.split("test").target.tolist()
    found = majority_metrics(experiment, CORPUS, outcome.seeds[0])
    assert found["accuracy"] == pytest.approx(sum(label == most for label in test) / len(test))
