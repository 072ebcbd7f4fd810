"""Search for the audio file, video, array or folder of images of each utterance, in a folder and its subfolders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from erc_graph.data.files.feature_files import AGAIN
from erc_graph.data.files.notes import note
from erc_graph.data.files.storage import stay_inside
from erc_graph.data.files.vocabulary import SPLIT_NAMES
from erc_graph.errors import CorpusError

PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
VIDEOS = (".mp4", ".avi", ".mkv", ".mov", ".webm")
DEPTH = 4  # folders within folders: MELD's clips lie one deep, IEMOCAP's sound three
# MELD's clips: a folder per split (`train_splits`, `dev_splits_complete`, `output_repeated_splits_test`), the same numbers in each.
_CLIP = re.compile(r"(final_videos_test)?(dia\d+_utt\d+)")


def split_of_name(path: Path) -> str | None:
    """Return the split in the name of a file or folder, such as `train` in `train_sent_emo.csv`; `None` if the name has no split."""
    words = [SPLIT_NAMES[word] for word in re.split(r"[^a-z]+", path.name.lower()) if word in SPLIT_NAMES]
    return words[0] if len(set(words)) == 1 else None


def list_media(folder: Path, endings: Sequence[str]) -> dict[str, Path]:
    """Return a dictionary utterance id → its file or folder of images, for all files in a folder and its subfolders.

    The id is the file name without its ending. The id of a MELD clip such as `dia0_utt1` begins with the split of its folder:
    `train_dia0_utt1`. If several files have the same id, the file whose ending comes first in `endings` is used.

    Args:
        folder: The folder.
        endings: Endings of the files to find, the preferred ones first. `""` means folders of images.
    """
    found: dict[str, tuple[int, Path]] = {}
    repeated: list[str] = []
    for rank, path in _walk(folder, endings, DEPTH):
        name, spare = _utterance(path, folder)
        rank += len(endings) * spare
        if name in found and max(rank, found[name][0]) < len(endings):  # neither is a spare one
            repeated.append(name)
        if name not in found or rank < found[name][0]:
            found[name] = rank, path
    if repeated:
        note(f"{folder.name}: {len(repeated)} utterances have several files, such as {repeated[0]}; only the first file of each is used")
    return {name: path for name, (_, path) in found.items()}


def _walk(folder: Path, endings: Sequence[str], depth: int) -> list[tuple[int, Path]]:
    """Return pairs of the position of the ending in `endings` and the path of a file, sorted by name."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if not path.is_dir():
            found += [(endings.index(path.suffix.lower()), path)] if path.suffix and path.suffix.lower() in endings else []
        elif "" in endings and (not any(path.iterdir()) or any(file.suffix.lower() in PICTURES for file in path.iterdir())):
            found.append((endings.index(""), path))
        elif depth:
            found += _walk(path, endings, depth - 1)
    return found


def _utterance(path: Path, folder: Path) -> tuple[str, bool]:
    """Return the utterance id of a file, and whether other files with this id take precedence over it."""
    name = path.name if path.is_dir() else path.stem
    clip = _CLIP.fullmatch(name)
    if clip is None:
        return name, False
    above = [folder, *(folder.joinpath(*path.relative_to(folder).parts[: i + 1]) for i in range(len(path.relative_to(folder).parts) - 1))]
    split = next((split for place in reversed(above) if (split := split_of_name(place))), None)
    return f"{split}_{clip[2]}" if split else clip[2], clip[1] is not None


def find_files(folder: Path, ids: Sequence[str], endings: Sequence[str], what: str) -> dict[str, Path]:
    """Return a dictionary utterance id → its file or folder of images, for the given ids that have a file.

    Args:
        folder: The folder, with subfolders; the files are named by utterance ids.
        ids: Utterance ids of the corpus.
        endings: Endings of the files to find, the preferred ones first. `""` means folders of images.
        what: Name of the files in messages.

    Raises:
        CorpusError: the folder does not exist, or has no file of any utterance.
    """
    if not folder.is_dir():
        raise CorpusError(f"{folder}: no such folder; expected a folder with {what}, each named by its utterance id")
    found = list_media(folder, endings)
    again = {name: name.rpartition(AGAIN)[0] for name in ids if AGAIN in name}
    named = {name: stay_inside(found[key]) for name in ids if (key := name if name in found else again.get(name, name)) in found}
    if not named:
        first = next(iter(found.values())).name if found else "none"
        raise CorpusError(
            f"{folder}: expected {what} ({', '.join(ending or 'folders' for ending in endings)}), whose names are utterance ids such as "
            f"{next(iter(ids), '')!r}, found {len(found)} files of other names (first: {first})"
        )
    return named
