"""What a pickle claims about its arrays is checked before anything is built."""

from __future__ import annotations

import struct

import pytest

from erc_graph.data.files.pickles import loads_pickle
from tests.data.files.test_pickles import HERE, array_state, dtype_state, refused

HUGE = b"\x8a\x06\x00\x00\x00\x00\x00\x01\x85"  # a shape of 2**40


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (array_state(HUGE, dtype_state(b"f8"), b"C\x00"), "whose size does not match its shape"),
        (array_state(HUGE, dtype_state(b"O8"), b"]"), "whose list of items does not fit its shape"),
        (array_state(b"K\x01\x85", dtype_state(b"O8"), b"C\x08AAAAAAAA"), "whose list of items does not fit its shape"),
        (array_state(b"K\x01\x85", dtype_state(b"V8"), b"C\x08AAAAAAAA"), "unsupported data type"),
        (array_state(b"K\x01\x85", dtype_state(b"M8"), b"C\x08AAAAAAAA"), "unsupported data type"),
        (array_state(b"K\x01\x85", dtype_state(b"f8", b"N\x8c\x01x\x85}"), b"C\x08AAAAAAAA"), "structured data type"),
        (array_state(b"J\xff\xff\xff\xff\x85", dtype_state(b"f8"), b"C\x00"), "array shape"),
        (array_state(b"K\x01\x85", b"K\x07", b"C\x08AAAAAAAA"), "without a data type"),
        (b"\x80\x02cnumpy.core.multiarray\nscalar\n" + dtype_state(b"O8") + b"]\x86R.", "truncated or corrupt"),
        (b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nc__builtin__\nset\nK\x00\x85C\x01b\x87R.", "special class"),
        (b"\x80\x02cnumpy\nndarray\nK\x01\x85\x85R.", "a call of a class that may not be called"),
        (b"\x80\x02c__builtin__\nset\n}\x8c\x01xK\x01sb.", "sets the state of an object without a state"),
        (b"\x80\x02c__builtin__\nset\n)\x81.", r"an operation \(opcode\) that arrays, numbers and text do not need"),
        (b"\x80\x02]K\x01\x85R.", "not a constructor"),
        (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x04\x00\x00\x00zlib\x86R.", "encoded bytes"),
        (b"\x80\x02c__builtin__\nset\nX\x04\x00\x00\x00text\x85R.", "not a container"),
        (b"\x80\x04" + b")" + b"\x85" * 200_000 + b"}\x94" + b"\x86.", ""),
        (b"\x80\x02K\x01r\xff\xff\xff\xff\x82\x01.", "do not need"),
        (b"\x80\x04B" + struct.pack("<I", 2**31) + b"abc", "truncated or corrupt"),
        (b"\x80\x05\x96" + struct.pack("<Q", 2**50) + b"abc", "truncated or corrupt"),
        (b"\x80\x04\x95" + struct.pack("<Q", 2**50) + b"abc", "truncated or corrupt"),
        (b"", "truncated or corrupt"),
        (b"\x80\x09.", "unsupported pickle protocol"),
    ],
)
def test_impossible_instructions(content: bytes, match: str) -> None:
    if match:
        refused(content, match)
    else:
        assert isinstance(loads_pickle(content, HERE), tuple)  # deep, but never hashed or walked
