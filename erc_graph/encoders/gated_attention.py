r"""Gated cross-modal attention: attention to each other modality, combined with one gate per channel (WavFusion, Equations (8)-(11)).

.. math::
    F_m &= \mathrm{CM}(X, X_m) \tag{8, 9} \\
    P &= \mathrm{sigmoid}(\mathrm{FC}(F_1 \oplus F_2)) \tag{10} \\
    F &= P \odot F_1 + (1 - P) \odot F_2 \tag{11}

`X` are the frames of the modality that attends, and :math:`X_m` are the frames of another modality `m`. CM is cross-modal attention, FC is
a linear layer, and :math:`\oplus` is concatenation. For more than two other modalities, the gate is a softmax over the modalities. For two
other modalities, the sigmoid equals a softmax whose second logit is zero. A missing modality has the gate value zero; the gate values of
the present modalities sum to one.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from erc_graph.encoders.cross_attention import CrossAttention


class GatedCrossAttention(nn.Module):
    """Attention from the frames of one modality to the frames of each other modality, and a gate that combines the results.

    Args:
        width: Width of queries and output frames.
        others: Other modality → width of its frames.
        heads: Number of heads of each multi-head attention.
        dropout: Dropout rate of the attention weights in training.
    """

    def __init__(self, width: int, others: Mapping[str, int], *, heads: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.attend = nn.ModuleDict(
            {name: CrossAttention(width, keys, width, heads=heads, dropout=dropout) for name, keys in others.items()}
        )
        self.gate = nn.Linear(len(others) * width, (len(others) - 1) * width) if len(others) > 1 else None

    def forward(self, queries: Tensor, others: Mapping[str, tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Compute the gated attention output of each query.

        Args:
            queries: `(n, L, width)` frames of the modality that attends.
            others: Other modality → frames `(n, K, width of the modality)` and their mask `(n, K)` bool.

        Returns:
            Output frames `(n, L, width)`, zero for an utterance without other modalities, and gate values `(n, L, others, width)`.
        """
        heard = torch.stack([attend(queries, *others[name]) for name, attend in self.attend.items()], 2)
        here = torch.stack([others[name][1].any(1) for name in self.attend], 1)[:, None, :, None]
        logits = torch.zeros_like(heard)
        if self.gate is not None:
            logits[:, :, :-1] = self.gate(heard.flatten(2)).unflatten(-1, (-1, queries.shape[-1]))
        shares = logits.masked_fill(~here, torch.finfo(logits.dtype).min).softmax(2) * here
        return (shares * heard).sum(2), shares
