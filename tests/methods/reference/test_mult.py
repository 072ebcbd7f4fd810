"""MulT: arrays of the public code, and the equations by loop at other sizes, with words and turns that are missing.

The arrays beside this file are those of one of the six crossmodal Transformers, for the code fixes a width of 30.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.ragged import Ragged
from erc_graph.encoders.crossmodal import CrossTransformer, sinusoids
from erc_graph.encoders.steps import Steps
from erc_graph.methods.mult import MulT, MulTConfig
from tests.methods.reference.conftest import SPEAKERS, Reference, batch_of, build, equal, random_batch, stir
from tests.methods.reference.stacks import crossed_by_loop, depth, in_gradient, read_by_loop, sequences_of, stack_names

pytestmark = pytest.mark.reference
LETTERS = {"text": "l", "audio": "a", "video": "v"}


def steps_of(states: Tensor) -> Steps:
    return Steps(states, torch.ones(states.shape[:2], dtype=torch.bool), torch.full(states.shape[:1], states.shape[1]))


def test_one_modality_reads_another(reference: Callable[[str], Reference], put: Callable[..., None]) -> None:
    arrays = reference("mult")
    given, x = arrays.under("param/"), {}
    for m in ("text", "audio"):
        x[m] = arrays[f"in/{m}"] @ given[f"proj_{LETTERS[m]}.weight"][..., 0].T
        arrays.same(x[m].transpose(1, 2), f"mid/proj_{LETTERS[m]}")
    width = x["text"].shape[-1]
    arrays.same(sinusoids(x["text"].shape[1], width, x["text"]).expand_as(arrays["mid/pos_l"]), "mid/pos_l")
    net = CrossTransformer(width, heads=arrays.options(heads=3)["heads"], layers=depth(given, "trans_l_with_a"))
    put(net, {name.removeprefix("."): value for name, value in stack_names(given, "trans_l_with_a", "").items()})
    seen: list[Tensor] = []
    net.layers[0].register_forward_hook(lambda _, __, found: seen.append(found))
    found = net(steps_of(x["text"]), steps_of(x["audio"])).states
    arrays.same(seen[0].view_as(found).transpose(0, 1), "mid/trans_l_with_a.layer0")
    arrays.same(found.transpose(0, 1), "mid/trans_l_with_a")


def test_the_whole_model(reference: Callable[[str], Reference], put: Callable[..., None]) -> None:
    arrays = reference("mult")
    if "out/logits" not in arrays:
        pytest.skip("one Transformer is among the arrays")
    given, net = arrays.under("param/"), "read.net."
    width, *_ = given["proj_l.weight"].shape
    found = {"residual.0": "proj1", "residual.2": "proj2", "classify": "out_layer"}
    values = {f"{ours}.{end}": given[f"{theirs}.{end}"] for ours, theirs in found.items() for end in ("weight", "bias")}
    for m, letter in LETTERS.items():
        values[f"{net}project.{m}.weight"] = inputs = given[f"proj_{letter}.weight"][..., 0]
        values |= {f"read.front.{m}.mean": torch.zeros(inputs.shape[1]), f"read.front.{m}.deviation": torch.ones(inputs.shape[1])}
        values |= stack_names(given, f"trans_{letter}_mem", f"{net}crossed.memory.{m}")
        for n, other in LETTERS.items():
            values |= stack_names(given, f"trans_{letter}_with_{other}", f"{net}crossed.cross.{m}.{n}") if m != n else {}
    config = MulTConfig(graph="none", width=width, heads=arrays.options(heads=3)["heads"], layers=depth(given, "trans_l_with_a"))
    items = {m: arrays[f"in/{m}"].shape[2:] for m in LETTERS}
    model = build(MulT, {}, len(given["out_layer.bias"]), config, sequences=items, dtype=torch.float32)
    assert len(model.read.net.crossed.memory.text.layers) == depth(given, "trans_l_mem")
    put(model, values)
    batch = batch_of([torch.zeros_like(arrays["in/y"])], [arrays["in/y"]])
    batch = replace(batch, sequences={m: Ragged.of(list(arrays[f"in/{m}"])) for m in LETTERS})
    seen: dict[str, Tensor] = {}
    for m, letter in LETTERS.items():
        for n, part in [*model.read.net.crossed.cross[m].items(), ("", model.read.net.crossed.memory[m])]:
            name = f"trans_{letter}_with_{LETTERS[n]}" if n else f"trans_{letter}_mem"
            part.register_forward_hook(lambda _, __, one, name=name: seen.update({name: one.states.transpose(0, 1)}))
    for i, name in ((0, "proj1"), (2, "proj2")):
        model.residual[i].register_forward_hook(lambda _, __, one, name=name: seen.update({name: one}))
    model.residual.register_forward_pre_hook(lambda _, one: seen.update(last=one[0]))
    scores = model(batch).scores
    for name, value in seen.items():
        arrays.same(value, "out/last_hs" if name == "last" else f"mid/{name}")
    arrays.same(scores, "out/logits")
    loss = F.cross_entropy(scores, batch.target)
    arrays.same(loss, "loss_ce_mean")
    loss.backward()
    crossed = model.read.net.crossed
    arrays.same(in_gradient(crossed.cross.text.audio.layers[0]), "grad/trans_l_with_a.layers.0.self_attn.in_proj_weight")
    arrays.same(crossed.memory.video.layers[0].feedforward[0].weight.grad, "grad/trans_v_mem.layers.0.fc1.weight")
    arrays.same(model.read.net.project.audio.weight.grad[..., None], "grad/proj_a.weight")


# -- other sizes, by loop ---------------------------------------------------------------------------------------------------------


def with_words(batch: Batch, items: dict[str, int]) -> Batch:
    """Of one to four items; some turns have none."""
    lengths = [[(3 * i + k) % 5 for i in range(batch.utterances)] for k in range(len(items))]
    made = {m: Ragged.of([torch.randn(n, items[m], dtype=torch.float64) for n in own]) for m, own in zip(items, lengths, strict=True)}
    return replace(batch, sequences=made)


def loop(model: Any, batch: Batch) -> Tensor:
    """Eqs. (1)-(7), sequence by sequence."""
    net, rows = model.read.net.net if not batch.sequences else model.read.net, {}
    for numbers, steps in sequences_of(batch, model.read.names):
        x = {m: [None if one is None else net.project[m](one) for one in steps[m]] for m in steps}
        parts = [
            read_by_loop(numbers, states, bool(batch.sequences), net.crossed.memory[m].width)
            for m, states in crossed_by_loop(net.crossed, x).items()
        ]
        rows |= {i: torch.cat([part[i] for part in parts]) for i in numbers}
    h = torch.stack([rows[i] for i in range(batch.utterances)])
    here = torch.stack([batch.sequences[m].present if m in batch.sequences else batch.present[m] for m in model.read.names]).any(0)
    return model.classify((h + model.residual(h)) * here[:, None])


@pytest.mark.parametrize(
    ("widths", "items", "mask"),
    [
        ({"audio": 3, "text": 5}, {}, True),
        ({"visual": 3}, {"text": 4, "audio": 2}, False),
        ({}, {"text": 4, "audio": 2}, True),
        ({"audio": 4}, {}, False),
    ],
)
def test_equations_by_loop(widths: dict[str, int], items: dict[str, int], mask: bool) -> None:
    config = MulTConfig(graph="none", width=5, heads=2, layers=1, mask=mask, dropout=0.0, embedding_dropout=0.0)
    model = build(MulT, widths, 3, config, sequences={m: (width,) for m, width in items.items()})
    stir(model)
    for m in items:
        model.read.front[m].mean.zero_()
        model.read.front[m].deviation.fill_(1.0)
    batch = with_words(random_batch(SPEAKERS, widths, classes=3), items)
    leaves = [value.requires_grad_() for value in batch.features.values()]
    equal(model(batch).scores, loop(model, batch), model, *leaves)
    assert model.causal is (mask or bool(items)) and model.utterance_level is bool(items)
