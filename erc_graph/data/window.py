"""A sliding window over the last rows (utterances) of a conversation that is still going on."""

from __future__ import annotations

import torch
from torch import Tensor

_FIRST = 16  # rows set aside at first


class Window:
    """The newest row of a growing conversation and up to `past` rows before the newest row. Each utterance adds one row.

    Rows are appended to a buffer. When the buffer is full, the rows of the window are copied to the beginning of the buffer. The average
    cost per new row is therefore constant. The rows of the window are always contiguous in memory. If `past` is a number, the buffer never
    has more than `4 * past + 16` rows.

    Args:
        past: Largest number of rows in the window before the newest row; `None`: no limit.

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
        """Append a row, and return the window: at most `past + 1` rows, the oldest first, stacked along a new first axis.

        The result is a view of the buffer, which is valid only until the next call of `push`.
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
        """Remove the newest row. This method can be called only once between two calls of `push`."""
        self._end -= 1

    def _first(self) -> int:
        """Return the index of the oldest row that is still in the window after the next call of `push`."""
        return 0 if self.past is None else max(0, self._end - self.past)

    @property
    def nbytes(self) -> int:
        """Return the size of the buffer in bytes."""
        return 0 if self._rows is None else self._rows.nbytes
