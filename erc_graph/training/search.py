"""A hyperparameter search over declared ranges, evaluated on the development split."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from erc_graph.data.files.budget import content_of
from erc_graph.data.files.storage import write_json
from erc_graph.data.progress import Progress
from erc_graph.errors import CheckpointError, ConfigError, ErcGraphError, StorageError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

RECORD = "trials.json"
_NO_MEMORY = re.compile("allocate memory|out of memory|not enough memory")  # PyTorch says so in a RuntimeError


@dataclass(frozen=True, kw_only=True)
class Range:
    """The range of one configuration key: an interval, or a list of choices.

    Attributes:
        low: Smallest value. If `low` and `high` are integers, only integers are searched.
        high: Largest value.
        log: Whether the search uses a logarithmic scale.
        choices: List of values, of any TOML type, instead of an interval.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()

    def problem(self) -> str | None:
        """Return a text that says what a valid range needs, or `None` if this range is valid."""
        if self.choices:
            return None if self.low is None and self.high is None and not self.log else "choices or an interval, not both"
        ends = (self.low, self.high)
        if not all(isinstance(end, (int, float)) and not isinstance(end, bool) and math.isfinite(end) for end in ends):
            return "numbers `low` and `high`, or `choices`"
        if self.low >= self.high:  # type: ignore[operator]
            return "`low` below `high`"
        return "`low` above 0 with `log`" if self.log and self.low <= 0 else None  # type: ignore[operator]

    def distribution(self) -> BaseDistribution:
        """Return the range as a distribution of optuna; indices replace the choices, because optuna does not accept all TOML types."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices:
            return CategoricalDistribution(tuple(range(len(self.choices))))
        kind = IntDistribution if isinstance(self.low, int) and isinstance(self.high, int) else FloatDistribution
        return kind(self.low, self.high, log=self.log)


@dataclass(frozen=True)
class SearchSpace:
    """The search space: one range for every searched configuration key, such as `training.learning_rate`."""

    ranges: Mapping[str, Range]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SearchSpace:
        """Read the ranges from a TOML table.

        For example `"training.learning_rate" = {low = 1e-5, high = 1e-3, log = true}` or `"model.width" = {choices = [128, 256]}`.

        Raises:
            ConfigError: a key has no valid range; the message names every such key, what was expected and what was found.
        """
        ranges, problems = {}, []
        for key, value in values.items():
            known = isinstance(value, Mapping) and set(value) <= {"low", "high", "log", "choices"}
            good = known and isinstance(value.get("choices", []), (list, tuple)) and isinstance(value.get("log", False), bool)
            if not good:
                problems.append(f"search.{key}: expected a table of low, high and log, or of choices, found {value!r}")
                continue
            ranges[key] = Range(**{**value, "choices": tuple(value.get("choices", ()))})
            if (expected := ranges[key].problem()) is not None:
                problems.append(f"search.{key}: expected {expected}, found {dict(value)!r}")
        if not values:
            problems.append("search: expected at least one configuration key with a range, found none")
        if problems:
            raise ConfigError("\n".join(problems))
        return cls(ranges)


@dataclass
class Trial:
    """One evaluated combination of values of configuration keys. After a failure, `value` is `None`, and `error` gives the reason."""

    number: int
    parameters: dict[str, Any]
    value: float | None
    seconds: float
    error: str | None = None


@dataclass
class Search:
    """All trials (evaluated combinations of values) of a hyperparameter search."""

    trials: list[Trial] = field(default_factory=list)
    direction: Literal["maximize", "minimize"] = "maximize"

    @property
    def best(self) -> Trial:
        """Return the trial (evaluated combination of values) with the best metric; of several best trials, the earliest.

        Raises:
            ConfigError: every trial failed.
        """
        done = [trial for trial in self.trials if trial.value is not None]
        if not done:
            first = self.trials[0].error if self.trials else "none was run"
            raise ConfigError(
                f"search: expected a trial without an error, found none among {len(self.trials)} trials; the first error: {first}"
            )
        sign = 1 if self.direction == "maximize" else -1
        return max(done, key=lambda trial: sign * trial.value)  # type: ignore[operator]


def run_search(
    objective: Callable[[dict[str, Any]], float],
    space: SearchSpace,
    trials: int,
    seed: int,
    folder: Path,
    *,
    direction: Literal["maximize", "minimize"] = "maximize",
    context: Mapping[str, Any] | None = None,
    quiet: bool | None = None,
) -> Search:
    """Search for the best values of configuration keys with optuna's tree-structured Parzen estimator.

    A trial evaluates one value of every key. After every trial, all trials are recorded in `folder/trials.json`. An interrupted search
    continues from this record, and evaluates the same settings as an uninterrupted search.

    Args:
        objective: Function from a dict (configuration key → value) to a metric on the development split, never on the test split. A trial
            fails if the function raises an `ErcGraphError`, if memory is exhausted, or if the metric is not finite.
        space: The ranges to search.
        trials: Total number of trials, including recorded trials.
        seed: Seed of the search.
        folder: Folder of the record.
        direction: Whether the metric is maximised or minimised.
        context: All other facts that determine the metric, as JSON values, such as a hash of the data and the settings that are not
            searched. The context is stored in the record. A search does not continue from a record with another context.
        quiet: `True`: no progress is shown. Default: a progress bar on a terminal; without a terminal, one line per minute.

    Raises:
        CheckpointError: the record is damaged, or was written by a search with other arguments.
        StorageError: the record cannot be written.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space_values = {key: asdict(span) for key, span in space.ranges.items()}
    head = _plain({"seed": seed, "direction": direction, "space": space_values, "context": dict(context or {})})
    search = Search(_read(folder / RECORD, head), direction)
    study = optuna.create_study(direction=direction)
    distributions = {key: space.ranges[key].distribution() for key in space.ranges}
    with _refused(folder / RECORD):
        for trial in search.trials:
            study.add_trial(_frozen(trial, space, distributions))
    for number in Progress(
        range(len(search.trials), trials), desc="search", total=trials, initial=len(search.trials), leave=False, disable=quiet
    ):
        study.sampler = optuna.samplers.TPESampler(seed=seed + number)  # what is tried depends on the record and the number only
        asked = study.ask(distributions)
        parameters = {key: space.ranges[key].choices[v] if space.ranges[key].choices else v for key, v in asked.params.items()}
        start, value, error = time.perf_counter(), None, None
        try:
            value = float(objective(parameters))
        except StorageError:
            raise
        except ErcGraphError as refusal:
            error = str(refusal)
        except (MemoryError, RuntimeError) as failure:
            if not (isinstance(failure, MemoryError) or _NO_MEMORY.search(str(failure))):
                raise
            error = f"out of memory: {str(failure).splitlines()[0] if str(failure) else type(failure).__name__}"
        if value is not None and not math.isfinite(value):
            value, error = None, f"the metric is {value}"
        study.tell(asked, value, state=optuna.trial.TrialState.FAIL if value is None else None)
        search.trials.append(Trial(number, parameters, value, time.perf_counter() - start, error))
        write_json(folder / RECORD, {**head, "trials": [asdict(trial) for trial in search.trials]})
    return search


def _frozen(trial: Trial, space: SearchSpace, distributions: dict[str, BaseDistribution]) -> Any:
    """Convert a recorded trial to a trial of optuna; optuna raises an error for parameters that are missing or out of range."""
    import optuna

    if trial.value is not None and not (isinstance(trial.value, (int, float)) and math.isfinite(trial.value)):
        raise ValueError(f"trial {trial.number}: the value {trial.value!r} is not a finite number")
    choices = {key: [json.dumps(choice) for choice in space.ranges[key].choices] for key in trial.parameters}
    parameters = {key: choices[key].index(json.dumps(v)) if choices[key] else v for key, v in trial.parameters.items()}
    state = optuna.trial.TrialState.FAIL if trial.value is None else optuna.trial.TrialState.COMPLETE
    return optuna.trial.create_trial(state=state, value=trial.value, params=parameters, distributions=distributions)


def _read(path: Path, head: dict[str, Any]) -> list[Trial]:
    """Return the recorded trials of an interrupted search; the list is empty if there is no record."""
    if not path.exists():
        return []
    with _refused(path):
        record = json.loads(content_of(path))
        trials = [Trial(**trial) for trial in record.pop("trials")]
        then, now = dict(_flat(_plain(record))), dict(_flat(head))
    changed = [f"{name} {then.get(name)!r} → {now.get(name)!r}" for name in {**then, **now} if then.get(name) != now.get(name)]
    if changed:
        more = f" and {len(changed) - 8} more" if len(changed) > 8 else ""
        raise CheckpointError(
            f"{path}: expected the record of the same search, found other settings: {', '.join(changed[:8])}{more}; "
            "choose another folder, or delete the record to search again"
        )
    return trials


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Convert errors that a damaged record causes in the `with` block to a `CheckpointError`."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise CheckpointError(
            f"{path}: expected the record of a search, found a damaged file ({error}); "
            "choose another folder, or delete the record to search again"
        ) from error


def _plain(values: dict[str, Any]) -> Any:
    """Return the values as they are after writing and reading JSON: tuples become lists, NaN and infinity become `None`."""
    return json.loads(json.dumps(values, default=str), parse_constant=lambda _: None)


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of nested dicts with its dotted name."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
