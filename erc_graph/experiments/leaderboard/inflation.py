"""What a figure would be had the epoch been chosen on the test set, as many published ones are: shown, and used for nothing.

This file alone reads what a method said of the test part after every epoch; no choice may import it, and a test sees to that.
"""

from __future__ import annotations

import json
from pathlib import Path

from erc_graph.data.files.budget import content_of
from erc_graph.errors import CheckpointError


def chosen_on_test(trace: Path) -> float | None:
    """The best figure of the test part over the epochs of the last stage; nothing where no epoch has one.

    Raises:
        CheckpointError: the trace is missing or damaged.
    """
    try:
        stages = json.loads(content_of(trace))
        last = stages[max(stages, key=int)]
        figures = [float(value) for value in last.values() if value is not None]
        return max(figures, default=None)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{trace}: expected figures after every epoch, found something else ({error}); delete it and the record "
                              "beside its folder to train again") from None  # fmt: skip
