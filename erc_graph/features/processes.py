"""Division of work among several processes (`accelerate launch`, `torchrun`). Files record which work is finished.

The processes do not exchange messages, so a process that needs hours cannot cause a timeout in another process. If one process fails, the
launcher ends the other processes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """The share of the work (inputs to encode, or encoders to train) that one of several processes does.

    Attributes:
        number: Number of the process, from 0.
        of: Number of processes.
        local: Number of the process on its machine, from 0.
    """

    number: int = 0
    of: int = 1
    local: int = 0

    @classmethod
    def of_launcher(cls) -> Share:
        """Read the attributes from the environment variables `RANK`, `WORLD_SIZE` and `LOCAL_RANK`, which the launcher sets.

        Without a launcher, a single process does all the work.
        """
        number, of, local = (int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0)))
        return cls(number, max(1, of), local)

    @property
    def first(self) -> bool:
        """Return whether this process writes the shared files and prints messages."""
        return self.number == 0


def wait_for(done: Callable[[], bool], pause: float = 0.2) -> None:
    """Wait until the function `done` returns True; the function is called every `pause` seconds."""
    while not done():
        time.sleep(pause)
