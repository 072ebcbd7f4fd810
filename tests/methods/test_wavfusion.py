"""WavFusion on sound, words and faces: laws, missing modalities, frozen layers, what it says about itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.corpus import Corpus
from erc_graph.data.ragged import Ragged
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.data.tasks import TASKS
from erc_graph.encoders.wav2vec import Wav2vecConfig
from erc_graph.errors import CheckpointError, ConfigError
from erc_graph.inference.graphs import operators
from erc_graph.inference.pipeline import Pipeline
from erc_graph.methods.base import Method
from erc_graph.methods.conversation import ConversationConfig
from erc_graph.methods.ensemble import Ensemble
from erc_graph.methods.schema import Schema
from erc_graph.methods.stage import infer
from erc_graph.methods.wavfusion import SHALLOW, WavFusion, WavFusionConfig
from erc_graph.training.config import TrainingConfig
from erc_graph.training.loop import fit
from erc_graph.training.losses import Criterion
from tests.conv.angular.test_angular import WINDOWED

ITEMS: dict[str, tuple[int, ...]] = {"audio": (), "text": (5,), "visual": (3, 8, 8)}
EXTRACTOR = {"channels": 6, "positions": 4, "position_groups": 2}
SOUND = Wav2vecConfig(width=12, layers=3, heads=2, feedforward=16, extractor=EXTRACTOR)
EMOTIONS = TASKS["meld7"]


def raw(dialogues: int = 4, items: dict[str, tuple[int, ...]] | None = None, *, missing: bool = True) -> Corpus:
    """Random waveforms, words and faces; every fourth utterance lacks one of them, every twelfth another too."""
    corpus = sample_corpus(dialogues=dialogues, seed=3)
    random = torch.Generator().manual_seed(dialogues)
    sequences = {}
    for index, (name, item) in enumerate((items or ITEMS).items()):
        lengths = [
            0 if missing and row % 4 == index else int(torch.randint(1, 5, (), generator=random)) * (1 if item else 400)
            for row in range(corpus.utterances)
        ]
        values = torch.randn(sum(lengths), *item, generator=random)
        values = (40 * values + 128).clamp(0, 255).byte() if len(item) > 1 else values
        sequences[name] = Ragged(values, torch.tensor([0, *lengths]).cumsum(0))
    return replace(corpus, features={}, present={}, sequences=sequences)


def little(**changes: Any) -> WavFusionConfig:
    values = {
        "width": 8, "heads": 2, "codes": 3, "hidden": 8, "deep": 2, "wav2vec": SOUND,
        "conversation": ConversationConfig(width=6),
    }  # fmt: skip
    return WavFusionConfig(**{**values, **changes})


def make(corpus: Corpus, modalities: tuple[str, ...] | None = None, **changes: Any) -> WavFusion:
    torch.manual_seed(5)
    method = WavFusion(Schema.of(corpus, modalities, WavFusion.reads), little(**changes))
    method.fit_inputs(method.schema.batch(corpus))
    return method


CASES: dict[str, dict[str, Any]] = {
    "all": {},
    "none": {"graph": "none"},
    "concat": {"deep": 0},
    "all deep": {"deep": 3},
    "no lvc": {"lvc": []},
    "large": {"wav2vec": replace(SOUND, extractor={**EXTRACTOR, "norm": "layer", "norm_first": True, "bias": True})},
    "mfcc": {"sound": "mfcc"},
    "audio": {"modalities": ("audio",)},
    "text": {"modalities": ("text",)},
    "visual": {"modalities": ("visual",)},
    "audio+text": {"modalities": ("audio", "text")},
    "text+visual": {"modalities": ("text", "visual")},
    "text+visual concat": {"modalities": ("text", "visual"), "deep": 0},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_alone_in_any_batch_in_any_order_and_in_any_chunks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = raw()
    method = make(corpus, **CASES[name]).double().eval()
    batch = doubled(method.schema.batch(corpus))
    whole = method(batch).scores
    assert whole.shape == (corpus.utterances, 6) and whole.isfinite().all()
    rows = batch.row.split(list(batch.sizes))
    for i in range(len(batch)):
        torch.testing.assert_close(method(batch.select(torch.tensor([i]))).scores, whole[rows[i]], rtol=1e-8, atol=1e-9)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(method(batch.select(order)).scores, whole[torch.cat([rows[i] for i in order])], rtol=1e-8, atol=1e-9)
    monkeypatch.setattr("erc_graph.methods.wavfusion.SECONDS", 1)  # a few utterances at a time
    monkeypatch.setattr("erc_graph.methods.wavfusion.SAMPLING_RATE", 1600)
    monkeypatch.setattr("erc_graph.methods.wavfusion.FRAMES", 5)
    torch.testing.assert_close(method(batch).scores, whole, rtol=1e-8, atol=1e-9)


def doubled(batch: Batch) -> Batch:
    """In float64, where it is not bytes."""
    values = {name: v.values.double() if v.values.is_floating_point() else v.values for name, v in batch.sequences.items()}
    return replace(batch, sequences={name: Ragged(values[name], v.ptr) for name, v in batch.sequences.items()})


@pytest.mark.parametrize("name", CASES)
def test_every_parameter_learns(name: str) -> None:
    corpus = raw()
    method = make(corpus, **CASES[name]).train()
    batch = method.schema.batch(corpus)
    answer = method(batch)
    (Criterion(corpus.task, TrainingConfig(), batch)(answer.scores, batch) + answer.penalty).backward()
    silent = "silence" if name in ("audio", "text", "visual", "concat", "text+visual concat") else ""
    lazy = [key for key, p in method.named_parameters() if (p.grad is None or not p.grad.any()) and key != silent]
    # A key's bias moves all logits of a query alike; the bias of the last norm's layer is spent.
    assert [key for key in lazy if not key.endswith("key.bias")] == []


def test_a_modality_that_is_not_there_counts_as_missing_and_says_nothing() -> None:
    corpus = raw()
    method = make(corpus).eval()
    batch = method.schema.batch(corpus)
    gone = {name: Ragged(value.values[:0], torch.zeros_like(value.ptr)) for name, value in batch.sequences.items()}
    for name in ITEMS:
        assert method(replace(batch, sequences={**batch.sequences, name: gone[name]})).scores.isfinite().all()
    nothing = method(replace(batch, sequences=gone))
    assert nothing.scores.isfinite().all()
    assert [row.emotion for row in Pipeline(method).predict(replace(corpus, sequences={"text": corpus.sequences["text"]}))]


def test_the_gate_is_what_trust_says() -> None:
    corpus = raw()
    method = make(corpus)
    batch = method.schema.batch(corpus)
    shares = method.trust(batch)
    assert set(shares) == {"text", "visual"} and method.training
    text, visual = (corpus.sequences[name].present for name in ("text", "visual"))
    total = shares["text"] + shares["visual"]
    torch.testing.assert_close(total, (text | visual).float())
    assert not shares["text"][~text].any() and not shares["visual"][~visual].any() and (shares["text"][text & ~visual] > 0.999).all()
    assert make(corpus, ("audio", "text")).trust(batch) == {} and make(corpus, deep=0).trust(batch) == {}


def test_only_the_graph_looks_at_other_turns() -> None:
    corpus = raw(missing=False)
    for graph, recurrent, hears in (("none", True, False), ("speaker", False, True), ("causal", False, True)):
        method = make(corpus, graph=graph, conversation=ConversationConfig(width=32, recurrent=recurrent)).eval()
        batch = method.schema.batch(corpus).select(torch.tensor([0]))
        words = batch.sequences["text"]
        values = words.values.clone().requires_grad_()
        states = method(replace(batch, sequences={**batch.sequences, "text": Ragged(values, words.ptr)})).states
        assert states is not None
        states[3].square().sum().backward()
        assert values.grad is not None
        moved = torch.stack([part.abs().sum() for part in values.grad.split(list(words.sizes))]) > 0
        assert moved[3] and bool(moved[:3].any()) is hears and bool(moved[4:].any()) is (hears and not method.causal)
    assert make(corpus, graph="none").causal and not make(corpus, graph="causal").causal


@pytest.mark.parametrize("graph", [*WINDOWED, "edm_inertia", "none"])
def test_the_graph_of_any_recipe(graph: str) -> None:
    corpus = raw()
    method = make(corpus, graph=graph)
    found = Pipeline(method).graph(corpus[0])
    if graph == "none":
        assert found is None and operators(method) == {} and method.graph is None
    else:
        assert found is not None and found.node_types == ["fused"] and set(operators(method)) == {"conversation"}
        assert found["fused"].num_nodes == len(corpus[0])
    assert method.training
    method(method.schema.batch(corpus)).scores.sum().backward()


def test_the_margin_loss_counts_labelled_utterances_and_modalities_that_are_there() -> None:
    corpus = raw()
    method = make(corpus, margin_weight=2.0, dropout=0.0)
    batch = replace(method.schema.batch(corpus), judged=torch.arange(corpus.utterances) % 3 > 0)
    batch = replace(batch, target=torch.where(torch.arange(corpus.utterances) % 5 > 0, batch.target, -1))
    samples: list[tuple[str, int, Tensor]] = []
    sound, others = method.frames(batch), method.states(batch)
    for name, frames in {"audio": sound, **others}.items():
        for row in range(corpus.utterances):
            if batch.judged[row] and batch.target[row] >= 0 and len(corpus.sequences[name][row]):
                vector = method.shared(method.project[name](frames[row].mean(0)))
                samples.append((name, int(batch.target[row]), vector / vector.norm()))
    total, count = torch.zeros(()), 0
    for m, c, x in samples:
        near = [other for n, d, other in samples if n != m and d == c]
        far = [other for n, d, other in samples if n == m and d != c]
        if near and far:
            total = total + (0.2 - (torch.stack(near) @ x)[:, None] + torch.stack(far) @ x).clamp(min=0).sum()
            count += len(near) * len(far)
    torch.testing.assert_close(method(batch).penalty, 2 * total / count, rtol=1e-4, atol=1e-5)
    assert method.eval()(batch).penalty == 0.0
    for other in (make(corpus, ("text",)), make(corpus, margin_weight=0.0)):
        assert other.train()(batch).penalty == 0.0 and not other.project


def test_a_score_task_has_no_margin_loss() -> None:
    schema = Schema(widths={}, sequences=ITEMS, task=TASKS["sentiment"])
    assert not WavFusion(schema, little()).project


# -- frozen layers ----------------------------------------------------------------------------------------------------------------


def split(method: Method, corpus: Corpus) -> tuple[Batch, Batch]:
    train, dev = (method.schema.batch(corpus.split(part)) for part in ("train", "dev"))
    return train, dev


TRAINING = TrainingConfig(epochs=2, batch_size=2, learning_rate=0.01)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return raw(10)


def trained(corpus: Corpus, **changes: Any) -> WavFusion:
    method = make(corpus, **changes)
    fit(method, *split(method, corpus), TRAINING, seed=1, device="cpu", quiet=True)
    return method


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def test_frozen_layers_do_not_move_and_are_asked_once(corpus: Corpus) -> None:
    before = make(corpus, frozen=True)
    asked: list[int] = []
    method = make(corpus, frozen=True)
    method.shallow.register_forward_hook(lambda *_: asked.append(1))  # type: ignore[union-attr]
    batches = split(method, corpus)
    fit(method, *batches, TRAINING, seed=1, device="cpu", quiet=True)
    assert same(method.shallow, before.shallow) and not same(method.deep, before.deep)  # type: ignore[arg-type]
    assert len(asked) == 2  # training and development part
    cached = method.start_stage(0, batches[0])
    assert cached.sequences[SHALLOW].item == (12,)
    torch.testing.assert_close(method.eval()(cached).scores, method(batches[0]).scores)
    uncached = make(corpus, frozen=True)
    uncached.keep = lambda index, batch: batch  # type: ignore[method-assign]
    fit(uncached, *batches, TRAINING, seed=1, device="cpu", quiet=True)
    for one, other in zip(uncached.state_dict().values(), method.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    assert not same(trained(corpus).shallow, before.shallow)  # type: ignore[arg-type]


def test_cepstral_coefficients_are_computed_once(corpus: Corpus) -> None:
    method = make(corpus, sound="mfcc").eval()
    batch = method.schema.batch(corpus)
    started = method.start_stage(0, batch)
    assert started.sequences["audio"].item == (40,)
    torch.testing.assert_close(method(started).scores, method(batch).scores, rtol=1e-4, atol=1e-5)


def test_members_of_an_ensemble_have_frames_of_their_own(corpus: Corpus) -> None:
    members = [WavFusion(Schema.of(corpus, reads=WavFusion.reads), little(frozen=True)) for _ in range(2)]
    together = Ensemble(members).eval()
    together.fit_inputs(members[0].schema.batch(corpus))
    batch = members[0].schema.batch(corpus)
    torch.testing.assert_close(together(together.start_stage(0, batch)).scores, together(batch).scores, rtol=1e-4, atol=1e-5)


def test_checkpointing_changes_no_gradient(corpus: Corpus) -> None:
    found = []
    for checkpointing in (False, True):
        method = make(corpus, checkpointing=checkpointing).train()
        torch.manual_seed(3)  # of dropout
        batch = method.schema.batch(corpus.split("dev"))
        (method(batch).scores.square().mean() + method(batch).penalty).backward()
        found.append([p.grad for p in method.parameters() if p.grad is not None])
    torch.testing.assert_close(found[0], found[1])


def test_same_seed_same_result_and_a_continued_run_is_an_uninterrupted_one(corpus: Corpus, tmp_path: Path) -> None:
    one, two = trained(corpus), trained(corpus)
    assert same(one, two)
    stopped, steps = make(corpus), [0]

    def stop(module: torch.nn.Module, *_: Any) -> None:
        steps[0] += module.training
        if steps[0] == 5:
            raise KeyboardInterrupt

    handle = stopped.classify.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, *split(stopped, corpus), TRAINING, seed=1, folder=tmp_path, device="cpu", quiet=True)
    handle.remove()
    fit(stopped, *split(stopped, corpus), TRAINING, seed=1, folder=tmp_path, resume=True, device="cpu", quiet=True)
    assert same(stopped, one)


def test_bfloat16_is_near(corpus: Corpus) -> None:
    method = make(corpus).train()
    batch = method.schema.batch(corpus.split("dev"))
    method.eval()
    expected = method(batch).scores
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = method(batch).scores
        method.train()(batch).scores.float().sum().backward()
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.05 * float(expected.detach().abs().max()))
    mixed = replace(TRAINING, epochs=1, mixed_precision="bf16")
    fit(method, *split(method, corpus), mixed, seed=1, device="cpu", quiet=True)


def test_inference_in_parts(corpus: Corpus) -> None:
    method = make(corpus)
    batch = method.schema.batch(corpus)
    torch.testing.assert_close(infer(method, batch, 2).scores, infer(method, batch, 99).scores, rtol=1e-4, atol=1e-5)


# -- pretrained -------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformers = pytest.importorskip("transformers")
    path = tmp_path_factory.mktemp("wav2vec")
    torch.manual_seed(2)
    config = transformers.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=20, conv_dim=(8,) * 7, num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2, do_stable_layer_norm=True, feat_extract_norm="layer", conv_bias=True,
    )  # fmt: skip
    transformers.Wav2Vec2Model(config).save_pretrained(path)
    return path


def test_it_begins_as_the_pretrained_model_and_is_saved_without_it(folder: Path, tmp_path: Path) -> None:
    from transformers import Wav2Vec2Model

    corpus = raw()
    method = make(corpus, deep=2, wav2vec=Wav2vecConfig(folder=str(folder)))
    model = Wav2Vec2Model.from_pretrained(folder).eval()
    assert method.config.frozen and not any(p.requires_grad for p in method.shallow.parameters())  # type: ignore[union-attr]
    wave = corpus.sequences["audio"][1]
    scaled = (wave - wave.mean()) / (wave.var(correction=0) + 1e-7).sqrt()
    with torch.no_grad():
        expected = model(scaled[None], output_hidden_states=True).hidden_states[1][0]
        torch.testing.assert_close(method.frames(method.schema.batch(corpus))[1], expected, rtol=1e-3, atol=1e-4)
    for own, other in zip(method.deep, model.encoder.layers[1:], strict=True):
        assert torch.equal(own.norms[1].weight, other.final_layer_norm.weight)
        assert torch.equal(own.feedforward[3].weight, other.feed_forward.output_dense.weight)
    assert torch.equal(method.final.weight, model.encoder.layer_norm.weight)

    alone = make(corpus, ("audio",), deep=1, wav2vec=Wav2vecConfig(folder=str(folder)), graph="none").eval()
    with torch.no_grad():  # sound alone is the model as it is
        expected = model(scaled[None]).last_hidden_state[0].mean(0)
        torch.testing.assert_close(alone(alone.schema.batch(corpus)).states[1], expected, rtol=1e-3, atol=1e-4)  # type: ignore[index]

    Pipeline(method).save_pretrained(tmp_path / "model")
    again = Pipeline.from_pretrained(tmp_path / "model")
    assert str(folder) not in (tmp_path / "model" / "config.json").read_text()
    assert isinstance(again.method, WavFusion) and again.method.config == method.config
    assert again.predict(corpus) == Pipeline(method).predict(corpus)


def test_frames_of_another_model_go_into_the_deep_layers(folder: Path) -> None:
    corpus = raw(items={"audio": (7,), "text": (5,)})
    method = make(corpus, wav2vec=Wav2vecConfig(folder=str(folder)))
    frames = method.frames(method.schema.batch(corpus))
    assert frames.item == (16,) and frames.sizes == corpus.sequences["audio"].sizes and frames.values.requires_grad
    assert method.start_stage(0, method.schema.batch(corpus)).sequences.keys() == {"audio", "text"}


def test_what_cannot_be() -> None:
    schema = Schema(widths={}, sequences=ITEMS, task=EMOTIONS)
    with pytest.raises(ConfigError, match=r"pipeline.deep: expected at most 3, the number of layers of wav2vec 2.0, found 4"):
        WavFusion(schema, little(deep=4))
    with pytest.raises(ConfigError, match=r"(?s)pipeline.deep.*pipeline.margin_weight.*pipeline.dropout"):
        WavFusionConfig(deep=-1, margin_weight=-1.0, dropout=1.0)
    with pytest.raises(CheckpointError, match=r"speech model './nowhere': no such folder"):
        WavFusion(schema, little(wav2vec=Wav2vecConfig(folder="./nowhere")))
    with pytest.raises(ConfigError, match="unknown name 'nonsense'"):
        WavFusion(schema, little(graph="nonsense"))
    with pytest.raises(ConfigError, match=r"AngularConv: graph recipe .m3net.: expected only edges, found a"):
        WavFusion(schema, little(graph="m3net"))
    with pytest.raises(ConfigError, match="has no sequences"):
        Schema.of(sample_corpus(dialogues=3), reads=WavFusion.reads)
