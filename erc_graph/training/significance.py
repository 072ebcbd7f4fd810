"""Paired significance tests of two methods, from their metrics on the same seeds, folds or utterances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from erc_graph.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

MANY = 5  # seeds that a claim needs at least


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The result of a paired comparison of two methods.

    Attributes:
        difference: Metric of the first method minus metric of the second method, averaged over the pairs if there is one value per pair.
        p_value: Two-sided p-value.
        low: Lower end of the confidence interval of the difference; NaN if the test gives no interval.
        high: Upper end of the confidence interval.
        pairs: Number of pairs.
    """

    difference: float
    p_value: float
    low: float = float("nan")
    high: float = float("nan")
    pairs: int


def few_seeds(seeds: int) -> str | None:
    """Return a warning if there are too few seeds for a claim, otherwise `None`.

    >>> few_seeds(1)
    '1 seed is too few for a claim; use 5 or more'
    """
    return f"{seeds} {'seed is' if seeds == 1 else 'seeds are'} too few for a claim; use {MANY} or more" if seeds < MANY else None


def _differences(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or len(a) < 2:
        raise ConfigError(f"comparison: expected two lists of the same length, at least 2, found shapes {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ConfigError("comparison: expected finite values, found NaN or inf; leave out the pairs with a failed run")
    return a - b


def paired_permutation(first: ArrayLike, second: ArrayLike, *, resamples: int = 9999, seed: int = 0) -> Comparison:
    """Compute the sign-flip permutation test of the mean difference; it is exact if there are at most `resamples` sign patterns.

    With `n` pairs, the smallest possible p-value is 2 / 2ⁿ: 0.0625 for five seeds, 0.031 for six.

    Args:
        first: Values of the first method: one metric per seed or fold, or one value (right or wrong) per utterance.
        second: Values of the second method, for the same seeds, folds or utterances in the same order.
        resamples: Largest number of sign patterns.
        seed: Seed of the random sign patterns.

    Raises:
        ConfigError: `first` and `second` differ in length, have fewer than two values, or contain values that are not finite.

    >>> paired_permutation([3, 4, 5, 6], [1, 1, 1, 1]).p_value
    0.125
    """
    from scipy.stats import permutation_test

    difference = _differences(first, second)
    result = permutation_test(
        (difference,), lambda x, axis: x.mean(axis), permutation_type="samples", vectorized=True,
        n_resamples=resamples, batch=max(1, 10**7 // len(difference)), random_state=np.random.default_rng(seed),
    )  # fmt: skip
    return Comparison(difference=float(difference.mean()), p_value=float(result.pvalue), pairs=len(difference))


def holm(p_values: Mapping[str, float] | Sequence[float]) -> dict[str, float]:
    """Correct p-values for multiple tests by Holm's step-down procedure.

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    named = dict(p_values) if isinstance(p_values, Mapping) else {str(i): p for i, p in enumerate(p_values)}
    values = np.array(list(named.values()), dtype=np.float64)
    order = values.argsort(kind="stable")
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)))
    return {name: float(value) for name, value in zip(named, corrected, strict=True)}
