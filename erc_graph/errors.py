"""Error classes of the package. Each class also derives from `ValueError`, or in the case of `StorageError` from `OSError`.

A message says what was expected, what was found, where, and what to do. It names the file, key, dialogue or utterance of the error. The
command line prints only the message and ends with exit code 2.
"""

from __future__ import annotations

import reprlib


class ErcGraphError(Exception):
    """Base class of all errors that erc_graph raises on purpose."""


class CorpusError(ErcGraphError, ValueError):
    """Raised for a corpus, an annotation file or a feature file that cannot be used."""


class ConfigError(ErcGraphError, ValueError):
    """Raised for a recipe, an experiment or an option with an unknown key, a wrong type or an impossible value."""


class CheckpointError(ErcGraphError, ValueError):
    """Raised for a saved model or run that is damaged, incomplete or of another version."""


class StorageError(ErcGraphError, OSError):
    """Raised when a file cannot be written (no space, no permission). No half-written file is left behind."""


def expect(where: str, config: object, **checks: tuple[bool, str]) -> None:
    """Check the values of a configuration and report all bad ones at once.

    Args:
        where: Path of the configuration, for example `pipeline.pmf`.
        config: The configuration object.
        **checks: Field name → (whether the value is valid, which values are expected).

    Raises:
        ConfigError: at least one value is bad. The message has one line per bad field, with its path, what was expected and what was found.
    """
    problems = [f"{where}.{name}: expected {words}, found {getattr(config, name)!r}" for name, (good, words) in checks.items() if not good]
    if problems:
        raise ConfigError("\n".join(problems))


def shortened(value: object) -> str:
    """Return the text of a value, short enough for an error message.

    >>> shortened([1] * 100)
    '[1, 1, 1, 1, 1, 1, ...]'
    """
    return reprlib.repr(value)[:100]
