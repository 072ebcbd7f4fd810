"""The manifest `corpus.toml`, which names the files of a corpus."""

from __future__ import annotations

import os
import re
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from erc_graph.data.files.toml import read_toml
from erc_graph.data.tasks import TASKS
from erc_graph.errors import CorpusError

MANIFEST = "corpus.toml"


def _problem(text: str) -> PydanticCustomError:
    return PydanticCustomError("manifest", "{text}", {"text": text})


def _inside(value: Any, info: ValidationInfo) -> Path:
    """Return the path of a file after a check that the file is in the folder of `corpus.toml`."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise _problem("expected the path of a file, relative to the manifest, as a string")
    folder: Path = (info.context or {})["folder"]
    relative = Path(value)
    if relative.is_absolute() or PureWindowsPath(value).is_absolute() or ".." in PureWindowsPath(value).parts:
        raise _problem(
            "expected a path within the manifest's folder, not an absolute path and without '..'; move or copy the file into that folder"
        )
    path = folder / relative
    try:
        inside, exists = path.resolve().is_relative_to(folder.resolve()), path.exists()
    except (OSError, RuntimeError) as error:  # links in a circle, a name too long
        raise _problem(f"the path cannot be followed ({getattr(error, 'strerror', None) or 'its links form a circle'})") from None
    if not inside:
        raise _problem("a link leads out of the manifest's folder; copy the file into the folder")
    if not exists:
        raise _problem(f"no such file in {folder}{_slashes(value)}")
    return path


def _slashes(value: str) -> str:
    """Return a hint for a path with backslashes: in double quotes, TOML reads a backslash and the next letter as one character."""
    written = value.encode("unicode_escape").decode("ascii").replace("\\\\", "\\") if any(ord(c) < 32 for c in value) else value
    if "\\" not in written:
        return ""
    return f"; expected / between folders, write {written.replace(chr(92), '/')!r}"


FileInside = Annotated[Path, BeforeValidator(_inside)]
Name = Annotated[str, Field(min_length=1)]


class Manifest(BaseModel):
    """A checked `corpus.toml`: every path exists and is in the folder of this file.

    Attributes:
        dataset: Name of the data set. If the name is a key of `tasks.DEFAULT_TASK`, it selects the label set and the default task. Other
            names are also allowed.
        annotations: One or several annotation files in a known format.
        splits: JSON file that lists the dialogue ids of `train`, `dev` and `test`.
        features: Modality → file with one feature row per utterance id.
        sequences: Modality → file or folder with one sequence of words, frames or samples per utterance id.
        extractors: Modality → name of the model that extracted the features.
        task: A name of `tasks.TASKS`; default: the default task of the data set.
        labels: Label names in index order: the first name has index 0.
        name: Name of the corpus; default: `dataset`.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    annotations: Annotated[list[FileInside], Field(min_length=1)]
    dataset: Name | None = None
    splits: FileInside | None = None
    features: dict[str, FileInside] = {}
    sequences: dict[str, FileInside] = {}
    extractors: dict[str, str] = {}
    task: str | None = None
    labels: list[Name] | None = None
    name: Name | None = None

    @field_validator("annotations", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("features", "sequences", mode="after")
    @classmethod
    def _modalities(cls, value: dict[str, Path]) -> dict[str, Path]:
        for name in value:
            # Names of node types and of submodules: `+` joins fused pairs, and a dot would split a parameter's name.
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
                raise _problem(f"modality {name!r}: expected letters, digits and '_', beginning with a letter")
        return value

    @field_validator("task", mode="after")
    @classmethod
    def _known_task(cls, value: str | None) -> str | None:
        if value is not None and value not in TASKS:
            raise _problem(f"expected one of {', '.join(sorted(TASKS))}")
        return value

    @field_validator("labels", mode="after")
    @classmethod
    def _distinct(cls, value: list[str] | None) -> list[str] | None:
        if value is not None and (len(value) < 2 or len(set(value)) < len(value)):
            raise _problem("expected two or more different names in index order")
        return value


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Read a `corpus.toml` from `path`.

    Raises:
        CorpusError: the file is not TOML, or a value is wrong. The message lists all problems: the key or line, what was expected, and what
            was found.
    """
    path = Path(path)
    values = read_toml(path, CorpusError)
    try:
        return Manifest.model_validate(values, context={"folder": path.parent})
    except ValidationError as error:
        problems = [_sentence(problem) for problem in error.errors(include_url=False)]
        counted = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise CorpusError("\n  ".join([f"{path}: {counted}", *problems])) from None


def _sentence(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key; known: {', '.join(Manifest.model_fields)}"
    if problem["type"] == "missing":
        return f"{key}: missing; expected the annotation file of the corpus, or a list of annotation files"
    expected = problem["msg"].replace("Input should be", "expected").replace("should have", "expected")
    return f"{key}: {expected}; found {_short(problem['input'])}"


def _short(value: Any) -> str:
    text = repr(str(value)) if isinstance(value, Path) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
