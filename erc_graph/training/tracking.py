"""Tracking of a training run by TensorBoard, Weights & Biases or MLflow, through accelerate; off by default."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from erc_graph.errors import ConfigError
from erc_graph.training.history import History

TRACKERS = ("tensorboard", "wandb", "mlflow")


def check_tracker(name: str) -> None:
    """Check that a tracker is known and installed, before the training starts.

    Raises:
        ConfigError: the tracker is unknown or not installed; the message says what to install.
    """
    if name not in TRACKERS:
        raise ConfigError(f"track: expected one of {', '.join(TRACKERS)}, found {name!r}")
    if importlib.util.find_spec(name) is None:
        raise ConfigError(f"track: expected the package {name}, which is not installed; install it with pip install 'erc_graph[{name}]'")


@contextmanager
def tracked(name: str | None, project: str, run: str, folder: Path | None, config: Mapping[str, Any]) -> Iterator[Tracker | None]:
    """Yield a tracker for one run, and close the tracker at the end of the `with` block.

    The tracker is `None` if `name` is `None`. With several processes, the tracker is `None` in all processes except the first.

    Args:
        name: `tensorboard` (writes files to `folder/tensorboard`), `wandb` or `mlflow` (each writes to its configured location).
        project: Name of the project, which groups runs.
        run: Name of the run.
        folder: Folder of the run.
        config: Nested settings that determine the result.
    """
    if name is None or os.environ.get("RANK", "0") != "0":
        yield None
        return
    check_tracker(name)
    tracker = Tracker(name, project, run, folder or Path(), config)
    try:
        yield tracker
    finally:
        tracker.close()


class Tracker:
    """One run in a tracker; the run is created when the first metrics are logged.

    If the tracker fails after the run is created, the failure is reported once, and the training continues.
    """

    def __init__(self, name: str, project: str, run: str, folder: Path, config: Mapping[str, Any]) -> None:
        self.name, self.project, self.run, self.folder, self.config = name, project, run, folder, config
        self.backend: Any = None
        self.failed = False
        self.steps = 0

    def epoch(self, history: History) -> None:
        """Log loss and development metrics of the latest epoch, with the stage name as prefix; the step counts the epochs of all stages."""
        stage = history.stages[-1]
        newest = stage.epochs[-1]
        self.steps = sum(len(stage.epochs) for stage in history.stages)
        self._log({f"{stage.name}/loss": newest.loss, **{f"{stage.name}/dev/{key}": value for key, value in newest.dev.items()}})

    def test(self, metrics: Mapping[str, float]) -> None:
        """Log the test metrics of the finished run."""
        self._log({f"test/{key}": value for key, value in metrics.items()})

    def close(self) -> None:
        """End the run in the tracker."""
        if self.backend is not None:
            self._try(self.backend.finish)

    def _start(self) -> None:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        options: dict[str, tuple[str, dict[str, Any]]] = {
            "tensorboard": ("tensorboard", {"logging_dir": self.folder}),
            "wandb": (self.project, {"name": self.run, "dir": str(self.folder)}),
            "mlflow": (self.project, {"run_name": self.run}),
        }
        first, others = options[self.name]
        try:
            backend = LOGGER_TYPE_TO_CLASS[self.name](first, **others)
            backend.start()
            backend.store_init_configuration(flat(self.config))
        except Exception as error:  # whatever a foreign package raises: no login, no server, no space
            raise ConfigError(f"track: {self.name} cannot start a run: {_line(error)}; correct this, or leave out --track") from error
        self.backend = backend

    def _log(self, values: dict[str, float]) -> None:
        if self.backend is None:
            self._start()
        if not self.failed:
            # MLflow refuses most characters in a name, for example the + of a stage of two parts.
            named = {re.sub(r"[^\w./ -]", "-", key): value for key, value in values.items()}
            self._try(self.backend.log, named, step=self.steps)

    def _try(self, call: Callable[..., object], *arguments: object, **options: object) -> None:
        try:
            call(*arguments, **options)
        except Exception as error:
            self.failed = True
            print(f"the run is no longer tracked by {self.name}: {_line(error)}", file=sys.stderr)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, bool | int | float | str]:
    """Return nested settings as one dict: dotted key → number, text or Boolean; lists become JSON, `None` and empty lists are left out.

    >>> flat({"seeds": 2, "task": None, "pipeline": {"mal": {"layers": 4}, "names": ["a", "b"]}})
    {'seeds': 2, 'pipeline.mal.layers': 4, 'pipeline.names': '["a", "b"]'}
    """
    found: dict[str, bool | int | float | str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        elif isinstance(value, (bool, int, float, str)):
            found[f"{prefix}{key}"] = value
        elif value:
            found[f"{prefix}{key}"] = json.dumps(value, default=str)
    return found


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
