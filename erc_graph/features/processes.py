"""Several processes on one task (`accelerate launch`, `torchrun`): each takes a share, and what is done is seen in files.

No process talks to another, so a share that takes hours runs into no time-out; where one dies, the launcher ends the others.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """Which of how many.

    Attributes:
        number: From 0.
        of: Number of processes.
        local: Number among those of this machine.
    """

    number: int = 0
    of: int = 1
    local: int = 0

    @classmethod
    def of_launcher(cls) -> Share:
        """Read the share from `RANK`, `WORLD_SIZE` and `LOCAL_RANK`, as the launcher sets them; alone without one."""
        number, of, local = (int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0)))
        return cls(number, max(1, of), local)

    @property
    def first(self) -> bool:
        """Return whether this is the one that writes what all share, and prints."""
        return self.number == 0


def wait_for(done: Callable[[], bool], pause: float = 0.2) -> None:
    """Wait until `done()` holds."""
    while not done():
        time.sleep(pause)
