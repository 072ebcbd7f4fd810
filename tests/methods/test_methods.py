"""What holds for every pipeline's file, and the small parts that pipelines share."""

from __future__ import annotations

import inspect
import io
import re
import sys
import tokenize
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from erc_graph.data.corpus import Corpus
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.data.tasks import Task, get_task
from erc_graph.errors import ConfigError
from erc_graph.methods import PIPELINES
from erc_graph.methods.base import Classifier, Pipeline, Schema, in_parts
from erc_graph.methods.bigru import BiGRU, BiGRUConfig
from erc_graph.methods.penalties import density

Readable = Callable[[Corpus, str], Corpus]


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return sample_corpus(dialogues=6, seed=2)


def tagged(comments: list[str]) -> set[int]:
    """Numbers of `Eq. (4)`, `Eqs. (6), (7)` and `Eqs. (3)-(5)`."""
    found: set[int] = set()
    for comment in comments:
        for run in re.findall(r"Eqs?\. ((?:\(\d+\)(?:-|, | and )?)+)", comment):
            numbers = [int(number) for number in re.findall(r"\((\d+)\)", run)]
            found |= set(range(numbers[0], numbers[1] + 1)) if ")-(" in run else set(numbers)
    return found


def test_tags_are_read() -> None:
    assert tagged(["# Eq. (1)", "# Eqs. (6), (7)", "# Eqs. (9)-(12), with", "# (20)"]) == {1, 6, 7, 9, 10, 11, 12}


@pytest.mark.parametrize("name", PIPELINES)
def test_every_equation_of_the_docstring_is_tagged_where_it_is_computed(name: str) -> None:
    module = sys.modules[PIPELINES[name].__module__]
    printed = {int(number) for number in re.findall(r"\\tag\{(\d+)\}", module.__doc__ or "")}
    source = inspect.getsource(module)
    comments = [t.string for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type == tokenize.COMMENT]
    assert printed == tagged(comments)
    assert printed == set(range(1, len(printed) + 1))
    assert printed or name == "bigru"


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_says_what_it_is(name: str, corpus: Corpus, readable: Readable) -> None:
    pipeline = PIPELINES[name](Schema.of(readable(corpus, name), reads=PIPELINES[name].reads))
    assert isinstance(pipeline, Pipeline)
    assert pipeline.task is corpus.task
    assert pipeline.device.type == "cpu"
    assert pipeline.config == PIPELINES[name].Config()
    assert all(stage.name for stage in pipeline.stages())
    assert len({stage.name for stage in pipeline.stages()}) == len(pipeline.stages())


@pytest.mark.parametrize("name", PIPELINES)
def test_inputs_are_fitted_all_over(name: str, corpus: Corpus, readable: Readable) -> None:
    corpus = readable(corpus, name)
    pipeline = PIPELINES[name](Schema.of(corpus, reads=PIPELINES[name].reads))
    batch = pipeline.schema.batch(corpus)
    pipeline.fit_inputs(batch)
    means = {key.rsplit("mean_", 1)[1]: value for key, value in pipeline.named_buffers() if ".mean_" in key}
    means |= {key.split(".")[-2]: value for key, value in pipeline.named_buffers() if key.endswith(".mean")}
    assert means
    for modality, value in means.items():
        rows = batch.features[modality][batch.present[modality]] if batch.features else batch.sequences[modality].values
        torch.testing.assert_close(value, rows.mean(0), rtol=1e-4, atol=1e-5)


def test_schema(corpus: Corpus) -> None:
    schema = Schema.of(corpus, ("audio", "text"))
    assert dict(schema.widths) == {"audio": 8, "text": 16}
    assert schema.outputs == 6
    assert Schema.of(corpus).widths.keys() == set(corpus.modalities)
    assert Schema(widths={"text": 1}, task=get_task("sentiment")).outputs == 1
    with pytest.raises(ConfigError, match="modalities: sample has no sound; it has text, audio, visual"):
        Schema.of(corpus, ("text", "sound"))
    bare = Corpus(
        name="bare", task=corpus.task, dialogue_ids=("d",), ptr=torch.tensor([0, 1]), utterance_ids=("u",), speakers=("A",),
        target=torch.tensor([0]),
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"modalities: bare has no features; it has none; give files under \[features\]"):
        Schema.of(bare)


@pytest.mark.parametrize("name", ["type", "keys", "training", "parameters", "audio+text", "roberta.large"])
def test_a_modality_that_no_submodule_can_be_called_after_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"modalities: a feature set cannot be called '{re.escape(name)}'; give it another name"):
        Schema(widths={"text": 3, name: 4}, task=get_task("meld7"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 7}, r"pipeline\.width: expected an even number of 2 or more .*, found 7"),
        ({"layers": 0}, r"pipeline\.layers: expected 1 or more, found 0"),
        ({"dropout": 1.0}, r"pipeline\.dropout: expected a number in \[0, 1\), found 1\.0"),
        ({"width": 0, "layers": 0}, r"(?s)pipeline\.width.*pipeline\.layers"),
    ],
)
def test_impossible_values_of_the_baseline_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BiGRUConfig(**values)


def test_in_parts_is_the_whole_in_row_order(corpus: Corpus) -> None:
    batch, asked = corpus.batch(), []

    def double(part):
        asked.append(len(part))
        return 2 * part.features["text"]

    assert torch.equal(in_parts(double, batch, dialogues=4), 2 * batch.features["text"])
    assert asked == [4, 2]


def test_density_is_the_printed_norm_over_the_entries() -> None:
    states = torch.tensor([[1.0, -2.0, 0.0], [3.0, -4.0, 2.0]], requires_grad=True)
    assert density(states).item() == pytest.approx(2.0)
    assert density(states, "sum").item() == pytest.approx(12.0)
    density(states, "sum").backward()
    assert states.grad is not None
    assert states.grad.tolist() == [[1, -1, 0], [1, -1, 1]]


def test_classifier_is_two_layers_with_relu() -> None:
    classify = Classifier(3, 2, hidden=4, dropout=0.5).eval()
    states = torch.randn(5, 3)
    (first, second) = (module for module in classify.layers if isinstance(module, torch.nn.Linear))
    hidden = (states @ first.weight.T + first.bias).clamp(min=0)
    torch.testing.assert_close(classify(states), hidden @ second.weight.T + second.bias)


@pytest.mark.parametrize("layers", [1, 3])
def test_bigru_reads_all_modalities_both_ways_and_no_speakers(layers: int, corpus: Corpus) -> None:
    pipeline = BiGRU(Schema.of(corpus), BiGRUConfig(width=32, layers=layers)).eval()
    batch = corpus.batch().select(torch.tensor([0, 1]))
    answer = pipeline(batch)
    assert answer.scores.shape == (batch.utterances, 6) and answer.states is not None and answer.states.shape == (batch.utterances, 32)
    assert len(pipeline.encode.layers) == layers
    assert len(pipeline.stages()) == 1 and pipeline.stages()[0].module is pipeline
    assert pipeline.graph(corpus[0]) is None
    features = {name: value.clone().requires_grad_() for name, value in batch.features.items()}
    pipeline(replace(batch, features=features)).scores[2].square().sum().backward()
    own = batch.dialogue == 0
    for name, value in features.items():
        assert value.grad is not None
        assert torch.equal(value.grad.abs().sum(1) > 0, own & batch.present[name])
    assert torch.equal(pipeline(replace(batch, speaker=batch.speaker + 1)).scores, answer.scores)


def test_a_score_has_one_output() -> None:
    pipeline = BiGRU(Schema(widths={"text": 4}, task=Task(name="score", kind="score", column="score")), BiGRUConfig(width=6))
    assert pipeline.classify.out_features == 1
