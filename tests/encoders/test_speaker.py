from __future__ import annotations

from dataclasses import replace

import torch

from erc_graph.encoders.speaker import SpeakerEmbedding


def test_a_learned_row_per_speaker_and_the_last_for_all_beyond(batches):
    batch = replace(batches(6), speaker=torch.tensor([0, 1, 2, 3, 7, 0]))
    speaker = SpeakerEmbedding(4, speakers=3).double()
    rows = speaker(batch)
    expected = [speaker.weight.weight @ speaker.embedding.weight[i] for i in (0, 1, 2, 2, 2, 0)]
    torch.testing.assert_close(rows, torch.stack(expected))
    assert not torch.allclose(rows[0], rows[1])


def test_given_vectors_take_its_place(batches):
    batch = batches(4)
    vectors = torch.randn(4, 7, dtype=torch.float64)
    there = torch.ones(4, dtype=torch.bool)
    given = replace(batch, features={**batch.features, "speaker": vectors}, present={**batch.present, "speaker": there})
    speaker = SpeakerEmbedding(4, given=7).double()
    assert [name for name, _ in speaker.named_parameters()] == ["inputs.missing.speaker", "weight.weight"]
    torch.testing.assert_close(speaker(given), vectors @ speaker.weight.weight.T)
    assert torch.equal(speaker(given), speaker(replace(given, speaker=given.speaker.flip(0))))
