"""What stands in result.json: against the figures of the seeds."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.experiments.experiment import from_dict
from erc_graph.experiments.findings import spread, summary
from erc_graph.experiments.jobs import Outcome, Plan
from erc_graph.experiments.result import write_result
from erc_graph.experiments.run import run_experiment

CORPUS = sample_corpus(dialogues=15, seed=2)


@pytest.fixture(scope="module")
def outcomes() -> tuple[Outcome, Outcome]:
    values = {"seeds": 3, "training": {"epochs": 2}, "pipeline": {"width": 8}}
    runs = [from_dict("bigru", {**values, "training": {"epochs": 2, "learning_rate": rate}}, "test") for rate in (1e-2, 1e-4)]
    first, second = (run_experiment(Plan(experiment=run), CORPUS) for run in runs)
    return first, second


def test_figures_are_those_of_the_seeds(outcomes: tuple[Outcome, Outcome]) -> None:
    found = summary(*outcomes)
    values = [seed.test["weighted_f1"] for seed in outcomes[0].seeds]
    entry = found["metrics"]["test"]["weighted_f1"]
    assert entry == {"mean": pytest.approx(statistics.mean(values)), "std": pytest.approx(statistics.stdev(values)), "values": values}
    assert found["baselines"]["bigru"]["weighted_f1"]["values"] == [seed.test["weighted_f1"] for seed in outcomes[1].seeds]
    differences = [a - b for a, b in zip(values, found["baselines"]["bigru"]["weighted_f1"]["values"], strict=True)]
    means = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in product((1, -1), repeat=3)]
    expected = sum(mean >= abs(sum(differences)) - 1e-12 for mean in means) / len(means)
    assert found["baselines"]["p_value_against_bigru"]["weighted_f1"] == pytest.approx(expected)
    assert found["seeds"] == [0, 1, 2] and found["parameters"] == outcomes[0].seeds[0].parameters > 0
    assert found["bayes_limit_of"] == "conversations" and found["accuracy_over_bayes_limit"] == pytest.approx(
        found["metrics"]["test"]["accuracy"]["mean"] / found["bayes_limit"]
    )


def test_a_method_of_single_utterances_is_held_to_their_limit(outcomes: tuple[Outcome, Outcome]) -> None:
    alone = replace(outcomes[0], seeds=[replace(seed, utterance_level=True) for seed in outcomes[0].seeds])
    found, both = summary(alone, None), summary(*outcomes)
    assert found["bayes_limit_of"] == "single utterances" and found["bayes_limit"] < both["bayes_limit"]
    assert set(found["baselines"]) == {"majority"}


def test_one_value_has_no_spread() -> None:
    assert spread([0.5]) == {"mean": 0.5, "std": 0.0, "values": [0.5]}


def test_what_is_handed_over_is_what_is_written(outcomes: tuple[Outcome, Outcome], tmp_path: Path) -> None:
    write_result(tmp_path, {"anything": [1, 2]}, CORPUS, outcomes[0].seeds[0], outcomes[1].seeds[0])
    assert json.loads((tmp_path / "result.json").read_text()) == {"anything": [1, 2]}
    rows = (tmp_path / "predictions.csv").read_text().splitlines()
    assert len(rows) == 1 + len(outcomes[0].seeds[0].rows) == len((tmp_path / "bigru" / "predictions.csv").read_text().splitlines())
