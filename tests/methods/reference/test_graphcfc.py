"""GraphCFC: arrays of the public code, and the equations by loop at other sizes and with missing modalities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erc_graph.data.nodes import Nodes
from erc_graph.graphs.recipe import GraphRecipe, load_recipe
from erc_graph.methods.graphcfc import GraphCFC, GraphCFCConfig
from tests.conv.loops import edges_by_loop
from tests.methods.reference.conftest import SPEAKERS, Reference, batch_of, build, equal, random_batch, stir
from tests.methods.reference.test_mmgcn import lstm

pytestmark = pytest.mark.reference
STAGES = ("av", "av_l", "av_l_share")
OPTIONS: dict[str, Any] = {"windows_p_f": [3, 2], "blocks": None, "modal_relation_index": None}


def recipe_of(past: int, future: int, pairs: int) -> GraphRecipe:
    """A window of the code is what a turn sends."""
    recipe = load_recipe("graphcfc")
    context, cross = recipe.edges
    return replace(recipe, edges=(replace(context, past=future, future=past, pairs=pairs), cross), examples=())


@pytest.fixture
def case(reference: Callable[[str], Reference], put: Callable[..., None]) -> tuple[Reference, Any, Any]:
    """Arrays, our model with their parameters, and the dialogues."""
    arrays = reference("graphcfc")
    given, told, numbers = arrays.under("param/"), arrays.options(**OPTIONS), range(len(arrays["in/lengths"]))
    features = {m: torch.cat([arrays[f"in/{m}/{i}"] for i in numbers]) for m in ("audio", "text", "visual")}
    table = given["rel_embeddings1.weight"]
    speakers = given["speaker_embeddings.weight"]
    layers = told["blocks"] or [sum(n.startswith(f"gatmlp_{s}.layers.") and n.endswith("convs.att") for n in given) for s in STAGES]
    heads, width = given["gatmlp_av.layers.0.convs.att"].shape[1:]
    config = GraphCFCConfig(
        graph=recipe_of(*told["windows_p_f"], len(speakers)), width=width, context=len(given["linear_text.bias"]),  # type: ignore[arg-type]
        heads=heads, layers=layers, dropout=0.0,
    )  # fmt: skip
    model = build(GraphCFC, {m: v.shape[1] for m, v in features.items()}, len(given["smax_fc.bias"]), config, dtype=torch.float32)
    model.speaker.embedding = nn.Embedding(*speakers.shape)
    modal = len(table) - 1 if told["modal_relation_index"] is None else told["modal_relation_index"]
    order = [k for k in range(len(table)) if k != modal] + [modal]
    found = {f"text.{name}": value for name, value in lstm(given, "rnn_text", 2).items()}
    found |= {"vectors.weight": table[order], "speaker.embedding.weight": speakers, "speaker.weight.weight": torch.eye(width)}
    names = {f"project.{m}": f"linear_{m}" for m in features} | {"joined": "linear_text_", "common": "fc_share", "classify": "smax_fc"}
    for m in ("audio", "visual", "text", "shared"):
        theirs = m.removesuffix("d")
        names |= {f"auxiliary.{m}": f"smax_fc_{theirs}", f"extract.{m}.1": f"densnet_{theirs}.layers.0.norm"}
        names |= {f"extract.{m}.0.0": f"densnet_{theirs}.layers.0.fc", f"extract.{m}.0.3": f"densnet_{theirs}.layers.0.fc1"}
    for k, stage in enumerate(STAGES):
        layer, block = f"gatmlp_{stage}.layers.0", f"blocks.{k}.0"
        names |= {f"fuse.{k}": f"fusion_{stage}.fc_out", f"{block}.first": f"{layer}.norm", f"{block}.second": f"{layer}.norm1"}
        names |= {f"{block}.feedforward.0": f"{layer}.fc", f"{block}.feedforward.3": f"{layer}.fc1"}
        names |= {f"{block}.attend.source": f"{layer}.convs.lin_l", f"{block}.attend.target": f"{layer}.convs.lin_r"}
        found[f"{block}.attend.relation.weight"] = given[f"{layer}.convs.lin_edge.weight"]
        found[f"{block}.attend.score"], found[f"{block}.attend.bias"] = given[f"{layer}.convs.att"][0], given[f"{layer}.convs.bias"]
    put(model, found | {f"{our}.{end}": given[f"{their}.{end}"] for our, their in names.items() for end in ("weight", "bias")})
    labels = ([arrays[f"in/{name}/{i}"] for i in numbers] for name in ("speaker", "label"))
    return arrays, model, batch_of(*labels, **features)


def test_the_public_code(case: tuple[Reference, Any, Any]) -> None:
    arrays, model, batch = case
    seen: dict[str, list[Tensor]] = {}

    def keep(name: str, part: nn.Module) -> None:
        part.register_forward_hook(lambda _, given, out: seen.setdefault(name, []).append(getattr(out, "states", out)))

    for name in ("audio", "visual", "text", "shared"):
        keep(f"densnet_{name.removesuffix('d')}", model.extract[name])
    keep("fc_share", model.common)
    for k, stage in enumerate(STAGES):
        keep(f"gatmlp_{stage}.layers.0.convs", model.blocks[k][0].attend)
        keep(f"gatmlp_{stage}", model.blocks[k][0])
        keep(f"fusion_{stage}", model.fuse[k])
    prediction = model(batch)
    place = {name: i for i, name in enumerate(model.names)}
    compared = 0
    for name in (name for name in arrays if name.startswith("mid/") and not name.startswith("mid/linear")):
        module, _, call = name.removeprefix("mid/").partition("#")
        found = seen[module][int(call) if call else -1]
        arrays.same(found.transpose(0, 1).flatten(0, 1) if found.ndim == 3 else found, name)
        compared += 1
    assert compared >= 12 and place == {"audio": 0, "visual": 1, "text": 2}
    losses = []
    for name, scores in {**prediction.auxiliary, "final": prediction.scores}.items():
        theirs = name.removesuffix("d")
        arrays.same(scores, f"out/logits_{theirs}")
        losses.append(F.cross_entropy(scores, batch.target, arrays["in/class_weight"]))
        arrays.same(losses[-1], f"out/loss_{theirs}")
    loss = sum(losses) / 2 + len(losses) * torch.log(torch.tensor(2.0))
    arrays.same(loss, "out/loss")
    loss.backward()
    last = model.blocks[-1][0].attend
    arrays.same(last.score.grad[None], "grad/gatmlp_av_l_share.layers.0.convs.att")
    arrays.same(model.vectors.weight.grad, "grad/rel_embeddings1.weight")
    arrays.same(model.speaker.embedding.weight.grad, "grad/speaker_embeddings.weight")
    alone = torch.cat([model(batch.select(torch.tensor([i]))).scores for i in range(len(batch))])
    arrays.same(alone, "out/alone_logits_final")


def attended(conv: Any, nodes: Nodes, batch: Any) -> Tensor:
    """The operator, edge by edge."""
    x, kinds, rows = nodes.masked(), conv.kinds, []
    edges = edges_by_loop(conv.recipe, nodes, batch)
    table = conv.shared[0].weight
    for i in range(batch.utterances):
        for s in range(len(nodes.streams)):
            into = [edge for edge in edges if edge.target == (i, s)]
            others = [table[kinds[edge.relation]] for edge in into if edge.source != edge.target]
            mean = sum(others) / len(others) if others else torch.zeros(conv.width).double()
            scores, values = [], []
            for edge in into:
                r = mean if edge.source == edge.target else table[kinds[edge.relation]]
                z = F.leaky_relu(conv.target(x[i, s]) + conv.source(x[edge.source]) + conv.relation(r), 0.2)
                scores.append((z.view(conv.heads, -1) * conv.score).sum(-1))
                values.append(conv.source(x[edge.source]).view(conv.heads, -1))
            heard = (torch.stack(scores).softmax(0)[..., None] * torch.stack(values)).sum(0).mean(0) + conv.bias if into else conv.bias * 0
            rows.append(heard)
    return torch.stack(rows).view(*x.shape)


def loop(model: Any, batch: Any) -> Tensor:
    """Eqs. (1)-(6), with the operator edge by edge and everything else node by node."""
    given, c, names, spoken = model.given(batch), model.config, model.names, model.speaker(model.given(batch))
    state: dict[str, list[Tensor]] = {m: [] for m in [*names, "shared"]}
    text = model.text(Nodes.of_turns(torch.where(given.present["text"][:, None], model.project["text"](given.values["text"]), 0.0)), batch)
    for i in range(batch.utterances):
        shared = []
        for m in names:
            x = model.joined(text.states[i, 0]) if m == "text" else model.project[m](given.values[m][i]).tanh()
            here = given.present[m][i]
            state[m].append(model.extract[m](x + spoken[i]) * here)
            shared.append(model.extract["shared"](x + spoken[i]) * here)
        state["shared"].append(model.common(torch.cat(shared)))
    here = {**{m: given.present[m] for m in names}, "shared": torch.stack([given.present[m] for m in names]).any(0)}
    found, there = torch.stack(state[names[0]]), here[names[0]]
    for k, other in enumerate([*names[1:], "shared"]):
        present = torch.stack([there, here[other]], 1)
        z = torch.stack([found, torch.stack(state[other])], 1)
        for i in range(c.layers[k]):
            block = model.blocks[k][0 if c.tied else i]
            y = block.first(z + attended(block.attend, Nodes(z, present, ("one", "other")), batch))
            z = block.second(y + block.feedforward(y))
        found, there = model.fuse[k]((z * present[..., None]).flatten(1)), present.any(1)
    return model.classify(found * there[:, None])


@pytest.mark.parametrize("tied", [True, False])
def test_equations_by_loop(tied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("erc_graph.conv.gatv2.AT_ONCE", 50)
    widths = {"audio": 3, "text": 4}
    config = GraphCFCConfig(graph=recipe_of(2, 1, 2), width=4, context=3, heads=2, layers=[2, 1], tied=tied)  # type: ignore[arg-type]
    model = build(GraphCFC, widths, 3, config)
    stir(model)
    batch = random_batch(SPEAKERS, widths, classes=3, missing=0.3)
    equal(model(batch).scores, loop(model, batch), model)
