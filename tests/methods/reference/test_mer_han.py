"""MER-HAN: arrays of a third party's code, and the equations by loop at other sizes, with items and modalities that are missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.ragged import Ragged
from erc_graph.methods.mer_han import MERHAN, MERHANConfig
from tests.methods.reference.conftest import SPEAKERS, Reference, batch_of, build, equal, random_batch, stir

pytestmark = pytest.mark.reference
PAIRS = {"text.audio": "a2t", "audio.text": "t2a"}  # who asks whom
PARTS = ("query", "key", "value")


def swapped(values: Tensor) -> Tensor:
    """Channels of text behind those of audio."""
    return torch.cat(values.chunk(2, -1)[::-1], -1)


def renamed(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters of the code under our names; the maps of the front ends change nothing."""
    found = {f"recur.audio.lstm.{k.rpartition('.')[2]}": v for k, v in given.items() if ".bilstm." in k}
    for m, attention, norm in (("audio", "audio_encoder.mhsa", "audio_encoder.layernorm"), ("text", "text_mhsa", "text_layernorm")):
        for end in ("weight", "bias"):
            found[f"attend.{m}.query_key_value.{end}"] = given[f"{attention}.in_proj_{end}"]
            found[f"attend.{m}.output.{end}"] = given[f"{attention}.out_proj.{end}"]
            found[f"norm.{m}.{end}"] = given[f"{norm}.{end}"]
            found[f"project.{m}.1.{end}"] = given[f"cross_modal_attention.{m}_proj.{end}"].squeeze(-1)
    for ours, theirs in PAIRS.items():
        mark = "cross_modal_attention."
        for end in ("weight", "bias"):
            packed = given[f"{mark}attn_{theirs}.in_proj_{end}"].chunk(3)
            found |= {f"exchange.attend.{ours}.{part}.{end}": value for part, value in zip(PARTS, packed, strict=True)}
            found[f"exchange.attend.{ours}.output.{end}"] = given[f"{mark}attn_{theirs}.out_proj.{end}"]
            found[f"normed.{ours.partition('.')[0]}.{end}"] = given[f"{mark}layernorm_{theirs}.{end}"]
    for m, width in (("audio", given["audio_encoder.bilstm.weight_ih_l0"].shape[1]), ("text", len(given["text_layernorm.bias"]))):
        found |= {f"items.fronts.{m}.project.weight": torch.eye(width), f"items.fronts.{m}.project.bias": torch.zeros(width)}
        found |= {f"items.fronts.{m}.mean": torch.zeros(width), f"items.fronts.{m}.deviation": torch.ones(width)}
    classify = {f"classify.1.{end}": given[f"global_attention.fc.{end}"] for end in ("weight", "bias")}
    classify["classify.1.weight"] = swapped(classify["classify.1.weight"])
    return found | classify | {"query": swapped(given["global_attention.U"])}


def test_a_third_party_s_code(reference: Callable[[str], Reference], put: Callable[..., None]) -> None:
    arrays = reference("mer-han")
    given, (audio, text) = arrays.under("param/"), (arrays["in/audio"], arrays["in/text"])
    config = MERHANConfig(
        graph="none",
        hidden=len(given["audio_encoder.layernorm.bias"]),
        layers=sum("bilstm.weight_hh" in name and "reverse" not in name for name in given),
        width=len(given["cross_modal_attention.audio_proj.bias"]),
        heads=arrays.options(heads=2)["heads"],
        join="index",
    )
    items = {"audio": audio.shape[2:], "text": text.shape[2:]}
    model = build(MERHAN, {}, len(given["global_attention.fc.bias"]), config, sequences=items, dtype=text.dtype)
    put(model, renamed(given))
    batch = batch_of([torch.zeros(len(text), dtype=torch.long)], [arrays["in/y"]])
    batch = replace(batch, sequences={"audio": Ragged.of(list(audio)), "text": Ragged.of(list(text))})
    seen: dict[str, Tensor] = {}
    names = ("recur.audio", "norm.audio", "norm.text", "project.audio", "project.text", "normed.audio", "normed.text")
    for name in names:
        model.get_submodule(name).register_forward_hook(lambda _, __, found, name=name: seen.update({name: found}))
    answer = model(batch)
    for name, theirs in zip(names[:3], ("bilstm", "refined_audio", "refined_text"), strict=True):
        arrays.same(seen[name], f"mid/{theirs}")
    for m in items:
        arrays.same(seen[f"project.{m}"].transpose(1, 2), f"mid/{m}_proj")
    for ours, theirs in PAIRS.items():
        arrays.same(seen[f"normed.{ours.partition('.')[0]}"], f"mid/layernorm_{theirs}")
    torch.testing.assert_close(swapped(answer.states), arrays["mid/aggregated"] * arrays["mid/residual_mean"], rtol=0, atol=1e-5)
    arrays.same(answer.scores, "out/logits")
    loss = F.cross_entropy(answer.scores, batch.target)
    arrays.same(loss, "loss_ce_mean")
    loss.backward()
    arrays.same(model.recur.audio.lstm.weight_hh_l0.grad, "grad/audio_encoder.bilstm.weight_hh_l0")
    arrays.same(swapped(model.query.grad), "grad/global_attention.U")
    asked = model.exchange.attend.audio.text
    arrays.same(torch.cat([getattr(asked, part).weight.grad for part in PARTS]), "grad/cross_modal_attention.attn_t2a.in_proj_weight")


# -- other sizes, by loop ---------------------------------------------------------------------------------------------------------


def attention(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """`(L, width)`, head by head and step by step."""
    parts = []
    for q, k, v in zip(query.chunk(heads, -1), key.chunk(heads, -1), value.chunk(heads, -1), strict=True):
        parts.append(torch.stack([(k @ one / len(one) ** 0.5).softmax(0) @ v for one in q]))
    return torch.cat(parts, -1)


def items_of(model: Any, batch: Batch, m: str, i: int) -> Tensor:
    """`x_m` of an utterance behind its linear map: `(L, features)`, or none."""
    if m in batch.sequences:
        return model.items.fronts[m].project(batch.sequences[m][i])
    return model.items.vectors[m](batch.features[m][i : i + 1]) if batch.present[m][i] else torch.zeros(0)


def loop(model: Any, batch: Batch) -> Tensor:
    """Eqs. (1)-(6), utterance by utterance."""
    heads, scores = model.config.heads, []
    for i in range(batch.utterances):
        p = {}
        for m in model.names:
            if len(x := items_of(model, batch, m, i)):
                s = model.recur[m].lstm(x[None])[0][0] if m != "text" else x
                query, key, value = model.attend[m].query_key_value(s).chunk(3, -1)
                p[m] = model.project[m](model.norm[m](s + model.attend[m].output(attention(query, key, value, heads))))
        u = {}
        for m in p:
            asked = {o: model.exchange.attend[m][o] for o in p if o != m}
            heard = [a.output(attention(a.query(p[m]), a.key(p[o]), a.value(p[o]), heads)) for o, a in asked.items()]
            u[m] = model.normed[m](p[m] + sum(heard))
        if model.config.join == "time":
            f = torch.cat(list(u.values())) if u else torch.zeros(1, model.size).double()
        else:
            f = torch.zeros(max([1, *map(len, u.values())]), len(model.names), model.config.width).double()
            for m, one in u.items():
                f[: len(one), model.names.index(m)] = one
            f = f.flatten(1)
        scores.append(model.classify(((f @ model.query).softmax(0) @ f) * f.mean(0)))
    return torch.stack(scores)


@pytest.mark.parametrize("join", ["time", "index"])
@pytest.mark.parametrize(
    ("vectors", "sequences"), [({"audio": 4}, {"text": 6, "visual": 3}), ({"text": 4, "audio": 2}, {}), ({}, {"audio": 4})]
)
def test_equations_by_loop(vectors: dict[str, int], sequences: dict[str, int], join: Any) -> None:
    config = MERHANConfig(graph="none", hidden=6, layers=1, width=4, heads=2, join=join)
    model = build(MERHAN, vectors, 3, config, sequences={m: (width,) for m, width in sequences.items()})
    stir(model)
    for front in model.items.fronts.values():
        front.mean.zero_(), front.deviation.fill_(1)
    batch = random_batch(SPEAKERS, vectors, classes=3)
    items = {}
    for k, (m, width) in enumerate(sequences.items()):
        items[m] = Ragged.of([torch.randn(((2 + k) * i + k) % 4, width).double() for i in range(batch.utterances)])
    equal(model(replace(batch, sequences=items)).scores, loop(model, replace(batch, sequences=items)), model)
