"""Confusion matrices as pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from erc_graph.data.palette import label_colours
from erc_graph.data.printable import one_line
from erc_graph.errors import ConfigError
from erc_graph.report.figure import SOFT, picture

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

LONGEST = 14.0  # inches of a side: 100 classes would else take gigabytes
MOST_WRITTEN, MOST_NAMES = 30, 60  # classes with figures in their cells; names along a side


def plot_confusion(matrix: ArrayLike, labels: Sequence[str], path: str | Path, *, title: str | None = None) -> Path:
    """Draw a confusion matrix.

    The shade and the large number of a cell give the share of the true class's utterances that got the predicted class. The small number
    gives the count of these utterances. If there are more than 30 classes, cells have no numbers. If there are more than 60 classes, some
    names are left out.

    Args:
        matrix: `(C, C)` counts; rows are true classes, columns are predicted classes.
        labels: Names of the `C` classes.
        path: File name that ends in `.png`, `.svg` or `.pdf`.
        title: Title; default: the accuracy and the number of utterances.

    Returns:
        The path.

    Raises:
        ConfigError: the matrix is not square, has a negative number, or does not have one row per label; or the file type is unknown.
        StorageError: the file cannot be written.
    """
    counts = np.asarray(matrix, dtype=np.float64)
    size = len(labels)
    if counts.shape != (size, size) or not size:
        raise ConfigError(f"plot_confusion: expected a square matrix with one row per label ({size}), found shape {counts.shape}")
    if not (np.isfinite(counts) & (counts >= 0)).all():
        raise ConfigError("plot_confusion: expected counts, found a negative or non-finite entry")
    rows = counts.sum(1, keepdims=True)
    share = counts / np.maximum(rows, 1)
    names = [one_line(label, 18) for label in labels]
    longest = max(len(name) for name in names)
    if title is None:
        title = f"accuracy {counts.trace() / max(counts.sum(), 1):.3f}, {counts.sum():.0f} utterances"
    side = min(0.72 * size, LONGEST)
    cell = side / size  # inches
    scale, every = cell / 0.72, math.ceil(size / MOST_NAMES)
    with picture(path, max(side + 1.2 + 0.085 * (longest + 8), 3.4), side + 1.0 + 0.07 * longest) as figure:
        axes = figure.add_subplot()
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        axes.set_title(title, pad=8)
        turned: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if longest > 12.6 * cell * every else {}
        axes.set_xticks(range(0, size, every), names[::every], **turned)
        counted = [f"{name}  ({count:.0f})" for name, count in zip(names, rows[:, 0], strict=True)]
        axes.set_yticks(range(0, size, every), counted[::every])
        axes.set_xlabel("predicted")
        axes.set_ylabel("true (count)")
        axes.tick_params(length=0, pad=9)
        axes.spines[:].set_visible(False)
        axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)  # white lines between the cells
        axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1.5 * scale)
        axes.tick_params(which="minor", length=0)
        at = np.arange(size)
        strip: dict[str, Any] = {"colors": label_colours(list(labels)), "linewidth": 4, "clip_on": False, "capstyle": "butt"}
        axes.vlines(
            np.full(size, -0.5 - 0.06 / scale), at - 0.4, at + 0.4, **strip
        )  # the colour that the emotion has in all other pictures
        axes.hlines(np.full(size, size - 0.5 + 0.06 / scale), at - 0.4, at + 0.4, **strip)
        axes.set_xlim(-0.5, size - 0.5)
        axes.set_ylim(size - 0.5, -0.5)
        for i, j in np.ndindex(size, size) if size <= MOST_WRITTEN else ():
            if not rows[i, 0]:
                axes.text(j, i, "–", ha="center", va="center", color=SOFT, fontsize=9 * scale)
            elif counts[i, j]:
                ink = "white" if share[i, j] > 0.55 else "#1B2733"
                weight = "bold" if i == j else "normal"
                axes.text(j, i - 0.07, f"{share[i, j]:.2f}", ha="center", va="center", color=ink, fontsize=10 * scale, weight=weight)
                axes.text(j, i + 0.25, f"{counts[i, j]:.0f}", ha="center", va="center", color=ink, fontsize=7 * scale, alpha=0.85)
    return Path(path)
