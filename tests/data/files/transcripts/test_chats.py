"""Chats as text: both systems of WhatsApp in their languages, Signal, Telegram's copies."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.transcripts import load_transcript


def said(corpus: Corpus) -> list[tuple[str, str]]:
    return list(zip(corpus.speakers, corpus.texts, strict=True))


def notes(corpus: Corpus) -> str:
    return "; ".join(corpus.provenance["notes"][2:])


TWO = [("Ann", "Hi there!"), ("Bob", "I lost my keys again and my phone as well")]
STAMPS = [
    "[05.05.23, 15:48:11] ",
    "[5/5/23, 3:48:11 PM] ",
    "[5/5/23, 3:48:11\u202fPM] ",
    "\u200e[2023-05-05, 15:48:11] ",
    "[05/05/2023, 15:48] ",
    "5/5/23, 3:48 PM - ",
    "5/5/23, 3:48\u202fpm - ",
    "05.05.23, 15:48 - ",
    "05/05/2023, 15:48 - ",
    "2023-05-05 15:48 - ",
    "05/05/2023 15:48 - ",
    "5/5/23 15:48 - ",
    "5/5/23, 3:48 p. m. - ",
    "5-5-2023 15:48 - ",
    "2023/05/05 15:48 - ",
    "05.05.2023 um 15:48 - ",
    "2023/5/5 下午3:48 - ",
    "2023. 5. 5. 오후 3:48 - ",
    "[2023-05-05 15:48] ",
    "[2023-05-05T15:48:11] ",
    "[15:48, 5/5/2023] ",
    "05/05/2023 à 15:48 - ",
    "2023年5月5日 15:48 - ",
    "2023-05-05T15:48:11.000 - ",
    "[5/5/23 15:48:11]: ",
]


@pytest.mark.parametrize("stamp", STAMPS)
def test_dates_of_systems_and_languages(stamp: str) -> None:
    chat = f"{stamp}Ann: Hi there!\n{stamp}Bob: I lost my keys again\nand my phone as well\n"
    talk = load_transcript(chat.encode())
    assert said(talk) == TWO and all(talk.annotations["time"])


@pytest.mark.parametrize("stamp", ["5/5/23, 3:48 PM - ", "[05.05.23, 15:48:11] "])
@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("Ann: <Media omitted>", "media"),
        ("Ann: <Medien ausgeschlossen>", "media"),
        ("Ann: <Multimedia omitido>", "media"),
        ("Ann: <Без медиафайлов>", "media"),
        ("Ann: <省略多媒体文件>", "media"),
        ("Ann: \u200eimage omitted", "media"),
        ("Ann: \u200eBild weggelassen", "media"),
        ("Ann: image omitted", "media"),
        ("Ann: \u200e<attached: 00001-PHOTO.jpg>", "media"),
        ("Ann: \u200eIMG-20230123-WA0000.jpg (file attached)", "media"),
        ("Ann: null", "media"),
        ("Ann: This message was deleted", "service"),
        ("Ann: \u200eThis message was deleted.", "media"),  # short, behind WhatsApp's mark: one of the two
        ("Ann: Diese Nachricht wurde gelöscht.", "service"),
        ("Ann: \u200eMessages and calls are end-to-end encrypted. No one outside of this chat can read them.", "service"),
        ("Messages and calls are end-to-end encrypted. No one outside of this chat can read them.", "service"),
        ('Ann created group "Us"', "service"),
        ('Ann changed the subject from "a: b" to "c"', "service"),
        ("Ann added +49 151 234567", "service"),
        ("Ann: Du hast diese Nachricht gelöscht.", "service"),
        ("Nachrichten und Anrufe sind Ende-zu-Ende-verschlüsselt. Tippe: mehr", "service"),
        ("Ann: Eliminaste este mensaje", "service"),
        ("Ann: Mensagem apagada", "service"),
        ("Ann: Photo, 1280x720", "media"),
        ("Ann hat den Gruppennamen von „Reise: alt“ zu „Neu“ geändert", "service"),
        ("Annがグループ名を「旅行: 2024」に変更しました", "service"),
    ],
)
def test_what_the_program_says_itself_is_left_out(stamp: str, line: str, kind: str) -> None:
    talk = load_transcript(f"{stamp}Ann: Hi there!\n{stamp}{line}\n{stamp}Bob: Oh\n".encode())
    assert said(talk) == [("Ann", "Hi there!"), ("Bob", "Oh")]
    assert notes(talk) in ("1 service message is left out", "1 media message is left out") and kind in ("media", "service")


def test_names_are_cleaned_and_said() -> None:
    talk = load_transcript("[05.05.23, 15:48:11] ~\u202fCleo: Hi\n[05.05.23, 15:48:12] \u202a+49 151 2345\u202c: Oh\n".encode())
    assert talk.speakers == ("Cleo", "+49 151 2345") and "is read as 'Cleo'" in notes(talk)


def test_edited_messages_lose_their_mark() -> None:
    talk = load_transcript("[05.05.23, 15:48:11] Ann: Hi there \u200e<This message was edited>\n".encode())
    assert talk.texts == ("Hi there",) and "the mark of edited messages is removed from 1 message" in notes(talk)
    talk = load_transcript(b"5/5/23, 3:48 PM - Ann: Hi <This message was edited>\n5/5/23, 3:48 PM - Bob: I feel <really bad today>\n")
    assert talk.texts == ("Hi", "I feel <really bad today>")


@pytest.mark.parametrize("text", ["Photo, please!", "Video", "Missed group work again", "Du hast diese Nachricht gelöscht, warum?"])
def test_messages_about_pictures_are_messages(text: str) -> None:
    talk = load_transcript(f"5/5/23, 3:48 PM - Ann: {text}\n5/5/23, 3:49 PM - Bob: Oh\n".encode())
    assert said(talk) == [("Ann", text), ("Bob", "Oh")]


def test_a_quoted_name_is_no_new_speaker() -> None:
    stamp = "5/4/19, 14:59 - "
    talk = load_transcript(f"{stamp}Ann: the recipe\nFlour: 200 g\nSugar: 100 g\n{stamp}Bob: Thanks\n".encode())
    assert said(talk) == [("Ann", "the recipe Flour: 200 g Sugar: 100 g"), ("Bob", "Thanks")]
    assert "2 lines may name a new speaker; the text is joined to the previous utterance ('Flour: 200 g')" in notes(talk)


def test_lines_without_a_date_but_with_a_name_of_the_chat() -> None:
    talk = load_transcript(b"Ann: Hi there!\n[05.05.23, 15:49:02] Bob: I lost my keys\nAnn: oh no\n")
    assert said(talk) == [("Ann", "Hi there!"), ("Bob", "I lost my keys"), ("Ann", "oh no")]
    assert "2 lines with a name but no date" in notes(talk)


def test_what_follows_a_picture_belongs_to_nobody_else() -> None:
    stamp = "5/4/19, 14:59 - "
    talk = load_transcript(f"{stamp}Ann: Hi\n{stamp}Bob: <Media omitted>\nlook at this\n{stamp}Ann: Nice\n".encode())
    assert ("Ann", "Hi") in said(talk) and ("Bob", "look at this") in said(talk)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_ends_of_lines(end: str) -> None:
    stamp = "[05.05.23, 15:48:11] "
    assert said(load_transcript(f"\ufeff{stamp}Ann: Hi{end}{stamp}Bob: Oh{end}".encode())) == [("Ann", "Hi"), ("Bob", "Oh")]


def test_other_scripts() -> None:
    chat = "1/23/23, 3:19 AM - Анна: Привет!\n1/23/23, 3:20 AM - 小明: 你好：朋友\n1/23/23, 3:21 AM - ליאת: \u200fשלום\n"
    assert said(load_transcript(chat.encode())) == [("Анна", "Привет!"), ("小明", "你好：朋友"), ("ליאת", "שלום")]


@pytest.mark.parametrize(
    ("chat", "turns", "time"),
    [
        (
            "[LINE] 花子とのトーク履歴\n保存日時：2023/12/25 10:00\n\n2023/12/24(日)\n"
            "18:01\t太郎\tメリー: クリスマス\n18:02\t花子\tはい\n18:03\t花子\t[スタンプ]\n",
            [("太郎", "メリー: クリスマス"), ("花子", "はい")],
            "2023/12/24(日) 18:01",
        ),
        (
            "[LINE] Chat history with Ann\nSaved on: 2023/12/25, 10:00\n\nSun, 12/24/2023\n"
            '18:01\tAnn\t"Hi\nthere"\n18:02\tBob\tYo\n18:03\t\tBob left\n',
            [("Ann", "Hi there"), ("Bob", "Yo")],
            "Sun, 12/24/2023 18:01",
        ),
        (
            "철수 님과 카카오톡 대화\n저장한 날짜 : 2023-12-25 10:00:00\n\n--------------- 2023년 12월 24일 일요일 ---------------\n"
            "[철수] [오후 6:01] 안녕\n모두: 들\n[영희] [오후 6:02] 반가워\n[영희] [오후 6:02] 사진\n민수님이 나갔습니다.\n",
            [("철수", "안녕 모두: 들"), ("영희", "반가워")],
            "2023년 12월 24일 일요일 오후 6:01",
        ),
        (
            "철수 님과 카카오톡 대화\n저장한 날짜 : 2023년 12월 25일 오전 10:00\n\n2023년 12월 24일 오후 6:00\n"
            "2023년 12월 24일 오후 6:01, 철수 : 안녕\n"
            "2023년 12월 24일 오후 6:02, 영희 : 반가워\n2023년 12월 24일 오후 6:03, 영희님이 나갔습니다.\n",
            [("철수", "안녕"), ("영희", "반가워")],
            "2023년 12월 24일 오후 6:01",
        ),
        (
            "24.12.2023 klo 18.01 - Matti: Hyvää joulua\n24.12.2023 klo 18.02 - Liisa: Kiitos\n",
            [("Matti", "Hyvää joulua"), ("Liisa", "Kiitos")],
            "24.12.2023 klo 18.01",
        ),
    ],
)
def test_line_kakaotalk_and_finnish(chat: str, turns: list[tuple[str, str]], time: str) -> None:
    talk = load_transcript(chat.encode())
    assert said(talk) == turns and talk.annotations["time"][0] == time
    assert "left out" in notes(talk) or "klo" in chat


def test_one_speaker_who_has_most_lines_is_noted() -> None:
    talk = load_transcript(b"Ann: Hi\nBob: Oh\n" + b"and so on\n" * 9)
    assert "10 of 11 lines are one utterance of 'Bob'; check whether others speak in it" in notes(talk)


@pytest.mark.parametrize("head", ["Ann, [05.05.2023 15:48]", "Ann, [5/5/23 3:48 PM]:", "Ann [05.05.2023 15:48:11]"])
def test_messages_copied_out_of_telegram(head: str) -> None:
    talk = load_transcript(f"{head}\nHi there!\nYou: here?\n\n{head.replace('Ann', 'Bob')}\nOh\n".encode())
    assert said(talk) == [("Ann", "Hi there! You: here?"), ("Bob", "Oh")]


@pytest.mark.parametrize(
    "line",
    [
        "5/4/19, 14:59 - " + "a" * 100_000,
        "[05.05.23, 15:4" * 8000,
        "5/4/19, " * 14_000,
        " " * 100_000,
        "5/4/19, 14:59 - A" + " " * 100_000,
        "<" * 100_000,
        "(" * 100_000,
        "\u200e" * 100_000,
    ],
)
def test_hostile_lines_take_linear_time(line: str) -> None:
    start = time.process_time()
    load_transcript(f"5/4/19, 14:59 - Ann: Hi\n{line}\n5/4/19, 14:59 - Bob: {line}\n".encode())
    assert time.process_time() - start < 1


def test_many_lines_take_linear_time() -> None:
    start = time.process_time()
    talk = load_transcript(("5/4/19, 14:59 - Ann: Hi\n" + "and so on\n" * 50_000 + "5/4/19, 14:59 - Bob: Oh\n" * 5000).encode())
    assert talk.utterances == 5001 and time.process_time() - start < 6


NAMES = st.from_regex(r"[A-Z][a-z]{1,7}( [A-Z][a-z]{1,7})?", fullmatch=True)
TEXTS = st.lists(st.from_regex(r"[a-z]{1,8}( [a-z]{1,8}){0,5}[.?!]", fullmatch=True), min_size=1, max_size=3)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(NAMES, TEXTS), min_size=1, max_size=8), st.sampled_from(STAMPS))
def test_what_we_write_is_read_back(messages: list[tuple[str, list[str]]], stamp: str) -> None:
    chat = "".join(f"{stamp}{name}: " + "\n".join(lines) + "\n" for name, lines in messages)
    assert said(load_transcript(chat.encode())) == [(name, " ".join(lines)) for name, lines in messages]
