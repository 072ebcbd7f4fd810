"""MMSA's and MultiBench's files, made small here: clips become turns of a video, and padding goes."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from erc_graph.data.files.formats import merge_annotations, read_annotations
from erc_graph.data.files.load import load_corpus
from erc_graph.errors import CorpusError

LENGTH, WIDTH = 6, {"text": 5, "audio": 4, "vision": 3}
CLIPS = {"train": ["b$_$10", "a$_$0", "b$_$9", "a$_$1"], "valid": ["c$_$3"], "test": ["d$_$2", "d$_$1"]}


def split(ids: list[str], seed: int, *, aligned: bool = False) -> dict[str, Any]:
    """One split: random frames, padded with zeros at the end (audio), in front (vision) and by the mask of `text_bert` (text)."""
    rng, clips = np.random.default_rng(seed), len(ids)
    lengths = {name: rng.integers(2, LENGTH, clips) for name in WIDTH}
    part: dict[str, Any] = {"id": ids, "raw_text": [f"what {name} says" for name in ids]}
    for name, width in WIDTH.items():
        part[name] = rng.normal(size=(clips, LENGTH, width)).astype(np.float32)
        for row, length in enumerate(lengths[name]):
            if name == "vision" and aligned:
                part[name][row, : LENGTH - length] = 0
            else:
                part[name][row, length:] = 0
    part["text_bert"] = np.zeros((clips, 3, LENGTH), np.int64)
    for row, length in enumerate(lengths["text"]):
        part["text_bert"][row, 1, :length] = 1
    part["regression_labels"] = rng.uniform(-3, 3, clips).astype(np.float32)
    part["classification_labels"] = np.sign(part["regression_labels"]) + 1
    part["annotations"] = ["Positive" if score > 0 else "Negative" for score in part["regression_labels"]]
    if not aligned:
        part["audio_lengths"], part["vision_lengths"] = lengths["audio"].tolist(), lengths["vision"]
    return part


def file_of(*, aligned: bool = False) -> dict[str, Any]:
    return {name: split(ids, seed, aligned=aligned) for seed, (name, ids) in enumerate(CLIPS.items())}


def dump(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "unaligned_50.pkl"
    path.write_bytes(pickle.dumps(content))
    return path


@pytest.mark.parametrize("aligned", [True, False])
def test_an_mmsa_file_is_a_corpus_of_videos(aligned: bool, tmp_path: Path) -> None:
    content = file_of(aligned=aligned)
    corpus = load_corpus(dump(tmp_path, content))
    assert corpus.dialogue_ids == ("b", "a", "c", "d") and corpus.lengths.tolist() == [2, 2, 1, 2]
    assert corpus.utterance_ids == ("b_9", "b_10", "a_0", "a_1", "c_3", "d_1", "d_2")  # in the order of numbers, not of strings
    assert corpus.splits == {"train": ("b", "a"), "dev": ("c",), "test": ("d",)}
    assert set(corpus.speakers) == {"speaker"} and corpus.task.kind == "score"
    for name, part in content.items():
        for clip, id in enumerate(part["id"]):
            row = corpus.utterance_ids.index(id.replace("$_$", "_"))
            assert corpus.texts[row] == f"what {id} says" and corpus.target[row] == part["regression_labels"][clip], name
            assert corpus.annotations["sentiment"][row] == part["annotations"][clip].lower()
            for key, modality in (("text", "text"), ("audio", "audio"), ("vision", "visual")):
                expected = [frame for frame in part[key][clip] if frame.any()]  # random frames are never zero, padding always is
                assert np.array_equal(corpus.sequences[modality][row].numpy(), np.stack(expected))


def test_zeros_within_a_clip_stay_and_a_clip_of_zeros_is_missing(tmp_path: Path) -> None:
    content = file_of(aligned=True)
    vision, text = content["train"]["vision"], content["train"]["text"]
    vision[0] = np.array([0, 1, 0, 0, 2, 0])[:, None]
    vision[1] = 0
    text[2], content["train"]["text_bert"][2, 1] = np.array([0, 1, 0, 2, 3, 4])[:, None], [1, 1, 1, 0, 0, 0]
    corpus = load_corpus(dump(tmp_path, content))
    assert corpus.sequences["visual"][corpus.utterance_ids.index("b_10")][:, 0].tolist() == [1, 0, 0, 2]
    assert not corpus.sequences["visual"].present[corpus.utterance_ids.index("a_0")]
    assert corpus.sequences["text"][corpus.utterance_ids.index("b_9")][:, 0].tolist() == [0, 1, 0]  # what the mask says
    assert any("train: 1 of 4 clips have no visual" in note for note in corpus.provenance["notes"])


def test_minus_infinity_in_audio_leaves_the_frame_out(tmp_path: Path) -> None:
    content = file_of()
    content["valid"]["audio"][0, 1, 2] = -np.inf
    length = content["valid"]["audio_lengths"][0]
    path = dump(tmp_path, content)
    corpus = load_corpus(path)
    assert len(corpus.sequences["audio"][corpus.utterance_ids.index("c_3")]) == length - 1
    told = "words, frames or samples with NaN, inf or numbers beyond 1e15 are left out: 1 (first in c_3)"
    assert any(told in note for note in corpus.provenance["notes"])
    with pytest.raises(
        CorpusError,
        match=r"sequences.audio \(annotation file\): words, frames or samples with NaN, inf or numbers beyond 1e15: 1 ",
    ):
        load_corpus(path, strict=True)


def test_a_video_in_several_splits_is_several_conversations(tmp_path: Path) -> None:
    content = file_of()
    content["test"]["id"] = ["b$_$2", "d$_$1"]  # as in CH-SIMS, whose clips were divided one by one
    corpus = load_corpus(dump(tmp_path, content))
    assert corpus.dialogue_ids == ("b:train", "a", "c", "b:test", "d")
    assert corpus.splits["test"] == ("b:test", "d") and corpus.utterance_ids[5] == "b_2"
    assert any(note.startswith("1 of 4 videos are in several splits") for note in corpus.provenance["notes"])


def test_multibench_ids_scores_and_missing_words(tmp_path: Path) -> None:
    def part(ids: list[Any]) -> dict[str, Any]:
        return {
            "id": np.array(ids, dtype=object),
            "vision": np.ones((len(ids), 4, 3)), "audio": np.ones((len(ids), 4, 2)), "text": np.ones((len(ids), 4, 300)),
            "labels": np.arange(len(ids), dtype=float).reshape(-1, 1, 1),
        }  # fmt: skip

    content = {"train": part([["v", 10.5, 12.0], ["v", 9.5, 10.0]]), "valid": part([["w[2]"], ["w[1]"]]), "test": part(["x[0]", b"x[7]"])}
    corpus = load_corpus(dump(tmp_path, content))
    assert corpus.utterance_ids == ("v_9.5", "v_10.5", "w_1", "w_2", "x_0", "x_7") and corpus.target.tolist() == [1, 0, 1, 0, 0, 1]
    assert not corpus.texts and corpus.sequences["text"].item == (300,)


def test_arrays_of_two_axes_are_features(tmp_path: Path) -> None:
    content = {"train": {"id": ["a$_$2", "a$_$1"], "audio": np.array([[2.0], [1.0]]), "regression_labels": [0.5, -0.5]}}
    corpus = load_corpus(dump(tmp_path, content))
    assert not corpus.sequences and corpus.features["audio"].tolist() == [[1.0], [2.0]]


def test_two_files_side_by_side_and_joined(tmp_path: Path) -> None:
    content = file_of()
    whole = read_annotations(dump(tmp_path, content))
    train, rest = (
        read_annotations(dump(tmp_path, part)) for part in ({"train": content["train"]}, {k: content[k] for k in ("valid", "test")})
    )
    both = merge_annotations([train, rest])
    assert both.utterance_ids == whole.utterance_ids
    for name, value in whole.sequences.items():
        assert value.values.equal(both.sequences[name].values) and value.ptr.equal(both.sequences[name].ptr)
    del train.sequences["audio"]
    partly = merge_annotations([train, rest])
    assert partly.sequences["audio"].present.tolist() == [False] * 4 + [True] * 3
    only = read_annotations(dump(tmp_path, content))
    only.sequences = {"audio": only.sequences["audio"]}
    del whole.sequences["audio"]
    joined = merge_annotations([whole, only])
    assert joined.sequences["audio"].values.equal(only.sequences["audio"].values)
    other = read_annotations(dump(tmp_path, content))
    other.sequences = {"audio": type(other.sequences["audio"])(other.sequences["text"].values, other.sequences["text"].ptr)}
    other.dialogue_ids = [f"other {name}" for name in other.dialogue_ids]
    with pytest.raises(CorpusError, match="audio sequences have items of different shapes"):
        merge_annotations([only, other])


def broken(**fields: Any) -> dict[str, Any]:
    content = file_of()
    content["train"].update(fields)
    return {"train": {name: value for name, value in content["train"].items() if value is not None}, "test": content["test"]}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (broken(id=["b$_$10", "a", "b$_$9", "a$_$1"]), r"train: clip id 'a'; expected the form `video\$_\$clip`"),
        (broken(id="b$_$10"), "train: id: expected one id per clip, found 'b"),
        (broken(id=np.array(3)), r"train: id: expected one id per clip, found array of shape \(\)"),
        (broken(id=["a$_$0"] * 4), "duplicate utterance id 'a_0'"),
        (
            broken(regression_labels=np.zeros(3)),
            r"train: regression_labels: expected 4 values, one per clip id, found array of shape \(3,\)",
        ),
        (broken(regression_labels=np.zeros((4, 2))), r"regression_labels: expected the shape \(4,\), found \(4, 2\)"),
        (broken(regression_labels=["x"] * 4), "regression_labels: expected an array of numbers"),
        (broken(regression_labels=[0, 1, np.inf, 2]), "score inf"),
        (broken(raw_text="hello"), "raw_text: expected 4 values, one per clip id, found 'hello'"),
        (broken(audio=np.zeros((4, 2, 2, 2))), r"audio: expected the shape \(clips, length, width\), found \(4, 2, 2, 2\)"),
        (broken(audio=[[1.0], [1.0, 2.0], [1.0], [1.0]]), "audio: expected an array of numbers"),
        (broken(audio=np.zeros((3, 6, 4))), "audio: expected 4 values, one per clip id"),
        (broken(audio_lengths=[1, 2, 7, 1]), r"audio_lengths: clip b\$_\$9 has the length 7; expected a length from 0 to 6"),
        (broken(audio_lengths=[1, 2]), "audio_lengths: expected 4 values, one per clip id"),
        (
            broken(text_bert=np.zeros((4, 2, 6))),
            r"text_bert: expected the shape \(4, 3, 6\), whose last number is the length of `text`, found \(4, 2, 6\)",
        ),
        (broken(vision=np.ones((4, 6, 7))), r"visual: expected arrays of one shape in every split, found train: \(7,\); test: \(3,\)"),
        (broken(vision=None), r"visual: expected arrays of one shape in every split, found train: nothing; test: \(3,\)"),
        ({"train": {"id": [], "text": []}}, "no clips in any split"),
        ({"train": {"raw_text": [], "vision": []}}, "none of the known formats"),
    ],
)
def test_broken_files_are_refused_in_one_sentence(content: Any, match: str, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=match) as caught:
        load_corpus(dump(tmp_path, content))
    assert "\n" not in str(caught.value)


ODD = st.sampled_from(
    [
        None, 3, "text", b"bytes", [], {}, [None] * 4, [1.0] * 4, ["x"] * 4, [[1.0], [2.0, 3.0], [], [4.0]], [-1, 0, 1, 99],
        np.zeros(()), np.zeros(4), np.ones((4, 6)), np.ones((4, 6, 2)), np.ones((4, 6, 0)), np.ones((4, 0, 2)), np.ones((4, 1, 1)),
        np.ones((2, 4, 1, 1)), np.array(["a"] * 4), np.full((4, 6, 4), np.nan), np.array([None] * 4), np.full(4, np.inf),
        np.array([[1, 2]] * 4), np.array([1.5] * 4), np.ones((4, 6, 4), complex),
    ]
)  # fmt: skip


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(split(["a"], 0))), st.sampled_from(["train", "test"]), ODD)
def test_any_field_may_be_anything(tmp_path: Path, field: str, name: str, value: Any) -> None:
    """A corpus, or one sentence."""
    content = file_of()
    content[name][field] = value
    try:
        corpus = load_corpus(dump(tmp_path, content))
    except CorpusError as error:
        assert "\n" not in str(error)
    else:
        assert all(len(value) == corpus.utterances for value in corpus.sequences.values())


def test_a_zero_in_every_place_reads_as_missing_everywhere(tmp_path: Path) -> None:
    content = broken(audio=np.zeros((4, 6, 4)))
    content["test"]["audio"] = np.zeros((2, 6, 4))
    corpus = load_corpus(dump(tmp_path, content))
    assert not corpus.sequences["audio"].present.any()
