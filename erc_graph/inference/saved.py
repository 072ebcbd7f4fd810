"""Saved models: a folder with `config.json` and `model.safetensors` and no other required file, or the weights of an experiment.

The weights include the means and standard deviations that normalise the features. `config.json` contains the description of the model from
`Method.describe`. The file `best.safetensors` of an experiment contains this description in its metadata. Loading a model runs no code from
its files, and needs no more memory than the tensors of the model. Every value of the description is checked. The folder can also contain
the text encoders of the model; `config.json` names them by relative paths.

The package contains one saved model, `starter` (docs/starter.md).
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from erc_graph.data.files.budget import content_of, reading
from erc_graph.data.files.hub import hub_folder, hub_name
from erc_graph.data.files.storage import atomic_folder, load_tensors, save_tensors, tidy, write_json
from erc_graph.data.shapes import shapes_only
from erc_graph.data.tasks import Task
from erc_graph.errors import CheckpointError, ErcGraphError
from erc_graph.features.encoder_names import join_options, split_options
from erc_graph.features.text import as_seen_from
from erc_graph.graphs.recipe import GraphRecipe
from erc_graph.inference.starter import STARTER, installed, portable, starter_folder
from erc_graph.inference.version_1 import upgraded
from erc_graph.methods import METHODS
from erc_graph.methods.base import VERSION, Method
from erc_graph.methods.ensemble import Ensemble
from erc_graph.methods.inputs import InputsConfig
from erc_graph.methods.prior import PriorConfig
from erc_graph.methods.schema import Schema

CONFIG, WEIGHTS = "config.json", "model.safetensors"
FORMAT = "erc_graph pipeline"
BEST, RESULT, FIRST = "best.safetensors", "result.json", "seed-0"  # of an experiment


Network = Method | Ensemble


def save_network(method: Network, folder: str | os.PathLike[str]) -> None:
    """Write `config.json` and `model.safetensors` to `folder`. The function `load_network` needs only these two files.

    Raises:
        StorageError: the folder contains other files, or cannot be written.
    """
    with atomic_folder(folder, (CONFIG, WEIGHTS)) as temporary:
        write_json(temporary / CONFIG, {"format": FORMAT, **_for_others(method.describe())})
        save_tensors(temporary / WEIGHTS, method.state_dict(), {"format": "pt", "kind": "erc_graph weights"})


def _for_others(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of the description with encoder names that are valid on other machines."""
    provenance = dict(description.get("provenance", {}))
    if "extractors" in provenance:
        provenance["extractors"] = {modality: portable(encoder) for modality, encoder in provenance["extractors"].items()}
    return {**description, "provenance": provenance}


def load_network(source: str | os.PathLike[str], own: type[Method] | None = None) -> Network:
    """Load a saved method in evaluation mode on the CPU, without running any code from the files of the model.

    Args:
        source: A folder written by `save_network`, a weights file, `starter`, or the name of a model on the Hugging Face hub
            (`someone/model`). For the folder of a training run, the model of its first seed is loaded; for the folder of one seed, the
            model of that seed. `starter` means the starter model of the package; `./starter` means a folder with the name `starter`.
        own: The class of the method, if it is not part of the package.

    Raises:
        CheckpointError: no model is found; the model is damaged, was written by a newer package version, or has an unknown method; or the
            encoder of the starter model is not installed.
    """
    path = starter_folder() if os.fspath(source) == STARTER else Path(source)
    try:
        tidy(path.parent, path.name)  # a process that was killed between two names
        exists = path.exists()
    except (OSError, ValueError, RuntimeError):  # a name too long, with a NUL, links in a circle
        exists = False
    if not exists:
        # `runs/x` where there is a folder `runs` is meant as a path: the hub is not asked about a slip of the keyboard.
        if not hub_name(os.fspath(source)) or "/" not in os.fspath(source) or path.parent.is_dir():
            raise CheckpointError(f"{source}: no such file or folder; expected a saved model, the folder of a run, or a hub name")
        path = hub_folder(os.fspath(source), (CONFIG, WEIGHTS))
    with reading(path, CheckpointError):
        weights, config = _find(path)
        tensors, metadata = load_tensors(weights)
        if config is None:
            if "model" not in metadata:
                raise CheckpointError(
                    f"{weights}: expected a description of the method in the metadata `model` of this file, or in {CONFIG} next to "
                    "this file, found none"
                )
            description = _json(metadata["model"], weights)
            if "version" not in description:
                description = {**description, "provenance": _old_provenance(weights)}
        else:
            try:
                text = content_of(config, CheckpointError)
            except OSError as error:
                raise CheckpointError(f"{config}: cannot be read ({error.strerror or error})") from None
            description = _json(text, config)
            if description.pop("format", None) != FORMAT:
                raise CheckpointError(f'{config}: not a saved model; expected the field "format": "{FORMAT}"')
        return _restore(description, tensors, config or weights, own)


def _find(path: Path) -> tuple[Path, Path | None]:
    """Return the paths of the weights and of `config.json`; the second path is `None` if the weights file contains the description."""
    if path.is_file():
        if path.suffix != ".safetensors":
            raise CheckpointError(f"{path}: expected a folder or a .safetensors file")
        beside = path.with_name(CONFIG)
        return path, beside if path.name == WEIGHTS and beside.is_file() else None
    if (path / WEIGHTS).is_file() and (path / CONFIG).is_file():
        return path / WEIGHTS, path / CONFIG
    if (path / BEST).is_file():
        return path / BEST, None
    seeds = sorted(path.glob("seed-*"), key=lambda seed: (len(seed.name), seed.name))
    for seed in seeds:
        if (seed / BEST).is_file():
            if seed.name != FIRST:
                logging.getLogger(__name__).warning("note: %s: %s has no model; %s is used instead", path, FIRST, seed.name)
            if (path / CONFIG).is_file() and not (path / RESULT).is_file():
                logging.getLogger(__name__).warning("note: %s: the run is not finished; --resume continues it", path)
            return seed / BEST, None
    inner = sorted(file.parent.relative_to(path).as_posix() for file in path.glob(f"*/{BEST}"))
    inner = inner or sorted(file.parent.relative_to(path).as_posix() for file in path.glob(f"*/*/{BEST}"))
    if inner:
        raise CheckpointError(
            f"{path}: expected one trained model, found {len(inner)}, one for each fold or table row; give the folder of one "
            f"model, such as {path / inner[0]}"
        )
    raise CheckpointError(
        f"{path}: contains no trained model; expected a folder with {CONFIG} and {WEIGHTS}, or the folder of a run with {FIRST}/{BEST}"
    )


def _json(text: str | bytes, where: Path) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where}: the description of the method is not valid JSON ({str(error)[:120]})") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{where}: expected a JSON object that describes the method, found a {type(value).__name__}")
    return value


def _old_provenance(weights: Path) -> dict[str, Any]:
    """Return the corpus and the feature extractors of a model of format version 0, from the file `result.json` of its run.

    The result is empty if there is no readable `result.json`.
    """
    for folder in weights.parents[1:3]:
        try:
            result = json.loads(content_of(folder / RESULT))
            return {"corpus": result["dataset"], "extractors": dict(result["data"]["extractors"])}
        except (OSError, ValueError, RecursionError, LookupError, TypeError):
            continue
    return {}


def _restore(description: Mapping[str, Any], tensors: dict[str, Tensor], where: Path, own: type[Method] | None) -> Network:
    version = description.get("version", 0)
    if type(version) is not int or not 0 <= version <= VERSION:
        raise CheckpointError(f"{where}: expected a saved model of format version {VERSION} or lower, found {version!r}; upgrade erc_graph")
    most = max([10_000, *(size for value in tensors.values() for size in value.shape)])
    if (largest := _largest(description.get("config"))) > most:  # no weight of that size is there: nothing is tried with it
        raise CheckpointError(f"{where}: config: expected whole numbers up to {most}, which fit the sizes of the weights, found {largest}")
    with _refused(where):
        if version < VERSION:
            description, tensors = upgraded(description, tensors, where)
        kind = _kind(description.get("method"), where, own)
        schema, configs, recipe, count = _checked(kind, description, where)
        config = configs["config"]
        if not 1 <= count <= max(1, len(tensors)):  # every member has weights of its own
            raise ValueError(f"members: expected a number of networks from 1 to {len(tensors)}, found {count}")
        # The recipe's content, not its name: a file of that name may not be there, or may have changed.
        given = config if recipe is None or not hasattr(config, "graph") else replace(config, graph=recipe)
        with shapes_only():  # no memory is taken on the word of a file
            members = [kind(schema, given, inputs=configs["inputs"], prior=configs["prior"]) for _ in range(count)]
        for member in members:
            member.config = config if given is config else replace(member.config, graph=config.graph)
        method = Ensemble(members) if "members" in description else members[0]
        expected = method.state_dict()
        for key, value in tensors.items():
            if key in expected and value.dtype != expected[key].dtype:
                raise CheckpointError(f"{where}: the tensor {key}: expected numbers of type {expected[key].dtype}, found {value.dtype}")
            if value.is_floating_point() and not value.isfinite().all():
                raise CheckpointError(f"{where}: the tensor {key} contains NaN or inf; the training diverged, or the file is damaged")
        method.load_state_dict(tensors, assign=True)
    return method.eval()


def _kind(name: object, where: Path, own: type[Method] | None) -> type[Method]:
    """Return the class of a method by its name: `own`, or a method of the package; no other class is imported."""
    known, found = METHODS.classes, f"{str(name)[:60]!r}"
    if own is not None:
        if name == own.__name__:
            return own
        raise CheckpointError(
            f"{where}: method: expected {own.__name__}, the class that you gave, found {found}; give the class of this model's method"
        )
    if isinstance(name, str) and name in known:
        return METHODS[known[name]]
    raise CheckpointError(
        f"{where}: method: expected the class of a method in `erc-graph list methods`, found {found}; name your own method with "
        "--method FILE.py:CLASS (in Python: from_pretrained(folder, load_method('FILE.py:CLASS')))"
    )


def _beside(encoder: str, folder: Path) -> str:
    """Return the name of an encoder; a path relative to the folder of the model becomes a full path."""
    name, options = split_options(installed(encoder))
    return join_options(as_seen_from(folder, name), **options)


def _checked(kind: type[Method], description: Mapping[str, Any], where: Path) -> tuple[Schema, dict[str, Any], GraphRecipe | None, int]:
    """Check the types of all values in the description of a model; return schema, configurations, recipe and number of networks."""
    from pydantic import ConfigDict, create_model

    strict = ConfigDict(extra="forbid", strict=True, frozen=True)
    fields: dict[str, Any] = {
        "config": (kind.Config, ...), "inputs": (InputsConfig, InputsConfig()), "prior": (PriorConfig, PriorConfig()),
        "recipe": (GraphRecipe | None, None), "widths": (dict[str, int], ...), "task": (Task, ...), "sequences": (dict[str, list[int]], {}),
        "provenance": (dict[str, Any], {}), "version": (int, 0), "method": (str, ...), "members": (int, 1),
    }  # fmt: skip
    values = dict(description)
    if isinstance(recipe := values.get("recipe"), dict):  # examples are for the tests of a recipe's file
        values["recipe"] = {key: value for key, value in recipe.items() if key != "examples"}
    saved: Any = create_model("Saved", __config__=strict, __module__=__name__, **fields).model_validate_json(json.dumps(values))
    task: Task = saved.task
    if task.kind == "classification" and (not task.labels or len(set(task.labels)) < len(task.labels)):
        raise ValueError("task.labels: expected one or more names, all different")
    sizes = [*saved.widths.values(), *(size for item in saved.sequences.values() for size in item)]
    if not (saved.widths or saved.sequences) or min(sizes, default=1) < 1:
        raise ValueError("widths: expected for each modality its number of features, 1 or more (for sequences: the shape of an element)")
    extractors = saved.provenance.get("extractors", {})
    if not isinstance(extractors, dict) or not all(isinstance(name, str) for name in extractors.values()):
        raise ValueError("provenance.extractors: expected for each modality the name of its encoder")
    sequences = {name: tuple(item) for name, item in saved.sequences.items()}
    beside = {name: _beside(encoder, where.parent) for name, encoder in extractors.items()}
    provenance = {**saved.provenance, "extractors": beside} if beside else saved.provenance
    schema = Schema(widths=saved.widths, task=task, sequences=sequences, provenance=provenance)
    return schema, {name: getattr(saved, name) for name in ("config", "inputs", "prior")}, saved.recipe, saved.members


def _largest(value: Any) -> int:
    """Return the largest absolute value of the integers in nested lists and dicts."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return max(map(_largest, value), default=0)
    return abs(value) if isinstance(value, int) else 0


@contextmanager
def _refused(where: Path) -> Iterator[None]:
    """Convert errors that a damaged or malicious model description causes in the `with` block to a `CheckpointError` of one line."""
    from pydantic import ValidationError

    try:
        yield
    except CheckpointError:
        raise
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors(include_url=False)]
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise CheckpointError(
            f"{where}: expected the description of a saved model, found problems ({_line(problems[0])}{more}); the file is damaged, or "
            "another version of erc_graph saved it"
        ) from None
    except ErcGraphError as error:
        raise CheckpointError(f"{where}: {_line(str(error))}") from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError, OverflowError, MemoryError, RecursionError,
            ZeroDivisionError) as error:  # fmt: skip
        raise CheckpointError(
            f"{where}: the weights do not fit the description of the model, or are damaged ({_line(str(error))})"
        ) from None


def _line(text: str) -> str:
    return " ".join(text.split())[:300]
