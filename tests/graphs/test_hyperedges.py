from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.errors import ConfigError
from erc_graph.graphs.edges import Watch, edges_of
from erc_graph.graphs.recipe import GraphRecipe, HyperedgeRule

STREAMS = ("text", "audio", "visual")
DIALOGUES = [[0, 1, 0, 2, 0], [0], [0, 1, 1, 0]]


def make_batch(dialogues: list[list[int]]) -> Batch:
    speaker = torch.tensor([who for d in dialogues for who in d])
    ptr = torch.tensor([0, *(len(d) for d in dialogues)]).cumsum(0)
    count = len(speaker)
    return Batch(ptr=ptr, speaker=speaker, target=speaker, judged=torch.ones(count, dtype=torch.bool), row=torch.arange(count))


def recipe_of(*over: Any) -> GraphRecipe:
    rules = tuple(HyperedgeRule(relation=f"all_of_a_{what}", over=what) for what in over)
    return GraphRecipe(name="own", description="own", source="none", hyperedges=rules)


def oracle(over: tuple[str, ...], dialogues: list[list[int]], streams: int) -> list[tuple[str, int, list[tuple[int, int]]]]:
    """Kind, stream (-1: several) and nodes of every hyperedge."""
    found, start = [], 0
    sets: dict[str, list[tuple[str, int, list[tuple[int, int]]]]] = {what: [] for what in over}
    for speakers in dialogues:
        rows = range(start, start + len(speakers))
        for s in range(streams):
            if "stream" in sets:
                sets["stream"].append(("stream", s, [(i, s) for i in rows]))
        for i in rows:
            if "turn" in sets:
                sets["turn"].append(("turn", -1, [(i, s) for s in range(streams)]))
        for who in dict.fromkeys(speakers):
            if "speaker" in sets:
                nodes = [(i, s) for i in rows for s in range(streams) if speakers[i - start] == who]
                sets["speaker"].append(("speaker", -1, nodes))
        start += len(speakers)
    for what in over:
        found += sets[what]
    return found


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("over", [("stream", "turn"), ("speaker",), ("turn", "speaker", "stream")])
def test_means_equal_a_loop(over: tuple[str, ...], weighted: bool) -> None:
    batch, streams = make_batch(DIALOGUES), 3
    present = torch.rand(batch.utterances, streams) > 0.3
    present[5] = False  # a dialogue of nobody
    x = torch.where(present[..., None], torch.randn(*present.shape, 4, dtype=torch.float64), torch.nan).requires_grad_()
    sets = oracle(over, DIALOGUES, streams)
    m = torch.randn(len(sets), 4, dtype=torch.float64, requires_grad=True)
    node = torch.rand(present.shape, dtype=torch.float64, requires_grad=True)
    edge = torch.rand(len(sets), dtype=torch.float64, requires_grad=True)
    hyper = edges_of(recipe_of(*over), Nodes(x, present, STREAMS), batch).hyper
    assert [over[i] for i in hyper.kind.tolist()] == [what for what, _, _ in sets]
    assert hyper.stream.tolist() == [stream for _, stream, _ in sets]
    gathered, scattered = hyper.gather(x, node if weighted else None), hyper.scatter(m, edge if weighted else None)

    def mean(values: list[Tensor], weights: list[Tensor]) -> Tensor:
        zero = torch.zeros(4, dtype=torch.float64)
        return sum((w * v for w, v in zip(weights, values, strict=True)), zero) / sum(weights) if values else zero

    one = torch.ones((), dtype=torch.float64)
    there = [[at for at in nodes if present[at]] for _, _, nodes in sets]
    slow_gathered = torch.stack([mean([x[at] for at in nodes], [node[at] if weighted else one for at in nodes]) for nodes in there])
    rows = []
    for at in ((i, s) for i in range(batch.utterances) for s in range(streams)):
        mine = [e for e, nodes in enumerate(there) if at in nodes]
        rows.append(mean([m[e] for e in mine], [edge[e] if weighted else one for e in mine]))
    slow_scattered = torch.stack(rows).view(*present.shape, 4)
    torch.testing.assert_close(gathered, slow_gathered)
    torch.testing.assert_close(scattered, slow_scattered)
    leaves = [x, m, node, edge] if weighted else [x, m]
    weight = torch.randn(4, dtype=torch.float64)
    fast, slow = (
        torch.autograd.grad((a.square() @ weight).sum() + (b.square() @ weight).sum(), leaves)
        for a, b in ((gathered, scattered), (slow_gathered, slow_scattered))
    )
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b)


def test_a_watch_multiplies_and_records_incidences() -> None:
    over = ("stream", "turn")
    single, copies = make_batch([[0, 1, 0]]), make_batch([[0, 1, 0]] * 2)
    present = torch.tensor([[True, True], [True, False], [True, True]])
    x, recipe = torch.randn(3, 2, 4), recipe_of(*over)
    plain = edges_of(recipe, Nodes(x, present, STREAMS[:2]), single).hyper
    seen = Watch()
    hyper = edges_of(recipe, Nodes(x, present, STREAMS[:2]), single, watch=seen).hyper
    m = hyper.gather(x)
    assert torch.equal(m, plain.gather(x)) and torch.equal(hyper.scatter(m), plain.scatter(m))
    into, out = seen.record
    assert into.types == tuple((s, f"all_of_a_{o}", "hyperedge") for o in over for s in STREAMS[:2])
    assert out.types == tuple(("hyperedge", f"all_of_a_{o}", s) for o in over for s in STREAMS[:2])
    assert into.counts == out.counts == (3, 2, 3, 2)
    third, half = 1 / 3, 0.5
    expected = [third] * 3 + [half] * 2 + [half, 1, half] + [half] * 2
    torch.testing.assert_close(into.weights, torch.tensor([expected]))
    torch.testing.assert_close(out.weights, torch.full((1, 10), 0.5))
    multiplier = torch.ones(2, 20)
    multiplier[1, :10], multiplier[1, 13] = 0, 5  # second copy: nothing into hyperedges; out of them, the first into audio five times
    watch = Watch(multiplier)
    hyper = edges_of(recipe, Nodes(x.repeat(2, 1, 1), present.repeat(2, 1), STREAMS[:2]), copies, watch=watch).hyper
    many = hyper.gather(x.repeat(2, 1, 1))
    first = torch.tensor([0, 1, 4, 5, 6])
    torch.testing.assert_close(many[first], m)
    assert not many[[2, 3, 7, 8, 9]].any()
    sent = torch.randn(10, 4)
    back, base = hyper.scatter(sent), edges_of(recipe, Nodes(x.repeat(2, 1, 1), present.repeat(2, 1), STREAMS[:2]), copies).hyper
    change = back - base.scatter(sent)
    expected_change = torch.zeros(6, 2, 4)
    expected_change[3, 1] = 4 * 0.5 * sent[3]  # hyperedge 3: audio of the second copy
    torch.testing.assert_close(change, expected_change)


def test_past_only_refuses_hyperedges_over_turns() -> None:
    assert not recipe_of("stream").causal and recipe_of("turn").causal and recipe_of("turn").past == 0 and recipe_of("speaker").past is None
    assert recipe_of("turn").past_only().hyperedges == recipe_of("turn").hyperedges
    with pytest.raises(ConfigError, match="hyperedge 'all_of_a_speaker' joins all utterances of a speaker"):
        recipe_of("turn", "speaker").past_only()
