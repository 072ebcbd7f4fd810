"""How every benchmark here measures: alternatives side by side in one process, memory in a process of its own, the floor beside both.

A benchmark is a module with `prepare(case, method)`, which makes the inputs and hands back what is to be timed, and a `main` that
collects rows with `rows_of` and ends with `finish`. What a method makes once and keeps (a list of edges) it makes at its first call,
which is not timed but whose memory counts. `WARM`, where a module has it, names a small case: run beforehand, so that code that is
loaded at first use does not count as memory of the method.

`python -m benchmarks.measure MODULE CASE METHOD` prints the bytes that one run takes.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from erc_graph.data.storage import write_json
from erc_graph.experiments.environment import environment
from erc_graph.report.tables import text_table

RESULTS = Path(__file__).resolve().parent / "results"
THREADS = 2
Run = Callable[[], object]
Row = dict[str, Any]


def arguments(name: str, description: str, argv: list[str] | None = None) -> argparse.Namespace:
    """Options that all benchmarks share: `--json`, `--repeats`, `--threads`; sets the number of threads."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument("--json", type=Path, default=RESULTS / f"{name}.json", metavar="FILE", help="where the rows go")
    parser.add_argument("--repeats", type=int, default=9, help="interleaved repeats of every method (default: 9)")
    parser.add_argument("--threads", type=int, default=THREADS, help=f"threads of torch (default: {THREADS})")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    return options


def seconds(runs: Mapping[str, Run], repeats: int = 9) -> dict[str, float]:
    """Median seconds of every run: one untimed round, then rounds in which each has its turn, so that a busy moment hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in times.items()}


def peak_bytes(module: str, case: str, method: str) -> int:
    """Memory that one run needs above its inputs, in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.measure", module, case, method, str(torch.get_num_threads())]
    answer = subprocess.run(command, cwd=RESULTS.parents[1], capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SystemExit(f"{module} {case} {method}: {answer.stderr.strip().splitlines()[-1]}")
    return int(answer.stdout)


def rows_of(
    module: str, case: str, runs: Mapping[str, Run], *, floor: Run | None = None, repeats: int = 9, memory: Sequence[str] | None = None
) -> list[Row]:
    """One row per method of a case.

    Args:
        module: Name of the benchmark's module, for the memory's own process.
        case: Name of the case.
        runs: method → what is timed.
        floor: What no method can avoid, timed in the same rounds.
        repeats: Rounds.
        memory: Methods whose memory is measured, by default all.
    """
    timed = seconds({**runs, **({"floor": floor} if floor else {})}, repeats)
    rows = []
    for method in runs:
        peak = peak_bytes(module, case, method) if memory is None or method in memory else None
        rows.append({"case": case, "method": method, "seconds": timed[method], "peak_bytes": peak, "floor_seconds": timed.get("floor")})
    return rows


def finish(rows: list[Row], path: Path) -> int:
    """Print the table, write the JSON."""
    cells = []
    for row in rows:
        peak, floor = row["peak_bytes"], row["floor_seconds"]
        memory, ratio = "" if peak is None else f"{peak / 2**20:.1f}", "" if not floor else f"{row['seconds'] / floor:.2f}"
        cells.append([row["case"], row["method"], f"{1e3 * row['seconds']:.3f}", ratio, memory])
    print(text_table(["case", "method", "ms", "of floor", "peak MiB"], cells))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"environment": environment("cuda" if torch.cuda.is_available() else "cpu"), "rows": rows})
    return 0


def resident() -> tuple[int, int]:
    """Bytes now and at most. Not `ru_maxrss` where it can be helped: a child inherits that from the process that started it."""
    status = Path("/proc/self/status")
    if not status.exists():
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return most, most
    values = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
    return int(values["VmRSS"].split()[0]) * 1024, int(values["VmHWM"].split()[0]) * 1024


def main(argv: list[str] | None = None) -> int:
    module, case, method, threads = sys.argv[1:] if argv is None else argv
    torch.set_num_threads(int(threads))
    benchmark = importlib.import_module(module)
    if hasattr(benchmark, "WARM"):
        benchmark.prepare(benchmark.WARM, method)()
    run = benchmark.prepare(case, method)
    gc.collect()
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # what making the inputs took at most is forgotten
    before = resident()[0]
    run()
    print(resident()[1] - before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
