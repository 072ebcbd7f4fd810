from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import networkx
import pytest
import torch

from erc_graph.cli.graph import file_names
from erc_graph.cli.main import main
from erc_graph.data.files.load import load_corpus
from erc_graph.data.sample.vectors import SampleConfig, sample_corpus
from erc_graph.inference.pipeline import Pipeline
from erc_graph.methods.bigru import BiGRU, BiGRUConfig
from erc_graph.methods.own_file import load_method
from erc_graph.methods.pairwise import MalConfig, MffConfig, Pairwise, PairwiseConfig, PmfConfig
from erc_graph.methods.schema import Schema

DETERMINED = "expected no value, because the model of --model already determines it"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "small"
    corpus = sample_corpus(dialogues=10, seed=3, config=SampleConfig(turns=(4, 4), speakers=(2, 2)))
    ids = ("../up", *corpus.dialogue_ids[1:])
    rename = dict(zip(corpus.dialogue_ids, ids, strict=True))
    splits = {split: tuple(rename[name] for name in names) for split, names in corpus.splits.items()}
    replace(corpus, dialogue_ids=ids, splits=splits).save(folder)
    return folder


@pytest.mark.parametrize("ending", ["png", "svg", "graphml"])
def test_several_dialogues_are_several_files(ending: str, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph", str(small), "--dialogue", "../up", "1", "0", "--out", str(tmp_path / "a" / f"g.{ending}"), "--json"]) == 0
    page = json.loads(capsys.readouterr().out)
    assert [Path(name).parent for name in page["written"]] == [tmp_path / "a"] * 2 and page["dialogues"][0] == "../up"
    (tmp_path / "b").mkdir()
    assert main(["graph", str(small), "--first", "2", "--out", str(tmp_path / "b" / f"g.{ending}")]) == 0
    assert len(os.listdir(tmp_path / "b")) == 2 and f"g-.._up.{ending}" in os.listdir(tmp_path / "b")


def test_several_dialogues_are_one_page(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    assert (
        main(["graph", str(small), "--split", "test", "--first", "9", "--recipe", "window", "--modalities", "text", "--out", str(out)]) == 0
    )
    assert capsys.readouterr().out == f"written: {out}\n"
    assert '"relations":["context"]' in out.read_text() or '"relations":["context","cross"]' in out.read_text()


def test_the_default_is_the_first_as_png(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["graph", str(small)]) == 0
    assert os.listdir(tmp_path) == ["graph.png"]


@pytest.mark.parametrize(("option", "value"), [("--dialogue", "9" * 5000), ("--out", "n" * 300 + ".png"), ("--out", "file/x.svg")])
def test_impossible_names_are_refused_in_one_line(
    option: str, value: str, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    assert main(["graph", str(small), option, value]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ") and shown.count("\n") == 1 and len(shown) < 600 and ".tmp" not in shown
    assert os.listdir(tmp_path) == ["file"]


def test_file_names_stay_apart_and_inside() -> None:
    names = file_names(Path("out/a.png"), ["../../etc/passwd", "a b", "a/b", "A.b", "x" * 300])
    assert len({name.name.lower() for name in names}) == 5
    assert all(name.parent == Path("out") and len(name.name) < 100 for name in names)


@pytest.fixture(scope="module")
def model(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    corpus = load_corpus(small)
    narrow = PairwiseConfig(pmf=PmfConfig(width=8), mff=MffConfig(width=8), mal=MalConfig(width=8, hidden=8))
    pipeline = Pairwise(Schema.of(corpus), narrow)
    pipeline.fit_inputs(corpus.batch())
    folder = tmp_path_factory.mktemp("models") / "model"
    Pipeline(pipeline).save_pretrained(folder)
    return folder


def test_a_model_draws_its_weights_and_what_it_predicts(
    small: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["graph", str(small), "--dialogue", "1", "--model", str(model), "--out", str(tmp_path / "g.graphml"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["recipe"] == "pairwise" and said["written"] == [str(tmp_path / "g.graphml")]
    read = networkx.read_graphml(tmp_path / "g.graphml", force_multigraph=True)
    pipeline, dialogue = Pipeline.from_pretrained(model), load_corpus(small)[1]
    graph = pipeline.graph(dialogue)
    assert graph is not None
    weights = sorted(w for kind in graph.edge_types for w in graph[kind].edge_weight.tolist())
    assert sorted(values["weight"] for _, _, values in read.edges(data=True)) == pytest.approx(weights)
    rows = pipeline.predict(dialogue)
    for stream in graph.node_types:
        found = [read.nodes[f"{stream}/{row}"] for row in range(len(dialogue))]
        assert [node["predicted"] for node in found] == [row.emotion for row in rows]
        assert [node["label"] for node in found] == list(dialogue.labels)


TWO = """
from dataclasses import dataclass
from erc_graph.conv.attention import Attention
from erc_graph.methods.base import Method
from erc_graph.methods.parts import Turn


@dataclass(frozen=True, kw_only=True)
class TwoConfig:
    graph: str = "window"


class Two(Method):
    Config = TwoConfig

    def parts(self, config, shapes):
        yield (turn := Turn(shapes.widths))
        yield Attention(turn.width, 4, self.recipe, heads=1)
        yield Attention(4, 4, self.recipe, heads=1)
"""


def test_the_other_graphs_of_a_model_are_named_as_a_shell_reads_them(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "two.py").write_text(TWO)
    own = f"{tmp_path / 'two.py'}:Two"
    Pipeline(load_method(own)(Schema.of(load_corpus(small)))).save_pretrained(tmp_path / "model")
    options = ["graph", str(small), "--model", str(tmp_path / "model"), "--method", own, "--out", str(tmp_path / "g.graphml")]
    assert main(options) == 0
    note = capsys.readouterr().err
    assert "Attention 2 is drawn; to draw another graph of this model, give --part 'Attention 1'" in " ".join(note.split())
    assert main([*options, "--part", "Attention 1"]) == 0


def test_several_conversations_of_a_model_are_one_page(small: Path, model: Path, tmp_path: Path) -> None:
    assert main(["graph", str(small), "--first", "3", "--model", str(model), "--out", str(tmp_path / "g.html")]) == 0
    views = (tmp_path / "g.html").read_text(encoding="utf-8").split('id="data">')[1].split("</script>")[0]
    said = {(row.dialogue, row.turn): row.emotion for row in Pipeline.from_pretrained(model).predict(load_corpus(small))}
    for view in json.loads(views):
        assert view["guess"] == [said[view["id"], turn] for turn in view["turn"]] and view["lanes"][0] == "audio+text"


def test_a_corpus_of_other_labels_is_drawn_by_what_is_predicted(small: Path, model: Path, tmp_path: Path) -> None:
    corpus = load_corpus(small)
    other = replace(
        corpus, task=replace(corpus.task, name="mine", labels=("x", "y")), target=corpus.target.clamp(max=1),
        annotations={"label": tuple("xy"[i] for i in corpus.target.clamp(max=1).tolist())},
    )  # fmt: skip
    other.save(tmp_path / "other")
    assert main(["graph", str(tmp_path / "other"), "--model", str(model), "--out", str(tmp_path / "g.html")]) == 0
    (view,) = json.loads((tmp_path / "g.html").read_text(encoding="utf-8").split('id="data">')[1].split("</script>")[0])
    assert set(view["label"]) == {None} and set(view["guess"]) <= set(corpus.task.labels)
    assert main(["graph", str(tmp_path / "other"), "--model", str(model), "--out", str(tmp_path / "g.svg")]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "window"], f"--recipe: {DETERMINED}, found 'window'; leave out --recipe"),
        (["--modalities", "text"], f"--modalities: {DETERMINED}"),
        (["--task", "sample6"], f"--task: {DETERMINED}"),
        (["--model", "./nowhere"], "./nowhere: no such file or folder; expected a saved model"),
    ],
)
def test_what_does_not_go_with_a_model(
    options: list[str], message: str, small: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["graph", str(small), "--model", str(model), "--out", str(tmp_path / "g.png"), *options]) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"error: {message}") and err.count("\n") == 1 and not out and os.listdir(tmp_path) == []


def test_a_model_without_a_graph_draws_none(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Pipeline(BiGRU(Schema.of(load_corpus(small)), BiGRUConfig(width=8))).save_pretrained(tmp_path / "model")
    assert main(["graph", str(small), "--model", str(tmp_path / "model"), "--out", str(tmp_path / "g.png")]) == 2
    assert "the method BiGRU builds no graph; expected a trained model of a method that builds one" in capsys.readouterr().err
