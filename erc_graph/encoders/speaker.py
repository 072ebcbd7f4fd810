"""Speaker embeddings for node states."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.encoders.missing import Missing

KEPT_APART = 8  # speakers with an embedding of their own


class Speakers(Protocol):
    """Type of a batch of dialogues, with or without speaker vectors from the corpus."""

    @property
    def batch(self) -> Batch:
        """Return the dialogues."""

    @property
    def speaker(self) -> tuple[Tensor, Tensor] | None:
        """Return the speaker vectors `(N, width)` and their presence `(N,)` bool; `None` if the corpus has no speaker vectors."""


class SpeakerEmbedding(nn.Module):
    """Learned speaker embeddings (`erc_graph.methods.pairwise`, Equations (2) and (9)), followed by a linear projection.

    Speakers are numbered by first appearance in the dialogue. Names of speakers are not used, so renaming speakers does not change the
    result. If a dialogue has more than `speakers` speakers, all later speakers share the last embedding.

    Args:
        width: Width of the node states to which the projected embedding is added.
        speakers: Number of distinct embeddings.
        given: Width of the speaker vectors of the corpus, which replace the learned embeddings; 0: learned embeddings.
    """

    def __init__(self, width: int, *, speakers: int = KEPT_APART, given: int = 0) -> None:
        super().__init__()
        self.missing = Missing({"speaker": given}) if given else None
        self.embedding = None if given else nn.Embedding(speakers, width)
        if self.embedding is not None:  # as small as the first states of a recurrent net, so that it does not drown them
            nn.init.normal_(self.embedding.weight, std=0.1)
        self.weight = nn.Linear(given or width, width, bias=False)

    def forward(self, given: Speakers) -> Tensor:
        """Return the projected embedding of the speaker of every utterance, `(N, width)`."""
        if self.missing is not None and given.speaker is not None:
            vectors, present = given.speaker
            return self.weight(self.missing({"speaker": vectors}, {"speaker": present})["speaker"])
        assert self.embedding is not None
        return self.weight(self.embedding(given.batch.speaker.clamp(max=self.embedding.num_embeddings - 1)))
