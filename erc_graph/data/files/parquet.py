"""Opening of Parquet files, after a check that their number of rows fits their size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from erc_graph.data.files.budget import admit, count_cells
from erc_graph.errors import CorpusError


def open_parquet(path: Path) -> Any:
    """Return pyarrow's `ParquetFile`; nothing of its rows is read.

    Raises:
        CorpusError: pyarrow is not installed, no regular file, or far more rows than its size allows: runs of one value take nothing.
        OSError: it cannot be read.
        ValueError: of pyarrow: no Parquet, or damaged.
    """
    try:
        import pyarrow.parquet  # type: ignore[import-untyped]
    except ImportError:
        raise CorpusError(f"{path}: Parquet needs pyarrow; `pip install erc_graph[parquet]`, or save the table as JSON lines") from None
    size = admit(path)
    file = pyarrow.parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
    count_cells(file.metadata.num_rows * max(1, file.metadata.num_columns), size, path)
    return file
