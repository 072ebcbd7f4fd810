from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file

from erc_graph.data.files.load import load_corpus
from erc_graph.experiments.command import main as command
from erc_graph.experiments.compare import compare_runs
from erc_graph.experiments.pairwise import main
from erc_graph.experiments.parser import make_parser
from erc_graph.experiments.report import make_report
from erc_graph.inference.pipeline import Pipeline
from erc_graph.methods.bigru import BiGRU
from erc_graph.methods.ensemble import Ensemble
from erc_graph.methods.pairwise import Pairwise

QUICK = [
    *("--training.epochs", "2", "--pipeline.pmf.width", "8", "--pipeline.mff.width", "8"),
    *("--pipeline.mal.width", "8", "--pipeline.mal.hidden", "8", "--no-baseline"),
]


def run(*options: object) -> int:
    return main([str(option) for option in options])


def test_a_run_leaves_everything_it_promises(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert run("--data", small, "--out", out, "--seeds", 2, *[o for o in QUICK if o != "--no-baseline"]) == 0
    result = json.loads((out / "result.json").read_text())
    assert result["method"] == "pairwise" and result["dataset"] == "sample" and result["seeds"] == [0, 1]
    assert result["protocol"] == "official"
    for metric in ("accuracy", "weighted_f1", "macro_f1", "unweighted_accuracy", "calibration_error"):
        entry = result["metrics"]["test"][metric]
        assert set(entry) == {"mean", "std", "values"} and len(entry["values"]) == 2
        assert entry["mean"] == pytest.approx(sum(entry["values"]) / 2)
    assert set(result["baselines"]) == {"majority", "bigru", "p_value_against_bigru"}
    assert len(result["data_sha256"]) == 64 and result["parameters"] > 0 and result["seconds_per_epoch"] > 0
    assert result["environment"]["packages"]["torch"]
    assert result["config"]["pipeline"]["pmf"]["width"] == 8
    with (out / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:4] == ["dialogue", "utterance", "label", "prediction"]
    right = sum(row["label"] == row["prediction"] for row in rows) / len(rows)
    assert right == pytest.approx(result["metrics"]["test"]["accuracy"]["values"][0])
    assert sum(float(rows[0][name]) for name in rows[0] if name.startswith("p(")) == pytest.approx(1, abs=1e-4)
    found = compare_runs([out, out / "bigru"], resamples=99)
    assert found.runs[1].method == "bigru" and found.tests[0].p_dialogues is not None and not found.warnings
    for name in ("confusion.png", "tsne.png", "graph.png", "curves.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    for seed in (0, 1):
        for name in ("last.safetensors", "best.safetensors"):
            assert load_file(out / f"seed-{seed}" / name)
    with safe_open(out / "seed-0" / "best.safetensors", "pt") as file:
        model = json.loads(file.metadata()["model"])
    assert (
        model["method"] == "Pairwise"
        and model["task"]["labels"] == result["labels"]
        and set(model["widths"]) == {"audio", "text", "visual"}
    )
    assert [model[name] for name in ("config", "inputs", "prior")] == [result["config"][name] for name in ("pipeline", "inputs", "prior")]
    shown = capsys.readouterr().out
    assert "BiGRU" in shown and "majority" in shown and "Bayes limit" in shown
    assert all(len(line) <= 80 for line in shown.splitlines() if line.startswith(("measured", "majority", "BiGRU", "pairwise")))


def test_one_seed_has_no_spread(small: Path, tmp_path: Path) -> None:
    assert run("--data", small, "--out", tmp_path / "run", *QUICK) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["metrics"]["test"]["accuracy"]["std"] == 0.0


@pytest.mark.slow
def test_members_train_and_vote_and_the_baseline_has_as_many(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert run("--data", small, "--members", 3, "--dry-run") == 0
    assert "seeds       1, 3 networks each" in capsys.readouterr().out
    assert run("--data", small, "--out", out, "--members", 2, "--modalities", '["text"]', *[o for o in QUICK if o != "--no-baseline"]) == 0
    assert "1 seed of 2 networks each" in capsys.readouterr().out
    result = json.loads((out / "result.json").read_text())
    assert result["members"] == result["config"]["members"] == 2
    for folder, kind in ((out, Pairwise), (out / "bigru", BiGRU)):
        network = Pipeline.from_pretrained(folder).method
        assert isinstance(network, Ensemble) and len(network.networks) == 2 and isinstance(network.networks[0], kind)
    assert (out / "graph.png").is_file() and (out / "tsne.png").is_file()
    assert not sum(p.numel() for p in Pipeline.from_pretrained(out).method.parameters()) - result["parameters"]
    page = make_report(out)
    assert "2 networks each, whose predictions are averaged" in page.path.read_text(encoding="utf-8")


def test_a_finished_run_is_not_overwritten(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert run("--data", small, "--out", out, *QUICK) == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert run("--data", small, "--out", out, *QUICK) == 2
    assert "already contains a run" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_resume_of_a_killed_run_ends_in_the_same_result(small: Path, tmp_path: Path) -> None:
    options = ["--data", str(small), *QUICK, "--training.epochs", "80"]
    code = f"from erc_graph.experiments.pairwise import main; raise SystemExit(main({[*options, '--out', str(tmp_path / 'killed')]!r}))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    last = tmp_path / "killed" / "seed-0" / "last.safetensors"
    for _ in range(600):
        if last.exists() or process.poll() is not None:
            break
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors.decode()
    assert b"--resume" in errors
    assert not (tmp_path / "killed" / "result.json").exists()
    assert run("--resume", tmp_path / "killed") == 0
    assert run(*options, "--out", tmp_path / "whole") == 0
    ours, theirs = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("killed", "whole"))
    assert ours["metrics"] == theirs["metrics"]
    assert (tmp_path / "killed" / "predictions.csv").read_bytes() == (tmp_path / "whole" / "predictions.csv").read_bytes()
    for key, tensor in load_file(last.parent / "best.safetensors").items():
        assert tensor.equal(load_file(tmp_path / "whole" / "seed-0" / "best.safetensors")[key])


def test_resume_takes_no_other_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--resume", tmp_path, "--seeds", 3) == 2
    assert "expected no other options" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "{", "[]", '{"command": "run"}'])
def test_resume_of_what_is_no_run(content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    assert run("--resume", tmp_path) == 2
    file = "expected the settings file of the run that --resume continues, found no such file"
    assert f"config.json: {file if content is None else 'expected the settings of a run'}" in capsys.readouterr().err


def test_resume_refuses_changed_data(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from erc_graph.data.sample.vectors import sample_corpus

    sample_corpus(dialogues=24, seed=3).save(tmp_path / "corpus")
    assert run("--data", tmp_path / "corpus", "--out", tmp_path / "run", *QUICK) == 0
    (tmp_path / "run" / "result.json").unlink()
    sample_corpus(dialogues=24, seed=4).save(tmp_path / "corpus")
    assert run("--resume", tmp_path / "run") == 2
    said = f"{tmp_path / 'corpus'} has changed since this run began (its SHA-256 differs); restore the corpus, or start a new run"
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_a_table_prints_measured_beside_published(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert run("--data", small, "--out", out, "--table", 2, *[o for o in QUICK if o != "--no-baseline"], "--training.epochs", 1) == 0
    table = json.loads((out / "table-2.json").read_text())
    assert [row["name"] for row in table["rows"]] == ["11", "12", "13", "14", "15", "16"]
    assert all(row["metrics"]["weighted_f1"]["values"] for row in table["rows"])
    assert set(table["baselines"]) == {"majority", "bigru"}
    assert "paper wF1  " in capsys.readouterr().out
    assert (out / "table-2-tsne.png").exists() and "| 16 |" in (out / "table-2.md").read_text()
    assert table["rows"][0]["parameters"] != table["rows"][5]["parameters"]


def test_unknown_table(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for dry in ((), ("--dry-run",)):
        assert run("--data", small, "--out", tmp_path / "run", "--table", 9, *dry) == 2
        assert "table: expected the number of a table of the method pairwise (1, 2, 3, 4, 5), found 9" in capsys.readouterr().err
    assert run("--data", small, "--table", 2, "--search", 2, "--dry-run") == 2
    assert "--table and --search: expected only one of these options" in capsys.readouterr().err
    assert run("--data", small, "--table", 2, "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "table       2: Components (6 rows of experiments/tables/pairwise.toml)" in shown
    assert re.search(r"^  row 11           1 training in runs/pairwise-sample/row-11, seed-0: pipeline.pmf.enabled = False, ", shown, re.M)
    assert "runs        7, in all 7 trainings" in shown and "table-2.json, table-2.md" in shown
    assert run("--data", small, "--table", 1, "--seeds", 3, "--members", 2, "--out", tmp_path / "run", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "settings    experiments/pairwise/sample.toml" in shown and "seeds       3, 2 networks each" in shown
    assert "table       1: the main result, trained with the settings above" in shown and "runs        2, in all 6 trainings" in shown
    assert f"  pairwise         3 trainings in {tmp_path / 'run'}, seed-0 to seed-2\n" in shown
    assert f"  BiGRU            3 trainings in {tmp_path / 'run' / 'bigru'}, seed-0 to seed-2, settings experiments/bigru/default" in shown
    assert f"output      {tmp_path / 'run'}: config.json, result.json" in shown
    assert not (tmp_path / "run").exists()


def test_a_dry_run_of_a_search_says_it_and_refuses_what_a_search_refuses(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "own.toml"
    file.write_text('[search]\n"pipeline.depth" = {choices = [1, 2]}\n')
    assert run("--config", file, "--data", small, "--out", tmp_path / "run", "--search", 2, "--dry-run") == 0
    shown = capsys.readouterr().out
    assert (
        f"settings    {file}" in shown and f"search      2 trainings with settings of [search], in {tmp_path / 'run' / 'search'};" in shown
    )
    file.write_text("[training]\nepochs = 1\n")
    assert run("--config", file, "--data", small, "--search", 2, "--dry-run") == 2
    assert "--search: expected ranges, found none" in capsys.readouterr().err


@pytest.mark.slow
def test_progress_where_there_is_no_terminal(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("--data", small, "--out", tmp_path / "quiet", *QUICK) == 0
    assert " so far" not in capsys.readouterr().err  # a minute has not passed
    monkeypatch.setattr("erc_graph.data.progress.PAUSE", 0.0)
    monkeypatch.setattr("erc_graph.data.progress.Progress.due", 0.0)
    file = tmp_path / "own.toml"
    file.write_text('[search]\n"pipeline.depth" = {choices = [1, 2]}\n')
    assert run("--config", file, "--data", small, "--out", tmp_path / "run", "--search", 2, "--seeds", 2, *QUICK) == 0
    lines = capsys.readouterr().err.splitlines()
    for line in (
        r"search: 2 of 2 \(100%\)",
        r"pairwise: seeds: 1 of 2 \(50%\)",
        r"pairwise seed 1 .*: 2 of 2 \(100%\), .*weighted_f1=0\.\d{3}$",
    ):
        assert any(re.match(line, said) for said in lines), (line, lines)


@pytest.mark.parametrize("option", [("--graph", "window"), ("--graph=window",)])
def test_graph_is_short_for_the_pipelines(option: tuple[str, ...], small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--data", small, *option, *QUICK, "--out", tmp_path / "run", "--training.epochs", 1) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["pipeline"]["graph"] == "window"
    assert run("--data", small, "--graph", "nonsense", "--dry-run") == 2
    assert "unknown name 'nonsense'" in capsys.readouterr().err


def test_dry_run_writes_nothing(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("--data", small, "--dry-run") == 0
    assert "stages      mff+mal" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["--dry-run"], ["--config", "own.toml", "--search", 2]])
def test_a_corpus_of_one_label_is_refused_before_anything_is_tried(
    command: list[object], small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    corpus = load_corpus(small)
    replace(corpus, target=corpus.target.clamp(min=0, max=0)).save(tmp_path / "corpus")
    (tmp_path / "own.toml").write_text('[search]\n"pipeline.depth" = {choices = [1, 2]}\n')
    assert run("--data", "corpus", "--out", "run", *command) == 2
    assert "expected at least two different labels" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_printed_configuration_is_read_back(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--data", small, "--pipeline.depth", 5, "--print_config") == 0
    printed = capsys.readouterr().out
    file = tmp_path / "own.toml"
    file.write_text(printed[printed.index("data =") :])
    assert run("--config", file, "--dry-run") == 0
    assert run("--config", file, "--pipeline.depth", 6, "--print_config") == 0
    assert "depth = 6" in capsys.readouterr().out


def test_a_search_keeps_its_record(small: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('[search]\n"training.learning_rate" = {low = 1e-4, high = 1e-2, log = true}\n"pipeline.depth" = {choices = [1, 2]}\n')
    out = tmp_path / "run"
    assert run("--config", file, "--data", small, "--out", out, "--search", 2, *QUICK, "--training.epochs", 1) == 0
    trials = json.loads((out / "search" / "trials.json").read_text())["trials"]
    assert len(trials) == 2
    best = max(trials, key=lambda trial: trial["value"])["parameters"]
    assert json.loads((out / "result.json").read_text())["config"]["pipeline"]["depth"] == best["pipeline.depth"]


def test_a_search_of_an_earlier_version_is_continued(small: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "own.toml", tmp_path / "run"
    file.write_text('[search]\n"pipeline.depth" = {choices = [1, 2]}\n')
    (out / "tune").mkdir(parents=True)
    assert run("--config", file, "--data", small, "--out", out, "--tune", 1, *QUICK, "--training.epochs", 1) == 0
    assert len(json.loads((out / "tune" / "trials.json").read_text())["trials"]) == 1 and not (out / "search").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[search]\n"training.rate" = {low = 1, high = 2}', "training.rate: expected the key of a setting of the method pairwise, such as"),
        ('[search]\n"training.epochs" = 3', "search.training.epochs: expected a table"),
        ("", "expected ranges, found none"),
    ],
)
def test_a_search_of_impossible_ranges(content: str, message: str, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "own.toml"
    file.write_text(content)
    assert run("--config", file, "--data", small, "--out", tmp_path / "run", "--search", 2) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("seedz = 3", "seedz: unknown key"),
        ("[pipeline.pmf]\nwidht = 3", "pipeline.pmf.widht: unknown key"),
        ("[training]\nepochs = -1", "training.epochs: expected an integer of 1 or more, found -1"),
        ("[pipeline.pmf]\ndropout = 1.5", "pipeline.pmf.dropout: expected a number in"),
        ("[pipeline]\ndepth = 'deep'", "pipeline.depth: input should be a valid integer"),
        ('method = "bigru"', "method: expected 'pairwise', the method of this experiment, found 'bigru'"),
        ("seeds = ", "not valid TOML"),
        ("seeds = 0", "seeds: expected 1 seed or more, found 0"),
    ],
)
def test_a_bad_configuration_is_refused_in_one_line(content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(content)
    assert run("--config", file, "--out", tmp_path / "run") == 2
    errors = capsys.readouterr().err
    assert message in errors and "Traceback" not in errors
    assert not (tmp_path / "run").exists()


def test_all_mistakes_of_a_configuration_are_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bad.toml"
    file.write_text("seedz = 3\n[pipeline.pmf]\nwidht = 3\n[training]\nepochs = 0\n")
    assert run("--config", file) == 2
    errors = capsys.readouterr().err
    assert all(part in errors for part in ("seedz", "widht", "training.epochs"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["--config", "nowhere.toml"], "nowhere.toml"),
        (["--modalities", '["smell"]'], "no features or sequences of smell"),
        (["--protocol", "session5"], "session5 does not fit sample"),
        (["--task", "meld9"], "unknown 'meld9'"),
        (["--pipeline.graph", "star"], "star"),
        (["--training.epochs", "0"], "expected an integer of 1 or more"),
        (["--pipeline.pmf.width", "7"], "an even number"),
        (["--seeds", "0"], "seeds: expected 1 seed or more"),
        (["--members", "0"], "members: expected 1 network or more per ensemble, found 0"),
        (["--no-such-option"], "no-such-option"),
        (["--seeds", "many"], "--seeds: expected a whole number, found 'many'"),
        (["--workers", "x"], "--workers: expected a whole number, found 'x'"),
        (["--track", "nope"], "--track: expected one of tensorboard, wandb, mlflow, found 'nope'"),
        (["--protocol", "x"], "--protocol: expected one of official, session5, speaker10, found 'x'"),
        (["--training.epochs", "1.5"], "--training.epochs: expected a whole number, found '1.5'"),
        (["--training.learning_rate", "nan"], "--training.learning_rate: expected a number, found 'nan'"),
        (["--pipeline", "nope"], "--pipeline: expected a TOML file, or one of its fields (--pipeline.FIELD), found 'nope'"),
        (["--modalities", "text,smell"], "no features or sequences of smell"),
        (["--graph", "none"], "pipeline.graph: expected a recipe (alone, "),
    ],
)
def test_bad_options(options: list[str], message: str, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = [] if "--data" in options else ["--data", str(small)]
    assert run(*data, "--out", tmp_path / "run", *options) == 2
    errors = capsys.readouterr().err
    assert message in errors and "Traceback" not in errors
    assert sum(not line.startswith((" ", "Corpus(")) for line in errors.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("options", [["--graph", "none"], ["--graph"], ["--graph=window"]])
def test_a_method_without_a_graph_says_so(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command("bigru", options) == 2
    said = "error: --graph: expected a method that builds a graph, found the method bigru, which builds none; leave out --graph\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("options", [["--modalities", "text,audio"], ["--modalities=text, audio"], ["--modalities", '["text", "audio"]']])
def test_modalities_are_named_as_they_are_said(options: list[str]) -> None:
    assert make_parser("pairwise").parse_args(options).modalities == ["text", "audio"]
    assert make_parser("pairwise").parse_args(["--modalities", "text"]).modalities == ["text"]


def test_disk_full_while_saving(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import os

    real = os.replace

    def full(source: object, target: object) -> None:
        if str(target).endswith("result.json"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "replace", full)
    out = tmp_path / "run"
    assert run("--data", small, "--out", out, *QUICK) == 2
    assert "result.json" in capsys.readouterr().err
    assert not (out / "result.json").exists() and not list(out.rglob("*.tmp*"))
    monkeypatch.setattr(os, "replace", real)
    assert run("--resume", out) == 0


def test_help_teaches_and_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    shown = capsys.readouterr().out
    assert "examples:" in shown and "--pipeline.depth" in shown and "--training.label_smoothing" in shown
    code = (
        "import sys; from erc_graph.experiments.pairwise import main; main(['--help']); "
        "print([name for name in ('torch_geometric', 'dgl', 'transformers', 'matplotlib') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", ""], "--data: expected a corpus"),
        (["--tas", "meld7"], "--tas"),
        (["--search", "2", "--table", "2"], "--table and --search: expected only one of these options"),
        (["--inputs.swap_noise", '{"smell": 0.5}'], "inputs.swap_noise: expected names of modalities of the corpus"),
        (["--modalities", "[]"], "modalities: expected the names of one or more"),
        (["--modalities", '["text", "text"]'], "modalities: expected each modality once"),
        (["--training.criterion", "mae"], "training.criterion: expected one of"),
        (["--pipeline.mal.hidden", "9999999999999"], "expected a network that fits into memory"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_written(
    options: list[str], message: str, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = [] if "--data" in options else ["--data", str(small)]
    assert run(*data, "--out", tmp_path / "run", *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_folder_with_other_files_is_left_alone(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "predictions.csv").write_text("mine")
    assert run("--data", small, "--out", tmp_path, *QUICK) == 2
    assert "expected an empty or new folder, found 'predictions.csv'" in capsys.readouterr().err
    assert (tmp_path / "predictions.csv").read_text() == "mine"


def test_a_picture_that_fails_costs_no_result(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from erc_graph.errors import StorageError
    from erc_graph.report import confusion

    def full(*arguments: object, **options: object) -> None:
        raise StorageError("no space left")

    monkeypatch.setattr(confusion, "plot_confusion", full)
    assert run("--data", small, "--out", tmp_path / "run", *QUICK) == 0
    assert "not drawn: confusion.png: no space left" in capsys.readouterr().err
    assert (tmp_path / "run" / "result.json").exists() and (tmp_path / "run" / "tsne.png").exists()


def test_strict_and_data_of_a_configuration_file_count(small: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    first.write_text(f'data = "{small}"\nstrict = true\n')
    second.write_text("[training]\nepochs = 1\n")
    options = [option for option in QUICK if option not in ("--training.epochs", "2")]
    assert run("--config", first, "--config", second, "--out", tmp_path / "run", *options) == 0
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["data"] == str(small) and stored["strict"] is True and stored["training"]["epochs"] == 1


def test_the_baseline_has_a_command_of_its_own(small: Path, tmp_path: Path) -> None:
    from erc_graph.cli.main import main as erc_graph

    assert erc_graph(["experiment", "bigru", "--data", str(small), "--out", str(tmp_path / "run"), "--training.epochs", "1"]) == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["method"] == "bigru"
    assert not (tmp_path / "run" / "graph.png").exists()


def test_a_search_in_a_protocol_with_folds_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    from erc_graph.data.sample.vectors import sample_corpus
    from erc_graph.errors import ConfigError
    from erc_graph.experiments.experiment import from_dict
    from erc_graph.experiments.hyperparameters import search

    corpus = sample_corpus(dialogues=24, seed=3)
    names = tuple(f"Ses{i % 3 + 1:02d}F_{i}" for i in range(len(corpus)))
    corpus = replace(corpus, dialogue_ids=names, splits={})
    experiment = from_dict("pairwise", {"protocol": "session5", "search": {"training.epochs": {"low": 1, "high": 2}}}, "test")
    with pytest.raises(ConfigError, match=r"expected a protocol with one fold, found the protocol session5 with 3 folds"):
        search(experiment, corpus, tmp_path, 1)


def test_the_sample_of_another_name_is_no_sample(tmp_path: Path) -> None:
    rows = ["dialogue,turn,speaker,text,label,split"]
    rows += [
        f"d{d},{t},A,hello,{'joy' if t % 2 else 'anger'},{split}"
        for d, split in enumerate(["train", "train", "dev", "test"])
        for t in range(3)
    ]
    (tmp_path / "sample.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "corpus.toml").write_text(
        'dataset = "own"\nannotations = "sample.csv"\nlabels = ["joy", "anger"]\n[features]\ntext = "text.npz"\n'
    )
    import numpy as np

    ids = np.array([f"d{d}_{t}" for d in range(4) for t in range(3)])
    np.savez(tmp_path / "text.npz", utterance=ids, features=np.random.default_rng(0).random((12, 4)))
    assert run("--data", tmp_path, "--out", tmp_path / "run", *QUICK) == 0
    assert "bayes_limit" not in json.loads((tmp_path / "run" / "result.json").read_text())
