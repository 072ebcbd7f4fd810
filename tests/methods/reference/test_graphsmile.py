"""GraphSmile: arrays of the public code, with its weights by place and without them, and the equations by loop with what is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from erc_graph.conv.chain import Chain
from erc_graph.data.nodes import Nodes
from erc_graph.methods.graphsmile import GraphSmile, GraphSmileConfig
from tests.methods.reference.conftest import SPEAKERS, Reference, batch_of, build, equal, random_batch, stir

pytestmark = pytest.mark.reference
MODALITIES = ("audio", "text", "visual")
PAIRS = {"audio_text": "ta", "audio_visual": "va", "text_visual": "tv"}


def renamed(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters of the public code under our names."""
    names = {"fuse": "modal_fusion.0", "classify": "emo_output", "of_turn": "sen_output", "of_pair": "senshift.shift_output_layer.0"}
    names |= {f"project.project.{m}": f"dim_layer_{m[0]}.0" for m in MODALITIES}
    found = {f"texts.norm.text.{end}": given[f"batchnorms_t.0.{end}"] for end in ("weight", "bias", "running_mean", "running_var")}
    for ours, pair in PAIRS.items():
        layers = [f"hetergconv_{pair}.hetergcn_layers.{k}.hetergconv" for k in range(depth(given, pair))]
        found[f"graphs.{ours}.bias"] = torch.stack([given[f"{layer}.bias"] for layer in layers])
        found |= {f"graphs.{ours}.maps.{k}.weight": given[f"{layer}.weight"].T for k, layer in enumerate(layers)}
        names |= {f"graphs.{ours}.read.{k}": f"hetergconv_{pair}.fc_layers.{k}.0" for k in range(len(layers))}
    return found | {f"{ours}.{end}": given[f"{theirs}.{end}"] for ours, theirs in names.items() for end in ("weight", "bias")}


def depth(given: Mapping[str, Tensor], pair: str) -> int:
    return sum(name.startswith(f"hetergconv_{pair}.hetergcn_layers.") and name.endswith("weight") for name in given)


@pytest.fixture
def case(reference: Callable[[str], Reference], put: Callable[..., None]) -> tuple[Reference, Any, Any, Tensor]:
    """The arrays, our model, the dialogues, and their sentiments."""
    arrays = reference("graphsmile")
    given, options = arrays.under("param/"), arrays.options(win=[3, 2], shift_win=3, layers=None)
    numbers = sorted(int(name.split("/")[2]) for name in arrays if name.startswith("in/label/"))
    speakers, labels, sentiments = ([arrays[f"in/{name}/{i}"] for i in numbers] for name in ("speaker", "label", "sentiment"))
    features: dict[str, Any] = {m: torch.cat([arrays[f"in/{m}/{i}"] for i in numbers]) for m in MODALITIES}
    batch = batch_of(speakers, labels, **features)
    classes, width, sentiment = len(given["emo_output.bias"]), len(given["modal_fusion.0.bias"]), torch.cat(sentiments)
    past, future = options["win"]
    of_label = {str(label): kind for label, kind in zip(torch.cat(labels).tolist(), sentiment.tolist(), strict=True)}
    config = GraphSmileConfig(past=past, future=future, width=width, window=options["shift_win"], sentiments=of_label, dropout=0.0)
    model = build(GraphSmile, {m: batch.features[m].shape[1] for m in MODALITIES}, classes, config, dtype=torch.float32)
    model.graphs.update({ours: Chain(width, model.graph, layers=depth(given, pair)) for ours, pair in PAIRS.items()})
    put(model, renamed(given))
    return arrays, model, batch, sentiment


def in_their_order(states: Tensor, places: Any) -> Tensor:
    """`(N, 2, width)` of a pair → first all rows of one stream, then of the other."""
    return states[:, places].transpose(0, 1).flatten(0, 1)


def test_edges_of_one_weight(case: tuple[Reference, Any, Any, Tensor]) -> None:
    arrays, model, batch, _ = case
    arrays.same(model(batch).scores, "out/uniform_logits_emotion")
    alone = [model(batch.select(torch.tensor([i]))).scores for i in range(len(batch))]
    arrays.same(torch.cat(alone), "out/uniform_logits_emotion")


def test_edges_weighted_by_their_place(case: tuple[Reference, Any, Any, Tensor]) -> None:
    """With the code's weights in the place of ones, which the arrays have for one pair, its graph and all behind it is the code's."""
    arrays, model, batch, sentiment = case
    rows, read, chain = batch.utterances, {}, model.graphs["text_visual"]
    normal, chain.layout = arrays["mid/adjacency_tv"], "list"
    chain.weights = lambda edges, dtype: normal[tuple(n // 2 + rows * (n % 2) for n in (edges.edges.target, edges.edges.source))][None]
    for k, layer in enumerate(chain.read):
        layer.register_forward_hook(lambda _, x, y, k=k: read.update({f"hetergcn_layers.{k}": x[0], f"fc_layers.{k}": F.leaky_relu(y)}))
    x = model.nodes(model.given(batch))
    for m, found in zip(MODALITIES, x.states.unbind(1), strict=True):
        torch.testing.assert_close(found, arrays[f"mid/dim_layer_{m[0]}"].transpose(0, 1)[batch.mask], rtol=0, atol=1e-5)
    states = chain(Nodes(x.states[:, 1:], x.present[:, 1:], MODALITIES[1:]), batch).states
    for name, found in read.items():
        if f"mid/hetergconv_tv.{name}" in arrays:
            arrays.same(found.transpose(0, 1).flatten(0, 1), f"mid/hetergconv_tv.{name}")
    parts = [arrays[f"mid/modal_fusion#{k}"] for k in range(6)]
    for k, row in zip((0, 2), states.unbind(1), strict=True):
        parts[k] = F.leaky_relu(model.fuse(row))
        arrays.same(parts[k], f"mid/modal_fusion#{k}")
    z = torch.stack(parts).mean(0)
    arrays.same(z, "out/fusion")
    scores, (i, j) = model.classify(z), model.pairs(batch)
    arrays.same(scores, "out/logits_emotion")
    arrays.same(model.of_turn(z), "out/logits_sentiment")
    arrays.same(model.of_pair(torch.cat([z[i], z[j]], -1)), "out/logits_shift")
    assert torch.equal((sentiment[i] != sentiment[j]).long(), arrays["out/label_shift"])
    model.sentiments = lambda batch: sentiment
    losses = {"emotion": F.cross_entropy(scores, batch.target), **model.losses(z, batch)}
    for name, loss in losses.items():
        arrays.same(loss, f"out/loss_{name}")
    weights = arrays.options(**{"lambda": [1.0, 0.5, 0.2]})["lambda"]
    total = sum(weight * loss for weight, loss in zip(weights, losses.values(), strict=True))
    arrays.same(total, "out/loss")
    total.backward()
    arrays.same(chain.maps[1].weight.grad.T, "grad/hetergconv_tv.hetergcn_layers.1.hetergconv.weight")


# -- other sizes, by loop ---------------------------------------------------------------------------------------------------------


def loop(model: Any, batch: Any) -> Tensor:
    """Eqs. (1)-(5), node by node."""
    rule, x = model.recipe.edges[0], {}
    parts: dict[int, list[Tensor]] = {}
    for m, values in batch.features.items():
        for i in range(batch.utterances):
            row = values[i]
            if m == "text":
                norm = model.texts.norm["text"]
                row = (row - norm.running_mean) / (norm.running_var + norm.epsilon).sqrt() * norm.weight + norm.bias
            x[m, i] = F.leaky_relu(model.project.project[m].weight @ row + model.project.project[m].bias)
    x = {(m, i): row for (m, i), row in x.items() if batch.present[m][i]}
    for pair in combinations(batch.features, 2):
        graph, nodes = model.graphs["_".join(pair)], {key: row for key, row in x.items() if key[0] in pair}
        heard = {
            (m, i): [
                (n, j) for n, j in nodes if n != m and batch.dialogue[i] == batch.dialogue[j] and i - rule.past <= j <= i + rule.future
            ]
            for m, i in nodes
        }
        state, total = nodes, dict(nodes)
        for k in range(len(graph.maps)):
            sums = {}
            for v in nodes:
                sums[v] = graph.bias[k]
                for u in heard[v]:
                    if heard[u]:
                        sums[v] = sums[v] + graph.maps[k].weight @ state[u] / (len(heard[v]) * len(heard[u])) ** 0.5
            state = sums
            total = {v: total[v] + F.leaky_relu(graph.read[k](state[v])) for v in nodes}
        for (_, i), row in total.items():
            parts.setdefault(i, []).append(F.leaky_relu(model.fuse(row)))
    zero = torch.zeros(model.config.width, dtype=torch.float64)
    return torch.stack([model.classify(sum(parts.get(i, [zero])) / len(parts.get(i, [zero]))) for i in range(batch.utterances)])


@pytest.mark.parametrize("widths", [{"audio": 3, "text": 5, "visual": 2}, {"audio": 3, "visual": 4}])
def test_equations_by_loop(widths: dict[str, int]) -> None:
    config = GraphSmileConfig(past=1, future=2, width=6, layers=2, sentiments={"1": 2}, dropout=0.0)
    model = build(GraphSmile, widths, 3, config)
    stir(model)
    batch = random_batch(SPEAKERS, widths, classes=3)
    leaves = [value.requires_grad_() for value in batch.features.values()]
    equal(model(batch).scores, loop(model, batch), model, *leaves)


def test_pairs_of_blocks() -> None:
    model = build(GraphSmile, {"text": 2}, 3, GraphSmileConfig(width=2, window=2, sentiments={"0": 0}))
    batch = random_batch([[0, 0, 1], [0]], {"text": 2}, classes=3)
    pairs = list(zip(*(rows.tolist() for rows in model.pairs(batch)), strict=True))
    assert pairs == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 2), (3, 3)]
