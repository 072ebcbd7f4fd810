"""TFN: arrays of a public code, and the equations by loop at other sizes, with vectors and words that are missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.ragged import Ragged
from erc_graph.methods.tfn import TFN, TFNConfig, products
from tests.methods.reference.conftest import SPEAKERS, Reference, batch_of, build, equal, random_batch, stir

pytestmark = pytest.mark.reference


def renamed(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters of the public code under our names."""
    names = {"after.1": "post_fusion_layer_1", "after.3": "post_fusion_layer_2", "subnets.text.linear": "text_subnet.linear_1"}
    names["classify" if "output_range" not in given else "classify.0"] = "post_fusion_layer_3"
    found = {}
    for m in ("audio", "video"):
        names |= {f"subnets.{m}.linear.{i}": f"{m}_subnet.linear_{i + 1}" for i in range(3)} | {f"subnets.{m}.norm": f"{m}_subnet.norm"}
        found |= {f"subnets.{m}.norm.{end}": given[f"{m}_subnet.norm.{end}"] for end in ("running_mean", "running_var")}
    found |= {f"subnets.text.lstm.{end}_l0": given[f"text_subnet.rnn.{end}_l0"] for end in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    return found | {f"{ours}.{end}": given[f"{theirs}.{end}"] for ours, theirs in names.items() for end in ("weight", "bias")}


def model_of(given: Mapping[str, Tensor], put: Callable[..., None], *, classes: int) -> Any:
    config = TFNConfig(
        graph="none",
        widths={m: len(given[f"{m}_subnet.linear_1.bias"]) for m in ("audio", "video", "text")},
        words=given["text_subnet.rnn.weight_hh_l0"].shape[1],
        hidden=len(given["post_fusion_layer_1.bias"]),
        span=float(given["output_range"]) if "output_range" in given else 1.0,
        shift=-float(given["output_shift"]) if "output_shift" in given else 0.0,
    )
    widths = {m: given[f"{m}_subnet.linear_1.weight"].shape[1] for m in ("audio", "video")}
    words = given["text_subnet.rnn.weight_ih_l0"]
    model = build(TFN, widths, classes, config, sequences={"text": (words.shape[1],)}, dtype=words.dtype)
    put(model, renamed(given))
    return model


def spoken(arrays: Reference, labels: Tensor) -> Batch:
    turns = torch.zeros(len(labels), dtype=torch.long)
    batch = batch_of([turns], [labels], audio=arrays["in/audio"], video=arrays["in/video"])
    return replace(batch, sequences={"text": Ragged.of(list(arrays["in/text"]))})


def test_a_score(reference: Callable[[str], Reference], put: Callable[..., None]) -> None:
    arrays = reference("tfn").under("reg:")
    model, batch = model_of(arrays.under("param/"), put, classes=0), spoken(arrays, arrays["in/y"][:, 0])
    z = model.vectors(model.given(batch))
    for ours, theirs in {"audio": "z_a", "video": "z_v", "text": "z_t"}.items():
        arrays.same(z[ours], f"mid/{theirs}")
    tensor = products([z[m] for m in model.names])
    arrays.same(tensor, "mid/fusion_tensor")
    first = model.after[1](tensor)
    arrays.same(first, "mid/post1_preact")
    arrays.same(model.after[3](first.relu()), "mid/post2_preact")
    scores = model(batch).scores
    arrays.same(scores, "out/y_hat")
    loss = F.l1_loss(scores, arrays["in/y"], reduction="sum")
    arrays.same(loss, "loss_l1_sum")
    loss.backward()
    arrays.same(model.subnets.audio.linear[0].weight.grad, "grad/audio_subnet.linear_1.weight")
    arrays.same(model.after[1].weight.grad, "grad/post_fusion_layer_1.weight")
    arrays.same(model.subnets.text.lstm.weight_hh_l0.grad, "grad/text_subnet.rnn.weight_hh_l0")


def test_classes(reference: Callable[[str], Reference], put: Callable[..., None]) -> None:
    score, arrays = reference("tfn").under("reg:"), reference("tfn").under("cls:")
    given = {name: value for name, value in score.under("param/").items() if not name.startswith("output_")} | dict(arrays.under("param/"))
    model, batch = model_of(given, put, classes=len(arrays["param/post_fusion_layer_3.bias"])), spoken(score, arrays["in/y"])
    scores = model(batch).scores
    arrays.same(scores, "out/logits")
    loss = F.cross_entropy(scores, batch.target)
    arrays.same(loss, "loss_ce_mean")
    loss.backward()
    arrays.same(model.subnets.video.linear[0].weight.grad, "grad/video_subnet.linear_1.weight")
    arrays.same(model.classify.weight.grad, "grad/post_fusion_layer_3.weight")


# -- other sizes, by loop ---------------------------------------------------------------------------------------------------------


def with_words(batch: Batch, width: int) -> Batch:
    """Of one to four words; some turns have none."""
    lengths = [(3 * i) % 5 for i in range(batch.utterances)]
    return replace(batch, sequences={"text": Ragged.of([torch.randn(n, width, dtype=torch.float64) for n in lengths])})


def loop(model: Any, batch: Batch) -> Tensor:
    """Eqs. (1)-(6), utterance by utterance and product by product."""
    statistics = {}
    for m, values in batch.features.items():
        norm, there = model.subnets[m].norm, [i for i in range(batch.utterances) if batch.present[m][i]]
        mean = sum(values[i] for i in there) / len(there)
        variance = sum((values[i] - mean) ** 2 for i in there) / len(there)
        statistics[m] = (mean, variance) if model.training else (norm.running_mean.clone(), norm.running_var.clone())
    scores = []
    for i in range(batch.utterances):
        z = {}
        for m, (mean, variance) in statistics.items():
            net = model.subnets[m]
            x = (batch.features[m][i] - mean) / (variance + net.norm.epsilon).sqrt() * net.norm.weight + net.norm.bias
            for linear in net.linear:
                x = (linear.weight @ x + linear.bias).clamp(min=0)
            z[m] = x if batch.present[m][i] else torch.zeros_like(x)
        for m, words in batch.sequences.items():
            net, state = model.subnets[m], None
            for word in words[i]:
                _, state = net.lstm(word[None, None], state)
            z[m] = net.linear(state[0].flatten()) if state else torch.zeros(net.linear.out_features).double()
        parts = [[torch.ones(()).double(), *z[m].unbind()] for m in model.names]
        tensor = torch.stack([torch.stack(list(one)).prod() for one in product(*parts)])
        u = model.after[3](model.after[1](tensor).relu()).relu()
        u = u if any(value.any() for value in z.values()) or any(batch.present[m][i] for m in statistics) else torch.zeros_like(u)
        scores.append(model.classify(u))
    return torch.stack(scores)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("widths", "words", "classes"), [({"audio": 3, "text": 5, "visual": 2}, 0, 3), ({"audio": 4}, 3, 0), ({"text": 4}, 0, 2), ({}, 3, 4)]
)
def test_equations_by_loop(widths: dict[str, int], words: int, classes: int, training: bool) -> None:
    config = TFNConfig(graph="none", width=3, widths={"text": 2}, words=4, hidden=5, span=8.0, shift=4.0, dropout=0.0, tensor_dropout=0.0)
    model = build(TFN, widths, classes, config, sequences={"text": (words,)} if words else {})
    stir(model)
    batch = random_batch(SPEAKERS, widths, classes=max(classes, 1))
    batch = with_words(batch, words) if words else batch
    leaves = [value.requires_grad_() for value in batch.features.values()]
    equal(model.train(training)(batch).scores, loop(model, batch), model, *leaves)


def test_what_is_missing_leaves_the_tensor_of_the_others() -> None:
    widths = {"audio": 3, "text": 5, "visual": 2}
    model = build(TFN, widths, 3, TFNConfig(graph="none", width=3, widths={"text": 2}, hidden=4))
    stir(model)
    batch = random_batch(SPEAKERS, widths, classes=3, missing=0.0)
    gone = replace(batch, present={**batch.present, "visual": torch.zeros(batch.utterances, dtype=torch.bool)})
    z = model.vectors(model.given(gone))
    tensor = products([z[m] for m in model.names]).view(-1, 4, 4, 3)  # audio, visual, text
    assert not tensor[:, :, 1:].any()
    assert torch.equal(tensor[:, :, 0].flatten(1), products([z["audio"], z["text"]]))
    other = replace(gone, features={**gone.features, "visual": torch.full_like(gone.features["visual"], torch.nan)})
    assert torch.equal(model(other).scores, model(gone).scores)


@pytest.mark.parametrize("graph", ["none", "speaker"])
def test_every_parameter_gets_a_gradient_and_the_conversation_is_read_where_there_is_a_graph(graph: str) -> None:
    widths = {"audio": 3, "text": 5}
    model = build(TFN, widths, 3, TFNConfig(graph=graph, width=8, widths={}, hidden=8, dropout=0.0, tensor_dropout=0.0))
    stir(model)
    batch = random_batch(SPEAKERS, widths, classes=3, missing=0.0)
    leaf = batch.features["text"].requires_grad_()
    scores = model(batch).scores
    (gradient,) = torch.autograd.grad(scores[0].square().sum(), leaf, retain_graph=True)
    assert gradient[1:9].any() == (graph == "speaker") and not gradient[9:].any()
    assert model.utterance_level == (graph == "none")
    F.cross_entropy(scores, batch.target).backward()
    dead = {name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()}
    assert {name for name in dead if not name.startswith("conversation.speaker")} == set(TFN.unused)
