from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import erc_graph
from erc_graph.data.batch import Batch
from erc_graph.data.corpus import Corpus
from erc_graph.data.ragged import Ragged
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.data.tasks import TASKS
from erc_graph.errors import CheckpointError, ConfigError
from erc_graph.inference.pipeline import Pipeline
from erc_graph.methods import METHODS
from erc_graph.methods.base import Method
from erc_graph.methods.bigru import BiGRU, BiGRUConfig
from erc_graph.methods.ensemble import Ensemble
from erc_graph.methods.inputs import Given, Shapes
from erc_graph.methods.pairwise import MalConfig, MffConfig, Pairwise, PairwiseConfig, PmfConfig
from erc_graph.methods.schema import Schema
from erc_graph.training.config import TrainingConfig
from erc_graph.training.loop import fit

TRAINING = TrainingConfig(epochs=3, batch_size=4, learning_rate=0.01, weight_decay=1e-3, clip=0.5, schedule="cosine", selection="last")


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return sample_corpus(dialogues=12, seed=1)


def pairwise(dropout: float = 0.0, **changes: Any) -> PairwiseConfig:
    parts = {
        "pmf": PmfConfig(width=6, dropout=dropout, density=0.01),
        "mff": MffConfig(width=4, dropout=dropout),
        "mal": MalConfig(width=5, heads=2, hidden=6, dropout=dropout, density=0.02),
    }
    return PairwiseConfig(**{**parts, **changes})


# Networks without dropout: with it, members draw their masks one after the other.
CASES: dict[str, tuple[type[Method], Any]] = {
    "bigru": (BiGRU, BiGRUConfig(width=8, dropout=0.0)),
    "pairwise": (Pairwise, pairwise()),
    "joint": (Pairwise, pairwise(stages="joint")),
    "sum of density": (Pairwise, pairwise(stages="joint", density_reduction="sum")),
}


def networks(name: str, corpus: Corpus, count: int = 3) -> list[Method]:
    kind, config = CASES[name]
    torch.manual_seed(5)
    return [kind(Schema.of(corpus, ("audio", "text")), config) for _ in range(count)]


def ensemble(name: str, corpus: Corpus, count: int = 3) -> Ensemble:
    found = Ensemble(networks(name, corpus, count))
    found.fit_inputs(corpus.split("train").batch(found.schema.widths))
    return found


def train(method: Method | Ensemble, corpus: Corpus, config: TrainingConfig = TRAINING, **options: Any) -> Any:
    parts = (corpus.split(name).batch(method.schema.widths) for name in ("train", "dev"))
    return fit(method, *parts, config, **{"seed": 3, "device": "cpu", "quiet": True, **options})


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", CASES)
def test_members_end_where_networks_trained_alone_end(name: str, corpus: Corpus) -> None:
    """Losses, penalties, auxiliary losses, both stages, weight decay and gradient clipping, bit for bit."""
    together, alone = ensemble(name, corpus), networks(name, corpus)
    history = train(together, corpus)
    losses = []
    for member, network in zip(together.networks, alone, strict=True):
        network.fit_inputs(corpus.split("train").batch(network.schema.widths))
        before = {key: value.clone() for key, value in network.state_dict().items()}
        losses.append([[epoch.loss for epoch in stage.epochs] for stage in train(network, corpus).stages])
        assert same(member.state_dict(), network.state_dict())
        assert not same(member.state_dict(), before)
    for stage, alone_losses in zip(history.stages, zip(*losses, strict=True), strict=True):
        expected = torch.tensor(alone_losses).mean(0)
        torch.testing.assert_close(torch.tensor([epoch.loss for epoch in stage.epochs]), expected, rtol=1e-5, atol=1e-6)


def test_clipping_was_at_work(corpus: Corpus) -> None:
    clipped, free = ensemble("bigru", corpus), ensemble("bigru", corpus)
    train(clipped, corpus)
    train(free, corpus, replace(TRAINING, clip=0.0))
    assert not same(clipped.state_dict(), free.state_dict())


@pytest.mark.parametrize("name", CASES)
def test_probabilities_are_the_mean_of_the_members(name: str, corpus: Corpus) -> None:
    together, batch = ensemble(name, corpus).eval(), corpus.batch()
    answer = together(batch)
    each = [member(batch) for member in together.networks]
    expected = torch.stack([one.scores.softmax(-1) for one in each]).mean(0)
    torch.testing.assert_close(answer.scores.softmax(-1), expected)
    torch.testing.assert_close(answer.scores.exp().sum(-1), torch.ones(batch.utterances))  # logarithms of probabilities
    assert answer.states.shape == (batch.utterances, 3 * each[0].states.shape[1])
    said = [row.probabilities for row in Pipeline(together).predict(corpus)]
    torch.testing.assert_close(torch.tensor([list(row.values()) for row in said]), expected, rtol=1e-4, atol=1e-5)


def test_scores_are_averaged() -> None:
    corpus = replace(sample_corpus(dialogues=4, seed=1), task=TASKS["sentiment"])
    members = [BiGRU(Schema.of(corpus), BiGRUConfig(width=4)) for _ in range(3)]
    together, batch = Ensemble(members).eval(), corpus.batch()
    torch.testing.assert_close(together(batch).scores, sum(member(batch).scores for member in members) / 3)


def test_the_development_figures_are_those_of_the_ensemble(corpus: Corpus) -> None:
    together = ensemble("pairwise", corpus)
    history = train(together, corpus, replace(TRAINING, selection="dev"))
    dev = corpus.split("dev")
    answers = together.eval()(dev.batch(together.schema.widths)).scores.argmax(-1)
    assert history.dev["accuracy"] == pytest.approx(float((answers == dev.target)[dev.target >= 0].float().mean()))


def test_each_member_reads_what_it_has_put_into_the_cache(corpus: Corpus) -> None:
    together, batch = ensemble("pairwise", corpus).eval(), corpus.batch()
    index = len(together.stages()) - 1
    assert together.start_stage(0, batch) is batch
    cached = together.start_stage(index, batch)
    assert len(cached.cache) == 3
    torch.testing.assert_close(together.stages()[index].forward(cached).scores, together(batch).scores)
    broken = cached.with_cache({name: value * (not name.startswith("1")) for name, value in cached.cache.items()})
    changed = [not torch.equal(a.scores, b.scores) for a, b in zip(together(broken).members, together(cached).members, strict=True)]
    assert changed == [False, True, False]


@pytest.mark.parametrize("name", ["bigru", "pairwise"])
def test_resumed_equals_uninterrupted(name: str, corpus: Corpus, tmp_path: Path) -> None:
    def make() -> Ensemble:
        kind, config = CASES[name]
        config = pairwise(dropout=0.3) if name == "pairwise" else replace(config, dropout=0.3)
        torch.manual_seed(6)
        found = Ensemble([kind(Schema.of(corpus, ("audio", "text")), config) for _ in range(2)])
        found.fit_inputs(corpus.split("train").batch(found.schema.widths))
        return found

    config = replace(TRAINING, selection="dev", ema=0.5)
    whole, killed, epochs = make(), make(), [0]
    expected = train(whole, corpus, config, folder=tmp_path / "whole")

    def stop(*_: Any) -> None:
        epochs[0] += 1
        if epochs[0] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(killed, corpus, config, folder=tmp_path / "killed", on_epoch=stop)
    torch.rand(7)
    again = Ensemble([type(whole.networks[0])(whole.schema, whole.config) for _ in range(2)])
    assert train(again, corpus, config, folder=tmp_path / "killed", resume=True) == expected
    assert same(again.state_dict(), whole.state_dict())
    stored = Pipeline.from_pretrained(tmp_path / "killed").method
    assert isinstance(stored, Ensemble) and same(stored.state_dict(), whole.state_dict())


@pytest.mark.parametrize("name", ["bigru", "pairwise"])
def test_it_comes_back(name: str, corpus: Corpus, tmp_path: Path) -> None:
    together = ensemble(name, corpus)
    Pipeline(together).save_pretrained(tmp_path / "model")
    found = Pipeline.from_pretrained(tmp_path / "model").method
    assert isinstance(found, Ensemble) and len(found.networks) == 3 and not found.training
    assert found.config == together.config and found.schema == together.schema
    assert all(member.config == together.config for member in found.networks)
    assert Pipeline(found).predict(corpus) == Pipeline(together).predict(corpus)
    assert found.inputs_config == together.inputs_config and found.prior_config == together.prior_config


def save_with_members(count: object, corpus: Corpus, folder: Path) -> None:
    """Save an ensemble whose file says another number of members."""
    Pipeline(ensemble("bigru", corpus)).save_pretrained(folder)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "members": count}))


@pytest.mark.parametrize("count", [0, -1, 10**9, True, "3", None, 2.0])
def test_a_file_with_another_number_of_members_is_refused(count: object, corpus: Corpus, tmp_path: Path) -> None:
    save_with_members(count, corpus, tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"members"):
        Pipeline.from_pretrained(tmp_path / "model")


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_file_with_weights_of_more_or_fewer_members_is_refused(count: int, corpus: Corpus, tmp_path: Path) -> None:
    save_with_members(count, corpus, tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"the weights do not fit the description"):
        Pipeline.from_pretrained(tmp_path / "model")


def test_every_member_has_graphs_of_its_own(corpus: Corpus) -> None:
    together = ensemble("pairwise", corpus, 2)
    graphs = Pipeline(together).graphs(corpus[0])
    assert list(graphs) == [f"{part} ({i})" for i in (1, 2) for part in ("audio+text", "fused")]
    for i, member in enumerate(together.networks, 1):
        for part, graph in Pipeline(member).graphs(corpus[0]).items():
            for kind in graph.edge_types:
                assert torch.equal(graphs[f"{part} ({i})"][kind].edge_weight, graph[kind].edge_weight)
    assert Pipeline(ensemble("bigru", corpus)).graph(corpus[0]) is None


def test_trust_is_the_members_mean(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    together, batch = ensemble("bigru", corpus), corpus.batch()
    assert together.trust(batch) == {}
    for share, member in zip((0.1, 0.2, 0.6), together.networks, strict=True):
        monkeypatch.setattr(
            member, "trust", lambda batch, share=share: {"text": torch.full((3,), share), "audio": torch.full((3,), 1 - share)}
        )
    torch.testing.assert_close(together.trust(batch), {"text": torch.full((3,), 0.3), "audio": torch.full((3,), 0.7)})


def test_it_is_explained(corpus: Corpus) -> None:
    together, dialogue = ensemble("pairwise", corpus, 2).eval(), corpus[0]
    found = erc_graph.explain(together, dialogue, 1)
    assert list(found.graphs) == [f"{part} ({i})" for i in (1, 2) for part in ("audio+text", "fused")]
    chance = together(dialogue.batch(together.schema.widths)).scores.softmax(-1)[1].max().item()
    assert found.probability == pytest.approx(chance, abs=1e-5)
    assert abs(found.edge_gap) < 0.02 and abs(found.input_gap) < 0.02


def test_it_listens_where_its_members_do(corpus: Corpus) -> None:
    reads = Schema.of(corpus, ("audio", "text"))
    config = pairwise(graph="causal_window", causal=True)
    together = Ensemble([Pairwise(reads, config) for _ in range(2)]).eval()
    assert together.causal
    dialogue = corpus[0]
    stream = Pipeline(together).stream()
    batch = dialogue.batch(reads.widths)
    for row, expected in enumerate(together(batch).scores):
        features = {name: batch.features[name][row] for name in reads.widths if batch.present[name][row]}
        torch.testing.assert_close(torch.tensor(stream.push(dialogue.speakers[row], features).scores), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(
        ConfigError,
        match=r"expected a model that uses no later utterances, found one whose modules fusion.audio.text.encode.audio, .* use them; train",
    ):
        Pipeline(ensemble("pairwise", corpus)).stream()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_have_members(name: str, corpus: Corpus, readable: Callable[[Corpus, str], Corpus]) -> None:
    corpus = readable(corpus, name)
    members = [METHODS[name](Schema.of(corpus, reads=METHODS[name].reads)) for _ in range(2)]
    together = Ensemble(members)
    assert together.task is corpus.task
    for stage, own in zip(together.stages(), members[1].stages(), strict=True):
        assert stage.name == own.name
        weights: Callable[[Any], set[int]] = lambda module: {id(p) for p in module.parameters()}  # noqa: E731
        assert weights(stage.module) >= weights(own.module) and len(stage.parts) == 2
    assert len(Pipeline(together).predict(corpus[0])) == len(corpus[0])


def test_members_read_sequences(corpus: Corpus, tmp_path: Path) -> None:
    words = Ragged.of([vector + torch.randn(1 + row % 3, 16) for row, vector in enumerate(corpus.features["text"])])
    spoken = replace(corpus, features={}, present={}, sequences={"text": words})
    reads = Schema.of(spoken, reads=BiGRU.reads)
    torch.manual_seed(5)
    together = [BiGRU(reads, BiGRUConfig(width=8, dropout=0.0)) for _ in range(2)]
    alone = [BiGRU(reads, BiGRUConfig(width=8, dropout=0.0)) for _ in range(2)]
    for network, member in zip(alone, together, strict=True):
        network.load_state_dict(member.state_dict())
    parts = [reads.batch(spoken.split(name)) for name in ("train", "dev")]
    for method in (Ensemble(together), *alone):
        method.fit_inputs(parts[0])
        fit(method, *parts, TRAINING, seed=3, device="cpu", quiet=True)
    assert all(same(member.state_dict(), network.state_dict()) for member, network in zip(together, alone, strict=True))
    Pipeline(Ensemble(together)).save_pretrained(tmp_path / "model")
    assert Pipeline.from_pretrained(tmp_path / "model").predict(spoken) == Pipeline(Ensemble(together)).predict(spoken)


def test_sequences_that_a_member_adds_are_its_own(corpus: Corpus) -> None:
    """Frames of frozen layers differ from member to member; what a member takes away is gone for all."""

    class Added(Method):
        Config = BiGRUConfig
        reads = ("sequences",)

        def build(self, config: BiGRUConfig, shapes: Shapes) -> None:
            self.classify = nn.Linear(16, shapes.outputs)

        def encode(self, given: Given) -> Tensor:
            seen.append(given.batch)
            return given.sequences["text"].values  # one word each

        def keep(self, index: int, batch: Batch) -> Batch:
            words, total = batch.sequences["text"], self.classify.weight.sum()
            scaled = Ragged(words.values * total, words.ptr)
            return replace(batch, sequences={"text": words, "text.frozen": scaled}, cache={"sum": total.expand(3)})

    vectors = corpus.features["text"]
    words = replace(corpus, features={}, present={}, sequences={"text": Ragged(vectors, torch.arange(len(vectors) + 1))})
    batch = words.batch((), ("text",))
    batch = replace(batch, sequences={**batch.sequences, "gone": batch.sequences["text"]})
    together = Ensemble([Added(Schema.of(words, reads=Added.reads)) for _ in range(2)])
    seen: list[Batch] = []
    started = together.start_stage(0, batch)
    assert set(started.sequences) == {"text", "0.text.frozen", "1.text.frozen"}
    together(started)
    for member, found in zip(together.networks, seen, strict=True):
        expected = member.start_stage(0, batch)
        assert set(found.sequences) == set(expected.sequences) and torch.equal(found.cache["sum"], expected.cache["sum"])
        assert torch.equal(found.sequences["text.frozen"].values, expected.sequences["text.frozen"].values)
