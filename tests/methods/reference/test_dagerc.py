"""DAG-ERC: arrays of the public code, and the equations by loop at other sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.graphs.recipe import GraphRecipe, load_recipe
from erc_graph.inference.graphs import graph_of, look
from erc_graph.methods.dagerc import DAGERC, DAGERCConfig
from tests.methods.reference.conftest import SPEAKERS, Reference, batch_of, build, equal, random_batch, stir

pytestmark = pytest.mark.reference
MODELS = ("main", "layers3_window2", "nodal_past")


def recipe_of(window: int) -> GraphRecipe:
    recipe = load_recipe("dagerc")
    return replace(recipe, edges=tuple(replace(rule, past=f"own:{window}") for rule in recipe.edges), examples=())


def renamed(given: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """The parameters of the public code under our names: of the attention the half that the senders meet, matrices from the right."""
    found, names = {}, {"project": "fc1"}
    mlp = [name.removesuffix(".weight") for name in given if name.startswith("out_mlp.") and name.endswith("weight")]
    mlp.sort(key=lambda name: int(name.removeprefix("out_mlp.")))
    names |= dict(zip([f"classify.{i}.0" for i in range(len(mlp) - 1)] + [f"classify.{len(mlp)}"], mlp, strict=True))
    if "attentive_node_features.transform.weight" in given:
        names["attend.transform"] = "attentive_node_features.transform"
    found |= {f"{ours}.{end}": given[f"{theirs}.{end}"] for ours, theirs in names.items() for end in ("weight", "bias")}
    for i in range(layers):
        found[f"layers.{i}.key"] = given[f"gather.{i}.linear.weight"][0].chunk(2)[1]
        found[f"layers.{i}.matrices"] = torch.stack([given[f"gather.{i}.Wr{r}.weight"].T for r in range(2)])  # same, other speaker
        for ours, theirs in {"nodal": "grus_c", "contextual": "grus_p"}.items():
            for end in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                found[f"layers.{i}.{ours}.{end}"] = given[f"{theirs}.{i}.{end}"]
    return found


@pytest.fixture(params=MODELS)
def case(request: pytest.FixtureRequest, reference: Callable[[str], Reference], put: Callable[..., None]) -> tuple[Reference, Any, Batch]:
    """Arrays of a model, our model with its parameters, and the dialogues."""
    every = reference("dagerc")
    arrays, numbers = every.under(f"{request.param}/"), range(len(every["lengths"]))
    if not arrays:
        pytest.skip(f"no {request.param} among the arrays")
    nodal = every.options(nodal_attention={"nodal_past": "past"})["nodal_attention"].get(request.param, "none")
    given = arrays.under("param/")
    given = Reference({name: value for name, value in given.arrays.items() if nodal != "none" or "attentive" not in name}, "dagerc")
    layers, window = arrays["config_layers_window"].tolist()
    width, inputs = given["fc1.weight"].shape
    heads = [value for name, value in given.items() if name.startswith("out_mlp.") and value.ndim == 1]
    config = DAGERCConfig(
        graph=recipe_of(window),  # type: ignore[arg-type]
        width=width,
        layers=layers,
        readout_input=given["out_mlp.0.weight"].shape[1] > (layers + 1) * width,
        head_layers=len(heads) - 1,
        nodal_attention=nodal,
        dropout=0.0,
    )
    model = build(DAGERC, {"text": inputs}, len(heads[-1]), config)
    put(model, renamed(given, layers))
    text, speakers, labels = ([every[f"input/{i}/{name}"] for i in numbers] for name in ("text", "speaker", "label"))
    return arrays, model, batch_of(speakers, labels, text=torch.cat(text))


def edge_weights(model: Any, part: str, batch: Batch) -> dict[tuple[int, int], tuple[str, float]]:
    """(source, target) → relation and weight, as `graph()` shows them."""
    graph = graph_of(look(model, batch)[0][part], batch)
    return {
        (source, target): (kind[1], weight)
        for kind in graph.edge_types
        for source, target, weight in zip(*graph[kind].edge_index.tolist(), graph[kind].edge_weight.tolist(), strict=True)
    }


def test_states_attention_scores_loss_and_gradients(case: tuple[Reference, Any, Batch]) -> None:
    arrays, model, batch = case
    states: dict[str, Tensor] = {}
    for i, layer in enumerate(model.layers):
        layer.register_forward_hook(lambda _, given, found, i=i: states.update({f"h{i}": given[0].states, f"h{i + 1}": found.states}))
    prediction = model(batch)
    inside = "batch/h0" in arrays  # of one model only the scores are among the arrays
    for name, value in states.items() if inside else ():
        torch.testing.assert_close(value[:, 0], batch.unpad(arrays[f"batch/{name}"]), rtol=0, atol=1e-8)
    if "batch/readout" in arrays:
        torch.testing.assert_close(prediction.states, batch.unpad(arrays["batch/readout"]), rtol=0, atol=1e-8)
    torch.testing.assert_close(prediction.scores, batch.unpad(arrays["batch/logits"]), rtol=0, atol=1e-8)
    for i in range(len(model.layers) if inside else 0):
        attention = arrays[f"batch/attention{i + 1}"]
        for (j, k), (_, weight) in edge_weights(model, f"layers.{i}", batch).items():
            d, first = int(batch.dialogue[k]), int(batch.ptr[batch.dialogue[k]])
            assert weight == pytest.approx(float(attention[d, k - first, j - first]), abs=1e-6)
    loss = F.cross_entropy(prediction.scores, batch.target)
    arrays.same(loss, "batch/loss_ce")
    loss.backward()
    arrays.same(model.layers[0].matrices.grad[0].T, "grad/gather.0.Wr0.weight")
    key = model.layers[1].key.grad
    arrays.same(torch.cat([torch.zeros_like(key), key])[None], "grad/gather.1.linear.weight")
    arrays.same(model.layers[1].nodal.weight_hh.grad, "grad/grus_c.1.weight_hh")
    arrays.same(model.layers[0].contextual.weight_ih.grad, "grad/grus_p.0.weight_ih")
    arrays.same(model.project.weight.grad, "grad/fc1.weight")


def test_every_dialogue_alone(case: tuple[Reference, Any, Batch]) -> None:
    arrays, model, batch = case
    for i in range(len(batch)):
        arrays.same(model(batch.select(torch.tensor([i]))).scores[None], f"alone{i}/logits")


def test_edges(case: tuple[Reference, Any, Batch], reference: Callable[[str], Reference]) -> None:
    arrays, model, batch = case
    window = int(arrays["config_layers_window"][1])
    for i in range(len(batch)):
        weights = edge_weights(model, "layers.0", batch.select(torch.tensor([i])))
        found = sorted([j, k, int(relation == "same")] for (j, k), (relation, _) in weights.items())
        assert found == sorted(reference("dagerc")[f"edges/window{window}/{i}"].tolist())


# -- other sizes, by loop ---------------------------------------------------------------------------------------------------------


def loop(model: Any, batch: Batch) -> Tensor:
    """Eqs. (1)-(6), turn by turn, for a window of one own turn."""
    names, scores = model.turn.names, []
    for d in range(len(batch)):
        rows = range(int(batch.ptr[d]), int(batch.ptr[d + 1]))
        u = [torch.cat([batch.features[m][i] * batch.present[m][i] for m in names]) for i in rows]
        here = [any(batch.present[m][i] for m in names) for i in rows]
        who = [int(batch.speaker[i]) for i in rows]
        h = [model.project(x).relu() * there for x, there in zip(u, here, strict=True)]
        parts = [h]
        for layer in model.layers:
            new: list[Tensor] = []
            for i in range(len(u)):
                heard, message = [], torch.zeros_like(h[0])
                for j in reversed(range(i)):
                    heard.append(j)
                    if who[j] == who[i]:
                        break
                heard = [j for j in heard if here[j] and here[i]]
                if heard:
                    share = torch.stack([layer.key @ new[j] for j in heard]).softmax(0)
                    message = sum(a * new[j] @ layer.matrices[int(who[j] != who[i])] for a, j in zip(share, heard, strict=True))
                new.append((layer.nodal(h[i][None], message[None]) + layer.contextual(message[None], h[i][None]))[0] * here[i])
            parts.append(h := new)
        if model.config.readout_input:
            parts.append(u)
        g = [torch.cat(row) for row in zip(*parts, strict=True)]
        if model.attend is not None:
            ask = model.config.nodal_attention
            reach = [g[: i + 1] if ask == "past" else g for i in range(len(g))]
            share = [torch.stack([y @ model.attend.transform(x) for y in of]).tanh().softmax(0) for x, of in zip(g, reach, strict=True)]
            g = [sum(b * y for b, y in zip(one, of, strict=True)) for one, of in zip(share, reach, strict=True)]
        scores += [model.classify(x) for x in g]
    return torch.stack(scores)


@pytest.mark.parametrize(
    ("widths", "options"),
    [
        ({"text": 5}, {"width": 4, "layers": 1}),
        ({"audio": 3, "text": 4}, {"width": 3, "layers": 3, "readout_input": False, "head_layers": 1, "causal": True}),
        ({"audio": 2, "text": 3, "visual": 2}, {"width": 4, "layers": 2, "nodal_attention": "global", "head_layers": 3}),
        ({"text": 3}, {"width": 2, "layers": 2, "nodal_attention": "past"}),
    ],
)
def test_equations_by_loop(widths: dict[str, int], options: dict[str, Any]) -> None:
    model = build(DAGERC, widths, 3, DAGERCConfig(**options))
    stir(model)
    batch = random_batch(SPEAKERS, widths, classes=3)
    leaves = [value.requires_grad_() for value in batch.features.values()]
    equal(model(batch).scores, loop(model, batch), model, *leaves)
    assert model.causal == (options.get("nodal_attention") != "global")


def test_every_parameter_gets_a_gradient() -> None:
    model = build(DAGERC, {"text": 5}, 3, DAGERCConfig(width=4, layers=2, dropout=0.0, nodal_attention="past")).train()
    stir(model)
    batch = random_batch(SPEAKERS, {"text": 5}, classes=3)
    F.cross_entropy(model(batch).scores, batch.target).backward()
    assert {name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()} == set(DAGERC.unused)
