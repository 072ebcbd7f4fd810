r"""Gated cross-modal attention: what the frames of one modality read in the others, weighed channel by channel (WavFusion, Eqs. (8)-(11)).

.. math::
    F_m &= \mathrm{CM}(X, X_m) \tag{8, 9} \\
    P &= \mathrm{sigmoid}(\mathrm{FC}(F_1 \oplus F_2)) \tag{10} \\
    F &= P \odot F_1 + (1 - P) \odot F_2 \tag{11}

The gate works for any number of other modalities: the sigmoid for two is a softmax whose last logit is zero, and the shares of more are a
softmax too. A missing modality has a share of exactly zero; the shares of the others sum to one.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from erc_graph.encoders.cross_attention import CrossAttention


class GatedCrossAttention(nn.Module):
    """Attention from the frames of one modality to those of each other modality, and a gate between the results.

    Args:
        width: Width of queries and output frames.
        others: Modality → width of its frames.
        heads: Number of heads of each attention.
        dropout: Dropout on the attention weights, in training.
    """

    def __init__(self, width: int, others: Mapping[str, int], *, heads: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.attend = nn.ModuleDict(
            {name: CrossAttention(width, keys, width, heads=heads, dropout=dropout) for name, keys in others.items()}
        )
        self.gate = nn.Linear(len(others) * width, (len(others) - 1) * width) if len(others) > 1 else None

    def forward(self, queries: Tensor, others: Mapping[str, tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Compute what each query attends to.

        Args:
            queries: `(n, L, width)`.
            others: Modality → frames `(n, K, its width)` and their mask `(n, K)` bool.

        Returns:
            `(n, L, width)`, zero for an utterance that has none of the others, and the shares `(n, L, others, width)`.
        """
        heard = torch.stack([attend(queries, *others[name]) for name, attend in self.attend.items()], 2)
        here = torch.stack([others[name][1].any(1) for name in self.attend], 1)[:, None, :, None]
        logits = torch.zeros_like(heard)
        if self.gate is not None:
            logits[:, :, :-1] = self.gate(heard.flatten(2)).unflatten(-1, (-1, queries.shape[-1]))
        shares = logits.masked_fill(~here, torch.finfo(logits.dtype).min).softmax(2) * here
        return (shares * heard).sum(2), shares
