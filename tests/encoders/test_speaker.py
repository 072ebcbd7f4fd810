from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from erc_graph.data.batch import Batch
from erc_graph.encoders.speaker import SpeakerEmbedding
from erc_graph.methods.inputs import Given


def known(batch: Batch, speaker: tuple[Tensor, Tensor] | None = None) -> Given:
    """What is known of the speakers."""
    return Given(batch=batch, values={}, sequences={}, present={}, speaker=speaker)


def test_a_learned_row_per_speaker_and_the_last_for_all_beyond(batches):
    batch = replace(batches(6), speaker=torch.tensor([0, 1, 2, 3, 7, 0]))
    speaker = SpeakerEmbedding(4, speakers=3).double()
    rows = speaker(known(batch))
    expected = [speaker.weight.weight @ speaker.embedding.weight[i] for i in (0, 1, 2, 2, 2, 0)]
    torch.testing.assert_close(rows, torch.stack(expected))
    assert not torch.allclose(rows[0], rows[1])


def test_given_vectors_take_its_place(batches):
    batch = batches(4)
    vectors = torch.randn(4, 7, dtype=torch.float64)
    there = torch.ones(4, dtype=torch.bool)
    speaker = SpeakerEmbedding(4, given=7).double()
    assert [name for name, _ in speaker.named_parameters()] == ["missing.vectors.speaker", "weight.weight"]
    torch.testing.assert_close(speaker(known(batch, (vectors, there))), vectors @ speaker.weight.weight.T)
    turned = replace(batch, speaker=batch.speaker.flip(0))
    assert torch.equal(speaker(known(batch, (vectors, there))), speaker(known(turned, (vectors, there))))
    there[1] = False
    expected = speaker.weight.weight @ speaker.missing.vectors["speaker"]
    torch.testing.assert_close(speaker(known(batch, (vectors, there)))[1], expected)
