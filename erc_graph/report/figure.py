"""Creation of picture files without global state of matplotlib; text has no markup, and files are written atomically."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from erc_graph.data.files.storage import atomic_write
from erc_graph.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("png", "svg", "pdf")
INK, SOFT, FAINT = "#2B2F36", "#7A808A", "#E4E6EA"
STYLE = {
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "font.size": 9,
    "legend.frameon": False,
    "svg.hashsalt": "erc_graph",  # the same picture gives the same file
    "text.color": INK,
    "text.parse_math": False,  # names come from a corpus: `$` is a dollar
    "xtick.color": INK,
    "ytick.color": INK,
}


@contextmanager
def picture(path: str | Path, width: float, height: float) -> Iterator[Figure]:
    """Yield an empty figure of `width` × `height` inches, and write the figure to `path` if the `with` block ends without an error.

    Raises:
        ConfigError: the file name does not end in .png, .svg or .pdf.
        StorageError: the file cannot be written.
    """
    import matplotlib
    from matplotlib.figure import Figure

    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in KINDS:
        raise ConfigError(f"picture: expected a file name ending in {', '.join('.' + k for k in KINDS)}, found {path.name!r}")
    metadata = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a script that the font lacks is drawn as boxes
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        with atomic_write(path) as temporary:
            figure.savefig(temporary, format=kind, dpi=150, metadata=metadata)
