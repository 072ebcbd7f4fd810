"""Chats as JSON: each program's export, whole and with parts missing."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erc_graph.data.corpus import Corpus
from erc_graph.data.files.transcripts import load_transcript
from erc_graph.errors import CorpusError


def read(value: Any) -> Corpus:
    return load_transcript((value if isinstance(value, str) else json.dumps(value)).encode())


def said(corpus: Corpus) -> list[tuple[str, str]]:
    return list(zip(corpus.speakers, corpus.texts, strict=True))


def notes(corpus: Corpus) -> str:
    return "; ".join(corpus.provenance["notes"][2:])


TWO = [("Ann", "Hi there!"), ("Bob", "I lost my keys")]


def telegram(*messages: tuple[str | None, Any], **more: Any) -> dict[str, Any]:
    rows = [
        {
            "id": i,
            "type": "message",
            "date": f"2023-05-05T15:48:{i:02d}",
            "from": who,
            "from_id": f"user{who}",
            "text": text,
            "text_entities": [],
        }
        for i, (who, text) in enumerate(messages)
    ]
    return {"name": "Us", "type": "personal_chat", "id": 1, "messages": rows, **more}


def test_telegram_and_its_parts() -> None:
    value = telegram(("Ann", ["Hi ", {"type": "bold", "text": "there"}, "!"]), ("Bob", "I lost my keys"), ("Bob", ""))
    value["messages"][2]["photo"] = "photos/1.jpg"
    talk = read(value)
    assert said(talk) == TWO and talk.annotations["time"][0] == "2023-05-05T15:48:00"
    assert "1 media message is left out" in notes(talk)
    value["messages"].insert(0, {"id": 9, "type": "service", "date": "2023-05-05T15:00:00", "actor": "Ann", "action": "pin", "text": ""})
    assert "1 service message and 1 media message are left out" in notes(read(value))


def test_telegram_of_a_deleted_account_and_all_chats_at_once() -> None:
    assert read(telegram((None, "Hi there!"), ("Bob", "Oh"))).speakers == ("deleted account userNone", "Bob")
    several = read({"about": "x", "chats": {"about": "y", "list": [telegram(*TWO), telegram(*TWO, name="They")]}})
    assert several.dialogue_ids == ("Us", "They") and said(several) == TWO * 2


def test_discord() -> None:
    def message(name: str, text: str, **more: Any) -> dict[str, Any]:
        author = {"id": name, "name": name.lower(), "nickname": name, "isBot": False}
        return {"id": "1", "type": "Default", "timestamp": "2023-05-05T15:48:11+02:00", "content": text, "author": author, **more}

    value = {"guild": {}, "channel": {}, "messages": [message("Ann", "Hi there!"), message("Bob", "I lost my keys", type="Reply")]}
    assert said(read(value)) == TWO
    value["messages"] += [message("Ann", "Pinned a message.", type="ChannelPinnedMessage"), message("Bob", "", attachments=[{"url": "x"}])]  # type: ignore[operator]
    assert said(read(value)) == TWO and "1 service message and 1 media message are left out" in notes(read(value))
    value["messages"][0]["author"]["nickname"] = None  # type: ignore[index]
    assert read(value).speakers[0] == "ann"


def test_slack_in_the_order_of_its_times() -> None:
    rows: list[dict[str, Any]] = [
        {"user": "U02", "type": "message", "ts": "1683301692.1", "text": "I lost my keys", "user_profile": {"real_name": "Bob"}},
        {"user": "U01", "type": "message", "ts": "1683301691.1", "text": "Hi there!", "user_profile": {"real_name": "Ann"}},
    ]
    assert said(read(rows)) == TWO and said(read({"messages": rows})) == TWO
    rows += [
        {"user": "U01", "type": "message", "ts": "1683301693.1", "text": "<@U01> joined", "subtype": "channel_join"},
        {"user": "U02", "type": "message", "ts": "1683301694.1", "text": "<@U01> see <https://a.b|this> &amp; that <!here>"},
        {"user": "U03", "type": "message", "ts": "1683301695.1", "text": "Hm"},
    ]
    talk = read(rows)
    assert said(talk)[2:] == [("Bob", "@Ann see this & that @here"), ("U03", "Hm")]
    assert "1 service message is left out" in notes(talk) and "1 speaker of Slack without a name" in notes(talk)


def meta(*messages: tuple[str, str], **more: Any) -> dict[str, Any]:
    rows = [{"sender_name": who, "timestamp_ms": 1577186580000 + 1000 * i, "content": text} for i, (who, text) in enumerate(messages)]
    return {"participants": [{"name": "Ann"}, {"name": "Bob"}], "messages": rows[::-1], "title": "Bob", **more}


def test_meta_newest_first_and_its_letters() -> None:
    talk = read(meta(*TWO))
    assert said(talk) == TWO and "the newest message is first" in notes(talk)
    broken = "Zoë 😭".encode().decode("latin-1")
    talk = read(meta((broken, "Ich bin müde 😭".encode().decode("latin-1")), ("Bob", "naïve")))
    assert said(talk) == [("Zoë 😭", "Ich bin müde 😭"), ("Bob", "naïve")] and "1 message with letters" in notes(talk)


def test_meta_leaves_out_what_is_no_text() -> None:
    value = meta(*TWO, ("Ann", "Ann sent an attachment."), ("Bob", "Liked a message"), ("Bob", "Reacted 😢 to your message "), ("Ann", "x"))
    value["messages"] += [{"sender_name": "Ann", "timestamp_ms": 1577186579000, "photos": [{"uri": "x"}]}]
    value["messages"][0] |= {"is_unsent": True}
    talk = read(value)
    assert said(talk) == TWO and "4 service messages and 1 media message are left out" in notes(talk)


def test_meta_encrypted_chats() -> None:
    rows = [
        {"senderName": who, "text": text, "timestamp": 1577186580000 + i, "type": "text", "isUnsent": False}
        for i, (who, text) in enumerate(TWO)
    ]
    assert said(read({"participants": ["Ann", "Bob"], "threadName": "x", "messages": rows})) == TWO


def test_chat_models() -> None:
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {}}]},
        {"role": "assistant", "content": "Oh"},
    ]
    system = {"role": "system", "content": "Be kind."}
    for value in ({"messages": [system, *turns]}, [system, *turns], {"conversations": [system, *turns]}):
        talk = read(value)
        assert said(talk) == [("user", "Hi"), ("assistant", "Oh")] and "1 service message is left out" in notes(talk)
    lines = "\n".join(json.dumps({"messages": turns}) for _ in range(3))
    assert len(read(lines)) == 3
    gpt = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Oh"}]
    assert read([{"id": "a", "conversations": gpt}, {"id": "b", "conversations": gpt}]).dialogue_ids == ("a", "b")
    export = [{"uuid": "u", "name": "A", "chat_messages": [{"sender": "human", "text": "Hi"}, {"sender": "assistant", "text": "Oh"}]}]
    assert said(read(export)) == [("human", "Hi"), ("assistant", "Oh")]
    called = {"role": "assistant", "content": None, "tool_calls": []}
    assert said(read({"messages": [*turns, called]}))[-1] == ("assistant", "Oh")


def test_chatgpt_reads_the_branch_that_was_seen_last() -> None:
    def node(parent: str | None, who: str, text: str, children: list[str]) -> dict[str, Any]:
        message = {"author": {"role": who}, "create_time": 1683301691.0, "content": {"content_type": "text", "parts": [text]}}
        return {"message": message if who else None, "parent": parent, "children": children}

    tree = {
        "a": node(None, "", "", ["b"]), "b": node("a", "user", "Hi", ["c", "d"]), "c": node("b", "assistant", "First", []),
        "d": node("b", "assistant", "Second", []),
    }  # fmt: skip
    assert said(read([{"title": "T", "mapping": tree, "current_node": "c"}])) == [("user", "Hi"), ("assistant", "First")]
    assert said(read({"title": "T", "mapping": tree})) == [("user", "Hi"), ("assistant", "Second")]
    tree["b"]["parent"] = "c"  # a circle
    assert read({"title": "T", "mapping": tree, "current_node": "c"}).utterances == 2


def test_signal_google_chat_and_skype() -> None:
    assert said(read([{"date": 1683301691000, "sender": who, "body": text} for who, text in TWO])) == TWO
    assert said(read({"messages": [{"creator": {"name": w, "email": "e"}, "created_date": "Friday", "text": t} for w, t in TWO]})) == TWO
    rows = [
        {"displayName": w, "content": t.replace("!", "&#33;"), "messagetype": "RichText", "originalarrivaltime": "2023"} for w, t in TWO
    ]
    rows += [{"displayName": "Ann", "content": "<call/>", "messagetype": "Event/Call"}]
    assert said(read({"userId": "x", "conversations": [{"id": "c", "MessageList": rows[::-1]}]})) == TWO


@pytest.mark.parametrize("value", [telegram(("Ann", "")), meta(("Ann", "Liked a message"))])
def test_nothing_but_pictures_is_refused(value: Any) -> None:
    with pytest.raises(CorpusError, match=r"contains no utterances \((Telegram|Instagram or Messenger)\)"):
        read(value)


NAMES = st.from_regex(r"[A-Z][a-z]{1,7}", fullmatch=True)
WORDS = st.from_regex(r"[a-zäöüé]{1,8}( [a-z😀日]{1,8}){0,5}[.?!]", fullmatch=True)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(NAMES, WORDS), min_size=1, max_size=8), st.sampled_from(["telegram", "discord", "slack", "meta", "signal"]))
def test_what_we_write_is_read_back(messages: list[tuple[str, str]], form: str) -> None:
    times = [1683301691 + i for i in range(len(messages))]
    iso = [datetime.fromtimestamp(when, timezone.utc).replace(tzinfo=None).isoformat() for when in times]
    rows = list(zip(messages, times, iso, strict=True))
    value: Any = {
        "telegram": {"messages": [{"type": "message", "from": w, "from_id": w, "text": t, "date": d} for (w, t), _, d in rows]},
        "discord": {"messages": [{"type": "Default", "author": {"name": w}, "content": t, "timestamp": d} for (w, t), _, d in rows]},
        "slack": [{"type": "message", "user": w, "text": t, "ts": f"{s}.0", "user_profile": {"real_name": w}} for (w, t), s, _ in rows],
        "meta": {"messages": [{"sender_name": w, "content": t, "timestamp_ms": s * 1000} for (w, t), s, _ in rows][::-1]},
        "signal": [{"sender": w, "body": t, "date": s * 1000} for (w, t), s, _ in rows],
    }[form]
    talk = read(value)
    assert said(talk) == messages and list(talk.annotations["time"]) == iso


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("Ann started a call center job. Then quit", False),
        ("You missed a great party", False),
        ("I missed a call from mom", False),
        ("Ann started a video chat.", True),
        ("You missed a call from Ann.", True),
        ("Ann ended the call.", True),
    ],
)
def test_what_messenger_says_itself(text: str, own: bool) -> None:
    rows = [{"sender_name": "Ann", "timestamp_ms": 1683301691000 + i, "content": said} for i, said in enumerate((text, "Hi"))]
    assert read({"messages": rows}).texts == (("Hi",) if own else (text, "Hi"))


def test_two_chats_of_one_name_stay_apart() -> None:
    chats = [telegram(("Ann", text)) for text in ("Hi", "Oh")]
    models = [{"title": "Us", "messages": [{"role": "user", "content": text}]} for text in ("Hi", "Oh")]
    skype = [{"displayName": "Us", "MessageList": [{"from": "Ann", "content": text}]} for text in ("Hi", "Oh")]
    for value in ({"chats": {"list": chats}}, models, {"conversations": skype}):
        talk = read(value)
        assert talk.dialogue_ids == ("Us (0)", "Us (1)") and talk.texts == ("Hi", "Oh")
        assert "several chats are called 'Us', so a number is added to the name" in notes(talk)
    assert read([*models, {"title": "Us (0)", "messages": models[0]["messages"]}]).dialogue_ids == ("Us (0)'", "Us (1)", "Us (0)")
