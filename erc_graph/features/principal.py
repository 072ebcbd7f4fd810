"""Principal components of the vectors of a text encoder, fitted only to training dialogues.

The components are saved, so that the vectors of new texts can be projected onto the same components. A hidden state of a language model has
thousands of numbers. A model that is trained on ten thousand utterances usually needs fewer numbers per utterance.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from erc_graph.data.files.storage import atomic_folder, load_tensors, save_tensors, write_json
from erc_graph.errors import CheckpointError
from erc_graph.features.context import Reading
from erc_graph.features.text import TextEncoder
from erc_graph.features.tokens import read_json

FORM, VERSION = "erc_graph principal components of a text encoder", 1
ABOUT, AXES = "principal.json", "principal.safetensors"


def fit_axes(vectors: Tensor, count: int) -> tuple[dict[str, Tensor], float]:
    """Compute the principal axes of vectors `(n, d)`, the directions of largest variance.

    Args:
        vectors: Vectors of training utterances.
        count: Number of axes `k`; at most `n`, and at most `d`.

    Returns:
        A dictionary with `mean` `(d,)` and `axes` `(k, d)`, float32, and the share of the variance of the vectors that the axes explain.
    """
    from sklearn.decomposition import PCA

    found = PCA(count, random_state=0).fit(vectors.double().numpy())
    kept = {"mean": torch.from_numpy(found.mean_).float(), "axes": torch.from_numpy(found.components_).float()}
    return kept, float(found.explained_variance_ratio_.sum())


def along(axes: dict[str, Tensor], vectors: Tensor) -> Tensor:
    """Subtract the mean from vectors `(n, d)`, and project the differences onto the `k` axes. The result is `(n, k)`."""
    return (vectors - axes["mean"]) @ axes["axes"].T


def save_axes(folder: Path, axes: dict[str, Tensor], encoder: str, fitted_to: str) -> None:
    """Write the axes and the name of the encoder to a folder, which can then be loaded as a text encoder.

    Args:
        folder: The folder to write. The function writes all files or no file.
        axes: Result of `fit_axes`.
        encoder: Name of the encoder with options; a path is relative to `folder`.
        fitted_to: Description of the data to which the axes were fitted, for human readers.
    """
    with atomic_folder(folder, (ABOUT, AXES)) as temporary:
        write_json(temporary / ABOUT, {"format": FORM, "version": VERSION, "encoder": encoder, "fitted_to": fitted_to})
        save_tensors(temporary / AXES, axes)


def read_axes(folder: Path) -> tuple[str, dict[str, Tensor]]:
    """Read the files that `save_axes` wrote, and return the name of the encoder with options, and the axes.

    Raises:
        CheckpointError: the files are missing, damaged, or of another format.
    """
    about: Any = read_json(folder / ABOUT, object)
    if not isinstance(about, dict) or about.get("format") != FORM or about.get("version") != VERSION:
        raise CheckpointError(
            f"{folder / ABOUT}: expected the format {FORM!r} of version {VERSION}, found another format or version; upgrade erc_graph"
        )
    axes, _ = load_tensors(folder / AXES)
    shapes = {name: tuple(value.shape) for name, value in axes.items()}
    good = shapes.keys() == {"mean", "axes"} and len(shapes["mean"]) == 1 and shapes["axes"][1:] == shapes["mean"]
    if not good or not all(bool(value.isfinite().all()) for value in axes.values()):
        raise CheckpointError(f"{folder / AXES}: expected finite tensors `mean` of shape (d,) and `axes` of shape (k, d), found {shapes}")
    return str(about.get("encoder")), axes


class Projected:
    """A text encoder whose vectors are projected onto principal components.

    Args:
        encoder: The text encoder, which computes vectors `(n, d)`.
        axes: Result of `fit_axes`.

    Attributes:
        width: Width of the projected vectors.
        longest: Largest number of tokens of a sentence.
        tokens: Tokenizer of the encoder.

    Raises:
        CheckpointError: the encoder computes vectors of another width than the vectors to which the axes were fitted.
    """

    context = 0  # it reads single sentences

    def __init__(self, encoder: TextEncoder, axes: dict[str, Tensor]) -> None:
        if encoder.width != len(axes["mean"]):
            raise CheckpointError(
                f"principal components: expected an encoder with vectors of {len(axes['mean'])} numbers, found {encoder.width} from "
                f"{encoder.name}; give the encoder to whose vectors the components were fitted"
            )
        self.encoder, self.axes, self.width = encoder, axes, len(axes["axes"])
        self.longest, self.tokens = encoder.longest, encoder.tokens

    def __call__(self, texts: Sequence[Reading], *, tokens: int = 1024) -> Tensor:
        """Compute the projected vectors `(n, width)` of texts, float32 on the CPU; see `TextEncoder`."""
        return along(self.axes, self.encoder(texts, tokens=tokens))
