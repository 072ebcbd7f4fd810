"""Arrays of public codes that pad dialogues and put time first: turns × dialogues × features."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from tests.methods.reference.conftest import Reference, batch_of


def rows(batch: Batch, padded: Tensor) -> Tensor:
    """`(T, B, ...)` → `(N, ...)`"""
    return batch.unpad(padded.transpose(0, 1).contiguous())


def spoken(every: Reference, features: Mapping[str, str]) -> tuple[Batch, list[Tensor]]:
    """The dialogues, and of each the slots of its speakers in the order of their first appearance; modality → array."""
    sizes = every["in/lens"].tolist()
    slots = [every["in/qmask"][:n, i].argmax(-1) for i, n in enumerate(sizes)]
    orders = [torch.tensor(list(dict.fromkeys(own.tolist()))) for own in slots]
    speakers = [(own[:, None] == order).int().argmax(-1) for own, order in zip(slots, orders, strict=True)]
    labels = [every["in/label"][i, :n] for i, n in enumerate(sizes)]
    values = {name: torch.cat([every[array][:n, i] for i, n in enumerate(sizes)]) for name, array in features.items()}
    return batch_of(speakers, labels, **values), orders
