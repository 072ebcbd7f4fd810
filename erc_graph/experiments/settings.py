"""The settings of a run, stored in its folder as `config.json` for `--resume` and for reports."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from erc_graph.data.files.budget import content_of
from erc_graph.errors import CheckpointError, ConfigError, shortened
from erc_graph.methods.own_file import is_own, own_parts, own_sha256, same_method

if TYPE_CHECKING:
    from pydantic import BaseModel

    Form = TypeVar("Form", bound=BaseModel)

FILE = "config.json"
DIGITS = 19  # of a whole number: 64 bits


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The content of a run's `config.json`.

    Attributes:
        method: Name of the method.
        command: `run` for an experiment, `table` for an ablation table.
        table: Number of the table, if the command is `table`.
        launch: Options of the execution that the user gave.
        data_sha256: SHA-256 of the corpus.
        method_sha256: SHA-256 of the file of a user's own method when the run was started; `None` for other methods.
        values: Dictionary of all other settings, from which `from_dict` builds the experiment.
    """

    method: str
    command: str
    table: int | None
    launch: dict[str, Any]
    data_sha256: str
    method_sha256: str | None
    values: dict[str, Any]


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file of a run.

    Raises:
        ValueError: the content is not a JSON object, or has an infinite number, NaN, or a number with too many digits.
        OSError: the file cannot be read.
        CheckpointError: the path is not a regular file.
    """
    content = content_of(path, CheckpointError)
    try:
        value = json.loads(content, parse_int=_whole, parse_float=_finite, parse_constant=_finite)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("no valid JSON") from None
    if not isinstance(value, dict):
        raise ValueError("a JSON value that is not an object")
    return value


def _whole(digits: str) -> int:
    if len(digits) > DIGITS:
        raise ValueError(f"a number with {len(digits)} digits, which are too many")
    return int(digits)


def _finite(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise ValueError(f"the number {digits[:20]}")
    return value


def checked(form: type[Form], values: Mapping[str, Any]) -> Form:
    """Check the content of a file with a pydantic class, and return it as an instance of this class.

    Raises:
        ValueError: a value is missing or has the wrong type; the message names the first invalid value.
    """
    from pydantic import ValidationError

    try:
        return form.model_validate(values, strict=True)
    except ValidationError as error:
        problem = error.errors()[0]
    path = ".".join(map(str, problem["loc"]))[:80]
    raise ValueError(f"no {path!r}" if problem["type"] == "missing" else f"{path}: {shortened(problem['input'])}")


def in_words(error: Exception) -> str:
    """Return a short description of an error in the content of a file, for messages.

    >>> in_words(KeyError("metrics")), in_words(TypeError("unhashable type"))
    ("no 'metrics'", 'a value of the wrong type')
    """
    if isinstance(error, KeyError):
        return f"no {error}"
    if isinstance(error, (TypeError, AttributeError)):
        return "a value of the wrong type"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def named_again(folder: str | Path, method: str | None) -> str | None:
    """Return file and class of a user's own method in a run or a model; return `None` for other methods.

    The user must name the file again, because code is never imported from a recorded path.

    Args:
        folder: Folder of a run or of one of its seeds, or a saved model.
        method: File and class that the user gives, such as `my_method.py:Own`; default: nothing is given.

    Raises:
        ConfigError: the run has a user's own method whose file was not given, or another method was given.
    """
    stored, code = _stored_method(Path(folder))
    if stored is None or (method is None and not is_own(stored)):
        return method
    if method is None:
        raise ConfigError(
            f"{folder}: the method of this run is your own method {stored}; name it again with --method {stored}, because "
            "recorded files are never imported"
        )
    if not same_method(stored, method):
        raise ConfigError(f"{folder}: --method: expected {stored}, the method of this run, found {method}")
    if is_own(method) and code is not None and own_parts(method)[0].is_file() and own_sha256(method) != code:
        logging.getLogger(__name__).warning(
            "note: %s has changed since this run; the saved weights may not fit the new code", own_parts(method)[0]
        )
    return method if is_own(method) else None


def _stored_method(folder: Path) -> tuple[str | None, str | None]:
    """Return the method of the run that contains `folder`, and the SHA-256 of the method's file; `None` for unknown values."""
    for place in (folder, *list(folder.parents)[:3]):
        try:
            values = read_object(place / FILE)
        except (OSError, ValueError):
            continue
        if "command" in values:  # a saved model has a file of that name, too
            return values["method"] if isinstance(values.get("method"), str) else None, values.get("method_sha256")
    return None, None


def read_settings(folder: Path) -> Settings:
    """Return the settings of a run.

    Raises:
        CheckpointError: the file is missing, damaged, or has no settings of a run.
    """
    path = folder / FILE
    try:
        values = read_object(path)
        command, number, method, digest = values.pop("command"), values.pop("table", None), values.pop("method"), values.pop("data_sha256")
        if command not in ("run", "table") or not isinstance(number, int if command == "table" else type(None)):
            raise ValueError(f"an unknown combination of command {command!r} and table {number!r}")
        if not (isinstance(method, str) and isinstance(digest, str)):
            raise TypeError
        code = values.pop("method_sha256", None)
        launch = {name: value for name, value in dict(values.pop("launch", {})).items() if value is not None}
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: expected the settings file of a run, found no such file, so nothing was trained; start the run without --resume"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: expected the settings of a run, found an invalid file ({in_words(error)}); train again in another folder"
        ) from None
    return Settings(method=method, command=command, table=number, launch=launch, data_sha256=digest, method_sha256=code, values=values)
