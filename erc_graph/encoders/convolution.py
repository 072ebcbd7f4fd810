"""Convolutions over audio frames and over the pixels of face images (`erc_graph.methods.hff`, Equations (6)–(8), (13)–(15))."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class FrameConvolution(nn.Module):
    r"""1-D convolutions over time, each with ReLU and max-pooling over pairs of frames, followed by a linear layer.

    .. math:: h^{(i)} = \mathrm{ReLU}(W^{(i)} * h^{(i-1)} + b^{(i)}), \qquad p_j = \max(h_{2j}, h_{2j+1})

    The input frames are :math:`h^{(0)}`. Each layer reduces `L` frames of an utterance to `ceil(L / 2)`. Padding is set to zero before each
    convolution, so the result does not depend on the batch. The maximum of a real frame and a padded frame is the real frame, because ReLU
    outputs are not negative.

    Args:
        width: Width of the input and output frames.
        layers: Number of layers; each layer halves the number of frames.
        kernel: Kernel size in frames, an odd number.
    """

    def __init__(self, width: int, *, layers: int = 2, kernel: int = 5) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv1d(width, width, kernel, padding=kernel // 2) for _ in range(layers))
        self.connected = nn.Linear(width, width)

    def forward(self, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode padded frames: `(n, L, width)`, zero at padding, with the mask `(n, L)` → `(n, L', width)` and the mask `(n, L')`."""
        states = frames.transpose(1, 2)  # (n, width, L)
        for convolve in self.convolutions:
            states = F.max_pool1d(convolve(states).relu() * mask[:, None], 2, ceil_mode=True)
            mask = mask[:, ::2]
        return self.connected(states.transpose(1, 2)) * mask[..., None], mask


class ResidualImages(nn.Module):
    r"""A small residual network over images: blocks :math:`y = f(x) + x`, then the mean of each channel over the image.

    For raw face images, this network replaces the pretrained ResNet of the HFF paper. The network has no batch normalisation, so the output
    for an image does not depend on other images.

    Args:
        channels: Channels of the images.
        width: Width of the output vectors.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 16, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True))
        self.reduce = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(n, n, 3, padding=1), nn.ReLU(), nn.Conv2d(n, n, 3, padding=1)) for n in (16, 32)
        )
        self.project = nn.Linear(32, width)

    def features(self, images: Tensor) -> Tensor:
        """Compute 32 features per image: `(frames, channels, height, width)`, values from 0 to 1 → `(frames, 32)`."""
        first, second = self.blocks
        states = self.stem(images)
        states = self.reduce((first(states) + states).relu()).relu()
        states = (second(states) + states).relu()
        return states.mean((2, 3))

    def forward(self, padded: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode padded 8-bit images: `(n, L, channels, image height, image width)` → `(n, L, width)`, zero at padding, and their mask."""
        states = self.project(self.features(padded[mask].to(self.project.weight.dtype) / 255))
        return states.new_zeros(*mask.shape, states.shape[1]).masked_scatter(mask[..., None], states), mask
