"""Files as people have them: every folder of `cases` is read as its owner would expect, or refused by the true reason.

The folders hold files typed after public bug reports and releases of data sets.
"""

from __future__ import annotations

import copy
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.load import load_corpus
from erc_graph.errors import CorpusError, ErcGraphError

CASES = Path(__file__).parent / "cases"


def labels(corpus: Corpus) -> list[str | None]:
    """The label of every utterance, by its name in the task."""
    return [corpus.task.labels[index] if index >= 0 else None for index in corpus.target.tolist()]


def notes(corpus: Corpus) -> str:
    return "\n".join(corpus.provenance["notes"])


# -- EmoryNLP ------------------------------------------------------------------------------


def test_emorynlp_csv() -> None:
    corpus = load_corpus(CASES / "01-emorynlp-csv")
    assert corpus.name == "emorynlp" and corpus.task.name == "emorynlp7"
    scenes = ["s01_e15_c01", "s01_e15_c02", "s02_e03_c01"]  # season, episode, scene
    assert corpus.dialogue_ids == tuple(f"{split}_{scene}" for split in ("train", "dev", "test") for scene in scenes)
    assert corpus.lengths.tolist() == [3, 2, 2] * 3 and {name: len(ids) for name, ids in corpus.splits.items()} == dict.fromkeys(
        ("train", "dev", "test"), 3
    )
    assert corpus.speakers[:3] == ("Rita Gray", "Joe Tanner", "Rita Gray, Joe Tanner")
    assert labels(corpus)[:7] == ["Neutral", "Joyful", "Powerful", "Sad", "Peaceful", "Scared", "Mad"]
    assert corpus.annotations["start"][:2] == (3.795, 5.171) and corpus.annotations["end"][6] == 4.757
    assert "several simultaneous speakers" in notes(corpus) and "in several splits" in notes(corpus)


# -- MELD's dyadic dialogues ---------------------------------------------------------------


def test_dyadic_meld_is_joined_by_the_old_ids() -> None:
    corpus = load_corpus(CASES / "02-meld-dyadic")
    assert corpus.utterance_ids == ("dev_dia0_utt0", "dev_dia0_utt1", "dev_dia1_utt4", "dev_dia1_utt5")
    assert corpus.lengths.tolist() == [2, 2] and corpus.splits == {"dev": corpus.dialogue_ids}
    with np.load(CASES / "02-meld-dyadic" / "text.npz") as file:
        expected = dict(zip(file["utterance"].tolist(), file["features"], strict=True))
    for name, row in zip(corpus.utterance_ids, corpus.features["text"], strict=True):
        np.testing.assert_array_equal(row, expected[name])
    assert labels(corpus) == ["sadness", "surprise", "neutral", "joy"] and "joined by the ids of MELD" in notes(corpus)
    assert "published" not in notes(corpus)


def test_an_utterance_of_two_dyadic_dialogues_has_the_same_features(tmp_path: Path) -> None:
    shutil.copytree(CASES / "02-meld-dyadic", tmp_path / "d")
    path = tmp_path / "d" / "dev_sent_emo_dya.csv"
    path.write_text(path.read_text() + '"Or, we ask the bank first.",Rolf,neutral,neutral,2,0,1,4,4,4,"00:12:24,660","00:12:30,915"\n')
    corpus = load_corpus(tmp_path / "d")
    assert corpus.utterance_ids[-1] == "dev_dia1_utt4#2" and len(corpus) == 3
    assert corpus.features["text"][4].equal(corpus.features["text"][2]) and corpus.present["text"].all()
    assert "1 utterances are in several dialogues" in notes(corpus)


def test_dyadic_meld_without_its_old_numbers_is_refused(tmp_path: Path) -> None:
    head, row, *_ = (CASES / "02-meld-dyadic" / "dev_sent_emo_dya.csv").read_text().splitlines()
    path = tmp_path / "dev.csv"
    path.write_text(f"{head}\n{row.replace(',0,0,0,0,', ',0,0,,,')}\n")
    with pytest.raises(
        CorpusError,
        match="line 2: empty Old_Dialogue_ID or Old_Utterance_ID; expected dialogue and utterance numbers",
    ):
        load_corpus(path)


# -- tables: labels, Excel, encodings ------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "speakers", "expected"),
    [
        ("bare_quotes.csv", ("Ann", "Bob", "Ann"), ["joy", "sadness", "neutral"]),
        ("blank_rows.csv", ("Ann", "Bob", "Ann"), ["joy", "sadness", "neutral"]),
        ("bom_semicolon.csv", ("Ann", "Bob", "Ann"), ["joy", "sadness", "neutral"]),
        ("cp1252.csv", ("Ann", "Zoë"), ["joy", "neutral"]),
        ("ends_nul.csv", ("Ann", "Bob", "Ann"), ["joy", "sadness", "neutral"]),
        ("float_label.csv", ("Ann", "Bob", "Ann"), ["0", "1", None]),
        ("float_turn.csv", ("Ann", "Bob", "Ann"), ["joy", "sadness", "neutral"]),
        ("gbk.csv", ("王", "李"), ["joy", "neutral"]),
        ("index_col.csv", ("Ann", "Bob", "Ann"), ["joy", "sadness", "neutral"]),
        ("label_spaces.csv", ("Ann", "Bob", "Ann"), ["joy", "joy", "joy"]),
        ("mac_cr.csv", ("Ann", "Bob", "Ann"), ["joy", "sadness", "neutral"]),
        ("nan_text.csv", ("Ann", "Bob", "Ann"), ["joy", "sadness", "neutral"]),
        ("newline_text.csv", ("Ann", "Ann"), ["joy", "neutral"]),
        ("pipe.csv", ("Ann", "Bob", "Ann"), ["joy", "sadness", "neutral"]),
        ("sep_line.csv", ("Ann", "Bob", "Ann"), ["joy", "sadness", "neutral"]),
        ("shiftjis.csv", ("山田", "鈴木"), ["joy", "neutral"]),
        ("trailing_commas.csv", ("Ann", "Bob", "Ann"), ["joy", "sadness", "neutral"]),
        ("upper.csv", ("Ann", "Bob", "Ann"), ["joy", "sadness", "neutral"]),
        ("utf16.csv", ("Ann", "Bob", "Ann"), ["joy", "sadness", "neutral"]),
        ("utf16_tab.txt", ("Ann", "Bob", "Ann"), ["joy", "sadness", "neutral"]),
    ],
)
def test_tables_of_spreadsheets(name: str, speakers: tuple[str, ...], expected: list[str | None]) -> None:
    if name in ("gbk.csv", "shiftjis.csv"):
        pytest.importorskip("charset_normalizer")
    corpus = load_corpus(CASES / "21-csv-excel" / name)
    assert corpus.speakers == speakers and labels(corpus) == expected
    assert set(corpus.splits) == {"train", "test"}


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("book.xls", "an old file of Excel or Word: save a table as .xlsx or CSV"),
        ("book.xlsx", "an Excel workbook that cannot be read"),
        ("f.feather", r"an Arrow \(Feather\) file: save it as Parquet or CSV"),
        ("leading_quote.csv", "line 2: not a valid CSV .*; inside a quoted text write each quote twice"),
        ("unquoted_comma.csv", "line 2: 7 fields, but the header has 6; put quotes around texts with ','"),
    ],
)
def test_tables_that_are_refused_by_the_true_reason(name: str, match: str) -> None:
    with pytest.raises(CorpusError, match=match):
        load_corpus(CASES / "21-csv-excel" / name)


def test_labels_are_never_lost_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    assert labels(load_corpus(CASES / "37-emotion-column" / "t.csv")) == ["joy", "anger", "joy"]
    assert labels(load_corpus(CASES / "37-emotion-column" / "t.jsonl")) == ["joy", "anger"]
    caplog.clear()
    load_corpus(CASES / "29-labels-types")
    assert caplog.messages == [
        "note: t.csv: columns that are not read: valence, arousal",
        "note: no labels: emotions can be predicted, but the predictions cannot be evaluated",
    ]


@pytest.mark.parametrize(
    ("name", "first"),
    [("gbk.csv", "你好啊"), ("sjis.csv", "こんにちは")],
)
def test_far_eastern_tables(name: str, first: str, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("charset_normalizer")
    assert load_corpus(CASES / "36-gbk-mojibake" / name).texts[0] == first
    assert "not UTF-8; it is read as" in caplog.messages[0]


def test_a_table_of_ten_cyrillic_letters_is_refused() -> None:
    with pytest.raises(CorpusError, match="not UTF-8"):
        load_corpus(CASES / "36-gbk-mojibake" / "cp1251.csv")


# -- other releases ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "dataset", "lengths", "expected"),
    [
        ("03-reccon-json/dailydialog_valid.json", "dailydialog", [3, 2], ["neutral", "sadness", "sadness", "happiness", "happiness"]),
        ("11-emotionlines-json", "meld", [2, 1], ["surprise", None, "neutral"]),
        ("11-emotionlines-json/friends_dev.json", "emotionlines", [2, 1], ["surprise", None, "neutral"]),
        ("12-dailydialog-txt", "dailydialog", [3, 2], ["neutral", "happiness", "neutral", "anger", "sadness"]),
        ("12-dailydialog-txt/hf_rows.jsonl", "dailydialog", [2, 2], ["neutral", "happiness", "anger", "sadness"]),
        ("13-convokit-jsonl", None, [2, 1], ["joy", "sadness", None]),
        ("14-semeval-emocontext/train.txt", None, [3, 3], [None, None, "happy", None, None, "angry"]),
        ("18-pickle-contents/float_labels.pkl", None, [2, 1], ["0", "1", "2"]),
        ("18-pickle-contents/nan_label.pkl", None, [2, 1], ["0", None, "2"]),
        ("18-pickle-contents/minus1.pkl", None, [2, 1], ["0", None, "2"]),
        ("18-pickle-contents/str_labels.pkl", None, [2, 1], ["neu", "hap", "sad"]),
        ("18-pickle-contents/bytes_labels.pkl", None, [2, 1], ["neu", "hap", "sad"]),
    ],
)
def test_labels_of_other_releases(place: str, dataset: str | None, lengths: list[int], expected: list[str | None]) -> None:
    corpus = load_corpus(CASES / place)
    assert corpus.provenance["dataset"] == dataset and corpus.lengths.tolist() == lengths and labels(corpus) == expected


def test_whole_numbers_are_classes_and_may_be_scores() -> None:
    path = CASES / "18-pickle-contents" / "float_labels.pkl"
    assert "count as classes" in notes(load_corpus(path))
    assert load_corpus(path, task="sentiment").target.tolist() == [0.0, 1.0, 2.0]


def test_convokit_is_ordered() -> None:
    assert load_corpus(CASES / "13-convokit-jsonl" / "reversed.jsonl").utterance_ids == ("u0", "u1")


def test_words_and_frames_of_mult_and_mag() -> None:
    mag = load_corpus(CASES / "19-mosei-mult-pickles" / "mosi_mag.pkl")
    assert mag.texts[0] == "HI THERE" and mag.sequences["audio"].item == (5,) and mag.task.name == "sentiment"
    mult = load_corpus(CASES / "19-mosei-mult-pickles" / "iemocap_data.pkl")
    assert len(mult) == 12 and set(mult.sequences) == {"text", "audio", "visual"} and mult.task.name == "iemocap4"
    for name in ("mmsa.pkl", "mmsa_inf.pkl"):
        assert load_corpus(CASES / "19-mosei-mult-pickles" / name).lengths.tolist() == [4, 2, 2]


@pytest.mark.parametrize(
    ("place", "match"),
    [
        ("19-mosei-mult-pickles/fet_single.pkl", "features of one clip, as MMSA-FET writes them"),
        ("41-cosmic-sentences/x_sentences.pkl", "read the file that has speakers, labels and sentences together"),
        ("41-cosmic-sentences/Speakers.pkl", "one text per utterance .* and no labels"),
        ("12-dailydialog-txt/dialogues_emotion.txt", "without a column for the text"),
        ("18-pickle-contents/frame.pkl", "save the table with"),
        ("18-pickle-contents/empty_dialogue.pkl", "dialogue 'd3' is empty"),
    ],
)
def test_what_is_refused_says_what_is_wanted(place: str, match: str) -> None:
    with pytest.raises(CorpusError, match=match):
        load_corpus(CASES / place)


# -- files that Windows had a hand in ------------------------------------------------------


@pytest.mark.parametrize("name", ["bom", "crlf", "fwd", "s_bom", "s_case", "s_val", "utf16"])
def test_manifests_and_splits_in_other_spellings(name: str) -> None:
    corpus = load_corpus(CASES / "32-windows-manifest" / f"{name}.toml")
    assert corpus.splits == {"train": ("d1",), "test": ("d2",)} and corpus.features["text"].shape == (3, 4)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("back.toml", "expected / between folders, write 'feat/text.npz'"),
        ("back2.toml", "expected / between folders, write 'feat/text.npz'"),
        ("curly.toml", "the file has curly quotes; TOML needs straight quotes"),
        ("s_utt.toml", "a split lists dialogues, not utterances"),
        ("splits.json", "a list of splits; expected annotations; give this file as `splits` in corpus.toml"),
    ],
)
def test_manifests_that_are_refused_with_the_way_out(name: str, match: str) -> None:
    with pytest.raises(CorpusError, match=match):
        load_corpus(CASES / "32-windows-manifest" / name)


@pytest.mark.parametrize(
    ("path", "words"), [(r"C:\data\t.npz", "a backslash in double quotes begins an escape"), (r"feat\u.npz", "a backslash in double")]
)
def test_a_backslash_that_is_no_escape(tmp_path: Path, path: str, words: str) -> None:
    (tmp_path / "corpus.toml").write_text(f'annotations = "t.csv"\n[features]\ntext = "{path}"\n')
    with pytest.raises(CorpusError, match=words):
        load_corpus(tmp_path)


# -- and everything near them --------------------------------------------------------------

ODD: list[Any] = [None, -1, 1.5, "x", "", [], {}, [1], {"a": 1}, True, [None], [[{}]], float("nan"), 10**30]
NOISE = (b'"', b",,", b"\n", b"nan", b"-1", b"__eou__", b"\xff", b";", b"\t", b"[")


def _mutated(value: Any, rng: random.Random) -> Any:
    """A JSON value with something odd, or nothing, somewhere in it."""
    node = value
    for _ in range(rng.randint(1, 6)):
        if not isinstance(node, dict | list) or not node:
            break
        key: Any = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
        if rng.random() < 0.4:
            if rng.random() < 0.3:
                del node[key]
            else:
                node[key] = copy.deepcopy(rng.choice(ODD))
            break
        node = node[key]
    return value


def test_files_with_a_fault_anywhere_are_read_or_refused_in_words(tmp_path: Path) -> None:
    rng = random.Random(5)
    files = sorted(path for path in CASES.rglob("*") if path.suffix in (".json", ".jsonl", ".csv", ".txt") and path.stat().st_size > 40)
    for number in range(600):
        path = files[number % len(files)]
        content = path.read_bytes()
        if path.suffix == ".json" and not content.startswith(b"\xef"):
            content = json.dumps(_mutated(json.loads(content), rng)).encode()
        elif path.suffix == ".jsonl":
            content = "\n".join(json.dumps(_mutated(json.loads(line), rng)) for line in content.splitlines() if line.strip()).encode()
        else:
            at = rng.randrange(len(content))
            content = content[:at] + rng.choice(NOISE) + content[at + rng.randint(0, 8) :]
        (tmp_path / path.name).write_bytes(content)
        try:
            load_corpus(tmp_path / path.name)
        except ErcGraphError as error:
            assert "of another format than expected" not in str(error), content[:500]
