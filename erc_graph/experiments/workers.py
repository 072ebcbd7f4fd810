"""Parallel processing of independent items, such as trainings or files, in processes on this machine or as tasks of a Ray cluster."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import types
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from typing import Any, Literal, Protocol, TypeVar

import torch
from tqdm import tqdm

from erc_graph.errors import ConfigError, ErcGraphError

PATIENCE = 20.0  # seconds that a worker has to leave its item, before it is killed
Launcher = Literal["local", "ray"]
Item = TypeVar("Item")
Work = Callable[[Any, Any], Any]
"""A module-level function of the shared data and one item. Shared data, item and result must be picklable."""


class WorkerGone(ErcGraphError):
    """Raised when the worker process that processes an item, such as a training, has died; the message is the name of the item."""


def check_launcher(launcher: Launcher, workers: int | None) -> None:
    """Check that this machine supports the launcher and the number of workers, before anything is written.

    Raises:
        ConfigError: a package is not installed, or several workers are requested in a process of `accelerate launch`.
    """
    if (launcher == "ray" or (workers or 1) > 1) and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "--workers: expected one process that starts the workers, found several processes of `accelerate launch`; use "
            "either --workers or `accelerate launch`"
        )
    if launcher == "ray" and importlib.util.find_spec("ray") is None:
        raise ConfigError("--launcher ray: expected the package ray, which is not installed; install it with pip install 'erc_graph[ray]'")


def threads_each() -> int:
    """Return the number of threads of each worker, which is the value of OMP_NUM_THREADS (default: one)."""
    return int(value) if (value := os.environ.get("OMP_NUM_THREADS", "")).isdigit() and int(value) else 1


def answers_of(
    work: Work,
    shared: object,
    items: Iterable[Item],
    *,
    launcher: Launcher = "local",
    workers: int | None = None,
    name: Callable[[Item], str] = str,
    gpu: Callable[[Item], bool] = lambda item: False,
    retries: int = 0,
) -> Generator[tuple[Item, Any], None, None]:
    """Process all items in parallel, and yield each item with its result as soon as the item is finished.

    Closing the generator stops all workers.

    Args:
        work: Function that processes an item.
        shared: First argument of `work`, which is the same for all items.
        items: Items to process; the next item is read when a worker is free.
        launcher: `local`: workers are processes on this machine; `ray`: workers are tasks of a Ray cluster.
        workers: Number of workers; default: one; with `ray`: one per processor of the cluster.
        name: Function that returns the name of an item, for errors.
        gpu: Function that returns whether an item may use a GPU of the cluster.
        retries: Number of times that Ray restarts an item after a machine has failed.

    Raises:
        ConfigError: no Ray cluster can be reached.
        WorkerGone: a worker process has died; the message is the name of the item.
    """
    threads, source = threads_each(), iter(items)
    backend: _Backend = (
        _Ray(work, shared, threads, workers, gpu, retries) if launcher == "ray" else _Processes(work, shared, threads, workers)
    )
    running: dict[Future[Any], tuple[Item, int]] = {}
    free, exhausted = list(range(backend.workers)), False
    item: Item
    try:
        while running or not exhausted:
            while free and not exhausted:
                try:
                    item = next(source)
                except StopIteration:
                    exhausted = True
                else:
                    worker = free.pop()
                    running[backend.submit(worker, item)] = item, worker
            for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
                item, worker = running.pop(future)
                answer = future.result()
                free.append(worker)
                yield item, answer
    except backend.gone:
        raise WorkerGone(name(item)) from None
    finally:
        backend.stop(list(running))


class _Backend(Protocol):
    """The interface of the two kinds of workers, local processes and Ray tasks."""

    workers: int
    gone: tuple[type[Exception], ...]

    def submit(self, worker: int, item: Any) -> Future[Any]:
        """Start to process an item on a free worker."""

    def stop(self, running: list[Future[Any]]) -> None:
        """Stop all workers."""


# -- processes of this machine -------------------------------------------------------------

_work: Work  # of a worker process
_shared: Any


class _Processes:
    """Worker processes of this machine. Each worker has its own process pool, so that the item of a dead process is known."""

    gone: tuple[type[Exception], ...] = (BrokenProcessPool,)

    def __init__(self, work: Work, shared: object, threads: int, workers: int | None) -> None:
        self.workers = workers or 1
        context = multiprocessing.get_context("spawn")  # a fork of a process that has threads or a GPU is not safe
        arguments = (work, pickle.dumps(shared), threads)  # as bytes: tensors on their own would take space of /dev/shm
        self.pools = [ProcessPoolExecutor(1, mp_context=context, initializer=_prepare, initargs=arguments) for _ in range(self.workers)]
        self.processes: list[Any] = []

    def submit(self, worker: int, item: Any) -> Future[Any]:
        others = multiprocessing.active_children()
        with _not_interrupted(), _main_left_out():  # inherited: Ctrl-C reaches this process alone, which then stops its workers
            future = self.pools[worker].submit(_work_here, item)
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
    """Ignore Ctrl-C inside the `with` block, if this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _main_left_out() -> Iterator[None]:
    """Replace the module `__main__` inside the `with` block, so that started processes do not run the script of this process."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _prepare(work: Work, shared: bytes, threads: int) -> None:
    """Initialize a worker process."""
    global _work, _shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system, which would outlive a worker that is stopped
    threading.Thread(target=_follow, daemon=True).start()
    torch.set_num_threads(threads)
    _work, _shared = work, pickle.loads(shared)


def _leave(number: int, frame: object) -> None:
    """Exit with an exception on SIGTERM, so that temporary files are removed."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + number)


def _follow() -> None:
    """End this worker process when its parent process has ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _work_here(item: Any) -> Any:
    try:
        return _work(_shared, item)
    except SystemExit as stop:  # the pool would take it for an answer and wait for the next item
        os._exit(int(stop.code or 0))


# -- Ray -----------------------------------------------------------------------------------


class _Ray:
    """Ray tasks. Each task processes one item on one processor, and on one GPU if the cluster has GPUs and the item may use a GPU.

    The folder of the results must have the same path on all machines.
    """

    def __init__(self, work: Work, shared: object, threads: int, workers: int | None, gpu: Callable[[Any], bool], retries: int) -> None:
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
                raise ConfigError(f"--launcher ray: expected a Ray cluster, but none could be reached or started: {error}") from error
        self.gone: tuple[type[Exception], ...] = tuple(kind for kind in RayError.__subclasses__() if kind is not RayTaskError)
        found = ray.cluster_resources()
        self.gpus, self.gpu = int(found.get("GPU", 0)), gpu
        self.workers = workers or max(1, int(found.get("CPU", 1)))
        self.work, self.shared, self.threads = work, ray.put(shared), threads
        self.task = ray.remote(max_retries=retries)(_work_on_ray)
        self.references: dict[Future[Any], Any] = {}

    def submit(self, worker: int, item: Any) -> Future[Any]:
        options = {"num_cpus": 1, "num_gpus": 1 if self.gpus and self.gpu(item) else 0}
        reference = self.task.options(**options).remote(self.work, self.shared, item, self.threads)
        future: Future[Any] = reference.future()
        self.references = {other: kept for other, kept in self.references.items() if not other.done()} | {future: reference}
        return future

    def stop(self, running: list[Future[Any]]) -> None:
        references = [self.references[future] for future in running if future in self.references]
        for reference in references:
            self.ray.cancel(reference, force=False)  # as Ctrl-C there
        if references:
            with suppress(Exception):
                self.ray.wait(references, num_returns=len(references), timeout=PATIENCE)
        if self.own:
            self.ray.shutdown()


def _work_on_ray(work: Work, shared: Any, item: Any, threads: int) -> Any:
    torch.set_num_threads(threads)
    return work(shared, item)
