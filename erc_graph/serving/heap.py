"""Functions that return freed memory to the operating system.

By default, the C library glibc gives every thread its own heap. Such a heap keeps the memory of large requests.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress

M_ARENA_MAX = -8  # of malloc.h


def one_heap() -> bool:
    """Let all threads of this process use one heap, and return whether glibc accepted the setting.

    Call this function before threads are started. The memory limit of a request is the address space in use plus a budget
    (`erc_graph.data.files.budget`). With one heap per thread, a request that exceeds this limit leaves address space in the heap of its
    thread. The limit would therefore grow with every such request.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1))
    except (OSError, AttributeError, TypeError):  # no glibc
        return False


def give_back() -> None:
    """Return free memory to the operating system, if glibc supports it."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
