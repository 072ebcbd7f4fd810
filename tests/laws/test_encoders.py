"""Laws of encoders by themselves: alone as in company, and looking ahead only where they say so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from erc_graph.data.batch import Batch
from erc_graph.encoders.centred import Centred
from erc_graph.encoders.recurrent import Recurrent
from erc_graph.encoders.self_attention import SelfAttention, TransformerEncoder
from erc_graph.encoders.speaker import SpeakerEmbedding
from erc_graph.encoders.turns import OverTurns, over_turns
from erc_graph.methods.inputs import Inputs, InputsConfig
from tests.laws.cases import THREE, WIDTHS, Schema, conversations, leaves, stir
from tests.laws.test_alone import LENGTHS, check_alone

ENCODERS: dict[str, Callable[[], nn.Module]] = {
    **{
        f"{cell} {'both ways' if both else 'forward'} {layers}": lambda cell=cell, both=both, layers=layers: Recurrent(
            cell, 5, 6, bidirectional=both, layers=layers, dropout=0.3
        )
        for cell in ("lstm", "gru")
        for both in (False, True)
        for layers in (1, 2)
    },
    "attention": lambda: SelfAttention(5, 7, heads=3, dropout=0.3),
    "causal attention": lambda: SelfAttention(5, 7, heads=3, dropout=0.3, causal=True),
    "windowed attention": lambda: SelfAttention(5, 7, heads=3, dropout=0.3, causal=True, past=2),
    "transformer": lambda: TransformerEncoder(5, layers=2),
    **{
        f"{'causal ' if causal else ''}transformer, past {past}": lambda causal=causal, past=past: TransformerEncoder(
            5, layers=2, causal=causal, past=past
        )
        for causal in (False, True)
        for past in (0, 2)
    },
    "centred": lambda: Centred(),
    "causal centred": lambda: Centred(causal=True),
    "speaker": lambda: Speaker(SpeakerEmbedding(6, speakers=2)),
    "given speaker": lambda: Speaker(SpeakerEmbedding(6, given=2), given=True),
    "inputs": lambda: All(speaker_relative=["audio"]),
}  # fmt: skip


class All(nn.Module):
    """All vectors that a method is given, side by side."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.inputs = Inputs(Schema(widths=WIDTHS, task=THREE), InputsConfig(**options))

    def forward(self, batch: Batch) -> Tensor:
        return torch.cat(list(self.inputs(batch).values.values()), -1)


class Speaker(nn.Module):
    """A speaker embedding, asked with what a method is given."""

    def __init__(self, embedding: SpeakerEmbedding, *, given: bool = False) -> None:
        super().__init__()
        self.embedding = embedding
        self.inputs = Inputs(Schema(widths=WIDTHS, task=THREE), InputsConfig(given_speakers=given))

    def forward(self, batch: Batch) -> Tensor:
        found: Tensor = self.embedding(self.inputs(batch))
        return found


def ask(encoder: nn.Module, batch: Batch) -> Tensor:
    """`(N, k)` of any encoder; parts that look at other turns read the text."""
    found: Tensor = encoder(batch) if isinstance(encoder, (All, Speaker)) else over_turns(encoder, batch.features["text"], batch)
    return found


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_alone_in_any_batch_in_any_order(name: str) -> None:
    check_alone(ask, stir(ENCODERS[name]()), conversations(None, LENGTHS))


def looks_ahead(values: Tensor, given: Tensor, batch: Batch) -> bool:
    """Whether some row of `values` has a gradient from a later turn of its dialogue; none may have one from another dialogue."""
    later = False
    for row in range(batch.utterances):
        (found,) = torch.autograd.grad(values[row].sum(), given, retain_graph=True)
        moved = found.flatten(1).abs().sum(1) > 0
        assert not moved[batch.dialogue != batch.dialogue[row]].any()
        later |= bool(moved[(batch.dialogue == batch.dialogue[row]) & (batch.turn > batch.turn[row])].any())
    return later


@pytest.mark.parametrize("name", [name for name in ENCODERS if not isinstance(ENCODERS[name](), (All, Speaker))])
def test_an_encoder_looks_ahead_only_where_it_says_so(name: str) -> None:
    encoder = stir(ENCODERS[name]())
    causal = all(part.causal for part in encoder.modules() if isinstance(part, OverTurns))
    batch, given = leaves(conversations(None, [5, 3]))
    values = ask(encoder, batch)
    values = values @ torch.randn(values.shape[1], values.shape[1], dtype=torch.float64)  # a layer norm's sum is constant
    assert looks_ahead(values, given["text"], batch) is not causal
    words = name.split()
    assert causal is bool({"forward", "causal", "windowed"} & set(words))
