"""Opening of Parquet files, with a check that the number of rows is plausible for the size of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from erc_graph.data.files.budget import admit, count_cells
from erc_graph.errors import CorpusError


def open_parquet(path: Path) -> Any:
    """Open a file as `pyarrow.parquet.ParquetFile`, without reading any rows.

    Raises:
        CorpusError: pyarrow is not installed, the path is not a regular file, or the file claims far more rows than its size allows.
        OSError: the file cannot be read.
        ValueError: the file is not Parquet, or is damaged; pyarrow raises this error.
    """
    try:
        import pyarrow.parquet  # type: ignore[import-untyped]
    except ImportError:
        raise CorpusError(f"{path}: Parquet needs pyarrow; `pip install erc_graph[parquet]`, or save the table as JSON lines") from None
    size = admit(path)
    file = pyarrow.parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
    count_cells(file.metadata.num_rows * max(1, file.metadata.num_columns), size, path)
    return file
