"""Mean ranks of the methods that have results on all corpora, and the pairs of methods with a significant difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from erc_graph.experiments.leaderboard.board_rules import ALPHA, CRITERION
from erc_graph.report.leaderboard_pictures import Ranks
from erc_graph.training.significance import holm, paired_permutation


def ranks_of(boards: Sequence[Mapping[str, Any]]) -> Ranks | None:
    """Rank the methods in every block, and test every pair of methods over the blocks.

    A block is one seed on one corpus. The test is a sign-flip permutation test with Holm's correction. The test shows whether other seeds
    would give the same result on these corpora. The test does not show whether other corpora would give the same result.

    Args:
        boards: Content of `leaderboard.json` of each corpus.

    Returns:
        The mean ranks; `None` if there are fewer than two methods or fewer than two blocks.
    """
    from scipy.stats import rankdata

    rows = [{row["method"]: row for row in board["rows"] if row["seeds"]} for board in boards]
    names = [name for name in rows[0] if all(name in other for other in rows)] if rows else []
    blocks = []
    for found in rows:
        shared = [seed for seed in found[names[0]]["seeds"] if all(seed in found[name]["seeds"] for name in names)] if names else []
        blocks += [[found[n]["test"][CRITERION]["values"][found[n]["seeds"].index(seed)] for n in names] for seed in shared]
    figures = np.array(blocks).reshape(len(blocks), len(names))
    if min(figures.shape) < 2:
        return None
    ranks = rankdata(-figures, axis=1).mean(0)
    order = ranks.argsort(kind="stable")
    figures, mean = figures[:, order], ranks[order]
    pairs = {f"{i} {j}": (i, j) for i, j in combinations(range(len(names)), 2)}
    p = {key: paired_permutation(figures[:, i], figures[:, j]).p_value for key, (i, j) in pairs.items()}
    apart = {pairs[key] for key, value in holm(p).items() if value < ALPHA}
    what = f"seeds of {len(boards)} corpora" if len(boards) > 1 else "seeds"
    ordered = [names[i] for i in order]
    return Ranks(ordered, mean.tolist(), len(blocks), what, apart, [rows[0][name]["family"] for name in ordered])
