"""Files of sequences: three forms, the join to a corpus, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from erc_graph.data.digest import corpus_sha256
from erc_graph.data.files.load import load_corpus
from erc_graph.data.files.sequence_files import FRAMES, join_sequences, read_sequences, write_sequences
from erc_graph.data.files.storage import sha256
from erc_graph.data.ragged import Ragged
from erc_graph.errors import CorpusError

IDS = ["a", "b", "c"]
WORDS = Ragged.of([torch.arange(4.0).view(2, 2), torch.zeros(0, 2), torch.ones(1, 2)])


def write(folder: Path, form: str) -> Path:
    path = folder / f"words{form}"
    if form == ".safetensors":
        write_sequences(path, IDS, WORDS, {"model": "m"})
    elif form == ".npz":
        np.savez(path, utterance=np.array(IDS), values=WORDS.values.numpy(), offsets=WORDS.ptr.numpy())
    else:
        path.mkdir()
        for i, name in enumerate(IDS):
            np.save(path / f"{name}.npy", WORDS[i].numpy())
    return path


@pytest.mark.parametrize("form", [".safetensors", ".npz", ""])
def test_the_forms_say_the_same(tmp_path: Path, form: str) -> None:
    ids, read = read_sequences(write(tmp_path, form))
    assert ids == IDS and torch.equal(read.values, WORDS.values) and torch.equal(read.ptr, WORDS.ptr)


def test_bytes_stay_bytes_and_other_numbers_become_float32(tmp_path: Path) -> None:
    for dtype, expected in ((np.uint8, torch.uint8), (np.float64, torch.float32), (np.int16, torch.float32)):
        np.savez(tmp_path / "v.npz", utterance=np.array(["a"]), values=np.ones((2, 3), dtype), offsets=np.array([0, 2]))
        assert read_sequences(tmp_path / "v.npz")[1].values.dtype == expected


def test_images_are_bytes_with_the_channels_in_front(tmp_path: Path) -> None:
    faces = np.random.default_rng(0).integers(0, 256, (2, 6, 5, 3), np.uint8)
    (tmp_path / "faces").mkdir()
    np.save(tmp_path / "faces" / "a.npy", faces)
    notes: list[str] = []
    read = read_sequences(tmp_path / "faces", notes=notes)[1]
    assert read.item == (3, 6, 5) and np.array_equal(read.values.numpy(), faces.transpose(0, 3, 1, 2))
    assert notes == ["faces: images of shape (6, 5, 3); the channel axis is moved to the front"]
    np.save(tmp_path / "faces" / "a.npy", faces / 255)
    with pytest.raises(CorpusError, match=r"images of shape \(6, 5, 3\) with floating-point values; expected bytes \(uint8\)"):
        read_sequences(tmp_path / "faces")


def test_an_array_without_frames_is_a_missing_sequence(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((0, 3, 4, 4), np.uint8))
    np.save(tmp_path / "b.npy", np.ones((2, 3, 4, 4), np.uint8))
    ids, read = read_sequences(tmp_path)
    assert ids == ["a", "b"] and read.sizes == (0, 2) and read.item == (3, 4, 4)
    np.save(tmp_path / "b.npy", np.zeros((2, 0, 4, 4), np.uint8))
    with pytest.raises(CorpusError, match="items of one shape"):
        read_sequences(tmp_path)


def test_samples_are_in_minus_one_to_one(tmp_path: Path) -> None:
    for values in (np.array([3, -20000, 7], np.int16), np.array([3, 200], np.uint8)):
        np.savez(tmp_path / "v.npz", utterance=np.array(["a"]), values=values, offsets=np.array([0, len(values)]))
        with pytest.raises(
            CorpusError, match=r"samples up to 200.*; expected a waveform with samples in .-1, 1.; divide 16-bit samples by 32768"
        ):
            read_sequences(tmp_path / "v.npz")
    np.savez(tmp_path / "v.npz", utterance=np.array(["a"]), values=np.array([1.01, -np.inf, np.nan]), offsets=np.array([0, 3]))
    assert len(read_sequences(tmp_path / "v.npz")[1].values) == 3  # what is not finite is the business of the join


def test_a_folder_of_sound_files(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    folder = tmp_path / "wav"
    folder.mkdir()
    time = np.arange(8000) / 16000
    wave = 0.5 * np.sin(2 * np.pi * 440 * time)
    kinds = {"a.wav": "PCM_16", "b.flac": "PCM_24", "c.wav": "FLOAT", "d.wav": "PCM_24"}
    for name, kind in kinds.items():
        soundfile.write(folder / name, wave if name != "d.wav" else np.stack([wave, wave], 1), 16000, subtype=kind)
    soundfile.write(folder / "e.wav", wave[::2], 8000)
    soundfile.write(folder / "f.wav", np.repeat(wave, 2), 32000)
    notes: list[str] = []
    ids, read = read_sequences(folder, notes=notes)
    assert ids == ["a", "b", "c", "d", "e", "f"] and read.item == () and read.values.dtype == torch.float32
    for i in range(4):
        assert np.abs(read[i].numpy() - wave).max() < 1e-4
    assert abs(read.sizes[4] - 8000) <= 1 and np.abs(read[4][100:7900].numpy() - wave[100:7900]).max() < 5e-3
    assert notes == ["wav: audio files are resampled to 16000 Hz: 1 of 8000 Hz, 1 of 32000 Hz"]


def test_bad_sound_files_are_left_out_and_named(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    folder = tmp_path / "wav"
    folder.mkdir()
    (folder / "a.wav").write_bytes(b"RIFF nonsense")
    soundfile.write(folder / "b.wav", np.zeros(100), 16000)
    with pytest.raises(CorpusError, match=r"wav: none of 2 audio files can be used; the first error: a.wav: not a readable audio file"):
        read_sequences(folder)
    soundfile.write(folder / "c.wav", np.linspace(-0.5, 0.5, 100), 16000)
    (tmp_path / "turns.csv").write_text("dialogue,turn,speaker,text,label,utterance\nd,0,A,Hi,joy,c\nd,1,B,Oh,fear,b\nd,2,A,No,joy,a\n")
    (tmp_path / "corpus.toml").write_text('annotations = "turns.csv"\n[sequences]\naudio = "wav"\n')
    corpus = load_corpus(tmp_path)
    assert corpus.sequences["audio"].present.tolist() == [True, False, False]
    assert any(note.startswith("wav: 2 of 3 audio files are left out; the first error: a.wav") for note in corpus.provenance["notes"])
    with pytest.raises(
        CorpusError,
        match=r"wav: 2 of 3 audio files cannot be used, which the option `strict` does not allow; "
        r"the first error: a.wav: not a readable audio file",
    ):
        load_corpus(tmp_path, strict=True)
    (folder / "c.npy").write_bytes(b"")
    with pytest.raises(CorpusError, match=r"wav: contains 1 .npy files and 3 audio files; expected files of one kind"):
        read_sequences(folder)


def test_of_two_files_of_one_utterance_the_first_kind_is_taken_with_a_note(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    soundfile = pytest.importorskip("soundfile")
    for name, samples in (("a.wav", 100), ("a.flac", 200)):
        soundfile.write(tmp_path / name, np.linspace(-0.5, 0.5, samples), 16000)
    assert read_sequences(tmp_path)[1].sizes == (100,)
    assert "1 utterances have several files, such as a; only the first file of each is used" in caplog.messages[0]


def test_joined_by_id() -> None:
    joined, report = join_sequences(IDS, WORDS, ["c", "x", "a"], where="sequences.text (w.npz)")
    assert joined.sizes == (1, 0, 2) and torch.equal(joined[0], WORDS[2]) and torch.equal(joined[2], WORDS[0])
    assert report == [
        "sequences.text (w.npz): 1 of 3 rows match no utterance (first: b)",
        "sequences.text (w.npz): 1 of 3 utterances have no row and count as missing (first: x)",
    ]
    assert join_sequences(IDS, WORDS, IDS)[0].values.data_ptr() == WORDS.values.data_ptr()  # nothing copied
    with pytest.raises(CorpusError, match="belong to another corpus"):
        join_sequences(IDS, WORDS, ["x"])


def test_items_that_are_not_finite_are_left_out() -> None:
    values = torch.tensor([[1.0, 2.0], [float("-inf"), 0.0], [3.0, float("nan")], [4.0, 5.0]])
    broken = Ragged(values, torch.tensor([0, 2, 3, 4]))
    joined, report = join_sequences(IDS, broken, ["c", "b", "a"])
    assert joined.sizes == (1, 0, 1) and joined.values.tolist() == [[4.0, 5.0], [1.0, 2.0]]
    assert report == ["sequences: words, frames or samples with NaN, inf or numbers beyond 1e15 are left out: 2 (first in a)"]
    with pytest.raises(
        CorpusError,
        match=r"words, frames or samples with NaN, inf or numbers beyond 1e15: 2 .first in a., "
        "which the option `strict` does not allow",
    ):
        join_sequences(IDS, broken, IDS, strict=True)


def bad(path: Path, **arrays: np.ndarray) -> Path:
    good = {"utterance": np.array(IDS), "values": WORDS.values.numpy(), "offsets": WORDS.ptr.numpy()}
    np.savez(path, **{name: value for name, value in {**good, **arrays}.items() if value is not None})
    return path


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"offsets": np.array([0, 2, 2])}, "3 utterance ids but offsets of shape .3,."),
        ({"offsets": np.array([0, 2, 1, 3])}, "increase from 0 to 3"),
        ({"offsets": np.array([0.0, 2, 2, 3])}, "expected integers"),
        ({"utterance": np.array(["a", "a", "c"])}, "'a' occurs twice"),
        ({"values": np.array(["x", "y", "z"])}, "expected numbers"),
        ({"values": np.zeros((3, 0))}, "expected `values` of shape"),
        ({"values": None}, "no array 'values'"),
        ({"values": np.array([None, 1, 2], dtype=object)}, "can run code"),
    ],
)
def test_broken_archives(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        read_sequences(bad(tmp_path / "w.npz", **arrays))


def test_other_broken_files(tmp_path: Path) -> None:
    save_file({"values": torch.zeros(2, 2), "offsets": torch.tensor([0, 2])}, tmp_path / "no_ids.safetensors")
    save_file({"values": torch.zeros(2, 2)}, tmp_path / "no_offsets.safetensors", {"utterance": json.dumps(["a"])})
    save_file(
        {"values": torch.zeros(2, 2), "offsets": torch.tensor([0.0, 2.0])}, tmp_path / "float.safetensors", {"utterance": json.dumps(["a"])}
    )
    (tmp_path / "broken.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    (tmp_path / "empty").mkdir()
    (tmp_path / "mixed").mkdir()
    np.save(tmp_path / "mixed" / "a.npy", np.zeros((2, 3)))
    np.save(tmp_path / "mixed" / "b.npy", np.zeros((2, 4)))
    np.save(tmp_path / "one.npy", np.zeros((2, 4)))
    for name, message in (
        ("no_ids.safetensors", "no key 'utterance'"),
        ("no_offsets.safetensors", "no tensor 'offsets'"),
        ("float.safetensors", "expected integers"),
        ("broken.safetensors", "not a readable safetensors file"),
        ("empty", "contains no readable file"),
        ("mixed", "items of one shape .3,. in all files of the folder, found an array of shape .2, 4."),
        ("one.npy", "not a file of sequences"),
    ):
        with pytest.raises(CorpusError, match=message):
            read_sequences(tmp_path / name)


def corpus_folder(folder: Path) -> Path:
    (folder / "turns.csv").write_text(
        "dialogue,turn,speaker,text,label,utterance\nd,0,Ann,hello,joy,a\nd,1,Bob,,anger,b\ne,0,Ann,no,joy,c\n"
    )
    write(folder, ".safetensors")
    (folder / "corpus.toml").write_text('annotations = "turns.csv"\n[sequences]\ntext = "words.safetensors"\n')
    return folder


def test_a_manifest_names_sequences_and_the_saved_form_keeps_them(tmp_path: Path) -> None:
    corpus = load_corpus(corpus_folder(tmp_path))
    assert "text sequences of 2" in repr(corpus) and corpus.sequences["text"].sizes == (2, 0, 1)
    part = corpus["e"].corpus
    assert part.sequences["text"].sizes == (1,) and torch.equal(part.sequences["text"].values, WORDS[2])
    batch = corpus.batch((), ["text"]).select(torch.tensor([1, 0]))
    assert batch.sequences["text"].sizes == (1, 2, 0)
    corpus.save(tmp_path / "saved")
    again = load_corpus(tmp_path / "saved", strict=True)
    assert torch.equal(again.sequences["text"].values, WORDS.values) and corpus_sha256(again) == corpus_sha256(corpus)
    assert json.loads((tmp_path / "saved" / "corpus.json").read_text())["version"] == 2
    with pytest.raises(CorpusError, match="no sequences 'audio'; found in the corpus: text"):
        corpus.batch((), ["audio"])


def test_sequences_count_in_the_digest(tmp_path: Path) -> None:
    corpus = load_corpus(corpus_folder(tmp_path))
    changed = replace(corpus, sequences={"text": Ragged(WORDS.values + 1, WORDS.ptr)})
    assert len({corpus_sha256(corpus), corpus_sha256(changed), corpus_sha256(replace(corpus, sequences={}))}) == 3


def test_folders_of_pictures_are_face_frames(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 6, 4, 3), dtype=np.uint8)
    for name, count in (("u1", 2), ("u2", 3), ("u.3", 40)):
        (tmp_path / "faces" / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(frames[i % 5]).save(tmp_path / "faces" / name / f"{i:02d}.png")
    (tmp_path / "faces" / "u4").mkdir()
    before = sha256(tmp_path / "faces")
    Image.fromarray(frames[1]).save(tmp_path / "faces" / "u1" / "00.png")
    assert sha256(tmp_path / "faces") != before  # a changed picture is another corpus
    Image.fromarray(frames[0]).save(tmp_path / "faces" / "u1" / "00.png")
    assert sha256(tmp_path / "faces") == before
    notes: list[str] = []
    ids, found = read_sequences(tmp_path / "faces", notes=notes)
    assert ids == ["u.3", "u1", "u2"] and found.item == (3, 6, 4) and found.lengths.tolist() == [FRAMES, 2, 3]
    assert found.values.dtype == torch.uint8 and torch.equal(found[2], torch.from_numpy(frames[:3].transpose(0, 3, 1, 2)))
    assert notes == ["faces: 1 of 4 folders of images are left out; the first error: u4: contains no face frames"]
    with pytest.raises(CorpusError, match="1 of 4 folders of images cannot be used, which the option `strict` does not allow"):
        read_sequences(tmp_path / "faces", strict=True)
    Image.fromarray(frames[0][:2]).save(tmp_path / "faces" / "u4" / "small.png")
    with pytest.raises(CorpusError, match=r"expected images of one size, found 6 x 4 in u\.3 and 2 x 4 in u4"):
        read_sequences(tmp_path / "faces")
    (tmp_path / "faces" / "talk.mp4").touch()
    with pytest.raises(CorpusError, match="1 videos and 4 folders of images; expected files of one kind"):
        read_sequences(tmp_path / "faces")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="contains no readable file; expected per utterance one"):
        read_sequences(tmp_path / "empty")
