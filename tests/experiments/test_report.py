"""The report of real runs: whole, without its corpus, without its model, of several folds, and refused."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.errors import CheckpointError
from erc_graph.experiments.command import main
from erc_graph.experiments.report import make_report

QUICK = ["--training.epochs", "1", "--no-baseline"]
SMALL = [
    *("--pipeline.pmf.width", "8", "--pipeline.mff.width", "8", "--pipeline.mal.width", "8", "--pipeline.mal.hidden", "8"),
    *QUICK,
]


@pytest.fixture(scope="module")
def trained(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    assert main("pairwise", ["--data", str(small), "--out", str(out), "--seeds", "2", *SMALL]) == 0
    return out


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def data_of(page: Path) -> dict[str, Any]:
    text = page.read_text(encoding="utf-8")
    start = text.index('<script type="application/json" id="data">') + len('<script type="application/json" id="data">')
    return json.loads(text[start : text.index("</script>", start)])


def test_figures_are_those_of_the_run(run: Path, small: Path) -> None:
    made = make_report(run)
    assert made.path == run / "report.html" and made.notes == () and not made.licensed
    result = json.loads((run / "result.json").read_text())
    assert made.headline["metrics"]["weighted_f1"] == result["metrics"]["test"]["weighted_f1"]
    data = data_of(made.path)
    assert data["streams"] == ["audio+text", "audio+visual", "text+visual"] and data["labels"] == result["labels"]
    turns = {(c["i"], t): c["p"][t] for c in data["conversations"] for t in range(len(c["p"]))}
    with (run / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(turns) == made.headline["turns"]
    for row in rows:
        assert result["labels"][turns[row["dialogue"], int(row["utterance"].rpartition("_")[2])]] == row["prediction"]


def test_edges_are_those_of_the_models_graph(run: Path, small: Path) -> None:
    from erc_graph.data.files.load import load_corpus
    from erc_graph.inference.pipeline import Pipeline

    data = data_of(make_report(run).path)
    corpus, pipeline = load_corpus(small), Pipeline.from_pretrained(run)
    c = data["conversations"][0]
    graph = pipeline.graph(corpus[c["i"]])
    lanes, turn = data["streams"], len(c["y"]) // 2
    found = {(lanes[c["e"][turn][k] % 3], lanes[c["e"][turn][k] // 3]): [] for k in range(0, len(c["e"][turn]), 3)}
    for k in range(0, len(c["e"][turn]), 3):
        code, source, weight = c["e"][turn][k : k + 3]
        found[lanes[code % 3], lanes[code // 3]].append((source, weight))
    for (source, target), edges in found.items():
        kind = next(kind for kind in graph.edge_types if (kind[0], kind[2]) == (source, target))
        index, weights = graph[kind].edge_index.tolist(), graph[kind].edge_weight.tolist()
        all_ = [(i, round(1000 * w)) for i, j, w in zip(*index, weights, strict=True) if j == turn and (source != target or i != j)]
        assert sorted(w for _, w in edges) == sorted(w for _, w in all_)[-4:] and set(edges) <= set(all_)
    assert len(found) == 9


def test_no_text_and_the_whole_corpus(run: Path) -> None:
    some = data_of(make_report(run).path)
    assert any("t" in c for c in some["conversations"]) and {c["d"] for c in some["conversations"]} == {"test"}
    made = make_report(run, text=False, scope="all")
    data = data_of(made.path)
    assert not any("t" in c for c in data["conversations"]) and made.headline["text"] is False
    assert len(data["conversations"]) == 24 and {c["d"] for c in data["conversations"]} == {"train", "dev", "test"}
    assert all("e" in c and -1 not in c["p"] for c in data["conversations"])


def test_a_run_whose_corpus_is_gone(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "data": str(run / "nowhere")}))
    made = make_report(run)
    assert len(made.notes) == 1 and "the corpus of this run cannot be read" in made.notes[0] and "nowhere" in made.notes[0]
    data = data_of(made.path)
    assert data["streams"] == [] and data["conversations"] and not any("e" in c or "t" in c for c in data["conversations"])
    text = made.path.read_text()
    assert "data:image/png" in text and "cannot be read" in text  # the run's own t-SNE stands in


def test_a_corpus_that_has_changed_is_not_shown(run: Path, tmp_path: Path) -> None:
    sample_corpus(dialogues=24, seed=4).save(tmp_path / "other")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "data": str(tmp_path / "other")}))
    assert "the corpus has changed since the run" in make_report(run).notes[0]


def test_a_run_without_model_or_settings(run: Path) -> None:
    (run / "seed-0" / "best.safetensors").write_bytes(b"broken")
    (run / "seed-0" / "last.safetensors").unlink()
    (run / "curves.png").unlink()
    made = make_report(run)
    assert ["No graphs" in made.notes[0], "training curves could not be drawn" in made.notes[1]] == [True, True]
    data = data_of(made.path)
    assert any("t" in c for c in data["conversations"]) and not any("e" in c for c in data["conversations"])
    (run / "config.json").write_text('{"command": "run", "method": "magic", "data_sha256": ""}')
    assert "unknown method 'magic'" in make_report(run).notes[0]
    (run / "config.json").write_text('{"command": "run", "method": ["bigru"], "data_sha256": ""}')
    assert "found an invalid file (a value of the wrong type); train again" in make_report(run).notes[0]
    (run / "config.json").unlink()
    assert "config.json: expected the settings file of a run, found no such file" in make_report(run).notes[0]


def test_predictions_that_were_cut_are_refused(run: Path) -> None:
    lines = (run / "predictions.csv").read_text().splitlines()
    (run / "predictions.csv").write_text("\n".join(lines[:4]))
    with pytest.raises(
        CheckpointError,
        match=f"expected predictions for {len(lines) - 1} utterances, found predictions for 3; "
        "continue the run with --resume to write the file again",
    ):
        make_report(run)


def test_predictions_that_are_no_file_are_refused(run: Path) -> None:
    (run / "predictions.csv").unlink()
    (run / "predictions.csv").symlink_to("/dev/zero")
    with pytest.raises(CheckpointError, match=r"expected a regular file, found a device"):
        make_report(run)


def test_what_is_no_finished_run_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="found no such file; give the folder of --out"):
        make_report(tmp_path / "nothing")
    result = json.loads((run / "result.json").read_text())
    for content in (
        "{",
        "[]",
        '{"method": "x"}',
        json.dumps({**result, "metrics": {"test": {"accuracy": 1}}}),
        json.dumps({**result, "metrics": {"test": {"accuracy": result["metrics"]["test"]["accuracy"]}}}),
        json.dumps({**result, "seeds": [float("inf")]}),
        *(json.dumps({**result, "members": value}) for value in (None, [], {}, "x")),
        *(json.dumps({**result, name: [1]}) for name in ("config", "baselines")),
        *(json.dumps({**result, **changes}) for changes in ({"environment": {"packages": [1]}}, {"data": {"extractors": [1]}})),
    ):
        (run / "result.json").write_text(content)
        found = "no |a JSON value|a value of the wrong|the number|members: |config: |baselines: |environment.packages: |data.extractors: "
        words = rf"expected the result of a run, found an invalid file \(({found}).*continue the run with --resume to write the file again"
        with pytest.raises(CheckpointError, match=words):
            make_report(run)
    (run / "result.json").unlink()
    with pytest.raises(CheckpointError, match="finish it with --resume"):
        make_report(run)
    (run / "leaderboard.html").touch()
    with pytest.raises(CheckpointError, match=r"the page of a leaderboard is .*leaderboard\.html"):
        make_report(run)
    (run / "table-2.json").touch()
    with pytest.raises(CheckpointError, match="an ablation table has no report"):
        make_report(run)
    assert not (run / "report.html").exists()


def test_a_method_without_graph_and_a_licensed_corpus(tmp_path: Path) -> None:
    corpus = sample_corpus(dialogues=12, seed=1)
    replace(corpus, name="mine", provenance={}).save(tmp_path / "mine")
    assert main("bigru", ["--data", str(tmp_path / "mine"), "--out", str(tmp_path / "run"), *QUICK]) == 0
    made = make_report(tmp_path / "run")
    assert made.licensed and "bigru has no graph" in made.notes[0] and made.headline["graph"] == []
    assert not make_report(tmp_path / "run", text=False).licensed


@pytest.mark.slow
def test_scores_and_folds(tmp_path: Path) -> None:
    """A score task, and a protocol of several folds: every conversation is shown by the model that did not see it."""
    corpus = sample_corpus(dialogues=15, seed=1)
    names = [f"Ses{1 + i // 3:02d}F_{i}" for i in range(15)]
    dialogue = corpus.dialogue_of.tolist()
    score = np.random.default_rng(0).uniform(-3, 3, corpus.utterances).round(1)
    from erc_graph.data.tasks import get_task

    own = replace(
        corpus, name="own", task=get_task("sentiment"), dialogue_ids=tuple(names),
        utterance_ids=tuple(f"{names[d]}_{i}" for i, d in enumerate(dialogue)), target=torch.tensor(score, dtype=torch.float32),
        annotations={"score": tuple(score.tolist())}, splits={}, provenance={},
    )  # fmt: skip
    own.save(tmp_path / "own")
    options = ["--data", str(tmp_path / "own"), "--out", str(tmp_path / "run"), "--protocol", "session5", "--training.criterion", "mae"]
    assert main("pairwise", [*options, *SMALL]) == 0
    made = make_report(tmp_path / "run")
    data = data_of(made.path)
    assert made.notes == () and len(data["conversations"]) == 15 and {c["d"] for c in data["conversations"]} == {"test"}
    assert all(len(c["v"]) == 2 * len(c["y"]) and "e" in c for c in data["conversations"])
    assert next(iter(made.headline["metrics"])) == "f1" and "mae" in made.headline["metrics"]
