"""Display of the progress of long computations: a bar on a terminal, or one line per minute in a log file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from typing import Any, ClassVar

from tqdm import tqdm

from erc_graph.data.printable import one_line

PAUSE = 60.0  # seconds between two lines, where standard error is no terminal
LINE = "{desc}: {n_fmt} of {total_fmt} ({percentage:.0f}%), {elapsed} so far, {remaining} left{postfix}"


class Progress(tqdm):
    """A progress bar of tqdm that prints lines of text if standard error is not a terminal.

    Nested progress bars together print at most one line per minute.

    Args:
        iterable: The iterable whose progress is shown. Without an iterable, the caller reports progress with `update`.
        disable: If true, nothing is printed. By default, the progress is printed; if there are several processes, only the first process
            prints.
        options: Options of tqdm (`desc`, `total`, `initial`, `unit`, …).
    """

    monitor_interval = 0  # no thread beside the work: every step looks at the clock
    due: ClassVar[float] = 0.0  # when the next line may come

    def __init__(self, iterable: Iterable[Any] | None = None, *, disable: bool | None = None, **options: Any) -> None:
        self.lines = not (hasattr(sys.stderr, "isatty") and sys.stderr.isatty())
        disable = disable or os.environ.get("RANK", "0") != "0"
        if self.lines and not disable:
            options |= {"leave": False, "mininterval": 0, "smoothing": 0, "bar_format": LINE}
            if time.monotonic() > Progress.due:  # nothing was under way
                Progress.due = time.monotonic() + PAUSE
        super().__init__(iterable, miniters=1, disable=disable, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Show the bar; without a terminal, print a line if a minute has passed since the last line.

        The library tqdm calls this method.
        """
        if not self.lines:
            return bool(super().display(msg, pos))
        if msg is None and time.monotonic() >= Progress.due:
            Progress.due = time.monotonic() + PAUSE
            print(one_line(self, 400), file=sys.stderr, flush=True)
        return False
