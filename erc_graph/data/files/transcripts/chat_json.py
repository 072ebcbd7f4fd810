"""Reader of chats in JSON: Telegram, Discord, Slack, Instagram, Messenger, Skype, Google Chat, and conversations with chat models."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from erc_graph.data.files.notes import note
from erc_graph.data.files.transcripts.talk import Talk, Turn, are, finite, left_out, moment
from erc_graph.data.printable import count, one_line

Value = dict[str, Any]


def read_messages(value: Any, path: Path) -> Talk | None:
    """Read the messages of a known chat program; return `None` if the content has another form."""
    return next((talk for read in READERS if (talk := read(value)) is not None), None)


def _items(value: Any, key: str) -> list[Value]:
    found = value.get(key) if isinstance(value, dict) else None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _text(value: Any) -> str:
    """Return a text. If it is divided as in `["see ", {"type": "link", "text": "…"}]`, the texts are joined."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return next((value[key] for key in ("text", "content", "value", "body") if isinstance(value.get(key), str)), "")
    return "".join(map(_text, value)) if isinstance(value, list) else ""


def _name(value: Any, *keys: str) -> str:
    if isinstance(value, dict):
        return next((str(value[key]) for key in keys if isinstance(value.get(key), str | int) and value[key] != ""), "")
    return str(value) if isinstance(value, str | int) else ""


def _apart(names: list[str]) -> list[str]:
    """Return different names for several chats: equal names get a number at the end. The name of a single chat is empty."""
    if len(names) < 2:
        return [""] * len(names)
    names = [name.strip() for name in names]
    times, taken, found = Counter(names), set(names), []
    for number, name in enumerate(names):
        if not name or times[name] > 1:
            name, plain = f"{name} ({number})".strip(), name
            while name in taken:
                name += "'"
            if plain:
                note(f"several chats are called {one_line(plain)!r}, so a number is added to the name")
        taken.add(name)
        found.append(name)
    return found


class _Kept:
    """A collection of the utterances of a chat; service and media messages are only counted."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.service = self.media = 0

    def add(self, turn: Turn, *, service: bool = False) -> None:
        turn.text = " ".join(turn.text.split())
        if service:
            self.service += 1
        elif not turn.text:
            self.media += 1
        else:
            self.turns.append(turn)

    def talk(self, form: str) -> Talk:
        left_out(self.service, self.media)
        return Talk(form=form, turns=self.turns)


def _telegram(value: Any) -> Talk | None:
    chats = [value] if isinstance(value, dict) else []
    if isinstance(value, dict) and isinstance(value.get("chats"), dict):  # everything at once
        chats = _items(value["chats"], "list")
    names = _apart([str(chat.get("name") or chat.get("id") or "") for chat in chats])
    messages = [(name, one) for name, chat in zip(names, chats, strict=True) for one in _items(chat, "messages")]
    if not any("date" in one and "text" in one and ("from" in one or "actor" in one) for _, one in messages):
        return None
    kept = _Kept()
    for chat, one in messages:
        who = _name(one.get("from")) or ("" if one.get("from_id") is None else f"deleted account {one['from_id']}")
        text = _text(one.get("text")) or _text(one.get("text_entities"))
        turn = Turn(text=text, speaker=who, time=_name(one.get("date")), dialogue=chat)
        kept.add(turn, service=one.get("type") != "message")
    return kept.talk("Telegram")


def _discord(value: Any) -> Talk | None:
    messages = _items(value, "messages")
    if not any(isinstance(one.get("author"), dict) and "content" in one for one in messages):
        return None
    kept = _Kept()
    for one in messages:
        turn = Turn(
            text=_text(one.get("content")), speaker=_name(one.get("author"), "nickname", "name", "username", "id"),
            time=_name(one.get("timestamp")),
        )  # fmt: skip
        kept.add(turn, service=str(one.get("type", "Default")) not in ("Default", "Reply", "0", "19", "ThreadStarterMessage"))
    return kept.talk("Discord")


_MENTION = re.compile(r"<([@#!])([^<>|]{1,40})(?:\|([^<>]{0,80}))?>")
_LINK = re.compile(r"<((?:https?|mailto|tel):[^<>|]{1,2000})(?:\|([^<>]{0,400}))?>")
_SLACK_TURNS = ("", "bot_message", "me_message", "thread_broadcast", "file_share", "file_comment", "reply_broadcast")


def _slack(value: Any) -> Talk | None:
    messages = [one for one in value if isinstance(one, dict)] if isinstance(value, list) else _items(value, "messages")
    if not messages or not all("ts" in one and ("text" in one or "blocks" in one) for one in messages) or "type" not in messages[0]:
        return None
    names = {}
    for one in messages:
        profile = one.get("user_profile")
        if name := _name(profile, "real_name", "display_name", "name"):
            names[str(one.get("user"))] = name
    unknown = set()
    kept = _Kept()
    for one in messages:
        user = _name(one.get("user")) or _name(one.get("username")) or _name(one.get("bot_profile"), "name") or _name(one.get("bot_id"))
        if user and user not in names and one.get("user"):
            unknown.add(user)
        said = _MENTION.sub(lambda found: "@" + (found[3] or names.get(found[2], found[2])), _text(one.get("text")))
        said = html.unescape(_LINK.sub(lambda found: found[2] or found[1], said))
        seconds = finite(one.get("ts"))
        turn = Turn(text=said, speaker=names.get(user, user), time="" if seconds is None else moment(seconds))
        kept.add(turn, service=str(one.get("subtype") or "") not in _SLACK_TURNS)
    if unknown:
        note(f"{count(len(unknown), 'speaker')} of Slack without a name {are(len(unknown))} shown by id (first: {min(unknown)[:40]})")
    kept.turns.sort(key=lambda turn: turn.time)
    return kept.talk("Slack")


_CALL = r"(?:(?:video|voice|audio) )?(?:chat|call)"
_META_OWN = re.compile(
    r"(?!I )(?:.{1,60} sent (?:an attachment|a photo|a video|a link|a location|a sticker|a GIF|a voice message)\.?|Liked a message"
    r"|Reacted .{1,20} to your message ?|You (?:are now connected|can now message).{0,80}"
    rf"|.{{1,60}} missed an? {_CALL}(?: (?:from|with) .{{1,60}})?\.?|.{{1,60}} unsent a message\.?"
    rf"|.{{1,60}} (?:started|ended) (?:an?|the) {_CALL}\.?)"
)


def _meta(value: Any) -> Talk | None:
    messages = _items(value, "messages")
    old = any("sender_name" in one and "timestamp_ms" in one for one in messages)
    if not old and not any("senderName" in one and "timestamp" in one for one in messages):
        return None
    kept, mended = _Kept(), 0
    pairs = []
    for one in messages:
        who, text = _name(one.get("sender_name") or one.get("senderName")), _text(one.get("content") or one.get("text"))
        (who, first), (text, second) = _mend(who), _mend(text)
        mended += first or second
        when = finite(one.get("timestamp_ms") if old else one.get("timestamp"))
        pairs.append((when, Turn(text=text, speaker=who, time="" if when is None else moment(when)), one))
    pairs.sort(key=lambda pair: (pair[0] is not None, pair[0] or 0))
    shifted = [id(one) for _, _, one in pairs] != [id(one) for one in messages]
    for _, turn, one in pairs:
        unsent = one.get("is_unsent") or one.get("isUnsent")
        call = "call_duration" in one or one.get("type") in ("Call", "Subscribe", "Unsubscribe")
        kept.add(turn, service=bool(unsent or call or (len(turn.text) < 200 and _META_OWN.fullmatch(turn.text))))
    if shifted:
        note("the newest message is first, so messages are sorted by time")
    if mended:
        note(f"{count(mended, 'message')} with letters that the export of Meta damages (Ã¼ for ü) {are(mended)} repaired")
    return kept.talk("Instagram or Messenger")


def _mend(text: str) -> tuple[str, bool]:
    """Repair text in which Meta wrote every byte of UTF-8 as a separate letter. Also return whether the text was changed."""
    if text.isascii():
        return text, False
    try:
        return text.encode("latin-1").decode("utf-8"), True
    except (UnicodeEncodeError, UnicodeDecodeError):
        return text, False


_ASIDES = ("system", "developer", "tool", "function", "tool_call", "ipython")


def _models(value: Any) -> Talk | None:
    """Read conversations with chat models. A message has `role` and `content`, or `from` and `value`."""
    several = value if isinstance(value, list) and value and all(isinstance(one, dict) for one in value) else [value]
    lists: list[tuple[Value, list[Value]]] = []
    for one in several:
        inner = next((found for key in ("messages", "conversations", "conversation", "chat_messages") if (found := _items(one, key))), [])
        lists.append((one if isinstance(one, dict) else {}, inner))
    if isinstance(value, list) and value and all(isinstance(one, dict) and "role" in one and "content" in one for one in value):
        lists = [({}, value)]
    if not lists or not all(inner and all(_is_model(one) for one in inner) for _, inner in lists):
        return None
    kept = _Kept()
    ids = ("id", "uuid", "title", "name", "conversation_id")
    names = _apart([_name(outer, *ids) or f"dialogue-{number}" for number, (outer, _) in enumerate(lists)])
    for name, (_, inner) in zip(names, lists, strict=True):
        for one in inner:
            who = _name(one.get("role") or one.get("from") or one.get("sender"))
            content = next((one[key] for key in ("content", "value", "text") if one.get(key)), "")
            parts = content if isinstance(content, list) else [content]
            text = " ".join(filter(None, map(_text, parts)))
            kept.add(Turn(text=text, speaker=who, dialogue=name), service=who in _ASIDES)
    return kept.talk("messages of a chat model")


def _is_model(one: Value) -> bool:
    return (
        ("role" in one and "content" in one and one["role"] in (*_ASIDES, "user", "assistant", "model", "human", "bot"))
        or ("from" in one and isinstance(one.get("value"), str))
        or (one.get("sender") in ("human", "assistant") and "text" in one)
    )


def _chatgpt(value: Any) -> Talk | None:
    """Read an export of ChatGPT. In the tree of messages of a chat, the branch that the user viewed last is read."""
    chats = value if isinstance(value, list) else [value]
    if not chats or not all(isinstance(chat, dict) and isinstance(chat.get("mapping"), dict) for chat in chats):
        return None
    kept = _Kept()
    names = _apart([_name(chat, "title", "id") or f"dialogue-{number}" for number, chat in enumerate(chats)])
    for name, chat in zip(names, chats, strict=True):
        nodes = chat["mapping"]
        here = chat.get("current_node")
        if here not in nodes:
            here = next((key for key in reversed(nodes) if isinstance(nodes[key], dict) and not nodes[key].get("children")), None)
        branch: list[Value] = []
        seen = set()
        while isinstance(here, str) and here in nodes and here not in seen and isinstance(nodes[here], dict):
            seen.add(here)
            branch.append(nodes[here])
            here = nodes[here].get("parent")
        for node in reversed(branch):
            message = node.get("message")
            if not isinstance(message, dict):
                continue
            content = message.get("content")
            parts = content.get("parts") if isinstance(content, dict) else None
            who, when = _name(message.get("author"), "role"), finite(message.get("create_time"))
            text = " ".join(filter(None, map(_text, parts))) if isinstance(parts, list) else ""
            turn = Turn(text=text, speaker=who, time="" if when is None else moment(when), dialogue=name)
            if text or who not in _ASIDES:
                kept.add(turn, service=who in _ASIDES)
    return kept.talk("ChatGPT")


def _signal(value: Any) -> Talk | None:
    """Read JSON messages of the program signal-export, with the keys `date`, `sender` and `body`."""
    messages = [one for one in value if isinstance(one, dict)] if isinstance(value, list) else _items(value, "messages")
    if not messages or not all({"sender", "body"} <= one.keys() for one in messages):
        return None
    kept = _Kept()
    for one in messages:
        when = one.get("date", one.get("timestamp"))
        stamp = finite(when)
        time = _name(when) if stamp is None else moment(stamp)
        kept.add(Turn(text=_text(one.get("body")), speaker=_name(one.get("sender")), time=time))
    return kept.talk("Signal")


def _google(value: Any) -> Talk | None:
    messages = _items(value, "messages")
    if not any(isinstance(one.get("creator"), dict) for one in messages):
        return None
    kept = _Kept()
    for one in messages:
        kept.add(Turn(text=_text(one.get("text")), speaker=_name(one.get("creator"), "name", "email"), time=_name(one.get("created_date"))))
    return kept.talk("Google Chat")


_SKYPE_TAG = re.compile(r"<[^<>]{1,300}>")


def _skype(value: Any) -> Talk | None:
    chats = _items(value, "conversations")
    if not any("MessageList" in chat for chat in chats):
        return None
    kept = _Kept()
    names = _apart([_name(chat, "displayName", "id") for chat in chats])
    for name, chat in zip(names, chats, strict=True):
        for one in reversed(_items(chat, "MessageList")):  # the newest first
            kind = _name(one.get("messagetype"))
            turn = Turn(
                text=html.unescape(_SKYPE_TAG.sub("", _text(one.get("content")))), speaker=_name(one.get("displayName") or one.get("from")),
                time=_name(one.get("originalarrivaltime")), dialogue=name,
            )  # fmt: skip
            kept.add(turn, service=kind not in ("RichText", "Text", ""))
    return kept.talk("Skype")


READERS: tuple[Callable[[Any], Talk | None], ...] = (_telegram, _discord, _slack, _meta, _chatgpt, _models, _signal, _google, _skype)
