"""The settings that a run keeps in its folder (`config.json`): what `--resume` continues with, and what a report asks for."""

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
    """What stands in a run's `config.json`.

    Attributes:
        method: Its method.
        command: `run` or `table`.
        table: Number of the table, of the latter.
        launch: How it was launched, as options that were given.
        data_sha256: Of its corpus.
        method_sha256: Of the file of a user's own method, when the run began.
        values: The experiment, as plain values for `from_dict`.
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
        ValueError: not JSON, not an object, or with a number that no run writes: without an end, or of too many digits.
        OSError: it cannot be read.
        CheckpointError: no regular file.
    """
    content = content_of(path, CheckpointError)
    try:
        value = json.loads(content, parse_int=_whole, parse_float=_finite, parse_constant=_finite)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("no valid JSON") from None
    if not isinstance(value, dict):
        raise ValueError("JSON, but no object with names")
    return value


def _whole(digits: str) -> int:
    if len(digits) > DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _finite(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise ValueError(f"the number {digits[:20]}")
    return value


def checked(form: type[Form], values: Mapping[str, Any]) -> Form:
    """Return the values of a file as its form, a class of pydantic's, has them.

    Raises:
        ValueError: one is missing, or of another kind; it names the first.
    """
    from pydantic import ValidationError

    try:
        return form.model_validate(values, strict=True)
    except ValidationError as error:
        problem = error.errors()[0]
    path = ".".join(map(str, problem["loc"]))[:80]
    raise ValueError(f"no {path!r}" if problem["type"] == "missing" else f"{path}: {shortened(problem['input'])}")


def in_words(error: Exception) -> str:
    """Return what is wrong with the content of a file, for a message: without Python's words.

    >>> in_words(KeyError("metrics")), in_words(TypeError("unhashable type"))
    ("no 'metrics'", 'a value of another kind')
    """
    if isinstance(error, KeyError):
        return f"no {error}"
    if isinstance(error, (TypeError, AttributeError)):
        return "a value of another kind"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def named_again(folder: str | Path, method: str | None) -> str | None:
    """Return the file and class of the method of a run or a model, where it is a user's own.

    Nothing is imported because a folder says so: the user names the file again.

    Args:
        folder: Of a run or of one of its seeds, or a saved model.
        method: What the user names: a file and a class, `my_method.py:Own`; default: nothing.

    Raises:
        ConfigError: the run's method comes from a file that is not named; or another method is.
    """
    stored, code = _stored_method(Path(folder))
    if stored is None or (method is None and not is_own(stored)):
        return method
    if method is None:
        raise ConfigError(f"{folder}: this run's method comes from the file {stored}; name it again with --method {stored}")
    if not same_method(stored, method):
        raise ConfigError(f"{folder}: --method: expected the method of this run, {stored}, found {method}")
    if is_own(method) and code is not None and own_parts(method)[0].is_file() and own_sha256(method) != code:
        logging.getLogger(__name__).warning(
            "note: %s has changed since this run; its weights may mean something else", own_parts(method)[0]
        )
    return method if is_own(method) else None


def _stored_method(folder: Path) -> tuple[str | None, str | None]:
    """The method in the settings of the run that a folder or a file belongs to, and the SHA-256 of its file; `None` where there is none."""
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
        CheckpointError: absent, damaged, or not the settings of a run.
    """
    path = folder / FILE
    try:
        values = read_object(path)
        command, number, method, digest = values.pop("command"), values.pop("table", None), values.pop("method"), values.pop("data_sha256")
        if command not in ("run", "table") or not isinstance(number, int if command == "table" else type(None)):
            raise ValueError(f"command {command!r}, table {number!r}")
        if not (isinstance(method, str) and isinstance(digest, str)):
            raise TypeError
        code = values.pop("method_sha256", None)
        launch = {name: value for name, value in dict(values.pop("launch", {})).items() if value is not None}
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: expected the settings of a run, found no such file: nothing was trained; begin without --resume"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: expected the settings of a run, found something else ({in_words(error)}); train again in another folder"
        ) from None
    return Settings(method=method, command=command, table=number, launch=launch, data_sha256=digest, method_sha256=code, values=values)
