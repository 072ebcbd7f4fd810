"""Encoders that were tuned once, for all tests that ask them."""

from __future__ import annotations

from pathlib import Path

import pytest

from erc_graph.data.corpus import Corpus
from erc_graph.features.fine_tuning import TuningConfig, tune

QUICK = TuningConfig(epochs=3, batch_size=8, learning_rate=3e-3)


def rows_of(corpus: Corpus, split: str) -> list[int]:
    rows = corpus.rows(corpus.position[i] for i in corpus.splits[split])
    return [row for row in rows.tolist() if corpus.labelled[row] and corpus.texts[row].strip()]


@pytest.fixture(scope="session")
def fitted(talks: Corpus, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned") / "fitted"
    tune(talks, str(tiny_encoder), folder, QUICK, quiet=True)
    return folder


@pytest.fixture(scope="session")
def crossed(talks: Corpus, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned") / "crossed"
    tune(talks, str(tiny_encoder), folder, QUICK, cross_fit=3, quiet=True)
    return folder
