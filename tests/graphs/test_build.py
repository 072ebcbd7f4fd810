from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from erc_graph.data.corpus import Corpus
from erc_graph.data.sample.raw import sample_raw_corpus
from erc_graph.data.sample.vectors import SampleConfig, sample_corpus
from erc_graph.data.tasks import Task, get_task
from erc_graph.errors import ConfigError, CorpusError
from erc_graph.graphs.build import build_from_states, build_graph
from erc_graph.graphs.convert import streams_of
from erc_graph.graphs.recipe import EdgeRule, GraphRecipe, HyperedgeRule, list_recipes, load_recipe

EMOTIONS = Task(name="three", labels=("calm", "glad", "cross"))


def make_corpus(
    lengths: Sequence[int] = (4, 1, 6), *, widths: dict[str, int] | None = None, task: Task = EMOTIONS, **change: Any
) -> Corpus:
    torch.manual_seed(1)
    count = sum(lengths)
    widths = {"text": 5, "audio": 3, "visual": 3} if widths is None else widths
    present = {name: torch.rand(count) > 0.2 for name in widths}
    values: dict[str, Any] = {
        "name": "own",
        "task": task,
        "dialogue_ids": tuple(f"d{i}" for i in range(len(lengths))),
        "ptr": torch.tensor([0, *lengths]).cumsum(0),
        "utterance_ids": tuple(f"u{i}" for i in range(count)),
        "speakers": tuple(("Ada", "Ben", "Ada", "Eve")[i % 4] for i in range(count)),
        "texts": tuple(f"line {i}" for i in range(count)),
        "target": torch.arange(count) % 4 - 1,
        "features": {name: torch.randn(count, width) * present[name][:, None] for name, width in widths.items()},
        "present": present,
    }
    return Corpus(**{**values, **change})


def test_nodes_carry_what_the_corpus_says() -> None:
    corpus = make_corpus()
    graph = build_graph(corpus)
    assert graph.node_types == ["text", "audio", "visual"]
    for name in graph.node_types:
        node = graph[name]
        assert torch.equal(node.x, corpus.features[name])
        assert torch.equal(node.present, corpus.present[name])
        assert torch.equal(node.y, corpus.target)
        assert node.speaker.tolist() == [0, 1, 0, 2, 0, 0, 1, 2, 1, 0, 1]
        assert node.dialogue.tolist() == [0] * 4 + [1] + [2] * 6
        assert node.turn.tolist() == [0, 1, 2, 3, 0, 0, 1, 2, 3, 4, 5]
        assert node.num_nodes == 11
    assert graph.ptr.tolist() == [0, 4, 5, 11]
    assert (graph.texts[2], graph.speakers[3], graph.dialogue_ids, graph.labels) == (
        "line 2",
        "Eve",
        ["d0", "d1", "d2"],
        ["calm", "glad", "cross"],
    )
    assert graph.validate()


def test_edge_types_and_weights_of_the_pairwise_recipe() -> None:
    corpus = make_corpus()
    graph = build_graph(corpus, "pairwise")
    names = graph.node_types
    assert set(graph.edge_types) == {(m, "context" if m == n else "cross", n) for m in names for n in names}
    for m, relation, n in graph.edge_types:
        edge = graph[m, relation, n]
        comparable = corpus.features[m].shape[1] == corpus.features[n].shape[1]
        assert ("edge_weight" in edge) == comparable == ("unweighted" not in edge)
        source, target = edge.edge_index.tolist()
        assert all(corpus.present[m][source])
        assert all(corpus.present[n][target])
        if comparable:
            for i, j, weight in zip(source, target, edge.edge_weight.tolist(), strict=True):
                cosine = torch.cosine_similarity(corpus.features[m][i], corpus.features[n][j], dim=0).clamp(-1, 1)
                expected = (0.7 if m != n else 1.0) * (1 - torch.arccos(cosine) / torch.pi)
                assert weight == pytest.approx(float(expected), abs=2e-3)


def test_weights_in_pieces_equal_weights_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = make_corpus()
    whole = build_graph(corpus)
    monkeypatch.setattr("erc_graph.graphs.build._CHUNK", 16)
    pieces = build_graph(corpus)
    for kind in whole.edge_types:
        if "edge_weight" in whole[kind]:
            assert torch.equal(whole[kind].edge_weight, pieces[kind].edge_weight)


@pytest.mark.parametrize("name", list_recipes())
def test_a_corpus_is_the_union_of_its_dialogues(name: str) -> None:
    corpus = make_corpus()
    whole = build_graph(corpus, name)
    parts = [build_graph(dialogue, name) for dialogue in corpus]
    listed = build_graph(list(corpus), name)
    for kind in [kind for kind in whole.edge_types if "hyperedge" not in (kind[0], kind[2])]:
        shifted = [part[kind].edge_index + start for part, start in zip(parts, whole.ptr.tolist(), strict=False)]
        assert torch.equal(whole[kind].edge_index, torch.cat(shifted, 1))
        assert torch.equal(whole[kind].edge_index, listed[kind].edge_index)
        if "edge_weight" in whole[kind]:
            together = torch.cat([part[kind].edge_weight for part in parts])
            assert torch.allclose(whole[kind].edge_weight, together, atol=1e-6)
    for stream in streams_of(whole):
        assert torch.equal(whole[stream].x, torch.cat([part[stream].x for part in parts]))
        assert torch.equal(whole[stream].speaker, listed[stream].speaker)
        assert torch.equal(whole[stream].y, listed[stream].y)
    assert (listed.texts, listed.speakers, listed.dialogue_ids) == (whole.texts, whole.speakers, whole.dialogue_ids)


def test_renaming_speakers_changes_no_tensor() -> None:
    corpus = make_corpus()
    other = make_corpus(speakers=tuple({"Ada": "zoe", "Ben": "$x$", "Eve": "1"}[name] for name in corpus.speakers))
    for name in list_recipes():
        one, two = build_graph(corpus, name), build_graph(other, name)
        assert all(torch.equal(one[kind].edge_index, two[kind].edge_index) for kind in one.edge_types)
        assert all(torch.equal(one[stream].speaker, two[stream].speaker) for stream in streams_of(one))


def test_modalities_can_be_chosen_and_need_no_features() -> None:
    corpus = make_corpus()
    assert build_graph(corpus, modalities=("audio",)).node_types == ["audio"]
    assert build_graph(corpus, modalities="audio").node_types == ["audio"]
    bare = make_corpus(widths={})
    graph = build_graph(bare)
    assert graph.node_types == ["text"]
    assert "x" not in graph["text"]
    assert "edge_weight" not in graph["text", "context", "text"]
    assert graph["text", "context", "text"].num_edges == 16 + 1 + 36
    assert build_graph(bare, modalities=("a", "b")).num_edges == 2 * 53 + 2 * 11


def test_hyperedges_are_nodes_with_their_members() -> None:
    corpus = make_corpus((2, 1), widths={"text": 3, "audio": 3})
    present = {"text": torch.tensor([True, True, True]), "audio": torch.tensor([False, True, True])}
    rules = (HyperedgeRule(relation="who", over="speaker"), HyperedgeRule(relation="stream", over="stream"))
    recipe = GraphRecipe(name="hyper", description="", source="", hyperedges=rules)
    graph = build_graph(replace(corpus, present=present), recipe)
    assert graph.node_types == ["text", "audio", "hyperedge"] and graph.validate()
    node = graph["hyperedge"]
    # Ada and Ben in the first dialogue, Ada in the second; then text and audio of the first, of the second
    assert (node.kind.tolist(), node.num_nodes) == ([0, 0, 0, 1, 1, 1, 1], 7)
    assert node.names == ["Ada", "Ben", "Ada", "text", "audio", "text", "audio"]
    members = {kind: graph[kind].edge_index.tolist() for kind in graph.edge_types}
    into = {
        ("text", "who"): [[0, 1, 2], [0, 1, 2]],
        ("audio", "who"): [[1, 2], [1, 2]],
        ("text", "stream"): [[0, 1, 2], [3, 3, 5]],
        ("audio", "stream"): [[1, 2], [4, 6]],
    }
    expected = {(stream, name, "hyperedge"): index for (stream, name), index in into.items()}
    assert members == expected | {("hyperedge", name, stream): index[::-1] for (stream, name), index in into.items()}
    assert list(members)[:4] == list(expected)
    assert streams_of(graph) == ["text", "audio"]
    other = make_corpus(widths={"hyperedge": 3})
    with pytest.raises(ConfigError, match="a modality cannot be called 'hyperedge', because the graph has an attribute"):
        build_graph(other)


def test_hyperedges_over_turns_are_called_by_their_turn() -> None:
    recipe = GraphRecipe(name="hyper", description="", source="", hyperedges=(HyperedgeRule(relation="turn", over="turn"),))
    assert build_graph(make_corpus((2, 1)), recipe)["hyperedge"].names == ["turn 0", "turn 1", "turn 0"]


def test_learned_weights_and_multiplicity() -> None:
    words: Any = {"scope": "within", "past": 0, "future": 0}
    rules = (
        EdgeRule(relation="learned", weight="learned", **words),
        EdgeRule(relation="twice", weight="unit", scale=0.5, times=4, **words),
        EdgeRule(relation="alike", times=3, **words),
    )
    graph = build_graph(make_corpus(), GraphRecipe(name="weights", description="", source="", edges=rules))
    assert "edge_weight" not in graph["text", "learned", "text"]
    assert graph["text", "learned", "text"].unweighted == "learned: the operator computes the weight"
    assert set(graph["text", "twice", "text"].edge_weight.tolist()) == {2.0}
    assert torch.allclose(graph["text", "alike", "text"].edge_weight, torch.tensor(3.0), atol=1e-3)


def test_unit_weights_need_no_features() -> None:
    rule = EdgeRule(relation="near", scope="within", past=1, future=0, weight="unit", scale=0.25)
    recipe = GraphRecipe(name="unit", description="", source="", edges=(rule,))
    weight = build_graph(make_corpus(widths={}), recipe)["text", "near", "text"].edge_weight
    assert weight.tolist() == [0.25] * (2 * 11 - 3)


def test_edges_without_a_weight_say_why() -> None:
    graph = build_graph(make_corpus())
    assert {kind[::2]: graph[kind].get("unweighted") for kind in graph.edge_types} == {
        **dict.fromkeys([("text", "text"), ("audio", "audio"), ("visual", "visual"), ("audio", "visual"), ("visual", "audio")]),
        **{
            (a, b): f"angular: expected vectors of equal width, found {a} {m}, {b} {n}; "
            "the graph of a method's node states has these weights"
            for a, b, m, n in (("text", "audio", 5, 3), ("audio", "text", 3, 5), ("text", "visual", 5, 3), ("visual", "text", 3, 5))
        },
    }
    assert "unweighted='angular: " in repr(graph)
    bare = build_graph(make_corpus(widths={}))
    assert bare["text", "context", "text"].unweighted == "angular: text has no vectors to compare"


def test_states_of_a_pipeline_get_all_their_weights() -> None:
    corpus = make_corpus()
    batch = corpus.batch()
    states = {name: torch.randn(11, 4, requires_grad=True) for name in ("audio+text", "visual")}
    present = {"audio+text": corpus.present["audio"] | corpus.present["text"], "visual": corpus.present["visual"]}
    graph = build_from_states(batch, states, present, "pairwise", corpus)
    assert graph.node_types == ["audio+text", "visual"]
    assert all("edge_weight" in graph[kind] and "unweighted" not in graph[kind] for kind in graph.edge_types)
    assert graph.labels == ["calm", "glad", "cross"]
    source, target = graph["audio+text", "cross", "visual"].edge_index
    assert torch.equal(source, target)
    assert torch.equal(source, torch.where(present["audio+text"] & present["visual"])[0])
    bare = build_from_states(batch, states, present, load_recipe("pairwise"))
    assert (bare.labels, bare.texts, bare.speakers[:2], bare.dialogue_ids) == ([], [], ["speaker 1", "speaker 2"], ["0", "1", "2"])
    with pytest.raises(ConfigError, match="expected the same width for the states of all modalities, found a 4, b 5; map the"):
        build_from_states(batch, {"a": torch.zeros(11, 4), "b": torch.zeros(11, 5)}, dict.fromkeys("ab", batch.judged), "pairwise")


def test_what_does_not_fit() -> None:
    corpus = make_corpus()
    with pytest.raises(CorpusError, match="no modality 'video'"):
        build_graph(corpus, modalities=("video",))
    with pytest.raises(ConfigError, match="modalities: expected at least one name, found none; leave `modalities` out"):
        build_graph(corpus, modalities=())
    with pytest.raises(ConfigError, match="unknown name 'pears'"):
        build_graph(corpus, "pears")
    with pytest.raises(CorpusError, match="expected at least one dialogue, found none"):
        build_graph([])
    with pytest.raises(CorpusError, match=r"'d0' and 'd0' differ in task \(three and meld7\); build a separate graph"):
        build_graph([corpus[0], make_corpus(task=get_task("meld7"))[0]])
    with pytest.raises(CorpusError, match=r"differ in features \(.*'audio': 3.* and .*'text': 9.*\); build a separate graph"):
        build_graph([corpus[0], make_corpus(widths={"text": 9})[0]])
    with pytest.raises(CorpusError, match=r"differ in texts \(True and False\); build a separate graph"):
        build_graph([corpus[0], make_corpus(texts=())[0]])
    with pytest.raises(ConfigError, match="a modality cannot be called 'labels', because the graph has an attribute"):
        build_graph(make_corpus(widths={"labels": 2}))


def test_modalities_of_sequences_are_streams_beside_features() -> None:
    corpus = sample_corpus(dialogues=3)
    raw = sample_raw_corpus(dialogues=3, config=SampleConfig())
    mixed = replace(
        corpus, features={"text": corpus.features["text"]}, present={"text": corpus.present["text"]},
        sequences={name: raw.sequences[name] for name in ("audio", "visual")},
    )  # fmt: skip
    graph, whole = build_graph(mixed, "window"), build_graph(corpus, "window")
    assert graph.node_types == whole.node_types and "x" in graph["text"] and "x" not in graph["audio"]
    for name in whole.edge_types:
        assert graph[name].edge_index.equal(whole[name].edge_index)
    assert build_graph(mixed, "window", ["visual"]).node_types == ["visual"]
    listed = build_graph(list(mixed), "window")
    for name in whole.edge_types:
        assert listed[name].edge_index.equal(whole[name].edge_index)
    for name in ("audio", "visual"):
        assert listed[name].present.equal(graph[name].present)
    with pytest.raises(CorpusError, match=r"differ in sequences \(.*'visual'.* and \{\}\); build a separate graph"):
        build_graph([mixed[0], replace(mixed, sequences={})[1]], "window")


def test_relations_of_speaker_pairs_have_edges_of_their_own_and_learned_weights_are_not_there() -> None:
    corpus = make_corpus((5,), widths={"text": 3}, present={"text": torch.ones(5, dtype=torch.bool)})  # Ada, Ben, Ada, Eve, Ada
    rule = EdgeRule(relation="near", scope="within", past=1, future=0, self_loops=False, speaker="pair", weight="learned")
    graph = build_graph(corpus, GraphRecipe(name="pairs", description="", source="", edges=(rule,)))
    found = {kind[1]: graph[kind].edge_index.T.tolist() for kind in graph.edge_types}
    assert {name: edges for name, edges in found.items() if edges} == {"near_0_1": [[0, 1], [2, 3]], "near_1_0": [[1, 2], [3, 4]]}
    assert not any("edge_weight" in graph[kind] for kind in graph.edge_types)
