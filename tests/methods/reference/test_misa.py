"""MISA: arrays of the public code, and the equations by loop at other sizes, with modalities that are missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.ragged import Ragged
from erc_graph.methods.misa import MISA, MISAConfig, difference, similarity
from tests.methods.reference.conftest import SPEAKERS, Reference, batch_of, build, equal, random_batch, stir

pytestmark = pytest.mark.reference
NAMES = {"audio": "a", "text": "t", "video": "v"}  # in the order of our streams
THEIRS = "tva"  # in the order of the code's tokens


def renamed(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters of the public code under our names; a map in front of the frames that changes nothing."""
    layer = "transformer_encoder.layers.0."
    names = {f"mix.norm.{i}": f"{layer}norm{i + 1}" for i in range(2)} | {"shared": "shared.shared_1"}
    names |= {"mix.feedforward.0": f"{layer}linear1", "mix.feedforward.3": f"{layer}linear2"}
    names |= {"mix.attention.output": f"{layer}self_attn.out_proj", "classify": "fusion.fusion_layer_3"}
    found = {f"mix.attention.query_key_value.{end}": given[f"{layer}self_attn.in_proj_{end}"] for end in ("weight", "bias")}
    for m, k in NAMES.items():
        names |= {f"project.{m}.0": f"project_{k}.project_{k}", f"project.{m}.2": f"project_{k}.project_{k}_layer_norm"}
        names |= {f"private.{m}": f"private_{k}.private_{k}_{3 if k == 'a' else 1}", f"restore.{m}": f"recon_{k}.recon_{k}_1"}
        names |= {f"frames.{m}.norm": f"{k}layer_norm"}
        for ours, theirs in {"first": f"{k}rnn1.", "second": f"{k}rnn2."}.items():
            found |= {f"frames.{m}.{ours}.{end.removeprefix(theirs)}": given[end] for end in given if end.startswith(theirs)}
        size, front = given[f"{k}rnn1.weight_hh_l0"].shape[1], f"frames.{m}.front.{m}."
        found |= {f"{front}project.weight": torch.eye(size), f"{front}project.bias": torch.zeros(size)}
        found |= {f"{front}mean": torch.zeros(size), f"{front}deviation": torch.ones(size)}
    found |= {"fuse.0.weight": columns(given["fusion.fusion_layer_1.weight"]), "fuse.0.bias": given["fusion.fusion_layer_1.bias"]}
    return found | {f"{ours}.{end}": given[f"{theirs}.{end}"] for ours, theirs in names.items() for end in ("weight", "bias")}


def columns(weight: Tensor) -> Tensor:
    """The columns of the fusion layer in the order of our tokens."""
    order = [part * len(THEIRS) + THEIRS.index(k) for part in range(2) for k in NAMES.values()]
    return weight.unflatten(1, (2 * len(THEIRS), -1))[:, order].flatten(1)


def test_arrays_of_the_public_code(reference: Callable[[str], Reference], put: Callable[..., None]) -> None:
    arrays = reference("misa")
    given, options = arrays.under("param/"), arrays.options(heads=2, alpha=0.3, beta=1.0, gamma=1.0)
    items = {m: (given[f"{k}rnn1.weight_ih_l0"].shape[1],) for m, k in NAMES.items()}
    config = MISAConfig(
        graph="none",
        width=len(given["shared.shared_1.bias"]),
        widths={m: item[0] for m, item in items.items()},
        feedforward=len(given["transformer_encoder.layers.0.linear1.bias"]),
        **options,
    )
    model = build(MISA, {}, len(given["fusion.fusion_layer_3.bias"]), config, sequences=items, dtype=given["shared.shared_1.bias"].dtype)
    put(model, renamed(given))
    spoken = {"audio": arrays["in/audio"], "video": arrays["in/video"], "text": given["embed.weight"][arrays["in/words"]]}
    sequences = {m: Ragged.of([v[:n, i] for i, n in enumerate(arrays["in/lengths"].tolist())]) for m, v in spoken.items()}
    batch = replace(batch_of([torch.zeros_like(arrays["in/y"])], [arrays["in/y"]]), sequences=sequences)
    for m, k in NAMES.items():
        arrays.same(model.frames[m](batch), f"mid/utterance_{k}")
    x, p, s = model.codes(model.given(batch))
    for i, (m, k) in enumerate(NAMES.items()):
        for found, name in ((x, "project"), (p, "private"), (s, "shared")):
            arrays.same(found[:, i], f"mid/{name}_{k}")
        arrays.same(model.restore[m]((p + s)[:, i]), f"mid/recon_{k}")
    here = torch.ones(len(x), 2 * len(NAMES), dtype=torch.bool)
    mixed = model.mix(torch.cat([p, s], 1), here)
    order = [3 * part + list(NAMES.values()).index(k) for part in range(2) for k in THEIRS]
    arrays.same(mixed[:, order].transpose(0, 1), "mid/transformer_encoder")
    arrays.same(model.fuse[0](mixed.flatten(1)), "mid/fusion_layer_1_preact")
    present = here[:, : len(NAMES)]
    arrays.same(difference(p, s, present), "loss_diff")
    arrays.same(similarity(s, present), "loss_sim_cmd")
    model.config = replace(model.config, alpha=0.0, beta=0.0, gamma=1.0)
    arrays.same(model.penalty(x, p, s, present), "loss_recon")
    model.config = config
    scores = model(batch).scores
    arrays.same(scores, "out/logits")
    task = F.cross_entropy(scores, batch.target)
    arrays.same(task, "loss_cls")
    loss = task + model.penalty(x, p, s, present)
    arrays.same(loss, "loss_total")
    loss.backward()
    arrays.same(model.shared.weight.grad, "grad/shared.shared_1.weight")
    arrays.same(model.project["audio"][0].weight.grad, "grad/project_a.project_a.weight")
    assert torch.allclose(model.fuse[0].weight.grad, columns(arrays["grad/fusion.fusion_layer_1.weight"]), rtol=0, atol=1e-5)


# -- other sizes, by loop ---------------------------------------------------------------------------------------------------------


def loop(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Scores and penalty by Eqs. (2)-(8), utterance by utterance; moments and products over the rows that are there."""
    names, scores = model.names, []
    x, p, s = ({m: {} for m in names} for _ in range(3))
    for i in range(batch.utterances):
        here = [m for m in names if batch.present[m][i]]
        for m in here:
            x[m][i] = model.project[m](batch.features[m][i])
            p[m][i], s[m][i] = torch.sigmoid(model.private[m](x[m][i])), torch.sigmoid(model.shared(x[m][i]))
        mixed, width = {}, model.config.width
        if here:  # attention between what is there, by itself
            tokens = torch.stack([*(p[m][i] for m in here), *(s[m][i] for m in here)])[None]
            rows = model.mix(tokens, torch.ones(1, tokens.shape[1], dtype=torch.bool))[0]
            mixed = {("p", m): rows[k] for k, m in enumerate(here)} | {("s", m): rows[len(here) + k] for k, m in enumerate(here)}
        slots = [mixed.get((kind, m), torch.zeros(width).double()) for kind in "ps" for m in names]
        f = model.fuse(torch.cat(slots)) if here else torch.zeros(len(names) * width).double()
        scores.append(model.classify(f))
    zero = torch.zeros(()).double()
    similar, different, again = zero, zero, zero
    pairs = list(combinations(names, 2))
    for m, n in pairs:
        if min(len(s[m]), len(s[n])) > 1:
            one, two = (torch.stack(list(s[k].values())) for k in (m, n))
            apart = [((one - one.mean(0)) ** k).mean(0) - ((two - two.mean(0)) ** k).mean(0) for k in range(2, 6)]
            similar = similar + sum((d @ d + 1e-12).sqrt() for d in (one.mean(0) - two.mean(0), *apart)) / len(pairs)
    for one, two in [*((p[m], s[m]) for m in names), *((p[m], p[n]) for m, n in pairs)]:
        product = torch.zeros(model.config.width, model.config.width).double()
        for i in one.keys() & two.keys():
            a, b = (codes[i] - sum(codes.values()) / len(codes) for codes in (one, two))
            product = product + torch.outer(a / (a.norm().detach() + 1e-6), b / (b.norm().detach() + 1e-6))
        different = different + product.square().mean()
    for m in names:
        if x[m]:
            wrong = [(model.restore[m](p[m][i] + s[m][i]) - x[m][i]).square().mean() for i in x[m]]
            again = again + sum(wrong) / len(wrong) / len(names)
    c = model.config
    return torch.stack(scores), c.alpha * different + c.beta * similar + c.gamma * again


@pytest.mark.parametrize("widths", [{"audio": 3, "text": 5, "visual": 2}, {"audio": 4, "text": 3}, {"text": 4}])
@pytest.mark.parametrize("speakers", [SPEAKERS, ((0,),)])
def test_equations_by_loop(widths: dict[str, int], speakers: tuple[tuple[int, ...], ...]) -> None:
    config = MISAConfig(graph="none", width=4, feedforward=6, alpha=0.7, beta=0.6, gamma=0.5)
    model = build(MISA, widths, 3, config)
    stir(model)
    batch = random_batch(speakers, widths, classes=3, missing=0.3 if len(speakers) > 1 else 0.0)
    (scores, penalty), given = loop(model, batch), model.given(batch)
    found = model(batch).scores, model.penalty(*model.codes(given), given.here(model.names))
    equal(torch.cat([found[0].flatten(), found[1][None]]), torch.cat([scores.flatten(), penalty[None]]), model)
