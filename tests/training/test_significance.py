from __future__ import annotations

import itertools

import numpy as np
import pytest

from erc_graph.errors import ConfigError
from erc_graph.training.significance import holm, paired_permutation


def test_permutation_against_all_sign_patterns():
    a, b = [0.61, 0.65, 0.64, 0.70, 0.66, 0.62], [0.60, 0.66, 0.61, 0.64, 0.63, 0.60]
    difference = np.subtract(a, b)
    means = [abs(np.mean(difference * signs)) for signs in itertools.product((1, -1), repeat=6)]
    expected = np.mean([mean >= abs(difference.mean()) - 1e-12 for mean in means])
    result = paired_permutation(a, b)
    assert result.p_value == pytest.approx(expected)
    assert result.difference == pytest.approx(difference.mean())
    assert result.pairs == 6
    assert paired_permutation(b, a).p_value == pytest.approx(expected)


def test_many_pairs_are_sampled_and_seeded():
    random = np.random.default_rng(0)
    right = random.random(300) < 0.6
    better = right | (random.random(300) < 0.3)
    one, two = (paired_permutation(better, right, resamples=999, seed=1) for _ in range(2))
    assert one == two
    assert one.p_value <= 0.01
    assert paired_permutation(right, right, resamples=999).p_value == 1.0


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx({"0": 0.03, "1": 0.06, "2": 0.06, "3": 0.02})
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_refusals():
    for a, b in (([1, 2], [1, 2, 3]), ([1], [2]), ([[1, 2]], [[1, 2]])):
        with pytest.raises(ConfigError, match="comparison: expected two lists of the same length"):
            paired_permutation(a, b)
    with pytest.raises(ConfigError, match="comparison: expected finite values"):
        paired_permutation([1, float("nan")], [1, 2])
