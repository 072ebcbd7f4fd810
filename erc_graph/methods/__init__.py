"""Whole methods, one paper each: recipe, encoders, message passing, classifier, losses. Knows nothing of files or training loops."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from erc_graph.methods.base import Method

_CLASSES = {
    "bigru": "bigru:BiGRU",
    "hff": "hff:HFF",
    "mfdr": "mfdr:MFDR",
    "pairwise": "pairwise:Pairwise",
    "wavfusion": "wavfusion:WavFusion",
}


class _Methods(Mapping[str, "type[Method]"]):
    """Name → class; a method's file is imported when it is asked for."""

    def __getitem__(self, name: str) -> type[Method]:
        module, _, kind = _CLASSES[name].partition(":")
        found: type[Method] = getattr(importlib.import_module(f"{__name__}.{module}"), kind)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(_CLASSES)

    def __len__(self) -> int:
        return len(_CLASSES)


METHODS: Mapping[str, type[Method]] = _Methods()
