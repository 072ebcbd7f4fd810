"""Reading of the audio of an utterance from an audio file or a video, as mono at 16 kHz."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from erc_graph.data.files.budget import admit
from erc_graph.data.files.media import VIDEOS
from erc_graph.data.ragged import SAMPLING_RATE
from erc_graph.errors import ConfigError, CorpusError

ENDINGS = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".au")
LOWEST = 1000  # Hz: what says less is a damaged header, and would grow with every second that it claims
LONGEST = 4 * 3600  # seconds: about a gigabyte at 16 kHz


@dataclass(frozen=True, kw_only=True)
class Recording:
    """The header of an audio file.

    Attributes:
        path: The file.
        seconds: Duration in seconds.
        rate: Sampling rate in Hz.
        channels: Number of channels.
    """

    path: Path
    seconds: float
    rate: int
    channels: int


def read_header(path: Path) -> Recording:
    """Read the header of an audio file, or of the audio of a video.

    Raises:
        CorpusError: the file is unreadable or empty, or its sampling rate or duration is impossible for an utterance.
        ConfigError: the library for this kind of file is not installed.
    """
    if path.suffix.lower() in VIDEOS:
        frames, rate, channels = _video_header(path)
    else:
        soundfile = _soundfile()
        try:
            admit(path)
            about = soundfile.info(str(path))
        except Exception as error:  # the library's own class, and those of the system
            raise CorpusError(f"{path.name}: not a readable audio file ({' '.join(str(error).split())[:120]})") from None
        frames, rate, channels = about.frames, about.samplerate, about.channels
    if not frames:
        raise CorpusError(f"{path.name}: empty; it contains no samples")
    if rate < LOWEST:
        raise CorpusError(f"{path.name}: expected a sampling rate of {LOWEST} Hz or more, found {rate}; the header may be damaged")
    seconds = frames / rate
    if seconds > LONGEST:
        raise CorpusError(
            f"{path.name}: expected up to {LONGEST / 3600:.0f} hours, found {seconds / 3600:.1f}; cut the recording into utterances"
        )
    return Recording(path=path, seconds=seconds, rate=rate, channels=channels)


def read_sound(path: Path, *, seconds: float | None = None) -> Tensor:
    """Read a waveform `(samples,)` float32 in [-1, 1]: the mean of the channels, resampled to 16 kHz.

    Args:
        path: An audio file, or a video with an audio track.
        seconds: Longest duration; the end of longer recordings is not read. Default: the whole recording is read.

    Raises:
        CorpusError: the file is unreadable, empty or silent (all samples are equal).
        ConfigError: the library for this kind of file is not installed.
    """
    soundfile, about = _soundfile(), read_header(path)
    frames = -1 if seconds is None else int(seconds * about.rate)
    try:
        if path.suffix.lower() in VIDEOS:
            samples, rate = _video_samples(path, frames if frames >= 0 else LONGEST * about.rate), about.rate
        else:
            samples, rate = soundfile.read(str(path), frames=frames, dtype="float32", always_2d=True)
    except Exception as error:
        raise CorpusError(f"{path.name}: damaged or incomplete ({' '.join(str(error).split())[:120]})") from None
    wave = samples.mean(1)
    if not len(wave) or not np.isfinite(wave).all():
        raise CorpusError(f"{path.name}: expected samples that are numbers, found {'none' if not len(wave) else 'NaN or inf'}")
    if (wave == wave[0]).all():
        raise CorpusError(f"{path.name}: silent; all samples are equal")
    if rate != SAMPLING_RATE:
        import soxr

        wave = soxr.resample(wave, rate, SAMPLING_RATE)
    return torch.from_numpy(np.ascontiguousarray(wave, dtype=np.float32))


def _av():  # type: ignore[no-untyped-def]
    try:
        import av
    except ImportError as error:
        raise ConfigError(f'reading the audio of videos needs PyAV: pip install "erc_graph[vision]" ({error})') from None
    return av


def _video_header(path: Path) -> tuple[int, int, int]:
    """Return the number of samples, the sampling rate and the number of channels of the first audio track of a video."""
    av = _av()
    try:
        admit(path)
        with av.open(str(path)) as video:
            if not video.streams.audio:
                raise CorpusError(f"{path.name}: a video without audio")
            sound = video.streams.audio[0]
            length = sound.duration * sound.time_base if sound.duration else (video.duration or 0) / av.time_base
            return int(length * sound.rate), sound.rate, sound.channels
    except CorpusError:
        raise
    except (av.error.FFmpegError, OSError, ValueError, IndexError) as error:
        raise CorpusError(f"{path.name}: not a video that can be read ({' '.join(str(error).split())[:120]})") from None


def _video_samples(path: Path, most: int) -> np.ndarray:
    """Return the samples of the first audio track of a video, `(samples, channels)`, up to a maximal number of samples."""
    av, found, number = _av(), [], 0
    with av.open(str(path)) as video:
        resampler = av.AudioResampler(format="fltp")
        for frame in video.decode(audio=0):
            for part in resampler.resample(frame):
                found.append(part.to_ndarray().T)
                number += len(found[-1])
            if number >= most:
                break
    return np.concatenate(found)[:most] if found else np.zeros((0, 1), np.float32)


def _soundfile():  # type: ignore[no-untyped-def]
    try:
        import soundfile
        import soxr  # noqa: F401
    except ImportError as error:
        raise ConfigError(f'reading audio files needs soundfile and soxr: pip install "erc_graph[audio]" ({error})') from None
    return soundfile
