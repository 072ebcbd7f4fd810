"""Two-dimensional projections of utterance states, coloured by emotion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from erc_graph.data.palette import MISSING, label_colours
from erc_graph.data.printable import one_line
from erc_graph.errors import ConfigError
from erc_graph.report.figure import FAINT, SOFT, picture

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Method = Literal["tsne", "pca"]
FEWEST = 30  # fewer points have no neighbourhoods worth a t-SNE
MOST = 1000  # more points take long (t-SNE: seconds per thousand) and cover one another
_MARKERS = "osD^vphX*<>P"


def project(features: ArrayLike, *, method: Method | None = None, seed: int = 0) -> tuple[NDArray[np.float64], Method]:
    """Project features `(N, k)` to two dimensions by t-SNE, or by PCA for fewer than 30 points.

    Args:
        features: Finite numbers.
        method: `tsne` or `pca`; default: selected by the number of points.
        seed: Seed of t-SNE.

    Returns:
        `(N, 2)` points, and the method that was used. The method is always PCA if all points are equal, because t-SNE is then undefined.
    """
    values = np.asarray(features, dtype=np.float64)
    centred = values - values.mean(0)
    u, s, vt = np.linalg.svd(centred, full_matrices=False)
    # A singular vector has no sign of its own: the entry that is largest points up.
    signs = np.sign(np.take_along_axis(vt, np.abs(vt).argmax(1, keepdims=True), 1))[:, 0]
    reduced = u[:, :50] * (s * signs)[:50]
    if (method or ("pca" if len(values) < FEWEST else "tsne")) == "pca" or s[0] < 1e-9 or len(values) < 3:
        return np.pad(reduced, ((0, 0), (0, 2)))[:, :2], "pca"
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(values) - 1) / 3)
    start = np.pad(reduced, ((0, 0), (0, 2)))[:, :2] * (1e-4 / reduced[:, 0].std())
    return TSNE(perplexity=perplexity, init=start, random_state=seed).fit_transform(reduced).astype(np.float64), "tsne"


def plot_projection(
    features: ArrayLike,
    labels: ArrayLike,
    names: Sequence[str],
    path: str | Path,
    *,
    title: str | None = None,
    method: Method | None = None,
    seed: int = 0,
) -> Path:
    """Draw one projection; see `plot_projections`."""
    return plot_projections([(title or "", features, labels)], names, path, method=method, seed=seed)


def plot_projections(
    panels: Sequence[tuple[str, Any, Any]],
    names: Sequence[str],
    path: str | Path,
    *,
    method: Method | None = None,
    most: int = MOST,
    seed: int = 0,
) -> Path:
    """Draw several projections side by side, with one legend, as in Fig. 4 of the paper of the method `pairwise`.

    Points with NaN or inf are left out. If there are more than `most` points, a random sample of the points is shown. Panels with the same
    number of points show the same sample.

    Args:
        panels: `(title, features (N, k), labels (N,))`; a label is an index into `names`, or negative if unlabelled.
        names: Names of the labels, which determine the colours.
        path: File name that ends in `.png`, `.svg` or `.pdf`.
        method: `tsne` or `pca`; default: PCA for fewer than 30 points, otherwise t-SNE.
        most: Largest number of points per panel.
        seed: Seed of the random sample and of t-SNE.

    Returns:
        The path.

    Raises:
        ConfigError: there is no panel, features do not have the shape `(N, k)`, labels are not `N` indices into `names`, or the file type
            is unknown.
        StorageError: the file cannot be written.
    """
    if not panels:
        raise ConfigError("plot_projections: expected at least one panel, found none")
    chosen = [_choose(title, features, labels, len(names), most, seed) for title, features, labels in panels]
    columns = min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    width = 5.6 if len(panels) == 1 else 3.3 * columns
    with picture(path, width, (4.6 if len(panels) == 1 else 3.3 * rows) + 0.5) as figure:
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        colours = [MISSING, *label_colours(list(names))]
        shown: dict[int, Any] = {}
        for axes, (title, values, index, count) in zip(grid, chosen, strict=False):
            _frame(axes)
            if len(values):
                points, used = project(values, method=method, seed=seed)
                size = float(np.clip(14000 / len(points), 9, 36))
                # Drawn in one random order, not class after class, so that no class hides the others.
                order = np.random.default_rng(seed).permutation(len(points))
                layer = np.argsort(np.argsort(order))
                for label in np.unique(index).tolist():
                    mine = index == label
                    marker = "." if label < 0 else _MARKERS[label % len(_MARKERS)]
                    for part in range(4):
                        here = mine & (layer % 4 == part)
                        drawn = axes.scatter(
                            *points[here].T, s=size, c=colours[label + 1], marker=marker, linewidths=0.25, edgecolors="white",
                            alpha=0.9, zorder=2 + part,
                        )  # fmt: skip
                    shown.setdefault(label, drawn)
                of = f"{len(points)} of {count}" if len(points) < count else f"{count}"
                caption = f"{'t-SNE' if used == 'tsne' else 'PCA'}, {of} utterances"
            else:
                caption = "no utterance with finite features"
            axes.set_title(one_line(title, 60) if title else caption)
            if title:
                axes.set_xlabel(caption, color=SOFT, fontsize=8, loc="left")
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        if shown:
            keys = sorted(shown, key=lambda label: (label < 0, label))
            texts = [one_line(names[label], 18) if label >= 0 else "unlabelled" for label in keys]
            fit = max(int(width / (0.3 + 0.07 * max(len(text) for text in texts))), 2)  # entries side by side
            legend: Any = figure.legend(
                [shown[label] for label in keys],
                texts,
                loc="outside lower center",
                ncols=math.ceil(len(keys) / math.ceil(len(keys) / fit)),
                handletextpad=0.2,
                columnspacing=1.2,
            )
            for handle in legend.legend_handles:
                handle.set_sizes([36])
    return Path(path)


def _choose(
    title: str, features: Any, labels: Any, classes: int, most: int, seed: int
) -> tuple[str, NDArray[np.float64], NDArray[np.int64], int]:
    """Return the title, the features and labels of the drawn points, and the number of points before sampling."""
    values, index = np.asarray(features, dtype=np.float64), np.asarray(labels)
    if values.ndim != 2 or not values.shape[1]:
        raise ConfigError(f"projection {title!r}: expected features of shape (utterances, width), found {values.shape}")
    if index.shape != (len(values),) or (len(index) and (index.dtype.kind not in "iu" or index.max() >= classes)):
        raise ConfigError(
            f"projection {title!r}: expected {len(values)} whole numbers below {classes} as labels, found {index.dtype} of shape "
            f"{index.shape}" + (f" up to {index.max()}" if index.size else "")
        )
    finite = np.isfinite(values).all(1)
    values, index = values[finite], index[finite].astype(np.int64).clip(min=-1)
    rows = np.arange(len(values))
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).choice(len(rows), most, replace=False))
    return title, values[rows], index[rows], len(values)


def _frame(axes: Any) -> None:
    """Draw a light frame without ticks, because distances between far points have no meaning in t-SNE."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(FAINT)
    axes.set_box_aspect(1)
