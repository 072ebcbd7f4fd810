"""The settings of an experiment, from `experiments/<method>/<corpus>.toml` and from command-line options, which override the file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from erc_graph.errors import ConfigError, shortened
from erc_graph.experiments.moved import moved_keys, say, up_to_date
from erc_graph.methods.inputs import InputsConfig
from erc_graph.methods.own_file import absolute, find_method, same_method
from erc_graph.methods.prior import PriorConfig
from erc_graph.training.config import TrainingConfig
from erc_graph.training.search import SearchSpace

_PACKAGE = Path(__file__).resolve().parents[1]
FOLDERS = (_PACKAGE / "_recipes" / "experiments", _PACKAGE.parent / "experiments")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Settings of a run: corpus, protocol and seeds.

    Attributes:
        data: Corpus: a folder with corpus.toml, an annotation file, a saved corpus, `sample`, or `sample-raw` (words, audio, face frames).
            The default is one of the two sample corpora, depending on the method.
        task: Label set, for example `iemocap4`; default: the label set of the corpus.
        modalities: Feature sets to use, such as `text,audio`; default: all feature sets of the corpus.
        protocol: `official` split, `session5` (leave one session out) or `speaker10` (leave one speaker out).
        seeds: Number N of seeds; the seeds are 0 to N-1.
        members: Number of networks in an ensemble. The networks are trained together, and their probabilities are averaged. The baseline
            BiGRU has the same number of networks.
        device: `auto`, `cpu` or `cuda`.
        strict: Stop with an error if features have NaN, inf or numbers beyond 1e15; default: these features are treated as missing.
        baseline: Also train the baseline BiGRU on the same features, folds and seeds.
    """

    data: str = "sample"
    task: str | None = None
    modalities: list[str] | None = None
    protocol: Literal["official", "session5", "speaker10"] = "official"
    seeds: int = 1
    members: int = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    strict: bool = False
    baseline: bool = True

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ConfigError(f"seeds: expected 1 seed or more, found {self.seeds}")
        if self.members < 1:
            raise ConfigError(f"members: expected 1 network or more per ensemble, found {self.members}")
        if self.modalities is not None and not self.modalities:
            raise ConfigError("modalities: expected the names of one or more modalities, found an empty list")
        if self.modalities is not None and len(set(self.modalities)) < len(self.modalities):
            raise ConfigError(f"modalities: expected each modality once, found a modality twice in the list {', '.join(self.modalities)}")


@dataclass(frozen=True, kw_only=True)
class Launch:
    """Options that control how trainings are executed; they do not change results.

    Attributes:
        workers: Number of trainings at the same time, each in its own process. A training has one seed and one fold. Default: one training,
            in this process; with `ray`: one training per processor of the cluster.
        launcher: `local`: processes on this machine; `ray`: a Ray cluster (extra `ray`), at RAY_ADDRESS or started on this machine.
        track: Also send configuration and metrics to `tensorboard`, `wandb` or `mlflow`; the extra of this name must be installed.
    """

    workers: int | None = None
    launcher: Literal["local", "ray"] = "local"
    track: Literal["tensorboard", "wandb", "mlflow"] | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers: expected 1 worker process or more, found {self.workers}")

    @property
    def apart(self) -> bool:
        """Return whether trainings run in separate worker processes."""
        return self.launcher == "ray" or (self.workers or 1) > 1


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A method with all settings that determine its result.

    Attributes:
        method: Name of a method (a key of the registry `METHODS`), or file and class of a user's own method, such as `my_method.py:Own`.
        run: Corpus, protocol and seeds.
        pipeline: Configuration of the method.
        training: Configuration of the training loop.
        inputs: Preprocessing of the features.
        prior: Configuration of the log-probabilities of other classifiers that are added to the logits.
        search: Key of a setting, such as `training.learning_rate` → its range in the hyperparameter search (`--search`).
    """

    method: str
    run: RunConfig
    pipeline: Any
    training: TrainingConfig
    inputs: InputsConfig = field(default_factory=InputsConfig)
    prior: PriorConfig = field(default_factory=PriorConfig)
    search: Mapping[str, Any] = field(default_factory=dict)

    def changed(self, changes: Mapping[str, Any]) -> Experiment:
        """Return a copy of the experiment with changed settings, given as key → value, for example `{"training.epochs": 30}`."""
        values = self.as_dict()
        moved = moved_keys(find_method(self.method))
        for key, value in changes.items():
            *path, last = moved.get(key, key).split(".")
            node: Any = values
            for part in path:
                node = node.get(part) if isinstance(node, dict) else None
            if not isinstance(node, dict) or last not in node:
                raise ConfigError(
                    f"{key}: expected the key of a setting of the method {self.method}, such as training.epochs, found an unknown key"
                )
            node[last] = value
        return from_dict(self.method, values, "changes")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the settings without the class of a user's own method, because another process must import the class again."""
        return from_dict, (absolute(self.method), self.as_dict(), "experiment")

    def as_dict(self) -> dict[str, Any]:
        """Return a dictionary for JSON: the fields of `RunConfig` at the top level, and each other configuration as a nested dictionary."""
        return {
            **dataclasses.asdict(self.run),
            "inputs": dataclasses.asdict(self.inputs),
            "pipeline": dataclasses.asdict(self.pipeline),
            "prior": dataclasses.asdict(self.prior),
            "training": dataclasses.asdict(self.training),
            "search": dict(self.search),
        }


def default_data(method: str) -> str:
    """Return the default corpus of a method: `sample-raw` or `sample`.

    If the package has settings of the method for only one of these corpora, this corpus is used. With settings for both, `sample-raw` is
    used. Without settings, `sample-raw` is used for methods with sequences as input, and `sample` for all other methods.
    """
    settled = next((name for name in ("sample-raw", "sample") if experiment_file(method, name)), None)
    return settled or ("sample-raw" if find_method(method).reads[0] == "sequences" else "sample")


def experiment_file(method: str, dataset: str) -> Path | None:
    """Return the settings file of a method for a corpus, `experiments/METHOD/CORPUS.toml`; `None` if there is no such file.

    With the corpus name `default`, return the settings for corpora that have no file of their own.
    """
    paths = [folder / method / f"{dataset}.toml" for folder in FOLDERS if Path(dataset).name == dataset]
    return next((path for path in paths if path.is_file()), None)


def settings_name(path: Path) -> str:
    """Return the short path of a settings file, for messages.

    >>> settings_name(Path("somewhere/experiments/hff/meld.toml"))
    'experiments/hff/meld.toml'
    """
    return "/".join(path.parts[-3:])


def from_dict(method: str, values: Mapping[str, Any], where: str) -> Experiment:
    """Build an experiment from a dictionary, such as the output of `Experiment.as_dict`; missing values get their defaults.

    Raises:
        ConfigError: at least one value is invalid; the message lists all unknown keys, wrong types and invalid values with their paths.
    """
    from pydantic import ConfigDict, ValidationError, create_model

    kind = find_method(method)
    pipeline = kind.Config
    values, notes = up_to_date(values, kind, where)
    say(notes)
    fields: dict[str, Any] = {f.name: (f.type, f.default) for f in dataclasses.fields(RunConfig)}
    fields |= {
        "data": (str, default_data(method)),
        "method": (str, method),
        "dataset": (str, ""),
        "inputs": (InputsConfig, InputsConfig()),
        "pipeline": (pipeline, pipeline()),
        "prior": (PriorConfig, PriorConfig()),
        "training": (TrainingConfig, TrainingConfig()),
    }
    fields |= {"search": (dict[str, Any], {}), "record": (dict[str, Any], {})}
    model = create_model("Experiment", __config__=ConfigDict(extra="forbid", strict=False), __module__=__name__, **fields)
    try:
        checked: Any = model.model_validate_json(json.dumps(dict(values), default=str), strict=True)
        run = RunConfig(**{f.name: getattr(checked, f.name) for f in dataclasses.fields(RunConfig)})
    except ValidationError as error:
        raise ConfigError("\n".join(sentence(problem, where) for problem in error.errors())) from None
    if checked.search:
        SearchSpace.from_dict(checked.search)
    if not same_method(checked.method, method):
        raise ConfigError(f"{where}: method: expected {method!r}, the method of this experiment, found {checked.method!r}")
    return Experiment(
        method=method,
        run=run,
        pipeline=checked.pipeline,
        training=checked.training,
        inputs=checked.inputs,
        prior=checked.prior,
        search=checked.search,
    )


def sentence(problem: Mapping[str, Any], where: str, known: str = "`--help` lists the known keys") -> str:
    """Convert an error of pydantic to one line with the file, the key, the expected value and the found value.

    Args:
        problem: The error.
        where: The file.
        known: Text in the message about an unknown key: where the known keys are listed.
    """
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{where}: {path}: unknown key; {known}"
    if problem["type"] == "value_error":  # a check of our own, which says it all
        return f"{where}: {str(problem['msg']).removeprefix('Value error, ')}"
    return f"{where}: {path}: {problem['msg'][0].lower()}{problem['msg'][1:]}, found {shortened(problem['input'])}"
