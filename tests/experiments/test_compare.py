from __future__ import annotations

import csv
import io
import itertools
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from erc_graph.cli.main import main
from erc_graph.data.tasks import Task
from erc_graph.errors import CheckpointError, ConfigError
from erc_graph.experiments.compare import compare_runs, load_run
from erc_graph.experiments.comparison_tables import as_csv, as_latex, as_markdown, as_text, as_values
from erc_graph.experiments.findings import spread
from erc_graph.training.metrics import evaluate

LABELS = ["joy", "sad", "other"]


def make_run(folder: Path, *, skill: float, seeds: int = 5, start: int = 0, method: str = "pairwise", **changes: Any) -> Path:
    """A run of 12 dialogues whose figures and predictions belong together; the labels do not depend on the skill."""
    truth = np.random.default_rng(0).integers(3, size=60)
    task = Task(name="three", labels=tuple(LABELS))
    guesses = []
    for seed in range(seeds):
        random = np.random.default_rng(100 + seed)
        guesses.append(np.where(random.random(60) < skill, truth, random.integers(3, size=60)))
    scores = [torch.nn.functional.one_hot(torch.from_numpy(guess), 3).float() for guess in guesses]
    figures = [evaluate(score, torch.from_numpy(truth), task) for score in scores]
    result = {
        "method": method, "dataset": "own", "task": "three", "labels": LABELS, "modalities": ["text", "audio"], "protocol": "official",
        "selection": "dev", "seeds": list(range(start, start + seeds)), "data_sha256": "a" * 64, "environment": {"git_commit": "c" * 40},
        "metrics": {"test": {name: spread([f[name] for f in figures]) for name in figures[0]}},
        "baselines": {"majority": {}, "bigru": {"accuracy": spread([0.5] * seeds), "weighted_f1": spread([0.4] * seeds), "parameters": 3}},
        **changes,
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(result))
    with (folder / "predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["dialogue", "utterance", "label", "prediction"])
        writer.writerows([f"d{i % 12}", f"u{i}", LABELS[t], LABELS[g]] for i, (t, g) in enumerate(zip(truth, guesses[0], strict=True)))
    return folder


def test_figures_differences_and_both_tests(tmp_path: Path) -> None:
    a, b = make_run(tmp_path / "a", skill=0.3), make_run(tmp_path / "b", skill=0.8)
    found = compare_runs([a, b], metrics=["accuracy", "weighted_f1"], resamples=999)
    one, other = (json.loads((path / "result.json").read_text())["metrics"]["test"]["weighted_f1"] for path in (a, b))
    assert found.figures[1]["weighted_f1"] == other
    assert found.seeds == [0, 1, 2, 3, 4] and not found.warnings
    test = found.tests[1]
    assert test.metric == "weighted_f1" and test.difference == pytest.approx(other["mean"] - one["mean"])
    difference = np.subtract(other["values"], one["values"])
    means = [abs(np.mean(difference * signs)) for signs in itertools.product((1, -1), repeat=5)]
    assert test.p_seeds == pytest.approx(np.mean([mean >= abs(difference.mean()) - 1e-12 for mean in means])) == 0.0625
    assert test.p_seeds_holm == 0.125
    assert test.seed_difference == pytest.approx(other["values"][0] - one["values"][0])
    assert test.low < test.seed_difference < test.high and test.low > 0 and test.dialogues == 12
    assert test.p_dialogues <= test.p_dialogues_holm < 0.05
    (floor,) = [note for note in found.notes if "no p over seeds" in note]
    assert "below 0.0625, and below 0.125 after Holm's correction for 2 comparisons" in floor
    assert "no difference, however large, can be significant at 0.05" in floor and "needs 7 seeds" in floor


def test_only_shared_seeds_are_compared(tmp_path: Path) -> None:
    a, b = make_run(tmp_path / "a", skill=0.3, seeds=2), make_run(tmp_path / "b", skill=0.8, seeds=4)
    found = compare_runs([a, b], metrics=["accuracy"], resamples=99)
    assert found.seeds == [0, 1]
    assert [len(figures["accuracy"]["values"]) for figures in found.figures] == [2, 2]
    assert found.tests[0].seeds == 2 and found.tests[0].p_seeds == 0.5
    assert "only results of the shared seeds are used; seeds left out: 2, 3" in found.warnings


def test_one_seed_has_the_test_over_dialogues_alone(tmp_path: Path) -> None:
    found = compare_runs([make_run(tmp_path / name, skill=s, seeds=1) for name, s in (("a", 0.3), ("b", 0.8))], resamples=199)
    assert all(test.p_seeds is None for test in found.tests)
    assert found.tests[0].p_dialogues is not None
    assert any("one shared seed: no test over seeds" in note for note in found.notes)


def test_no_shared_seed(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", skill=0.3, seeds=2)
    b = make_run(tmp_path / "b", skill=0.8, seeds=2, start=7)
    found = compare_runs([a, b], metrics=["accuracy"], resamples=99)
    assert found.seeds == [] and found.tests[0].p_seeds is None
    assert any("no seed is shared" in text for text in found.warnings)
    assert "B − A: the test over dialogues compares seed 7 with seed 0" in found.warnings


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"dataset": "meld"}, "not comparable: dataset (A: own; B: meld)"),
        ({"protocol": "speaker10"}, "not comparable: protocol (A: official; B: speaker10)"),
        ({"labels": LABELS[::-1]}, "not comparable: labels (A: joy+sad+other; B: other+sad+joy)"),
    ],
)
def test_what_cannot_be_compared_is_said_and_not_tested(changes: dict[str, Any], warning: str, tmp_path: Path) -> None:
    found = compare_runs([make_run(tmp_path / "a", skill=0.3), make_run(tmp_path / "b", skill=0.8, **changes)])
    assert warning in found.warnings
    assert all(test.p_seeds is None and test.p_dialogues is None and test.difference is None for test in found.tests)
    assert any("not tested, because the runs are not comparable" in note for note in found.notes)


def test_other_differences_are_said_and_tested(tmp_path: Path) -> None:
    other = {"selection": "last", "modalities": ["text"], "members": 5, "data_sha256": "b" * 64, "environment": {"git_commit": "d" * 40}}
    found = compare_runs([make_run(tmp_path / "a", skill=0.3), make_run(tmp_path / "b", skill=0.8, **other)], resamples=99)
    assert found.warnings == [
        "differs: selection (A: dev; B: last)",
        "differs: modalities (A: audio+text; B: text)",
        "differs: members (A: 1; B: 5)",
        f"differs: data (SHA-256) (A: {'a' * 12}; B: {'b' * 12})",
    ]
    assert any(note.startswith("differs: commit") for note in found.notes)
    assert found.tests[0].p_dialogues is not None  # the test utterances are the same, only the features are not


def test_other_data_without_predictions_are_not_tested(tmp_path: Path) -> None:
    a, b = make_run(tmp_path / "a", skill=0.3), make_run(tmp_path / "b", skill=0.8, data_sha256="b" * 64)
    (b / "predictions.csv").unlink()
    found = compare_runs([a, b])
    assert found.tests[0].p_seeds is None
    assert any("the test utterances cannot be compared" in note for note in found.notes)


def test_other_test_utterances_are_not_tested(tmp_path: Path) -> None:
    a, b = make_run(tmp_path / "a", skill=0.3), make_run(tmp_path / "b", skill=0.8)
    lines = (b / "predictions.csv").read_text().splitlines()
    (b / "predictions.csv").write_text("\n".join(lines[:-1]))
    found = compare_runs([a, b])
    assert "not comparable: B − A: the test utterances or their labels differ" in found.warnings
    assert found.tests[0].p_seeds is None


def test_stale_predictions_are_seen(tmp_path: Path) -> None:
    a, b = make_run(tmp_path / "a", skill=0.3), make_run(tmp_path / "b", skill=0.8)
    (a / "predictions.csv").write_bytes((b / "predictions.csv").read_bytes())
    found = compare_runs([a, b], resamples=99)
    assert any("A: predictions.csv has accuracy" in text and "one of the files is older" in text for text in found.warnings)


def test_the_bigru_beside_a_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", skill=0.8)
    (run / "bigru").mkdir()
    found = compare_runs([run, run / "bigru"])
    assert found.runs[1].method == "bigru" and found.metrics == ["accuracy", "weighted_f1"]
    assert found.figures[1]["accuracy"]["values"] == [0.5] * 5
    assert found.tests[0].p_seeds is not None and found.tests[0].p_dialogues is None
    assert any("no test over dialogues, because a run has no predictions.csv" in note for note in found.notes)


def test_a_result_file_and_all_pairs(tmp_path: Path) -> None:
    paths = [make_run(tmp_path / name, skill=skill) for name, skill in (("a", 0.3), ("b", 0.6), ("c", 0.9))]
    (tmp_path / "recorded.json").write_text((paths[0] / "result.json").read_text())
    assert load_run(tmp_path / "recorded.json").folder is None
    assert [(t.first, t.second) for t in compare_runs(paths, metrics=["accuracy"], resamples=99).tests] == [(0, 1), (0, 2)]
    found = compare_runs(paths, metrics=["accuracy"], all_pairs=True, resamples=99)
    assert [(t.first, t.second) for t in found.tests] == [(0, 1), (0, 2), (1, 2)]
    p = [t.p_seeds for t in found.tests]
    assert [t.p_seeds_holm for t in found.tests] == [pytest.approx(min(1.0, 3 * value)) for value in p if value == min(p)] + [
        pytest.approx(t.p_seeds_holm) for t in found.tests if t.p_seeds != min(p)
    ]


def test_scores(tmp_path: Path) -> None:
    runs = []
    truth = np.random.default_rng(3).normal(0, 1.5, 40)
    for name, noise in (("a", 2.0), ("b", 0.3)):
        guess = truth + np.random.default_rng(4).normal(0, noise, 40)
        figures = evaluate(torch.from_numpy(guess)[:, None], torch.from_numpy(truth), Task(name="s", kind="score", column="score"))
        metrics = {"test": {metric: spread([value]) for metric, value in figures.items()}}
        run = make_run(tmp_path / name, skill=0.5, seeds=1, labels=[], metrics=metrics)
        lines = [
            "dialogue,utterance,label,prediction",
            *(f"d{i % 8},u{i},{t},{g}" for i, (t, g) in enumerate(zip(truth, guess, strict=True))),
        ]
        (run / "predictions.csv").write_text("\n".join(lines))
        runs.append(run)
    found = compare_runs(runs, resamples=499)
    assert found.metrics == ["acc2", "f1", "acc7", "mae"] and not found.warnings
    for test in found.tests:
        one, other = (figures[test.metric]["mean"] for figures in found.figures)
        assert test.seed_difference == pytest.approx(other - one, abs=1e-6)
    assert found.tests[3].high < 0


def test_every_form(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a_b", skill=0.3)
    b = make_run(tmp_path / "b", skill=0.8, method="<b>|*$x", selection="last", published={"row": [{"accuracy": 99.9}]})
    found = compare_runs([a, b], resamples=99)
    text = as_text(found)
    assert max(map(len, text.splitlines())) <= max(80, len(str(b)) + 40)
    assert "! differs: selection (A: dev; B: last)" in text and "ECE ↓" in text
    mean = found.figures[1]["accuracy"]
    assert f"{mean['mean']:.3f} ± {mean['std']:.3f}" in text
    markdown = as_markdown(found)
    assert "<b>" not in markdown and "- **differs: selection" in markdown and "| B &lt;b>\\|*$x |" in markdown
    latex = as_latex(found)
    assert "\\begin{tabular}{lrrrr}" in latex and r"B \textless{}b\textgreater{}|*\$x" in latex
    assert all(line.startswith("%") or "differs" not in line for line in latex.splitlines())
    rows = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert len(rows) == 8 and rows[0]["against"] == "" and rows[4]["against"] == str(a)
    assert float(rows[4]["mean"]) == pytest.approx(mean["mean"])
    assert float(rows[4]["p_seeds_holm"]) == pytest.approx(found.tests[0].p_seeds_holm)
    values = json.loads(json.dumps(as_values(found), allow_nan=False))
    assert values["tests"][0]["second"] == str(b) and values["shared_seeds"] == [0, 1, 2, 3, 4]
    for form in (text, markdown, latex, json.dumps(values), as_csv(found)):
        assert "99.9" not in form  # published figures are not compared


def test_refusals(tmp_path: Path) -> None:
    a, b = make_run(tmp_path / "a", skill=0.3), make_run(tmp_path / "b", skill=0.8)
    with pytest.raises(ConfigError, match="expected at least two runs to compare, found 1"):
        compare_runs([a])
    with pytest.raises(ConfigError, match=r"expected different runs, found .* twice"):
        compare_runs([a, tmp_path / "b" / ".." / "a"])
    with pytest.raises(ConfigError, match=r"metric: expected a metric that all runs have \(accuracy, .*found 'speed'"):
        compare_runs([a, b], metrics=["speed"])
    with pytest.raises(CheckpointError, match="no such file; expected the folder of a finished run"):
        compare_runs([a, tmp_path / "c"])
    rows = (b / "predictions.csv").read_text().splitlines()
    for content, found in (
        (["dialogue,utterance,label,prediction", "d,u,joy,rage"], "the label 'rage'"),
        ([*rows, *rows], "two rows for the same utterance"),
        ([*rows, *rows[1:]], "two rows for the same utterance"),
    ):
        (b / "predictions.csv").write_text("\n".join(content))
        with pytest.raises(
            CheckpointError, match=rf"expected the predictions of a run, found an invalid file \({found}\); continue the run with --resume"
        ):
            compare_runs([a, b])


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("method", None, "method: None"),
        ("method", [], "method: []"),
        ("members", None, "members: None"),
        ("members", [], "members: []"),
        ("seeds", [float("inf")], "the number Infinity"),
        ("seeds", ["0"], "seeds.0: '0'"),
        ("seeds", [], "seeds: []"),
        ("metrics", {"test": {"accuracy": {"values": [10**400]}}}, "a number with 401 digits, which are too many"),
        ("metrics", {"test": 3}, "a value of the wrong type"),
        ("environment", {"packages": [1]}, "environment.packages: [1]"),
        ("data", {"extractors": [1]}, "data.extractors: [1]"),
        ("config", [1], "config: [1]"),
    ],
)
def test_a_value_of_another_kind(name: str, value: object, found: str, tmp_path: Path) -> None:
    expected = re.escape(
        f"expected the result of a run, found an invalid file ({found}); continue the run with --resume to write the file again"
    )
    file = make_run(tmp_path / "a", skill=0.3) / "result.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), name: value}))
    with pytest.raises(CheckpointError, match=expected):
        load_run(tmp_path / "a")


def test_links_in_a_circle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for command in (["compare", "a", "b"], ["report", "a"]):
        assert main([command[0], *(str(tmp_path / name) for name in command[1:])]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ") and said.count("\n") == 1 and len(said) < 500


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"method": 1}', "[" * 100_000])
def test_a_damaged_result(content: str, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(CheckpointError, match="expected the result of a run, found an invalid file"):
        load_run(tmp_path)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = make_run(tmp_path / "a", skill=0.3), make_run(tmp_path / "b", skill=0.8)
    assert main(["compare", str(a), str(b), "--metric", "accuracy", "f1/joy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"] == ["accuracy", "f1/joy"]
    assert main(["compare", str(a), str(b), "--format", "latex", "--out", str(tmp_path / "t.tex")]) == 0
    assert "\\bottomrule" in (tmp_path / "t.tex").read_text() and "written: " in capsys.readouterr().out
    assert main(["compare", str(a), str(b)]) == 0
    shown = capsys.readouterr().out
    assert "over dialogues" in shown and "\x1b" not in shown
    assert main(["compare", str(a), str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("name", ["predictions.csv", "result.json"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str) -> None:
    a, b = make_run(tmp_path / "a", skill=0.3), make_run(tmp_path / "b", skill=0.8)
    (b / name).unlink()
    os.mkfifo(b / name)
    with pytest.raises(CheckpointError, match=f"{name}: expected a regular file, found a named pipe"):
        compare_runs([a, b], resamples=99)
