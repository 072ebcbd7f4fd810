"""LGCCT: arrays of the public code, whose sequences have one length, and the equations by loop at other sizes.

The arrays beside this file are those of the text's way to Eq. (4), for the code fixes the widths.
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
from erc_graph.encoders.steps import Steps
from erc_graph.errors import ConfigError
from erc_graph.methods.lgcct import LGCCT, LGCCTConfig
from tests.methods.reference.conftest import SPEAKERS, Reference, batch_of, build, equal, random_batch, stir
from tests.methods.reference.stacks import Row, by_loop, depth, read_by_loop, sequences_of, stack_names

pytestmark = pytest.mark.reference
LETTERS = {"text": "l", "audio": "a"}
ENDS = ("weight", "bias")


def renamed(given: Reference) -> dict[str, Tensor]:
    """The parameters of the public code under our names, as far as they are there."""
    net, found = "read.net.", {}
    names = {"residual.0": "proj1", "residual.2": "proj2", "classify": "out_layer"}
    names |= {f"{net}convolve.audio.{i}": f"extra_a.model.{2 * i}" for i in range(2)}
    found |= stack_names(given, "trans_a_mem", f"{net}memory") if depth(given, "trans_a_mem") else {}
    for m, letter in LETTERS.items():
        names |= {f"{net}retain.{m}.1": f"retain_gate_{letter}", f"{net}compound.{m}": f"compound_gate_{letter}"}
        names |= {f"{net}norm.{m}": f"layer_norm_{letter}"}
        found[f"{net}retain.{m}.0.weight"] = given[f"proj_{letter}.weight"][..., 0]
        for name, value in given.under(f"extra_{letter}.lstm.").items():
            found[f"{net}lstm.{m}.nets.{int(name.endswith('_reverse'))}.{name.removesuffix('_reverse')}"] = value
        theirs = "trans_l_with_a" if m == "text" else "trans_a_with_l"
        found |= stack_names(given, theirs, f"{net}cross.{m}") if depth(given, theirs) else {}
    pairs = {f"{ours}.{end}": f"{theirs}.{end}" for ours, theirs in names.items() for end in ENDS}
    return found | {ours: given[theirs] for ours, theirs in pairs.items() if theirs in given}


def test_arrays_of_the_code(reference: Callable[[str], Reference], put: Callable[..., None]) -> None:
    arrays = reference("lgcct")
    given, x = arrays.under("param/"), {m: arrays[f"in/{m}"] for m in LETTERS}
    config = LGCCTConfig(
        graph="none", channels=len(given["extra_a.model.0.bias"]), hidden=2 * given["extra_l.lstm.weight_hh_l0"].shape[1],
        width=len(given["retain_gate_l.bias"]), heads=arrays.options(heads=5)["heads"], layers=depth(given, "trans_l_with_a"),
    )  # fmt: skip
    classes = len(given["out_layer.bias"]) if "out_layer.bias" in given else int(arrays["in/y"].max()) + 1
    model = build(LGCCT, {}, classes, config, sequences={m: value.shape[2:] for m, value in x.items()}, dtype=torch.float32)
    scale = {f"read.front.{m}.mean": torch.zeros(value.shape[2]) for m, value in x.items()}
    values = renamed(given) | scale | {name.replace("mean", "deviation"): value + 1 for name, value in scale.items()}
    whole = "out/logits" in arrays
    put(model, values if whole else {k: v for k, v in model.state_dict().items() if not k.startswith("inputs.")} | values)
    batch = batch_of([torch.zeros_like(arrays["in/y"])], [arrays["in/y"]])
    batch = replace(batch, sequences={m: Ragged.of(list(value)) for m, value in x.items()})
    net, seen = model.read.net, {}

    def rows(found: Any) -> Tensor:
        return found.states if isinstance(found, Steps) else found

    def watch(part: Any, name: str, steps: bool = True) -> None:
        part.register_forward_hook(lambda _, __, found: seen.update({name: rows(found).transpose(0, 1) if steps else found}))

    for m, letter in LETTERS.items():
        net.lstm[m].register_forward_hook(lambda _, __, found, letter=letter: seen.update({f"extra_{letter}": found.states}))
        net.retain[m][0].register_forward_hook(lambda _, __, found, letter=letter: seen.update({f"proj_{letter}": found.transpose(1, 2)}))
        for ours, theirs in {"retain": "retain_gate", "compound": "compound_gate", "norm": "layer_norm"}.items():
            watch(getattr(net, ours)[m], f"{theirs}_{letter}")
        watch(net.cross[m], "trans_l_with_a" if m == "text" else "trans_a_with_l")
    watch(net.memory, "trans_a_mem")
    watch(model.residual[0], "proj1", steps=False)
    scores = model(batch).scores
    compared = [name for name in seen if f"mid/{name}" in arrays]
    for name in compared:
        arrays.same(seen[name], f"mid/{name}")
    if not whole:
        assert len(compared) == sum(name.startswith("mid/") for name in arrays)
        return
    assert set(compared) == set(seen)
    arrays.same(scores, "out/logits")
    loss = F.cross_entropy(scores, batch.target)
    arrays.same(loss, "loss_ce_mean")
    loss.backward()
    arrays.same(net.retain.text[1].weight.grad, "grad/retain_gate_l.weight")
    arrays.same(net.compound.audio.weight.grad, "grad/compound_gate_a.weight")
    arrays.same(net.convolve.audio[0].weight.grad, "grad/extra_a.model.0.weight")


# -- other sizes, by loop ---------------------------------------------------------------------------------------------------------


def alone(net: Any, m: str, steps: list[Row]) -> list[Row]:
    """`p_m` of one sequence."""
    x = [torch.zeros(net.inputs[m]).double() if one is None else one for one in steps]
    for convolve in dict(net.convolve.items()).get(m, ()):
        padded = [torch.zeros_like(x[0])] * net.around[0] + x + [torch.zeros_like(x[0])] * net.around[1] if x else []
        y = [(convolve.bias + sum(convolve.weight[..., k] @ padded[i + k] for k in range(3))).relu() for i in range(len(x))]
        x = [one if steps[i] is not None else torch.zeros_like(one) for i, one in enumerate(y)]
    parts = []
    for lstm, order in zip(net.lstm[m].nets, (1, -1), strict=False):
        memory, found = None, []
        for one in x[::order]:
            state, memory = lstm(one[None, None], memory)
            found.append(state[0, 0])
        parts.append(found[::order])
    rows = [net.retain[m](torch.cat(row)) for row in zip(*parts, strict=True)]
    return [row if steps[i] is not None else None for i, row in enumerate(rows)]


def spans(rows: list[Row], count: int, width: int) -> list[Tensor]:
    """Means over `count` equal spans of a sequence; each step is cut into as many pieces."""
    rows = [torch.zeros(width).double() if row is None else row for row in rows]
    pieces = [row for row in rows for _ in range(count)]
    return [torch.stack(pieces[i * len(rows) : (i + 1) * len(rows)]).mean(0) if rows else torch.zeros(width).double() for i in range(count)]


def loop(model: Any, batch: Batch) -> Tensor:
    """Eqs. (1)-(6), sequence by sequence."""
    words = bool(batch.sequences)
    net, names, found = model.read.net if words else model.read.net.net, model.read.names, {}
    for rows, steps in sequences_of(batch, names):
        n = {m: alone(net, m, steps[m]) for m in names}
        if len(names) > 1:
            p = n
            heard = {m: by_loop(net.cross[m], p[m], p[o]) for m, o in (names, names[::-1])}
            n = {
                m: [None if own is None else net.norm[m](net.compound[m](c) + own) for own, c in zip(p[m], heard[m], strict=True)]
                for m in names
            }
            count, width = len(n[names[0]]) or len(n[names[1]]), net.memory.width // 2
            gone = [not words and all(n[m][i] is None for m in names) for i in range(count)]
            side = zip(*(spans(n[m], count, width) for m in names), strict=True)
            joined = [None if gone[i] else torch.cat(row) for i, row in enumerate(side)]
        else:
            joined = n[names[0]]
        found |= read_by_loop(rows, by_loop(net.memory, joined), words, net.memory.width)
    h = torch.stack([found[i] for i in range(batch.utterances)])
    here = torch.stack([batch.sequences[m].present if m in batch.sequences else batch.present[m] for m in names], 1)
    return model.classify((h + model.residual(h)) * here.any(1, keepdim=True))


@pytest.mark.parametrize(
    ("widths", "items", "causal"),
    [
        ({"audio": 3, "text": 5}, {}, False),
        ({"audio": 3, "text": 5}, {}, True),
        ({}, {"text": 4, "audio": 2}, False),
        ({"text": 3}, {}, False),
    ],
)
def test_equations_by_loop(widths: dict[str, int], items: dict[str, int], causal: bool) -> None:
    config = LGCCTConfig(graph="none", channels=3, hidden=4, width=4, heads=2, layers=1, causal=causal)
    model = build(LGCCT, widths, 3, config, sequences={m: (width,) for m, width in items.items()})
    stir(model)
    batch = random_batch(SPEAKERS, widths, classes=3)
    for k, (m, width) in enumerate(items.items()):
        model.read.front[m].mean.zero_()
        model.read.front[m].deviation.fill_(1.0)
        lengths = [((3 + k) * i + k) % 5 for i in range(batch.utterances)]
        made = Ragged.of([torch.randn(n, width, dtype=torch.float64) for n in lengths])
        batch = replace(batch, sequences={**batch.sequences, m: made})
    equal(model(batch).scores, loop(model, batch), model)
    assert model.causal is (causal or bool(items))


def test_it_reads_text_and_sound_alone() -> None:
    model = build(LGCCT, {"audio": 3, "text": 2, "visual": 4}, 2, LGCCTConfig(graph="none"))
    assert model.read.names == ("text", "audio")
    with pytest.raises(ConfigError, match="modalities: expected text, audio"):
        build(LGCCT, {"visual": 3}, 2, LGCCTConfig(graph="none"))
