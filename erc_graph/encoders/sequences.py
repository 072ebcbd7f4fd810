"""Functions that encode sequences, in groups of utterances of similar length."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from erc_graph.data.ragged import Ragged, chunked


def encode_sequences(function: Callable[[Tensor, Tensor], Tensor], sequences: Ragged, width: int, tokens: int) -> Tensor:
    """Apply an encoder with one output vector per utterance to all utterances that have a sequence.

    Utterances of similar length, from any dialogues, are padded and encoded together in groups of limited size. The encoder must ignore
    padding, so that the result for an utterance does not depend on the group.

    Args:
        function: The encoder: `(n, L, *item)` and the mask `(n, L)` bool → `(n, width)`.
        sequences: Sequences of `U` utterances.
        width: Width of the output vectors.
        tokens: Largest number of words or frames in a group, padding included.

    Returns:
        `(U, width)`; zero for an utterance without a sequence.

    >>> words = Ragged.of([torch.ones(2, 1), torch.zeros(0, 1), 3 * torch.ones(1, 1)])
    >>> encode_sequences(lambda padded, mask: padded.sum(1), words, width=1, tokens=8).tolist()
    [[2.0], [0.0], [3.0]]
    """
    return encode_together(lambda padded: function(*padded["only"]), {"only": sequences}, width, tokens)


def encode_together(
    function: Callable[[Mapping[str, tuple[Tensor, Tensor]]], Tensor], sequences: Mapping[str, Ragged], width: int, tokens: int
) -> Tensor:
    """Apply an encoder of several modalities to all utterances with at least one modality; see `encode_sequences`.

    Args:
        function: The encoder, which maps modality → (padded sequences `(n, L, *item)`, mask `(n, L)` bool) to `(n, width)`.
        sequences: Modality → sequences of `U` utterances.
        width: Width of the output vectors.
        tokens: Largest number of words and frames that are encoded together, over all modalities, padding included.

    Returns:
        `(U, width)`; zero for an utterance without any sequence.
    """
    lengths = torch.stack([value.lengths for value in sequences.values()]).sum(0)
    rows, states = [], []
    for chosen in chunked(lengths, tokens):
        rows.append(chosen)
        states.append(function({name: value.take(chosen).pad() for name, value in sequences.items()}))
    if not rows:
        return _nothing(next(iter(sequences.values())), len(lengths), width)
    found = torch.cat(states)
    place = torch.cat(rows).to(found.device, non_blocking=True)
    return found.new_zeros(len(lengths), width).index_copy(0, place, found)


def map_sequences(function: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], sequences: Ragged, item: int, tokens: int) -> Ragged:
    """Apply an encoder to all utterances; the encoder outputs a sequence of frames, for example one per word or per 20 ms of audio.

    Args:
        function: The encoder: `(n, L, *item)` and the mask `(n, L)` bool → frames `(n, frames, item)` and their mask.
        sequences: Sequences of `U` utterances.
        item: Width of a frame.
        tokens: Largest number of words, frames or samples that are encoded together, padding included.

    Returns:
        The frames of every utterance. An utterance without a sequence has no frames.

    >>> waves = Ragged.of([torch.arange(5.0), torch.zeros(0), torch.ones(2)])
    >>> map_sequences(lambda padded, mask: (padded[:, ::2, None], mask[:, ::2]), waves, item=1, tokens=8).lengths.tolist()
    [3, 0, 1]
    """
    lengths = torch.zeros(len(sequences), dtype=torch.long)
    rows, parts = [], []
    for chosen, part in sequences.chunks(tokens):
        frames, mask = function(*part.pad())
        lengths[chosen] = mask.sum(1).cpu()
        rows.append(chosen)
        parts.append(frames[mask])
    if not rows:
        return Ragged(_nothing(sequences, 0, item), torch.zeros(len(sequences) + 1, dtype=torch.long))
    order = torch.cat(rows)
    found = Ragged(torch.cat(parts), torch.cat([lengths.new_zeros(1), lengths[order].cumsum(0)]))
    absent = (lengths == 0).nonzero().squeeze(1)
    found = Ragged(found.values, torch.cat([found.ptr, found.ptr[-1:].expand(len(absent))]))
    return found.take(torch.cat([order, absent]).argsort())


def _nothing(sequences: Ragged, rows: int, width: int) -> Tensor:
    """Return zeros `(rows, width)`, with the data type of the sequences if this type is a floating-point type."""
    values = sequences.values
    return torch.zeros(rows, width, dtype=values.dtype if values.is_floating_point() else None, device=values.device)


def masked_mean(states: Tensor, mask: Tensor) -> Tensor:
    """Compute the mean over all positions except padding: `(n, L, d)`, mask `(n, L)` bool → `(n, d)`, zero for an empty sequence."""
    weight = mask[..., None].to(states.dtype)
    return (states * weight).sum(1) / weight.sum(1).clamp(min=1)
