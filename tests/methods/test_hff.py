"""Hierarchical feature fusion: levels against loops, missing modalities, sampling, sequences."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from erc_graph.data.batch import Batch
from erc_graph.data.corpus import Corpus
from erc_graph.data.ragged import Ragged
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.data.tasks import Task
from erc_graph.errors import ConfigError
from erc_graph.inference.graphs import operators
from erc_graph.inference.pipeline import Pipeline
from erc_graph.methods.conversation import ConversationConfig
from erc_graph.methods.hff import HFF, HFFConfig
from erc_graph.methods.inputs import InputsConfig
from erc_graph.methods.schema import Schema
from erc_graph.training.config import TrainingConfig
from erc_graph.training.loop import fit
from tests.conv.angular.test_angular import WINDOWED

SMALL: dict[str, Any] = {
    "width": 8,
    "layers": 2,
    "heads": 3,
    "head_width": 4,
    "feedforward": 6,
    "hidden": 6,
    "dropout": 0.0,
    "classifier_dropout": 0.0,
    "conversation": ConversationConfig(width=4),
}
ITEMS = {"audio": (), "text": (5,), "visual": (3, 8, 8)}
TASK = Task(name="three", labels=("sad", "angry", "happy"))


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return sample_corpus(dialogues=9, seed=2)


def build(corpus: Corpus, inputs: InputsConfig | None = None, **changes: Any) -> HFF:
    torch.manual_seed(1)
    pipeline = HFF(Schema.of(corpus, reads=HFF.reads), HFFConfig(**{**SMALL, **changes}), inputs=inputs)
    pipeline.fit_inputs(pipeline.schema.batch(corpus))
    return pipeline.eval()


def spoken(lengths: tuple[int, ...] = (3, 1, 4), missing: bool = True) -> Batch:
    """Dialogues of raw sound, words and faces, some missing; the sixth utterance has nothing at all."""
    random, rows = torch.Generator().manual_seed(3), sum(lengths)

    def size(i: int, m: int) -> int:
        gone = missing and (i % 4 == m or i == 5)
        return 0 if gone else (900 + 700 * (i % 3) if m == 0 else 1 + (i + m) % 4)

    def item(m: int, n: int) -> torch.Tensor:
        shape = list(ITEMS.values())[m]
        faces = torch.randint(0, 256, (n, *shape), generator=random, dtype=torch.uint8)
        return faces if m == 2 else torch.randn(n, *shape, generator=random)

    sequences = {name: Ragged.of([item(m, size(i, m)) for i in range(rows)]) for m, name in enumerate(ITEMS)}
    return Batch(
        ptr=torch.tensor([0, *lengths]).cumsum(0), speaker=torch.arange(rows) % 2, target=torch.arange(rows) % 3,
        judged=torch.arange(rows) != 1, row=torch.arange(rows), sequences=sequences,
    )  # fmt: skip


def raw(**changes: Any) -> HFF:
    torch.manual_seed(1)
    pipeline = HFF(Schema(widths={}, sequences=ITEMS, task=TASK), HFFConfig(**{**SMALL, **changes}))
    pipeline.fit_inputs(spoken())
    return pipeline.eval()


# -- level 1 --------------------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_level_one_equals_a_loop(corpus: Corpus) -> None:
    pipeline, batch = build(corpus, epsilon=0.3).double(), corpus.batch()
    batch = replace(batch, features={name: value.double() for name, value in batch.features.items()})
    given = pipeline.given(batch)
    fused, inputs = pipeline.fuse(given), pipeline.missing(given.values, given.present)
    assert pipeline.weigh is not None and fused.precision is not None and fused.variance is not None
    assert (~fused.present).any()
    for row in range(0, batch.utterances, 5):
        here = [m for m in pipeline.modalities if batch.present[m][row]]
        states = {m: pipeline.project[m](inputs[m][row]) if m in here else torch.zeros(8).double() for m in pipeline.modalities}
        scores = pipeline.weigh.score(torch.cat(list(states.values())))
        alpha = {m: float(scores[i].exp()) for i, m in enumerate(pipeline.modalities) if m in here}
        weighted = sum(alpha[m] / sum(alpha.values()) * states[m] for m in here)
        torch.testing.assert_close(fused.weighted[row], weighted)
        for channel in range(8):
            mean, variance = {}, {}
            for m in here:
                layer = pipeline.bayes[m]
                mean[m] = float(layer.mean[channel] @ states[m] + layer.bias_mean[channel])
                variance[m] = float(layer.log_variance[channel].exp() @ states[m] ** 2 + layer.bias_log_variance[channel].exp())
            weight = {m: 1 / (variance[m] + 0.3) for m in here}
            total = sum(weight.values())
            assert float(fused.mean[row, channel]) == pytest.approx(sum(weight[m] * mean[m] for m in here) / total)
            spread = math.sqrt(sum((weight[m] / total) ** 2 * variance[m] for m in here))
            assert float(fused.deviation[row, channel]) == pytest.approx(spread)


@pytest.mark.parametrize("changes", [{}, {"graph": "none"}, {"attend": "turns"}, {"turns": False}])
def test_a_missing_modality_has_no_weight_and_no_gradient(changes: dict[str, Any], corpus: Corpus) -> None:
    pipeline, batch = build(corpus, **changes), corpus.batch()
    values = {name: value.clone().requires_grad_() for name, value in batch.features.items()}
    batch = replace(batch, features=values)
    shares = pipeline.trust(batch)
    fused = pipeline.weights(batch)
    for i, (name, share) in enumerate(shares.items()):
        missing = ~batch.present[name]
        assert missing.any() and (share[missing] == 0).all() and (fused.dynamic[missing, i] == 0).all()
        assert fused.variance is not None and fused.variance[missing, i].isinf().all()
        assert (share[batch.present[name]] > 0).all()
    some = torch.stack(list(batch.present.values())).any(0)
    torch.testing.assert_close(sum(shares.values())[some], torch.ones(int(some.sum())))  # type: ignore[index]
    pipeline.train()(batch).scores.square().sum().backward()
    for name, value in values.items():
        assert value.grad is not None and not value.grad[~batch.present[name]].any() and value.grad[batch.present[name]].any()


def test_what_stands_where_a_modality_is_missing_is_not_read(corpus: Corpus) -> None:
    pipeline, batch = build(corpus), corpus.batch()
    other = {name: value.masked_fill(~batch.present[name][:, None], float("nan")) for name, value in batch.features.items()}
    assert torch.equal(pipeline(replace(batch, features=other)).scores, pipeline(batch).scores)


def test_one_that_is_surer_counts_more(corpus: Corpus) -> None:
    pipeline, batch = build(corpus), corpus.batch()
    before = pipeline.trust(batch)["audio"]
    with torch.no_grad():
        for parameter in (pipeline.bayes["audio"].log_variance, pipeline.bayes["audio"].bias_log_variance):
            parameter -= 2
    after = pipeline.trust(batch)["audio"]
    alone = before == 1
    assert (after[~alone & batch.present["audio"]] > before[~alone & batch.present["audio"]]).all()


# -- levels 2 and 3, and the ablations of Table 4 --------------------------------------------------------------------------------------


def test_without_its_parts_it_is_a_mean(corpus: Corpus) -> None:
    pipeline, batch = build(corpus, dynamic=False, uncertainty=False, attention=False, temporal=False, graph="none"), corpus.batch()
    given = pipeline.given(batch)
    inputs = pipeline.missing(given.values, given.present)
    for row in range(0, batch.utterances, 7):
        here = [pipeline.project[m](inputs[m][row]) for m in pipeline.modalities if batch.present[m][row]]
        expected = 2 * sum(here) / len(here) if here else torch.zeros(8)
        torch.testing.assert_close(pipeline(batch).states[row], expected)  # type: ignore[index]


@torch.no_grad()
@pytest.mark.parametrize("dynamic", [True, False])
def test_what_is_missing_leaves_its_share_empty(dynamic: bool, corpus: Corpus) -> None:
    """f^(0) is what (17) and (18) say as printed, a missing modality a vector of zeros; nothing changes where all are there."""
    bare = {"dynamic": dynamic, "attention": False, "temporal": False, "graph": "none"}
    whole, less, batch = build(corpus, **bare), build(corpus, shrink=True, **bare), corpus.batch()
    less.load_state_dict(whole.state_dict())
    fused = less.fuse(less.given(batch))
    for row in range(batch.utterances):
        scores = less.weigh.score(fused.states[row].flatten()) if less.weigh else torch.zeros(len(less.modalities))
        printed = scores.softmax(0) @ fused.states[row]
        torch.testing.assert_close(fused.filled[row] * fused.weighted[row], printed)
    before, after = whole(batch).states, less(batch).states
    assert before is not None and after is not None
    torch.testing.assert_close(after, fused.filled * before)
    full = fused.present.all(1)
    assert full.any() and (fused.filled[full] == pytest.approx(1)) and (fused.filled[~full] < 1).all()


@torch.no_grad()
def test_the_recurrence_adds_what_it_reads(corpus: Corpus) -> None:
    plain, residual, batch = build(corpus, graph="none"), build(corpus, graph="none", residual=True), corpus.batch()
    residual.load_state_dict(plain.state_dict())
    fused = plain.fuse(plain.given(batch))
    assert plain.attend is not None
    second = plain.attend(fused, fused.mean, batch) * fused.present.any(1, keepdim=True)
    torch.testing.assert_close(residual(batch).states, plain(batch).states + second)


def affine(net: Any, row: np.ndarray, part: slice = slice(None)) -> np.ndarray:
    return net.weight[part].detach().double().numpy() @ row + net.bias[part].detach().double().numpy()


def normal(net: Any, row: np.ndarray) -> np.ndarray:
    scaled = (row - row.mean()) / np.sqrt(row.var() + net.eps)
    return scaled * net.weight.detach().double().numpy() + net.bias.detach().double().numpy()


def test_levels_two_and_three_equal_a_loop_over_utterances_heads_and_modalities(corpus: Corpus) -> None:
    pipeline, batch = build(corpus, graph="none"), corpus.batch()
    fused = pipeline.fuse(pipeline.given(batch))
    attend, gru = pipeline.attend, pipeline.read
    assert attend is not None and gru is not None
    cell, heads, each = gru.nets(0)[0], SMALL["heads"], SMALL["head_width"]
    reset, update, new = (slice(8 * i, 8 * i + 8) for i in range(3))
    given = [part.detach().double().numpy() for part in (fused.weighted, fused.states, fused.mean)]
    ends = set(batch.ptr.tolist())
    expected, hidden = [], np.zeros(8)
    for row, (query, modalities, states) in enumerate(zip(*given, strict=True)):
        here = [m for m in range(len(modalities)) if fused.present[row, m]]
        for i in range(SMALL["layers"]):
            asked = attend.attention[i]
            heard = np.zeros(heads * each)
            for head in range(heads):
                own = slice(head * each, head * each + each)
                value = slice(heads * each + own.start, heads * each + own.stop)
                q = affine(asked.query, query, own)
                score = {m: q @ affine(asked.key_value, modalities[m], own) / np.sqrt(each) for m in here}  # (21)
                total = sum(np.exp(one) for one in score.values())
                for m in here:
                    heard[own] += np.exp(score[m]) / total * affine(asked.key_value, modalities[m], value)  # (22)
            states = normal(attend.norm[2 * i], states + affine(asked.output, heard))  # (23)
            inner = np.maximum(affine(attend.feedforward[i][0], states), 0)
            query = states = normal(attend.norm[2 * i + 1], states + affine(attend.feedforward[i][-1], inner))
        before = np.zeros(8) if row in ends else hidden
        inputs, state = (
            [getattr(cell, f"weight_{end}_l0")[part].detach().double().numpy() @ x + getattr(cell, f"bias_{end}_l0")[part].detach().numpy()
             for part in (reset, update, new)]
            for end, x in (("ih", states), ("hh", before))
        )  # fmt: skip
        r, z = (1 / (1 + np.exp(-inputs[i] - state[i])) for i in range(2))  # (24), (25)
        candidate = np.tanh(inputs[2] + r * state[2])  # (26), the reset behind the product
        hidden = (1 - z) * candidate + z * before  # (27), z as PyTorch has it
        expected.append(hidden if here else 0 * hidden)
    torch.testing.assert_close(pipeline(batch).states, torch.from_numpy(np.stack(expected)).float(), rtol=1e-4, atol=1e-5)


def test_concatenation_stands_in_the_place_of_the_fusion(corpus: Corpus) -> None:
    pipeline, batch = build(corpus, graph="none", temporal=False, concatenate=True), corpus.batch()
    assert pipeline.weigh is None and pipeline.attend is None and not pipeline.bayes and pipeline.joined is not None
    given = pipeline.given(batch)
    vectors, present = pipeline.vectors(given), given.present
    rows = torch.cat([pipeline.project[m](vectors[m]) * present[m][:, None] for m in pipeline.modalities], 1)
    expected = torch.relu(rows @ pipeline.joined.weight.T + pipeline.joined.bias)
    here = torch.stack([present[m] for m in pipeline.modalities], 1).any(1)
    torch.testing.assert_close(pipeline(batch).states, expected * here[:, None])


@pytest.mark.parametrize("heads", [4, 6, 8, 10])
def test_heads_of_table_five(heads: int, corpus: Corpus) -> None:
    pipeline = HFF(Schema.of(corpus), HFFConfig(heads=heads))
    assert pipeline.attend is not None and all(layer.head_width == 16 for layer in pipeline.attend.attention)
    assert pipeline.eval()(corpus[0].batch()).scores.isfinite().all()


def test_the_recurrence_reads_turns_of_vectors_and_items_of_sequences(corpus: Corpus) -> None:
    assert build(corpus).read is not None and build(corpus, turns=False).read is None and build(corpus, temporal=False).read is None
    assert raw().read is None and raw(turns=True).read is not None and set(raw().pool) == set(ITEMS) and not raw(temporal=False).pool
    first = build(corpus, graph="none")  # forward: nothing from later utterances
    batch = corpus[0].batch()
    features = {name: value.clone().requires_grad_() for name, value in batch.features.items()}
    first(replace(batch, features=features)).scores[2].sum().backward()
    for value in features.values():
        assert value.grad is not None and value.grad[:3].any() and not value.grad[3:].any()


# -- sampling -------------------------------------------------------------------------------------------------------------------------


def test_noise_in_training_and_none_in_evaluation(corpus: Corpus) -> None:
    pipeline, batch = build(corpus), corpus.batch()
    assert torch.equal(pipeline(batch).scores, pipeline(batch).scores)
    pipeline.train()
    torch.manual_seed(0)
    one, two = pipeline(batch).scores, pipeline(batch).scores
    assert not torch.allclose(one, two)
    torch.manual_seed(0)
    assert torch.equal(pipeline(batch).scores, one)
    sure = build(corpus, uncertainty=False, graph="none").train()
    assert torch.equal(sure(batch).scores, sure(batch).scores)


@pytest.mark.slow
def test_training_draws_have_the_printed_moments(corpus: Corpus) -> None:
    pipeline, batch = build(corpus, attention=False, temporal=False, graph="none"), corpus[0].batch()
    fused = pipeline.fuse(pipeline.given(batch))
    pipeline.train()
    draws = torch.stack([pipeline(batch).states for _ in range(4000)]).detach() - fused.weighted.detach()  # type: ignore[misc]
    assert ((draws.mean(0) - fused.mean).abs() < 6 * fused.deviation / math.sqrt(4000) + 1e-6).all()
    torch.testing.assert_close(draws.std(0), fused.deviation.detach(), rtol=0.1, atol=1e-5)


def test_several_draws_are_the_mean_of_their_probabilities(corpus: Corpus) -> None:
    pipeline, batch = build(corpus, samples=3), corpus.batch()
    fused, noise = pipeline.fuse(pipeline.given(batch)), pipeline.draws()
    expected = torch.stack([pipeline.classify(pipeline.states(fused, each, pipeline.given(batch))).softmax(-1) for each in noise]).mean(0)
    torch.testing.assert_close(pipeline(batch).scores.exp(), expected)
    alone = torch.cat([pipeline(dialogue.batch()).scores for dialogue in corpus])
    torch.testing.assert_close(pipeline(batch).scores, alone, rtol=1e-5, atol=1e-5)
    again = build(corpus, samples=3)
    assert torch.equal(again(batch).scores, pipeline(batch).scores)


@torch.no_grad()
def test_the_divergence_is_the_penalty(corpus: Corpus) -> None:
    pipeline, batch = build(corpus, kl=0.5), corpus.batch()
    total = sum(float(layer.divergence()) for layer in pipeline.bayes.values())
    answer = pipeline(batch)
    assert float(answer.penalty) == pytest.approx(0.5 * total) and answer.penalty_reduction == "mean" and total > 0
    assert build(corpus, uncertainty=False)(batch).penalty == 0


@pytest.mark.parametrize("changes", [{"swap_noise": {"text": 0.5}}, {"modality_dropout": 0.3}])
def test_doubt_is_for_training_alone(changes: dict[str, Any], corpus: Corpus) -> None:
    pipeline, batch = build(corpus, InputsConfig(**changes), uncertainty=False), corpus.batch()
    plain = build(corpus, uncertainty=False)
    assert torch.equal(pipeline(batch).scores, plain(batch).scores)
    assert not torch.allclose(pipeline.train()(batch).scores, plain(batch).scores)


# -- sequences ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"cls": True}, {"temporal": False}, {"graph": "none"}, {"turns": True, "samples": 2}])
def test_raw_input_alone_in_any_batch_and_chunk(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, batch = raw(**changes), spoken()
    scores = pipeline(batch).scores
    assert scores.shape == (8, 3) and scores.isfinite().all()
    for i, (start, end) in enumerate(((0, 3), (3, 4), (4, 8))):
        torch.testing.assert_close(pipeline(batch.select(torch.tensor([i]))).scores, scores[start:end], rtol=1e-4, atol=1e-5)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(pipeline(batch.select(order)).scores, scores[[4, 5, 6, 7, 0, 1, 2, 3]], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(pipeline(pipeline.start_stage(0, batch)).scores, scores, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr("erc_graph.methods.hff.TOKENS", 2)
    torch.testing.assert_close(pipeline(batch).scores, scores, rtol=1e-4, atol=1e-5)


def test_gradients_reach_every_front_end() -> None:
    pipeline, batch = raw().train(), spoken()
    answer = pipeline(batch)
    (answer.scores.square().sum() + answer.penalty).backward()
    without = [name for name, p in pipeline.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []
    dead = {name for name, p in pipeline.named_parameters() if p.grad is not None and not p.grad.any()}
    assert not {name for name in dead if name.startswith(("front", "images", "convolve", "pool", "bayes"))}


def test_nothing_at_all_gives_a_prediction() -> None:
    pipeline = raw(graph="none")
    empty = {name: Ragged(value.values[:0], torch.zeros(9, dtype=torch.long)) for name, value in spoken().sequences.items()}
    batch = replace(spoken(), sequences=empty)
    scores = pipeline(batch).scores
    assert scores.isfinite().all() and torch.equal(scores, scores[:1].expand_as(scores))
    assert all((share == 0).all() for share in pipeline.trust(batch).values())


def test_words_with_cls_are_the_first_and_the_mean() -> None:
    pipeline, batch = raw(cls=True), spoken(missing=False)
    found = pipeline.vectors(pipeline.given(batch))["text"]
    front = pipeline.front["text"]
    for row in range(8):
        words = batch.sequences["text"][row]
        states = front(words[None], torch.ones(1, len(words), dtype=torch.bool))[0][0]
        torch.testing.assert_close(found[row], torch.cat([states[0], states.mean(0)]))


def test_a_mixture_of_sequences_and_vectors(corpus: Corpus) -> None:
    vectors = corpus.features["text"]
    words = Ragged(vectors.repeat_interleave(2, 0), 2 * torch.arange(len(vectors) + 1))
    both = replace(corpus, sequences={"text": words})
    pipeline = HFF(Schema.of(both, reads=HFF.reads), HFFConfig(**SMALL)).eval()
    assert set(pipeline.schema.sequences) == {"text"} and set(pipeline.schema.widths) == {"audio", "visual"} and pipeline.read is None
    alone = torch.cat([pipeline(pipeline.schema.batch(dialogue.corpus)).scores for dialogue in both])
    torch.testing.assert_close(pipeline(pipeline.schema.batch(both)).scores, alone, rtol=1e-5, atol=1e-5)


# -- as a graph, saved, resumed, refused ----------------------------------------------------------------------------------------------


def test_the_graph_is_over_the_fused_vectors(corpus: Corpus) -> None:
    pipeline = build(corpus)
    graph = Pipeline(pipeline).graph(corpus[0])
    assert graph is not None and graph.node_types == ["fused"] and len(graph["fused"].x) == len(corpus[0])
    assert Pipeline(build(corpus, graph="none")).graph(corpus[0]) is None and operators(build(corpus, graph="none")) == {}


def test_it_learns_and_a_resumed_run_equals_an_uninterrupted_one(corpus: Corpus, tmp_path: Path) -> None:
    config = TrainingConfig(epochs=4, batch_size=3, learning_rate=3e-3, decay="decoupled", schedule="plateau", plateau=0, patience=5)
    options: dict[str, Any] = {"seed": 3, "device": "cpu", "quiet": True}
    parts = corpus.split("train").batch(), corpus.split("dev").batch()
    whole = build(corpus, InputsConfig(modality_dropout=0.2))
    expected = fit(whole, *parts, config, folder=tmp_path / "whole", **options)
    assert expected.stages[0].epochs[-1].loss < expected.stages[0].epochs[0].loss
    killed = build(corpus, InputsConfig(modality_dropout=0.2))

    def stop(history: Any) -> None:
        if len(history.stages[0].epochs) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(killed, *parts, config, folder=tmp_path / "killed", on_epoch=stop, **options)
    resumed = HFF(whole.schema, whole.config, inputs=whole.inputs_config)
    assert fit(resumed, *parts, config, folder=tmp_path / "killed", resume=True, **options) == expected
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in resumed.state_dict().items())


def test_raw_input_is_saved_and_read(tmp_path: Path) -> None:
    pipeline, batch = raw(samples=2), spoken()
    Pipeline(pipeline).save_pretrained(tmp_path / "model")
    again = Pipeline.from_pretrained(tmp_path / "model").method
    assert isinstance(again, HFF) and torch.equal(again(batch).scores, pipeline(batch).scores)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 7}, r"pipeline\.width: expected an even number of 2 or more .*, found 7"),
        ({"heads": 0, "layers": 0}, r"(?s)pipeline\.layers.*pipeline\.heads"),
        ({"kl": -1.0}, r"pipeline\.kl: expected a number of 0 or more"),
        ({"epsilon": 0.0}, r"pipeline\.epsilon: expected a number above 0"),
        ({"samples": 2, "uncertainty": False}, r"pipeline\.samples: expected 0, or a number above 0 if uncertainty"),
        (
            {"samples": 2, "concatenate": True},
            r"pipeline\.samples: expected 0, or a number above 0 if uncertainty is true and concatenate is false",
        ),
        ({"samples": -1}, r"pipeline\.samples: expected 0, or a number above 0 if"),
        ({"attend": "turns", "causal": True}, r"pipeline\.causal: expected false with attend = 'turns', which reads later utterances"),
    ],
)
def test_impossible_values_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        HFFConfig(**values)


def test_a_modality_with_the_name_of_the_fused_stream() -> None:
    assert HFF(Schema(widths={"fused": 3}, task=TASK), HFFConfig(**SMALL)).modalities == ("fused",)


@pytest.mark.parametrize("attend", ["modalities", "turns"])
def test_causal_reads_no_later_turns(attend: Any, corpus: Corpus) -> None:
    pipeline = build(corpus, causal=True, attend=attend, attention=attend == "modalities")
    assert pipeline.causal and not pipeline.utterance_level and not build(corpus).causal
    batch = corpus[0].batch()
    features = {name: value.clone().requires_grad_() for name, value in batch.features.items()}
    pipeline(replace(batch, features=features)).scores[2].sum().backward()
    for value in features.values():
        assert value.grad is not None and value.grad[:3].any() and not value.grad[3:].any()


def test_an_unknown_graph_and_an_unknown_modality(corpus: Corpus) -> None:
    with pytest.raises(ConfigError, match="unknown name 'nonsense'"):
        build(corpus, graph="nonsense")
    with pytest.raises(ConfigError, match=r"inputs\.speaker_relative: expected modalities of the corpus .*, found 'sound'"):
        build(corpus, InputsConfig(speaker_relative=["sound"]))


@pytest.mark.parametrize("layout", ["auto", "tiled", "list"])
@pytest.mark.parametrize("recipe", WINDOWED)
def test_any_recipe_and_layout_takes_a_step(recipe: str, layout: Any) -> None:
    pipeline, batch = raw(graph=recipe).train(), spoken()
    assert pipeline.conversation.conv is not None
    pipeline.conversation.conv.layout = layout
    answer = pipeline(batch)
    torch.nn.functional.cross_entropy(answer.scores, batch.target).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in pipeline.conversation.parameters())
    assert any(p.grad is not None and p.grad.any() for p in pipeline.conversation.conv.parameters())


@pytest.mark.parametrize("samples", [1, 399, 400, 401, 16_000])
def test_silence_and_sound_shorter_than_a_window(samples: int) -> None:
    pipeline, batch = raw(), spoken()
    waves = Ragged.of([torch.zeros(samples) for _ in range(8)])
    quiet = replace(batch, sequences={**batch.sequences, "audio": waves})
    assert pipeline(quiet).scores.isfinite().all() and (pipeline.trust(quiet)["audio"] > 0).all()
