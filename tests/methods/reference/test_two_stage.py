"""The two-stage graph: arrays of a loop over its equations, each dialogue alone, and that loop with missing modalities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.graphs.recipe import GraphRecipe, load_recipe
from erc_graph.methods.two_stage import TwoStage, TwoStageConfig
from tests.conv.loops import edges_by_loop
from tests.methods.reference.conftest import SPEAKERS, Reference, batch_of, build, equal, random_batch, stir
from tests.methods.reference.test_mmgcn import by_stream

pytestmark = pytest.mark.reference
STREAMS = ("text", "audio", "visual")  # in the order of the arrays


def recipe_of(past: int, future: int, pairs: int) -> GraphRecipe:
    recipe = load_recipe("cogmen")
    before, after = recipe.edges
    return replace(recipe, edges=(replace(before, past=past, pairs=pairs), replace(after, future=future, pairs=pairs)), examples=())


@pytest.fixture
def case(reference: Callable[[str], Reference], put: Callable[..., None]) -> tuple[Reference, Any, Batch, int]:
    """Arrays, our model with their parameters, the dialogues, and the number of speakers."""
    arrays = reference("hfgcn")
    given, numbers = arrays.under("param/"), sorted(int(name.rpartition("/")[2]) for name in arrays if name.startswith("in/label/"))
    ours, hidden = sorted(STREAMS), len(given["talk.bias"])
    pairs = round((sum(name.startswith("talk.") and "->" in name for name in given) / 2) ** 0.5)
    window = arrays.options(window=[3, 2])["window"]
    features = {m: torch.cat([arrays[f"in/{m}/{i}"] for i in numbers]) for m in ours}
    config = TwoStageConfig(graph=recipe_of(*window, pairs), hidden=hidden, dropout=0.0)  # type: ignore[arg-type]
    model = build(TwoStage, {m: v.shape[1] for m, v in features.items()}, len(given["out.bias"]), config, dtype=torch.float32)
    blocks = {(a, b): given[f"fuse.root.{a}.weight" if a == b else f"fuse.{a}->{b}.weight"] for a in ours for b in ours}
    sides = [(side, s, t) for side in ("before", "after") for s in range(pairs) for t in range(pairs)]
    fused, context = given["out.weight"].split([len(ours) * hidden, hidden], 1)
    found = {
        **{f"streams.project.{m}.{end}": given[f"in.{m}.{end}"] for m in ours for end in ("weight", "bias")},
        **{
            f"streams.read.text.layers.0.{way}.{kind}_l0": given[f"gru.text.{kind}_l0{suffix}"]
            for way, suffix in enumerate(("", "_reverse"))
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        },
        "fuse.weight": torch.cat([torch.cat([blocks[a, b] for a in ours], 1) for b in ours]),
        "fuse.bias": torch.cat([given[f"fuse.{m}.bias"] for m in ours]),
        "talk.weight": torch.stack([by_stream(given[f"talk.{s}->{t}.{side}.weight"], STREAMS).T for side, s, t in sides]),
        "talk.root.weight": by_stream(given["talk.root.weight"], STREAMS),
        "talk.root.bias": given["talk.bias"],
        "spread.neighbours.weight": given["conv.neighbour.weight"],
        "spread.neighbours.bias": given["conv.bias"],
        "spread.root.weight": given["conv.root.weight"],
        "classify.weight": torch.cat([by_stream(fused, STREAMS), context], 1),
        "classify.bias": given["out.bias"],
    }
    put(model, found)
    told = ([arrays[f"in/{name}/{i}"] for i in numbers] for name in ("speaker", "label"))
    return arrays, model, batch_of(*told, **features), pairs


def test_the_arrays(case: tuple[Reference, Any, Batch, int]) -> None:
    arrays, model, batch, pairs = case
    seen: dict[str, Tensor] = {}
    model.talk.register_forward_hook(lambda _, given, out: seen.update(u=given[0].states[:, 0], v=out.states[:, 0]))
    scores = model(batch).scores
    parts = seen["u"].chunk(len(STREAMS), 1)
    arrays.same(torch.cat([parts[sorted(STREAMS).index(m)] for m in STREAMS], 1), "mid/fused")
    arrays.same(seen["v"].relu(), "mid/talk")
    arrays.same(scores, "out/logits")
    loss = F.cross_entropy(scores, batch.target)
    arrays.same(loss, "out/loss")
    loss.backward()
    hidden, ours = model.config.hidden, sorted(STREAMS)
    places = {m: slice(i * hidden, (i + 1) * hidden) for i, m in enumerate(ours)}
    for name in (name.removeprefix("grad/") for name in arrays if name.startswith("grad/")):
        kind, ends, *side = name.removesuffix(".weight").split(".")
        a, b = ends.split("->")
        if kind == "fuse":
            arrays.same(model.fuse.weight.grad[places[b], places[a]], f"grad/{name}")
        else:
            slope = model.talk.weight.grad[("before", "after").index(side[0]) * pairs**2 + int(a) * pairs + int(b)].T
            arrays.same(torch.cat([slope[:, places[m]] for m in STREAMS], 1), f"grad/{name}")
    alone = [model(batch.select(torch.tensor([i]))).scores for i in range(len(batch))]
    arrays.same(torch.cat(alone), "out/logits")


def loop(model: Any, batch: Batch) -> Tensor:
    """Eqs. (2)-(5), edge by edge, on the states of the streams."""
    x, c = model.streams(model.given(batch)), model.config
    rows, here = x.masked(), x.present.any(1)
    blocks = [part.split(c.hidden, 1) for part in model.fuse.weight.split(c.hidden)]
    u, v, scores = [], [], []
    for i in range(batch.utterances):
        z = []
        for m, (own, bias) in enumerate(zip(blocks, model.fuse.bias.split(c.hidden), strict=True)):
            heard = sum((own[a] @ rows[i, a] for a in range(len(own)) if x.present[i, a]), bias)
            z.append(heard.relu() * x.present[i, m])
        u.append(torch.cat(z))
    edges = edges_by_loop(model.recipe, Nodes(torch.stack(u)[:, None], here[:, None], ("turn",)), batch)
    for i in range(batch.utterances):
        into = [edge for edge in edges if edge.target[0] == i]
        heard = model.talk.root(u[i])
        for edge in into:
            number = sum(other.relation == edge.relation for other in into)
            heard = heard + u[edge.source[0]] @ model.talk.weight[edge.relation] / number
        v.append(heard.relu() * here[i])
    for i in range(batch.utterances):
        heard = sum((v[edge.source[0]] for edge in edges if edge.target[0] == i), torch.zeros(c.hidden).double())
        y = (model.spread.neighbours(heard) + model.spread.root(v[i])).relu() * here[i]
        scores.append(model.classify(torch.cat([u[i], y])))
    return torch.stack(scores)


@pytest.mark.parametrize("names", [("audio", "text", "visual"), ("text",), ("audio", "visual")])
def test_equations_by_loop(names: tuple[str, ...]) -> None:
    widths = {name: 3 + i for i, name in enumerate(names)}
    model = build(TwoStage, widths, 3, TwoStageConfig(graph=recipe_of(2, 1, 2), hidden=4))  # type: ignore[arg-type]
    stir(model)
    batch = random_batch(SPEAKERS, widths, classes=3, missing=0.3)
    equal(model(batch).scores, loop(model, batch), model)
