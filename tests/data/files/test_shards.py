"""Files of any size are cut between conversations: nothing is lost, nothing comes twice, and each shard is read by itself."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from erc_graph.data.files import shards
from erc_graph.data.files.load import load_corpus
from erc_graph.data.files.shards import Shard, Source, cut, find_sources, records_of
from erc_graph.data.files.transcripts import load_transcript
from erc_graph.errors import CorpusError

Row = dict[str, Any]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of ten rows."""
    monkeypatch.setattr(shards, "TURNS", 10)


def rows_of(dialogues: int, seed: int = 0) -> list[Row]:
    """Conversations of one to nine turns."""
    chance = random.Random(seed)
    lengths = [chance.randint(1, 9) for _ in range(dialogues)]
    return [
        {"dialogue": f"d{number}", "speaker": f"s{turn % 2}", "text": f"{number} said {turn}"}
        for number, length in enumerate(lengths)
        for turn in range(length)
    ]


def source(path: Path) -> Source:
    return Source(path=path, name=path.name, size=path.stat().st_size)


def said(found: list[Shard]) -> list[tuple[str, str]]:
    """Conversation and text of every utterance of all shards, last shard first, as they may be worked on."""
    parts = []
    for shard in reversed(found):
        corpus = records_of(shard).corpus(shard.source.path.stem)
        parts.append([(corpus.dialogue_ids[place], text) for place, text in zip(corpus.dialogue_of.tolist(), corpus.texts, strict=True)])
    return [pair for part in reversed(parts) for pair in part]


@pytest.mark.parametrize("blank", ["", "\n", " \r\n"])
def test_lines_are_cut_between_conversations(tmp_path: Path, blank: str) -> None:
    rows = rows_of(30)
    (tmp_path / "talk.jsonl").write_text("\ufeff" + "".join(json.dumps(row) + "\n" + blank for row in rows), encoding="utf-8")
    found = list(cut(source(tmp_path / "talk.jsonl")))
    assert len(found) > 5 and [shard.number for shard in found] == list(range(len(found)))
    assert found[0].start == 0 and [a.stop for a in found[:-1]] == [b.start for b in found[1:]]
    assert sum(shard.share for shard in found) == pytest.approx(1)
    assert said(found) == [(row["dialogue"], row["text"]) for row in rows]
    assert all(len(records_of(shard).lines) >= 10 for shard in found[:-1])


@pytest.mark.parametrize("group", [7, 1000])
def test_rows_of_parquet_are_cut_between_conversations(tmp_path: Path, group: int) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    rows = rows_of(30, seed=1)
    for row in rows[:1]:
        row["text"] = None
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "talk.parquet", row_group_size=group)
    found = list(cut(source(tmp_path / "talk.parquet")))
    assert len(found) > 5 and [a.stop for a in found[:-1]] == [b.start for b in found[1:]]
    assert said(found) == [(row["dialogue"], row["text"] or "") for row in rows]


def test_whole_conversations_in_a_line_keep_their_places(tmp_path: Path) -> None:
    """Named by their id, or by their place in the file as where it is read in one piece."""
    lines: list[Any] = [[{"speaker": "a", "text": f"{i}"}] for i in range(35)]
    lines[3] = {"id": "three", "turns": lines[3]}
    lines[12] = {"id": "dialogue-2", "turns": lines[12]}
    (tmp_path / "talk.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = list(cut(source(tmp_path / "talk.jsonl")))
    assert [shard.first for shard in found] == [0, 10, 20, 30]
    names = [name for name, _ in said(found)]
    assert names[:4] == ["dialogue-0", "dialogue-1", "dialogue-2", "three"] and names[12] == "dialogue-2"
    assert [name for i, name in enumerate(names) if i not in (3, 12)] == [f"dialogue-{i}" for i in range(35) if i not in (3, 12)]
    del lines[12]["id"], lines[12]
    (tmp_path / "one.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    whole = load_transcript((tmp_path / "one.jsonl").read_bytes(), name="one")
    assert [name for name, _ in said(list(cut(source(tmp_path / "one.jsonl"))))] == list(whole.dialogue_ids)


def test_what_is_no_table_of_lines_is_one_shard(tmp_path: Path) -> None:
    (tmp_path / "pretty.jsonl").write_text(json.dumps(rows_of(30), indent=1))
    (tmp_path / "talk.txt").write_text("Ann: hi\n" * 50)
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 nothing")
    (tmp_path / "alone.jsonl").write_text("".join(json.dumps({"speaker": "a", "text": "hi"}) + "\n" for _ in range(50)))
    for path in tmp_path.iterdir():
        (shard,) = cut(source(path))
        assert shard.only and shard.name == path.name and (shard.stop is None) == (path.name != "alone.jsonl")


def test_records_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that cannot be read stands for itself, and casts doubt on the conversations beside it."""
    monkeypatch.setattr(shards, "TURNS", 100)
    rows = [json.dumps(row) for row in rows_of(3, seed=4)]
    lengths = Counter(json.loads(row)["dialogue"] for row in rows)
    rows.insert(lengths["d0"], "{broken")
    (tmp_path / "talk.jsonl").write_text("\n".join(rows))
    (shard,) = cut(source(tmp_path / "talk.jsonl"))
    assert records_of(shard).numbers == list(range(1, len(rows) + 1))
    parts = [(name, len(part.lines), part.spoilt) for name, part in records_of(shard).split()]
    bad = lengths["d0"] + 1
    expected = [("d0", lengths["d0"], bad), ("", 1, bad), ("d1", lengths["d1"], bad), ("d2", lengths["d2"], None)]
    assert parts == expected


def test_files_are_found_once_and_in_order(tmp_path: Path) -> None:
    for name in ("b/z.txt", "b/a.vtt", "b/deep/x.json", "b/a.wav", "b/.hidden", "out/old.jsonl", "a.txt", "c/corpus.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("Ann: hi")

    def names(*paths: str) -> list[str]:
        return [one.name for one in find_sources([str(tmp_path / path) for path in paths], tmp_path / "out")]

    assert names("") == ["a.txt", "b/a.vtt", "b/deep/x.json", "b/z.txt", "c"]
    assert names("b", "b/z.txt") == ["a.vtt", "deep/x.json", "z.txt"]
    assert names("b/z.txt", "b/a.vtt") == ["z.txt", "a.vtt"] and names("a.txt", "b/z.txt") == ["a.txt", "b/z.txt"]
    assert names("c") == ["c"] and [one.name for one in find_sources(["sample"])] == ["sample"]
    with pytest.raises(CorpusError, match=r"nowhere: no such file or folder; expected transcripts, JSON"):
        names("nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="empty: no files of conversations found"):
        names("empty")


def test_a_parquet_file_that_has_shrunk(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    parquet.write_table(pyarrow.Table.from_pylist(rows_of(2)), tmp_path / "talk.parquet")
    with pytest.raises(CorpusError, match=r"row 500: the file now has only \d+ rows, so it was changed"):
        records_of(Shard(source=source(tmp_path / "talk.parquet"), start=500, stop=600))


def test_runs_of_one_value_are_counted(tmp_path: Path) -> None:
    """A million rows take nothing in the file; it is one shard, which is refused before a row of it is read."""
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    same = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 1_000_000, pyarrow.int8()), ["d"])
    rows = pyarrow.table({"dialogue": same, "speaker": same, "text": same})
    parquet.write_table(rows, tmp_path / "talk.parquet")
    assert (tmp_path / "talk.parquet").stat().st_size < 10_000
    (shard,) = cut(source(tmp_path / "talk.parquet"))
    assert shard.only and shard.stop is None
    for read in (load_transcript, load_corpus):
        with pytest.raises(CorpusError, match=r"talk\.parquet: needs far more cells than its size allows, so it may be malicious"):
            read(shard.source.path)
    with pytest.raises(CorpusError, match="needs far more cells"):
        records_of(Shard(source=shard.source, stop=1))


def test_a_long_value_in_many_rows_is_bounded_where_it_is_cut(tmp_path: Path) -> None:
    """A name of a conversation of a megabyte, five thousand times: refused as memory, not built."""
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    long = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 5_000, pyarrow.int8()), ["d" * 1_000_000])
    parquet.write_table(pyarrow.table({"dialogue": long, "text": long}), tmp_path / "talk.parquet", compression="zstd")
    (shard,) = cut(source(tmp_path / "talk.parquet"))
    assert shard.stop is None
    with pytest.raises(CorpusError, match=r"talk\.parquet: needs far more memory than its size allows"):
        load_transcript(shard.source.path)


def test_parquet_needs_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(CorpusError, match=r"Parquet needs pyarrow; `pip install erc_graph\[parquet\]`, or save the table as JSON lines"):
        records_of(Shard(source=Source(path=tmp_path / "t.parquet", name="t"), stop=1))
