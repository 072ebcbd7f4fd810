"""Memory use of this process."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path


def resident() -> tuple[int, int]:
    """Return the current and the peak resident memory of this process in bytes."""
    status = Path("/proc/self/status")
    if not status.exists():
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return most, most
    values = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
    return int(values["VmRSS"].split()[0]) * 1024, int(values["VmHWM"].split()[0]) * 1024


def forget_peak() -> int:
    """Reset the peak of the resident memory if the operating system allows it, and return the current resident memory in bytes."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return resident()[0]
