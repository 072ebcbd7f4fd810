r"""The exact Bayes limit of the sample corpus: the accuracy that no classifier can beat.

Given all vectors of a dialogue, the forward–backward algorithm computes the posterior :math:`P(e_t \mid x_1 … x_T)` exactly. Here
:math:`e_t` is the emotion of utterance :math:`t`, and :math:`x_1 … x_T` are the vectors of the dialogue. The hidden state of the algorithm
is the last emotion of every speaker. The Bayes limit is the mean, over utterances, of the largest posterior probability.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from erc_graph.data.corpus import Corpus
from erc_graph.data.sample.vectors import TASK, WIDTH, Array, SampleConfig, class_means, prior, sample_corpus
from erc_graph.errors import CorpusError


def transition(config: SampleConfig, *, own: bool = True, other: bool = True) -> Array:
    r"""Return the transition probabilities :math:`P(e \mid a, b)` as an array `(a, b, e)`.

    `e` is the new emotion, `a` the last emotion of the speaker, and `b` the last emotion of the other speaker who spoke last. With
    `own=False`, the speaker has no last emotion, and axis `a` has length one. With `other=False`, there is no other speaker, and axis `b`
    has length one.
    """
    kinds = len(TASK.labels)
    same = np.eye(kinds)
    alpha, beta = config.inertia * own, config.contagion * other
    keep = alpha * same[:, None, :] if own else np.zeros((1, 1, kinds))
    take = beta * same[None, :, :] if other else np.zeros((1, 1, kinds))
    return keep + take + (1 - alpha - beta) * prior()


def _smooth(speaker: NDArray[np.int64], likelihood: Array, config: SampleConfig) -> Array:
    """Run the forward–backward algorithm on one dialogue of `T` utterances.

    The state, an array of probabilities, has one axis per speaker for the speaker's last emotion. Before the first utterance of a speaker,
    the axis has length one. An utterance changes only the axis of its speaker, and depends on one other axis. The update is thus a small
    product over two axes. Five speakers have 7776 states, but no matrix of 7776 × 7776 is needed.

    Args:
        speaker: `(T,)` index of the speaker, numbered in order of first appearance.
        likelihood: `(T, 6)` likelihood of each emotion given the vectors of the utterance, up to a factor.

    Returns:
        Posterior probabilities, `(T, 6)`.
    """
    people, kinds = int(speaker.max()) + 1, likelihood.shape[1]
    others = [next((int(s) for s in speaker[:t][::-1] if s != speaker[t]), None) for t in range(len(speaker))]

    def front(state: Array, turn: int) -> tuple[Array, int | None]:
        """Return the state with the axis of the speaker first, and the axis of the last other speaker second."""
        s, o = int(speaker[turn]), others[turn]
        if o is None:
            return np.moveaxis(state, s, 0)[:, None], None
        return np.moveaxis(state, (s, o), (0, 1)), o

    def back(state: Array, turn: int, other: int | None) -> Array:
        s = int(speaker[turn])
        return np.moveaxis(state[:, 0], 0, s) if other is None else np.moveaxis(state, (0, 1), (s, other))

    def normal(state: Array) -> Array:
        return state / state.sum()

    alphas, kernels = [], []
    state = np.ones((1,) * people)
    for t in range(len(speaker)):
        joint, other = front(state, t)  # (a, b, rest)
        kernel = transition(config, own=joint.shape[0] == kinds, other=other is not None) * likelihood[t]  # (a, b, e)
        state = normal(back(np.einsum("ab...,abe->eb...", joint, kernel), t, other))
        alphas.append(state)
        kernels.append(kernel)
    posterior = np.empty_like(likelihood)
    beta = np.ones_like(state)
    for t in reversed(range(len(speaker))):
        axes = tuple(axis for axis in range(people) if axis != speaker[t])
        posterior[t] = normal((alphas[t] * beta).sum(axes))
        ahead, other = front(beta, t)  # (e, b, rest)
        beta = normal(back(np.einsum("eb...,abe->ab...", ahead, kernels[t]), t, other))
    return posterior


def _config_of(corpus: Corpus) -> SampleConfig:
    made: Mapping[str, Any] | None = corpus.provenance.get("sample")
    if made is None or corpus.task.labels != TASK.labels:
        raise CorpusError(
            f"{corpus.name}: the Bayes limit is known only for a generated corpus with task {TASK.name}, found task "
            f"{corpus.task.name} of format {corpus.provenance.get('format', 'unknown')!r}; use sample_corpus()"
        )
    # A saved corpus comes back with lists for tuples.
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in made.items()}
    return SampleConfig(**{field.name: values[field.name] for field in fields(SampleConfig)})


def _vectors(corpus: Corpus, config: SampleConfig, modalities: Iterable[str]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return a dictionary: modality → vectors, and whether each vector is present. The vectors of a raw corpus are generated again."""
    made = corpus.provenance["sample"]
    features, present = corpus.features, corpus.present
    if made.get("raw"):
        hidden = sample_corpus(dialogues=made["dialogues"], seed=made["seed"], config=config)
        features = hidden.subset(corpus.dialogue_ids).features
        present = {**present, **{name: value.present for name, value in corpus.sequences.items()}}
    for name in modalities:
        if name not in features or name not in present:
            raise CorpusError(f"{corpus.name}: no modality {name!r} of the sample corpus; the corpus has {', '.join(present) or 'none'}")
        if (width := features[name].shape[1]) != WIDTH.get(name):
            raise CorpusError(
                f"{corpus.name}: features.{name}: the Bayes limit is known for generated vectors of width {WIDTH.get(name)}, "
                f"found width {width}"
            )
    return {name: (features[name], present[name]) for name in modalities}


def sample_posterior(corpus: Corpus, *, context: bool = True, modalities: Collection[str] | None = None) -> Array:
    """Return the exact posterior probability of every emotion given the vectors.

    Args:
        corpus: A sample corpus, or some of its dialogues. For the raw sample corpus, the posterior is computed from the vectors that were
            rendered.
        context: True: the posterior given all vectors and speakers of the dialogue. False: the posterior given only the vectors of the
            utterance.
        modalities: Modalities whose vectors are used; default: all modalities.

    Returns:
        `(U, 6)` probabilities, in the order of the task's labels.

    Raises:
        CorpusError: `corpus` is not a sample corpus, or it lacks one of the modalities.
    """
    config = _config_of(corpus)
    log = np.zeros((corpus.utterances, len(TASK.labels)))
    means = class_means(config)
    for name, (vectors, present) in _vectors(corpus, config, means if modalities is None else modalities).items():
        gap = vectors.numpy().astype(np.float64)[:, None, :] - means[name]
        log -= 0.5 * (gap**2).sum(-1) * present.numpy()[:, None]
    likelihood = np.exp(log - log.max(1, keepdims=True))
    if not context:
        joint = likelihood * prior()
        return joint / joint.sum(1, keepdims=True)
    speaker, ptr = corpus.speaker.numpy(), corpus.ptr.tolist()
    slices = [slice(start, end) for start, end in pairwise(ptr)]
    return np.concatenate([_smooth(speaker[rows], likelihood[rows], config) for rows in slices])


def sample_bayes_limit(
    corpus: Corpus | None = None,
    *,
    split: str | None = "test",
    context: bool = True,
    modalities: Collection[str] | None = None,
    realised: bool = False,
) -> float:
    """Return the expected accuracy that no classifier can beat: the mean over utterances of the largest exact posterior probability.

    For the raw sample corpus, the result is the limit for the vectors from which words, voices and faces are rendered. Rendering loses
    information, so the result is only an upper bound for classifiers of the rendered data.

    Args:
        corpus: A sample corpus; default: the corpus that `sample_corpus()` returns.
        split: Split to evaluate; `None`: all dialogues.
        context: True: the limit for classifiers that use the whole conversation. False: the limit for classifiers that use single
            utterances.
        modalities: Modalities that the classifiers use; default: all modalities.
        realised: True: return the accuracy of the Bayes classifier on the actual labels, instead of its expectation.

    Raises:
        CorpusError: `corpus` is not a sample corpus, or it lacks the split or a modality.
    """
    corpus = sample_corpus() if corpus is None else corpus
    chosen = corpus if split is None else corpus.split(split)
    posterior = sample_posterior(chosen, context=context, modalities=modalities)
    if realised:
        return float((posterior.argmax(1) == chosen.target.numpy())[chosen.labelled.numpy()].mean())
    return float(posterior.max(1).mean())
