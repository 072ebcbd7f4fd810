"""Bulk labelling says what single files say, whoever does it, however often it is killed; what cannot be read is listed."""

from __future__ import annotations

import csv
import filecmp
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from erc_graph.cli.main import main
from erc_graph.data.files import shards
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.errors import ConfigError, CorpusError, ErcGraphError
from erc_graph.experiments.labelling import ABOUT, REFUSED, SHARDS, Labelling, label_all
from erc_graph.inference.pipeline import Pipeline
from erc_graph.methods.bigru import BiGRU, BiGRUConfig
from erc_graph.methods.schema import Schema

Row = dict[str, Any]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("bulk") / "model"
    Pipeline(BiGRU(Schema.of(sample_corpus(dialogues=3), ("text",)), BiGRUConfig(width=8))).save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of forty rows; sums are bit for bit the same for the same number of threads alone."""
    monkeypatch.setattr(shards, "TURNS", 40)
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))


def rows_of(dialogues: int, seed: int = 0) -> list[Row]:
    chance = random.Random(seed)
    return [
        {
            "dialogue": f"d{number}", "speaker": f"s{turn % 2}", "text": f"{number}: {turn}",
            "features": {"text": [round(chance.gauss(0, 1), 3) for _ in range(16)]}, "emotion": "gold", "id": number * 100 + turn,
        }
        for number in range(dialogues) for turn in range(chance.randint(1, 9))
    ]  # fmt: skip


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    """A folder of a table in parts, JSON, and files that cannot be read."""
    folder = tmp_path / "talks"
    (folder / "deep").mkdir(parents=True)
    (folder / "many.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_of(40)))
    for number in range(3):
        rows = [{name: row[name] for name in ("dialogue", "speaker", "text", "features")} for row in rows_of(2, seed=number)]
        (folder / "deep" / f"{number}.json").write_text(json.dumps(rows))
    (folder / "deep" / "binary.txt").write_bytes(b"\0\0")
    (folder / "plain.txt").write_text("Ann: no encoder is named")
    return folder


def label(talks: Path, model: Path, out: Path, **options: Any) -> Any:
    form, unsure = options.pop("form", None), options.pop("unsure", None)
    return label_all([str(talks)], Labelling(model=str(model), out=str(out), form=form, unsure=unsure), **options)


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_same(one: Path, other: Path) -> None:
    """The same files with the same bytes, and nothing else."""
    names = sorted(str(path.relative_to(one)) for path in one.rglob("*") if path.is_file())
    assert names == sorted(str(path.relative_to(other)) for path in other.rglob("*") if path.is_file()) and len(names) > 3
    assert filecmp.cmpfiles(one, other, names, shallow=False)[1:] == ([], [])


def test_answers_are_those_of_single_files(talks: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["predict", "--model", str(model), str(talks), "--out", str(out)]) == 1
    shown = capsys.readouterr()
    turns = len(rows_of(40)) + sum(len(rows_of(2, seed=number)) for number in range(3))
    assert (
        shown.out
        == f"{turns} utterances of 46 conversations labelled in {out}; 2 inputs could not be labelled and are listed in {out / REFUSED}\n"
    )
    parts = sorted((out / "many.jsonl").iterdir())
    assert len(parts) > 3
    for file, found in [("many.jsonl", parts), *((f"deep/{n}.json", [out / "deep" / f"{n}.json.jsonl"]) for n in range(3))]:
        assert main(["predict", "--model", str(model), str(talks / file), "--json"]) == 0
        alone = json.loads(capsys.readouterr().out)["turns"]
        together = [row for part in found for row in read(part)]
        assert [{name: row[name] for name in alone[0]} for row in together] == alone  # every bit of the probabilities
    given = rows_of(40)
    together = [row for part in parts for row in read(part)]
    assert [(row["dialogue"], row["text"], row["id"], row["given_emotion"]) for row in together] == [
        (row["dialogue"], row["text"], row["id"], "gold") for row in given
    ]
    refused = read(out / REFUSED)
    assert [one["source"] for one in refused] == ["deep/binary.txt", "plain.txt"]
    assert "names no text encoder" in refused[1]["reason"] and not any(str(tmp_path) in one["reason"] for one in refused)
    noted = read(out / SHARDS)
    assert [one["source"] for one in noted if one["turns"] == 0] == ["deep/binary.txt", "plain.txt"]
    assert sum(one["turns"] for one in noted) == turns


def test_progress_where_there_is_no_terminal(
    talks: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    label(talks, model, tmp_path / "quiet")
    assert capsys.readouterr().err == ""  # a minute has not passed
    monkeypatch.setattr("erc_graph.data.progress.PAUSE", 0.0)
    monkeypatch.setattr("erc_graph.data.progress.Progress.due", 0.0)
    label(talks, model, tmp_path / "out")
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(r"labelling: \S+ of \S+ \((100|99)%\), \d\d:\d\d so far, \d\d:\d\d left, \d+ turns", last), last


def test_tables_come_back_with_their_columns(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    rows = rows_of(30)
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "many.parquet")
    out = tmp_path / "out"
    assert main(["predict", "--model", str(model), str(tmp_path / "many.parquet"), "--out", str(out)]) == 0
    parts = [parquet.read_table(path).to_pylist() for path in sorted((out / "many.parquet").iterdir())]
    found = [row for part in parts for row in part]
    assert len(parts) > 2 and [(row["text"], row["id"], row["given_emotion"]) for row in found] == [
        (row["text"], row["id"], "gold") for row in rows
    ]
    capsys.readouterr()
    assert main(["predict", "--model", str(model), str(tmp_path / "many.parquet"), "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)["turns"]
    assert [[row[f"p({name})"] for name in alone[0]["probabilities"]] for row in found] == [
        list(row["probabilities"].values()) for row in alone
    ]
    assert main(["predict", "--model", str(model), str(tmp_path / "many.parquet"), "--out", str(tmp_path / "csv"), "--csv"]) == 0
    table = [row for path in sorted((tmp_path / "csv" / "many.parquet").iterdir()) for row in csv.DictReader(io.StringIO(path.read_text()))]
    assert [(row["text"], row["id"]) for row in table] == [(row["text"], str(row["id"])) for row in rows]


def test_columns_of_a_csv_pass_through(tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "talk.csv").write_text("Case,Speaker,Text,emotion,Turn\nx,Ann,hello there,joy,2\ny,Bob,we won,,1\n")
    model = tmp_path / "model"
    schema = Schema(widths={"text": 24}, task=sample_corpus(dialogues=3).task, provenance={"extractors": {"text": str(tiny_encoder)}})
    Pipeline(BiGRU(schema, BiGRUConfig(width=8))).save_pretrained(model)
    assert main(["predict", "--model", str(model), str(tmp_path / "talk.csv"), "--out", str(tmp_path / "out"), "--csv"]) == 0
    table = list(csv.DictReader(io.StringIO((tmp_path / "out" / "talk.csv.csv").read_text())))
    assert [(row["text"], row["Case"], row["given_emotion"]) for row in table] == [("we won", "y", ""), ("hello there", "x", "joy")]
    capsys.readouterr()
    assert main(["predict", "--model", str(model), str(tmp_path / "talk.csv"), "--csv"]) == 0
    assert capsys.readouterr().out == (tmp_path / "out" / "talk.csv.csv").read_text()


@pytest.mark.parametrize("launcher", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_workers_write_the_same_bytes(launcher: Any, talks: Path, model: Path, tmp_path: Path) -> None:
    if launcher == "ray":
        pytest.importorskip("ray")
    label(talks, model, tmp_path / "serial")
    # Workers are fresh processes, whose shards are as long as ever: cut here, labelled there.
    label(talks, model, tmp_path / "apart", workers=2, launcher=launcher)
    assert_same(tmp_path / "serial", tmp_path / "apart")


class Stop(Exception):
    """A kill, as far as files can tell."""


@pytest.mark.parametrize("moment", ["write_labels", "add"])
def test_a_stop_at_any_shard_is_continued_to_the_same_bytes(
    moment: str, talks: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after each shard's result, and after each note of one, on and on until it ends; nothing finished is done again."""
    import erc_graph.experiments.labelling as module

    label(talks, model, tmp_path / "whole")
    real_write, real_add, written = module.write_labels, module.Journal.add, []

    def write(path: Path, *rest: Any) -> None:
        written.append(path.relative_to(tmp_path / "out"))
        real_write(path, *rest)
        if moment == "write_labels" and len(written) % 2:
            raise Stop

    def add(journal: Any, record: Row) -> int:
        place = real_add(journal, record)
        if moment == "add":
            journal.file.write(b'{"shard": "half a li')
            journal.file.flush()
            raise Stop
        return place

    monkeypatch.setattr(module, "write_labels", write)
    monkeypatch.setattr(module.Journal, "add", add)
    stops = 0
    for _ in range(100):
        with suppress(Stop):
            label(talks, model, tmp_path / "out")
            break
        stops += 1
    assert stops > 4
    assert_same(tmp_path / "whole", tmp_path / "out")
    assert len(set(written)) == len(read(tmp_path / "out" / SHARDS)) - 2  # two files are refused
    assert max(written.count(name) for name in written) == (1 if moment == "add" else 2)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "many.jsonl").iterdir()}
    label(talks, model, tmp_path / "out")
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "many.jsonl").iterdir()}


@pytest.mark.parametrize(
    "spoilt",
    [b"[1]\n", b'{"shard": "many.jsonl"}\n', b"[" * 100_000 + b"\n", b'{"shard": "../../keep.txt", ALL}\n', b'{"shard": "PLACE", ALL}\n'],
)
def test_notes_that_are_none_are_left_out_and_nothing_else_is_touched(talks: Path, model: Path, tmp_path: Path, spoilt: bytes) -> None:
    keep = tmp_path / "keep.txt"
    keep.write_text("mine")
    label(talks, model, tmp_path / "deep" / "out")
    notes = tmp_path / "deep" / "out" / SHARDS
    whole = notes.read_bytes()
    other = json.dumps({name: value for name, value in json.loads(whole.splitlines()[0]).items() if name != "shard"})[1:-1]
    notes.write_bytes(spoilt.replace(b"ALL", other.encode()).replace(b"PLACE", str(keep).encode()) + whole)
    label(talks, model, tmp_path / "deep" / "out")
    assert keep.read_text() == "mine" and notes.read_bytes() == whole


def test_rows_that_take_nothing_are_refused(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    same = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 1_000_000, pyarrow.int8()), ["d"])
    parquet.write_table(pyarrow.table({"dialogue": same, "speaker": same, "text": same}), tmp_path / "bad.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(rows_of(1)), tmp_path / "good.parquet")
    (bad, good), out = ((tmp_path / name) for name in ("bad.parquet", "good.parquet")), tmp_path / "out"
    for words in ([], ["--out", str(tmp_path / "none")]):
        assert main(["predict", "--model", str(model), str(bad), *words]) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith("error: ") and "needs far more cells than its size allows" in said
    assert main(["predict", "--model", str(model), str(bad), str(good), "--out", str(out)]) == 1
    (refused,) = read(out / REFUSED)
    assert refused["source"] == "bad.parquet" and "needs far more cells" in refused["reason"]
    assert (out / "good.parquet.parquet").is_file()


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
def test_half_an_emoji_is_written(form: str, model: Path, tmp_path: Path) -> None:
    row = {"speaker": "A", "text": "\ud83d hi", "features": {"text": [0.1] * 16}}
    (tmp_path / "talk.json").write_text(json.dumps([row]))  # escaped
    label(tmp_path / "talk.json", model, tmp_path / "out", form=form)
    assert (tmp_path / "out" / f"talk.json.{form}").stat().st_size


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="kills a group of processes")
@pytest.mark.parametrize("launcher", ["local", "ray"])
def test_killed_twice_and_resumed(launcher: str, model: Path, tmp_path: Path) -> None:
    """Processes that are killed with their workers, at moments that nobody chose."""
    if launcher == "ray":
        pytest.importorskip("ray")
    (tmp_path / "talks").mkdir()
    rows = [{**row, "dialogue": f"{copy}-{row['dialogue']}"} for copy in range(8) for row in rows_of(1500, seed=copy)]
    (tmp_path / "talks" / "many.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [sys.executable, "-m", "erc_graph", "predict", "--model", str(model), str(tmp_path / "talks"), "--workers", "2"]
    command += ["--launcher", launcher, "--out"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([*command, str(tmp_path / "whole")], check=True, env=environment, timeout=300)
    for kill in range(2):
        process = subprocess.Popen([*command, str(tmp_path / "out")], env=environment, start_new_session=True)
        shown = tmp_path / "out" / SHARDS
        for _ in range(1200):
            if process.poll() is not None or (shown.exists() and len(shown.read_bytes().splitlines()) > kill + 1):
                break
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=60)
    subprocess.run([*command, str(tmp_path / "out")], check=True, env=environment, timeout=300)
    assert_same(tmp_path / "whole", tmp_path / "out")


def test_bad_lines_and_vectors_cost_their_conversations_alone(model: Path, tmp_path: Path) -> None:
    rows = rows_of(20, seed=3)
    rows[0]["features"] = {"text": [1.0]}
    bad = next(i for i, row in enumerate(rows) if row["dialogue"] == "d9")
    lines = [json.dumps(row) for row in rows]
    lines[bad] = "{broken"
    (tmp_path / "many.jsonl").write_text("\n".join(lines))
    total = label(tmp_path / "many.jsonl", model, tmp_path / "out")
    refused = read(tmp_path / "out" / REFUSED)
    assert [one.get("dialogue") for one in refused if "adjacent conversation" not in one["reason"]] == ["d0", None]
    doubted = [one["dialogue"] for one in refused if "adjacent conversation" in one["reason"]]
    assert doubted[0] == "d8" and set(doubted) <= {"d8", "d9", "d10"} and refused[-1]["line"] >= bad
    assert total.refused == len(refused) and total.conversations == 20 - 1 - len({*doubted, "d9"})
    found = {row["dialogue"] for path in (tmp_path / "out").rglob("part-*") for row in read(path)}
    assert found == {f"d{i}" for i in range(20)} - {"d0", "d9", *doubted}


def test_rows_of_a_conversation_that_stand_apart_are_told(model: Path, tmp_path: Path) -> None:
    rows = sorted(rows_of(40), key=lambda row: row["id"] % 100)  # all first turns, all second turns
    (tmp_path / "many.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    label(tmp_path / "many.jsonl", model, tmp_path / "out")
    (refused,) = read(tmp_path / "out" / REFUSED)
    assert (
        "conversations with rows at two places of the file, each labelled as two conversations; sort the file by conversation"
        in refused["reason"]
    )


def test_nothing_that_could_be_labelled(model: Path, tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text("Ann: no encoder is named")
    with pytest.raises(
        CorpusError,
        match=r"none of the 1 inputs could be labelled \(.*refused.jsonl lists the reasons\); the first input: plain.txt: .*encoder",
    ):
        label(tmp_path / "plain.txt", model, tmp_path / "out")
    assert len(read(tmp_path / "out" / REFUSED)) == 1


def test_a_file_that_has_changed_is_done_again(talks: Path, model: Path, tmp_path: Path) -> None:
    label(talks, model, tmp_path / "out")
    (talks / "many.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_of(3, seed=5)))
    (talks / "deep" / "0.json").unlink()
    notes: list[str] = []
    label(talks, model, tmp_path / "out", say=notes.append)
    assert len(read(tmp_path / "out" / "many.jsonl.jsonl")) == len(rows_of(3, seed=5))
    assert not list((tmp_path / "out" / "many.jsonl").glob("*")) and (tmp_path / "out" / "deep" / "0.json.jsonl").is_file()
    assert [note for note in notes if note.startswith("1 shards in") and note.endswith("these shards are not changed")]


def test_names_that_are_taken(model: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("shards", "refused"):
        (tmp_path / "in" / name).write_text(json.dumps(rows_of(1)))
    label(tmp_path / "in", model, tmp_path / "out")
    names = {"about.json", "refused.labels.jsonl", "shards.jsonl", "shards.labels.jsonl"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names


def test_other_folders_are_refused(talks: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").touch()
    with pytest.raises(
        ConfigError, match=r"--out: expected a new folder, or a folder with labels of the same model, found .* with 'thesis.txt'"
    ):
        label(talks, model, out)
    (out / ABOUT).write_text("{}")
    with pytest.raises(ConfigError, match=f"found {out}, whose about.json was written by another program"):
        label(talks, model, out)
    label(talks, model, tmp_path / "labels")
    with pytest.raises(
        ConfigError,
        match=r"found .*labels, whose labels were made with another value of --csv/--json; repeat the earlier options, give a new folder",
    ):
        label(talks, model, tmp_path / "labels", form="csv")
    with pytest.raises(ConfigError, match="whose labels were made with another value of --csv/--json, --unsure; repeat"):
        label(talks, model, tmp_path / "labels", form="csv", unsure=0.5)


@pytest.mark.slow
def test_a_worker_that_is_gone(talks: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("erc_graph.experiments.labelling.label_shard", gone)
    with pytest.raises(
        ErcGraphError,
        match=r"\S+: the worker process that labelled this part of the input has died \(killed, or out of memory\); "
        "all finished results are kept",
    ):
        label(talks, model, tmp_path / "out", workers=2)


def gone(labelling: Labelling, shard: shards.Shard) -> None:
    os._exit(3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["TALKS", "TALKS"], "expected one input, found 2; for several inputs, give a folder for the results: --out FOLDER"),
        (
            ["FOLDER"],
            "expected a file, found a folder; give one file of this folder, or label all its files with the option --out FOLDER, "
            "a folder for the results",
        ),
        (
            ["TALKS", "--out", "labels.csv"],
            "expected a folder for the results, found the file name 'labels.csv'; give a folder, and choose the",
        ),
        (["TALKS", "--workers", "2"], "--workers, --launcher: expected --out FOLDER as well"),
        (["TALKS", "--out", "OUT", "--draw", "x.svg"], "--draw: this option draws one input and cannot be used with --out"),
        (["-", "--out", "OUT"], "--out: expected files and folders as inputs, found -"),
        (["TALKS", "--out", "OUT", "--workers", "0"], "--workers: expected a number of processes of 1 or more, found 0"),
        (["nowhere", "--out", "OUT"], "nowhere: no such file or folder"),
    ],
)
def test_refusals(options: list[str], message: str, talks: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [
        {"TALKS": str(talks / "many.jsonl"), "FOLDER": str(talks), "OUT": str(tmp_path / "out")}.get(option, option) for option in options
    ]
    assert main(["predict", "--model", str(model), *given]) == 2
    errors = capsys.readouterr().err
    assert message in errors and errors.count("\n") == 1 and not (tmp_path / "out").exists()
