"""Mean ranks of the methods that all corpora have, and which of them can be told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from erc_graph.experiments.leaderboard.board_rules import ALPHA
from erc_graph.report.leaderboard_pictures import Ranks
from erc_graph.training.config import LOWER_IS_BETTER
from erc_graph.training.significance import holm


def ranks_of(boards: Sequence[Mapping[str, Any]]) -> Ranks | None:
    """Rank the methods in every block, a seed on a corpus; Wilcoxon's test over the blocks for every pair, corrected by Holm.

    Args:
        boards: What stands on each corpus.

    Returns:
        Nothing for fewer than two methods or two blocks.
    """
    from scipy.stats import rankdata, wilcoxon

    rows = [{row["method"]: row for row in board["rows"] if row["seeds"]} for board in boards]
    names = [name for name in rows[0] if all(name in other for other in rows)] if rows else []
    blocks = []
    for board, found in zip(boards, rows, strict=True):
        criterion = board["rules"]["criterion"]
        sign = 1 if criterion in LOWER_IS_BETTER else -1
        shared = [seed for seed in found[names[0]]["seeds"] if all(seed in found[name]["seeds"] for name in names)] if names else []
        for seed in shared:
            blocks.append(rankdata([sign * found[n]["test"][criterion]["values"][found[n]["seeds"].index(seed)] for n in names]))
    ranks = np.array(blocks).reshape(len(blocks), len(names))
    if min(ranks.shape) < 2:
        return None
    ranks = ranks[:, (order := ranks.mean(0).argsort(kind="stable"))]
    pairs = {f"{i} {j}": (i, j) for i, j in combinations(range(len(names)), 2)}
    p = {
        key: float(wilcoxon(ranks[:, i], ranks[:, j], method="approx").pvalue) if (ranks[:, i] != ranks[:, j]).any() else 1.0
        for key, (i, j) in pairs.items()
    }
    apart = {pairs[key] for key, value in holm(p).items() if value < ALPHA}
    what = f"seeds of {len(boards)} corpora" if len(boards) > 1 else "seeds"
    ordered = [names[i] for i in order]
    return Ranks(ordered, ranks.mean(0).tolist(), len(blocks), what, apart, [rows[0][name]["family"] for name in ordered])
