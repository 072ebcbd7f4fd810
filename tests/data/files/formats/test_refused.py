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
    with pytest.raises(CorpusError, match="compressed, HDF5"):
        read_annotations(tmp_path / "a.gz")
    (tmp_path / "a.json").write_text("[[{")
    with pytest.raises(CorpusError, match="truncated or corrupt JSON"):
        read_annotations(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("[" * 200_000)
    with pytest.raises(CorpusError, match="truncated or corrupt JSON"):
        read_annotations(tmp_path / "a.json")
