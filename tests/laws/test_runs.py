"""Saved = loaded; speakers renamed = the same; the same seed = the same run; resumed = uninterrupted; every parameter learns."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from erc_graph.conv.angular.angular import AngularConv
from erc_graph.conv.base import Conv
from erc_graph.data.batch import Batch
from erc_graph.data.corpus import Corpus
from erc_graph.encoders.speaker import SpeakerEmbedding
from erc_graph.inference.pipeline import Pipeline
from erc_graph.inference.saved import Network
from erc_graph.training.config import TrainingConfig
from erc_graph.training.loop import fit
from erc_graph.training.losses import Criterion
from tests.laws.cases import Case, conversations, first, networks, of_each_kind, over, scores, stirred, whole

SIZES = (3, 2, 4, 1, 3, 2)


def corpus_of(case: Case, speakers: tuple[str, ...] | None = None) -> Corpus:
    """Six dialogues with labels, of which two are the development split."""
    batch = conversations(case, SIZES, seed=4, dtype=torch.float32)
    names = tuple(f"d{i}" for i in range(len(SIZES)))
    return Corpus(
        name="laws",
        task=case.task,
        dialogue_ids=names,
        ptr=batch.ptr,
        utterance_ids=tuple(f"u{row}" for row in range(batch.utterances)),
        speakers=speakers or tuple(f"speaker {speaker}" for speaker in batch.speaker.tolist()),
        texts=("",) * batch.utterances,
        target=batch.target.clamp(min=0) if case.task.labels else batch.target.nan_to_num(),
        features=batch.features,
        present=batch.present,
        sequences=batch.sequences,
        splits={"train": names[:4], "dev": names[4:5], "test": names[5:]},
    )


def fresh(case: Case) -> Network:
    """With the same first weights every time, in single precision."""
    torch.manual_seed(11)
    network = case.build()
    network.fit_inputs(network.schema.batch(corpus_of(case).split("train")))
    return network.eval()


# -- saved, and speakers -----------------------------------------------------------------------------------------------------------


@over(first, whole)
def test_saved_and_loaded_gives_the_same_scores(case: Case, tmp_path: Path) -> None:
    network, batch = fresh(case), conversations(case, [4, 2], dtype=torch.float32)
    Pipeline(network).save_pretrained(tmp_path / "model")
    again = Pipeline.from_pretrained(tmp_path / "model").method
    torch.testing.assert_close(scores(again, batch), scores(network, batch), rtol=1e-6, atol=1e-7)  # weights may lie elsewhere in memory
    assert type(again) is type(network) and again.causal is network.causal and again.config == network.config


def knows_speakers(network: Network) -> bool:
    """Whether it has learned vectors of speakers, or relations or hyperedges that ask who speaks; angular weights do not."""
    recipes = [part.recipe for part in network.modules() if isinstance(part, Conv) and not isinstance(part, AngularConv)]
    rules = [rule for recipe in recipes for rule in recipe.edges]
    asked = any(rule.speaker != "any" for rule in rules) or any(rule.over == "speaker" for r in recipes for rule in r.hyperedges)
    return asked or any(isinstance(part, SpeakerEmbedding) and part.missing is None for part in network.modules())


@over(whole)
def test_renaming_speakers_changes_nothing(case: Case) -> None:
    corpus = corpus_of(case)
    known = sorted(set(corpus.speakers))
    new = {speaker: f"{chr(0x1F600 + i)} {'zyx'[i % 3]}\0{len(known) - i}" for i, speaker in enumerate(known)}
    renamed = replace(corpus, speakers=tuple(new[speaker] for speaker in corpus.speakers))
    one = replace(corpus, speakers=("the same",) * corpus.utterances)
    network = fresh(case)
    found, other, together = (scores(network, network.schema.batch(heard)) for heard in (corpus, renamed, one))
    assert torch.equal(other, found)
    if knows_speakers(network):
        assert not torch.allclose(together, found)


@over(first)
def test_a_dialogue_of_a_corpus_is_judged_as_if_it_were_alone(case: Case) -> None:
    corpus, network = corpus_of(case), fresh(case)
    alone = torch.cat([scores(network, network.schema.batch(dialogue.corpus)) for dialogue in corpus])
    torch.testing.assert_close(scores(network, network.schema.batch(corpus)), alone, rtol=1e-4, atol=1e-5)


# -- labels ------------------------------------------------------------------------------------------------------------------------


@over(first, lambda case: case.whole or case.name.endswith(": score"))
def test_unlabelled_utterances_get_predictions_and_no_loss(case: Case) -> None:
    batch = conversations(case, [4, 6, 3], seed=9)
    counts = batch.judged & (batch.target >= 0 if case.task.labels else ~batch.target.isnan())
    assert 0 < int(counts.sum()) < batch.utterances
    network = stirred(case)
    for config in (TrainingConfig(), TrainingConfig(loss="focal", class_weights="balanced", label_smoothing=0.1)):
        found = scores(network, batch).detach().requires_grad_()
        assert found.isfinite().all() and found.shape == (batch.utterances, 3 if case.task.labels else 1)
        loss = Criterion(case.task, config, batch)(found, batch)
        loss.backward()
        assert found.grad is not None
        assert (found.grad[~counts] == 0).all() and (found.grad[counts].abs().sum(1) > 0).all()
        other = replace(batch, target=torch.where(batch.judged, batch.target, torch.ones_like(batch.target)))
        assert torch.equal(Criterion(case.task, config, other)(found, other), loss)  # a label that is not judged is not read
        assert torch.equal(scores(network, other), scores(network, batch))


# -- training ----------------------------------------------------------------------------------------------------------------------

TRAINING = TrainingConfig(epochs=2, batch_size=2, learning_rate=0.01, schedule="cosine", ema=0.5)


def train(network: Network, corpus: Corpus, **options: Any) -> Any:
    parts = (network.schema.batch(corpus.split(part)) for part in ("train", "dev"))
    return fit(network, *parts, TRAINING, **{"seed": 3, "device": "cpu", "quiet": True, **options})


def same(one: nn.Module, other: nn.Module) -> bool:
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


@over(of_each_kind, whole)
def test_same_seed_same_run(case: Case) -> None:
    corpus = corpus_of(case)
    one, two, other = (fresh(case) for _ in range(3))
    assert same(one, two)
    history = train(one, corpus)
    torch.rand(3)  # what happened before does not matter
    assert train(two, corpus) == history
    assert same(one, two)
    train(other, corpus, seed=4)
    assert not same(one, other)


class Steps:
    """Counts the steps of training, and interrupts one."""

    def __init__(self, network: Network, last: int | None = None) -> None:
        self.count, self.last = 0, last
        networks(network)[0].inputs.register_forward_pre_hook(self.step)

    def step(self, *_: Any) -> None:
        self.count += torch.is_grad_enabled()
        if self.count == self.last:
            raise KeyboardInterrupt


@over(of_each_kind, whole)
def test_resumed_equals_uninterrupted(case: Case, tmp_path: Path) -> None:
    corpus, uninterrupted = corpus_of(case), fresh(case)
    steps = Steps(uninterrupted)
    expected = train(uninterrupted, corpus, folder=tmp_path / "whole")
    for place in {steps.count * 3 // 5 + 1, steps.count}:
        killed, folder = fresh(case), tmp_path / f"killed {place}"
        Steps(killed, place)
        with pytest.raises(KeyboardInterrupt):
            train(killed, corpus, folder=folder)
        torch.manual_seed(99)
        resumed = case.build()  # other first weights, no scaling: all comes from the file
        assert train(resumed, corpus, folder=folder, resume=True) == expected
        assert same(resumed, uninterrupted)


# -- every parameter learns --------------------------------------------------------------------------------------------------------

LEAST = 1e-13  # of a gradient that is no rounding, where the largest of a method is about one


def gradients(network: Network, case: Case) -> dict[str, float]:
    """Parameter → its largest gradient over all stages, over some batches, in training."""
    largest: dict[str, float] = {}
    batches: list[Batch] = [conversations(case, [5, 3, 4], seed=seed, speakers=list(range(12)) if seed else None) for seed in range(3)]
    network.train()
    for index, stage in enumerate(network.stages()):
        for batch in batches:
            with torch.no_grad():
                batch = network.start_stage(index, batch)
            network.train()
            network.zero_grad(set_to_none=True)
            answer = stage.forward(batch)
            parts = [one for answer in answer.members or (answer,) for one in (answer.scores, *answer.auxiliary.values())]
            weights = [torch.randn_like(part) for part in parts]
            penalty: Tensor | float = sum(torch.as_tensor(part.penalty) for part in answer.members or (answer,))
            (sum((part * weight).sum() for part, weight in zip(parts, weights, strict=True)) + penalty).backward()
            for name, parameter in network.named_parameters():
                found = 0.0 if parameter.grad is None else float(parameter.grad.abs().max())
                largest[name] = max(largest.get(name, 0.0), found)
    return largest


@over(first, whole)
def test_every_parameter_learns_or_is_said_not_to(case: Case) -> None:
    network = case.build()
    network.double()
    network.load_state_dict(stirred(case).state_dict())
    (method,) = networks(network)
    asked = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    found = gradients(network, case)
    listed = {name for name in asked if any(fnmatch(name, pattern) for pattern in method.unused)}
    assert all(reason.strip() for reason in method.unused.values())
    silent = {name for name in asked if found[name] <= LEAST * max(1.0, *found.values())}
    assert silent - listed == set(), "without a gradient, and not in `unused`"
    assert listed - silent == set(), "in `unused`, and with a gradient"


@over(first, lambda case: case.whole)
def test_an_unlabelled_utterance_is_context(case: Case) -> None:
    """The loss of labelled turns reaches the features of others, unless turns are judged one by one."""
    from tests.laws.cases import by_row, leaves

    network = stirred(case)
    batch = conversations(case, [6], seed=9, missing=0.0)
    judged = torch.tensor([False, False, False, True, False, True])
    batch, given = leaves(replace(batch, judged=judged, target=torch.full_like(batch.target, 1)))
    Criterion(case.task, TrainingConfig(), batch)(scores(network, batch), batch).backward()
    moved = by_row(batch, {name: value.grad for name, value in given.items()})
    assert moved[judged].all()
    assert bool(moved[~judged].any()) is not network.utterance_level
