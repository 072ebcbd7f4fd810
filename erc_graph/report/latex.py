"""Tables of results for a paper: LaTeX with booktabs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from erc_graph.report.text_tables import cell_texts, numeric_columns

_ESCAPES = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_", "^": r"\^{}",
    "~": r"\~{}", "±": r"$\pm$", "−": "$-$", "↓": r"$\downarrow$", "Δ": r"$\Delta$", "–": "--", "…": r"\dots{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "≤": r"$\le$",
}  # fmt: skip


def latex(text: str) -> str:
    r"""Escape text for LaTeX, so that the text contains no commands.

    >>> print(latex("f1_macro 0.6 ± 0.1 & \\input{x}"))
    f1\_macro 0.6 $\pm$ 0.1 \& \textbackslash{}input\{x\}
    """
    return "".join(_ESCAPES.get(c, c) for c in text)


def latex_table(headers: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    r"""Return a `tabular` with the horizontal lines of booktabs; columns of numbers are aligned to the right.

    >>> print(latex_table(["method", "wF1"], [["BiGRU", "0.625"]]))
    \begin{tabular}{lr}
    \toprule
    method & wF1 \\
    \midrule
    BiGRU & 0.625 \\
    \bottomrule
    \end{tabular}
    """
    cells = cell_texts(headers, rows)
    columns = "".join("r" if right else "l" for right in numeric_columns(cells))
    lines = [" & ".join(latex(cell) for cell in row) + r" \\" for row in cells]
    return "\n".join([rf"\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}"])


def latex_comment(text: str) -> str:
    """Return the text as a LaTeX comment."""
    return "\n".join(f"% {line}" for line in re.split(r"[\r\n]+", text))
