"""A recurrent net over the turns of each speaker of a dialogue by themselves."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.encoders.recurrent import Recurrent
from erc_graph.encoders.turns import OverRows

Memories = list[Any]  # per speaker, `None` for one who has not spoken


class BySpeaker(OverRows):
    """What a speaker's own turns are to a net that reads nothing else: all speakers have the same parameters.

    Args:
        net: Reads the turns of a speaker of a dialogue as those of a dialogue.
    """

    def __init__(self, net: Recurrent) -> None:
        super().__init__()
        self.net = net

    @property
    def width(self) -> int:
        """Width of the rows that come out."""
        return self.net.width

    @property
    def causal(self) -> bool:
        """Whether the net reads forward alone."""
        return self.net.causal

    def read(self, rows: Tensor, batch: Batch) -> Tensor:
        """`(N, inputs)` packed rows → `(N, width)`."""
        if "by speaker" not in batch.kept:
            batch.kept["by speaker"] = _by_speaker(batch)
        order, back, speakers = batch.kept["by speaker"]
        return self.net.read(rows.index_select(0, order), speakers).index_select(0, back)

    def read_next(self, row: Tensor, batch: Batch, memory: Memories | None) -> tuple[Tensor, Memories]:
        """One more turn, in evaluation mode: `(1, inputs)` → `(1, width)`, and what each speaker hands on."""
        speaker, handed = int(batch.speaker[0]), list(memory or [])
        handed += [None] * (speaker + 1 - len(handed))
        row, handed[speaker] = self.net.read_next(row, batch, handed[speaker])
        return row, handed


def _by_speaker(batch: Batch) -> tuple[Tensor, Tensor, Batch]:
    """`(N,)` rows speaker by speaker, `(N,)` the other way, and the turns of each speaker of each dialogue as a dialogue."""
    order = torch.argsort(batch.dialogue * batch.longest + batch.speaker, stable=True)
    own = (batch.dialogue * batch.longest + batch.speaker)[order]  # a dialogue has no more speakers than turns
    counts = own.unique_consecutive(return_counts=True)[1]
    speakers = Batch(
        ptr=torch.cat([counts.new_zeros(1), counts.cumsum(0)]),
        **{name: getattr(batch, name)[order] for name in ("speaker", "target", "judged", "row")},
    )
    return order, torch.argsort(order), speakers
