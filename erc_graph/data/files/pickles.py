"""Pickles of the field, read without running anything: numpy arrays, numbers, text and plain containers, nothing else.

A pickle is a program. Here its instructions are interpreted one by one: constructors that a file may name are the few in
`_CONSTRUCTORS`, each a function of this module (never numpy's own, whose `dtype.__setstate__` trusts what it is given),
instructions that make or change other objects do not exist, and what a small file may build is bounded by its size.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import numpy as np

from erc_graph.errors import CorpusError

_DAMAGE = (
    EOFError, pickle.UnpicklingError, ValueError, IndexError, AttributeError, KeyError, TypeError, RecursionError, MemoryError,
    struct.error, ImportError, OverflowError, NotImplementedError,
)  # fmt: skip

# What a pickle may weigh in memory: a multiple of the file, so that a tiny file cannot ask for gigabytes by repetition.
_GROWTH, _ALLOWANCE = 16, 1 << 22

_DTYPE = re.compile(r"[biufcSUO?][0-9]{0,9}|[BhHIlLqQdg]")
_KEYS = (str, int, float, bytes, type(None), np.generic)

_SAMPLES = """samples of COGMEN are objects of its own class. Convert them once, in the environment that wrote the file:
    import pickle
    data = pickle.load(open("data_iemocap.pkl", "rb"))
    rows = {split: [dict(vid=s.vid, speakers=s.speaker, labels=s.label, sentence=s.sentence, text=list(s.sbert_sentence_embeddings),
                         audio=list(s.audio), visual=list(s.visual)) for s in samples] for split, samples in data.items()}
    pickle.dump(rows, open("data_iemocap_plain.pkl", "wb"))
and read the new file."""


def read_pickle(path: str | Path) -> Any:
    """Content of a pickle that holds numpy arrays, numbers, text and plain containers.

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
        content = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror or error}); expected a pickle file") from None
    return loads_pickle(content, path)


def loads_pickle(content: bytes, path: Path) -> Any:
    """Like `read_pickle`, of bytes already in memory; `path` is for messages."""
    try:
        return _PlainUnpickler(content, path).load()
    except CorpusError:
        raise
    except _DAMAGE as error:
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise CorpusError(f"{path}: truncated or corrupt pickle ({reason}); {len(content)} bytes; fetch the file again") from None


class _Constructor:
    """A thing that a pickle names: applied to arguments by `make(reader, *arguments)`, and nothing else can be done with it."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make


class _Dtype:
    """Description of an array's items: a kind with its size, and a byte order; no fields, no sub-arrays, no metadata."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any) -> None:
        code = code.decode("latin1") if isinstance(code, bytes) else code
        if not isinstance(code, str) or not _DTYPE.fullmatch(code):
            raise pickle.UnpicklingError("array items of an unsupported type")
        self.code, self.order = ("O" if code.startswith("O") else code), "="

    def restore(self, reader: _PlainUnpickler, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("array items with fields are not supported")
        order = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "=", "|"):
            raise pickle.UnpicklingError("array items of unknown byte order")
        self.order = order

    @property
    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.code) if self.order == "|" else np.dtype(self.code).newbyteorder(cast(Literal["<", ">", "="], self.order))


class _Array(np.ndarray):
    """An array that is first announced and then filled (REDUCE, then BUILD)."""

    def restore(self, reader: _PlainUnpickler, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise pickle.UnpicklingError("array state")
        shape, dtype, fortran, data = state[-4:]
        shape, kind, data = _checked(reader, shape, dtype, data)
        super().__setstate__((1, shape, kind, bool(fortran), data))  # type: ignore[arg-type]


def _checked(reader: _PlainUnpickler, shape: Any, dtype: Any, data: Any) -> tuple[tuple[int, ...], np.dtype[Any], Any]:
    """Shape, items and content of an array, if they agree with each other (numpy allocates before it compares)."""
    if not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError("array without a type of items")
    if not isinstance(shape, tuple) or len(shape) > 16 or not all(type(n) is int and n >= 0 for n in shape):
        raise pickle.UnpicklingError("array shape")
    kind, count = dtype.numpy, math.prod(shape)
    if kind.kind == "O":
        if not isinstance(data, list) or len(data) != count:
            raise pickle.UnpicklingError("array of objects without a list of as many")
        reader.charge(8 * count)
        return shape, kind, data
    if isinstance(data, str):  # byte string of Python 2
        data = data.encode("latin1")
    if not isinstance(data, bytes | bytearray) or len(data) != count * kind.itemsize:
        raise pickle.UnpicklingError("array content of another size than its shape")
    reader.charge(len(data))
    return shape, kind, bytes(data)


def _announce(reader: _PlainUnpickler, cls: Any, shape: Any = (0,), kind: Any = b"b") -> Any:
    if cls is not _CONSTRUCTORS["numpy", "ndarray"]:
        raise pickle.UnpicklingError("array of a special class")
    return np.ndarray.__new__(_Array, (0,), np.int8)


def _from_buffer(reader: _PlainUnpickler, data: Any, dtype: Any, shape: Any, order: Any = "C", *rest: Any) -> Any:
    shape = (shape,) if type(shape) is int else shape
    array = np.ndarray.__new__(_Array, (0,), np.int8)
    array.restore(reader, (shape, dtype, order == "F", data))
    return array


def _scalar(reader: _PlainUnpickler, dtype: Any, data: Any = b"") -> Any:
    _, kind, data = _checked(reader, (), dtype, data)
    if kind.kind == "O":
        raise pickle.UnpicklingError("number of an unsupported type")
    return np.frombuffer(data, dtype=kind, count=1)[0] if kind.itemsize else kind.type()


def _encode(reader: _PlainUnpickler, text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("encoded bytes")
    reader.charge(len(text))
    return text.encode("latin1")


def _refuse(reader: _PlainUnpickler, *arguments: Any) -> Any:
    raise pickle.UnpicklingError("a class used as a function")


def _collect(make: Callable[[Any], Any]) -> _Constructor:
    def collect(reader: _PlainUnpickler, items: Any = ()) -> Any:
        if not isinstance(items, list | tuple | set | frozenset):
            raise pickle.UnpicklingError("container of something that is no container")
        reader.charge(64 * len(items))
        return make(_hashable(items) if make is not list else items)

    return _Constructor(collect)


def _mapping(reader: _PlainUnpickler, *arguments: Any) -> dict[Any, Any]:
    """Ordered and default dicts as plain ones: Python 2 gives the pairs, later versions add them afterwards."""
    pairs = arguments[-1] if arguments and isinstance(arguments[-1], list) else []
    reader.charge(64 * len(pairs))
    _hashable([key for key, _ in pairs])
    return dict(pairs)


def _hashable(keys: Any) -> Any:
    """The keys, if they are names or numbers: the hash of deeply nested tuples would exhaust the C stack."""
    if not all(isinstance(key, _KEYS) for key in keys):
        raise pickle.UnpicklingError("keys must be names or numbers")
    return keys


_CONSTRUCTORS: dict[tuple[str, str], _Constructor] = {
    ("builtins", "set"): _collect(set),
    ("builtins", "frozenset"): _collect(frozenset),
    ("builtins", "list"): _collect(list),
    ("builtins", "dict"): _Constructor(_mapping),
    ("builtins", "bytes"): _Constructor(lambda reader: b""),  # how empty bytes are written for old protocols
    ("collections", "OrderedDict"): _Constructor(_mapping),
    ("collections", "defaultdict"): _Constructor(_mapping),
    ("_codecs", "encode"): _Constructor(_encode),
    ("numpy", "ndarray"): _Constructor(_refuse),
    ("numpy", "dtype"): _Constructor(lambda reader, code, *rest: _Dtype(code)),
    ("numpy.core.multiarray", "_reconstruct"): _Constructor(_announce),
    ("numpy.core.multiarray", "scalar"): _Constructor(_scalar),
    ("numpy.core.numeric", "_frombuffer"): _Constructor(_from_buffer),
}
_RENAMED = {
    "__builtin__": "builtins",
    "numpy._core.multiarray": "numpy.core.multiarray",
    "numpy._core.numeric": "numpy.core.numeric",
}
_FORBIDDEN = (
    pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER,
)  # fmt: skip


# The interpreter that the standard library has in Python, not the C one: the latter's memo grows to whatever index a file
# names, and its BUILD and REDUCE cannot be narrowed. It costs about a microsecond per instruction, seconds for the largest files.
_PythonUnpickler: Any = pickle._Unpickler


class _PlainUnpickler(_PythonUnpickler):
    """Interprets a pickle with the constructors above; instructions for anything else are refused."""

    def __init__(self, content: bytes, path: Path) -> None:
        super().__init__(io.BytesIO(content), fix_imports=False, encoding="latin1")
        self.path = path
        self.budget = _GROWTH * len(content) + _ALLOWANCE

    def charge(self, size: int) -> None:
        """Take `size` bytes from what this file may build."""
        self.budget -= size
        if self.budget < 0:
            raise CorpusError(f"{self.path}: builds far more than its size by repeating itself; refused as hostile or corrupt")

    def find_class(self, module: str, name: str) -> _Constructor:
        """The constructor of that name.

        Raises:
            CorpusError: anything but the known ones.
        """
        found = _CONSTRUCTORS.get((_RENAMED.get(module, module), name))
        if found is not None:
            return found
        self.refuse(f"{module}.{name}"[:120])
        raise AssertionError  # not reached

    def refuse(self, name: str) -> None:
        """Say what was found and the way out."""
        if name.split(".")[-1] == "Sample":
            hint = _SAMPLES
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
        """REDUCE: only constructors of this module."""
        arguments = self.stack.pop()
        constructor = self.stack[-1]
        if not isinstance(constructor, _Constructor) or not isinstance(arguments, tuple):
            raise pickle.UnpicklingError("a call of something that is no constructor")
        self.stack[-1] = constructor.make(self, *arguments)

    def load_build(self) -> None:
        """BUILD: only arrays and their item types have a state."""
        state = self.stack.pop()
        if not isinstance(self.stack[-1], _Array | _Dtype):
            raise pickle.UnpicklingError("a state for something that has none")
        self.stack[-1].restore(self, state)

    def load_inst(self) -> None:
        """INST: an object of an old-style class."""
        module, name = (self.readline()[:-1].decode("latin1") for _ in range(2))
        self.refuse(f"{module}.{name}"[:120])

    def load_setitem(self) -> None:
        """SETITEM, with a plain key."""
        _hashable(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        """SETITEMS, with plain keys."""
        _hashable(self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        """DICT, with plain keys."""
        _hashable(self.stack[::2])
        super().load_dict()

    def load_additems(self) -> None:
        """ADDITEMS, of plain members."""
        _hashable(self.stack)
        super().load_additems()

    def load_frozenset(self) -> None:
        """FROZENSET, of plain members."""
        _hashable(self.stack)
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
