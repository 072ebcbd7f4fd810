"""MMGCN against a tiny run of the public code, and against loops over its equations."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from erc_graph.conv.angular import block
from erc_graph.data.batch import Batch
from erc_graph.data.tasks import Task
from erc_graph.graphs import weights
from erc_graph.graphs.recipe import GraphRecipe, load_recipe
from erc_graph.methods import mmgcn
from erc_graph.methods.mmgcn import MMGCN, MMGCNConfig
from erc_graph.methods.schema import Schema
from erc_graph.training.losses import legacy_focal

pytestmark = pytest.mark.reference

OPTIONS = {"layers": None, "alpha": 0.1, "eta": 0.5, "focal_gamma": 2.5}
LETTERS = {"a": "audio", "v": "visual", "l": "text"}  # in the order of the public code
LINEAR = {"audio": "linear_a", "visual": "linear_v", "text": "linear_l"}
BOUND = weights.SQUEEZE  # of the cosine, in both


def models(arrays) -> dict[str, tuple[str, ...]]:
    """Models of the arrays, such as `avl` → their streams in the order of the public code."""
    names = sorted({name.split("/")[0] for name in arrays if "/param/" in name})
    return {name: tuple(stream for letter, stream in LETTERS.items() if letter in name) for name in names}


def printed(recipe: GraphRecipe) -> GraphRecipe:
    """The recipe with `1 - arccos(s cos) / π` for angular weights.

    Ours, `½ + asin(s cos) / (2 asin s)`, is that stretched around ½ so that it reaches one: a mixture with a weight of one takes it back.
    """
    stretch = 2 * math.asin(BOUND) / math.pi
    rules = [rule for rule in recipe.edges if rule.weight == "unit"]
    for rule in recipe.edges:
        if rule.weight == "angular":
            rest = replace(rule, relation=f"{rule.relation}_rest", weight="unit", scale=(1 - stretch) / 2 * rule.scale)
            rules += [replace(rule, scale=stretch * rule.scale), rest]
    return replace(recipe, edges=tuple(rules), examples=())


@pytest.fixture(autouse=True)
def nothing_added(monkeypatch):
    """Without the epsilon that we add to squared norms, which is seen in the seventh place of a weight."""
    monkeypatch.setattr(weights, "TINY", 1e-30)
    monkeypatch.setattr(block, "TINY", 1e-30)


def method(monkeypatch, recipe: GraphRecipe, widths: dict[str, int], labels: int, **config) -> MMGCN:
    """Ours, in float64."""
    monkeypatch.setattr("erc_graph.methods.base.load_recipe", lambda name: recipe)
    task = Task(name="reference", labels=tuple(map(str, range(labels))))
    return MMGCN(Schema(widths=widths, task=task), MMGCNConfig(dropout=0.0, **config)).double()


def lstm(param, name: str, layers: int) -> dict[str, Tensor]:
    """Parameters of a bidirectional net of PyTorch → those of `Recurrent`."""
    return {
        f"layers.{layer}.{direction}.{kind}_l0": param[f"{name}.{kind}_l{layer}{suffix}"]
        for layer in range(layers)
        for direction, suffix in enumerate(("", "_reverse"))
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }


def by_stream(matrix: Tensor, order: tuple[str, ...]) -> Tensor:
    """Columns of streams side by side, from the code's order to ours, which is alphabetical."""
    return torch.cat([matrix.chunk(len(order), 1)[order.index(name)] for name in sorted(order)], 1)


def ours(monkeypatch, put, arrays, model: str, recipe: str = "mmgcn", **config) -> MMGCN:
    """Our method at the sizes of the arrays, with their parameters."""
    param, streams = arrays.under(f"{model}/param/"), models(arrays)[model]
    options = arrays.options(**OPTIONS)
    depth = sum(name.startswith("graph_model.graph_net.convs.") for name in param)
    hidden, width = param["graph_model.graph_net.fcs.0.weight"].shape
    built = method(
        monkeypatch,
        printed(load_recipe(recipe)),
        {name: param[f"{LINEAR[name]}.weight"].shape[1] for name in sorted(streams)},
        len(param["smax_fc.bias"]),
        width=width,
        hidden=hidden,
        layers=options["layers"] or depth,
        alpha=options["alpha"],
        eta=options["eta"],
        speaker="add_text",
        **{"variant": True, **config},
    )
    speakers = param["graph_model.speaker_embeddings.weight"]
    built.speaker.embedding = nn.Embedding(*speakers.shape).double()
    put(
        built,
        {
            **{f"streams.project.{name}.{kind}": param[f"{LINEAR[name]}.{kind}"] for name in streams for kind in ("weight", "bias")},
            **{f"streams.read.text.{name}": value for name, value in lstm(param, "lstm_l", 2).items()},
            "speaker.embedding.weight": speakers,
            "speaker.weight.weight": torch.eye(width, dtype=torch.float64),
            **{f"conv.first.{kind}": param[f"graph_model.graph_net.fcs.0.{kind}"] for kind in ("weight", "bias")},
            **{
                f"conv.weights.{layer}": param[f"graph_model.graph_net.convs.{layer}.weight"][: hidden * (1 + built.config.variant)]
                for layer in range(built.config.layers)
            },
            "classify.2.weight": by_stream(param["smax_fc.weight"], streams),
            "classify.2.bias": param["smax_fc.bias"],
        },
    )
    return built.eval()


def batch_of(arrays, streams, dialogues) -> Batch:
    """Some dialogues of the arrays."""
    sizes = [int(arrays["lengths"][i]) for i in dialogues]
    rows = sum(sizes)

    def joined(name: str) -> Tensor:
        return torch.cat([arrays[f"input/{i}/{name}"] for i in dialogues])

    return Batch(
        ptr=torch.tensor([0, *sizes]).cumsum(0),
        speaker=joined("speaker"),
        target=joined("label"),
        judged=torch.ones(rows, dtype=torch.bool),
        row=torch.arange(rows),
        features={name: joined(name) for name in streams},
        present={name: torch.ones(rows, dtype=torch.bool) for name in streams},
    )


def by_block(nodes: Tensor, order: tuple[str, ...]) -> Tensor:
    """`(N, S, k)` in our order → `(S N, k)`, one block per stream, in the code's."""
    return torch.cat([nodes[:, sorted(order).index(name)] for name in order])


class PaddedLSTM(nn.Module):
    """The text's net as the code has it: it reads the padding of shorter dialogues, where zeros went through the linear map."""

    def __init__(self, net: nn.Module, fill: Tensor) -> None:
        super().__init__()
        self.net, self.fill = net, fill

    def forward(self, nodes, batch):
        states = batch.pad(nodes.states[:, 0] - self.fill) + self.fill
        for index in range(len(self.net.layers)):
            ahead, back = self.net.nets(index)
            states = torch.cat([ahead(states)[0], back(states.flip(1))[0].flip(1)], -1)
        return nodes.with_states(batch.unpad(states)[:, None])


@pytest.mark.parametrize("layout", ["auto", "list"])
def test_each_dialogue_alone_is_that_of_the_public_code(reference, put, monkeypatch, layout):
    arrays = reference("mmgcn")
    for (model, streams), i in product(models(arrays).items(), range(len(arrays["lengths"]))):
        built = ours(monkeypatch, put, arrays, model)
        built.conv.layout = layout
        alone, batch = arrays.under(f"{model}/alone{i}/"), batch_of(arrays, streams, [i])
        seen = {}
        built.conv.register_forward_hook(lambda part, given, out, seen=seen: seen.update(x=given[0].states, out=out.states))
        with torch.no_grad():
            answer = built(batch)
        alone.same(by_block(seen["x"], streams), "nodes")
        alone.same(by_block(seen["out"], streams), "gcn_out")
        alone.same(by_block(answer.states.unflatten(1, (len(streams), -1)), streams), "gcn_out")
        alone.same(answer.scores.log_softmax(-1), "log_prob")


@pytest.mark.parametrize("model", ["avl", "al"])
def test_a_batch_with_padding_read_has_the_losses_and_gradients_of_the_public_code(reference, put, monkeypatch, model):
    arrays = reference("mmgcn")
    built, streams = ours(monkeypatch, put, arrays, model), models(arrays)[model]
    found, batch = arrays.under(f"{model}/"), batch_of(arrays, streams, range(len(arrays["lengths"])))
    built.streams.read["text"] = PaddedLSTM(built.streams.read["text"], built.streams.project["text"].bias)
    built.train()
    answer = built(batch)
    found.same(answer.scores.log_softmax(-1), "batch/log_prob")
    nll = F.cross_entropy(answer.scores, batch.target, arrays["class_weights"])
    legacy = legacy_focal(answer.scores, batch.target, arrays.options(**OPTIONS)["focal_gamma"]).mean()
    found.same(F.cross_entropy(answer.scores, batch.target), "batch/loss_plain_nll")
    found.same(nll, "batch/loss_weighted_nll")
    found.same(legacy, "batch/loss_legacy_focal")
    built.zero_grad()
    nll.backward(retain_graph=True)
    found.same(built.conv.weights[0].grad, "grad/graph_model.graph_net.convs.0.weight")
    found.same(built.streams.project["audio"].weight.grad, "grad/linear_a.weight")
    found.same(built.speaker.embedding.weight.grad, "grad/graph_model.speaker_embeddings.weight")
    built.zero_grad()
    legacy.backward()
    found.same(built.streams.project["audio"].weight.grad, "grad_legacy_focal/linear_a.weight")


def test_the_focal_loss_of_the_public_code(reference):
    arrays = reference("mmgcn").under("focal_example/")
    arrays.same(legacy_focal(arrays["logits"], arrays["labels"], 2.5).mean(), "legacy")


@pytest.mark.parametrize("layout", ["auto", "list"])
def test_the_graph_of_the_paper(reference, put, monkeypatch, layout):
    arrays = reference("mmgcn")
    built, streams = ours(monkeypatch, put, arrays, "avl", "mmgcn_paper", variant=False), models(arrays)["avl"]
    batch = batch_of(arrays, streams, range(len(arrays["lengths"])))
    nodes = arrays["avl/batch/nodes"].unflatten(0, (len(streams), -1))
    nodes = torch.stack([nodes[streams.index(name)] for name in sorted(streams)], 1)
    built.conv.layout = layout
    given = built.streams(built.given(batch)).with_states(nodes)
    for depth in range(1, built.config.layers + 1):  # the same weights, cut behind every layer
        conv = built.conv
        cut = type(conv)(conv.inputs, conv.recipe, replace(conv.config, depth=depth), hidden=conv.hidden).double()
        cut.layout = layout
        cut.load_state_dict({name: value for name, value in conv.state_dict().items() if name in cut.state_dict()})
        h = by_block(cut(given, batch).states[..., conv.inputs :], streams)
        wanted = arrays["paper_graph_loop/layers"][depth - 1]
        assert float((h.detach() - wanted).abs().max()) <= 1e-8


def by_loops(built: MMGCN, batch: Batch, gamma: float) -> Tensor:
    """The equations of the page, one dialogue, one node at a time; the LSTM alone is PyTorch's."""
    state, streams = built.state_dict(), list(built.streams.names)
    answers = []
    for first, last in zip(batch.ptr[:-1].tolist(), batch.ptr[1:].tolist(), strict=True):
        n = {}  # (stream, turn) → state
        for name in streams:
            rows = batch.features[name][first:last]
            rows = rows @ state[f"streams.project.{name}.weight"].T + state[f"streams.project.{name}.bias"]
            if name == "text":
                for index in range(2):
                    ahead, back = built.streams.read["text"].nets(index)
                    rows = torch.cat([ahead(rows[None])[0], back(rows.flip(0)[None])[0].flip(1)], -1)[0]
            for i in range(last - first):
                spoken = state["speaker.weight.weight"] @ state["speaker.embedding.weight"][batch.speaker[first + i]]
                n[name, i] = torch.cat([rows[i], spoken])
        places = list(n)
        a = torch.zeros(len(places), len(places), dtype=torch.float64)
        for p, (one, i) in enumerate(places):
            for q, (other, j) in enumerate(places):
                if one == other or i == j:
                    cosine = n[one, i] @ n[other, j] / (n[one, i].norm() * n[other, j].norm())
                    a[p, q] = (1 - math.acos(BOUND * float(cosine)) / math.pi) * (1 if one == other else gamma)
            a[p, p] += 1
        h0 = {p: torch.relu(state["conv.first.weight"] @ n[p] + state["conv.first.bias"]) for p in places}
        h = h0
        for layer in range(built.config.layers):
            beta, matrix, new = math.log(built.config.eta / (layer + 1) + 1), state[f"conv.weights.{layer}"], {}
            for p, one in enumerate(places):
                k = sum(a[p, q] / math.sqrt(a[p].sum() * a[q].sum()) * h[other] for q, other in enumerate(places))
                mixed = (1 - built.config.alpha) * k + built.config.alpha * h0[one]
                new[one] = torch.relu((1 - beta) * mixed + beta * mixed @ matrix)
            h = new
        for i in range(last - first):
            e = torch.cat([part for name in streams for part in (n[name, i], h[name, i])])
            answers.append(state["classify.2.weight"] @ torch.relu(e) + state["classify.2.bias"])
    return torch.stack(answers)


@pytest.mark.parametrize("streams", [("audio", "text", "visual"), ("audio", "text"), ("audio", "visual"), ("text",)])
def test_loops_over_the_equations(monkeypatch, streams):
    torch.manual_seed(len(streams))
    sizes, rows = [4, 1, 6], 11
    widths = {name: 3 + i for i, name in enumerate(streams)}
    recipe = printed(load_recipe(MMGCNConfig().graph))
    built = method(monkeypatch, recipe, widths, 3, width=6, hidden=5, layers=3, alpha=0.2, eta=0.7).eval()
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    batch = Batch(
        ptr=torch.tensor([0, *sizes]).cumsum(0),
        speaker=torch.tensor([0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0]),  # the last dialogue has one speaker
        target=torch.zeros(rows, dtype=torch.long),
        judged=torch.ones(rows, dtype=torch.bool),
        row=torch.arange(rows),
        features={name: torch.randn(rows, width, dtype=torch.float64) for name, width in widths.items()},
        present={name: torch.ones(rows, dtype=torch.bool) for name in streams},
    )
    with torch.no_grad():
        assert torch.allclose(built(batch).scores, by_loops(built, batch, 0.7), atol=1e-10, rtol=0)


def test_a_missing_node_is_not_there():
    """Same as the dialogue without that node: the only neighbour that is left across modalities has no edge."""
    torch.manual_seed(0)
    task = Task(name="reference", labels=("a", "b"))
    built = mmgcn.MMGCN(Schema(widths={"audio": 3, "visual": 2}, task=task), MMGCNConfig(width=4, hidden=3)).double().eval()
    features = {"audio": torch.randn(2, 3, dtype=torch.float64), "visual": torch.randn(2, 2, dtype=torch.float64)}

    def states(visual: Tensor, present: list[bool]) -> Tensor:
        batch = Batch(
            ptr=torch.tensor([0, 2]),
            speaker=torch.zeros(2, dtype=torch.long),
            target=torch.zeros(2, dtype=torch.long),
            judged=torch.ones(2, dtype=torch.bool),
            row=torch.arange(2),
            features={**features, "visual": visual},
            present={"audio": torch.ones(2, dtype=torch.bool), "visual": torch.tensor(present)},
        )
        with torch.no_grad():
            return built(batch).states.unflatten(1, (2, -1))

    found = states(features["visual"], [True, False])
    assert torch.equal(found, states(features["visual"] + torch.tensor([[0.0], [9.0]]), [True, False]))
    assert bool((found[1, 1] == 0).all())
    assert not torch.allclose(found[0, 0], states(features["visual"], [True, True])[0, 0])
