from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from erc_graph.data.files import pictures as module
from erc_graph.data.files.pictures import evenly_spaced, read_frames
from erc_graph.errors import ConfigError, CorpusError

FRAMES = np.random.default_rng(0).integers(0, 256, (6, 3, 10, 8), dtype=np.uint8)


def test_arrays_of_both_layouts_and_folders_of_pictures_are_the_same(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", FRAMES)
    np.save(tmp_path / "b.npy", FRAMES.transpose(0, 2, 3, 1))
    (tmp_path / "c").mkdir()
    for i, frame in enumerate(FRAMES):
        Image.fromarray(frame.transpose(1, 2, 0)).save(tmp_path / "c" / f"{i:02d}.png")
    (tmp_path / "c" / "notes.txt").touch()
    for name in ("a.npy", "b.npy", "c"):
        assert torch.equal(read_frames(tmp_path / name, 32), torch.from_numpy(FRAMES))
        assert torch.equal(read_frames(tmp_path / name, 2), torch.from_numpy(FRAMES[evenly_spaced(6, 2)]))


def test_a_video(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.mkv"), "w") as video:
        stream = video.add_stream("ffv1", rate=10)  # without loss
        stream.width, stream.height, stream.pix_fmt = 16, 32, "bgr0"
        for shade in range(0, 250, 25):
            frame = np.full((32, 16, 3), shade, dtype=np.uint8)
            frame[:, :, 0] = 5
            video.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        video.mux(stream.encode())
    frames = read_frames(tmp_path / "a.mkv", 5)
    assert frames.shape == (5, 3, 32, 16) and frames[:, 1, 0, 0].tolist() == [25 * i for i in evenly_spaced(10, 5)]
    assert (frames[:, 0] == 5).all()
    (tmp_path / "b.mp4").write_bytes(b"no video")
    with pytest.raises(CorpusError, match=r"b.mp4: not a video that can be read"):
        read_frames(tmp_path / "b.mp4", 5)


def test_a_video_without_the_library_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "a.mp4").touch()
    with pytest.raises(ConfigError, match=r'pip install "erc_graph\[vision\]".*or give a folder of images'):
        read_frames(tmp_path / "a.mp4", 5)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((0, 3, 4, 4), np.uint8), "a.npy: contains no face frames"),
        (np.zeros((2, 3, 4, 4)), "found float64 of shape"),
        (np.zeros((2, 4, 4), np.uint8), r"expected a uint8 array of frames, of shape \(T, 3, H, W\)"),
    ],
)
def test_arrays_that_are_no_frames(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(CorpusError, match=message):
        read_frames(tmp_path / "a.npy", 4)


def test_folders_that_have_no_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CorpusError, match="contains no face frames"):
        read_frames(tmp_path, 4)
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(CorpusError, match=r"a.png: not a readable image"):
        read_frames(tmp_path, 4)
    for i, size in enumerate(((4, 4), (4, 5))):
        Image.new("L", size).save(tmp_path / f"{'ab'[i]}.png")
    with pytest.raises(CorpusError, match="images of 2 different sizes"):
        read_frames(tmp_path, 4)
    monkeypatch.setattr(module, "MOST_PIXELS", 15)
    with pytest.raises(CorpusError, match=r"a.png: an image of 4 x 4 pixels; expected at most 15"):
        read_frames(tmp_path, 4)
