"""MultiEMO: arrays of the public code for both of its corpora, and the equations by loop with modalities that are missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from erc_graph.data.batch import Batch
from erc_graph.methods.multiemo import MultiEMO, MultiEMOConfig, correlation
from tests.methods.reference.conftest import SPEAKERS, Reference, batch_of, build, equal, random_batch, stir

pytestmark = pytest.mark.reference
MODALITIES = ("text", "audio", "visual")
LOSSES: dict[str, dict[str, Any]] = {
    "iemocap": {"contrast": 0.4, "correlation": 0.4, "cross_entropy": 0.2, "alpha": 1.1, "gamma": 2.4, "temperature": 0.8},
    "meld": {"contrast": 0.3, "correlation": 0.3, "cross_entropy": 0.4, "alpha": 1.2, "gamma": 2.0, "temperature": 1.4},
}


def directions(model: Any, m: str) -> list[tuple[str, Any]]:
    """Of the recurrent net of a modality, forward and backward where they are: name and module."""
    every, heard = [(f"context.directions.{k}", net) for k, net in enumerate(model.context.directions)], list(model.merge)
    return every[heard.index(m) * (each := len(every) // len(heard)) :][:each] if m in heard else []


def renamed(given: Mapping[str, Tensor], model: Any) -> dict[str, Tensor]:
    """The parameters of the public code under our names; a key's bias cancels, and nets that are never read are left out."""
    found, names = {}, {"fuse": "fc", "classify.0": "mlp.linear_1", "classify.3": "mlp.linear_2"}
    for m in MODALITIES:
        names |= {f"project.project.{m}": f"{m}_fc"} | (
            {f"merge.{m}": f"{m}_dialoguernn.linear"} if f"merge.{m}.bias" in model.state_dict() else {}
        )
        for k, (ours, net) in enumerate(directions(model, m)):
            theirs = f"{m}_dialoguernn.dialog_rnn_{'fr'[k]}.dialogue_cell"
            found[f"{ours}.attend.weight"] = given[f"{theirs}.attention.scalar.weight"]
            for name, cell in {"dialogue": "g_cell", "party.q": "p_cell", "emotion": "e_cell"}.items():
                found |= {f"{ours}.{name}.{end}": given[f"{theirs}.{cell}.{end}"] for end, _ in net.emotion.named_parameters()}
        for k, layer in enumerate(model.stacks[m]):
            ours, theirs = f"stacks.{m}.{k}", f"multiattn.multiattn_{m}.multiattn_layers.{k}"
            names |= {f"{ours}.feedforward.inner": f"{theirs}.ff.linear_W1", f"{ours}.feedforward.outer": f"{theirs}.ff.linear_W2"}
            names[f"{ours}.feedforward.norm"] = f"{theirs}.add_norm_{len(layer.attend) + 1}.layer_norm"
            for i, (n, attend) in enumerate(layer.attend.items(), 1):
                names[f"{ours}.norm.{n}"] = f"{theirs}.add_norm_{i}.layer_norm"
                names[f"{ours}.attend.{n}.output"] = f"{theirs}.attn_{i}.projection_matrix"
                for part, ends in {"query": ("weight", "bias"), "key": ("weight",), "value": ("weight", "bias")}.items():
                    heads = [f"{theirs}.attn_{i}.attention_heads.{h}.{part}_matrix" for h in range(attend.heads)]
                    found |= {f"{ours}.attend.{n}.{part}.{end}": torch.cat([given[f"{head}.{end}"] for head in heads]) for end in ends}
    return found | {f"{ours}.{end}": given[f"{theirs}.{end}"] for ours, theirs in names.items() for end in ("weight", "bias")}


def as_coded(states: list[Tensor]) -> Tensor:
    """Eq. (8) as the public code has it: with means, and the covariance of turns."""
    rows, total = len(states[0]), torch.zeros(())
    for x, y in combinations(states, 2):
        total = total + (x * y).sum(-1).mean() - (torch.cov(x) @ torch.cov(y)).trace() / (2 * rows)
    return -total / rows


@pytest.mark.parametrize("part", LOSSES)
def test_arrays_of_the_public_code(part: str, reference: Callable[[str], Reference], put: Callable[..., None]) -> None:
    arrays, losses = reference("multiemo").under(f"{part}/"), LOSSES[part]
    if not arrays:
        pytest.skip("the other model is among the arrays")
    given, options = arrays.under("param/"), arrays.options(heads=2, layers=None)
    numbers = sorted(int(name.split("/")[2]) for name in arrays if name.startswith("in/label/"))
    features: dict[str, Any] = {m: torch.cat([arrays[f"in/{m}/{i}"] for i in numbers]) for m in MODALITIES}
    batch = batch_of([arrays[f"in/speaker/{i}"] for i in numbers], [arrays[f"in/label/{i}"] for i in numbers], **features)
    stack = "multiattn.multiattn_text.multiattn_layers"
    config = MultiEMOConfig(
        width=len(given["fc.bias"]),
        hidden=len(given["mlp.linear_1.bias"]),
        layers=sum(name.startswith(stack) and name.endswith("ff.linear_W1.weight") for name in given),
        heads=options["heads"],
        feedforward=len(given[f"{stack}.0.ff.linear_W1.bias"]),
        bidirectional="audio_dialoguernn.dialog_rnn_r.dialogue_cell.g_cell.weight_ih" in given,
        text_context="text_dialoguernn.linear.weight" in given,
        **{name: value for name, value in losses.items() if name != "cross_entropy"},
    )
    model = build(MultiEMO, {m: features[m].shape[1] for m in MODALITIES}, len(given["mlp.linear_2.bias"]), config, dtype=torch.float32)
    put(model, renamed(given, model) | {"counts": arrays["in/class_counts"]})
    seen: dict[str, Tensor] = {}
    model.project.project["text"].register_forward_hook(lambda _, x, y: seen.update(text=y))
    model.stacks["text"][0].attend["audio"].register_forward_hook(lambda _, x, y: seen.update(first=y.states[:, 0]))
    x = model.streams(model.given(batch))
    z = model.attended(x, batch)
    torch.testing.assert_close(seen["text"], arrays["mid/text_fc"].transpose(0, 1)[batch.mask], rtol=0, atol=1e-5)
    torch.testing.assert_close(x.states[:, 1], arrays["mid/audio_dialoguernn"].transpose(0, 1)[batch.mask], rtol=0, atol=1e-5)
    longest = batch.sizes.index(max(batch.sizes))  # the one that no padding is attended in
    rows = batch.dialogue == longest
    for found, name in ((seen["first"], f"{stack}.0.attn_1"), (z.states[:, 0], "multiattn.multiattn_text")):
        torch.testing.assert_close(found[rows], arrays[f"mid/{name}"][longest], rtol=0, atol=1e-5)
    for k, m in enumerate(MODALITIES):
        torch.testing.assert_close(z.states[rows, k], arrays[f"out/{m}"][rows], rtol=0, atol=1e-5)
    scores = model(batch).scores
    torch.testing.assert_close(scores[rows], arrays["out/logits"][rows], rtol=0, atol=1e-5)
    arrays.same(scores, "out/alone_logits")
    states = [arrays[f"out/{m}"] for m in MODALITIES]
    arrays.same(F.cross_entropy(arrays["out/logits"], batch.target), "out/loss_ce")
    arrays.same(model.contrast(arrays["out/fc"], batch.target), "out/loss_swfc")
    definition = torch.stack([correlation(one, other) for one, other in combinations(states, 2)]).sum()
    torch.testing.assert_close(definition, arrays["out/loss_hgr_definition"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(as_coded(states), arrays["out/loss_hgr"], rtol=1e-6, atol=1e-4)
    together = losses["contrast"] * arrays["out/loss_swfc"] + losses["cross_entropy"] * arrays["out/loss_ce"]
    torch.testing.assert_close(together + losses["correlation"] * arrays["out/loss_hgr"], arrays["out/loss"], rtol=1e-6, atol=1e-4)


# -- other sizes, by loop ---------------------------------------------------------------------------------------------------------


def cell(part: Any, given: Tensor, state: Tensor) -> Tensor:
    return torch.gru_cell(given[None], state[None], part.weight_ih, part.weight_hh, part.bias_ih, part.bias_hh)[0]


def recurrence(net: Any, x: list[Tensor], speakers: list[int]) -> list[Tensor]:
    """One direction of Eq. (2) over one dialogue."""
    zero = torch.zeros_like(x[0])
    q: dict[int, Tensor] = {}
    heard: list[Tensor] = []
    found, e = [], zero
    for u, speaker in zip(x, speakers, strict=True):
        own = q.get(speaker, zero)
        context = zero if not heard else (torch.stack([net.attend(g)[0] for g in heard]).softmax(0)[:, None] * torch.stack(heard)).sum(0)
        heard.append(cell(net.dialogue, torch.cat([u, own]), heard[-1] if heard else zero))
        q[speaker] = cell(net.party["q"], torch.cat([u, context]), own)
        e = cell(net.emotion, q[speaker], e)
        found.append(e)
    return found


def attended(part: Any, query: Tensor, asked: list[Tensor]) -> Tensor:
    if not asked:
        return torch.zeros_like(query)
    keys, values = torch.stack([part.key(one) for one in asked]), torch.stack([part.value(one) for one in asked])
    parts = zip(*(x.chunk(part.heads, -1) for x in (part.query(query), keys, values)), strict=True)
    return part.output(torch.cat([(k @ q / len(q) ** 0.5).softmax(0) @ v for q, k, v in parts]))


def loop(model: Any, batch: Batch) -> Tensor:
    """Eqs. (1)-(6), dialogue by dialogue and turn by turn."""
    scores = []
    for start, end in zip(batch.ptr.tolist(), batch.ptr.tolist()[1:], strict=False):
        rows, speakers, x = range(end - start), batch.speaker[start:end].tolist(), {}
        for m in model.names:
            zero = torch.zeros(model.config.width, dtype=torch.float64)
            x[m] = [model.project.project[m](batch.features[m][start + i]) if batch.present[m][start + i] else zero for i in rows]
            if m in model.merge:
                forward, *back = (net for _, net in directions(model, m))
                e = recurrence(forward, x[m], speakers)
                for net in back:
                    e = [torch.cat(both) for both in zip(e, recurrence(net, x[m][::-1], speakers[::-1])[::-1], strict=True)]
                x[m] = [model.merge[m](one).relu() for one in e]
        for i in rows:
            parts = []
            for m in model.names:
                z, here = x[m][i], bool(batch.present[m][start + i])
                for layer in model.stacks[m]:
                    for n, attend in layer.attend.items():
                        asked = [x[n][j] for j in rows if batch.present[n][start + j] and (j <= i or not model.config.causal)]
                        z = layer.norm[n](z + attended(attend, z, asked))
                    net = layer.feedforward
                    z = net.norm(z + net.outer(net.inner(z).relu()))
                parts.append(z if here else torch.zeros_like(z))
            scores.append(model.classify(model.fuse(torch.cat(parts))))
    return torch.stack(scores)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("widths", [{"audio": 3, "text": 5, "visual": 2}, {"text": 3}])
def test_equations_by_loop(widths: dict[str, int], causal: bool) -> None:
    model = build(MultiEMO, widths, 3, MultiEMOConfig(width=4, layers=2, heads=2, feedforward=5, causal=causal))
    stir(model)
    batch = random_batch(SPEAKERS, widths, classes=3, missing=0.3)
    leaves = [value.requires_grad_() for value in batch.features.values()]
    equal(model(batch).scores, loop(model, batch), model, *leaves)


@pytest.mark.parametrize("rows", [0, 1])
def test_losses_between_utterances_need_two(rows: int) -> None:
    model = build(MultiEMO, {"text": 3}, 3, MultiEMOConfig(width=4, layers=1, heads=2, feedforward=5))
    h = torch.randn(rows, 4, dtype=torch.float64, requires_grad=True)
    loss = model.contrast(h, torch.zeros(rows, dtype=torch.long)) + correlation(h, 2 * h)
    assert loss == 0 and not torch.autograd.grad(loss, h)[0].any()
