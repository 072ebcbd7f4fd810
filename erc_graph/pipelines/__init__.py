"""Whole methods, one paper each: recipe, encoders, message passing, classifier, losses. Knows nothing of files or training loops."""

from __future__ import annotations

from erc_graph.pipelines.base import Pipeline
from erc_graph.pipelines.bigru import BiGRU
from erc_graph.pipelines.hff import HFF
from erc_graph.pipelines.mfdr import MFDR
from erc_graph.pipelines.pairwise import Pairwise
from erc_graph.pipelines.wavfusion import WavFusion

PIPELINES: dict[str, type[Pipeline]] = {
    "bigru": BiGRU,
    "hff": HFF,
    "mfdr": MFDR,
    "pairwise": Pairwise,
    "wavfusion": WavFusion,
}
