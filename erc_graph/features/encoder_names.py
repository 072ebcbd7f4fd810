"""Names of encoders with options, as corpora and models store them, and a function that loads an encoder by its name."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import torch

from erc_graph.errors import CheckpointError
from erc_graph.features import principal
from erc_graph.features.pretrained import Quantize
from erc_graph.features.principal import Projected
from erc_graph.features.text import Pooling, TextEncoder, as_seen_from
from erc_graph.features.tuned import OUTPUTS, TunedEncoder
from erc_graph.features.tuned_files import ABOUT


def load_text_encoder(name: str, *, device: torch.device | str = "cpu") -> TextEncoder | TunedEncoder | Projected:
    """Load a text encoder by the name that a corpus or model stores.

    Args:
        name: A name or folder that `find_encoder` accepts, or the folder of fine-tuned encoders or of principal components. Options that
            differ from the defaults follow after a colon, as in `NAME:layer=-2,pooling=cls` or `FOLDER:output=log-probabilities`.
        device: Device of the computation.

    Raises:
        CheckpointError: the encoder is not found, its files are incomplete, damaged or of an unknown kind, or an option is unknown.
    """
    where, options = split_options(name)
    tuned = projected = False
    with suppress(OSError, ValueError):  # a name that no file can have
        tuned, projected = ((Path(where) / about).is_file() for about in (ABOUT, principal.ABOUT))
    if tuned:
        return TunedEncoder(Path(where), device=device, **_checked(name, options, {"output": OUTPUTS}))
    if projected:
        _checked(name, options, {})
        inner, axes = principal.read_axes(Path(where))
        base, options = split_options(inner)
        return Projected(_plain(join_options(as_seen_from(Path(where), base), **options), device), axes)
    if "output" in options:  # of fine-tuned encoders only
        raise CheckpointError(
            f"text encoder {where!r}: no fine-tuned encoder there, and only fine-tuned encoders have the option output; "
            f"expected a folder with {ABOUT}, for example --extractor NAME=FOLDER:output={options['output']}"
        )
    return _plain(name, device)


def _plain(name: str, device: torch.device | str) -> TextEncoder:
    where, options = split_options(name)
    poolings = tuple(one for one in get_args(Pooling) if one != "frames")
    chosen = _checked(name, options, {"pooling": poolings, "layer": None, "quantize": get_args(Quantize)})
    if "layer" in options and not options["layer"].startswith("last4"):
        chosen["layer"] = int(options["layer"])
    return TextEncoder(where, device=device, **chosen)


def _checked(name: str, options: dict[str, str], known: dict[str, tuple[str, ...] | None]) -> dict[str, Any]:
    """Return the options, after a check that all options are known.

    Raises:
        CheckpointError: an option is unknown.
    """
    for key, value in options.items():
        if key not in known or value not in (known[key] or (value,)):
            raise CheckpointError(f"text encoder {name[:80]!r}: expected valid options ({', '.join(known) or 'none'}), found {key}={value}")
    return dict(options)


def split_options(name: str) -> tuple[str, dict[str, str]]:
    """Split the name of an encoder into the name without options and the options.

    >>> split_options("runs/text.tuned:output=log-probabilities")
    ('runs/text.tuned', {'output': 'log-probabilities'})
    >>> split_options("C:/models/bert")
    ('C:/models/bert', {})
    """
    found = re.fullmatch(r"(.+):((?:[a-z]+=[a-z0-9+-]+,?)+)", name, re.S)
    return (name, {}) if found is None else (found[1], dict(part.split("=") for part in found[2].strip(",").split(",")))


def join_options(name: str, **options: str | int) -> str:
    """Join the name and options of an encoder; this function is the inverse of `split_options`.

    >>> join_options("bert", layer=-2), join_options("bert")
    ('bert:layer=-2', 'bert')
    """
    return f"{name}:{','.join(f'{key}={value}' for key, value in options.items())}" if options else name
