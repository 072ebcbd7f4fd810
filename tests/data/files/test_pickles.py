"""Pickles are read without running anything, and everything that goes wrong is one CorpusError."""

from __future__ import annotations

import collections
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from erc_graph.data.files.pickles import loads_pickle, read_pickle
from erc_graph.errors import CorpusError

HERE = Path("file.pkl")

CONTENT = [
    {"rows": [np.arange(5.0), np.float32(2), np.int64(3)], "names": np.array(["x", "yy"])},
    {"s", "t"},
    frozenset([1]),
    b"abc",
    b"",
    (1, 2.5, None, True, 10**30),
    collections.OrderedDict(a=1),
    collections.defaultdict(list, {"k": [1]}),
    np.asfortranarray(np.arange(6).reshape(2, 3)),
    np.array([1, "a", None, [2]], dtype=object),
    np.arange(3, dtype=">f4"),
    np.zeros((0, 3)),
    np.array(3.0),
    np.bool_(True),
    np.str_("hi"),
]


def refused(content: bytes, match: str) -> None:
    with pytest.raises(CorpusError, match=match):
        loads_pickle(content, HERE)


def array_state(shape: bytes, dtype: bytes, data: bytes) -> bytes:
    start = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01"
    return start + shape + dtype + b"\x89" + data + b"tb."


def dtype_state(code: bytes, fields: bytes = b"NNN") -> bytes:
    state = b"(K\x03U\x01<" + fields + b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    return b"cnumpy\ndtype\nU" + bytes([len(code)]) + code + b"\x89\x88\x87R" + state


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_content_comes_back_in_every_protocol(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "plain.pkl"
    path.write_bytes(pickle.dumps(CONTENT, protocol=protocol))
    read = read_pickle(path)
    for mine, theirs in zip(read[0]["rows"], CONTENT[0]["rows"], strict=True):  # type: ignore[index]
        np.testing.assert_array_equal(mine, theirs)
        assert mine.dtype == theirs.dtype
    assert read[0]["names"].tolist() == ["x", "yy"]
    assert read[1:8] == [{"s", "t"}, frozenset([1]), b"abc", b"", (1, 2.5, None, True, 10**30), {"a": 1}, {"k": [1]}]
    np.testing.assert_array_equal(read[8], np.arange(6).reshape(2, 3))
    assert read[9].tolist() == [1, "a", None, [2]]
    assert read[10].tolist() == [0, 1, 2] and read[11].shape == (0, 3) and read[12] == 3 and read[13] and read[14] == "hi"


def test_python_2_pickle_with_byte_strings_sets_and_arrays() -> None:
    # As cPickle of Python 2 writes protocol 2: str as SHORT_BINSTRING, sets by a call, numpy's old module names.
    text = b"\x80\x02}q\x00U\x04caf\xe9q\x01" + b"c__builtin__\nset\nq\x02]q\x03(K\x01K\x02e\x85Rq\x04"
    assert loads_pickle(text + b"s.", HERE) == {"café": {1, 2}}
    array = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87Rq\x03(K\x01K\x02\x85"
        b"cnumpy\ndtype\nq\x04U\x02f8K\x00K\x01\x87Rq\x05(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x10"
        + struct.pack("<2d", 1.5, -2.0)
        + b"tb."
    )
    np.testing.assert_array_equal(loads_pickle(array, HERE), [1.5, -2.0])
    scalar = b"\x80\x02cnumpy.core.multiarray\nscalar\n" + dtype_state(b"i8") + b"U\x08"
    assert loads_pickle(scalar + struct.pack("<q", 300) + b"\x86R.", HERE) == 300


class Runs:
    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> tuple[object, object]:
        return self.call[0], tuple(self.call[1:])


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_hostile_calls_are_named_and_not_run(protocol: int, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    for call, name in (
        ((os.system, f"touch {ran}"), "system"),
        ((eval, f"open({str(ran)!r}, 'w')"), "eval"),
        ((getattr, [], "append"), "getattr"),
        ((np.load, str(ran)), "load"),
        ((np.frombuffer, b"12345678"), "frombuffer"),
        ((open, str(ran), "w"), "open"),
        ((__import__, "os"), "__import__"),
        ((bytearray, 10**12), "bytearray"),
    ):
        refused(pickle.dumps({"a": [Runs(*call)]}, protocol=protocol), rf"found an object of the type '.*{name}'")
    assert not ran.exists()


def test_classes_of_other_projects_get_the_way_out(tmp_path: Path) -> None:
    def named(module: str, name: str) -> bytes:
        return pickle.PROTO + b"\x02c" + f"{module}\n{name}\n".encode() + b")\x81}b."

    refused(named("cogmen.Sample", "Sample"), "samples of COGMEN are objects of a class of COGMEN")
    refused(named("Sample", "Sample"), "docs/corpora.md")
    refused(named("torch._utils", "_rebuild_tensor_v2"), "numpy")
    refused(named("pandas.core.frame", "DataFrame"), "to_csv")
    refused(b"(iSample\nSample\np0\n(dp1\nb.", "samples of COGMEN")
    refused(b"\x80\x02U\x07storageQ.", "torch storage")
    refused(b"Pstorage\n.", "torch storage")


def test_conversion_of_samples_that_the_message_shows_is_python() -> None:
    with pytest.raises(CorpusError) as caught:
        loads_pickle(b"cSample\nSample\n.", HERE)
    lines = [line[4:] for line in str(caught.value).splitlines() if line.startswith("    ")]
    compile("\n".join(lines), "message", "exec")


@pytest.mark.parametrize("use", [b"K\x01s.", b"\x90.", b"\x91."])
def test_deep_tuples_are_no_keys(use: bytes) -> None:
    container = {b"K\x01s.": b"}", b"\x90.": b"\x8f(", b"\x91.": b"("}[use]
    refused(b"\x80\x04" + container + b")" + b"\x85" * 100_000 + use, "keys of dicts and members of sets must be text or numbers")


def test_repetition_cannot_ask_for_gigabytes() -> None:
    data = b"x" * 100_000
    start = b"\x80\x04X" + struct.pack("<I", len(data)) + data + b"\x94c_codecs\nencode\n\x94]("
    refused(start + b"h\x01h\x00\x85R" * 1000 + b"e.", "need far more memory than its size allows")


def test_shared_lists_cannot_ask_for_hours() -> None:
    """Lists of one list, level upon level: small in memory, endless for whoever walks through them."""
    row: list[Any] = [1.0] * 10
    for _ in range(8):
        row = [row] * 10
    with pytest.raises(CorpusError, match=r"talk: nested lists with 1e\+09 items in total"):
        loads_pickle(pickle.dumps(row), Path("talk"))
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(CorpusError, match="nested lists with inf items in total"):
        loads_pickle(pickle.dumps(endless), Path("talk"))
    same = ["a", "b"]
    assert loads_pickle(pickle.dumps([same] * 1000), Path("talk")) == [same] * 1000


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_truncation_anywhere_is_one_clear_error(protocol: int) -> None:
    whole = pickle.dumps(CONTENT, protocol=protocol)
    for cut in range(len(whole)):
        refused(whole[:cut], "truncated or corrupt|found an object of the type")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_damage_gives_content_or_a_corpus_error(data: st.DataObject) -> None:
    whole = bytearray(pickle.dumps(CONTENT, protocol=data.draw(st.sampled_from([0, 2, 4]))))
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        loads_pickle(bytes(whole), HERE)
    except CorpusError as error:
        assert "file.pkl" in str(error)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"\x80\x02", b"\x80\x04}", b"\x80\x04]("]))
def test_random_bytes(content: bytes, start: bytes) -> None:
    try:
        loads_pickle(start + content, HERE)
    except CorpusError as error:
        assert "file.pkl" in str(error)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="cannot be read"):
        read_pickle(tmp_path / "none.pkl")
    with pytest.raises(CorpusError, match="cannot be read"):
        read_pickle(tmp_path)
