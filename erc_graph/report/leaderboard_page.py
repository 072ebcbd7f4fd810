"""A leaderboard as one HTML page with pictures and one sortable table per corpus; the page loads nothing from other sources."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from erc_graph.data.files.storage import atomic_write
from erc_graph.errors import ConfigError
from erc_graph.report.leaderboard_pictures import Board, Ranks, plot_cost, plot_inflation, plot_published, plot_ranks
from erc_graph.report.page import TEMPLATES, digest, environment, inline_svg
from erc_graph.report.text_tables import cell_texts, numeric_columns

TITLES: dict[str, Callable[[Sequence[Board], Path], Path]] = {
    "Figures and cost": plot_cost,
    "Measured and published": plot_published,
    "Effect of selecting the epoch on the test set": plot_inflation,
}


@dataclass(frozen=True)
class BoardTable:
    """A table of the page.

    Attributes:
        name: Name of the corpus.
        heading: Heading of the table.
        header: Titles of the columns.
        rows: Cells of each row.
        notes: Notes below the table.
    """

    name: str
    heading: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def numbers(self) -> list[bool]:
        """Return for each column whether the column contains only numbers."""
        return numeric_columns(cell_texts(self.header, self.rows))


def write_leaderboard_page(path: str | Path, boards: Sequence[Board], tables: Sequence[BoardTable], ranks: Ranks | None = None) -> Path:
    """Write the page atomically; a picture without enough results is left out.

    Raises:
        StorageError: the file cannot be written.
    """
    from markupsafe import Markup

    script = (TEMPLATES / "sort.js").read_text(encoding="utf-8")
    plots: dict[str, Callable[[Path], Path]] = {title: partial(plot, boards) for title, plot in TITLES.items()}
    plots |= {"Mean ranks": partial(plot_ranks, ranks)} if ranks else {}
    pictures = []
    for title, draw in plots.items():
        with suppress(ConfigError):
            drawn = inline_svg(draw, title.lower().replace(" ", "-"), title)
            width = re.search(r'viewBox="0 0 ([\d.]+)', drawn)
            pictures.append((title, drawn, 1.6 * float(width[1]) if width else 0))  # no larger than is good to read
    page = environment().get_template("leaderboard.html").render(
        tables=tables,
        pictures=pictures,
        style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        script=Markup(script),
        digest=digest(script),
    )  # fmt: skip
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")
    return Path(path)
