"""Memory that was freed goes back: by default, glibc gives every thread a heap of its own, which keeps what a large request took."""

from __future__ import annotations

import ctypes
from contextlib import suppress

M_ARENA_MAX = -8  # of malloc.h


def one_heap() -> bool:
    """Let all threads of this process allocate from one heap, if called before there are threads; returns whether glibc took it.

    Else requests that are refused for the memory they ask for (`erc_graph.data.files.budget`) leave as much behind, each anew: the budget
    counts address space that is used, and what a thread's heap holds is used.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1))
    except (OSError, AttributeError, TypeError):  # no glibc
        return False


def give_back() -> None:
    """Hand memory that is free to the operating system, where glibc does that."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
