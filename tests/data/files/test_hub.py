from __future__ import annotations

from pathlib import Path

import pytest

from erc_graph.data.files.hub import hub_folder, hub_name
from erc_graph.errors import CheckpointError


@pytest.mark.parametrize("name", ["a/b", "all-MiniLM-L6-v2", "some_one/model.v2"])
def test_names_of_the_hub(name: str) -> None:
    assert hub_name(name)


@pytest.mark.parametrize("name", ["", "a/b/c", "../a", "a/..", "/etc", "a b", "a\n", "a--b", "https://a/b", "é/b\0"])
def test_other_names(name: str) -> None:
    assert not hub_name(name)


def test_what_cannot_be_had_says_what_to_download(monkeypatch: pytest.MonkeyPatch) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")

    def fails(name: str, **options: object) -> str:
        assert options["allow_patterns"] == ["config.json"]
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fails)
    with pytest.raises(
        CheckpointError, match=r"^a/b: neither a local folder.*ConnectionError: no route\); download its files \(config.json\)"
    ):
        hub_folder("a/b", ["config.json"])
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **options: "/tmp/there")
    assert hub_folder("a/b", ["config.json"]) == Path("/tmp/there")
