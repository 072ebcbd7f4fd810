"""Shared fixtures: a fixed seed, small threads, where real corpora are, and which tests the default run leaves out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

DATA = Path(os.environ.get("ERC_GRAPH_DATA", "no-corpora"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    chosen = config.getoption("-m")
    for item in items:
        if "slow" in item.keywords and "slow" not in chosen:
            item.add_marker(pytest.mark.skip(reason="slow: run with -m slow"))
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
        if "corpus" in item.keywords and not DATA.is_dir():
            item.add_marker(pytest.mark.skip(reason="no real corpora; set ERC_GRAPH_DATA"))


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def data_folder() -> Path:
    """Folder of real corpora (only for tests marked `corpus`)."""
    return DATA
