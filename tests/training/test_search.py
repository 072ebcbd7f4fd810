from __future__ import annotations

import json

import pytest
import torch

from erc_graph.errors import CheckpointError, ConfigError, StorageError
from erc_graph.training.search import RECORD, SearchSpace, run_search

SPACE = SearchSpace.from_dict(
    {
        "training.learning_rate": {"low": 1e-5, "high": 1e-1, "log": True},
        "model.width": {"low": 8, "high": 64},
        "model.streams": {"choices": [["text"], ["text", "audio"], []]},
    }
)


def objective(parameters):
    return -abs(parameters["training.learning_rate"] - 0.01) + 0.1 * len(parameters["model.streams"]) - 0.001 * parameters["model.width"]


def trials(search):
    return [(trial.number, trial.parameters, trial.value, trial.error) for trial in search.trials]


def test_search_finds_and_records(tmp_path):
    search = run_search(objective, SPACE, 25, 1, tmp_path, quiet=True)
    assert search.best.value == max(trial.value for trial in search.trials)
    assert search.best.parameters["model.streams"] == ["text", "audio"]
    assert all(isinstance(trial.parameters["model.width"], int) and 8 <= trial.parameters["model.width"] <= 64 for trial in search.trials)
    record = json.loads((tmp_path / RECORD).read_text())
    assert [trial["value"] for trial in record["trials"]] == [trial.value for trial in search.trials]
    assert record["seed"] == 1
    down = run_search(lambda p: -objective(p), SPACE, 5, 1, tmp_path / "down", direction="minimize", quiet=True)
    assert down.best.value == min(trial.value for trial in down.trials)


def test_an_interrupted_search_goes_on_as_if_it_had_not_been(tmp_path):
    whole = run_search(objective, SPACE, 16, 1, tmp_path / "whole", quiet=True)
    asked = []

    def stops(parameters):
        asked.append(parameters)
        if len(asked) == 13:
            raise KeyboardInterrupt
        return objective(parameters)

    with pytest.raises(KeyboardInterrupt):
        run_search(stops, SPACE, 16, 1, tmp_path / "part", quiet=True)
    assert len(json.loads((tmp_path / "part" / RECORD).read_text())["trials"]) == 12
    rest = []
    search = run_search(lambda p: rest.append(p) or objective(p), SPACE, 16, 1, tmp_path / "part", quiet=True)
    assert len(rest) == 4
    assert trials(search) == trials(whole)
    assert trials(run_search(lambda p: pytest.fail("asked again"), SPACE, 16, 1, tmp_path / "part", quiet=True)) == trials(whole)


def test_failed_trials_are_kept_and_lose(tmp_path):
    def fails(parameters):
        if parameters["model.width"] > 40:
            raise ConfigError("too wide")
        return float("nan") if parameters["model.width"] < 16 else objective(parameters)

    search = run_search(fails, SPACE, 12, 0, tmp_path, quiet=True)
    errors = {trial.error for trial in search.trials}
    assert errors == {None, "too wide", "the metric is nan"}
    assert search.best.error is None
    assert len(run_search(fails, SPACE, 13, 0, tmp_path, quiet=True).trials) == 13

    def never(parameters):
        raise ConfigError("no")

    with pytest.raises(ConfigError, match="expected a trial without an error, found none among 2 trials; the first error: no"):
        _ = run_search(never, SPACE, 2, 0, tmp_path / "never", quiet=True).best


def test_a_full_disk_is_no_failed_trial(tmp_path):
    def full(parameters):
        raise StorageError("no space")

    with pytest.raises(StorageError, match="no space"):
        run_search(full, SPACE, 2, 0, tmp_path, quiet=True)


def test_records_that_do_not_fit(tmp_path):
    run_search(objective, SPACE, 1, 1, tmp_path, quiet=True)
    with pytest.raises(
        CheckpointError, match="expected the record of the same search, found other settings: seed 1 → 2; choose another folder, or"
    ):
        run_search(objective, SPACE, 2, 2, tmp_path, quiet=True)
    other = SearchSpace.from_dict({"model.width": {"low": 8, "high": 64}})
    with pytest.raises(CheckpointError, match=r"found other settings: space\.training\.learning_rate\.low 1e-05 → None, "):
        run_search(objective, other, 2, 1, tmp_path, quiet=True)
    for text in ("{", "[]", '{"trials": [{"number": 1}]}', "{}"):
        (tmp_path / RECORD).write_text(text)
        with pytest.raises(CheckpointError, match=r"trials\.json: expected the record of a search"):
            run_search(objective, SPACE, 2, 1, tmp_path, quiet=True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, "a table of low, high and log"),
        ({"low": 1}, "numbers `low` and `high`"),
        ({"low": 2, "high": 1}, "`low` below `high`"),
        ({"low": 0, "high": 1, "log": True}, "`low` above 0"),
        ({"low": "a", "high": 1}, "numbers `low` and `high`"),
        ({"low": 1, "high": 2, "step": 1}, "a table of low, high and log"),
        ({"choices": [1], "low": 0}, "choices or an interval"),
        ({"choices": "abc"}, "a table of low, high and log"),
        ({"choices": []}, "numbers `low` and `high`"),
    ],
)
def test_impossible_spaces(value, expected):
    with pytest.raises(ConfigError, match=r"search\.a\.b: expected .*" + expected):
        SearchSpace.from_dict({"a.b": value})


def test_all_problems_of_a_space_at_once():
    with pytest.raises(ConfigError, match=r"(?s)search\.a: .*search\.b: "):
        SearchSpace.from_dict({"a": 1, "b": 2})
    with pytest.raises(ConfigError, match="expected at least one configuration key"):
        SearchSpace.from_dict({})


def test_a_record_of_another_context_is_not_continued(tmp_path):
    context = {"data": "ab12", "training": {"epochs": 3, "bound": float("inf"), "names": ("a", "b")}, "folder": tmp_path}
    run_search(objective, SPACE, 1, 1, tmp_path, context=context, quiet=True)
    assert json.loads((tmp_path / RECORD).read_text())["context"]["training"] == {"epochs": 3, "bound": None, "names": ["a", "b"]}
    assert len(run_search(objective, SPACE, 2, 1, tmp_path, context=context, quiet=True).trials) == 2
    other = {**context, "data": "cd34", "training": {**context["training"], "epochs": 4}}
    before = (tmp_path / RECORD).read_bytes()
    with pytest.raises(CheckpointError, match=r"context\.data 'ab12' → 'cd34', context\.training\.epochs 3 → 4; choose another folder"):
        run_search(objective, SPACE, 3, 1, tmp_path, context=other, quiet=True)
    with pytest.raises(CheckpointError, match=r"context\.data 'ab12' → None"):
        run_search(objective, SPACE, 3, 1, tmp_path, quiet=True)
    assert (tmp_path / RECORD).read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        {"value": "0.5"},
        {"value": float("nan")},
        {"value": [1]},
        {"parameters": {}},
        {"parameters": []},
        {"parameters": {"training.learning_rate": 7.0, "model.width": 8, "model.streams": []}},
        {"parameters": {"training.learning_rate": "fast", "model.width": 8, "model.streams": []}},
        {"parameters": {"training.learning_rate": 0.01, "model.width": 8, "model.streams": ["video"]}},
        {"parameters": {"training.learning_rate": 0.01, "model.width": 8}},
        {"parameters": {"training.learning_rate": 0.01, "model.width": 8, "model.streams": [], "model.depth": 3}},
    ],
)
def test_a_record_with_a_damaged_trial(tmp_path, change):
    run_search(objective, SPACE, 1, 1, tmp_path, quiet=True)
    record = json.loads((tmp_path / RECORD).read_text())
    record["trials"][0].update(change)
    (tmp_path / RECORD).write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match=r"trials\.json: expected the record of a search, found a damaged file .* delete the record"):
        run_search(objective, SPACE, 2, 1, tmp_path, quiet=True)


def test_a_trial_without_enough_memory_has_failed(tmp_path):
    def greedy(parameters):
        if parameters["model.width"] > 40:
            torch.empty(2**60, dtype=torch.uint8)
        if parameters["model.width"] < 16:
            raise MemoryError
        return objective(parameters)

    search = run_search(greedy, SPACE, 12, 0, tmp_path, quiet=True)
    errors = {trial.error for trial in search.trials}
    assert None in errors and "out of memory: MemoryError" in errors
    assert any("allocate memory" in str(error) for error in errors)

    def broken(parameters):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        run_search(broken, SPACE, 2, 0, tmp_path / "broken", quiet=True)
