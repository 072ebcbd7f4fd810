"""Files that are known and not read: one sentence says what they are and what to do."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from erc_graph.data.files.formats import read_annotations
from erc_graph.errors import CorpusError


def test_archives_and_other_containers(tmp_path: Path) -> None:
    for names, match in (
        (["train_corpus.npy"], "MERBench"),
        (["archive/data.pkl"], "a PyTorch file"),
        (["utterance.npy", "features.npy"], r"under `\[features\]`"),
        (["x.txt"], "a zip archive of 1 files"),
    ):
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            for name in names:
                archive.writestr(name, b"")
        with pytest.raises(CorpusError, match=match):
            read_annotations(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(CorpusError, match="a zip archive"):
        read_annotations(tmp_path / "a.npz")
    (tmp_path / "a.gz").write_bytes(b"\x1f\x8b\x08\x00")
    with pytest.raises(CorpusError, match=r"compressed \(gzip\): unpack it"):
        read_annotations(tmp_path / "a.gz")
    (tmp_path / "a.json").write_text("[[{")
    with pytest.raises(CorpusError, match="truncated or corrupt JSON"):
        read_annotations(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("[" * 200_000)
    with pytest.raises(CorpusError, match="truncated or corrupt JSON"):
        read_annotations(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a pointer of Git LFS, .* `git lfs pull`"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html><html>", "a web page: a page was downloaded instead of the file"),
        (b"<HTML>", "a web page"),
        (b"%PDF-1.7", "a PDF: copy its text"),
        (b"{\\rtf1 hi}", r"Rich Text \(RTF\): save it as plain text"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "an old file of Excel or Word: save a table as .xlsx or CSV"),
        (b"ARROW1\0\0", r"an Arrow \(Feather\) file: save it as Parquet or CSV"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b"\x89HDF\r\n", "HDF5"),
        (b"\x93NUMPY\x01", "a numpy array: expected annotations; name features"),
        (b"RIFF\0\0\0\0WAVE", "an audio or video file"),
        (b"x\x9c\xcb", r"compressed with zlib, as by joblib"),
    ],
)
def test_files_of_other_kinds_are_named_with_the_way_out(tmp_path: Path, content: bytes, match: str) -> None:
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(CorpusError, match=match):
        read_annotations(tmp_path / "x.csv")


@pytest.mark.parametrize(
    "text",
    [
        "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\nAnn: Hi, there\n",
        "1\n00:00:01,000 --> 00:00:02,000\nAnn: Hi, there\n",
        "Ann: Hi\nBob: Well, oh\nAnn: yes\n",
        "Ann: Hi, all\nBob: Well\nAnn: yes\n",
    ],
)
def test_a_transcript_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "talk.txt").write_text(text)
    with pytest.raises(
        CorpusError, match=r"talk\.txt: looks like a transcript, which `erc-graph predict` reads; a corpus is expected here"
    ):
        read_annotations(tmp_path / "talk.txt")


def test_a_table_with_colons_is_none(tmp_path: Path) -> None:
    (tmp_path / "talk.csv").write_text("text\nAnn: Hi\nBob: Oh\n")
    assert read_annotations(tmp_path / "talk.csv").texts == ["Ann: Hi", "Bob: Oh"]
