"""The leaderboard: the same rules for all, choices that never see the test part, and stops that change nothing."""

from __future__ import annotations

import ast
import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from erc_graph.cli.main import main
from erc_graph.data.corpus import Corpus
from erc_graph.data.files.load import load_corpus
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.data.splits import held_out
from erc_graph.data.tasks import get_task
from erc_graph.errors import CheckpointError, ConfigError
from erc_graph.experiments.experiment import from_dict
from erc_graph.experiments.leaderboard import inflation
from erc_graph.experiments.leaderboard.behaviour import behaviour, same
from erc_graph.experiments.leaderboard.board import field_of, shifts
from erc_graph.experiments.leaderboard.board_ranks import ranks_of
from erc_graph.experiments.leaderboard.board_rules import CorpusRules, Rules, read_rules, rules_from
from erc_graph.experiments.leaderboard.board_tables import COLUMNS, heading, notes
from erc_graph.experiments.leaderboard.candidates import candidates, committed
from erc_graph.experiments.leaderboard.rows import rows_of
from erc_graph.experiments.leaderboard.standings import check_fields, chosen_methods
from erc_graph.experiments.leaderboard.trials import Trial, answers, written
from erc_graph.methods import METHODS
from erc_graph.methods.schema import Schema
from erc_graph.report.text_tables import numeric_columns
from tests.data.files.formats import test_tuples
from tests.experiments.test_kills import fork, moments

RULES = """
seeds = 2
budget = 1
[ranges]
"training.epochs" = { choices = [1, 2] }
width = { choices = [8, 16] }
[corpora.sample]
choice = "thirds"
groups = { some = ["A*", "B*", "C*", "D*"], others = ["[E-Z]*"] }
"""
METHODS_HERE = "bigru,dialoguegcn"


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rules") / "rules.toml"
    path.write_text(RULES)
    return path


@pytest.fixture(scope="module")
def done(small: Path, rules: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A leaderboard of two methods."""
    folder = tmp_path_factory.mktemp("boards") / "board"
    assert main(["leaderboard", "--data", str(small), "--methods", METHODS_HERE, "--rules", str(rules), "--out", str(folder)]) == 0
    return folder


def board(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "sample" / "leaderboard.json").read_text())
    for row in found["rows"]:
        row.pop("cost", None)  # time and memory are never the same
    return found


# -- rules and settings ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"seed": 3}, "rules: seed: unknown key; known: seeds, budget, members, tuned, ranges, variants, corpora"),
        ({"corpora": {"meld": {"choise": "dev"}}}, "rules: corpora.meld.choise: unknown key; known: modalities, sets"),
        ({"variants": [{"name": "a", "method": "bigru", "epochs": 3}]}, "unknown key; known: name, method, changes"),
        ({"seeds": 0}, "rules: seeds: expected a number from 1 to 10000, found 0"),
        ({"budget": 2}, "budget: expected the table [ranges] in the rules, from which random settings are drawn, found none"),
        ({"budget": -1}, "budget: expected a number from 0 to 10000, found -1"),
        ({"seeds": 10**9}, "seeds: expected a number from 1 to 10000, found 1000000000"),
        ({"budget": 10_001}, "budget: expected a number from 0 to 10000, found 10001"),
        ({"members": 101}, "members: expected a number from 1 to 100, found 101"),
        ({"ranges": {"width": {"low": 3}}}, "search.width: expected numbers `low` and `high`"),
        ({"corpora": {"meld": {"choice": "test"}}}, "rules: corpora.meld.choice"),
        ({"variants": [{"name": "a/b", "method": "bigru"}]}, "variants: expected a name that can be the name of a folder and that no"),
        ({"variants": [{"name": "bigru", "method": "bigru"}]}, "variants: expected a name that can be the name of a folder and that no"),
        ({"corpora": {"meld": {"inputs": {"none": 1}}}}, "rules: corpora.meld.inputs.none: unknown key"),
    ],
)
def test_rules_say_what_is_wrong_with_them(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("[", r"\[")):
        rules_from(values, "rules")


def test_the_rules_of_the_package_are_read_and_written_back() -> None:
    found = read_rules()
    assert found.of("iemocap6").choice == "sessions" and found.of("mosi").selection == "last" and found.of("mine").choice == "dev"
    assert rules_from(found.as_dict(), "again") == found
    with pytest.raises(ConfigError, match=r"none\.toml"):
        read_rules("none.toml")


def test_all_methods_try_the_same_points_and_two_ranges_of_their_own(small: Path) -> None:
    corpus = load_corpus(small)
    held = replace(read_rules(), budget=5)
    tried = {name: candidates(committed(name, corpus, held), held) for name in ("bigru", "sdt", "pairwise")}
    assert all(len(settings) == 6 and settings[0] == {} for settings in tried.values())
    rates = [[changes["training.learning_rate"] for changes in settings[1:]] for settings in tried.values()]
    assert rates[0] == rates[1] == rates[2] and len(set(rates[0])) == 5
    spans = read_rules().ranges["training.learning_rate"]
    assert all(spans["low"] <= rate <= spans["high"] for rate in rates[0])
    assert all(changes["pipeline.width"] in (64, 128, 256) for changes in tried["sdt"][1:])
    own = from_dict("bigru", {"search": {f"pipeline.{key}": {"low": 1, "high": 3} for key in ("layers", "width", "width2")}}, "x")
    found = candidates(own, replace(held, ranges={"dropout": {"low": 0.1, "high": 0.2}}))
    assert set(found[1]) == {"pipeline.dropout", "pipeline.layers", "pipeline.width"}


def test_what_the_rules_decide_is_not_the_methods(small: Path) -> None:
    held = rules_from({"members": 2, "corpora": {"sample": {"modalities": ["text"], "selection": "last"}}}, "rules")
    experiment = committed("pairwise", load_corpus(small), held)
    assert experiment.run.members == 2 and experiment.run.modalities == ["text"] and experiment.training.selection == "last"


@pytest.mark.parametrize("by", ["sessions", "thirds"])
def test_parts_that_are_held_out_have_no_test_dialogue_and_each_other_one_once(by: str) -> None:
    corpus = sample_corpus(dialogues=24, seed=3)
    names = tuple(f"Ses0{i % 4 + 1}F_{i}" for i in range(24))
    new = dict(zip(corpus.dialogue_ids, names, strict=True))
    corpus = replace(corpus, dialogue_ids=names, splits={part: tuple(new[name] for name in ids) for part, ids in corpus.splits.items()})
    parts = held_out(corpus, by)
    known = {*corpus.splits["train"], *corpus.splits["dev"]}
    assert sorted(name for part in parts for name in part.test) == sorted(known)
    for part in parts:
        assert not {*part.train, *part.dev} & {*part.test} and {*part.train, *part.dev, *part.test} == known and part.dev
        if by == "sessions":
            assert len({name[:5] for name in part.test}) == 1
    assert len(parts) == (4 if by == "sessions" else 3)


# -- what a row says -------------------------------------------------------------------------------------------------------------------


def test_shifts_by_loop() -> None:
    corpus = sample_corpus(dialogues=6, seed=1)
    corpus = replace(corpus, target=torch.where(torch.arange(corpus.utterances) % 7 == 3, -1, corpus.target))
    shift, stay = shifts(corpus)
    for dialogue in range(6):
        rows = range(int(corpus.ptr[dialogue]), int(corpus.ptr[dialogue + 1]))
        for row in rows:
            earlier = [r for r in rows if r < row and corpus.speakers[r] == corpus.speakers[row] and corpus.target[r] >= 0]
            known = bool(earlier) and corpus.target[row] >= 0
            assert bool(shift[row]) == (known and corpus.target[row] != corpus.target[earlier[-1]])
            assert bool(stay[row]) == (known and corpus.target[row] == corpus.target[earlier[-1]])


@pytest.mark.slow
def test_a_row_says_all_that_it_promises(done: Path, small: Path) -> None:
    found = board(done)
    corpus = load_corpus(small)
    assert [row["method"] for row in found["rows"]] == sorted(
        METHODS_HERE.split(","), key=lambda name: -next(r["dev"]["weighted_f1"]["mean"] for r in found["rows"] if r["method"] == name)
    )
    for row in found["rows"]:
        assert row["seeds"] == [0, 1] and not row["errors"] and len(row["tried"]) == 2
        assert {"accuracy", "weighted_f1", "macro_f1", "calibration_error"} <= row["test"].keys()
        assert row["turns"].keys() == {"shift", "stay"} and row["groups"].keys() == {"some", "others", "gap"}
        best = max(range(2), key=lambda i: (row["tried"][i]["figure"], -i))
        assert row["setting"] == best and row["changes"] == row["tried"][best]["changes"]
        assert all(a >= b for a, b in zip(row["chosen_on_test"]["values"], row["test"]["weighted_f1"]["values"], strict=True))
        assert len(row["behaviour"]) == 4 and row["reads"]["widths"].keys() == set(corpus.modalities)
    other = next(row for row in found["rows"] if row["method"] != "bigru")
    against = other["against"]["bigru"]
    bigru = next(row for row in found["rows"] if row["method"] == "bigru")
    mean = np.mean(np.subtract(*(row["test"]["weighted_f1"]["values"] for row in (other, bigru))))
    assert against["difference"] == pytest.approx(mean) and {"seeds", "dialogues"} <= against.keys()
    assert against["dialogues"]["p_holm"] >= against["dialogues"]["p"] and against["dialogues"]["pairs"] == len(corpus.splits["test"])


def test_no_p_value_is_printed_as_zero() -> None:
    for value, cell in ((0.0004, "<0.001"), (0.001, "0.001"), (0.25, "0.250")):
        row = {"against": {"bigru": {"dialogues": {"p_holm": value}}}}
        assert COLUMNS["p (dialogues)"](row) == cell
    assert numeric_columns([["p"], ["<0.001"], ["0.250"]]) == [True]


def test_the_tables_say_it_in_columns_of_their_own(done: Path) -> None:
    rows = list(csv.DictReader((done / "leaderboard.csv").read_text().splitlines()))
    assert [row["method"] for row in rows] == [row["method"] for row in board(done)["rows"]]
    assert {"wF1", "if the epoch were chosen on test", "against BiGRU"} <= rows[0].keys()
    for ending in ("md", "tex"):
        text = (done / f"leaderboard.{ending}").read_text()
        assert "dialoguegcn" in text and "best of the committed settings and 1 more" in text
        assert ("peak MiB" in text) is (ending == "md")  # a page is not as wide as all columns


def test_ranks_by_hand() -> None:
    def made(name: str, values: list[float]) -> dict[str, Any]:
        return {"method": name, "family": "graph", "seeds": list(range(len(values))), "test": {"weighted_f1": {"values": values}}}

    rules: dict[str, Any] = {}
    boards: list[dict[str, Any]] = [
        {"rules": rules, "rows": [made("b", [0.5, 0.62, 0.5]), made("a", [0.6, 0.61, 0.59]), made("none", [])]},
        {"rules": rules, "rows": [made("b", [0.3, 0.3]), made("a", [0.35, 0.3]), made("only here", [0.2, 0.2])]},
    ]
    found = ranks_of(boards)
    assert found is not None and found.names == ["a", "b"] and found.blocks == 5 and not found.apart
    assert found.mean == pytest.approx([(1 + 2 + 1 + 1 + 1.5) / 5, (2 + 1 + 2 + 2 + 1.5) / 5])
    values = [0.5 + 0.01 * i for i in range(12)]
    apart = ranks_of([{"rules": rules, "rows": [made("b", values), made("a", [v + 0.1 for v in values])]}])
    few = ranks_of([{"rules": rules, "rows": [made("b", values[:5]), made("a", [v + 0.1 for v in values[:5]])]}])
    assert few is not None and not few.apart  # five seeds cannot show it
    assert apart is not None and apart.apart == {(0, 1)} and apart.names == ["a", "b"]
    assert ranks_of(boards[:0]) is None and ranks_of([{"rules": rules, "rows": [made("b", values)]}]) is None


# -- the test part ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_no_choice_looks_at_the_test_part(done: Path, small: Path, rules: Path, tmp_path: Path) -> None:
    """With other labels and features in the test part all is the same that is no figure of it."""
    corpus = load_corpus(small)
    rows = corpus.rows(corpus.position[name] for name in corpus.splits["test"])
    target, text = corpus.target.clone(), corpus.features["text"].clone()
    target[rows], text[rows] = (target[rows] + 1) % len(corpus.task.labels), -3 * text[rows]
    replace(corpus, target=target, features={**corpus.features, "text": text}).save(tmp_path / "other")
    folder = tmp_path / "board"
    options = ["--methods", METHODS_HERE, "--rules", str(rules), "--out", str(folder)]
    assert main(["leaderboard", "--data", str(tmp_path / "other"), *options]) == 0
    one, other = ({row["method"]: row for row in board(where)["rows"]} for where in (done, folder))
    for name in one:
        assert one[name]["test"] != other[name]["test"]
        for key in ("setting", "changes", "tried", "dev", "behaviour"):
            assert one[name][key] == other[name][key]


def test_traces_of_the_test_part_are_read_by_one_column_alone(done: Path, small: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(done, tmp_path / "board")
    traces = folder / "sample" / "test-traces.jsonl"
    names = [json.loads(line)["training"] for line in traces.read_text().splitlines()]
    assert len(names) == 4
    traces.write_text("".join(json.dumps({"training": name, "stages": {"0": {"1": 0.99}}}) + "\n" for name in names) + "[]\n{half")
    assert main(["leaderboard", "--resume", str(folder)]) == 0
    one, other = board(done), board(folder)
    for row in other["rows"]:
        assert row.pop("chosen_on_test")["values"] == [0.99, 0.99]
    for row in one["rows"]:
        del row["chosen_on_test"]
    assert one["rows"] == other["rows"]
    package = Path(inflation.__file__).parents[2]
    readers = [
        path.name
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == inflation.__name__
    ]
    assert sorted(readers) == ["board.py", "rows.py"]  # one writes them


# -- the field's features --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "lengths", "widths"),
    [
        ("12-tuple", {f"Ses0{i % 5 + 1}F_impro0{i}": 4 for i in range(10)}, {"audio": 1582, "visual": 342}),
        ("13-tuple", {**dict.fromkeys(range(6), 4), **dict.fromkeys((1039, 1040, 1153, 1154), 4)}, {"audio": 300, "visual": 342}),
    ],
)
def test_rules_for_the_features_of_the_field(
    layout: str,
    lengths: dict[Any, int],
    widths: dict[str, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Made-up arrays of these shapes, in the layouts that are public, from the file to the tables."""
    for name, width in {**widths, **dict.fromkeys(("roberta1", "roberta2", "roberta3", "roberta4"), 1024)}.items():
        monkeypatch.setitem(test_tuples.WIDTHS, name, width)
    name = next(one.name for one in test_tuples.LAYOUTS if layout in one.name)
    parts = test_tuples.fields(lengths, meld=layout == "13-tuple")
    ids = list(lengths)
    parts |= {"train": ids[:8], "test": ids[8:]}
    path = test_tuples.dump(tmp_path, test_tuples.tuple_of(name, parts), "features.pkl")
    options = ["--rules", "standard", "--seeds", "1", "--methods", "lmf,dialoguegcn", "--out", str(tmp_path / "board")]
    assert main(["leaderboard", "--data", str(path), *options]) == 0
    found = json.loads(next(tmp_path.rglob("*/leaderboard.json")).read_text())
    assert {row["method"] for row in found["rows"]} == {"bigru", "lmf", "dialoguegcn"} and not any(row["errors"] for row in found["rows"])
    assert all(row["reads"]["widths"] == {**widths, "text": 1024} for row in found["rows"])
    monkeypatch.setitem(test_tuples.WIDTHS, "audio", 100)
    parts["audio"] = test_tuples.vectors(lengths, "audio")
    path = test_tuples.dump(tmp_path, test_tuples.tuple_of(name, parts), "other.pkl")
    capsys.readouterr()
    said = refused(capsys, "--data", path, *options[:-1], tmp_path / "other")
    assert f"expected audio features of {widths['audio']} numbers per utterance, found 100" in said


def test_rules_that_name_no_set_of_the_corpus(small: Path) -> None:
    held = rules_from({"corpora": {"sample": {"sets": {"text": "roberta1"}}}}, "rules")
    with pytest.raises(ConfigError, match="sample: expected the feature set 'roberta1', which the rules name, found"):
        field_of(load_corpus(small), ["bigru"], held, Path("none"))


@pytest.mark.slow
def test_variants_and_pieces(small: Path, tmp_path: Path) -> None:
    """A method with and without edges, on conversations that are cut."""
    (tmp_path / "rules.toml").write_text(
        'seeds = 1\n[[variants]]\nname = "dialoguegcn, no edges"\nmethod = "dialoguegcn"\nchanges = { "pipeline.graph" = "alone" }\n'
        "[corpora.sample]\npieces = 3\n"
    )
    options = ["--data", str(small), "--methods", "dialoguegcn", "--rules", str(tmp_path / "rules.toml"), "--out", str(tmp_path / "board")]
    assert main(["leaderboard", *options]) == 0
    found = {row["method"]: row for row in board(tmp_path / "board")["rows"]}
    assert found.keys() == {"bigru", "dialoguegcn", "dialoguegcn, no edges"} and not any(row["errors"] for row in found.values())
    assert found["dialoguegcn, no edges"]["settings"]["pipeline"]["graph"] == "alone"
    assert main(["leaderboard", "--resume", str(tmp_path / "board")]) == 0


def test_pieces_by_loop() -> None:
    corpus = sample_corpus(dialogues=7, seed=2)
    cut = CorpusRules(pieces=4).applied(corpus)
    assert torch.equal(cut.target, corpus.target) and cut.utterance_ids == corpus.utterance_ids
    expected = []
    for name, length in zip(corpus.dialogue_ids, corpus.lengths.tolist(), strict=True):
        expected += [(f"{name}.{start // 4}", min(4, length - start)) for start in range(0, length, 4)]
    assert list(zip(cut.dialogue_ids, cut.lengths.tolist(), strict=True)) == expected
    for split, ids in corpus.splits.items():
        assert {name.rpartition(".")[0] for name in cut.splits[split]} == set(ids)
    with pytest.raises(ConfigError, match="pieces: expected 1 utterance or more per piece of a conversation, found 0"):
        CorpusRules(pieces=0).applied(corpus)


# -- stops, failures, workers ----------------------------------------------------------------------------------------------------------


def test_ctrl_c_says_how_to_continue(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("erc_graph.experiments.leaderboard.standings.train", stop)
    folder = tmp_path / "board"
    assert main(["leaderboard", "--data", str(small), "--methods", "bigru", "--out", str(folder)]) == 130
    assert capsys.readouterr().err.endswith(f"stopped; the last complete epoch is kept, --resume {folder} continues from it\n")


@fork
@pytest.mark.slow
def test_a_kill_at_any_rename_changes_nothing(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tmp_path / "bigru.toml"
    settings.write_text('method = "bigru"\n[pipeline]\nwidth = 8\n[training]\nepochs = 1\n')
    monkeypatch.setattr("erc_graph.experiments.leaderboard.candidates.experiment_file", lambda method, dataset: settings)
    options = ["--data", str(small), "--methods", "bigru", "--seeds", "1"]
    assert main(["leaderboard", *options, "--out", str(tmp_path / "whole")]) == 0
    count = 0

    def run() -> int:
        return main(["leaderboard", *options, "--out", str(tmp_path / f"killed {count}")])

    for _ in moments(run):
        folder = tmp_path / f"killed {count}"
        again = ["--resume", str(folder)] if (folder / "config.json").exists() else [*options, "--out", str(folder)]
        assert main(["leaderboard", *again]) == 0
        assert board(folder)["rows"] == board(tmp_path / "whole")["rows"]
        assert not [path for path in folder.rglob(".*") if path.name != ".lock"]
        count += 1


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["local", "ray"])
def test_workers_find_the_same(launcher: str, done: Path, small: Path, rules: Path, tmp_path: Path) -> None:
    if launcher == "ray":
        pytest.importorskip("ray")
    options = ["--methods", METHODS_HERE, "--rules", str(rules), "--workers", "2", "--launcher", launcher]
    assert main(["leaderboard", "--data", str(small), *options, "--out", str(tmp_path / "board")]) == 0
    assert board(tmp_path / "board")["rows"] == board(done)["rows"]


@pytest.mark.slow
def test_a_worker_that_dies_costs_its_training_alone(small: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "import os, multiprocessing\nfrom erc_graph.methods.bigru import BiGRU\n\nclass Own(BiGRU):\n    def encode(self, given):\n"
        f"        if multiprocessing.parent_process() and not os.path.exists({str(tmp_path / 'well')!r}):\n            os._exit(9)\n"
        "        return super().encode(given)\n"
    )
    (tmp_path / "rules.toml").write_text("seeds = 2")
    folder = tmp_path / "board"
    options = ["--data", str(small), "--methods", f"{own}:Own", "--rules", str(tmp_path / "rules.toml"), "--out", str(folder)]
    assert main(["leaderboard", *options, "--workers", "2"]) == 0
    found = {row["method"]: row for row in board(folder)["rows"]}
    assert found["bigru"]["seeds"] == [0, 1] and not found["bigru"]["errors"]
    assert found["Own"]["seeds"] == [] and found["Own"]["errors"] == ["the worker process has died (killed, or out of memory)"]
    (tmp_path / "well").touch()
    assert main(["leaderboard", "--resume", str(folder), "--methods", f"{own}:Own", "--workers", "2"]) == 0
    found = {row["method"]: row for row in board(folder)["rows"]}
    assert found["Own"]["seeds"] == [0, 1] and not found["Own"]["errors"]


def test_a_method_that_fails_is_a_row(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: Any, given: Any) -> Any:
        raise ZeroDivisionError("in the middle\nof it")

    monkeypatch.setattr(METHODS["dialoguegcn"], "encode", fail)
    (tmp_path / "rules.toml").write_text("seeds = 1")
    options = ["--data", str(small), "--methods", "dialoguegcn,bigru,wavfusion", "--rules", str(tmp_path / "rules.toml")]
    assert main(["leaderboard", *options, "--out", str(tmp_path / "board")]) == 0
    found = board(tmp_path / "board")
    assert [row["method"] for row in found["rows"]] == ["bigru", "dialoguegcn"]
    assert found["rows"][1]["errors"] == ["ZeroDivisionError: in the middle of it"]
    assert found["left_out"].keys() == {"wavfusion"} and "sequences" in found["left_out"]["wavfusion"]
    said = capsys.readouterr().out
    assert "ZeroDivisionError" in said and "wavfusion is left out" in said


@pytest.mark.slow
def test_records_that_are_damaged_are_trained_again(done: Path, small: Path, rules: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(done, tmp_path / "board")
    trainings = folder / "sample" / "trainings.jsonl"
    lines = trainings.read_text().splitlines(keepends=True)
    trainings.write_text("".join([*lines[:2], "[1]\n", *lines[3:-1], lines[-1][:40]]))
    assert main(["leaderboard", "--resume", str(folder)]) == 0
    assert board(folder)["rows"] == board(done)["rows"] and len(trainings.read_text().splitlines()) == len(lines) + 1
    field = field_of(load_corpus(small), ["bigru"], read_rules(rules), folder)
    trial: Trial = field.entries[0].final()[0]
    with (folder / "sample" / "answers.jsonl").open("a") as file:
        file.write(json.dumps({"training": trial.key, "answers": "01"}) + "\n")
    with pytest.raises(
        CheckpointError, match=r"bigru final-\d-seed-0: expected \d+ predictions in the record of this training, found invalid predictions"
    ):
        rows_of(field, read_rules(rules))


@pytest.mark.parametrize("value", ["null", "3", "[1]", '{"weighted_f1": "x"}'])
def test_records_with_other_values_are_named(value: str, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(done, tmp_path / "board")
    trainings = folder / "sample" / "trainings.jsonl"
    last = json.loads(trainings.read_text().splitlines()[-1])
    with trainings.open("a") as file:
        file.write(json.dumps({**last, "test": json.loads(value)}) + "\n")
    assert "expected records of trainings, found invalid records of the method" in refused(capsys, "--resume", folder)


def test_without_answers_there_are_figures_and_no_bootstrap(done: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(done, tmp_path / "board")
    (folder / "sample" / "answers.jsonl").unlink()
    assert main(["leaderboard", "--resume", str(folder)]) == 0
    for one, other in zip(board(folder)["rows"], board(done)["rows"], strict=True):
        assert one["test"] == other["test"] and one["turns"] == other["turns"]
        assert all("dialogues" not in rival and rival.get("seeds") for rival in one.get("against", {}).values())


@pytest.mark.parametrize("task", ["sample6", "sentiment"])
def test_answers_are_written_and_read_back(task: str) -> None:
    kind = get_task(task)
    scores = torch.randn(20, len(kind.labels) if kind.kind == "classification" else 1)
    again = answers({"training": "x", "answers": json.loads(json.dumps(written(scores, kind)))}, kind, 20)
    if kind.kind == "classification":
        assert again.argmax(-1).tolist() == scores.argmax(-1).tolist()
        for wrong in ("012 ", "9999", None, 3.5, [1, 2]):
            with pytest.raises(CheckpointError, match="expected 4 predictions"):
                answers({"training": "x", "answers": wrong}, kind, 4)
    else:
        assert torch.allclose(again, scores, atol=1e-4)


def refused(capsys: pytest.CaptureFixture[str], *options: object) -> str:
    assert main(["leaderboard", *map(str, options)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 or said[-1].startswith("error:")
    return said[-1]


def test_bad_input_is_one_line(done: Path, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "board"
    replace(load_corpus(small), name="../../esc").save(tmp_path / "esc")
    assert "nearest: dialoguegcn" in refused(capsys, "--methods", "dialoguegcm", "--out", out)
    assert "expected after `kind:` one of the kinds of methods (fusion, graph" in refused(capsys, "--methods", "kind:graphs", "--out", out)
    assert "expected corpora with different names, found two corpora called 'sample'; set another" in refused(
        capsys, "--data", small, "sample", "--out", out
    )
    assert f"continue it with --resume {done}" in refused(capsys, "--methods", "bigru", "--out", done)
    assert "expected no other options than --seeds" in refused(capsys, "--resume", done, "--budget", "3")
    assert f"give the current paths of the corpora of {done} with --data" in refused(capsys, "--resume", done, "--data", tmp_path / "none")
    assert "expected the corpora of" in refused(capsys, "--resume", done, "--data", small, tmp_path / "esc")
    assert "expected the folder of a leaderboard, found no file config.json in it" in refused(capsys, "--resume", tmp_path)
    (tmp_path / "config.json").write_text('{"command": "run"}')
    assert "found the settings of an experiment" in refused(capsys, "--resume", tmp_path)
    assert "expected a corpus whose name can be the name of a folder" in refused(capsys, "--data", tmp_path / "esc", "--out", out)
    assert not out.exists()


def test_a_corpus_that_no_method_fits_is_refused(small: Path, tmp_path: Path) -> None:
    corpus = load_corpus(small)
    with pytest.raises(
        ConfigError,
        match="sample: expected a method that can be trained on this corpus, found none among 1 methods; reason for wavfusion: ",
    ):
        check_fields([field_of(corpus, ["wavfusion"], read_rules(), tmp_path)])


def test_a_corpus_that_has_changed_is_not_gone_on_with(done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = json.loads((done / "config.json").read_text())
    config["data_sha256"]["sample"] = "other"
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "sample has changed since the leaderboard was started" in refused(capsys, "--resume", tmp_path)


def test_a_dry_run_says_what_it_would_train(small: Path, rules: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "--data",
        str(small),
        "--methods",
        "bigru,sdt,wavfusion",
        "--rules",
        str(rules),
        "--out",
        str(tmp_path / "board"),
        "--dry-run",
    ]
    assert main(["leaderboard", *options]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "sample: 2 methods, 12 trainings to choose settings, 4 trainings to evaluate" and "wavfusion is left out" in said[1]
    assert not (tmp_path / "board").exists()


def test_a_reason_of_several_lines_is_one_line(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path := tmp_path / "rules.toml").write_text(
        '[[variants]]\nname = "none"\nmethod = "edm"\nchanges = { "pipeline.graph" = "none", "pipeline.inertia_graph" = "none" }'
    )
    options = ["--data", str(small), "--methods", "bigru", "--rules", str(path), "--out", str(tmp_path / "board"), "--dry-run"]
    assert main(["leaderboard", *options]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "pipeline." in line]
    assert "none is left out" in line and "pipeline.graph" in line and "; pipeline.inertia_graph" in line


@pytest.mark.slow
def test_more_seeds_are_trained_beside_those_that_are_there(done: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(done, tmp_path / "board")
    before = (folder / "sample" / "trainings.jsonl").read_bytes()
    assert main(["leaderboard", "--resume", str(folder), "--seeds", "3"]) == 0
    found = {row["method"]: row for row in board(folder)["rows"]}
    assert all(row["seeds"] == [0, 1, 2] and not row["changed_since"] for row in found.values())
    assert (folder / "sample" / "trainings.jsonl").read_bytes().startswith(before)
    assert main(["leaderboard", "--resume", str(folder)]) == 0  # the number of seeds is part of it now
    assert [row["seeds"] for row in board(folder)["rows"]] == [[0, 1, 2]] * 2
    for old in board(done)["rows"]:
        assert found[old["method"]]["test"]["weighted_f1"]["values"][:2] == old["test"]["weighted_f1"]["values"]


def test_methods_are_added_to_a_leaderboard(done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(done, tmp_path / "board")
    before = (folder / "sample" / "trainings.jsonl").read_bytes()
    assert "found 'linera' (nearest: linear)" in refused(capsys, "--resume", folder, "--methods", "linera")
    assert main(["leaderboard", "--resume", str(folder), "--methods", "linear,", "mfdr", "bigru"]) == 0
    found, begun = board(folder), json.loads((folder / "config.json").read_text())
    assert {row["method"] for row in found["rows"]} == {"bigru", "dialoguegcn", "linear"} and "mfdr" in found["left_out"]
    assert begun["methods"] == [*json.loads((done / "config.json").read_text())["methods"], "linear", "mfdr"]
    assert (folder / "sample" / "trainings.jsonl").read_bytes().startswith(before)
    rows, old = ({row["method"]: row for row in one["rows"]} for one in (found, board(done)))
    assert rows["dialoguegcn"]["test"] == old["dialoguegcn"]["test"] and len(rows["linear"]["seeds"]) == 2
    after = (folder / "sample" / "trainings.jsonl").read_bytes()
    assert main(["leaderboard", "--resume", str(folder)]) == 0  # the new ones are part of it now
    assert board(folder)["rows"] == found["rows"] and (folder / "sample" / "trainings.jsonl").read_bytes() == after


def test_a_row_of_a_method_that_has_changed_is_marked(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(done, tmp_path / "board")
    encode = METHODS["dialoguegcn"].encode
    monkeypatch.setattr(METHODS["dialoguegcn"], "encode", lambda self, given: encode(self, given) * 1.05)
    assert main(["leaderboard", "--resume", str(folder)]) == 0
    assert {row["method"]: row["changed_since"] for row in board(folder)["rows"]} == {"bigru": False, "dialoguegcn": True}
    text = (folder / "leaderboard.md").read_text()
    assert "dialoguegcn (changed since)" in text and "now computes other results" in text


def test_a_failure_of_the_machine_is_tried_again(done: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(done, tmp_path / "board")
    trainings = folder / "sample" / "trainings.jsonl"
    last = json.loads(trainings.read_text().splitlines()[-1])
    with trainings.open("a") as file:
        file.write(json.dumps({"training": last["training"], "seed": last["seed"], "error": "MemoryError: ", "again": True}) + "\n")
    assert main(["leaderboard", "--resume", str(folder)]) == 0
    assert board(folder)["rows"] == board(done)["rows"]


def quick(corpus: Corpus, folder: Path) -> dict[str, Any]:
    """A leaderboard of LMF and the BiGRU with one seed."""
    corpus.save(folder / "corpus")
    (folder / "rules.toml").write_text("seeds = 1")
    options = ["--data", str(folder / "corpus"), "--rules", str(folder / "rules.toml"), "--out", str(folder / "board")]
    assert main(["leaderboard", "--methods", "lmf", *options]) == 0
    return {row["method"]: row for row in board(folder / "board")["rows"]}


def test_methods_without_settings_for_a_corpus_are_named(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replace(load_corpus(small), name="mine").save(tmp_path / "mine")
    options = ["--methods", "lmf,bigru", "--seeds", "1", "--out", str(tmp_path / "board"), "--dry-run"]
    note = "no committed settings for mine: lmf;"
    assert main(["leaderboard", "--data", str(tmp_path / "mine"), *options]) == 0 and note in capsys.readouterr().out
    assert main(["leaderboard", "--data", str(small), *options]) == 0 and "no committed settings" not in capsys.readouterr().out
    shown: dict[str, Any] = {
        "dataset": "mine", "modalities": ["text"], "left_out": {},
        "rules": {
            "choice": "dev", "selection": "dev", "budget": 0, "members": 1, "tuned": [],
            "inputs": {"speaker_relative": []}, "prior": {"features": []},
        },
        "rows": [{"method": "bigru", "seeds": [0], "committed": True}, {"method": "lmf", "seeds": [0], "committed": False}],
    }  # fmt: skip
    assert any(note in one for one in notes(shown)) and "committed or default settings" in heading(shown)
    shown["rows"].pop()
    assert "the committed settings" in heading(shown) and not any("no committed settings" in one for one in notes(shown))


@pytest.mark.slow
def test_a_test_part_that_overflows_ends_no_leaderboard(small: Path, tmp_path: Path) -> None:
    corpus = load_corpus(small)
    rows, text = corpus.rows(corpus.position[name] for name in corpus.splits["test"]), corpus.features["text"].clone()
    text[rows] = 9e14
    assert quick(replace(corpus, features={**corpus.features, "text": text}), tmp_path).keys() == {"bigru", "lmf"}


@pytest.mark.slow
def test_one_test_dialogue_has_no_bootstrap(small: Path, tmp_path: Path) -> None:
    corpus = load_corpus(small)
    found = quick(replace(corpus, splits={**corpus.splits, "test": corpus.splits["test"][:1]}), tmp_path)
    assert found["lmf"]["against"]["bigru"].keys() == {"method", "difference"}
    assert "1 seed is too few for a claim" in (tmp_path / "board" / "leaderboard.md").read_text()


@pytest.mark.slow
def test_files_of_ones_own_are_named_again(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "own.py"
    own.write_text("from erc_graph.methods.bigru import BiGRU\n\nclass Own(BiGRU):\n    pass\n")
    (tmp_path / "rules.toml").write_text("seeds = 1")
    options = ["--data", str(small), "--methods", f"{own}:Own", "--rules", str(tmp_path / "rules.toml"), "--out", str(tmp_path / "board")]
    assert main(["leaderboard", *options]) == 0
    again = ["--resume", tmp_path / "board"]
    assert f"the method Own is your own method {own}:Own; name it again with --methods {own}:Own" in refused(capsys, *again)
    assert main(["leaderboard", *map(str, again), "--methods", f"{own}:Own"]) == 0
    own.write_text(own.read_text() + "# another\n")
    assert "own.py of a method has changed since the leaderboard was started" in refused(capsys, *again, "--methods", f"{own}:Own")


def test_tables_of_several_corpora_have_one_header(done: Path, tmp_path: Path) -> None:
    from erc_graph.experiments.leaderboard.board_tables import write_tables

    one = json.loads((done / "sample" / "leaderboard.json").read_text())
    other = {**one, "dataset": "other", "rows": [{**row, "groups": {}, "published": None} for row in one["rows"]]}
    write_tables([one, other], tmp_path)
    rows = list(csv.DictReader((tmp_path / "leaderboard.csv").read_text().splitlines()))
    assert [row["corpus"] for row in rows] == ["sample"] * 2 + ["other"] * 2
    assert all(float(row["parameters"]) > 0 for row in rows) and rows[0]["gap"] and not rows[2]["gap"]


def test_methods_by_kind(tmp_path: Path) -> None:
    graphs = chosen_methods(["kind:graph"])
    assert "dialoguegcn" in graphs and "bigru" not in graphs
    assert chosen_methods(["all"]) == list(METHODS) and chosen_methods(["bigru", "all"])[0] == "bigru"
    code = "from erc_graph.methods.bigru import BiGRU\n\nclass Own(BiGRU):\n    pass\n"
    for name in "ab":
        (tmp_path / f"{name}.py").write_text(code + f"# {name}\n")
    with pytest.raises(ConfigError, match="expected methods with different names, found two methods called 'Own'"):
        chosen_methods([f"{tmp_path}/a.py:Own", f"{tmp_path}/b.py:Own"])


# -- behaviour -------------------------------------------------------------------------------------------------------------------------


def schema(corpus: Corpus | None = None) -> Schema:
    return Schema(widths={"audio": 4, "text": 6}, task=get_task("sample6"))


def test_behaviour_is_of_what_a_method_does(monkeypatch: pytest.MonkeyPatch) -> None:
    one = behaviour("dialoguegcn", {}, schema())
    assert len(one) == 4 and all(map(np.isfinite, one)) and same(one, behaviour("dialoguegcn", {}, schema()))
    monkeypatch.setattr(METHODS["dialoguegcn"], "__doc__", "Another docstring.")
    assert same(one, behaviour("dialoguegcn", {}, schema()))
    assert not same(one, behaviour("dialoguegcn", {"width": 64}, schema())) and not same(one, behaviour("bigru", {}, schema()))
    encode = METHODS["dialoguegcn"].encode
    monkeypatch.setattr(METHODS["dialoguegcn"], "encode", lambda self, given: encode(self, given) * 1.05)
    assert not same(one, behaviour("dialoguegcn", {}, schema()))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if "features" in method.reads])
def test_every_method_has_one(name: str) -> None:
    found = behaviour(name, {}, schema())
    assert (len(found) == 4 and all(map(np.isfinite, found))) or "folder" in str(METHODS[name].Config())


def test_rules_are_whole(rules: Path) -> None:
    assert isinstance(read_rules(rules), Rules) and read_rules(rules).of("sample").groups.keys() == {"some", "others"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "no valid JSON"),
        ("[3]", "a JSON value that is not an object"),
        ('{"seeds": ' + "9" * 5000 + "}", "a number with 5000 digits, which are too many"),
        ('{"seeds": Infinity}', "the number Infinity"),
        ("{}", "the settings of a command other than 'leaderboard'"),
        *[(name, f"no '{name}'") for name in ("rules", "methods", "experiments", "own_sha256", "left_out", "data", "data_sha256")],
        ({"rules": 3}, "rules: 3"),
        ({"rules": {"seeds": 10**9}}, "rules: seeds: expected a number from 1 to 10000, found 1000000000"),
        ({"rules": {"seeds": "a", "budget": "b"}}, "rules: seeds: input should be a valid integer"),
        ({"methods": [3]}, "methods.0: 3"),
        ({"left_out": 3}, "left_out: 3"),
        ({"left_out": {}}, "the section 'left_out', in which the corpus 'sample' is missing"),
        ({"data": ["sample"]}, "data: ['sample']"),
        ({"data": {}}, "data: {}"),
        (
            {"experiments": {"sample": {}}},
            "the method 'bigru' on the corpus 'sample' with neither settings nor a reason why it is left out",
        ),
    ],
)
def test_a_damaged_config_is_not_gone_on_with(
    content: str | dict[str, Any], words: str, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((done / "config.json").read_text())
    if isinstance(content, dict):
        content = json.dumps({**config, **content})
    elif content in config:
        content = json.dumps({name: value for name, value in config.items() if name != content})
    (tmp_path / "config.json").write_text(content)
    said = refused(capsys, "--resume", tmp_path)
    assert f"expected the settings of a leaderboard, found {words}" in said and said.endswith("; start a new leaderboard with --out")
    assert len(said) < 500
