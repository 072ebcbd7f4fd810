"""MFN: arrays of the public code, and the equations by loop over words and over turns, with modalities that are missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.data.ragged import Ragged
from erc_graph.encoders.alignment import aligned
from erc_graph.methods.mfn import MFN, MFNConfig
from tests.methods.reference.conftest import SPEAKERS, Reference, batch_of, build, equal, random_batch, stir

pytestmark = pytest.mark.reference
NAMES = {"text": "l", "audio": "a", "video": "v"}
NETS = {"attention": "att1", "candidate": "att2", "keep": "gamma1", "take": "gamma2"}


def renamed(given: Mapping[str, Tensor], ours: str) -> dict[str, Tensor]:
    """The parameters of the public code's network under our names."""
    names = {f"{ours}.nets.{net}.{3 * i}": f"{theirs}_fc{i + 1}" for net, theirs in NETS.items() for i in (0, 1)}
    found = {f"{mine}.{end}": given[f"{theirs}.{end}"] for mine, theirs in names.items() for end in ("weight", "bias")}
    parts = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return found | {f"{ours}.cells.{m}.{part}": given[f"lstm_{letter}.{part}"] for m, letter in NAMES.items() for part in parts}


def sizes(given: Mapping[str, Tensor]) -> dict[str, Any]:
    """Options that shapes tell."""
    return {
        "widths": {m: given[f"lstm_{letter}.weight_hh"].shape[1] for m, letter in NAMES.items()},
        "memory": len(given["att2_fc2.bias"]),
        "hiddens": {net: len(given[f"{theirs}_fc1.bias"]) for net, theirs in NETS.items()},
    }


def spoken(arrays: Reference) -> Batch:
    """One turn per row, of words that are aligned with sound and video."""
    rows = len(arrays["in/y"])
    batch = batch_of([torch.zeros(rows, dtype=torch.long)], [arrays["in/y"]])
    return replace(batch, sequences={m: Ragged.of(list(arrays[f"in/{m}"])) for m in NAMES})


def test_classes(reference: Callable[[str], Reference], put: Callable[..., None]) -> None:
    arrays = reference("mfn")
    given, batch = arrays.under("param/"), spoken(arrays)
    classes, hidden = given["out_fc2.weight"].shape
    config = MFNConfig(graph="none", hidden=hidden, **sizes(given))
    items = {m: (arrays[f"in/{m}"].shape[-1],) for m in NAMES}
    model = build(MFN, {}, classes, config, sequences=items, dtype=given["out_fc2.weight"].dtype)
    last = {"after.0": "out_fc1", "classify.1": "out_fc2"}
    last = {f"{mine}.{end}": given[f"{theirs}.{end}"] for mine, theirs in last.items() for end in ("weight", "bias")}
    put(model, renamed(given, "memory") | last)

    seen: dict[str, Tensor] = {}
    for net in ("attention", "candidate"):
        model.memory.nets[net].register_forward_hook(lambda _, x, y, net=net: seen.update({net: y, f"{net} in": x[0]}))
    model.after.register_forward_hook(lambda _, x, y: seen.update(last=x[0]))
    scores = model(batch).scores
    arrays.same(seen["attention in"].transpose(0, 1), "mid/cStar")
    arrays.same(seen["attention"].transpose(0, 1), "mid/att1_fc2_preact")
    arrays.same(seen["candidate in"].transpose(0, 1), "mid/attended")
    arrays.same(seen["candidate"].transpose(0, 1), "mid/att2_fc2_preact")
    arrays.same(seen["last"], "mid/last_hs")
    arrays.same(scores, "out/logits")
    loss = F.cross_entropy(scores, batch.target)
    arrays.same(loss, "loss_ce_mean")
    loss.backward()
    arrays.same(model.memory.cells["audio"].weight_ih.grad, "grad/lstm_a.weight_ih")
    arrays.same(model.memory.nets["attention"][3].weight.grad, "grad/att1_fc2.weight")
    arrays.same(model.classify[1].weight.grad, "grad/out_fc2.weight")


# -- by loop ----------------------------------------------------------------------------------------------------------------------


def loop(memory: Any, steps: list[dict[str, Tensor]]) -> list[Tensor]:
    """Eqs. (1)-(6) of one sequence, whose steps have the modalities that are there."""
    widths = dict(zip(memory.names, memory.widths, strict=True))
    h, c = ({m: torch.zeros(w).double() for m, w in widths.items()} for _ in range(2))
    u, known, found = torch.zeros(memory.memory).double(), set(), []
    for step in steps:
        before = dict(c)
        for m, x in step.items():
            new = memory.cells[m](x[None], (h[m][None], c[m][None]))
            h[m], c[m] = new[0][0], new[1][0]
        known |= set(step)
        if step:
            star = torch.cat([*before.values(), *c.values()])
            read = torch.cat([torch.full((w,), m in there) for there in (known, step) for m, w in widths.items()])
            share = torch.zeros_like(star).masked_scatter(read, memory.nets["attention"](star)[read].softmax(0))
            seen = share * star
            keep, take = (memory.nets[net](torch.cat([seen, u])).sigmoid() for net in ("keep", "take"))
            u = keep * u + take * memory.nets["candidate"](seen).tanh()
        found.append(torch.cat([*h.values(), u]))
    return found


def small(**options: Any) -> MFNConfig:
    return MFNConfig(graph="none", width=3, widths={"text": 2}, memory=4, hidden=5, dropout=0.0, output_dropout=0.0, **options)


@pytest.mark.parametrize("widths", [{"audio": 3, "text": 5, "visual": 2}, {"audio": 3}])
def test_over_turns_by_loop_and_turn_by_turn(widths: dict[str, int]) -> None:
    model = build(MFN, widths, 3, small())
    with torch.no_grad():
        stir(model)
    batch = random_batch(SPEAKERS, widths, classes=3, missing=0.4)
    there = torch.stack([batch.present[m] for m in model.names], 1).any(1)
    rows = [{m: batch.features[m][i] for m in model.names if batch.present[m][i]} for i in range(batch.utterances)]
    parts = torch.arange(len(rows)).split(list(batch.sizes))
    found = torch.stack([state for part in parts for state in loop(model.memory, [rows[i] for i in part])])
    equal(model(batch).scores, model.classify(torch.where(there[:, None], model.after(found), 0.0)), model)
    present, memory = torch.stack([batch.present[m] for m in model.names], 1), None
    gates = model.memory.gates({m: batch.features[m].nan_to_num() for m in model.names})
    for row in range(batch.sizes[0]):
        nodes, memory = model.over_dialogue.step(Nodes(gates[row : row + 1], present[row : row + 1], model.names), batch, memory)
        torch.testing.assert_close(nodes.states[0, 0], found[row], rtol=0, atol=1e-10)


def test_over_words_by_loop() -> None:
    """Words, frames that are more, and a vector that stands at every word; any of them may be missing."""
    model = build(MFN, {"visual": 2}, 3, small(), sequences={"audio": (3,), "text": (5,)})
    with torch.no_grad():
        stir(model)
    batch = random_batch(SPEAKERS, {"visual": 2}, classes=3, missing=0.3)
    lengths = {"text": [(3 * i) % 4 for i in range(batch.utterances)], "audio": [(5 * i) % 9 for i in range(batch.utterances)]}
    words = {m: [torch.randn(n, width).double() for n in lengths[m]] for m, width in (("audio", 3), ("text", 5))}
    batch = replace(batch, sequences={m: Ragged.of(value) for m, value in words.items()})
    scores = []
    for i in range(batch.utterances):
        counts = [lengths[m][i] for m in words if lengths[m][i]]
        count = min(counts, default=1)
        steps: list[dict[str, Tensor]] = [{} for _ in range(count)]
        for m in words:
            n = lengths[m][i]
            for t in range(count if n else 0):
                steps[t][m] = words[m][i][t * n // count : (t + 1) * n // count].mean(0)
        for step in steps:
            step |= {"visual": batch.features["visual"][i]} if batch.present["visual"][i] else {}
        f = model.after(loop(model.memory, steps)[-1])
        scores.append(model.classify(f if any(steps) else torch.zeros_like(f)))
    equal(model(batch).scores, torch.stack(scores), model)


def test_what_is_aligned_stays_as_it_is_and_fewer_items_are_repeated() -> None:
    frames, mask = torch.randn(2, 4, 3).double(), torch.ones(2, 4, dtype=torch.bool)
    mask[1, 2:] = False
    found, there = aligned({"audio": (frames, mask), "text": (frames[:, :1], mask[:, :1])}, ("audio",))
    torch.testing.assert_close(found["audio"], torch.where(mask[..., None], frames, 0.0), rtol=0, atol=1e-12)
    torch.testing.assert_close(found["text"], torch.where(mask[..., None], frames[:, :1], 0.0), rtol=0, atol=1e-12)
    assert torch.equal(there, torch.stack([mask, mask], -1))
