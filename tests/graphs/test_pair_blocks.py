from __future__ import annotations

import random
from itertools import combinations, pairwise
from typing import Any

import pytest
import torch

from erc_graph.data.batch import Batch
from erc_graph.data.nodes import Nodes
from erc_graph.graphs.edges import edges_of
from erc_graph.graphs.pair_blocks import EXTRA, KEPT, Blocks, apart, chunked, fold, padded_slots, unfold
from erc_graph.graphs.pair_blocks import _buckets as buckets
from erc_graph.graphs.pair_blocks import _near as near
from erc_graph.graphs.recipe import EdgeRule, GraphRecipe, load_recipe

STREAMS = ("text", "audio")


def make_batch(sizes: tuple[int, ...]) -> Batch:
    speaker = torch.cat([torch.arange(size) % 2 for size in sizes])
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    return Batch(ptr=ptr, speaker=speaker, target=speaker, judged=speaker >= 0, row=torch.arange(len(speaker)))


def rule(past: Any, future: Any, scope: Any = "within", **words: Any) -> EdgeRule:
    return EdgeRule(**{"relation": "r", "scope": scope, "past": past, "future": future, **words})


def test_buckets_cost_least() -> None:
    random.seed(1)
    for _ in range(20):
        sizes = tuple(random.randint(1, 150) for _ in range(8))
        order = sorted(sizes)

        def cost(parts: list[list[int]]) -> int:
            return sum(EXTRA + len(part) * max(part) ** 2 for part in parts)

        cuts = [[0, *some, 8] for count in range(8) for some in combinations(range(1, 8), count)]
        best = min(cost([order[i:j] for i, j in pairwise(ends)]) for ends in cuts)
        found = buckets(sizes, 1)
        assert sorted(i for part in found for i in part) == list(range(8))
        assert cost([[sizes[i] for i in part] for part in found]) == best


def test_empty_dialogues_are_in_no_bucket() -> None:
    assert buckets((), 1) == () and buckets((0, 0), 1) == ()
    assert buckets((0, 3, 0), 1) == ((1,),)
    assert len(buckets(tuple(range(200)), 1)) < 24  # many dialogues: few places where buckets may end


def test_windows_of_long_conversations_are_not_kept() -> None:
    recipe = load_recipe("window")
    near.cache_clear()
    for turns, kept in ((KEPT, 1), (KEPT + 1, 0)):
        batch = make_batch((turns,))
        nodes = Nodes(torch.zeros(turns, 1, 2), torch.ones(turns, 1, dtype=torch.bool), STREAMS[:1])
        before = near.cache_info().currsize
        edges = edges_of(recipe, nodes, batch, layout="blocks")
        assert int(edges.valid.sum()) == sum(min(turns, turn + 11) - max(0, turn - 10) for turn in range(turns))
        assert (near.cache_info().currsize - before > 0) == bool(kept)


def test_rules_share_a_chunk_only_if_they_never_join_the_same_nodes() -> None:
    assert [len(rules) for _, rules in chunked(load_recipe("speaker").edges, STREAMS)] == [4, 1]
    assert [(kind, len(rules)) for kind, rules in chunked(load_recipe("edm_contagion").edges, ("text", "anchor"))] == [
        ("within", 1), ("within", 1), ("turn", 1)
    ]  # fmt: skip
    overlapping = (rule(1, 1), rule(None, None, relation="s"), rule(0, 2, "across", relation="x"))
    assert [(kind, len(rules)) for kind, rules in chunked(overlapping, STREAMS)] == [("full", 2), ("full", 1)]
    assert [(kind, len(rules)) for kind, rules in chunked(overlapping, STREAMS[:1])] == [("within", 1), ("within", 1)]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"past": 3, "future": 0, "self_loops": False}, {"past": 0, "future": 2}, True),
        ({"past": 3, "future": 0}, {"past": 0, "future": 2}, False),  # both the turn itself
        ({"past": 3, "future": 0}, {"past": 1, "future": 0}, False),
        ({"past": 3, "future": 0, "speaker": "same"}, {"past": 1, "future": 0, "speaker": "other"}, True),
        ({"past": 3, "future": 0, "speaker": "same"}, {"past": 1, "future": 0, "speaker": "pair"}, False),
        ({"past": 1, "future": 0}, {"past": 1, "future": 0, "scope": "across"}, True),
        ({"past": 1, "future": 0, "source": ("text",)}, {"past": 1, "future": 0, "source": ("audio",)}, True),
        ({"past": 1, "future": 0, "source": ("text",)}, {"past": 1, "future": 0, "source": ("text", "audio")}, False),
    ],
)
def test_apart(one: dict[str, Any], other: dict[str, Any], expected: bool) -> None:
    assert apart(rule(**one), rule(**other)) is apart(rule(**other), rule(**one)) is expected


@pytest.mark.parametrize("kind", ["within", "turn", "full"])
def test_groups_are_the_nodes_that_a_chunk_joins(kind: Any) -> None:
    heads, dialogues, streams, turns = 2, 3, 4, 5
    name = torch.arange(heads * dialogues * streams * turns).view(heads, dialogues, streams, turns, 1)
    groups = fold(kind, name)
    assert torch.equal(unfold(kind, groups, (dialogues, streams, turns)), name)
    for group in groups.flatten(1).tolist():
        places = [(n // 60, n // 20 % 3, n // 5 % 4, n % 5) for n in group]
        assert len({place[:2] for place in places}) == 1
        joined = {"within": (1, 5), "turn": (4, 1), "full": (4, 5)}[kind]
        assert (len({place[2] for place in places}), len({place[3] for place in places})) == joined
        assert len(group) == joined[0] * joined[1]


def test_slots_are_known_before_they_are_made() -> None:
    sizes = (3, 7, 1, 30)
    for name in ("pairwise", "speaker", "edm_contagion"):
        recipe: GraphRecipe = load_recipe(name)
        blocks = Blocks.of(recipe, STREAMS, make_batch(sizes))
        assert blocks.slots == padded_slots(recipe, STREAMS, sizes) == len(blocks.over_slots("edge", torch.bool))
        assert int(blocks.real.sum()) == 2 * sum(sizes) and sorted(blocks.node[blocks.real].tolist()) == list(range(2 * sum(sizes)))
