from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from erc_graph.errors import ConfigError
from erc_graph.graphs.recipe import EdgeRule, GraphRecipe, HyperedgeRule, load_recipe


def rule(**words: Any) -> EdgeRule:
    return EdgeRule(**{"relation": "near", "scope": "within", "past": 1, "future": 0, **words})


def recipe(*rules: EdgeRule, hyperedges: tuple[HyperedgeRule, ...] = ()) -> GraphRecipe:
    return GraphRecipe(name="own", description="", source="", edges=rules, hyperedges=hyperedges)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"past": "own:0"}, r"past: expected a whole number of utterances from 0, \"all\", or \"own:k\" .* found 'own:0'"),
        ({"past": "own:1.5"}, "past: expected .* found 'own:1.5'"),
        ({"future": "own"}, "future: expected .* found 'own'"),
        ({"future": True}, "future: expected .* found True"),
        ({"count": "own"}, 'count = "own" joins utterances of one speaker: expected speaker = "same", found \'any\''),
        ({"count": "own", "speaker": "pair"}, "expected speaker = \"same\", found 'pair'"),
        (
            {"count": "own", "speaker": "same", "past": "own:2"},
            'past: with count = "own" expected a whole number or "all", found \'own:2\'',
        ),
        ({"count": "own", "speaker": "same", "future": "own:2"}, 'future: with count = "own" expected'),
        ({"pairs": 3}, "pairs = 3 is allowed only with speaker = \"pair\", found 'any'"),
        ({"pairs": 0, "speaker": "pair"}, "pairs: expected a whole number of speakers from 1 to 16, found 0"),
        ({"times": 0}, "times: expected a whole number from 1 to 10000, found 0"),
        ({"times": 1.0}, "times: expected a whole number from 1 to 10000, found 1.0"),
        ({"source": ("text",), "target": ("audio",)}, "expected modalities that edges of scope = 'within' join, found from text to audio"),
        ({"scope": "across", "source": ("text",), "target": ("text",)}, "edges of scope = 'across' join, found from text to text"),
        (
            {"source": "text"},
            r'source: expected a tuple of names of modalities, such as \("text",\), or None for all modalities, found \'text\'',
        ),
        ({"target": "text"}, "target: expected a tuple of names"),
        ({"target": ()}, r"target: expected a tuple of names .* found \(\)"),
        ({"relation": "Near"}, "relation: expected a name"),
    ],
)
def test_words_that_cannot_be(words: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as problem:
        rule(**words)
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('past = "own:0"', r"edges\[0\].past: expected a whole number .* found 'own:0'"),
        ('past = 1\nspeaker = "pair"\npairs = 1.5', r"edges\[0\].pairs: expected a whole number of speakers from 1 to 16, found 1.5"),
        ('past = 1\ncount = "words"', r"edges\[0\].count: expected 'turns' or 'own', found 'words'"),
        ('past = 1\ncount = "own"', r"edges\[0\]: edge rule 'near': count = \"own\" joins utterances of one speaker"),
        ('past = 1\nfirst_turn = "quiet"', r"edges\[0\].first_turn: expected 'speaks' or 'mute', found 'quiet'"),
        ("past = 1\nsource = []", r"edges\[0\].source: .* at least 1 item"),
        ("past = 1\nsource = 'text'", r"edges\[0\].source: expected a valid array, found 'text'"),
        ("past = 1\ntimes = 0", r"edges\[0\].times: expected a whole number from 1 to 10000, found 0"),
        ('past = 1\n[[hyperedge]]\nrelation = "all"\nover = "corpus"', r"hyperedge\[0\].over: expected 'stream', 'turn' or 'speaker'"),
        ('past = 1\n[[hyperedge]]\nrelation = "near"\nover = "turn"', "a different name for every relation, found 'near' again; rename"),
        ('past = 1\n[[hyperedge]]\nrelation = "All"\nover = "turn"', r"hyperedge\[0\].relation: expected a name"),
        (
            'past = 1\n[[hyperedge]]\nrelation = "all"\nover = "turn"\n[[example]]\nspeakers = ["A"]\nstreams = ["t"]\nedges = {near = 0}',
            r"example\[0\].hyperedges: expected a number of hyperedges for each of the relations all, found numbers for none",
        ),
    ],
)
def test_files_with_words_that_cannot_be(tmp_path: Path, lines: str, message: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(f'description = "d"\nsource = "s"\n[[edges]]\nrelation = "near"\nscope = "within"\nfuture = 0\n{lines}\n')
    with pytest.raises(ConfigError, match=message):
        load_recipe(path)


def test_words_of_a_file_are_those_of_a_rule(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text("""
        description = "d"
        source = "s"
        [[edges]]
        relation = "pair"
        scope = "within"
        past = "own:3"
        future = "all"
        speaker = "pair"
        pairs = 3
        weight = "learned"
        first_turn = "mute"
        source = ["text", "audio"]
        times = 2
        [[hyperedge]]
        relation = "who"
        over = "speaker"
    """)
    words: dict[str, Any] = {"past": "own:3", "future": None, "speaker": "pair", "pairs": 3, "weight": "learned", "first_turn": "mute"}
    found = load_recipe(path)
    assert found.edges == (rule(relation="pair", source=("text", "audio"), times=2, **words),)
    assert found.hyperedges == (HyperedgeRule(relation="who", over="speaker"),)
    assert found.relations == tuple(f"pair_{s}_{t}" for s in range(3) for t in range(3))


def test_which_streams_a_rule_joins() -> None:
    streams = ("a", "b", "c")
    assert rule().joined(streams) == [("a", "a"), ("b", "b"), ("c", "c")]
    assert rule(source=("c", "x")).joined(streams) == [("c", "c")]
    assert rule(scope="across").joined(("a", "b")) == [("a", "b"), ("b", "a")]
    assert rule(scope="across", source=("a", "b"), target=("c",)).joined(streams) == [("a", "c"), ("b", "c")]
    assert rule(scope="across").joined(("a",)) == []


def test_what_a_recipe_reads() -> None:
    pair = rule(relation="pair", past=3, speaker="pair")
    assert recipe(rule(), pair).past == 3 and recipe(rule(), pair).causal
    assert recipe(rule(past="own:1")).past is None and recipe(rule(past="own:1")).causal
    assert recipe(rule(count="own", speaker="same")).past is None
    assert recipe(rule(past=0, count="own", speaker="same")).past == 0
    assert recipe(rule(first_turn="mute")).past is None  # whether it is the first turn depends on all before
    assert not recipe(rule(future="own:1")).causal and not recipe(rule(future=None)).causal
    turn, stream = HyperedgeRule(relation="turn", over="turn"), HyperedgeRule(relation="stream", over="stream")
    assert (recipe(hyperedges=(turn,)).causal, recipe(hyperedges=(turn,)).past, recipe(hyperedges=(turn,)).relations) == (True, 0, ())
    assert (recipe(rule(), hyperedges=(stream,)).causal, recipe(rule(), hyperedges=(stream,)).past) == (False, None)


def test_past_only() -> None:
    cogmen = load_recipe("cogmen").past_only()
    assert [(one.relation, one.past, one.future) for one in cogmen.edges] == [("before", 5, 0), ("after", 0, 0)]
    assert cogmen.causal and cogmen.examples == () and load_recipe("dagerc").past_only().edges == load_recipe("dagerc").edges
    assert load_recipe("dialoguegcn").past_only().relations == tuple(f"before_{s}_{t}" for s in "01" for t in "01")
    with pytest.raises(ConfigError, match="'m3net': hyperedge 'modality' joins all utterances of a stream"):
        load_recipe("m3net").past_only()
    with pytest.raises(
        ConfigError, match="'own': expected a rule with edges from earlier utterances, found only edges from later utterances"
    ):
        recipe(rule(past=0, future=3, self_loops=False)).past_only()
    assert recipe(rule(past=0, future=3, self_loops=False), rule(relation="other")).past_only().relations == ("other",)


def test_which_rules_are_plain_windows() -> None:
    assert rule(speaker="same").windowed and rule(relation="x", scope="across", weight="unit", past=None).windowed
    extra: list[dict[str, Any]] = [
        {"past": "own:1"}, {"future": "own:1"}, {"count": "own", "speaker": "same"}, {"first_turn": "mute"}, {"speaker": "pair"},
        {"weight": "learned"}, {"times": 2}, {"source": ("text",)}, {"target": ("text",)},
    ]  # fmt: skip
    assert not any(rule(**words).windowed for words in extra)
