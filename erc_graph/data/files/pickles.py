"""Pickles of the field, read without running anything: numpy arrays, numbers, text and plain containers, nothing else.

A pickle is a program. Here its instructions are interpreted one by one: what a file may name are the few constructors of
`erc_graph.data.files.pickle_constructors`, instructions that make or change other objects do not exist, and what a small file may
build is bounded by its size.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from erc_graph.data.files.budget import content_of
from erc_graph.data.files.pickle_constructors import CONSTRUCTORS, RENAMED, Array, Constructor, Dtype, hashable
from erc_graph.errors import CorpusError

_DAMAGE = (
    EOFError, pickle.UnpicklingError, ValueError, IndexError, AttributeError, KeyError, TypeError, RecursionError, MemoryError,
    struct.error, ImportError, OverflowError, NotImplementedError,
)  # fmt: skip

# What a pickle may weigh in memory: a multiple of the file, so that a tiny file cannot ask for gigabytes by repetition.
_GROWTH, _ALLOWANCE = 16, 1 << 22
_ITEMS = 10**7  # that any file may have when every shared list is counted where it stands
_CONTAINERS = (list, tuple, set, frozenset, dict)


def spelled_out(value: Any) -> float:
    """Count the items of nested containers, shared ones wherever they stand, in one pass over the distinct ones; endless ones are infinite.

    >>> pair = [1, 2]
    >>> spelled_out([pair, pair, 3])
    7.0
    """
    sizes: dict[int, float] = {}
    under_way: set[int] = set()
    stack: list[tuple[Any, bool]] = [(value, False)]
    while stack:
        one, seen = stack.pop()
        if not isinstance(one, _CONTAINERS) or id(one) in sizes:
            continue
        inside = [part for part in (one.values() if isinstance(one, dict) else one) if isinstance(part, _CONTAINERS)]
        if seen:
            sizes[id(one)] = len(one) + sum(sizes[id(part)] for part in inside)
        elif id(one) in under_way:
            return math.inf
        else:
            under_way.add(id(one))
            stack.append((one, True))
            stack.extend((part, False) for part in inside)
    return float(sizes.get(id(value), 0))


def read_pickle(path: str | Path) -> Any:
    """Read a pickle that holds numpy arrays, numbers, text and plain containers.

    Files of Python 2 are read too (their byte strings as Latin-1). No code of the file runs.

    Args:
        path: The file.

    Returns:
        Lists, tuples, sets, dicts, numbers, text, bytes and numpy arrays; ordered and default dicts come as plain dicts.

    Raises:
        CorpusError: no such file; truncated or corrupt; or it names a class or a function that is not plain data.
    """
    path = Path(path)
    try:
        content = content_of(path)
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror or error}); expected a pickle file") from None
    return loads_pickle(content, path)


def loads_pickle(content: bytes, path: Path) -> Any:
    """Read as `read_pickle` does, from bytes already in memory; `path` is for messages.

    Raises:
        CorpusError: see `read_pickle`.
    """
    try:
        value = _PlainUnpickler(content, path).load()
        if (items := spelled_out(value)) > max(_ITEMS, _GROWTH * len(content)):
            raise CorpusError(
                f"{path}: lists that stand in one another again and again, {items:.0e} items in all; damaged, or made to harm"
            )
        return value
    except CorpusError:
        raise
    except _DAMAGE as error:
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise CorpusError(f"{path}: truncated or corrupt pickle ({reason}); {len(content)} bytes; fetch the file again") from None


_FORBIDDEN = (
    pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER,
)  # fmt: skip


# The interpreter that the standard library has in Python, not the C one: the latter's memo grows to whatever index a file
# names, and its BUILD and REDUCE cannot be narrowed. It costs about a microsecond per instruction, seconds for the largest files.
_PythonUnpickler: Any = pickle._Unpickler


class _PlainUnpickler(_PythonUnpickler):
    """Interprets a pickle with `CONSTRUCTORS`; instructions for anything else are refused."""

    def __init__(self, content: bytes, path: Path) -> None:
        super().__init__(io.BytesIO(content), fix_imports=False, encoding="latin1")
        self.path = path
        self.budget = _GROWTH * len(content) + _ALLOWANCE

    def charge(self, size: int) -> None:
        """Take `size` bytes from what this file may build."""
        self.budget -= size
        if self.budget < 0:
            raise CorpusError(f"{self.path}: builds far more than its size by repeating itself; refused as hostile or corrupt")

    def find_class(self, module: str, name: str) -> Constructor:
        """Return the constructor of a name.

        Raises:
            CorpusError: anything but the known ones.
        """
        found = CONSTRUCTORS.get((RENAMED.get(module, module), name))
        if found is not None:
            return found
        self.refuse(f"{module}.{name}"[:120])
        raise AssertionError  # not reached

    def refuse(self, name: str) -> None:
        """Say what was found and the way out."""
        if name.split(".")[-1] == "Sample":
            hint = "samples of COGMEN are objects of its own class: convert them once, as docs/corpora.md shows"
        elif name.startswith("torch"):
            hint = "convert tensors with `.numpy()` and save again, or save features as .safetensors or .npz"
        elif name.startswith("pandas"):
            hint = "save the table with `.to_csv(…)` or `.to_parquet(…)` and read that"
        else:
            hint = "keep only plain containers and numpy arrays, or write a table (CSV)"
        raise CorpusError(
            f"{self.path}: the pickle names {name!r}; expected numpy arrays, numbers, text and plain containers only. "
            f"Nothing of it was run; {hint}"
        )

    def persistent_load(self, identifier: Any) -> Any:
        """Objects stored elsewhere, as `torch.save` writes them: refused."""
        self.refuse("torch storage")

    def load_reduce(self) -> None:
        """REDUCE: only `CONSTRUCTORS`."""
        arguments = self.stack.pop()
        constructor = self.stack[-1]
        if not isinstance(constructor, Constructor) or not isinstance(arguments, tuple):
            raise pickle.UnpicklingError("a call of something that is no constructor")
        self.stack[-1] = constructor.make(self, *arguments)

    def load_build(self) -> None:
        """BUILD: only arrays and their item types have a state."""
        state = self.stack.pop()
        if not isinstance(self.stack[-1], Array | Dtype):
            raise pickle.UnpicklingError("a state for something that has none")
        self.stack[-1].restore(self, state)

    def load_inst(self) -> None:
        """INST: an object of an old-style class."""
        module, name = (self.readline()[:-1].decode("latin1") for _ in range(2))
        self.refuse(f"{module}.{name}"[:120])

    def load_setitem(self) -> None:
        """SETITEM, with a plain key."""
        hashable(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        """SETITEMS, with plain keys."""
        hashable(self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        """DICT, with plain keys."""
        hashable(self.stack[::2])
        super().load_dict()

    def load_additems(self) -> None:
        """ADDITEMS, of plain members."""
        hashable(self.stack)
        super().load_additems()

    def load_frozenset(self) -> None:
        """FROZENSET, of plain members."""
        hashable(self.stack)
        super().load_frozenset()

    def load_bytearray8(self) -> None:
        """BYTEARRAY8, without trusting its length."""
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(min(size, 1 << 62))))

    def load_forbidden(self) -> None:
        """Instructions that plain data never needs."""
        raise pickle.UnpicklingError("an instruction that plain data does not need")

    dispatch: ClassVar[dict[int, Callable[..., Any]]] = {
        **_PythonUnpickler.dispatch,
        **dict.fromkeys((code[0] for code in _FORBIDDEN), load_forbidden),
        pickle.REDUCE[0]: load_reduce,
        pickle.BUILD[0]: load_build,
        pickle.INST[0]: load_inst,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict,
        pickle.ADDITEMS[0]: load_additems,
        pickle.FROZENSET[0]: load_frozenset,
        pickle.BYTEARRAY8[0]: load_bytearray8,
    }
