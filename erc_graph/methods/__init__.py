"""Whole methods, one paper each: recipe, encoders, message passing, classifier, losses. Knows nothing of files or training loops."""

from __future__ import annotations

from erc_graph.methods.base import Pipeline
from erc_graph.methods.bigru import BiGRU
from erc_graph.methods.hff import HFF
from erc_graph.methods.mfdr import MFDR
from erc_graph.methods.pairwise import Pairwise
from erc_graph.methods.wavfusion import WavFusion

PIPELINES: dict[str, type[Pipeline]] = {
    "bigru": BiGRU,
    "hff": HFF,
    "mfdr": MFDR,
    "pairwise": Pairwise,
    "wavfusion": WavFusion,
}
