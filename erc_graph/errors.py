"""Error classes of the package. Each one is also a built-in error, so `except ValueError` catches it too.

A message says what was expected, what was found, where (file, key, dialogue, utterance) and what to do. The command line prints only the
message and ends with exit code 2.
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
        **checks: Field → whether its value is valid, and which values are expected.

    Raises:
        ConfigError: at least one value is bad; one line per bad field names the path, what was expected and what was found.
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
