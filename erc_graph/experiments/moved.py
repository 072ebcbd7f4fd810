"""Renamed keys of configurations. Files, runs and command lines with old keys still work, and a note gives the new key."""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from erc_graph.data.printable import one_line
from erc_graph.encoders.wav2vec import Extractor
from erc_graph.errors import ConfigError
from erc_graph.inference.version_1 import FIXED

# What was an option of a method and is now around every method, or has another name.
MOVED = {
    "pipeline.speaker_relative": "inputs.speaker_relative",
    "pipeline.swap_noise": "inputs.swap_noise",
    "pipeline.modality_dropout": "inputs.modality_dropout",
    "pipeline.context_text": "inputs.second_text",
    "pipeline.given_speakers": "inputs.given_speakers",
    "pipeline.text_layers.layers": "inputs.text_layers.layers",
    "pipeline.text_layers.heads": "inputs.text_layers.heads",
    "pipeline.text_layers.hidden": "inputs.text_layers.hidden",
    "pipeline.text_layers.rate": "inputs.text_layers.rate",
    "pipeline.prior": "prior.features",
    "pipeline.prior_around": "prior.around",
    "pipeline.prior_stream": "prior.stream",
    "pipeline.bidirectional": "pipeline.causal",
    "pipeline.conv.depth": "pipeline.depth",
    "pipeline.context.width": "pipeline.conversation.width",
    "pipeline.context.recurrent": "pipeline.conversation.recurrent",
    **{f"pipeline.wav2vec.{field.name}": f"pipeline.wav2vec.extractor.{field.name}" for field in dataclasses.fields(Extractor)},
}
# What a key says by itself, where that is not nothing.
USUAL = {f"pipeline.wav2vec.{name}": value for name, value in dataclasses.asdict(Extractor()).items()}
# How a value is written now, where that is another way.
WRITTEN: dict[str, Callable[[Any], Any]] = {
    "pipeline.context_text": lambda value: None if value == "text" else value,
    "pipeline.prior": lambda value: value.split("+") if isinstance(value, str) else value or [],
    "pipeline.bidirectional": lambda value: not value if isinstance(value, bool) else value,
}
# The same of a typed value.
TYPED: dict[str, Callable[[str], str]] = {
    "pipeline.context_text": lambda value: "null" if value == "text" else value,
    "pipeline.prior": lambda value: value.replace("+", ","),
    "pipeline.bidirectional": lambda value: {"true": "false", "false": "true"}.get(value.lower(), value),
}
# Options of the command itself.
COMMAND = {"tune": "search"}
# Options that are gone and changed no result: how much is computed at once.
GONE = (
    *("pipeline.tokens", "pipeline.seconds", "pipeline.cache", "pipeline.conv.method", "pipeline.context.conv.method"),
    *("pipeline.text_layers.dropout", "pipeline.text_layers.tokens"),
)
# Options that are gone, and what is fixed now; another value is an unknown key.
ELSEWHERE_FIXED = {"pipeline.context.dropout": 0.3}


def moved_keys(kind: type) -> dict[str, str]:
    """Return old key → new key, for the renamed keys of a method.

    An old key that is still the name of an option of the method is not included.

    Args:
        kind: Class of the method.
    """
    own = set(_fields(kind.Config, "pipeline"))  # type: ignore[attr-defined]
    plain = {key for key in own if not any(other.startswith(f"{key}.") for other in own)}  # tables of any keys among them
    return {
        old: new
        for old, new in MOVED.items()
        if old not in own and (not new.startswith("pipeline.") or new in own or new.rpartition(".")[0] in plain)
    }


def _fields(config: type, before: str) -> Iterator[str]:
    """Yield the names of all fields of a configuration and of its nested configurations, such as `pipeline.pmf.width`."""
    instance = config()
    for field in dataclasses.fields(config):
        yield f"{before}.{field.name}"
        if dataclasses.is_dataclass(value := getattr(instance, field.name)):
            yield from _fields(type(value), f"{before}.{field.name}")


def up_to_date(values: Mapping[str, Any], kind: type, where: str) -> tuple[dict[str, Any], list[str]]:
    """Return `values` with all old keys replaced by the current keys, and one note per replaced key.

    An old key with its default value is removed without a note.

    Args:
        values: Content of a file, or settings of a run.
        kind: Class of the method.
        where: Name of the file, for the notes.
    """
    found, notes = copy.deepcopy(dict(values)), []
    if "published" in found and (found.pop("published") or {}).get("row"):
        notes.append(f"{where}: [published] is not read; published results are in experiments/published/<corpus>.toml")
    own = set(_fields(kind.Config, "pipeline"))  # type: ignore[attr-defined]
    fixed = {**ELSEWHERE_FIXED, **{f"pipeline.{name}": value for name, value in FIXED.get(kind.__name__, {}).items()}}
    layers = _get(found, "pipeline.text_layers.layers")
    for old, new in moved_keys(kind).items():
        value = _get(found, old)
        if value is _NOTHING:
            continue
        _drop(found, old)
        value = WRITTEN.get(old, lambda same: same)(value)
        usual = USUAL.get(old, _NOTHING)
        silent = not value or _plain(value) == _plain(usual) or (old.startswith("pipeline.text_layers.") and not layers)
        there = _get(found, new)
        if not silent and there is not _NOTHING and _plain(there) != _plain(value):
            raise ConfigError(
                f"{where}: the setting {old} is now called {new}, but both names are given, with different values; keep only {new}"
            )
        if not silent and there is _NOTHING:
            _set(found, new, value)
            notes.append(f"{where}: {old} is now {new}")
    for key in (*GONE, *_unset(found.get("pipeline"), "pipeline"), *fixed):
        if key not in own and (key not in fixed or _get(found, key) == fixed[key]):
            _drop(found, key)
    return found, notes


_NOTHING = object()


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _get(values: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(values, Mapping) or part not in values:
            return _NOTHING
        values = values[part]
    return values


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{key.partition('.')[0]}: expected a table of settings, found the value {values!r}")
    values[last] = value


def _drop(values: Any, key: str) -> None:
    """Remove a key such as `pipeline.pmf.width`, and all nested dictionaries that become empty."""
    first, _, rest = key.partition(".")
    if not isinstance(values, dict) or first not in values:
        return
    if rest:
        _drop(values[first], rest)
    if not rest or (values[first] == {} and first != "pipeline"):
        del values[first]


def _unset(values: Any, before: str) -> Iterator[str]:
    """Yield the keys whose value is `None`; nested keys are joined by dots, such as `pipeline.gamma`."""
    if isinstance(values, Mapping):
        for name, value in values.items():
            if value is None:
                yield f"{before}.{name}"
            yield from _unset(value, f"{before}.{name}")


def arguments_up_to_date(arguments: Sequence[str], kind: type) -> tuple[list[str], list[str]]:
    """Return a command line with all old options replaced by the current options, and one note per replaced option.

    Args:
        arguments: Options and values.
        kind: Class of the method.
    """
    notes: list[str] = []
    return list(_options(arguments, {**moved_keys(kind), **COMMAND}, notes)), notes


def _options(arguments: Sequence[str], keys: Mapping[str, str], notes: list[str]) -> Iterator[str]:
    rewrite: Callable[[str], str] | None = None
    for argument in arguments:
        option, equals, value = argument.partition("=")
        old = option.removeprefix("--")
        if not option.startswith("--") or old not in keys:
            yield rewrite(argument) if rewrite and not option.startswith("--") else argument
            rewrite = None
            continue
        notes.append(f"--{old} is now --{keys[old]}")
        rewrite = TYPED.get(old)
        if equals:
            yield f"--{keys[old]}={rewrite(value) if rewrite else value}"
            rewrite = None
        else:
            yield f"--{keys[old]}"


def say(notes: Sequence[str]) -> None:
    """Print each note once on standard error, one per line."""
    for note in dict.fromkeys(notes):
        logging.getLogger(__name__).warning("note: %s", one_line(note, 400))
