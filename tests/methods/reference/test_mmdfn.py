"""MM-DFN: arrays of the public code with packed nets, and the equations by loop at other sizes and with missing modalities."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from erc_graph.conv.angular import block
from erc_graph.data.batch import Batch
from erc_graph.graphs import weights
from erc_graph.graphs.recipe import load_recipe
from erc_graph.methods.mmdfn import MMDFN, MMDFNConfig
from tests.methods.reference.conftest import SPEAKERS, Reference, batch_of, build, equal, random_batch, stir
from tests.methods.reference.test_mmgcn import BOUND, by_stream, lstm, printed

pytestmark = pytest.mark.reference
STREAMS = {"audio": "linear_a", "visual": "linear_v", "text": "linear_l"}  # in the order of the public code
OPTIONS: dict[str, Any] = {"layers": None, "alpha": 0.2, "eta": 0.5, "gamma": 0.5, "modal_weight": 1.0}


@pytest.fixture(autouse=True)
def nothing_added(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the epsilon that we add to squared norms, which is seen in the seventh place of a weight."""
    monkeypatch.setattr(weights, "TINY", 1e-30)
    monkeypatch.setattr(block, "TINY", 1e-30)


def ours(arrays: Reference, put: Callable[..., None]) -> tuple[Any, Batch]:
    """Our model with the parameters of the public code, and the dialogues."""
    given, told, numbers = arrays.under("param/"), arrays.options(**OPTIONS), range(len(arrays["lengths"]))
    features = {m: torch.cat([arrays[f"input/{i}/{m}"] for i in numbers]) for m in sorted(STREAMS)}
    hidden, width = given["graph_model.graph_net.fcs.0.weight"].shape
    recipe = printed(load_recipe("mmgcn").with_scale("cross", told["modal_weight"]))
    config = MMDFNConfig(
        graph=recipe, width=width, hidden=hidden, alpha=told["alpha"], eta=told["eta"], dropout=0.0,  # type: ignore[arg-type]
        layers=told["layers"] or sum("graph_net.convs." in name for name in given),
        speaker=dict(zip(STREAMS, arrays["speaker_weights_a_v_l"].tolist(), strict=True)),
    )  # fmt: skip
    model = build(MMDFN, {m: rows.shape[1] for m, rows in features.items()}, len(given["smax_fc.bias"]), config)
    found = {f"context.{name}": value for name, value in lstm(given, "lstm_l", 2).items()}
    found |= {f"own.net.{name}": value for name, value in lstm(given, "rnn_parties", 2).items()}
    for end in ("weight", "bias"):
        found |= {f"streams.project.{m}.{end}": given[f"{name}.{end}"] for m, name in STREAMS.items()}
        found |= {f"conv.gate.{end}_{kind}": given[f"graph_model.graph_net.rnn.{end}_{kind}_l0"] for kind in ("ih", "hh")}
        found[f"conv.first.{end}"] = given[f"graph_model.graph_net.fcs.0.{end}"]
    found |= {f"conv.weights.{i}": given[f"graph_model.graph_net.convs.{i}.weight"] for i in range(config.layers)}
    found |= {"classify.2.weight": by_stream(given["smax_fc.weight"], tuple(STREAMS)), "classify.2.bias": given["smax_fc.bias"]}
    put(model, found)
    speakers, labels = ([arrays[f"input/{i}/{name}"] for i in numbers] for name in ("speaker", "label"))
    return model, batch_of(speakers, labels, **features)


def by_block(states: Tensor) -> Tensor:
    """`(N, S, k)` in our order → stream by stream in that of the code."""
    return states[:, [sorted(STREAMS).index(m) for m in STREAMS]].transpose(0, 1).flatten(0, 1)


def focal(scores: Tensor, target: Tensor, gamma: float, weight: Tensor | None = None) -> Tensor:
    """The loss of the public code: no gradient through its factor, and no division by the sum of the weights."""
    log_p = scores.log_softmax(-1).gather(1, target[:, None])[:, 0]
    return -((1 - log_p.detach().exp()) ** gamma * (1.0 if weight is None else weight[target]) * log_p).mean()


def test_packed_in_one_batch_and_alone(reference: Callable[[str], Reference], put: Callable[..., None]) -> None:
    arrays = reference("mmdfn")
    model, batch = ours(arrays, put)
    seen: list[Tensor] = []
    model.conv.register_forward_hook(lambda _, given, out: seen.append(given[0].states))
    arrays.same(model(batch).scores.log_softmax(-1), "packed/log_prob")
    arrays.same(by_block(seen[0]), "packed/nodes")
    alone = [model(batch.select(torch.tensor([i]))).scores for i in range(len(batch))]
    arrays.same(torch.cat(alone).log_softmax(-1), "packed/log_prob")


@pytest.mark.parametrize("layout", ["auto", "list"])
def test_from_the_nodes_of_the_batch_on(reference: Callable[[str], Reference], put: Callable[..., None], layout: str) -> None:
    arrays = reference("mmdfn")
    model, batch = ours(arrays, put)
    model.conv.layout, seen = layout, []
    model.conv.gate.register_forward_hook(lambda _, given, out: seen.append((given[0], *out)))
    place, count = {m: i for i, m in enumerate(STREAMS)}, len(STREAMS)
    nodes = arrays["batch/nodes"].view(count, batch.utterances, -1)
    x = model.streams(model.given(batch))
    out = model.conv(x.with_states(torch.stack([nodes[place[m]] for m in sorted(STREAMS)], 1)), batch).states
    if layout == "list":
        for k, name in enumerate(("layer_in", "gate_out", "gate_cell")):
            arrays.same(torch.stack([by_block(one[k].view(batch.utterances, count, -1)) for one in seen]), f"batch/{name}")
    arrays.same(by_block(out[..., -model.config.hidden :]), "batch/layer_out")
    arrays.same(torch.cat([out[:, sorted(STREAMS).index(m)] for m in STREAMS], -1), "batch/features")
    scores, gamma = model.classify(out.flatten(1)), arrays.options(**OPTIONS)["gamma"]
    arrays.same(scores.log_softmax(-1), "batch/log_prob")
    arrays.same(torch.nn.functional.cross_entropy(scores, batch.target), "batch/loss_plain_nll")
    for kind, weight in {"weighted": arrays["class_weights"], "plain": None}.items():
        loss = focal(scores, batch.target, gamma, weight)
        arrays.same(loss, f"batch/loss_focal_{kind}")
        (slope,) = torch.autograd.grad(loss, model.conv.gate.weight_hh, retain_graph=True)
        arrays.same(slope, f"grad_focal_{kind}/graph_model.graph_net.rnn.weight_hh_l0")


# -- other sizes, by loop ---------------------------------------------------------------------------------------------------------


def loop(model: Any, batch: Batch) -> Tensor:
    """Eqs. (2)-(7), node by node; the nets alone are asked for whole sequences."""
    x, c, names = model.streams(model.given(batch)), model.config, model.streams.names
    rows, answers = x.masked(), []
    for first, last in zip(batch.ptr[:-1].tolist(), batch.ptr[1:].tolist(), strict=True):
        turns, n = range(first, last), {}

        def read(net: Any, sequence: list[Tensor]) -> list[Tensor]:
            zeros = torch.zeros(len(sequence), dtype=torch.long)
            return list(net.read(torch.stack(sequence), batch_of([zeros], [zeros])))

        for s, name in enumerate(names):
            here = [rows[i, s] for i in turns]
            context = dict(zip(turns, read(model.context, here) if name == "text" else here, strict=True))
            for who in set(batch.speaker[first:last].tolist()):
                own = [i for i in turns if batch.speaker[i] == who]
                for i, z in zip(own, read(model.own.net, [rows[i, s] for i in own]), strict=True):
                    n[i, s] = context[i] + c.speaker.get(name, 1.0) * z
        places = [node for node in n if x.present[node]]
        a = {(p, q): torch.zeros(()).double() for p in places for q in places if (p[0] == q[0]) or (p[1] == q[1])}
        for p, q in a:
            cosine = torch.ones(()).double() if p == q else n[p] @ n[q] / (n[p].norm() * n[q].norm())
            a[p, q] = 1 - (BOUND * cosine).acos() / math.pi
        degree = {p: sum(a[p, q] for q in places if (p, q) in a) for p in places}
        h0 = {p: model.conv.first(n[p]).relu() for p in places}
        q, state = dict(h0), dict.fromkeys(places)
        for k in range(c.layers):
            beta, g = math.log(c.eta / (k + 1) + 1), {}
            for p in places:
                state[p] = model.conv.gate(q[p], state[p])
                g[p] = state[p][0]
            for p in places:
                heard = sum(a[p, o] / (degree[p] * degree[o]).sqrt() * g[o] for o in places if (p, o) in a)
                mixed = (1 - beta) * ((1 - c.alpha) * heard + c.alpha * h0[p])
                q[p] = q[p] + (mixed + beta * torch.cat([heard, h0[p]]) @ model.conv.weights[k]).relu()
        zero = torch.zeros(c.width + c.hidden).double()
        for i in turns:
            answers.append(model.classify(torch.cat([torch.cat([n[i, s], q[i, s]]) if (i, s) in q else zero for s in range(len(names))])))
    return torch.stack(answers)


@pytest.mark.parametrize("layout", ["list", "auto"])
@pytest.mark.parametrize("names", [("audio", "text", "visual"), ("audio",)])
def test_equations_by_loop(names: tuple[str, ...], layout: str) -> None:
    widths = {name: 3 + i for i, name in enumerate(names)}
    config = MMDFNConfig(graph=printed(load_recipe("mmgcn")), width=4, hidden=3, layers=2, speaker={"audio": 0.6})  # type: ignore[arg-type]
    model = build(MMDFN, widths, 3, config)
    model.conv.layout = layout
    stir(model)
    batch = random_batch(SPEAKERS, widths, classes=3, missing=0.3)
    equal(model(batch).scores, loop(model, batch), model)
