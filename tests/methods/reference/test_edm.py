"""MF-EDM: arrays of the public code, and the equations by loop at other sizes and with missing modalities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.graphs.edges import edges_of
from erc_graph.graphs.recipe import GraphRecipe, load_recipe
from erc_graph.methods.edm import EDM, EDMConfig
from erc_graph.training.losses import legacy_focal
from tests.conv.loops import edges_by_loop
from tests.methods.reference.conftest import SPEAKERS, Reference, batch_of, build, equal, random_batch, stir
from tests.methods.reference.test_m3net import PaddedGRU, gru

pytestmark = pytest.mark.reference
STREAMS = ("text", "audio", "visual", "anchor")  # in the order of the public code
NORMS = ("normBNa", "normBNb", "normBNc", "normBNd")
KINDS = ("running_mean", "running_var", "weight", "bias")
PARTS: dict[str, dict[str, Any]] = {
    "iemocap": {"residual": 1.0, "inertia_residual": 1.0, "speaker": ["text"], "inertia_speaker": ["visual"], "maps_text": True},
    "meld": {"residual": 1.1, "inertia_residual": 0.1, "speaker": [], "inertia_speaker": ["anchor"], "maps_text": False},
}


def edges_as_run(arrays: Reference, graph: str, batch: Batch) -> Counter[tuple[int, str, int, str]]:
    """How often every edge is there: turn and stream of the source, then of the target."""
    place = [(first + i, s) for first, n in zip(batch.ptr.tolist(), batch.sizes, strict=False) for s in STREAMS for i in range(n)]
    source, target = arrays[f"edge/{graph}"].tolist()
    counts = arrays[f"edge/{graph}_count"].tolist()
    return Counter({(*place[s], *place[t]): n for s, t, n in zip(source, target, counts, strict=True)})


def recipes_of(arrays: Reference, batch: Batch) -> tuple[GraphRecipe, GraphRecipe]:
    """The recipes with the windows that the edges show."""
    who = list(zip(batch.dialogue.tolist(), batch.speaker.tolist(), strict=True))
    own = [who[:i].count(one) for i, one in enumerate(who)]
    away = [(i - j, n) for (j, s, i, t), n in edges_as_run(arrays, "ecgnn", batch).items() if s == t]
    near, far = max((a for a, n in away if n == 2), default=0), max((a for a, _ in away), default=0)
    steps = [own[i] - own[j] for (j, s, i, t) in edges_as_run(arrays, "eignn", batch) if s == t]
    (first, second, *rest), (one, *others) = load_recipe("edm_contagion").edges, load_recipe("edm_inertia").edges
    rules = replace(first, past=near, future=near), replace(second, past=far, future=far), *rest
    inertia = replace(one, past=max(steps, default=0), future=max((-step for step in steps), default=0)), *others
    return (
        replace(load_recipe("edm_contagion"), edges=rules, examples=()),
        replace(load_recipe("edm_inertia"), edges=inertia, examples=()),
    )


def batch_from(arrays: Reference) -> Batch:
    numbers = sorted(int(name.rpartition("/")[2]) for name in arrays if name.startswith("in/label/"))
    names = sorted({name.split("/")[1] for name in arrays if name.startswith("in/")} - {"speaker", "label", "class_weight"})
    features = {name: torch.cat([arrays[f"in/{name}/{i}"] for i in numbers]) for name in names}
    return batch_of(*([arrays[f"in/{name}/{i}"] for i in numbers] for name in ("speaker", "label")), **features)


def ours(arrays: Reference, part: str, batch: Batch, put: Callable[..., None]) -> Any:
    given, graphs = arrays.under("param/"), recipes_of(arrays, batch)
    told = arrays.options(**PARTS[part])
    width, hidden = len(given["linear_a.bias"]), len(given["graph_model.fc1.bias"])
    layers = [sum(f"/{kind}conv" in f"/{name.rpartition('.')[2]}" for name in arrays if name.startswith("mid/")) for kind in ("", "direct")]
    words = {name: value for name, value in told.items() if name != "maps_text"}
    config = EDMConfig(
        graph=graphs[0], inertia_graph=graphs[1], width=width, hidden=hidden,  # type: ignore[arg-type]
        layers=layers[0], inertia_layers=layers[1], dropout=0.0, **words,
    )  # fmt: skip
    widths = {name: value.shape[1] for name, value in batch.features.items()}
    model = build(EDM, widths, len(given["smax_fc.bias"]), config, dtype=torch.float32)
    table = given["graph_model.speaker_embeddings.weight"]
    model.speaker.embedding = nn.Embedding(*table.shape)
    matrix = dict(zip(STREAMS, given["linear_u.weight"].chunk(3, 1), strict=False))
    found = {
        **{f"texts.norm.text{i + 1}.{kind}": given[f"{name}.{kind}"] for i, name in enumerate(NORMS) for kind in KINDS},
        **{f"streams.read.text.{name}": value for name, value in gru(given, "gru_l", 2).items()},
        "streams.project.text.weight": given["linear_l.weight"] if told["maps_text"] else torch.eye(width),
        "streams.project.text.bias": given["linear_l.bias"] if told["maps_text"] else torch.zeros(width),
        "anchor.weight": torch.cat([matrix[name] for name in model.streams.names], 1),
        "speaker.embedding.weight": table,
        "speaker.weight.weight": torch.eye(width),
        "contagion.gate": torch.stack([given[f"graph_model.conv{k + 1}.gate.weight"].view(2, hidden) for k in range(layers[0])]),
        "contagion.bias": torch.cat([given[f"graph_model.conv{k + 1}.gate.bias"] for k in range(layers[0])]),
    }  # fmt: skip
    names = {"streams.project.audio": "linear_a", "streams.project.visual": "linear_v", "classify": "smax_fc"}
    names |= {"to_contagion": "graph_model.fc2", "to_inertia": "graph_model.fc1"}
    found |= {f"{our}.{end}": given[f"{their}.{end}"] for our, their in names.items() for end in ("weight", "bias")}
    put(model, found | {"anchor.bias": given["linear_u.bias"]})
    return model


def in_their_order(states: Tensor, batch: Batch, streams: tuple[str, ...]) -> Tensor:
    """`(N, S, k)` → rows dialogue by dialogue, stream by stream."""
    chosen = states[:, [streams.index(name) for name in STREAMS]]
    return torch.cat([part.transpose(0, 1).flatten(0, 1) for part in chosen.split(list(batch.sizes))])


@pytest.mark.parametrize("part", PARTS)
def test_the_public_code(reference: Callable[[str], Reference], put: Callable[..., None], part: str) -> None:
    every = reference("edm")
    arrays = every.under(f"{part}/")
    batch = batch_from(arrays)
    model, streams = ours(arrays, part, batch, put), ("audio", "text", "visual", "anchor")
    with torch.no_grad():  # packed, in one batch and alone
        arrays.same(model(batch).scores.log_softmax(-1), "out/alone_log_prob")
        alone = [model(batch.select(torch.tensor([i]))).scores for i in range(len(batch))]
        arrays.same(torch.cat(alone).log_softmax(-1), "out/alone_log_prob")
    for graph, conv in (("ecgnn", model.contagion), ("eignn", model.inertia)):
        nodes = Nodes(torch.zeros(batch.utterances, 4, 1), torch.ones(batch.utterances, 4, dtype=torch.bool), streams)
        listed = edges_of(conv.recipe, nodes, batch, layout="list").edges
        found: Counter[Any] = Counter()
        times = torch.ones(len(listed.source)) if listed.times is None else listed.times
        for s, t, n in zip(listed.source.tolist(), listed.target.tolist(), times.tolist(), strict=True):
            found[s // 4, streams[s % 4], t // 4, streams[t % 4]] += int(n)
        assert found == edges_as_run(arrays, graph, batch)

    # the batch as the code runs it: the GRU reads padding
    given, width = arrays.under("param/"), len(arrays["param/linear_a.bias"])
    blank = torch.zeros(1, len(given["normBNa.bias"]))
    fill = sum(F.batch_norm(blank, *(given[f"{n}.{k}"] for k in KINDS)) for n in NORMS) / len(NORMS)
    model.streams.read["text"] = PaddedGRU(model.streams.read["text"], model.streams.project["text"](fill).squeeze(0))
    seen: dict[str, Tensor] = {}
    for name in ("to_contagion", "to_inertia", "contagion", "inertia"):
        getattr(model, name).register_forward_hook(lambda _, given, out, name=name: seen.update({name: getattr(out, "states", out)}))
    scores = model(batch).scores
    rows = {name: in_their_order(value, batch, streams) for name, value in seen.items()}
    arrays.same(rows["to_contagion"], "mid/graph_model.fc2")
    arrays.same(rows["to_inertia"], "mid/graph_model.fc1")
    c = model.config
    arrays.same(rows["contagion"] - c.residual * rows["to_contagion"], f"mid/graph_model.conv{c.layers}")
    arrays.same(rows["inertia"] - c.inertia_residual * rows["to_inertia"], f"mid/graph_model.directconv{c.inertia_layers}")
    arrays.same(scores.log_softmax(-1), "out/log_prob")
    focal = part == "meld"
    loss = legacy_focal(scores, batch.target).mean() if focal else F.cross_entropy(scores, batch.target, every["in/class_weight"])
    arrays.same(loss, "out/loss")
    loss.backward()
    arrays.same(model.contagion.gate.grad[0].view(1, -1), "grad/graph_model.conv1.gate.weight")
    arrays.same(model.speaker.embedding.weight.grad, "grad/graph_model.speaker_embeddings.weight")
    slopes = dict(zip(model.streams.names, model.anchor.weight.grad.split(width, 1), strict=True))
    arrays.same(torch.cat([slopes[name] for name in STREAMS[:3]], 1), "grad/linear_u.weight")


# -- other sizes, by loop ---------------------------------------------------------------------------------------------------------


def loop(model: Any, batch: Batch) -> Tensor:
    """Eqs. (2)-(6), edge by edge, on the states of the streams."""
    given, c = model.given(batch), model.config
    x = model.streams(model.texts(given))
    streams = (*x.streams, "anchor")
    here = torch.cat([x.present, x.present.any(1, keepdim=True)], 1)
    spoken = model.speaker(given) if model.speaker else torch.zeros(batch.utterances, c.width).double()
    state = {}
    for i in range(batch.utterances):
        parts = [x.states[i, s] if here[i, s] else torch.zeros(c.width).double() for s in range(len(x.streams))]
        state |= {(i, s): part for s, part in enumerate([*parts, model.anchor(torch.cat(parts))])}
    ends = []
    for conv, into, who in (
        (model.inertia, model.to_inertia, {*c.speaker, *c.inertia_speaker}),
        (model.contagion, model.to_contagion, {*c.speaker}),
    ):
        rules = conv.recipe.edges
        edges = [
            edge
            for edge in edges_by_loop(conv.recipe, Nodes(x.states, here, streams), batch)
            if (streams[edge.source[1]], streams[edge.target[1]]) in rules[edge.relation].joined(streams)
        ]
        degree: Counter[Any] = Counter()
        for edge in edges:
            degree[edge.source if conv.degree == "out" else edge.target] += edge.times
        start = {node: into(value + (spoken[node[0]] if streams[node[1]] in who else 0)) for node, value in state.items()}
        y = start
        for k in range(conv.layers):
            new = {node: conv.share * value for node, value in start.items()}
            for edge in edges:
                both, gate = degree[edge.source] * degree[edge.target], 1.0
                if conv.gate is not None:
                    gate = (conv.gate[k].flatten() @ torch.cat([y[edge.target], y[edge.source]]) + conv.bias[k]).tanh()
                if both:
                    new[edge.target] = new[edge.target] + edge.times * gate * y[edge.source] / both**0.5
            y = new
        last = len(streams) - 1
        ends.append(torch.stack([y[i, last] * here[i, last] for i in range(batch.utterances)]))
    return model.classify(torch.cat(ends, -1))


@pytest.mark.parametrize("layout", ["list", "blocks"])
@pytest.mark.parametrize("names", [("audio", "text", "visual"), ("audio", "text"), ("visual",)])
def test_equations_by_loop(names: tuple[str, ...], layout: str) -> None:
    widths = {name: 3 + i for i, name in enumerate(names)}
    model = build(EDM, widths, 3, EDMConfig(width=4, hidden=5, layers=2, inertia_layers=2, residual=0.7, inertia_residual=1.2))
    model.contagion.layout = model.inertia.layout = layout
    stir(model)
    batch = random_batch(SPEAKERS, widths, classes=3, missing=0.3)
    equal(model(batch).scores, loop(model, batch), model)
