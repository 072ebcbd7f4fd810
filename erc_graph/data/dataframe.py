"""Conversion of columns to a pandas table; pandas is imported on use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from erc_graph.errors import ConfigError

if TYPE_CHECKING:
    import pandas


def make_frame(columns: Mapping[str, Sequence[Any]]) -> pandas.DataFrame:
    """Return a table of the columns, in their order; `None` counts as missing.

    Raises:
        ConfigError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as problem:
        raise ConfigError(f'to_frame: pandas cannot be imported ({problem}); pip install "erc_graph[pandas]"') from None
    return pandas.DataFrame(dict(columns))
