"""Text in every encoding is read as it was written, with a note, or refused: never as other letters without a word."""

from __future__ import annotations

import sys

import pytest

from erc_graph.data.files.encoding import decode
from erc_graph.data.files.notes import noting
from erc_graph.errors import CorpusError

TALKS = {
    "cp1251": "Привет, как у тебя дела? Я потерял свои ключи и очень расстроен.\nНичего страшного, мы найдём их вместе.",
    "cp1250": "Příliš žluťoučký kůň úpěl ďábelské ódy.\nKde jsou moje klíče? Jsem z toho smutný, opravdu.",
    "cp1253": "Πού είναι τα κλειδιά μου; Είμαι πολύ λυπημένος.\nΔεν πειράζει.",
    "cp1256": "أين مفاتيحي؟ أنا حزين جدا.\nلا بأس سنجدها معا",
    "gb18030": "你好啊，我的钥匙丢了，怎么办呢？\n没关系，我们一起去找。",
    "big5": "你好，我的鑰匙不見了，怎麼辦呢？\n沒關係，我們一起去找找看。",
    "shift_jis": "こんにちは、元気ですか。\n鍵をなくしてしまいました。",
    "euc_kr": "안녕하세요, 열쇠를 잃어버렸어요.\n괜찮아요, 같이 찾아봐요.",
    "cp1252": "Où es-tu allé? J’ai perdu mes clés à la gare.\nÇa ne fait rien. Señor, ¿qué pasó?",
    "latin-1": "Grüße aus München, schöne Straße.",
}
HEAD = "dialogue,turn,speaker,text,label\nd1,0,A,"


@pytest.mark.parametrize("head", ["", HEAD])
@pytest.mark.parametrize("encoding", TALKS)
def test_detected_with_a_note(encoding: str, head: str) -> None:
    pytest.importorskip("charset_normalizer")
    with noting() as notes:
        assert decode((head + TALKS[encoding]).encode(encoding), "talk.csv") == head + TALKS[encoding]
    assert len(notes) == 1 and notes[0].startswith("talk.csv: the text is not UTF-8; it is read as ")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_needs_no_note(encoding: str) -> None:
    with noting() as notes:
        assert decode((HEAD + "Zoë said “no”").encode(encoding), "talk.csv") == HEAD + "Zoë said “no”"
    assert not notes


def test_too_little_text_is_refused_rather_than_guessed() -> None:
    pytest.importorskip("charset_normalizer")
    content = f"{HEAD}Привет\nd2,0,Иван,Пока\n".encode("cp1251")
    with pytest.raises(
        CorpusError, match=r"talk.csv: the text is not UTF-8, and its encoding cannot be determined; it could be .*; save the file as UTF-8"
    ):
        decode(content, "talk.csv")


def test_without_the_library_western_text_alone_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "charset_normalizer", None)
    assert decode(TALKS["cp1252"].encode("cp1252"), "talk.csv") == TALKS["cp1252"]
    for encoding in ("cp1251", "gb18030", "shift_jis", "big5", "euc_kr", "cp1253"):
        with pytest.raises(
            CorpusError,
            match=r"not UTF-8; save it as UTF-8, or install the detection of encodings: "
            r'pip install "erc_graph\[transcripts\]"$',
        ):
            decode(TALKS[encoding].encode(encoding), "talk.csv")


def test_nothing_but_text() -> None:
    with pytest.raises(CorpusError, match="binary content of no known format"):
        decode(b"\xd0\xcf\x11\xe0\x00\x00\x01", "book.xls")
    with pytest.raises(CorpusError, match="binary content of no known format"):
        decode(b"speaker\0text", "talk.csv")
    with pytest.raises(CorpusError, match=r"begins like UTF-16 text, but its byte 2 is not valid; save the file as UTF-8"):
        decode(b"\xff\xfe\x00", "talk.csv")


def test_nul_bytes_at_the_end_are_left_out_with_a_note() -> None:
    with noting() as notes:
        assert decode(b"a,b\n1,2\n\0\0\n", "talk.csv") == "a,b\n1,2"
    assert notes == ["talk.csv: NUL bytes at the end are left out; the file may be an incomplete copy"]
