"""The errors a user can meet. Each is also a built-in error, so that `except ValueError` works too.

A message says what was expected, what was found, where (file, key, dialogue, utterance) and what to do.
The command line prints the message alone and ends with exit code 2.
"""

from __future__ import annotations

import reprlib


class ErcGraphError(Exception):
    """Anything that erc_graph refuses on purpose."""


class CorpusError(ErcGraphError, ValueError):
    """A corpus, an annotation file or a feature file that cannot be used as it is."""


class ConfigError(ErcGraphError, ValueError):
    """A recipe, an experiment or an option with an unknown key, a wrong type or an impossible value."""


class CheckpointError(ErcGraphError, ValueError):
    """A saved model or run that is damaged, incomplete or of another version."""


class StorageError(ErcGraphError, OSError):
    """A file that could not be written (no space, no permission); nothing half-written is left behind."""


def expect(where: str, config: object, **checks: tuple[bool, str]) -> None:
    """Refuse impossible values of a configuration, all at once.

    Args:
        where: Path of the configuration, for example `pipeline.pmf`.
        config: The object.
        **checks: Field → whether its value is good, and what is expected.

    Raises:
        ConfigError: one line per bad field: path, what was expected, what was found.
    """
    problems = [f"{where}.{name}: expected {words}, found {getattr(config, name)!r}" for name, (good, words) in checks.items() if not good]
    if problems:
        raise ConfigError("\n".join(problems))


def shortened(value: object) -> str:
    """Return a value that was found, for a message.

    >>> shortened([1] * 100)
    '[1, 1, 1, 1, 1, 1, ...]'
    """
    return reprlib.repr(value)[:100]
