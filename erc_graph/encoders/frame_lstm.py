"""A bidirectional LSTM over the words or frames of an utterance."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class FrameLSTM(nn.Module):
    """A bidirectional LSTM with one output state per word or frame. Padding does not change the states in either direction.

    Args:
        inputs: Width of the input vector of a word or frame.
        width: Width of the output states: both directions, concatenated.
        layers: Number of stacked layers.
    """

    def __init__(self, inputs: int, width: int, *, layers: int = 1) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, width // 2, layers, batch_first=True, bidirectional=True)

    def forward(self, items: Tensor, mask: Tensor) -> Tensor:
        """Encode padded sequences: `(n, L, inputs)`, mask `(n, L)` bool, `L >= 1` → `(n, L, width)`, arbitrary values at padding."""
        lengths = mask.sum(1).clamp(min=1).cpu()
        states, _ = self.lstm(pack_padded_sequence(items, lengths, batch_first=True, enforce_sorted=False))
        return pad_packed_sequence(states, batch_first=True, total_length=items.shape[1])[0]
