from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from erc_graph.data.files.feature_files import read_features
from erc_graph.data.files.sequence_files import read_sequences
from erc_graph.data.files.storage import load_tensors
from erc_graph.errors import CheckpointError, CorpusError, StorageError
from erc_graph.features import extract as module
from erc_graph.features.extract import Extraction, extract
from erc_graph.features.processes import Share

IDS = [f"u{i}" for i in range(10)]
SIZES = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3]


def vector(row: int) -> Tensor:
    return torch.tensor([row, SIZES[row]], dtype=torch.float32)


def task(**changes: object) -> Extraction:
    plain = Extraction(
        ids=IDS, sizes=SIZES, compute=lambda rows: [vector(row) for row in rows], budget=10, sequences=False, note={"model": "m"}
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_rows_belong_to_their_utterances_and_the_file_says_what_made_it(tmp_path: Path) -> None:
    out = tmp_path / "new" / "text.safetensors"
    assert extract(out, task(), quiet=True) == {}
    ids, array = read_features(out)
    assert ids == IDS and torch.equal(torch.from_numpy(array), torch.stack([vector(i) for i in range(10)]))
    assert json.loads(load_tensors(out)[1]["note"]) == {"model": "m", "left_out": 0}
    assert [path.name for path in out.parent.iterdir()] == ["text.safetensors"]


def test_sequences(tmp_path: Path) -> None:
    out = tmp_path / "words.safetensors"
    extract(out, task(compute=lambda rows: [torch.full((SIZES[row], 2), float(row)) for row in rows], sequences=True), quiet=True)
    ids, words = read_sequences(out)
    assert ids == IDS and words.sizes == tuple(SIZES) and all(float(words[i].mean()) == i for i in range(10))


def test_a_killed_run_goes_on_and_does_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", -1.0)  # every batch is a part
    asked: list[int] = []

    def stop_at(last: int) -> object:
        def compute(rows: list[int]) -> list[Tensor]:
            if len(asked) >= last:
                raise KeyboardInterrupt
            asked.extend(rows)
            return [vector(row) for row in rows]

        return compute

    out = tmp_path / "text.safetensors"
    with pytest.raises(KeyboardInterrupt):
        extract(out, task(compute=stop_at(4)), quiet=True)
    assert not out.exists() and 4 <= len(asked) < 10
    (tmp_path / "text.safetensors.parts" / ".00000099.safetensors.1.tmp").write_bytes(b"half")  # what a kill leaves of a write
    extract(out, task(compute=stop_at(100)), quiet=True)
    assert sorted(asked) == list(range(10))
    assert read_features(out)[0] == IDS and not (tmp_path / "text.safetensors.parts").exists()


def test_other_settings_or_utterances_do_not_go_on_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(rows: list[int]) -> list[Tensor]:
        if any(tmp_path.rglob("0*.safetensors")):
            raise KeyboardInterrupt
        return [vector(row) for row in rows]

    monkeypatch.setattr(module, "SECONDS", -1.0)
    out = tmp_path / "text.safetensors"
    with pytest.raises(KeyboardInterrupt):
        extract(out, task(compute=stop), quiet=True)
    for other in (task(note={"model": "another"}), task(ids=[*IDS[:-1], "v"]), task(inputs="other texts")):
        with pytest.raises(CheckpointError, match="partial files of another run"):
            extract(out, other, quiet=True)
    (tmp_path / "b.safetensors.parts").mkdir()
    (tmp_path / "b.safetensors.parts" / "mine.txt").write_text("")
    with pytest.raises(StorageError, match="this folder exists, but does not belong to an interrupted run; remove the folder"):
        extract(tmp_path / "b.safetensors", task(), quiet=True)


def test_processes_divide_the_batches(tmp_path: Path) -> None:
    asked: dict[int, list[int]] = {0: [], 1: []}

    def compute(number: int) -> object:
        return lambda rows: [asked[number].extend(rows), [vector(row) for row in rows]][1]

    out, first = tmp_path / "text.safetensors", tmp_path / "text.safetensors.parts"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "wait_for", lambda done: None)
        patch.setattr(module, "_assemble", lambda *_: {})
        extract(out, task(compute=compute(0)), share=Share(0, 2), quiet=True)
    assert asked[0] and not out.exists() and first.is_dir()
    assert extract(out, task(compute=compute(1)), share=Share(1, 2), quiet=True) == {}
    extract(out, task(compute=compute(0)), share=Share(0, 1), quiet=True)
    assert sorted(asked[0] + asked[1]) == list(range(10)) and read_features(out)[0] == IDS


def test_what_cannot_be_computed_is_left_out_with_its_reason(tmp_path: Path) -> None:
    out = tmp_path / "text.safetensors"

    def compute(rows: list[int]) -> list[Tensor | str]:
        return ["silent" if row in (2, 7) else vector(row) for row in rows]

    assert extract(out, task(compute=compute), quiet=True) == {"u2": "silent", "u7": "silent"}
    assert read_features(out)[0] == [name for name in IDS if name not in ("u2", "u7")]
    assert json.loads(load_tensors(out)[1]["note"])["left_out"] == 2
    with pytest.raises(CorpusError, match=r"no utterance has features \(reason for u\d: broken\); correct the input"):
        extract(tmp_path / "b.safetensors", task(compute=lambda rows: ["broken"] * len(rows)), quiet=True)

    def stop(rows: list[int]) -> list[Tensor | str]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(tmp_path / "b.safetensors", task(compute=stop), quiet=True)
    (tmp_path / "c.safetensors").mkdir()
    with pytest.raises(StorageError, match="expected a file to write, found a folder"):
        extract(tmp_path / "c.safetensors", task(), quiet=True)
    assert not list(tmp_path.glob("*.parts"))  # nothing that a mended run would be refused for
    assert extract(tmp_path / "b.safetensors", task(note={"model": "mended"}), quiet=True) == {}


def test_sixteen_bits_and_what_they_do_not_hold(tmp_path: Path) -> None:
    out, large = tmp_path / "text.safetensors", task(compute=lambda rows: [vector(row) * 1e4 for row in rows])
    with pytest.raises(
        CorpusError, match=r"numbers up to 90000, but 16-bit numbers \(--half\) are at most 65504; omit --half; finished features are kept"
    ):
        extract(out, replace(large, half=True), quiet=True)
    extract(out, replace(large, compute=lambda rows: pytest.fail("computed again")), quiet=True)
    assert load_tensors(out)[0]["features"].max() == 9e4
    words = task(compute=lambda rows: [torch.full((SIZES[row], 2), float(row)) for row in rows], sequences=True, half=True)
    extract(tmp_path / "words.safetensors", words, quiet=True)
    assert load_tensors(tmp_path / "words.safetensors")[0]["values"].dtype == torch.float16
    assert read_sequences(tmp_path / "words.safetensors")[1].values.dtype == torch.float32
