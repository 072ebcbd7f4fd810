"""Every committed TOML is found, read, built and run one step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from erc_graph.data.batch import Batch
from erc_graph.data.files.toml import read_toml
from erc_graph.data.ragged import Ragged
from erc_graph.data.tasks import DEFAULT_TASK, TASKS
from erc_graph.errors import ConfigError
from erc_graph.experiments.ablation import load_tables, parse_tables, row_experiment
from erc_graph.experiments.experiment import default_data, experiment_file, from_dict
from erc_graph.methods import METHODS
from erc_graph.methods.schema import Schema
from erc_graph.training.losses import Criterion

ROOT = Path(__file__).resolve().parents[2] / "experiments"
FOLDERS = sorted(path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in ("tables", "published", "results"))
FILES = sorted(path for method in FOLDERS for path in (ROOT / method).glob("*.toml"))
WIDTHS = {"audio": 3, "text": 5, "visual": 4}
ITEMS = {"audio": (), "text": (5,), "visual": (3, 16, 16)}  # a waveform, words, faces


def tiny(labels: int) -> Batch:
    random = torch.Generator().manual_seed(0)
    return Batch(
        ptr=torch.tensor([0, 4, 9]),
        speaker=torch.tensor([0, 1, 0, 1, 0, 1, 2, 0, 1]),
        target=torch.arange(9) % labels if labels else torch.arange(9.0) / 3,  # a score, where the task has no labels
        judged=torch.ones(9, dtype=torch.bool),
        row=torch.arange(9),
        features={name: torch.randn(9, width, generator=random) for name, width in WIDTHS.items()},
        present={name: torch.arange(9) % 4 != i for i, name in enumerate(WIDTHS)},
        sequences={name: frames(item, i) for i, (name, item) in enumerate(ITEMS.items())},
    )


def frames(item: tuple[int, ...], missing: int) -> Ragged:
    """Nine utterances of one to three items (3000 to 5000 samples of a waveform); every fourth has none."""
    random = torch.Generator().manual_seed(missing)
    lengths = [0 if i % 4 == missing else i % 3 + 1 if item else 3000 + 1000 * (i % 3) for i in range(9)]
    images = len(item) > 1
    return Ragged.of(
        [
            torch.randint(0, 256, (n, *item), generator=random, dtype=torch.uint8) if images else torch.randn(n, *item, generator=random)
            for n in lengths
        ]
    )


def test_there_are_as_many_as_expected() -> None:
    found = {method: sorted(path.stem for path in FILES if path.parent.name == method) for method in FOLDERS}
    assert (
        found.items()
        >= {
            "bigru": ["default", "default-last"],
            "hff": ["iemocap6", "meld", "mosi", "sample", "sample-raw"],
            "mfdr": ["iemocap4", "iemocap6", "meld", "mosei", "sample-raw"],
            "pairwise": ["iemocap6", "meld", "mosi", "sample"],
            "wavfusion": ["iemocap6", "meld", "sample-raw"],
        }.items()
    )
    assert all(found.values()) and all("sample" in files or "sample-raw" in files or method == "bigru" for method, files in found.items())
    assert {"hff", "mfdr", "pairwise", "wavfusion"} <= {path.stem for path in (ROOT / "tables").glob("*.toml")}
    assert {path.name for path in ROOT.iterdir()} == {
        *FOLDERS,
        "tables",
        "published",
        "results",
        "leaderboard.toml",
        "leaderboard-standard.toml",
        "leaderboard-recommended.toml",
        "leaderboard-context.toml",
        *(f"leaderboard-pieces-{count}.toml" for count in (5, 10, 30)),
    }, "a folder per method, and these"
    assert set(FOLDERS) <= set(METHODS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_an_experiment_is_built_and_trains_a_step(path: Path) -> None:
    method, dataset = path.parent.name, path.stem
    values = read_toml(path)
    assert values["method"] == method and experiment_file(method, dataset) is not None
    assert values.get("dataset") == (None if dataset.startswith("default") else dataset)
    experiment = from_dict(method, values, path.name)
    assert experiment.run.data == default_data(method), "a committed experiment names no data of its own"
    task = TASKS[DEFAULT_TASK.get(dataset, "sample6")]
    whole = tiny(len(task.labels))
    raw = "features" not in METHODS[method].reads or dataset.endswith("-raw")
    schema = Schema(widths={} if raw else WIDTHS, sequences=ITEMS if raw else {}, task=task)
    batch = replace(whole, features={}, present={}) if raw else replace(whole, sequences={})
    pipeline = METHODS[method](schema, experiment.pipeline, inputs=experiment.inputs, prior=experiment.prior).train()
    pipeline.fit_inputs(batch)
    for index, stage in enumerate(pipeline.stages()):
        prediction = stage.forward(pipeline.start_stage(index, batch))
        loss = Criterion(task, experiment.training, batch)(prediction.scores, batch) + prediction.penalty
        pipeline.zero_grad()
        loss.backward()
        assert torch.isfinite(loss) and any(p.grad is not None and p.grad.any() for p in stage.module.parameters())


def test_a_corpus_is_no_path() -> None:
    assert experiment_file("pairwise", "meld") is not None
    assert experiment_file("pairwise", "../hff/meld") is None and experiment_file("pairwise", "nowhere") is None


def test_rows_of_the_tables() -> None:
    tables = load_tables("pairwise")
    assert {number: len(table.rows) for number, table in tables.items()} == {2: 6, 3: 6, 4: 7, 5: 7}
    experiment = from_dict("pairwise", {}, "test")
    for table in tables.values():
        for row in table.rows:
            assert set(row.published) == {"iemocap6", "meld"}
            changed = row_experiment(experiment, row, tuple(WIDTHS))
            assert not isinstance(changed, str) and not changed.run.baseline
    lacking = row_experiment(experiment, tables[3].rows[1], ("text", "audio"))
    assert lacking == "not run: the corpus has no visual"
    full = [row for table in tables.values() for row in table.rows if row.name in ("16", "26", "37", "47")]
    assert len({str(row.published) for row in full}) == 1, "the full method is the same network in every table"


def test_rows_of_wavfusion() -> None:
    tables = load_tables("wavfusion")
    assert {number: len(table.rows) for number, table in tables.items()} == {3: 6, 4: 2, 5: 5, 6: 5}
    assert experiment_file("wavfusion", "sample-raw") is not None
    experiment = from_dict("wavfusion", read_toml(ROOT / "wavfusion" / "sample-raw.toml"), "test")
    for table in tables.values():
        for row in table.rows:
            changed = row_experiment(experiment, row, tuple(ITEMS))
            assert not isinstance(changed, str) and not changed.run.baseline
            chosen = changed.run.modalities or list(ITEMS)
            schema = Schema(widths={}, sequences={name: ITEMS[name] for name in chosen}, task=TASKS["sample6"])
            pipeline = METHODS["wavfusion"](schema, changed.pipeline).train()
            pipeline.fit_inputs(tiny(6))
            assert torch.isfinite(pipeline(tiny(6)).scores).all()
    deep = [row_experiment(experiment, row, tuple(ITEMS)) for row in tables[6].rows]
    assert [row.pipeline.deep for row in deep if not isinstance(row, str)] == [0, 1, 2, 3, 4]
    full = [row for table in tables.values() for row in table.rows if row.published["iemocap6"]["weighted_f1"] == 0.706]
    assert [row.name for row in full] == ["A+V+T", "w/ LVC block", "λ = 1", "attention 9/3"]


def test_rows_of_hierarchical_feature_fusion() -> None:
    tables = load_tables("hff")
    assert {number: len(table.rows) for number, table in tables.items()} == {4: 35, 5: 4}
    experiment = from_dict("hff", {}, "test")
    changed = [row_experiment(experiment, row, tuple(WIDTHS)) for row in tables[4].rows]
    assert len({repr((row.pipeline, row.run.modalities)) for row in changed if not isinstance(row, str)}) == 35
    full = next(row for row in tables[4].rows if row.name == "S+T+V full")
    assert row_experiment(experiment, full, tuple(WIDTHS)) == experiment.changed(
        {"modalities": ["audio", "text", "visual"], "baseline": False}
    )
    published = [row.published["iemocap6"]["weighted_f1"] for row in tables[4].rows]
    assert published[6] == 0.697 and published[20] == 0.675 and sum(published) == pytest.approx(22.528, abs=1e-4)
    heads = [row_experiment(experiment, row, tuple(WIDTHS)) for row in tables[5].rows]
    assert [row.pipeline.heads for row in heads if not isinstance(row, str)] == [4, 6, 8, 10]


def test_rows_of_mfdr() -> None:
    tables = load_tables("mfdr")
    assert {number: len(table.rows) for number, table in tables.items()} == {1: 2, 2: 1, 3: 11}
    experiment = from_dict("mfdr", {}, "test")
    for number, table in tables.items():
        assert all(set(row.published) <= ({"iemocap4"}, {"mosei"}, {"iemocap4", "mosei"})[number - 1] for row in table.rows)
        changed = [row_experiment(experiment, row, ()) for row in table.rows]
        assert len({str((each.pipeline, each.run.protocol)) for each in changed if not isinstance(each, str)}) == len(table.rows)
    assert tables[3].rows[-1].published["iemocap4"] == tables[1].rows[1].published["iemocap4"], "Table 3 is of ten folds"


def test_a_row_keeps_the_second_text_feature() -> None:
    experiment = from_dict("pairwise", {"inputs": {"second_text": "bert"}, "prior": {"features": ["logp"]}}, "test")
    available = ("audio", "bert", "logp", "text", "visual")
    changed = row_experiment(experiment, load_tables("pairwise")[3].rows[5], available)
    assert not isinstance(changed, str) and changed.run.modalities == ["audio", "visual", "text", "logp", "bert"]
    changed = row_experiment(experiment, load_tables("pairwise")[3].rows[0], available)
    assert not isinstance(changed, str) and changed.run.modalities == ["audio", "logp"] and changed.inputs.second_text is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"method": "pairwise", "table": [{"number": 2, "title": "x", "columns": ["a"], "rows": [{"name": "1", "marks": []}]}]},
            r"expected one mark \(✓ or ×\) for each of the 1 columns, found 0 marks",
        ),
        ({"method": "pairwise", "table": [{"number": 2, "title": "x", "columns": [], "row": []}]}, "table.0.row"),
        ({"table": []}, "method"),
    ],
)
def test_a_broken_table_is_refused(values: dict, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ConfigError, match=message):
        parse_tables(values, "tables.toml")


def test_an_unknown_change_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"pipeline\.pmf\.depth: expected the key of a setting of the method pairwise, such as"):
        from_dict("pairwise", {}, "test").changed({"pipeline.pmf.depth": 3})
