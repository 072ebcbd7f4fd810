"""Transcripts as other tools, languages and people write them than those of the cases: read to these turns, or refused with a way out.

`variants/turns.json` has the turns of every file, or the beginning of its refusal.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from erc_graph.data.files.transcripts import load_transcript
from erc_graph.errors import CorpusError

FOLDER = Path(__file__).parents[1] / "variants"
TURNS = json.loads((FOLDER / "turns.json").read_text(encoding="utf-8"))
WAYS_OUT = ("save it", "expected", "insert a header", "write ", "export it", "save them", "wait until")


@pytest.mark.parametrize("name", TURNS)
def test_variants(name: str) -> None:
    if isinstance(TURNS[name], str):
        with pytest.raises(CorpusError) as refusal:
            load_transcript(FOLDER / name)
        said = str(refusal.value)
        assert said.removeprefix(f"{FOLDER / name}: ").startswith(TURNS[name]) and any(way in said for way in WAYS_OUT)
        return
    corpus = load_transcript(FOLDER / name)
    assert [list(turn) for turn in zip(corpus.speakers, corpus.texts, strict=True)] == TURNS[name]


def test_every_variant_is_looked_at_and_there_are_five_of_a_kind_or_more() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {*TURNS, "turns.json"}
    kinds = [name.partition("_")[0] for name in TURNS]
    assert set(kinds) == {"subtitles", "whisper", "recognisers", "chats", "messengers", "lines", "tiers", "rows"}
    assert min(map(kinds.count, kinds)) >= 5
