from __future__ import annotations

import json
import math
import os
import resource
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from erc_graph.data.files import storage
from erc_graph.data.files.storage import atomic_folder, atomic_write, load_tensors, save_tensors, sha256, write_json
from erc_graph.errors import CheckpointError, StorageError


@pytest.fixture
def small_files():
    """No file may grow beyond 64 KiB: what a full disk looks like from inside a process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="midway"), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("midway")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_write_makes_missing_folders_and_replaces_the_file(tmp_path):
    path = tmp_path / "deep" / "er" / "a.json"
    for value in ([1], [2]):
        write_json(path, value)
    assert json.loads(path.read_text()) == [2]
    assert os.listdir(path.parent) == ["a.json"]


@pytest.mark.parametrize("write", [lambda p: save_tensors(p, {"x": torch.zeros(100_000)}), lambda p: write_json(p, [0] * 100_000)])
def test_no_room_is_a_storage_error_and_leaves_nothing(tmp_path, small_files, write):
    with pytest.raises(StorageError, match=r"big: could not be written \(File too large\).*choose another folder"):
        write(tmp_path / "big")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("code", "advice"), [("ENOSPC", "free some space"), ("EACCES", "may write to"), ("EIO", "check the path")])
def test_the_advice_fits_the_error(tmp_path, monkeypatch, code, advice):
    import errno

    def refuse(*_):
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(StorageError, match=advice) as error:
        write_json(tmp_path / "a.json", 1)
    assert str(tmp_path / "a.json") in str(error.value)
    assert os.listdir(tmp_path) == []


def test_a_file_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="a part of the path is a file"):
        write_json(tmp_path / "file" / "a.json", 1)
    with pytest.raises(StorageError, match="is a file; expected a new folder"), atomic_folder(tmp_path / "file", ["a"]):
        pass


@pytest.mark.parametrize("name", ["", ".", "/"])
def test_a_folder_in_use_is_not_replaced(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for write in (atomic_write, lambda path: atomic_folder(path, ["a"])):
        with pytest.raises(StorageError, match="expected the name of a new file or folder"), write(name):
            pass
    assert os.listdir(tmp_path) == []


def test_a_name_that_is_too_long(tmp_path):
    for write in (atomic_write, lambda path: atomic_folder(path, ["a"])):
        with pytest.raises(StorageError, match=r"could not be written .*choose a shorter name"), write(tmp_path / ("n" * 300)) as temporary:
            temporary.write_text("never there")
    assert os.listdir(tmp_path) == []


def test_json_of_what_results_are_made_of(tmp_path):
    value = {
        "mean": np.float32(0.5), "values": np.arange(2), "tensor": torch.ones(2), "n": np.int64(3), "path": Path("a/b"),
        "set": frozenset("ba"), "tuple": (1, None, True), "nan": math.nan, "inf": float("inf"), 7: "key", "odd": "é\ud800\n\"😀",
    }  # fmt: skip
    write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {
        "mean": 0.5, "values": [0, 1], "tensor": [1.0, 1.0], "n": 3, "path": "a/b", "set": ["a", "b"], "tuple": [1, None, True],
        "nan": None, "inf": None, "7": "key", "odd": "é\ud800\n\"😀",
    }  # fmt: skip


def test_tensors_come_back_whatever_their_layout(tmp_path):
    whole = torch.arange(12.0).view(3, 4)
    tensors = {
        "whole": whole,
        "again": whole,
        "transposed": whole.t(),
        "slice": whole[1:, ::2],
        "bool": whole > 3,
        "empty": whole[:0],
    }
    save_tensors(tmp_path / "a.safetensors", tensors, {"who": "me"})
    loaded, metadata = load_tensors(tmp_path / "a.safetensors")
    assert metadata == {"who": "me"}
    assert loaded.keys() == tensors.keys()
    for name, value in tensors.items():
        assert torch.equal(loaded[name], value) and loaded[name].dtype == value.dtype


def test_the_same_content_gives_the_same_bytes(tmp_path):
    metadata = {"zeta": 'é"\n\t\x01\x7f\u2028😀\\', **{str(i): "x" * i for i in range(20)}}
    digests = set()
    for _ in range(5):
        save_tensors(tmp_path / "a", {"b": torch.ones(3), "a": torch.zeros(2)}, metadata)
        digests.add(sha256(tmp_path / "a"))
        assert load_tensors(tmp_path / "a")[1] == metadata
    assert len(digests) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_tensors_are_memory_mapped(tmp_path):
    save_tensors(tmp_path / "mapped.safetensors", {"x": torch.zeros(10)})
    loaded, _ = load_tensors(tmp_path / "mapped.safetensors")
    assert "mapped.safetensors" in Path("/proc/self/maps").read_text()
    assert loaded["x"].sum() == 0


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_every_file_has_the_mode_that_the_umask_gives(tmp_path, umask):
    old = os.umask(umask)
    try:
        save_tensors(tmp_path / "a.safetensors", {"x": torch.ones(2)}, {"b": "1"})
        write_json(tmp_path / "a.json", {})
    finally:
        os.umask(old)
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == dict.fromkeys(
        ("a.safetensors", "a.json"), 0o666 & ~umask
    )


def test_damaged_tensors(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(CheckpointError, match="no such file"):
        load_tensors(path)
    save_tensors(path, {"x": torch.zeros(100)})
    whole = path.read_bytes()
    for damaged in (b"", b"garbage", whole[:-1], b"\xff" * 8 + whole[8:], whole[:8] + b"}" + whole[9:]):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"a\.safetensors: not a readable safetensors file"):
            load_tensors(path)


def test_a_folder_is_all_or_nothing(tmp_path):
    target = tmp_path / "out"
    with atomic_folder(target, ["a", "b"]) as temporary:
        (temporary / "a").write_text("1")
    with pytest.raises(RuntimeError, match="midway"), atomic_folder(target, ["a", "b"]) as temporary:
        (temporary / "a").write_text("2")
        raise RuntimeError("midway")
    assert (target / "a").read_text() == "1"
    with atomic_folder(target, ["a", "b"]) as temporary:
        (temporary / "b").write_text("3")
    assert os.listdir(target) == ["b"]
    assert os.listdir(tmp_path) == ["out"]


def test_the_old_folder_returns_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    target = tmp_path / "out"
    target.mkdir()
    (target / "a").write_text("1")
    rename, calls = os.rename, []

    def second_fails(source, destination):
        calls.append(source)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        rename(source, destination)

    monkeypatch.setattr(storage, "_exchange", lambda one, other: False)
    monkeypatch.setattr(os, "rename", second_fails)
    with pytest.raises(StorageError, match="Input/output error"), atomic_folder(target, ["a"]) as temporary:
        (temporary / "a").write_text("2")
    assert (target / "a").read_text() == "1"
    assert os.listdir(tmp_path) == ["out"]


def test_a_folder_with_other_content_is_never_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(StorageError, match=r"contains other files \(thesis.tex\)"), atomic_folder(tmp_path, ["a"]) as temporary:
        (temporary / "a").write_text("1")
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_digests(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    before = sha256(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert sha256(tmp_path) != before
