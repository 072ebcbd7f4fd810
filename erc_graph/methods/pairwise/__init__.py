"""Pairwise fusion (Fan et al., 2024): the method and its two stages."""

from erc_graph.methods.pairwise.multimodal_attention import MalConfig, MultimodalAttention
from erc_graph.methods.pairwise.multiple_fusion import MffConfig, MultipleFeaturesFusion
from erc_graph.methods.pairwise.pair_fusion import PairFusion, PmfConfig
from erc_graph.methods.pairwise.pairwise import Pairwise, PairwiseConfig

__all__ = [
    "MalConfig",
    "MffConfig",
    "MultimodalAttention",
    "MultipleFeaturesFusion",
    "PairFusion",
    "Pairwise",
    "PairwiseConfig",
    "PmfConfig",
]
