from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from erc_graph.data.batch import Batch
from erc_graph.errors import ConfigError
from erc_graph.graphs.hyperedges import Members
from erc_graph.graphs.recipe import EdgeRule, Example, GraphRecipe, list_recipes, load_recipe
from erc_graph.graphs.rule_edges import graph_edges

GOOD = """
description = "d"
source = "s"
[[edges]]
relation = "near"
scope = "within"
past = 1
future = "all"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "own.toml"
    path.write_text(text)
    return path


def test_the_shipped_recipes_and_their_examples_are_all_found() -> None:
    files = sorted((Path(__file__).parents[2] / "graphs").glob("*.toml"))
    assert [path.stem for path in files] == list(list_recipes())
    assert len(files) >= 12
    counted = {name: len(load_recipe(name).examples) for name in list_recipes()}
    assert min(counted.values()) >= 2
    assert sum(counted.values()) >= 26
    for name in list_recipes():
        recipe = load_recipe(name)
        assert recipe.name == name
        assert recipe.description
        assert recipe.source


def test_a_recipe_of_the_package_is_read_again_when_its_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, GOOD)
    monkeypatch.setattr("erc_graph.graphs.recipe.FOLDERS", (tmp_path,))
    assert load_recipe("own") is load_recipe("own") and load_recipe("own").edges[0].past == 1
    write(tmp_path, GOOD.replace("past = 1", "past = 2"))
    os.utime(path, ns=(1, 1))
    assert load_recipe("own").edges[0].past == 2 and load_recipe(path).edges[0].past == 2


@pytest.mark.parametrize("name", list_recipes())
def test_examples_counted_by_hand(name: str) -> None:
    recipe = load_recipe(name)
    for example in recipe.examples:
        seen = list(dict.fromkeys(example.speakers))
        speaker = torch.tensor([seen.index(who) for who in example.speakers])
        present = {stream: torch.ones(len(speaker), dtype=torch.bool) for stream in example.streams}
        for stream, turns in example.absent.items():
            present[stream][list(turns)] = False
        edges = graph_edges(recipe, torch.tensor([0, len(speaker)]), speaker, present)
        counted = dict.fromkeys(recipe.relations, 0)
        for (_, relation, _), index in edges.items():
            counted[relation] += index.shape[1]
        assert counted == example.edges, example
        batch = Batch(ptr=torch.tensor([0, len(speaker)]), speaker=speaker, target=speaker, judged=speaker >= 0, row=speaker)
        if recipe.hyperedges:
            members = Members.of(recipe, len(present), batch)
            here = torch.stack(list(present.values()), 1).expand_as(members.index)
            kinds = members.kind[members.index[here].unique()].tolist()
            assert {rule.relation: kinds.count(i) for i, rule in enumerate(recipe.hyperedges)} == example.hyperedges


def test_numbers_of_the_papers() -> None:
    context, cross = load_recipe("pairwise").edges
    assert (context.past, context.future, context.scale, context.weight) == (None, None, 1.0, "angular")
    assert (cross.past, cross.future, cross.scale, cross.scope) == (0, 0, 0.7, "across")
    assert load_recipe("mmgcn").edges[1].scale == 1.0
    assert {name for name in list_recipes() if load_recipe(name).causal} >= {"causal", "causal_window", "dagerc"}
    past = {"causal_window": 10, "cogmen": 5, "dialoguegcn": 10, "speaker": 10, "window": 10, "pairwise": None, "dagerc": None}
    assert {name: load_recipe(name).past for name in past} == past


def test_load_by_name_path_text_and_itself(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    recipe = load_recipe(path)
    assert recipe == load_recipe(str(path)) == load_recipe(recipe)
    assert (recipe.name, recipe.edges[0].past, recipe.edges[0].future, recipe.examples) == ("own", 1, None, ())
    assert load_recipe(write(tmp_path, 'name = "mine"\n' + GOOD)).name == "mine"


def test_with_scale() -> None:
    recipe = load_recipe("pairwise")
    assert recipe.with_scale("cross", 0.1).edges == (recipe.edges[0], recipe.with_scale("cross", 0.1).edges[1])
    assert recipe.with_scale("cross", 0.7) == recipe
    with pytest.raises(ConfigError, match="unknown relation 'inter'; known relations: context, cross"):
        recipe.with_scale("inter", 1.0)
    with pytest.raises(ConfigError, match="edge rule 'cross': scale: expected a number from 0 to 1e6, found -1"):
        recipe.with_scale("cross", -1)


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown name 'pairwis'; known recipes: alone, causal, causal_window, cogmen, .*dagerc, .*, speaker, window"
    ):
        load_recipe("pairwis")
    with pytest.raises(ConfigError, match=r"unknown name '\.\./graphs/pairwise'"):
        load_recipe("../graphs/pairwise")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("past = 1", "past = -1"),
            r'edges\[0\].past: expected a whole number of utterances from 0, "all", or "own:k" .*, found -1',
        ),
        (("past = 1", "past = 1.5"), r"edges\[0\].past: expected a whole number .* found 1.5"),
        (("past = 1", "past = true"), r"edges\[0\].past: expected a whole number .* found True"),
        (("past = 1", f"past = {10**30}"), r"edges\[0\].past: expected a whole number"),
        (('future = "all"', 'future = "al"'), r"edges\[0\].future: .* found 'al'"),
        (('future = "all"', ""), r"edges\[0\].future: expected a value, found none"),
        (('"within"', '"both"'), r"edges\[0\].scope: expected 'within' or 'across', found 'both'"),
        (('"near"', '"Near by"'), r"edges\[0\].relation: expected a name .* found 'Near by'"),
        (("past = 1", "past = 1\nwidth = 2"), r"edges\[0\].width: unknown key"),
        (("past = 1", "past = 1\nscale = nan"), r"edges\[0\].scale: expected a number from 0 to 1e6, found nan"),
        (("past = 1", "past = 1\nscale = '1'"), r"edges\[0\].scale: expected a number from 0 to 1e6, found '1'"),
        (("past = 1", "past = 1\nself_loops = 1"), r"edges\[0\].self_loops: expected a valid boolean, found 1"),
        (("past = 1", "past = 1\nspeaker = 'me'"), r"edges\[0\].speaker: expected 'any', 'same', 'other' or 'pair', found 'me'"),
        (("past = 1", "past = 1\nweight = 'cosine'"), r"edges\[0\].weight: expected 'angular', 'unit' or 'learned', found 'cosine'"),
        (('description = "d"', "description = 2001-01-01\nsorce = 1"), "sorce: unknown key"),
        (('source = "s"', ""), "source: expected a value, found none"),
        ((GOOD, GOOD.split("[[")[0]), "edges: expected at least one rule for edges or hyperedges, found none"),
        ((GOOD, GOOD.split("[[")[0] + "edges = []"), "edges: expected at least one rule for edges or hyperedges, found none"),
        ((GOOD, GOOD + "[[edges]]" + GOOD.split("[[edges]]")[1]), "a different name for every relation, found 'near' again; rename one of"),
        (
            (GOOD, GOOD + "[[example]]\nspeakers = ['A']\nstreams = ['t']\nedges = { far = 1 }"),
            r"example\[0\].edges: expected a number of edges for each of the relations near",
        ),
        (
            (GOOD, GOOD + "[[example]]\nspeakers = []\nstreams = ['t']\nedges = { near = 1 }"),
            r"example\[0\].speakers: .* at least 1 item",
        ),
        ((GOOD, "[[["), "not valid TOML"),
        ((GOOD, "a = " + "[" * 100000), "not valid TOML"),
        ((GOOD, "a = " + "9" * 5000), "not valid TOML"),
    ],
)
def test_bad_files(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(ConfigError, match=message) as problem:
        load_recipe(write(tmp_path, GOOD.replace(*change)))
    assert "own.toml" in str(problem.value)


def test_all_problems_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("past = 1", "past = -1").replace('"within"', '"both"').replace('source = "s"', "sauce = 1")
    with pytest.raises(ConfigError) as problem:
        load_recipe(write(tmp_path, text))
    for part in ("edges[0].past", "edges[0].scope", "source", "sauce"):
        assert part in str(problem.value)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read \(No such file"):
        load_recipe(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_recipe(tmp_path)
    (tmp_path / "own.toml").write_bytes(b"a = \xff\xfe")
    with pytest.raises(ConfigError, match="expected UTF-8 text"):
        load_recipe(tmp_path / "own.toml")


def test_rules_made_in_python_are_checked_too() -> None:
    with pytest.raises(ConfigError, match=r"edge rule 'near': past: expected a whole number .* found -2"):
        EdgeRule(relation="near", scope="within", past=-2, future=0)
    rule = EdgeRule(relation="near", scope="within", past=1, future=0)
    with pytest.raises(ConfigError, match="at least one rule"):
        GraphRecipe(name="none", description="", source="", edges=())
    with pytest.raises(ConfigError, match="a different name for every relation"):
        GraphRecipe(name="twice", description="", source="", edges=(rule, rule))
    with pytest.raises(ConfigError, match="a number of edges for each of the relations near, found numbers for none"):
        GraphRecipe(name="e", description="", source="", edges=(rule,), examples=(Example(speakers=("A",), streams=("t",), edges={}),))
