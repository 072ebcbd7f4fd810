"""One vocabulary: every spelling is found, and no column serves twice."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from erc_graph.data.files.transcripts.turn_rows import READ
from erc_graph.data.files.vocabulary import SPELLINGS, find_columns, plain


@pytest.mark.parametrize(("what", "spelling"), [(what, spelling) for what, known in SPELLINGS.items() for spelling in known])
def test_every_spelling_is_found_in_any_case(what: str, spelling: str) -> None:
    first = next(name for name, known in SPELLINGS.items() if spelling in known)
    assert find_columns([spelling.replace("_", " ").title()]) == {first: spelling.replace("_", " ").title()}


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["text", "utterance"], {"text": "text", "utterance": "utterance"}),
        (["Utterance", "Utterance_ID"], {"text": "Utterance", "turn": "Utterance_ID"}),
        (
            ["id", "conversation_id", "text", "speaker", "timestamp"],
            {"utterance": "id", "dialogue": "conversation_id", "start": "timestamp"},
        ),
        (["sender_name", "content"], {"speaker": "sender_name", "text": "content"}),
        (["colour", ""], {}),
    ],
)
def test_columns(names: list[str], found: dict[str, str]) -> None:
    assert found.items() <= find_columns(names).items()
    assert len(set(find_columns(names).values())) == len(find_columns(names))


def test_the_first_of_two_equal_names_serves() -> None:
    assert find_columns(["Text", "TEXT"]) == {"text": "Text"}


def test_plain_keeps_letters_of_every_script() -> None:
    assert plain("Имя говорящего") == "имяговорящего"


def test_the_page_lists_every_spelling() -> None:
    page = (Path(__file__).parents[3] / "docs" / "predict.md").read_text(encoding="utf-8")
    listed = page.partition("### Names of columns")[2].split("```")[1].removeprefix("text\n")
    found = {line[:10].strip(): line[10:] for line in re.sub(r"\n {10}", " ", listed).splitlines()}
    assert found == {what: ", ".join(SPELLINGS[what]) for what in READ}
