"""The jobs of an experiment, and their results.

A job is one training with one seed and one fold. Each job has its own folder with a checkpoint from which training can be continued.
Jobs are independent: their results do not depend on the order in which `launch.train_all` trains them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from erc_graph.data.corpus import Corpus
from erc_graph.data.splits import Fold, folds
from erc_graph.experiments.experiment import Experiment
from erc_graph.methods.own_file import short_name
from erc_graph.training.checkpoint import LAST, State
from erc_graph.training.history import History


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training with one seed and one fold.

    Attributes:
        experiment: The experiment.
        seed: Seed of the initial weights, the order of the dialogues, and dropout.
        fold: Dialogues of the training, development and test splits.
        folder: Folder of the checkpoints; default: no checkpoints are written.
        name: Name of the training in progress bars and error messages.
    """

    experiment: Experiment
    seed: int
    fold: Fold
    folder: Path | None = None
    name: str = ""

    @property
    def finished(self) -> bool:
        """Return whether the training is complete.

        Raises:
            CheckpointError: the checkpoint is damaged, or was written by another version of the package.
        """
        path = self.folder / LAST if self.folder else None
        return path is not None and path.exists() and State.load(path).finished


@dataclass(frozen=True, kw_only=True)
class Plan:
    """An experiment with all its seeds and folds.

    Attributes:
        experiment: The experiment.
        folder: Folder of the checkpoints, with a subfolder `seed-N` per seed. With several folds, `seed-N` has a subfolder per fold.
            Default: no checkpoints are written.
        name: Name of the plan in progress bars and error messages; default: the name of the method.
    """

    experiment: Experiment
    folder: Path | None = None
    name: str = ""

    @property
    def title(self) -> str:
        """Return `name`, or the name of the method if `name` is empty."""
        return self.name or short_name(self.experiment.method)

    def jobs(self, corpus: Corpus) -> list[Job]:
        """Return one training (`Job`) per seed and fold: all folds of the first seed, then all folds of the second seed, and so on.

        Raises:
            ConfigError: the protocol does not fit the corpus.
        """
        divisions = folds(corpus, self.experiment.run.protocol)
        found = []
        for seed in range(self.experiment.run.seeds):
            place = self.folder / f"seed-{seed}" if self.folder else None
            for fold in divisions:
                own = fold_folder(place, divisions, fold) if place else None
                name = f"{self.title} seed {seed}" + (f" {fold.name}" if len(divisions) > 1 else "")
                found.append(Job(experiment=self.experiment, seed=seed, fold=fold, folder=own, name=name))
        return found


@dataclass
class SeedResult:
    """Results of one seed, with the test predictions of all folds together.

    Attributes:
        seed: The seed.
        test: Metrics on all evaluated test utterances of all folds together.
        dev: Metrics on the development split, averaged over the folds.
        rows: Indices of the n evaluated test utterances in the corpus, `(n,)`.
        scores: Logits of the C classes, `(n, C)`; for a score task, predicted scores, `(n, 1)`.
        states: Inputs of the classifier, one row per utterance; `None` if the method does not return them, or with several folds.
        histories: Training history of each fold.
        device: Device on which the network was trained.
        parameters: Number of weights of the network.
        utterance_level: Whether each prediction depends only on its own utterance.
    """

    seed: int
    test: dict[str, float]
    dev: dict[str, float]
    rows: Tensor
    scores: Tensor
    states: Tensor | None
    histories: list[History] = field(default_factory=list)
    device: str = "cpu"
    parameters: int = 0
    utterance_level: bool = False


@dataclass
class Outcome:
    """The results of all seeds of one experiment."""

    experiment: Experiment
    corpus: Corpus
    seeds: list[SeedResult]

    def values(self, metric: str, part: str = "test") -> list[float]:
        """Return the values of a metric on one split (`test` or `dev`), one per seed."""
        return [getattr(seed, part)[metric] for seed in self.seeds]

    @property
    def seconds_per_epoch(self) -> float:
        """Compute the mean number of seconds per epoch over seeds, folds and training stages."""
        return float(np.mean([history.seconds_per_epoch for seed in self.seeds for history in seed.histories]))


def fold_folder(folder: Path, divisions: list[Fold], fold: Fold) -> Path:
    """Return the folder of a fold's checkpoints, which is the folder of the seed if there is only one fold."""
    return folder / fold.name.replace(" ", "-") if len(divisions) > 1 else folder
