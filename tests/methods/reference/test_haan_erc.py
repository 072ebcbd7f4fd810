"""HAAN-ERC: arrays of the public code, with its masks and without, and the equations by loop with modalities that are missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from erc_graph.encoders.feedforward import FeedForward
from erc_graph.encoders.positions import sines
from erc_graph.encoders.relation_attention import RelationAttention
from erc_graph.methods.haan_erc import HAANERC, HAANERCConfig
from tests.methods.reference.conftest import SPEAKERS, Reference, batch_of, build, equal, random_batch, stir

pytestmark = pytest.mark.reference
MODALITIES = {"audio": "audio", **{f"text{k + 1}": f"norm3{'abcd'[k]}" for k in range(4)}, "visual": "visual"}
STREAMS = ("audio", "text", "visual")
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-5}  # the code's table of positions is float32


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted.double(), rtol=0, atol=TOLERANCE[wanted.dtype])


def block(ours: str, theirs: str, attention: str, given: Mapping[str, Tensor]) -> dict[str, str]:
    """Ours → theirs, without the endings of a linear map."""
    names = {f"{ours}.attend.{name}": f"{theirs}.{attention}.{end}" for name, end in
             {"query": "w_qs", "key": "w_ks", "value": "w_vs", "output": "fc"}.items()}  # fmt: skip
    if f"{theirs}.{attention}.w_ds0.weight" in given:
        names |= {f"{ours}.attend.selector.{name}": f"{theirs}.{attention}.{end}" for name, end in
                  {"of_target": "w_ds0", "of_source": "w_ds1", "inner": "attention.dc.0", "outer": "attention.dc.2"}.items()}  # fmt: skip
    return names | {f"{ours}.norm": f"{theirs}.{attention}.layer_norm"} | ffn(f"{ours}.feedforward", f"{theirs}.pos_ffn")


def ffn(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.{name}": f"{theirs}.{end}" for name, end in {"inner": "w_1", "outer": "w_2", "norm": "layer_norm"}.items()}


def renamed(given: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """The parameters of the public code under our names."""
    names = {f"project.project.{m}": m[0] for m in STREAMS} | {"norm": "layer_norm", "classify": "smax_fc", "value": "readout_tav.v"}
    names |= {"read_norm": "readout_tav.layer_norm"} | ffn("read", "readout_tav.ffn")
    found = {"asks": given["readout_tav.w"].view(3, -1)[[1, 0, 2]]}  # theirs: text, audio, visual
    for k in range(layers):
        names |= block(f"all.{k}", f"ge.layer_stack.{k}", "glb_attn", given)
        for m in STREAMS:
            for place, stage in ((k, "s"), (layers + k, "c")):
                names |= block(f"own.{m}.{place}", f"{stage}e_{m[0]}.layer_stack.{k}", "slf_attn", given)
    for text, norm in MODALITIES.items():
        ends = ("weight", "bias", "running_mean", "running_var") if norm.startswith("norm") else ()
        found |= {f"texts.norm.{text}.{end}": given[f"{norm}.{end}"] for end in ends}
    for ours, theirs in names.items():
        found |= {f"{ours}.{end}": given[f"{theirs}.{end}"] for end in ("weight", "bias") if f"{theirs}.{end}" in given}
    return {name: value.double() for name, value in found.items()}


def relations(model: Any) -> list[Any]:
    return [part for part in model.modules() if isinstance(part, RelationAttention)]


def without_selectors(model: Any) -> None:
    for part in relations(model):
        part.selector = None


def as_coded(model: Any, official: Tensor | None = None) -> dict[Any, Tensor]:
    """One mask for both stages, and what hears nobody hears all; returns what the selectors decide, of all pairs."""
    decisions: dict[Any, Tensor] = {}

    def weigh(scores: Tensor, heard: Tensor) -> Tensor:
        return scores.masked_fill(~heard[:, None] | (scores < -1e8), -1e9).softmax(-1)

    def chosen(selector: Any, x: Tensor, allowed: Tensor, part: Any) -> Tensor:
        decisions[part] = selector(x, x, torch.ones_like(allowed).nonzero(as_tuple=True)).view(allowed.shape) > 0
        return torch.where(decisions[part], 0.0, -1e9)  # so that no selector has a gradient

    for part in relations(model):
        part.relation, part.weigh, part.chosen = "same", weigh, partial(chosen, part=part)
        if official is not None:
            part.allowed = lambda nodes, batch: official
    return decisions


@pytest.fixture(params=["plain", "selector"])
def case(request: pytest.FixtureRequest, reference: Callable[[str], Reference], put: Callable[..., None]) -> tuple[Any, ...]:
    """Inputs, outputs, our model, and whether it has a selector."""
    every, arrays = reference("haan-erc"), reference("haan-erc").under(f"iemocap_{request.param}/")
    if not arrays:
        pytest.skip("the other model is among the arrays")
    given, options = arrays.under("param/"), every.options(heads=2)
    layers = sum(name.startswith("ge.") and name.endswith("w_qs.weight") for name in given)
    text = every["in/text_BT4D"]
    widths = {"audio": every["in/audio_BTD"].shape[-1], "visual": every["in/visual_BTD"].shape[-1]}
    config = HAANERCConfig(
        width=len(given["t.bias"]),
        layers=layers,
        heads=options["heads"],
        head_width=len(given["ge.layer_stack.0.glb_attn.w_qs.weight"]) // options["heads"],
        feedforward=len(given["ge.layer_stack.0.pos_ffn.w_1.bias"]),
        dropout=0.0,
    )
    model = build(HAANERC, dict.fromkeys(list(MODALITIES)[1:5], text.shape[-1]) | widths, len(given["smax_fc.bias"]), config)
    model.read = FeedForward(config.width, len(given["readout_tav.ffn.w_1.bias"]), 0.0, epsilon=1e-6).double().eval()
    if request.param == "plain":
        without_selectors(model)
    put(model, renamed(given, layers))
    return every, arrays, model, request.param == "selector"


def dialogues(every: Reference, lengths: list[int], first: int = 0) -> Any:
    """Dialogues of some lengths, from the first one on."""
    who = every["in/qmask_TBP"].transpose(0, 1).argmax(-1)

    def rows(values: Tensor) -> list[Tensor]:
        return [values[first + i, :length] for i, length in enumerate(lengths)]

    features: dict[str, Any] = {f"text{k + 1}": torch.cat(rows(every["in/text_BT4D"][:, :, k])).double() for k in range(4)}
    features |= {m: torch.cat(rows(every[f"in/{m}_BTD"])).double() for m in ("audio", "visual")}
    return batch_of(rows(who), rows(every["in/label"]), **features)


def test_as_the_code_masks_it(case: tuple[Any, ...]) -> None:
    """Padding as turns like others, one mask for both stages, and what hears nobody hears all."""
    every, arrays, model, selector = case
    count, longest = every["in/label"].shape
    official, real = every["in/mask_self_official"], every["in/umask"] > 0
    decisions = as_coded(model, official)
    batch = dialogues(every, [longest] * count)
    log_prob = model(batch).scores.log_softmax(-1).view(count, longest, -1)
    close(log_prob[real], arrays["out/log_prob_BTC"][real])
    if selector:
        first = decisions[model.own["text"][0].attend]
        wanted = arrays["mid/first_decision"][:, 0] > 0.5
        assert torch.equal(first[official], wanted[official])
    loss = F.nll_loss(log_prob[real], every["in/label"][real])
    close(loss, arrays["out/loss"])
    loss.backward()
    query = model.own["text"][0].attend.query.weight.grad
    close(query, arrays["grad/se_t.layer_stack.0.slf_attn.w_qs.weight"])
    close(model.project.project["text"].weight.grad, arrays["grad/t.weight"])


def test_a_dialogue_alone(case: tuple[Any, ...]) -> None:
    """Without padding our mask of the same speaker is the code's, and a dialogue is judged in company as alone."""
    every, arrays, model, _ = case
    as_coded(model)
    alone = dialogues(every, [int(every["in/lens"][1])], first=1)
    close(model(alone).scores.log_softmax(-1), arrays["alone1/log_prob"][0])


# -- other sizes, by loop ---------------------------------------------------------------------------------------------------------


def attended(part: Any, query: Tensor, asked: list[Tensor]) -> Tensor:
    keys, values, heads = [part.key(one) for one in asked], [part.value(one) for one in asked], []
    for h, q in enumerate(part.query(query).chunk(part.heads)):
        score = torch.stack([q @ key.chunk(part.heads)[h] for key in keys]) / len(q) ** 0.5
        heads.append(sum(w * value.chunk(part.heads)[h] for w, value in zip(score.softmax(0), values, strict=True)))
    return part.output(torch.cat(heads))


def layer(part: Any, x: Tensor, asked: list[Tensor]) -> Tensor:
    x = part.norm(x + attended(part.attend, x, asked) if asked else x)
    net = part.feedforward
    return net.norm(x + net.outer(net.inner(x).relu()))


def loop(model: Any, batch: Any) -> Tensor:
    """Eqs. (1)-(7), turn by turn."""
    rows, like = range(batch.utterances), torch.zeros(1, model.config.width, dtype=torch.float64)
    x = {(m, i): model.norm(model.project.project[m](value[i]) + sines(batch.turn[i : i + 1], like)[0])
         for m, value in batch.features.items() for i in rows if batch.present[m][i]}  # fmt: skip
    for first, stage in ((0, "same"), (model.config.layers, "other")):
        for k in range(first, first + model.config.layers):
            new = {}
            for m, i in x:
                part, asked = model.own[m][k], []
                for n, j in x:
                    related = (batch.speaker[i] == batch.speaker[j]) == (stage == "same")
                    if n != m or batch.dialogue[i] != batch.dialogue[j] or j > i or not related:
                        continue
                    chosen = part.attend.selector
                    if chosen is not None and j != i:
                        pair = torch.cat([chosen.of_target(x[m, i]), chosen.of_source(x[m, j])])
                        no, yes = chosen.outer(chosen.inner(pair).relu())
                        if no >= yes:
                            continue
                    asked.append(x[n, j])
                new[m, i] = layer(part, x[m, i], asked or [x[m, i]])
            x = new
    h = x
    for part in model.all:
        h = {(m, i): layer(part, h[m, i], [h[n, j] for n, j in h if batch.dialogue[i] == batch.dialogue[j]
                                           and (j <= i or not model.config.causal)]) for m, i in h}  # fmt: skip
    scores = []
    for i in rows:
        there = [(k, h[m, i]) for k, m in enumerate(batch.features) if (m, i) in h]
        if there:
            share = torch.stack([state @ model.asks[k] for k, state in there]).div(len(like[0]) ** 0.5).softmax(0)
            read = sum(w * model.value(state) for w, (_, state) in zip(share, there, strict=True))
        scores.append(model.classify(model.read(model.read_norm(read if there else like[0]))))
    return torch.stack(scores)


@pytest.mark.parametrize(("selector", "causal"), [(True, False), (False, True)])
@pytest.mark.parametrize("widths", [{"audio": 3, "text": 5}, {"text": 4}])
def test_equations_by_loop(widths: dict[str, int], selector: bool, causal: bool) -> None:
    config = HAANERCConfig(width=4, layers=2, heads=2, head_width=3, feedforward=5, causal=causal, dropout=0.0)
    model = build(HAANERC, widths, 3, config)
    if not selector:
        without_selectors(model)
    stir(model)
    batch = random_batch(SPEAKERS, widths, classes=3, missing=0.3)
    if selector:  # the gradient of a decision is that of no decision
        torch.testing.assert_close(model(batch).scores, loop(model, batch), rtol=0, atol=1e-10)
    else:
        leaves = [value.requires_grad_() for value in batch.features.values()]
        equal(model(batch).scores, loop(model, batch), model, *leaves)
