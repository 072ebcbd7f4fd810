"""Functions that measure time and memory for all benchmarks: interleaved timing in one process, and memory in a separate process.

A benchmark is a module with the functions `prepare` and `main`. `prepare(case, method)` makes the inputs and returns the function to time.
`main` collects the rows of the table with `rows_of`, and calls `finish` at the end. Data that a method caches, such as a list of edges, is
computed in the first call. The first call is not timed, but its memory is included. The constant `WARM` of a module names a small case that
is run first, so that the memory excludes code that is loaded at first use. The `floor` of a table is the time of only those operations that
every implementation needs.

`python -m benchmarks.measure MODULE CASE METHOD THREADS DEVICE` prints the memory in bytes and the time in seconds of one run.

With `--device cuda`, inputs and model are on the GPU. The memory is then the peak of PyTorch's allocator, without the inputs.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from erc_graph.data.files.storage import write_json
from erc_graph.experiments.environment import environment
from erc_graph.experiments.memory import forget_peak, resident
from erc_graph.report.text_tables import text_table

RESULTS = Path(__file__).resolve().parent / "results"
THREADS = 2
PEAKS = 3  # processes whose peaks the median is taken of: where freed memory goes differs from run to run
Run = Callable[[], object]
Row = dict[str, Any]


class There:
    """A context manager, `with there:`, in which tensors are made on the requested device."""

    device = "cpu"

    def __enter__(self) -> None:
        self.context = torch.device(self.device)
        self.context.__enter__()

    def __exit__(self, *error: object) -> None:
        self.context.__exit__(*error)


there = There()


def arguments(
    name: str, description: str, argv: list[str] | None = None, cases: Sequence[str] = (), *, threads: int = THREADS, methods: bool = False
) -> argparse.Namespace:
    """Parse the common options `--json`, `--repeats`, `--threads` and `--device`, and set the number of threads and the device.

    Results of a device other than the CPU go to a separate file.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument("--json", type=Path, metavar="FILE", help=f"file of the rows (default: benchmarks/results/{name}[_DEVICE].json)")
    parser.add_argument("--repeats", type=int, default=9, help="interleaved repeats of every method (default: 9)")
    parser.add_argument("--threads", type=int, default=threads, help=f"threads of PyTorch (default: {threads})")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="device of the tensors (default: cpu)")
    if cases:
        parser.add_argument("--cases", nargs="+", choices=cases, default=list(cases), metavar="CASE", help="cases to run (default: all)")
    if methods:
        parser.add_argument("--methods", nargs="+", metavar="METHOD", help="methods to run, in addition to the reference (default: all)")
    options = parser.parse_args(argv)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device: expected a GPU that PyTorch sees, found none; use --device cpu")
    options.json = options.json or RESULTS / (f"{name}.json" if options.device == "cpu" else f"{name}_{options.device}.json")
    torch.set_num_threads(options.threads)
    there.device = options.device
    return options


def timings(runs: Mapping[str, Run], repeats: int = 9) -> dict[str, tuple[float, float]]:
    """Return the median elapsed time and the median processor time (of all threads) of every run, in seconds.

    After one untimed round, the runs are interleaved, so that other load affects all of them. On a busy machine, the elapsed time is not
    reliable; with one thread, the processor time equals the elapsed time on an idle machine.
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            start, before = time.perf_counter(), time.process_time()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                times[name].append((time.perf_counter() - start, time.process_time() - before))
    return {name: (median(clock for clock, _ in values), median(cpu for _, cpu in values)) for name, values in times.items()}


def alone(module: str, case: str, method: str) -> tuple[int, float]:
    """Return the memory of one run without its inputs, in bytes, and its seconds, measured in a new process."""
    where = there.device
    command = [sys.executable, "-m", "benchmarks.measure", module, case, method, str(torch.get_num_threads()), where]
    answer = subprocess.run(command, cwd=RESULTS.parents[1], capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SystemExit(f"{module} {case} {method}: {answer.stderr.strip().splitlines()[-1]}")
    peak, taken = answer.stdout.split()
    return int(peak), float(taken)


def rows_of(
    module: str, case: str, runs: Mapping[str, Run], *, floor: Run | None = None, repeats: int = 9, memory: Sequence[str] | None = None
) -> list[Row]:
    """Return one row per method of a case.

    Args:
        module: Name of the benchmark's module, which is started again to measure memory.
        case: Name of the case.
        runs: Method → timed run.
        floor: Run of the necessary operations, timed in the same rounds.
        repeats: Number of timed rounds.
        memory: Methods whose memory is measured; default: all.
    """
    timed = timings({**runs, **({"floor": floor} if floor else {})}, repeats)
    least, least_cpu = timed.get("floor", (None, None))
    rows = []
    for method in runs:
        measured = memory is None or method in memory
        peak = median(alone(module, case, method)[0] for _ in range(PEAKS)) if measured else None
        clock, cpu = timed[method]
        row: Row = {"case": case, "method": method, "seconds": clock, "peak_bytes": peak, "floor_seconds": least}
        rows.append({**row, "cpu_seconds": cpu, **({"floor_cpu_seconds": least_cpu} if floor else {})})
    return rows


def finish(rows: list[Row], path: Path) -> int:
    """Print the table, write the JSON file, and return the exit code."""
    cells = []
    for row in rows:
        peak, floor = row["peak_bytes"], row["floor_seconds"]
        memory, ratio = "" if peak is None else f"{peak / 2**20:.1f}", "" if not floor else f"{row['seconds'] / floor:.2f}"
        cpu = f"{1e3 * row['cpu_seconds']:.3f}" if "cpu_seconds" in row else ""
        cells.append([row["case"], row["method"], f"{1e3 * row['seconds']:.3f}", cpu, ratio, memory])
    print(text_table(["case", "method", "ms", "processor ms", "of floor", "peak MiB"], cells))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"environment": environment(there.device), "rows": rows})
    return 0


def main(argv: list[str] | None = None) -> int:
    module, case, method, threads, device = sys.argv[1:] if argv is None else argv
    torch.set_num_threads(int(threads))
    there.device = device
    benchmark = importlib.import_module(module)
    if hasattr(benchmark, "WARM"):
        benchmark.prepare(benchmark.WARM, method)()
    run = benchmark.prepare(case, method)
    gc.collect()
    here = forget_peak()  # what making the inputs took at most
    before = allocated() if device == "cuda" else here
    start = time.perf_counter()
    run()
    after = allocated(most=True) if device == "cuda" else resident()[1]
    print(after - before, time.perf_counter() - start)
    return 0


def allocated(*, most: bool = False) -> int:
    """Return the bytes of tensors on the GPU: the current value, or the peak since the last call."""
    torch.cuda.synchronize()
    if most:
        return torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


if __name__ == "__main__":
    sys.exit(main())
