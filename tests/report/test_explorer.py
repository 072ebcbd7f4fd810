"""The explorer's data: strongest edges against a loop, unpacked again as the page's script does it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from erc_graph.report.explorer import Conversation, Edges, json_block, pack


def edges(turns: int, streams: int, seed: int) -> Edges:
    random = np.random.default_rng(seed)
    count = 6 * turns * streams
    ends = np.column_stack([random.integers(0, turns, count), random.integers(0, streams, count)])
    others = np.column_stack([random.integers(0, turns, count), random.integers(0, streams, count)])
    both = np.unique(np.hstack([ends, others]), axis=0)
    return Edges(source=both[:, :2], target=both[:, 2:], weight=random.random(len(both)).round(2))


def strongest(all_: Edges, most: int) -> set[tuple[int, ...]]:
    """By a loop over nodes and source streams."""
    found = set()
    triples = list(zip(all_.source.tolist(), all_.target.tolist(), all_.weight.tolist(), strict=True))
    for node in {tuple(target) for _, target, _ in triples}:
        for stream in {source[1] for source, target, _ in triples if tuple(target) == node}:
            mine = [e for e in triples if tuple(e[1]) == node and e[0][1] == stream and tuple(e[0]) != node]
            mine.sort(key=lambda e: (-e[2], abs(e[0][0] - e[1][0])))
            found |= {(*source, *target, round(1000 * weight)) for source, target, weight in mine[:most]}
    return found


@pytest.mark.parametrize("seed", range(4))
def test_strongest_edges_equal_a_loop_up_to_ties(seed: int) -> None:
    all_ = edges(7, 3, seed)
    kept = all_.strongest(3)
    found = {
        (*source, *target, round(1000 * weight))
        for source, target, weight in zip(kept.source.tolist(), kept.target.tolist(), kept.weight.tolist(), strict=True)
    }
    expected = strongest(all_, 3)
    assert len(found) == len(kept.weight) == len(expected)
    assert sorted(e[2:] for e in found) == sorted(e[2:] for e in expected)  # nodes and weights; equal weights may come from others
    assert kept.strongest(3).weight.tolist() == kept.weight.tolist()


def test_no_edge_at_all_and_no_weight() -> None:
    none = Edges(source=np.zeros((0, 2), int), target=np.zeros((0, 2), int), weight=np.zeros(0))
    assert len(none.strongest().weight) == 0
    unweighted = Edges(source=np.array([[0, 0], [3, 0]]), target=np.array([[2, 0], [2, 0]]), weight=np.full(2, np.nan))
    assert unweighted.strongest(1).source.tolist() == [[3, 0]]  # the nearest of equals


def one(**changes: object) -> Conversation:
    values = {
        "id": "d", "split": "test", "utterances": ("a", "b", "c"), "speakers": ("Ada", "Ben", "Ada"), "texts": ("x", "", "z"),
        "target": np.array([0, -1, 1]), "guess": np.array([1, 0, 1]), "probabilities": np.array([[0.25, 0.75], [0.5, 0.5], [0.1, 0.9]]),
        "present": np.array([[True, False], [True, True], [False, True]]), "edges": edges(3, 2, 0),
    }  # fmt: skip
    return Conversation(**{**values, **changes})  # type: ignore[arg-type]


def test_packed_and_unpacked() -> None:
    conversation = one(trust={"text": np.array([0.7, 0.5, 1.0]), "audio": np.array([0.3, 0.5, 0.0])})
    data = json.loads(json.dumps(pack([conversation], ["joy", "fear"], ["audio", "text"])))
    c = data["conversations"][0]
    assert c["n"] == ["Ada", "Ben"] and c["s"] == [0, 1, 0] and c["t"] == ["x", "", "z"] and c["h"] == [1, 3, 2]
    assert c["y"] == [0, -1, 1] and c["p"] == [1, 0, 1] and c["q"] == [25, 75, 50, 50, 10, 90]
    assert data["trust"] == ["text", "audio"] and c["m"] == [70, 30, 50, 50, 100, 0]
    found = set()
    for turn, flat in enumerate(c["e"]):
        for k in range(0, len(flat), 3):
            found.add((flat[k + 1], flat[k] % 2, turn, flat[k] // 2, flat[k + 2]))
    assert conversation.edges is not None
    kept = conversation.edges.strongest()
    expected = {
        (*source, *target, round(1000 * weight))
        for source, target, weight in zip(kept.source.tolist(), kept.target.tolist(), kept.weight.tolist(), strict=True)
    }
    assert found == expected and found


def test_packed_without() -> None:
    bare = one(
        speakers=(), texts=(), edges=None, present=None, probabilities=None, scores=np.array([[0.3, np.nan], [np.nan, 1], [2, -1.26]])
    )
    c = pack([bare], ["-1", "0"], [])["conversations"][0]
    assert c["v"] == [0.3, None, None, 1.0, 2.0, -1.3]
    assert not {"t", "n", "s", "q", "h", "e", "m", "w", "u"} & set(c)
    assert "t" not in pack([one()], ["joy", "fear"], ["audio", "text"], text=False)["conversations"][0]


def test_a_speaker_has_the_same_place_in_every_conversation() -> None:
    other = one(id="e", speakers=("Ben", "Ada", "Ben"), times=("0:01", "", ""), unsure=np.array([True, False, True]))
    first, second = pack([one(), other], ["joy", "fear"], ["audio", "text"])["conversations"]
    assert first["n"] == second["n"] == ["Ada", "Ben"] and (first["s"], second["s"]) == ([0, 1, 0], [1, 0, 1])
    assert second["w"] == ["0:01", "", ""] and second["u"] == [0, 2] and not {"w", "u"} & set(first)


def test_json_in_a_page() -> None:
    value = ["</script><!--", "a & b", "\u2028\u2029", "\ud800", 'quote " and \\']
    block = json_block(value)
    assert not set("<>&\u2028\u2029\ud800") & set(block) and json.loads(block) == value
    assert json_block("Зоя 王") == '"Зоя 王"'  # a page of any language stays small
