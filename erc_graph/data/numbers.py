"""The range of valid numbers in features, from -1e15 to 1e15. Sums of squares of such numbers do not overflow in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from erc_graph.errors import CorpusError

if TYPE_CHECKING:
    from erc_graph.data.corpus import Corpus

LARGEST = 1e15  # the sum of 10⁸ squares of such numbers is below 3.4e38, where float32 ends
UNFIT = "NaN, inf or numbers beyond 1e15"

Numbers = TypeVar("Numbers", bound=Any)


def fit(values: Numbers) -> Numbers:
    """Return whether each number of an array or tensor is in the valid range, as booleans of the same shape.

    >>> import numpy as np
    >>> fit(np.array([1.0, -2e15, float("nan"), float("-inf")])).tolist()
    [True, False, False, False]
    """
    found: Numbers = (values <= LARGEST) & (values >= -LARGEST)
    return found


def fit_items(values: Tensor) -> Tensor:
    """Return whether each of the `T` items of a sequence has only numbers in the valid range, `(T,)` bool."""
    return fit(values).flatten(1).all(1) if values.ndim > 1 else fit(values)


def check_numbers(corpus: Corpus) -> None:
    """Check that all numbers of a corpus are in the valid range.

    The file readers also check this range. They treat vectors with other numbers as missing, or reject the file.

    Raises:
        CorpusError: some numbers are outside the range. The message names the modality and the first utterance with such numbers.
    """
    wrong = {f"features.{name}": corpus.present[name] & ~fit(rows).all(1) for name, rows in corpus.features.items()}
    for name, value in corpus.sequences.items():
        if value.values.is_floating_point() and not (good := fit_items(value.values)).all():
            owner = torch.repeat_interleave(torch.arange(len(value)), value.lengths)
            wrong[f"sequences.{name}"] = torch.zeros(len(value), dtype=torch.bool).index_fill(0, owner[~good.cpu()], True)
    if corpus.task.kind == "score":
        wrong["score"] = corpus.labelled & ~fit(corpus.target)
    for what, rows in wrong.items():
        if rows.any():
            raise CorpusError(
                f"{corpus.name}: {what}: {UNFIT} in {int(rows.sum())} of {len(rows)} utterances "
                f"(first: {corpus.utterance_ids[int(rows.nonzero()[0])]!r}); correct these numbers, or leave the modality out"
            )
