"""Many runs at once: in processes of this machine, or on a Ray cluster.

Jobs (a seed on a fold) share nothing but the corpus, and leave all that they find out in their folders. So they are trained in any order
by workers, and then read in the serial order by the code that a serial run takes, which finds them finished: the results are those of a
serial run, bit for bit where the number of threads is the same. What a stopped launch has finished is not trained again.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import torch
from tqdm import tqdm

from erc_graph.data.corpus import Corpus
from erc_graph.errors import ConfigError, ErcGraphError
from erc_graph.experiments.experiment import Launch
from erc_graph.experiments.jobs import Job, Outcome, Plan
from erc_graph.experiments.run import run_experiment, run_job
from erc_graph.training.tracking import check_tracker

PATIENCE = 20.0  # seconds that a worker has to leave its run, before it is killed


def check_launch(launch: Launch) -> None:
    """Refuse what this machine cannot do, before anything is written.

    Raises:
        ConfigError: a package that is not installed, or several workers in a process that is one of several.
    """
    if launch.apart and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "--workers: expected one process that starts the workers, found one of several of `accelerate launch`; use one of both"
        )
    if launch.launcher == "ray" and importlib.util.find_spec("ray") is None:
        raise ConfigError("--launcher ray: expected the package ray, found none; install it with pip install 'erc_graph[ray]'")
    if launch.track:
        check_tracker(launch.track)


def run_all(plans: Sequence[Plan], corpus: Corpus, folder: Path, *, launch: Launch | None = None, resume: bool = False) -> list[Outcome]:
    """Train and judge several experiments; the results are the same however they are launched.

    Args:
        plans: What to run; each in a folder of its own, where runs are trained apart.
        corpus: On what.
        folder: The folder of the command, for the advice in errors.
        launch: How; unset: one after the other in this process.
        resume: Continue what stands in the folders.

    Raises:
        ErcGraphError: what a run was refused for; or a worker is gone.
    """
    launch = launch or Launch()
    if launch.apart:
        train_all([job for plan in plans for job in plan.jobs(corpus)], corpus, folder, launch, resume=resume)
    resume = resume or launch.apart
    bar = tqdm(plans, desc="experiments", disable=None if len(plans) > 2 and not launch.apart else True)
    return [run_experiment(plan, corpus, resume=resume, track=launch.track) for plan in bar]


def train_all(todo: Sequence[Job], corpus: Corpus, folder: Path, launch: Launch, *, resume: bool = False) -> None:
    """Train jobs at the same time; each leaves its finished checkpoint in its folder.

    Workers compute with one thread each, or with OMP_NUM_THREADS; so does this process afterwards. Ctrl-C and an error stop all of
    them; each keeps its last whole epoch.

    Raises:
        ErcGraphError: the first error of a job, with the job's name; or a worker is gone.
    """
    threads = int(value) if (value := os.environ.get("OMP_NUM_THREADS", "")).isdigit() and int(value) else 1
    torch.set_num_threads(threads)
    left = deque(job for job in todo if not (resume and job.finished))
    if not left:
        return
    backend: _Backend = (_Ray if launch.launcher == "ray" else _Processes)(corpus, threads, launch.workers, len(left))
    running: dict[Future[ErcGraphError | None], tuple[Job, int]] = {}
    bar = tqdm(total=len(todo), initial=len(todo) - len(left), desc=f"runs, {backend.workers} at once", disable=None)
    try:
        free = list(range(backend.workers))
        while left or running:
            while left and free:
                job, worker = left.popleft(), free.pop()
                running[backend.submit(worker, job, resume, launch.track)] = job, worker
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job, worker = running.pop(future)
                if (refusal := future.result()) is not None:
                    raise type(refusal)(f"{job.name}: {refusal}")
                free.append(worker)
                bar.set_postfix_str(job.name, refresh=False)
                bar.update()
    except backend.gone:
        raise ErcGraphError(
            f"{job.name}: its process is gone (killed, or out of memory); whole epochs of all runs are kept, "
            f"--resume {folder} continues from them; fewer --workers need less memory"
        ) from None
    finally:
        bar.close()
        backend.stop(list(running))


class _Backend(Protocol):
    """Where jobs are trained."""

    workers: int
    gone: tuple[type[Exception], ...]

    def submit(self, worker: int, job: Job, resume: bool, track: str | None) -> Future[ErcGraphError | None]:
        """Begin a job on a free worker."""

    def stop(self, running: list[Future[Any]]) -> None:
        """End all workers; what is running leaves its last whole epoch."""


def _train(job: Job, corpus: Corpus, resume: bool, track: str | None) -> ErcGraphError | None:
    """Train a job; a refusal is returned as it is, since not every launcher hands on an exception unchanged."""
    try:
        run_job(job, corpus, resume=resume, quiet=True, track=track)
    except ErcGraphError as refusal:
        return refusal
    return None


# -- processes of this machine -------------------------------------------------------------

_corpus: Corpus  # of a worker process


class _Processes:
    """One pool of one process per worker, so that it is known which job a dead process had."""

    gone: tuple[type[Exception], ...] = (BrokenProcessPool,)

    def __init__(self, corpus: Corpus, threads: int, workers: int | None, jobs: int) -> None:
        self.workers = min(workers or 1, jobs)
        context = multiprocessing.get_context("spawn")  # a fork of a process that has threads or a GPU is not safe
        arguments = (pickle.dumps(corpus), threads)  # as bytes: tensors on their own would take space of /dev/shm
        self.pools = [ProcessPoolExecutor(1, mp_context=context, initializer=_prepare, initargs=arguments) for _ in range(self.workers)]
        self.processes: list[Any] = []

    def submit(self, worker: int, job: Job, resume: bool, track: str | None) -> Future[ErcGraphError | None]:
        others = multiprocessing.active_children()
        with _not_interrupted():  # inherited: Ctrl-C reaches this process alone, which then stops its workers
            future = self.pools[worker].submit(_train_here, job, resume, track)
        self.processes += [process for process in multiprocessing.active_children() if process not in others]
        return future

    def stop(self, running: list[Future[Any]]) -> None:
        if running:
            for process in self.processes:
                process.terminate()
            for process in self.processes:
                process.join(PATIENCE)
                if process.is_alive():
                    process.kill()
        for pool in self.pools:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _not_interrupted() -> Iterator[None]:
    """Ignore Ctrl-C inside, where this thread may decide that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _prepare(corpus: bytes, threads: int) -> None:
    """Make a fresh process a worker."""
    global _corpus
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system, which would outlive a worker that is stopped
    threading.Thread(target=_follow, daemon=True).start()
    torch.set_num_threads(threads)
    _corpus = pickle.loads(corpus)


def _leave(number: int, frame: object) -> None:
    """Unwind what is under way, so that no temporary file stays."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + number)


def _follow() -> None:
    """End this worker when the process that started it has ended, however that ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _train_here(job: Job, resume: bool, track: str | None) -> ErcGraphError | None:
    try:
        return _train(job, _corpus, resume, track)
    except SystemExit as stop:  # the pool would take it for an answer and wait for the next job
        os._exit(int(stop.code or 0))


# -- Ray -----------------------------------------------------------------------------------


class _Ray:
    """Tasks of one processor each (and one GPU, where the cluster has some and the experiment may use them).

    All machines must see the folder of the results under the same path.
    """

    def __init__(self, corpus: Corpus, threads: int, workers: int | None, jobs: int) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray
        from ray.exceptions import RayError, RayTaskError

        self.ray = ray
        self.own = not ray.is_initialized()
        if self.own:
            here: dict[str, Any] = (
                {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers or os.cpu_count(), "include_dashboard": False}
            )
            try:
                ray.init(logging_level="ERROR", log_to_driver=False, **here)
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise ConfigError(f"--launcher ray: expected a Ray cluster, cannot reach or start one: {error}") from error
        self.gone: tuple[type[Exception], ...] = tuple(kind for kind in RayError.__subclasses__() if kind is not RayTaskError)
        found = ray.cluster_resources()
        self.gpus = int(found.get("GPU", 0))
        self.workers = min(workers or int(found.get("CPU", 1)), jobs)
        self.corpus, self.threads = ray.put(corpus), threads
        self.task = ray.remote(max_retries=0)(_train_on_ray)
        self.references: dict[Future[Any], Any] = {}

    def submit(self, worker: int, job: Job, resume: bool, track: str | None) -> Future[ErcGraphError | None]:
        gpu = 1 if self.gpus and job.experiment.run.device != "cpu" else 0
        reference = self.task.options(num_cpus=1, num_gpus=gpu, name=job.name).remote(job, self.corpus, self.threads, resume, track)
        future = reference.future()
        self.references[future] = reference
        return future

    def stop(self, running: list[Future[Any]]) -> None:
        references = [self.references[future] for future in running]
        for reference in references:
            self.ray.cancel(reference, force=False)  # as Ctrl-C there
        if references:
            with suppress(Exception):
                self.ray.wait(references, num_returns=len(references), timeout=PATIENCE)
        if self.own:
            self.ray.shutdown()


def _train_on_ray(job: Job, corpus: Corpus, threads: int, resume: bool, track: str | None) -> ErcGraphError | None:
    torch.set_num_threads(threads)
    return _train(job, corpus, resume, track)
