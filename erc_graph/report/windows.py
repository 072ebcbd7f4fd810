"""Pictures of the attention between the words and the audio frames of an utterance, as a heat map and as a graph.

A time window is a short sequence of audio frames; every word attends to the frames of one time window (see `erc_graph.encoders.sawa`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from erc_graph.data.printable import one_line
from erc_graph.errors import ConfigError
from erc_graph.report.figure import INK, SOFT, picture

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch_geometric.data import HeteroData

MOST_MARKED = 20  # frames with their number below


def plot_heat(maps: Mapping[str, ArrayLike], path: str | Path) -> Path:
    """Draw a heat map of the mean attention weight of every frame in every time window, as in Fig. 3 of the MFDR paper.

    Each map has its own panel, and all panels have the same colour scale.

    Args:
        maps: Title → `(windows, frames)` mean attention weights.
        path: File name that ends in `.png`, `.svg` or `.pdf`.

    Returns:
        The path.

    Raises:
        ConfigError: there is no map; a map is not a matrix of finite numbers; or the file type is unknown.
        StorageError: the file cannot be written.
    """
    found = {title: np.asarray(value, dtype=np.float64) for title, value in maps.items()}
    for title, value in found.items():
        if value.ndim != 2 or not value.size or not np.isfinite(value).all():
            raise ConfigError(f"plot_heat: {title}: expected finite numbers (windows, frames), found shape {value.shape}")
    if not found:
        raise ConfigError("plot_heat: expected one heat map or more, found none")
    top = max(float(value.max()) for value in found.values()) or 1.0
    widest = max(value.shape[1] for value in found.values())
    tall = sum(0.16 * len(value) + 0.75 for value in found.values())
    with picture(path, min(14.0, max(5.0, 0.11 * widest + 1.6)), tall) as figure:
        panels = figure.subplots(len(found), 1, squeeze=False, height_ratios=[len(value) + 1 for value in found.values()])[:, 0]
        for axes, (title, value) in zip(panels, found.items(), strict=True):
            image = axes.imshow(value, cmap="magma_r", vmin=0, vmax=top, aspect="auto", interpolation="nearest")
            axes.set(title=one_line(title, 90), ylabel="window", xlim=(-0.5, widest - 0.5))
            marked = range(0, len(value), max(1, len(value) // 5))
            axes.set_yticks(marked, [str(i + 1) for i in marked])
        panels[-1].set_xlabel("frame")
        figure.colorbar(image, ax=list(panels), label="mean weight", shrink=0.8, aspect=30)
    return Path(path)


def plot_word_frames(graph: HeteroData, path: str | Path, *, title: str | None = None) -> Path:
    """Draw the bipartite graph of words (above) and frames (below) of an utterance; the width of an edge shows the attention weight.

    Args:
        graph: Graph from `erc_graph.graphs.word_windows.window_graph`.
        path: File name that ends in `.png`, `.svg` or `.pdf`.
        title: Title; default: the numbers of words, frames and edges.

    Returns:
        The path.

    Raises:
        ConfigError: the file type is unknown.
        StorageError: the file cannot be written.
    """
    from matplotlib.collections import LineCollection

    edge = graph["frame", "window", "word"]
    frame, word = edge.edge_index.cpu().numpy()
    weight = edge.edge_weight.detach().cpu().numpy()
    words, frames = graph["word"].num_nodes, graph["frame"].num_nodes
    said = [one_line(text, 16) for text in graph.words] or [str(i + 1) for i in range(words)]
    above, below = (np.arange(words) + 0.5) / words, (np.arange(frames) + 0.5) / frames
    colours = np.array([f"C{i % 10}" for i in range(words)])
    strength = np.sqrt(weight / max(float(weight.max(initial=0)), 1e-9))  # of the root, so that weak lines are seen too
    ends = np.stack([np.stack([above[word], np.ones(len(word))], -1), np.stack([below[frame], np.zeros(len(frame))], -1)], 1)
    with picture(path, min(16.0, max(6.0, 0.9 * words, 0.1 * frames)), 3.2) as figure:
        axes = figure.add_subplot(xlim=(0, 1), ylim=(-0.3, 1.3))
        axes.set_axis_off()
        axes.set_title(title or f"{words} words, {frames} frames, {len(word)} edges")
        if len(word):
            axes.add_collection(
                LineCollection(list(ends), colors=colours[word], linewidths=0.3 + 2 * strength, alpha=0.15 + 0.7 * strength)
            )
        axes.scatter(above, np.ones(words), s=60, c=colours, zorder=3)
        axes.scatter(below, np.zeros(frames), s=14, c=INK, marker="s", zorder=3)
        for x, text, colour in zip(above.tolist(), said, colours, strict=True):
            axes.text(x, 1.1, text, ha="center", va="bottom", color=colour)
        for i in range(0, frames, -(-frames // MOST_MARKED)):
            axes.text(below[i], -0.08, str(i + 1), ha="center", va="top", fontsize=7, color=SOFT)
        axes.text(0.5, -0.3, "frame", ha="center", va="bottom", fontsize=8, color=SOFT)
    return Path(path)
