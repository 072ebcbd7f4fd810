from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.graphs.recipe import EdgeRule, GraphRecipe, list_recipes, load_recipe
from erc_graph.graphs.rule_edges import KEPT, forget, graph_edges, reached, rule_edges, rule_rows

RECIPES = [load_recipe(name) for name in list_recipes()]


def make_batch(dialogues: list[list[int]]) -> Batch:
    speaker = torch.tensor([list(dict.fromkeys(d)).index(who) for d in dialogues for who in d], dtype=torch.long)
    ptr = torch.tensor([0, *(len(d) for d in dialogues)]).cumsum(0)
    count = len(speaker)
    return Batch(
        ptr=ptr,
        speaker=speaker,
        target=torch.zeros(count, dtype=torch.long),
        judged=torch.ones(count, dtype=torch.bool),
        row=torch.arange(count),
    )


def in_reach(reach: int | str | None, between: list[int], who: int) -> bool:
    """Whether a turn is in reach, from the speakers of the turns from it up to the target (without the target)."""
    if isinstance(reach, str):
        return between[1:].count(who) < int(reach.split(":")[1])
    return reach is None or len(between) <= reach


def joined(rule: EdgeRule, source: int, target: int, speakers: list[int]) -> bool:
    """The meaning of a rule, turn by turn."""
    if source == target and not rule.self_loops:
        return False
    who = speakers[target]
    between = speakers[source:target] if source < target else speakers[target + 1 : source + 1][::-1]
    if rule.count == "own":
        between = [one for one in between if one == who]
    if source != target and not in_reach(rule.past if source < target else rule.future, between, who):
        return False
    if rule.first_turn == "mute" and speakers[source] not in speakers[:source]:
        return False
    same = speakers[source] == who
    return {"any": True, "pair": True, "same": same, "other": not same}[rule.speaker]


def oracle(recipe: GraphRecipe, dialogues: list[list[int]], present: dict[str, list[bool]]) -> Counter[tuple[str, int, str, str, int]]:
    found: Counter[tuple[str, int, str, str, int]] = Counter()
    start = 0
    for speakers in dialogues:
        order = list(dict.fromkeys(speakers))
        for rule in recipe.edges:
            for m in present:
                for n in present:
                    if (m == n) != (rule.scope == "within") or m not in (rule.source or present) or n not in (rule.target or present):
                        continue
                    for i in range(len(speakers)):
                        for j in range(len(speakers)):
                            if joined(rule, i, j, speakers) and present[m][start + i] and present[n][start + j]:
                                who = [min(order.index(speakers[turn]), rule.pairs - 1) for turn in (i, j)]
                                relation = rule.relation if rule.speaker != "pair" else f"{rule.relation}_{who[0]}_{who[1]}"
                                found[m, start + i, relation, n, start + j] += 1
        start += len(speakers)
    return found


def listed(edges: dict[tuple[str, str, str], Tensor]) -> Counter[tuple[str, int, str, str, int]]:
    return Counter((m, i, relation, n, j) for (m, relation, n), index in edges.items() for i, j in zip(*index.tolist(), strict=True))


@st.composite
def rules(draw: st.DrawFn) -> EdgeRule:
    count = draw(st.sampled_from(["turns", "turns", "own"]))
    reach = st.none() | st.integers(0, 6)
    reach = reach if count == "own" else reach | st.sampled_from(["own:1", "own:2", "own:5"])
    return EdgeRule(
        relation="r",
        scope=draw(st.sampled_from(["within", "across"])),
        past=draw(reach),
        future=draw(reach),
        self_loops=draw(st.booleans()),
        speaker="same" if count == "own" else draw(st.sampled_from(["any", "same", "other"])),
        count=count,
        first_turn=draw(st.sampled_from(["speaks", "mute"])),
    )


conversations = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=14), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(dialogues=conversations, streams=st.integers(1, 3), data=st.data())
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_edges_equal_a_loop(recipe: GraphRecipe, dialogues: list[list[int]], streams: int, data: st.DataObject) -> None:
    batch = make_batch(dialogues)
    masks = st.lists(st.booleans(), min_size=batch.utterances, max_size=batch.utterances)
    present = {f"m{i}": data.draw(masks) for i in range(streams)}
    edges = graph_edges(recipe, batch.ptr, batch.speaker, {name: torch.tensor(mask) for name, mask in present.items()})
    assert listed(edges) == oracle(recipe, dialogues, present)
    assert all(index.dtype == torch.long and index.shape[0] == 2 for index in edges.values())
    assert len(edges) == sum(len(rule.relations) * len(rule.joined(tuple(present))) for rule in recipe.edges)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
@pytest.mark.parametrize(
    "speakers", [[0], [0] * 25, list(range(200)), [0, 1] * 20], ids=["one utterance", "one speaker", "200 speakers", "two"]
)
def test_edges_equal_a_loop_at_the_ends_of_the_range(recipe: GraphRecipe, speakers: list[int]) -> None:
    batch = make_batch([speakers])
    full = [True] * len(speakers)
    gap = [i % 3 != 1 for i in range(len(speakers))]
    present = {"text": full, "audio": gap}
    edges = graph_edges(recipe, batch.ptr, batch.speaker, {name: torch.tensor(mask) for name, mask in present.items()})
    assert listed(edges) == oracle(recipe, [speakers], present)


@settings(max_examples=150, deadline=None)
@given(rule=rules(), dialogues=conversations)
def test_any_rule_equals_a_loop(rule: EdgeRule, dialogues: list[list[int]]) -> None:
    batch = make_batch(dialogues)
    source, target = rule_edges(rule, batch.ptr, batch.speaker)
    expected = []
    start = 0
    for speakers in dialogues:
        turns = range(len(speakers))
        expected += [(start + i, start + j) for j in turns for i in turns if joined(rule, i, j, speakers)]
        start += len(speakers)
    assert list(zip(source.tolist(), target.tolist(), strict=True)) == expected  # sorted by target, then source


@settings(max_examples=30, deadline=None)
@given(dialogues=conversations)
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_batch_is_the_union_of_its_dialogues_and_names_do_not_matter(recipe: GraphRecipe, dialogues: list[list[int]]) -> None:
    def edges(part: list[list[int]]) -> dict[tuple[str, str, str], Tensor]:
        batch = make_batch(part)
        return graph_edges(recipe, batch.ptr, batch.speaker, dict.fromkeys("ab", torch.ones(batch.utterances, dtype=torch.bool)))

    whole = edges(dialogues)
    start = 0
    singles: dict[tuple[str, str, str], list[Tensor]] = {kind: [] for kind in whole}
    for dialogue in dialogues:
        for kind, index in edges([dialogue]).items():
            singles[kind].append(index + start)
        start += len(dialogue)
    for kind, index in whole.items():
        assert torch.equal(index, torch.cat(singles[kind], 1))
    renamed = edges([[7 * who % 5 + 100 for who in dialogue] for dialogue in dialogues])
    assert all(torch.equal(index, renamed[kind]) for kind, index in whole.items())


def test_a_causal_recipe_has_no_edge_from_the_future() -> None:
    batch = make_batch([[0, 1, 2, 1, 0] * 6, [0, 0]])
    present = dict.fromkeys("abc", torch.ones(batch.utterances, dtype=torch.bool))
    for recipe in RECIPES:
        late = any(bool((index[0] > index[1]).any()) for index in graph_edges(recipe, batch.ptr, batch.speaker, present).values())
        assert late != recipe.causal


def test_windowed_edges_of_a_long_conversation_stay_linear() -> None:
    turns = 200_000  # a dense form would need 40 GB
    source, target = rule_edges(load_recipe("window").edges[0], torch.tensor([0, turns]), torch.zeros(turns, dtype=torch.long))
    assert len(source) == len(target) == 21 * turns - 2 * 55  # ten turns lack 10, 9, … 1 neighbours at either end
    assert int((source - target).abs().max()) == 10


def test_no_dialogues_no_edges() -> None:
    batch = make_batch([])
    for recipe in RECIPES:
        edges = graph_edges(
            recipe, batch.ptr, batch.speaker, {"text": torch.ones(0, dtype=torch.bool), "audio": torch.ones(0, dtype=torch.bool)}
        )
        assert all(index.shape == (2, 0) for index in edges.values())


@settings(max_examples=60, deadline=None)
@given(rule=rules(), dialogues=conversations)
def test_small_numbers_and_kept_edges_are_the_same_edges(rule: EdgeRule, dialogues: list[list[int]]) -> None:
    batch = make_batch(dialogues)
    expected = torch.stack(rule_edges(rule, batch.ptr, batch.speaker))
    for _ in range(2):
        rows = rule_rows(rule, batch.ptr, batch.speaker, batch.sizes)
        assert rows.dtype == torch.int32
        assert torch.equal(rows.long(), expected)
    if rule.speaker == "any" and rule.self_loops and rule.first_turn == "speaks" and rule.windowed:
        assert expected.shape[1] == batch.utterances + reached(batch.sizes, rule.past) + reached(batch.sizes, rule.future)


def test_kept_edges_know_their_speakers_and_lengths() -> None:
    recipe = load_recipe("speaker")
    assert any(rule.speaker != "any" for rule in recipe.edges)
    seen = []
    for dialogues in ([[0, 1, 0, 1]], [[0, 0, 1, 1]], [[0, 1], [0, 1]], [[0, 1, 0, 1]]):
        batch = make_batch(dialogues)
        present = {"text": [True] * 4}
        edges = graph_edges(recipe, batch.ptr, batch.speaker, {"text": torch.ones(4, dtype=torch.bool)}, dtype=None)
        assert listed(edges) == oracle(recipe, dialogues, present)
        seen.append({kind: index.data_ptr() for kind, index in edges.items() if index.numel()})
    assert seen[0] == seen[3]  # made once
    forget()


def test_what_is_kept_is_out_of_reach() -> None:
    batch = make_batch([[0, 1, 0]])
    present = {"text": torch.ones(3, dtype=torch.bool)}
    first = graph_edges(load_recipe("pairwise"), batch.ptr, batch.speaker, present)
    before = {kind: index.clone() for kind, index in first.items()}
    for index in first.values():
        index += 7
    again = graph_edges(load_recipe("pairwise"), batch.ptr, batch.speaker, present)
    assert all(torch.equal(index, before[kind]) for kind, index in again.items())


def test_great_graphs_are_not_kept() -> None:
    rule = load_recipe("pairwise").edges[0]
    sizes = (int(KEPT**0.5) + 1,)
    ptr, speaker = torch.tensor([0, *sizes]), torch.zeros(sizes[0], dtype=torch.long)
    one, two = (rule_rows(rule, ptr, speaker, sizes) for _ in range(2))
    assert one.data_ptr() != two.data_ptr() and one.shape == (2, sizes[0] ** 2)


def test_a_reach_beyond_all_turns_in_small_numbers() -> None:
    far = EdgeRule(relation="r", scope="within", past=10**9, future=10**9)
    every = EdgeRule(relation="r", scope="within", past=None, future=None)
    ptr, speaker = torch.tensor([0, 4, 9]), torch.zeros(9, dtype=torch.long)
    assert torch.equal(rule_rows(far, ptr, speaker, (4, 5)), rule_rows(every, ptr, speaker, (4, 5)))
