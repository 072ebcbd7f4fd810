"""Reading of TOML files as Python values: `corpus.toml`, recipes (definitions) of graphs, and settings of experiments."""

from __future__ import annotations

import codecs
import os
import sys
from typing import Any

from erc_graph.data.files.budget import content_of, reading
from erc_graph.errors import ConfigError, ErcGraphError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


DEEPEST = 50  # tables and lists in one another


def read_toml(path: str | os.PathLike[str], refuse: type[ErcGraphError] = ConfigError, *, what: str = "") -> dict[str, Any]:
    """Read the tables of a TOML file.

    Args:
        path: The file; it may begin with a byte order mark.
        refuse: Class of the error that is raised.
        what: Description of the file, used in error messages.

    Raises:
        refuse: the file is missing, unreadable, not UTF-8, or not TOML. The message names the line.
    """
    where, content = f"{what} {path}".strip(), b""
    with reading(where, refuse):
        try:
            content = content_of(path, refuse)
            marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # as PowerShell writes
            values = tomllib.loads(content.decode("utf-16" if marked else "utf-8-sig"))
            _check_depth(values)
            return values
        except ErcGraphError:
            raise
        except UnicodeDecodeError as error:
            raise refuse(f"{where}: expected UTF-8 text, found byte {error.object[error.start]:#04x} at {error.start}") from None
        except RecursionError:
            raise refuse(f"{where}: not valid TOML: nested too deeply") from None
        except ValueError as error:  # TOMLDecodeError, a path with a NUL, and numbers beyond Python's limits
            raise refuse(f"{where}: not valid TOML: {error}{_hint(content)}") from None
        except OSError as error:
            raise refuse(f"{where}: cannot be read ({error.strerror or error})") from None


def _check_depth(values: dict[str, Any]) -> None:
    """Check that nested tables are not too deep for recursive functions. Dotted keys can nest tables to any depth.

    Raises:
        RecursionError: the tables are nested too deeply.
    """
    level: list[Any] = [values]
    for _ in range(DEEPEST):
        inside = [list(one.values()) if isinstance(one, dict) else one for one in level if isinstance(one, (dict, list))]
        if not inside:
            return
        level = [value for one in inside for value in one]
    raise RecursionError


def _hint(content: bytes) -> str:
    """Return a hint for typical errors: curly quotes of word processors, and backslashes in paths of Windows."""
    if any(quote.encode() in content for quote in "“”„‘’"):
        return "; the file has curly quotes; TOML needs straight quotes"
    if b"\\" in content:
        return "; a backslash in double quotes begins an escape sequence; write / between folders"
    return ""
