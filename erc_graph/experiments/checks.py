"""Checks of an experiment before training; if a check fails, nothing is trained or written."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import nullcontext

from erc_graph.data.corpus import Corpus
from erc_graph.data.numbers import UNFIT, check_numbers
from erc_graph.data.splits import Fold, folds, judged_rows
from erc_graph.errors import ConfigError, CorpusError
from erc_graph.experiments.experiment import Experiment
from erc_graph.experiments.probe import own_code, probe
from erc_graph.experiments.run import Parts, build, schema
from erc_graph.methods.own_file import is_own
from erc_graph.training.loop import check_fit


def check(experiment: Experiment, corpus: Corpus) -> None:
    """Check that an experiment can run, without training or writing anything.

    Raises:
        ConfigError: settings of the method, training or protocol cannot be used with this corpus or on this machine.
        CorpusError: the corpus has invalid numbers, or a split lacks labels or features. With the option `strict`, a sequence that is too
            long for the method is also an error.
    """
    unknown = [name for name in experiment.inputs.swap_noise if name not in corpus.features]
    if unknown:
        raise ConfigError(
            f"inputs.swap_noise: expected names of modalities of the corpus ({', '.join(corpus.modalities)}), found {unknown[0]!r}"
        )
    check_numbers(corpus)
    _check_learnable(experiment, corpus)
    own = is_own(experiment.method)
    with own_code(experiment.method, "building the network") if own else nullcontext():
        network = build(experiment, corpus, 0)
    if own:
        probe(experiment.method, network, corpus)
    read = network.schema
    for sentence in network.cut(read.batch(corpus)):
        if experiment.run.strict:
            raise CorpusError(f"{corpus.name}: {sentence}, which --strict does not allow; leave out --strict to cut off the rest")
        logging.getLogger(__name__).warning("  note: %s; the rest is cut off", sentence)
    prior = experiment.prior.features
    if corpus.task.kind == "classification":
        _check_prior(corpus, prior)
    for fold in folds(corpus, experiment.run.protocol):
        parts = Parts.of(corpus, fold, read)
        check_fit(corpus.task, parts.train, parts.dev, experiment.training, experiment.run.device)
        if not parts.test.judged.any():
            raise CorpusError(
                f"test split of fold {fold.name}: expected labelled utterances for the evaluation, found none in the "
                f"{len(fold.test)} dialogues of this split; add labels to them"
            )
        _check_fitted(corpus, fold, (*read.modalities, *prior))


def _check_learnable(experiment: Experiment, corpus: Corpus) -> None:
    """Check that every training split has features and at least two different labels.

    Raises:
        CorpusError: the corpus has no labels, or a training split has only one label or no features.
    """
    if not corpus.labelled.any():
        raise CorpusError(
            f"{corpus.name}: expected labels to learn from, found none in {corpus.utterances} utterances; add the column "
            "`label` (for scores: `sentiment`) to the corpus"
        )
    read = schema(experiment, corpus)
    for fold in folds(corpus, experiment.run.protocol):
        found = corpus.target[judged_rows(corpus, fold.train)].unique()
        if len(found) == 1:
            value = found.item()
            label = repr(corpus.task.labels[int(value)]) if corpus.task.kind == "classification" else value
            raise CorpusError(
                f"train split of fold {fold.name}: expected at least two different labels, found only the label {label}; label "
                "more utterances"
            )
        rows = corpus.rows(corpus.position[name] for name in fold.train)
        here = [*(corpus.present[name] for name in read.widths), *(corpus.sequences[name].present for name in read.sequences)]
        if not any(present[rows].any() for present in here):
            raise CorpusError(
                f"train split of fold {fold.name}: expected utterances with features, found none: in all {len(rows)} utterances, "
                f"the features of {', '.join(read.modalities)} are missing or contain {UNFIT}; check the feature files"
            )


def _check_prior(corpus: Corpus, names: Iterable[str]) -> None:
    """Check that the features named in `prior.features` are log-probabilities of the classes.

    Raises:
        CorpusError: the probabilities of an utterance do not add up to one.
    """
    for name in names:
        if name not in corpus.features:
            continue  # the method says so
        values = corpus.features[name][corpus.present[name]]
        off = (values.float().logsumexp(-1).exp() - 1).abs() > 0.05
        if off.any():
            where = corpus.utterance_ids[int(corpus.present[name].nonzero()[:, 0][off][0])]
            raise CorpusError(
                f"prior.features: expected log-probabilities in the feature set {name!r}, but the probabilities of "
                f"{int(off.sum())} of its {len(values)} utterances (first: {where}) do not add up to one; make the feature set "
                "with `erc-graph features --fine-tune --output log-probabilities`"
            )


def _check_fitted(corpus: Corpus, fold: Fold, modalities: Iterable[str]) -> None:
    """Check that no feature encoder was fine-tuned on labels of test dialogues.

    Cross-fitted encoders, and encoders that were fine-tuned on development dialogues, only cause a warning.

    Raises:
        ConfigError: the encoder of a modality was fine-tuned on test dialogues, without cross-fitting.
    """
    for name in dict.fromkeys(modalities):
        fitted = corpus.provenance.get("fitted", {}).get(name, {})
        known = set(fitted.get("dialogues", ()))
        judged = {part: [one for one in ids if one in known] for part, ids in (("test", fold.test), ("development", fold.dev))}
        if judged["test"] and not fitted.get("cross_fit"):
            raise ConfigError(
                f"{name}: expected features of an encoder that was not fine-tuned on test dialogues, found {len(judged['test'])} "
                f"test dialogues of fold {fold.name} (first: {judged['test'][0]}) in the fine-tuning data of the encoder; leave "
                f"out {name} with --modalities, or use the --protocol of the fine-tuning"
            )
        for part, ids in judged.items():
            if ids:
                logging.getLogger(__name__).warning(
                    "  note: the encoders of the %s features were fine-tuned on the labels of %d %s dialogues of fold %s%s",
                    name, len(ids), part, fold.name, "; features of these dialogues come from encoders that were not fine-tuned on "
                    "them" if fitted.get("cross_fit") else "",
                )  # fmt: skip
