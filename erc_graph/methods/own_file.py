"""Methods in a user's own file, which are given as `my_method.py:Own` (file and class).

Loading such a file runs its code. The file is therefore loaded only if the user names it, on the command line or in a function call. If
only a saved run or model names the file, it is not loaded.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from erc_graph.data.printable import nearest, one_line
from erc_graph.errors import ConfigError
from erc_graph.methods import METHODS
from erc_graph.methods.registry import refuse_other

if TYPE_CHECKING:
    from erc_graph.methods.base import Method


def is_own(method: str) -> bool:
    """Return whether a method is given as a file, not as a name in `METHODS`.

    >>> is_own("my_method.py:Own"), is_own("pairwise")
    (True, False)
    """
    return ":" in method or method.endswith(".py")


def own_parts(method: str) -> tuple[Path, str]:
    """Return the file and the class of `my_method.py:Own`; without a class, the second value is an empty string.

    >>> own_parts("folder/my_method.py:Own")
    (PosixPath('folder/my_method.py'), 'Own')
    """
    file, _, kind = method.rpartition(":") if not method.endswith(".py") else (method, "", "")
    return Path(file), kind


def short_name(method: str) -> str:
    """Return the name of a method for tables: its name in `METHODS`, or the name of its class or file.

    >>> short_name("pairwise"), short_name("folder/my_method.py:Own")
    ('pairwise', 'Own')
    """
    return own_parts(method)[1] or Path(method).stem if is_own(method) else method


def same_method(first: str, second: str) -> bool:
    """Return whether two names denote the same method; folders are ignored, because a file may have been moved.

    >>> same_method("my_method.py:Own", "../my_method.py:Own"), same_method("pairwise", "hff")
    (True, False)
    """
    if not (is_own(first) and is_own(second)):
        return first == second
    (one, kind), (other, other_kind) = own_parts(first), own_parts(second)
    return (one.name, kind) == (other.name, other_kind)


def absolute(method: str) -> str:
    """Return a user's own method with the absolute path of its file, which is valid in any folder; return any other name unchanged."""
    if not is_own(method):
        return method
    file, kind = own_parts(method)
    return f"{file.resolve()}:{kind}" if kind else str(file.resolve())


def find_method(method: str) -> type[Method]:
    """Return the class of a method, given by its name in `METHODS`, or by a user's own file.

    Raises:
        ConfigError: the method does not exist, or `load_method` fails.
    """
    if is_own(method):
        return load_method(method)
    if method not in METHODS:
        found = f"{one_line(method, 80)!r}{nearest(method, METHODS, cutoff=0.7)}"
        raise ConfigError(f"method: expected a method that `erc-graph list methods` names, or FILE.py:CLASS, found {found}")
    return METHODS[method]


def load_method(method: str) -> type[Method]:
    """Import the file of `my_method.py:Own` under a unique module name and return the class.

    The file can import modules in its own folder. A file is imported again only if its content has changed.

    Raises:
        ConfigError: the file does not exist or cannot be imported, or the class does not exist or is not a method.
    """
    file, kind = own_parts(method)
    if not file.is_file():
        raise ConfigError(f"method: expected a Python file and a class, such as my_method.py:Own, found no file {one_line(str(file), 200)}")
    module = _imported(file.resolve())
    if not kind or not hasattr(module, kind):
        from erc_graph.methods.base import Method

        own = [value for value in vars(module).values() if isinstance(value, type) and value.__module__ == module.__name__]
        classes = [value.__name__ for value in own if issubclass(value, Method)]
        wanted = f"found no class {kind!r}" if kind else "found no class name"
        raise ConfigError(f"method: expected {file.name}:CLASS, {wanted}; the file has {', '.join(classes) or 'no subclass of Method'}")
    found = getattr(module, kind)
    refuse_other(found, f"{file}: {kind}")
    return found


def _imported(file: Path) -> ModuleType:
    """Import the module of a file; its name contains a hash of path and content, so a changed file is imported again."""
    name = f"erc_graph_own_{hashlib.sha256(str(file).encode() + b'|' + file.read_bytes()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"method: expected a Python file (.py), found {file}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their own module up
    try:
        with _beside(file.parent):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        show_own(error, file)
        words = one_line(f"{type(error).__name__}: {error}", 200)
        raise ConfigError(f"{file}: cannot be imported ({words}); the traceback above shows the line") from None
    return module


@contextmanager
def _beside(folder: Path) -> Iterator[None]:
    """Allow imports from `folder` inside the `with` block, so that a user's file can import modules next to it."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def show_own(error: BaseException, file: Path) -> None:
    """Print the traceback of `error`, starting at the user's file; for a syntax error, print only the error."""
    found = error.__traceback__
    while found is not None and found.tb_frame.f_code.co_filename != str(file):
        found = found.tb_next
    traceback.print_exception(type(error), error, found)


def own_sha256(method: str) -> str | None:
    """Return the SHA-256 of the file of a method; `None` for a method in `METHODS`."""
    return hashlib.sha256(own_parts(method)[0].read_bytes()).hexdigest() if is_own(method) else None
