"""`python -m benchmarks.picture`: draw docs/performance.png from the recorded results of the benchmarks `angular_conv` and `epoch`."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

from benchmarks.measure import RESULTS

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "performance.png"


def main() -> int:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    conv, epoch = (json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["rows"] for name in ("angular_conv", "epoch"))
    forms = sorted((row for row in conv if row["case"] == "reference"), key=lambda row: -row["seconds"])
    ratios = sorted(r["cpu_seconds"] / r["floor_cpu_seconds"] for r in epoch if r["case"] == "iemocap6" and "torch" not in r["method"])
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    names = [*(row["method"] for row in forms), "floor"]
    times = [*(1e3 * row["seconds"] for row in forms), 1e3 * forms[0]["floor_seconds"]]
    bars = left.barh(names, times, color=["#c44e52" if name == "auto" else "#8c96a8" for name in names])
    left.bar_label(bars, [f"{time:.0f}" for time in times], padding=3)
    left.set(xscale="log", xlim=(30, 4000), xlabel="milliseconds, logarithmic axis", title="Four layers of angular convolution")
    left.set_xticks([50, 100, 500, 1000], ["50", "100", "500", "1000"], minor=False)
    left.set_xticks([], minor=True)
    right.hist(ratios, bins=[i / 2 for i in range(int(2 * max(ratios)) + 2)], color="#8c96a8")
    middle = statistics.median(ratios)
    right.axvline(middle, color="#c44e52")
    right.annotate(f"median {middle:.1f}", (middle, right.get_ylim()[1]), (4, -12), textcoords="offset points", color="#c44e52")
    right.set(xlabel="times the plain BiGRU", ylabel="methods", title=f"A training epoch on IEMOCAP, {len(ratios)} methods")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PICTURE, dpi=140)
    return 0


if __name__ == "__main__":
    sys.exit(main())
