"""A window over the last rows of a live conversation."""

from __future__ import annotations

import torch
from torch import Tensor

_FIRST = 16  # rows set aside at first


class Window:
    """The newest row and a number of rows before it, in order, for conversations that arrive utterance by utterance.

    Rows are appended to a buffer; when it is full, the rows in the window move to its beginning. A new row therefore has constant cost on
    average, and the rows are contiguous for matrix products. A bounded window never holds more than `4 * past + 16` rows.

    Args:
        past: Number of rows kept before the newest; `None`: all.

    >>> window = Window(past=2)
    >>> [window.push(torch.tensor(i)).tolist() for i in range(5)]
    [[0], [0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4]]
    >>> window.forget()
    >>> window.push(torch.tensor(9)).tolist()
    [2, 3, 9]
    """

    def __init__(self, past: int | None) -> None:
        self.past = past
        self._rows: Tensor | None = None
        self._end = 0

    def push(self, row: Tensor) -> Tensor:
        """Append a row `(...)` and return the rows in the window `(n, ...)`, oldest first, at most `past + 1`; a view until the next
        push.
        """
        if self._rows is None:
            self._rows = row.new_empty(_FIRST, *row.shape)
        if self._end == len(self._rows):
            kept = self._rows[self._first() :]
            if 2 * len(kept) > len(self._rows):
                self._rows = torch.cat([kept, kept.new_empty(2 * len(self._rows) - len(kept), *row.shape)])
            else:
                self._rows[: len(kept)] = kept
            self._end = len(kept)
        self._rows[self._end] = row
        first = self._first()
        self._end += 1
        return self._rows[first : self._end]

    def forget(self) -> None:
        """Remove the newest row, before the next one is appended."""
        self._end -= 1

    def _first(self) -> int:
        """Oldest row that counts beside one more to come."""
        return 0 if self.past is None else max(0, self._end - self.past)

    @property
    def nbytes(self) -> int:
        """Return the memory in bytes."""
        return 0 if self._rows is None else self._rows.nbytes
