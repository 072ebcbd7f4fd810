"""From sequences to one vector per utterance, some utterances of similar length at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from erc_graph.data.ragged import Ragged


def encode_sequences(function: Callable[[Tensor, Tensor], Tensor], sequences: Ragged, width: int, tokens: int) -> Tensor:
    """Apply an encoder to all utterances that have a sequence.

    Utterances of similar length go together, in chunks of a bounded number of items: a dialogue of a hundred recordings is never padded
    to its longest one. The encoder must not let what is padded change what is real; then neither chunks nor order change the result.

    Args:
        function: `(n, L, *item)` and the mask `(n, L)` bool → `(n, width)`.
        sequences: Of `U` utterances.
        width: Of the vectors that come out.
        tokens: Most items of a chunk, padding included.

    Returns:
        `(U, width)`; zero where an utterance has no sequence.

    >>> words = Ragged.of([torch.ones(2, 1), torch.zeros(0, 1), 3 * torch.ones(1, 1)])
    >>> encode_sequences(lambda padded, mask: padded.sum(1), words, width=1, tokens=8).tolist()
    [[2.0], [0.0], [3.0]]
    """
    rows, states = [], []
    for chosen, part in sequences.chunks(tokens):
        rows.append(chosen)
        states.append(function(*part.pad()))
    if not rows:
        return torch.zeros(len(sequences), width, device=sequences.device)
    found = torch.cat(states)
    place = torch.cat(rows).to(found.device, non_blocking=True)
    return found.new_zeros(len(sequences), width).index_copy(0, place, found)


def masked_mean(states: Tensor, mask: Tensor) -> Tensor:
    """Mean over what is real: `(n, L, d)`, `(n, L)` bool → `(n, d)`; zero where nothing is."""
    weight = mask[..., None].to(states.dtype)
    return (states * weight).sum(1) / weight.sum(1).clamp(min=1)
