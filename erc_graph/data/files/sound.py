"""Sound files: one per utterance in a folder, named by its id; read as mono at 16 kHz."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from erc_graph.data.files.budget import admit
from erc_graph.data.files.storage import stay_inside
from erc_graph.data.ragged import SAMPLING_RATE
from erc_graph.errors import ConfigError, CorpusError

ENDINGS = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".au")
LOWEST = 1000  # Hz: what says less is a damaged header, and would grow with every second that it claims
LONGEST = 4 * 3600  # seconds: about a gigabyte at 16 kHz


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What the header of a sound file says.

    Attributes:
        path: The file.
        seconds: Its length.
        rate: Sampling rate in Hz.
        channels: Their number.
    """

    path: Path
    seconds: float
    rate: int
    channels: int


def find_files(folder: Path, ids: Sequence[str], endings: Sequence[str], what: str) -> dict[str, Path]:
    """Return utterance id → its file (or folder), of those that are there.

    Args:
        folder: Where they lie, each named by an utterance id.
        ids: Of the corpus.
        endings: Of the files that count; `""`: folders.
        what: How messages call them.

    Raises:
        CorpusError: no such folder, or nothing in it that belongs to an utterance.
    """
    if not folder.is_dir():
        raise CorpusError(f"{folder}: no such folder; expected one with {what}, each named by its utterance id")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or (path.suffix.lower() not in endings and not ("" in endings and path.is_dir())):
            continue
        found.setdefault(path.name if path.is_dir() else path.stem, path)
    named = {name: stay_inside(found[name]) for name in ids if name in found}
    if not named:
        first = next(iter(found.values())).name if found else "none"
        raise CorpusError(
            f"{folder}: expected {what} ({', '.join(ending or 'folders' for ending in endings)}) named by utterance id such as "
            f"{next(iter(ids), '')!r}, found {len(found)} files of other names (first: {first})"
        )
    return named


def read_header(path: Path) -> Recording:
    """Read the header of a sound file.

    Raises:
        CorpusError: unreadable, nothing in it, or a rate or length that no recording of an utterance has.
    """
    soundfile = _soundfile()
    try:
        admit(path)
        about = soundfile.info(str(path))
    except Exception as error:  # the library's own class, and those of the system
        raise CorpusError(f"{path.name}: not a sound file that can be read ({' '.join(str(error).split())[:120]})") from None
    if not about.frames:
        raise CorpusError(f"{path.name}: empty, no sample in it")
    if about.samplerate < LOWEST:
        raise CorpusError(f"{path.name}: expected a sampling rate of {LOWEST} Hz or more, found {about.samplerate}; its header is damaged")
    seconds = about.frames / about.samplerate
    if seconds > LONGEST:
        raise CorpusError(f"{path.name}: expected up to {LONGEST / 3600:.0f} hours, found {seconds / 3600:.1f}; cut it into utterances")
    return Recording(path=path, seconds=seconds, rate=about.samplerate, channels=about.channels)


def read_sound(path: Path, *, seconds: float | None = None) -> Tensor:
    """Read a waveform `(samples,)` float32 in [-1, 1]: the mean of the channels, resampled to 16 kHz.

    Args:
        path: The file.
        seconds: What is longer is cut there; unset: nothing is.

    Raises:
        CorpusError: unreadable, empty, or silence: all samples the same.
    """
    soundfile, about = _soundfile(), read_header(path)
    try:
        frames = -1 if seconds is None else int(seconds * about.rate)
        samples, rate = soundfile.read(str(path), frames=frames, dtype="float32", always_2d=True)
    except Exception as error:
        raise CorpusError(f"{path.name}: damaged or incomplete ({' '.join(str(error).split())[:120]})") from None
    wave = samples.mean(1)
    if not len(wave) or not np.isfinite(wave).all():
        raise CorpusError(f"{path.name}: expected samples that are numbers, found {'none' if not len(wave) else 'NaN or inf'}")
    if (wave == wave[0]).all():
        raise CorpusError(f"{path.name}: silence, all samples the same")
    if rate != SAMPLING_RATE:
        import soxr

        wave = soxr.resample(wave, rate, SAMPLING_RATE)
    return torch.from_numpy(np.ascontiguousarray(wave, dtype=np.float32))


def _soundfile():  # type: ignore[no-untyped-def]
    try:
        import soundfile
        import soxr  # noqa: F401
    except ImportError as error:
        raise ConfigError(f'sound files are read by soundfile and soxr: pip install "erc_graph[audio]" ({error})') from None
    return soundfile
