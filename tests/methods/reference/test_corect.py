"""CORECT: arrays of the public code, which attends to padding, and the equations by loop with modalities that are missing.

The arrays beside this file are without the Transformer over the text, whose hidden layers of 2048 are most of the file; what comes out of
it is among them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.graphs.recipe import GraphRecipe, load_recipe
from erc_graph.methods.corect import CORECT, CORECTConfig
from tests.methods.reference.conftest import SPEAKERS, Reference, batch_of, build, equal, random_batch, stir
from tests.methods.reference.stacks import crossed_by_loop, depth, in_gradient, stack_names

pytestmark = pytest.mark.reference
LETTERS = {"text": "a", "audio": "t", "visual": "v"}  # as the code calls them
ENCODERS = {"audio": "audio_encoder", "visual": "vision_encoder"}
LAYERS = "encoder.text_encoder.transformer_encoder.layers"


def recipe_of(past: int, future: int) -> GraphRecipe:
    """The graph of the code: what is sent `past` turns back and fewer than `future` ahead; -1: all."""
    recipe = load_recipe("corect")
    before, after, *others = recipe.edges
    heard = replace(before, past=None if future < 0 else future - 1), replace(after, future=None if past < 0 else past)
    return replace(recipe, edges=(*heard, *others), examples=())


class Told(nn.Module):
    """In the place of what is not among the arrays: the same for every turn, or what comes out of it."""

    def __init__(self, rows: Tensor | None = None) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, given: Any, batch: Batch | None = None) -> Any:
        return given if self.rows is None else self.rows


def renamed(given: Reference, layers: int) -> dict[str, Tensor]:
    """The parameters of the public code under our names."""
    names = {"project.text": "encoder.text_encoder.transformer_out", "classify.0": "clf.lin1", "classify.3": "clf.lin2"}
    names |= {f"project.{m}.{i}": f"encoder.{one}.{i}" for m, one in ENCODERS.items() for i in (0, 2)}
    names |= {f"attend.{part}": f"graph_model.gnn.conv2.lin_{part}" for part in ("query", "key", "value", "skip")}
    speakers, norm = given["speaker_embedding.weight"], "graph_model.gnn.bn"
    found = {
        "relate.weight": given["graph_model.gnn.conv1.weight"],
        "relate.root.weight": given["graph_model.gnn.conv1.root"].T,
        "relate.root.bias": given["graph_model.gnn.conv1.bias"],
        "speaker.embedding.weight": speakers,
        "speaker.weight.weight": torch.eye(speakers.shape[1], dtype=speakers.dtype),
    } | {f"norm.{end}": given[f"{norm}.{end}"] for end in ("weight", "bias", "running_mean", "running_var")}
    for i in range(layers):
        ours, theirs = "context.", f"{LAYERS}.{i}."
        found |= {f"{ours}attention.{i}.query_key_value.{end}": given[f"{theirs}self_attn.in_proj_{end}"] for end in ("weight", "bias")}
        names |= {f"{ours}attention.{i}.output": f"{theirs}self_attn.out_proj"}
        names |= {f"{ours}feedforward.{i}.{3 * k}": f"{theirs}linear{k + 1}" for k in range(2)}
        names |= {f"{ours}norm.{2 * i + k}": f"{theirs}norm{k + 1}" for k in range(2)}
    for m, letter in LETTERS.items():
        found |= stack_names(given, f"crossmodal.layers.mem_{letter}", f"crossed.net.memory.{m}")
        for n, other in LETTERS.items():
            found |= stack_names(given, f"crossmodal.layers.{letter}{other}", f"crossed.net.cross.{m}.{n}") if m != n else {}
    return found | {f"{ours}.{end}": given[f"{theirs}.{end}"] for ours, theirs in names.items() for end in ("weight", "bias")}


@pytest.fixture
def case(reference: Callable[[str], Reference], put: Callable[..., None]) -> tuple[Reference, Any, Batch, bool]:
    """Arrays, our model with their parameters, the dialogues, and whether the Transformer over the text is among the arrays."""
    arrays = reference("corect")
    given, whole = arrays.under("param/"), f"param/{LAYERS}.0.linear1.bias" in arrays
    told = arrays.options(wp_wf=[3, 2], attention_heads=2)
    width, layers = len(given["graph_model.gnn.conv1.bias"]), sum(name.startswith(LAYERS) and name.endswith("norm1.bias") for name in given)
    config = CORECTConfig(
        graph=recipe_of(*told["wp_wf"]),  # type: ignore[arg-type]
        width=width, heads=len(given["graph_model.gnn.bn.weight"]) // width, cross_heads=told["attention_heads"], layers=max(layers, 1),
        cross_layers=depth(given, "crossmodal.layers.at"), memory_layers=depth(given, "crossmodal.layers.mem_a"), dropout=0.0,
        feedforward=len(given[f"{LAYERS}.0.linear1.bias"]) if whole else 1,
    )  # fmt: skip
    numbers = range(sum(name.startswith("in/label/") for name in arrays))
    x = {m: torch.cat([arrays[f"in/{m}/{i}"] for i in numbers]) for m in LETTERS}
    widths = {m: value.shape[1] for m, value in x.items()}
    model = build(CORECT, widths, len(given["clf.lin2.bias"]), config, dtype=torch.float32)
    model.speaker.embedding = nn.Embedding(*given["speaker_embedding.weight"].shape)
    if not whole:
        model.context = Told()
    put(model, renamed(given, layers))
    speakers, labels = ([arrays[f"in/{name}/{i}"] for i in numbers] for name in ("speaker", "label"))
    return arrays, model, batch_of(speakers, labels, **x), whole


def test_with_padding_attended_as_the_code_does_it(case: tuple[Reference, Any, Batch, bool]) -> None:
    arrays, model, batch, whole = case
    count, turns = len(batch), batch.longest
    mask = batch.mask.flatten()
    speakers = batch.pad(batch.speaker)
    padded = batch_of(
        speakers.unbind(0), torch.zeros_like(speakers).unbind(0), **{m: batch.pad(v).flatten(0, 1) for m, v in batch.features.items()}
    )
    if not whole:
        model.project["text"] = Told(arrays["mid/encoder.text_encoder"].flatten(0, 1))
    seen: dict[str, Tensor] = {}
    for m, name in {"text": "text_encoder", **ENCODERS}.items():
        model.project[m].register_forward_hook(
            lambda _, __, found, name=name: seen.update({f"encoder.{name}": found.unflatten(0, (count, turns))})
        )
    for ours, theirs in {"relate": "conv1", "attend": "conv2"}.items():
        getattr(model, ours).register_forward_hook(
            lambda _, __, found, theirs=theirs: seen.update({f"graph_model.gnn.{theirs}": found.states.transpose(0, 1).flatten(0, 1)})
        )
    cross = model.crossed.net
    for part, name in ((cross.cross.text.audio, "at"), (cross.memory.text, "mem_a")):
        part.register_forward_hook(lambda _, __, found, name=name: seen.update({f"crossmodal.layers.{name}": found.states.transpose(0, 1)}))
    x = model.nodes(model.given(padded))
    heard = model.crossed(x, padded).states[:, 0]
    z = model.related(Nodes(x.states[mask], x.present[mask], x.streams), batch)
    streams = len(x.streams)
    seen |= {"crossmodal": heard.view(count, turns, -1).transpose(0, 1)}
    seen |= {"graph_model.gnn": z.unflatten(1, (streams, -1)).transpose(0, 1).flatten(0, 1)}
    for name, value in seen.items():
        arrays.same(value, f"mid/{name}")
    scores = model.classify(torch.cat([z, heard[mask]], -1))
    arrays.same(scores.log_softmax(-1), "out/log_prob")
    loss = F.cross_entropy(scores, batch.target)
    arrays.same(loss, "out/loss")
    loss.backward()
    arrays.same(model.relate.weight.grad, "grad/graph_model.gnn.conv1.weight")
    arrays.same(model.speaker.embedding.weight.grad, "grad/speaker_embedding.weight")
    arrays.same(in_gradient(cross.cross.text.audio.layers[0]), "grad/crossmodal.layers.at.layers.0.self_attn.in_proj_weight")


def test_every_dialogue_alone_and_all_in_one_batch(case: tuple[Reference, Any, Batch, bool]) -> None:
    arrays, model, batch, whole = case
    if not whole:
        pytest.skip("the Transformer over the text is not among the arrays")
    arrays.same(model(batch).scores.log_softmax(-1), "out/alone_log_prob")


# -- other sizes, by loop ---------------------------------------------------------------------------------------------------------


def loop(model: Any, batch: Batch) -> Tensor:
    """Eqs. (3)-(6), node by node, of what stands behind (2)."""
    found, first = model.nodes(model.given(batch)), 0
    rows, names, rules = [], list(found.streams), model.relate.recipe.edges
    for size in batch.sizes:
        x = {(m, i): found.states[first + i, k] for k, m in enumerate(names) for i in range(size) if found.present[first + i, k]}
        edges: dict[tuple[str, int], list[tuple[int, tuple[str, int]]]] = {node: [] for node in x}
        for (m, i), sources in edges.items():
            for r, rule in enumerate(rules):
                if rule.target == (m,):
                    near = [j for j in range(size) if i - rule.past <= j <= i + rule.future and (rule.self_loops or i != j)]
                    sources += [(r, (rule.source[0], j)) for j in near if (rule.source[0], j) in x]
        y = {node: model.relate.root(value) for node, value in x.items()}
        for node, sources in edges.items():
            for r in range(len(rules)):
                of = [x[other] for number, other in sources if number == r]
                y[node] = y[node] + sum(of) / len(of) @ model.relate.weight[r] if of else y[node]
        z, attend, norm = {}, model.attend, model.norm
        for node, sources in edges.items():
            heads = []
            for h, query in enumerate(attend.query(y[node]).chunk(attend.heads)):
                keys = torch.stack([attend.key(y[other]).chunk(attend.heads)[h] for _, other in sources])
                values = torch.stack([attend.value(y[other]).chunk(attend.heads)[h] for _, other in sources])
                heads.append((keys @ query / len(query) ** 0.5).softmax(0) @ values)
            one = torch.cat(heads) + attend.skip(y[node])
            one = (one - norm.running_mean) / (norm.running_var + norm.epsilon).sqrt() * norm.weight + norm.bias
            z[node] = F.leaky_relu(one, 0.01)
        heard = crossed_by_loop(model.crossed.net, {m: [x.get((m, i)) for i in range(size)] for m in names}) if len(names) > 1 else {}
        for i in range(size):
            parts = [z.get((m, i), torch.zeros(attend.width).double()) for m in names]
            width = (len(names) - 1) * x_width(model)
            parts += [torch.zeros(width).double() if heard[m][i] is None else heard[m][i] for m in heard]  # type: ignore[misc]
            rows.append(torch.cat(parts))
        first += size
    return model.classify(torch.stack(rows))


def x_width(model: Any) -> int:
    return int(model.relate.width)


@pytest.mark.parametrize("widths", [{"audio": 3, "text": 7}, {"text": 7}])
def test_equations_by_loop(widths: dict[str, int]) -> None:
    config = CORECTConfig(
        graph=recipe_of(2, 3), width=4, heads=2, layers=1, feedforward=5, cross_layers=1, memory_layers=1, dropout=0.0  # type: ignore[arg-type]
    )  # fmt: skip
    model = build(CORECT, widths, 3, config)
    stir(model)
    batch = random_batch(SPEAKERS, widths, classes=3)
    equal(model(batch).scores, loop(model, batch), model)
