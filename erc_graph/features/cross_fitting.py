"""Cross-fitting: a training utterance is encoded only by encoders that were not trained on its dialogue.

As in stacked generalisation (Wolpert, Neural Networks 5, 1992), the training dialogues are divided into `K` folds. `K` encoders are
fine-tuned, each without one fold. A training utterance is encoded by the encoder that was not trained on its dialogue. No encoder is
trained on development and test utterances, so the output for a development or test utterance is the mean over all encoders. The procedure
can be repeated with other folds. Then the output for a training utterance is also a mean over several encoders.

A mean over encoders is meaningful for class log-probabilities, because all encoders have the same classes. Hidden states of different
encoders are in different spaces. Nevertheless, the mean over states of five fine-tuned encoders works well on IEMOCAP and MELD. This mean
gives better results than states of a frozen encoder, or of an encoder that was trained on the same utterances (docs/features.md). A
possible reason is that a few epochs of fine-tuning change the states only a little.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from erc_graph.data.corpus import Corpus
from erc_graph.errors import ConfigError


def members(corpus: Corpus, cross_fit: int, seed: int, repeats: int = 1) -> dict[str, list[str]]:
    """Return a dictionary from the name of each encoder to the training dialogues that are excluded from its training.

    Args:
        corpus: A corpus with a training split.
        cross_fit: Number of folds; 0: a single encoder, trained on all training dialogues.
        seed: Seed of the folds; repetition `r` uses the folds of the seed `seed + r`.
        repeats: Number of repetitions, each with its own folds.

    Raises:
        ConfigError: there are fewer training dialogues than folds.
    """
    return {
        name if repeat == 0 else f"repeat-{repeat}-{name}": unseen
        for repeat in range(repeats)
        for name, unseen in _folds(corpus, cross_fit, seed + repeat).items()
    }


def _folds(corpus: Corpus, cross_fit: int, seed: int) -> dict[str, list[str]]:
    """Divide the training dialogues into folds with about equally many utterances, and return encoder → excluded dialogues."""
    if not cross_fit:
        return {"all": []}
    ids = corpus.splits["train"]
    if not 2 <= cross_fit <= len(ids):
        most = (
            f"2 to {len(ids)} folds (as many as training dialogues), or 0"
            if len(ids) > 1
            else "0, because only one training dialogue exists"
        )
        raise ConfigError(f"cross-fit: expected {most}, found {cross_fit}")
    order = np.random.default_rng(seed).permutation(len(ids))
    sizes = corpus.lengths[[corpus.position[ids[i]] for i in order]].numpy()
    fold = np.minimum((sizes.cumsum() - sizes / 2) * cross_fit // sizes.sum(), cross_fit - 1).astype(int)
    fold = fold if len(set(fold.tolist())) == cross_fit else np.arange(len(ids)) % cross_fit  # a dialogue as long as a fold
    return {f"fold-{k}": sorted(ids[i] for i in order[fold == k]) for k in range(cross_fit)}


def unseen_by(members: Mapping[str, Collection[str]]) -> dict[str, set[str]]:
    """Return a dictionary from every training dialogue to the encoders that were not trained on the dialogue.

    >>> sorted(unseen_by({"fold-0": ["a"], "fold-1": ["b"], "repeat-1-fold-0": ["a"]})["a"])
    ['fold-0', 'repeat-1-fold-0']
    """
    found: dict[str, set[str]] = {}
    for member, unseen in members.items():
        for name in unseen:
            found.setdefault(name, set()).add(member)
    return found
