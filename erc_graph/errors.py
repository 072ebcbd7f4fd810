"""Error classes of the package. All error classes derive from `ErcGraphError`.

`StorageError` also derives from `OSError`, and the other subclasses also derive from `ValueError`. A message says what was expected, what
was found, and what the user can do. The message names the file, key, dialogue or utterance that caused the error. The command line prints
only the message, and ends with exit code 2.
"""

from __future__ import annotations

import reprlib


class ErcGraphError(Exception):
    """Base class of all error classes of erc_graph."""


class CorpusError(ErcGraphError, ValueError):
    """Raised for a corpus, an annotation file or a feature file that cannot be used."""


class ConfigError(ErcGraphError, ValueError):
    """Raised for a recipe, an experiment or an option with an unknown key, a wrong type or an impossible value."""


class CheckpointError(ErcGraphError, ValueError):
    """Raised for a saved model or run that is damaged, incomplete or of another version."""


class StorageError(ErcGraphError, OSError):
    """Raised when a file cannot be written (no space, no permission). No incomplete file is left."""


def expect(where: str, config: object, **checks: tuple[bool, str]) -> None:
    """Check the values of a configuration, and report all invalid values in one error.

    Args:
        where: Place of the object in the whole configuration, for example `pipeline.pmf`.
        config: The configuration object.
        **checks: For each field name, whether the value of the field is valid, and a description of valid values.

    Raises:
        ConfigError: at least one value is invalid. The message has one line per invalid value, with the path of the field, the expected
            values and the value that was found.
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
