"""Speaker embeddings for node states."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.encoders.missing import Missing

KEPT_APART = 8  # speakers with an embedding of their own


class Speakers(Protocol):
    """Protocol of the speaker information of a batch: order of appearance, and optionally given vectors with their presence."""

    @property
    def batch(self) -> Batch:
        """Return the dialogues."""

    @property
    def speaker(self) -> tuple[Tensor, Tensor] | None:
        """Return the given speaker vectors `(N, width)`, and which are present `(N,)`."""


class SpeakerEmbedding(nn.Module):
    """Learned embedding of the speaker's order of first appearance, weighted: `w s_i` (pairwise fusion, Eqs. (2) and (9)).

    Names never enter, so renaming speakers changes nothing. Speakers beyond `speakers` share the last embedding.

    Args:
        width: Width of the node states that it is added to.
        speakers: Number of distinct embeddings.
        given: Width of given speaker vectors, used in place of the learned embedding; 0 for the learned one.
    """

    def __init__(self, width: int, *, speakers: int = KEPT_APART, given: int = 0) -> None:
        super().__init__()
        self.missing = Missing({"speaker": given}) if given else None
        self.embedding = None if given else nn.Embedding(speakers, width)
        if self.embedding is not None:  # as small as the first states of a recurrent net, so that it does not drown them
            nn.init.normal_(self.embedding.weight, std=0.1)
        self.weight = nn.Linear(given or width, width, bias=False)

    def forward(self, given: Speakers) -> Tensor:
        """Return one row per utterance, `(N, width)`."""
        if self.missing is not None and given.speaker is not None:
            vectors, present = given.speaker
            return self.weight(self.missing({"speaker": vectors}, {"speaker": present})["speaker"])
        assert self.embedding is not None
        return self.weight(self.embedding(given.batch.speaker.clamp(max=self.embedding.num_embeddings - 1)))
