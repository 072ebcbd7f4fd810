"""The constructors that a pickle may use: arrays, their data types, numbers, text, lists, sets and dictionaries.

All constructors are functions of this module. Constructors of numpy are not used, because `dtype.__setstate__` of numpy does not check its
input. The shape of an array is checked before memory is allocated. All memory counts towards the memory limit for the file.
"""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Callable
from typing import Any, Literal, Protocol, cast

import numpy as np

_DTYPE = re.compile(r"[biufcSUO?][0-9]{0,9}|[BhHIlLqQdg]")
_KEYS = (str, int, float, bytes, type(None), np.generic)


class Reader(Protocol):
    """The interpreter of pickles, with only the methods that the constructors call."""

    def charge(self, size: int) -> None:
        """Count `size` bytes towards the memory limit for the file."""


class Constructor:
    """A function that a pickle may call by its name. The interpreter of pickles calls it as `make(reader, *arguments)`."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make


class Dtype:
    """Data type of the elements of an array: kind, size and byte order. Structured data types and metadata are not supported."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any) -> None:
        code = code.decode("latin1") if isinstance(code, bytes) else code
        if not isinstance(code, str) or not _DTYPE.fullmatch(code):
            raise pickle.UnpicklingError("array of an unsupported data type")
        self.code, self.order = ("O" if code.startswith("O") else code), "="

    def restore(self, reader: Reader, state: Any) -> None:
        """Set the byte order from the state in a pickle; a state with structured data types raises an error.

        Raises:
            UnpicklingError: the data type is structured, or its byte order is unknown.
        """
        if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("array of a structured data type")
        order = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "=", "|"):
            raise pickle.UnpicklingError("array of unknown byte order")
        self.order = order

    @property
    def numpy(self) -> np.dtype[Any]:
        """Return the data type as a `numpy.dtype`."""
        return np.dtype(self.code) if self.order == "|" else np.dtype(self.code).newbyteorder(cast(Literal["<", ">", "="], self.order))


class Array(np.ndarray):
    """An array that a pickle first creates (opcode REDUCE) and then fills (opcode BUILD)."""

    def restore(self, reader: Reader, state: Any) -> None:
        """Fill the array from the state in a pickle, after a check that shape, data type and content agree.

        Raises:
            UnpicklingError: shape, data type and content do not agree.
        """
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise pickle.UnpicklingError("array state")
        shape, dtype, fortran, data = state[-4:]
        shape, kind, data = _checked(reader, shape, dtype, data)
        super().__setstate__((1, shape, kind, bool(fortran), data))  # type: ignore[arg-type]


def _checked(reader: Reader, shape: Any, dtype: Any, data: Any) -> tuple[tuple[int, ...], np.dtype[Any], Any]:
    """Check that shape, data type and content of an array agree, and return all three. Numpy would allocate memory before this check."""
    if not isinstance(dtype, Dtype):
        raise pickle.UnpicklingError("array without a data type")
    if not isinstance(shape, tuple) or len(shape) > 16 or not all(type(n) is int and n >= 0 for n in shape):
        raise pickle.UnpicklingError("array shape")
    kind, count = dtype.numpy, math.prod(shape)
    if kind.kind == "O":
        if not isinstance(data, list) or len(data) != count:
            raise pickle.UnpicklingError("array of objects whose list of items does not fit its shape")
        reader.charge(8 * count)
        return shape, kind, data
    if isinstance(data, str):  # byte string of Python 2
        data = data.encode("latin1")
    if not isinstance(data, bytes | bytearray) or len(data) != count * kind.itemsize:
        raise pickle.UnpicklingError("array content whose size does not match its shape")
    reader.charge(len(data))
    return shape, kind, bytes(data)


def _announce(reader: Reader, cls: Any, shape: Any = (0,), kind: Any = b"b") -> Any:
    if cls is not CONSTRUCTORS["numpy", "ndarray"]:
        raise pickle.UnpicklingError("array of a special class")
    return np.ndarray.__new__(Array, (0,), np.int8)


def _from_buffer(reader: Reader, data: Any, dtype: Any, shape: Any, order: Any = "C", *rest: Any) -> Any:
    shape = (shape,) if type(shape) is int else shape
    array = np.ndarray.__new__(Array, (0,), np.int8)
    array.restore(reader, (shape, dtype, order == "F", data))
    return array


def _scalar(reader: Reader, dtype: Any, data: Any = b"") -> Any:
    _, kind, data = _checked(reader, (), dtype, data)
    if kind.kind == "O":
        raise pickle.UnpicklingError("number of an unsupported type")
    return np.frombuffer(data, dtype=kind, count=1)[0] if kind.itemsize else kind.type()


def _encode(reader: Reader, text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("encoded bytes")
    reader.charge(len(text))
    return text.encode("latin1")


def _refuse(reader: Reader, *arguments: Any) -> Any:
    raise pickle.UnpicklingError("a call of a class that may not be called")


def _collect(make: Callable[[Any], Any]) -> Constructor:
    def collect(reader: Reader, items: Any = ()) -> Any:
        if not isinstance(items, list | tuple | set | frozenset):
            raise pickle.UnpicklingError("container built from a value that is not a container")
        reader.charge(64 * len(items))
        return make(hashable(items) if make is not list else items)

    return Constructor(collect)


def _mapping(reader: Reader, *arguments: Any) -> dict[Any, Any]:
    """Return a dict in place of an ordered or default dict. Key-value pairs are arguments only in pickles of Python 2."""
    pairs = arguments[-1] if arguments and isinstance(arguments[-1], list) else []
    reader.charge(64 * len(pairs))
    hashable([key for key, _ in pairs])
    return dict(pairs)


def hashable(keys: Any) -> Any:
    """Return `keys` after a check that all keys are text or numbers, because hashing deeply nested tuples would exhaust the C stack.

    Raises:
        UnpicklingError: a key is neither text nor a number.
    """
    if not all(isinstance(key, _KEYS) for key in keys):
        raise pickle.UnpicklingError("keys of dicts and members of sets must be text or numbers")
    return keys


CONSTRUCTORS: dict[tuple[str, str], Constructor] = {
    ("builtins", "set"): _collect(set),
    ("builtins", "frozenset"): _collect(frozenset),
    ("builtins", "list"): _collect(list),
    ("builtins", "dict"): Constructor(_mapping),
    ("builtins", "bytes"): Constructor(lambda reader: b""),  # how empty bytes are written for old protocols
    ("collections", "OrderedDict"): Constructor(_mapping),
    ("collections", "defaultdict"): Constructor(_mapping),
    ("_codecs", "encode"): Constructor(_encode),
    ("numpy", "ndarray"): Constructor(_refuse),
    ("numpy", "dtype"): Constructor(lambda reader, code, *rest: Dtype(code)),
    ("numpy.core.multiarray", "_reconstruct"): Constructor(_announce),
    ("numpy.core.multiarray", "scalar"): Constructor(_scalar),
    ("numpy.core.numeric", "_frombuffer"): Constructor(_from_buffer),
}


RENAMED = {
    "__builtin__": "builtins",
    "numpy._core.multiarray": "numpy.core.multiarray",
    "numpy._core.numeric": "numpy.core.numeric",
}
