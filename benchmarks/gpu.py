"""`python -m benchmarks.gpu OUT`: all tests and benchmarks on a GPU in one run of at most eight minutes (`make gpu`).

| step | content |
|---|---|
| `tests` | the tests marked `gpu` |
| `angular_conv` | `benchmarks.angular_conv` on the GPU |
| `epoch` | `benchmarks.epoch` for every method, on IEMOCAP |
| `bf16` | a training of two epochs on MELD with precision bf16 |
| `waiting` | a check that the CPU never waits for the GPU during an epoch |

The run installs no packages, and uses the current Python interpreter. The corpora are in the folder that the environment variable
ERC_GRAPH_DATA names. A step is skipped and reported if its packages or corpora are missing. Every step writes a JSON file to OUT. The file
`gpu.json` contains the name of the GPU and the outcome of each step.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MINUTES = 8
NEEDED = (
    "torch",
    "torch_geometric",
    "numpy",
    "safetensors",
    "pydantic",
    "jsonargparse",
    "accelerate",
    "sklearn",
    "tqdm",
    "scipy",
    "networkx",
)
USED = ("dgl", "pytest", "hypothesis", "captum", "matplotlib", "optuna", "transformers")


def missing(names: tuple[str, ...]) -> list[str]:
    """Return the packages that are not installed."""
    return [name for name in names if importlib.util.find_spec(name) is None]


def corpus(name: str) -> Path | None:
    """Return the path of a corpus, or `None` if it is missing."""
    folder = Path(os.environ.get("ERC_GRAPH_DATA", "no-corpora")) / name
    return folder if folder.is_dir() else None


def command(*words: str, seconds: float) -> tuple[int, str]:
    """Run a command, and return its exit code (124 after the time limit) and the end of its output."""
    try:
        answer = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return 124, f"stopped after {seconds:.0f} s"
    return answer.returncode, (answer.stdout + answer.stderr)[-2000:]


def bf16(folder: Path) -> dict[str, Any]:
    """Train pairwise fusion on MELD in bf16 for two epochs, and return the results."""
    return training(folder, "bf16")


def training(folder: Path, precision: str, epochs: int = 2) -> dict[str, Any]:
    """Run a short training, and return its results."""
    import torch

    from erc_graph.data.files.load import load_corpus
    from erc_graph.methods import METHODS
    from erc_graph.methods.schema import Schema
    from erc_graph.training.config import TrainingConfig
    from erc_graph.training.loop import fit

    found = load_corpus(folder)
    torch.manual_seed(0)
    method = METHODS["pairwise"](Schema.of(found))
    train, dev = (method.schema.batch(found.split(part)) for part in ("train", "dev"))
    method.fit_inputs(train)
    config = TrainingConfig(epochs=epochs, precision=precision)  # type: ignore[arg-type]
    history = fit(method, train, dev, config, seed=0, device="cuda", quiet=True)
    return {"precision": precision, "seconds_per_epoch": history.seconds_per_epoch, "dev": history.dev}


def waiting(folder: Path) -> dict[str, Any]:
    """Run one epoch of every method that reads vectors, with PyTorch's synchronisation check."""
    import torch

    from benchmarks.epoch import epochs

    runs = epochs("iemocap6", "cuda")
    found: dict[str, str] = {}
    for name, epoch in runs.items():
        epoch()
        torch.cuda.set_sync_debug_mode("error")
        try:
            epoch()
            found[name] = "never waits"
        except RuntimeError as error:
            found[name] = str(error).splitlines()[0]
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return found


def main(argv: list[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else argv
    if len(words) != 1 or words[0].startswith("-"):
        print(__doc__)
        return 0 if words[:1] in (["--help"], ["-h"]) else 2
    if lacking := missing(NEEDED):
        print(f"gpu: expected {', '.join(lacking)} in {sys.executable}, found none; install them, or use make gpu PYTHON=…")
        return 2
    import torch

    if not torch.cuda.is_available():
        print("gpu: expected a GPU that PyTorch sees, found none")
        return 2
    out = Path(words[0])
    out.mkdir(parents=True, exist_ok=True)
    start, ended = time.perf_counter(), {}

    def left() -> float:
        return 60 * MINUTES - (time.perf_counter() - start)

    def inside(name: str, step: Callable[[Path], dict[str, Any]], folder: Path) -> str:
        found = step(folder)
        (out / f"{name}.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
        return "done"

    def outside(*words: str) -> str:
        code, said = command(*words, seconds=max(1.0, min(180.0, left())))
        return "done" if not code else f"exit code {code}: {said}"

    iemocap, meld = corpus("iemocap"), corpus("meld")
    nothing = "skipped: no such corpus under ERC_GRAPH_DATA"
    steps: dict[str, Callable[[], str]] = {
        "tests": lambda: (
            outside("-m", "pytest", "-q", "-m", "gpu", "tests") if not missing(("pytest", "hypothesis")) else "skipped: no pytest"
        ),
        "angular_conv": lambda: outside(
            "-m", "benchmarks.angular_conv", "--device", "cuda", "--repeats", "5", "--json", str(out / "angular_conv.json")
        ),
        "epoch": lambda: (
            outside(
                "-m", "benchmarks.epoch", "--device", "cuda", "--repeats", "3", "--cases", "iemocap6", "--json", str(out / "epoch.json")
            )
            if iemocap
            else nothing
        ),
        "bf16": lambda: inside("bf16", bf16, meld) if meld else nothing,
        "waiting": lambda: inside("waiting", waiting, iemocap) if iemocap else nothing,
    }
    for name, step in steps.items():
        before = time.perf_counter()
        try:
            said = step() if left() > 5 else f"skipped: {MINUTES} minutes are over"
        except Exception as error:  # one step must not cost the others
            said = f"{type(error).__name__}: {error}"
        ended[name] = {"ended": said, "seconds": round(time.perf_counter() - before, 1)}
        print(f"{name}: {said} ({ended[name]['seconds']} s)", flush=True)
    report = {
        "device": torch.cuda.get_device_name(0),
        "torch": torch.__version__,
        "lacking": missing(USED),
        "steps": ended,
        "seconds": round(time.perf_counter() - start, 1),
    }
    (out / "gpu.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    return 0 if all(step["ended"] == "done" or step["ended"].startswith("skipped") for step in ended.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
