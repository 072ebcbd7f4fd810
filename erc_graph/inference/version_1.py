"""Conversion of models that were saved in the format versions 0 and 1 to the current version.

In versions 0 and 1, the options of the method also included those of the inputs and of the prior (added log-probabilities). Modules had
other names. Some options no longer exist, because the package now has a fixed value for them. An option that no longer exists is accepted
only if it has this fixed value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor

from erc_graph.errors import CheckpointError

Values = dict[str, Any]

CONV = {"alpha": 0.1, "lambda_": 0.5, "residual": True}
# Option that is gone → the value that is fixed now.
FIXED: dict[str, dict[str, Any]] = {
    "Pairwise": {**{f"conv.{name}": value for name, value in CONV.items()}, "mff.shared_gru": False, "speakers": 8},
    "HFF": {
        **{f"context.conv.{name}": value for name, value in CONV.items()},
        "context.conv.depth": 2, "context.speakers": 8, "nodes": "fused",
    },
    "MFDR": {
        **{f"context.conv.{name}": value for name, value in CONV.items()},
        "context.conv.depth": 2, "context.speakers": 8, "text": "text", "audio": "audio",
    },
    "WavFusion": {**{f"context.conv.{name}": value for name, value in CONV.items()}, "context.conv.depth": 2, "context.speakers": 8},
}  # fmt: skip
# What never changed a score: how a model was trained, and how much is computed at once.
WITHOUT_EFFECT = {
    "tokens", "seconds", "cache", "conv", "pmf.learning_rate", "pmf.weight_decay", "pmf.epochs", "mff.shared_gru", "mal.learning_rate",
    "mal.weight_decay", "mal.epochs", "speakers", "nodes", "text", "audio",
}  # fmt: skip
EXTRACTOR = ("channels", "kernels", "strides", "positions", "position_groups", "norm", "norm_first", "bias")

# Old name of a tensor → new name, by class.
INPUTS = (r"^(?:\S+\.)?inputs\.(mean|deviation)_(\S+)$", r"inputs.\1_\2")
NAMES: dict[str, list[tuple[str, str]]] = {
    "BiGRU": [
        (r"^inputs\.missing\.", "missing.vectors."), (r"^encode\.", "read."), (r"^classify\.", "classify.1."),
        (r"^prior\.around$", "prior.around.weight"),
    ],
    "Pairwise": [
        INPUTS,
        (r"\.speaker\.inputs\.missing\.", ".speaker.missing.vectors."),
        (r"^(fusion\..+)\.inputs\.missing\.", r"\1.missing.vectors."),
        (r"^mff\.inputs\.missing\.\S+$", "mff.missing.vectors.Bt"),
        (r"^text_layers\.", "inputs.text_layers."),
        (r"^prior\.around$", "prior.around.weight"),
    ],
    "HFF": [(r"^inputs\.missing\.", "missing.vectors."), (r"^encode\.", "read."), (r"^context\.", "conversation.")],
    "MFDR": [(r"^context\.", "conversation.")],
    "WavFusion": [(r"^encode\.", "encoders."), (r"^context\.", "conversation.")],
}  # fmt: skip


def upgraded(description: Mapping[str, Any], tensors: Mapping[str, Tensor], where: object) -> tuple[Values, dict[str, Tensor]]:
    """Convert the description and the tensors of a saved model to the format version 2.

    Raises:
        CheckpointError: an option no longer exists, and its value is not the value that is now fixed.
    """
    kind = description.get("pipeline")
    config = description.get("config")
    if kind not in NAMES or not isinstance(config, Mapping):
        return {**description, "method": kind}, dict(tensors)  # what is wrong is said where descriptions are checked
    flat = dict(_flat(config))
    for path, fixed in FIXED.get(kind, {}).items():
        if (found := flat.get(path, fixed)) != fixed:
            raise CheckpointError(
                f"{where}: config.{path}: expected {fixed!r}, found {found!r}, because this option was removed; "
                "train the model again, or load the model with the version of erc_graph that saved it"
            )
    own, inputs, prior = MOVES[kind](dict(config))
    rest = {key: value for key, value in description.items() if key not in ("pipeline", "config", "version")}
    found = {**rest, "version": 2, "method": kind, "config": _without(own), "inputs": inputs, "prior": prior}
    return found, {_renamed(name, NAMES[kind]): value for name, value in reversed(list(tensors.items()))}


def moved_options(kind: str, config: Mapping[str, Any]) -> tuple[Values, Values, Values]:
    """Divide the options of format version 1 into options of the method, of the inputs, and of the prior (added log-probabilities).

    Args:
        kind: Name of the method's class.
        config: Options of version 1, as in the table `[pipeline]` of a settings file; options can be missing.
    """
    own, inputs, prior = MOVES[kind](dict(config)) if kind in MOVES else (dict(config), {}, {})
    return _without(own), inputs, prior


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value


def _without(values: Values, before: str = "") -> Values:
    """Return all options except those that no longer exist, which `WITHOUT_EFFECT` lists."""
    return {
        name: _without(value, f"{before}{name}.") if isinstance(value, dict) else value
        for name, value in values.items()
        if before + name not in WITHOUT_EFFECT
    }


def _take(config: Values, **names: str) -> Values:
    """Remove options from a configuration, and return them under their new names; `names` maps old names to new names."""
    return {new: config.pop(old) for old, new in names.items() if old in config}


def _prior(config: Values, *, stream: bool | None = None) -> Values:
    found = _take(config, prior_around="around", prior_stream="stream")
    names = config.pop("prior", None)
    if names:
        return {**found, "features": names.split("+"), **({} if stream is None else {"stream": stream})}
    return {}


def _bigru(config: Values) -> tuple[Values, Values, Values]:
    inputs = _take(config, speaker_relative="speaker_relative", swap_noise="swap_noise", modality_dropout="modality_dropout")
    if "bidirectional" in config:
        config["causal"] = not config.pop("bidirectional")
    return config, inputs, _prior(config, stream=True)


def _pairwise(config: Values) -> tuple[Values, Values, Values]:
    inputs = _take(
        config, speaker_relative="speaker_relative", swap_noise="swap_noise", given_speakers="given_speakers", text_layers="text_layers"
    )
    if isinstance(layers := inputs.get("text_layers"), Mapping):
        inputs["text_layers"] = {name: value for name, value in layers.items() if name not in ("dropout", "tokens")}
    if (second := config.pop("context_text", "text")) != "text":
        inputs["second_text"] = second
    if isinstance(conv := config.pop("conv", None), Mapping) and "depth" in conv:
        config["depth"] = conv["depth"]
    return config, inputs, _prior(config)


def _conversation(config: Values) -> None:
    if isinstance(context := config.pop("context", None), Mapping):
        config["conversation"] = {name: value for name, value in context.items() if name in ("width", "recurrent")}


def _hff(config: Values) -> tuple[Values, Values, Values]:
    inputs = _take(config, speaker_relative="speaker_relative", swap_noise="swap_noise", modality_dropout="modality_dropout")
    _conversation(config)
    return config, inputs, {}


def _mfdr(config: Values) -> tuple[Values, Values, Values]:
    _conversation(config)
    return config, {}, {}


def _wavfusion(config: Values) -> tuple[Values, Values, Values]:
    _conversation(config)
    if isinstance(sound := config.get("wav2vec"), Mapping):
        own = {name: value for name, value in sound.items() if name not in EXTRACTOR}
        extractor = {name: value for name, value in sound.items() if name in EXTRACTOR}
        config["wav2vec"] = {**own, **({"extractor": extractor} if extractor else {})}
    return config, {}, {}


MOVES: dict[str, Callable[[Values], tuple[Values, Values, Values]]] = {
    "BiGRU": _bigru,
    "Pairwise": _pairwise,
    "HFF": _hff,
    "MFDR": _mfdr,
    "WavFusion": _wavfusion,
}


def _renamed(name: str, patterns: list[tuple[str, str]]) -> str:
    member = re.match(r"members\.\d+\.", name)
    stem = member.group() if member else ""
    name = name.removeprefix(stem)
    for pattern, new in patterns:
        name = re.sub(pattern, new, name)
    return stem + name
