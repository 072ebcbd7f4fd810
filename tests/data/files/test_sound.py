from __future__ import annotations

import builtins
from pathlib import Path

import numpy as np
import pytest
import torch

from erc_graph.data.files import sound as module
from erc_graph.data.files.sound import read_header, read_sound
from erc_graph.errors import ConfigError, CorpusError

soundfile = pytest.importorskip("soundfile")


def tone(rate: int, seconds: float = 0.5, hertz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)


@pytest.mark.parametrize("ending", [".wav", ".flac"])
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_any_rate_and_any_number_of_channels_become_mono_at_16_khz(tmp_path: Path, rate: int, ending: str) -> None:
    both = np.stack([tone(rate), 0 * tone(rate)], 1)
    soundfile.write(tmp_path / f"a{ending}", both, rate)
    wave = read_sound(tmp_path / f"a{ending}")
    expected = torch.from_numpy(tone(16000) / 2).float()
    assert wave.dtype == torch.float32 and abs(len(wave) - 8000) <= 1
    torch.testing.assert_close(wave[500:7500], expected[500:7500], atol=2e-3, rtol=0)
    about = read_header(tmp_path / f"a{ending}")
    assert (about.rate, about.channels, about.seconds) == (rate, 2, 0.5)


def test_what_is_too_long_is_cut(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(8000, 2.0), 8000)
    assert len(read_sound(tmp_path / "a.wav", seconds=0.25)) == 4000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no sound at all", "a.wav: not a readable audio file"),
        (b"", "a.wav: not a readable audio file"),
        (np.zeros(0), "a.wav: empty; it contains no samples"),
        (np.zeros(800), "a.wav: silent; all samples are equal"),
        (np.full(800, 0.25), "a.wav: silent; all samples are equal"),
        (np.full(800, np.nan), "a.wav: expected samples that are numbers, found NaN or inf"),
    ],
)
def test_bad_files_say_what_is_wrong(tmp_path: Path, content: bytes | np.ndarray, message: str) -> None:
    if isinstance(content, bytes):
        (tmp_path / "a.wav").write_bytes(content)
    else:
        soundfile.write(tmp_path / "a.wav", content, 16000, subtype="FLOAT")
    with pytest.raises(CorpusError, match=message):
        read_sound(tmp_path / "a.wav")


def test_a_header_that_would_make_gigabytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.wav", tone(8000), 1)
    with pytest.raises(CorpusError, match=r"a\.wav: expected a sampling rate of 1000 Hz or more, found 1; the header may be damaged"):
        read_sound(tmp_path / "a.wav")
    soundfile.write(tmp_path / "b.wav", tone(1000, 2.0), 1000)
    assert len(read_sound(tmp_path / "b.wav")) == 32_000
    monkeypatch.setattr(module, "LONGEST", 1)
    with pytest.raises(CorpusError, match=r"b\.wav: expected up to 0 hours, found 0\.0; cut the recording into utterances"):
        read_sound(tmp_path / "b.wav")


def write_video(path: Path, *, rate: int = 22050, sound: bool = True, seconds: float = 1.0) -> Path:
    """A video of a grey picture and, on two channels, a tone and silence."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as video:
        picture = video.add_stream("mpeg4", rate=5)
        picture.width = picture.height = 16
        picture.pix_fmt = "yuv420p"
        stream = video.add_stream("aac", rate=rate, layout="stereo") if sound else None
        for _ in range(int(5 * seconds)):
            video.mux(picture.encode(av.VideoFrame.from_ndarray(np.full((16, 16, 3), 99, np.uint8), format="rgb24")))
        video.mux(picture.encode(None))
        if stream is not None:
            both = np.stack([tone(rate, seconds), 0 * tone(rate, seconds)]).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(both), format="fltp", layout="stereo")
            frame.sample_rate = rate
            video.mux(stream.encode(frame))
            video.mux(stream.encode(None))
    return path


def test_the_sound_of_a_video(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4")
    about, wave = read_header(path), read_sound(path)
    assert (about.rate, about.channels) == (22050, 2) and abs(about.seconds - 1) < 0.1
    assert abs(len(wave) - 16000) < 1500 and wave.dtype == torch.float32
    middle = wave[4000:12000]
    assert abs(float(middle.abs().max()) - 0.25) < 0.03  # the mean of a tone of 0.5 and silence
    spectrum = torch.fft.rfft(middle).abs()
    assert abs(int(spectrum.argmax()) * 16000 / 8000 - 440) < 5
    assert abs(len(read_sound(path, seconds=0.25)) - 4000) < 5
    with pytest.raises(CorpusError, match=r"b.mp4: a video without audio"):
        read_sound(write_video(tmp_path / "b.mp4", sound=False))
    (tmp_path / "c.mp4").write_bytes(b"nothing")
    with pytest.raises(CorpusError, match=r"c.mp4: not a video that can be read"):
        read_header(tmp_path / "c.mp4")
    path.write_bytes(path.read_bytes()[: len(path.read_bytes()) // 2])
    with pytest.raises(CorpusError, match=r"not a video that can be read|damaged or incomplete"):
        read_sound(path)


def test_without_pyav_a_video_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(ConfigError, match=r'reading the audio of videos needs PyAV: pip install "erc_graph\[vision\]"'):
        read_header(tmp_path / "a.mp4")


def test_without_the_libraries_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = builtins.__import__

    def no(name: str, *rest: object) -> object:
        if name == "soundfile":
            raise ImportError("no soundfile")
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", no)
    with pytest.raises(ConfigError, match=r'pip install "erc_graph\[audio\]"'):
        module.read_header(tmp_path / "a.wav")
