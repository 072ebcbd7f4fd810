from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.transcripts import load_transcript
from erc_graph.data.sample.vectors import sample_corpus
from erc_graph.errors import CorpusError

TURNS = [{"speaker": "Ann", "text": "We won!"}, {"speaker": "Bob", "text": "Really: now?"}]


def read(content: Any) -> Corpus:
    return load_transcript(
        content if isinstance(content, bytes) else (content if isinstance(content, str) else json.dumps(content)).encode()
    )


def said(corpus: Corpus) -> list[tuple[str, str]]:
    return list(zip(corpus.speakers, corpus.texts, strict=True))


TWO = [("Ann", "We won!"), ("Bob", "Really: now?")]


@pytest.mark.parametrize(
    "content",
    [
        "Ann: We won!\nBob: Really: now?",
        "\ufeffAnn:We won!\n\n  Bob :  Really: now?\r\n".replace("Ann:We", "Ann: We"),
        "[00:12] Ann: We won!\n(1:02:03) Bob: Really:\n   now?",
        "12:30 - Ann: We won!\n12:31 - Bob: Really:\nnow?",
        TURNS,
        {"turns": TURNS},
        {"id": "a", "utterances": TURNS},
        [TURNS],
        [{"id": "a", "dialogue": TURNS}],
        {"dialogues": [{"id": 3, "turns": TURNS}]},
        {"messages": [{"role": "Ann", "content": "We won!"}, {"role": "Bob", "content": "Really: now?"}]},
        "\n".join(json.dumps(turn) for turn in TURNS),
        "speaker,text\nAnn,We won!\nBob,Really: now?\n",
        "Text;Speaker\nWe won!;Ann\nReally: now?;Bob\n",
        "Sr No.,Utterance,Speaker,Emotion,Dialogue_ID,Utterance_ID\n1,We won!,Ann,joy,0,0\n2,Really: now?,Bob,surprise,0,1\n",
        [{**TURNS[1], "turn": 5, "dialogue": "d"}, {**TURNS[0], "turn": 2, "dialogue": "d"}],
    ],
)
def test_forms_that_say_the_same(content: Any) -> None:
    corpus = read(content)
    assert said(corpus) == TWO
    assert len(corpus) == 1 and not corpus.labelled.any() and not corpus.features


def test_chinese_colon_and_names_with_spaces() -> None:
    assert said(read("王先生： 你好！\nDr. Mary-Jane O'Neil: Hi")) == [("王先生", "你好！"), ("Dr. Mary-Jane O'Neil", "Hi")]


def test_a_sentence_with_a_colon_goes_on() -> None:
    assert said(read("Ann: look\nthis is what I wanted to say: no\nhttp://a.b")) == [
        ("Ann", "look this is what I wanted to say: no http://a.b")
    ]


def test_several_dialogues_and_missing_speakers() -> None:
    corpus = read([{"dialogue": "b", "text": "x"}, {"dialogue": "a", "text": 3, "speaker": None}, {"dialogue": "b", "text": None}])
    assert corpus.dialogue_ids == ("b", "a")
    assert said(corpus) == [("speaker", "x"), ("speaker", ""), ("speaker", "3")]
    assert len(set(corpus.utterance_ids)) == 3


def test_vectors_stand_with_their_turns() -> None:
    turns = [
        {"turn": 2, "features": {"text": [1, 2.5], "audio": [4]}},
        {"turn": 1, "features": {"text": [3, 4], "audio": None}},
        {"turn": 3},
        {"turn": 4, "features": {"text": [float("nan"), 1]}},
    ]
    corpus = read(turns)
    assert corpus.features["text"].tolist() == [[3, 4], [1, 2.5], [0, 0], [0, 0]]
    assert corpus.present["text"].tolist() == [True, True, False, False]
    assert corpus.features["audio"].flatten().tolist() == [0, 4, 0, 0]
    assert corpus.present["audio"].tolist() == [False, True, False, False]


def test_numbers_that_are_none_are_said() -> None:
    turns = [{"turn": 2, "features": {"text": [float("nan"), 1]}}, {"turn": 1, "features": {"text": [1e16, 1]}}, {"turn": 3}]
    corpus = read([*turns, {"turn": 4, "features": {"text": [1, 2], "audio": [float("inf")]}}])
    assert [note for note in corpus.provenance["notes"] if note.startswith("features") and " count" in note] == [
        "features.text: 2 utterances with NaN, inf or numbers beyond 1e15 count as missing (first: utterance 0)",
        "features.audio: 1 utterance with NaN, inf or numbers beyond 1e15 counts as missing (first: utterance 3)",
    ]
    assert corpus.present["text"].tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty; expected `Speaker: text` lines"),
        ("  \n ", "is empty"),
        ("once upon a time", "line 1: no speaker found .'once upon a time'"),
        ("\nhe says something else here now: hello", "line 2: no speaker found"),
        (b"Ann: a\0b", "binary content"),
        ("[", "not valid JSON"),
        ('{"text": "a"}\n{"text": ', "line 2: not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[1, 2]", "item 0: expected an object with `speaker` and `text`, found a int"),
        ("{}", "no `text` and no `features` in 1 rows; found none"),
        ("[]", "contains no utterances"),
        ([[1]], "dialogue 0: expected a list of objects"),
        ([{"speaker": "Ann"}], "no `text` and no `features`"),
        ([{"text": ["a"]}], "utterance 0: text: expected text, found a list"),
        ([{"text": "a", "speaker": {}}], "utterance 0: speaker: expected text, found a dict"),
        ([{"text": "a", "turn": 1}, {"text": "b", "turn": 1}], "turn 1 of dialogue .* occurs twice"),
        ({"dialogues": [{"id": "a", "turns": TURNS}, {"id": "a", "turns": TURNS}]}, r"dialogue id 'a' is used twice \(items 0 and 1\)"),
        ([TURNS, {"name": "dialogue-0", "turns": TURNS}], r"dialogue id 'dialogue-0' is used twice \(items 0 and 1\)"),
        ({"speaker": "A", "text": "hi", "dialogue": [1]}, "utterance 0: dialogue: expected text, found a list"),
        ([{"speaker": "A", "text": "hi", "dialogue": [1]}], "utterance 0: dialogue: expected text, found a list"),
        ([{"text": "a", "features": [1]}], "features: expected an object of modality"),
        ([{"text": "a", "features": {"text": []}}], "features.text: expected a list of numbers"),
        ([{"text": "a", "features": {"text": ["1"]}}], "features.text: expected a list of numbers"),
        ([{"text": "a", "features": {"text": [1]}}, {"text": "a", "features": {"text": [1, 2]}}], "2 numbers, but 1"),
        ([{"text": "a", "features": {"text": [10**400]}}], "features.text: a number is too large"),
        ('speaker,text\nAnn,"open', "not a valid CSV"),
        ("speaker,text\n", "no rows"),
    ],
)
def test_what_is_refused(content: Any, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        read(content)


def test_no_more_turns_than_are_allowed() -> None:
    assert load_transcript(b"Ann: Hi\nBob: Oh\n", most=2).utterances == 2
    for content in (b"Ann: Hi\nBob: Oh\nAnn: No\n", json.dumps([*TURNS, *TURNS]).encode()):
        with pytest.raises(CorpusError, match=r"[34] utterances; expected at most 2; divide the file"):
            load_transcript(content, most=2)
    for content, words in ((b"Ann: Hi\n" * 101, "101 lines"), (b"[" + b'{"text": "a"}, ' * 100 + b'{"text": "a"}]', "101 objects")):
        with pytest.raises(CorpusError, match=f"{words}; expected at most 2 utterances; divide the file"):  # before any turn is made
            load_transcript(content, most=2)


def test_files_and_corpora(tmp_path: Path) -> None:
    (tmp_path / "talk.txt").write_text("Ann: We won!", encoding="utf-8")
    assert load_transcript(tmp_path / "talk.txt").dialogue_ids == ("talk",)
    sample_corpus(dialogues=3).save(tmp_path / "corpus")
    assert len(load_transcript(tmp_path / "corpus")) == 3
    assert load_transcript("sample").name == "sample"
    for missing in (tmp_path / "nothing.txt", "a\0b"):
        with pytest.raises(CorpusError, match=r"cannot be read .*expected `Speaker: text` lines"):
            load_transcript(missing)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["speaker", "text", "dialogue", "turn", "turns", "features", "id", "", "TEXT"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)
CONTENT = (
    st.binary(max_size=60) | st.text(max_size=80).map(lambda t: t.encode("utf-8", "replace")) | JSON.map(lambda v: json.dumps(v).encode())
)
LINES = st.lists(st.tuples(st.sampled_from(["Ann: ", "B:", "", "speaker,text\n", '"', "[1:00] "]), st.text(max_size=12)), max_size=5)


@settings(max_examples=400, deadline=None)
@given(CONTENT | LINES.map(lambda lines: "\n".join(a + b for a, b in lines).encode("utf-8", "replace")))
def test_anything_is_read_or_refused(content: bytes) -> None:
    try:
        corpus = load_transcript(content)
    except CorpusError:
        return
    assert corpus.utterances > 0 and len(corpus.texts) == corpus.utterances
