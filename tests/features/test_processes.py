"""Which share a process takes."""

from __future__ import annotations

import os

import pytest

from erc_graph.features.processes import Share


def test_the_launcher_says_who_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert Share.of_launcher() == Share(0, 1, 0) and Share().first
    monkeypatch.setattr(os, "environ", {**os.environ, "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"})
    assert Share.of_launcher() == Share(3, 4, 1) and not Share.of_launcher().first
