"""Tables of a leaderboard, for the terminal and in Markdown, LaTeX and CSV. Measured and published results have separate columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from erc_graph.data.files.storage import atomic_write
from erc_graph.data.printable import nearest
from erc_graph.data.tasks import DEFAULT_TASK
from erc_graph.experiments.leaderboard.board_ranks import ranks_of
from erc_graph.experiments.leaderboard.board_rules import ALPHA
from erc_graph.report.latex import latex_comment, latex_table
from erc_graph.report.leaderboard_page import BoardTable, write_leaderboard_page
from erc_graph.report.text_tables import markdown_table, mean_std, p_text, text_table
from erc_graph.training.significance import MANY, few_seeds

Row = Mapping[str, Any]
DASH = "–"
LISTED = 10  # methods that a note lists at most


def _spread(row: Row, part: str, name: str) -> str:
    return mean_std(row[part][name]["values"]) if name in row.get(part, {}) else DASH


def _difference(row: Row, rival: str) -> str:
    found = row.get("against", {}).get(rival)
    return f"{found['difference']:+.3f}" if found else DASH


def _p(row: Row, rival: str, question: str) -> str:
    return p_text(row.get("against", {}).get(rival, {}).get(question, {}).get("p_holm"))


def _published(row: Row) -> str:
    found = row.get("published")
    return f"{found['weighted_f1']:.3f} ({found['line']})" if found else DASH


def _cost(row: Row, name: str, unit: float, form: str) -> str:
    values = row.get("cost", {}).get(name)
    mean = values["mean"] if isinstance(values, Mapping) else values
    return DASH if mean is None else format(mean / unit, form)


def name_of(row: Row) -> str:
    """Return the name of a method for the table.

    "after" before the name means that the paper leaves details of the method open. "(changed since)" means that the code of the method
    has changed since the training.
    """
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
    "against BiGRU": lambda row: _difference(row, "bigru"),
    "p (seeds)": lambda row: _p(row, "bigru", "seeds"),
    "p (dialogues)": lambda row: _p(row, "bigru", "dialogues"),
    "against first": lambda row: _difference(row, "best"),
    "p (seeds), first": lambda row: _p(row, "best", "seeds"),
    "p (dialogues), first": lambda row: _p(row, "best", "dialogues"),
    "parameters": lambda row: _cost(row, "parameters", 1, ".0f"),
    "CPU s/epoch": lambda row: _cost(row, "cpu_seconds_per_epoch", 1, ".2f"),
    "peak MiB": lambda row: _cost(row, "peak_bytes", 2**20, ".0f"),
    "if the epoch were chosen on test": lambda row: mean_std(row["chosen_on_test"]["values"]) if "chosen_on_test" in row else DASH,
    "published wF1": _published,
    "kind": lambda row: row["family"],
    "seeds": lambda row: str(len(row["seeds"])),
    "error": lambda row: "; ".join(row["errors"]) or DASH,
}
SHORT = ("method", "dev wF1", "wF1", "against BiGRU", "p (seeds)", "seeds", "error")  # of the terminal
PRINTED = (
    "method", "seeds", "wF1", "accuracy", "macro F1", "MAE", "against BiGRU", "p (seeds)", "p (dialogues)", "published wF1", "error",
)  # of LaTeX: what fits on a page  # fmt: skip


def table(board: Mapping[str, Any], names: Sequence[str] = tuple(COLUMNS)) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the table of a corpus."""
    rows = board["rows"]
    cells = {name: [COLUMNS[name](row) for row in rows] for name in names}
    shown = [name for name in names if name == "method" or any(cell != DASH for cell in cells[name])]
    return shown, [[cells[name][i] for name in shown] for i in range(len(rows))]


def heading(board: Mapping[str, Any]) -> str:
    """Return the heading of the table of a corpus: data set, modalities and rules."""
    rules = board["rules"]
    chosen = {"dev": "the development split", "sessions": "held-out sessions", "thirds": "held-out thirds"}[rules["choice"]]
    epoch = "epoch with the best wF1 on the development split" if rules["selection"] == "dev" else "epochs fixed beforehand"
    settings = "the committed settings" if all(row.get("committed", True) for row in board["rows"]) else "committed or default settings"
    settings = f"best of {settings} and {rules['budget']} more, on {chosen}" if rules["budget"] else settings
    parts = [f"{board['dataset']}, {', '.join(board['modalities'])}", settings, epoch]
    parts += [f"ensembles of {rules['members']}"] if rules["members"] > 1 else []
    parts += [f"{', '.join(relative)} relative to the speaker"] if (relative := rules["inputs"]["speaker_relative"]) else []
    parts += [f"with {', '.join(prior)} as prior"] if (prior := rules["prior"]["features"]) else []
    return "; ".join(parts)


def without_settings(methods: Sequence[str], dataset: str) -> str:
    """Return a warning about methods that use their defaults, because the package has no settings file of the method for the corpus.

    More than ten methods are counted and not listed.

    >>> without_settings(["lmf", "tfn"], "mine")
    'no committed settings for mine: lmf, tfn; their defaults were not chosen for these features (--budget tries more)'
    >>> without_settings(["lmf"], "iemocap")
    'no committed settings for iemocap (nearest: iemocap6): lmf; their defaults were not chosen for these features (--budget tries more)'
    """
    listed = ", ".join(methods) if len(methods) <= LISTED else f"{len(methods)} methods (`committed` is false in leaderboard.json)"
    same = {DEFAULT_TASK.get(dataset, dataset)} & DEFAULT_TASK.keys() - {dataset}  # `iemocap` has the labels of `iemocap6`
    near = nearest(dataset, same if dataset in DEFAULT_TASK else DEFAULT_TASK)
    return f"no committed settings for {dataset}{near}: {listed}; their defaults were not chosen for these features (--budget tries more)"


def notes(board: Mapping[str, Any]) -> list[str]:
    """Return the notes below the table of a corpus."""
    rows = [row for row in board["rows"] if row["seeds"]]
    said = ["p (seeds): sign-flip permutation test; p (dialogues): bootstrap; p-values have Holm's correction over the rows"]
    seeds = min((len(row["seeds"]) for row in rows), default=MANY)
    if warning := few_seeds(seeds):
        said.append(warning)
    elif len(rows) > 1 and (least := min(1.0, 2 / 2**seeds * (len(rows) - 1))) > ALPHA:
        said.append(f"with {seeds} seeds and {len(rows)} rows, p (seeds) cannot be below {least:.2f}")
    if before := [row["method"] for row in rows if row["method"] in board["rules"]["tuned"] and row.get("committed", True)]:
        said.append(
            f"the committed settings of {' and '.join(before)} were chosen on development data; those of other methods were not searched"
        )
    if plain := [row["method"] for row in rows if not row.get("committed", True)]:
        said.append(without_settings(plain, board["dataset"]))
    if any(row.get("changed_since") for row in rows):
        said.append("changed since: the code of the method now computes other results than when the row was trained")
    if not any(row["method"] == "bigru" for row in rows):
        said.append("the BiGRU has no result here, so no method is compared with it")
    return said + [f"{name} is left out: {reason}" for name, reason in board["left_out"].items()]


def text(board: Mapping[str, Any]) -> str:
    """Return heading, table and notes of a corpus for the terminal."""
    return "\n".join(["", heading(board), text_table(*table(board, SHORT)), *(f"  {note}" for note in notes(board))])


def write_tables(boards: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write the tables of all corpora to `leaderboard.html`, `leaderboard.md`, `leaderboard.tex` and `leaderboard.csv`."""
    pages = [BoardTable(board["dataset"], heading(board), *table(board), notes=notes(board)) for board in boards]
    write_leaderboard_page(folder / "leaderboard.html", boards, pages, ranks_of(boards))
    forms: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "md": lambda board: f"## {heading(board)}\n\n{markdown_table(*table(board))}\n\n" + "".join(f"- {n}\n" for n in notes(board)),
        "tex": lambda board: (
            f"{latex_comment(heading(board))}\n{latex_table(*table(board, PRINTED))}\n"
            + "".join(f"{latex_comment(note)}\n" for note in notes(board))
        ),
    }
    texts = {ending: "\n".join(form(board) for board in boards) for ending, form in forms.items()}
    for ending, content in {**texts, "csv": _csv(boards)}.items():
        with atomic_write(folder / f"leaderboard.{ending}") as temporary:
            temporary.write_text(content, encoding="utf-8", errors="replace")


def _csv(boards: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of all corpora as a CSV table; cells without a value are empty."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["corpus", *COLUMNS])
    for board in boards:
        for row in board["rows"]:
            writer.writerow([board["dataset"], *(("" if (text := cell(row)) == DASH else text) for cell in COLUMNS.values())])
    return file.getvalue()
