"""Parallel training of jobs: in processes on this machine, or on a Ray cluster.

A job is one training with one seed and one fold. Jobs share only the corpus, and each job writes its results to its own folder. Workers
train the jobs in any order. Then the main process reads the results in a fixed order. The results are identical for every number of
workers, bit by bit, if the number of threads per process is the same. After an interruption, finished jobs are not trained again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import torch

from erc_graph.data.corpus import Corpus
from erc_graph.data.progress import Progress
from erc_graph.errors import ErcGraphError
from erc_graph.experiments.experiment import Launch
from erc_graph.experiments.jobs import Job, Outcome, Plan
from erc_graph.experiments.run import run_experiment, run_job
from erc_graph.experiments.workers import WorkerGone, answers_of, check_launcher, threads_each
from erc_graph.training.tracking import check_tracker

Some = TypeVar("Some", bound=Job)
Work = Callable[..., Any]  # of a job and a corpus, and of `resume`, `quiet` and `track`, as `run_job`


class RunGone(ErcGraphError):
    """Raised when the worker process of a job (a training with one seed and one fold) has died.

    Attributes:
        name: Name of the job.
    """

    def __init__(self, text: str, name: str) -> None:
        super().__init__(text)
        self.name = name


def check_launch(launch: Launch) -> None:
    """Check that this machine supports the launch options, before anything is written.

    Raises:
        ConfigError: a package is not installed, or several workers are requested in a process of `accelerate launch`.
    """
    check_launcher(launch.launcher, launch.workers)
    if launch.track:
        check_tracker(launch.track)


def run_all(plans: Sequence[Plan], corpus: Corpus, folder: Path, *, launch: Launch | None = None, resume: bool = False) -> list[Outcome]:
    """Train and evaluate several experiments; the results do not depend on the launch options.

    Args:
        plans: The experiments; each must have its own folder if trainings run in other processes.
        corpus: The corpus.
        folder: Output folder of the command, named in error messages.
        launch: Options of the execution; default: one training after the other in this process.
        resume: Continue from the checkpoints of the jobs.

    Raises:
        ErcGraphError: an experiment cannot run, or a worker process has died.
    """
    launch = launch or Launch()
    if launch.apart:
        train_all([job for plan in plans for job in plan.jobs(corpus)], corpus, folder, launch, resume=resume)
    resume = resume or launch.apart
    bar = Progress(plans, desc="experiments", disable=len(plans) <= 2 or launch.apart)
    return [run_experiment(plan, corpus, resume=resume, track=launch.track) for plan in bar]


def train_all(
    todo: Sequence[Some],
    corpus: Corpus,
    folder: Path,
    launch: Launch,
    *,
    resume: bool = False,
    work: Work = run_job,
    what: str = "runs",
    done: Callable[[Some, Any], None] = lambda job, answer: None,
    before: int = 0,
) -> None:
    """Train jobs (one seed and one fold each) in parallel; each job writes its checkpoint to its own folder.

    Each worker uses OMP_NUM_THREADS threads (default: one). The calling process is set to the same number of threads as a worker. Ctrl-C
    and errors stop all workers. The checkpoint of the last complete epoch of each job remains.

    Args:
        todo: The jobs; each has its own folder.
        corpus: The corpus.
        folder: Output folder of the command, named in error messages.
        launch: Options of the execution.
        resume: Continue from the checkpoints of the jobs.
        work: Function that processes a job; it must be a module-level function, because another process calls it.
        what: Title of the progress bar.
        done: Function that is called with every finished job and the result of `work`.
        before: Number of jobs that were finished earlier, for the progress bar.

    Raises:
        ErcGraphError: the first error of a job, with the job's name.
        RunGone: a worker process has died.
    """
    torch.set_num_threads(threads_each())
    left = [job for job in todo if not (resume and job.finished)]
    if not left:
        return
    workers = launch.workers if launch.launcher == "ray" and not launch.workers else min(launch.workers or 1, len(left))
    bar = Progress(total=before + len(todo), initial=before + len(todo) - len(left), desc=f"{what}, {workers or 'many'} at once")
    try:
        trained = answers_of(
            _train,
            (work, corpus, resume, launch.track),
            left,
            launcher=launch.launcher,
            workers=workers,
            name=lambda job: job.name,
            gpu=lambda job: job.experiment.run.device != "cpu",
        )
        with closing(trained):  # workers are stopped at once
            for job, answer in trained:
                if isinstance(answer, ErcGraphError):
                    raise type(answer)(f"{job.name}: {answer}")
                done(job, answer)
                bar.set_postfix_str(job.name, refresh=False)
                bar.update()
    except WorkerGone as gone:
        raise RunGone(
            f"{gone}: the worker process has died (killed, or out of memory); all complete epochs are kept, and --resume {folder} "
            "continues from them; fewer --workers need less memory",
            str(gone),
        ) from None
    finally:
        bar.close()


def _train(shared: tuple[Work, Corpus, bool, str | None], job: Job) -> Any:
    """Run a job; an `ErcGraphError` is returned and not raised, because Ray may change exceptions that a worker raises."""
    work, corpus, resume, track = shared
    try:
        answer = work(job, corpus, resume=resume, quiet=True, track=track)
    except ErcGraphError as refusal:
        return refusal
    return None if work is run_job else answer  # its answer stands in its folder
