"""COGMEN: arrays of the public code, whose Transformer attends to padding, and the equations by loop at other sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.graphs.recipe import GraphRecipe, load_recipe
from erc_graph.inference.graphs import graph_of, look
from erc_graph.methods.cogmen import COGMEN, COGMENConfig, heads_for
from tests.methods.reference.conftest import SPEAKERS, Reference, batch_of, build, equal, random_batch, stir

pytestmark = pytest.mark.reference
MODELS = {"atv_h1": ("audio", "text", "visual"), "at_h2_concat": ("audio", "text"), "atv_h1_highway": ("audio", "text", "visual")}


def recipe_of(past: int, future: int, pairs: int) -> GraphRecipe:
    """The graph of the code: what a turn sends `past` turns back and `future` ahead is what others hear from ahead and from behind."""
    recipe = load_recipe("cogmen")
    before, after = recipe.edges
    return replace(recipe, edges=(replace(before, past=future, pairs=pairs), replace(after, future=past, pairs=pairs)), examples=())


def renamed(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters of the public code under our names; the relations in the order of the recipe: all before, then all after."""
    found = {
        "relate.weight": torch.cat([given["gcn.conv1.weight"][k::2] for k in range(2)]),
        "relate.root.weight": given["gcn.conv1.root"].T,
        "relate.root.bias": given["gcn.conv1.bias"],
    }
    names = {"project.layers.0": "rnn.transformer_out", "classify.0": "clf.lin1", "classify.3": "clf.lin2"}
    names |= {f"attend.{part}": f"gcn.conv2.lin_{part}" for part in ("query", "key", "value", "skip")}
    if "clf.highway.gate.0.weight" in given:
        names |= {f"highway.{part}": f"clf.highway.{part}.0" for part in ("gate", "nonlinear", "linear")}
    for i in range(sum(name.endswith("norm1.weight") for name in given)):
        layer = f"rnn.transformer_encoder.layers.{i}"
        for end in ("weight", "bias"):
            found[f"context.attention.{i}.query_key_value.{end}"] = given[f"{layer}.self_attn.in_proj_{end}"]
        names |= {
            f"context.attention.{i}.output": f"{layer}.self_attn.out_proj",
            f"context.feedforward.{i}.0": f"{layer}.linear1",
            f"context.feedforward.{i}.3": f"{layer}.linear2",
            f"context.norm.{2 * i}": f"{layer}.norm1",
            f"context.norm.{2 * i + 1}": f"{layer}.norm2",
        }
    found |= {f"{ours}.{end}": given[f"{theirs}.{end}"] for ours, theirs in names.items() for end in ("weight", "bias")}
    return found | {f"norm.{end}": given[f"gcn.bn.{end}"] for end in ("weight", "bias", "running_mean", "running_var")}


class PaddingAttended(nn.Module):
    """The Transformer as the public code asks it: the padding of shorter dialogues are turns like others."""

    def __init__(self, context: nn.Module) -> None:
        super().__init__()
        self.context = context

    def forward(self, nodes: Nodes, batch: Batch) -> Nodes:
        padded = batch.pad(nodes.states[:, 0])
        turns = torch.zeros(len(batch), batch.longest, dtype=torch.long).unbind(0)
        states = self.context(Nodes.of_turns(padded.flatten(0, 1)), batch_of(turns, turns)).states
        return nodes.with_states(batch.unpad(states.view_as(padded))[:, None])


@pytest.fixture(params=MODELS)
def case(request: pytest.FixtureRequest, reference: Callable[[str], Reference], put: Callable[..., None]) -> tuple[Reference, Any, Batch]:
    """Arrays of a model, our model with its parameters, and the dialogues."""
    every = reference("cogmen")
    arrays, numbers = every.under(f"{request.param}/"), range(len(every["lengths"]))
    given = arrays.under("param/")
    names, classes = MODELS[request.param], len(given["clf.lin2.bias"])
    width = len(given["rnn.transformer_out.bias"])
    past, future = every["window"].tolist()
    config = COGMENConfig(
        graph=recipe_of(past, future, round((len(given["gcn.conv1.weight"]) / 2) ** 0.5)),  # type: ignore[arg-type]
        width=width,
        layers=sum(name.endswith("norm1.weight") for name in given),
        feedforward=len(given["rnn.transformer_encoder.layers.0.linear1.bias"]),
        heads=len(given["gcn.bn.weight"]) // width,
        norm="batch",
        concat_input=given["clf.lin1.weight"].shape[1] > len(given["gcn.bn.weight"]),
        highway="clf.highway.gate.0.weight" in given,
        dropout=0.0,
    )
    features = {name: torch.cat([every[f"input/{i}/{name}"] for i in numbers]) for name in names}
    model = build(COGMEN, {name: value.shape[1] for name, value in features.items()}, classes, config)
    assert heads_for(model.turn.width) == int(arrays["seqcontext_heads"])
    put(model, renamed(given))
    speakers, labels = ([every[f"input/{i}/{name}"] for i in numbers] for name in ("speaker", "label"))
    return arrays, model, batch_of(speakers, labels, **features)


def watched(model: Any, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
    """What passes between the parts, and the scores."""
    seen: dict[str, Tensor] = {}
    ends = [
        getattr(model, part).register_forward_hook(lambda _, given, found, part=part: seen.update({part: found.states[:, 0]}))
        for part in ("relate", "attend", "norm")
    ]
    ends.append(model.project.register_forward_hook(lambda _, given, found: seen.update(nodes=found.states[:, 0])))
    scores = model(batch).scores
    for end in ends:
        end.remove()
    return seen, scores


def compare(arrays: Reference, model: Any, batch: Batch) -> Tensor:
    """Intermediates, attention and scores; returns these."""
    seen, scores = watched(model, batch)
    arrays.same(scores.log_softmax(-1), "log_prob")
    if "nodes" in arrays:
        for ours, theirs in {"nodes": "nodes", "relate": "conv1", "attend": "conv2", "norm": "bn"}.items():
            arrays.same(seen[ours], theirs)
        arrays.same(F.leaky_relu(seen["norm"]), "gnn_out")
        graph, weights = graph_of(look(model, batch)[0]["attend"], batch), {}
        for kind in graph.edge_types:
            for source, target, weight in zip(*graph[kind].edge_index.tolist(), graph[kind].edge_weight.tolist(), strict=True):
                weights[source, target] = weight
        edges = list(zip(*arrays["edge_index"].tolist(), strict=True))
        assert len(weights) == len(edges)
        theirs = arrays["transformerconv_attention"].mean(1)
        torch.testing.assert_close(torch.tensor([weights[edge] for edge in edges]).double(), theirs, rtol=0, atol=1e-6)
    return scores


def test_every_dialogue_alone_and_all_in_one_batch(case: tuple[Reference, Any, Batch]) -> None:
    arrays, model, batch = case
    alone = torch.cat([compare(arrays.under(f"alone{i}/"), model, batch.select(torch.tensor([i]))) for i in range(len(batch))])
    torch.testing.assert_close(model(batch).scores, alone, rtol=0, atol=1e-12)


def test_with_padding_attended_as_the_code_does_it(case: tuple[Reference, Any, Batch], reference: Callable[[str], Reference]) -> None:
    arrays, model, batch = case
    if "batch/log_prob" not in arrays:
        pytest.skip("the dialogues alone are among the arrays")
    model.context = PaddingAttended(model.context)
    scores = compare(arrays.under("batch/"), model, batch)
    loss = F.cross_entropy(scores, batch.target)
    arrays.same(loss, "batch/loss_nll")
    arrays.same(F.cross_entropy(scores, batch.target, reference("cogmen")["class_weights"]), "batch/loss_weighted_nll")
    loss.backward()
    relations = model.relate.weight.grad.chunk(2)
    arrays.same(torch.stack(relations, 1).flatten(0, 1), "grad/gcn.conv1.weight")
    arrays.same(model.attend.query.weight.grad, "grad/gcn.conv2.lin_query.weight")
    layer = model.context.context.attention[0]
    arrays.same(layer.query_key_value.weight.grad, "grad/rnn.transformer_encoder.layers.0.self_attn.in_proj_weight")


def test_training_mode_of_the_batch_norm(case: tuple[Reference, Any, Batch]) -> None:
    arrays, model, batch = case
    if "batch/log_prob" not in arrays:
        pytest.skip("the dialogues alone are among the arrays")
    model.context = PaddingAttended(model.context)
    scores = model.train()(batch).scores
    arrays.same(scores.log_softmax(-1), "train_mode/log_prob")
    arrays.same(F.cross_entropy(scores, batch.target), "train_mode/loss_nll")
    arrays.same(model.norm.running_mean, "train_mode/bn_running_mean_after")
    arrays.same(model.norm.running_var, "train_mode/bn_running_var_after")


# -- other sizes, by loop ---------------------------------------------------------------------------------------------------------


def transformer(model: Any, u: Tensor, here: Tensor) -> Tensor:
    """`(n, D)` of one dialogue, head by head; a turn that is not there is zero in every layer."""
    context, heads = model.context, heads_for(u.shape[1])
    for i, (attention, feedforward) in enumerate(zip(context.attention, context.feedforward, strict=True)):
        u = torch.where(here[:, None], u, 0.0)
        query, key, value = attention.query_key_value(u).chunk(3, -1)
        parts = []
        for own in torch.arange(u.shape[1]).chunk(heads):
            score = query[:, own] @ key[:, own].T / len(own) ** 0.5
            if model.config.causal:
                score = score.masked_fill(torch.ones_like(score).triu(1) > 0, -torch.inf)
            parts.append(score.softmax(-1) @ value[:, own])
        u = context.norm[2 * i](u + attention.output(torch.cat(parts, -1)))
        u = context.norm[2 * i + 1](u + feedforward(u))
    return u


def loop(model: Any, batch: Batch) -> Tensor:
    """Eqs. (1)-(5), turn by turn."""
    names, scores = model.turn.names, []
    for d in range(len(batch)):
        rows = range(int(batch.ptr[d]), int(batch.ptr[d + 1]))
        u = torch.stack([torch.cat([batch.features[m][i] * batch.present[m][i] for m in names]) for i in rows])
        here = torch.stack([batch.present[m][rows.start : rows.stop] for m in names]).any(0)
        x = model.project.layers(transformer(model, u, here))
        speaker = batch.speaker[rows.start : rows.stop].clamp(max=1).tolist()

        def heard(i: int, here: Tensor = here) -> list[int]:
            return [j for j in range(max(0, i - 5), min(len(here), i + 6)) if here[j] and not (model.config.causal and j > i)]

        y = []
        for i in range(len(x)):
            state = model.relate.root(x[i])
            groups: dict[int, list[int]] = {}
            for j in heard(i):
                groups.setdefault(4 * (j >= i) + 2 * speaker[j] + speaker[i], []).append(j)
            y.append(state + sum(sum(x[j] for j in group) @ model.relate.weight[r] / len(group) for r, group in groups.items()))
        for i in range(len(x)):
            if not here[i]:
                g, before = torch.zeros(model.attend.width).double(), torch.zeros_like(x[i])
            else:
                parts = []
                for own in torch.arange(model.attend.width).chunk(model.attend.heads):
                    score = torch.stack([model.attend.query(y[i])[own] @ model.attend.key(y[j])[own] / len(own) ** 0.5 for j in heard(i)])
                    parts.append(sum(a * model.attend.value(y[j])[own] for a, j in zip(score.softmax(0), heard(i), strict=True)))
                z = torch.cat(parts) + model.attend.skip(y[i])
                if model.config.norm == "batch":
                    scaled = (z - model.norm.running_mean) / (model.norm.running_var + 1e-5).sqrt() * model.norm.weight + model.norm.bias
                else:
                    (norm,) = model.norm.layers
                    scaled = (z - z.mean()) / (z.var(correction=0) + 1e-5).sqrt() * norm.weight + norm.bias
                g, before = F.leaky_relu(scaled), x[i]
            scores.append(model.classify(model.highway(torch.cat([before, g]) if model.config.concat_input else g)))
    return torch.stack(scores)


@pytest.mark.parametrize(
    ("widths", "options"),
    [
        ({"audio": 3, "text": 5}, {"width": 4}),
        ({"text": 7}, {"width": 3, "heads": 2, "layers": 1, "concat_input": True, "causal": True}),
        ({"audio": 2, "text": 4, "visual": 3}, {"width": 2, "heads": 3, "layers": 3, "norm": "batch", "highway": True}),
    ],
)
def test_equations_by_loop(widths: dict[str, int], options: dict[str, Any]) -> None:
    model = build(COGMEN, widths, 3, COGMENConfig(feedforward=6, **options))
    stir(model)
    batch = random_batch(SPEAKERS, widths, classes=3)
    leaves = [value.requires_grad_() for value in batch.features.values()]
    equal(model(batch).scores, loop(model, batch), model, *leaves)
    assert model.causal == bool(options.get("causal"))


def test_every_parameter_gets_a_gradient() -> None:
    model = build(COGMEN, {"audio": 3, "text": 5}, 3, COGMENConfig(width=4, feedforward=6, heads=2, highway=True, dropout=0.0)).train()
    stir(model)
    batch = random_batch(SPEAKERS, {"audio": 3, "text": 5}, classes=3)
    F.cross_entropy(model(batch).scores, batch.target).backward()
    dead = {name for name, value in model.named_parameters() if value.grad is None or value.grad.abs().max() < 1e-12}
    assert dead == set(COGMEN.unused)
