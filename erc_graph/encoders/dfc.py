r"""Dynamic frame convolution: neighbouring states become one frame, with a separate kernel for each frame position (MFDR, Section 2.3).

A frame is a window of :math:`\omega_f` (`window`) neighbouring states; a new frame begins every :math:`h_f` (`hop`) states. The number of
frames of a sequence of `L` states is:

.. math:: \bar N_f = \lfloor (L - \omega_f) / h_f \rfloor + 1 \tag{7}

A learned matrix `M` has as many columns as the longest sequence has states. A block `W` of convolutions, layer normalisation and activation
computes the kernels of all frames from `M`. A kernel has one weight per state and channel (translation variant convolution, Chen et al.,
"TVConv", CVPR 2022):

.. math:: \Phi = W(M) \tag{8}

The kernels depend on the position of a frame, but not on the states of the frame. In a frame that crosses the end of its sequence, padding
is ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Pooling = Literal["dfc", "max", "avg", "linear"]


def frame_count(length: int, window: int, hop: int) -> int:
    """Compute the number of frames of a sequence, Equation (7).

    >>> frame_count(50, 3, 2), frame_count(24, 3, 3)
    (24, 8)
    """
    return (length - window) // hop + 1


def frames_of(states: Tensor, mask: Tensor, window: int, hop: int, most: int) -> tuple[Tensor, Tensor]:
    """Divide sequences into frames.

    Args:
        states: `(n, L, d)` states of `n` padded sequences.
        mask: `(n, L)` bool, false for padding, which is at the end.
        window: Number of states per frame.
        hop: Number of states from the start of one frame to the start of the next.
        most: Maximum number of frames of a sequence.

    Returns:
        The states of `N` frames per sequence, `(n, N, d, window)`, zero at padding, and their mask `(n, N, window)` bool. A frame is
            padding if its first state is padding.
    """
    count = min(most, (states.shape[1] - 1) // hop + 1)
    reach = hop * (count - 1) + window
    missing = max(0, reach - states.shape[1])
    states = F.pad(states * mask[..., None], (0, 0, 0, missing))[:, :reach]
    return states.unfold(1, window, hop), F.pad(mask, (0, missing))[:, :reach].unfold(1, window, hop)


class DynamicFrameConvolution(nn.Module):
    """One layer of dynamic frame convolution, from sequences of at most `length` states to frames.

    Args:
        length: L, length of the longest sequence.
        width: D, width of the states.
        window: ω_f, number of states per frame.
        hop: h_f, number of states from the start of one frame to the start of the next.
        middle: Number of channels between the two convolutions that compute the kernels.

    Attributes:
        map: `(1, D, L)` learned matrix, from which the kernels are computed.
        first: First convolution, followed by `norm` and ReLU.
        last: Second convolution, whose outputs are the kernels.
    """

    def __init__(self, length: int, width: int, *, window: int = 3, hop: int = 2, middle: int = 64) -> None:
        super().__init__()
        self.window, self.hop, self.count = window, hop, frame_count(length, window, hop)
        self.map = nn.Parameter(torch.randn(1, width, length))
        self.first = nn.Conv1d(width, middle, 3, padding=1)
        self.norm = nn.LayerNorm(middle)
        self.last = nn.Conv1d(middle, width * window, window, stride=hop)
        nn.init.constant_(self.last.bias, 1 / window)  # type: ignore[arg-type]  # at first nearly a mean

    def kernels(self) -> Tensor:
        """Compute the kernels Φ of all frames: `(frames, D, window)`."""
        hidden = F.relu(self.norm(self.first(self.map).mT)).mT
        return self.last(hidden)[0].T.unflatten(-1, (-1, self.window))  # Eq. (8)

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Compute frames `(n, N_f, D)` and their mask from states `(n, L, D)` and their mask `(n, L)`; padding is at the end."""
        frames, real = frames_of(states, mask, self.window, self.hop, self.count)
        return torch.einsum("nfdw,fdw->nfd", frames, self.kernels()[: frames.shape[1]]), real[..., 0]


class FramePooling(nn.Module):
    """Pooling of a sequence to fewer states by layers of dynamic frame convolution, or by a baseline of the MFDR paper.

    Args:
        length: Length of the longest sequence.
        width: Width of the states.
        kind: `dfc`: dynamic frame convolution; `max`, `avg`: maximum or mean over each frame; `linear`: a linear layer on each state,
            without pooling.
        window: Number of states per frame.
        hops: Number of states from the start of one frame to the start of the next, for every layer.
        middle: Number of channels between the convolutions that compute the kernels.

    Attributes:
        count: Number of output states for the longest sequence.
    """

    def __init__(
        self, length: int, width: int, *, kind: Pooling = "dfc", window: int = 3, hops: Sequence[int] = (2, 3), middle: int = 64
    ) -> None:
        super().__init__()
        self.kind, self.window, self.hops = kind, window, tuple(hops)
        self.lengths = [length]
        for hop in self.hops if kind != "linear" else ():
            self.lengths.append(frame_count(self.lengths[-1], window, hop))
        self.count = self.lengths[-1]
        self.layers = nn.ModuleList()
        if kind == "dfc":
            for longest, hop in zip(self.lengths, self.hops, strict=False):
                self.layers.append(DynamicFrameConvolution(longest, width, window=window, hop=hop, middle=middle))
        elif kind == "linear":
            self.layers.append(nn.Linear(width, width))

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Pool padded states: `(n, L, width)` with the mask `(n, L)` → `N` states `(n, N, width)`, zero at padding, and their mask."""
        if self.kind == "linear":
            return F.relu(self.layers[0](states)) * mask[..., None], mask
        for layer in self.layers:
            states, mask = layer(states, mask)
        if self.kind == "dfc":
            return states, mask
        for most, hop in zip(self.lengths[1:], self.hops, strict=True):
            frames, real = frames_of(states, mask, self.window, hop, most)
            real = real[:, :, None]
            if self.kind == "max":
                states = frames.masked_fill(~real, -torch.inf).amax(-1).nan_to_num(neginf=0.0)
            else:
                states = frames.sum(-1) / real.sum(-1).clamp(min=1)
            mask = real[:, :, 0, 0]
        return states, mask
