"""Significance tests: whether one method is better than another, from metrics of both on the same seeds, folds or utterances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from erc_graph.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The comparison of two methods: first minus second.

    Attributes:
        difference: Mean of the paired differences.
        p_value: Two-sided.
        low: Lower end of the confidence interval of the difference (NaN where the test has none).
        high: Its upper end.
        pairs: Number of pairs.
    """

    difference: float
    p_value: float
    low: float = float("nan")
    high: float = float("nan")
    pairs: int


def _differences(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape or len(a) < 2:
        raise ConfigError(f"comparison: expected two rows of as many figures, two or more, found shapes {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ConfigError("comparison: expected finite figures, found NaN or inf; leave out the pairs where a run failed")
    return a - b


def paired_permutation(first: ArrayLike, second: ArrayLike, *, resamples: int = 9999, seed: int = 0) -> Comparison:
    """Compute the sign-flip permutation test of the mean difference; exact if there are at most `resamples` sign patterns.

    With `n` pairs no p-value below 2 / 2ⁿ is possible: five seeds give 0.0625 at best, six 0.031.

    Args:
        first: Figures of one method, one per seed or fold (`weighted_f1`) or per utterance (right or wrong).
        second: Figures of the other on the same seeds, folds or utterances, in the same order.
        resamples: Most sign patterns that are tried.
        seed: Seed of the random sign patterns.

    Raises:
        ConfigError: not two rows of as many finite figures.

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
    """Return the p-values corrected for testing several hypotheses (Holm's step-down procedure).

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    named = dict(p_values) if isinstance(p_values, Mapping) else {str(i): p for i, p in enumerate(p_values)}
    values = np.array(list(named.values()), dtype=np.float64)
    order = values.argsort(kind="stable")
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)))
    return {name: float(value) for name, value in zip(named, corrected, strict=True)}
