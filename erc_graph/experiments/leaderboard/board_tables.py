"""A leaderboard as text: terminal, Markdown, LaTeX and CSV. Measured and published figures never share a column."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from erc_graph.data.files.storage import atomic_write
from erc_graph.experiments.leaderboard.board_ranks import ranks_of
from erc_graph.report.latex import latex_table
from erc_graph.report.leaderboard_page import BoardTable, write_leaderboard_page
from erc_graph.report.text_tables import markdown_table, mean_std, text_table

Row = Mapping[str, Any]
DASH = "–"


def _spread(row: Row, part: str, name: str) -> str:
    return mean_std(row[part][name]["values"]) if name in row.get(part, {}) else DASH


def _against(row: Row, rival: str) -> str:
    """Difference, and the larger of both corrected p."""
    found = row.get("against", {}).get(rival)
    if not found:
        return DASH
    ps = [found[question]["p_holm"] for question in ("seeds", "dialogues") if question in found]
    return f"{found['difference']:+.3f}" + (f" (p {max(ps):.3f})" if ps else "")


def _published(row: Row) -> str:
    return f"{row['published']['weighted_f1']:.2f}" if row.get("published") else DASH


def _cost(row: Row, name: str, unit: float, form: str) -> str:
    values = row.get("cost", {}).get(name)
    mean = values["mean"] if isinstance(values, Mapping) else values
    return DASH if mean is None else format(mean / unit, form)


def name_of(row: Row) -> str:
    """The method, with "after" where too little of its paper is known, and a mark where it has changed since."""
    return ("after " if row["after"] else "") + row["method"] + (" (changed since)" if row.get("changed_since") else "")


# Title → cell. The same in all forms; a title that no row has anything for is left out.
COLUMNS: dict[str, Callable[[Row], str]] = {
    "method": name_of,
    "wF1": lambda row: _spread(row, "test", "weighted_f1"),
    "dev wF1": lambda row: _spread(row, "dev", "weighted_f1"),
    "accuracy": lambda row: _spread(row, "test", "accuracy"),
    "macro F1": lambda row: _spread(row, "test", "macro_f1"),
    "ECE": lambda row: _spread(row, "test", "calibration_error"),
    "MAE": lambda row: _spread(row, "test", "mae"),
    "shift": lambda row: _spread(row, "turns", "shift"),
    "stay": lambda row: _spread(row, "turns", "stay"),
    "gap": lambda row: _spread(row, "groups", "gap"),
    "against BiGRU": lambda row: _against(row, "bigru"),
    "against best": lambda row: _against(row, "best"),
    "parameters": lambda row: _cost(row, "parameters", 1, ",.0f"),
    "CPU s/epoch": lambda row: _cost(row, "cpu_seconds_per_epoch", 1, ".2f"),
    "peak MiB": lambda row: _cost(row, "peak_bytes", 2**20, ".0f"),
    "if the epoch were chosen on test": lambda row: mean_std(row["chosen_on_test"]["values"]) if "chosen_on_test" in row else DASH,
    "published wF1 %": _published,
    "kind": lambda row: row["family"],
    "seeds": lambda row: str(len(row["seeds"])),
    "error": lambda row: "; ".join(row["errors"]) or DASH,
}
SHORT = ("method", "dev wF1", "wF1", "against BiGRU", "seeds", "error")  # of the terminal


def table(board: Mapping[str, Any], names: Sequence[str] = tuple(COLUMNS)) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a corpus."""
    rows = board["rows"]
    cells = {name: [COLUMNS[name](row) for row in rows] for name in names}
    shown = [name for name in names if name == "method" or any(cell != DASH for cell in cells[name])]
    return shown, [[cells[name][i] for name in shown] for i in range(len(rows))]


def heading(board: Mapping[str, Any]) -> str:
    """What a table is of."""
    rules = board["rules"]
    epoch = f"epoch by {rules['criterion']} on the development split" if rules["selection"] == "dev" else "epochs fixed beforehand"
    settings = f"best of the paper's settings and {rules['budget']} more" if rules["budget"] else "the papers' settings"
    return f"{board['dataset']}, {', '.join(board['modalities'])}; {settings}; {epoch}"


def notes(board: Mapping[str, Any]) -> list[str]:
    """What stands below a table."""
    return [f"{name} is left out: {reason}" for name, reason in board["left_out"].items()]


def text(board: Mapping[str, Any]) -> str:
    """For the terminal."""
    return "\n".join(["", heading(board), text_table(*table(board, SHORT)), *(f"  {note}" for note in notes(board))])


def write_tables(boards: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write `leaderboard.html`, `.md`, `.tex` and `.csv`."""
    pages = [BoardTable(board["dataset"], heading(board), *table(board), notes=notes(board)) for board in boards]
    write_leaderboard_page(folder / "leaderboard.html", boards, pages, ranks_of(boards))
    forms: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "md": lambda board: f"## {heading(board)}\n\n{markdown_table(*table(board))}\n",
        "tex": lambda board: f"% {heading(board)}\n{latex_table(*table(board))}\n",
        "csv": _csv,
    }
    for ending, form in forms.items():
        with atomic_write(folder / f"leaderboard.{ending}") as temporary:
            temporary.write_text("\n".join(form(board) for board in boards), encoding="utf-8", errors="replace")


def _csv(board: Mapping[str, Any]) -> str:
    header, rows = table(board)
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([["corpus", *header], *([board["dataset"], *row] for row in rows)])
    return file.getvalue()
