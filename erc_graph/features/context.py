"""What an encoder of text reads besides the utterance: the turns before it, as EmoBERTa (Kim and Vossen, arXiv:2108.12009) does.

Every earlier turn is marked as the speaker's own (`I: …`) or another's (`you: …`), the latest first, so that a limit on tokens cuts the
oldest. The marks say who spoke as seen from the speaker of the utterance: they fit speakers whom nobody has heard before.
"""

from __future__ import annotations

from erc_graph.data.corpus import Corpus

Reading = str | tuple[str, str]  # an utterance, or an utterance and what was said before it


def readings(corpus: Corpus, context: int) -> list[Reading]:
    """Return what an encoder reads of every utterance.

    Args:
        corpus: `U` utterances with texts.
        context: Turns before each that are read too; turns without words do not count.

    Returns:
        `U` texts, or pairs of text and context.
    """
    if not context:
        return list(corpus.texts)
    found: list[Reading] = []
    starts = corpus.ptr[corpus.dialogue_of].tolist()
    for row, (text, start, own) in enumerate(zip(corpus.texts, starts, corpus.speakers, strict=True)):
        before: list[str] = []
        for other in range(row - 1, start - 1, -1):
            if len(before) == context:
                break
            if corpus.texts[other].strip():
                before.append(f"{'I' if corpus.speakers[other] == own else 'you'}: {corpus.texts[other]}")
        found.append((text, " ".join(before)) if before else text)
    return found
