"""Preceding utterances as additional input of a text encoder, as in EmoBERTa (Kim and Vossen, arXiv:2108.12009).

The prefix of an earlier utterance is `I:` if the speaker of the current utterance said it, and `you:` if another speaker said it. The
latest utterance comes first, so a limit on tokens cuts the oldest utterances. The prefixes do not name speakers. The prefixes are therefore
also useful for speakers that do not occur in the training dialogues.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from erc_graph.data.corpus import Corpus

Reading = str | tuple[str, str]  # an utterance, or an utterance and what was said before it


def readings(corpus: Corpus, context: int) -> list[Reading]:
    """Return the input of an encoder for every utterance.

    Args:
        corpus: `U` utterances with texts.
        context: Number of preceding utterances to include. Utterances without words are left out and not counted.

    Returns:
        `U` inputs. An input is the text, or a pair of the text and the preceding utterances.
    """
    if not context:
        return list(corpus.texts)
    found: list[Reading] = []
    starts = corpus.ptr[corpus.dialogue_of].tolist()
    for row, (text, start, own) in enumerate(zip(corpus.texts, starts, corpus.speakers, strict=True)):
        earlier = ((corpus.speakers[other], corpus.texts[other]) for other in range(row - 1, start - 1, -1))
        found.append(reading(text, own, earlier, context))
    return found


def reading(text: str, speaker: str, earlier: Iterable[tuple[str, str]], context: int) -> Reading:
    """Return the input of an encoder for one utterance.

    Args:
        text: Text of the utterance.
        speaker: Speaker of the utterance.
        earlier: Speaker and text of the preceding utterances, the latest first.
        context: Number of preceding utterances with words to include.
    """
    spoken = ((other, said) for other, said in earlier if said.strip())
    before = [f"{'I' if other == speaker else 'you'}: {said}" for other, said in islice(spoken, context)]
    return (text, " ".join(before)) if before else text
