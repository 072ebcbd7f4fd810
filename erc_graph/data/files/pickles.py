"""Reading of pickles without running their code. Only numpy arrays, numbers, text, lists, tuples, sets and dicts are allowed.

A pickle is a program. This module interprets the operations (opcodes) of the pickle one by one. A file may only use the constructors of
`erc_graph.data.files.pickle_constructors`. Opcodes that create or change other objects are not implemented. The memory for the result is
limited by the size of the file.
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
    """Count the items of nested containers (lists, tuples, sets, dicts). If a container occurs several times, its items count every time.

    Each distinct container is visited once. A container that contains itself has infinitely many items.

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
    """Read a pickle of numpy arrays, numbers, text, lists, tuples, sets and dicts.

    Pickles of Python 2 are also read; their byte strings are decoded as Latin-1. No code of the file is run.

    Args:
        path: The file.

    Returns:
        Lists, tuples, sets, dicts, numbers, text, bytes and numpy arrays. Ordered and default dicts become plain dicts.

    Raises:
        CorpusError: the file does not exist, is truncated or corrupt, or uses a class or function that is not allowed.
    """
    path = Path(path)
    try:
        content = content_of(path)
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror or error}); expected a pickle file") from None
    return loads_pickle(content, path)


def loads_pickle(content: bytes, path: Path) -> Any:
    """Read a pickle from bytes in memory, in the same way as `read_pickle`. `path` is used in error messages.

    Raises:
        CorpusError: the pickle is truncated or corrupt, or uses a class or function that is not allowed.
    """
    try:
        value = _PlainUnpickler(content, path).load()
        if (items := spelled_out(value)) > max(_ITEMS, _GROWTH * len(content)):
            raise CorpusError(
                f"{path}: nested lists with {items:.0e} items in total, too many for the size of the file; "
                "the file may be damaged or malicious"
            )
        return value
    except CorpusError:
        raise
    except _DAMAGE as error:
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise CorpusError(
            f"{path}: truncated or corrupt pickle of {len(content)} bytes ({reason}); download or copy the file again"
        ) from None


_FORBIDDEN = (
    pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER,
)  # fmt: skip


# The interpreter that the standard library has in Python, not the C one: the latter's memo grows to whatever index a file
# names, and its BUILD and REDUCE cannot be narrowed. It costs about a microsecond per instruction, seconds for the largest files.
_PythonUnpickler: Any = pickle._Unpickler


class _PlainUnpickler(_PythonUnpickler):
    """An interpreter of pickles. Constructors that are not in `CONSTRUCTORS` raise an error."""

    def __init__(self, content: bytes, path: Path) -> None:
        super().__init__(io.BytesIO(content), fix_imports=False, encoding="latin1")
        self.path = path
        self.budget = _GROWTH * len(content) + _ALLOWANCE

    def charge(self, size: int) -> None:
        """Count `size` bytes towards the memory limit for this file."""
        self.budget -= size
        if self.budget < 0:
            raise CorpusError(
                f"{self.path}: repeated objects in the file need far more memory than its size allows, so the file is "
                f"malicious or corrupt and is not read"
            )

    def find_class(self, module: str, name: str) -> Constructor:
        """Return the constructor with the given module and name.

        Raises:
            CorpusError: the constructor is not one of `CONSTRUCTORS`.
        """
        found = CONSTRUCTORS.get((RENAMED.get(module, module), name))
        if found is not None:
            return found
        self.refuse(f"{module}.{name}"[:120])
        raise AssertionError  # not reached

    def refuse(self, name: str) -> None:
        """Raise an error that says which class or function was found and what to do."""
        if name.split(".")[-1] == "Sample":
            hint = "samples of COGMEN are objects of a class of COGMEN; convert them once as shown in docs/corpora.md"
        elif name.startswith("torch"):
            hint = "convert tensors with `.numpy()` and save again, or save features as .safetensors or .npz"
        elif name.startswith("pandas"):
            hint = "save the table with `.to_csv(…)` or `.to_parquet(…)` and read that"
        else:
            hint = "keep only lists, dicts and numpy arrays, or write a table (CSV)"
        raise CorpusError(
            f"{self.path}: expected a pickle of numpy arrays, numbers, text, lists and dicts only, found an object of the type {name!r}. "
            f"No code was run; {hint}"
        )

    def persistent_load(self, identifier: Any) -> Any:
        """Raise an error for objects that are stored outside the pickle, such as tensors in a file of `torch.save`."""
        self.refuse("torch storage")

    def load_reduce(self) -> None:
        """Run the opcode REDUCE (a call), but only for constructors of `CONSTRUCTORS`."""
        arguments = self.stack.pop()
        constructor = self.stack[-1]
        if not isinstance(constructor, Constructor) or not isinstance(arguments, tuple):
            raise pickle.UnpicklingError("a call of an object that is not a constructor")
        self.stack[-1] = constructor.make(self, *arguments)

    def load_build(self) -> None:
        """Run the opcode BUILD (set the state of an object), only for arrays and their data types."""
        state = self.stack.pop()
        if not isinstance(self.stack[-1], Array | Dtype):
            raise pickle.UnpicklingError("an operation that sets the state of an object without a state")
        self.stack[-1].restore(self, state)

    def load_inst(self) -> None:
        """Raise an error for the opcode INST, which creates an object of an old-style class."""
        module, name = (self.readline()[:-1].decode("latin1") for _ in range(2))
        self.refuse(f"{module}.{name}"[:120])

    def load_setitem(self) -> None:
        """Run the opcode SETITEM, only with text or a number as key."""
        hashable(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        """Run the opcode SETITEMS, only with text or numbers as keys."""
        hashable(self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        """Run the opcode DICT, only with text or numbers as keys."""
        hashable(self.stack[::2])
        super().load_dict()

    def load_additems(self) -> None:
        """Run the opcode ADDITEMS, only with text or numbers as members of the set."""
        hashable(self.stack)
        super().load_additems()

    def load_frozenset(self) -> None:
        """Run the opcode FROZENSET, only with text or numbers as members of the set."""
        hashable(self.stack)
        super().load_frozenset()

    def load_bytearray8(self) -> None:
        """Run the opcode BYTEARRAY8 without allocating the length that the file claims."""
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(min(size, 1 << 62))))

    def load_forbidden(self) -> None:
        """Raise an error for an operation (opcode) that arrays, numbers and text do not need."""
        raise pickle.UnpicklingError("an operation (opcode) that arrays, numbers and text do not need")

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
