"""Conversion of columns to a pandas table. Pandas is imported only when a table is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from erc_graph.errors import ConfigError

if TYPE_CHECKING:
    import pandas


def make_frame(columns: Mapping[str, Sequence[Any]]) -> pandas.DataFrame:
    """Return a pandas table with the given columns, in the given order; `None` becomes a missing value.

    Raises:
        ConfigError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as problem:
        raise ConfigError(f'to_frame: pandas cannot be imported ({problem}); install it with pip install "erc_graph[pandas]"') from None
    return pandas.DataFrame(dict(columns))
