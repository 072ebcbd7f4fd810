"""DialogueGCN: arrays of the equations as printed and of both public codes, and the equations by loop at other sizes."""

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
from erc_graph.graphs.edges import Edges, edges_of
from erc_graph.graphs.recipe import GraphRecipe, load_recipe
from erc_graph.methods.dialoguegcn import DialogueGCN, DialogueGCNConfig
from tests.methods.reference.conftest import SPEAKERS, Reference, batch_of, build, equal, random_batch, stir

pytestmark = pytest.mark.reference


def recipe_of(past: int, future: int, pairs: int, *, loops: bool) -> GraphRecipe:
    recipe = load_recipe("dialoguegcn")
    before, after = recipe.edges
    rules = replace(before, past=past, pairs=pairs), replace(after, future=future, pairs=pairs, self_loops=loops)
    return replace(recipe, edges=rules, examples=())


def by_pair(matrices: Tensor, pairs: int, *, receiver_first: bool) -> Tensor:
    """Matrices `2 (pairs a + b) + (0 if a's turn is before b's)` in the order of the recipe: before, after; sender, receiver."""
    table = matrices.view(pairs, pairs, 2, *matrices.shape[1:])
    if receiver_first:
        table = table.transpose(0, 1).flip(2)
    return torch.cat([table[:, :, 0].flatten(0, 1), table[:, :, 1].flatten(0, 1)])


def model_of(arrays: Reference, put: Callable[..., None], folder: str, **words: Any) -> tuple[Any, Batch]:
    """Our model with the parameters of a folder, and the dialogues."""
    given, first = arrays.under(f"{folder}/param/"), folder == "mianzhang"
    net = "rnn.rnn" if first else folder.removeprefix("orig_")
    graph, head = ("gcn", "clf") if first else ("graph_net", "graph_net")
    last = (f"{head}.lin1", f"{head}.lin2") if first else (f"{head}.linear", f"{head}.smax_fc")
    attend = f"{head}.emotion_att.lin" if first else f"{head}.matchatt.transform"
    numbers = range(len(arrays["lengths"]))
    text, speakers, labels = ([arrays[f"input/{i}/{name}"] for i in numbers] for name in ("text", "speaker", "label"))
    past, future = arrays["window"].tolist()
    pairs, paper = round((len(given[f"{graph}.conv1.att"]) / 2) ** 0.5), words.get("form") != "code"
    width = 2 * given[f"{net}.weight_hh_l0"].shape[1]
    # A window is what a turn sends in the codes, and what it hears in the paper.
    graph_recipe = recipe_of(*((past, future) if paper else (future, past)), pairs, loops=not paper)
    hidden = len(given[f"{graph}.conv1.bias"])
    words |= {"graph": graph_recipe, "width": width, "hidden": hidden, "cell": "gru" if net == "gru" else "lstm"}
    config = DialogueGCNConfig(dropout=0.0, **words)
    model = build(DialogueGCN, {"text": text[0].shape[1]}, len(arrays["class_weights"]), config)
    matrices = torch.einsum("rb,bio->rio", given[f"{graph}.conv1.att"], given[f"{graph}.conv1.basis"])
    matrices, root = by_pair(matrices, pairs, receiver_first=paper), given[f"{graph}.conv1.root"]
    found = {
        f"context.layers.{layer}.{way}.{kind}_l0": given[f"{net}.{kind}_l{layer}{end}"]
        for layer in range(2)
        for way, end in enumerate(("", "_reverse"))
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }
    found["relate.weight"] = torch.cat([matrices, root[None]]) if paper else matrices
    found |= {"relate.bias": given[f"{graph}.conv1.bias"]} if paper else {
        "relate.root.weight": root.T, "relate.root.bias": given[f"{graph}.conv1.bias"]
    }  # fmt: skip
    edge = given["edge_att.weight"] if first else torch.zeros(width, width).double()
    found["relate.attention.weight"] = edge.T if paper else edge
    found |= {
        "neighbours.neighbours.weight": given[f"{graph}.conv2.weight"].T,
        "neighbours.neighbours.bias": given[f"{graph}.conv2.lin.bias"],
        "neighbours.root.weight": given[f"{graph}.conv2.lin.weight"],
    }
    if model.nodal is not None:
        found["nodal.transform.weight"] = given[f"{attend}.weight"].T if paper else given[f"{attend}.weight"]
        found |= {"nodal.transform.bias": given[f"{attend}.bias"]} if not paper else {}
    names = dict(zip(("classify.0", "classify.3"), last, strict=True))
    found |= {f"{ours}.{end}": given[f"{theirs}.{end}"] for ours, theirs in names.items() for end in ("weight", "bias")}
    put(model, found)
    return model, batch_of(speakers, labels, text=torch.cat(text))


def watched(model: Any, batch: Batch) -> dict[str, Tensor]:
    """What comes out of every part, and the weights of the edges as `(dialogue's turns, turns)` blocks, target first."""
    seen: dict[str, Tensor] = {}
    ends = [
        getattr(model, part).register_forward_hook(lambda _, given, found, part=part: seen.update({part: found.states[:, 0]}))
        for part in ("context", "relate", "neighbours")
    ]
    prediction = model(batch)
    for end in ends:
        end.remove()
    relate, g = model.relate, Nodes.of_turns(seen["context"])
    edges = edges_of(relate.recipe, g, batch, layout="list")
    (weight,) = relate.attended(relate.score(g.states, edges), edges)
    full = torch.zeros(batch.utterances, batch.utterances, dtype=weight.dtype).index_put((edges.edges.target, edges.edges.source), weight)
    return {**seen, "alpha": full, "states": prediction.states, "scores": prediction.scores}


def test_the_equations_as_printed(reference: Callable[[str], Reference], put: Callable[..., None]) -> None:
    arrays = reference("dialoguegcn")
    model, batch = model_of(arrays, put, "mianzhang")
    seen = watched(model, batch)
    for i, rows in enumerate(torch.arange(batch.utterances).split(list(batch.sizes))):
        loop = arrays.under(f"paper_loop/{i}/")
        loop.same(seen["alpha"][rows][:, rows], "alpha")
        loop.same(seen["relate"][rows].relu(), "h1")
        loop.same(seen["neighbours"][rows].relu(), "h2")
        loop.same(seen["states"][rows], "attended")
        loop.same(seen["scores"][rows].log_softmax(-1), "log_prob")
    arrays.same(F.cross_entropy(seen["scores"], batch.target), "paper_loop/loss_plain_nll")


def test_the_second_code(reference: Callable[[str], Reference], put: Callable[..., None]) -> None:
    every = reference("dialoguegcn")
    arrays = every.under("mianzhang/")
    model, batch = model_of(every, put, "mianzhang", form="code", nodal="none")
    seen = watched(model, batch)
    for name, ours in {"conv1": "relate", "conv2": "neighbours"}.items():
        arrays.same(seen[ours], f"batch/{name}")
    arrays.same(batch.pad(seen["context"]), "batch/context")
    source, target = arrays["batch/edge_index"]
    arrays.same(seen["alpha"][target, source], "batch/edge_norm")
    assert len(source) == int((seen["alpha"] > 0).sum())
    arrays.same(seen["scores"].log_softmax(-1), "batch/log_prob")
    for i, rows in enumerate(torch.arange(batch.utterances).split(list(batch.sizes))):
        arrays.same(model(batch.select(torch.tensor([i]))).scores.log_softmax(-1), f"alone{i}/log_prob")
        arrays.same(seen["scores"][rows].log_softmax(-1), f"alone{i}/log_prob")
    loss = F.cross_entropy(seen["scores"], batch.target, every["class_weights"])
    arrays.same(loss, "batch/loss_weighted_nll")
    loss.backward()
    arrays.same(model.relate.attention.weight.grad, "grad/edge_att.weight")
    pairs = round((len(model.relate.weight) / 2) ** 0.5)
    att = arrays["param/gcn.conv1.att"]
    slopes = torch.einsum("rb,rio->bio", by_pair(att, pairs, receiver_first=False), model.relate.weight.grad)
    arrays.same(slopes, "grad/gcn.conv1.basis")


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_first_code(reference: Callable[[str], Reference], put: Callable[..., None], cell: str) -> None:
    every = reference("dialoguegcn")
    arrays = every.under(f"orig_{cell}/")
    model, batch = model_of(every, put, f"orig_{cell}", form="code", nodal="tanh")
    by_place = arrays["param/att_model.scalar.weight"]

    def score(x: Tensor, edges: Edges) -> Tensor:  # of the sender's place, by what the receiver says
        place = F.one_hot(edges.batch.turn, len(by_place)).to(x.dtype)[:, None, None]
        return edges.dot((x @ by_place.T)[:, :, None], place)

    model.relate.score = score
    for i in range(len(batch)):
        seen = watched(model, batch.select(torch.tensor([i])))
        torch.testing.assert_close(seen["scores"].log_softmax(-1), arrays[f"alone{i}/log_prob"], rtol=0, atol=1e-9)


# -- other sizes, by loop ---------------------------------------------------------------------------------------------------------


def loop(model: Any, batch: Batch, past: int, future: int, pairs: int) -> Tensor:
    """Eqs. (2)-(6), turn by turn, on the states in front of the graph."""
    relate, plain = model.relate, model.neighbours
    here = torch.stack(list(batch.present.values())).any(0)
    g = model.context(model.turn(model.given(batch)), batch).masked()[:, 0]
    answers = []
    for first, last in zip(batch.ptr[:-1].tolist(), batch.ptr[1:].tolist(), strict=True):
        turns = range(first, last)
        near = {i: [j for j in turns if i - past <= j <= i + future and here[i] and here[j]] for i in turns}
        h1, h = {}, {}
        for i in turns:
            h1[i] = relate.bias.clone()
            score = torch.stack([g[i] @ relate.attention.weight.T @ g[j] for j in near[i]]).softmax(0) if near[i] else []
            who = {j: (j > i, *(min(int(batch.speaker[k]), pairs - 1) for k in (j, i))) for j in near[i]}
            for j, weight in zip(near[i], score, strict=True):
                after, s, t = who[j]
                matrix = relate.weight[-1] if i == j else relate.weight[after * pairs**2 + s * pairs + t]
                number = 1 if i == j else sum(who[k] == who[j] for k in near[i] if k != i)
                h1[i] = h1[i] + weight / number * (g[j] @ matrix)
            h1[i] = h1[i].relu()
        for i in turns:
            heard = sum((h1[j] for j in near[i] if j != i), torch.zeros_like(h1[i]))
            h2 = plain.neighbours(heard) + plain.root(h1[i])
            h[i] = torch.cat([g[i], h2.relu()]) if here[i] else torch.zeros(len(g[i]) + len(h2)).double()
        for i in turns:
            beta = torch.stack([h[i] @ model.nodal.transform.weight.T @ h[j] for j in turns]).softmax(0)
            read = sum(b * h[j] for b, j in zip(beta, turns, strict=True)) if here[i] else torch.zeros_like(h[i])
            answers.append(model.classify(read))
    return torch.stack(answers)


@pytest.mark.parametrize("layout", ["list", "blocks"])
def test_equations_by_loop(layout: str) -> None:
    recipe = recipe_of(3, 2, 2, loops=True)
    model = build(DialogueGCN, {"audio": 3, "text": 4}, 3, DialogueGCNConfig(graph=recipe, width=6, hidden=5))  # type: ignore[arg-type]
    model.relate.layout = model.neighbours.layout = layout
    stir(model)
    batch = random_batch(SPEAKERS, {"audio": 3, "text": 4}, classes=3, missing=0.4)
    equal(model(batch).scores, loop(model, batch, 3, 2, 2), model)
