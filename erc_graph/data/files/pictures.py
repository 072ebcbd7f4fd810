"""Reading of the face frames of an utterance from an array, a folder of images or a video, as `(T, 3, H, W)` uint8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from erc_graph.data.files.budget import admit
from erc_graph.data.files.feature_files import load_array
from erc_graph.data.files.media import PICTURES, VIDEOS
from erc_graph.data.files.storage import stay_inside
from erc_graph.errors import ConfigError, CorpusError

ENDINGS = (".npy", *VIDEOS, "")  # the last: a folder of pictures
MOST_PIXELS = 64_000_000  # of a picture: a small file can claim to be a huge one


def read_frames(path: Path, most: int) -> Tensor:
    """Read face frames as `(T, 3, H, W)` uint8: frames, colours, height, width.

    If there are more than `most` frames, `most` frames at equal distances in time are returned.

    Args:
        path: `.npy` of shape `(T, H, W, 3)` or `(T, 3, H, W)` uint8, a folder of images (read in the order of their names), or a video.
        most: Largest number of frames.

    Raises:
        CorpusError: the file cannot be read, or has no frame.
        ConfigError: the file is a video, and the library for videos is not installed.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES and not file.name.startswith("."))
        _expect_some(len(files), path)
        return torch.stack(_same_size([_picture(stay_inside(files[i])) for i in evenly_spaced(len(files), most)], path))
    if path.suffix == ".npy":
        return _array(path, most)
    return _video(path, most)


def evenly_spaced(number: int, most: int) -> list[int]:
    """Return `most` positions at equal distances from 0 to `number` - 1, or all positions if `number` is at most `most`.

    The range is divided into `most` intervals of equal length, and the middle of each interval is a position.

    >>> evenly_spaced(10, 3), evenly_spaced(2, 5)
    ([1, 5, 8], [0, 1])
    """
    return list(range(number)) if number <= most else [int((i + 0.5) * number / most) for i in range(most)]


def _expect_some(number: int, path: Path) -> None:
    if not number:
        raise CorpusError(f"{path.name}: contains no face frames")


def _array(path: Path, most: int) -> Tensor:
    array = load_array(path)
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.ndim != 4 or 3 not in (array.shape[1], array.shape[3]):
        found = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else "an archive"
        raise CorpusError(f"{path.name}: expected a uint8 array of frames, of shape (T, 3, H, W) or (T, H, W, 3), found {found}")
    _expect_some(array.size, path)
    frames = torch.from_numpy(array[evenly_spaced(len(array), most)])
    return frames if array.shape[1] == 3 else frames.permute(0, 3, 1, 2).contiguous()


def _picture(path: Path) -> Tensor:
    from PIL import Image

    try:
        admit(path)
        with Image.open(path, formats=("PNG", "JPEG", "BMP")) as image:
            if image.width * image.height > MOST_PIXELS:
                raise CorpusError(f"{path.name}: an image of {image.width} x {image.height} pixels; expected at most {MOST_PIXELS} pixels")
            pixels = np.asarray(image.convert("RGB"))
    except CorpusError:
        raise
    except Exception as error:  # of the decoders, of many kinds
        raise CorpusError(f"{path.name}: not a readable image ({' '.join(str(error).split())[:120]})") from None
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)


def _same_size(pictures: list[Tensor], path: Path) -> list[Tensor]:
    sizes = {tuple(picture.shape[1:]) for picture in pictures}
    if len(sizes) > 1:
        raise CorpusError(f"{path.name}: images of {len(sizes)} different sizes; expected one size for all frames of an utterance")
    return pictures


def _video(path: Path, most: int) -> Tensor:
    try:
        import av
    except ImportError as error:
        raise ConfigError(
            f'videos are read by PyAV: pip install "erc_graph[vision]" ({error}); or give a folder of images per utterance'
        ) from None
    try:
        admit(path)
        with av.open(str(path)) as video:
            number = sum(1 for _ in video.decode(video=0))
        wanted = set(evenly_spaced(number, most))
        with av.open(str(path)) as video:
            frames = [frame.to_ndarray(format="rgb24") for i, frame in enumerate(video.decode(video=0)) if i in wanted]
    except (av.error.FFmpegError, IndexError, ValueError) as error:
        raise CorpusError(f"{path.name}: not a video that can be read ({' '.join(str(error).split())[:120]})") from None
    _expect_some(len(frames), path)
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).contiguous()
