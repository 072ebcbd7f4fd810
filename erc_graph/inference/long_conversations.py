"""Prediction of long conversations in overlapping windows.

Windows limit the memory, because the number of edges of a complete graph grows with the square of the number of utterances.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from erc_graph.data.corpus import Corpus
from erc_graph.inference.answer import Answers, answers
from erc_graph.inference.prepare import LONGEST

if TYPE_CHECKING:
    from erc_graph.inference.pipeline import Pipeline

OVERLAP = 200  # turns that two windows share; each speaks for its half of them


def predict_long(
    pipeline: Pipeline, corpus: Corpus, *, longest: int = LONGEST, overlap: int = OVERLAP, say: Callable[[str], None] | None = None
) -> Answers:
    """Predict every utterance, in the order of the input. Conversations of more than `longest` utterances are divided into windows.

    Args:
        pipeline: The model.
        corpus: Conversations with the features that the model uses, from `prepare`.
        longest: Number of utterances in a window.
        overlap: Number of utterances that two adjacent windows share. It must be smaller than `longest`.
        say: Function that is called with a note if windows are used.

    Raises:
        CorpusError: the features do not fit the model.
        CheckpointError: some scores are not finite.
    """
    lengths = corpus.lengths.tolist()
    if max(lengths, default=0) <= longest:
        return answers(pipeline.method, corpus)
    if say:
        long = sum(length > longest for length in lengths)
        say(
            f"{long} of {len(lengths)} conversations have more than {longest} utterances; each is divided into windows that overlap by "
            f"{overlap} utterances"
        )
    rows: list[int] = []
    kept: list[bool] = []
    sizes: list[int] = []
    for start, length in zip(corpus.ptr.tolist(), lengths, strict=False):
        for first, last, own, end in windows(length, longest, overlap):
            rows += range(start + first, start + last)
            kept += (own <= turn < end for turn in range(first, last))
            sizes.append(last - first)
    names = tuple(str(number) for number in range(len(sizes)))  # of the windows, which stand in the place of conversations
    given = answers(pipeline.method, corpus.regrouped(torch.tensor(rows), names, torch.tensor(sizes), {}))
    of = corpus.dialogue_of.tolist()
    ptr = corpus.ptr.tolist()
    return Answers(
        replace(answer, dialogue=corpus.dialogue_ids[of[row]], turn=row - ptr[of[row]])
        for answer, row, keep in zip(given, rows, kept, strict=True)
        if keep
    )


def windows(length: int, longest: int, overlap: int) -> list[tuple[int, int, int, int]]:
    """Return `(start, end, first, last)` for every window of a conversation of `length` utterances.

    The window contains the utterances from `start` to `end` (exclusive). Of its predictions, only those for the utterances from `first` to
    `last` (exclusive) are used.

    >>> windows(10, 6, 2)
    [(0, 6, 0, 5), (4, 10, 5, 10)]
    >>> windows(3, 6, 2)
    [(0, 3, 0, 3)]
    """
    starts = list(range(0, max(1, length - overlap), longest - overlap)) if length > longest else [0]
    starts = [min(start, max(0, length - longest)) for start in starts]
    ends = [min(start + longest, length) for start in starts]
    borders = [0, *((end + start) // 2 for end, start in zip(ends, starts[1:], strict=False)), length]
    return list(zip(starts, ends, borders, borders[1:], strict=False))
