"""Saved models: what comes back, what experiments leave, and what is refused in one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.storage import load_tensors, save_tensors
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.data.tasks import TASKS
from erc_graph.errors import CheckpointError, ErcGraphError, StorageError
from erc_graph.graphs.recipe import load_recipe
from erc_graph.inference import saved
from erc_graph.inference.pipeline import Pipeline
from erc_graph.methods import METHODS
from erc_graph.methods.bigru import BiGRU, BiGRUConfig
from erc_graph.methods.inputs import InputsConfig
from erc_graph.methods.prior import PriorConfig
from erc_graph.methods.schema import Schema


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    corpus = sample_corpus(dialogues=6, seed=2)
    return replace(corpus, provenance={**corpus.provenance, "extractors": {"text": "some encoder", "audio": "an ear"}})


def make(name: str, corpus: Corpus, inputs: InputsConfig | None = None, prior: PriorConfig | None = None, **config: Any) -> Pipeline:
    kind = METHODS[name]
    torch.manual_seed(3)
    method = kind(Schema.of(corpus, reads=kind.reads), kind.Config(**config), inputs=inputs, prior=prior)
    method.fit_inputs(method.schema.batch(corpus))
    return Pipeline(method)


def same(a: Pipeline, b: Pipeline, corpus: Corpus) -> bool:
    one, other = a.method, b.method
    alike = all(getattr(one, name) == getattr(other, name) for name in ("config", "schema", "inputs_config", "prior_config"))
    answers = [pipeline.predict(corpus) for pipeline in (a, b)]
    labels = [[answer.emotion for answer in said] for said in answers]
    shares = [torch.tensor([list(answer.probabilities.values()) for answer in said]) for said in answers]
    close = torch.allclose(*shares, rtol=0, atol=1e-6)  # where a loaded tensor lies in memory decides how products are rounded
    return type(one) is type(other) and alike and labels[0] == labels[1] and close


@pytest.fixture
def folder(corpus: Corpus, tmp_path: Path) -> Path:
    make("bigru", corpus, width=8).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("name", METHODS)
def test_every_method_comes_back(name: str, corpus: Corpus, tmp_path: Path, readable: Callable[[Corpus, str], Corpus]) -> None:
    corpus = readable(corpus, name)
    pipeline = make(name, corpus)
    pipeline.save_pretrained(tmp_path / "model")
    pipeline.save_pretrained(tmp_path / "model")  # over an older one
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["config.json", "model.safetensors"]
    found = Pipeline.from_pretrained(tmp_path / "model")
    assert not found.method.training and not any(p.is_meta for p in found.method.state_dict().values())
    assert same(found, pipeline, corpus)
    assert found.schema.provenance["extractors"] == {"text": "some encoder", "audio": "an ear"}
    assert same(Pipeline.from_pretrained(tmp_path / "model" / "model.safetensors"), pipeline, corpus)


def test_a_fresh_process_elsewhere_needs_no_other_file(corpus: Corpus, tmp_path: Path) -> None:
    """The recipe of one's own is gone, and so are the corpus and the run."""
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        'description = "d"\nsource = "s"\n[[edges]]\nrelation = "near"\nscope = "within"\npast = 2\nfuture = 0\n'
        '[[edges]]\nrelation = "cross"\nscope = "across"\npast = 0\nfuture = 0\nscale = 0.5\n'
    )
    pipeline = make("pairwise", corpus, graph=str(recipe))
    pipeline.save_pretrained(tmp_path / "model")
    recipe.unlink()
    expected = pipeline.predict(corpus[0])[0].probabilities
    code = f"""
import json, sys
from erc_graph import Pipeline
from erc_graph.data.sample.vectors import sample_corpus
pipeline = Pipeline.from_pretrained({str(tmp_path / "model")!r})
recipe = pipeline.method.recipe
assert recipe.relations == ("near", "cross") and recipe.edges[0].past == 2 and recipe.edges[1].scale == 0.5
print(json.dumps(pipeline.predict(sample_corpus(dialogues=6, seed=2)[0])[0].probabilities))
loaded = [name for name in ("torch_geometric", "huggingface_hub", "transformers", "torch._dynamo", "accelerate") if name in sys.modules]
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == pytest.approx(expected, abs=1e-6)


def test_a_changed_recipe_of_the_same_name_changes_nothing(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = make("pairwise", corpus, gamma=0.3)
    pipeline.save_pretrained(tmp_path / "model")
    other = replace(load_recipe("causal"), name="pairwise")
    monkeypatch.setattr("erc_graph.methods.base.load_recipe", lambda found: other if found == "pairwise" else found)
    assert same(Pipeline.from_pretrained(tmp_path / "model"), pipeline, corpus)


def test_inputs_and_prior_come_back(corpus: Corpus, tmp_path: Path) -> None:
    said = torch.randn(corpus.utterances, 6).log_softmax(-1)
    here = torch.ones(corpus.utterances, dtype=torch.bool)
    more = replace(corpus, features={**corpus.features, "said": said}, present={**corpus.present, "said": here})
    for name in ("bigru", "pairwise"):
        inputs = InputsConfig(speaker_relative=["audio"], swap_noise={"text": 0.2}, modality_dropout=0.1)
        pipeline = make(name, more, inputs, PriorConfig(features=["said"], around=True))
        pipeline.save_pretrained(tmp_path / name)
        assert same(Pipeline.from_pretrained(tmp_path / name), pipeline, more)


def test_score_tasks(tmp_path: Path) -> None:
    pipeline = Pipeline(BiGRU(Schema(widths={"text": 3}, task=TASKS["sentiment"]), BiGRUConfig(width=4)))
    pipeline.save_pretrained(tmp_path / "model")
    assert Pipeline.from_pretrained(tmp_path / "model").task == TASKS["sentiment"]


class Own(BiGRU):
    """A method that does not come with the package."""


def test_a_method_of_ones_own_is_named_when_it_is_read(corpus: Corpus, tmp_path: Path) -> None:
    pipeline = Pipeline(Own(Schema.of(corpus), BiGRUConfig(width=4)).eval())
    pipeline.save_pretrained(tmp_path / "model")
    assert same(Pipeline.from_pretrained(tmp_path / "model", Own), pipeline, corpus)
    with pytest.raises(
        CheckpointError, match=r"expected the class of a method in .*, found 'Own'; name your own method with .*load_method"
    ):
        Pipeline.from_pretrained(tmp_path / "model")
    make("bigru", corpus).save_pretrained(tmp_path / "other")
    with pytest.raises(
        CheckpointError, match=r"method: expected Own, the class that you gave, found 'BiGRU'; give the class of this model's method"
    ):
        Pipeline.from_pretrained(tmp_path / "other", Own)


# -- runs -------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(corpus: Corpus, tmp_path: Path) -> Path:
    """What an experiment leaves, as far as it matters here; seed 10 and 2 beside each other."""
    for seed in (10, 2):
        pipeline = make("bigru", corpus, width=8 if seed == 2 else 6)
        best = tmp_path / "run" / f"seed-{seed}" / "best.safetensors"
        save_tensors(best, pipeline.method.state_dict(), {"kind": "erc_graph weights", "model": json.dumps(pipeline.method.describe())})
    (tmp_path / "run" / "config.json").write_text('{"command": "run", "method": "bigru"}')
    return tmp_path / "run"


def test_a_run_gives_its_first_seed(run: Path) -> None:
    assert Pipeline.from_pretrained(run).method.config.width == 8
    for path in ("seed-10", "seed-10/best.safetensors"):
        assert Pipeline.from_pretrained(run / path).method.config.width == 6


def test_another_seed_and_an_unfinished_run_are_said(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    Pipeline.from_pretrained(run)
    assert [record.getMessage() for record in caplog.records] == [
        f"note: {run}: seed-0 has no model; seed-2 is used instead",
        f"note: {run}: the run is not finished; --resume continues it",
    ]
    caplog.clear()
    (run / "seed-2").rename(run / "seed-0")
    (run / "result.json").write_text("{}")
    Pipeline.from_pretrained(run)
    Pipeline.from_pretrained(run / "seed-10")
    assert not caplog.records


def test_an_experiment_is_loaded_from_its_own_folder(tmp_path: Path) -> None:
    from erc_graph.experiments.experiment import from_dict
    from erc_graph.experiments.jobs import Plan
    from erc_graph.experiments.run import run_experiment

    corpus = sample_corpus(dialogues=12, seed=1)
    experiment = from_dict("bigru", {"pipeline": {"width": 8, "layers": 1}, "training": {"epochs": 1}}, "test")
    outcome = run_experiment(Plan(experiment=experiment, folder=tmp_path), corpus)
    rows = Pipeline.from_pretrained(tmp_path).predict(corpus.split("test"))
    expected = outcome.seeds[0].scores.softmax(-1)
    torch.testing.assert_close(torch.tensor([list(row.probabilities.values()) for row in rows]), expected, atol=1e-5, rtol=0)


def test_weights_of_version_0_still_load(run: Path) -> None:
    best = run / "seed-2" / "best.safetensors"
    tensors, metadata = load_tensors(best)
    model = json.loads(metadata["model"])
    for later in ("version", "recipe", "provenance", "method", "inputs", "prior"):
        del model[later]
    model["config"]["bidirectional"] = not model["config"].pop("causal")
    old = {"missing.vectors.": "inputs.missing.", "read.": "encode.", "classify.1.": "classify."}
    names = {name: next((now + name.removeprefix(new) for new, now in old.items() if name.startswith(new)), name) for name in tensors}
    save_tensors(
        best, {names[name]: value.clone() for name, value in tensors.items()}, {"model": json.dumps({**model, "pipeline": "BiGRU"})}
    )
    assert Pipeline.from_pretrained(run).schema.provenance == {}
    (run / "result.json").write_text('{"dataset": "d", "data": {"extractors": {"text": "some encoder"}}}')
    assert Pipeline.from_pretrained(run).schema.provenance["extractors"] == {"text": "some encoder"}
    (run / "result.json").write_text('{"dataset": ')
    assert Pipeline.from_pretrained(run).schema.provenance == {}


def test_several_folds_are_named(run: Path) -> None:
    for fold in ("session-1", "session-2"):
        (run / "seed-2" / fold).mkdir()
        shutil.copy(run / "seed-2" / "best.safetensors", run / "seed-2" / fold)
    (run / "seed-2" / "best.safetensors").unlink()
    (run / "seed-10" / "best.safetensors").unlink()
    with pytest.raises(
        CheckpointError,
        match=r"expected one trained model, found 2, one for each fold or table row; give the folder of one model, such as .*session-1",
    ):
        Pipeline.from_pretrained(run)
    with pytest.raises(CheckpointError, match="expected one trained model, found 2"):
        Pipeline.from_pretrained(run / "seed-2")
    assert Pipeline.from_pretrained(run / "seed-2" / "session-2").method.config.width == 8


# -- what is refused --------------------------------------------------------------------------------------------------------------


def test_places_without_a_model(tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="contains no trained model"):
        Pipeline.from_pretrained(tmp_path / "empty")
    with pytest.raises(CheckpointError, match="no such file or folder"):
        Pipeline.from_pretrained(tmp_path / "nowhere")
    monkeypatch.chdir(tmp_path)
    for name in ("a\0b", "nowhere", "run/nowhere"):
        with pytest.raises(CheckpointError, match="no such file or folder"):
            Pipeline.from_pretrained(name)
    with pytest.raises(CheckpointError, match=r"expected a folder or a \.safetensors file"):
        Pipeline.from_pretrained(run / "config.json")
    bare = tmp_path / "bare.safetensors"
    save_tensors(bare, {"a": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="expected a description of the method in the metadata"):
        Pipeline.from_pretrained(bare)


def test_a_name_of_the_hub_is_fetched(folder: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(saved, "hub_folder", lambda name, patterns: asked.append((name, patterns)) or folder)
    assert isinstance(Pipeline.from_pretrained("someone/a-model").method, BiGRU)
    assert asked == [("someone/a-model", ("config.json", "model.safetensors"))]


def test_other_files_are_never_lost(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(StorageError, match=r"contains other files \(thesis\.txt\)"):
        make("bigru", corpus).save_pretrained(tmp_path)


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format="other"), 'expected the field "format": "erc_graph pipeline"'),
        (lambda c: c.update(version=3), "expected a saved model of format version 2 or lower, found 3; upgrade erc_graph"),
        (lambda c: c.update(version="1"), "expected a saved model of format version 2 or lower, found '1'; upgrade erc_graph"),
        (lambda c: c.update(method="Later"), "method: expected the class of a method in .*, found 'Later'"),
        (lambda c: c.update(method=["BiGRU"]), "method: expected the class of a method"),
        (lambda c: c["inputs"].update(swap_noise={"text": 2.0}), "inputs.swap_noise: expected numbers from 0 to 1"),
        (lambda c: c["prior"].update(around=True), "prior.around: expected prior.features as well"),
        (lambda c: c["config"].update(new=1), "expected the description of a saved model, found problems .config.new"),
        (lambda c: c["config"].update(width="8"), "expected the description of a saved model, found problems .config.width"),
        (lambda c: c["config"].update(width=7), "pipeline.width: expected an even number"),
        (lambda c: c["config"].update(width=10), "the weights do not fit the description"),
        (
            lambda c: c["config"].update(layers=10**9),
            "config: expected whole numbers up to 10000, which fit the sizes of the weights, found 1000000000",
        ),
        (lambda c: c["config"].update(layers=3), "the weights do not fit the description"),
        (lambda c: c.update(config=[]), "expected the description of a saved model, found problems"),
        (lambda c: c.pop("task"), "expected the description of a saved model, found problems .task: Field required"),
        (lambda c: c["task"].update(labels=["joy", "joy"]), "task.labels: expected one or more names, all different"),
        (lambda c: c["task"].update(labels=[]), "task.labels: expected one or more names, all different"),
        (lambda c: c["task"]["labels"].pop(), "the weights do not fit the description"),
        (lambda c: c.update(widths={}), "widths: expected for each modality its number of features, 1 or more"),
        (lambda c: c.update(widths={"text": 10**30}), "the weights do not fit the description|not a description"),
        (lambda c: c.update(widths={"text": -1}), "widths: expected for each modality its number of features, 1 or more"),
        (lambda c: c.update(widths={"type": 4}), "a feature set cannot be called 'type'"),
        (lambda c: c.update(recipe={"name": "x"}), "expected the description of a saved model, found problems .recipe"),
        (lambda c: c["provenance"].update(extractors=5), "provenance.extractors: expected for each modality the name"),
        (lambda c: c["provenance"].update(extractors={"text": []}), "provenance.extractors: expected for each modality the name"),
        (lambda c: c.update(extra="!"), "expected the description of a saved model, found problems .extra"),
    ],
)
def test_descriptions_that_do_not_fit_are_one_line(folder: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    edit(folder, change)
    with pytest.raises(CheckpointError, match=message) as refused:
        Pipeline.from_pretrained(folder)
    assert "\n" not in str(refused.value)
    assert str(folder) in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"version": 1' + b"0" * 5000 + b"}"])
def test_descriptions_that_are_none(folder: Path, content: bytes) -> None:
    (folder / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json: "):
        Pipeline.from_pretrained(folder)


def test_an_unreadable_description(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", fails)
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read \(Permission denied\)"):
        Pipeline.from_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("classify.1.bias"), "do not fit the description"),
        (
            lambda t: t.update({"classify.1.bias": torch.full((6,), float("nan"))}),
            "the tensor classify.1.bias contains NaN or inf; the training",
        ),
        (
            lambda t: t.update({"classify.1.bias": torch.zeros(6, dtype=torch.float64)}),
            "classify.1.bias: expected numbers of type torch.float32, found torch.float64",
        ),
        (
            lambda t: t.update({"classify.1.bias": torch.zeros(6, dtype=torch.int64)}),
            "classify.1.bias: expected numbers of type torch.float32",
        ),
        (lambda t: t.update({"classify.1.bias": torch.zeros(7)}), "do not fit the description"),
        (lambda t: t.update({"more": torch.zeros(7)}), "do not fit the description"),
    ],
)
def test_weights_that_do_not_fit_are_one_line(folder: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    tensors = {name: value.clone() for name, value in load_tensors(folder / "model.safetensors")[0].items()}
    change(tensors)
    save_tensors(folder / "model.safetensors", tensors)
    with pytest.raises(CheckpointError, match=message) as refused:
        Pipeline.from_pretrained(folder)
    assert "\n" not in str(refused.value)


def test_a_truncated_weights_file(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-10])
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        Pipeline.from_pretrained(folder)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_fuzzed_description_is_refused_or_read(folder: Path, data: st.DataObject) -> None:
    original = (folder / "config.json").read_text()
    config = json.loads(original)
    nodes: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            nodes.append((value, key))
            if isinstance(value[key], dict | list):
                walk(value[key])

    walk(config)
    place, key = data.draw(st.sampled_from(nodes))
    place[key] = data.draw(VALUES)
    (folder / "config.json").write_text(json.dumps(config))
    try:
        Pipeline.from_pretrained(folder)
    except ErcGraphError as error:
        assert isinstance(error, CheckpointError) and "\n" not in str(error)
    finally:
        (folder / "config.json").write_text(original)
