from __future__ import annotations

from pathlib import Path

import pytest

from erc_graph.data.sample.vectors import sample_corpus


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved sample corpus of 24 dialogues."""
    folder = tmp_path_factory.mktemp("corpus") / "small"
    sample_corpus(dialogues=24, seed=3).save(folder)
    return folder
