from __future__ import annotations

import builtins
from pathlib import Path

import numpy as np
import pytest
import torch

from erc_graph.data.files import sound as module
from erc_graph.data.files.sound import ENDINGS, find_files, read_header, read_sound
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
        (b"no sound at all", "a.wav: not a sound file that can be read"),
        (b"", "a.wav: not a sound file that can be read"),
        (np.zeros(0), "a.wav: empty, no sample in it"),
        (np.zeros(800), "a.wav: silence, all samples the same"),
        (np.full(800, 0.25), "a.wav: silence, all samples the same"),
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
    with pytest.raises(CorpusError, match=r"a\.wav: expected a sampling rate of 1000 Hz or more, found 1; its header is damaged"):
        read_sound(tmp_path / "a.wav")
    soundfile.write(tmp_path / "b.wav", tone(1000, 2.0), 1000)
    assert len(read_sound(tmp_path / "b.wav")) == 32_000
    monkeypatch.setattr(module, "LONGEST", 1)
    with pytest.raises(CorpusError, match=r"b\.wav: expected up to 0 hours, found 0\.0; cut it into utterances"):
        read_sound(tmp_path / "b.wav")


def test_files_are_found_by_utterance_and_nothing_outside_the_folder_is(tmp_path: Path) -> None:
    folder = tmp_path / "wav"
    folder.mkdir()
    for name in ("u1.wav", "u2.FLAC", "notes.txt", ".u3.wav"):
        (folder / name).touch()
    (tmp_path / "secret.wav").touch()
    assert find_files(folder, ["u1", "u2", "u3", "../secret"], ENDINGS, "sound files") == {
        "u1": folder / "u1.wav",
        "u2": folder / "u2.FLAC",
    }
    (folder / "u4.wav").symlink_to(tmp_path / "secret.wav")
    with pytest.raises(CorpusError, match="a link that leads out of its folder"):
        find_files(folder, ["u4"], ENDINGS, "sound files")
    with pytest.raises(CorpusError, match=r"expected sound files .* such as 'v1', found 3 files of other names \(first: u1.wav\)"):
        find_files(folder, ["v1"], ENDINGS, "sound files")
    with pytest.raises(CorpusError, match="no such folder; expected one with sound files"):
        find_files(tmp_path / "nowhere", ["u1"], ENDINGS, "sound files")


def test_without_the_libraries_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = builtins.__import__

    def no(name: str, *rest: object) -> object:
        if name == "soundfile":
            raise ImportError("no soundfile")
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", no)
    with pytest.raises(ConfigError, match=r'pip install "erc_graph\[audio\]"'):
        module.read_header(tmp_path / "a.wav")
