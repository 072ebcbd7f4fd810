"""Tables of a comparison of runs, for the terminal and in Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import io
import math
import textwrap
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from erc_graph.experiments.compare import LOWER_IS_BETTER, RunComparison, Test, letter
from erc_graph.experiments.display import METRICS
from erc_graph.report.latex import latex_comment, latex_table
from erc_graph.report.text_tables import markdown_table, mean_std, p_text, text_table

_TITLES = {name: title for columns in METRICS.values() for name, title in columns}


def figures_table(comparison: RunComparison) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the table of results.

    The table has one row per run and one column per metric. A cell has mean ± standard deviation over seeds.
    """
    header = ["run", *(_title(metric) for metric in comparison.metrics)]
    rows = []
    for i, (run, figures) in enumerate(zip(comparison.runs, comparison.figures, strict=True)):
        rows.append([f"{letter(i)} {run.method}", *(mean_std(figures[metric]["values"]) for metric in comparison.metrics)])
    return header, rows


def tests_table(comparison: RunComparison) -> tuple[list[str], list[list[str]]] | None:
    """Return header and rows of the paired tests, with p-values after Holm's correction; `None` if no runs could be tested."""
    made = [test for test in comparison.tests if test.difference is not None or test.p_dialogues is not None]
    if not made:
        return None
    dialogues = any(test.p_dialogues is not None for test in made)
    header = ["Δ", "metric", "over seeds", "p", *(["over dialogues", "95 % interval", "p"] if dialogues else [])]
    rows = []
    for test in made:
        row = [f"{letter(test.second)} − {letter(test.first)}", _title(test.metric), _signed(test.difference), p_text(test.p_seeds_holm)]
        interval = "–" if test.low is None else f"{_signed(test.low)} to {_signed(test.high)}"
        rows.append([*row, *([_signed(test.seed_difference), interval, p_text(test.p_dialogues_holm)] if dialogues else [])])
    return header, rows


def as_text(comparison: RunComparison, mark: Callable[[str], str] = str) -> str:
    """Return the tables for a terminal of 80 columns.

    Args:
        comparison: The comparison.
        mark: Function that highlights a warning, for example in red.
    """

    def lines(start: str) -> Callable[[str], str]:
        return lambda text: textwrap.fill(
            text, 80, initial_indent=start, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )

    return _document(comparison, lambda table: text_table(*table), lambda text: mark(lines("! ")(text)), lines("  "), "")


def as_markdown(comparison: RunComparison) -> str:
    """Return the tables in Markdown, for a README or a report."""

    return _document(
        comparison,
        lambda table: markdown_table(*table),
        lambda text: f"- **{_markdown(text)}**",
        lambda text: f"- {_markdown(text)}",
        "- ",
    )


def as_latex(comparison: RunComparison) -> str:
    """Return LaTeX tables of results and tests, with booktabs; warnings and notes are LaTeX comments."""
    return _document(comparison, lambda table: latex_table(*table), lambda text: latex_comment(f"DIFFERS: {text}"), latex_comment, "% ")


def _markdown(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("*", "\\*").replace("`", "\\`").replace("_", "\\_")


def _document(
    comparison: RunComparison,
    table: Callable[[tuple[list[str], list[list[str]]]], str],
    warning: Callable[[str], str],
    note: Callable[[str], str],
    start: str,
) -> str:
    """Join the list of runs, the warnings, the tables of results and tests, and the notes."""
    clean = _markdown if start == "- " else str
    parts = ["\n".join(f"{start}{clean(line)}" for line in _runs(comparison))]
    if comparison.warnings:
        parts.append("\n".join(warning(text) for text in comparison.warnings))
    parts.append(table(figures_table(comparison)))
    if tests := tests_table(comparison):
        parts.append(table(tests))
    legend = [_seeds_words(comparison)]
    if tests:
        legend.append("Δ: B − A is positive if run B has the larger value; p: two-sided, after Holm's correction over the table")
    if any(metric in LOWER_IS_BETTER for metric in comparison.metrics):
        legend.append("↓: lower is better")
    parts.append("\n".join(note(text) for text in (*legend, *comparison.notes)))
    return "\n\n".join(parts)


def _runs(comparison: RunComparison) -> list[str]:
    what = {f"{run.facts['dataset']}, task {run.facts['task']}, protocol {run.facts['protocol']}, " for run in comparison.runs}
    lines = [f"{what.pop() if len(what) == 1 else ''}test split"]  # where they differ, the warnings below say how
    for i, run in enumerate(comparison.runs):
        lines.append(f"{letter(i)}  {run.method}, {'+'.join(run.facts['modalities'])}, {run.name}")
    return lines


def _seeds_words(comparison: RunComparison) -> str:
    count = len(comparison.seeds)
    if not count:
        return "mean ± standard deviation (n − 1) over each run's own seeds"
    return "one shared seed" if count == 1 else f"mean ± standard deviation (n − 1) over {count} shared seeds"


def as_csv(comparison: RunComparison) -> str:
    """Return a CSV table with one row per run, metric and reference run, and with p-values before and after Holm's correction."""
    out = io.StringIO()
    tested = [name for name in Test.__dataclass_fields__ if name not in ("first", "second", "metric")]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", "method", "metric", "mean", "std", "values", "against", *tested])
    for i, run in enumerate(comparison.runs):
        for metric in comparison.metrics:
            entry = comparison.figures[i][metric]
            mine: list[Test | None] = [test for test in comparison.tests if test.second == i and test.metric == metric]
            for test in mine or [None]:
                against = comparison.runs[test.first].name if test else ""
                own = [getattr(test, name) if test else None for name in tested]
                values = " ".join(map(str, entry["values"]))
                cells = [run.name, run.method, metric, entry["mean"], entry["std"], values, against, *own]
                writer.writerow(["" if cell is None else cell for cell in cells])
    return out.getvalue().rstrip("\n")


def as_values(comparison: RunComparison) -> dict[str, Any]:
    """Return the comparison as values that JSON can store."""

    def plain(values: dict[str, Any]) -> dict[str, Any]:
        return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in values.items()}

    names = [run.name for run in comparison.runs]
    return {
        "runs": [
            {"run": run.name, "method": run.method, **run.facts, "metrics": {metric: plain(entry) for metric, entry in figures.items()}}
            for run, figures in zip(comparison.runs, comparison.figures, strict=True)
        ],
        "metrics": comparison.metrics,
        "shared_seeds": comparison.seeds,
        "tests": [plain({**asdict(test), "first": names[test.first], "second": names[test.second]}) for test in comparison.tests],
        "warnings": comparison.warnings,
        "notes": comparison.notes,
    }


def _title(metric: str) -> str:
    return _TITLES.get(metric, metric) + (" ↓" if metric in LOWER_IS_BETTER else "")


def _signed(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{round(value, 3) + 0.0:+.3f}".replace("-", "−")  # no minus in front of nothing


WRITERS: dict[str, Callable[[RunComparison], str]] = {"text": as_text, "markdown": as_markdown, "latex": as_latex, "csv": as_csv}
