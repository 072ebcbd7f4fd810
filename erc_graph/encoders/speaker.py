"""Who speaks, as a vector on the node."""

from __future__ import annotations

from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.encoders.inputs import Inputs


class SpeakerEmbedding(nn.Module):
    """Learned embedding of the speaker's order of first appearance, weighted: `w s_i` (pairwise fusion, Eqs. (2) and (9)).

    Names never enter, so renaming speakers changes nothing. Speakers beyond `speakers` share the last embedding.

    Args:
        width: Width of the node states that it is added to.
        speakers: Number of distinct embeddings.
        given: Width of given speaker vectors (a `speaker` feature set, for instance of a recognition model), used in place of the
            learned embedding; 0 for the learned one.
    """

    def __init__(self, width: int, *, speakers: int = 8, given: int = 0) -> None:
        super().__init__()
        self.inputs = Inputs({"speaker": given}) if given else None
        self.embedding = None if given else nn.Embedding(speakers, width)
        if self.embedding is not None:  # as small as the first states of a recurrent net, so that it does not drown them
            nn.init.normal_(self.embedding.weight, std=0.1)
        self.weight = nn.Linear(given or width, width, bias=False)

    def forward(self, batch: Batch) -> Tensor:
        """`(N, width)`, one row per utterance."""
        if self.inputs is not None:
            return self.weight(self.inputs(batch)["speaker"])
        assert self.embedding is not None
        return self.weight(self.embedding(batch.speaker.clamp(max=self.embedding.num_embeddings - 1)))
