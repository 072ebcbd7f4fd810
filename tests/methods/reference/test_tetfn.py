"""TETFN: arrays of a public port, whose sequences have one length, and the equations by loop at other sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.ragged import Ragged
from erc_graph.errors import ConfigError
from erc_graph.methods.tetfn import TETFN, TETFNConfig
from tests.methods.reference.conftest import SPEAKERS, Reference, batch_of, build, equal, random_batch, stir
from tests.methods.reference.stacks import by_loop, depth, read_by_loop, sequences_of, stack_names

pytestmark = pytest.mark.reference
LETTERS = {"text": "l", "audio": "a", "video": "v"}


def renamed(given: Reference) -> dict[str, Tensor]:
    """The parameters of the port under our names."""
    net, found = "read.net.", {"read.net.project.text.weight": given["proj_l.weight"][..., 0]}
    names = {"fuse.0": "post_fusion_layer_1", "classify.0": "post_fusion_layer_2", "classify.2": "post_fusion_layer_3"}
    for m, letter in LETTERS.items():
        names |= {f"alone.{m}.{2 * i}": f"post_{m}_layer_{i + 1}" for i in range(3)}
        found |= stack_names(given, f"trans_{letter}_mem", f"{net}crossed.memory.{m}")
        if m != "text":
            found[f"{net}project.{m}.weight"] = given[f"{m}_model.conv.weight"][..., 0]
            found |= {f"{net}lstm.{m}.nets.0.{name}": value for name, value in given.under(f"{m}_model.rnn.").items()}
        for n, other in LETTERS.items():
            theirs, both = f"trans_{letter}_with_{other}", "text" not in (m, n)
            found |= stack_names(given, f"{theirs}.upper_mha" if both else theirs, f"{net}crossed.cross.{m}.{n}") if m != n else {}
            found |= stack_names(given, f"{theirs}.lower_mha", f"{net}lower.{m}.{n}") if m != n and both else {}
    return found | {f"{ours}.{end}": given[f"{theirs}.{end}"] for ours, theirs in names.items() for end in ("weight", "bias")}


def watch(seen: dict[str, Tensor], part: Any, name: str) -> None:
    part.register_forward_hook(lambda _, __, found: seen.update({name: found.states.transpose(0, 1)}))


def test_arrays_of_the_port(reference: Callable[[str], Reference], put: Callable[..., None]) -> None:
    arrays = reference("tetfn")
    given, x = arrays.under("param/"), {m: arrays[f"in/{m}"] for m in LETTERS}
    config = TETFNConfig(
        graph="none", width=len(given["proj_l.weight"]), heads=arrays.options(heads=2)["heads"], layers=depth(given, "trans_l_mem"),
        lstm={m: given[f"{m}_model.rnn.weight_hh_l0"].shape[1] for m in ("audio", "video")}, hidden=len(given["post_fusion_layer_1.bias"]),
        alone={m: len(given[f"post_{m}_layer_1.bias"]) for m in LETTERS}, dropout=0.0,
    )  # fmt: skip
    model = build(TETFN, {}, 0, config, sequences={m: value.shape[2:] for m, value in x.items()}, dtype=torch.float32)
    widths = {f"read.front.{m}": value.shape[2] for m, value in x.items()}
    scale = {f"{m}.mean": torch.zeros(k) for m, k in widths.items()} | {f"{m}.deviation": torch.ones(k) for m, k in widths.items()}
    put(model, renamed(given) | scale)
    batch = batch_of([torch.zeros(len(x["text"]), dtype=torch.long)], [arrays["in/y_m"]])
    batch = replace(batch, sequences={m: Ragged.of(list(value)) for m, value in x.items()})
    net, seen, features = model.read.net, {}, {}
    for m, letter in LETTERS.items():
        watch(seen, net.crossed.memory[m], f"trans_{letter}_mem")
        for n, part in net.crossed.cross[m].items():
            watch(seen, part, f"trans_{letter}_with_{LETTERS[n]}")
        model.alone[m][1].register_forward_hook(lambda _, __, found, m=m: features.update({m: found}))
    watch(seen, net.lower.audio.video, "trans_a_with_v.lower")
    net.project.audio.register_forward_hook(lambda _, __, found: seen.update(audio_model=found.transpose(1, 2)))
    model.fuse.register_forward_hook(lambda _, __, found: features.update(f=found))
    answer = model(batch)
    for name, value in seen.items():
        arrays.same(value, f"mid/{name}")
    for name, value in features.items():
        arrays.same(value, f"out/Feature_{name[0]}")
    arrays.same(answer.scores, "out/M")
    label = arrays["in/y_m"]
    total = (answer.scores[:, 0] - label).abs().mean()
    arrays.same(total, "loss_m")
    for m, scores in answer.auxiliary.items():
        arrays.same(scores, f"out/{m[0].upper()}")
        own = arrays[f"in/y_{m[0]}"]  # the port's loss, for labels that it has made
        loss = ((own - label).abs().tanh() * (scores[:, 0] - own).abs()).mean()
        arrays.same(loss, f"loss_{m[0]}")
        total = total + loss
    arrays.same(total, "loss_total")
    total.backward()
    arrays.same(model.fuse[0].weight.grad, "grad/post_fusion_layer_1.weight")
    arrays.same(net.lstm.audio.nets[0].weight_hh_l0.grad, "grad/audio_model.rnn.weight_hh_l0")


# -- other sizes, by loop ---------------------------------------------------------------------------------------------------------


def loop(model: Any, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Eqs. (1)-(7), sequence by sequence."""
    words = bool(batch.sequences)
    net, names, fused, own = model.read.net if words else model.read.net.net, model.read.names, {}, {m: {} for m in model.read.names}
    for rows, steps in sequences_of(batch, names):
        x = {}
        for m, sequence in steps.items():
            states, memory = [], None
            for one in sequence:
                if m in net.lstm:
                    given = torch.zeros(net.inputs[m]).double() if one is None else one
                    state, memory = net.lstm[m].nets[0](given[None, None], memory)
                states.append(None if one is None else net.project[m](state[0, 0] if m in net.lstm else one))
            x[m] = states
            zero, there = torch.zeros(net.project[m].out_features).double(), [one for one in states if one is not None]
            most = torch.stack(there).amax(0) if there else zero
            own[m] |= {rows[0]: most} if words else read_by_loop(rows, states, False, len(zero))
        parts = []
        for m in names:
            lower = {n: by_loop(part, x[n], x["text"]) for n, part in net.lower[m].items()}
            heard = [by_loop(part, x[m], lower.get(n, x[n])) for n, part in net.crossed.cross[m].items()] or [x[m]]
            side = [None if row[0] is None else torch.cat(row) for row in zip(*heard, strict=True)]
            parts.append(read_by_loop(rows, by_loop(net.crossed.memory[m], side), words, net.crossed.memory[m].width))
        fused |= {i: torch.cat([part[i] for part in parts]) for i in rows}
    each = range(batch.utterances)
    here = torch.stack([batch.sequences[m].present if m in batch.sequences else batch.present[m] for m in names], 1)
    scores = model.classify(model.fuse(torch.stack([fused[i] for i in each])) * here.any(1, keepdim=True))
    return scores, {m: model.alone[m](torch.stack([own[m][i] for i in each])) * here[:, k, None] for k, m in enumerate(names)}


@pytest.mark.parametrize(("widths", "items"), [({"audio": 3, "text": 5}, {}), ({"audio": 3, "visual": 2}, {"text": 4}), ({"text": 4}, {})])
def test_equations_by_loop(widths: dict[str, int], items: dict[str, int]) -> None:
    config = TETFNConfig(graph="none", width=4, heads=2, layers=1, lstm={"audio": 3}, hidden=5, alone={"text": 3}, dropout=0.0)
    model = build(TETFN, widths, 3, config, sequences={m: (width,) for m, width in items.items()})
    stir(model)
    batch = random_batch(SPEAKERS, widths, classes=3)
    for m, width in items.items():
        model.read.front[m].mean.zero_()
        model.read.front[m].deviation.fill_(1.0)
        lengths = [(3 * i) % 5 for i in range(batch.utterances)]
        batch = replace(batch, sequences={m: Ragged.of([torch.randn(n, width, dtype=torch.float64) for n in lengths])})
    found, (scores, alone) = model(batch), loop(model, batch)
    equal(found.scores, scores, model)
    for m, wanted in alone.items():
        torch.testing.assert_close(found.auxiliary[m], wanted, rtol=0, atol=1e-10)


def test_without_text_it_is_refused() -> None:
    with pytest.raises(ConfigError, match="modalities: expected text"):
        build(TETFN, {"audio": 3}, 2, TETFNConfig(graph="none"))
